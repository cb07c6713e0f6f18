//! What runs elsewhere and asks: Ansible, a workflow of GitHub's, Kubernetes, Terraform.

use std::collections::BTreeMap;

use base64::Engine as _;

use crate::support::{Ran, Sandbox, TestFleet, Tool, tests};

use super::{artefact, read, with_keys, yaml};

tests!["integrations":
    ansible_writes_a_value_and_shows_none needs [AnsiblePlaybook],
    the_workflow_stops_what_it_should needs [Git, Bash, PyYaml],
    a_manifest_for_kubernetes_holds_the_values needs [PyYaml],
    terraform_is_told_public_strings_alone needs [Jq],
];

pub(super) fn fleet(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    fleet.seal("nginx@fra1/tls.crt", "a certificate\n");
    fleet.seal("nginx@fra1/tls.key", "hidden-value-\u{fc}\n");
    fleet
}

pub(super) fn id(fleet: &TestFleet<'_>) -> String {
    fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned()
}

fn ansible_writes_a_value_and_shows_none(sandbox: &Sandbox) {
    use std::os::unix::fs::PermissionsExt as _;
    let _fleet = fleet(sandbox);
    let play = |address: &str, program: &str| {
        let mut ansible = with_keys(sandbox, Tool::AnsiblePlaybook.path().unwrap(), "fra1");
        let token = format!("token_address={address} token_file={}", sandbox.path("token").display());
        ansible
            .env("ANSIBLE_LOCAL_TEMP", sandbox.path("tmp"))
            .env("ANSIBLE_REMOTE_TEMP", sandbox.path("tmp"))
            .env("ANSIBLE_NOCOLOR", "1")
            .args(["-i", "localhost,", "-c", "local", "-vvv", "--diff", "-e", &token, "-e"])
            .arg(format!("ansible_python_interpreter=/usr/bin/python3 keys_program={program}"))
            .arg(artefact("ansible/site.yml"));
        Ran::of(&mut ansible)
    };
    let shows_nothing = |ran: &Ran| {
        let said = ran.stdout() + &ran.stderr();
        let value = base64::engine::general_purpose::STANDARD.encode("hidden-value-\u{fc}\n");
        assert!(!said.contains("hidden-value") && !said.contains(&value), "{said}");
        said
    };
    let ran = play("nginx@fra1/tls.key", "keys");
    ran.ok();
    let said = shows_nothing(&ran);
    assert!(said.contains("changed=1") && said.contains("no_log: true"), "{said}");
    assert_eq!(read(sandbox.path("token")), "hidden-value-\u{fc}\n");
    assert_eq!(std::fs::metadata(sandbox.path("token")).unwrap().permissions().mode() & 0o777, 0o400);
    // What the task says of a failure is hidden with the rest of it; the lookup by itself says its exit code, and no more.
    let ran = play("nginx@fra1/none", "keys");
    assert_ne!(ran.code(), 0);
    shows_nothing(&ran);
    let lookup = |address: &str| {
        let mut ansible = with_keys(sandbox, Tool::AnsiblePlaybook.path().unwrap().with_file_name("ansible"), "fra1");
        ansible.env("ANSIBLE_LOCAL_TEMP", sandbox.path("tmp")).env("ANSIBLE_NOCOLOR", "1");
        ansible.env("ANSIBLE_LOOKUP_PLUGINS", artefact("ansible/lookup_plugins"));
        let message = format!("msg={{{{ lookup('keys', '{address}') | length }}}}");
        Ran::of(ansible.args(["localhost", "-m", "debug", "-a", &message]))
    };
    assert!(lookup("nginx@fra1/tls.key").ok().contains("\"msg\": \"15\""), "{}", lookup("nginx@fra1/tls.key").stdout());
    let said = {
        let ran = lookup("nginx@fra1/none");
        assert_ne!(ran.code(), 0);
        ran.stdout() + &ran.stderr()
    };
    assert!(said.contains("keys open ended with exit code 5") && !said.contains("there is no secret"), "{said}");
}

