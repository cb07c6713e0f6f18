//! Exit codes, and how errors become them, with a hint for the way out.

use super::args::Explain;
use super::context::Context;
use super::output;
use crate::backup::ShareError;
use crate::disk::DiskError;
use crate::fleet::FleetError;
use crate::home::HomeError;
use crate::openpgp::SealError;
use crate::ops::OpsError;
use crate::policy::PolicyError;
use crate::ssh::KrlError;
use crate::state::{Admission, ObjectError, ReplayError, Void};
use crate::store::StoreError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or checked and good.
    Ok,
    /// It failed; nothing was done unless the message says so.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// Checked, and the answer is no.
    No,
    /// Not authorised yet: the change waits for signatures.
    Unauthorised,
    /// There is no such thing.
    NotFound,
    /// Somebody else was first.
    Moved,
    /// It could not be found out.
    Unknown,
    /// What is there is too old to be trusted.
    Stale,
    /// There is something to do, and nothing was done.
    Pending,
    /// A bug.
    Bug,
}

impl Exit {
    /// All of them with their meaning.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Ok, "done; or checked, and the answer is yes"),
        (Self::Failed, "failed; nothing was changed unless the message says so"),
        (Self::Usage, "the arguments make no sense"),
        (Self::No, "checked, and the answer is no: damaged, forged, rolled back, not for this key"),
        (Self::Unauthorised, "signatures are missing: the change is recorded as a proposal; 'keys approve' adds them"),
        (Self::NotFound, "there is no such member, secret, proposal or keyring"),
        (Self::Moved, "somebody else changed something first, or is writing now; run it again"),
        (Self::Unknown, "could not find out: a disk or file that does not answer, a clock that cannot be right"),
        (Self::Stale, "what is there is too old to be trusted"),
        (Self::Pending, "there are changes to be made, and none was made (--dry-run, --check, or nobody to ask)"),
        (Self::Bug, "a bug in keys"),
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::No => 3,
            Self::Unauthorised => 4,
            Self::NotFound => 5,
            Self::Moved => 6,
            Self::Unknown => 7,
            Self::Stale => 8,
            Self::Pending => 9,
            Self::Bug => 70,
        }
    }
}

/// An error as the command line shows it.
#[derive(Debug)]
pub(super) struct CliError {
    pub exit: Exit,
    pub message: String,
    pub hints: Vec<String>,
}

impl CliError {
    pub(super) fn new(exit: Exit, message: impl ToString) -> Self {
        Self { exit, message: message.to_string(), hints: Vec::new() }
    }

    pub(super) fn failed(message: impl ToString) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(super) fn usage(message: impl ToString) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(super) fn hint(mut self, hint: impl ToString) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Says it on stderr.
    pub(super) fn print(&self, quiet: bool) {
        output::complain(&format!("keys: {}", self.message));
        for hint in self.hints.iter().filter(|_| !quiet) {
            output::complain(&format!("hint: {hint}"));
        }
    }
}

/// The way out where something came out of a backup.
const CONFIRM: &str = "show that the fleet has not gone on: 'keys restore confirm --checkpoint FILE', with log/checkpoint \
    of another machine or a mirror";

impl From<DiskError> for CliError {
    fn from(e: DiskError) -> Self {
        let reading = matches!(e.doing, "read" | "list" | "look at" | "open" | "lock");
        let error = Self::new(if reading { Exit::Unknown } else { Exit::Failed }, &e);
        if e.is_full() {
            error.hint("the disk is full; nothing was changed by this step. Make room and run the command again")
        } else if e.is_denied() {
            error.hint("check who owns the directory, and whether it is mounted read-only")
        } else {
            error
        }
    }
}

impl From<HomeError> for CliError {
    fn from(e: HomeError) -> Self {
        match e {
            HomeError::Disk(e) => e.into(),
            HomeError::Readable { ref path, .. } => Self::failed(&e).hint(format!("run: chmod 700 {}", quoted(path))),
            HomeError::NotOurs { .. } => Self::failed(&e).hint("run as its owner, or give another one with --home"),
            HomeError::Absent(_) => Self::new(Exit::NotFound, &e)
                .hint("'keys init' and 'keys enroll' make one; --home or KEYS_HOME names another"),
            HomeError::Restored => Self::new(Exit::Stale, &e).hint(CONFIRM),
            HomeError::Damaged { .. } => Self::new(Exit::No, &e),
            HomeError::Unguarded { .. } => Self::failed(&e).hint("'keys protect --help' says what each kind needs"),
            HomeError::NoKey { .. } => {
                Self::new(Exit::NotFound, &e).hint("it is on the machine that made it; run this there")
            }
        }
    }
}

