//! What every command needs: where the fleet and the home are, the time, entropy, and how to ask and answer.

mod planned;
mod stored;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};
use serde_json::Value;

use super::args::{Change, Color, Global, Reason};
use super::describe;
use super::exit::{CliError, Exit};
use super::output::{Out, Progress, complain};
use crate::digest::Digest;
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::fleet::{Draft, Fleet, Known, Placed, View};
use crate::home::{Home, Keepers};
use crate::log::note::Note;
use crate::ops;
use crate::ssh_agent::SshAgent;
use crate::state::{AppliedHere, Void, Watch};
use crate::store::Store;
use crate::time::Time;

pub(super) use self::planned::{Go, Planned, Shown, Stepwise, placed_exit, placed_json, placed_text};

/// After how many entries what they came to is kept.
const KEPT_AFTER: u64 = 256;
/// How long a command waits for another one that is writing.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Everything outside the library.
pub(super) struct Context {
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
    pub out: Out,
    fleet: Option<PathBuf>,
    home: Option<PathBuf>,
    pin: Option<String>,
    snapshot: Option<String>,
    /// The socket of the ssh-agent that may have CA keys.
    ssh_agent: Option<PathBuf>,
    keepers: Keepers,
    /// What counts the requests to object stores.
    pub(in crate::cli) requests: stored::Requests,
    color: bool,
    now: Time,
    /// Where talk goes, if not to stderr.
    heard: Option<Heard>,
}

/// Talk for people that somebody words anew: each with whether it is a warning.
pub(super) type Heard = Arc<Mutex<Vec<(bool, String)>>>;

