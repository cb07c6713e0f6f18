//! The README's first command: a whole fleet's life.

use crate::support::{Ran, Sandbox, tests};

tests!["demo":
    a_whole_fleets_life_ends_well_and_leaves_nothing,
];

fn a_whole_fleets_life_ends_well_and_leaves_nothing(sandbox: &Sandbox) {
    let temporary = sandbox.path("tmp");
    std::fs::create_dir_all(&temporary).unwrap();
    let demo = |args: &[&str]| Ran::of(sandbox.command().env("TMPDIR", &temporary).arg("demo").args(args));
    let said = demo(&[]).ok();
    assert!(said.lines().last().is_some_and(|l| l.starts_with("That was a fleet's life in ")), "{said}");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    // Left to play with, if that is wanted, and then only in an empty directory.
    let kept = sandbox.path("kept").display().to_string();
    demo(&["--profile", "modern", "--keep", &kept]).ok();
    demo(&["--keep", &kept]).refuses(1, "is not empty");
    let (fleet, home) = (format!("{kept}/fleet"), format!("{kept}/alice"));
    sandbox.keys(&["--fleet", &fleet, "--home", &home, "log", "verify"]).ok();
}
