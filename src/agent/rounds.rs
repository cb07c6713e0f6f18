//! What follows what while an agent runs, and when.
//!
//! It starts without touching any network: what lies on the disk is opened and delivered, and then it is READY. Only then do
//! rounds begin: pull, catch up, open, deliver, acknowledge, wait. Whatever fails in a round is over with that round; the
//! next one comes after the same interval as ever, since growing ones neither lower the peak after an outage nor help anybody
//! to recover (docs/decisions/0097-rounds-come-at-a-constant-interval.md).

use std::time::Duration;

use rand::{CryptoRng, RngExt as _};

use crate::digest::Digest;

/// From one round to the next, give or take a tenth.
pub const INTERVAL: Duration = Duration::from_secs(300);

/// When rounds come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    interval: Duration,
}

impl Schedule {
    /// Rounds at this interval.
    pub fn every(interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_millis(1)) }
    }

    /// How long after its start a node of this name has its first round: the same each time, and spread evenly over names.
    pub fn splay(self, name: &str) -> Duration {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(name.as_bytes()).0;
        let millis = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(u64::from_be_bytes([a, b, c, d, e, f, g, h]) % millis)
    }

    /// How long until the next round.
    pub fn pause(self, rng: &mut impl CryptoRng) -> Duration {
        self.interval.mul_f64(rng.random_range(0.9..=1.1))
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Open the fleet that lies on the disk.
    Open,
    /// Bring the services' directories into line with it.
    Deliver,
    /// Say that this machine serves.
    Ready,
    /// Fetch what is new.
    Pull,
    /// Make, publish and renew what this machine owes.
    Sync,
    /// Sign what this machine has come to.
    Acknowledge,
    /// Write the numbers, and wait for the next round.
    Rest,
    /// End.
    End,
}

/// How the last act went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It is done.
    Done,
    /// It failed; what was there is still there.
    Failed,
    /// Somebody wants the agent to end.
    Stop,
}

/// The agent's rounds.
#[derive(Debug, Clone)]
pub struct Rounds {
    last: Act,
    ready: bool,
    pulled: bool,
    /// How many are left; none runs on and on.
    left: Option<u64>,
    /// Whether something lies in the services' directories although the fleet could not be opened.
    serving: bool,
}

impl Rounds {
    /// A start. `rounds` is how many are to be made, without a wait before the first; none runs on and on. `serving` is
    /// whether what an agent before this one delivered is there.
    pub fn start(rounds: Option<u64>, serving: bool) -> (Self, Act) {
        (Self { last: Act::Open, ready: false, pulled: false, left: rounds, serving }, Act::Open)
    }

    /// Whether it has said that it serves.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether a round has begun; before that it rests for its splay.
    pub fn has_begun(&self) -> bool {
        self.pulled
    }

    /// What follows.
    pub fn step(&mut self, happened: Happened) -> Act {
        let done = happened == Happened::Done;
        self.last = match self.last {
            _ if happened == Happened::Stop => Act::End,
            Act::Open if done => Act::Deliver,
            // Nothing new can be delivered. Whatever lies there is served, if anything does.
            Act::Open if !self.ready && self.serving => Act::Ready,
            // Without anything to serve there is nothing to wait for.
            Act::Open if !self.pulled => Act::Pull,
            Act::Open | Act::Acknowledge => self.after_round(),
            Act::Deliver if !self.ready => Act::Ready,
            Act::Deliver => Act::Acknowledge,
            Act::Ready if self.pulled => Act::Acknowledge,
            Act::Ready => match self.left {
                None => Act::Rest,
                Some(0) => Act::End,
                Some(_) => Act::Pull,
            },
            Act::Pull => Act::Sync,
            Act::Sync => Act::Open,
            Act::Rest => Act::Pull,
            Act::End => Act::End,
        };
        self.ready |= self.last == Act::Ready;
        self.pulled |= self.last == Act::Pull;
        self.last
    }