impl From<StoreError> for CliError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Disk(e) => e.into(),
            StoreError::NoKeyring(_) => Self::new(Exit::NotFound, &e)
                .hint("give the fleet's directory with --fleet, or found one with 'keys init'"),
            StoreError::Missing(ref path) if path.starts_with("log/tile/") => Self::new(Exit::No, &e).hint(
                "a keyring that was begun with a snapshot has nothing from before it: ask where the whole log is; otherwise 'keys log verify' lists what is damaged",
            ),
            StoreError::Missing(_) | StoreError::Damaged { .. } => Self::new(Exit::No, &e)
                .hint("'keys log verify' lists everything that is damaged; fetch those files again from a mirror"),
            StoreError::Raced => Self::new(Exit::Moved, &e).hint("run it again"),
            StoreError::NoEntry { .. } => Self::new(Exit::NotFound, &e),
        }
    }
}

impl From<ObjectError> for CliError {
    fn from(e: ObjectError) -> Self {
        match e {
            ObjectError::Missing(_) | ObjectError::Changed(_) => {
                Self::new(Exit::No, &e).hint("'keys log verify' lists everything that is damaged")
            }
            ObjectError::Unreadable(..) => Self::new(Exit::Unknown, &e),
        }
    }
}

impl From<FleetError> for CliError {
    fn from(e: FleetError) -> Self {
        match e {
            FleetError::Store(e) => e.into(),
            FleetError::Object(e) => e.into(),
            FleetError::Replay(ReplayError::Object { index, source }) => {
                let inner = Self::from(source);
                Self { message: format!("entry {index}: {}", inner.message), ..inner }
            }
            FleetError::Replay(e) => Self::new(Exit::No, e),
            FleetError::Pin { .. } => Self::new(Exit::No, &e).hint("a home belongs to one fleet; is --fleet the right directory?"),
            FleetError::Useless => Self::failed(&e),
            FleetError::Unsigned => Self::new(Exit::No, &e),
            FleetError::Rollback { .. } | FleetError::Fork { .. } => {
                Self::new(Exit::No, &e).hint("do not go on: keep this keyring and the home's file 'seen' as evidence, and compare with a colleague's")
            }
            FleetError::Split { .. } => {
                Self::new(Exit::No, &e).hint("do not go on: keep this keyring as evidence, both heads in it are signed")
            }
            FleetError::Unpublished { .. } => Self::new(Exit::No, &e)
                .hint("nothing that a machine goes by was taken from it; fetch the keyring again from a mirror"),
            FleetError::Snapshot { .. } => Self::new(Exit::No, &e)
                .hint("'keys status', where the whole log was replayed, prints the newest snapshot; without --snapshot, and without the home's file 'snapshot', everything is replayed"),
            FleetError::Behind { .. } => Self::new(Exit::Unknown, &e).hint("compare the clock with another machine's"),
            FleetError::Future { .. } => Self::new(Exit::Unknown, &e).hint("compare the clock with another machine's"),
            FleetError::Refused(ref void) => refused(void),
            FleetError::Moved(_) => Self::new(Exit::Moved, &e).hint("look at the plan again"),
            FleetError::Restored { .. } => Self::new(Exit::Stale, &e).hint(CONFIRM),
            FleetError::NoProposal(_) => Self::new(Exit::NotFound, &e).hint("'keys approve' lists what waits; give at least four digits of an id"),
            FleetError::Statement(e) => Self::failed(e),
            FleetError::Entry(e) => Self::failed(e),
            FleetError::Unfinished(ref inner) => {
                let full = matches!(&**inner, FleetError::Store(StoreError::Disk(e)) if e.is_full());
                let error = Self::failed(&e);
                let error = if full { error.hint("the disk is full: make room") } else { error };
                error.hint("do not repeat the change; 'keys sync' finishes it")
            }
            FleetError::NotTheLogKey => Self::new(Exit::NotFound, &e)
                .hint("run 'keys sync' where the authority's home with its standby log key is"),
            FleetError::NoEmergency(_) => Self::new(Exit::No, &e).hint("'keys emergency declare' makes one"),
            FleetError::Undecided { .. } => Self::new(Exit::No, &e)
                .hint("'keys emergency approve FILE', by whoever is missing; what counts is who is a member here, by this machine's copy of the log"),
            FleetError::Sign { .. } => Self::failed(&e),
        }
    }
}

