//! The commands that are interrupted, each on its own small fleet.

use std::sync::OnceLock;

use keys::fleet::Fleet;
use keys::name::Slot;

use super::super::check::Expected;
use super::super::disk::Fault;
use super::super::estate::{Command, Estate};

/// A command on an estate, and what has to be true once it was run again and everybody has caught up.
pub(in crate::faults) struct Scenario {
    pub name: &'static str,
    pub base: fn() -> Estate,
    pub who: &'static str,
    pub command: Command,
    /// What the others, or the same, run afterwards. Whoever crashed is among them if the command, run again, may find
    /// nothing to do: what it left in a home goes with the next command that changes something there.
    pub settle: &'static [(&'static str, Command)],
    pub reached: fn(&mut Fleet, &Estate) -> Result<(), String>,
    /// The values that the secret may have until the command is done, and the one it has then.
    pub values: (&'static [&'static str], &'static str),
}

impl Scenario {
    /// What holds whatever happens to the command, if so many entries were acknowledged; which ones is not known.
    pub(in crate::faults) fn expected(&self, acknowledged: usize) -> Expected {
        Expected { entries: Vec::new(), acknowledged, values: [(SECRET, self.values.0.to_vec())].into() }
    }

    /// The file operations of the command when nothing fails, by number: those that change something, and the others.
    pub(in crate::faults) fn operations(&self) -> (Vec<u64>, Vec<u64>) {
        let estate = (self.base)();
        estate.machine.set_fault(Fault::None);
        estate.run(self.who, &self.command).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let writes = estate.machine.writes();
        (1..=estate.machine.operations()).partition(|at| writes.contains(at))
    }
}

/// The one secret of these fleets.
pub(in crate::faults) const SECRET: &str = "fra1/token";

fn base(cell: &'static OnceLock<Estate>, make: fn() -> Estate) -> Estate {
    let estate = cell.get_or_init(|| {
        let made = make();
        made.on(made.machine.fork(1))
    });
    estate.on(estate.machine.killed())
}

/// Alice and her authority casc1.
fn founded() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = Estate::new();
        estate.did("alice", &Command::Init { second: None });
        estate
    })
}

/// The same, and a request of fra1 with a service.
fn asked() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = founded();
        estate.did("fra1", &Command::Enroll("fra1", Some("nginx")));
        estate
    })
}

/// The same with the PoP fra1 as a member, and a secret of its.
fn joined() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = founded();
        estate.did("fra1", &Command::Enroll("fra1", None));
        estate.did("alice", &Command::Approve);
        estate.did("alice", &Command::Seal(SECRET, "old"));
        estate
    })
}

/// The same, and fra1's standbys have become active.
fn rotated() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = joined();
        estate.did("alice", &Command::Rotate("fra1"));
        estate
    })
}

/// The same, and fra1 has handed in its next standbys.
fn handed_in() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = rotated();
        estate.did("fra1", &Command::Sync);
        estate
    })
}

/// A founding that waits for bob.
fn two_founders() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = Estate::new();
        let request = estate.ask_to_found("bob");
        estate.did("alice", &Command::Init { second: Some(request) });
        estate
    })
}

/// A founding that waits for whoever has the log's key.
fn two_signed() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = two_founders();
        estate.did("bob", &Command::Approve);
        estate
    })
}

/// Alice and bob, founded.
fn two() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = two_signed();
        estate.did("alice", &Command::Approve);
        estate.did("bob", &Command::Sync);
        estate.did("alice", &Command::Sync);
        estate
    })
}

/// A rotation that waits for bob.
fn proposed() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = two();
        estate.did("alice", &Command::Rotate("casc1"));
        estate
    })
}

/// A rotation that bob has approved.
fn approved() -> Estate {
    static CELL: OnceLock<Estate> = OnceLock::new();
    base(&CELL, || {
        let mut estate = proposed();
        estate.did("bob", &Command::Approve);
        estate
    })
}

const ALICE: (&str, Command) = ("alice", Command::Sync);
const BOB: (&str, Command) = ("bob", Command::Sync);
const FRA1: (&str, Command) = ("fra1", Command::Sync);
const ALICE_APPROVES: (&str, Command) = ("alice", Command::Approve);
const BOB_APPROVES: (&str, Command) = ("bob", Command::Approve);
const FOUNDED: &[(&str, Command)] = &[ALICE_APPROVES, BOB, ALICE];

fn anything(_: &mut Fleet, _: &Estate) -> Result<(), String> {
    Ok(())
}

