//! What we render is read by WireGuard's own tools.
//!
//! Each function is one test; it panics on failure and writes below `dir` only. `wg_quick` is the path of wg-quick(8);
//! `wg` is taken from beside it, and so is `wireguard-go` where a test brings an interface up.

// Here files are written and programs run, which the library itself does not do.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Running, Sandbox, Tool, bound, tests};
use keys::digest::Digest;
use keys::policy::wireguard::{TEMPLATE, WireguardPolicy};
use keys::wireguard::render::{RenderOptions, Renderer};
use keys::wireguard::{CheckedMesh, Endpoint, Host, Lane, Mesh, Node, PastKeys, WgPrivateKey, WgPublicKey, address};
use rand::SeedableRng as _;

tests!["wg_tools":
    rendered_files_are_accepted needs [WgQuick, Wg],
    keys_are_those_of_wg needs [WgQuick, Wg],
    a_device_has_the_rendered_peers needs [WgQuick, Wg, WireguardGo, Ip, Root],
];

/// The private key of `pop{i}` on `lane`, made from a public string.
fn private(i: u64, lane: Lane) -> WgPrivateKey {
    let seed = Digest::of(format!("a public seed, for tests alone: {i} {lane}").as_bytes()).0;
    WgPrivateKey::generate(&mut rand::rngs::StdRng::from_seed(seed))
}

/// `pop1` to `pop4` with all that a file can hold: IPv4, IPv6, no endpoint, a port of its own, a missing key.
fn mesh(policy: &str) -> CheckedMesh {
    let policy = WireguardPolicy::parse(policy).expect("a policy");
    let endpoints = [Some("198.51.100.1"), Some("2001:db8::2"), None, Some("203.0.113.4")];
    let nodes = endpoints.into_iter().zip(1..).map(|(host, i)| Node {
        name: format!("pop{i}").parse().expect("a name"),
        region: "default".to_owned(),
        roles: BTreeSet::new(),
        index: i,
        addresses: address::addresses(&policy, "default", i).expect("an index of the pool"),
        endpoint: host.map(|host| Endpoint {
            host: host.parse::<Host>().expect("a host"),
            ports: if i == 4 { [Some(700), None] } else { [None, None] },
        }),
        keys: Lane::ALL.map(|lane| (i != 4 || lane == Lane::A).then(|| private(i, lane).public())),
        preferred: Lane::A,
        nat: host.is_none(),
    });
    let mesh = Mesh { nodes: nodes.collect(), policy: policy.clone() };
    CheckedMesh::new(mesh, &PastKeys::new()).unwrap_or_else(|e| panic!("{e}"))
}

/// Writes all files of `pop{i}` below `dir`.
fn render(mesh: &CheckedMesh, i: u64, dir: &Path) {
    let name = format!("pop{i}").parse().expect("a name");
    for (path, bytes) in Renderer::new(mesh, RenderOptions::default()).node(&name).expect("a node of the mesh") {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("below dir")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }
}

