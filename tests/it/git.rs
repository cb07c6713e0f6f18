//! A keyring in a real git repository: what git shows of it, and what becomes of two branches that have both changed it.

use std::path::Path;

use crate::support::{Ran, Sandbox, TestFleet, Tool, tests};

tests!["git":
    git_shows_who_reads_what_and_no_value needs [Git],
    git_shows_values_to_who_can_open_them_and_keeps_none needs [Git],
    the_longer_of_two_logs_is_taken needs [Git],
    two_pasts_are_not_merged needs [Git],
    an_installation_says_what_it_did_and_can_be_repeated needs [Git],
];

const ADDRESS: &str = "fra1/token";

/// git in the fleet's directory, for whoever has the home `who`.
fn git(sandbox: &Sandbox, who: &str, args: &[&str]) -> Ran {
    let keys = Path::new(env!("CARGO_BIN_EXE_keys")).parent().unwrap();
    let mut command = Tool::Git.command();
    command.current_dir(sandbox.path("fleet")).env("HOME", sandbox.root()).env("KEYS_HOME", sandbox.path(who));
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", keys.display()));
    for (name, value) in [("NAME", "alice"), ("EMAIL", "alice@ops.example")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    Ran::of(command.args(args))
}

fn commit(sandbox: &Sandbox, message: &str) {
    git(sandbox, "nobody", &["add", "-A"]).ok();
    git(sandbox, "nobody", &["commit", "-q", "-m", message]).ok();
}

/// A fleet with a secret, committed, in a repository that knows about keyrings.
fn committed<'a>(sandbox: &'a Sandbox, flags: &[&str]) -> TestFleet<'a> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.seal(ADDRESS, "the first value");
    git(sandbox, "nobody", &["init", "-q", "-b", "main"]).ok();
    fleet.keys("nobody", &[&["git", "install"], flags].concat()).ok();
    commit(sandbox, "first");
    fleet
}

fn git_shows_who_reads_what_and_no_value(sandbox: &Sandbox) {
    let fleet = committed(sandbox, &[]);
    fleet.seal(ADDRESS, "the second value");
    let shown = git(sandbox, "nobody", &["diff"]).ok();
    for line in ["-version 1", "+version 2", " address fra1/token", " reader  alice (2 keys)", " reader  fra1 (2 keys)"]
    {
        assert!(shown.lines().any(|l| l == line), "{line}\n{shown}");
    }
    assert!(shown.contains("-body ") && shown.contains("+body ") && shown.contains(" by alice"), "{shown}");
    // The entries of the log are statements.
    let added = git(sandbox, "nobody", &["add", "-A"]);
    added.ok();
    let shown = git(sandbox, "alice", &["diff", "--cached"]).ok();
    assert!(shown.contains("secret.seal by alice") && shown.contains("signed by cdn.example/alice"), "{shown}");
    assert!(!shown.contains("first value") && !shown.contains("second value"), "{shown}");
    // Something else in the place of a sealed file is no error.
    std::fs::write(fleet.keyring("sealed/fra1/token.pgp"), "no message").unwrap();
    assert!(git(sandbox, "nobody", &["diff"]).ok().contains("+not a sealed file: it"));
}

fn git_shows_values_to_who_can_open_them_and_keeps_none(sandbox: &Sandbox) {
    let fleet = committed(sandbox, &["--values"]);
    fleet.seal(ADDRESS, "the second value");
    let shown = git(sandbox, "alice", &["diff"]).ok();
    assert!(shown.contains("-the first value") && shown.contains("+the second value"), "{shown}");
    let shown = git(sandbox, "nobody", &["diff"]).ok();
    assert!(!shown.contains("the first value") && shown.contains("not opened: "), "{shown}");
    assert!(shown.contains("+version 2"), "{shown}");
    assert_eq!(git(sandbox, "alice", &["for-each-ref", "refs/notes"]).ok(), "", "nothing is cached");
    // A value that would do something to a terminal is not written to it.
    fleet.seal(ADDRESS, "\u{1b}[2Jcleared");
    let shown = git(sandbox, "alice", &["diff"]).ok();
    assert!(!shown.contains('\u{1b}') && shown.contains("bytes that are no text"), "{shown}");
}

/// Makes the branch `name` from the first commit, with what lies in the directory now, and stays where we were.
fn branch_of_now(sandbox: &Sandbox, name: &str) {
    git(sandbox, "nobody", &["branch", name, "main"]).ok();
    git(sandbox, "nobody", &["symbolic-ref", "HEAD", &format!("refs/heads/{name}")]).ok();
    commit(sandbox, name);
}

