//! A fleet in a sandbox, driven by the program's own commands.

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

    /// A file of the keyring.
    pub(crate) fn keyring(&self, path: &str) -> std::path::PathBuf {
        self.sandbox.path("fleet/keyring").join(path)
    }
}
