//! What no compiler checks: who may use whom, how long a file may be, what every file begins with, and that what the
//! documents name exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{Sandbox, tests};

tests!["tidy":
    modules_use_only_what_stands_above_them,
    files_open_with_what_they_are_for_and_stay_readable,
    nothing_private_is_committed,
    documents_name_files_that_exist,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(directory)];
    while let Some(path) = todo.pop() {
        for entry in std::fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The modules in the order of the table at the head of src/lib.rs.
fn order() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = text.lines().filter_map(|l| l.strip_prefix("//! | ")?.split('`').nth(1));
    rows.enumerate().map(|(i, name)| (name.to_owned(), i)).collect()
}

fn modules_use_only_what_stands_above_them(_: &Sandbox) {
    let order = order();
    assert!(order.len() > 20, "the table was found: {order:?}");
    let mut wrong = Vec::new();
    for path in files("src", &["rs"]) {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let module =
            relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let own = *order.get(&module).unwrap_or_else(|| panic!("src/lib.rs does not list {module}"));
        let text = std::fs::read_to_string(&path).unwrap();
        // Tests may reach anywhere; so may links in comments.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines().filter(|l| !l.trim_start().starts_with("//")) {
            for rest in line.split("crate::").skip(1) {
                let used: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if order.get(&used).is_some_and(|n| *n > own) {
                    wrong.push(format!("{}: {module} uses {used}: {}", relative.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn files_open_with_what_they_are_for_and_stay_readable(_: &Sandbox) {
    let all = [files("src", &["rs"]), files("tests", &["rs"])].concat();
    for path in all {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not begin with what it is for", path.display());
        let lines = text.lines().count();
        assert!(lines <= 800, "{} has {lines} lines: split it", path.display());
    }
}

/// No private key is ever committed: not in the example fleet, not as a test's fixture.
fn nothing_private_is_committed(_: &Sandbox) {
    let marks = ["PRIVATE KEY-----\n", "BEGIN PGP PRIVATE", "PRIVATE+KEY+cdn"];
    for directory in ["keyring", "policy", "docs", "tests"] {
        let all = files(directory, &["toml", "md", "pub", "json", "pgp", "key", "tsk", "txt", "sh", ""]);
        for path in all {
            let bytes = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            for mark in marks {
                assert!(!text.contains(mark), "{} holds {mark:?}", path.display());
            }
        }
    }
    for path in walk(&root().join("keyring")) {
        let bytes = std::fs::read(&path).unwrap();
        if let Ok(cert) = <sequoia_openpgp::Cert as sequoia_openpgp::parse::Parse<_>>::from_bytes(&bytes) {
            assert!(!cert.is_tsk(), "{} holds secret key material", path.display());
        }
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

/// A path in backquotes in README, SECURITY or docs/ that looks like a file of this project is one.
fn documents_name_files_that_exist(_: &Sandbox) {
    let mut documents = files("docs", &["md"]);
    documents.extend(["README.md", "SECURITY.md"].map(|n| root().join(n)).into_iter().filter(|p| p.exists()));
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let ours = ["src/", "docs/", "tests/", "fuzz/", ".ci/"].iter().any(|p| quoted.starts_with(p));
            let plain = quoted.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
            if ours && plain {
                assert!(root().join(quoted).exists(), "{} names {quoted}, which is not there", path.display());
            }
        }
    }
}
