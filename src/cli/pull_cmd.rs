//! `keys pull`: bringing the keyring up to date from mirrors.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::read_file;
use crate::fleet::Known;
use crate::home::Home;
use crate::limits::TLS_FILE_BYTES_MAX;
use crate::remote::{Ca, Fault, MirrorError, Mirrors, PullError, Pulled, Want, bring_acks, open, pull};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A mirror is a fleet's directory, at https:// or http://, or on a disk. Nothing that it says is believed: all of it is replayed
before it joins the keyring. The first that has something newer is taken; one that shows another past is named, and what
shows it is kept in the home. A directory without a keyring needs the fleet's id, from the home or with --pin; with --snapshot HASH it
then begins there, and nothing that comes before is brought.
Examples:
  keys pull --from https://keys.cdn.example --remember
  keys pull
  keys pull --from /media/stick/fleet
  keys pull --from https://keys.cdn.example --ca ca.pem --own --remember"
)]
pub(super) struct PullArgs {
    /// A mirror; several are asked in this order [default: those that the home remembers]
    #[arg(long, value_name = "ADDRESS")]
    pub from: Vec<String>,
    /// Remember these mirrors in the home, in the place of those before
    #[arg(long, requires = "from")]
    pub remember: bool,
    /// Of sealed files bring only those that the members of the home can read; the log is brought whole
    #[arg(long, requires = "from")]
    pub own: bool,
    /// The only CAs that vouch for the names of https:// mirrors (PEM) [default: the public ones]
    #[arg(long, value_name = "FILE", requires = "from")]
    pub ca: Option<PathBuf>,
}

/// `keys pull`.
pub(super) fn pull_command(context: &Context, args: &PullArgs) -> Result<Exit, CliError> {
    for address in &args.from {
        // One that can be no mirror's is not remembered in the place of others.
        if let Err(e @ MirrorError::Address(_)) = open(address) {
            // A password may be in it.
            let shown = match address.rsplit_once('@') {
                Some((before, host)) => format!("{}…@{host}", before.split_inclusive("//").next().unwrap_or_default()),
                None => address.clone(),
            };
            return Err(CliError::usage(format!("{}: {e}", crate::text::shown(&shown))));
        }
    }
    let ca = read_ca(args.ca.as_deref(), &args.from)?;
    if args.remember {
        let (home, _lock) = context.create_home()?;
        home.set_mirrors(&args.from, ca.as_ref().map(Ca::to_pem).as_deref())?;
        home.set_brings_own(args.own)?;
    }
    let home = context.maybe_home()?;
    let mirrors = mirrors(home.as_ref(), Mirrors { addresses: args.from.clone(), ca, ..Mirrors::default() })?;
    let own = if args.from.is_empty() { None } else { Some(args.own) };
    let pulled = context.pull_own(home.as_ref(), &mirrors, own)?;
    let known = context.known(home.as_ref())?;
    if let (true, Some(home), Some(snapshot)) = (args.remember, &home, &known.snapshot) {
        home.set_snapshot(snapshot)?;
    }
    let acks = bring_acks(&mirrors, &context.fleet_directory()?, &known, context.now())?;
    context.name_faults(home.as_ref(), &acks.faults);
    if context.json {
        return context.answer(as_json(&pulled, acks.new), Exit::Ok);
    }
    let text = match (&pulled.from, pulled.after - pulled.before.min(pulled.after)) {
        (None, _) => format!("up to date: {} entries", pulled.after),
        (Some(mirror), 0) => format!("made whole from {mirror}: {} entries", pulled.after),
        (Some(mirror), new) => format!("{new} new entries from {mirror}: {} in all", pulled.after),
    };
    context.out.line(&text)?;
    if pulled.waiting.files > 0 {
        context.say("proposals or requests wait there, and now here: 'keys approve' lists them");
    }
    if acks.new > 0 {
        context.say("machines say more of themselves: 'keys status --nodes' shows it");
    }
    Ok(Exit::Ok)
}

/// The mirrors that were given, or those that the home remembers.
pub(super) fn mirrors(home: Option<&Home>, given: Mirrors) -> Result<Mirrors, CliError> {
    match home.filter(|_| given.addresses.is_empty()) {
        Some(home) => remembered(home),
        None => Ok(given),
    }
}

/// The mirrors that the home remembers.
pub(super) fn remembered(home: &Home) -> Result<Mirrors, CliError> {
    let damaged = |problem| {
        CliError::new(Exit::No, format!("the home's file mirrors-ca {problem}"))
            .hint("'keys pull --from ADDRESS --ca FILE --remember' writes it anew")
    };
    let ca = home.mirrors_ca()?.map(|pem| Ca::parse(&pem).map_err(damaged)).transpose()?;
    Ok(Mirrors { addresses: home.mirrors()?, ca, ..Mirrors::default() })
}

