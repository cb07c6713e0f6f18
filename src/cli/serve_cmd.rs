//! `keys serve`: the fleet's directory over HTTP; `keys submit`: handing in at such a place what waits here.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;

use super::agent_args::LogForm;
use super::agent_log::{self, Level, usual_form};
use super::agent_units::whole;
use super::confine::{confine, refuse_calls};
use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::pull_cmd::{mirrors, read_ca};
use super::signals;
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::fleet::Known;
use crate::ops::{self, Outgoing};
use crate::remote::{
    Mirrors, SERVE_UNIT, ServeError, ServeEvent, Server, Serving, SubmitError, Submitted, TlsError, TlsFiles,
    serve_unit, submit,
};
use crate::time::Time;

#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Its files are those of the fleet's directory, at the same paths: whatever else serves files serves them as well. Requests and
signatures are taken at /v1/submit from whoever the policy would listen to; 'keys pull' and 'keys submit' use both. gpg and sq find the members' certificates: HKP and WKD. Everything
is durable before it is answered, so the process may end at any time; told to end, it first answers whoever has asked. With --tls-cert and --tls-key it speaks TLS, 1.2 and 1.3;
what is renewed in these files is served some seconds later. Without, put a web server with TLS in front, for others than this machine.
Examples:
  keys serve --listen 127.0.0.1:7411
  keys serve --listen [::]:443 --tls-cert fullchain.pem --tls-key privkey.pem
  gpg --keyserver hkp://127.0.0.1:7411 --search-keys fra1
  keys serve units --listen 127.0.0.1:7411 --out /etc/systemd/system"
)]
pub(super) struct Serve {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS:PORT", required = true)]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// How it talks [default: journal if systemd listens, else plain]
    #[arg(long, value_enum, value_name = "FORM")]
    pub log: Option<LogForm>,
    #[command(subcommand)]
    pub verb: Option<ServeVerb>,
}

