//! What the report says.

use std::collections::BTreeSet;

use keys::audit::{Finding, Measure, Report, Section, Severity, Timeliness};
use keys::name::Slot;
use keys::state::KeyState;

use super::life::{HOSTILE, Life, address, day};
use crate::support::stage::{NOW, member};
use crate::support::{Sandbox, TestFleet, tests};

tests!["audit":
    the_report_finds_what_was_late_and_what_is_open,
    approvals_say_what_was_needed_and_given,
    lives_of_keys_have_every_transition_in_its_time,
    who_could_read_what_is_kept_also_when_it_is_gone,
    the_inventory_is_that_of_the_end_of_the_period,
    the_same_log_gives_the_same_report,
    one_person_alone_is_found_where_there_are_two,
    the_requirements_in_the_document_are_those_of_the_code,
    the_command_reports_and_fails_on_exceptions_if_asked,
];

fn found<'r>(report: &'r Report, section: Section, subject: &str) -> Vec<&'r Finding> {
    report.findings.iter().filter(|f| f.section == section && f.subject == subject).collect()
}

#[track_caller]
fn exception(report: &Report, section: Section, subject: &str, part: &str) {
    let found = found(report, section, subject);
    let right = |f: &&&Finding| f.severity == Severity::Exception && f.text.contains(part);
    assert_eq!(found.iter().filter(right).count(), 1, "{subject}: '{part}' in {:#?}", report.findings);
}

fn the_report_finds_what_was_late_and_what_is_open(sandbox: &Sandbox) {
    let report = Life::lived(sandbox).report(None, None, day(130));
    // 30 days and 20 more until somebody thought of it.
    exception(&report, Section::Cryptoperiods, "ams1 wireguard", "ended 20d later");
    // 90 days and 40 more, and nobody has.
    exception(&report, Section::Cryptoperiods, "ams1 openpgp", "40d ago, and still active");
    exception(&report, Section::Departures, "fra1/token", "fra1 (compromised) could read it");
    exception(
        &report,
        Section::Policies,
        "policy version 2",
        "member.enroll (pop): operator 1 and authority 1; before: operator 2 and authority 1",
    );
    exception(&report, Section::Void, "key.activate", "key.activate lacks signatures: 1 more operator");
    assert!(found(&report, Section::Departures, "nginx@fra1/tls.key").is_empty(), "it was removed in time");
    assert!(found(&report, Section::Cryptoperiods, "nginx@ams1 openpgp").is_empty(), "it was early");
    assert!(report.findings.is_sorted(), "exceptions come first");
    assert_eq!(report.findings.last().map(|f| f.severity), Some(Severity::Remark));

    let theft = report.departures.iter().find(|d| d.member == member("nginx@fra1")).unwrap();
    let up = theft.secrets[&address("nginx@fra1/tls.key")];
    assert_eq!((up.needed, up.done, up.after), (Measure::Renewed, Some(Measure::Removed), Some(2 * 86_400)));
    assert_eq!(report.departures.iter().map(|d| d.secrets.len()).sum::<usize>(), 2, "{:?}", report.departures);

    assert_eq!(report.policies.len(), 2);
    let lines = &report.policies[1].files["fleet.toml"];
    assert_eq!(lines, &["-need = { operator = 2, authority = 1 }", "+need = { operator = 1, authority = 1 }"]);
    assert_eq!(report.gaps[0].seconds, 68 * 86_400, "from the last entry with effect to the end: {:?}", report.gaps);
    assert!(report.gaps.is_sorted_by(|a, b| a.seconds >= b.seconds) && report.gaps.len() == 5);
}

fn approvals_say_what_was_needed_and_given(sandbox: &Sandbox) {
    let life = Life::lived(sandbox);
    let report = life.report(None, None, day(130));
    assert_eq!(report.approvals.len(), life.entries.len());
    let of = |act: &str, about: &str| {
        let right = |a: &&keys::audit::Approval| a.act == act && a.about.iter().any(|x| x == about);
        report.approvals.iter().rfind(right).unwrap_or_else(|| panic!("{act} {about}"))
    };
    let admission = of("member.enroll", "ams1");
    assert!(admission.need.contains(&"2 operators, 1 authority".to_owned()), "{:?}", admission.need);
    assert_eq!((admission.given["operator"], admission.given["authority"]), (2, 1));
    // Over its period by then: routine, for which one is enough; all signed.
    assert_eq!(of("key.activate", "ams1 wireguard").need, ["1 operator"]);
    assert_eq!(of("key.activate", "nginx@ams1 openpgp").need, ["2 operators"]);
    assert_eq!(of("policy.update", "policy version 2").need, ["2 of root"]);
    assert_eq!(of("secret.remove", "nginx@fra1/tls.key").reason, HOSTILE);
    let attempt = report.approvals.last().unwrap();
    assert_eq!((attempt.applied, attempt.void, attempt.alone), (0, 1, false), "what is void was decided by nobody");
    assert_eq!(attempt.signers, BTreeSet::from([member("alice")]));
    let count = report.acts["key.activate"];
    assert_eq!((count.entries, count.void), (3, 1));
    let right = |a: &keys::audit::Approval| a.logged >= a.at && a.delay == a.logged.since(a.at).0;
    assert!(report.approvals.iter().filter(|a| a.applied > 0).all(right));
}