fn refused(void: &Void) -> CliError {
    match void {
        Void::Stale { .. } => CliError::new(Exit::Moved, format!("somebody was first: {void}")).hint("run it again"),
        Void::NoRule { act, .. } => CliError::failed(format!("the change is refused: {void}")).hint(format!(
            "add [[quorum]] with act = \"{act}\" and its need to policy/fleet.toml, then 'keys policy propose'; root has to sign that"
        )),
        Void::NoMember(_) => CliError::new(Exit::NotFound, void),
        Void::Unprotected { wanted, .. } => CliError::failed(format!("the change is refused: {void}"))
            .hint(format!("on the machine itself: 'keys protect --with {wanted}', and ask again")),
        other => CliError::failed(format!("the change is refused: {other}")),
    }
}

impl From<Void> for CliError {
    fn from(void: Void) -> Self {
        refused(&void)
    }
}

impl From<PolicyError> for CliError {
    fn from(e: PolicyError) -> Self {
        Self::failed(e)
    }
}

impl From<OpsError> for CliError {
    fn from(e: OpsError) -> Self {
        match e {
            OpsError::Fleet(e) => e.into(),
            OpsError::Home(e) => e.into(),
            OpsError::Void(e) => e.into(),
            OpsError::Policy(e) => e.into(),
            OpsError::Seal { source: SealError::NotForUs, .. } => {
                Self::new(Exit::No, &e).hint("'keys who ADDRESS' lists its readers; open it on one of their machines")
            }
            OpsError::Seal { source: SealError::Empty, .. } => Self::failed(&e)
                .hint("an empty value is what a broken pipe delivers; check the command that feeds this one"),
            OpsError::Seal { source: SealError::TooLarge | SealError::NoRecipients, .. } => Self::failed(&e),
            OpsError::Seal { .. } => Self::new(Exit::No, &e)
                .hint("the file is not what its author sealed; 'keys log verify' checks the keyring"),
            OpsError::Large { ref address, .. } => Self::failed(&e).hint(format!(
                "'keys open {address}' gives it out, 'keys cp' and 'keys mv' copy it; a structured file that large is sealed with --whole"
            )),
            OpsError::Part { .. } => Self::new(Exit::No, &e)
                .hint("'keys pull' brings from a mirror what is missing here; 'keys log verify' checks the keyring"),
            OpsError::Spool { .. } => Self::new(Exit::Unknown, &e)
                .hint("until it is sealed a large value lies, encrypted, in the home's directory: is there room?"),
            OpsError::Shape { .. } => Self::failed(&e)
                .hint("--values says of which format it is; --whole seals it without a readable shape"),
            OpsError::Misshapen { .. } => {
                Self::new(Exit::No, &e).hint("whoever sealed it showed others something else: ask its author, and seal it anew")
            }
            OpsError::Readers { .. } => {
                Self::failed(&e).hint("policy/secrets.toml says who reads what; 'keys policy propose' changes it")
            }
            OpsError::Reader { ref reader, .. } => {
                let hint = format!(
                    "renew it ('keys sync' where its certifier is), leave it out for now (--without {reader}) or take \
                         it out for good ('keys revoke {reader}')"
                );
                Self::failed(&e).hint(hint)
            }
            OpsError::Underway { .. } => {
                let hint =
                    "nothing was sealed; run it again when 'keys sync', where the log's key is, has taken that in";
                Self::new(Exit::Moved, &e).hint(hint)
            }
            OpsError::NoSecret(_) | OpsError::NoSecrets(_) | OpsError::NoMember(_) | OpsError::NoMatch(_) => {
                Self::new(Exit::NotFound, &e).hint("'keys status' and 'keys ls' show what there is")
            }
            OpsError::Refused { ref decision, .. } => {
                let hint = match decision.admission {
                    Admission::UnknownInvitation => "operators look at 'keys invite list --all'; the log here may be behind",
                    Admission::TokenReused | Admission::GenerationConflict => {
                        "tell the operators AT ONCE: if that other machine is none of theirs, it has stolen the place, and 'keys revoke' stops it"
                    }
                    _ => "operators make another invitation: 'keys invite'",
                };
                Self::new(Exit::No, &e).hint(hint)
            }
            OpsError::NoInvitation(_) => Self::new(Exit::NotFound, &e)
                .hint("'keys invite list --all' shows those on record; a machine that has joined leaves by 'keys revoke'"),
            OpsError::KeyElsewhere { .. } => Self::new(Exit::NotFound, &e)
                .hint("private keys stay where they were made; run this there, or give --home"),
            OpsError::HomeTaken(_) => Self::failed(&e).hint("a fleet has a home of its own; give one with --home"),
            OpsError::KeysThere { ref member, .. } => {
                let hint = format!(
                    "give another home with --home; if nobody needs them any more, remove members/{member} from this one"
                );
                Self::failed(&e).hint(hint)
            }
            OpsError::Waiting { ref with, .. } => {
                let hint = format!("let 'keys approve' admit that request first; it was for {with}");
                Self::failed(&e).hint(hint)
            }
            OpsError::NoActor(_) => Self::new(Exit::NotFound, &e).hint("give the home of somebody who can with --home"),
            OpsError::Mesh(_) => Self::new(Exit::No, &e),
            OpsError::NoSerial(_) => Self::new(Exit::NotFound, &e)
                .hint("'keys ssh inspect FILE' shows a certificate's serial; --key FILE finds them by key"),
            OpsError::Krl(e) => e.into(),
            OpsError::Checkpoint(_) => Self::new(Exit::No, &e)
                .hint("take log/checkpoint of a machine or mirror that is up to date; if nothing has happened since the backup, \
                       and colleagues say so, pass --unchanged"),
            OpsError::Behind { .. } => Self::new(Exit::Stale, &e)
                .hint("bring the keyring up to date from a mirror or a colleague's, then confirm again"),
            OpsError::Archive(_) => Self::failed(&e),
            OpsError::Contents(_) | OpsError::Backup(_) => {
                Self::new(Exit::No, &e).hint("take another copy of this backup, or another backup")
            }
            OpsError::Share { .. } => Self::new(Exit::No, &e).hint("'keys backup show FILE' lists the custodians"),
            OpsError::Shares(ShareError::TooFew { .. }) => {
                Self::new(Exit::Unauthorised, &e).hint("'keys backup show FILE' lists the custodians")
            }
            OpsError::Shares(_) => Self::failed(&e),
            OpsError::Openpgp(_)
            | OpsError::Certificate { .. }
            | OpsError::Name(_)
            | OpsError::Request(_)
            | OpsError::InTheWay(_)
            | OpsError::Present(_)
            | OpsError::Ssh(_)
            | OpsError::Impossible(_) => Self::failed(&e),
        }
    }
}

