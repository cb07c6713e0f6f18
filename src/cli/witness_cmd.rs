//! `keys log witness`: cosigning logs, one's own fleet's or anybody's, over HTTP or by file.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;

use super::confine::refuse_calls;
use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::output::complain;
use super::serve_cmd::TlsArgs;
use super::signals;
use crate::fleet::{Fleet, Known};
use crate::home::{Home, HomeError};
use crate::log::note::VerifierKey;
use crate::name::Slot;
use crate::policy::CosignerKind;
use crate::remote::TlsFiles;
use crate::store::Store;
use crate::time::Time;
use crate::witness::{self, AuditedFleet, Watched, Witness, WitnessError};

#[derive(Debug, ClapArgs)]
pub(super) struct WitnessArgs {
    #[command(subcommand)]
    pub verb: WitnessVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum WitnessVerb {
    /// Make a cosigner's key in a home of its own, and print its vkey
    #[command(
        after_help = "Give the home with --home or KEYS_HOME. The vkey goes into a fleet's policy/fleet.toml as a [[cosigner]]. A cosigner
that has lost its home gets a new key.
Examples:
  keys log witness init --name witness.example/w1
  keys log witness init --name auditor.example/a1 --auditor"
    )]
    Init {
        /// Its name, best a URL without scheme
        #[arg(long, value_name = "NAME")]
        name: String,
        /// It cosigns only what it has replayed under its policy
        #[arg(long)]
        auditor: bool,
    },
    /// Watch a log, by its verifier keys
    #[command(
        after_help = "Without a key those of the fleet in --fleet are taken. An auditor reads that fleet before it cosigns, and pins its id.
Examples:
  keys log witness add-log cdn.example/keys/1+3b89380a+ASmT…
  keys log witness add-log         the log of the fleet in --fleet"
    )]
    AddLog {
        /// The log's vkeys, any of which may sign
        #[arg(value_name = "VKEY")]
        keys: Vec<String>,
        /// The log's name [default: that of its first key]
        #[arg(long, value_name = "NAME")]
        origin: Option<String>,
    },
    /// Answer over HTTP (C2SP tlog-witness), until SIGTERM
    #[command(
        after_help = "Everything is durable before it is answered, so the process may end at any time. With --tls-cert and --tls-key it speaks
TLS, 1.2 and 1.3; what is renewed in these files is served some seconds later. Without, put a web server with TLS in front, for others than this machine.
Examples:
  keys log witness serve --listen 127.0.0.1:7421
  keys log witness serve --listen [::]:443 --tls-cert fullchain.pem --tls-key privkey.pem"
    )]
    Serve {
        /// Where to listen; port 0 takes a free one, which is printed
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        #[command(flatten)]
        tls: TlsArgs,
    },
    /// Cosign the newest head of a fleet's keyring, leaving the cosignature there: no server needed
    #[command(after_help = "Examples:
  keys log witness sign")]
    Sign,
}

/// `keys log witness`.
pub(super) fn witness(context: &Context, args: &WitnessArgs) -> Result<Exit, CliError> {
    match &args.verb {
        WitnessVerb::Init { name, auditor } => init(context, name, *auditor),
        WitnessVerb::AddLog { keys, origin } => add_log(context, keys, origin.as_deref()),
        WitnessVerb::Serve { listen, tls } => serve(context, *listen, tls.files()),
        WitnessVerb::Sign => sign(context),
    }
}

fn init(context: &Context, name: &str, auditor: bool) -> Result<Exit, CliError> {
    let (home, _lock) = context.create_home()?;
    let kind = if auditor { CosignerKind::Auditor } else { CosignerKind::Witness };
    let made = Witness::init(&home, name, kind, &mut context.rng()?)?;
    let vkey = made.key().to_string();
    if context.json {
        return context.answer(json!({ "kind": kind.word(), "vkey": vkey }), Exit::Ok);
    }
    context.out.line(&vkey)?;
    Ok(Exit::Ok)
}

fn add_log(context: &Context, keys: &[String], origin: Option<&str>) -> Result<Exit, CliError> {
    let (home, _lock) = locked(context)?;
    let witness = Witness::open(&home)?;
    let mut fleet = None;
    let mut vkeys = keys.to_vec();
    if keys.is_empty() || witness.kind() == CosignerKind::Auditor {
        let opened = opened(context)?;
        if vkeys.is_empty() {
            vkeys = opened.state().authority_keys(Slot::Log).into_iter().map(|(_, k)| k.key.clone()).collect();
        }
        if witness.kind() == CosignerKind::Auditor {
            let keyring = context.fleet_directory()?.join("keyring");
            let keyring = keyring
                .canonicalize()
                .map_err(|e| CliError::new(Exit::Unknown, format!("{}: {e}", shown(&keyring))))?;
            let keyring = keyring
                .to_str()
                .ok_or_else(|| CliError::failed("the fleet's directory has a name that is not UTF-8"))?;
            context.say(&format!("pinned: {}", opened.state().id));
            fleet = Some(AuditedFleet { keyring: keyring.to_owned(), id: opened.state().id });
        }
    }
    let first = vkeys.first().ok_or_else(|| CliError::failed("the fleet has no log key"))?;
    let first = VerifierKey::parse(first).map_err(WitnessError::from)?;
    let log = Watched { fleet, keys: vkeys, origin: origin.unwrap_or(first.name()).to_owned() };
    witness.watch(&log)?;
    if context.json {
        return context.answer(json!({ "log": log.origin, "keys": log.keys }), Exit::Ok);
    }
    context.say(&format!("watching {}", crate::text::shown(&log.origin)));
    Ok(Exit::Ok)
}

