//! A fleet's life with all that an auditor asks about: admissions, rotations in time and late, a policy that became weaker, a
//! theft with what followed and what did not, an attempt that was void.

use keys::audit::{Collector, Head, Report};
use keys::digest::Digest;
use keys::name::{Address, Slot};
use keys::ops::{self, Selection};
use keys::state::{Objects as _, Prepared, Replay, Watch as _};
use keys::statement::{Act, Activate, PolicyUpdate, RetireReason};
use keys::time::{Span, Time};

use crate::support::Sandbox;
use crate::support::stage::{NOW, Stage, member};

/// What somebody writes who would like to be read by more than people.
pub(crate) const HOSTILE: &str = r#"</script><script>alert(1)</script>]]><img src=x onerror="alert(2)"> & 'so on'"#;

/// The fleet, and its entries with one more: an attempt of alice's that lacks bob.
pub(crate) struct Life {
    pub stage: Stage,
    pub entries: Vec<Vec<u8>>,
}

/// So many days after the founding.
pub(crate) fn day(n: u64) -> Time {
    NOW.plus(Span::days(n))
}

impl Life {
    pub(crate) fn lived(sandbox: &Sandbox) -> Self {
        let mut stage = Stage::found(sandbox, &["alice", "bob"]);
        stage.join(sandbox, "fra1", &["nginx"]);
        stage.join(sandbox, "ams1", &["nginx"]);
        seal(&mut stage, "nginx@fra1/tls.key");
        seal(&mut stage, "fra1/token");
        seal(&mut stage, "ams1/token");
        stage.now = day(20);
        weaken(&mut stage);
        stage.now = day(50);
        rotate(&mut stage, "ams1", Slot::Wireguard);
        rotate(&mut stage, "nginx@ams1", Slot::Openpgp);
        stage.now = day(60);
        stage.carry(|fleet, home| {
            let plan = ops::plan_revoke(&member("fra1"), RetireReason::Compromised, home, fleet).unwrap();
            vec![plan.draft("stolen from the rack")]
        });
        stage.now = day(62);
        stage.carry(|fleet, _| vec![ops::plan_remove(&address("nginx@fra1/tls.key"), HOSTILE, fleet).unwrap()]);
        stage.now = day(63);
        let entries = [stage.entries(), vec![attempt(&stage)]].concat();
        Self { stage, entries }
    }

    /// The report on a period of it, made on day `now`.
    pub(crate) fn report(&self, from: Option<Time>, to: Option<Time>, now: Time) -> Report {
        let mut collector = Collector::new(self.stage.keyring.clone(), from, to);
        let mut replay = Replay::new("cdn.example/keys/1".to_owned(), self.stage.keyring.clone());
        for entry in &self.entries {
            collector.before(replay.state(), &Prepared::plain(entry.clone()));
            let verdict = replay.apply(entry).unwrap();
            collector.after(&verdict, replay.state().unwrap());
        }
        let signed_by = vec!["cdn.example/keys/1".to_owned()];
        let head = Head { size: replay.size(), root: Digest::of(b"root"), signed_by, published: None, now };
        collector.finish(&head, replay.state().unwrap()).unwrap()
    }
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn seal(stage: &mut Stage, to: &str) {
    stage.carry(|fleet, home| {
        let plan = ops::plan_seal(&address(to), fleet).unwrap();
        vec![ops::seal(&plan, b"value", "first value", None, home, fleet).unwrap()]
    });
}

fn rotate(stage: &mut Stage, who: &str, slot: Slot) {
    stage.carry(|fleet, _| {
        let selection = Selection { members: Some(who.parse().unwrap()), slot: Some(slot), due: false, soon: true };
        ops::plan_rotate(&selection, fleet.state(), fleet.now()).unwrap().drafts("rotated")
    });
}

/// From now on one operator and an authority admit a PoP.
fn weaken(stage: &mut Stage) {
    stage.carry(|fleet, _| {
        let state = fleet.state();
        let mut policy = state.policy.files.clone();
        let text = String::from_utf8(fleet.store().object(&policy["fleet.toml"]).unwrap()).unwrap();
        let (from, to) = ("need = { operator = 2, authority = 1 }", "need = { operator = 1, authority = 1 }");
        assert!(text.contains(from));
        let text = text.replace(from, to);
        policy.insert("fleet.toml".to_owned(), Digest::of(text.as_bytes()));
        let change = PolicyUpdate { generation: state.policy.version + 1, policy, prev: state.policy.prev };
        vec![keys::fleet::Draft::with(Act::PolicyUpdate(change), "quicker admission", vec![text.into_bytes()])]
    });
}

/// A rotation out of turn that only alice signs.
fn attempt(stage: &Stage) -> Vec<u8> {
    let replay = stage.replay();
    let keys = replay.state().unwrap().members[&member("ams1")].slot(Slot::Openpgp).unwrap();
    let change = Activate {
        generation: keys.generation + 1,
        key: keys.standbys().next().unwrap().key.clone(),
        member: member("ams1"),
        prev: keys.prev,
        slot: Slot::Openpgp,
    };
    let mut statement = stage.statement(&replay, "alice", Act::Activate(vec![change]));
    statement.at = stage.now;
    statement.reason = "in a hurry".to_owned();
    let line = stage.line(&replay, "alice", &statement);
    Stage::entry(&statement, vec![line])
}
