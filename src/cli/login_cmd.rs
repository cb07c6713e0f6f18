//! `keys ssh principals`: what `sshd` runs at each login with a certificate, where the policy asks for proof.
//!
//! It reads two files, asks nobody, and writes nothing but its answer. Whatever is amiss lets nobody in. sshd throws away
//! what it says about that, so the reason goes to the machine's log, too.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::json;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::read_file;
use crate::limits::{KEY_FILE_BYTES_MAX, TRUST_BYTES_MAX};
use crate::login::{Admitted, Trust, admit};
use crate::ssh::{Login, NodeInput, Principal, SshCertificate, SshPublicKey};
use crate::text::escape;

/// Where a machine's log takes messages (syslog(3)).
const SYSLOG: &str = "/dev/log";
/// Facility `auth`, severity `warning` (RFC 5424, section 6.2.1).
const PRIORITY: u8 = 4 * 8 + 4;

/// `keys ssh principals`.
pub(super) fn principals(context: &Context, directory: &Path, login: &str, line: &str) -> Result<Exit, CliError> {
    let judged = judge(directory, login, line);
    match &judged {
        Ok(admitted) => {
            if !admitted.broke_glass.is_empty() {
                let serial = SshCertificate::parse(line).map(|c| c.serial()).unwrap_or_default();
                let by = admitted.broke_glass.iter().filter_map(|k| k.parse().ok());
                let by: Vec<String> = by.map(|k: SshPublicKey| k.fingerprint()).collect();
                let (login, by) = (escape(login), by.join(", "));
                log(&format!("break-glass: {} may come in as {login} (serial {serial}), by {by}", admitted.member));
            }
            if context.json {
                let principals: Vec<&str> = admitted.principals.iter().map(Principal::as_str).collect();
                return context
                    .answer(json!({ "member": admitted.member.to_string(), "principals": principals }), Exit::Ok);
            }
            admitted.principals.iter().try_for_each(|p| context.out.line(p.as_str()))?;
            Ok(Exit::Ok)
        }
        Err(refused) => {
            let who = SshCertificate::parse(line).map_or_else(
                |_| "what is no SSH certificate".to_owned(),
                |c| format!("the SSH certificate '{}' (serial {})", escape(c.key_id()), c.serial()),
            );
            let message = format!("{who} is refused for {}: {}", escape(login), refused.message);
            log(&message);
            Err(CliError::new(Exit::No, message))
        }
    }
}

fn judge(directory: &Path, login: &str, line: &str) -> Result<Admitted, CliError> {
    let no = |e: &dyn std::fmt::Display| CliError::new(Exit::No, e.to_string());
    // A login is part of a path, and may be anything that somebody typed.
    let login: Login = login.parse().map_err(|e: crate::ssh::WordError| no(&e))?;
    let certificate = SshCertificate::parse(line).map_err(|e| no(&e))?;
    let path = directory.join(NodeInput::TRUST);
    let trust = Trust::parse(&read_owned(&path, TRUST_BYTES_MAX)?)
        .map_err(|e| no(&format!("{} {e}; render the node's files anew", shown(&path))))?;
    let path = directory.join("principals").join(login.as_str());
    let accepted = match path.exists() {
        true => read_owned(&path, KEY_FILE_BYTES_MAX)?,
        false => return Err(no(&"the account accepts nobody")),
    };
    let text = String::from_utf8(accepted).map_err(|_| no(&format!("{} is not UTF-8", shown(&path))))?;
    let accepted: Result<BTreeSet<Principal>, _> = text.lines().map(Principal::user).collect();
    admit(&trust, &accepted.map_err(|e| no(&format!("{}: {e}", shown(&path))))?, &certificate).map_err(|e| no(&e))
}

/// Reads a file that nobody but root, or whoever runs this, can have written.
fn read_owned(path: &Path, max: usize) -> Result<Vec<u8>, CliError> {
    let no = |problem: String| CliError::new(Exit::No, format!("{} {problem}", shown(path)));
    let bytes = read_file(path, max)?;
    let meta = std::fs::metadata(path).map_err(|e| no(format!("cannot be read: {e}")))?;
    if meta.permissions().mode() & 0o022 != 0 {
        return Err(no("can be written by others than its owner; its mode has to be 0644".to_owned()));
    }
    let own = std::fs::metadata("/proc/self").map(|m| m.uid()).ok();
    if meta.uid() != 0 && Some(meta.uid()) != own {
        return Err(no("belongs to somebody else than root".to_owned()));
    }
    Ok(bytes)
}

/// Tells the machine's log, where there is one.
fn log(message: &str) {
    if let Ok(socket) = UnixDatagram::unbound() {
        let line = format!("<{PRIORITY}>keys[{}]: {message}", std::process::id());
        // Where nobody listens nobody reads it either.
        drop(socket.send_to(line.as_bytes(), SYSLOG));
    }
}