fn lives_of_keys_have_every_transition_in_its_time(sandbox: &Sandbox) {
    let report = Life::lived(sandbox).report(None, None, day(130));
    let of = |who: &str, slot: Slot| {
        report.keys.iter().filter(|k| k.member == member(who) && k.slot == slot).collect::<Vec<_>>()
    };
    let [old, new] = of("ams1", Slot::Wireguard)[..] else { panic!("two keys") };
    assert_eq!(
        (old.state, old.activated.map(|t| t.day()), old.deactivated),
        (KeyState::Deactivated, Some(NOW.day()), Some(day(50)))
    );
    assert_eq!((new.state, new.activated, new.due), (KeyState::Active, Some(day(50)), Some(day(80))));
    assert_eq!((old.algorithm.as_deref(), old.strength), (Some("X25519"), Some(128)));
    assert_ne!(old.lane, new.lane);
    let stolen = of("fra1", Slot::Openpgp);
    assert!(stolen.iter().all(|k| k.state == KeyState::Compromised && k.compromised == Some(day(60))), "{stolen:?}");
    assert!(stolen.iter().all(|k| k.strength == Some(128)), "{stolen:?}");
    let timeliness = |who: &str, slot: Slot| {
        let rows = report.cryptoperiods.iter().filter(|c| c.member == member(who) && c.slot == slot);
        rows.map(|c| c.timeliness).collect::<Vec<_>>()
    };
    assert_eq!(timeliness("nginx@ams1", Slot::Openpgp), [Timeliness::Early, Timeliness::Running]);
    assert_eq!(timeliness("ams1", Slot::Wireguard), [Timeliness::Late, Timeliness::Overdue]);
    assert_eq!(timeliness("fra1", Slot::SshHost), [Timeliness::Ended]);
    assert_eq!(timeliness("fra1", Slot::Wireguard), [Timeliness::Late], "it left 30 days after that was due");
}

fn who_could_read_what_is_kept_also_when_it_is_gone(sandbox: &Sandbox) {
    let report = Life::lived(sandbox).report(None, None, day(130));
    let secret = |a: &str| report.secrets.iter().find(|s| s.address == address(a)).unwrap();
    let gone = secret("nginx@fra1/tls.key");
    assert!(gone.sealed.is_none() && gone.readers.is_empty());
    let access = gone.ever[&member("nginx@fra1")];
    assert_eq!((access.since.day(), access.until, access.first, access.last), (NOW.day(), Some(day(62)), 1, 1));
    let open = secret("fra1/token");
    assert_eq!(open.burned, Some((day(60), member("fra1"))));
    assert!(open.ever[&member("fra1")].until.is_none());
    assert!(secret("ams1/token").burned.is_none());
}

fn the_inventory_is_that_of_the_end_of_the_period(sandbox: &Sandbox) {
    let life = Life::lived(sandbox);
    let whole = life.report(None, None, day(130));
    let early = life.report(None, Some(day(55)), day(130));
    let member_of = |report: &Report| report.members.iter().find(|m| m.member == member("fra1")).cloned().unwrap();
    assert!(member_of(&whole).left.is_some() && member_of(&early).left.is_none());
    assert!(early.departures.is_empty() && early.void.is_empty());
    assert!(early.keys.iter().all(|k| k.compromised.is_none()));
    assert!(early.log.until < whole.log.until && early.log.size == whole.log.size);
    assert_eq!(early.period.to, day(55));
    // Late by then, overdue not yet.
    exception(&early, Section::Cryptoperiods, "ams1 wireguard", "ended 20d later");
    assert!(found(&early, Section::Cryptoperiods, "ams1 openpgp").is_empty());

    // What lies before the period is not in it, but what was left open is.
    let late = life.report(Some(day(61)), None, day(130));
    assert_eq!(late.approvals.iter().map(|a| a.act.as_str()).collect::<Vec<_>>(), ["secret.remove", "key.activate"]);
    assert_eq!(late.log.entries, 2);
    assert!(late.policies.is_empty());
    exception(&late, Section::Departures, "fra1/token", "has not been replaced for 70d");
    assert!(found(&late, Section::Cryptoperiods, "ams1 wireguard").iter().all(|f| !f.text.contains("20d later")));
    exception(&late, Section::Cryptoperiods, "ams1 wireguard", "50d ago, and still active");
}

