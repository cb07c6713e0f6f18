//! Whose key is this? Our verdict, gpg's and sq-wot's, over certificates of a fleet and over forged ones.

use std::path::Path;

use keys::name::{FleetName, Kind};
use keys::openpgp::{Certificate, Grant, Profile, Web, amount_for, certify, generate, withdraw};
use keys::time::Span;
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::crypto::KeyPair;
use sequoia_openpgp::parse::Parse as _;

use crate::support::{GpgHome, Ran, Sandbox, TestFleet, Tool, fingerprints, now, tests, user_id};

tests!["web":
    for_one_operator_gpg_authenticates_what_we_do needs [Gpg, GpgConf],
    for_one_operator_sq_wot_authenticates_what_we_do needs [SqWot],
    outside_its_scope_a_certification_counts_for_nobody needs [Gpg, GpgConf, SqWot],
    an_expired_certification_counts_for_nobody needs [Gpg, GpgConf, SqWot, Faketime],
    a_withdrawal_in_the_second_of_the_certification_counts needs [SqWot],
    for_two_operators_the_flattened_ring_has_our_verdict needs [Gpg, GpgConf],
    for_two_operators_sq_wot_wants_both needs [SqWot],
    two_fake_authorities_of_one_operator_count_once needs [Gpg, GpgConf, SqWot],
];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The members of a ring that gpg takes for authenticated: those whose user id is fully or ultimately valid.
fn valid_in(gpg: &GpgHome, members: &[&str]) -> Vec<String> {
    let validities = gpg.validities();
    let valid = |m: &&&str| matches!(validities[&user_id(m)].as_str(), "f" | "u");
    members.iter().filter(valid).map(|m| (*m).to_owned()).collect()
}

/// Whether sq-wot finds that the roots together vouch for a binding to the full amount, 120.
fn is_bound(sandbox: &Sandbox, ring: &Path, roots: &[&str], (user_id, fingerprint): &(&str, String)) -> bool {
    let fingerprints = fingerprints(ring);
    let mut command = sandbox.dated(&Tool::SqWot.path().unwrap());
    command.env_clear().env("HOME", sandbox.root()).arg("-k").arg(ring);
    for root in roots {
        command.args(["-r", &fingerprints[&crate::support::user_id(root)]]);
    }
    let ran = Ran::of(command.args(["authenticate", "--full", user_id, fingerprint]));
    match ran.code() {
        0 | 1 => ran.code() == 0,
        _ => panic!("{}", ran.stderr()),
    }
}

fn is_authenticated(sandbox: &Sandbox, ring: &Path, roots: &[&str], member: &str) -> bool {
    is_bound(sandbox, ring, roots, &(&user_id(member), fingerprints(ring)[&user_id(member)].clone()))
}

fn authenticated<'m>(sandbox: &Sandbox, ring: &Path, roots: &[&str], members: &[&'m str]) -> Vec<&'m str> {
    members.iter().copied().filter(|m| is_authenticated(sandbox, ring, roots, m)).collect()
}

/// What the thief of `certifier`'s keys could make: a certificate for `user_id`, vouched for with `grant`.
fn vouched_by(certifier: &Path, user_id: &str, kind: Kind, grant: &Grant) -> Certificate {
    let made = generate(kind, user_id, &domain(), Profile::Compat, Span::days(30), now()).unwrap();
    also_vouched_by(certifier, &Certificate::of(&made.cert).unwrap(), grant)
}

fn also_vouched_by(certifier: &Path, certificate: &Certificate, grant: &Grant) -> Certificate {
    let mut signer = primary(&Cert::from_file(certifier).unwrap());
    certify(certificate, grant, &mut signer, Span::days(30), now()).unwrap()
}

fn primary(cert: &Cert) -> KeyPair {
    cert.primary_key().key().clone().parts_into_secret().and_then(|k| k.into_keypair()).unwrap()
}

fn domain() -> FleetName {
    "cdn.example".parse().unwrap()
}