/// What a server speaks TLS with.
#[derive(Debug, ClapArgs)]
pub(super) struct TlsArgs {
    /// Speak TLS with these certificates (PEM): the server's own, then those that lead to its CA
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The first certificate's private key (PEM: PKCS#8, SEC1 or PKCS#1), which others must not be able to read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Both files, or none.
    pub(super) fn files(&self) -> Option<TlsFiles> {
        let (chain, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsFiles { chain, key })
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ServeVerb {
    /// Write systemd's unit for it: by the user who owns the keyring, with that to write, one port, and little else
    #[command(after_help = "Examples:
  keys serve units --listen 127.0.0.1:7411 --out /etc/systemd/system")]
    Units {
        /// The directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Where to listen
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        /// Where this program lies on the machine
        #[arg(long, value_name = "PATH", default_value = "/usr/local/bin/keys")]
        program: String,
        /// The certificates to speak TLS with
        #[arg(long, value_name = "FILE", requires = "tls_key")]
        tls_cert: Option<PathBuf>,
        /// The first one's private key
        #[arg(long, value_name = "FILE", requires = "tls_cert")]
        tls_key: Option<PathBuf>,
    },
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "What waits here is handed in with all that belongs to it: proposals with their signatures, and requests. Handing it in again
does no harm. It is in force once whoever has the log's key has taken it in, and 'keys pull' brings it back.
Examples:
  keys submit
  keys submit --to https://keys.cdn.example"
)]
pub(super) struct Submit {
    /// Where; several are tried in this order [default: the mirrors that the home remembers]
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// The only CAs that vouch for the names of https:// mirrors (PEM) [default: the public ones]
    #[arg(long, value_name = "FILE", requires = "to")]
    pub ca: Option<PathBuf>,
}

/// `keys serve`.
pub(super) fn serve(context: &Context, args: &Serve) -> Result<Exit, CliError> {
    let listen = match (&args.verb, args.listen) {
        (Some(verb), _) => return units(context, verb),
        (None, Some(listen)) => listen,
        (None, None) => return Err(CliError::usage("give --listen ADDRESS:PORT")),
    };
    let known = Known { pin: context.known(None)?.pin, ..Known::default() };
    let clock = || Time::from_system(std::time::SystemTime::now());
    let directory = context.fleet_directory()?;
    let (form, quiet) = (args.log.unwrap_or_else(usual_form), context.quiet);
    let mut server = Server::open(&directory, known, clock, move |event, text: &str| {
        let (level, word) = spoken(event);
        if !(quiet && matches!(level, Level::Notice | Level::Info)) {
            agent_log::line(form, level, word, (None, None), text);
        }
    })?;
    if let Some(files) = args.tls.files() {
        server = server.over_tls(files)?;
    }
    let unusable = |e: std::io::Error| CliError::new(Exit::Unknown, format!("cannot listen on {}: {e}", listen));
    let listener = TcpListener::bind(listen).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let ending = signals::ending()?;
    // What answers strangers gets at no home, and writes nothing but the keyring, whatever is wrong with it.
    let read: Vec<PathBuf> = [directory.join("policy")].into_iter().chain(beside(args)).collect();
    let unconfined = |why: &str| {
        let text = format!("not confined: {why}");
        let (level, word) = spoken(ServeEvent::Unconfined);
        agent_log::line(form, level, word, (None, None), &text);
    };
    match confine(&directory.join("keyring"), &read) {
        Ok(true) => {}
        Ok(false) => unconfined("this kernel has no Landlock; permissions alone keep it from other files"),
        Err(e) => unconfined(&format!("permissions alone keep it from other files: {e}")),
    }
    if let Err(e) = refuse_calls() {
        unconfined(&format!("it may make any system call: {e}"));
    }
    let scheme = if args.tls.tls_cert.is_some() { "https" } else { "http" };
    context.out.line(&format!("serving at {scheme}://{address}"))?;
    server.serve(&listener, ending.as_fd())?;
    Ok(Exit::Ok)
}

/// `keys serve units`.
fn units(context: &Context, verb: &ServeVerb) -> Result<Exit, CliError> {
    let ServeVerb::Units { out, listen, program, tls_cert, tls_key } = verb;
    let tls = match (tls_cert, tls_key) {
        (Some(chain), Some(key)) => Some((whole(chain)?, whole(key)?)),
        _ => None,
    };
    let pin = context.open_published()?.pin().id;
    let fleet = context.fleet_directory()?;
    let fleet = whole(&fleet.canonicalize().unwrap_or(fleet))?;
    let keyring = Path::new(&fleet).join("keyring");
    let failed = |doing, path: &Path, source| DiskError { doing, path: shown(path), source };
    let opened = RealFiles::open(&keyring, Access::Public).and_then(|files| files.permissions());
    let (_, user) = opened.map_err(|e| failed("open", &keyring, e))?;
    let serving = Serving { program: program.clone(), fleet, pin, user, listen: *listen, tls };
    let text = serve_unit(&serving).map_err(CliError::usage)?;
    let disk = Disk::new(RealFiles::create(out, Access::Public).map_err(|e| failed("create", out, e))?);
    disk.replace(SERVE_UNIT, text.as_bytes())?;
    if context.json {
        return context.answer(json!({ "written": [SERVE_UNIT] }), Exit::Ok);
    }
    context.out.line(&shown(&out.join(SERVE_UNIT)))?;
    context.say(&format!("then: systemctl daemon-reload && systemctl enable --now {SERVE_UNIT}"));
    Ok(Exit::Ok)
}

/// Where the files for TLS lie: what is renewed there comes by another name, and may be a link to elsewhere.
fn beside(args: &Serve) -> Vec<PathBuf> {
    let files = [&args.tls.tls_cert, &args.tls.tls_key].into_iter().flatten();
    let places = files.flat_map(|file| [Some(file.clone()), file.canonicalize().ok()]).flatten();
    let above = places.filter_map(|file| file.parent().map(Path::to_owned));
    above.map(|place| if place.as_os_str().is_empty() { PathBuf::from(".") } else { place }).collect()
}

/// How grave what a server says is, and its word for programs; docs/formats/http.md has the words.
fn spoken(event: ServeEvent) -> (Level, &'static str) {
    match event {
        ServeEvent::Taken => (Level::Info, "taken"),
        ServeEvent::Trouble => (Level::Error, "trouble"),
        ServeEvent::Pages => (Level::Error, "pages"),
        ServeEvent::Certificate => (Level::Notice, "certificate"),
        ServeEvent::Expiring => (Level::Error, "expiring"),
        ServeEvent::Renewed => (Level::Notice, "renewed"),
        ServeEvent::NotRenewed => (Level::Error, "not-renewed"),
        ServeEvent::Refused => (Level::Error, "refused"),
        ServeEvent::Unconfined => (Level::Notice, "unconfined"),
    }
}

/// `keys submit`.
pub(super) fn submit_command(context: &Context, args: &Submit) -> Result<Exit, CliError> {
    let home = context.maybe_home()?;
    let ca = read_ca(args.ca.as_deref(), &args.to)?;
    let mirrors = mirrors(home.as_ref(), Mirrors { addresses: args.to.clone(), ca, ..Mirrors::default() })?;
    let mut fleet = context.open()?;
    let mut handed: Vec<(String, Vec<u8>)> = Vec::new();
    for (path, request) in ops::waiting_requests(fleet.store())? {
        handed.push((format!("request {path}"), request));
    }
    for Outgoing { id, bytes } in ops::outbox(&mut fleet, None)? {
        let what = format!("proposal {}", id.short());
        let bytes = bytes.map_err(|e| CliError::failed(format!("{what}: {e}")))?;
        handed.push((what, bytes));
    }
    let (mut done, mut refused) = (Vec::new(), None);
    for (what, bytes) in handed {
        let submitted = match submit(&mirrors, &bytes) {
            Ok(submitted) => submitted,
            // That one is not taken is no reason to keep the others back.
            Err(e @ SubmitError::Refused { .. }) => {
                context.say(&format!("{what}: {e}"));
                refused = Some(e);
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        if !context.json {
            let word = if submitted.is_new { "handed in at" } else { "known already at" };
            context.out.line(&format!("{what}: {word} {}", submitted.mirror))?;
        }
        done.push((what, submitted));
    }
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    if context.json {
        let list: Vec<serde_json::Value> = done
            .iter()
            .map(|(what, Submitted { mirror, is_new })| json!({ "what": what, "mirror": mirror, "new": is_new }))
            .collect();
        return context.answer(json!({ "submitted": list }), Exit::Ok);
    }
    if done.is_empty() {
        context.say("nothing waits here");
    }
    Ok(Exit::Ok)
}

impl From<ServeError> for CliError {
    fn from(e: ServeError) -> Self {
        match e {
            ServeError::Disk(e) => e.into(),
            ServeError::Fleet(e) => e.into(),
            ServeError::Net(_) => Self::new(Exit::Unknown, &e),
            ServeError::Tls(e) => e.into(),
        }
    }
}

impl From<TlsError> for CliError {
    fn from(e: TlsError) -> Self {
        let hint = match &e {
            TlsError::Open { path, .. } => {
                format!("run: chmod o= {}; whoever has read it can pass for this server", shown(path))
            }
            TlsError::Mismatch { .. } => {
                "--tls-cert takes the server's own certificate first, --tls-key the key that it was made for".to_owned()
            }
            TlsError::Read { .. } => "check the path, and who may read it".to_owned(),
            _ => "both are PEM files, for example certbot's fullchain.pem and privkey.pem".to_owned(),
        };
        Self::failed(&e).hint(hint)
    }
}

impl From<SubmitError> for CliError {
    fn from(e: SubmitError) -> Self {
        match e {
            SubmitError::NoMirrors => {
                Self::usage(&e).hint("give one with --to; 'keys pull --from URL --remember' keeps mirrors in the home")
            }
            SubmitError::Refused { .. } => {
                Self::new(Exit::No, &e).hint("'keys pull' brings what happened meanwhile; what waits here stays")
            }
            SubmitError::Nowhere(ref faults) => {
                let error = Self::new(Exit::Unknown, &e);
                faults.iter().fold(error, |error, fault| error.hint(format!("mirror {fault}")))
            }
        }
    }
}
