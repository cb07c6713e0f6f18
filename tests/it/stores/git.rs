//! A fleet's directory in clones of one repository, whose remote all of them push to. git is no store: it takes no condition
//! with a write but that the branch has not moved, and makes one of two logs by what `keys` tells it. What comes of that here is
//! what holds of every store: whoever comes second goes on from what is there, nothing is lost, and no log has two pasts.

use std::path::Path;

use crate::support::{Ran, Sandbox, TestFleet, Tool, tests};

tests!["stores::git":
    three_clones_that_push_at_once_lose_nothing needs [Git],
    two_machines_that_append_are_told_apart_before_anything_is_merged needs [Git],
    an_address_that_is_no_directory_is_told_so,
];

/// The clones of one repository; each is named after who works in it.
struct Clones<'a>(&'a Sandbox);

impl<'a> Clones<'a> {
    /// Clones of what is in `fleet/`, and of the bare `remote.git`.
    fn of(sandbox: &'a Sandbox, names: &[&str]) -> Self {
        let clones = Self(sandbox);
        clones.git("fleet", &["init", "-q", "-b", "main"]).ok();
        sandbox.keys(&["--fleet", "fleet", "git", "install"]).ok();
        clones.commit("fleet");
        clones.git(".", &["clone", "-q", "--bare", "fleet", "remote.git"]).ok();
        for name in names {
            clones.git(".", &["clone", "-q", "remote.git", &format!("in-{name}")]).ok();
            sandbox.keys(&["--fleet", &format!("in-{name}"), "git", "install"]).ok();
        }
        clones
    }