fn for_one_operator_gpg_authenticates_what_we_do(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    for pop in ["fra1", "ams1", "sin1"] {
        fleet.join(pop, "nginx");
    }
    let all = ["alice", "ams1", "casc1", "fra1", "nginx@ams1", "nginx@fra1", "nginx@sin1", "sin1"];
    let check = |name: &str| {
        let (ring, mut ours) = fleet.export_ring(name, &[]);
        let gpg = GpgHome::new(sandbox, &format!("g-{name}"));
        gpg.import(&ring);
        gpg.trust_ultimately(&fingerprints(&ring)[&user_id("alice")]);
        ours.sort();
        assert_eq!(valid_in(&gpg, &all), ours, "{name}: {:?}", gpg.validities());
        ours
    };
    assert_eq!(check("r1"), all);
    // One is stolen, one retires; their services go with them.
    fleet.keys("alice", &["revoke", "ams1", "--reason", "compromised", "--yes"]).ok();
    fleet.keys("alice", &["revoke", "sin1", "--reason", "retired", "--yes"]).ok();
    assert_eq!(check("r2"), ["alice", "casc1", "fra1", "nginx@fra1"]);
}

fn for_one_operator_sq_wot_authenticates_what_we_do(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    for pop in ["fra1", "ams1", "sin1"] {
        fleet.join(pop, "nginx");
    }
    let all = ["alice", "ams1", "casc1", "fra1", "nginx@ams1", "nginx@fra1", "nginx@sin1", "sin1"];
    let (ring, mut ours) = fleet.export_ring("r1", &[]);
    ours.sort();
    assert_eq!(ours, all);
    assert_eq!(authenticated(sandbox, &ring, &["alice"], &all), all);
    assert_eq!(
        authenticated(sandbox, &ring, &["fra1"], &all),
        ["fra1", "nginx@fra1"],
        "a PoP vouches for its own zone"
    );
    // One is stolen, one retires; their services go with them.
    fleet.keys("alice", &["revoke", "sin1", "--reason", "compromised", "--yes"]).ok();
    fleet.keys("alice", &["revoke", "ams1", "--reason", "retired", "--yes"]).ok();
    let (ring, mut ours) = fleet.export_ring("r2", &[]);
    ours.sort();
    assert_eq!(ours, ["alice", "casc1", "fra1", "nginx@fra1"]);
    assert_eq!(authenticated(sandbox, &ring, &["alice"], &all), ours);
}

fn outside_its_scope_a_certification_counts_for_nobody(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let (ring, _) = fleet.export_ring("ring", &[]);
    let pop = sandbox.path("fra1/members/fra1/openpgp.tsk");
    let casc = sandbox.path("alice/members/casc1/openpgp.tsk");
    let (name, zone) = ("cdn.example".parse().unwrap(), "ams1".parse().unwrap());
    let abroad = Grant::Pop { fleet: name, pop: zone };
    let own = vouched_by(&pop, "dns@fra1 <dns@fra1.cdn.example>", Kind::Service, &Grant::Service);
    let forged = [
        vouched_by(&pop, "nginx@ams1 <nginx@ams1.cdn.example>", Kind::Service, &Grant::Service),
        vouched_by(&pop, "nginx@fra1 <nginx@xfra1.cdn.example>", Kind::Service, &Grant::Service),
        vouched_by(&pop, "PoP ams1 <pop@ams1.cdn.example>", Kind::Pop, &abroad),
        vouched_by(&casc, "PoP ams1 <pop@ams1.other.example>", Kind::Pop, &abroad),
    ];
    let gpg = GpgHome::new(sandbox, "g");
    gpg.import(&ring);
    for (i, certificate) in forged.iter().chain([&own]).enumerate() {
        gpg.import(&sandbox.write(&format!("{i}.pgp"), certificate.bytes()));
    }
    gpg.trust_ultimately(&fingerprints(&ring)[&user_id("alice")]);

    let members: Vec<Certificate> =
        CertParser::from_file(&ring).unwrap().map(|c| Certificate::of(&c.unwrap()).unwrap()).collect();
    let validities = gpg.validities();
    let roots = [keys::openpgp::Fingerprint::from_hex(&fingerprints(&ring)[&user_id("alice")]).unwrap()];
    for (certificate, expected) in forged.iter().map(|c| (c, false)).chain([(&own, true)]) {
        let ring = sandbox.write("all.pgp", [&std::fs::read(&ring).unwrap(), certificate.bytes()].concat());
        let certificates: Vec<&Certificate> = members.iter().chain([certificate]).collect();
        let web = Web { roots: &roots, certificates: &certificates };
        let user_id = certificate.user_id();
        assert_eq!(
            web.endorsers(&user_id, &certificate.fingerprint(), now()).unwrap(),
            usize::from(expected),
            "{user_id}"
        );
        assert_eq!(validities[&user_id] == "f", expected, "{user_id}: {validities:?}");
        let binding = (user_id.as_str(), certificate.fingerprint().to_hex());
        assert_eq!(is_bound(sandbox, &ring, &["alice"], &binding), expected, "{user_id}");
    }
}

