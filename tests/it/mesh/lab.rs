//! Machines in network namespaces, each with its home, its own copy of the keyring, two userspace WireGuard interfaces and
//! the agent; and a network between them with delays. What is made here goes when it is dropped; what is ended is ended by
//! its process id.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Ran, Sandbox, TestFleet, Tool};

/// A process that is ended when this is dropped.
pub(super) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (input, output) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Self { child, input, output }
    }

    /// One line of its stdout.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().expect("a pipe").read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("a pipe"), "{line}").expect("it listens");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A machine.
pub(super) struct Machine {
    pub(super) name: String,
    namespace: String,
    devices: Vec<Running>,
    agent: Option<Running>,
    /// Whether it goes by its own copy of the keyring, which is brought up to date when the test says so.
    own_copy: bool,
}

impl Machine {
    /// Ends the interface that was the `i`th to be made, without a warning.
    pub(super) fn end_device(&mut self, i: usize) {
        drop(self.devices.remove(i));
    }
}

/// The network with its machines.
pub(super) struct Lab<'a> {
    pub(super) fleet: TestFleet<'a>,
    pub(super) machines: Vec<Machine>,
    network: Option<Running>,
    lanes: [&'static str; 2],
}

/// What one machine's stream says at its end.
pub(super) struct Streams {
    running: BTreeMap<usize, Running>,
    begun: Instant,
}

/// Packets of one pair and direction.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) sent: u64,
    /// Numbers that did not arrive: from, up to.
    pub(super) missing: Vec<(u64, u64)>,
    pub(super) twice: u64,
    pub(super) gap: f64,
}

impl Flow {
    pub(super) fn lost(&self) -> u64 {
        self.missing.iter().map(|(from, to)| to - from).sum()
    }
}

/// Packets per second of each pair and direction.
pub(super) const RATE: u64 = 200;

