//! Points in time and lengths of time, in whole seconds of UTC. The clock itself is read by the shell only.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: seconds since 1970-01-01T00:00:00Z. Text form: RFC 3339 in UTC, `2026-11-21T07:00:00Z`, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

/// The last second that text, OpenPGP (32 bits) and SSH certificates can all hold: 2106-02-07T06:28:15Z.
pub const LATEST: Time = Time(u32::MAX as u64);

impl Time {
    /// Reads `2026-11-21T07:00:00Z`; any other spelling, and any time after [`LATEST`], is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        let time = Self(u64::try_from(stamp.as_second()).ok()?);
        (time <= LATEST && time.to_string() == text).then_some(time)
    }

    /// The time `span` later, at most [`LATEST`].
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0)).min(LATEST)
    }

    /// The time `span` earlier, at least the epoch.
    pub fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// How long after `earlier` this is; nothing if it is not after.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// From the standard library's time; times before 1970 become the epoch.
    pub fn from_system(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).min(LATEST)
    }

    /// To the standard library's time.
    pub fn to_system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0)
    }

    /// The day, `2026-11-21`.
    pub fn day(self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.min(LATEST.0)).unwrap_or_default();
        // `LATEST` is inside the range of jiff, so the fallback never shows.
        write!(f, "{}", jiff::Timestamp::from_second(seconds).unwrap_or_default())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected a time like 2026-11-21T07:00:00Z"))
    }
}

/// A length of time in seconds. Text form: a whole number and one unit of `s`, `m`, `h`, `d`: `30d`, `16h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub u64);

impl Span {
    /// `n` days.
    pub const fn days(n: u64) -> Self {
        Self(n * 86_400)
    }

    /// `n` hours.
    pub const fn hours(n: u64) -> Self {
        Self(n * 3_600)
    }

    /// Reads `30d`, `16h`, `5m`, `60s`; at most 100 years.
    pub fn parse(text: &str) -> Option<Self> {
        let unit = match text.as_bytes().last()? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            _ => return None,
        };
        let digits = text.get(..text.len() - 1)?;
        if digits.is_empty() || digits.len() > 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
        (seconds <= Self::days(36_525).0).then_some(Self(seconds))
    }

    /// The standard library's duration.
    pub fn to_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = match self.0 {
            0 => (0, "s"),
            s if s % 86_400 == 0 => (s / 86_400, "d"),
            s if s % 3_600 == 0 => (s / 3_600, "h"),
            s if s % 60 == 0 => (s / 60, "m"),
            s => (s, "s"),
        };
        write!(f, "{n}{unit}")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom("expected a length of time: a whole number and s, m, h or d, for example \"30d\"")
        })
    }
}

/// A length of time for people: the two largest units that matter, `29d 3h`, `5m`, `12s`.
pub fn rough(span: Span) -> String {
    let (d, h, m, s) = (span.0 / 86_400, span.0 / 3_600 % 24, span.0 / 60 % 60, span.0 % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, m) => format!("{m}m"),
        (0, h, 0) => format!("{h}h"),
        (0, h, m) => format!("{h}h {m}m"),
        (d, 0, _) => format!("{d}d"),
        (d, h, _) if d < 14 => format!("{d}d {h}h"),
        (d, _, _) => format!("{d}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_spelling() {
        let time = Time(1_795_244_400);
        assert_eq!(Time::parse(&time.to_string()), Some(time));
        for wrong in [
            "2026-11-21T07:00:00+00:00",
            "2026-11-21T07:00:00.0Z",
            "2026-11-21t07:00:00z",
            "2026-11-21",
            "",
            "1969-12-31T23:59:59Z",
            "2107-01-01T00:00:00Z",
        ] {
            assert_eq!(Time::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Time::parse(&LATEST.to_string()), Some(LATEST));
    }

    #[test]
    fn spans_read_what_they_write() {
        for span in [Span(0), Span(59), Span(60), Span::hours(16), Span::days(30), Span(90_061)] {
            assert_eq!(Span::parse(&span.to_string()), Some(span));
        }
        for wrong in ["", "d", "30", "-1d", "1.5h", "30 d", "1w", "99999999999s", "36526d"] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Time(5).minus(Span(9)), Time(0));
        assert_eq!(LATEST.plus(Span(1)), LATEST);
        assert_eq!(Time(5).since(Time(9)), Span(0));
    }
}
