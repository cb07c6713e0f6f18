//! Certificates of a small fleet, honest ones and forged ones.

use sequoia_openpgp as pgp;

use pgp::crypto::KeyPair;
use pgp::packet::key::{Key4, PrimaryRole, SecretParts};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::trust::TrustedCosigner;
use super::*;
use crate::log::checkpoint::Checkpoint;
use crate::log::cosign::CosignerSecret;
use crate::log::merkle::{leaf, node};
use crate::log::note::{Note, SignatureLine, SignerKey};
use crate::log::proof::Proof;
use crate::name::{FleetName, Kind, MemberName};
use crate::openpgp::{PublicKey, sign_statement};
use crate::policy::{CosignerKind, Role};
use crate::ssh::{
    CaSigner, CertificateBody, CertificateError, CertificateFields, CertificateKind, Nonce, Principal, Serial,
    SshCertificate, SshPrivateKey, Staple, issue,
};
use crate::statement::{Act, Entry, Issue, Signed, Statement, key_hash, principal};
use crate::time::{Span, Time};

const LOG: &str = "cdn.example/keys/1";
const INDEX: u64 = 1;

fn fleet() -> FleetName {
    "cdn.example".parse().unwrap()
}

fn now() -> Time {
    Time(1_795_244_400)
}

fn name(text: &str) -> MemberName {
    text.parse().unwrap()
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A member's signing key.
#[derive(Clone)]
struct Hand(pgp::packet::Key<SecretParts, PrimaryRole>);

impl Hand {
    fn new() -> Self {
        let mut key: Key4<SecretParts, PrimaryRole> = Key4::generate_ed25519().unwrap();
        key.set_creation_time((now().minus(Span::days(1))).to_system()).unwrap();
        Self(key.into())
    }

    fn public(&self) -> PublicKey {
        self.0.clone().parts_into_public().role_into_unspecified()
    }

    fn line(&self, member: &str, signed: &Signed) -> SignatureLine {
        let mut pair: KeyPair = self.0.clone().role_into_unspecified().into_keypair().unwrap();
        let at = signed.statement.at;
        let signature = sign_statement(&mut pair, &fleet(), LOG, &signed.body, at).unwrap();
        let name = principal(&fleet(), &name(member));
        SignatureLine { key_hash: key_hash(&name, &self.public().fingerprint()), name, signature }
    }
}

/// Everybody's keys, and what a node knows of them.
struct World {
    log: SignerKey,
    witness: CosignerSecret,
    ca: CaSigner,
    alice: Hand,
    casc1: Hand,
    trust: Trust,
}

/// How a certificate comes about, each step as it should be unless a test changes it.
struct Order {
    fields: CertificateFields,
    statement: Statement,
    signers: Vec<(&'static str, Hand)>,
    witnessed: bool,
    index: u64,
    of: FleetName,
}

impl World {
    fn new() -> Self {
        let (log, witness) =
            (SignerKey::generate(LOG, &mut rng(1)), CosignerSecret::generate("w.example/1", &mut rng(2)));
        let (alice, casc1) = (Hand::new(), Hand::new());
        let member = |kind, roles: &[Role], hand: &Hand, principals: &[&str]| TrustedMember {
            kind,
            roles: roles.iter().copied().collect(),
            keys: vec![TrustedKey { key: hand.public(), until: None }],
            principals: principals.iter().map(|p| (*p).to_owned()).collect(),
        };
        let terms = UserTerms {
            lifetime: 16 * 3600,
            critical_options: [].into(),
            extensions: ["permit-pty".to_owned()].into(),
            quorums: vec![[(Role::Own, 1), (Role::Authority, 1)].into()],
        };
        let text = |value: serde_json::Value| crate::json::canonical(&value);
        let empty = text(serde_json::json!({
            "cosigners": [], "fleet": "cdn.example", "log": LOG, "log_keys": [log.verifier().to_string()],
            "members": {}, "need": {}, "terms": {}, "v": 1,
        }));
        let mut trust = Trust::parse(empty.as_bytes()).unwrap();
        trust.cosigners = vec![TrustedCosigner { kind: CosignerKind::Witness, vkey: witness.verifier() }];
        trust.need = [(CosignerKind::Witness, 1)].into();
        trust.terms = [(Kind::Operator, terms)].into();
        trust.members = [
            (name("alice"), member(Kind::Operator, &[Role::Operator, Role::Root], &alice, &["deploy:fra1"])),
            (name("casc1"), member(Kind::Authority, &[Role::Authority], &casc1, &[])),
        ]
        .into();
        let ca = CaSigner::from(SshPrivateKey::generate(&mut rng(3)));
        Self { log, witness, ca, alice, casc1, trust }
    }

    fn order(&self) -> Order {
        use crate::ssh::CertificateAuthority as _;
        let fields = CertificateFields {
            kind: CertificateKind::User,
            ca: self.ca.public().clone(),
            subject: SshPrivateKey::generate(&mut rng(4)).public().clone(),
            key_id: "user alice".parse().unwrap(),
            principals: [Principal::user("deploy:fra1").unwrap(), Principal::user("deploy:ams1").unwrap()].into(),
            valid_after: now().minus(Span(300)),
            valid_before: now().plus(Span::hours(16)),
            critical_options: [].into(),
            extensions: ["permit-pty".to_owned()].into(),
            nonce: Nonce([9; 32]),
        };
        let certificate = CertificateBody::new(fields.clone()).unwrap();
        let statement = Statement {
            act: Act::SshIssue(Issue { certificate, member: name("alice") }),
            at: now(),
            by: name("alice"),
            expires: now().plus(Span::days(7)),
            log: LOG.to_owned(),
            policy: 1,
            reason: "to log in".to_owned(),
        };
        let signers = vec![("alice", self.alice.clone()), ("casc1", self.casc1.clone())];
        Order { fields, statement, signers, witnessed: true, index: INDEX, of: fleet() }
    }

    /// The certificate that the CA signs for an order, with its proof.
    fn sign(&self, order: &Order) -> SshCertificate {
        let signed = Signed::of(order.statement.clone()).unwrap();
        let signatures = order.signers.iter().map(|(member, hand)| hand.line(member, &signed)).collect();
        let entry = Entry { signed, signatures }.to_bytes().unwrap();
        let [a, c] = [b"one", b"two"].map(|other| leaf(other));
        let root = node(&node(&a, &leaf(&entry)), &c);
        let text = Checkpoint { origin: LOG.to_owned(), size: 3, root }.to_text();
        let mut signatures = vec![self.log.sign(&text)];
        signatures.extend(order.witnessed.then(|| self.witness.cosign(&text, now())));
        let proof = Proof { extra: None, index: INDEX, path: vec![a, c], note: Note { text, signatures } };
        let staple = Staple::new(&order.of, &entry, &proof.to_bytes()).unwrap();
        self.sign_with(order, Some(&staple))
    }

    fn sign_with(&self, order: &Order, staple: Option<&Staple>) -> SshCertificate {
        let body = CertificateBody::new(order.fields.clone()).unwrap();
        issue(&body, Serial::of_entry(order.index), staple, &self.ca).unwrap()
    }

    fn judge(&self, certificate: &SshCertificate) -> Result<Admitted, Refusal> {
        admit(
            &self.trust,
            &[Principal::user("deploy:fra1").unwrap(), Principal::user("ops").unwrap()].into(),
            certificate,
        )
    }

    /// What becomes of an order that `change` has changed.
    fn refusal(&self, change: impl FnOnce(&mut Order)) -> Refusal {
        let mut order = self.order();
        change(&mut order);
        self.judge(&self.sign(&order)).expect_err("it is refused")
    }
}

/// Decides what the certificate says, too.
fn decide(order: &mut Order, change: impl FnOnce(&mut CertificateFields)) {
    change(&mut order.fields);
    let certificate = CertificateBody::new(order.fields.clone()).unwrap();
    order.statement.act = Act::SshIssue(Issue { certificate, member: name("alice") });
}

#[test]
fn what_the_log_decided_is_let_in_as_what_the_account_and_the_policy_both_give() {
    let world = World::new();
    let admitted = world.judge(&world.sign(&world.order())).unwrap();
    assert_eq!(
        (admitted.member, admitted.principals),
        (name("alice"), [Principal::user("deploy:fra1").unwrap()].into())
    );
}

#[test]
fn a_stolen_ca_key_opens_nothing() {
    let world = World::new();
    let order = world.order();
    assert!(matches!(world.judge(&world.sign_with(&order, None)), Err(Refusal::Unproven(_))));
    assert!(matches!(world.refusal(|o| o.of = "ops.example".parse().unwrap()), Refusal::Unproven(_)));
    // The proof of another certificate; the proof of this one with another serial; more than was decided.
    let changes: [fn(&mut Order); 4] = [
        |o| o.fields.subject = SshPrivateKey::generate(&mut rng(5)).public().clone(),
        |o| o.fields.valid_before = now().plus(Span::days(900)),
        |o| o.fields.principals.extend([Principal::user("ops").unwrap()]),
        |o| o.index = 2,
    ];
    for change in changes {
        assert!(matches!(world.refusal(change), Refusal::Certificate(CertificateError::NotAsOrdered)));
    }
    // Signed by another CA than the one that was decided.
    let thief = World { ca: CaSigner::from(SshPrivateKey::generate(&mut rng(6))), ..World::new() };
    let mut order = order;
    order.fields.ca = crate::ssh::CertificateAuthority::public(&thief.ca).clone();
    let staple = Staple::of(&world.sign(&world.order())).unwrap();
    let forged = thief.sign_with(&order, Some(&staple));
    assert!(matches!(world.judge(&forged), Err(Refusal::Certificate(CertificateError::NotAsOrdered))));
}

#[test]
fn a_stolen_log_key_beside_it_opens_nothing_either() {
    let world = World::new();
    let refusal = world.refusal(|o| o.witnessed = false);
    assert!(matches!(&refusal, Refusal::Cosigners(missing) if missing == "1 witness"), "{refusal}");
    // Whatever the cosigners say: what nobody signed has no quorum.
    assert!(matches!(world.refusal(|o| o.signers.clear()), Refusal::Entry(_)));
    for signers in [vec![("alice", world.alice.clone())], vec![("casc1", world.casc1.clone())]] {
        let refusal = world.refusal(|o| o.signers = signers);
        assert!(matches!(refusal, Refusal::Quorum(_)), "{refusal}");
    }
    // Nor in another's name, nor with a key of one's own, nor as two with one key.
    for (member, hand) in [("casc1", world.alice.clone()), ("casc1", Hand::new()), ("mallory", Hand::new())] {
        let refusal = world.refusal(|o| o.signers[1] = (member, hand));
        assert!(matches!(refusal, Refusal::Quorum(_)), "{refusal}");
    }
    let mut twins = World::new();
    twins.trust.members.get_mut(&name("casc1")).unwrap().keys[0].key = twins.alice.public();
    let refusal = twins.refusal(|o| o.signers[1].1 = o.signers[0].1.clone());
    assert!(matches!(refusal, Refusal::Quorum(_)), "{refusal}");
    let other = World { log: SignerKey::generate(LOG, &mut rng(7)), trust: world.trust.clone(), ..World::new() };
    assert!(matches!(world.judge(&other.sign(&other.order())), Err(Refusal::Proof(_))));
}

#[test]
fn nobody_gets_more_than_the_policy_gives() {
    let world = World::new();
    for (part, change) in [
        ("longer than", (|f| f.valid_before = now().plus(Span::hours(17))) as fn(&mut CertificateFields)),
        ("extension 'permit-agent", |f| f.extensions.extend(["permit-agent-forwarding".to_owned()])),
        ("critical options", |f| drop(f.critical_options.insert("force-command".to_owned(), "id".to_owned()))),
    ] {
        let refusal = world.refusal(|o| decide(o, change));
        assert!(matches!(&refusal, Refusal::Terms(problem) if problem.contains(part)), "{refusal}");
    }
    let only = |principal: &str| {
        let principal = Principal::user(principal).unwrap();
        world.refusal(|o| decide(o, |f| f.principals = [principal].into()))
    };
    // One that the account would accept and the policy does not give her; one that it gives her elsewhere.
    assert!(matches!(only("ops"), Refusal::Elsewhere));
    assert!(matches!(only("deploy:ams1"), Refusal::Elsewhere));
    let gone = |text: &str| {
        let mut world = World::new();
        world.trust.members.remove(&name(text));
        world.refusal(|_| {})
    };
    assert!(matches!(gone("alice"), Refusal::Stranger(_)));
    assert!(matches!(gone("casc1"), Refusal::Quorum(_)));
    let mut order = world.order();
    order.fields.kind = CertificateKind::Host;
    order.fields.principals = [Principal::host("fra1.cdn.example").unwrap()].into();
    order.fields.extensions.clear();
    assert!(matches!(world.judge(&world.sign(&order)), Err(Refusal::Host)));
    // Another act, whoever signed it; a statement for another log.
    let other = world
        .refusal(|o| o.statement.act = Act::SshRevoke(vec![crate::statement::RevokeIssued { serials: [1].into() }]));
    assert!(matches!(other, Refusal::OtherEntry));
    assert!(matches!(world.refusal(|o| o.statement.log = "cdn.example/keys/2".to_owned()), Refusal::OtherEntry));
}

#[test]
fn a_replaced_key_speaks_for_what_it_signed_before() {
    let mut world = World::new();
    let certificate = world.sign(&world.order());
    let until = |world: &mut World, until: Time| {
        world.trust.members.get_mut(&name("alice")).unwrap().keys[0].until = Some(until);
        world.judge(&certificate)
    };
    assert!(until(&mut world, now()).is_ok());
    assert!(matches!(until(&mut world, now().minus(Span(1))), Err(Refusal::Quorum(_))));
}

#[test]
fn what_a_node_knows_reads_as_it_was_written() {
    let trust = World::new().trust;
    let bytes = trust.to_bytes();
    assert_eq!(Trust::parse(&bytes).unwrap(), trust);
    let text = String::from_utf8(bytes).unwrap();
    for (from, to, part) in [
        ("\"v\":1", "\"v\":2", "version 2"),
        ("\"need\":{\"witness\":1}", "\"need\":{\"witness\":2}", "2 cosigners of the kind witness"),
        ("\"need\":{\"witness\":1}", "\"need\":{\"witness\":0}", "0 cosigners"),
        ("{\"authority\":1,\"self\":1}", "{}", "nobody's signature"),
        ("{\"authority\":1,\"self\":1}", "{\"self\":0}", "nobody's signature"),
        ("\"fleet\"", "\"flet\"", "expected fields"),
        (",\"v\":1", " ,\"v\":1", "canonical"),
    ] {
        assert!(text.contains(from), "{from}");
        let message = Trust::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
        assert!(message.contains(part), "{from}: {message}");
    }
    let mut without = trust;
    without.log_keys.clear();
    assert!(matches!(Trust::parse(&without.to_bytes()), Err(TrustError::NoLogKey)));
}
