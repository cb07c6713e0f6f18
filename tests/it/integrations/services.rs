//! What services on a machine are given: certificates of certbot to nginx, files to containers.

use crate::agent::policy;
use crate::nginx::{end, free_port, pair, serve, set_up, shown};
use crate::support::{Ran, Sandbox, TestFleet, tests};

use super::{artefact, blocks, read, with_keys, yaml};

tests!["integrations":
    a_renewal_of_certbot_reaches_nginx needs [Nginx, Openssl],
    a_bound_directory_sees_a_new_generation needs [MountNamespace, PyYaml],
];

/// Has a text stand at the end of a file of the policy.
fn append(sandbox: &Sandbox, file: &str, text: &str) {
    let path = sandbox.path("fleet/policy").join(file);
    let before = read(&path);
    std::fs::write(&path, format!("{before}\n{text}")).unwrap();
}

fn a_renewal_of_certbot_reaches_nginx(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "nginx");
    let toml = blocks("certbot.md", "toml");
    append(sandbox, "fleet.toml", &toml[0]);
    policy(&fleet, &toml[1]);
    let port = free_port();
    set_up(sandbox, port);
    ["old", "new"].iter().for_each(|name| pair(sandbox, name));
    // What certbot leaves, and how it runs its hooks.
    let lineage = sandbox.path("live/www.example.net");
    let renew = |certificate: &str, key: &str| {
        std::fs::create_dir_all(&lineage).unwrap();
        std::fs::copy(sandbox.path(certificate), lineage.join("fullchain.pem")).unwrap();
        std::fs::copy(sandbox.path(key), lineage.join("privkey.pem")).unwrap();
        let mut hook = with_keys(sandbox, artefact("certbot/keys-deploy-hook"), "fra1");
        hook.env("RENEWED_LINEAGE", &lineage).env("RENEWED_DOMAINS", "www.example.net").env("KEYS_OWNER", "nginx@fra1");
        Ran::of(&mut hook)
    };
    let agent = || fleet.keys("fra1", &["agent", "--once", "--run-dir", "run", "--hooks", "hooks.toml"]);
    let versions = || fleet.keys("alice", &["ls", "--json"]).json()["secrets"].clone();
    // The first one an operator has to agree to.
    renew("old.crt", "old.key").ok();
    assert_eq!(versions().as_array().map(Vec::len), Some(0));
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    agent().ok();
    let nginx = serve(sandbox, port, "old.cdn.example");
    // A certificate without its key goes no further than the hook.
    let before = versions();
    renew("new.crt", "old.key").refuses(1, "is not of the key in");
    fleet.keys("alice", &["sync"]).ok();
    assert_eq!(versions(), before);
    // A renewal is signed on the machine, and nobody is asked; it comes with the log.
    renew("new.crt", "new.key").ok();
    agent().ok();
    assert_eq!(shown(port).as_deref(), Some("old.cdn.example"));
    fleet.keys("alice", &["sync"]).ok();
    agent().ok();
    assert_eq!(shown(port).as_deref(), Some("new.cdn.example"));
    assert!(versions() != before);
    // The key stays where it was made.
    fleet.keys("alice", &["open", "nginx@fra1/www.example.net.pem"]).exits(3);
    let said = fleet.keys("fra1", &["open", "nginx@fra1/www.example.net.pem"]).ok();
    assert_eq!(said, read(sandbox.path("new.crt")) + &read(sandbox.path("new.key")));
    end(nginx);
}

/// A directory that is bound sees each flip; a file that is bound stays what it was.
fn a_bound_directory_sees_a_new_generation(sandbox: &Sandbox) {
    let _fleet = crate::agent::fleet(sandbox, "");
    let compose = yaml(&artefact("compose/compose.yaml"));
    let volume = &compose["services"]["web"]["volumes"][0];
    assert_eq!((volume["type"].as_str(), volume["read_only"].as_bool()), (Some("bind"), Some(true)));
    let place = |path: &serde_json::Value| {
        let path = path.as_str().unwrap();
        path.strip_prefix("/run/keys")
            .map_or_else(|| sandbox.path(&format!("inside{path}")), |p| sandbox.path(&format!("run{p}")))
    };
    let (source, target) = (place(&volume["source"]), place(&volume["target"]));
    let file = place(&compose["secrets"]["tsig"]["file"]);
    assert_eq!(compose["services"]["job"]["secrets"][0], "tsig");
    let bound = sandbox.path("inside/run/secrets/tsig");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(&bound, "").unwrap();
    let script = "set -eu
        agent() { keys agent --once --run-dir run --hooks hooks.toml > /dev/null; }
        agent
        mount --bind \"$0\" \"$1\"
        mount -o remount,bind,ro \"$1\"
        mount --bind \"$2\" \"$3\"
        cat \"$1/current/tls.pem\" \"$3\"
        echo
        printf 'certificate 2\\n' | KEYS_HOME=alice keys seal -q nginx@fra1/tls.crt > /dev/null
        printf 'tsig 2' | KEYS_HOME=alice keys seal -q dns@fra1/tsig > /dev/null
        agent
        cat \"$1/current/tls.pem\" \"$3\" \"$2\"";
    let mut unshare = with_keys(sandbox, "/usr/bin/unshare", "fra1");
    unshare.args(["-m", "/bin/sh", "-c", script]).args([&source, &target, &file, &bound]);
    let said = Ran::of(&mut unshare).ok();
    assert_eq!(said, "certificate 1\nkey 1\ntsig 1\ncertificate 2\nkey 1\ntsig 1tsig 2");
}
