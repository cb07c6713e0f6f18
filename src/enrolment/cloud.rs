//! What a machine is born with, so that it joins by itself: a configuration, a script, a unit; in the forms that images read.
//!
//! - `user-data`: cloud-init's cloud-config; `nocloud`: the same with its `meta-data`, the two files of a NoCloud seed.
//! - `ignition`: Ignition's configuration, version 3.4.0.
//! - `sh`: a shell script, for everything else.
//!
//! cloud-init keeps user-data in several files for good, and reports `done` although a line of `runcmd` but the last has
//! failed. So the seed is good once, there is one line, and the unit owns the retry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::log::note::VerifierKey;
use crate::name::{FleetName, MemberName};
use crate::statement::Token;
use crate::wireguard::Host;
use crate::words::words;

/// User-data is no longer than this, so that it fits wherever user-data does.
pub const USER_DATA_BYTES_MAX: usize = 4_095;
/// The configuration's place on the machine.
pub const CONFIG_PATH: &str = "/etc/keys/bootstrap.toml";
/// The script's.
pub const SCRIPT_PATH: &str = "/usr/local/sbin/keys-bootstrap";
/// The unit's name.
pub const UNIT: &str = "keys-bootstrap.service";
/// What ends a text in the shell form.
const END: &str = "KEYS_END";

words! {
    /// A form.
    CloudFormat, "a format":
    /// cloud-init's cloud-config.
    UserData = "user-data",
    /// The files of a NoCloud seed.
    Nocloud = "nocloud",
    /// Ignition's JSON.
    Ignition = "ignition",
    /// A shell script.
    Sh = "sh",
}

/// Why it cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// What is given as CAs is no PEM.
    #[error("the CAs are more than certificates as PEM")]
    Ca,
    /// An address that cannot stand in all of the forms.
    #[error(
        "the address '{0}' has characters that cannot stand in a script; plain letters, digits and -._~:/?=&%+,@ can"
    )]
    Address(String),
    /// One that leads nowhere from a machine that has just been born.
    #[error("the address '{0}' begins with neither https:// nor http:// and is no whole path")]
    Nowhere(String),
    /// Nothing to fetch the program from.
    #[error("no address of the program is given")]
    NoProgram,
    /// Too long.
    #[error(
        "the user-data would have {0} bytes; {USER_DATA_BYTES_MAX} fit everywhere. Name fewer mirrors, or a CA with a shorter key"
    )]
    TooLong(usize),
}

/// What it is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The fleet's name.
    pub fleet: &'a FleetName,
    /// Its id.
    pub id: Digest,
    /// The log's verifier keys.
    pub log: Vec<VerifierKey>,
    /// Where the keyring is brought from.
    pub mirrors: Vec<String>,
    /// The CAs that alone vouch for the mirrors' names: PEM, and nothing beside it.
    pub ca: Option<String>,
    /// The PoP.
    pub member: &'a MemberName,
    /// Where it is reached.
    pub endpoint: Option<Host>,
    /// The hash of the state with which the machine begins; none: with the first entry.
    pub snapshot: Option<Digest>,
    /// The invitation's token.
    pub token: &'a Token,
    /// Where the program is fetched from: addresses, or paths on the machine.
    pub programs: Vec<String>,
    /// The program's SHA-256.
    pub sha256: Digest,
}

