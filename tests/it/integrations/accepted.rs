//! What the neighbours' own programs say of the files for them, with no daemon, no cluster and no cloud; each is also
//! shown one that is broken, and has to refuse it.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::{Ran, Sandbox, Tool, tests};

use super::automation::{fleet, id};
use super::{artefact, read, with_keys, yaml};

tests!["integrations":
    compose_takes_the_file needs [DockerCompose, PyYaml],
    kubectl_makes_the_same_secret needs [Kubectl, Openssl, PyYaml],
    kubernetes_schemas_take_the_manifest needs [KubernetesValidate],
    terraform_reads_what_it_is_told needs [Terraform, Jq],
];

/// A program in the sandbox that knows of no server and no home.
fn alone(sandbox: &Sandbox, tool: Tool) -> Command {
    let mut command = tool.command();
    command.env("HOME", sandbox.root()).current_dir(sandbox.root());
    command
}

fn compose_takes_the_file(sandbox: &Sandbox) {
    let text = read(artefact("compose/compose.yaml"));
    let config = |name: &str, text: &str| {
        let file = sandbox.write(name, text);
        Ran::of(alone(sandbox, Tool::DockerCompose).arg("-f").arg(file).args(["-p", "web", "config"]))
    };
    let said = config("compose.yaml", &text).ok();
    let taken = yaml(&sandbox.write("taken.yaml", &said));
    let volume = &taken["services"]["web"]["volumes"][0];
    let part = |name: &str| volume[name].as_str().unwrap_or_default();
    assert_eq!(
        (part("type"), part("source"), part("target"), volume["read_only"].as_bool()),
        ("bind", "/run/keys/nginx", "/run/secrets/nginx", Some(true)),
        "{said}"
    );
    assert_eq!(taken["services"]["job"]["secrets"][0]["source"], "tsig", "{said}");
    assert_eq!(taken["secrets"]["tsig"]["file"], "/run/keys/dns/current/tsig", "{said}");
    for (sound, broken) in [
        ("secrets: [tsig]", "secrets: tsig"),
        ("read_only: true", "read_only: perhaps"),
        ("    volumes:", "    volume:"),
    ] {
        assert!(text.contains(sound), "{sound}");
        assert_ne!(config("broken.yaml", &text.replace(sound, broken)).code(), 0, "{broken}");
    }
}

fn kubectl_makes_the_same_secret(sandbox: &Sandbox) {
    crate::nginx::pair(sandbox, "tls");
    let fleet = fleet(sandbox);
    for (name, file) in [("tls.crt", "tls.crt"), ("tls.key", "tls.key")] {
        fleet.seal(&format!("nginx@fra1/{name}"), &read(sandbox.path(file)));
    }
    let template = artefact("kubernetes/secret.yaml.in");
    let filled = fleet.keys("fra1", &["template", template.to_str().unwrap()]).ok();
    let manifest = sandbox.write("secret.yaml", &filled);
    let kubectl = |args: &[&str]| Ran::of(alone(sandbox, Tool::Kubectl).args(args));
    // kubectl looks whether the key is the certificate's, and writes the manifest itself.
    let make = |key: &str| {
        let mut args = vec!["create", "secret", "tls", "nginx-tls", "--namespace", "web", "--cert", "tls.crt"];
        args.extend(["--key", key, "--dry-run=client", "-o", "json"]);
        kubectl(&args)
    };
    let (own, ours) = (make("tls.key").ok(), yaml(&manifest));
    let own: serde_json::Value = serde_json::from_str(&own).unwrap();
    for part in ["apiVersion", "kind", "type", "data"] {
        assert_eq!(own[part], ours[part], "{part}");
    }
    for part in ["name", "namespace"] {
        assert_eq!(own["metadata"][part], ours["metadata"][part], "{part}");
    }
    crate::nginx::pair(sandbox, "other");
    assert_ne!(make("other.key").code(), 0);
    // It reads ours into its own type: that there is no environment in a Secret it can say only after that.
    let decoded = |name: &str, text: &str| {
        let file = sandbox.write(name, text);
        let ran = kubectl(&["set", "env", "--local", "-f", file.to_str().unwrap(), "A=b"]);
        assert_ne!(ran.code(), 0);
        ran.stderr()
    };
    let said = decoded("again.yaml", &filled);
    assert!(said.contains("not a pod") && said.contains("v1.Secret"), "{said}");
    let said = decoded("broken.yaml", &filled.replace("tls.key: ", "tls.key: '%'\n  more: "));
    assert!(said.contains("illegal base64"), "{said}");
    // What is left when a secret did not open.
    let empty = sandbox.write("empty.yaml", "");
    let ran = kubectl(&["apply", "--server-side", "-f", empty.to_str().unwrap()]);
    assert!(ran.code() != 0 && ran.stderr().contains("no objects passed"), "{}", ran.stderr());
}

