//! Bringing the services' directories into line with the log, one service after the other. `agent::switch` says what follows
//! what; here it is done.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::agent_log::{AgentLog, Event, Level};
use crate::agent::{
    Case, Ended, Hooks, Lack, Manifest, ManifestFile, Numbers, Outcome, Phase, Step, Switch, Wish, wishes,
};
use crate::fleet::Fleet;
use crate::home::{AgentMemory, Home};
use crate::limits::SECRET_BYTES_MAX;
use crate::name::{Label, MemberName};
use crate::node::{Found, HookCall, Ids, RunDirectory, ServiceDirectory, open_generation, run_hook};
use crate::ops;

/// What came of one service.
#[derive(Debug, Clone)]
pub(super) struct Delivered {
    pub directory: Label,
    pub member: MemberName,
    /// The generation that is shown.
    pub generation: Option<u64>,
    pub outcome: Outcome,
    /// What is the matter, if anything is.
    pub problem: Option<String>,
    /// Whether values have expired that are served on.
    pub expired: bool,
    /// Hooks that failed.
    pub failed: Vec<Phase>,
    /// Whether another generation is shown than before.
    pub flipped: bool,
}

/// What delivering needs.
pub(super) struct Deliverer<'a> {
    pub run: &'a RunDirectory,
    pub hooks: &'a Result<Hooks, String>,
    pub memory: &'a mut AgentMemory,
    pub log: &'a mut AgentLog,
    pub home: &'a Home,
    /// What failed since the agent last rested: it is not tried again before it does.
    pub tried: &'a mut BTreeMap<Label, (Manifest, Delivered)>,
    pub numbers: &'a mut Numbers,
}

/// What one service's delivery has come to so far.
struct Work<'w> {
    wish: &'w Wish,
    service: ServiceDirectory,
    delivered: Delivered,
}

