//! What has to be done again and again: restore drills, cosigned heads.

use keys::audit::{Finding, Report, Section, Severity};
use keys::digest::Digest;
use keys::fleet::Draft;
use keys::statement::{Act, Outcome, RestoreDrill};

use super::life::{Life, day};
use crate::support::stage::Stage;
use crate::support::{Sandbox, TestFleet, tests};
use crate::witness::Cosigner;

tests!["audit":
    restore_drills_that_fail_or_come_late_are_found,
    a_head_that_no_cosigner_calls_the_newest_is_found needs [Faketime],
];

fn about(report: &Report, section: Section) -> Vec<(Severity, String)> {
    let of = |f: &&Finding| f.section == section && ["restore", "publication"].contains(&f.subject.as_str());
    report.findings.iter().filter(of).map(|f| (f.severity, f.text.clone())).collect()
}

fn drill(stage: &mut Stage, at: u64, outcome: Outcome) {
    stage.now = day(at);
    let change = RestoreDrill {
        backup: None,
        canary: None,
        outcome,
        root: Digest::of(b"root"),
        seconds: 3,
        size: 1,
        state: Digest::of(b"state"),
    };
    stage.carry(|_, _| vec![Draft::bare(Act::Drill(vec![change]), "restore drill")]);
}

fn restore_drills_that_fail_or_come_late_are_found(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice", "bob"]);
    let every = "\n[drills]\nrestore = \"30d\"\n";
    stage.carry(|fleet, _| Stage::policy(fleet, "fleet.toml", |text| text + every));
    let found = |stage: Stage, now: u64| -> (Stage, Vec<(Severity, String)>) {
        let entries = stage.entries();
        let life = Life { stage, entries };
        let found = about(&life.report(None, None, day(now)), Section::Drills);
        (life.stage, found)
    };
    let (stage, none) = found(stage, 29);
    assert_eq!(none, []);
    let (stage, due) = found(stage, 35);
    assert!(
        matches!(&due[..], [(Severity::Remark, text)] if text.contains("one is due since 2026-12-21, 5d ago")),
        "{due:?}"
    );
    let (mut stage, overdue) = found(stage, 40);
    assert!(matches!(&overdue[..], [(Severity::Exception, text)] if text.ends_with("10d ago")), "{overdue:?}");
    drill(&mut stage, 41, Outcome::Failed);
    let (mut stage, failed) = found(stage, 41);
    let failure = (Severity::Exception, "the one of alice failed, and none has been good since".to_owned());
    assert!(failed.len() == 2 && failed.contains(&failure), "{failed:?}");
    drill(&mut stage, 43, Outcome::Good);
    let (mut stage, again) = found(stage, 44);
    assert_eq!(again, [(Severity::Remark, "the one of alice failed; one 2d later was good".to_owned())]);
    drill(&mut stage, 83, Outcome::Good);
    let (mut stage, late) = found(stage, 84);
    let lateness = (Severity::Exception, "one was due on 2027-02-02 and came 10d later".to_owned());
    assert_eq!((late.len(), &late[0]), (2, &lateness), "{late:?}");
    // A policy that asks for none any more is weaker, and nothing is due.
    stage.carry(|fleet, _| Stage::policy(fleet, "fleet.toml", |text| text.replace(every, "")));
    let entries = stage.entries();
    let report = Life { stage, entries }.report(None, None, day(200));
    assert!(about(&report, Section::Drills).iter().all(|(severity, _)| *severity == Severity::Remark));
    let weaker = &report.policies.last().unwrap().weaker;
    assert_eq!(*weaker, ["[drills] restore: never; before: 30d"]);
}

fn a_head_that_no_cosigner_calls_the_newest_is_found(sandbox: &Sandbox) {
    let (one, two) = (Cosigner::init(sandbox, "w1", false), Cosigner::init(sandbox, "w2", false));
    let fleet = TestFleet::of_one(sandbox);
    let audit = || {
        let ran = fleet.keys("alice", &["audit", "--json"]);
        ran.ok();
        let report = ran.json();
        let gaps = report["findings"].as_array().unwrap().iter().filter(|f| f["section"] == "gaps");
        let gaps: Vec<String> =
            gaps.map(|f| format!("{}: {}: {}", f["severity"], f["subject"], f["text"]).replace('"', "")).collect();
        (report["log"]["published"].clone(), gaps)
    };
    assert_eq!(audit(), (serde_json::Value::Null, vec![]), "nobody cosigns, and nobody has to");
    let path = sandbox.path("fleet/policy/fleet.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = |c: &Cosigner<'_>| format!("\n[[cosigner]]\nvkey = \"{}\"\nkind = \"witness\"\n", c.vkey);
    let tables = [text, table(&one), table(&two), "[publish]\nneed = { witness = 1 }\n".to_owned()].concat();
    std::fs::write(&path, tables).unwrap();
    fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
    one.watch();
    sandbox.keys(&["--home", "w1", "--fleet", "fleet", "log", "witness", "sign"]).ok();
    fleet.keys("alice", &["log", "publish"]).ok();
    let (published, gaps) = audit();
    assert_eq!((&published["waiting"], &published["missing"]), (&0.into(), &"".into()));
    assert!(published["by"]["w1.example/c1"].is_string() && published["cosigned"].is_string(), "{published}");
    let absent = "remark: w2.example/c1: a cosigner of the policy, and has not signed the published head";
    assert_eq!(gaps, [absent]);
    let text = fleet.keys("alice", &["audit"]).ok();
    assert!(text.contains("entries, cosigned by w1.example/c1, last at "), "{text}");
    fleet.join("fra1", "");
    let (_, gaps) = audit();
    assert_eq!(gaps[0], "remark: publication: 1 entries wait for cosigners");
    sandbox.set_days_later(9);
    let (_, gaps) = audit();
    let stale = "exception: publication: the head of 2 entries was last called the newest 9d ago, by w1.example/c1; the policy allows 7d";
    assert!(gaps.iter().any(|g| g == stale), "{gaps:?}");
    // Passed off as published: it has nobody's word.
    sandbox.set_days_later(0);
    std::fs::rename(fleet.keyring("log/head"), fleet.keyring("log/checkpoint")).unwrap();
    let (_, gaps) = audit();
    assert!(
        gaps.contains(
            &"exception: publication: the published head has not the cosigners that the policy wants: 1 witness"
                .to_owned()
        ),
        "{gaps:?}"
    );
}
