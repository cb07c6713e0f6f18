//! `[[cosigner]]` and `[publish]` of policy/fleet.toml: who has to cosign a head of the log before it counts as published,
//! and how old that may grow.
//!
//! ```toml
//! [[cosigner]]
//! vkey = "witness.example/w1+8d66cf3f+BLq…"
//! kind = "witness"
//! url = "https://witness.example"
//!
//! [publish]
//! need = { witness = 1, auditor = 1 }
//! max_age = "7d"
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::PolicyError;
use crate::limits::{COSIGNERS_MAX, URL_BYTES_MAX};
use crate::log::cosign::CosignerKey;
use crate::log::note::Note;
use crate::time::{Span, Time};
use crate::words::words;

/// The age up to which a published head is as it should be.
pub const FRESH: Span = Span::days(1);
/// The age beyond which it is stale, where the policy does not say.
const MAX_AGE: Span = Span::days(7);

words! {
    /// What a cosigner says by its signature.
    CosignerKind, "a kind of cosigner":
    /// The log has only grown.
    Witness = "witness",
    /// And all of it was replayed under its policy.
    Auditor = "auditor",
}

/// Somebody whose cosignatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigner {
    /// Its key; the name is in it.
    pub key: CosignerKey,
    /// What it says.
    pub kind: CosignerKind,
    /// Where it is asked by C2SP tlog-witness; none: it leaves its cosignatures as files.
    pub url: Option<String>,
}

/// What it takes to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Those who are asked, in the order of the file.
    pub cosigners: Vec<Cosigner>,
    /// How many of each kind have to cosign.
    pub need: BTreeMap<CosignerKind, u32>,
    /// From what age on a published head is stale.
    pub max_age: Span,
}

/// What the cosignatures of a note come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cosigned {
    /// When each cosigner last cosigned it, by name.
    pub by: BTreeMap<String, (CosignerKind, Time)>,
    /// How many more of which kind it takes.
    pub missing: BTreeMap<CosignerKind, u32>,
    /// The time by which a whole quorum has cosigned it: the k-th newest of each kind, and of these the oldest. None as
    /// long as the quorum is not met.
    pub time: Option<Time>,
}

impl Cosigned {
    /// What is missing, in words: "1 witness and 2 auditors".
    pub fn missing_in_words(&self) -> String {
        let part = |(kind, n): (&CosignerKind, &u32)| match (kind, *n) {
            (CosignerKind::Witness, 1) => "1 witness".to_owned(),
            (CosignerKind::Witness, n) => format!("{n} witnesses"),
            (CosignerKind::Auditor, 1) => "1 auditor".to_owned(),
            (CosignerKind::Auditor, n) => format!("{n} auditors"),
        };
        self.missing.iter().map(part).collect::<Vec<_>>().join(" and ")
    }
}

/// How old what is published is, by the time at which a quorum of cosigners has called it the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Nobody cosigns; how old it is nobody can tell.
    Unwitnessed,
    /// As it should be.
    Fresh(Span),
    /// Older than a day.
    Ageing(Span),
    /// Older than the policy allows: new heads are withheld, or the cosigners are away.
    Stale(Span),
}

impl Freshness {
    /// What it is for a head that was cosigned at `cosigned`.
    pub fn of(cosigned: Time, now: Time, max_age: Span) -> Self {
        match now.since(cosigned) {
            age if age > max_age => Self::Stale(age),
            age if age > FRESH => Self::Ageing(age),
            age => Self::Fresh(age),
        }
    }

    /// One word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unwitnessed => "unwitnessed",
            Self::Fresh(_) => "fresh",
            Self::Ageing(_) => "ageing",
            Self::Stale(_) => "stale",
        }
    }
}

/// `[[cosigner]]`, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CosignerTable {
    vkey: String,
    kind: CosignerKind,
    url: Option<String>,
}

/// `[publish]`, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishTable {
    need: BTreeMap<CosignerKind, u32>,
    max_age: Option<Span>,
}

