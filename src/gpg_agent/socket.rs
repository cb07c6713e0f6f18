//! The way to the agent's socket.
//!
//! Where a home's file system has no sockets, or its path is too long for one, GnuPG puts a file in the socket's place
//! (Libassuan manual, `assuan_sock_set_sockaddr_un`):
//! ```text
//! %Assuan%
//! socket=/run/user/1000/gnupg/S.gpg-agent
//! ```

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::AgentError;
use crate::limits::AGENT_REDIRECTION_BYTES_MAX;

/// Connects to the socket at `path`, or to the one that a file there names.
pub(super) fn connect(path: &Path) -> Result<UnixStream, AgentError> {
    let unreachable = |source| AgentError::Unreachable { path: path.to_path_buf(), source };
    let target = if std::fs::metadata(path).map_err(unreachable)?.is_file() {
        let text = read(path).map_err(unreachable)?;
        let wrong = |reason| AgentError::Redirection { path: path.to_path_buf(), reason };
        redirection(&text).map_err(wrong)?
    } else {
        path.to_path_buf()
    };
    UnixStream::connect(target).map_err(unreachable)
}

/// Reads a small file. A pipe that took its place meanwhile does not hold us up.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    let mut text = Vec::new();
    file.take(AGENT_REDIRECTION_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The socket that a redirection names.
fn redirection(text: &[u8]) -> Result<PathBuf, &'static str> {
    if text.len() > AGENT_REDIRECTION_BYTES_MAX {
        return Err("it is too long for a redirection");
    }
    let rest = text.strip_prefix(b"%Assuan%\n").ok_or("it is an ordinary file")?;
    let path = rest.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"socket="));
    let path = path.ok_or("it names no socket")?;
    if path.contains(&b'$') {
        return Err("it names a socket with a variable of the environment, which is not read here");
    }
    let path = Path::new(OsStr::from_bytes(path));
    if !path.is_absolute() {
        return Err("it names a socket without its whole path");
    }
    Ok(path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = redirection(&text);
        }
    }

    #[test]
    fn redirections_are_followed_as_libassuan_writes_them() {
        assert_eq!(redirection(b"%Assuan%\nsocket=/run/S\n"), Ok(PathBuf::from("/run/S")));
        assert_eq!(redirection(b"%Assuan%\nsocket=/run/S"), Ok(PathBuf::from("/run/S")));
        for wrong in [
            "",
            "%Assuan%",
            "%Assuan%\n",
            "%Assuan%\nsocket=",
            "%Assuan%\nsocket=S",
            "%Assuan%\nsocket=/${HOME}/S",
            "socket=/run/S",
        ] {
            assert!(redirection(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(
            redirection(format!("%Assuan%\nsocket=/{}", "x".repeat(AGENT_REDIRECTION_BYTES_MAX)).as_bytes()).is_err()
        );
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test makes the file that is read")]
    fn sockets_are_reached_through_files_and_their_absence_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, file) = (dir.path().join("S"), dir.path().join("F"));
        assert!(matches!(connect(&socket), Err(AgentError::Unreachable { .. })));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&file, format!("%Assuan%\nsocket={}\n", socket.display())).unwrap();
        assert!(connect(&socket).is_ok());
        assert!(connect(&file).is_ok());
        drop(listener);
        assert!(matches!(connect(&file), Err(AgentError::Unreachable { .. })));
        std::fs::write(&file, "something else").unwrap();
        assert!(matches!(connect(&file), Err(AgentError::Redirection { .. })));
        assert!(matches!(connect(dir.path()), Err(AgentError::Unreachable { .. })));
    }
}