/// The CAs in the file that was given with these addresses.
pub(super) fn read_ca(file: Option<&Path>, addresses: &[String]) -> Result<Option<Ca>, CliError> {
    let Some(file) = file else { return Ok(None) };
    if !addresses.iter().any(|a| a.starts_with("https://")) {
        return Err(CliError::usage("--ca is for https:// mirrors, and none of these is one"));
    }
    let ca = Ca::parse(&read_file(file, TLS_FILE_BYTES_MAX)?);
    ca.map(Some).map_err(|problem| CliError::usage(format!("{} {problem}", shown(file))))
}

impl Context {
    /// Brings the keyring up to date, says what was wrong with mirrors, and keeps what shows it.
    pub(super) fn pull(&self, home: Option<&Home>, mirrors: &Mirrors) -> Result<Pulled, CliError> {
        self.pull_own(home, mirrors, None)
    }

    /// The same; with only the sealed files that the home's members can read, or not, or as the home remembers it.
    fn pull_own(&self, home: Option<&Home>, mirrors: &Mirrors, own: Option<bool>) -> Result<Pulled, CliError> {
        let known = Known { kept: home.and_then(Home::replayed), ..self.known(home)? };
        let directory = self.fleet_directory()?;
        let mirrors = &Mirrors { requests: self.requests.clone(), ..mirrors.clone() };
        let remembered = home.map(Home::brings_own).transpose()?.unwrap_or_default();
        let want = match home.filter(|_| own.unwrap_or(remembered)) {
            Some(home) => Want::ReadBy(home.members()?.into_iter().collect()),
            None => Want::All,
        };
        match pull(mirrors, &directory, &known, self.now(), want) {
            Ok(pulled) => {
                self.name_faults(home, &pulled.faults);
                for (id, why) in &pulled.waiting.dropped {
                    let id = id.short();
                    self.say(&format!("dropped: proposal {id}, which can have no effect any more: {why}"));
                }
                if pulled.from.is_some() {
                    // What was seen is remembered, as after any other look at it.
                    drop(self.open()?);
                }
                Ok(pulled)
            }
            Err(PullError::Nowhere(faults)) => {
                self.name_faults(home, &faults);
                Err(nowhere(&faults))
            }
            Err(e) => Err(e.into()),
        }
    }

    fn name_faults(&self, home: Option<&Home>, faults: &[Fault]) {
        for fault in faults {
            let kept = home.zip(fault.evidence.as_ref()).and_then(|(home, e)| home.keep_evidence(e).ok());
            let kept = kept.map(|path| format!("; kept in the home as {path}: 'keys log evidence' checks it"));
            self.warn(&format!("mirror {fault}{}", kept.unwrap_or_default()));
        }
    }
}

/// Whether a mirror is out of reach or behind, and nothing that it has is wrong.
pub(super) fn is_away(fault: &Fault) -> bool {
    matches!(
        fault.error,
        MirrorError::Unreachable(_)
            | MirrorError::Refused { .. }
            | MirrorError::Late { .. }
            | MirrorError::Behind { .. }
    )
}

/// That nobody has answered is another thing than that what they have is wrong.
fn nowhere(faults: &[Fault]) -> CliError {
    let (exit, what) = match faults.iter().find(|fault| !is_away(fault)) {
        Some(fault) => (Exit::No, fault),
        None => match faults.first() {
            Some(first) => (Exit::Unknown, first),
            None => return PullError::NoMirrors.into(),
        },
    };
    let more = match faults.len() {
        1 => String::new(),
        n => format!(", and the other {} were of no use either", n - 1),
    };
    CliError::new(exit, format!("nothing was pulled: mirror {what}{more}"))
        .hint("the keyring here is as it was, and everything goes on with it")
}

impl From<PullError> for CliError {
    fn from(e: PullError) -> Self {
        match e {
            PullError::Here(e) => e.into(),
            PullError::Disk(e) => e.into(),
            PullError::Nowhere(faults) => nowhere(&faults),
            PullError::NoMirrors => Self::usage(&e).hint("give one with --from; --remember keeps it in the home"),
            PullError::NoPin => Self::new(Exit::NotFound, &e)
                .hint("give the fleet's id with --pin; 'keys status --json' prints it where the fleet is known"),
            PullError::Busy | PullError::Locked | PullError::Moved => Self::new(Exit::Moved, &e).hint("run it again"),
        }
    }
}

fn as_json(pulled: &Pulled, acks: usize) -> Value {
    let faults: Vec<Value> = pulled
        .faults
        .iter()
        .map(|fault| json!({ "mirror": fault.mirror, "problem": fault.error.to_string() }))
        .collect();
    json!({
        "from": pulled.from, "before": pulled.before, "after": pulled.after,
        "files": pulled.files, "bytes": pulled.bytes, "waiting": pulled.waiting.files, "acks": acks, "faults": faults,
    })
}