impl Publication {
    /// Checks both tables; none if there are none.
    pub(super) fn new(
        file: &str,
        cosigners: Vec<CosignerTable>,
        publish: Option<PublishTable>,
    ) -> Result<Option<Self>, PolicyError> {
        let meaning =
            |place: String, problem: String| Err(PolicyError::Meaning { file: file.to_owned(), place, problem });
        let in_publish = |problem: String| meaning("[publish]".to_owned(), problem);
        let Some(publish) = publish else {
            return match cosigners.len() {
                0 => Ok(None),
                n => in_publish(format!(
                    "is missing, and without it the {n} [[cosigner]] mean nothing; add: need = {{ {} = 1 }}",
                    cosigners.first().map_or(CosignerKind::Witness, |c| c.kind)
                )),
            };
        };
        if cosigners.len() > COSIGNERS_MAX {
            return meaning(
                "[[cosigner]]".to_owned(),
                format!("are {}; at most {COSIGNERS_MAX} fit a checkpoint", cosigners.len()),
            );
        }
        let mut checked: Vec<Cosigner> = Vec::new();
        for (i, table) in cosigners.into_iter().enumerate() {
            let place = format!("[[cosigner]] number {}", i + 1);
            let key = match CosignerKey::parse(&table.vkey) {
                Ok(key) => key,
                Err(e) => return meaning(place, format!("vkey {e}; 'keys log witness init' prints one")),
            };
            if let Some(url) = table.url.as_deref().filter(|url| !is_url(url)) {
                let shown = crate::text::shown(url);
                return meaning(
                    place,
                    format!("url = \"{shown}\" is not http:// or https://, a host and perhaps a path"),
                );
            }
            if checked.iter().any(|c| c.key.name() == key.name()) {
                return meaning(place, format!("the name {} is there twice", crate::text::shown(key.name())));
            }
            if let Some(other) = checked.iter().find(|c| c.key.raw() == key.raw()) {
                let other = crate::text::shown(other.key.name()).to_string();
                return meaning(place, format!("has the key of {other}; one key under two names would count twice"));
            }
            checked.push(Cosigner { key, kind: table.kind, url: table.url });
        }
        if publish.need.is_empty() {
            return in_publish(
                "need = {} would publish what nobody has cosigned; leave the table out instead".to_owned(),
            );
        }
        for (kind, n) in &publish.need {
            let there = checked.iter().filter(|c| c.kind == *kind).count();
            if *n == 0 {
                return in_publish(format!("need has {kind} = 0; leave the kind out instead"));
            }
            if usize::try_from(*n).unwrap_or(usize::MAX) > there {
                return in_publish(format!("needs {kind} = {n}, and there are {there} of that kind"));
            }
        }
        let max_age = publish.max_age.unwrap_or(MAX_AGE);
        if max_age < Span::hours(1) {
            return in_publish(
                "max_age is shorter than an hour, which is how often cosigners are asked again".to_owned(),
            );
        }
        Ok(Some(Self { cosigners: checked, need: publish.need, max_age }))
    }

    /// Judges the cosignatures of a note. A key counts once, whatever lines there are.
    pub fn judge(&self, note: &Note) -> Cosigned {
        let mut cosigned = Cosigned::default();
        for cosigner in &self.cosigners {
            if let Some((time, _)) = cosigner.key.newest(note) {
                cosigned.by.insert(cosigner.key.name().to_owned(), (cosigner.kind, time));
            }
        }
        let mut times = BTreeSet::new();
        for (kind, need) in &self.need {
            let mut own: Vec<Time> = cosigned.by.values().filter(|(k, _)| k == kind).map(|(_, t)| *t).collect();
            own.sort_unstable_by(|a, b| b.cmp(a));
            let need_count = usize::try_from(*need).unwrap_or(usize::MAX);
            match need_count.checked_sub(1).and_then(|last| own.get(last)) {
                Some(time) => drop(times.insert(*time)),
                None => {
                    let there = u32::try_from(own.len()).unwrap_or(u32::MAX);
                    cosigned.missing.insert(*kind, need.saturating_sub(there));
                }
            }
        }
        cosigned.time = times.first().copied().filter(|_| cosigned.missing.is_empty());
        cosigned
    }
}