fn the_same_log_gives_the_same_report(sandbox: &Sandbox) {
    let life = Life::lived(sandbox);
    let json = |report: &Report| serde_json::to_string(report).unwrap();
    let report = life.report(None, Some(day(100)), day(130));
    assert_eq!(
        json(&report),
        json(&life.report(None, Some(day(100)), day(900))),
        "where the period ends, now does not matter"
    );
    assert_eq!(serde_json::to_value(&report).unwrap()["format"], 1);
}

/// A policy that lets one of two decide is the policy's business; that she did is the auditor's.
fn one_person_alone_is_found_where_there_are_two(sandbox: &Sandbox) {
    let fleet = TestFleet::of_two(sandbox);
    let policy = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    let text = text
        .replace("when = \"unscheduled\"\nneed = { operator = 2 }", "when = \"unscheduled\"\nneed = { operator = 1 }");
    std::fs::write(&policy, text).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    fleet.keys("alice", &["rotate", "casc1", "--slot", "ssh-host-ca", "--yes"]).ok();
    let report = fleet.keys("nobody", &["audit", "--json"]).json();
    let alone: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["section"] == "approvals")
        .map(|f| f["text"].as_str().unwrap())
        .collect();
    assert_eq!(alone, ["alice alone proposed and signed it: casc1 ssh-host-ca"]);
}

fn the_command_reports_and_fails_on_exceptions_if_asked(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let said = fleet.keys("nobody", &["audit"]).ok();
    assert!(
        said.contains("record sound: ") && said.contains("exceptions: none") && said.contains("not checked\n"),
        "{said}"
    );
    assert!(said.lines().all(|l| l.chars().count() <= 80), "{said}");
    fleet.keys("nobody", &["audit", "--check"]).ok();
    fleet.seal("fra1/token", "value");
    fleet.keys("alice", &["revoke", "fra1", "--reason", "lost", "--yes"]).ok();
    fleet.keys("nobody", &["audit"]).ok();
    let said = fleet.keys("nobody", &["audit", "--check"]).exits(9);
    assert!(said.contains("fra1/token: fra1 (lost) could read it"), "{said}");
    let json = fleet.keys("nobody", &["audit", "--json", "--check"]);
    json.exits(9);
    assert_eq!((json.json()["v"].clone(), json.json()["format"].clone()), (1.into(), 1.into()));
    assert_eq!(json.json()["log"]["signed_by"][0], "cdn.example/keys/1");

    fleet.keys("nobody", &["audit", "--from", "2026-12-01", "--to", "2026-11-01"]).refuses(2, "is after --to");
    fleet.keys("nobody", &["audit", "--from", "yesterday"]).refuses(2, "expected a day like");
    fleet.keys("nobody", &["audit", "--to", "2020-01-01"]).refuses(5, "ends before the fleet was founded");
    // What is not sound is no basis for a report.
    let path = fleet.keyring("log/checkpoint");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("cdn.example/keys/1\n", "cdn.example/keys/2\n", 1)).unwrap();
    let ran = fleet.keys("nobody", &["audit"]);
    assert_ne!(ran.code(), 0);
    assert!(!ran.stdout().contains("record sound"), "{}", ran.stdout());
}

fn the_requirements_in_the_document_are_those_of_the_code(_: &Sandbox) {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats/audit.md")).unwrap();
    let list = |of: &[&str]| if of.is_empty() { "–".to_owned() } else { of.join(", ") };
    for m in keys::audit::MAPPINGS {
        let row =
            format!("| {} | {} | {} | {} | {} |", m.section, m.shows, list(m.pci_dss), list(m.soc2), list(m.sp800_57));
        assert!(document.contains(&row), "docs/formats/audit.md lacks: {row}");
    }
    let sections: Vec<Section> = keys::audit::MAPPINGS.iter().map(|m| m.section).collect();
    assert!(Section::ALL.iter().all(|s| sections.contains(s)), "every section is mapped");
    for (name, seconds) in [
        ("rotation-grace", keys::audit::GRACE),
        ("leave", keys::audit::LEAVE_MAX),
        ("renew", keys::audit::RENEW_MAX),
        ("gap", keys::audit::GAP_MAX),
    ] {
        let unit = if seconds.0 <= 86_400 {
            format!("{} hours", seconds.0 / 3_600)
        } else {
            format!("{} days", seconds.0 / 86_400)
        };
        assert!(document.contains(&format!("| `{name}` | {unit} |")), "{name}: {unit}");
    }
}
