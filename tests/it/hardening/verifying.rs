//! A verification says what is so: of every file, whatever its name, of checkpoints that nobody signed, and beside a writer.

use crate::support::{Ran, Sandbox, TestFleet, Tool, files_below, tests};

tests!["hardening::verifying":
    files_with_strange_names_are_named,
    a_checkpoint_that_nobody_signed_is_named,
    ssh_certificates_that_are_missing_are_noted,
    nobody_is_alarmed_beside_a_writer needs [Strace],
];

fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.key", "value");
    fleet.keys("alice", &["sync"]).ok();
    fleet.keys("fra1", &["log", "verify"]).ok();
    fleet
}

fn files_with_strange_names_are_named(sandbox: &Sandbox) {
    use std::os::unix::ffi::OsStrExt as _;
    let fleet = fleet(sandbox);
    let names: [&[u8]; 5] = [b"\xff", b"a\\b", b"log/\xfe\xff", b"\x1b[2J", b"objects/.hidden"];
    for name in names {
        let directory = fleet.keyring("").join(std::ffi::OsStr::from_bytes(name));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("evil"), "evil").unwrap();
        let verified = fleet.keys("fra1", &["log", "verify"]);
        let said = verified.exits(3);
        let named = said.lines().filter(|l| l.starts_with("DAMAGED: ")).count();
        assert_eq!(named, 1, "{name:?}: {said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
        std::fs::remove_dir_all(directory).unwrap();
    }
    fleet.keys("fra1", &["log", "verify"]).ok();
}

fn a_checkpoint_that_nobody_signed_is_named(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    for size in ["0", "9000000000000", "9223372036854775807"] {
        let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let text = format!("cdn.example/keys/1\n{size}\n{root}\n\n\u{2014} x AAAAAAA=\n");
        std::fs::write(fleet.keyring("log/checkpoint"), text).unwrap();
        // On a machine that has seen nothing yet, with little memory.
        let mut limited = std::process::Command::new("/bin/sh");
        limited.args(["-c", "ulimit -v 4000000 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_keys")]).env_clear();
        let args = ["--fleet", "fleet", "--home", "stranger", "log", "verify"];
        let verified = Ran::of(limited.current_dir(sandbox.root()).args(args));
        let said = verified.exits(3);
        assert!(said.contains("DAMAGED: log/checkpoint: "), "{size}: {said}");
        for line in ["status", "ls"] {
            let ran = fleet.keys("stranger", &[line]);
            assert_eq!((ran.code(), ran.stdout().as_str()), (3, ""), "{size}: {line}: {}", ran.stderr());
        }
    }
}

fn ssh_certificates_that_are_missing_are_noted(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let certificates = files_below(&fleet.keyring("objects/ssh"));
    assert!(!certificates.is_empty());
    for path in &certificates {
        std::fs::remove_file(path).unwrap();
        let name = path.strip_prefix(fleet.keyring("")).unwrap().to_str().unwrap().to_owned();
        let said = fleet.keys("fra1", &["log", "verify"]).ok();
        assert!(said.contains(&format!("note: {name}: it is missing; ")), "{said}");
    }
    // As it says: where the key of the SSH CA is, they are made again.
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(files_below(&fleet.keyring("objects/ssh")), certificates);
    assert!(!fleet.keys("fra1", &["log", "verify"]).ok().contains("note: "));
}

/// A reader who takes so long that the log and its files are others before it comes to an end, many times over.
fn nobody_is_alarmed_beside_a_writer(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    for look in [&["log", "verify"][..], &["open", "nginx@fra1/tls.key"]] {
        let mut command = Tool::Strace.command();
        let slowly = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=openat", "-e", "inject=openat:delay_enter=4000"];
        command.args(slowly).arg(env!("CARGO_BIN_EXE_keys")).args(["--fleet", "fleet", "--home", "fra1"]).args(look);
        command.current_dir(sandbox.root());
        let reader = std::thread::spawn(move || Ran::of(&mut command));
        let mut written = 0;
        while !reader.is_finished() && written < 9 {
            fleet.seal("nginx@fra1/tls.key", &format!("value {written}"));
            written += 1;
        }
        assert!(written > 1, "{written}");
        let said = reader.join().unwrap().ok();
        assert!(said.starts_with("verified: ") || said.starts_with("value"), "{said}");
    }
}