/// `program` from beside wg-quick.
fn beside(wg_quick: &Path, program: &str) -> PathBuf {
    wg_quick.with_file_name(program)
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// The program's output; panics with what it said if it failed.
fn told(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}

/// wg-quick takes every rendered file, and `wg` takes what wg-quick leaves of it and the `addconf` file.
fn rendered_files_are_accepted(sandbox: &Sandbox) {
    let (dir, wg_quick) = (sandbox.root(), Tool::WgQuick.path().unwrap());
    let wg_quick = wg_quick.as_path();
    let mesh = mesh(TEMPLATE);
    for i in 1..=4 {
        let dir = dir.join(format!("pop{i}"));
        render(&mesh, i, &dir);
        for lane in ["wg-a", "wg-b"] {
            let stripped = told(Command::new(wg_quick).arg("strip").arg(dir.join(format!("wg-quick/{lane}.conf"))));
            assert!(stripped.contains("ListenPort = "), "{stripped}");
            for ours in ["Address", "MTU", "Table", "PostUp", "PrivateKey"] {
                assert!(!stripped.contains(ours), "{stripped}");
            }
            let file = dir.join(format!("{lane}.stripped"));
            fs::write(&file, stripped).expect("a file");
            assert_reads(wg_quick, "setconf", &file);
            assert_reads(wg_quick, "addconf", &dir.join(format!("wg/{lane}.addconf")));
        }
    }
    // The measure itself: a file that `wg` cannot read is told apart.
    let broken = dir.join("broken.conf");
    fs::write(&broken, "[Peer]\nPublicKey = AAAA\n").expect("a file");
    assert!(!is_read(wg_quick, "setconf", &broken));
}

/// `wg` reads the whole file before it looks for the interface: what it can read, it refuses for the interface alone.
fn is_read(wg_quick: &Path, verb: &str, file: &Path) -> bool {
    const NO_INTERFACE: &str = "keys-none";
    let output = run(Command::new(beside(wg_quick, "wg")).args([verb, NO_INTERFACE]).arg(file));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    err.lines().count() == 1 && err.starts_with("Unable to modify interface")
}

fn assert_reads(wg_quick: &Path, verb: &str, file: &Path) {
    assert!(is_read(wg_quick, verb, file), "wg {verb} {}", file.display());
}

/// `wg pubkey` reads our key files and finds the same public halves; keys of `wg genkey` are read by us.
fn keys_are_those_of_wg(sandbox: &Sandbox) {
    let (dir, wg_quick) = (sandbox.root(), Tool::WgQuick.path().unwrap());
    let wg_quick = wg_quick.as_path();
    let wg = beside(wg_quick, "wg");
    let pubkey = |text: &str| -> WgPublicKey {
        let mut child = Command::new(&wg)
            .arg("pubkey")
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("wg pubkey");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("the key is taken");
        let output = child.wait_with_output().expect("wg pubkey");
        let public = String::from_utf8(output.stdout).expect("base64");
        public.trim_end().parse().unwrap_or_else(|e| panic!("{public}: {e}"))
    };
    for i in 1..=8 {
        let key = private(i, Lane::A);
        assert_eq!(pubkey(&key.to_file_text()), key.public());
        let theirs = told(Command::new(&wg).arg("genkey").current_dir(dir));
        let read = WgPrivateKey::from_file_text(&theirs).expect("a key of wg genkey");
        assert_eq!(*read.to_file_text(), theirs);
        assert_eq!(pubkey(&theirs), read.public());
    }
}

/// A device brought up in a namespace of its own has, after its key was set and the rendered `addconf` file applied,
/// exactly the rendered peers, and still its key. Needs root, /dev/net/tun, ip(8) and wireguard-go.
fn a_device_has_the_rendered_peers(sandbox: &Sandbox) {
    let (dir, wg_quick) = (sandbox.root(), Tool::WgQuick.path().unwrap());
    let wg_quick = wg_quick.as_path();
    // The control sockets of userspace devices share one directory, so the interface's name is unique on the machine.
    let unique = std::process::id();
    let policy =
        TEMPLATE.replace("\"wg-a\"", &format!("\"kt{unique}a\"")).replace("\"wg-b\"", &format!("\"kt{unique}b\""));
    let mesh = mesh(&policy);
    render(&mesh, 3, dir);
    for lane in Lane::ALL {
        let interface = lane.interface(mesh.policy());
        let device = Device::up(wg_quick, interface, dir);
        let key_file = dir.join(format!("{interface}.key"));
        fs::write(&key_file, private(3, lane).to_file_text().as_bytes()).expect("a key file");
        let wg = beside(wg_quick, "wg");
        told(device.inside(&wg).args(["set", interface, "private-key"]).arg(&key_file));
        let fragment = dir.join(format!("wg/{interface}.addconf"));
        told(device.inside(&wg).args(["addconf", interface]).arg(&fragment));

        let shown = told(device.inside(&wg).args(["showconf", interface]));
        let rendered = fs::read_to_string(&fragment).expect("the fragment");
        let peers = peers(&rendered);
        assert_eq!(peers.len(), if lane == Lane::A { 3 } else { 2 });
        assert_eq!(self::peers(&shown), peers, "{shown}");
        assert!(shown.contains("PrivateKey = "), "addconf took the key away");

        // The routes are read by ip(8), once the node has its addresses and the device is up.
        let own = mesh.node(&"pop3".parse().expect("a name")).expect("a node").addresses;
        told(&mut device.ip(&["addr", "add", &format!("{}/32", own.ipv4), "dev", interface]));
        told(&mut device.ip(&["addr", "add", &format!("{}/128", own.ipv6), "dev", interface, "nodad"]));
        told(&mut device.ip(&["link", "set", interface, "up"]));
        let routes = dir.join(format!("wg/{interface}.routes"));
        told(&mut device.ip(&["-batch", &routes.to_string_lossy()]));
        let metric = if lane == Lane::A { "metric 100" } else { "metric 200" };
        for family in ["-4", "-6"] {
            let table = told(&mut device.ip(&[family, "route", "show", "dev", interface]));
            assert_eq!(table.lines().filter(|line| line.contains(metric)).count(), peers.len(), "{table}");
        }
    }
}

/// The sections of a configuration by public key, each as its fields; spaces after commas do not count.
fn peers(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut peers = BTreeMap::new();
    for section in text.split("[Peer]\n").skip(1) {
        let fields = section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
        let fields: BTreeMap<_, _> = fields.map(|(key, value)| (key.to_owned(), value.replace(", ", ","))).collect();
        peers.insert(fields["PublicKey"].clone(), fields);
    }
    peers
}

/// A userspace WireGuard device in a network namespace; both go when this is dropped.
struct Device {
    interface: String,
    process: Running,
}

impl Device {
    fn up(wg_quick: &Path, interface: &str, dir: &Path) -> Self {
        told(Command::new("ip").args(["netns", "add", interface]));
        let log = fs::File::create(dir.join(format!("{interface}.log"))).expect("a log");
        let process = Running::start(
            bound(Tool::Ip.path().expect("ip"))
                .args(["netns", "exec", interface])
                .arg(beside(wg_quick, "wireguard-go"))
                .args(["-f", interface])
                .env("WG_PROCESS_FOREGROUND", "1")
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a log"))
                .stderr(log),
        );
        let mut device = Self { interface: interface.to_owned(), process };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(120) && device.process.try_wait().expect("its state").is_none() {
            if device.socket().exists() {
                return device;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = fs::read_to_string(dir.join(format!("{interface}.log"))).unwrap_or_default();
        panic!("wireguard-go has not come up: {log}");
    }

    /// A program run inside the namespace.
    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.interface]).arg(program);
        command
    }

    /// ip(8) for the namespace.
    fn ip(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["-n", &self.interface]).args(arguments);
        command
    }

    fn socket(&self) -> PathBuf {
        Path::new("/var/run/wireguard").join(format!("{}.sock", self.interface))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // `ip netns exec` becomes the program it runs, so this is wireguard-go itself and nobody else.
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_file(self.socket()).ok();
        Command::new("ip").args(["netns", "del", &self.interface]).status().ok();
    }
}
