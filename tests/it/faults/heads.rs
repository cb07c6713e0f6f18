//! A log whose heads are cosigned: every byte of it, every file cut or gone, and lines and cosignatures that do not belong.

use std::sync::OnceLock;

use keys::digest::Digest;
use keys::log::checkpoint::Checkpoint;
use keys::log::cosign::CosignerSecret;
use keys::log::note::{Note, SignerKey};
use keys::store::cosignature_path;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::damage::{Case, Files, Grace, all_hold, all_named, flipped, read};
use crate::support::{Sandbox, TestFleet, tests};
use crate::witness::Cosigner;

tests!["faults::heads":
    every_byte_of_a_cosigned_log_is_covered,
    a_file_of_a_cosigned_log_that_is_cut_or_gone_is_named,
    a_line_that_is_nobodys_is_named,
    a_cosigner_who_is_not_in_the_policy_is_noted,
    without_its_published_head_a_log_is_published_anew,
];

/// A keyring with two cosigners of whom one is enough: a published head with the lines of both, one that waits with the
/// cosignature of one, everything below `log/`.
fn keyring(sandbox: &Sandbox) -> &'static (Files, Vec<u8>) {
    static FILES: OnceLock<(Files, Vec<u8>)> = OnceLock::new();
    FILES.get_or_init(|| {
        let fleet = witnessed(sandbox);
        let log_key = std::fs::read_dir(sandbox.path("alice/members/casc1/log")).unwrap().map(|e| e.unwrap().path());
        let vkey = fleet.keys("alice", &["log", "vkey"]).ok();
        let keys: Vec<Vec<u8>> = log_key.map(|p| std::fs::read(p).unwrap()).collect();
        let is_active = |text: &&Vec<u8>| signer(text).verifier().to_string() == vkey.lines().next().unwrap();
        (read(&sandbox.path("fleet/keyring")), keys.iter().find(is_active).unwrap().clone())
    })
}

fn signer(text: &[u8]) -> SignerKey {
    SignerKey::from_private_text(std::str::from_utf8(text).unwrap()).unwrap()
}

fn witnessed(sandbox: &Sandbox) -> TestFleet<'_> {
    let (one, two) = (Cosigner::init(sandbox, "w1", false), Cosigner::init(sandbox, "w2", false));
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    for value in ["first", "second", "third"] {
        fleet.seal("fra1/one", value);
    }
    fleet.settle(&["fra1"]);
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = |cosigner: &Cosigner<'_>| format!("\n[[cosigner]]\nvkey = \"{}\"\nkind = \"witness\"\n", cosigner.vkey);
    let tables = [text, table(&one), table(&two), "\n[publish]\nneed = { witness = 1 }\n".to_owned()].concat();
    std::fs::write(&path, tables).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    let sign = |home: &str| drop(sandbox.keys(&["--home", home, "--fleet", "fleet", "log", "witness", "sign"]).ok());
    one.watch();
    two.watch();
    fleet.seal("fra1/two", "first");
    sign("w1");
    sign("w2");
    fleet.keys("alice", &["log", "publish"]).ok();
    fleet.seal("fra1/two", "second");
    // What waits has the one that is enough, and is not published yet.
    sign("w1");
    fleet.keys("alice", &["log", "verify"]).ok();
    fleet
}

fn below_log(files: &Files) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    files.iter().filter(|(path, _)| path.starts_with("log/"))
}

fn every_byte_of_a_cosigned_log_is_covered(sandbox: &Sandbox) {
    let (files, _) = keyring(sandbox);
    for there in ["log/head", "log/checkpoint", "log/tile/0/000.p/", "log/tile/entries/000.p/", "log/commit/"] {
        assert!(files.keys().any(|path| path.starts_with(there)), "{there}");
    }
    assert_eq!(files.keys().filter(|path| path.starts_with("log/cosignatures/")).count(), 2);
    let mut cases = Vec::new();
    let (commits, others): (Vec<_>, Vec<_>) = below_log(files).partition(|(path, _)| path.starts_with("log/commit/"));
    for (path, bytes) in others {
        cases.extend((0..bytes.len()).map(|at| flipped(path, bytes, at, (at * 5 + path.len()) % 8)));
    }
    // The signature line of a commit; whose it is shows only in a replay, so every byte of two and some of the others.
    let line = |bytes: &[u8]| {
        let begin = bytes.windows(3).position(|three| three == "\u{2014}".as_bytes()).expect("a signature line");
        let length = bytes[begin..].iter().position(|b| *b == b'\n').expect("its end") + 1;
        begin..begin + length
    };
    for (i, (path, bytes)) in commits.iter().enumerate() {
        let places = line(bytes).step_by(if i < 2 { 1 } else { 10 });
        cases.extend(places.map(|at| flipped(path, bytes, at, at % 8)));
    }
    all_hold(files, &cases, 15_000);
    // Around it the same byte of every commit at once, since one that is damaged hides no other.
    let others = |bytes: &[u8]| (0..bytes.len()).filter(|at| !line(bytes).contains(at)).collect::<Vec<_>>();
    let commits: Vec<_> = commits.into_iter().map(|(path, bytes)| (path, bytes, others(bytes))).collect();
    let longest = commits.iter().map(|(_, _, others)| others.len()).max().unwrap();
    let flipped_at = |at: usize| {
        let long = commits.iter().filter_map(|(path, bytes, others)| Some((path, bytes, *others.get(at)?)));
        long.map(|(path, bytes, at)| ((*path).clone(), flipped(path, bytes, at, at % 8).content.unwrap())).collect()
    };
    all_named(files, &(0..longest).map(flipped_at).collect::<Vec<_>>(), 1_500);
}

