//! `keys bootstrap`: a machine joins by what it was given at its birth. It is run again and again until it is ready, and
//! afterwards does no harm.
//!
//! Effects in order: the keyring, brought from a mirror; what guards the home; private halves, then the request, in the home; the request at a
//! mirror; once the log has the machine, the configuration without its seed; what `keys sync` does. Interrupted anywhere,
//! the next run finds the same keys and asks by the same request.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use serde_json::json;
use zeroize::Zeroizing;

use super::args::Change;
use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::{machine, place, read_file};
use super::protect_cmd::guard;
use super::rotate_cmd::catch_up;
use crate::disk::{Access, Disk, RealFiles};
use crate::enrolment::Config;
use crate::fleet::Fleet;
use crate::home::Home;
use crate::limits::KEY_FILE_BYTES_MAX;
use crate::name::MemberName;
use crate::ops::{self, OpsError, Outgoing, Stage, Ticket};
use crate::remote::{self, Ca, Mirrors};
use crate::state::Admission;
use crate::statement::Token;
use crate::wireguard::Endpoint;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The file has the fleet's pins and the seed of an invitation ('keys invite', 'keys cloud-config'); docs/formats/bootstrap.md.
Run it until it ends with 0. Exit 4, 6 or 7: not yet, run it again. Exit 2 or 3: it never will; operators have to look.
Examples:
  keys bootstrap /etc/keys/bootstrap.toml"
)]
pub(super) struct Bootstrap {
    /// The configuration
    pub config: PathBuf,
}

/// `keys bootstrap`.
pub(super) fn bootstrap(context: &Context, args: &Bootstrap) -> Result<Exit, CliError> {
    let text = Zeroizing::new(read_file(&args.config, KEY_FILE_BYTES_MAX)?);
    let text =
        std::str::from_utf8(&text).map_err(|_| CliError::usage(format!("{} is not UTF-8", shown(&args.config))))?;
    let config = Config::parse(text).map_err(|e| CliError::usage(format!("{}: {e}", shown(&args.config))))?;
    if config.seed.is_some() {
        check_private(&args.config)?;
    }
    let ca = config.ca.as_ref().map(|pem| Ca::parse(pem.as_bytes())).transpose();
    let ca = ca.map_err(|problem| CliError::usage(format!("{}: ca {problem}", shown(&args.config))))?;
    let mirrors = Mirrors { addresses: config.mirrors.clone(), ca, ..Mirrors::default() };
    let context = context.pinned(&config.id);
    let home = {
        let (home, _lock) = context.create_home()?;
        home.settle()?;
        home.set_mirrors(&mirrors.addresses, mirrors.ca.as_ref().map(Ca::to_pem).as_deref())?;
        home.set_brings_own(true)?;
        if let (Some(state), None) = (&config.snapshot, home.pin()?) {
            home.set_snapshot(state)?;
        }
        home
    };
    let mut joining = Joining { context: &context, config: &config, mirrors, home };
    joining.bring()?;
    let mut stage = joining.stage()?;
    if matches!(stage, Stage::New | Stage::Keyed) {
        joining.ask()?;
        joining.bring()?;
        stage = joining.stage()?;
    }
    if !matches!(stage, Stage::Enrolled | Stage::Confirmed) {
        let message = format!(
            "{} has asked to join, and waits: an authority takes it in with its next 'keys sync'",
            config.member
        );
        return answer(&context, stage, &message, Exit::Unauthorised);
    }
    forget_seed(&args.config, text)?;
    // What cannot be done now is done by the next 'keys sync'; the machine has joined.
    let caught =
        context.change(|fleet, home| catch_up(&context, fleet, home, &Change { yes: true, ..Change::default() }))?;
    if let Some(trouble) = caught.trouble() {
        return Err(CliError::new(Exit::Moved, format!("{} has joined, and is not ready: {trouble}", config.member))
            .hint("run it again"));
    }
    if stage == Stage::Enrolled && joining.stage()? == Stage::Enrolled {
        joining.hand_in_answers()?;
        joining.bring()?;
        if joining.stage()? == Stage::Enrolled {
            let message = format!(
                "{} has joined and has answered its challenges, which an authority logs with its next 'keys sync': \
                 until then nothing is sealed to it",
                config.member
            );
            return answer(&context, Stage::Enrolled, &message, Exit::Unauthorised);
        }
    }
    answer(&context, Stage::Ready, &format!("{} has joined, and is ready", config.member), Exit::Ok)
}

/// Refuses a file with a seed that others can read: whoever has the seed first is the machine. What is no file, such as stdin,
/// is somebody else's to guard.
fn check_private(path: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::PermissionsExt as _;
    let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
    match found.map(|m| m.permissions().mode() & 0o777).filter(|mode| mode & 0o077 != 0) {
        None => Ok(()),
        Some(mode) => Err(CliError::usage(format!(
            "{} has a seed in it and can be read by others (mode {mode:04o}): whoever has the seed first is this machine",
            shown(path)
        ))
        .hint(format!("chmod 600 {}; if others use this machine, 'keys invite revoke', and invite anew", shown(path)))),
    }
}