/// The steps of the workflow that run something, by name; what fetches the program is left out.
fn steps() -> Vec<(String, String)> {
    let workflow = yaml(&artefact("github/keys.yml"));
    assert_eq!(workflow["permissions"], serde_json::json!({ "contents": "read" }));
    let steps = workflow["jobs"]["check"]["steps"].as_array().unwrap();
    for uses in steps.iter().filter_map(|s| s["uses"].as_str()) {
        let (_, commit) = uses.split_once('@').unwrap();
        assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{uses} is pinned");
    }
    let text = |step: &serde_json::Value, key: &str| step[key].as_str().map(str::to_owned);
    let found = steps.iter().filter_map(|s| Some((text(s, "name")?, text(s, "run")?)));
    let found: Vec<(String, String)> = found.filter(|(name, _)| name != "get keys").collect();
    // Nothing of the event goes into a shell but by a variable.
    assert!(found.len() == 4 && found.iter().all(|(_, run)| !run.contains("${{")), "{found:?}");
    found
}

fn the_workflow_stops_what_it_should(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let pin = id(&fleet);
    let git = |words: &[&str]| {
        let mut git = Tool::Git.command();
        git.env("HOME", sandbox.root()).current_dir(sandbox.path("repository"));
        for (name, value) in [("AUTHOR", "ci"), ("COMMITTER", "ci")] {
            git.env(format!("GIT_{name}_NAME"), value).env(format!("GIT_{name}_EMAIL"), "ci@ops.example");
        }
        Ran::of(git.args(words)).ok().trim().to_owned()
    };
    // A commit with what lies in a directory now.
    let commit = |from: &str| {
        for name in ["policy", "keyring", "notes"] {
            let _ = std::fs::remove_dir_all(sandbox.path("repository").join(name));
            if sandbox.path(from).join(name).exists() {
                sandbox.copy(&format!("{from}/{name}"), &format!("repository/{name}"));
            }
        }
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--allow-empty", "-m", from]);
        git(&["rev-parse", "HEAD"])
    };
    let steps = steps();
    let number = std::cell::Cell::new(0);
    // The first step that fails, as a runner finds it.
    let stopped_at = |base: &str, head: &str| {
        git(&["checkout", "--quiet", "--detach", head]);
        number.set(number.get() + 1);
        let temporary = sandbox.path(&format!("runner{}", number.get()));
        std::fs::create_dir(&temporary).unwrap();
        steps.iter().find_map(|(name, run)| {
            let script = sandbox.write("step.sh", run);
            let mut bash = with_keys(sandbox, Tool::Bash.path().unwrap(), "nobody");
            bash.env_remove("KEYS_HOME").env("KEYS_FLEET", ".").env("KEYS_PIN", &pin).env("BASE", base);
            bash.env("RUNNER_TEMP", &temporary).arg("-e").arg(script).current_dir(sandbox.path("repository"));
            let ran = Ran::of(&mut bash);
            (ran.code() != 0).then(|| format!("{name}: {}{}", ran.stderr(), ran.stdout()))
        })
    };
    std::fs::create_dir(sandbox.path("repository")).unwrap();
    git(&["init", "--quiet"]);
    let base = commit("fleet");
    sandbox.copy("fleet", "older");
    fleet.seal("nginx@fra1/more", "another");
    let newer = commit("fleet");
    assert_eq!(stopped_at(&base, &newer), None, "a change with its quorum");
    assert_eq!(stopped_at(&newer, &newer), None, "nothing");
    let stops = |base: &str, head: &str, step: &str, why: &str| {
        let said = stopped_at(base, head).unwrap_or_default();
        assert!(said.starts_with(step) && said.contains(why), "{step}, {why}:\n{said}");
    };
    stops(&newer, &base, "the log goes on", "it is behind");
    // Another past: the same log's key, the same place.
    let seen = sandbox.path("alice/seen");
    let kept = std::fs::read(&seen).ok();
    sandbox.copy("alice", "kept");
    sandbox.copy("fleet", "newest");
    sandbox.copy("older", "fleet");
    let _ = std::fs::remove_file(&seen);
    let _ = std::fs::remove_file(sandbox.path("alice/replayed"));
    fleet.seal("nginx@fra1/other", "one past");
    fleet.seal("nginx@fra1/other", "goes on");
    let fork = commit("fleet");
    stops(&newer, &fork, "the log goes on", "FORK");
    sandbox.copy("kept", "alice");
    sandbox.copy("newest", "fleet");
    assert!(kept.is_none() || seen.exists());
    // A policy that is not in force is shown, and one that cannot be read is stopped.
    let policy = sandbox.path("fleet/policy/fleet.toml");
    let text = read(&policy);
    std::fs::write(&policy, text.replace("lifetime = \"7d\"", "lifetime = \"6d\"")).unwrap();
    assert_eq!(stopped_at(&base, &commit("fleet")), None);
    std::fs::write(&policy, text.replace("lifetime = \"7d\"", "lifetime = \"seven\"")).unwrap();
    stops(&base, &commit("fleet"), "the policy can be read", "seven");
    std::fs::write(&policy, &text).unwrap();
    // A private key beside it, a file that was exchanged.
    std::fs::create_dir(sandbox.path("fleet/notes")).unwrap();
    let key =
        format!("-----BEGIN {} KEY-----\n{}\n-----END {0} KEY-----\n", "PRIVATE", "MC4CAQAwBQYDK2VwBCIEI".repeat(4));
    std::fs::write(sandbox.path("fleet/notes/id.pem"), key).unwrap();
    stops(&base, &commit("fleet"), "no secret lies open", "");
    std::fs::remove_dir_all(sandbox.path("fleet/notes")).unwrap();
    std::fs::copy(fleet.keyring("sealed/fra1/nginx/tls.crt.pgp"), fleet.keyring("sealed/fra1/nginx/tls.key.pgp"))
        .unwrap();
    stops(&base, &commit("fleet"), "the log and every file verify", "tls.key");
}