/// Vouching lasts: 30 days for a service, 90 for a PoP, 180 for an authority, if nobody renews it.
fn an_expired_certification_counts_for_nobody(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let all = ["alice", "casc1", "fra1", "nginx@fra1"];
    for (days, valid) in [(0, 4), (29, 4), (31, 3), (89, 3), (91, 2), (179, 2), (181, 1)] {
        sandbox.set_days_later(days);
        let (ring, mut ours) = fleet.export_ring(&format!("ring{days}"), &[]);
        ours.sort();
        assert_eq!(ours, all[..valid], "we, after {days} days");
        assert_eq!(authenticated(sandbox, &ring, &["alice"], &all), all[..valid], "sq-wot, after {days} days");
        let gpg = GpgHome::new(sandbox, &format!("g{days}"));
        gpg.set_time(now().plus(Span::days(u64::from(days))));
        gpg.import(&ring);
        gpg.trust_ultimately(&fingerprints(&ring)[&user_id("alice")]);
        assert_eq!(valid_in(&gpg, &all), all[..valid], "gpg, after {days} days: {:?}", gpg.validities());
        // Flattened it is the same: what is not authenticated the local root does not certify.
        let (ring, _) = fleet.export_ring(&format!("flat{days}"), &["--gpg"]);
        assert_eq!(valid_in(&flattened(sandbox, &ring, days), &all), all[..valid], "flattened, after {days} days");
    }
    // A sync renews what has run out, from above.
    fleet.settle(&["fra1"]);
    let (_, mut ours) = fleet.export_ring("renewed", &[]);
    ours.sort();
    assert_eq!(ours, all);
}

/// A gpg home with a flattened ring and its root.
fn flattened(sandbox: &Sandbox, ring: &Path, days: u32) -> GpgHome {
    let name = ring.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let gpg = GpgHome::new(sandbox, &format!("g-{name}"));
    gpg.set_time(now().plus(Span::days(u64::from(days))));
    gpg.import(ring);
    gpg.run(&["--import-ownertrust", text(&ring.with_file_name("ownertrust.txt"))]).ok();
    gpg
}

/// Signatures are dated by the second. Who vouches and takes it back at once has taken it back.
fn a_withdrawal_in_the_second_of_the_certification_counts(sandbox: &Sandbox) {
    let now = now().minus(Span(60));
    let fleet = "cdn.example".parse().unwrap();
    let made =
        |kind, member| generate(kind, &user_id(member), &fleet, Profile::Compat, Span::days(30), now).unwrap().cert;
    let (root, pop) = (made(Kind::Operator, "alice"), made(Kind::Pop, "fra1"));
    let mut signer = root.primary_key().key().clone().parts_into_secret().and_then(|k| k.into_keypair()).unwrap();
    let certified =
        certify(&Certificate::of(&pop).unwrap(), &Grant::Service, &mut signer, Span::days(30), now).unwrap();
    let withdrawn = withdraw(&certified, &mut signer, now).unwrap();
    for (name, subject, expected) in [("before", &certified, true), ("after", &withdrawn, false)] {
        let ring = [Certificate::of(&root).unwrap().bytes(), subject.bytes()].concat();
        let ring = sandbox.write(&format!("{name}.pgp"), ring);
        assert_eq!(is_authenticated(sandbox, &ring, &["alice"], "fra1"), expected, "sq-wot, {name}");
        let certificates = [&Certificate::of(&root).unwrap(), subject];
        let web = Web { roots: &[root.fingerprint()], certificates: &certificates };
        let later = now.plus(Span(30));
        let endorsers = web.endorsers(&user_id("fra1"), &pop.fingerprint(), later).unwrap();
        assert_eq!(endorsers, usize::from(expected), "we, {name}");
    }
}

