//! What the program makes, in the hands of stock sq and sq-wot; and why sq's cache may not be believed.

use std::path::{Path, PathBuf};
use std::process::Command;

use keys::openpgp::Sealed;

use crate::support::{Ran, Sandbox, TestFleet, Tool, fingerprints, tests, user_id};

tests!["sq":
    sq_opens_what_is_sealed_to_a_service needs [Sq],
    sq_verifies_what_a_rotated_signing_key_signed needs [Sq],
    sq_reads_the_certificates needs [Sq],
    sq_encrypts_to_the_active_subkey_alone needs [Sq],
    a_planted_signature_cache_changes_no_verdict,
    a_planted_signature_cache_is_not_even_opened needs [Strace],
];

const VALUE: &str = "only nginx at fra1 reads this\n";

/// sq, or sq-wot, with the sandbox as its user's home.
fn run(sandbox: &Sandbox, tool: Tool, args: &[&str]) -> Ran {
    let mut command: Command = tool.command();
    Ran::of(command.env("HOME", sandbox.root()).current_dir(sandbox.root()).args(args))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The file of a member's certificate in the keyring.
fn certificate(fleet: &TestFleet<'_>, member: &str) -> PathBuf {
    let (ring, _) = fleet.export_ring("ring", &[]);
    let fingerprint = fingerprints(&ring)[&user_id(member)].to_lowercase();
    fleet.keyring("certs").join(&fingerprint[..2]).join(&fingerprint[2..])
}

fn sq_opens_what_is_sealed_to_a_service(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", VALUE);
    let (sealed, key) = ("fleet/keyring/sealed/fra1/nginx/tls.key.pgp", "fra1/members/nginx@fra1/openpgp.tsk");
    let author = certificate(&fleet, "alice");
    let decrypt = |signer: &Path| {
        run(sandbox, Tool::Sq, &["decrypt", "--recipient-key", key, "--signer-cert", text(signer), sealed])
    };
    assert_eq!(decrypt(&author).ok(), VALUE);
    // By somebody else's certificate it is not signed.
    assert_eq!(decrypt(&certificate(&fleet, "casc1")).exits(1), "");

    // Between a promotion and the owner's next sync its own copy calls the promoted subkey a standby, without flags: gpg
    // and we decrypt with it, sq 0.27 does not. From then on it does, and what the promotion left as it was opens, too.
    let before = std::fs::read(sandbox.path(sealed)).unwrap();
    fleet.keys("alice", &["rotate", "nginx@fra1", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    assert_eq!(decrypt(&author).ok(), VALUE);
    sandbox.write(sealed, before);
    assert_eq!(decrypt(&author).ok(), VALUE);
}

fn sq_verifies_what_a_rotated_signing_key_signed(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", VALUE);
    fleet.keys("alice", &["log", "show", "2", "--raw", "raw"]).ok();
    let verify = || {
        let author = certificate(&fleet, "alice");
        let (sealed, key) = ("fleet/keyring/sealed/fra1/nginx/tls.key.pgp", "fra1/members/nginx@fra1/openpgp.tsk");
        let signed_by = ["--signer-cert", text(&author)];
        let statement = [&["verify", "--detached", "raw/2-alice.sig"], &signed_by[..], &["raw/2.body"]].concat();
        run(sandbox, Tool::Sq, &statement).ok();
        let secret = [&["decrypt", "--recipient-key", key], &signed_by[..], &[sealed]].concat();
        assert_eq!(run(sandbox, Tool::Sq, &secret).ok(), VALUE);
    };
    verify();
    fleet.keys("alice", &["rotate", "alice", "--slot", "sign", "--yes"]).ok();
    verify();
}

fn sq_reads_the_certificates(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    for rotated in [false, true] {
        if rotated {
            fleet.keys("alice", &["rotate", "--all", "--soon", "--yes"]).ok();
            fleet.settle(&["fra1"]);
        }
        for (member, flags) in [
            ("alice", ["certification", "signing", "transport encryption, data-at-rest encryption"].as_slice()),
            ("casc1", &["certification", "signing"]),
            ("fra1", &["certification", "signing", "transport encryption, data-at-rest encryption"]),
            ("nginx@fra1", &["certification", "transport encryption, data-at-rest encryption"]),
        ] {
            let shown =
                run(sandbox, Tool::Sq, &["inspect", "--certifications", text(&certificate(&fleet, member))]).ok();
            assert!(
                shown.starts_with(&format!("{}: OpenPGP Certificate.", text(&certificate(&fleet, member)))),
                "{shown}"
            );
            assert!(shown.contains(&format!("UserID: {}\n", user_id(member))), "{shown}");
            // The first line names the file, by a fingerprint in which any word of hexadecimal digits may occur.
            let said = shown.split_once('\n').unwrap().1;
            assert!(
                !["Invalid", "invalid", "Bad", "bad", "Secret", "Revoked", "expired"].iter().any(|w| said.contains(w)),
                "{shown}"
            );
            let has = |line: &str| shown.lines().filter(|l| l.trim() == line).count();
            for flag in flags {
                // A signing key of the past keeps its flag, so that what it signed still verifies.
                let past = usize::from(rotated && *flag == "signing");
                assert_eq!(has(&format!("Key flags: {flag}")), 1 + past, "{member}: {flag}\n{shown}");
            }
        }
    }
}

fn sq_encrypts_to_the_active_subkey_alone(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    sandbox.write("plain", VALUE);
    let check = || {
        let (active, _) = fleet.active_and_standby("nginx@fra1", "openpgp");
        let certificate = certificate(&fleet, "nginx@fra1");
        let ran = run(sandbox, Tool::Sq, &["encrypt", "--binary", "--recipient-cert", text(&certificate), "plain"]);
        ran.ok();
        let message = Sealed::parse(&ran.output.stdout).unwrap();
        let recipients: Vec<String> = message.recipients.iter().map(|(handle, _)| handle.to_string()).collect();
        assert_eq!(recipients, [active[24..].to_owned()]);
        let message = sandbox.write("message.pgp", &ran.output.stdout);
        let key = "fra1/members/nginx@fra1/openpgp.tsk";
        assert_eq!(run(sandbox, Tool::Sq, &["decrypt", "--recipient-key", key, text(&message)]).ok(), VALUE);
    };
    check();
    fleet.keys("alice", &["rotate", "nginx@fra1", "--yes"]).ok();
    fleet.settle(&["fra1"]);
    check();
}

/// Plants a cache of verified signatures in the keyring's certificates; gives its name. sq and sequoia-cert-store believe
/// such a file, which is not keyed, wherever they open a certificate directory; and this one is synced from elsewhere.
fn plant_cache(fleet: &TestFleet<'_>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = format!("_sequoia_signature_verification_cache_v1_on_{}.sqlite", host.trim());
    let cache = b"SQLite format 3\0 and a row for a forged certification";
    std::fs::write(fleet.keyring("certs").join(&name), cache).unwrap();
    name
}

fn a_planted_signature_cache_changes_no_verdict(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let status = || fleet.keys("alice", &["status", "--json"]).ok();
    let (before, authenticated) = (status(), fleet.export_ring("r1", &[]).1);
    let name = plant_cache(&fleet);
    assert_eq!(status(), before);
    assert_eq!(fleet.export_ring("r2", &[]).1, authenticated);
    let verified = fleet.keys("alice", &["log", "verify", "--json"]);
    verified.exits(3);
    let problems = verified.json()["problems"].clone();
    assert_eq!(problems.as_array().map(Vec::len), Some(1), "{problems}");
    assert_eq!(problems[0]["path"], format!("certs/{name}"));
    assert_eq!(problems[0]["problem"], "the log knows nothing of it");
}

fn a_planted_signature_cache_is_not_even_opened(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", VALUE);
    plant_cache(&fleet);
    for (i, line) in
        ["status", "ring export --out ring", "open nginx@fra1/tls.key", "rotate fra1 --yes", "sync"].iter().enumerate()
    {
        let (program, trace) = (sandbox.command(), format!("trace{i}"));
        let mut command = Tool::Strace.command();
        command
            .args(["-f", "-qq", "-y", "-e", "trace=open,openat,openat2,creat", "-o", &trace])
            .arg(program.get_program());
        command.current_dir(sandbox.root()).args(["--fleet", "fleet", "--home", "alice"]).args(line.split(' '));
        Ran::of(&mut command).ok();
        let opened = std::fs::read_to_string(sandbox.path(&trace)).unwrap();
        assert!(opened.contains("checkpoint"), "the trace shows what is opened: {opened}");
        assert!(!opened.contains("_sequoia"), "{line}: {opened}");
    }
}
