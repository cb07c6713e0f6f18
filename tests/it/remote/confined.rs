//! What a server may do beyond answering: nothing, by systemd's unit and by the kernel.

use std::path::Path;
use std::process::Command;

use super::fleet;
use super::serving::Served;
use crate::support::machine::Machine;
use crate::support::{Ran, Sandbox, Tool, tests};

tests!["remote::confined":
    its_unit_is_what_systemd_reads needs [SystemdAnalyze],
    each_of_its_threads_is_confined,
    systemd_starts_it_and_it_serves_and_takes needs [Machine],
];

fn its_unit_is_what_systemd_reads(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let program = env!("CARGO_BIN_EXE_keys");
    let words = ["serve", "units", "--out", "units", "--program", program, "--listen", "127.0.0.1:7411"];
    assert_eq!(fleet.keys("nobodys", &words).ok().trim_end(), "units/keys-serve.service");
    let unit = sandbox.path("units/keys-serve.service");
    let good = std::fs::read_to_string(&unit).unwrap();
    let keyring = sandbox.path("fleet/keyring").canonicalize().unwrap().display().to_string();
    let id = super::id(&fleet);
    for line in [&format!("ReadWritePaths=\"{keyring}\""), "SocketBindAllow=tcp:7411", "CapabilityBoundingSet="] {
        assert!(good.lines().any(|l| l == line), "{line}\n{good}");
    }
    assert!(good.contains(&format!(" --pin {id} serve --listen 127.0.0.1:7411\n")), "{good}");
    assert!(!sandbox.path("nobodys").exists(), "it needs no home");
    let verify =
        || Ran::of(Tool::SystemdAnalyze.command().args(["verify", "--man=no", "--recursive-errors=no"]).arg(&unit));
    let ran = verify();
    ran.ok();
    assert_eq!(ran.stderr(), "");
    let exposure = || {
        let words = ["security", "--no-pager", "--offline=true", "--threshold=20"];
        Ran::of(Tool::SystemdAnalyze.command().args(words).arg(&unit))
    };
    let ran = exposure();
    assert_eq!(ran.code(), 0, "{}", ran.stdout());
    // With TLS at a port that not everybody may take: that right, and no other.
    let tls = ["--tls-cert", "/etc/keys/chain.pem", "--tls-key", "/etc/keys/its key.pem"];
    let words = ["serve", "units", "--out", "units", "--program", program, "--listen", "[::]:443"];
    fleet.keys("nobodys", &[&words[..], &tls].concat()).ok();
    let low = std::fs::read_to_string(&unit).unwrap();
    let command = "serve --listen [::]:443 --tls-cert \"/etc/keys/chain.pem\" --tls-key \"/etc/keys/its key.pem\"\n";
    assert!(low.contains(command), "{low}");
    for right in ["CapabilityBoundingSet=", "AmbientCapabilities="] {
        let given: Vec<&str> = low.lines().filter_map(|l| l.strip_prefix(right)).collect();
        assert_eq!(given, ["", "CAP_NET_BIND_SERVICE"], "{low}");
    }
    let ran = verify();
    ran.ok();
    assert_eq!(ran.stderr(), "");
    fleet.keys("nobodys", &[&words[..], &tls[..2]].concat()).exits(2);
    // They say something where something is wrong.
    std::fs::write(&unit, good.replace("ProtectClock=", "ProtectClocks=")).unwrap();
    assert!(verify().stderr().contains("ProtectClocks"));
    let bare = good.lines().filter(|l| !l.starts_with("Protect") && !l.starts_with("Restrict")).collect::<Vec<_>>();
    std::fs::write(&unit, bare.join("\n")).unwrap();
    assert_ne!(exposure().code(), 0);
    // What cannot stand in a unit is not written.
    let evil = "/x\nExecStart=/bin/sh";
    fleet.keys("nobodys", &["serve", "units", "--out", "evil", "--program", evil, "--listen", "127.0.0.1:1"]).exits(2);
    assert!(!sandbox.path("evil").exists());
}

/// That it bites is tried in `src/cli/confine.rs`, in a thread; here, that the server does it before it answers.
fn each_of_its_threads_is_confined(sandbox: &Sandbox) {
    fleet(sandbox);
    let served = Served::start(sandbox);
    assert_eq!(served.ask("GET", "/healthz", "").status, 200);
    let open = std::net::TcpStream::connect(&served.address).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let tasks = format!("/proc/{}/task", served.child.id());
    let mut threads = 0;
    for task in std::fs::read_dir(tasks).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.lines().any(|l| l == line), "{line}\n{status}");
        }
        threads += 1;
    }
    assert!(threads >= 2, "the one that waits, and that of a connection");
    drop(open);
    // Nothing is lost by it: what is handed in is written, and read.
    let request = super::serving::request(sandbox, "sin1");
    assert_eq!(served.post(&request).status, 202);
    assert_eq!(served.text("/v1/waiting").lines().count(), 1);
}

/// What is tried in a machine that boots.
const TRIAL: &str = r#"
set -eu
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root
install -m 755 /test/keys /usr/local/bin/keys
useradd --system mirror
mkdir -p /var/lib/mirror
cp -r /test/fleet /var/lib/mirror/
chown -R mirror: /var/lib/mirror
chmod 755 /var/lib/mirror
keys --fleet /var/lib/mirror/fleet serve units --listen 127.0.0.1:7411 --out /etc/systemd/system
grep -x "User=$(id -u mirror)" /etc/systemd/system/keys-serve.service
systemctl daemon-reload
systemctl start keys-serve
id=$(cat /test/id)
pulled() { keys --fleet /root/copy --home /root/home pull --from http://127.0.0.1:7411 --pin "$id" > /run/pulled 2>&1; }
for _ in $(seq 150); do if pulled; then break; fi; sleep 0.2; done
if ! pulled; then cat /run/pulled; systemctl --no-pager status keys-serve; exit 1; fi
keys --fleet /root/copy --home /root/home enroll sin1 --endpoint 198.51.100.7 --out /root/sin1.request
cp /root/sin1.request /root/copy/keyring/proposals.request
mkdir -p /root/copy/keyring/proposals/requests
mv /root/copy/keyring/proposals.request "/root/copy/keyring/proposals/requests/$(sha256sum /root/sin1.request | cut -c1-64).request"
keys --fleet /root/copy --home /root/home submit --to http://127.0.0.1:7411
test "$(stat -c %U /var/lib/mirror/fleet/keyring/proposals/requests/*.request)" = mirror
systemctl stop keys-serve
test "$(systemctl show -p Result --value keys-serve)" = success
echo served
"#;

fn systemd_starts_it_and_it_serves_and_takes(sandbox: &Sandbox) {
    let fleet = fleet(sandbox);
    let machine = Machine::new(sandbox, "mirror", "#cloud-config\n{}\n");
    machine.put("etc/cloud/cloud-init.disabled", "");
    let shared = machine.shared();
    let copy = |from: &Path, to: &str| Ran::of(Command::new("/bin/cp").arg("-a").arg(from).arg(shared.join(to))).ok();
    copy(&sandbox.path("fleet"), "fleet");
    copy(Path::new(env!("CARGO_BIN_EXE_keys")), "keys");
    std::fs::write(shared.join("id"), super::id(&fleet)).unwrap();
    let said = machine.boot(&["once"], TRIAL);
    assert!(said.ends_with("served\n"), "{said}");
}