    fn git(&self, place: &str, args: &[&str]) -> Ran {
        let keys = Path::new(env!("CARGO_BIN_EXE_keys")).parent().unwrap();
        let mut command = Tool::Git.command();
        command.current_dir(self.0.path(place)).env("HOME", self.0.root());
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", keys.display()));
        for (name, value) in [("NAME", "someone"), ("EMAIL", "someone@ops.example")] {
            command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        Ran::of(command.args(args))
    }

    fn commit(&self, place: &str) {
        self.git(place, &["add", "-A"]).ok();
        self.git(place, &["commit", "-q", "-m", place]).ok();
    }

    /// Runs the program for `who`, in the clone of the same name.
    fn keys(&self, who: &str, args: &[&str], input: &str) -> Ran {
        let clone = format!("in-{who}");
        self.0.keys_with(&[&["--fleet", &clone, "--home", who], args].concat(), input.as_bytes())
    }

    fn push(&self, who: &str) -> Ran {
        self.git(&format!("in-{who}"), &["push", "-q", "origin", "main"])
    }

    fn pull(&self, who: &str) -> Ran {
        self.git(&format!("in-{who}"), &["pull", "-q", "--no-rebase", "--no-edit", "origin", "main"])
    }

    /// Commits what was done, and brings it to the remote by whatever it takes; gives how often that was refused.
    fn hand_on(&self, who: &str) -> usize {
        self.commit(&format!("in-{who}"));
        for refused in 0..3 {
            if self.push(who).code() == 0 {
                return refused;
            }
            self.pull(who).ok();
        }
        panic!("{who} does not come to push");
    }

    fn checkpoint(&self, who: &str) -> Vec<u8> {
        std::fs::read(self.0.path(&format!("in-{who}/keyring/log/checkpoint"))).unwrap()
    }
}

fn three_clones_that_push_at_once_lose_nothing(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    fleet.join("fra1", "nginx");
    fleet.settle(&["bob"]);
    let clones = Clones::of(sandbox, &["alice", "bob", "ams1"]);
    // Alice has the log's key and appends; bob has not, and proposes; a machine asks to join. None has seen what the others do.
    clones.keys("alice", &["seal", "nginx@fra1/one"], "by alice").ok();
    clones.keys("bob", &["seal", "nginx@fra1/two"], "by bob").exits(4);
    clones.keys("ams1", &["enroll", "ams1", "--endpoint", "198.51.100.9"], "").ok();
    assert_eq!(["alice", "bob", "ams1"].map(|who| clones.hand_on(who)), [0, 1, 1], "all but the first are refused");
    // She goes on with what they have handed on, while bob does something more; this time she comes second.
    clones.pull("alice").ok();
    clones.keys("alice", &["approve", "--all", "--yes"], "").exits(4);
    clones.keys("bob", &["seal", "nginx@fra1/three"], "by bob, too").exits(4);
    assert_eq!(["bob", "alice"].map(|who| clones.hand_on(who)), [1, 1]);
    clones.pull("bob").ok();
    clones.keys("bob", &["approve", "--all", "--yes"], "").exits(4);
    assert_eq!(clones.hand_on("bob"), 0);
    clones.pull("alice").ok();
    clones.keys("alice", &["sync"], "").ok();
    assert_eq!(clones.hand_on("alice"), 0);
    for who in ["bob", "ams1"] {
        clones.pull(who).ok();
        assert_eq!(clones.checkpoint(who), clones.checkpoint("alice"), "{who} has the same log");
    }
    for who in ["alice", "bob", "ams1"] {
        clones.keys(who, &["log", "verify"], "").ok();
        assert_eq!(clones.git(&format!("in-{who}"), &["status", "--porcelain"]).ok(), "", "nothing is left over");
    }
    for (name, value) in [("one", "by alice"), ("two", "by bob"), ("three", "by bob, too")] {
        let opened = sandbox.keys(&["--fleet", "in-ams1", "--home", "fra1", "open", &format!("nginx@fra1/{name}")]);
        assert_eq!(opened.ok(), value);
    }
    let members = clones.keys("bob", &["status", "--json"], "").json()["members"].clone();
    assert_eq!(members["pop"], 2, "ams1 has joined: {members}");
    let waiting = keys::disk::RealFiles::open(&sandbox.path("in-alice/keyring"), keys::disk::Access::Public).unwrap();
    let waiting = keys::disk::Disk::new(waiting).walk("proposals").unwrap();
    assert_eq!(waiting, [], "nothing waits");
}

fn two_machines_that_append_are_told_apart_before_anything_is_merged(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    // The wrong way: a second machine with the log's key.
    sandbox.copy("alice", "twin");
    let clones = Clones::of(sandbox, &["alice", "twin"]);
    clones.keys("alice", &["seal", "fra1/one"], "one").ok();
    clones.keys("twin", &["seal", "fra1/two"], "two").ok();
    assert_eq!(clones.hand_on("alice"), 0);
    clones.commit("in-twin");
    let refused = clones.push("twin");
    assert!(refused.code() != 0 && refused.stderr().contains("rejected"), "{}", refused.stderr());
    let merged = clones.pull("twin");
    let said = merged.stdout() + &merged.stderr();
    for part in ["FORK: ", "the log of this branch", "nothing was merged", "docs/runbooks/git.md"] {
        assert!(merged.code() != 0 && said.contains(part), "{part}: {said}");
    }
    clones.git("in-twin", &["merge", "--abort"]).ok();
    clones.keys("twin", &["log", "verify"], "").ok();
    // Neither does it go on with the other past, which its home has not seen: it keeps what shows that there are two.
    clones.git("in-twin", &["branch", "-q", "other-past"]).ok();
    clones.git("in-twin", &["reset", "-q", "--hard", "origin/main"]).ok();
    clones.keys("twin", &["seal", "fra1/two"], "two").refuses(3, "FORK");
    assert_eq!(std::fs::read_dir(sandbox.path("twin/evidence")).unwrap().count(), 1);
    // What has been pushed is as it was. The change is made again where the log's key belongs, and nothing is lost.
    clones.keys("alice", &["seal", "fra1/two"], "two").ok();
    assert_eq!(clones.hand_on("alice"), 0);
    clones.keys("alice", &["log", "verify"], "").ok();
    assert_eq!(sandbox.keys(&["--fleet", "in-alice", "--home", "fra1", "open", "fra1/two"]).ok(), "two");
}

fn an_address_that_is_no_directory_is_told_so(sandbox: &Sandbox) {
    for (address, way) in [
        ("https://keys.cdn.example", "keys pull --from https://keys.cdn.example"),
        ("http://127.0.0.1:7411/fleet", "keys pull --from http://127.0.0.1:7411/fleet"),
        ("git@host.example:fleet.git", "clone it"),
        ("ssh://git@host.example/fleet.git", "clone it"),
        ("https://host.example/fleet.git", "clone it"),
    ] {
        sandbox.keys(&["--fleet", address, "status"]).refuses(5, way);
    }
    sandbox.keys(&["--fleet", "nowhere", "status"]).refuses(5, "'keys init'");
}
