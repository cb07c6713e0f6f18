//! `keys agent`: the rounds of a machine. What follows what is `agent::rounds`'s; here it is done, each act by itself, and
//! whatever fails is said once and leaves what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::agent_args::{AgentArgs, AgentRun, AgentVerb};
use super::agent_deliver::{Delivered, Deliverer};
use super::agent_log::{AgentLog, Event, Level, usual_form};
use super::agent_units::{self, Written};
use super::args::Change;
use super::context::{Context, Heard, shown};
use super::exit::{CliError, Exit};
use super::founding::place;
use super::pull_cmd::{is_away, remembered};
use super::rotate_cmd::catch_up;
use super::signals::ending_by;
use crate::agent::{
    Ack, AckedDelivery, Act, Boot, CREDENTIAL_SOCKET, Happened, HookName, Hooks, Manifest, Numbers, Outcome, Phase,
    Rounds, Schedule, Seen, wishes,
};
use crate::digest::Digest;
use crate::disk::{Access, Disk, RealFiles};
use crate::fleet::Fleet;
use crate::home::{AgentMemory, Home};
use crate::name::{Kind, Label, MemberName};
use crate::node::{Notifier, RunDirectory, Units, read_hooks, running, serve_credentials};
use crate::ops;
use crate::statement::machine_digest;
use crate::store::Store;
use crate::time::Time;

/// What is told to systemd at least twice in this time, if it has not said another.
const WATCHDOG: Duration = Duration::from_secs(60);

/// How many refused credentials are mentioned in a round.
const REFUSALS_SAID: usize = 16;

/// The agent at work.
pub(super) struct Agent<'c> {
    context: &'c Context,
    args: &'c AgentRun,
    pub(super) home: Home,
    run: RunDirectory,
    pub(super) log: AgentLog,
    notifier: Notifier,
    /// What the rest of the program would have said to people.
    heard: Heard,
    memory: AgentMemory,
    schedule: Schedule,
    rng: StdRng,
    member: MemberName,
    stop: Stop,
    pub(super) fleet: Option<Fleet>,
    delivered: BTreeMap<Label, Delivered>,
    tried: BTreeMap<Label, (Manifest, Delivered)>,
    numbers: Numbers,
    /// By what this running of the machine is told apart, and since when it is.
    running: Option<(String, Time)>,
    /// What each member of this machine last acknowledged.
    acked: BTreeMap<MemberName, Ack>,
    /// The same, signed.
    pub(super) said: BTreeMap<MemberName, Vec<u8>>,
    /// What a mirror has taken, by its digest.
    pub(super) handed: BTreeSet<Digest>,
    /// Units that get credentials; none are handed out unless the policy names one.
    units: Units,
    handing_out: bool,
    /// Why somebody got no credential.
    refused: mpsc::Receiver<String>,
    refusing: mpsc::Sender<String>,
    /// Whether everything was as it should be since the round began.
    good: bool,
    began: Instant,
}

/// What ends it: SIGTERM and SIGINT, noticed between acts and while it waits; the second one anywhere.
struct Stop {
    wanted: Arc<AtomicBool>,
    wake: UnixStream,
    watchdog: Duration,
}

