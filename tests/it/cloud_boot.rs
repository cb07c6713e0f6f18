//! A machine that is born with user-data and nothing else: real cloud-init and real systemd start it, the program is not the
//! right one at first, then the server is away, then it joins; it boots again; and its image is copied.

use std::path::Path;
use std::process::Command;

use crate::support::machine::Machine;
use crate::support::{Ran, Sandbox, TestFleet, tests};

tests!["cloud_boot":
    a_machine_joins_by_its_user_data_boots_again_and_a_copy_of_it_does_not needs [Machine],
];

/// What is tried in the machine, by the word for the boot. The unit retries every second here instead of every twenty.
const TRIAL: &str = r#"
set -eu
export PATH=/usr/bin:/bin:/usr/sbin:/sbin KEYS_FLEET=/test/fleet KEYS_HOME=/test/alice
unit=keys-bootstrap.service
within() { # SECONDS WORDS COMMAND…: waits until it succeeds
    seconds=$1 words=$2; shift 2
    for _ in $(seq $((seconds * 5))); do if "$@" > /dev/null 2>&1; then echo "$words"; return 0; fi; sleep 0.2; done
    echo "not within $seconds s: $words"; journalctl --no-pager -u $unit | tail -30; exit 1
}
said() { journalctl --no-pager -b -u $unit | grep -qF -- "$1"; }
entries() { /test/keys log verify | sed -n 's/^verified: \([0-9]*\) entries.*/\1/p'; }
settled() { was=$(entries); sleep 3; test -n "$was" && test "$(entries)" = "$was"; }
within 100 'cloud-init is done' test -e /var/lib/cloud/instance/boot-finished
cloud-init status | grep -x 'status: done'
serve() { /test/keys serve --listen 127.0.0.1:8080 > /test/served 2>&1 & }
authority() { while sleep 0.5; do /test/keys sync > /test/synced 2>&1 || true; done & }
case $(cat /test/boot) in
first)
    test "$(stat -c '%a %U' /etc/keys/bootstrap.toml)" = '600 root'
    within 60 'a program with another checksum is not installed' said 'no program with the pinned checksum'
    test ! -e /usr/local/bin/keys
    cp /test/keys /test/program
    within 60 'the server is away, and keys are made meanwhile or later' test -e /usr/local/bin/keys
    within 60 'it says so' said '127.0.0.1:8080'
    before=$(entries)
    serve; authority
    within 90 'it has joined' systemctl -q is-active $unit
    ! grep -q seed /etc/keys/bootstrap.toml
    within 60 'the authority has done what follows' settled
    entries > /test/entries
    test "$(cat /test/entries)" -gt "$before"
    ;;
second)
    serve
    within 60 'it is still a member' systemctl -q is-active $unit
    test "$(entries)" = "$(cat /test/entries)"
    # The image is copied before it boots the next time: another machine, the same user-data.
    rm -rf /var/lib/keys /etc/keys
    sed -i s/fra1/copy/ /var/lib/cloud/seed/nocloud/meta-data
    echo uninitialized > /etc/machine-id
    ;;
copied)
    serve; authority
    within 60 'a copy is told that the token was used' said token_reused
    within 10 'and does not go on asking' systemctl -q is-failed $unit
    settled
    test "$(entries)" = "$(cat /test/entries)"
    ;;
esac
"#;

fn a_machine_joins_by_its_user_data_boots_again_and_a_copy_of_it_does_not(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet
        .keys(
            "alice",
            &["invite", "fra1", "--services", "nginx", "--ttl", "2h", "--approval", "auto", "--out", "token", "--yes"],
        )
        .ok();
    let program = env!("CARGO_BIN_EXE_keys");
    let user_data = sandbox.path("user-data").display().to_string();
    let cloud_config =
        ["cloud-config", "fra1", "--token", "token", "--mirror", "http://127.0.0.1:8080", "--program", "/test/program"];
    let out = ["--checksum-of", program, "--format", "user-data", "--out", &user_data];
    fleet.keys("alice", &[&cloud_config[..], &out].concat()).ok();
    let text = std::fs::read_to_string(&user_data).unwrap();
    let machine = Machine::new(sandbox, "fra1", &text);
    machine.put("etc/systemd/system/keys-bootstrap.service.d/quick.conf", "[Service]\nRestartSec=1\n");
    let shared = machine.shared();
    for name in ["fleet", "alice"] {
        copy(&sandbox.path(name), &shared);
    }
    copy(Path::new(program), &shared.join("keys"));
    std::fs::write(shared.join("program"), "#!/bin/sh\necho stolen\n").unwrap();
    let said = machine.boot(&["first", "second", "copied"], TRIAL);
    assert!(said.contains("and does not go on asking"), "{said}");
    // What the log says of it: one machine, with its service, and nobody else.
    let there = |args: &[&str]| {
        let (fleet, home) = (shared.join("fleet"), shared.join("alice"));
        let mut command = sandbox.command();
        Ran::of(command.arg("--fleet").arg(fleet).arg("--home").arg(home).args(args))
    };
    let list = there(&["invite", "list", "--all"]).ok();
    assert!(list.lines().any(|l| l.starts_with("fra1 ") && l.contains(" used ")), "{list}");
    let entries: u64 = std::fs::read_to_string(shared.join("entries")).unwrap().trim().parse().unwrap();
    assert!(entries > 2, "{entries}");
    let joined = there(&["log", "show", "--json"]).ok().matches("\"member.enroll\"").count();
    assert_eq!(joined, 1, "{said}");
    there(&["log", "verify"]).ok();
}

fn copy(from: &Path, to: &Path) {
    Ran::of(Command::new("/bin/cp").arg("-a").arg(from).arg(to)).ok();
}
