//! Handing credentials to systemd: it connects to our socket for each `LoadCredential=` of a unit that starts, and the name
//! that its own end is bound to says which unit asks for what.
//!
//! That name is anybody's to choose, so it counts only from root (or from whoever runs the agent), and nobody else can reach
//! the socket anyway. What is not to be had is answered by nothing: there is no other way to refuse.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use super::reader::open_generation;
use crate::agent::asked_by;
use crate::limits::CREDENTIAL_BYTES_MAX;

/// How long systemd may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The service directories of units that get credentials, by unit.
pub type Units = Arc<Mutex<BTreeMap<String, PathBuf>>>;

/// Listens at `path` and hands out what `units` have, in a thread of its own, as long as the process lives. `refused` is told
/// why somebody got nothing.
///
/// # Errors
/// Those of the file system.
pub fn serve_credentials(path: &Path, units: Units, refused: impl Fn(&str) + Send + 'static) -> std::io::Result<()> {
    // One agent has the lock on this directory, so what lies there is nobody's any more.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("credentials".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    if let Err(why) = answer(stream, &units) {
                        refused(&why);
                    }
                }
                // Too many files are open, say: that passes.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    })?;
    Ok(())
}

fn answer(mut stream: UnixStream, units: &Units) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    let asking = rustix::net::sockopt::socket_peercred(&stream).map_err(|e| format!("cannot tell who asks: {e}"))?;
    let asking = asking.uid.as_raw();
    if ![0, user].contains(&asking) {
        return Err(format!("user {asking} asked for a credential"));
    }
    let peer = stream.peer_addr().map_err(|e| format!("cannot tell who asks: {e}"))?;
    let asked = peer.as_abstract_name().and_then(asked_by);
    let (unit, credential) = asked.ok_or("somebody asked who is not systemd")?;
    let shown = |what: &str| crate::text::shown(what).to_string();
    let directory = units.lock().unwrap_or_else(PoisonError::into_inner).get(unit).cloned();
    let directory = directory.ok_or_else(|| format!("{} is given no credentials", shown(unit)))?;
    let value: Zeroizing<Vec<u8>> = open_generation(&directory)
        .and_then(|generation| generation.read(credential, CREDENTIAL_BYTES_MAX))
        .map_err(|e| format!("{} asked for {}: {e}", shown(unit), shown(credential)))?;
    stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(&value)).map_err(|e| e.to_string())
}
