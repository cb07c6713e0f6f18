//! The agent's numbers, and what others make of them: Prometheus' alerts, Grafana's dashboard, the table in the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use keys::agent::Metric;
use keys::remote::ServerMetric;

use super::{artefact, read};
use crate::agent::fleet;
use crate::support::{Sandbox, Tool, tests};

tests!["integrations":
    every_alert_is_tried needs [Promtool],
    what_the_agent_writes_is_as_prometheus_wants_it needs [Promtool],
    alerts_and_dashboard_use_numbers_that_there_are,
    every_number_is_documented,
    the_agent_counts_what_it_meets,
];

const RULES: &str = "prometheus/keys.rules.yml";
const TRIALS: &str = "prometheus/keys.test.yml";
const DASHBOARD: &str = "grafana/keys.json";

/// Words that follow `mark` in a text.
fn words_after<'t>(text: &'t str, mark: &str) -> BTreeSet<&'t str> {
    let word = |rest: &'t str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
    text.split(mark).skip(1).map(word).collect()
}

fn every_alert_is_tried(_: &Sandbox) {
    for (verb, file) in [("check", RULES), ("test", TRIALS)] {
        let path = artefact(file);
        let mut promtool = Tool::Promtool.command();
        promtool.args([verb, "rules"]).arg(path.file_name().unwrap()).current_dir(path.parent().unwrap());
        let said = crate::support::Ran::of(&mut promtool).ok();
        assert!(said.contains("SUCCESS"), "{said}");
    }
    let (rules, trials) = (read(artefact(RULES)), read(artefact(TRIALS)));
    let alerts = words_after(&rules, "- alert: ");
    assert!(alerts.len() > 20, "{alerts:?}");
    assert_eq!(alerts, words_after(&trials, "alertname=\""), "each alert fires once");
    let page = read(artefact("prometheus.md"));
    for alert in alerts {
        assert!(page.contains(alert), "prometheus.md lacks {alert}");
    }
    // Every way out that an alert names is there.
    for runbook in words_after(&rules.replace('-', "_"), "docs/runbooks/") {
        let file = format!("docs/runbooks/{}.md", runbook.replace('_', "-"));
        read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    }
}

fn what_the_agent_writes_is_as_prometheus_wants_it(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "");
    fleet.keys("fra1", &["agent", "--once", "--run-dir", "run", "--metrics", "keys.prom"]).ok();
    let mut promtool = Tool::Promtool.command();
    let numbers = std::fs::File::open(sandbox.path("keys.prom")).unwrap();
    let checked = promtool.args(["check", "metrics"]).stdin(Stdio::from(numbers)).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
}

/// The names of ours that stand in a text.
fn named(text: &str) -> BTreeSet<String> {
    words_after(&format!(" {text}"), "keys_").iter().map(|rest| format!("keys_{rest}")).collect()
}

/// Every number that there is: its name, its labels, and whether it is a counter.
fn all() -> BTreeMap<String, (&'static [&'static str], bool)> {
    let agent = Metric::ALL.iter().map(|m| (m.to_string(), (m.labels(), m.is_counter())));
    agent.chain(ServerMetric::ALL.iter().map(|m| (m.to_string(), (m.labels(), m.is_counter())))).collect()
}

fn alerts_and_dashboard_use_numbers_that_there_are(_: &Sandbox) {
    let all = all();
    let known: BTreeSet<String> = all.keys().cloned().collect();
    let mut used = BTreeSet::new();
    for file in [RULES, TRIALS, DASHBOARD] {
        let names = named(&read(artefact(file)));
        let unknown: Vec<&String> = names.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, which nobody writes");
        used.extend(names);
    }
    assert_eq!(used, known, "every number is looked at somewhere");
    let dashboard: serde_json::Value = serde_json::from_str(&read(artefact(DASHBOARD))).unwrap();
    assert_eq!(named(&dashboard.to_string()), known, "the dashboard shows all of them");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<String> = panels.iter().map(|p| p["id"].to_string()).collect();
    assert!(ids.len() == panels.len() && dashboard["schemaVersion"].as_u64() >= Some(38), "{ids:?}");
    // Labels that a legend, an alert or a selector names are labels of a number there.
    let labels: BTreeSet<&str> = all.values().flat_map(|(labels, _)| *labels).copied().collect();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let (expression, legend) = (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap());
            let names = named(expression);
            let here = all.iter().filter(|(name, _)| names.contains(*name));
            let here: BTreeSet<&str> = here.flat_map(|(_, (labels, _))| *labels).copied().collect();
            for label in words_after(legend, "{{") {
                assert!(label == "instance" || here.contains(label), "{expression}: {label}");
            }
        }
    }
    for label in words_after(&read(artefact(RULES)), "$labels.") {
        assert!(["instance", "file"].contains(&label) || labels.contains(label), "an alert names the label {label}");
    }
}