impl Stop {
    fn new() -> Result<Self, CliError> {
        let wanted = Arc::new(AtomicBool::new(false));
        let wake = ending_by(&wanted)?;
        let told = std::env::var("WATCHDOG_USEC").ok().and_then(|t| t.parse().ok()).map(Duration::from_micros);
        let watchdog = told.filter(|t| !t.is_zero()).unwrap_or(WATCHDOG) / 3;
        Ok(Self { wanted, wake, watchdog })
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Waits, and tells systemd meanwhile that it is alive.
    fn wait(&mut self, pause: Duration, notifier: &Notifier) {
        let start = Instant::now();
        while let Some(left) = pause.checked_sub(start.elapsed()).filter(|l| !l.is_zero()) {
            notifier.tell(&["WATCHDOG=1"]);
            if self.is_wanted() {
                return;
            }
            let slice = left.min(self.watchdog).max(Duration::from_millis(1));
            if self.wake.set_read_timeout(Some(slice)).is_err() {
                std::thread::sleep(slice);
            }
            let _ = self.wake.read(&mut [0; 16]);
        }
    }
}

/// `keys agent`.
pub(super) fn agent(context: &Context, args: &AgentArgs) -> Result<Exit, CliError> {
    match &args.verb {
        Some(AgentVerb::Mount { run_dir }) => agent_units::mount(context, run_dir),
        Some(AgentVerb::Units { out, program, run_dir, hooks, metrics }) => {
            let written = Written { out, program, run_dir, hooks, metrics: metrics.as_deref() };
            agent_units::units(context, &written)
        }
        None => run(context, &args.run),
    }
}

fn run(context: &Context, args: &AgentRun) -> Result<Exit, CliError> {
    let home = context.home()?;
    let member = this_machine(&home)?;
    let run = RunDirectory::create(&args.run_dir)?;
    // Two agents would flip against each other.
    let files = RealFiles::open(run.path(), Access::Private);
    let files = files.map_err(|e| CliError::failed(format!("cannot open {}: {e}", run.path().display())))?;
    let _lock = Disk::new(files).try_lock()?.ok_or_else(|| {
        let message = format!("another agent works on {}", run.path().display());
        CliError::new(Exit::Moved, message)
            .hint("there is one agent for a machine; give another --run-dir for a second")
    })?;
    let notifier = Notifier::at(std::env::var_os("NOTIFY_SOCKET").as_deref());
    let form = args.log.unwrap_or_else(usual_form);
    let (refusing, refused) = mpsc::channel();
    let mut agent = Agent {
        context,
        args,
        log: AgentLog::new(form, context.quiet, member.clone()),
        notifier,
        heard: Heard::default(),
        memory: home.agent_memory()?,
        home,
        run,
        schedule: Schedule::every(args.interval.to_duration()),
        rng: context.rng()?,
        member,
        stop: Stop::new()?,
        fleet: None,
        delivered: BTreeMap::new(),
        tried: BTreeMap::new(),
        numbers: Numbers::default(),
        running: running().map(|(id, time)| (id, context.now().minus(time))),
        acked: BTreeMap::new(),
        said: BTreeMap::new(),
        handed: BTreeSet::new(),
        units: Units::default(),
        handing_out: false,
        refused,
        refusing,
        good: true,
        began: Instant::now(),
    };
    agent.run()
}

/// The member that this machine is: the first of its home that is no service.
fn this_machine(home: &Home) -> Result<MemberName, CliError> {
    let member = home.members()?.into_iter().find(|m| !m.is_service());
    member.ok_or_else(|| CliError::new(Exit::NotFound, "this home has no member").hint("run 'keys enroll' here first"))
}

impl Agent<'_> {
    fn run(&mut self) -> Result<Exit, CliError> {
        let serving = self.is_serving();
        let rounds = if self.args.once { Some(1) } else { self.args.rounds };
        let (mut rounds, mut act) = Rounds::start(rounds, serving);
        while act != Act::End {
            if rounds.has_begun() && act == Act::Rest {
                self.count_round();
            }
            let mut happened = match act {
                Act::Rest => self.rest(&rounds),
                act => self.carry_out(act),
            };
            if self.stop.is_wanted() {
                happened = Happened::Stop;
            }
            act = rounds.step(happened);
        }
        self.notifier.tell(&["STOPPING=1"]);
        if rounds.has_begun() && !self.stop.is_wanted() {
            self.count_round();
        }
        self.measure();
        self.keep();
        let good = self.good && rounds.is_ready();
        Ok(if good || self.stop.is_wanted() { Exit::Ok } else { Exit::No })
    }

    /// Whether something is shown that an agent before this one delivered.
    fn is_serving(&self) -> bool {
        let services = self.run.services().unwrap_or_default();
        services.iter().any(|s| self.run.service(s).and_then(|d| d.look()).is_ok_and(|found| found.current.is_some()))
    }

    /// Does one act. What fails is said, and is over with this round.
    fn carry_out(&mut self, act: Act) -> Happened {
        self.notifier.tell(&["WATCHDOG=1"]);
        let (event, result) = match act {
            Act::Open => (Event::Open, self.open()),
            Act::Deliver => (Event::Deliver, self.deliver()),
            Act::Ready => (Event::Ready, self.ready()),
            Act::Pull => (Event::Pull, self.pull()),
            Act::Sync => (Event::Sync, self.sync()),
            Act::Acknowledge => (Event::Acknowledge, self.acknowledge()),
            Act::Rest | Act::End => return Happened::Done,
        };
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        self.log.overhear(event, heard);
        match result {
            Ok(()) => {
                self.log.over(event, None);
                self.numbers.succeeded(act, self.present().now());
                Happened::Done
            }
            Err(error) => {
                self.good = false;
                self.numbers.failed(act, error.exit == Exit::No);
                self.log.complain(event, None, &format!("{}; everything stays as it is", error.message));
                Happened::Failed
            }
        }
    }

    /// The present, and never before what was verified here.
    fn present(&self) -> Context {
        self.context.again().not_before(self.memory.floor).heard_by(&self.heard)
    }

