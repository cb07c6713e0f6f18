//! What somebody asks a key server for: paths and queries from outside, read whole into one of few forms.

use std::borrow::Cow;

use crate::limits::SEARCH_BYTES_MAX;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The page at this path of the tree, spelled as the tree spells it.
    Page(String),
    /// A list of those who have this in a user id.
    Search(String),
    /// An operation that there is not.
    Unknown,
    /// Something that nobody can answer, and why.
    Wrong(&'static str),
}

/// Reads the target of a request; `None` if it is none of a key server's. Nothing of it is ever joined to a file's path.
pub fn asked(target: &str) -> Option<Asked> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if path == "/pks/lookup" {
        return Some(lookup(query.unwrap_or_default()));
    }
    if let Some(below) = path.strip_prefix("/pks/v2/") {
        return Some(second(below));
    }
    let below = path.strip_prefix("/.well-known/openpgpkey/")?;
    // `?l=` repeats the local part for servers that have none of the hashes.
    let below = below.to_ascii_lowercase();
    Some(Asked::Page(format!(".well-known/openpgpkey/{below}")))
}

/// `op=…&search=…` of HKP v1. Other parameters change nothing: every list is for machines.
fn lookup(query: &str) -> Asked {
    let (mut op, mut search, mut exact) = (None, None, false);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let place = match name {
            "op" => &mut op,
            "search" => &mut search,
            "exact" => {
                exact = value == "on";
                continue;
            }
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Asked::Wrong("a parameter is there twice");
        }
    }
    let place = match op {
        Some("get") => "get",
        Some("index" | "vindex") => "index",
        Some(_) => return Asked::Unknown,
        None => return Asked::Wrong("say op=get or op=index"),
    };
    let Some(text) = search.and_then(decoded) else { return Asked::Wrong("search= is missing, or no text") };
    let text = text.trim();
    if text.is_empty() || text.len() > SEARCH_BYTES_MAX {
        return Asked::Wrong("search= is empty, or too long");
    }
    if let Some(hex) = key(text) {
        return Asked::Page(format!("pks/{place}/0x{hex}"));
    }
    match as_address(text) {
        Some(address) => Asked::Page(format!("pks/{place}/{address}")),
        None if place == "index" && !exact => Asked::Search(text.to_owned()),
        None if place == "get" => {
            Asked::Wrong("search= for op=get is a fingerprint, a key id of 16 digits, or an address")
        }
        None => Asked::Page(String::new()),
    }
}

/// What is below `/pks/v2/`.
fn second(below: &str) -> Asked {
    let page = |path: String| Asked::Page(format!("pks/v2/{path}"));
    if let Some(name) = below.strip_prefix("certs/by-vfingerprint/") {
        return page(format!("certs/by-vfingerprint/{}", name.to_ascii_uppercase()));
    }
    if let Some(name) = below.strip_prefix("certs/by-keyid/") {
        return page(format!("certs/by-keyid/{}", name.to_ascii_uppercase()));
    }
    for place in ["certs/by-identity", "index"] {
        if let Some(name) = below.strip_prefix(place).and_then(|rest| rest.strip_prefix('/')) {
            return match decoded(name).as_deref().and_then(as_address) {
                Some(address) => page(format!("{place}/{address}")),
                None => Asked::Page(String::new()),
            };
        }
    }
    match below.split('/').next() {
        Some("canonical" | "prefixlog" | "sendtoken") => Asked::Unknown,
        _ => Asked::Page(String::new()),
    }
}

/// A fingerprint or a long key id, in upper case: `0x…`, with spaces as people copy it. Whoever writes one without `0x` means
/// it, too. Short key ids are nobody's: everybody can make one.
fn key(text: &str) -> Option<String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let hex: String = digits.chars().filter(|c| *c != ' ').collect();
    let is_key = matches!(hex.len(), 16 | 40 | 64) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_key.then(|| hex.to_ascii_uppercase())
}

/// An address, bare or as it stands in a user id, in lower case.
fn as_address(text: &str) -> Option<String> {
    let inner = text.rsplit_once('<').and_then(|(_, rest)| rest.strip_suffix('>')).unwrap_or(text);
    let address = inner.to_ascii_lowercase();
    is_address(&address).then_some(address)
}

