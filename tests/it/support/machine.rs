//! A machine that boots: Debian's own systemd and cloud-init under systemd-nspawn, over a throw-away copy of this system's
//! root, with no network but its own loopback. What it writes lies in memory and is gone with it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::running::{Running, bound};
use super::{Sandbox, Tool};

/// How long a boot, with all that is tried in it, may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// Puts the machine together, boots it, and again as often as it is told to. `$1` is a directory of the test, with `files`
/// (what the machine has more than this system), `machine` (mounted there under /test) and `boots` (one command line a boot).
const SCRIPT: &str = r#"
set -eu
here=$1
top=$here/top
mkdir -p "$top" "$here/out"
mount -t tmpfs -o size=1g none "$top"
mkdir "$top/up" "$top/work" "$top/root"
mount -t overlay none -o "lowerdir=/,upperdir=$top/up,workdir=$top/work" "$top/root"
root=$top/root
rm -rf "$root/var/lib/cloud" "$root/etc/cloud/cloud.cfg.d" "$root/etc/keys" "$root/var/lib/keys" "$root/run/keys"
for unit in $(ls "$root/etc/systemd/system/multi-user.target.wants" "$root/etc/systemd/system/timers.target.wants" \
        "$root/etc/systemd/system/sysinit.target.wants" "$root/etc/systemd/system/network-online.target.wants" 2>/dev/null); do
    case $unit in *.service | *.timer) ln -sf /dev/null "$root/etc/systemd/system/$unit" ;; esac
done
for unit in systemd-networkd systemd-networkd-wait-online systemd-resolved systemd-timesyncd; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
echo uninitialized > "$root/etc/machine-id"
mkdir -p "$root/test"
cp -a "$here/files/." "$root/"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf /etc/systemd/system/trial.service "$root/etc/systemd/system/multi-user.target.wants/trial.service"
number=0
for boot in $(cat "$here/boots"); do
    number=$((number + 1))
    echo "$boot" > "$here/machine/boot"
    systemd-nspawn -q -D "$root" --boot --private-network --register=no --keep-unit --machine="$2" --link-journal=no \
        --console=read-only --bind="$here/machine:/test" systemd.unit=multi-user.target < /dev/null > "$here/out/boot-$number" 2>&1 ||
        { echo "boot $number failed" >&2; tail -50 "$here/out/boot-$number" >&2; exit 1; }
    # What went wrong in this boot is what is told.
    [ "$(cat "$here/machine/ended")" = 0 ] || break
done
"#;

/// As little of cloud-init as writes files and runs a command; nothing of it touches disks or networks.
const CLOUD_CFG: &str = "\
datasource_list: [ NoCloud, None ]
disable_root: true
preserve_hostname: true
network: {config: disabled}
cloud_init_modules: [seed_random, write-files]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, final-message]
system_info:
  distro: debian
  paths: {cloud_dir: /var/lib/cloud/, templates_dir: /etc/cloud/templates/, run_dir: /run/cloud-init/}
";

/// What runs in the machine beside what is tried: the test's script, and then the end.
const TRIAL: &str = "\
[Service]
ExecStart=/bin/sh -c '/bin/sh /test/trial > /test/said 2>&1; echo $? > /test/ended; systemctl --no-block poweroff'
";

/// A machine before it boots.
pub(crate) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// A machine with this user-data, as NoCloud hands it over.
    pub(crate) fn new(sandbox: &Sandbox, name: &str, user_data: &str) -> Self {
        let machine = Self { root: sandbox.path(name) };
        std::fs::create_dir_all(machine.root.join("machine")).unwrap();
        machine.put("var/lib/cloud/seed/nocloud/user-data", user_data);
        machine.put("var/lib/cloud/seed/nocloud/meta-data", &format!("instance-id: {name}\nlocal-hostname: {name}\n"));
        machine.put("etc/cloud/cloud.cfg", CLOUD_CFG);
        machine.put("etc/systemd/system/trial.service", TRIAL);
        machine
    }

    /// Puts a file into the machine.
    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.root.join("files").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A directory that the machine has as /test, to read and write.
    pub(crate) fn shared(&self) -> PathBuf {
        self.root.join("machine")
    }

    /// Boots once for each word, and runs the script in it, which finds the word in /test/boot. Gives what the script said in the
    /// last one.
    pub(crate) fn boot(&self, boots: &[&str], trial: &str) -> String {
        let shared = self.shared();
        std::fs::write(shared.join("trial"), trial).unwrap();
        std::fs::write(self.root.join("boots"), boots.join("\n")).unwrap();
        let log = std::fs::File::create(self.root.join("log")).unwrap();
        let name = format!("keys-it-{}", self.root.file_name().unwrap().to_string_lossy());
        let mut command = bound("/usr/bin/unshare");
        command.args(["-m", "-p", "-f", "--kill-child", "--mount-proc", "/bin/sh", "-c", SCRIPT, "boot"]);
        command.arg(&self.root).arg(name).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut running = Running::start(&mut command);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = running.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the machine does not end: {}", self.console());
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(status.success(), "{}", self.console());
        let said = read(&shared.join("said"));
        assert_eq!(read(&shared.join("ended")).trim(), "0", "{said}\n{}", self.console());
        said
    }

    /// The last that the machine and its making said.
    fn console(&self) -> String {
        let out = self.root.join("out");
        let consoles = std::fs::read_dir(out).into_iter().flatten().flatten().map(|e| read(&e.path()));
        let all = [read(&self.root.join("log"))].into_iter().chain(consoles).collect::<Vec<_>>().join("\n");
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Boots a machine that does nothing but switch itself off again.
const PROBE: &str = r#"
set -eu
mount -t tmpfs none /mnt
mkdir /mnt/up /mnt/work /mnt/root
mount -t overlay none -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work /mnt/root
timeout -s KILL 60 systemd-nspawn -q -D /mnt/root --boot --private-network --register=no --keep-unit --machine="$1" --link-journal=no \
    --console=read-only systemd.unit=poweroff.target < /dev/null
"#;

/// Whether a machine can boot here at all, tried once.
pub(crate) fn can_boot() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let programs = ["/usr/bin/systemd-nspawn", "/usr/bin/cloud-init", "/lib/systemd/systemd"];
        if Tool::Root.path().is_none() || !programs.iter().all(|p| Path::new(p).is_file()) {
            return false;
        }
        let mut command = bound("/usr/bin/unshare");
        command.args(["-m", "-p", "-f", "--kill-child", "--mount-proc", "/bin/sh", "-c", PROBE, "probe"]);
        command.arg(format!("keys-it-probe-{}", std::process::id())).env_clear();
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}