    fn after_round(&mut self) -> Act {
        self.left = self.left.map(|n| n.saturating_sub(1));
        if self.left == Some(0) { Act::End } else { Act::Rest }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn acts(rounds: Option<u64>, serving: bool, failing: &[Act], count: usize) -> Vec<Act> {
        let (mut machine, mut act) = Rounds::start(rounds, serving);
        let mut acts = Vec::new();
        while acts.len() < count && act != Act::End {
            acts.push(act);
            act = machine.step(if failing.contains(&act) { Happened::Failed } else { Happened::Done });
        }
        if act == Act::End {
            acts.push(act);
        }
        acts
    }

    const ROUND: [Act; 6] = [Act::Pull, Act::Sync, Act::Open, Act::Deliver, Act::Acknowledge, Act::Rest];

    #[test]
    fn it_serves_before_it_asks_anybody() {
        let start = [Act::Open, Act::Deliver, Act::Ready, Act::Rest];
        assert_eq!(acts(None, false, &[], 16), [&start[..], &ROUND, &ROUND].concat());
        // Servers that are away, and services that fail, change nothing of the order.
        let failing = [Act::Pull, Act::Sync, Act::Deliver, Act::Acknowledge];
        assert_eq!(acts(None, false, &failing, 16), [&start[..], &ROUND, &ROUND].concat());
    }

    #[test]
    fn without_a_fleet_it_serves_what_lies_there_or_looks_for_one() {
        let once = [Act::Open, Act::Ready, Act::Rest, Act::Pull, Act::Sync, Act::Open, Act::Rest];
        assert_eq!(acts(None, true, &[Act::Open], 7), once);
        let without =
            [Act::Open, Act::Pull, Act::Sync, Act::Open, Act::Rest, Act::Pull, Act::Sync, Act::Open, Act::Rest];
        assert_eq!(acts(None, false, &[Act::Open], 9), without);
        let (mut machine, _) = Rounds::start(None, false);
        machine.step(Happened::Failed);
        for act in [Act::Sync, Act::Open, Act::Deliver, Act::Ready, Act::Acknowledge, Act::Rest] {
            assert_eq!(machine.step(Happened::Done), act);
        }
        assert!(machine.is_ready());
    }

    #[test]
    fn it_ends_after_its_rounds_or_when_it_is_told() {
        let once = [&[Act::Open, Act::Deliver, Act::Ready][..], &ROUND[..5], &[Act::End]].concat();
        assert_eq!(acts(Some(1), false, &[], 99), once);
        assert_eq!(acts(Some(1), false, &[Act::Open], 99), [Act::Open, Act::Pull, Act::Sync, Act::Open, Act::End]);
        assert_eq!(acts(Some(0), false, &[], 99), [Act::Open, Act::Deliver, Act::Ready, Act::End]);
        let (mut machine, _) = Rounds::start(None, true);
        for _ in 0..9 {
            let mut ended = machine.clone();
            assert_eq!(ended.step(Happened::Stop), Act::End);
            assert_eq!(ended.step(Happened::Done), Act::End);
            machine.step(Happened::Done);
        }
    }

    /// When nodes ask, second by second, over `hours`, all of them started in one second.
    fn asked(nodes: u64, hours: u64) -> Vec<u32> {
        let schedule = Schedule::every(INTERVAL);
        let mut rng = StdRng::seed_from_u64(8);
        let mut seconds = vec![0_u32; (hours * 3_600) as usize];
        for node in 0..nodes {
            let mut at = schedule.splay(&format!("pop{node}"));
            while let Some(count) = seconds.get_mut(at.as_secs() as usize) {
                *count += 1;
                at += schedule.pause(&mut rng);
            }
        }
        seconds
    }

    #[test]
    fn eight_thousand_nodes_ask_evenly_also_after_an_outage() {
        // Nobody asks sooner or later because a server is away, so that an outage ends at any second of this.
        let seconds = asked(8_000, 3);
        let mean = 8_000.0 / INTERVAL.as_secs_f64();
        let peak = *seconds.iter().max().unwrap();
        assert!(f64::from(peak) < 2.2 * mean, "at most {peak} in a second, {mean:.0} on average");
        for outage in [600, 3_600, 7_000] {
            // Whoever comes back has everybody within one interval and a tenth.
            let back: u32 = seconds[outage..outage + 331].iter().sum();
            assert!(back >= 8_000, "{back} asked within 331 s of second {outage}");
        }
    }

    #[test]
    fn a_splay_is_a_names_own() {
        let schedule = Schedule::every(INTERVAL);
        assert_eq!(schedule.splay("fra1"), schedule.splay("fra1"));
        assert_ne!(schedule.splay("fra1"), schedule.splay("fra2"));
        assert!((0..1_000).all(|n| schedule.splay(&format!("pop{n}")) < INTERVAL));
    }
}
