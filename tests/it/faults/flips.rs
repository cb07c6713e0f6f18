//! Every file of a keyring, damaged in every way that a disk, a sync tool or a thief might: the verifier notices, and names
//! the file.
//!
//! Each keyring is read into memory once and verified there thousands of times; the program itself is asked about some of
//! it. What is not damage is listed in [`Grace`], with the reason.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use keys::digest::Digest;
use keys::name::Address;
use keys::store::object_path;

use super::damage::{Case, Files, Grace, all_hold, flipped, places, read};
use crate::support::{Sandbox, TestFleet, tests};

tests!["faults::flips":
    a_flipped_bit_is_found_and_its_file_named,
    a_file_that_is_cut_emptied_or_gone_is_named,
    a_file_with_anothers_content_is_named,
    a_stray_file_is_named,
    a_checkpoint_that_claims_too_much_is_named,
    the_program_names_the_file_and_exits_3,
    a_file_that_is_none_or_far_too_large_is_named,
];

/// A keyring that holds something of everything: a full founding, attachments, SSH certificates, secrets with several
/// versions, a proposal that waits, a request that waits.
fn keyring(sandbox: &Sandbox) -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        make(sandbox);
        read(&sandbox.path("fleet/keyring"))
    })
}

fn make(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    for (address, value) in [("fra1/token", "one"), ("nginx@fra1/tls.key", "two"), ("fra1/token", "three")] {
        seal(&fleet, address, value);
    }
    for args in [&["rotate", "fra1", "--yes"][..], &["sync"], &["ssh", "sign", "host", "--yes"]] {
        agreed(&fleet, args);
    }
    fleet.keys("ams1", &["enroll", "ams1", "--service", "nginx"]).ok();
    fleet.keys("alice", &["rotate", "casc1", "--yes"]).exits(4);
    fleet.keys("alice", &["log", "verify"]).ok();
}

fn seal(fleet: &TestFleet<'_>, address: &str, value: &str) {
    if fleet.keys_with("alice", &["seal", address], value.as_bytes()).code() == 4 {
        fleet.keys("bob", &["approve", "--all", "--yes"]);
        fleet.keys("alice", &["sync"]);
    }
}

/// Runs a change as alice, and has bob agree if he has to.
fn agreed(fleet: &TestFleet<'_>, args: &[&str]) {
    if fleet.keys("alice", args).code() == 4 {
        fleet.keys("bob", &["approve", "--all", "--yes"]);
        fleet.keys("alice", &["sync"]);
    }
}

fn a_flipped_bit_is_found_and_its_file_named(sandbox: &Sandbox) {
    let files = keyring(sandbox);
    let cases: Vec<Case> = files
        .iter()
        .flat_map(|(path, bytes)| {
            places(bytes.len()).into_iter().map(move |at| flipped(path, bytes, at, (at * 5 + path.len()) % 8))
        })
        .collect();
    all_hold(files, &cases, 1_500);
}

fn a_file_that_is_cut_emptied_or_gone_is_named(sandbox: &Sandbox) {
    let files = keyring(sandbox);
    let mut cases = Vec::new();
    for (path, bytes) in files {
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let content = Some(bytes[..length].to_vec());
            cases.push(Case { path: path.clone(), how: format!("cut to {length}"), content, grace: Grace::None });
        }
        let longer = Some([bytes.as_slice(), b"\n"].concat());
        cases.push(Case { path: path.clone(), how: "one byte more".to_owned(), content: longer, grace: Grace::None });
        let grace = match path.as_str() {
            "log/checkpoint" => Grace::NoKeyring,
            p if p.starts_with("objects/ssh/") => Grace::MadeAgain,
            p if p.starts_with("proposals/") => Grace::Withdrawn,
            _ => Grace::None,
        };
        cases.push(Case { path: path.clone(), how: "gone".to_owned(), content: None, grace });
    }
    all_hold(files, &cases, 100);
}

fn a_file_with_anothers_content_is_named(sandbox: &Sandbox) {
    let files = keyring(sandbox);
    let mut cases = Vec::new();
    for (path, bytes) in files {
        let kind = |p: &str| p.split('/').next().unwrap_or_default().to_owned();
        let others = files.iter().filter(|(p, b)| *p != path && *b != bytes && kind(p) == kind(path)).take(6);
        for (other, content) in others {
            let how = format!("with the content of {other}");
            cases.push(Case { path: path.clone(), how, content: Some(content.clone()), grace: Grace::None });
        }
    }
    all_hold(files, &cases, 100);
}

