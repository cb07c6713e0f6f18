//! Address ranges in CIDR notation (RFC 4632, RFC 4291 section 2.3), and the ranges set aside by RFC 6890.
//!
//! ```text
//! 10.88.16.0/20          fd12:3456:789a::/48
//! ```
//! A range has one spelling, and host bits are refused: `wg` clears them without a word, and two peers that were meant
//! to differ then claim one range.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text;

/// Why a text is not an address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// No slash, or no address before it.
    #[error("'{text}' is not an address range like {example}")]
    Shape {
        /// The text, made safe to show.
        text: String,
        /// What one looks like.
        example: &'static str,
    },
    /// No prefix length, or one longer than the address.
    #[error("'{text}' has no prefix length from 0 to {length_max}")]
    Length {
        /// The text, made safe to show.
        text: String,
        /// The longest prefix of this family.
        length_max: u8,
    },
    /// Bits are set beyond the prefix.
    #[error("'{text}' has host bits; the range is '{range}'")]
    HostBits {
        /// The text, made safe to show.
        text: String,
        /// The range without them.
        range: String,
    },
    /// A right range in a spelling other than its one.
    #[error("'{text}' is to be written '{range}'")]
    Spelling {
        /// The text, made safe to show.
        text: String,
        /// The one spelling.
        range: String,
    },
}

/// IPv4 or IPv6: an address as a number.
pub trait Family: Copy + Ord + fmt::Display + fmt::Debug + FromStr {
    /// Bits of an address.
    const BITS: u8;
    /// A range, for messages.
    const EXAMPLE: &'static str;
    /// The address as a number.
    fn to_number(self) -> u128;
    /// The address of a number; bits above [`Family::BITS`] are ignored.
    fn from_number(number: u128) -> Self;
}

impl Family for Ipv4Addr {
    const BITS: u8 = 32;
    const EXAMPLE: &'static str = "10.88.0.0/16";
    fn to_number(self) -> u128 {
        self.to_bits().into()
    }
    fn from_number(number: u128) -> Self {
        let [.., a, b, c, d] = number.to_be_bytes();
        Self::new(a, b, c, d)
    }
}

impl Family for Ipv6Addr {
    const BITS: u8 = 128;
    const EXAMPLE: &'static str = "fd12:3456:789a::/48";
    fn to_number(self) -> u128 {
        self.to_bits()
    }
    fn from_number(number: u128) -> Self {
        Self::from_bits(number)
    }
}

/// A range of addresses without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr<A> {
    base: A,
    length: u8,
}

/// A range of IPv4 addresses.
pub type Cidr4 = Cidr<Ipv4Addr>;
/// A range of IPv6 addresses.
pub type Cidr6 = Cidr<Ipv6Addr>;

impl<A: Family> Cidr<A> {
    /// The range that begins at `base` and has a prefix of `length` bits; `None` if host bits are set or the prefix is
    /// too long.
    pub fn new(base: A, length: u8) -> Option<Self> {
        let range = Self { base, length };
        (length <= A::BITS && base.to_number() & range.host_mask() == 0).then_some(range)
    }

    /// The first address.
    pub fn base(&self) -> A {
        self.base
    }

    /// The prefix length in bits.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The last address.
    pub fn last(&self) -> A {
        A::from_number(self.base.to_number() | self.host_mask())
    }

    /// The address `index` places after the first, if it is in the range.
    pub fn nth(&self, index: u64) -> Option<A> {
        let index = u128::from(index);
        (index <= self.host_mask()).then(|| A::from_number(self.base.to_number() | index))
    }

    /// Whether `address` is in the range.
    pub fn contains(&self, address: A) -> bool {
        address.to_number() & !self.host_mask() == self.base.to_number()
    }

    /// Whether all of `other` is in the range.
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.base)
    }

    /// Whether any address is in both: ranges nest or are disjoint.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    fn host_mask(&self) -> u128 {
        u128::MAX.checked_shr(128 - u32::from(A::BITS.saturating_sub(self.length))).unwrap_or(0)
    }
}