    fn open(&mut self) -> Result<(), CliError> {
        self.fleet = None;
        if self.home.is_guarded_otherwise()? {
            self.home = self.context.home()?;
        }
        let context = self.present();
        let fleet = context.open_published()?;
        let cosigned = fleet.published().and_then(|p| p.time()).unwrap_or_default();
        self.numbers.seen = Seen::of(fleet.state(), &self.home.members()?, fleet.freshness());
        self.memory.floor = self.memory.floor.max(fleet.state().time).max(cosigned);
        self.fleet = Some(fleet);
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), CliError> {
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        let hooks: Result<Hooks, String> = read_hooks(&self.args.hooks).map_err(|e| e.to_string());
        let (run, home) = (&self.run, &self.home);
        let (tried, numbers) = (&mut self.tried, &mut self.numbers);
        let mut deliverer =
            Deliverer { run, hooks: &hooks, memory: &mut self.memory, log: &mut self.log, home, tried, numbers };
        let all = deliverer.deliver(fleet);
        self.good &= all.iter().all(|d| matches!(d.outcome, Outcome::Current | Outcome::Withdrawn));
        self.hand_out();
        self.delivered = all.into_iter().map(|d| (d.directory.clone(), d)).collect();
        self.keep();
        Ok(())
    }

    /// Lets systemd ask for the credentials of the units that the policy names.
    fn hand_out(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        let here = self.home.members().unwrap_or_default();
        let (wishes, _) = wishes(fleet.state(), &here, fleet.now());
        let units = wishes.iter().filter_map(|w| {
            let unit = w.rule.unit.as_ref()?.to_string();
            Some((unit, self.run.path().join(w.directory.as_str())))
        });
        let units: BTreeMap<String, PathBuf> = units.collect();
        let wanted = !units.is_empty();
        *self.units.lock().unwrap_or_else(PoisonError::into_inner) = units;
        if !wanted || self.handing_out {
            return;
        }
        let (path, refusing) = (self.run.path().join(CREDENTIAL_SOCKET), self.refusing.clone());
        // Whoever is told has ended if this fails.
        let refuse = move |why: &str| drop(refusing.send(why.to_owned()));
        match serve_credentials(&path, Arc::clone(&self.units), refuse) {
            Ok(()) => {
                self.handing_out = true;
                self.log.over(Event::Credentials, None);
            }
            Err(e) => self.log.complain(Event::Credentials, None, &format!("cannot listen at {}: {e}", shown(&path))),
        }
    }

    /// Keeps what has to outlive this process.
    fn keep(&mut self) {
        match self.home.set_agent_memory(&self.memory) {
            Ok(()) => self.log.over(Event::Home, None),
            Err(e) => self.log.complain(Event::Home, None, &e.to_string()),
        }
    }

    fn ready(&mut self) -> Result<(), CliError> {
        self.numbers.ready = true;
        let text = format!("{} after {:.3} s", self.standing(), self.began.elapsed().as_secs_f64());
        self.notifier.tell(&["READY=1"]);
        self.notifier.status(&text);
        self.log.say(Level::Notice, Event::Ready, None, &format!("READY: {text}"));
        Ok(())
    }

    /// In words, for people.
    fn standing(&self) -> String {
        let good = self.delivered.values().filter(|d| d.outcome == Outcome::Current).count();
        let medium = if self.run.is_in_memory() { "in memory" } else { "ON A DISK" };
        let log = self.fleet.as_ref().and_then(|f| f.published()).map_or(0, |p| p.checkpoint.size);
        format!("{good} of {} services served {medium}; the log has {log} entries", self.delivered.len())
    }

