//! Telling systemd how it goes: sd_notify(3), datagrams to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Whoever started us, if they want to be told.
#[derive(Debug, Default)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// One that tells the socket of this name: a path, or `@` and an abstract name. Without one nobody is told.
    pub fn at(socket: Option<&OsStr>) -> Self {
        let address = socket.and_then(|name| match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok(),
            [b'/', ..] => SocketAddr::from_pathname(name).ok(),
            _ => None,
        });
        // Whoever does not listen must not hold us up.
        let socket = UnixDatagram::unbound().and_then(|s| s.set_nonblocking(true).map(|()| s));
        Self(address.and_then(|address| Some((socket.ok()?, address))))
    }

    /// Whether anybody is told.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Tells assignments, `READY=1`, one a line. Whether that arrives changes nothing here.
    pub fn tell(&self, assignments: &[&str]) {
        if let Some((socket, address)) = &self.0 {
            let _ = socket.send_to_addr(assignments.join("\n").as_bytes(), address);
        }
    }

    /// Tells what people read in `systemctl status`.
    pub fn status(&self, text: &str) {
        self.tell(&[&format!("STATUS={}", crate::text::escape(text))]);
    }
}