fn for_two_operators_the_flattened_ring_has_our_verdict(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    for pop in ["fra1", "ams1"] {
        fleet.join(pop, "nginx");
    }
    fleet.keys("alice", &["revoke", "ams1", "--reason", "retired", "--yes"]).ok();
    // Both admit casc2, but so far alice alone vouches for its certificate.
    fleet.keys("casc2", &["enroll", "casc2", "--authority"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    let all = ["alice", "ams1", "bob", "casc1", "casc2", "fra1", "nginx@ams1", "nginx@fra1"];
    let flattened = |name: &str| {
        let (ring, mut ours) = fleet.export_ring(name, &["--gpg"]);
        let gpg = GpgHome::new(sandbox, &format!("g-{name}"));
        gpg.import(&ring);
        gpg.run(&["--import-ownertrust", text(&ring.with_file_name("ownertrust.txt"))]).ok();
        ours.sort();
        assert_eq!(valid_in(&gpg, &all), ours, "{name}: {:?}", gpg.validities());
        ours
    };
    assert_eq!(flattened("r1"), ["alice", "bob", "casc1", "fra1", "nginx@fra1"]);
    let attention = fleet.keys("alice", &["status", "--json"]).json()["attention"].to_string();
    assert!(attention.contains("1 of 2 operators vouch for the certificate of casc2"), "{attention}");

    // This is how gpg must not be used where k of n operators have to vouch: it knows no k. One ultimately trusted
    // operator's signature is full validity to it whatever amount the signature names, so it takes casc2, for which one
    // of two vouches, like casc1. (And the PoPs of a sound fleet it takes for marginal, since amount 60 makes the
    // authority a marginal introducer.) With all operators ultimate it would be 1 of n, with all marginal 3 of n by
    // default; hence the flattening.
    let (ring, _) = fleet.export_ring("plain", &[]);
    let naive = GpgHome::new(sandbox, "g-naive");
    naive.import(&ring);
    naive.trust_ultimately(&fingerprints(&ring)[&user_id("alice")]);
    assert_eq!(valid_in(&naive, &all), ["alice", "casc1", "casc2"]);

    fleet.settle(&["bob"]);
    assert_eq!(flattened("r2"), ["alice", "bob", "casc1", "casc2", "fra1", "nginx@fra1"]);
}

fn for_two_operators_sq_wot_wants_both(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.keys("casc2", &["enroll", "casc2", "--authority"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    let all = ["casc1", "casc2", "fra1", "nginx@fra1"];
    // Each operator's signature names the amount 60, so that sq-wot, which adds amounts up, needs two paths.
    let (ring, _) = fleet.export_ring("r1", &[]);
    for one in ["alice", "bob"] {
        assert_eq!(authenticated(sandbox, &ring, &[one], &all), [""; 0], "{one} alone");
    }
    assert_eq!(authenticated(sandbox, &ring, &["alice", "bob"], &all), ["casc1", "fra1", "nginx@fra1"]);
    fleet.settle(&["bob"]);
    let (ring, _) = fleet.export_ring("r2", &[]);
    assert_eq!(authenticated(sandbox, &ring, &["alice", "bob"], &all), all);
    for one in ["alice", "bob"] {
        assert_eq!(authenticated(sandbox, &ring, &[one], &all), [""; 0], "{one} alone");
    }
}

/// One operator, or the thief of her key, introduces two authorities of her own making, which both vouch for a PoP.
/// Amounts add up to 120, so whoever adds them up takes it for the fleet's; we count operators.
fn two_fake_authorities_of_one_operator_count_once(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    let (ring, ours) = fleet.export_ring("before", &[]);
    let before = fleet.keys("alice", &["status", "--json"]).ok();
    let stolen = sandbox.path("bob/members/bob/openpgp.tsk");
    let authority = Grant::Authority { fleet: domain(), amount: amount_for(2) };
    let grant = Grant::Pop { fleet: domain(), pop: "ams9".parse().unwrap() };
    let own = generate(Kind::Pop, &user_id("ams9"), &domain(), Profile::Compat, Span::days(30), now()).unwrap();
    let (mut pop, mut planted) = (Certificate::of(&own.cert).unwrap(), Vec::new());
    for fake in ["casc8", "casc9"] {
        let made =
            generate(Kind::Authority, &user_id(fake), &domain(), Profile::Compat, Span::days(30), now()).unwrap();
        planted.push(also_vouched_by(&stolen, &Certificate::of(&made.cert).unwrap(), &authority));
        pop = certify(&pop, &grant, &mut primary(&made.cert), Span::days(30), now()).unwrap();
    }
    planted.push(pop);

    let members: Vec<Certificate> =
        CertParser::from_file(&ring).unwrap().map(|c| Certificate::of(&c.unwrap()).unwrap()).collect();
    let certificates: Vec<&Certificate> = members.iter().chain(&planted).collect();
    let root = |m: &str| keys::openpgp::Fingerprint::from_hex(&fingerprints(&ring)[&user_id(m)]).unwrap();
    let web = Web { roots: &[root("alice"), root("bob")], certificates: &certificates };
    let endorsers = |c: &Certificate| web.endorsers(&c.user_id(), &c.fingerprint(), now()).unwrap();
    assert_eq!(planted.iter().map(endorsers).collect::<Vec<_>>(), [1, 1, 1]);
    let honest = members.iter().find(|c| c.user_id() == user_id("fra1")).unwrap();
    assert_eq!(endorsers(honest), 2);
    // Why operators are counted: by adding up, the same certificates have it.
    let bytes: Vec<&[u8]> = certificates.iter().map(|c| c.bytes()).collect();
    let fooled = sandbox.write("fooled.pgp", bytes.concat());
    assert!(is_authenticated(sandbox, &fooled, &["alice", "bob"], "ams9"));

    // In the keyring they are strangers' files: nobody reads them, and a verification names them.
    for certificate in &planted {
        let name = certificate.fingerprint().to_hex().to_lowercase();
        sandbox.write(&format!("fleet/keyring/certs/{}/{}", &name[..2], &name[2..]), certificate.bytes());
    }
    let verified = fleet.keys("alice", &["log", "verify", "--json"]);
    verified.exits(3);
    assert_eq!(verified.json()["problems"].as_array().map(Vec::len), Some(3), "{}", verified.stdout());
    assert_eq!(fleet.keys("alice", &["status", "--json"]).ok(), before);
    fleet.keys_with("alice", &["seal", "ams9/registry-token"], b"a value").refuses(1, "ams9");
    let (ring, flat) = fleet.export_ring("after", &["--gpg"]);
    assert_eq!(flat, ours);
    assert!(!fingerprints(&ring).contains_key(&user_id("ams9")));
    // Whoever has them from elsewhere, too, is not fooled by gpg with the flattened ring.
    let gpg = flattened(sandbox, &ring, 0);
    gpg.import(&fooled);
    assert_eq!(valid_in(&gpg, &["alice", "bob", "casc1", "fra1"]).len(), 4);
    assert_eq!(valid_in(&gpg, &["casc8", "casc9", "ams9"]), Vec::<String>::new(), "{:?}", gpg.validities());
}
