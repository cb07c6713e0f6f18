//! What a KRL revokes, entry by entry, and how two lists differ.
//!
//! Lists that were written by different hands are compared by what they mean: a certificate that one revokes by its own CA
//! and the other for every CA, or a key here and its hash there, is no difference.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use super::key::fingerprint;
use super::krl::{Krl, sha1};
use super::serials::SerialSet;
use crate::digest::Digest;
use crate::text::shown;

/// One thing that a KRL revokes. A CA is named by its fingerprint; `None` is any CA.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KrlEntry {
    /// SSH certificates with the serials from `first` to `last`.
    Serials {
        /// Whose.
        ca: Option<String>,
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// SSH certificates with a key id.
    KeyId {
        /// Whose.
        ca: Option<String>,
        /// The key id: somebody else's text, made safe to show.
        key_id: String,
    },
    /// A key, by its fingerprint.
    Key(String),
}

impl fmt::Display for KrlEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |ca: &Option<String>| ca.as_ref().map_or_else(|| "any CA".to_owned(), |ca| format!("the CA {ca}"));
        match self {
            Self::Serials { ca, first, last } if first == last => write!(f, "serial {first} of {}", of(ca)),
            Self::Serials { ca, first, last } => write!(f, "serials {first} to {last} of {}", of(ca)),
            Self::KeyId { ca, key_id } => write!(f, "the key id '{key_id}' of {}", of(ca)),
            Self::Key(fingerprint) => write!(f, "the key {fingerprint}"),
        }
    }
}

impl Krl {
    /// All that it revokes.
    pub fn entries(&self) -> Vec<KrlEntry> {
        self.beyond(&Self::new(0, self.generated()))
    }

    /// What it revokes and `other` does not.
    pub fn beyond(&self, other: &Self) -> Vec<KrlEntry> {
        let (mut found, nothing) = (Vec::new(), SerialSet::default());
        for (scope, revoked) in &self.certificates {
            let ca = (!scope.is_empty()).then(|| fingerprint(scope));
            let there: Vec<_> = [&scope[..], b""].iter().filter_map(|scope| other.certificates.get(*scope)).collect();
            let serials = there.iter().fold(revoked.serials.minus(&nothing), |left, r| left.minus(&r.serials));
            found.extend(serials.runs().map(|(first, last)| KrlEntry::Serials { ca: ca.clone(), first, last }));
            let key_ids = revoked.key_ids.iter().filter(|id| !there.iter().any(|r| r.key_ids.contains(*id)));
            found.extend(
                key_ids.map(|id| KrlEntry::KeyId {
                    ca: ca.clone(),
                    key_id: shown(&String::from_utf8_lossy(id)).to_string(),
                }),
            );
        }
        let here: BTreeSet<Digest> =
            other.keys.iter().map(|blob| Digest::of(blob)).chain(other.sha256.clone()).collect();
        let keys = self.keys.iter().filter(|blob| !other.is_blob_revoked(blob)).map(|blob| Digest::of(blob));
        let digests: BTreeSet<Digest> = keys.chain(self.sha256.difference(&here).copied()).collect();
        found.extend(digests.iter().map(|digest| KrlEntry::Key(format!("SHA256:{}", BASE64.encode(digest.0)))));
        let short: BTreeSet<[u8; 20]> = other.keys.iter().filter_map(|blob| sha1(blob)).collect();
        let short = self.sha1.iter().filter(|hash| !short.contains(*hash) && !other.sha1.contains(*hash));
        found.extend(short.map(|hash| KrlEntry::Key(format!("SHA1:{}", BASE64.encode(hash)))));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::krl::KrlScope;
    use super::super::sample;
    use super::*;
    use crate::time::Time;

    fn krl(change: impl FnOnce(&mut Krl)) -> Krl {
        let mut krl = Krl::new(1, Time(5));
        change(&mut krl);
        krl
    }

    fn texts(entries: &[KrlEntry]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_are_told_in_words() {
        let (ca, any) = (KrlScope::Ca(sample::key(1).public().clone()), KrlScope::AnyCa);
        let name = sample::key(1).public().fingerprint();
        let before = krl(|k| k.revoke_serials(ca.clone(), sample::serial(4), sample::serial(6)));
        let after = krl(|k| {
            k.revoke_serials(ca.clone(), sample::serial(1), sample::serial(9));
            k.revoke_key_id(any.clone(), "alice".parse().expect("printable"));
            k.revoke_key(sample::key(3).public().clone());
        });
        let key = sample::key(3).public().fingerprint();
        let expected = [
            "the key id 'alice' of any CA".to_owned(),
            format!("serials 1 to 3 of the CA {name}"),
            format!("serials 7 to 9 of the CA {name}"),
            format!("the key {key}"),
        ];
        assert_eq!(texts(&after.beyond(&before)), expected);
        assert_eq!(before.beyond(&after), []);
        assert_eq!(after.entries().len(), 3);
        let one = krl(|k| k.revoke_serials(any.clone(), sample::serial(5), sample::serial(5)));
        assert_eq!(texts(&one.entries()), ["serial 5 of any CA"]);
    }

    #[test]
    fn the_same_said_otherwise_is_no_difference() {
        let (ca, any) = (KrlScope::Ca(sample::key(1).public().clone()), KrlScope::AnyCa);
        let narrow = krl(|k| {
            k.revoke_serials(ca.clone(), sample::serial(5), sample::serial(5));
            k.revoke_key(sample::key(3).public().clone());
        });
        let wide = krl(|k| {
            k.revoke_serials(any.clone(), sample::serial(5), sample::serial(5));
            k.revoke_sha256(sample::key(3).public().sha256());
        });
        assert_eq!(narrow.beyond(&wide), []);
        assert_eq!(texts(&wide.beyond(&narrow)), ["serial 5 of any CA"], "those of other CAs");
        let mut short = krl(|_| ());
        short.sha1.extend(sha1(sample::key(3).public().blob()));
        assert_eq!(short.beyond(&narrow), []);
        assert_eq!(narrow.beyond(&short).len(), 1, "the serial");
        assert_eq!(short.beyond(&wide).len(), 1, "of a hash nobody can tell the other");
    }
}