fn size(sandbox: &Sandbox) -> u64 {
    let checkpoint = std::fs::read_to_string(sandbox.path("fleet/keyring/log/checkpoint")).unwrap();
    checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

fn the_longer_of_two_logs_is_taken(sandbox: &Sandbox) {
    let fleet = committed(sandbox, &[]);
    fleet.seal(ADDRESS, "the second value");
    branch_of_now(sandbox, "short");
    fleet.seal(ADDRESS, "the third value");
    fleet.seal("fra1/other", "another");
    branch_of_now(sandbox, "long");
    let longest = size(sandbox);
    let is_whole = || {
        assert_eq!(size(sandbox), longest);
        assert_eq!(fleet.keys("fra1", &["open", ADDRESS]).ok(), "the third value");
        assert_eq!(fleet.keys("fra1", &["open", "fra1/other"]).ok(), "another");
        fleet.keys("nobody", &["log", "verify"]).ok();
    };
    // Into the shorter one, and into the longer one.
    git(sandbox, "nobody", &["checkout", "-q", "short"]).ok();
    assert_eq!(size(sandbox), longest - 2);
    git(sandbox, "nobody", &["merge", "-q", "-m", "merged", "long"]).ok();
    is_whole();
    git(sandbox, "nobody", &["reset", "-q", "--hard", "HEAD^"]).ok();
    git(sandbox, "nobody", &["checkout", "-q", "long"]).ok();
    git(sandbox, "nobody", &["merge", "-q", "-m", "merged", "short"]).ok();
    is_whole();
    // That git does this by itself is not so.
    git(sandbox, "nobody", &["reset", "-q", "--hard", "HEAD^"]).ok();
    git(sandbox, "nobody", &["checkout", "-q", "short"]).ok();
    git(sandbox, "nobody", &["config", "--unset", "merge.keys-keyring.driver"]).ok();
    assert_ne!(git(sandbox, "nobody", &["merge", "-q", "-m", "merged", "long"]).code(), 0);
}

fn two_pasts_are_not_merged(sandbox: &Sandbox) {
    let fleet = committed(sandbox, &[]);
    sandbox.copy("alice", "twin");
    fleet.seal(ADDRESS, "the second value");
    branch_of_now(sandbox, "one");
    git(sandbox, "nobody", &["checkout", "-q", "-b", "other", "main"]).ok();
    // Somebody with a copy of the log's key, who has not seen that.
    fleet.keys_with("twin", &["seal", ADDRESS], b"the value of another past").ok();
    fleet.keys_with("twin", &["seal", ADDRESS], b"and one more").ok();
    commit(sandbox, "other");
    git(sandbox, "nobody", &["checkout", "-q", "one"]).ok();
    let merged = git(sandbox, "nobody", &["merge", "-m", "merged", "other"]);
    let said = merged.stdout() + &merged.stderr();
    assert_ne!(merged.code(), 0, "{said}");
    assert!(
        said.contains(
            "FORK: keyring/log/checkpoint: the log of this branch (4 entries) and that of the other (5) part"
        ),
        "{said}"
    );
    assert!(said.contains("git merge --abort") && said.contains("keep both branches"), "{said}");
    // Both are there, as they were.
    let unmerged = git(sandbox, "nobody", &["ls-files", "-u", "keyring/log/checkpoint"]).ok();
    assert_eq!(unmerged.lines().filter(|l| l.contains(" 2\t") || l.contains(" 3\t")).count(), 2, "{unmerged}");
    git(sandbox, "nobody", &["merge", "--abort"]).ok();
    assert_eq!(fleet.keys("alice", &["open", ADDRESS]).ok(), "the second value");
    // A log is not replayed on top of another, either.
    let rebased = git(sandbox, "nobody", &["rebase", "other"]);
    assert!(
        rebased.code() != 0 && (rebased.stdout() + &rebased.stderr()).contains("use 'git merge'"),
        "{}",
        rebased.stderr()
    );
}

fn an_installation_says_what_it_did_and_can_be_repeated(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.keys("nobody", &["git", "install"]).refuses(1, "git rev-parse");
    // The fleet in a directory of a larger repository, with a name that a shell would take apart.
    std::fs::create_dir_all(sandbox.path("all/it's here")).unwrap();
    sandbox.copy("fleet", "all/it's here/fleet");
    std::fs::write(sandbox.path("all/it's here/fleet/.gitattributes"), "*.txt text").unwrap();
    let git = |args: &[&str]| {
        let keys = Path::new(env!("CARGO_BIN_EXE_keys")).parent().unwrap();
        let mut command = Tool::Git.command();
        command.current_dir(sandbox.path("all")).env("HOME", sandbox.root());
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", keys.display()));
        Ran::of(command.args(args))
    };
    git(&["init", "-q", "-b", "main"]).ok();
    let install = || sandbox.keys(&["--fleet", "all/it's here/fleet", "--home", "nobody", "git", "install"]);
    assert!(install().ok().contains("commit it"));
    let attributes = std::fs::read_to_string(sandbox.path("all/it's here/fleet/.gitattributes")).unwrap();
    assert!(attributes.starts_with("*.txt text\nkeyring/** -text merge=keys-keyring\n"), "{attributes}");
    assert!(!install().ok().contains("commit it"));
    assert_eq!(std::fs::read_to_string(sandbox.path("all/it's here/fleet/.gitattributes")).unwrap(), attributes);
    // What git is told to run is understood by its shell.
    let commands = git(&["add", "-A"]);
    commands.ok();
    let shown = git(&["diff", "--cached"]).ok();
    assert!(shown.contains("genesis by alice"), "{shown}");
    // A copy of somebody's, elsewhere, has no keyring to speak of.
    sandbox.keys(&["--fleet", "nowhere", "git", "install"]).refuses(5, "there is no");
}
