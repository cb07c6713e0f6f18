//! What `wg show INTERFACE dump` prints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::PresharedKey;
use crate::text;
use crate::wireguard::WgPublicKey;

/// boringtun gives an age where a time is due (its `last_handshake_time_sec`); no clock has been this low since 1973.
const FIRST_TIME: u64 = 100_000_000;

/// Why a dump cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`wg show` gave something else than expected in line {line}: {problem}")]
pub struct DumpError {
    /// Which line, from 1.
    line: usize,
    /// What is wrong.
    problem: String,
}

/// What a running interface has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// The public half of its private key; none if it has no key.
    pub key: Option<WgPublicKey>,
    /// The UDP port it listens on; 0 if none.
    pub port: u16,
    /// Its peers by key.
    pub peers: BTreeMap<WgPublicKey, RunningPeer>,
}

/// What a running interface has of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunningPeer {
    /// The preshared key.
    pub preshared: Option<PresharedKey>,
    /// Where it was last heard of, or is to be called.
    pub endpoint: Option<String>,
    /// AllowedIPs.
    pub allowed: BTreeSet<String>,
    /// How long ago its last handshake was.
    pub handshake: Option<Duration>,
    /// Bytes that have come from it.
    pub received: u64,
    /// Bytes that were sent to it.
    pub sent: u64,
    /// Seconds between packets that keep a way open; none if off.
    pub keepalive: Option<u16>,
}

impl Running {
    /// Reads a dump, at the wall clock's time `now` in seconds since 1970. The private key in its first line is passed
    /// over; whoever holds the text wipes it.
    ///
    /// # Errors
    /// [`DumpError`].
    pub fn parse(dump: &str, now: u64) -> Result<Self, DumpError> {
        let mut lines = dump.lines().enumerate();
        let wrong = |line: usize, problem: &str| DumpError { line: line + 1, problem: problem.to_owned() };
        let (_, head) = lines.next().ok_or_else(|| wrong(0, "it is empty"))?;
        let fields: Vec<&str> = head.split('\t').collect();
        let [_private, public, port, _mark] = fields.as_slice() else {
            return Err(wrong(0, "an interface has 4 fields"));
        };
        let mut running = Self {
            key: public.parse().ok().filter(|_| *public != "(none)"),
            port: port.parse().map_err(|_| wrong(0, "the port is no number"))?,
            peers: BTreeMap::new(),
        };
        for (n, line) in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            let [key, preshared, endpoint, allowed, handshake, received, sent, keepalive] = fields.as_slice() else {
                return Err(wrong(n, "a peer has 8 fields"));
            };
            let number = |text: &str| text.parse::<u64>().map_err(|_| wrong(n, "a number is none"));
            // A key that could never be ours, such as all zeros, is a peer all the same; it cannot be named here.
            let Ok(key) = key.parse::<WgPublicKey>() else {
                return Err(wrong(n, &format!("the peer's key {}", text::shown(key))));
            };
            let age = match number(handshake)? {
                0 => None,
                age @ 1..FIRST_TIME => Some(Duration::from_secs(age)),
                time => Some(Duration::from_secs(now.saturating_sub(time))),
            };
            let peer = RunningPeer {
                preshared: PresharedKey::parse(preshared),
                endpoint: Some((*endpoint).to_owned()).filter(|e| e != "(none)"),
                allowed: allowed.split(',').filter(|a| *a != "(none)").map(str::to_owned).collect(),
                handshake: age,
                received: number(received)?,
                sent: number(sent)?,
                keepalive: keepalive.parse().ok(),
            };
            running.peers.insert(key, peer);
        }
        Ok(running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::Lane;
    use crate::wireguard::samples::private;

    #[test]
    fn a_dump_is_read() {
        let (own, peer) = (private(1, Lane::A), private(2, Lane::A).public());
        let psk = PresharedKey::new(zeroize::Zeroizing::new([9; 32])).expect("a key");
        let dump = format!(
            "{}\t{}\t51820\toff\n{peer}\t{}\t198.51.100.2:51820\t10.88.16.2/32,fd12::2/128\t1700000090\t15\t27\t25\n",
            own.to_file_text().trim_end(),
            own.public(),
            *psk.to_text(),
        );
        let running = Running::parse(&dump, 1_700_000_100).expect("a dump");
        assert_eq!((running.key, running.port), (Some(own.public()), 51_820));
        let found = &running.peers[&peer];
        assert_eq!(found.handshake, Some(Duration::from_secs(10)));
        assert_eq!((found.received, found.sent, found.keepalive), (15, 27, Some(25)));
        assert_eq!(found.preshared, Some(psk));
        assert_eq!(found.allowed.len(), 2);
        assert!(!format!("{running:?}").contains(own.to_file_text().trim_end()));
    }

    #[test]
    fn what_is_not_there_is_not_there() {
        let peer = private(2, Lane::A).public();
        let dump = format!("(none)\t(none)\t0\toff\n{peer}\t(none)\t(none)\t(none)\t0\t0\t0\toff\n");
        let running = Running::parse(&dump, 1_700_000_100).expect("a dump");
        assert_eq!((running.key, running.port), (None, 0));
        assert_eq!(running.peers[&peer], RunningPeer::default());
    }

    #[test]
    fn an_age_in_place_of_a_time_is_an_age_and_the_future_is_now() {
        let peer = private(2, Lane::A).public();
        let age = |field: &str| {
            let dump = format!("(none)\t(none)\t0\toff\n{peer}\t(none)\t(none)\t(none)\t{field}\t0\t0\toff\n");
            Running::parse(&dump, 1_700_000_100).expect("a dump").peers[&peer].handshake
        };
        assert_eq!(age("42"), Some(Duration::from_secs(42)));
        assert_eq!(age("1700000200"), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_no_dump_is_refused_by_line() {
        let peer = private(2, Lane::A).public();
        for (dump, part) in [
            (String::new(), "line 1: it is empty"),
            ("wg-a\n".to_owned(), "line 1: an interface has 4 fields"),
            ("(none)\t(none)\tx\toff\n".to_owned(), "line 1: the port"),
            (format!("(none)\t(none)\t0\toff\n{peer}\t(none)\n"), "line 2: a peer has 8 fields"),
            ("(none)\t(none)\t0\toff\nx\ty\tz\ta\t0\t0\t0\toff\n".to_owned(), "line 2: the peer's key x"),
        ] {
            let error = Running::parse(&dump, 0).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