impl Context {
    pub(super) fn new(global: &Global) -> Result<Self, CliError> {
        let environment = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = global
            .home
            .clone()
            .or_else(|| environment("KEYS_HOME"))
            .or_else(|| environment("HOME").map(|h| h.join(".keys")));
        let color = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stdout().is_terminal() && environment("NO_COLOR").is_none(),
        };
        Ok(Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            out: Out,
            fleet: global.fleet.clone().or_else(|| environment("KEYS_FLEET")),
            home,
            pin: global.pin.clone(),
            snapshot: global.snapshot.clone(),
            ssh_agent: environment("SSH_AUTH_SOCK"),
            requests: stored::Requests::default(),
            keepers: Keepers {
                credentials: environment("CREDENTIALS_DIRECTORY"),
                host_key: environment("SYSTEMD_CREDENTIAL_SECRET"),
            },
            color,
            // Read once, so that one command judges everything by one time.
            now: Time::from_system(SystemTime::now()),
            heard: None,
        })
    }

    /// The same at the present: for what runs on and on.
    pub(super) fn again(&self) -> Self {
        let (fleet, home) = (self.fleet.clone(), self.home.clone());
        let (pin, snapshot, ssh_agent) = (self.pin.clone(), self.snapshot.clone(), self.ssh_agent.clone());
        let (heard, now) = (self.heard.clone(), Time::from_system(SystemTime::now()));
        let (keepers, requests) = (self.keepers.clone(), self.requests.clone());
        Self { fleet, home, pin, snapshot, ssh_agent, keepers, requests, heard, now, ..*self }
    }

    /// The same, whose talk is kept: a program's log has one form throughout.
    pub(super) fn heard_by(self, heard: &Heard) -> Self {
        Self { heard: Some(Arc::clone(heard)), ..self }
    }

    /// The same, with no time before this one: what was verified once is not undone by a clock that is behind.
    pub(super) fn not_before(self, floor: Time) -> Self {
        Self { now: self.now.max(floor), ..self }
    }

    /// The same, for another fleet and home: what the demo runs on.
    pub(super) fn elsewhere(&self, fleet: &Path, home: &Path) -> Self {
        Self {
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
            out: self.out,
            fleet: Some(fleet.to_owned()),
            home: Some(home.to_owned()),
            pin: None,
            snapshot: None,
            ssh_agent: None,
            keepers: Keepers::default(),
            requests: self.requests.clone(),
            color: self.color,
            now: Time::from_system(SystemTime::now()),
            heard: None,
        }
    }

    /// The same, with the fleet's id pinned.
    pub(super) fn pinned(&self, id: &Digest) -> Self {
        Self { pin: Some(id.to_string()), ..self.again() }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Fresh entropy from the system. If there is none no key is made.
    pub(super) fn rng(&self) -> Result<StdRng, CliError> {
        StdRng::try_from_rng(&mut SysRng)
            .map_err(|e| CliError::failed(format!("the system gives no random numbers: {e}")).hint("no key was made"))
    }

    /// The fleet's directory: what was given, else the nearest upwards that holds a keyring.
    pub(super) fn fleet_directory(&self) -> Result<PathBuf, CliError> {
        if let Some(address) = self.store_address() {
            return Err(CliError::usage(format!(
                "this needs the fleet in a directory; {} is an object store",
                crate::text::shown(address)
            ))
            .hint("name a directory with --fleet"));
        }
        if let Some(given) = &self.fleet {
            return Ok(given.clone());
        }
        let here = std::env::current_dir()
            .map_err(|e| CliError::new(Exit::Unknown, format!("cannot tell the current directory: {e}")))?;
        Ok(here.ancestors().find(|d| d.join("keyring").is_dir()).unwrap_or(&here).to_owned())
    }

    /// Whether there is a keyring to ask; a fleet that was named has to have one.
    pub(super) fn has_keyring(&self) -> Result<bool, CliError> {
        Ok(self.fleet.is_some() || self.fleet_directory()?.join("keyring").is_dir())
    }

    /// Where the home is. Not every command needs one.
    pub(super) fn home_path(&self) -> Result<&Path, CliError> {
        let path = self.home.as_deref();
        path.ok_or_else(|| CliError::usage("there is no home directory; give one with --home"))
    }

    pub(super) fn home(&self) -> Result<Home, CliError> {
        let home = Home::open(self.home_path()?)?.kept_by(self.keepers.clone());
        Ok(home.with_ssh_agent(self.ssh_agent.clone()))
    }

    /// The person's ssh-agent, if there is one.
    pub(super) fn ssh_agent(&self) -> Option<SshAgent> {
        self.ssh_agent.as_deref().map(SshAgent::at)
    }

    /// The home, if there is one: for questions that anybody may ask.
    pub(super) fn maybe_home(&self) -> Result<Option<Home>, CliError> {
        if self.home_path()?.exists() { self.home().map(Some) } else { Ok(None) }
    }

    /// The fleet for a question that anybody may ask, also where there is no place for a home: in CI, say.
    pub(super) fn open_anywhere(&self) -> Result<Fleet, CliError> {
        if self.home.is_some() { self.open() } else { self.open_with(None, View::Newest) }
    }

    /// Creates the home, or opens it, for writing: nobody else writes in it while the lock lives.
    pub(super) fn create_home(&self) -> Result<(Home, Box<dyn Send>), CliError> {
        let home = Home::create(self.home_path()?)?.kept_by(self.keepers.clone());
        let lock = self.lock(home.disk())?;
        Ok((home, lock))
    }

    fn disk(&self, name: &str, create: bool) -> Result<Disk, CliError> {
        if let Some(address) = self.store_address() {
            return self.store_disk(&format!("{address}/{name}"));
        }
        let directory = self.fleet_directory()?;
        let path = directory.join(name);
        if let Some(way) = stored::elsewhere(&directory).filter(|_| !directory.exists()) {
            return Err(CliError::new(Exit::NotFound, format!("{} is no directory", shown(&directory))).hint(way));
        }
        let opened =
            if create { RealFiles::create(&path, Access::Public) } else { RealFiles::open(&path, Access::Public) };
        match opened {
            Ok(files) => Ok(Disk::new(files)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(CliError::new(Exit::NotFound, format!("there is no {}", shown(&path)))
                    .hint("give the fleet's directory with --fleet, or found one with 'keys init'"))
            }
            Err(source) => Err(DiskError { doing: "open", path: shown(&path), source }.into()),
        }
    }

    pub(super) fn keyring(&self, create: bool) -> Result<Disk, CliError> {
        self.disk("keyring", create)
    }

    pub(super) fn policy(&self, create: bool) -> Result<Disk, CliError> {
        self.disk("policy", create)
    }

    /// What this machine trusts and has seen.
    pub(super) fn known(&self, home: Option<&Home>) -> Result<Known, CliError> {
        let mut known = Known::default();
        if let Some(home) = home {
            let held = home.emergencies()?.into_iter();
            known = Known {
                pin: home.pin()?.map(|p| p.id),
                snapshot: home.snapshot()?,
                kept: None,
                seen: home.seen()?,
                seen_head: home.seen_head()?,
                applied: held.map(|h| AppliedHere { signed: h.entry.signed, since: h.applied }).collect(),
                own: home.brings_own()?.then(|| home.members()).transpose()?.map(|all| all.into_iter().collect()),
            };
        }
        if let Some(text) = &self.pin {
            let id = Digest::parse(text)
                .ok_or_else(|| CliError::usage("--pin expects the fleet's id: 64 lower-case hexadecimal digits"))?;
            if known.pin.is_some_and(|p| p != id) {
                return Err(CliError::new(Exit::No, "the home has another fleet pinned than --pin names"));
            }
            known.pin = Some(id);
        }
        if let Some(text) = &self.snapshot {
            let state = Digest::parse(text);
            known.snapshot = Some(state.ok_or_else(|| {
                CliError::usage("--snapshot expects the hash of a state: 64 lower-case hexadecimal digits")
            })?);
        }
        Ok(known)
    }

    /// Opens the fleet for questions, at the newest head.
    pub(super) fn open(&self) -> Result<Fleet, CliError> {
        self.open_view(View::Newest)
    }

    /// Opens the fleet at its published head, for whatever a machine goes by.
    pub(super) fn open_published(&self) -> Result<Fleet, CliError> {
        self.open_view(View::Published)
    }

    fn open_view(&self, view: View) -> Result<Fleet, CliError> {
        let home = self.maybe_home()?;
        let fleet = self.open_with(home.as_ref(), view)?;
        self.remember(home.as_ref(), &fleet);
        self.notice_freeze(home.as_ref(), &fleet);
        for applied in fleet.applied() {
            let since = describe::relative(applied.since, fleet.now());
            self.warn(&format!(
                "EMERGENCY: {} counts here, applied {since}; the log does not have it",
                applied.signed.id.short()
            ));
        }
        if let Err(e) = fleet.check_clock() {
            // A machine that boots without a clock goes on serving: everything is judged by the log's time.
            self.warn(&format!("warning: {e}; going by the log's time"));
        }
        Ok(fleet)
    }

    /// Opens the fleet for questions, with somebody looking on from the first entry.
    pub(super) fn open_watched(&self, watch: &mut dyn Watch) -> Result<Fleet, CliError> {
        let home = self.maybe_home()?;
        // What is reported is the record alone.
        let known = Known { applied: Vec::new(), ..self.known(home.as_ref())? };
        let mut progress = Progress::new("replaying", self.quiet);
        let store = Store::new(self.keyring(false)?);
        let fleet = Fleet::open_watched(store, &known, self.now, &mut |done, of| progress.step(done, of), Some(watch))?;
        self.remember(home.as_ref(), &fleet);
        if let Err(e) = fleet.check_clock() {
            self.warn(&format!("warning: {e}; going by the log's time"));
        }
        Ok(fleet)
    }

    fn open_with(&self, home: Option<&Home>, view: View) -> Result<Fleet, CliError> {
        let known = Known { kept: home.and_then(Home::replayed), ..self.known(home)? };
        let mut progress = Progress::new("replaying", self.quiet);
        let mut step = |done, of| progress.step(done, of);
        let store = Store::new(self.keyring(false)?);
        let opened = Fleet::open_view(store.clone(), &known, self.now, &mut step, view);
        opened.map_err(|e| self.with_evidence(e, &store, &known, home))
    }

    /// Remembers the heads that were just accepted. That this fails is no reason to refuse an answer.
    pub(super) fn remember(&self, home: Option<&Home>, fleet: &Fleet) {
        let Some(home) = home.filter(|h| h.pin().is_ok_and(|p| p.is_some_and(|p| p.id == fleet.pin().id))) else {
            return;
        };
        if let (Some(state), 1..) = (self.snapshot.as_deref().and_then(Digest::parse), fleet.began()) {
            let _ = home.set_snapshot(&state);
        }
        if let Some(published) = fleet.published().filter(|p| p.is_signed && p.lacks().is_none()) {
            let bytes = published.note.to_bytes();
            // A mirror that is behind has older cosignatures; the newest are what was seen.
            let is_older = home.seen().ok().flatten().and_then(|b| Note::parse(&b).ok()).is_some_and(|seen| {
                let seen_at = published.publication.as_ref().and_then(|p| p.judge(&seen).time);
                seen.text == published.note.text && seen_at > published.time()
            });
            if !is_older {
                let _ = home.set_seen(&bytes);
            }
        }
        // Writing costs as much as replaying a few hundred entries.
        if fleet.replayed() >= KEPT_AFTER
            && let Some(kept) = fleet.keep()
        {
            let _ = home.set_replayed(&kept);
        }
        let is_published = fleet.waiting() == 0 && fleet.published().is_some_and(|p| p.lacks().is_none());
        if let Some(head) = fleet.head().filter(|_| !is_published) {
            let _ = home.set_seen_head(&head.note.to_bytes());
        }
    }

    /// Opens the fleet for a change: with the lock, interrupted work finished, complete proposals taken in. `work` then
    /// gets it.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut Fleet, &Home) -> Result<T, CliError>) -> Result<T, CliError> {
        self.write(Proposals::TakeIn, work)
    }

    /// The same, but complete proposals stay where they are.
    pub(super) fn change_proposals<T>(
        &self,
        work: impl FnOnce(&mut Fleet, &Home) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        self.write(Proposals::Leave, work)
    }

    fn write<T>(
        &self,
        proposals: Proposals,
        work: impl FnOnce(&mut Fleet, &Home) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        self.require_probed()?;
        let home = self.home()?;
        // Always in this order, or two commands could wait for each other.
        let _home_lock = self.lock(home.disk())?;
        let store = Store::new(self.keyring(false)?);
        let lock = self.lock(store.disk())?;
        home.settle()?;
        let mut fleet = self.open_with(Some(&home), View::Newest)?;
        fleet.check_clock()?;
        let sequencer = ops::sequencer(&home, &fleet)?;
        if sequencer.is_some() && home.pin()?.is_none() {
            // A founding was interrupted before the pin. That the log's own key is here says that this is our fleet.
            home.set_pin(&fleet.pin())?;
        }
        fleet.prepare(sequencer.as_ref())?;
        if matches!(proposals, Proposals::TakeIn) {
            self.hand_in(&home, &mut fleet)?;
        }
        if let (Proposals::TakeIn, Some(key)) = (proposals, &sequencer) {
            let absorbed = fleet.absorb(key)?;
            for placed in &absorbed.placed {
                self.say(&format!("taken in: {}", placed_text(placed)));
            }
            // What took effect already was not lost.
            for (proposal, why) in absorbed.dropped.iter().filter(|(_, why)| *why != Void::Done) {
                let statement = &proposal.signed.statement;
                let what = format!("{} ({} by {})", proposal.signed.id.short(), statement.act.name(), statement.by);
                self.say(&format!("dropped: proposal {what}, which can have no effect any more: {why}"));
            }
        }
        let size = |fleet: &Fleet| fleet.head().map_or(0, |h| h.checkpoint.size);
        let before = size(&fleet);
        let result = work(&mut fleet, &home).map_err(|e| match size(&fleet).saturating_sub(before) {
            0 => e,
            n => e.hint(format!(
                "before this failed {n} log entries were written, and stay; 'keys sync' goes on from there"
            )),
        });
        match result {
            Ok(_) => fleet.done(),
            Err(_) => fleet.give_up(),
        }
        self.remember(Some(&home), &fleet);
        drop(lock);
        if let (Ok(_), Some(key)) = (&result, &sequencer) {
            self.publish_after(fleet, &home, key);
        }
        result
    }

    /// Takes the keyring's lock, waiting a while for whoever has it.
    pub(super) fn lock(&self, disk: &Disk) -> Result<Box<dyn Send>, CliError> {
        let start = Instant::now();
        let mut told = false;
        loop {
            if let Some(lock) = disk.try_lock()? {
                return Ok(lock);
            }
            if start.elapsed() > LOCK_WAIT {
                let message =
                    format!("another keys command has been writing to {} for {} s", disk.root(), LOCK_WAIT.as_secs());
                return Err(
                    CliError::new(Exit::Moved, message).hint("nothing was changed; run this again when it is done")
                );
            }
            if !told && start.elapsed() > Duration::from_millis(500) {
                self.say("waiting for another keys command to finish writing");
                told = true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Signs and places drafts, and says where they ended up.
    pub(super) fn place(
        &self,
        fleet: &mut Fleet,
        home: &Home,
        drafts: Vec<Draft>,
        change: &Change,
    ) -> Result<Vec<Placed>, CliError> {
        Ok(ops::carry_out(home, fleet, drafts, change.signer.as_ref())?)
    }

    /// Talk for people.
    pub(super) fn say(&self, text: &str) {
        self.talk(false, text);
    }

    /// The same, of something that is not as it should be.
    pub(super) fn warn(&self, text: &str) {
        self.talk(true, text);
    }

    fn talk(&self, is_warning: bool, text: &str) {
        match &self.heard {
            Some(heard) => heard.lock().unwrap_or_else(PoisonError::into_inner).push((is_warning, text.to_owned())),
            None if self.quiet => {}
            None => complain(text),
        }
    }

    /// The answer as JSON, with the format's version.
    pub(super) fn answer(&self, mut value: Value, exit: Exit) -> Result<Exit, CliError> {
        if let Value::Object(fields) = &mut value {
            fields.insert("v".to_owned(), 1.into());
        }
        let text = serde_json::to_string_pretty(&value).map_err(CliError::failed)?;
        self.out.line(&text)?;
        Ok(exit)
    }

    /// Emphasis where colour is wanted; it never carries meaning alone.
    pub(super) fn bold(&self, text: &str) -> String {
        if self.color { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What happens to complete proposals before a change.
enum Proposals {
    TakeIn,
    Leave,
}

/// The reason given, or the usual one.
pub(super) fn reason(given: &Reason, usual: &str) -> String {
    given.reason.clone().unwrap_or_else(|| usual.to_owned())
}

/// A path made safe to show.
pub(super) fn shown(path: &Path) -> String {
    crate::text::shown(&path.display().to_string()).to_string()
}