impl<'a> Lab<'a> {
    /// A fleet of `count` PoPs, `pop1` and so on, founded and settled; nothing runs yet.
    pub(super) fn new(sandbox: &'a Sandbox, count: usize, policy: &[(&str, &str)]) -> Self {
        let fleet = TestFleet::of_one(sandbox);
        let file = sandbox.path("fleet/policy/wireguard.toml");
        let mut text = std::fs::read_to_string(&file).expect("a policy");
        for (from, to) in policy {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(&file, text).expect("a policy");
        if !policy.is_empty() {
            fleet.keys("alice", &["policy", "propose", "--yes"]).ok();
        }
        let names: Vec<String> = (1..=count).map(|n| format!("pop{n}")).collect();
        for (n, name) in names.iter().enumerate() {
            fleet.keys(name, &["enroll", name, "--endpoint", &format!("198.51.100.{}", n + 1)]).ok();
            fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
        }
        fleet.settle(&names.iter().map(String::as_str).collect::<Vec<_>>());
        // Other labs and other runs may be there at the same time; a device's name has 15 characters at most.
        static LABS: AtomicU32 = AtomicU32::new(0);
        let unique =
            format!("{}{}", std::process::id(), char::from(b'a' + (LABS.fetch_add(1, Ordering::Relaxed) % 26) as u8));
        let machine = |(i, name): (usize, String)| Machine {
            name,
            namespace: format!("k{unique}{}", i + 1),
            devices: Vec::new(),
            agent: None,
            own_copy: false,
        };
        let machines = names.into_iter().enumerate().map(machine).collect();
        Self { fleet, machines, network: None, lanes: ["wg-a", "wg-b"] }
    }

    /// Makes namespaces, network and interfaces, and starts the agents.
    pub(super) fn up(&mut self) {
        self.up_without_agents();
        (1..=self.machines.len()).for_each(|n| self.start_agent(n));
    }

    /// Makes namespaces, network and interfaces that have nothing yet.
    pub(super) fn up_without_agents(&mut self) {
        for machine in &self.machines {
            Ran::of(Tool::Ip.command().args(["netns", "add", &machine.namespace])).ok();
        }
        let script = self.fleet.sandbox.write("network.py", include_str!("network.py"));
        let mut command = favoured(Tool::Python3);
        command.arg(script).args(self.machines.iter().map(|m| &m.namespace));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut network = Running::start(&mut command);
        assert_eq!(network.line(), "ready");
        self.network = Some(network);
        for n in 1..=self.machines.len() {
            self.lanes.into_iter().for_each(|lane| self.start_device(n, lane));
        }
    }

    /// Makes an interface of a machine that has nothing yet.
    pub(super) fn start_device(&mut self, n: usize, lane: &str) {
        let log = self.log(&format!("{lane}-{n}"));
        let mut command = self.inside(n, "/usr/bin/wireguard-go");
        command.args(["-f", lane]).env("WG_PROCESS_FOREGROUND", "1").env("LOG_LEVEL", "verbose");
        let device = Running::start(command.stdout(log.0).stderr(log.1));
        self.machine(n).devices.push(device);
        let socket = self.fleet.sandbox.path(&format!("run{n}/{lane}.sock"));
        wait_until(&format!("{}", socket.display()), Duration::from_secs(20), || socket.exists());
    }

    pub(super) fn machine(&mut self, n: usize) -> &mut Machine {
        &mut self.machines[n - 1]
    }

    fn log(&self, name: &str) -> (std::fs::File, std::fs::File) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.fleet.sandbox.path(&format!("{name}.log")))
            .expect("a log");
        (log.try_clone().expect("a log"), log)
    }

    /// A program inside a machine: in its network, with its own directory for the sockets of its interfaces.
    fn inside(&self, n: usize, program: &str) -> Command {
        let directory = self.fleet.sandbox.path(&format!("run{n}"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let mut command = favoured(Tool::Ip);
        let script = "mkdir -p /var/run/wireguard && mount --bind \"$0\" /var/run/wireguard && exec \"$@\"";
        command.args(["netns", "exec", &self.machines[n - 1].namespace, "/bin/sh", "-c", script]);
        command.arg(directory).arg(program).current_dir(self.fleet.sandbox.root()).stdin(Stdio::null());
        command
    }

    /// What a program of other people's says inside a machine.
    pub(super) fn told(&self, n: usize, program: Tool, args: &[&str]) -> String {
        let path = program.path().expect("a program");
        Ran::of(self.inside(n, path.to_str().expect("a path")).args(args)).ok()
    }

    /// The program inside a machine, for its own home and its own copy of the keyring, if it has one.
    pub(super) fn keys(&self, n: usize, args: &[&str]) -> Command {
        let machine = &self.machines[n - 1];
        let fleet = if machine.own_copy { format!("fleet{n}") } else { "fleet".to_owned() };
        let mut command = self.inside(n, env!("CARGO_BIN_EXE_keys"));
        command.args(["--fleet", &fleet, "--home", &machine.name]).args(args).env("HOME", self.fleet.sandbox.root());
        command
    }

    pub(super) fn start_agent(&mut self, n: usize) {
        let log = self.log(&format!("agent-{n}"));
        let mut command = self.keys(n, &["wg", "agent", "--verbose"]);
        let agent = Running::start(command.stdout(log.0).stderr(log.1));
        self.machine(n).agent = Some(agent);
    }

    /// Ends an agent without a warning.
    pub(super) fn kill_agent(&mut self, n: usize) {
        self.machine(n).agent = None;
    }

    /// From the next start of its agent on the machine goes by a copy of its own.
    pub(super) fn give_own_copy(&mut self, n: usize) {
        self.machine(n).own_copy = true;
        self.update_copy(n);
    }

    /// Brings a machine's copy up to date, and takes over what the machine has handed in. The checkpoint goes last, so that
    /// what it speaks of is there.
    pub(super) fn update_copy(&self, n: usize) {
        let script = format!(
            "set -e; mkdir -p fleet{n}/keyring/proposals fleet{n}/keyring/objects; for d in objects proposals; do \
             cp -an fleet{n}/keyring/$d fleet/keyring/; done; cp -a fleet/policy fleet{n}/; \
             cp fleet/keyring/log/checkpoint next{n}; \
             tar -C fleet/keyring --exclude ./proposals --exclude ./log/checkpoint --exclude './.*' -cf - . | \
             tar -C fleet{n}/keyring -xf -; mv next{n} fleet{n}/keyring/log/checkpoint"
        );
        Ran::of(Command::new("/bin/sh").args(["-c", &script]).current_dir(self.fleet.sandbox.root())).ok();
    }

    /// Tells the network something.
    pub(super) fn network(&mut self, line: &str) {
        let network = self.network.as_mut().expect("a network");
        network.tell(line);
        assert_eq!(network.line(), "done");
    }

    /// Waits until every machine has a route to each of the others that it has chosen itself, and sessions on both lanes.
    pub(super) fn await_routes(&self, limit: Duration) {
        for (i, machine) in self.machines.iter().enumerate() {
            wait_until(&format!("sessions of {}", machine.name), limit, || {
                let shown =
                    self.lanes.map(|lane| self.told(i + 1, Tool::Wg, &["show", lane, "latest-handshakes"])).concat();
                shown.lines().filter(|line| !line.ends_with("\t0")).count() == 2 * (self.machines.len() - 1)
            });
            wait_until(&format!("routes of {}", machine.name), limit, || {
                let routes = Ran::of(Tool::Ip.command().args(["-n", &machine.namespace, "route", "show"])).ok();
                routes.lines().filter(|line| line.contains("metric 50")).count() == self.machines.len() - 1
            });
        }
    }

    /// Runs a command where the log's key is. The agents write to the same keyring: it waits for its turn.
    pub(super) fn authority(&self, args: &[&str]) {
        wait_until(&args.join(" "), Duration::from_secs(90), || {
            let ran = self.fleet.keys("alice", args);
            // 6: somebody else is writing.
            if ran.code() != 6 {
                ran.ok();
            }
            ran.code() == 0
        });
    }

    /// Waits until every machine's interfaces have so many preshared keys, each of them at two machines; the authority takes
    /// in what is handed in.
    pub(super) fn await_preshared(&self, count: usize, limit: Duration, mut meanwhile: impl FnMut(&Self)) {
        wait_until(&format!("{count} preshared keys on each machine"), limit, || {
            meanwhile(self);
            self.authority(&["sync"]);
            let found: Vec<_> = (1..=self.machines.len()).map(|n| self.preshared(n)).collect();
            let pairs = found.iter().flatten().collect::<BTreeSet<_>>().len();
            found.iter().all(|keys| keys.len() == count) && 2 * pairs == count * found.len()
        });
    }

    /// The preshared keys that a machine's interfaces have.
    pub(super) fn preshared(&self, n: usize) -> BTreeSet<String> {
        let shown = self.lanes.map(|lane| self.told(n, Tool::Wg, &["show", lane, "preshared-keys"])).concat();
        let keys = shown.lines().filter_map(|line| line.split_once('\t')).map(|(_, key)| key.to_owned());
        keys.filter(|key| key != "(none)").collect()
    }

    /// The inner address of a machine.
    pub(super) fn address(&self, n: usize) -> String {
        let namespace = &self.machines[n - 1].namespace;
        let shown =
            Ran::of(Tool::Ip.command().args(["-n", namespace, "-4", "-brief", "addr", "show", "dev", "wg-a"])).ok();
        let address = shown.split_whitespace().nth(2).unwrap_or_else(|| panic!("{shown}"));
        address.trim_end_matches("/32").to_owned()
    }

    /// Starts a stream between all pairs.
    pub(super) fn stream(&self) -> Streams {
        let script = self.fleet.sandbox.write("stream.py", include_str!("stream.py"));
        let all: Vec<String> = (1..=self.machines.len()).map(|n| self.address(n)).collect();
        let mut running = BTreeMap::new();
        for (i, own) in all.iter().enumerate() {
            let mut command = self.inside(i + 1, "/usr/bin/python3");
            command.arg(&script).arg(own).arg(RATE.to_string()).args(all.iter().filter(|a| *a != own));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            running.insert(i + 1, Running::start(&mut command));
        }
        for stream in running.values_mut() {
            assert_eq!(stream.line(), "ready");
        }
        running.values_mut().for_each(|stream| stream.tell("go"));
        Streams { running, begun: Instant::now() }
    }

    /// Ends the streams; gives what became of each.
    pub(super) fn end(&self, mut streams: Streams) -> Vec<Flow> {
        streams.running.values_mut().for_each(|s| s.tell("stop"));
        // What is under way arrives.
        std::thread::sleep(Duration::from_secs(2));
        let mut told: BTreeMap<usize, Value> = BTreeMap::new();
        for (n, stream) in &mut streams.running {
            stream.input = None;
            told.insert(*n, serde_json::from_str(&stream.line()).expect("a report"));
        }
        let mut flows = Vec::new();
        for (to, report) in &told {
            for from in told.keys().filter(|from| *from != to) {
                let sent = told[from]["sent"].as_u64().expect("a number");
                let seen = &report["from"][self.address(*from)];
                let range = |r: &Value| (r[0].as_u64().expect("a number"), r[1].as_u64().unwrap_or(sent));
                let missing = seen["missing"].as_array().expect("a list").iter().map(range).filter(|(a, b)| a < b);
                flows.push(Flow {
                    from: *from,
                    to: *to,
                    sent,
                    missing: missing.collect(),
                    twice: seen["twice"].as_u64().expect("a number"),
                    gap: seen["gap"].as_f64().expect("a number"),
                });
            }
        }
        flows
    }

    /// Has the authority take in what the machines hand in, until every one has an active key and a standby again, and
    /// calls `meanwhile` in between.
    pub(super) fn await_standbys(&self, limit: Duration, mut meanwhile: impl FnMut(&Self)) {
        wait_until("every machine has a standby key again", limit, || {
            meanwhile(self);
            self.authority(&["sync"]);
            let plan =
                self.fleet.keys("alice", &["rotate", "--soon", "--slot", "wireguard", "--dry-run", "--json"]).json();
            let ready = plan["plan"]["rotations"].as_array().is_some_and(|r| r.len() == self.machines.len());
            ready || {
                std::thread::sleep(Duration::from_millis(700));
                false
            }
        });
    }
}

impl Streams {
    /// The number that is sent about now.
    pub(super) fn number(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64 * RATE / 1_000
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            machine.agent = None;
            machine.devices.clear();
        }
        self.network = None;
        for machine in &self.machines {
            Tool::Ip.command().args(["netns", "del", &machine.namespace]).stderr(Stdio::null()).status().ok();
        }
    }
}

/// A program that goes before others, so that what is measured is not how busy this machine is.
fn favoured(tool: Tool) -> Command {
    let mut command = Command::new("/usr/bin/nice");
    command.args(["-n", "-10"]).arg(tool.path().expect("a program"));
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C.UTF-8");
    command
}

/// Waits until something holds, for so long at most.
pub(super) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < limit, "{what}: not after {} s", limit.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}