/// Whether `url` is one that we would ask: no user, no query, nothing hidden.
fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:[]%".contains(c);
    url.len() <= URL_BYTES_MAX
        && rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/') && !r.ends_with('/') && r.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::log::cosign::CosignerSecret;

    fn secret(name: &str, seed: u8) -> CosignerSecret {
        CosignerSecret::generate(name, &mut StdRng::from_seed([seed; 32]))
    }

    fn cosigner(name: &str, seed: u8, kind: &str) -> String {
        format!("[[cosigner]]\nvkey = \"{}\"\nkind = \"{kind}\"\n", secret(name, seed).verifier())
    }

    fn read(text: &str) -> Result<Option<Publication>, String> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            cosigner: Vec<CosignerTable>,
            publish: Option<PublishTable>,
        }
        let file: File = super::super::toml("policy/fleet.toml", text).map_err(|e| e.to_string())?;
        Publication::new("policy/fleet.toml", file.cosigner, file.publish).map_err(|e| e.to_string())
    }

    fn three() -> Publication {
        let tables = cosigner("w1", 1, "witness") + &cosigner("w2", 2, "witness") + &cosigner("a1", 3, "auditor");
        read(&(tables + "[publish]\nneed = { witness = 2, auditor = 1 }")).unwrap().unwrap()
    }

    const TEXT: &str = "cdn.example/keys/1\n7\nurZg8LfJo6GnufhEDmidharB29pnexsx4oUacnvNa6Y=\n";

    fn note(lines: &[(&str, u8, u64)]) -> Note {
        let line = |(name, seed, time): &(&str, u8, u64)| secret(name, *seed).cosign(TEXT, Time(*time));
        Note { text: TEXT.into(), signatures: lines.iter().map(line).collect() }
    }

    #[test]
    fn a_quorum_is_of_distinct_keys_of_each_kind() {
        let policy = three();
        let whole = policy.judge(&note(&[("w1", 1, 50), ("w2", 2, 40), ("a1", 3, 45)]));
        assert_eq!((whole.time, whole.missing.is_empty()), (Some(Time(40)), true));
        let twice = policy.judge(&note(&[("w1", 1, 50), ("w1", 1, 51), ("a1", 3, 45)]));
        assert_eq!(twice.missing, [(CosignerKind::Witness, 1)].into(), "one witness twice counts once");
        assert_eq!((twice.time, twice.missing_in_words().as_str()), (None, "1 witness"));
        let posing = policy.judge(&note(&[("w1", 1, 50), ("w2", 1, 51), ("a1", 3, 45)]));
        assert_eq!(posing.missing, [(CosignerKind::Witness, 1)].into(), "w1 under w2's name");
        let other_kind = policy.judge(&note(&[("w1", 1, 50), ("w2", 2, 40), ("w2", 3, 45)]));
        assert_eq!(other_kind.missing_in_words(), "1 auditor");
        assert_eq!(policy.judge(&note(&[])).missing_in_words(), "2 witnesses and 1 auditor");
    }

    #[test]
    fn the_time_is_that_of_the_whole_quorum() {
        let tables = cosigner("w1", 1, "witness") + &cosigner("w2", 2, "witness") + &cosigner("w3", 3, "witness");
        let policy = read(&(tables + "[publish]\nneed = { witness = 2 }")).unwrap().unwrap();
        // One witness with a clock far ahead moves nothing, nor does one that is behind.
        let cosigned = policy.judge(&note(&[("w1", 1, 4_000_000_000), ("w2", 2, 100), ("w3", 3, 90)]));
        assert_eq!(cosigned.time, Some(Time(100)));
        let at = |seconds: u64| Freshness::of(Time(100), Time(100 + seconds), policy.max_age);
        assert_eq!(at(86_400), Freshness::Fresh(Span::days(1)));
        assert_eq!(at(86_401), Freshness::Ageing(Span(86_401)));
        assert_eq!(at(7 * 86_400), Freshness::Ageing(Span::days(7)));
        assert_eq!(at(7 * 86_400 + 1), Freshness::Stale(Span(7 * 86_400 + 1)));
        assert_eq!(Freshness::of(Time(100), Time(50), policy.max_age), Freshness::Fresh(Span(0)));
    }

    #[test]
    fn what_cannot_mean_what_it_says_is_refused() {
        let one = cosigner("w1", 1, "witness");
        let log = crate::log::note::SignerKey::generate("cdn.example/keys/1", &mut StdRng::from_seed([7; 32]));
        for (text, part) in [
            (one.clone(), "[publish]: is missing"),
            (one.clone() + "[publish]\nneed = {}", "leave the table out"),
            (one.clone() + "[publish]\nneed = { witness = 0 }", "witness = 0"),
            (one.clone() + "[publish]\nneed = { witness = 2 }", "there are 1 of that kind"),
            (one.clone() + "[publish]\nneed = { auditor = 1 }", "there are 0 of that kind"),
            (one.clone() + "[publish]\nneed = { witnes = 1 }", "did you mean 'witness'?"),
            (one.clone() + "[publish]\nneed = { witness = 1 }\nmax_age = \"5m\"", "shorter than an hour"),
            (one.clone() + &cosigner("w1", 2, "witness") + "[publish]\nneed = { witness = 1 }", "w1 is there twice"),
            (one.clone() + &cosigner("w2", 1, "auditor") + "[publish]\nneed = { witness = 1 }", "has the key of w1"),
            (one.replace("\"witness\"", "\"oracle\""), "'oracle' is not a kind of cosigner"),
            (one.clone() + "url = \"ftp://x\"\n[publish]\nneed = { witness = 1 }", "is not http:// or https://"),
            (one.clone() + "url = \"http://a@b\"\n[publish]\nneed = { witness = 1 }", "is not http:// or https://"),
            (one.clone() + "colour = 1\n[publish]\nneed = { witness = 1 }", "unknown field `colour`"),
            (
                format!(
                    "[[cosigner]]\nvkey = \"{}\"\nkind = \"witness\"\n[publish]\nneed = {{ witness = 1 }}",
                    log.verifier()
                ),
                "number 1: vkey is not a note key: not a key for Ed25519 cosignatures",
            ),
            ("[publish]\nneed = { witness = 1 }".to_owned(), "there are 0 of that kind"),
        ] {
            let message = read(&text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        let crowd: String = (0..16).map(|i| cosigner(&format!("w{i}"), i, "witness")).collect();
        assert!(read(&(crowd + "[publish]\nneed = { witness = 1 }")).unwrap_err().contains("at most 15"));
        assert_eq!(read(""), Ok(None));
    }
}