fn a_stray_file_is_named(sandbox: &Sandbox) {
    let files = keyring(sandbox);
    let stray = b"a stray file".to_vec();
    let right = object_path(&Digest::of(&stray));
    let elsewhere = object_path(&Digest::of(b"another"));
    let id = "0".repeat(64);
    let known = |prefix: &str| files.keys().find(|p| p.starts_with(prefix)).unwrap().clone();
    let beside = |path: &str| format!("{}/stray", path.rsplit_once('/').unwrap().0);
    let damage = [
        "stray".to_owned(),
        "README.md".to_owned(),
        "log/stray".to_owned(),
        "log/checkpoint.old".to_owned(),
        "log/tile/0/001".to_owned(),
        "log/tile/1/000.p/1".to_owned(),
        "log/tile/entries/000.p/255".to_owned(),
        "log/commit/00000000000000000001x".to_owned(),
        "log/commit/00000000000000009999".to_owned(),
        "certs/stray".to_owned(),
        "certs/00/00000000000000000000000000000000000000".to_owned(),
        "objects/stray".to_owned(),
        "objects/ssh/00000000000000000099".to_owned(),
        "sealed/fra1/other.pgp".to_owned(),
        "sealed/_shared/token.pgp".to_owned(),
        "sealed/fra1/token.pgp~".to_owned(),
        "proposals/stray".to_owned(),
        format!("proposals/{id}/body"),
        format!("proposals/{id}/{id}.sig"),
        "proposals/requests/stray.request".to_owned(),
        elsewhere,
        beside(&known("certs/")),
        beside(&known("objects/")),
        beside(&known("log/tile/0/")),
    ];
    let noted = [right, ".writing".to_owned(), ".tmp-1-2-3".to_owned(), "log/.tmp-1-2-3".to_owned()];
    let cases = |paths: Vec<String>, grace| {
        let stray = stray.clone();
        paths.into_iter().map(move |path| Case { path, how: "stray".into(), content: Some(stray.clone()), grace })
    };
    let cases: Vec<Case> = cases(damage.to_vec(), Grace::None).chain(cases(noted.to_vec(), Grace::Noted)).collect();
    assert!(Address::from_path("sealed/fra1/other.pgp").is_some(), "a stray secret has the name of a secret");
    all_hold(files, &cases, 20);
}

/// A size that no disk could hold costs neither memory nor time.
fn a_checkpoint_that_claims_too_much_is_named(sandbox: &Sandbox) {
    let files = keyring(sandbox);
    let text = String::from_utf8(files["log/checkpoint"].clone()).unwrap();
    let size = text.lines().nth(1).unwrap();
    let cases: Vec<Case> =
        ["0", "1", "255", "256", "70000", "1099511627776", "9223372036854775807", "18446744073709551615"]
            .into_iter()
            .map(|claimed| {
                let content = text.replacen(&format!("\n{size}\n"), &format!("\n{claimed}\n"), 1).into_bytes();
                let how = format!("claims {claimed} entries");
                Case { path: "log/checkpoint".to_owned(), how, content: Some(content), grace: Grace::None }
            })
            .collect();
    all_hold(files, &cases, 8);
}

/// The keyring on a real disk.
fn on_disk(sandbox: &Sandbox) -> std::path::PathBuf {
    for (path, bytes) in keyring(sandbox) {
        sandbox.write(&format!("copy/keyring/{path}"), bytes);
    }
    sandbox.path("copy/keyring")
}

fn verify(sandbox: &Sandbox) -> crate::support::Ran {
    sandbox.keys(&["--fleet", "copy", "--home", "nobody", "log", "verify"])
}

fn the_program_names_the_file_and_exits_3(sandbox: &Sandbox) {
    let root = on_disk(sandbox);
    verify(sandbox).ok();
    for (path, bytes) in keyring(sandbox) {
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 4;
        std::fs::write(root.join(path), damaged).unwrap();
        let said = verify(sandbox).exits(3);
        assert!(said.contains(&format!("DAMAGED: {path}: ")), "{path}:\n{said}");
        std::fs::write(root.join(path), bytes).unwrap();
    }
    std::fs::remove_file(root.join("log/checkpoint")).unwrap();
    verify(sandbox).refuses(5, "log/checkpoint is missing");
}

fn a_file_that_is_none_or_far_too_large_is_named(sandbox: &Sandbox) {
    let root = on_disk(sandbox);
    let mut kinds = BTreeSet::new();
    for (path, bytes) in keyring(sandbox) {
        // One of each kind: `log/tile/0/…`, `objects/…`, `proposals/requests/…`.
        let kind: Vec<&str> = path.split('/').filter(|part| Digest::parse(part).is_none() && part.len() > 2).collect();
        if !kinds.insert(kind[..kind.len().min(2)].to_vec()) {
            continue;
        }
        let file = root.join(path);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        let said = verify(sandbox).exits(3);
        assert!(said.contains(&format!("DAMAGED: {path}: ")), "a symbolic link at {path}:\n{said}");
        std::fs::remove_file(&file).unwrap();
        std::fs::File::create(&file).unwrap().set_len(97 << 20).unwrap();
        let said = verify(sandbox).exits(3);
        assert!(said.contains(&format!("DAMAGED: {path}: ")), "97 MiB at {path}:\n{said}");
        std::fs::write(&file, bytes).unwrap();
    }
    verify(sandbox).ok();
}