/// The fleet, opened with nothing known but what `--pin` says.
fn opened(context: &Context) -> Result<Fleet, CliError> {
    let known = Known { pin: context.known(None)?.pin, ..Known::default() };
    Ok(Fleet::open(Store::new(context.keyring(false)?), &known, context.now(), &mut |_, _| {})?)
}

/// The cosigner's home. It is made by a command of its own.
fn home(context: &Context) -> Result<Home, CliError> {
    if !context.home_path()?.exists() {
        let absent = HomeError::Absent(shown(context.home_path()?));
        return Err(CliError::new(Exit::NotFound, &absent)
            .hint("'keys log witness init' makes a cosigner's; --home or KEYS_HOME names another"));
    }
    context.home()
}

fn locked(context: &Context) -> Result<(Home, Box<dyn Send>), CliError> {
    let home = home(context)?;
    let lock = context.lock(home.disk())?;
    Ok((home, lock))
}

fn serve(context: &Context, listen: SocketAddr, tls: Option<TlsFiles>) -> Result<Exit, CliError> {
    let home = home(context)?;
    let witness = Witness::open(&home)?;
    // What an earlier process was writing when it was killed.
    if let Some(_lock) = home.disk().try_lock()? {
        home.settle()?;
    }
    let net = |source| WitnessError::Net { doing: format!("listen on {listen}"), source };
    let listener = TcpListener::bind(listen).map_err(net)?;
    let address = listener.local_addr().map_err(net)?;
    let ending = signals::ending()?;
    let (vkey, kind) = (witness.key().to_string(), witness.kind());
    if context.json {
        context.answer(json!({ "kind": kind.word(), "listen": address.to_string(), "vkey": vkey }), Exit::Ok)?;
    } else {
        let scheme = if tls.is_some() { "https" } else { "http" };
        context.out.line(&format!("{kind} {vkey} on {scheme}://{address}"))?;
    }
    let clock = || Time::from_system(std::time::SystemTime::now());
    // It reads and writes wherever its home and the logs that it audits lie; it runs and calls nobody.
    if let Err(e) = refuse_calls() {
        complain(&format!("not confined, it may make any system call: {e}"));
    }
    witness::serve(&listener, ending.as_fd(), witness, tls, clock, complain)?;
    Ok(Exit::Ok)
}

fn sign(context: &Context) -> Result<Exit, CliError> {
    let witness = Witness::open(&home(context)?)?;
    let store = Store::new(context.keyring(false)?);
    let _lock = context.lock(store.disk())?;
    let signed = witness.sign_keyring(&store, context.now())?;
    let checkpoint = &signed.checkpoint;
    if context.json {
        let value = json!({ "log": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string(), "file": signed.path });
        return context.answer(value, Exit::Ok);
    }
    let what = format!("{} at {} entries", crate::text::shown(&checkpoint.origin), checkpoint.size);
    context.out.line(&format!("cosigned {what}: {}", signed.path))?;
    Ok(Exit::Ok)
}

impl From<WitnessError> for CliError {
    fn from(e: WitnessError) -> Self {
        match e {
            WitnessError::Home(e) => e.into(),
            WitnessError::Store(e) => e.into(),
            WitnessError::Fleet(e) => e.into(),
            WitnessError::Tls(e) => e.into(),
            WitnessError::NoKey => {
                Self::new(Exit::NotFound, &e).hint("'keys log witness init' makes one; --home names another home")
            }
            WitnessError::Taken(_) | WitnessError::MembersHome => {
                Self::failed(&e).hint("give a home of its own with --home")
            }
            WitnessError::NotWatched { .. } => Self::new(Exit::NotFound, &e).hint("'keys log witness add-log' adds it"),
            WitnessError::Unread(_) => Self::failed(&e).hint("give the fleet's directory with --fleet"),
            WitnessError::Rollback { .. } | WitnessError::Fork { .. } => Self::new(Exit::No, &e)
                .hint("nothing was cosigned; what shows it lies in this home under evidence/, and 'keys log evidence' checks it"),
            WitnessError::Unsound { .. } => {
                Self::new(Exit::No, &e).hint("nothing was cosigned; 'keys log verify' lists everything that is damaged")
            }
            WitnessError::Refused(_) | WitnessError::OtherHead { .. } | WitnessError::Damaged { .. } => {
                Self::new(Exit::No, &e)
            }
            WitnessError::Clock { .. } => Self::new(Exit::Unknown, &e).hint("compare the clock with another machine's"),
            WitnessError::Busy => Self::new(Exit::Moved, &e).hint("run it again"),
            WitnessError::Name(_) | WitnessError::Key(_) => Self::failed(&e),
            WitnessError::Net { .. } => Self::failed(&e).hint("is the address one of this machine's, and free?"),
        }
    }
}