/// The files of a form, by name; one alone has no name. Wiped when dropped: the seed is in them.
pub type Files = Vec<(&'static str, Zeroizing<String>)>;

impl Parts<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn render(&self, format: CloudFormat) -> Result<Files, CloudError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?=&%+,@".contains(c);
        let odd = self.mirrors.iter().chain(&self.programs).find(|a| a.is_empty() || !a.chars().all(plain));
        if let Some(odd) = odd {
            return Err(CloudError::Address(crate::text::shown(odd).to_string()));
        }
        let leads = |a: &&String| a.starts_with("https://") || a.starts_with("http://") || a.starts_with('/');
        if let Some(odd) = self.mirrors.iter().chain(&self.programs).find(|a| !leads(a)) {
            return Err(CloudError::Nowhere(crate::text::shown(odd).to_string()));
        }
        // It stands between quotes in three languages.
        let is_pem = |c: char| c.is_ascii_alphanumeric() || "+/=- \n".contains(c);
        if self.ca.as_ref().is_some_and(|pem| !pem.chars().all(is_pem)) {
            return Err(CloudError::Ca);
        }
        if self.programs.is_empty() {
            return Err(CloudError::NoProgram);
        }
        Ok(match format {
            CloudFormat::UserData => vec![("", self.user_data()?)],
            CloudFormat::Nocloud => {
                let user_data = self.user_data()?;
                // cloud-init does everything anew for a machine with another instance id.
                let instance = Digest::of(user_data.as_bytes()).short();
                let meta_data = format!("instance-id: {}-{instance}\nlocal-hostname: {}\n", self.member, self.member);
                vec![("user-data", user_data), ("meta-data", Zeroizing::new(meta_data))]
            }
            CloudFormat::Ignition => vec![("", self.ignition())],
            CloudFormat::Sh => vec![("", self.shell())],
        })
    }

    /// The configuration that `keys bootstrap` reads.
    pub fn config(&self) -> Zeroizing<String> {
        let list = |all: Vec<String>| all.iter().map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(", ");
        let log = list(self.log.iter().map(ToString::to_string).collect());
        let endpoint = self.endpoint.as_ref().map(|host| format!("endpoint = \"{host}\"\n")).unwrap_or_default();
        let snapshot = self.snapshot.map(|hash| format!("snapshot = \"{hash}\"\n")).unwrap_or_default();
        let ca = self.ca.as_ref().map(|pem| format!("ca = \"\"\"\n{pem}\"\"\"\n")).unwrap_or_default();
        let (fleet, id, mirrors, member) = (self.fleet, self.id, list(self.mirrors.clone()), self.member);
        Zeroizing::new(format!(
            "fleet = \"{fleet}\"\nid = \"{id}\"\nlog = [{log}]\nmirrors = [{mirrors}]\nmember = \"{member}\"\n{endpoint}{snapshot}{ca}seed = \"{}\"\n",
            *self.token.to_text()
        ))
    }

    /// The script: it fetches the program by its checksum, and becomes it.
    fn script(&self) -> String {
        let programs = self.programs.iter().map(|p| format!("'{p}'")).collect::<Vec<_>>().join(" ");
        format!(
            r#"#!/bin/sh
# Fetches keys by its checksum and joins the fleet; {UNIT} runs it until that has worked.
set -eu
umask 022
bin=/usr/local/bin/keys new=/usr/local/bin/.keys.new
good() {{ [ "$(sha256sum "$1" 2>/dev/null | cut -c1-64)" = {sha256} ]; }}
if ! good $bin; then
  mkdir -p /usr/local/bin
  for from in {programs}; do
    rm -f $new
    case $from in
    /*) cp "$from" $new ;;
    *) curl -fsSL -m 300 -o $new "$from" || wget -q -T 60 -O $new "$from" ;;
    esac || continue
    if good $new; then break; fi
  done
  good $new || {{ rm -f $new; echo "no program with the pinned checksum" >&2; exit 7; }}
  chmod 755 $new
  mv $new $bin
fi
umask 077
mkdir -p /var/lib/keys
exec $bin --home /var/lib/keys/home --fleet /var/lib/keys/fleet bootstrap {CONFIG_PATH}
"#,
            sha256 = self.sha256
        )
    }

    fn user_data(&self) -> Result<Zeroizing<String>, CloudError> {
        let block = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let config = Zeroizing::new(block(&self.config()));
        let file = |path: &str, mode: &str, text: &str| {
            format!("- path: {path}\n  permissions: '{mode}'\n  content: |\n{text}")
        };
        let text = Zeroizing::new(format!(
            "#cloud-config\nwrite_files:\n{}{}{}runcmd:\n- [sh, -c, '{}']\n",
            file(CONFIG_PATH, "0600", &config),
            file(SCRIPT_PATH, "0755", &block(&self.script())),
            file(&format!("/etc/systemd/system/{UNIT}"), "0644", &block(&unit())),
            start()
        ));
        if text.len() > USER_DATA_BYTES_MAX { Err(CloudError::TooLong(text.len())) } else { Ok(text) }
    }

    fn ignition(&self) -> Zeroizing<String> {
        let file = |path: &str, mode: u32, text: &str| {
            let source = format!("data:;base64,{}", BASE64.encode(text));
            json!({ "path": path, "mode": mode, "overwrite": true, "contents": { "source": source } })
        };
        let value = json!({
            "ignition": { "version": "3.4.0" },
            "storage": { "files": [file(CONFIG_PATH, 0o600, &self.config()), file(SCRIPT_PATH, 0o755, &self.script())] },
            "systemd": { "units": [{ "name": UNIT, "enabled": true, "contents": unit() }] },
        });
        Zeroizing::new(format!("{value}\n"))
    }

    fn shell(&self) -> Zeroizing<String> {
        let file = |path: &str, mode: &str, text: &str| {
            format!("install -D -m {mode} /dev/null {path}\ncat > {path} <<'{END}'\n{text}{END}\n")
        };
        Zeroizing::new(format!(
            "#!/bin/sh\nset -eu\n{}{}{}{}\n",
            file(CONFIG_PATH, "0600", &self.config()),
            file(SCRIPT_PATH, "0755", &self.script()),
            file(&format!("/etc/systemd/system/{UNIT}"), "0644", &unit()),
            start()
        ))
    }
}

/// What starts the unit, or, where there is no systemd, the script: one line, whose end is the end of the whole.
fn start() -> String {
    format!(
        "if [ -d /run/systemd/system ]; then systemctl daemon-reload && systemctl enable --now --no-block {UNIT}; else {SCRIPT_PATH}; fi"
    )
}

fn unit() -> String {
    format!(
        "[Unit]\nDescription=Join the fleet\nWants=network-online.target\nAfter=network-online.target\n\
         ConditionPathExists={CONFIG_PATH}\nStartLimitIntervalSec=0\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={SCRIPT_PATH}\nRestart=on-failure\nRestartSec=20\n\
         RestartPreventExitStatus=2 3\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn with(mirrors: &[&str], programs: &[&str], format: CloudFormat) -> Result<Files, CloudError> {
        with_ca(CA, mirrors, programs, format)
    }

    fn with_ca(ca: &str, mirrors: &[&str], programs: &[&str], format: CloudFormat) -> Result<Files, CloudError> {
        let token = Token::parse("kt1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        let (fleet, member) = ("cdn.example".parse().unwrap(), "fra1".parse().unwrap());
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let parts = Parts {
            fleet: &fleet,
            id: Digest::of(b"the fleet"),
            log: Vec::new(),
            mirrors: owned(mirrors),
            ca: Some(ca.to_owned()),
            member: &member,
            endpoint: None,
            snapshot: None,
            token: &token,
            programs: owned(programs),
            sha256: Digest::of(b"the program"),
        };
        let files = parts.render(format);
        if files.is_ok() {
            let again = Config::parse(&parts.config());
            assert!(again.is_ok_and(|c| c.seed.is_some() && c.ca == parts.ca), "what is written is read");
        }
        files
    }

    #[test]
    fn every_form_holds_the_same_and_fits() {
        let (mirror, program) = ("https://keys.cdn.example", "https://dl.cdn.example/keys");
        for format in CloudFormat::ALL {
            let files = with(&[mirror], &[program], *format).unwrap();
            assert_eq!(files.len(), if *format == CloudFormat::Nocloud { 2 } else { 1 });
            let text = files[0].1.as_str();
            if *format != CloudFormat::Ignition {
                for part in [mirror, program, "kt1.", UNIT, &Digest::of(b"the program").to_string()] {
                    assert!(text.contains(part), "{format}: {part}");
                }
            }
            assert!(text.len() <= USER_DATA_BYTES_MAX, "{format}: {} bytes", text.len());
        }
    }

    #[test]
    fn what_does_not_fit_or_could_leave_its_place_is_refused() {
        let long: Vec<String> = (0..16).map(|i| format!("https://{}{i}.cdn.example", "m".repeat(120))).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        assert!(matches!(with(&long, &["/keys"], CloudFormat::UserData), Err(CloudError::TooLong(n)) if n > 4095));
        assert!(with(&long, &["/keys"], CloudFormat::Sh).is_ok());
        for odd in ["https://x'; reboot; '", "https://x\"", "https://x y", "$(reboot)", "https://x\nx", ""] {
            assert!(matches!(with(&["/srv/fleet"], &[odd], CloudFormat::Sh), Err(CloudError::Address(_))), "{odd}");
        }
        for odd in ["ftp://x", "srv/fleet", "../keys", "httpss://x"] {
            assert!(matches!(with(&["/srv/fleet"], &[odd], CloudFormat::Sh), Err(CloudError::Nowhere(_))), "{odd}");
            assert!(matches!(with(&[odd], &["/keys"], CloudFormat::Sh), Err(CloudError::Nowhere(_))), "{odd}");
        }
        assert_eq!(with(&["/srv/fleet"], &[], CloudFormat::Sh), Err(CloudError::NoProgram));
        for odd in ["\"\"\"\nseed = \"x", "'\nreboot\n", "a\\u0041", "EOF\n$(reboot)", "a\rb"] {
            assert_eq!(with_ca(odd, &["/srv/fleet"], &["/keys"], CloudFormat::Sh), Err(CloudError::Ca), "{odd}");
        }
    }
}
