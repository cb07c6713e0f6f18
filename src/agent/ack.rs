//! Acknowledgements: what a machine says of itself, signed with its member's key and not logged. Whoever reads one verifies it
//! against the log; it decides nothing.
//!
//! ```text
//! {"at":"2026-11-22T15:00:00Z","deliveries":[…],"log":"cdn.example/keys/1","member":"fra1",…,"size":120,"v":1}
//!
//! — cdn.example/fra1 …
//! ```
//! A note like an entry; its signature is made for the log's name with ` ack` after it, so that none is one of a statement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::switch::Outcome;
use crate::digest::Digest;
use crate::json;
use crate::limits::{ACK_BYTES_MAX, SERVICES_MAX};
use crate::log::note::{Note, is_key_name};
use crate::name::{Label, MemberName, Protection};
use crate::text::is_hidden;
use crate::time::{Span, Time};
use crate::words::words;

/// The version of the form.
const VERSION: u64 = 1;
/// After this long an acknowledgement is made again, also if it would say the same.
const ACK_AGAIN: Span = Span::hours(1);

words! {
    /// A hook that failed, in an acknowledgement.
    HookName, "a hook's phase":
    /// Before it was shown.
    Check = "check",
    /// Telling the service.
    Reload = "reload",
    /// Whether it uses it.
    Verify = "verify",
}

/// A machine's running from one start to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// By what it is told apart: a digest of what the kernel makes up at each start.
    pub id: Digest,
    /// When it began, by the machine's clock.
    pub since: Time,
}

/// How far the clocks of two machines may be apart without being taken for two running at once.
const CLOCKS_APART: Span = Span(900);

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// When.
    pub at: Time,
    /// The machine's running that it is of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// What its services have.
    pub deliveries: Vec<AckedDelivery>,
    /// The log's name.
    pub log: String,
    /// Who.
    pub member: MemberName,
    /// The program's version.
    pub program: String,
    /// What guards its private halves.
    pub protection: Protection,
    /// The root of the log at that size.
    pub root: Digest,
    /// How many entries of the log it has verified, and goes by.
    pub size: u64,
    /// The form's version.
    pub v: u64,
}

/// What a service has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckedDelivery {
    /// Its directory.
    pub directory: Label,
    /// Whether a value has expired that is served on.
    pub expired: bool,
    /// Hooks that failed in the last attempt.
    pub failed: Vec<HookName>,
    /// The generation that it is shown; none if nothing is.
    pub generation: Option<u64>,
    /// Whose it is.
    pub member: MemberName,
    /// How the last attempt ended.
    pub outcome: Outcome,
}

impl Ack {
    /// The form's version, for whoever makes one.
    pub const VERSION: u64 = VERSION;

    /// The text that is signed.
    pub fn to_text(&self) -> String {
        format!("{}\n", json::to_canonical(self))
    }

    /// Reads a note; its signature lines are not verified.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Note), String> {
        if bytes.len() > ACK_BYTES_MAX {
            return Err(format!("it has more than {ACK_BYTES_MAX} bytes"));
        }
        let note = Note::parse(bytes).map_err(|e| format!("it {e}"))?;
        let body = note.text.strip_suffix('\n').unwrap_or(&note.text);
        let ack: Self = json::parse_as(body.as_bytes()).map_err(|e| format!("it is no acknowledgement: {e}"))?;
        if ack.v != VERSION {
            return Err(format!("it is of version {}, and this program reads {VERSION}", ack.v));
        }
        if ack.to_text() != note.text {
            return Err("it is not in canonical form".to_owned());
        }
        let is_odd = ack.program.len() > 64 || ack.program.chars().any(is_hidden) || !is_key_name(&ack.log);
        if ack.deliveries.len() > SERVICES_MAX + 1 || is_odd || ack.size == 0 {
            return Err("it says what no agent says".to_owned());
        }
        Ok((ack, note))
    }

    /// Whether it need not be said, since `before` was: the same, less than an hour ago. One from the future, of a clock
    /// that was set right meanwhile, is said anew.
    pub fn is_said_by(&self, before: &Self) -> bool {
        self.says_what(before) && before.at <= self.at && self.at.since(before.at) < ACK_AGAIN
    }

    /// Whether this and `other`, of one member, are of two machines that ran at one time: one spoke when the other had started. A
    /// machine that is started again speaks no more as it was before.
    pub fn is_beside(&self, other: &Self) -> bool {
        let (Some(one), Some(two)) = (&self.boot, &other.boot) else { return false };
        let (earlier, later) = if one.since <= two.since { (self, two) } else { (other, one) };
        one.id != two.id && earlier.at > later.since.plus(CLOCKS_APART)
    }

    /// Whether both say the same, apart from when.
    fn says_what(&self, other: &Self) -> bool {
        Self { at: Time::default(), ..self.clone() } == Self { at: Time::default(), ..other.clone() }
    }
}

