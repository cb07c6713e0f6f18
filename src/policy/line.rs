//! The line of a policy file on which something stands that a message names.
//!
//! Places are written as people read them, and looked up as they are written:
//!
//! ```text
//! mesh.mtu                           a key of a table
//! [roles] root                       the same
//! [[cosigner]] number 2 (…): vkey    of a list of tables, the second
//! [[host]] match = "fra*": lifetime  of a list of tables, the first that says so
//! ```

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file, read for its lines.
pub(super) struct Lines<'i> {
    root: DeTable<'i>,
    /// Where each line but the first begins.
    starts: Vec<usize>,
}

impl<'i> Lines<'i> {
    /// Reads a file; none if it is no TOML.
    pub(super) fn of(text: &'i str) -> Option<Self> {
        let root = DeTable::parse(text).ok()?.into_inner();
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1).collect();
        Some(Self { root, starts })
    }

    /// The line of `place`, counted from 1. Of a key that is not there, the line of its table; of a table that is not there
    /// either, none.
    pub(super) fn line(&self, place: &str) -> Option<usize> {
        self.offset(place).map(|at| self.starts.partition_point(|start| *start <= at) + 1)
    }

    fn offset(&self, place: &str) -> Option<usize> {
        if let Some((path, rest)) = place.strip_prefix("[[").and_then(|list| list.split_once("]]")) {
            let (at, items) = find(&self.root, path)?;
            let Some(((start, table), key)) = items.and_then(|items| element(items.as_array()?, rest.trim_start()))
            else {
                return Some(at);
            };
            return Some(find(table, key).map_or(start, |(at, _)| at));
        }
        if let Some((path, rest)) = place.strip_prefix('[').and_then(|table| table.split_once(']')) {
            let (at, table) = find(&self.root, path)?;
            let key = table.and_then(|table| find(table.as_table()?, rest.trim_start()));
            return Some(key.map_or(at, |(at, _)| at));
        }
        find(&self.root, place).map(|(at, _)| at)
    }
}

type Found<'t, 'i> = (usize, Option<&'t DeValue<'i>>);

/// Follows keys with dots between them as far as they go: where the last one stands, and its value if that was the end.
/// A key may have dots of its own.
fn find<'t, 'i>(table: &'t DeTable<'i>, path: &str) -> Option<Found<'t, 'i>> {
    for (key, value) in table.iter() {
        let Some(rest) = path.strip_prefix(key.get_ref().as_ref()) else { continue };
        if rest.is_empty() {
            return Some((key.span().start, Some(value.get_ref())));
        }
        if let Some(rest) = rest.strip_prefix('.') {
            let inner = value.get_ref().as_table().and_then(|inner| find(inner, rest));
            return Some(inner.unwrap_or((key.span().start, None)));
        }
    }
    None
}

/// The table of a list that `text` means, with where it begins, and the key that is left of the text.
fn element<'t, 'i, 'p>(
    items: &'t [Spanned<DeValue<'i>>],
    text: &'p str,
) -> Option<((usize, &'t DeTable<'i>), &'p str)> {
    let key_after = |text: &'p str| text.split_once(": ").map_or("", |(_, key)| key);
    let placed = |item: &'t Spanned<DeValue<'i>>| Some((item.span().start, item.get_ref().as_table()?));
    if let Some(number) = text.strip_prefix("number ") {
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let nth = number.get(..digits)?.parse::<usize>().ok()?.checked_sub(1)?;
        return Some((placed(items.get(nth)?)?, key_after(number)));
    }
    let (key, rest) = text.split_once(" = \"")?;
    let (value, rest) = rest.split_once('"')?;
    let says = |item: &&Spanned<DeValue<'i>>| {
        item.get_ref().as_table().and_then(|table| find(table, key)?.1?.as_str()).is_some_and(|own| own == value)
    };
    Some((placed(items.iter().find(says)?)?, rest.strip_prefix(": ").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# [mesh]
# mtu = 1

[mesh] # mtu = 2
  id = "mtu = 3"
"mtu" = 1420
note = """
[lanes]
mtu = 4
"""
lock.policy.update = "24h"
[accounts]
"a.b" = []
'deploy' = []
[[ipam.pool]]
region = "eu"
# [[ipam.pool]]

[[ ipam . "pool" ]]
region = "us"
subnet6 = 17
[[ipam.pool]]
region = "us"
[inline]
list = [{ name = "x" }, { name = "y",
  other = 1 }]
"#;

    #[test]
    fn a_place_is_found_as_it_is_written() {
        let lines = Lines::of(TEXT).expect("TOML");
        for (place, expected) in [
            ("mesh.mtu", Some(6)),
            ("[mesh] mtu", Some(6)),
            ("mesh", Some(4)),
            ("[mesh]", Some(4)),
            ("[mesh] ula", Some(4)),
            ("mesh.ula", Some(4)),
            ("mesh.lock.policy.update", Some(11)),
            ("[mesh] lock.policy.update", Some(11)),
            ("accounts.a.b", Some(13)),
            ("accounts.deploy", Some(14)),
            ("[[ipam.pool]]", Some(15)),
            ("[[ipam.pool]] number 1", Some(15)),
            ("[[ipam.pool]] number 1 (region 'eu'): region", Some(16)),
            ("[[ipam.pool]] number 2: subnet6", Some(21)),
            ("[[ipam.pool]] number 2 (region 'us'): ipv4", Some(19)),
            ("[[ipam.pool]] number 3", Some(22)),
            ("[[ipam.pool]] number 4", Some(15)),
            ("[[ipam.pool]] number 0", Some(15)),
            ("[[ipam.pool]] region = \"us\": subnet6", Some(21)),
            ("[[ipam.pool]] region = \"us\"", Some(19)),
            ("[[inline.list]] number 2: other", Some(26)),
            ("lanes", None),
            ("[lanes] ports", None),
            ("[[external]] number 1", None),
            ("the file itself", None),
            ("", None),
        ] {
            assert_eq!(lines.line(place), expected, "{place}");
        }
        assert!(Lines::of("a = \n").is_none());
    }
}
