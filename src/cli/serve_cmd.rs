//! `keys serve`: the fleet's directory over HTTP; `keys submit`: handing in at such a place what waits here.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;

use super::agent_units::whole;
use super::confine::confine;
use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::output::complain;
use super::pull_cmd::mirrors;
use super::signals;
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::fleet::Known;
use crate::ops::{self, Outgoing};
use crate::remote::{SERVE_UNIT, ServeError, Server, Serving, SubmitError, Submitted, serve_unit, submit};
use crate::time::Time;

#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Its files are those of the fleet's directory, at the same paths: whatever else serves files serves them as well. Requests and
signatures are taken at /v1/submit from whoever the policy would listen to; 'keys pull' and 'keys submit' use both. gpg and sq find the members' certificates: HKP and WKD. Everything
is durable before it is answered, so the process may end at any time; told to end, it first answers whoever has asked. For others than this machine put a web server with
TLS in front.
Examples:
  keys serve --listen 127.0.0.1:7411
  gpg --keyserver hkp://127.0.0.1:7411 --search-keys fra1
  keys serve units --listen 127.0.0.1:7411 --out /etc/systemd/system"
)]
pub(super) struct Serve {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS:PORT", required = true)]
    pub listen: Option<SocketAddr>,
    #[command(subcommand)]
    pub verb: Option<ServeVerb>,
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
}

/// `keys serve`.
pub(super) fn serve(context: &Context, args: &Serve) -> Result<Exit, CliError> {
    let listen = match (&args.verb, args.listen) {
        (Some(ServeVerb::Units { out, listen, program }), _) => return units(context, out, *listen, program),
        (None, Some(listen)) => listen,
        (None, None) => return Err(CliError::usage("give --listen ADDRESS:PORT")),
    };
    let known = Known { pin: context.known(None)?.pin, ..Known::default() };
    let clock = || Time::from_system(std::time::SystemTime::now());
    let directory = context.fleet_directory()?;
    let server = Server::open(&directory, known, clock, |line: &str| complain(line))?;
    let unusable = |e: std::io::Error| CliError::new(Exit::Unknown, format!("cannot listen on {listen}: {e}"));
    let listener = TcpListener::bind(listen).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let ending = signals::ending()?;
    // What answers strangers gets at no home, and writes nothing but the keyring, whatever is wrong with it.
    match confine(&directory.join("keyring"), &[directory.join("policy")]) {
        Ok(true) => {}
        Ok(false) => complain("not confined, this kernel has no Landlock: permissions alone keep it from other files"),
        Err(e) => complain(&format!("not confined, permissions alone keep it from other files: {e}")),
    }
    context.out.line(&format!("serving at http://{address}"))?;
    server.serve(&listener, ending.as_fd())?;
    Ok(Exit::Ok)
}

/// `keys serve units`.
fn units(context: &Context, out: &Path, listen: SocketAddr, program: &str) -> Result<Exit, CliError> {
    let pin = context.open_published()?.pin().id;
    let fleet = context.fleet_directory()?;
    let fleet = whole(&fleet.canonicalize().unwrap_or(fleet))?;
    let keyring = Path::new(&fleet).join("keyring");
    let failed = |doing, path: &Path, source| DiskError { doing, path: shown(path), source };
    let opened = RealFiles::open(&keyring, Access::Public).and_then(|files| files.permissions());
    let (_, user) = opened.map_err(|e| failed("open", &keyring, e))?;
    let serving = Serving { program: program.to_owned(), fleet, pin, user, listen };
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

/// `keys submit`.
pub(super) fn submit_command(context: &Context, args: &Submit) -> Result<Exit, CliError> {
    let home = context.maybe_home()?;
    let addresses = mirrors(home.as_ref(), &args.to)?;
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
        let submitted = match submit(&addresses, &bytes) {
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
        }
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
