//! A connection with a deadline that holds for all that is read or written until it is set anew, however many pieces that
//! takes; with TLS or without.
#![allow(clippy::disallowed_methods, reason = "deadlines are measured by the clock that only runs forward")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};

use crate::limits::REFUSED_BYTES_MAX;

/// By how much a deadline may be exceeded.
const A_MOMENT: Duration = Duration::from_millis(100);

/// A client's connection. With TLS the handshake is part of the first read, and within its deadline.
pub(super) struct Wire {
    timed: Timed,
    tls: Option<Box<ServerConnection>>,
}

impl Wire {
    /// A connection that is to be used within `span`.
    pub(super) fn new(stream: TcpStream, tls: Option<Arc<ServerConfig>>, span: Duration) -> io::Result<Self> {
        let tls = tls.map(ServerConnection::new).transpose().map_err(io::Error::other)?;
        let timed = Timed { stream, until: Instant::now() + span, read_within: None, write_within: None };
        Ok(Self { timed, tls: tls.map(Box::new) })
    }

    /// From now on this is when it has to be done.
    pub(super) fn be_done_by(&mut self, until: Instant) {
        self.timed.until = until;
    }

    /// Says that nothing more comes, so that the client knows that it has all.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        tls.send_close_notify();
        while tls.wants_write() && tls.write_tls(&mut self.timed)? > 0 {}
        Ok(())
    }

    /// Ends it with one who may still be sending: reads past what comes, for so long, so that the answer is heard.
    pub(super) fn leave(&mut self, span: Duration) -> io::Result<()> {
        self.end()?;
        self.timed.stream.shutdown(Shutdown::Write)?;
        self.be_done_by(Instant::now() + span);
        let mut part = [0; 16 << 10];
        let mut read = 0;
        while read < REFUSED_BYTES_MAX {
            match self.timed.read(&mut part)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.timed.read(into),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.timed).read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.timed.write(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.timed).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.timed).flush(),
        }
    }
}

struct Timed {
    stream: TcpStream,
    until: Instant,
    /// How long the system lets a read wait at present.
    read_within: Option<Duration>,
    write_within: Option<Duration>,
}

impl Timed {
    /// How much time is left, so that one who sends or takes a byte at a time has no more of it than others.
    fn left(&self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

/// Whether the system has to be told; at first in any case.
fn differs(told: Option<Duration>, left: Duration) -> bool {
    told.is_none_or(|told| left.abs_diff(told) > A_MOMENT)
}

/// The system says "would block" where the time is over; rustls would take that for a reason to go on.
fn late(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { e }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        // Telling the system costs as much as reading: a moment more or less is left as it is.
        if differs(self.read_within, left) {
            self.stream.set_read_timeout(Some(left))?;
            self.read_within = Some(left);
        }
        self.stream.read(into).map_err(late)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        if differs(self.write_within, left) {
            self.stream.set_write_timeout(Some(left))?;
            self.write_within = Some(left);
        }
        self.stream.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