fn is_pinned(fleet: &mut Fleet, estate: &Estate) -> Result<(), String> {
    let pin = estate.home("alice").pin().map_err(|e| e.to_string())?;
    if pin.as_ref() == Some(&fleet.pin()) { Ok(()) } else { Err("the founder's home has no pin".to_owned()) }
}

fn has_asked(fleet: &mut Fleet, estate: &Estate) -> Result<(), String> {
    if estate.home("fra1").pin().map_err(|e| e.to_string())?.as_ref() != Some(&fleet.pin()) {
        return Err("the home of fra1 has no pin".to_owned());
    }
    match estate.requests().map_err(|e| e.to_string())?.len() {
        1 => Ok(()),
        n => Err(format!("{n} requests wait")),
    }
}

fn is_member(fleet: &mut Fleet, estate: &Estate) -> Result<(), String> {
    if !fleet.state().members.contains_key(&"nginx@fra1".parse().map_err(|_| "a name")?) {
        return Err("nginx@fra1 is no member".to_owned());
    }
    nothing_waits(fleet, estate)
}

fn nothing_waits(fleet: &mut Fleet, estate: &Estate) -> Result<(), String> {
    let proposals = fleet.proposals().map_err(|e| e.to_string())?;
    if let Some(proposal) = proposals.first() {
        let standing = fleet.standing(proposal).map_err(|e| e.to_string())?;
        return Err(format!("a proposal waits for ever: {} {standing:?}", proposal.signed.statement.act.name()));
    }
    match estate.requests().map_err(|e| e.to_string())?.len() {
        0 => Ok(()),
        _ => Err("a request waits for ever".to_owned()),
    }
}

/// Every slot has a standby, every secret is sealed to the keys of today, nothing waits.
fn in_line(fleet: &mut Fleet, estate: &Estate) -> Result<(), String> {
    nothing_waits(fleet, estate)?;
    let state = fleet.state();
    if let Some((member, slot)) = state.missing_standbys().find(|(_, slot)| *slot != Slot::Log) {
        return Err(format!("{member} has no {slot} standby"));
    }
    match state.live_secrets().find(|(address, secret)| state.drift(address, secret).is_some()) {
        Some((address, _)) => Err(format!("{address} has drifted")),
        None => Ok(()),
    }
}

fn has_left(fleet: &mut Fleet, estate: &Estate) -> Result<(), String> {
    if fleet.state().members.get(&"fra1".parse().map_err(|_| "a name")?).is_some_and(|m| m.is_active()) {
        return Err("fra1 is a member still".to_owned());
    }
    nothing_waits(fleet, estate)
}

/// Every command that changes something.
pub(in crate::faults) fn all() -> Vec<Scenario> {
    let scenario = |name, base, who, command, settle, reached, values| Scenario {
        name,
        base,
        who,
        command,
        settle,
        reached,
        values,
    };
    let same = (&["old"][..], "old");
    let none = (&[][..], "");
    vec![
        scenario("init", Estate::new, "alice", Command::Init { second: None }, &[], is_pinned, none),
        scenario("enroll", founded, "fra1", Command::Enroll("fra1", Some("nginx")), &[ALICE], has_asked, none),
        scenario("approve a request", asked, "alice", Command::Approve, &[ALICE], is_member, none),
        scenario("seal", joined, "alice", Command::Seal(SECRET, "new"), &[], anything, (&["old", "new"], "new")),
        scenario("rotate", joined, "alice", Command::Rotate("*"), &[ALICE], nothing_waits, same),
        scenario("sync of a PoP", rotated, "fra1", Command::Sync, &[ALICE, FRA1, ALICE], in_line, same),
        scenario("sync of the log's owner", handed_in, "alice", Command::Sync, &[FRA1, ALICE], in_line, same),
        scenario("revoke", joined, "alice", Command::Revoke("fra1"), &[], has_left, same),
        scenario("approve a founding", two_founders, "bob", Command::Approve, FOUNDED, nothing_waits, none),
        scenario("complete a founding", two_signed, "alice", Command::Approve, &[ALICE], nothing_waits, none),
        scenario("propose", two, "alice", Command::Rotate("casc1"), &[BOB_APPROVES, ALICE, BOB, ALICE], in_line, none),
        scenario("approve a proposal", proposed, "bob", Command::Approve, &[ALICE], in_line, none),
        scenario("take a proposal in", approved, "alice", Command::Sync, &[BOB, ALICE], in_line, none),
    ]
}