fn a_file_of_a_cosigned_log_that_is_cut_or_gone_is_named(sandbox: &Sandbox) {
    let (files, _) = keyring(sandbox);
    let published = Checkpoint::parse(&note(&files["log/checkpoint"]).text).unwrap().size;
    let mut cases = Vec::new();
    for (path, bytes) in below_log(files) {
        for length in [0, 1, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            let content = Some(bytes[..length].to_vec());
            cases.push(Case { path: path.clone(), how: format!("cut to {length}"), content, grace: Grace::None });
        }
        let twice = Some([bytes.as_slice(), bytes].concat());
        cases.push(Case { path: path.clone(), how: "twice".to_owned(), content: twice, grace: Grace::None });
        let grace = match path.as_str() {
            "log/head" => Grace::Behind,
            "log/checkpoint" => Grace::Noted,
            p if p.starts_with("log/cosignatures/") => Grace::LeftAgain,
            // The tiles of the published size, beside wider ones.
            p if p.contains(".p/") && p.ends_with(&format!("/{published}")) => Grace::Noted,
            _ => Grace::None,
        };
        cases.push(Case { path: path.clone(), how: "gone".to_owned(), content: None, grace });
    }
    all_hold(files, &cases, 100);
}

fn note(bytes: &[u8]) -> Note {
    Note::parse(bytes).unwrap()
}

fn with(path: &str, how: &str, note: &Note, grace: Grace) -> Case {
    Case { path: path.to_owned(), how: how.to_owned(), content: Some(note.to_bytes()), grace }
}

/// Cosigners of another name or key, and heads of another past, signed with the log's own key.
fn a_line_that_is_nobodys_is_named(sandbox: &Sandbox) {
    let (files, key) = keyring(sandbox);
    let mut rng = StdRng::from_seed([9; 32]);
    let log = signer(key);
    let mut cases = Vec::new();
    for (path, bytes) in below_log(files).filter(|(p, _)| !p.contains("/tile/") && !p.contains("/commit/")) {
        let own = note(bytes);
        for line in &own.signatures {
            let stranger = if line.name == log.verifier().name() {
                SignerKey::generate(&line.name, &mut rng).sign(&own.text)
            } else {
                CosignerSecret::generate(&line.name, &mut rng).cosign(&own.text, super::damage::now())
            };
            let mut more = own.clone();
            more.signatures.push(stranger.clone());
            cases.push(with(path, "a stranger's line beside it", &more, Grace::None));
            let mut other = own.clone();
            other.signatures.iter_mut().filter(|l| *l == line).for_each(|l| *l = stranger.clone());
            cases.push(with(path, "a stranger's line in its place", &other, Grace::None));
        }
        let mut checkpoint = Checkpoint::parse(&own.text).unwrap();
        for (how, size, root) in [
            ("another past", checkpoint.size, Digest::of(b"another past")),
            ("an older head", checkpoint.size - 1, checkpoint.root),
            ("a head that is not there", checkpoint.size + 1, checkpoint.root),
            ("no entries", 0, checkpoint.root),
        ] {
            (checkpoint.size, checkpoint.root) = (size, root);
            let text = checkpoint.to_text();
            let signed = Note { signatures: vec![log.sign(&text)], text };
            // As the newest head it is what the entries are held against; a published one beside it is a fork, which
            // opening says.
            if path != "log/checkpoint" {
                cases.push(with(path, how, &signed, Grace::None));
            }
        }
    }
    all_hold(files, &cases, 20);
}

fn a_cosigner_who_is_not_in_the_policy_is_noted(sandbox: &Sandbox) {
    let (files, _) = keyring(sandbox);
    let stranger = CosignerSecret::generate("w3.example/c1", &mut StdRng::from_seed([9; 32]));
    let mut head = note(&files["log/head"]);
    head.signatures.push(stranger.cosign(&head.text, super::damage::now()));
    let path = cosignature_path(&stranger.verifier());
    let known = files.keys().find(|p| p.starts_with("log/cosignatures/")).unwrap();
    let mut unsigned = head.clone();
    unsigned.signatures.remove(0);
    let cases = [
        with(&path, "whom the policy does not name", &head, Grace::Noted),
        with(&path, "the same, and the log has not signed it", &unsigned, Grace::None),
        with(known, "under the name of one whom the policy names", &head, Grace::None),
    ];
    all_hold(files, &cases, 3);
}

fn without_its_published_head_a_log_is_published_anew(sandbox: &Sandbox) {
    let fleet = witnessed(sandbox);
    std::fs::remove_file(fleet.keyring("log/checkpoint")).unwrap();
    let said = fleet.keys("bob", &["log", "verify"]).ok();
    assert!(said.contains("log/checkpoint: it is missing"), "{said}");
    fleet.keys("alice", &["log", "publish"]).ok();
    let said = fleet.keys("alice", &["log", "verify"]).ok();
    assert!(!said.contains("note:"), "{said}");
}
