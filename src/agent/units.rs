//! systemd's side of the agent, as text: its own unit, and for each service that gets credentials a drop-in.
//!
//! `LoadCredential=` with a socket has systemd ask the agent for each credential when the unit starts. A refusal gives an
//! *empty* credential and the unit starts nevertheless, so each is tested first. See systemd.exec(5), section Credentials.

use std::fmt::Write as _;

use super::manifest::Wish;

/// Where things lie on the machine that the units are for.
#[derive(Debug, Clone)]
pub struct Places {
    /// This program.
    pub program: String,
    /// The fleet's directory.
    pub fleet: String,
    /// The home.
    pub home: String,
    /// The services' directories.
    pub run: String,
    /// The machine's hooks.
    pub hooks: String,
    /// The file of numbers, if any.
    pub metrics: Option<String>,
    /// The home's key, sealed by systemd-creds, if the home lies closed under one.
    pub home_key: Option<String>,
}

/// The name of the agent's own unit.
pub const AGENT_UNIT: &str = "keys-agent.service";
/// The socket that hands out credentials, in the services' directory.
pub const CREDENTIAL_SOCKET: &str = "credentials.sock";

/// What the agent may do, and no more. It gives files to other users, and starts hooks, which reload services: those need
/// /etc to read and the bus to speak to.
const HARDENED: &str = "\
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_KILL
ProtectSystem=full
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
LimitCORE=0
LimitMEMLOCK=infinity
";

/// A word of a unit's command line: nothing in it is a specifier, a variable or an end.
///
/// # Errors
/// What cannot be written.
pub(crate) fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("'{}' cannot stand in a unit", crate::text::shown(text)));
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '%' | '$' => out.extend([c, c]),
            '"' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

/// The agent's own unit. It starts without any network, and is READY when services have their files.
///
/// # Errors
/// A place that cannot stand in a unit.
pub fn agent_unit(places: &Places) -> Result<String, String> {
    let Places { program, fleet, home, run, hooks, metrics, home_key } = places;
    let [program, fleet, home, run, hooks] = [program, fleet, home, run, hooks].map(|w| word(w));
    let (program, run) = (program?, run?);
    let metrics = match metrics {
        Some(file) => format!(" --metrics {}", word(file)?),
        None => String::new(),
    };
    let credential = match home_key {
        Some(file) => format!(
            "# The home's private halves lie closed under this.\nLoadCredentialEncrypted=keys-home:{}\n",
            plain(file)?
        ),
        None => String::new(),
    };
    Ok(format!(
        "# Written by 'keys agent units'.
[Unit]
Description=keys agent: secrets and keys of this machine
After=local-fs.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
# In memory, and never in swap where the kernel can promise that. It stays when the agent ends.
ExecStartPre=+{program} agent mount --run-dir {run}
ExecStart={program} --fleet {} --home {} agent --run-dir {run} --hooks {}{metrics} --log journal
Restart=always
RestartSec=10
TimeoutStartSec=15min
# Longer than the longest hook may take.
WatchdogSec=30min
{credential}{HARDENED}
[Install]
WantedBy=multi-user.target
",
        fleet?, home?, hooks?
    ))
}

/// A path as it stands in LoadCredential=, where a colon ends the name, and nothing is quoted.
fn plain(path: &str) -> Result<&str, String> {
    if path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)) {
        return Ok(path);
    }
    Err(format!("'{}' cannot stand in LoadCredential=", crate::text::shown(path)))
}

/// The drop-in of a service that gets credentials: its path below the directory of units, and its text. `None` if it gets
/// none.
///
/// # Errors
/// A place that cannot stand in a unit.
pub fn drop_in(wish: &Wish, places: &Places) -> Result<Option<(String, String)>, String> {
    let Some(unit) = &wish.rule.unit else { return Ok(None) };
    let socket = format!("{}/{CREDENTIAL_SOCKET}", places.run);
    let socket = plain(&socket)?;
    let mut text = format!(
        "# Written by 'keys agent units' for {}.
[Unit]
Wants={AGENT_UNIT}
After={AGENT_UNIT}

[Service]
",
        wish.manifest.member
    );
    for file in &wish.rule.files {
        let _ = writeln!(text, "LoadCredential={}:{socket}", file.name);
    }
    for file in &wish.rule.files {
        // What was refused is empty, and the service would start with that.
        let _ = writeln!(text, "ExecStartPre=/usr/bin/test -s ${{CREDENTIALS_DIRECTORY}}/{}", file.name);
    }
    Ok(Some((format!("{unit}.d/50-keys.conf"), text)))
}

/// Who asks for a credential, by the name that systemd binds its socket to: an abstract name
/// `<random>/unit/<unit>/<credential>`, in visible characters. Gives unit and credential.
pub fn asked_by(name: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(name).ok()?;
    let (random, rest) = text.split_once("/unit/")?;
    let (unit, credential) = rest.rsplit_once('/')?;
    let is_plain = !random.contains('/') && !unit.is_empty() && !unit.contains('/') && !credential.is_empty();
    (is_plain && !text.chars().any(crate::text::is_hidden)).then_some((unit, credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            program: "/usr/local/bin/keys".to_owned(),
            fleet: "/var/lib/keys/fleet".to_owned(),
            home: "/var/lib/keys/home".to_owned(),
            run: "/run/keys".to_owned(),
            hooks: "/etc/keys/hooks.toml".to_owned(),
            metrics: Some("/var/lib/node exporter/100% $HOME.prom".to_owned()),
            home_key: None,
        }
    }

    #[test]
    fn words_of_a_unit_are_what_they_are() {
        let unit = agent_unit(&places()).unwrap();
        assert!(unit.contains("--metrics \"/var/lib/node exporter/100%% $$HOME.prom\""), "{unit}");
        let wrong = Places { home: "/x\nExecStart=/bin/sh".to_owned(), ..places() };
        assert!(agent_unit(&wrong).unwrap_err().contains("cannot stand in a unit"));
    }

    #[test]
    fn who_asks_is_read_from_the_name() {
        assert_eq!(asked_by(b"a1b2/unit/nginx.service/tls.pem"), Some(("nginx.service", "tls.pem")));
        for wrong in [
            &b""[..],
            b"nginx.service/tls.pem",
            b"a/b/unit/nginx.service/tls.pem",
            b"a/unit//tls.pem",
            b"a/unit/nginx.service",
            b"a/unit/x/nginx.service/tls.pem",
            b"a/unit/\xff/tls.pem",
            b"a/unit/nginx.service/",
            b"a/unit/nginx\x1b[2J.service/tls.pem",
            b"a/unit/nginx.service/tls\0pem",
        ] {
            assert_eq!(asked_by(wrong), None, "{wrong:?}");
        }
    }
}
