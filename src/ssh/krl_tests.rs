//! KRLs as bytes: what is written is read, and what some `sshd` refuses is not.

use proptest::prelude::*;

use super::krl::{Krl, KrlError, KrlScope};
use super::krl_format::{
    BITMAP, KEY_IDS, LIST, RANGE, SECTION_CERTIFICATES, SECTION_KEYS, SECTION_SHA1, SECTION_SHA256,
};
use super::krl_format::{put_section, strings};
use super::sample;
use super::wire::Put as _;
use crate::digest::Digest;
use crate::limits::KRL_BYTES_MAX;
use crate::time::Time;

const ANY: KrlScope = KrlScope::AnyCa;

fn ca(n: u64) -> KrlScope {
    KrlScope::Ca(sample::key(n).public().clone())
}

fn with_serials(runs: &[(u64, u64)]) -> Krl {
    let mut krl = Krl::new(7, Time(1_795_244_400));
    runs.iter().for_each(|&(a, b)| krl.revoke_serials(ca(1), sample::serial(a), sample::serial(b)));
    krl
}

fn full() -> Krl {
    let mut krl = with_serials(&[(1, 1), (3, 3), (1_000, 2_000), (1 << 40, 1 << 40)]);
    (10..100).for_each(|n| krl.revoke_serials(ANY, sample::serial(n * 3), sample::serial(n * 3)));
    krl.revoke_key_id(ca(1), "alice".parse().expect("printable"));
    krl.revoke_key(sample::key(4).public().clone());
    krl.revoke_sha256(sample::key(5).public().sha256());
    krl.sha1.insert([7; 20]);
    krl
}

#[test]
fn a_list_without_entries_is_its_header() {
    let krl = Krl::new(1, Time(5));
    let bytes = krl.write(65_536).expect("small");
    assert_eq!((bytes.len(), Krl::parse(&bytes)), (44, Ok(krl)));
    assert!(Krl::parse(b"").is_err(), "zero bytes are no list");
}

#[test]
fn dense_serials_cost_nothing() {
    let bytes = with_serials(&[(1, 100_000)]).write(200).expect("at most 200 bytes");
    assert_eq!(bytes.len(), 129, "44 of header, 64 of section and CA, 21 of range");
    let scattered: Vec<_> = (1..=10_000_u64).map(|n| (n << 40, n << 40)).collect();
    assert!(matches!(with_serials(&scattered).write(65_536), Err(KrlError::TooLarge { max: 65_536, .. })));
}

#[test]
fn wide_gaps_never_make_a_wide_bitmap() {
    // 400 serials, every 50th: `ssh-keygen -k` 9.2 and 10.5 write one bitmap of 20 000 bits, and with it as
    // RevokedKeys no login works, not even of those who are not revoked. `parse` refuses such a bitmap.
    for step in [2, 49, 50, 51, 1_000] {
        let runs: Vec<_> = (1..=400).map(|n| (n * step, n * step)).collect();
        let krl = with_serials(&runs);
        assert_eq!(krl.write(65_536).and_then(|bytes| Krl::parse(&bytes)), Ok(krl));
    }
    let bitmap = |bytes: usize| {
        let (mut body, mut bits) = (Vec::new(), Vec::new());
        bits.put_u64(1);
        bits.put_positive(&vec![255; bytes]);
        strings([&b""[..], b""].into_iter()).iter().for_each(|b| body.push(*b));
        put_section(&mut body, BITMAP, &bits);
        let mut out = Krl::new(1, Time(5)).write(100).expect("small");
        put_section(&mut out, SECTION_CERTIFICATES, &body);
        Krl::parse(&out)
    };
    assert!(bitmap(2_048).is_ok());
    assert!(matches!(bitmap(2_049), Err(KrlError::Refused(_))));
}

#[test]
fn broken_and_refused_are_told_apart() {
    let good = full().write(65_536).expect("small");
    for broken in [&b""[..], b"SSHKRL\n\0", b"ssh-ed25519 AAAA", &good[..good.len() - 1], &good[..50]] {
        assert!(matches!(Krl::parse(broken), Err(KrlError::Format(_))), "{broken:?}");
    }
    let scoped = |ca: &[u8]| {
        let mut section = strings([ca, b""].into_iter());
        put_section(&mut section, LIST, &1_u64.to_be_bytes());
        let mut out = Krl::new(1, Time(5)).write(100).expect("small");
        put_section(&mut out, SECTION_CERTIFICATES, &section);
        Krl::parse(&out)
    };
    let ecdsa = |name: &[u8], curve: &[u8], length: usize| {
        strings([name, curve, &[&[4][..], &vec![1; length - 1]].concat()].into_iter())
    };
    for known in [
        sample::key(1).public().blob().to_vec(),
        sample::token_key().blob().to_vec(),
        ecdsa(b"ecdsa-sha2-nistp256", b"nistp256", 65),
        ecdsa(b"ecdsa-sha2-nistp384", b"nistp384", 97),
        ecdsa(b"ecdsa-sha2-nistp521", b"nistp521", 133),
        strings([&b"ssh-rsa"[..], &[3], &[1; 256]].into_iter()),
    ] {
        assert!(scoped(&known).is_ok(), "{known:?}");
    }
    for unknown in [
        strings([&b"ssh-mldsa44-ed25519@openssh.com"[..], &[1; 32]].into_iter()),
        strings([&b"ssh-dss"[..], &[1], &[1], &[1], &[1]].into_iter()),
        strings([&b"ssh-rsa"[..], &[3], &[1; 64]].into_iter()),
        ecdsa(b"ecdsa-sha2-nistp384", b"nistp256", 97),
        ecdsa(b"ecdsa-sha2-nistp521", b"nistp521", 97),
        sample::issued(sample::user_fields(), 1).blob,
    ] {
        assert!(matches!(scoped(&unknown), Err(KrlError::Refused(_))), "{unknown:?}");
    }
}