impl Deliverer<'_> {
    /// Delivers to every member of this home that gets anything.
    pub(super) fn deliver(&mut self, fleet: &mut Fleet) -> Vec<Delivered> {
        let here = self.home.members().unwrap_or_else(|e| {
            self.log.complain(Event::Home, None, &e.to_string());
            Vec::new()
        });
        let mut all = self.withdraw(fleet, &here);
        let (wishes, troubles) = wishes(fleet.state(), &here, fleet.now());
        match troubles.as_slice() {
            [] => self.log.is_over(Event::Deliver, "the policy's deliveries"),
            troubles => self.log.complain_of_one(Event::Deliver, "the policy's deliveries", &troubles.join("; ")),
        }
        for wish in &wishes {
            self.numbers.expect(wish);
            let before = self.tried.get(&wish.directory).filter(|(manifest, _)| *manifest == wish.manifest);
            let delivered = match before {
                Some((_, failed)) => failed.clone(),
                None => self.one(wish, fleet),
            };
            if matches!(delivered.outcome, Outcome::Refused | Outcome::RolledBack) {
                let again = Delivered { failed: Vec::new(), flipped: false, ..delivered.clone() };
                self.tried.insert(wish.directory.clone(), (wish.manifest.clone(), again));
            }
            self.count(&delivered);
            let service = Some(&delivered.directory);
            match &delivered.problem {
                Some(problem) => {
                    self.log.complain(Event::Delivery, service, &format!("{problem}; {}", kept(&delivered)))
                }
                None => self.log.over(Event::Delivery, service),
            }
            match wish.expired.as_slice() {
                [] => self.log.over(Event::Expiry, service),
                late => self.log.complain(Event::Expiry, service, &format!("{}; it is served on", lacking(late))),
            }
            all.push(delivered);
        }
        all
    }

    fn count(&mut self, delivered: &Delivered) {
        let numbers = self.numbers.services.entry(delivered.directory.clone()).or_default();
        numbers.generation = delivered.generation;
        numbers.current = delivered.outcome == Outcome::Current;
        numbers.expired = delivered.expired;
        numbers.flips = numbers.flips.saturating_add(u64::from(delivered.flipped));
        numbers.failures = numbers.failures.saturating_add(u64::from(delivered.problem.is_some()));
        let [check, reload, verify] = &mut numbers.hooks;
        for phase in &delivered.failed {
            let count = match phase {
                Phase::Check => &mut *check,
                Phase::Reload => &mut *reload,
                Phase::Verify => &mut *verify,
            };
            *count = count.saturating_add(1);
        }
    }

    /// Takes away what members that have left were given, and mentions what nobody delivers any more.
    fn withdraw(&mut self, fleet: &Fleet, here: &[MemberName]) -> Vec<Delivered> {
        let mut all = Vec::new();
        for directory in self.run.services().unwrap_or_default() {
            let Ok(service) = self.run.service(&directory) else { continue };
            let Ok(Found { current: Some((generation, manifest)), .. }) = service.look() else { continue };
            let state = fleet.state();
            let has_left = state.members.get(&manifest.member).is_some_and(|m| !m.is_active());
            if !has_left || !here.contains(&manifest.member) {
                if state.policy.policy.secrets.delivery(&manifest.member).is_none() && !has_left {
                    let text = "the policy delivers nothing here any more; what lies there stays until the next start";
                    self.log.complain(Event::Delivery, Some(&directory), text);
                }
                continue;
            }
            let removed = service.withdraw().and_then(|()| self.run.remove(service));
            let problem = removed.err().map(|e| e.to_string());
            match &problem {
                Some(problem) => self.log.complain(Event::Withdrawal, Some(&directory), problem),
                None => {
                    let text = format!("{} has left: its files are removed", manifest.member);
                    self.log.say(Level::Warning, Event::Withdrawal, Some(&directory), &text);
                }
            }
            all.push(Delivered {
                directory,
                member: manifest.member,
                generation: problem.is_some().then_some(generation),
                outcome: if problem.is_some() { Outcome::Stuck } else { Outcome::Withdrawn },
                problem,
                expired: false,
                failed: Vec::new(),
                flipped: true,
            });
        }
        all
    }

    fn one(&mut self, wish: &Wish, fleet: &mut Fleet) -> Delivered {
        let mut delivered = Delivered {
            directory: wish.directory.clone(),
            member: wish.manifest.member.clone(),
            generation: None,
            outcome: Outcome::Current,
            problem: None,
            expired: !wish.expired.is_empty(),
            failed: Vec::new(),
            flipped: false,
        };
        let opened = self.run.service(&wish.directory).and_then(|service| Ok((service.look()?, service)));
        match opened {
            Err(e) => {
                delivered.outcome = Outcome::Stuck;
                delivered.problem = Some(e.to_string());
                delivered
            }
            Ok((found, service)) => {
                delivered.generation = found.current.as_ref().map(|(n, _)| *n);
                let mut work = Work { wish, service, delivered };
                self.bring_into_line(&mut work, found, fleet);
                work.delivered
            }
        }
    }

    fn bring_into_line(&mut self, work: &mut Work<'_>, mut found: Found, fleet: &mut Fleet) {
        let wish = work.wish;
        if let Some((shown, manifest)) = found.current.clone().filter(|(n, _)| found.settled != Some(*n)) {
            let before = found.generations.iter().copied().filter(|n| *n < shown).max();
            // Whoever showed it was ended before it could tell the service.
            if before.is_some() {
                self.log.say(
                    Level::Notice,
                    Event::Delivery,
                    Some(&wish.directory),
                    &format!("going on with generation {shown}"),
                );
            }
            let case = if before.is_some() { Case::Resumed } else { Case::First };
            self.switch(work, case, (before, shown), &manifest, None);
            found = work.service.look().unwrap_or_default();
        }
        let stopped = |name: &str| wish.stopped.iter().any(|l| l.file == name);
        if let Some((shown, now)) = found.current.clone().filter(|(_, m)| m.files.iter().any(|f| stopped(&f.name))) {
            // What has to go goes first, and by itself: nothing else may hold it up.
            self.log.say(
                Level::Warning,
                Event::Expiry,
                Some(&wish.directory),
                &format!("taken away: {}", lacking(&wish.stopped)),
            );
            let files = now.files.iter().filter(|f| !stopped(&f.name)).cloned().collect();
            let rest = Manifest { files, ..now };
            match carried_over(&work.service, &rest) {
                Ok(values) => {
                    let next = self.number(&wish.directory, &found);
                    self.switch(work, Case::Forced, (Some(shown), next), &rest, Some(values));
                }
                Err(e) => work.fail(Outcome::Stuck, format!("cannot read what stays: {e}")),
            }
            found = work.service.look().unwrap_or_default();
        }
        let current = found.current.as_ref();
        if current.is_some_and(|(_, m)| *m == wish.manifest) && wish.lacks.is_empty() {
            return;
        }
        if !wish.lacks.is_empty() && current.is_some() {
            return work.fail(Outcome::Incomplete, lacking(&wish.lacks));
        }
        let (manifest, values, mut lacks) = self.open(wish, fleet);
        lacks.splice(0..0, wish.lacks.iter().cloned());
        let case = match current {
            None => Case::First,
            Some(_) if !lacks.is_empty() => return work.fail(Outcome::Incomplete, lacking(&lacks)),
            Some(_) => Case::Next,
        };
        if manifest.files.is_empty() && !lacks.is_empty() {
            return work.fail(Outcome::Incomplete, lacking(&lacks));
        }
        let next = self.number(&wish.directory, &found);
        self.switch(work, case, (current.map(|(n, _)| *n), next), &manifest, Some(values));
        if !lacks.is_empty() && work.delivered.problem.is_none() {
            work.fail(Outcome::Incomplete, lacking(&lacks));
        }
    }

    /// The next number, which was never used before.
    fn number(&mut self, directory: &Label, found: &Found) -> u64 {
        let newest = self.memory.generations.entry(directory.clone()).or_default();
        let there = found.generations.last().copied().unwrap_or_default();
        *newest = there.max(*newest).saturating_add(1);
        *newest
    }

    /// Opens what a wish is made of: the files that can be made, with their values, and what keeps the others from it.
    fn open(&mut self, wish: &Wish, fleet: &mut Fleet) -> (Manifest, Vec<Zeroizing<Vec<u8>>>, Vec<Lack>) {
        let (mut files, mut values, mut lacks) = (Vec::new(), Vec::new(), Vec::new());
        for file in &wish.manifest.files {
            match self.value(file, &wish.manifest.member, fleet) {
                Ok(value) => {
                    files.push(file.clone());
                    values.push(value);
                }
                Err(why) => lacks.push(Lack { file: file.name.clone(), why }),
            }
        }
        (Manifest { files, ..wish.manifest.clone() }, values, lacks)
    }

    fn value(&self, file: &ManifestFile, member: &MemberName, fleet: &mut Fleet) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut parts = Vec::new();
        for part in &file.parts {
            let opened = ops::open(&part.address, Some(member), self.home, fleet).map_err(|e| e.to_string())?;
            if opened.version != part.version {
                return Err(format!("{} is at version {} by now", part.address, opened.version));
            }
            parts.push(opened.value);
        }
        Ok(join(&parts))
    }

    /// Goes from one generation to the next, or back.
    fn switch(
        &mut self,
        work: &mut Work<'_>,
        case: Case,
        (old, new): (Option<u64>, u64),
        manifest: &Manifest,
        values: Option<Vec<Zeroizing<Vec<u8>>>>,
    ) {
        let rule = &work.wish.rule;
        let hooks = [&rule.check, &rule.reload, &rule.verify].map(Option::is_some);
        // One that is shown already has only to be settled.
        let (mut switch, mut step) = match values {
            None if case == Case::First => Switch::new(Case::Resumed, [false; 3]),
            _ => Switch::new(case, hooks),
        };
        let values = values.unwrap_or_default();
        loop {
            let result = match step {
                Step::Stage => {
                    let ids = manifest.owner.as_ref().map_or_else(|| Ok(Ids::own()), Ids::of);
                    ids.and_then(|ids| work.service.stage(new, manifest, &values, ids).map_err(|e| e.to_string()))
                }
                Step::Run(phase) => {
                    let back = old.filter(|_| work.delivered.generation == old);
                    let result =
                        self.run_hook(work, phase, if phase == Phase::Check { new } else { back.unwrap_or(new) });
                    if result.is_err() {
                        work.delivered.failed.push(phase);
                    }
                    result
                }
                Step::Flip => work.service.show(new).map_err(|e| e.to_string()).inspect(|()| {
                    work.delivered.generation = Some(new);
                    work.delivered.flipped = true;
                }),
                Step::FlipBack => match old {
                    Some(old) => work.service.show(old).map_err(|e| e.to_string()).inspect(|()| {
                        work.delivered.generation = Some(old);
                    }),
                    None => Err("there is no generation to go back to".to_owned()),
                },
                Step::Discard => work.service.discard(new).map_err(|e| e.to_string()),
                Step::Settle => work.service.settle(new, old).map_err(|e| e.to_string()),
                Step::End(ended) => return self.end(work, ended, &switch, new),
            };
            step = switch.step(result);
        }
    }

    fn run_hook(&self, work: &Work<'_>, phase: Phase, generation: u64) -> Result<(), String> {
        let rule = &work.wish.rule;
        let name = match phase {
            Phase::Check => &rule.check,
            Phase::Reload => &rule.reload,
            Phase::Verify => &rule.verify,
        };
        let Some(name) = name else { return Ok(()) };
        let hooks = self.hooks.as_ref().map_err(Clone::clone)?;
        let hook = hooks.find(name);
        let hook =
            hook.ok_or_else(|| format!("the policy's hook {name} ({}) is not defined on this machine", phase.word()))?;
        let directory: PathBuf = match phase {
            Phase::Check => work.service.path_of(generation),
            Phase::Reload | Phase::Verify => work.service.path().join("current"),
        };
        let call = HookCall { phase, member: &work.wish.manifest.member, directory, generation };
        run_hook(hook, &call).map_err(|e| format!("{} hook {name}: {e}", phase.word()))
    }

    fn end(&self, work: &mut Work<'_>, ended: Ended, switch: &Switch, new: u64) {
        let problem = switch.problem().map(str::to_owned);
        let outcome = match ended {
            Ended::Delivered => {
                let text = format!("generation {new} is shown");
                self.log.say(Level::Info, Event::Delivery, Some(&work.wish.directory), &text);
                Outcome::Current
            }
            Ended::NotStaged => Outcome::Incomplete,
            Ended::Refused => Outcome::Refused,
            Ended::RolledBack => Outcome::RolledBack,
            Ended::Stuck => Outcome::Stuck,
        };
        work.delivered.outcome = outcome;
        if let Some(problem) = problem {
            work.fail(outcome, problem);
        }
    }
}