/// The waves in which a change is looked at: one node, up to 1 %, up to 10 %, all. A node's place follows from its name.
pub const WAVES: [&str; 4] = ["first", "1 %", "10 %", "rest"];

/// Each node's wave, as an index of [`WAVES`].
pub fn waves<'a>(nodes: impl IntoIterator<Item = &'a MemberName>) -> BTreeMap<&'a MemberName, usize> {
    let mut order: Vec<&MemberName> = nodes.into_iter().collect();
    order.sort_by_key(|name| (Digest::of(name.to_string().as_bytes()), *name));
    let count = order.len();
    let wave = |place: usize| match place {
        0 => 0,
        place if place * 100 < count => 1,
        place if place * 10 < count => 2,
        _ => 3,
    };
    order.into_iter().enumerate().map(|(place, name)| (name, wave(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ack {
        Ack {
            at: Time(1_795_244_400),
            boot: None,
            deliveries: vec![AckedDelivery {
                directory: "nginx".parse().unwrap(),
                expired: false,
                failed: vec![HookName::Verify],
                generation: Some(8),
                member: "nginx@fra1".parse().unwrap(),
                outcome: Outcome::RolledBack,
            }],
            log: "cdn.example/keys/1".to_owned(),
            member: "fra1".parse().unwrap(),
            program: "0.1.0".to_owned(),
            protection: Protection::File,
            root: Digest::of(b"root"),
            size: 120,
            v: VERSION,
        }
    }

    #[test]
    fn two_machines_at_once_are_told_from_one_that_was_started_again() {
        let at = |id: &[u8], since: u64, at: u64| {
            let since = Time(1_795_000_000 + since);
            Ack { at: Time(1_795_000_000 + at), boot: Some(Boot { id: Digest::of(id), since }), ..sample() }
        };
        let first = at(b"one", 0, 10_000);
        // Started again, also with a clock that was set a little; the same running; not known.
        for other in [at(b"two", 10_100, 10_200), at(b"two", 9_200, 12_000), at(b"one", 0, 20_000)] {
            assert!(!first.is_beside(&other) && !other.is_beside(&first), "{other:?}");
        }
        assert!(!first.is_beside(&sample()) && !sample().is_beside(&first));
        // The copy was started an hour after the machine, or as early as it.
        for other in
            [at(b"two", 3_600, 4_000), at(b"two", 3_600, 10_500), at(b"two", 0, 9_000), at(b"two", 9_000, 11_000)]
        {
            assert!(first.is_beside(&other) && other.is_beside(&first), "{other:?}");
        }
    }

    fn noted(text: &str) -> Vec<u8> {
        format!("{text}\n\u{2014} cdn.example/fra1 AAAAAAAA\n").into_bytes()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let (ack, note) = Ack::parse(&noted(&sample().to_text())).unwrap();
        assert_eq!((ack, note.text), (sample(), sample().to_text()));
        let text = sample().to_text();
        for (wrong, part) in [
            (text.replace("\"v\":1", "\"v\":2"), "version 2"),
            (text.replace("\"at\"", "\"extra\":1,\"at\""), "no acknowledgement"),
            (text.replace("\"size\":120", "\"size\":0"), "no agent says"),
            (text.replace("rolled-back", "fine"), "no acknowledgement"),
            (text.replace("0.1.0", &"0".repeat(65)), "no agent says"),
            (text.replace("0.1.0", "\\u001b[2J"), "no agent says"),
            (text.replace("cdn.example/keys/1", "cdn.example/\\u001b[2J"), "no agent says"),
            (text.replace("\"nginx\"", "\"../x\""), "no acknowledgement"),
            (format!(" {text}"), "it"),
        ] {
            let e = Ack::parse(&noted(&wrong)).unwrap_err();
            assert!(e.contains(part), "{wrong}: {e}");
        }
        let later = Ack { at: Time(1_795_244_999), ..sample() };
        assert!(later.says_what(&sample()));
        assert!(!Ack { size: 121, ..sample() }.says_what(&sample()));
        assert!(later.is_said_by(&sample()) && sample().is_said_by(&sample()));
        assert!(!sample().is_said_by(&later), "its clock was ahead");
        assert!(!Ack { at: sample().at.plus(ACK_AGAIN), ..sample() }.is_said_by(&sample()));
    }

    #[test]
    fn waves_are_one_a_hundredth_a_tenth_and_all() {
        let names: Vec<MemberName> = (0..1_000).map(|n| format!("pop{n}").parse().unwrap()).collect();
        let found = waves(&names);
        let count = |wave| found.values().filter(|w| **w == wave).count();
        assert_eq!([count(0), count(1), count(2), count(3)], [1, 9, 90, 900]);
        let one: Vec<MemberName> = vec!["fra1".parse().unwrap()];
        assert_eq!(waves(&one).into_values().collect::<Vec<_>>(), [0]);
    }
}