#[test]
fn what_sshd_may_refuse_is_refused() {
    let empty = Krl::new(1, Time(5)).write(100).expect("small");
    let with = |kind: u8, body: &[u8]| {
        let mut out = empty.clone();
        put_section(&mut out, kind, body);
        Krl::parse(&out)
    };
    let any_ca = strings([&b""[..], b""].into_iter());
    let subsection = |kind: u8, body: &[u8]| {
        let mut section = any_ca.clone();
        put_section(&mut section, kind, body);
        with(SECTION_CERTIFICATES, &section)
    };
    let numbers = |list: &[u64]| list.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>();
    for kind in [0, 4, 6, 255] {
        assert_eq!(with(kind, b""), Err(KrlError::Section(kind)));
    }
    assert_eq!(subsection(0x39, b"x"), Err(KrlError::Section(0x39)));
    assert!(subsection(LIST, &numbers(&[1, 9])).is_ok());
    assert!(subsection(LIST, &numbers(&[1, 0])).is_err(), "serial 0");
    assert!(subsection(RANGE, &numbers(&[0, 3])).is_err(), "serial 0");
    assert!(subsection(RANGE, &numbers(&[3, 2])).is_err());
    assert!(subsection(RANGE, &numbers(&[1, 2, 3])).is_err());
    assert!(subsection(LIST, b"").is_err());
    assert!(subsection(BITMAP, &[&numbers(&[0])[..], &[0, 0, 0, 1, 1]].concat()).is_err(), "serial 0");
    assert!(subsection(BITMAP, &[&numbers(&[u64::MAX])[..], &[0, 0, 0, 1, 2]].concat()).is_err(), "past the end");
    assert!(subsection(KEY_IDS, &[0, 0, 0, 1, 7]).is_ok(), "never written here, and read by sshd");
    assert!(subsection(KEY_IDS, &[0, 0, 0, 1, 0]).is_err());
    assert!(with(SECTION_CERTIFICATES, &any_ca).is_err());
    assert!(with(SECTION_KEYS, &[0, 0, 0, 0]).is_err());
    assert!(with(SECTION_SHA256, &[0, 0, 0, 1, 1]).is_err());
    assert!(with(SECTION_SHA1, &[0, 0, 0, 1, 1]).is_err());
    let bytes = full().write(65_536).expect("small");
    for end in 0..bytes.len() {
        let whole = Krl::parse(&bytes[..end]);
        assert!(whole.as_ref() != Ok(&full()), "cut at {end}");
    }
    assert!(Krl::parse(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn every_changed_byte_changes_the_list_or_breaks_it() {
    let bytes = full().write(65_536).expect("small");
    for i in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[i] ^= 1;
        assert_ne!(Krl::parse(&wrong).as_ref(), Ok(&full()), "byte {i}");
    }
}

fn any_krl() -> impl Strategy<Value = Krl> {
    let scope = || (0..3_u64).prop_map(|n| if n == 0 { ANY } else { ca(n) });
    let run = prop_oneof![(1..3_000_u64, 0..20_u64), (1..u64::MAX / 2, 0..90_000_u64)];
    let serials = prop::collection::vec((scope(), run), 0..200);
    let key_ids = prop::collection::vec((scope(), "[ -~]{1,40}"), 0..5);
    let keys = prop::collection::vec(10..20_u64, 0..3);
    let digests = prop::collection::vec(any::<[u8; 32]>(), 0..5);
    (any::<u64>(), serials, key_ids, keys, digests).prop_map(|(version, serials, key_ids, keys, digests)| {
        let mut krl = Krl::new(version, Time(version % 4_000_000_000));
        for (scope, (first, more)) in serials {
            krl.revoke_serials(scope, sample::serial(first), sample::serial(first + more));
        }
        key_ids.into_iter().for_each(|(scope, id)| krl.revoke_key_id(scope, id.parse().expect("printable")));
        keys.into_iter().for_each(|n| krl.revoke_key(sample::key(n).public().clone()));
        digests.into_iter().for_each(|digest| krl.revoke_sha256(Digest(digest)));
        krl
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn lists_read_what_they_write(krl in any_krl()) {
        let bytes = krl.write(KRL_BYTES_MAX).expect("small");
        prop_assert_eq!(Krl::parse(&bytes), Ok(krl));
    }

    #[test]
    fn junk_does_not_break_the_reader(junk in prop::collection::vec(any::<u8>(), 0..300), at in 0..200_usize) {
        let _ = Krl::parse(&junk);
        let mut bytes = full().write(65_536).expect("small");
        let end = (at + junk.len()).min(bytes.len());
        if at < end {
            bytes.splice(at..end, junk);
        }
        let _ = Krl::parse(&bytes);
    }
}
