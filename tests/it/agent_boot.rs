//! The agent on a machine that boots: real systemd opens the home's key for its unit, starts it without any network, and asks
//! it for the credentials of services.

use std::path::Path;
use std::process::Command;

use crate::agent::fleet;
use crate::support::machine::Machine;
use crate::support::{Ran, Sandbox, tests};

tests!["agent_boot":
    systemd_opens_the_home_starts_the_agent_and_asks_it_for_credentials needs [Machine, SystemdCreds],
];

/// What is tried in the machine, by the word for the boot.
const TRIAL: &str = r#"
set -eu
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin KEYS_FLEET=/var/lib/keys/fleet KEYS_HOME=/var/lib/keys/home
within() { # SECONDS WORDS COMMAND…: waits until it succeeds
    seconds=$1 words=$2; shift 2
    for _ in $(seq $((seconds * 5))); do if "$@" > /dev/null 2>&1; then echo "$words"; return 0; fi; sleep 0.2; done
    echo "not within $seconds s: $words"; systemctl --no-pager status keys-agent web.service other.service | tail -60; exit 1
}
has() { test "$(cat "/run/$1.credential" 2>/dev/null)" = "$2"; }
case $(cat /test/boot) in
first)
    install -m 755 /test/keys /usr/local/bin/keys
    mkdir -m 700 -p /var/lib/keys
    cp -r /test/fleet /test/home /var/lib/keys/
    chmod -R go= /var/lib/keys/home
    keys protect --with host
    keys agent units --out /etc/systemd/system --program /usr/local/bin/keys --run-dir /run/keys
    grep -x 'LoadCredentialEncrypted=keys-home:/var/lib/keys/home/home-key.cred' /etc/systemd/system/keys-agent.service
    # From here on nobody but systemd itself can open the home's key.
    rm /usr/bin/systemd-creds
    ! keys open nginx@fra1/tls.key
    systemctl daemon-reload
    systemctl start keys-agent
    systemctl start web.service
    within 30 'web has its credential' has web 'certificate 1
key 1'
    # Another unit that asks for the same, and one that asks for what there is not: both stay down, and the reason is theirs.
    ! systemctl start other.service
    within 30 'other is down' systemctl -q is-failed other.service
    test ! -s /run/other.credential
    test "$(systemctl show -p Type --value keys-agent)" = notify
    test "$(stat -f -c %T /run/keys)" = tmpfs
    test "$(ls -A /run/keys/nginx/current/)" = tls.pem
    systemctl enable keys-agent
    ln -s /etc/systemd/system/web.service /etc/systemd/system/multi-user.target.wants/
    ;;
second)
    # Nobody has started anything: the machine has, with no network and no server.
    within 60 'the agent serves after a boot' systemctl -q is-active keys-agent
    within 30 'web has its credential again' has web 'certificate 1
key 1'
    test "$(ls /sys/class/net)" = lo
    # It ends in order, and what it gave stays: a service that is started while it is away says why it does not start.
    systemctl stop keys-agent
    test -s /run/keys/nginx/current/tls.pem
    ;;
esac
"#;

fn systemd_opens_the_home_starts_the_agent_and_asks_it_for_credentials(sandbox: &Sandbox) {
    let _fleet = fleet(sandbox, "unit = \"web.service\"");
    let machine = Machine::new(sandbox, "fra1-machine", "#cloud-config\n{}\n");
    machine.put("etc/cloud/cloud-init.disabled", "");
    let unit = |name: &str, more: &str| {
        let run = format!(
            "/bin/sh -c 'cat \"$CREDENTIALS_DIRECTORY/tls.pem\" > /run/{name}.credential; exec sleep infinity'"
        );
        format!("[Service]\n{more}ExecStart={run}\n")
    };
    machine.put("etc/systemd/system/web.service", &unit("web", ""));
    // As the drop-in of a unit that the policy does not name would be, if somebody wrote it by hand.
    let by_hand = "LoadCredential=tls.pem:/run/keys/credentials.sock\nExecStartPre=/usr/bin/test -s ${CREDENTIALS_DIRECTORY}/tls.pem\n";
    machine.put("etc/systemd/system/other.service", &unit("other", by_hand));
    let shared = machine.shared();
    let copy = |from: &Path, to: &str| Ran::of(Command::new("/bin/cp").arg("-a").arg(from).arg(shared.join(to))).ok();
    copy(&sandbox.path("fleet"), "fleet");
    copy(&sandbox.path("fra1"), "home");
    copy(Path::new(env!("CARGO_BIN_EXE_keys")), "keys");
    let said = machine.boot(&["first", "second"], TRIAL);
    assert!(said.contains("web has its credential again"), "{said}");
}