    fn pull(&mut self) -> Result<(), CliError> {
        self.good = true;
        let mirrors = remembered(&self.home)?;
        if mirrors.addresses.is_empty() {
            return Ok(());
        }
        // What it opened was before this.
        self.fleet = None;
        let pulled = self.present().pull(Some(&self.home), &mirrors);
        let [away, wrong] = &mut self.numbers.mirror_faults;
        let faults = pulled
            .as_ref()
            .map(|p| p.faults.iter().map(is_away).collect())
            .unwrap_or_else(|e| vec![e.exit != Exit::No]);
        for is_away in faults {
            let count = if is_away { &mut *away } else { &mut *wrong };
            *count = count.saturating_add(1);
        }
        let pulled = pulled?;
        if let (Some(mirror), true) = (&pulled.from, pulled.after > pulled.before) {
            let new = pulled.after - pulled.before;
            self.log.say(Level::Info, Event::Pull, None, &format!("{new} new entries from {mirror}"));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CliError> {
        // What it opened was before this.
        self.fleet = None;
        let context = self.present();
        let change = Change::default();
        let caught_up = context.change(|fleet, home| catch_up(&context, fleet, home, &change))?;
        for line in &caught_up.done {
            self.log.say(Level::Info, Event::Sync, None, line);
        }
        let stuck = caught_up.stuck.iter().map(|s| format!("{}: {}", s.drift.address, s.why));
        self.numbers.requests_refused.clear();
        for (reason, _) in &caught_up.refused {
            let count = self.numbers.requests_refused.entry(*reason).or_default();
            *count = count.saturating_add(1);
        }
        let others = caught_up.troubles.iter().chain(caught_up.refused.iter().map(|(_, text)| text)).cloned();
        let troubles: Vec<String> = stuck.chain(others).collect();
        match troubles.as_slice() {
            [] => self.log.over(Event::Owed, None),
            some => self.log.complain(Event::Owed, None, &some.join("; ")),
        }
        self.good &= troubles.is_empty();
        Ok(())
    }

    /// Signs what this machine has come to, puts it into the keyring, where others read it, and hands it in at the mirrors.
    /// What says the same as the last one is left for an hour.
    fn acknowledge(&mut self) -> Result<(), CliError> {
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        let Some((size, root)) = fleet.published().map(|p| (p.checkpoint.size, p.checkpoint.root)) else {
            return Ok(());
        };
        self.numbers.machines_copied = fleet.copied()?.len();
        let is_machine = |kind| matches!(kind, Kind::Pop | Kind::Authority);
        for member in self.home.members()? {
            if !fleet.state().members.get(&member).is_some_and(|m| m.is_active() && is_machine(m.kind)) {
                continue;
            }
            let boot = self
                .running
                .as_ref()
                .map(|(text, since)| Boot { id: machine_digest(&fleet.state().id, "boot", text), since: *since });
            let own = self.delivered.values().filter(|d| d.member.owner() == member);
            let ack = Ack {
                at: fleet.now(),
                boot: boot.clone(),
                deliveries: own.map(acked).collect(),
                log: fleet.log().to_owned(),
                member: member.clone(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
                protection: self.home.protection(),
                root,
                size,
                v: Ack::VERSION,
            };
            if self.acked.get(&member).is_some_and(|before| ack.is_said_by(before)) {
                continue;
            }
            let Some(mut signer) = ops::signers(&self.home, fleet, Some(&member))?.into_iter().next() else { continue };
            let bytes = fleet.sign_ack(&ack, &mut signer)?;
            let keyring = self.context.keyring(false)?;
            fleet.keep_ack(&ack, &bytes, &Store::new(keyring))?;
            self.said.insert(member.clone(), bytes);
            self.acked.insert(member, ack);
        }
        self.hand_in()
    }

    /// Ends the round in numbers.
    fn count_round(&mut self) {
        let [good, bad] = &mut self.numbers.rounds;
        let count = if self.good { good } else { bad };
        *count = count.saturating_add(1);
        self.numbers.last_round = Some(self.present().now());
    }

    /// Writes the numbers.
    fn measure(&mut self) {
        let Some(path) = &self.args.metrics else { return };
        self.numbers.in_memory = self.run.is_in_memory();
        match write_public(path, self.numbers.to_text().as_bytes()) {
            Ok(()) => self.log.over(Event::Numbers, None),
            Err(e) => self.log.complain(Event::Numbers, None, &e.message),
        }
    }

    fn rest(&mut self, rounds: &Rounds) -> Happened {
        self.fleet = None;
        self.tried.clear();
        for why in self.refused.try_iter().take(REFUSALS_SAID) {
            self.numbers.credentials_refused = self.numbers.credentials_refused.saturating_add(1);
            self.log.say(Level::Warning, Event::Credentials, None, &why);
        }
        self.measure();
        self.notifier.status(&self.standing());
        let pause = match rounds.has_begun() {
            false => self.schedule.splay(&self.member.to_string()),
            true => self.schedule.pause(&mut self.rng),
        };
        self.stop.wait(pause, &self.notifier);
        Happened::Done
    }
}

/// One service's part of an acknowledgement.
fn acked(delivered: &Delivered) -> AckedDelivery {
    let word = |phase: &Phase| match phase {
        Phase::Check => HookName::Check,
        Phase::Reload => HookName::Reload,
        Phase::Verify => HookName::Verify,
    };
    AckedDelivery {
        directory: delivered.directory.clone(),
        expired: delivered.expired,
        failed: delivered.failed.iter().map(word).collect(),
        generation: delivered.generation,
        member: delivered.member.clone(),
        outcome: delivered.outcome,
    }
}

/// Writes a file that everybody may read, durably and at once.
fn write_public(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let (directory, name) = place(path)?;
    // The unit's umask is for what hooks write.
    let files = RealFiles::open(directory, Access::Everybody);
    let files = files.map_err(|e| CliError::failed(format!("cannot open {}: {e}", shown(directory))))?;
    Ok(Disk::new(files).replace(name, bytes)?)
}