impl From<KrlError> for CliError {
    fn from(e: KrlError) -> Self {
        match e {
            KrlError::TooLarge { .. } => Self::failed(&e).hint(
                "nothing was written, and nodes keep the list they have. Raise revocation.krl_bytes_max in policy/ssh.toml \
                 ('keys policy propose'); sshd reads the whole list at each login",
            ),
            _ => Self::new(Exit::No, &e).hint("'keys ssh krl build --out FILE' writes a good one from the log"),
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'));
    if plain { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

/// `keys explain`.
pub(super) fn explain(context: &Context, args: &Explain) -> Result<Exit, CliError> {
    let wanted = Exit::ALL.iter().filter(|(exit, _)| args.code.is_none_or(|code| code == exit.code()));
    let rows: Vec<(u8, &str)> = wanted.map(|(exit, text)| (exit.code(), *text)).collect();
    if rows.is_empty() {
        return Err(
            CliError::new(Exit::NotFound, "there is no such exit code").hint("'keys explain' lists all of them")
        );
    }
    if context.json {
        let list: Vec<serde_json::Value> =
            rows.iter().map(|(code, text)| serde_json::json!({ "code": code, "meaning": text })).collect();
        return context.answer(serde_json::json!({ "codes": list }), Exit::Ok);
    }
    for (code, text) in rows {
        context.out.line(&format!("{code:>3}  {text}"))?;
    }
    Ok(Exit::Ok)
}