fn kubernetes_schemas_take_the_manifest(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let template = artefact("kubernetes/secret.yaml.in");
    let filled = fleet.keys("fra1", &["template", template.to_str().unwrap()]).ok();
    let check = |name: &str, text: &str, version: &str| {
        let file = sandbox.write(name, text);
        let mut command = alone(sandbox, Tool::KubernetesValidate);
        Ran::of(command.args(["--strict", "-k", version]).arg(file))
    };
    for version in ["1.25", "1.37"] {
        check("secret.yaml", &filled, version).ok();
        for (sound, broken) in [("\ndata:", "\ndate:"), ("name: nginx-tls", "name: [nginx-tls]")] {
            assert!(filled.contains(sound), "{sound}");
            assert_ne!(check("broken.yaml", &filled.replace(sound, broken), version).code(), 0, "{broken}");
        }
    }
}

/// Terraform itself. Its provider `external` is not to be had without its registry: the answer of the program comes by a
/// variable instead, and the rest of the example is worked out by Terraform.
fn terraform_reads_what_it_is_told(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/integrations/terraform.py");
    let config = sandbox.write("terraformrc", "");
    let terraform = |command: &str, directory: &str| {
        let mut python = alone(sandbox, Tool::Terraform);
        python.env("CHECKPOINT_DISABLE", "1").env("TF_CLI_CONFIG_FILE", &config);
        Ran::of(python.args([script, command]).arg(sandbox.path(directory))).json()
    };
    let lay = |directory: &str, name: &str, text: &str| {
        std::fs::create_dir_all(sandbox.path(directory)).unwrap();
        sandbox.write(&format!("{directory}/{name}"), text);
    };
    let text = read(artefact("terraform/main.tf"));
    lay("whole", "main.tf", &text);
    assert_eq!(terraform("read", "whole"), serde_json::json!({ "data": ["data.external.keys"], "outputs": ["sshfp"] }));
    for (number, (sound, broken)) in
        [("query = {", "query = "), ("type = string", "type = stringy"), ("fleet  =", "fleet =")]
            .into_iter()
            .enumerate()
    {
        assert!(text.contains(sound), "{sound}");
        let directory = format!("broken{number}");
        lay(&directory, "main.tf", &text.replace(sound, broken));
        assert!(terraform("read", &directory)["failed"].is_string(), "{broken}");
    }
    // The program's answer, as the provider would hand it on.
    let mut program = with_keys(sandbox, "/bin/sh", "nobody");
    let query = serde_json::json!({ "fleet": sandbox.path("fleet"), "pin": id(&fleet), "member": "*" }).to_string();
    program.args(["-c", "printf '%s' \"$1\" | exec \"$0\""]).arg(artefact("terraform/keys-public")).arg(query);
    let ran = Ran::of(&mut program);
    ran.ok();
    let answer: BTreeMap<String, String> = serde_json::from_value(ran.json()).unwrap();
    let (start, end) = (text.find("data \"external\"").unwrap(), text.find("variable \"fleet_id\"").unwrap());
    let rest = text[end..].replace("data.external.keys.result", "var.answer");
    assert!(rest.contains("var.answer"), "{rest}");
    lay("run", "main.tf", &format!("{}variable \"answer\" {{\n  type = map(string)\n}}\n{rest}", &text[..start]));
    let variables = serde_json::json!({ "answer": answer, "fleet_id": id(&fleet) }).to_string();
    lay("run", "terraform.tfvars.json", &variables);
    let records: Vec<BTreeMap<String, String>> = serde_json::from_str(&answer["sshfp"]).unwrap();
    let expected: BTreeMap<&str, &str> = records.iter().map(|r| (r["data"].as_str(), r["name"].as_str())).collect();
    assert!(!expected.is_empty());
    assert_eq!(terraform("run", "run"), serde_json::json!({ "outputs": { "sshfp": expected } }));
    // An answer that is none of ours stops it.
    let variables = serde_json::json!({ "answer": { "sshfp": "[{}]" }, "fleet_id": "0" }).to_string();
    lay("run", "terraform.tfvars.json", &variables);
    assert_eq!(terraform("run", "run")["failed"], "apply");
}