impl<A: Family> FromStr for Cidr<A> {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let shown = || text::Shown { text, max: 80 }.to_string();
        let shape = || CidrError::Shape { text: shown(), example: A::EXAMPLE };
        let (address, length) = text.split_once('/').ok_or_else(shape)?;
        let address: A = address.parse().map_err(|_| shape())?;
        let length: u8 = length
            .parse()
            .ok()
            .filter(|length| *length <= A::BITS)
            .ok_or_else(|| CidrError::Length { text: shown(), length_max: A::BITS })?;
        let mask = Self { base: address, length }.host_mask();
        let range = Self { base: A::from_number(address.to_number() & !mask), length };
        if range.base != address {
            return Err(CidrError::HostBits { text: shown(), range: range.to_string() });
        }
        if range.to_string() != text {
            return Err(CidrError::Spelling { text: shown(), range: range.to_string() });
        }
        Ok(range)
    }
}

impl<A: Family> fmt::Display for Cidr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

impl<A: Family> Serialize for Cidr<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, A: Family> Deserialize<'de> for Cidr<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A range of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnyCidr {
    /// IPv4.
    V4(Cidr4),
    /// IPv6.
    V6(Cidr6),
}

impl FromStr for AnyCidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, CidrError> {
        if text.contains(':') { text.parse().map(Self::V6) } else { text.parse().map(Self::V4) }
    }
}

impl fmt::Display for AnyCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(range) => range.fmt(f),
            Self::V6(range) => range.fmt(f),
        }
    }
}

impl Serialize for AnyCidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AnyCidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What an address set aside by RFC 6890 or RFC 4291 is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Special {
    /// No packet from another machine arrives there: loopback, multicast, link-local and the like.
    Unreachable,
    /// Reachable inside one site at most: private use.
    Private,
    /// For books only.
    Documentation,
}

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Cidr4 {
    Cidr { base: Ipv4Addr::new(a, b, c, 0), length }
}

const fn v6(a: u16, b: u16, length: u8) -> Cidr6 {
    Cidr { base: Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length }
}

const SPECIAL_V4: &[(Cidr4, Special, &str)] = &[
    (v4(0, 0, 0, 8), Special::Unreachable, "'this network'"),
    (v4(127, 0, 0, 8), Special::Unreachable, "loopback"),
    (v4(169, 254, 0, 16), Special::Unreachable, "link-local"),
    (v4(224, 0, 0, 4), Special::Unreachable, "multicast"),
    (v4(240, 0, 0, 4), Special::Unreachable, "reserved"),
    (v4(10, 0, 0, 8), Special::Private, "private"),
    (v4(172, 16, 0, 12), Special::Private, "private"),
    (v4(192, 168, 0, 16), Special::Private, "private"),
    (v4(100, 64, 0, 10), Special::Private, "a provider's shared range"),
    (v4(192, 0, 2, 24), Special::Documentation, "documentation"),
    (v4(198, 51, 100, 24), Special::Documentation, "documentation"),
    (v4(203, 0, 113, 24), Special::Documentation, "documentation"),
    (v4(198, 18, 0, 15), Special::Documentation, "benchmarking"),
];

const SPECIAL_V6: &[(Cidr6, Special, &str)] = &[
    // The unspecified address, loopback, and the forms that wrap an IPv4 address.
    (v6(0, 0, 64), Special::Unreachable, "loopback, unspecified or IPv4 in IPv6"),
    (v6(0xfe80, 0, 10), Special::Unreachable, "link-local"),
    (v6(0xff00, 0, 8), Special::Unreachable, "multicast"),
    (v6(0xfc00, 0, 7), Special::Private, "unique local"),
    (v6(0x2001, 0xdb8, 32), Special::Documentation, "documentation"),
    (v6(0x3fff, 0, 20), Special::Documentation, "documentation"),
];

/// What `address` is set aside for, with a word for it; `None` for an ordinary one.
pub fn special(address: IpAddr) -> Option<(Special, &'static str)> {
    match address {
        IpAddr::V4(v4) => SPECIAL_V4.iter().find(|(range, ..)| range.contains(v4)).map(|&(_, kind, word)| (kind, word)),
        IpAddr::V6(v6) => SPECIAL_V6.iter().find(|(range, ..)| range.contains(v6)).map(|&(_, kind, word)| (kind, word)),
    }
}

