//! A writer of a node's files that is killed, or whose disk is full, between any two of them: sshd goes on letting in whom it
//! should and refusing whom it should not, and the next run finishes.

use std::path::Path;

use crate::sshd::{Site, Sshd};
use crate::support::{Ran, Sandbox, tests};

tests!["sshd_crash":
    a_writer_that_is_killed_leaves_a_node_that_works needs [Sshd, Ssh, SshKeygen, Strace],
    a_full_disk_leaves_a_node_that_works needs [Sshd, Ssh, SshKeygen, Strace],
    nothing_refers_to_files_that_are_not_there_yet needs [SshKeygen, Strace],
];

/// How many files a node has: two accounts are in the policy.
const FILES: usize = 8;

/// Renders fra1's files while its calls of `renameat`, one for each file, meet `fault` as strace words it.
fn render(site: &Site<'_>, host_key: &Path, fault: &str) -> Ran {
    let directory = site.path("fra1/ssh").display().to_string();
    let host_key = host_key.display().to_string();
    let args = ["--fleet", "fleet", "--home", "alice", "ssh", "render", "--node", "fra1"];
    let args = [&args[..], &["--out", &directory, "--directory", &directory, "--host-key", &host_key]].concat();
    site.fleet.sandbox.keys_under_fault(&args, "renameat", fault)
}

fn revoke(site: &Site<'_>, key: &Path) {
    let file = format!("{}-cert.pub", key.display());
    site.fleet.keys("alice", &["ssh", "revoke", "--key", &file, "--yes"]).ok();
}

/// Lets a fault meet the writer at each file in turn, with a running sshd and people at its door.
fn at_every_file(sandbox: &Sandbox, fault: impl Fn(usize) -> String, ends: impl Fn(&Ran)) {
    let site = Site::new(sandbox);
    let (good, before, since) = (
        site.certified("good", "alice", &[]),
        site.certified("before", "alice", &[]),
        site.certified("since", "alice", &[]),
    );
    revoke(&site, &before);
    site.render("fra1");
    let sshd = Sshd::start(&site, "fra1");
    site.lets_in(&sshd, &since);

    // From here on another list, another set of CAs, another certificate for the host.
    revoke(&site, &since);
    site.fleet.keys("alice", &["rotate", "casc1", "--slot", "ssh-user-ca", "--yes"]).ok();
    site.fleet.keys("alice", &["ssh", "sign", "host", "fra1", "--again"]).ok();
    let host_key = site.host_key("fra1");
    sandbox.copy("fra1/ssh", "old");
    for nth in 1..=FILES {
        sandbox.copy("old", "fra1/ssh");
        ends(&render(&site, &host_key, &fault(nth)));
        let is_new = |name: &str| {
            std::fs::read(site.path("fra1/ssh").join(name)).ok() != std::fs::read(site.path("old").join(name)).ok()
        };
        assert_eq!((is_new("revoked.krl"), is_new("user_ca.pub")), (nth > 1, nth > 2), "at file {nth}");
        site.lets_in(&sshd, &good);
        site.turns_away(&sshd, &before, "revoked");
        if nth > 1 {
            site.turns_away(&sshd, &since, "revoked");
        }
    }
    site.render("fra1");
    let after = site.certified("after", "alice", &[]);
    site.lets_in(&sshd, &after);
    site.lets_in(&sshd, &good);
    drop(sshd);
    site.lets_in(&Sshd::start(&site, "fra1"), &after);
}

fn a_writer_that_is_killed_leaves_a_node_that_works(sandbox: &Sandbox) {
    at_every_file(sandbox, |nth| format!("signal=KILL:when={nth}"), |ran| assert!(ran.is_killed()));
}

fn a_full_disk_leaves_a_node_that_works(sandbox: &Sandbox) {
    at_every_file(sandbox, |nth| format!("error=ENOSPC:when={nth}+"), |ran| ran.refuses(1, "the disk is full"));
}

fn nothing_refers_to_files_that_are_not_there_yet(sandbox: &Sandbox) {
    let site = Site::new(sandbox);
    let host_key = site.host_key("fra1");
    let certificate = site.named("probe", "HostCertificate");
    let account = format!("principals/{}", site.login);
    for nth in 1..=FILES + 1 {
        let _ = std::fs::remove_dir_all(site.path("fra1/ssh"));
        let ran = render(&site, &host_key, &format!("signal=KILL:when={nth}"));
        let there = |name: &str| site.path("fra1/ssh").join(name).exists();
        let drop_in = there("sshd_config.d/10-keys.conf");
        let order = ["revoked.krl", "user_ca.pub", &account, &certificate, "known_hosts", "revoked_hosts.krl"];
        let written = order.iter().filter(|name| there(name)).count();
        assert!(order.iter().take(written).all(|name| there(name)), "in their order: {written} at {nth}");
        assert!(!drop_in || written == order.len(), "the drop-in comes last, at {nth}");
        assert_eq!(drop_in, ran.code() == 0, "at {nth}");
    }
}