fn every_number_is_documented(_: &Sandbox) {
    let text = read(artefact("../formats/metrics.md"));
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
        Some((cells[0].trim_end_matches('`').to_owned(), (cells[1].to_owned(), cells[2].to_owned())))
    });
    let table: BTreeMap<String, (String, String)> = rows.collect();
    let labels = |labels: &[&str]| if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
    let kind = |is_counter: bool| if is_counter { "counter" } else { "gauge" }.to_owned();
    let code: BTreeMap<String, (String, String)> =
        all().into_iter().map(|(name, (words, is_counter))| (name, (labels(words), kind(is_counter)))).collect();
    assert_eq!(table, code);
}

/// The value of a row of the numbers.
fn number(text: &str, row: &str) -> f64 {
    let line = text.lines().find_map(|l| l.strip_prefix(row)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{row} is not there:\n{text}")).parse().unwrap()
}

fn the_agent_counts_what_it_meets(sandbox: &Sandbox) {
    let fleet = fleet(sandbox, "");
    let measured = |code: i32| {
        let ran = fleet.keys("fra1", &["agent", "--once", "--run-dir", "run", "--metrics", "keys.prom"]);
        ran.exits(code);
        read(sandbox.path("keys.prom"))
    };
    let text = measured(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for (row, from, to) in [
        ("keys_agent_success_timestamp_seconds{act=\"pull\"}", now - 120.0, now + 5.0),
        ("keys_agent_success_timestamp_seconds{act=\"acknowledge\"}", now - 120.0, now + 5.0),
        ("keys_log_entries", 5.0, 100.0),
        ("keys_log_stale", 0.0, 0.0),
        ("keys_standbys_missing", 0.0, 0.0),
        ("keys_rotation_due_timestamp_seconds", now, now + 4e8),
        ("keys_certificate_expires_timestamp_seconds", now + 864e3, now + 4e8),
        ("keys_ssh_host_certificate_expires_timestamp_seconds", now + 864e2, now + 4e8),
        ("keys_agent_refusals_total{act=\"open\"}", 0.0, 0.0),
    ] {
        let value = number(&text, row);
        assert!((from..=to).contains(&value), "{row} {value}, not {from}..{to}");
    }
    // Another log than the one that was seen.
    let checkpoint = fleet.keyring("log/checkpoint");
    let good = std::fs::read(&checkpoint).unwrap();
    let mut forged = good.clone();
    let digit = forged.iter().position(|b| *b == b'\n').unwrap() + 4;
    forged[digit] = if forged[digit] == b'A' { b'B' } else { b'A' };
    std::fs::write(&checkpoint, &forged).unwrap();
    let text = measured(3);
    assert!(number(&text, "keys_agent_refusals_total{act=\"open\"}") >= 1.0, "{text}");
    assert_eq!(number(&text, "keys_log_entries"), 0.0);
    std::fs::write(&checkpoint, &good).unwrap();
    // A mirror that is away, and one whose log cannot be right.
    sandbox.copy("fleet", "mirror");
    std::fs::write(sandbox.path("mirror/keyring/log/checkpoint"), &forged).unwrap();
    let away = sandbox.path("nowhere").display().to_string();
    let wrong = sandbox.path("mirror").display().to_string();
    sandbox.copy("fleet", "copy");
    let copy = |words: &[&str]| sandbox.keys(&[&["--fleet", "copy", "--home", "fra1"], words].concat());
    copy(&["pull", "--from", &sandbox.path("fleet").display().to_string(), "--remember"]).ok();
    std::fs::rename(sandbox.path("fleet"), &away).unwrap();
    let once = ["agent", "--once", "--run-dir", "run", "--metrics", "keys.prom"];
    copy(&once).exits(3);
    let text = read(sandbox.path("keys.prom"));
    assert_eq!(number(&text, "keys_mirror_faults_total{kind=\"away\"}"), 1.0);
    assert_eq!(number(&text, "keys_mirror_faults_total{kind=\"wrong\"}"), 0.0);
    assert!(number(&text, "keys_agent_success_timestamp_seconds{act=\"pull\"}") == 0.0);
    std::fs::rename(&wrong, sandbox.path("fleet")).unwrap();
    copy(&once).exits(3);
    let text = read(sandbox.path("keys.prom"));
    assert_eq!(number(&text, "keys_mirror_faults_total{kind=\"wrong\"}"), 1.0);
}