/// The first range set aside for anything but private use that overlaps `range`, with a word for it.
pub fn unusable_part(range: &Cidr4) -> Option<(Cidr4, &'static str)> {
    SPECIAL_V4
        .iter()
        .find(|(special, kind, _)| *kind != Special::Private && special.overlaps(range))
        .map(|&(special, _, word)| (special, word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_range_is_refused_with_what_to_write() {
        let message = |text: &str| text.parse::<Cidr4>().map_err(|e| e.to_string()).expect_err(text);
        assert_eq!(message("10.0.0.1/24"), "'10.0.0.1/24' has host bits; the range is '10.0.0.0/24'");
        assert_eq!(message("10.0.0.0/08"), "'10.0.0.0/08' is to be written '10.0.0.0/8'");
        assert_eq!(message("10.0.0.0/33"), "'10.0.0.0/33' has no prefix length from 0 to 32");
        assert_eq!(message("10.0.0.0"), "'10.0.0.0' is not an address range like 10.88.0.0/16");
        for wrong in ["999.1.1.1/24", "10.0.0.0/", "10.0.0.0/+8x", "10.0.0.0/-1", "10.0.0.0/8 ", "/8", "", "10/8"] {
            assert!(wrong.parse::<Cidr4>().is_err(), "{wrong}");
        }
        for wrong in ["FD12::/48", "fd12:0::/48", "fd12::/129", "fd12::1/64", "10.0.0.0/8", "[fd12::]/48"] {
            assert!(wrong.parse::<Cidr6>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_ends_of_a_range_are_known() {
        let all: Cidr6 = "::/0".parse().expect("a range");
        assert_eq!(all.last(), Ipv6Addr::from_bits(u128::MAX));
        let one: Cidr4 = "10.0.0.7/32".parse().expect("a range");
        assert_eq!((one.last(), one.nth(0), one.nth(1)), (one.base(), Some(one.base()), None));
        let some: Cidr4 = "10.88.16.0/20".parse().expect("a range");
        assert_eq!(some.nth(4_095), Some(some.last()));
        assert_eq!(some.nth(4_096), None);
    }

    #[test]
    fn ranges_set_aside_are_recognised() {
        for (text, kind) in [
            ("127.0.0.1", Some(Special::Unreachable)),
            ("255.255.255.255", Some(Special::Unreachable)),
            ("0.0.0.0", Some(Special::Unreachable)),
            ("172.31.255.255", Some(Special::Private)),
            ("172.32.0.0", None),
            ("198.51.100.9", Some(Special::Documentation)),
            ("::1", Some(Special::Unreachable)),
            ("::ffff:8.8.8.8", Some(Special::Unreachable)),
            ("fe80::1", Some(Special::Unreachable)),
            ("fd00::1", Some(Special::Private)),
            ("2001:db8::1", Some(Special::Documentation)),
            ("2a00::1", None),
        ] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(special(address).map(|(kind, _)| kind), kind, "{text}");
        }
    }

    #[test]
    fn the_tables_hold_no_host_bits() {
        for (range, ..) in SPECIAL_V4 {
            assert_eq!(range.to_string().parse().as_ref(), Ok(range));
        }
        for (range, ..) in SPECIAL_V6 {
            assert_eq!(range.to_string().parse().as_ref(), Ok(range));
        }
    }

    proptest! {
        #[test]
        fn ranges_read_what_they_write(number: u128, length in 0u8..=128) {
            let mask = Cidr { base: Ipv6Addr::UNSPECIFIED, length }.host_mask();
            let range = Cidr6::new(Ipv6Addr::from_bits(number & !mask), length).expect("no host bits");
            prop_assert_eq!(range.to_string().parse::<Cidr6>(), Ok(range));
            prop_assert_eq!(range.to_string().parse::<AnyCidr>(), Ok(AnyCidr::V6(range)));
        }

        #[test]
        fn a_text_that_is_read_is_written_back_alike(a in 0u8..4, b in 0u8..4, c: u8, d in 0u8..2, length in 0u8..40) {
            let text = format!("{a}.{b}.{c}.{d}/{length}");
            if let Ok(range) = text.parse::<Cidr4>() {
                prop_assert_eq!(range.to_string(), text);
            }
        }

        #[test]
        fn overlap_is_having_an_address_in_common(a: u8, b: u8, long in 24u8..=32, short in 24u8..=32) {
            let range = |n: u8, length: u8| {
                let n = u32::from(n) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Cidr4::new(Ipv4Addr::from_bits(n), length).expect("no host bits")
            };
            let (x, y) = (range(a, long), range(b, short));
            let common = (0..=255).map(Ipv4Addr::from_bits).any(|n| x.contains(n) && y.contains(n));
            prop_assert_eq!(x.overlaps(&y), common);
            prop_assert_eq!(y.overlaps(&x), common);
        }
    }
}
