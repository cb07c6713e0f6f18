//! Targets for names, patterns, ranges, times, paths, and for showing what others wrote.

use keys::cidr::{AnyCidr, Cidr4, Cidr6, special, unusable_part};
use keys::name::{ActName, Address, FleetName, Glob, Label, MemberName, Slot};
use keys::state::PublicKey;
use keys::time::{Span, Time};
use keys::wireguard::{Host, WgPublicKey};

use crate::{one_spelling, reads_back};

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Names, addresses and patterns have one spelling each; an address has a path of its own.
pub fn names(data: &[u8]) {
    let Some(text) = text(data) else { return };
    one_spelling::<Label>(text);
    one_spelling::<FleetName>(text);
    one_spelling::<ActName>(text);
    one_spelling::<Slot>(text);
    if let Some(member) = one_spelling::<MemberName>(text) {
        assert!(!member.owner().is_service());
        for &slot in Slot::ALL {
            let _ = PublicKey::parse(slot, text);
        }
    }
    if let Some(address) = one_spelling::<Address>(text) {
        let path = address.path();
        assert!(path.starts_with("sealed/") && path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        assert_eq!(Address::from_path(&path), Some(address));
    }
    if let Some(glob) = one_spelling::<Glob>(text) {
        assert_eq!(glob.is_pattern(), text.contains('*'));
        assert!(glob.matches(&text.replace('*', "")), "what it is made of does not match");
        let _ = (glob.matches("nginx@fra1/tls.key"), glob.matches(""));
    }
}

/// Ranges, hosts, keys and times have one spelling each.
pub fn ranges(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(range) = one_spelling::<Cidr4>(text) {
        assert!(range.contains(range.base()) && range.contains(range.last()) && range.covers(&range));
        assert_eq!(range.nth(0), Some(range.base()));
        let _ = (unusable_part(&range), special(range.base().into()), range.nth(u64::MAX));
    }
    if let Some(range) = one_spelling::<Cidr6>(text) {
        assert!(range.contains(range.base()) && range.contains(range.last()) && range.overlaps(&range));
        let _ = (special(range.last().into()), range.nth(u64::MAX));
    }
    one_spelling::<AnyCidr>(text);
    one_spelling::<WgPublicKey>(text);
    if let Some(host) = reads_back::<Host>(text) {
        assert!(!host.with_port(1).contains(|c: char| c.is_control() || c == ' '));
    }
    if let Some(time) = Time::parse(text) {
        assert_eq!((time.to_string().as_str(), Time::from_system(time.to_system())), (text, time));
    }
    if let Some(span) = Span::parse(text) {
        assert_eq!(Span::parse(&span.to_string()), Some(span));
        let _ = keys::time::rough(span);
    }
}

/// Paths that a mirror is asked for: each has one spelling, and names nothing outside.
pub fn public(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Some(public) = keys::store::Public::parse(text) else { return };
    assert_eq!(public.path(), text);
    assert!(text.split('/').all(|part| !part.is_empty() && !part.starts_with('.')));
    assert!(text.ends_with(&public.below()));
    let _ = public.is_immutable();
}

/// What a key server is asked: what is looked for has one spelling, and is the same when it is asked for in that one.
pub fn lookup(data: &[u8]) {
    use keys::directory::{Asked, asked};
    let Some(text) = text(data) else { return };
    match asked(text) {
        None | Some(Asked::Unknown | Asked::Wrong(_)) => {}
        Some(Asked::Search(what)) => {
            assert!(!what.is_empty() && what.len() <= keys::limits::SEARCH_BYTES_MAX);
            assert!(!what.contains(char::is_control));
        }
        Some(Asked::Page(path)) => {
            for op in ["get", "index"] {
                let Some(name) = path.strip_prefix("pks/").and_then(|p| p.strip_prefix(op)?.strip_prefix('/')) else {
                    continue;
                };
                assert!(!name.is_empty() && !name.contains(['/', '%', '\\', ' ']) && !name.starts_with('.'));
                let again = asked(&format!("/pks/lookup?op={op}&search={}", name.replace('+', "%2B")));
                assert_eq!(again, Some(Asked::Page(path.clone())));
            }
        }
    }
}

/// Paths of a keyring: what a synced directory may hold.
pub fn paths(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(address) = Address::from_path(text) {
        assert_eq!(address.path(), text);
    }
    if let Some(digest) = keys::store::object_digest(text) {
        assert_eq!(keys::store::object_path(&digest), text);
    }
    if let Some(serial) = keys::store::issued_serial(text) {
        assert_eq!(keys::store::issued_path(serial), text);
    }
    if let Some(number) = keys::log::commit::Commit::number(text) {
        assert_eq!(keys::log::commit::Commit::path(number), text);
    }
}

/// What is shown holds nothing that moves or forges text, is bounded, and tells apart what differs.
pub fn shown(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(!keys::text::escape(&text).chars().any(keys::text::is_hidden));
    let shown = keys::text::shown(&text).to_string();
    assert!(!shown.chars().any(keys::text::is_hidden));
    assert!(shown.chars().count() <= 200 * "\\u{10ffff}".len() + 1);
    let _ = keys::text::nearest(&text, ["secret.seal", "member.enroll"]);
    assert_eq!(keys::text::unhex(&keys::text::hex(data)).as_deref(), Some(data));
}

/// What to begin with.
pub mod seeds {
    fn lines(lines: &[&str]) -> Vec<Vec<u8>> {
        lines.iter().map(|line| line.as_bytes().to_vec()).collect()
    }

    /// Of [`super::names`].
    pub fn names() -> Vec<Vec<u8>> {
        lines(&[
            "fra1",
            "nginx@fra1",
            "cdn.example",
            "nginx@fra1/tls.key",
            "nginx@*/api-*",
            "*/ntp-key",
            "key.activate",
            "ssh-host",
        ])
    }

    /// Of [`super::ranges`].
    pub fn ranges() -> Vec<Vec<u8>> {
        lines(&[
            "10.88.0.0/16",
            "fd12:3456:789a::/48",
            "0.0.0.0/0",
            "[2001:db8::1]",
            "fra1.cdn.example",
            "2026-11-21T07:00:00Z",
            "30d",
        ])
    }

    /// Of [`super::paths`].
    pub fn paths() -> Vec<Vec<u8>> {
        let object = format!("objects/00/{}", "1f".repeat(31));
        lines(&[
            "sealed/fra1/nginx/tls.key.pgp",
            "sealed/_shared/ntp-key.pgp",
            "objects/ssh/00000000000000000034",
            "commit/00000000000000000042",
            &object,
        ])
    }

    /// Of [`super::public`].
    pub fn public() -> Vec<Vec<u8>> {
        let digest = "1f".repeat(32);
        lines(&[
            "keyring/log/checkpoint",
            "keyring/log/tile/0/x001/234.p/5",
            "keyring/log/commit/00000000000000000042",
            "keyring/sealed/fra1/nginx/tls.key.pgp",
            "policy/fleet.toml",
            &format!("keyring/proposals/{digest}/body"),
            &format!("keyring/objects/sealed/{digest}"),
        ])
    }

    /// Of [`super::lookup`].
    pub fn lookup() -> Vec<Vec<u8>> {
        let fingerprint = "1F".repeat(20);
        lines(&[
            &format!("/pks/lookup?op=get&options=mr&search=0x{fingerprint}"),
            "/pks/lookup?op=index&search=PoP+fra1+%3Cpop%2Bx%40fra1.cdn.example%3E&exact=on",
            &format!("/pks/v2/certs/by-vfingerprint/04/{fingerprint}"),
            "/pks/v2/index/alice%40ops.example",
            "/.well-known/openpgpkey/cdn.example/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=joe.doe",
        ])
    }

    /// Of [`super::shown`].
    pub fn shown() -> Vec<Vec<u8>> {
        lines(&["Zo\u{eb} \u{1b}[2J \u{202e}abc", "seal"])
    }
}
