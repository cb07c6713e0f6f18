//! The ways in which relatives of this design have counted one signer twice, or taken a quorum that is none for one, as
//! vectors: one row each, named after where it happened.

use keys::log::note::SignatureLine;
use keys::name::{FleetName, Slot};
use keys::openpgp::Fingerprint;
use keys::state::{Replay, Void};
use keys::statement::{Act, Activate, Statement, key_hash, principal};
use keys::store::Store;
use keys::time::Span;
use sequoia_openpgp::Packet;
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::packet::signature::subpacket::{NotationData, NotationDataFlags, Subpacket, SubpacketValue};
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::types::{HashAlgorithm, SignatureType};

use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, TestFleet, tests};

tests!["counting":
    one_signer_counts_once_however_it_is_shown,
    a_quorum_that_is_none_is_refused_before_it_is_proposed,
    an_act_without_a_rule_is_nobodys,
];

/// What a vector is made of.
struct Ground<'a> {
    stage: &'a Stage,
    replay: &'a Replay<Store>,
    statement: &'a Statement,
}

impl Ground<'_> {
    fn line(&self) -> SignatureLine {
        self.stage.line(self.replay, "alice", self.statement)
    }

    fn keys(&self) -> Vec<String> {
        let slot = self.replay.state().unwrap().members[&member("alice")].slot(Slot::Sign).unwrap();
        slot.usable().map(|k| k.key.clone()).collect()
    }

    /// A line of alice's whose signature names another of her user ids.
    fn as_user_id(&self, user_id: &str) -> SignatureLine {
        let fingerprint = Fingerprint::from_hex(&self.keys()[0]).unwrap();
        let mut pair = self.stage.homes[&member("alice")].key_pair(&member("alice"), &fingerprint).unwrap().unwrap();
        let signature = SignatureBuilder::new(SignatureType::Binary)
            .set_hash_algo(HashAlgorithm::SHA512)
            .set_signature_creation_time(self.statement.at.to_system())
            .and_then(|b| b.set_issuer_fingerprint(fingerprint.clone()))
            .and_then(|b| b.set_signers_user_id(user_id))
            .and_then(|b| {
                let flags = NotationDataFlags::empty().set_human_readable();
                b.set_notation("log@cdn.example", "cdn.example/keys/1", flags, false)
            })
            .and_then(|b| b.sign_message(&mut pair, self.statement.to_bytes().unwrap()))
            .unwrap();
        SignatureLine { signature: Packet::from(signature).to_vec().unwrap(), ..self.line() }
    }

    /// The same signature in other bytes: something more in the part that is not signed.
    fn encoded_anew(&self) -> SignatureLine {
        let line = self.line();
        let Packet::Signature(mut signature) = Packet::from_bytes(&line.signature).unwrap() else { panic!("a packet") };
        let note = NotationData::new("n@m.example", "x", NotationDataFlags::empty().set_human_readable());
        let more = Subpacket::new(SubpacketValue::NotationData(note), false).unwrap();
        signature.unhashed_area_mut().add(more).unwrap();
        let changed = Packet::from(signature).to_vec().unwrap();
        assert_ne!(changed, line.signature);
        SignatureLine { signature: changed, ..line }
    }

    /// alice's key under bob's name, key hash and all.
    fn as_bob(&self) -> SignatureLine {
        let fleet: FleetName = "cdn.example".parse().unwrap();
        let name = principal(&fleet, &member("bob"));
        let fingerprint = Fingerprint::from_hex(&self.keys()[0]).unwrap();
        SignatureLine { key_hash: key_hash(&name, &fingerprint), name, ..self.line() }
    }
}