fn a_manifest_for_kubernetes_holds_the_values(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let template = artefact("kubernetes/secret.yaml.in");
    let filled = fleet.keys("fra1", &["template", template.to_str().unwrap()]).ok();
    let manifest = yaml(&sandbox.write("secret.yaml", &filled));
    let values: BTreeMap<&str, Vec<u8>> = manifest["data"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, text)| {
            (name.as_str(), base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap())
        })
        .collect();
    assert_eq!(values["tls.crt"], b"a certificate\n");
    assert_eq!(values["tls.key"], "hidden-value-\u{fc}\n".as_bytes());
    assert_eq!((manifest["kind"].as_str(), manifest["type"].as_str()), (Some("Secret"), Some("kubernetes.io/tls")));
    // Nothing is written if one of them does not open.
    fleet.keys("alice", &["rm", "nginx@fra1/tls.key", "--yes"]).ok();
    let ran = fleet.keys("fra1", &["template", template.to_str().unwrap()]);
    assert_eq!((ran.code(), ran.stdout().as_str()), (5, ""), "{}", ran.stderr());
}

fn terraform_is_told_public_strings_alone(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let pin = id(&fleet);
    let program = artefact("terraform/keys-public");
    let ask = |query: &str| {
        // No home: what is asked is public.
        let mut sh = with_keys(sandbox, "/bin/sh", "nobody");
        sh.env_remove("KEYS_HOME").env_remove("KEYS_FLEET");
        Ran::of(sh.args(["-c", "printf '%s' \"$1\" | exec \"$0\""]).arg(&program).arg(query))
    };
    let ran = ask(&format!("{{\"fleet\":\"fleet\",\"pin\":\"{pin}\",\"member\":\"fra1\"}}"));
    ran.ok();
    let answer = ran.json();
    let answer: BTreeMap<String, String> = answer
        .as_object()
        .unwrap()
        .iter()
        .map(|(k, v)| (k.clone(), v.as_str().expect("a string").to_owned()))
        .collect();
    assert_eq!((answer["id"].as_str(), answer["fleet"].as_str()), (pin.as_str(), "cdn.example"));
    let sshfp: serde_json::Value = serde_json::from_str(&answer["sshfp"]).unwrap();
    assert_eq!(sshfp.as_array().unwrap().len(), 2);
    assert_eq!(sshfp[0]["name"], "fra1.cdn.example.");
    assert!(answer["log_size"].parse::<u64>().unwrap() >= 4);
    // Every part of the answer that the page names is there, and no other.
    let page = read(artefact("terraform.md"));
    for name in answer.keys() {
        assert!(page.contains(&format!("`{name}`")), "terraform.md lacks {name}");
    }
    for (query, why) in [
        ("{\"fleet\":\"fleet\"}".to_owned(), "lacks pin"),
        (format!("{{\"fleet\":\"fleet\",\"pin\":\"{}\"}}", "0".repeat(64)), "keys: "),
        (format!("{{\"fleet\":\"fleet\",\"pin\":\"{pin}\",\"member\":\"sin1\"}}"), "sin1"),
        ("not json".to_owned(), ""),
    ] {
        let ran = ask(&query);
        assert!(ran.code() != 0 && ran.stdout().is_empty(), "{query}: {}", ran.stdout());
        assert!(ran.stderr().contains(why), "{query}: {}", ran.stderr());
    }
}