impl Work<'_> {
    fn fail(&mut self, outcome: Outcome, problem: String) {
        self.delivered.outcome = outcome;
        self.delivered.problem.get_or_insert(problem);
    }
}

/// Values one after the other, each beginning a line.
fn join(parts: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    let size = parts.iter().map(|p| p.len() + 1).sum();
    let mut whole = Zeroizing::new(Vec::with_capacity(size));
    for (i, part) in parts.iter().enumerate() {
        whole.extend_from_slice(part);
        if i + 1 < parts.len() && part.last() != Some(&b'\n') {
            whole.push(b'\n');
        }
    }
    whole
}

/// What the present generation holds of a manifest.
fn carried_over(service: &ServiceDirectory, manifest: &Manifest) -> std::io::Result<Vec<Zeroizing<Vec<u8>>>> {
    let reader = open_generation(service.path())?;
    manifest.files.iter().map(|file| reader.read(&file.name, SECRET_BYTES_MAX)).collect()
}

fn lacking(lacks: &[Lack]) -> String {
    lacks.iter().map(|l| format!("{}: {}", l.file, l.why)).collect::<Vec<_>>().join("; ")
}

/// What readers have, in words.
fn kept(delivered: &Delivered) -> String {
    match delivered.generation {
        Some(n) => format!("generation {n} is served"),
        None => "nothing is served yet".to_owned(),
    }
}