fn answer(context: &Context, stage: Stage, message: &str, exit: Exit) -> Result<Exit, CliError> {
    if context.json {
        return context.answer(json!({ "stage": stage.word() }), exit);
    }
    context.out.line(stage.word())?;
    context.say(message);
    Ok(exit)
}

struct Joining<'a> {
    context: &'a Context,
    config: &'a Config,
    mirrors: Mirrors,
    home: Home,
}

impl Joining<'_> {
    /// Brings the keyring up to date. Where there is one, that no mirror answers keeps nobody from going on with it.
    fn bring(&mut self) -> Result<(), CliError> {
        match self.context.pull(Some(&self.home), &self.mirrors) {
            Ok(_) => Ok(()),
            Err(e)
                if e.exit == Exit::Unknown
                    && self.context.keyring(false).is_ok_and(|d| d.list("log").is_ok_and(|l| !l.is_empty())) =>
            {
                self.context.say(&format!("going on with the keyring that is here: {}", e.message));
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn open(&self) -> Result<Fleet, CliError> {
        let fleet = self.context.open_published()?;
        if fleet.state().fleet != self.config.fleet {
            return Err(CliError::new(
                Exit::No,
                format!("the id that is pinned is that of the fleet {}", fleet.state().fleet),
            ));
        }
        // Later on the log itself says which keys are its own.
        if self.home.pin()?.is_none() && !ops::is_signed_by(&self.config.log, &fleet) {
            return Err(CliError::new(Exit::No, "the log's head is signed by none of the keys that are pinned")
                .hint("compare 'log' of the configuration with what 'keys log vkey' prints where the fleet is known"));
        }
        Ok(fleet)
    }

    fn stage(&self) -> Result<Stage, CliError> {
        Ok(ops::stage(&self.config.member, &self.home, &self.open()?)?)
    }

    /// Makes the keys and the request if they are not there, and hands the request in.
    fn ask(&mut self) -> Result<(), CliError> {
        let member = &self.config.member;
        let Some(seed) = &self.config.seed else {
            return Err(CliError::new(
                Exit::No,
                format!("{member} is not a member, and the configuration has no seed"),
            )
            .hint("operators make another invitation: 'keys invite', 'keys cloud-config'"));
        };
        let mut fleet = self.open()?;
        let ticket = Ticket {
            token: Token::parse(&seed.to_text()).map_err(CliError::usage)?,
            machine: machine(&fleet.state().id),
            endpoint: self.config.endpoint.clone().map(Endpoint::from),
        };
        let request = {
            let _lock = self.context.lock(self.home.disk())?;
            let policy = fleet.state().policy.policy.fleet.protection.pop;
            self.home = guard(self.context, self.home.clone(), self.config.protection, policy)?;
            ops::ask_by_invitation(member, &ticket, &self.home, &mut fleet, &mut self.context.rng()?)
        };
        let request = request.map_err(|e| match &e {
            // The mirror may be behind: the invitation may be older than this machine, and younger than what it serves.
            OpsError::Refused { decision, .. } if decision.admission == Admission::UnknownInvitation => {
                CliError { exit: Exit::Unknown, ..CliError::from(e) }
            }
            _ => CliError::from(e),
        })?;
        drop(fleet);
        self.hand_in(&request)
    }

    /// Hands in what its members have signed: their answers, and what else they have to say by now.
    fn hand_in_answers(&self) -> Result<(), CliError> {
        let own: BTreeSet<MemberName> = self.home.members()?.into_iter().collect();
        for Outgoing { id, bytes } in ops::outbox(&mut self.open()?, Some(&own))? {
            let bytes = bytes.map_err(|e| CliError::failed(format!("proposal {}: {e}", id.short())))?;
            self.hand_in(&bytes)?;
        }
        Ok(())
    }

    /// Hands something in at the first mirror that takes it.
    fn hand_in(&self, bytes: &[u8]) -> Result<(), CliError> {
        let handed = remote::submit(&self.mirrors, bytes);
        // What one mirror refuses today, another, or an operator, mends tomorrow: it is never too late to try again.
        handed.map(|_| ()).map_err(|e| CliError {
            exit: Exit::Unknown,
            ..CliError::from(e).hint("run it again; keys and request stay as they are")
        })
    }
}

/// Takes the seed out of the configuration, wherever a link to it leads; what is no file, such as stdin, has nothing to be
/// taken out of. It is worthless by now; this keeps it from being taken for one that is not.
fn forget_seed(path: &Path, text: &str) -> Result<(), CliError> {
    let Some(kept) = Config::without_seed(text) else { return Ok(()) };
    let Some(path) = std::fs::canonicalize(path).ok().filter(|p| p.is_file()) else { return Ok(()) };
    let (directory, name) = place(&path)?;
    let files = RealFiles::open(directory, Access::Private).map_err(|source| crate::disk::DiskError {
        doing: "open",
        path: shown(directory),
        source,
    })?;
    Ok(Disk::new(files).replace(name, kept.as_bytes())?)
}
