//! What a server may do beyond answering: nothing, by systemd's unit and by the kernel.

use super::fleet;
use super::serving::Served;
use crate::support::{Ran, Sandbox, Tool, tests};

tests!["remote::confined":
    its_unit_is_what_systemd_reads needs [SystemdAnalyze],
    each_of_its_threads_is_confined,
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
        assert!(status.lines().any(|l| l == "NoNewPrivs:\t1"), "{status}");
        threads += 1;
    }
    assert!(threads >= 2, "the one that waits, and that of a connection");
    drop(open);
    // Nothing is lost by it: what is handed in is written, and read.
    let request = super::serving::request(sandbox, "sin1");
    assert_eq!(served.post(&request).status, 202);
    assert_eq!(served.text("/v1/waiting").lines().count(), 1);
}
