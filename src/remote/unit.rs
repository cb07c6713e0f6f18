//! systemd's unit of a server, as text. Whoever asks it is a stranger, so it may do less than anything else of ours: it reads
//! the fleet's directory, writes the keyring, and has one port.

use std::net::SocketAddr;

use crate::agent::word;
use crate::digest::Digest;

/// The name of the unit.
pub const SERVE_UNIT: &str = "keys-serve.service";

/// What a unit is written of.
#[derive(Debug, Clone)]
pub struct Serving {
    /// This program.
    pub program: String,
    /// The fleet's directory.
    pub fleet: String,
    /// Its id.
    pub pin: Digest,
    /// Who owns the keyring: a user's id.
    pub user: u32,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The certificates and the key to speak TLS with, if it does.
    pub tls: Option<(String, String)>,
}

/// What it may do, and no more. Landlock and seccomp are asked for by the program itself; older lists of systemd's do not have
/// their calls.
const HARDENED: &str = "\
UMask=0022
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
PrivateIPC=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
SocketBindDeny=any
MemoryMax=2G
TasksMax=256
LimitCORE=0
";

/// The unit.
///
/// # Errors
/// A place that cannot stand in a unit.
pub fn serve_unit(serving: &Serving) -> Result<String, String> {
    let Serving { program, fleet, pin, user, listen, tls } = serving;
    let tls = match tls {
        Some((chain, key)) => format!(" --tls-cert {} --tls-key {}", word(chain)?, word(key)?),
        None => String::new(),
    };
    let (program, keyring, fleet) = (word(program)?, word(&format!("{fleet}/keyring"))?, word(fleet)?);
    // A directory in somebody's home has to be seen; else nothing there has.
    let homes = ["\"/home/", "\"/root/", "\"/run/user/"];
    let home = if homes.iter().any(|home| fleet.starts_with(home)) { "read-only" } else { "yes" };
    let port = listen.port();
    let low = if port < 1024 {
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"
    } else {
        ""
    };
    Ok(format!(
        "# Written by 'keys serve units'.
[Unit]
Description=keys serve: a fleet's directory over HTTP
After=local-fs.target network.target
StartLimitIntervalSec=0

[Service]
Type=exec
# The owner of the keyring: what is handed in lies beside what others write there. It has no home.
User={user}
ExecStart={program} --fleet {fleet} --home /nonexistent --pin {pin} serve --listen {listen}{tls}
Restart=always
RestartSec=5
# It first answers whoever has asked.
TimeoutStopSec=20
ReadWritePaths={keyring}
ProtectHome={home}
SocketBindAllow=tcp:{port}
{HARDENED}{low}
[Install]
WantedBy=multi-user.target
"
    ))
}
