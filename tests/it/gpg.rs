//! What the program makes, in the hands of stock gpg: secrets, certificates, statements, the web of trust; and an operator
//! whose keys never leave her gpg-agent.

use std::path::Path;

use keys::name::{FleetName, Kind};
use keys::openpgp::{Certificate, Grant, Profile, Web, certify, generate};
use keys::time::{Span, Time};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::parse::Parse as _;

use crate::support::{GpgHome, Ran, Sandbox, TestFleet, fingerprints, tests, user_id};

tests!["gpg":
    gpg_honours_the_scope_of_a_certification needs [Gpg, GpgConf],
    an_operator_in_gpg_agent_founds_a_fleet needs [Gpg, GpgConf],
];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What the thief of `certifier`'s keys could make: a certificate for `user_id`, vouched for with `grant`.
fn vouched_by(certifier: &Path, user_id: &str, kind: Kind, grant: &Grant) -> Certificate {
    let (fleet, now): (FleetName, _) =
        ("cdn.example".parse().unwrap(), Time::from_system(std::time::SystemTime::now()));
    let own = generate(kind, user_id, &fleet, Profile::Compat, Span::days(30), now).unwrap();
    let stolen = Cert::from_file(certifier).unwrap();
    let mut signer = stolen.primary_key().key().clone().parts_into_secret().and_then(|k| k.into_keypair()).unwrap();
    certify(&Certificate::of(&own.cert).unwrap(), grant, &mut signer, Span::days(30), now).unwrap()
}

fn gpg_honours_the_scope_of_a_certification(sandbox: &Sandbox) {
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
        let certificates: Vec<&Certificate> = members.iter().chain([certificate]).collect();
        let web = Web { roots: &roots, certificates: &certificates };
        let now = Time::from_system(std::time::SystemTime::now());
        let user_id = certificate.user_id();
        assert_eq!(
            web.endorsers(&user_id, &certificate.fingerprint(), now).unwrap(),
            usize::from(expected),
            "{user_id}"
        );
        assert_eq!(validities[&user_id] == "f", expected, "{user_id}: {validities:?}");
    }
}

/// A gpg home with a key of alice's, and its fingerprint.
fn alice_in_agent(sandbox: &Sandbox) -> (GpgHome, String) {
    let gpg = GpgHome::new(sandbox, "g");
    let parameters = "Key-Type: eddsa\nKey-Curve: ed25519\nKey-Usage: sign\nSubkey-Type: ecdh\nSubkey-Curve: cv25519\n\
                      Name-Real: Alice\nName-Email: alice@ops.example\nExpire-Date: 0\n%no-protection\n%commit\n";
    let file = sandbox.write("parameters", parameters);
    gpg.run(&["--pinentry-mode", "loopback", "--generate-key", text(&file)]).ok();
    let listed = gpg.run(&["--with-colons", "--list-keys"]).ok();
    let fingerprint = listed.lines().find(|l| l.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned();
    (gpg, fingerprint)
}

/// Founds a fleet whose operator's keys gpg-agent has.
fn found_with_agent(sandbox: &Sandbox, gpg: &GpgHome, fingerprint: &str, more: &[&str]) {
    let operator = format!("gpg:{fingerprint}");
    let mut command = sandbox.command();
    command.env("GNUPGHOME", gpg.path()).args(["--fleet", "fleet", "--home", "alice", "init", "cdn.example"]);
    Ran::of(command.args(["--operator", &operator]).args(more)).ok();
}

fn an_operator_in_gpg_agent_founds_a_fleet(sandbox: &Sandbox) {
    let (gpg, fingerprint) = alice_in_agent(sandbox);
    found_with_agent(sandbox, &gpg, &fingerprint, &[]);
    TestFleet { sandbox }.keys("alice", &["log", "verify"]).ok();
}
