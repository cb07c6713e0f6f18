//! The scripts of `docs/verify/`, which auditors get: openssl alone follows a proof down to the checkpoint's signature, gpg
//! checks an entry. Nothing of ours takes part but the files.

use std::process::Command;

use super::{MadeUp, ORIGIN, own, signer};
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["strangers::scripts":
    openssl_follows_proofs_of_many_shapes needs [Openssl],
    openssl_refuses_every_changed_line needs [Openssl],
    gpg_checks_an_entry_with_two_signers needs [Openssl, Gpg, GpgConf],
    gpg_refuses_every_changed_part_of_an_entry needs [Openssl, Gpg, GpgConf],
];

fn run(sandbox: &Sandbox, script: &str, args: &[&str]) -> Ran {
    let temporary = sandbox.path("t");
    std::fs::create_dir_all(&temporary).unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg(own(&format!("docs/verify/{script}"))).args(args).env_clear().env("PATH", "/usr/bin:/bin");
    Ran::of(command.env("TMPDIR", &temporary).current_dir(sandbox.root()))
}

fn nothing_is_left_behind(sandbox: &Sandbox) {
    assert_eq!(std::fs::read_dir(sandbox.path("t")).unwrap().count(), 0);
}

fn openssl_follows_proofs_of_many_shapes(sandbox: &Sandbox) {
    let mut log = MadeUp::new(sandbox, 1);
    for (size, indexes) in [(1, &[0][..]), (2, &[0, 1]), (3, &[2]), (7, &[0, 3, 4, 6]), (300, &[0, 255, 256, 299])] {
        log.grow(size);
        for &index in indexes {
            sandbox.write("proof", log.prove(index).to_bytes());
            sandbox.write("entry", MadeUp::entry(index));
            let said = run(sandbox, "check-proof.sh", &["proof", "entry", &log.vkey().to_string()]).ok();
            assert_eq!(said, format!("proven: entry {index} of {size} in {ORIGIN}\n"));
        }
    }
    nothing_is_left_behind(sandbox);
}

fn openssl_refuses_every_changed_line(sandbox: &Sandbox) {
    let log = MadeUp::new(sandbox, 11);
    let (vkey, proof) = (log.vkey().to_string(), String::from_utf8(log.prove(9).to_bytes()).unwrap());
    sandbox.write("entry", MadeUp::entry(9));
    let check = |proof: &str, vkey: &str| {
        sandbox.write("proof", proof);
        run(sandbox, "check-proof.sh", &["proof", "entry", vkey])
    };
    check(&proof, &vkey).ok();
    let lines: Vec<&str> = proof.split_inclusive('\n').collect();
    assert!(lines.len() > 8, "{proof}");
    for number in 0..lines.len() {
        let with = |line: &str| {
            let mut changed = lines.clone();
            changed[number] = line;
            changed.concat()
        };
        // Another letter in the middle of it, the line gone, the line twice. One line stands twice without harm: the
        // signature's, of which one that is right is enough.
        let line = lines[number];
        let (at, found) = line.char_indices().nth(line.chars().count() / 2).unwrap();
        let mut letters = line.to_owned();
        letters.replace_range(at..at + found.len_utf8(), if found == 'A' { "B" } else { "A" });
        check(&with(&letters), &vkey).refuses(1, "NOT proven: ");
        check(&with(""), &vkey).refuses(1, "NOT proven: ");
        if !line.starts_with('\u{2014}') {
            check(&with(&line.repeat(2)), &vkey).refuses(1, "NOT proven: ");
        }
    }
    check(&proof, &signer(1).verifier().to_string()).refuses(1, "not signed by the verifier key");
    check(&proof, &vkey.replace("keys/1", "keys/2")).refuses(1, "hash is not its own");
    sandbox.write("entry", MadeUp::entry(8));
    check(&proof, &vkey).refuses(1, "does not lead to the checkpoint's root");
    nothing_is_left_behind(sandbox);
}

/// An entry that two operators signed, and the certificates of all.
fn entry(sandbox: &Sandbox) -> String {
    let fleet = TestFleet::of_two(sandbox);
    fleet.export_ring("ring", &[]);
    fleet.keys("alice", &["log", "prove", "0", "--out", "proof", "--entry", "entry"]).ok();
    std::fs::read_to_string(sandbox.path("entry")).unwrap()
}

fn check_entry(sandbox: &Sandbox) -> Ran {
    run(sandbox, "check-entry.sh", &["entry", "ring/ring.pgp"])
}

fn gpg_checks_an_entry_with_two_signers(sandbox: &Sandbox) {
    let entry = entry(sandbox);
    let said = check_entry(sandbox).ok();
    for (name, user_id) in [("alice", "Alice <alice@ops.example>"), ("bob", "Bob <bob@ops.example>")] {
        let head = format!("good: cdn.example/{name}, key ");
        let good = said.lines().filter(|line| line.starts_with(&head) && line.ends_with(user_id));
        assert_eq!(good.count(), 1, "{said}");
    }
    let body = entry.split_inclusive('\n').next().unwrap();
    assert!(said.ends_with(&format!("id: {}\n", keys::digest::Digest::of(body.as_bytes()))), "{said}");
    nothing_is_left_behind(sandbox);
}

fn gpg_refuses_every_changed_part_of_an_entry(sandbox: &Sandbox) {
    let right = entry(sandbox);
    let lines: Vec<&str> = right.split_inclusive('\n').collect();
    assert!(lines.len() >= 4 && lines[2].contains("cdn.example/"), "{right}");
    let changed = |number: usize, from: &str, to: &str| {
        assert!(lines[number].contains(from), "{from} in {}", lines[number]);
        let mut all: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        all[number] = all[number].replacen(from, to, 1);
        all.concat()
    };
    let names = [lines[2], lines[3]].map(|line| line.split(' ').nth(1).unwrap());
    let payload = lines[2].trim_end().split(' ').nth(2).unwrap();
    let (head, middle) = (&payload[..4], &payload[payload.len() / 2..payload.len() / 2 + 8]);
    for wrong in [
        changed(0, "\"v\":1", "\"v\":2"),
        changed(0, "genesis", "Genesis"),
        changed(1, "\n", "\n\n"),
        // The other signer's name over this one's signature, another key hash, another signature.
        changed(2, names[0], names[1]),
        changed(2, head, "AAAA"),
        changed(2, middle, "AAAAAAAA"),
        changed(2, payload, head),
        changed(2, "\u{2014} ", "- "),
        lines[0].to_owned(),
        lines[..2].concat(),
    ] {
        sandbox.write("entry", &wrong);
        check_entry(sandbox).refuses(1, "NOT good: ");
    }
    sandbox.write("entry", &right);
    check_entry(sandbox).ok();
    let elsewhere = Sandbox::new("strangers");
    let stranger = TestFleet::of_one(&elsewhere).export_ring("ring", &[]).0;
    std::fs::copy(stranger, sandbox.path("ring/ring.pgp")).unwrap();
    elsewhere.finish(true);
    check_entry(sandbox).refuses(1, "NOT good: the signature of");
    nothing_is_left_behind(sandbox);
}