/// Whether this is an address that can be a page's name: of plain letters, digits and a few signs, in lower case.
pub(super) fn is_address(address: &str) -> bool {
    let plain = |part: &str, more: &[u8]| {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || more.contains(&b);
        !part.is_empty() && part.bytes().all(letters) && !part.starts_with('.') && !part.ends_with('.')
    };
    let parts = address.split_once('@');
    address.len() <= 200 && parts.is_some_and(|(local, domain)| plain(local, b"._+-") && plain(domain, b".-"))
}

/// Text out of a URL's query.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::from(text)).filter(|text| !text.contains(char::is_control));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, rest @ ..] => {
                let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                rest
            }
            [b'%', ..] => return None,
            [b'+', rest @ ..] => {
                bytes.push(b' ');
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control)).map(Cow::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(target: &str) -> Option<String> {
        match asked(target) {
            Some(Asked::Page(path)) => Some(path),
            _ => None,
        }
    }

    #[test]
    fn every_spelling_of_one_thing_leads_to_one_page() {
        let fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567";
        let spaced = fingerprint.as_bytes().chunks(4).map(|c| String::from_utf8_lossy(c)).collect::<Vec<_>>().join("+");
        for search in [
            fingerprint.to_owned(),
            format!("0x{fingerprint}"),
            format!("0x{}", fingerprint.to_lowercase()),
            format!("%30x{fingerprint}"),
            spaced,
        ] {
            let found = page(&format!("/pks/lookup?op=get&options=mr&search={search}"));
            assert_eq!(found, Some(format!("pks/get/0x{fingerprint}")), "{search}");
        }
        for search in ["alice@ops.example", "Alice%40OPS.example", "Alice+%3Calice%40ops.example%3E"] {
            let found = page(&format!("/pks/lookup?search={search}&op=vindex"));
            assert_eq!(found.as_deref(), Some("pks/index/alice@ops.example"), "{search}");
        }
        assert_eq!(page("/pks/v2/certs/by-vfingerprint/04ab").as_deref(), Some("pks/v2/certs/by-vfingerprint/04AB"));
        assert_eq!(page("/pks/v2/index/A%40b.example").as_deref(), Some("pks/v2/index/a@b.example"));
        let wkd = "/.well-known/openpgpkey/OPS.example/hu/abc?l=alice";
        assert_eq!(page(wkd).as_deref(), Some(".well-known/openpgpkey/ops.example/hu/abc"));
    }

    #[test]
    fn what_is_no_question_is_said_to_be_none() {
        let wrong = [
            "",
            "op=get",
            "search=x",
            "op=get&search=",
            "op=get&search=%",
            "op=get&search=%4",
            "op=get&search=%zz",
            "op=get&search=%ff",
            "op=get&search=%0A",
            "op=get&search=0x01234567",
            "op=get&search=alice",
            "op=get&op=get&search=x",
            "op=get&search=../../etc/passwd",
            "op=index&search=al\u{1b}ice",
            "op=index&search=al\u{9b}ice",
            "op=get&search=%2e%2e%2fx@y",
        ];
        for query in wrong {
            let found = asked(&format!("/pks/lookup?{query}"));
            assert!(matches!(found, Some(Asked::Wrong(_))), "{query}: {found:?}");
        }
        let long = format!("/pks/lookup?op=index&search={}", "x".repeat(SEARCH_BYTES_MAX + 1));
        assert!(matches!(asked(&long), Some(Asked::Wrong(_))));
        assert_eq!(asked("/pks/lookup?op=stats&search=x"), Some(Asked::Unknown));
        assert_eq!(asked("/pks/v2/prefixlog/2026-11-22"), Some(Asked::Unknown));
        assert_eq!(asked("/pks/lookup?op=index&search=alice"), Some(Asked::Search("alice".to_owned())));
        for none in ["/", "/pks", "/pks/", "/pks/add", "/pks/lookup/", "/v1/submit", "pks/lookup", "/keyring/log/head"]
        {
            assert_eq!(asked(none), None, "{none}");
        }
    }
}
