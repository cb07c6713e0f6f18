//! The key server: what gpg, sq and others get of a fleet's certificates, and what they do not.

use std::time::{Duration, Instant};

use sequoia_openpgp as pgp;

use pgp::Cert;
use pgp::parse::Parse as _;

use super::fleet;
use super::serving::Served;
use crate::support::{GpgHome, Ran, Sandbox, TestFleet, Tool, fingerprints, tests, user_id};

tests!["remote::key_server":
    a_certificate_is_found_by_every_name_that_it_has,
    what_is_no_question_is_told_so,
    who_has_left_is_found_by_fingerprint_alone,
    certificates_of_the_modern_profile_are_kept_from_old_clients,
    gpg_receives_searches_and_refreshes needs [Gpg, GpgConf, Dirmngr],
    sq_gets_by_fingerprint_and_by_address needs [Sq],
];

/// The fingerprints of members by their user ids.
pub(super) fn known(fleet: &TestFleet<'_>, name: &str) -> impl Fn(&str) -> String + use<> {
    let all = fingerprints(&fleet.export_ring(name, &[]).0);
    move |member| all[&user_id(member)].clone()
}

/// Asks until what was changed a moment ago is served.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn a_certificate_is_found_by_every_name_that_it_has(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let served = Served::start(sandbox);
    let fra1 = known(&fleet, "ring")("fra1");
    let (lower, id) = (fra1.to_lowercase(), &fra1[24..]);
    let on_record = std::fs::read(fleet.keyring("certs").join(&lower[..2]).join(&lower[2..])).unwrap();
    let on_record = Cert::from_bytes(&on_record).unwrap();
    let subkey = on_record.keys().subkeys().next().unwrap().key().fingerprint();
    let wkd = "/.well-known/openpgpkey/fra1.cdn.example/hu/jhcz3gp8tqnbdhqxjniwbgokpwmszgpz?l=pop";
    let names = [
        format!("/pks/lookup?op=get&options=mr&search=0x{fra1}"),
        format!("/pks/lookup?op=get&search=0x{lower}"),
        format!("/pks/lookup?op=get&search={fra1}"),
        format!("/pks/lookup?op=get&search=0x{id}"),
        format!("/pks/lookup?op=get&search=0x{}", subkey.to_hex()),
        format!("/pks/lookup?op=get&search=0x{}", &subkey.to_hex()[24..]),
        "/pks/lookup?op=get&options=mr&search=pop%40fra1.cdn.example".to_owned(),
        "/pks/lookup?search=PoP+fra1+<pop%40FRA1.cdn.example>&op=get".to_owned(),
        format!("/pks/v2/certs/by-vfingerprint/04{fra1}"),
        format!("/pks/v2/certs/by-vfingerprint/04/{lower}"),
        format!("/pks/v2/certs/by-keyid/{id}"),
        "/pks/v2/certs/by-identity/pop@fra1.cdn.example".to_owned(),
        wkd.to_owned(),
    ];
    for name in &names {
        let answer = served.ask("GET", name, "");
        assert_eq!(answer.status, 200, "{name}");
        let found = Cert::from_bytes(&answer.body).unwrap();
        assert_eq!((found.fingerprint().to_hex(), found.is_tsk()), (fra1.clone(), false), "{name}");
        // Everything that its owner says of it now, and the word of the authority and the operator.
        assert_eq!(found.keys().count(), on_record.keys().count(), "{name}");
        let vouched = |cert: &Cert| cert.userids().map(|u| u.certifications().count()).sum::<usize>();
        assert_eq!(vouched(&found), vouched(&on_record), "{name}");
        assert!(vouched(&found) > 0, "{name}");
        assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("*"), "{name}");
        let text = answer.body.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----");
        let kind = match name {
            _ if name.starts_with("/pks/lookup") => "application/pgp-keys",
            _ if name.starts_with("/pks/v2") => "application/pgp-keys; armor=no",
            _ => "application/octet-stream",
        };
        assert_eq!((text, answer.header("content-type").unwrap().as_str()), (kind == "application/pgp-keys", kind));
        // The same again costs nothing, and HEAD says how much it is.
        let tag = format!("If-None-Match: {}\r\n", answer.header("etag").unwrap());
        assert_eq!(served.ask("GET", name, &tag).status, 304, "{name}");
        let head = served.ask("HEAD", name, "");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), answer.header("content-length"));
        for method in ["POST", "PUT", "DELETE", "BREW"] {
            assert_eq!(served.ask(method, name, "").status, 405, "{method} {name}");
        }
    }
    let list = served.ask("GET", "/pks/lookup?op=index&options=mr&fingerprint=on&search=fra1", "").text();
    let lines: Vec<&str> = list.lines().collect();
    // The PoP and its service.
    assert_eq!(lines[0], "info:1:2", "{list}");
    let found = lines.iter().position(|l| l.starts_with(&format!("pub:{fra1}:22:256:"))).unwrap();
    let created: Vec<&str> = lines[found].split(':').collect();
    assert!(created.len() == 7 && created[4].parse::<u64>().unwrap() < created[5].parse().unwrap(), "{list}");
    assert!(lines[found + 1].starts_with("uid:PoP%20fra1%20%3Cpop%40fra1.cdn.example%3E:"), "{list}");
    let policy = served.ask("GET", "/.well-known/openpgpkey/fra1.cdn.example/policy", "");
    assert_eq!((policy.status, policy.body.len()), (200, 0));
    let json = served.text("/pks/v2/index/pop%40fra1.cdn.example");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json[0]["version"].as_u64(), json[0]["fingerprint"].as_str()), (Some(4), Some(lower.as_str())));
    // What joins later is there a moment later.
    fleet.join("ams1", "");
    let asked = "/pks/lookup?op=get&search=pop@ams1.cdn.example";
    eventually("ams1 is served", || served.ask("GET", asked, "").status == 200);
}

