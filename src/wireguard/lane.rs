//! The two lanes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::wireguard::WireguardPolicy;
use crate::text;

/// One of the two standing interfaces of every node. The lanes of two nodes meet by letter: a with a, b with b.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The first.
    A,
    /// The second.
    B,
}

impl Lane {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The word in files and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The other lane.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// What stands for this lane in a pair ordered by lane.
    pub fn of<T>(self, pair: &[T; 2]) -> &T {
        let [a, b] = pair;
        match self {
            Self::A => a,
            Self::B => b,
        }
    }

    /// The interface's name.
    pub fn interface(self, policy: &WireguardPolicy) -> &str {
        self.of(&policy.lanes().names).as_str()
    }

    /// The UDP port on which a node listens unless it says otherwise.
    pub fn port(self, policy: &WireguardPolicy) -> u16 {
        *self.of(&policy.lanes().ports)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Lane {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|lane| lane.word() == text)
            .ok_or_else(|| format!("'{}' is not a lane; there are a and b", text::shown(text)))
    }
}

impl Serialize for Lane {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wireguard::TEMPLATE;

    #[test]
    fn a_lane_reads_what_it_writes_and_knows_its_interface() {
        let policy = WireguardPolicy::parse(TEMPLATE).expect("the template");
        for lane in Lane::ALL {
            assert_eq!(lane.to_string().parse(), Ok(lane));
            assert_ne!(lane.other(), lane);
            assert_eq!(lane.interface(&policy), format!("wg-{lane}"));
        }
        assert_eq!((Lane::A.port(&policy), Lane::B.port(&policy)), (51_820, 51_821));
        assert!("c".parse::<Lane>().is_err_and(|e| e == "'c' is not a lane; there are a and b"));
    }
}
