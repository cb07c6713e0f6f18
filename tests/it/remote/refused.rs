//! Who may not join: what is handed in at a server is counted where the authority is, by the numbers that alerts read.

use keys::digest::Digest;
use keys::home::Home;
use keys::state::Asked;
use keys::statement::Token;
use keys::time::Span;

use super::serving::Served;
use crate::inviting::signed_again;
use crate::support::{Sandbox, TestFleet, tests};

tests!["remote::refused":
    a_token_used_again_and_a_copied_machine_are_counted_where_the_authority_is,
];

fn a_token_used_again_and_a_copied_machine_are_counted_where_the_authority_is(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    let invited = fleet.keys("alice", &["invite", "fra1", "--approval", "auto", "--yes"]).ok();
    let token = sandbox.write("token", invited.trim_end());
    let token = token.display().to_string();
    // Before any of them has joined: a machine, two that have the same token, and a copy of the first.
    let asks = |who: &str| {
        let out = sandbox.path(&format!("{who}.request"));
        let path = out.display().to_string();
        fleet.keys(who, &["enroll", "fra1", "--token", &token, "--endpoint", "198.51.100.7", "--out", &path]).ok();
        std::fs::read(out).unwrap()
    };
    let (first, early, late) = (asks("fra1"), asks("early"), asks("late"));
    sandbox.copy("fra1", "copy");
    let mut copied = Asked::parse(&first).unwrap().request;
    copied.at = copied.at.plus(Span(1));
    let text = std::fs::read_to_string(&token).unwrap();
    let own = Home::open(&sandbox.path("copy")).unwrap();
    let copied = signed_again(&own, copied, "fra1", &Token::parse(text.trim_end()).unwrap());

    let served = Served::start(sandbox);
    // Rounds of the machine with the authority, and what the server shows.
    let counted = || {
        fleet.keys("alice", &["agent", "--once", "--run-dir", "run", "--metrics", "keys.prom"]);
        let there = std::fs::read_to_string(sandbox.path("keys.prom")).unwrap();
        let value = |text: &str, name: &str, reason: &str| {
            let row = format!("{name}{{reason=\"{reason}\"}} ");
            let value = text.lines().find_map(|l| l.strip_prefix(&row)?.parse().ok());
            value.unwrap_or_else(|| panic!("{row}:\n{text}"))
        };
        let shown = served.text("/metrics");
        ["token_reused", "generation_conflict"].map(|reason| -> (u64, u64) {
            let there = value(&there, "keys_requests_refused", reason);
            (there, value(&shown, "keys_serve_requests_refused_total", reason))
        })
    };
    assert_eq!(served.post(&first).status, 202);
    assert_eq!(counted(), [(0, 0), (0, 0)]);
    let joined = || fleet.keys("alice", &["status", "--json"]).json()["members"]["pop"].clone();
    assert_eq!(joined(), 1);
    // One that was handed in elsewhere, before that was known there: it is found out where the authority is.
    sandbox.write(&format!("fleet/keyring/proposals/requests/{}.request", Digest::of(&early)), &early);
    assert_eq!(counted(), [(1, 0), (0, 0)]);
    // Afterwards it is refused at the door, and counted there.
    let told = served.post(&late);
    assert!(told.status == 422 && told.text().contains("(token_reused)"), "{}", told.text());
    assert_eq!(counted(), [(1, 1), (0, 0)]);
    let told = served.post(&copied);
    assert!(told.status == 422 && told.text().contains("(generation_conflict)"), "{}", told.text());
    assert_eq!(counted(), [(1, 1), (0, 1)]);
    // Who has no token, or none that has signed, moves nothing.
    let end = copied.len() - 8;
    let letter = if copied[end] == b'A' { b'B' } else { b'A' };
    assert_eq!(served.post(&[&copied[..end], &[letter], &copied[end + 1..]].concat()).status, 422);
    assert_eq!(counted(), [(1, 1), (0, 1)]);
    assert_eq!(joined(), 1, "and nobody else");
}
