//! A fleet in a sandbox, driven by the program's own commands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::parse::Parse as _;

use super::{Ran, Sandbox};

/// A founded fleet: `fleet/` and a home for each machine or person, named after it.
pub(crate) struct TestFleet<'a> {
    pub sandbox: &'a Sandbox,
}

impl<'a> TestFleet<'a> {
    /// A fleet of one operator, alice, with the authority casc1 in her home.
    pub(crate) fn of_one(sandbox: &'a Sandbox) -> Self {
        let fleet = Self { sandbox };
        fleet.keys("alice", &["init", "cdn.example", "--operator", "Alice <alice@ops.example>"]).ok();
        fleet
    }

    /// A fleet of two operators, alice and bob, where bob's quorum is needed for what reaches far.
    pub(crate) fn of_two(sandbox: &'a Sandbox) -> Self {
        let fleet = Self { sandbox };
        let request = sandbox.path("bob.request").display().to_string();
        fleet
            .keys(
                "bob",
                &[
                    "enroll",
                    "bob",
                    "--operator",
                    "Bob <bob@ops.example>",
                    "--founding",
                    "cdn.example",
                    "--out",
                    &request,
                ],
            )
            .ok();
        fleet
            .keys("alice", &["init", "cdn.example", "--operator", "Alice <alice@ops.example>", "--operator", &request])
            .exits(4);
        fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
        fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
        fleet.keys("bob", &["sync"]).ok();
        fleet.keys("alice", &["sync"]).ok();
        fleet
    }

    /// Runs the program for the fleet and the home of `who`.
    pub(crate) fn keys(&self, who: &str, args: &[&str]) -> Ran {
        self.keys_with(who, args, b"")
    }

    /// The same, with something on stdin.
    pub(crate) fn keys_with(&self, who: &str, args: &[&str], input: &[u8]) -> Ran {
        let mut all = vec!["--fleet", "fleet", "--home", who];
        all.extend(args);
        self.sandbox.keys_with(&all, input)
    }

    /// Enrols a PoP with services, and has it admitted by whoever is needed.
    pub(crate) fn join(&self, pop: &str, services: &str) {
        let endpoint = format!("198.51.100.{}", pop.bytes().map(u32::from).sum::<u32>() % 250 + 1);
        let mut args = vec!["enroll", pop, "--endpoint", &endpoint];
        if !services.is_empty() {
            args.extend(["--service", services]);
        }
        self.keys(pop, &args).ok();
        if self.keys("alice", &["approve", "--all", "--yes"]).code() == 4 {
            self.keys("bob", &["approve", "--all", "--yes"]).exits(4);
            self.keys("alice", &["sync"]).ok();
        }
    }

    /// Seals a value as alice.
    pub(crate) fn seal(&self, address: &str, value: &str) {
        self.keys_with("alice", &["seal", address], value.as_bytes()).ok();
    }

    /// Lets these and alice, who takes in what they hand in, catch up until nobody finds anything to do.
    pub(crate) fn settle(&self, others: &[&str]) {
        for _ in 0..8 {
            let mut idle = true;
            for who in others.iter().chain(&["alice"]) {
                let ran = self.keys(who, &["sync", "--json"]);
                ran.ok();
                idle &= ran.json()["done"].as_array().is_some_and(Vec::is_empty);
            }
            if idle {
                return;
            }
        }
        panic!("the fleet does not come to rest");
    }

    /// The active and the standby key of a member's slot, as the log has them.
    pub(crate) fn active_and_standby(&self, member: &str, slot: &str) -> (String, String) {
        let ran = self.keys("alice", &["rotate", member, "--slot", slot, "--dry-run", "--json"]);
        ran.exits(9);
        let rotation = &ran.json()["plan"]["rotations"][0];
        let key = |field: &str| rotation[field].as_str().unwrap_or_else(|| panic!("{rotation}")).to_owned();
        (key("from"), key("to"))
    }

    /// Exports the certificates into the directory `name`; gives the file, and whose binding we take for authenticated.
    ///
    /// A withdrawal in the second of its certification is dated one second later, so a stranger, who judges by the clock,
    /// is asked no sooner than that.
    pub(crate) fn export_ring(&self, name: &str, flags: &[&str]) -> (PathBuf, Vec<String>) {
        let out = self.sandbox.path(name);
        let ran = self.keys("alice", &[&["ring", "export", "--json", "--out", out.to_str().unwrap()], flags].concat());
        ran.ok();
        let names = ran.json()["authenticated"].as_array().unwrap().clone();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        (out.join("ring.pgp"), names.iter().map(|n| n.as_str().unwrap().to_owned()).collect())
    }

    /// A file of the keyring.
    pub(crate) fn keyring(&self, path: &str) -> PathBuf {
        self.sandbox.path("fleet/keyring").join(path)
    }
}

/// A member's OpenPGP user id.
pub(crate) fn user_id(member: &str) -> String {
    match member {
        "alice" => "Alice <alice@ops.example>".to_owned(),
        "bob" => "Bob <bob@ops.example>".to_owned(),
        _ if member.contains('@') => format!("{member} <{member}.cdn.example>"),
        _ if member.starts_with("casc") => format!("CasC {member} <{member}@casc.cdn.example>"),
        _ => format!("PoP {member} <pop@{member}.cdn.example>"),
    }
}

/// The fingerprints of a ring's certificates by user id.
pub(crate) fn fingerprints(ring: &std::path::Path) -> BTreeMap<String, String> {
    let certs = CertParser::from_file(ring).unwrap().map(Result::unwrap);
    certs
        .map(|c| {
            let user_id = String::from_utf8(c.userids().next().unwrap().userid().value().to_vec()).unwrap();
            (user_id, c.fingerprint().to_hex())
        })
        .collect()
}