fn what_is_no_question_is_told_so(sandbox: &Sandbox) {
    let _fleet = fleet(sandbox);
    let served = Served::start(sandbox);
    let long = format!("/pks/lookup?op=index&search={}", "x".repeat(4_000));
    let absent = "0".repeat(40);
    for (path, status) in [
        ("/pks/lookup", 400),
        ("/pks/lookup?op=get", 400),
        ("/pks/lookup?search=0x", 400),
        ("/pks/lookup?op=get&search=fra1", 400),
        ("/pks/lookup?op=get&search=0x01234567", 400),
        ("/pks/lookup?op=get&search=..%2f..%2fetc%2fpasswd", 400),
        ("/pks/lookup?op=get&search=%0d%0aSet-Cookie:x", 400),
        ("/pks/lookup?op=get&op=get&search=x", 400),
        (&long, 400),
        ("/pks/lookup?op=stats&search=x", 501),
        ("/pks/lookup?op=hget&search=x", 501),
        ("/pks/v2/prefixlog/2026-11-22", 501),
        ("/pks/v2/canonical/alice@ops.example", 501),
        (&format!("/pks/lookup?op=get&search=0x{absent}"), 404),
        ("/pks/lookup?op=get&search=nobody@ops.example", 404),
        ("/pks/lookup?op=index&search=nobody", 404),
        ("/pks/lookup?op=index&search=fr", 404),
        ("/pks/lookup?op=index&search=fra1&exact=on", 404),
        ("/pks/v2/certs/by-vfingerprint/../../../keyring", 404),
        ("/pks/v2/certs/by-identity/%zz", 404),
        ("/pks/v2/", 404),
        ("/.well-known/openpgpkey/cdn.example/hu/../policy", 404),
        ("/.well-known/openpgpkey/hu/x", 404),
        ("/pks/", 404),
        ("/pks/get/alice@ops.example", 404),
    ] {
        assert_eq!(served.ask("GET", path, "").status, status, "{path}");
    }
    // Keys come by the log alone.
    let armored = served.ask("GET", "/pks/lookup?op=get&search=alice@ops.example", "").body;
    let body = format!("keytext={}", String::from_utf8(armored).unwrap().replace('+', "%2B").replace('\n', "%0A"));
    let added = served.send(
        format!("POST /pks/add HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .as_bytes(),
    );
    assert!(added.status == 403 && added.text().contains("keys sync"), "{} {}", added.status, added.text());
    assert_eq!(served.ask("GET", "/pks/add", "").status, 405);
    let head = served.ask("GET", "/pks/lookup?op=index&search=Alice", "").head;
    assert!(!head.contains("Set-Cookie"), "{head}");
}

fn who_has_left_is_found_by_fingerprint_alone(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    fleet.join("ams1", "");
    let find = known(&fleet, "ring");
    let (fra1, ams1) = (find("fra1"), find("ams1"));
    let served = Served::start(sandbox);
    let get = |search: &str| served.ask("GET", &format!("/pks/lookup?op=get&search={search}"), "");
    assert_eq!([get(&fra1).status, get("pop@fra1.cdn.example").status], [200, 200]);
    fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
    eventually("fra1 has left", || get("pop@fra1.cdn.example").status == 404);
    // Whoever has it learns that it is revoked; whoever looks for an address does not get it at all.
    let gone = Cert::from_bytes(&get(&fra1).body).unwrap();
    assert_eq!(gone.primary_key().self_revocations().count(), 1);
    let listed = served.ask("GET", &format!("/pks/lookup?op=index&search=0x{fra1}"), "").text();
    assert!(listed.lines().nth(1).unwrap().ends_with(":r"), "{listed}");
    assert_eq!(served.ask("GET", "/pks/lookup?op=index&search=fra1", "").status, 404);
    assert_eq!(get(&ams1).status, 200);
    assert_eq!(served.ask("GET", "/.well-known/openpgpkey/fra1.cdn.example/policy", "").status, 404);
}

fn certificates_of_the_modern_profile_are_kept_from_old_clients(sandbox: &Sandbox) {
    let args = ["init", "cdn.example", "--operator", "Alice <alice@ops.example>", "--profile", "modern"];
    sandbox.keys(&[&["--fleet", "fleet", "--home", "alice"], &args[..]].concat()).ok();
    let served = Served::start(sandbox);
    for search in ["get&search=alice@ops.example", "index&search=alice@ops.example", "index&search=Alice"] {
        assert_eq!(served.ask("GET", &format!("/pks/lookup?op={search}"), "").status, 404, "{search}");
    }
    let found = served.ask("GET", "/pks/v2/certs/by-identity/alice@ops.example", "");
    let found = Cert::from_bytes(&found.body).unwrap();
    assert_eq!(found.primary_key().key().version(), 6);
    let fingerprint = found.fingerprint().to_hex();
    assert_eq!(served.ask("GET", &format!("/pks/lookup?op=get&search=0x{fingerprint}"), "").status, 404);
    for name in [format!("06{fingerprint}"), format!("06/{}", fingerprint.to_lowercase())] {
        assert_eq!(served.ask("GET", &format!("/pks/v2/certs/by-vfingerprint/{name}"), "").status, 200, "{name}");
    }
}

fn gpg_receives_searches_and_refreshes(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let fra1 = known(&fleet, "ring")("fra1");
    let served = Served::start(sandbox);
    with_gpg(sandbox, &served.address, &fra1, || {
        fleet.keys("alice", &["revoke", "fra1", "--reason", "compromised", "--yes"]).ok();
        let asked = "/pks/lookup?op=get&search=pop@fra1.cdn.example";
        eventually("fra1 has left", || served.ask("GET", asked, "").status == 404);
    });
}

/// gpg with this key server: it receives a PoP's certificate, finds it, and hears of its revocation.
pub(super) fn with_gpg(sandbox: &Sandbox, address: &str, fra1: &str, revoke: impl FnOnce()) {
    let gpg = GpgHome::new(sandbox, "g");
    let server = format!("hkp://{address}");
    let run = |args: &[&str]| gpg.run(&[&["--keyserver", server.as_str()], args].concat());
    let listed = || gpg.run(&["--with-colons", "--fixed-list-mode", "--list-keys"]).ok();
    run(&["--recv-keys", fra1]).ok();
    assert!(listed().contains("pop@fra1.cdn.example"), "{}", listed());
    // Told nothing to choose, it lists what it found.
    let found = run(&["--with-colons", "--search-keys", "pop@fra1.cdn.example"]);
    assert!(found.stdout().contains(&format!("pub:{fra1}:22:256:")), "{} {}", found.stdout(), found.stderr());
    revoke();
    run(&["--refresh-keys"]).ok();
    assert!(listed().contains("pub:r:"), "{}", listed());
    let absent = run(&["--recv-keys", &"0".repeat(40)]);
    assert!(absent.code() != 0 && absent.stderr().contains("No data"), "{}", absent.stderr());
    let sent = run(&["--send-keys", fra1]);
    assert_ne!(sent.code(), 0, "{}", sent.stderr());
}

fn sq_gets_by_fingerprint_and_by_address(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let fra1 = known(&fleet, "ring")("fra1");
    let served = Served::start(sandbox);
    with_sq(sandbox, &served.address, &fra1);
}

/// sq with this key server.
pub(super) fn with_sq(sandbox: &Sandbox, address: &str, fra1: &str) {
    let server = format!("hkp://{address}");
    let get = |what: &str| {
        let mut command = Tool::Sq.command();
        command.env("HOME", sandbox.root()).current_dir(sandbox.root());
        Ran::of(command.args(["keyserver", "--policy", "insecure", "--server", &server, "get", what]))
    };
    for what in [fra1, &fra1[24..], "pop@fra1.cdn.example"] {
        let found = Cert::from_bytes(get(what).ok().as_bytes()).unwrap();
        assert_eq!(found.fingerprint().to_hex(), fra1, "{what}");
    }
    assert_ne!(get("nobody@ops.example").code(), 0);
}
