//! How the agent talks: to people, to the journal, to programs.

use crate::agent::{HOOKS, fleet, hooks};
use crate::support::{Sandbox, tests};

tests!["agent":
    every_line_of_its_log_has_the_same_labels,
];

/// Whatever it meets, and whichever part of the program has something to say.
fn every_line_of_its_log_has_the_same_labels(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, HOOKS);
    hooks(sandbox);
    sandbox.copy("fleet", "copy");
    let away = |words: &[&str]| sandbox.keys(&[&["--fleet", "copy", "--home", "fra1"], words].concat());
    let mirror = sandbox.path("fleet").display().to_string();
    away(&["pull", "--from", &mirror, "--remember"]).ok();
    let round = |form: &str, rounds: &str| {
        let words = ["agent", "--rounds", rounds, "--interval", "1s", "--run-dir", "run", "--hooks", "hooks.toml"];
        away(&[&words[..], &["--log", form]].concat()).stderr()
    };
    round("json", "1");
    fleet.seal("nginx@fra1/tls.crt", "certificate 2");
    sandbox.write("fail-verify", "");
    let mut lines = round("json", "1");
    std::fs::rename(sandbox.path("fleet"), sandbox.path("gone")).unwrap();
    lines += &round("json", "3");
    let document =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/formats/delivery.md"))
            .unwrap();
    let row = document.lines().find(|l| l.starts_with("| `event` |")).unwrap();
    let mut seen: Vec<(String, String, String)> = Vec::new();
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["at", "event", "level", "member", "message", "service"]);
        assert!(row.contains(&format!("`{}`", text("event"))), "docs/formats/delivery.md lacks {line}");
        assert_eq!(text("member"), "fra1");
        seen.push((text("event"), text("level"), text("service")));
    }
    let count = |event: &str, level: &str, service: &str| {
        seen.iter().filter(|(e, l, s)| (e.as_str(), l.as_str(), s.as_str()) == (event, level, service)).count()
    };
    assert!(count("ready", "notice", "-") == 2 && count("delivery", "error", "nginx") >= 1, "{lines}");
    // The mirror that is away is said once in three rounds, and once that nothing came of it.
    assert_eq!((count("pull", "warning", "-"), count("pull", "error", "-")), (1, 1), "{lines}");
    // The journal's form has a priority at the beginning of every line.
    std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    let journal = round("journal", "1");
    let is_marked = |line: &str| ["<3>", "<4>", "<5>", "<6>"].iter().any(|p| line.starts_with(p));
    assert!(journal.lines().count() > 2 && journal.lines().all(is_marked), "{journal}");
    assert!(journal.contains("<4>mirror ") && journal.contains("<5>READY"), "{journal}");
}