/// A vector: where it happened, what it is, and its lines, all of which are alice's.
type Vector = (&'static str, &'static str, fn(&Ground<'_>) -> Vec<SignatureLine>);

const VECTORS: [Vector; 9] = [
    ("python-tuf GHSA-pwqf-9h7j-7mv8", "one signature listed twice", |g| vec![g.line(), g.line()]),
    ("rust-tuf issue 283", "one signature listed sixteen times", |g| vec![g.line(); 16]),
    ("tough GHSA-5q2r-92f9-4m49", "two signatures by one key", |g| {
        let later = g.stage.line_by("alice", &g.keys()[0], g.statement, g.statement.at.plus(Span(1)));
        vec![g.line(), later]
    }),
    ("php-tuf issue 154", "one signature, encoded in two ways", |g| vec![g.line(), g.encoded_anew()]),
    ("go-tuf issue 369", "one key in two spellings of its key hash", |g| {
        vec![g.line(), SignatureLine { key_hash: [0; 4], ..g.line() }]
    }),
    ("go-tuf issue 733", "one key under two names", |g| vec![g.line(), g.as_bob()]),
    ("the same family", "two subkeys of one certificate, active and standby", |g| {
        g.keys().iter().map(|k| g.stage.line_by("alice", k, g.statement, g.statement.at)).collect()
    }),
    ("the same family", "two user ids of one certificate", |g| {
        vec![g.as_user_id("Alice <alice@ops.example>"), g.as_user_id("A. <a@private.example>")]
    }),
    ("sigstore-go CVE-2026-49834", "one signer twice, with a stranger between", |g| {
        vec![g.line(), SignatureLine { name: "cdn.example/mallory".into(), ..g.line() }, g.encoded_anew()]
    }),
];

fn one_signer_counts_once_however_it_is_shown(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    stage.join(sandbox, "fra1", &[]);
    let mut replay = stage.replay();
    let keys = replay.state().unwrap().members[&member("fra1")].slot(Slot::Openpgp).unwrap();
    let act = Act::Activate(vec![Activate {
        generation: keys.generation + 1,
        key: keys.standbys().next().unwrap().key.clone(),
        member: member("fra1"),
        prev: keys.prev,
        slot: Slot::Openpgp,
    }]);
    let statement = stage.statement(&replay, "alice", act);
    for (place, what, lines) in VECTORS {
        let lines = lines(&Ground { stage: &stage, replay: &replay, statement: &statement });
        assert!(lines.len() > 1, "{place}");
        let verdict = replay.preview(&Stage::entry(&statement, lines.clone())).unwrap();
        let missing = match &verdict.void[..] {
            [(0, Void::Quorum { missing, .. })] => missing.as_str(),
            other => panic!("{place}: {what}: {other:?}"),
        };
        assert_eq!((verdict.applied, missing), (0, "1 more operator"), "{place}: {what}");
        // It is one signature all the same: with bob's there are two.
        let both = [&lines[..1], &[stage.line(&replay, "bob", &statement)]].concat();
        assert_eq!(replay.preview(&Stage::entry(&statement, both)).unwrap().applied, 1, "{place}: {what}");
    }
    // A signature that was encoded anew does count, once: what is not signed does not matter.
    let anew = Ground { stage: &stage, replay: &replay, statement: &statement }.encoded_anew();
    let both = vec![anew, stage.line(&replay, "bob", &statement)];
    assert_eq!(replay.preview(&Stage::entry(&statement, both)).unwrap().applied, 1);
}

/// TUF's CVE-2026-23992 and its like: a threshold of nobody, or of more than there are.
fn a_quorum_that_is_none_is_refused_before_it_is_proposed(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let update = "[[quorum]]\nact = \"policy.update\"\nneed = { root = 2 }\n";
    for (from, to, part) in [
        ("need = { operator = 2 }", "need = { operator = 0 }", "need has operator = 0"),
        ("need = { operator = 2 }", "need = { operator = -1 }", "invalid value: integer `-1`"),
        ("need = { operator = 2 }", "need = { operator = 3 }", "needs operator = 3 and there are 2"),
        ("need = { operator = 2 }", "need = { operator = 4294967296 }", "invalid value: integer `4294967296`"),
        ("need = { operator = 2 }", "need = {}", "nobody's signature"),
        ("need = { operator = 2 }\n", "", "missing field `need`"),
        ("need = { operator = 2 }", "need = { operator = 2, operator = 2 }", "duplicate key"),
        ("authority = 1", "authority = 2", "needs authority = 2 and there are 1"),
        ("need = { root = 2 }", "need = { root = 3 }", "needs 3 of root, which has 2 members"),
        ("root = [\"alice\", \"bob\"]", "root = [\"alice\", \"bob\", \"bob\"]", "somebody twice"),
        ("root = [\"alice\", \"bob\"]", "root = [\"alice\", \"carol\"]", "root names carol, who is no operator"),
        ("root = [\"alice\", \"bob\"]", "root = []", "names nobody"),
        ("operators = 2", "operators = 3", "operators = 3 and there are 2"),
        (update, "", "nobody could ever change the policy again"),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        for verb in ["check", "propose"] {
            let args = if verb == "check" { vec!["policy", verb] } else { vec!["policy", verb, "--yes"] };
            fleet.keys("alice", &args).refuses(1, part);
        }
    }
    std::fs::write(&path, &good).unwrap();
    fleet.keys("alice", &["policy", "check"]).ok();
    assert_eq!(fleet.keys("alice", &["approve", "--json"]).json()["waiting"], serde_json::json!([]));
}

fn an_act_without_a_rule_is_nobodys(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    let path = sandbox.path("fleet/policy/fleet.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let rule = "[[quorum]]\nact = \"ssh.revoke\"\nneed = { operator = 1 }\n";
    assert!(good.contains(rule));
    let rotation = "[[quorum]]\nact = \"key.activate\"\nwhen = \"unscheduled\"\nneed = { operator = 1 }\n";
    std::fs::write(&path, good.replacen(rule, "", 1).replacen(rotation, "", 1)).unwrap();
    let said = fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    assert!(said.contains("key.activate (unscheduled) takes nobody instead of operator 1"), "{said}");
    let ran = fleet.keys("alice", &["rotate", "fra1", "--slot", "wireguard", "--yes"]);
    ran.refuses(1, "the policy has no rule that allows key.activate (unscheduled)");
    assert!(ran.stderr().contains("act = \"key.activate\""), "{}", ran.stderr());
    assert!(fleet.keys("alice", &["approve"]).stderr().contains("nothing waits"), "it has become no proposal");
    // Only an objection needs no rule: nobody may be left unable to stop something.
    let objection = "[[quorum]]\nact = \"proposal.object\"\nneed = { operator = 1 }\n";
    let by_authority = objection.replace("operator", "authority");
    let without = good.replacen(objection, "", 1).replacen(&by_authority, "", 1);
    assert!(!without.contains("proposal.object"));
    std::fs::write(&path, without).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let id = "00".repeat(32);
    fleet.keys("alice", &["object", &id, "--reason", "a drill", "--yes"]).ok();
}
