//! What a machine keeps when it is shown a log that cannot be right: a file that a third person can check with nothing but
//! the log's verifier key. Pure; noticing and keeping are the shell's.
//!
//! ```text
//! keys/evidence/v1
//! case fork
//! noted 2026-11-21T07:00:00Z
//! root Uqzw4QyVNuFTcbpbd2oUhsZPsXWsm+EUa/R8Nd0ytz4=
//! proof PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
//! seen
//! | cdn.example/keys/1
//! | 300
//! | urZg8LfJo6GnufhEDmidharB29pnexsx4oUacnvNa6Y=
//! |
//! | — cdn.example/keys/1 P/L3FOhs…
//! shown
//! | cdn.example/keys/1
//! | 302
//! …
//! ```
//! Lines in this order: `case`, `noted`; for a freeze `max-age` and a `cosigner` line for each vkey that was counted; for a fork
//! between two sizes `root`, which the larger tree has at the smaller size, and its consistency `proof`; the notes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;
use crate::limits::{CONSISTENCY_HASHES_MAX, COSIGNERS_MAX, EVIDENCE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::cosign::CosignerKey;
use crate::log::merkle::verify_consistency;
use crate::log::note::{Note, VerifierKey};
use crate::time::{Span, Time};
use crate::words::words;

const HEADER: &str = "keys/evidence/v1";

words! {
    /// What is wrong with a log.
    Case, "a case":
    /// Two pasts.
    Fork = "fork",
    /// Shorter than it was.
    Rollback = "rollback",
    /// Nothing newer for too long.
    Freeze = "freeze",
}

/// One case, with what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Which.
    pub case: Case,
    /// When it was noticed, by the clock of whoever noticed it.
    pub noted: Time,
    /// For a freeze: what the policy allows, and whose cosignatures were counted.
    pub freeze: Option<(Span, Vec<CosignerKey>)>,
    /// For a fork between two sizes: the root that the larger tree has at the smaller size, and the proof of it.
    pub proof: Option<(Digest, Vec<Digest>)>,
    /// What was accepted before.
    pub seen: Option<Note>,
    /// What was shown then.
    pub shown: Note,
}

/// What a file comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// What follows from the signatures, whoever brings the file.
    pub proven: Vec<String>,
    /// What is the word of whoever brings it, or has another explanation.
    pub not_proven: Vec<String>,
}

impl Evidence {
    /// Writes the file.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\ncase {}\nnoted {}\n", self.case, self.noted);
        if let Some((max_age, cosigners)) = &self.freeze {
            text.push_str(&format!("max-age {max_age}\n"));
            cosigners.iter().for_each(|key| text.push_str(&format!("cosigner {key}\n")));
        }
        if let Some((root, proof)) = &self.proof {
            text.push_str(&format!("root {}\n", BASE64.encode(root.0)));
            proof.iter().for_each(|hash| text.push_str(&format!("proof {}\n", BASE64.encode(hash.0))));
        }
        for (title, note) in self.seen.iter().map(|n| ("seen", n)).chain([("shown", &self.shown)]) {
            text.push_str(&format!("{title}\n"));
            let note = String::from_utf8_lossy(&note.to_bytes()).into_owned();
            for line in note.split_terminator('\n') {
                text.push_str(&if line.is_empty() { "|\n".to_owned() } else { format!("| {line}\n") });
            }
        }
        text
    }

    /// Reads the file; for any other spelling, in words, why not.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err("it is too large");
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
        let mut lines = text.strip_suffix('\n').ok_or("it does not end with a line feed")?.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err("it does not begin with keys/evidence/v1");
        }
        let case = lines.next().and_then(|l| l.strip_prefix("case ")?.parse().ok()).ok_or("it names no case")?;
        let noted = lines.next().and_then(|l| Time::parse(l.strip_prefix("noted ")?)).ok_or("it names no time")?;
        let mut freeze = None;
        if let Some(line) = lines.next_if(|l| l.starts_with("max-age ")) {
            let max_age = line.strip_prefix("max-age ").and_then(Span::parse).ok_or("max-age is no length of time")?;
            let mut cosigners = Vec::new();
            while let Some(line) = lines.next_if(|l| l.starts_with("cosigner ")) {
                let key = line.strip_prefix("cosigner ").and_then(|k| CosignerKey::parse(k).ok());
                cosigners.push(key.ok_or("a cosigner has no vkey")?);
            }
            freeze = Some((max_age, cosigners)).filter(|(_, keys)| keys.len() <= COSIGNERS_MAX);
        }
        let hash = |text: Option<&str>| {
            let bytes: Option<[u8; 32]> = text.and_then(|t| BASE64.decode(t).ok()?.try_into().ok());
            bytes.map(Digest).ok_or("a hash is none")
        };
        let mut proof = None;
        if let Some(line) = lines.next_if(|l| l.starts_with("root ")) {
            let root = hash(line.strip_prefix("root "))?;
            let mut hashes = Vec::new();
            while let Some(line) = lines.next_if(|l| l.starts_with("proof ")) {
                hashes.push(hash(line.strip_prefix("proof "))?);
            }
            proof = Some((root, hashes)).filter(|(_, hashes)| hashes.len() <= CONSISTENCY_HASHES_MAX);
        }
        let mut note = |title: &str| {
            lines.next_if(|l| *l == title)?;
            let mut text = String::new();
            while let Some(line) = lines.next_if(|l| *l == "|" || l.starts_with("| ")) {
                text.push_str(line.strip_prefix("| ").unwrap_or_default());
                text.push('\n');
            }
            Note::parse(text.as_bytes()).ok()
        };
        let (seen, shown) = (note("seen"), note("shown").ok_or("what was shown is not there")?);
        let parsed = Self { case, noted, freeze, proof, seen, shown };
        if parsed.to_text().as_bytes() == bytes { Ok(parsed) } else { Err("it has another spelling") }
    }

    /// What tells one case from another: the same log, shown again, is not another case.
    pub fn id(&self) -> Digest {
        let seen = self.seen.as_ref().map(|n| n.text.as_str()).unwrap_or_default();
        Digest::of(format!("{}\n{seen}\n{}", self.case, self.shown.text).as_bytes())
    }

    /// Checks what the file shows, for a log with these keys.
    ///
    /// # Errors
    /// Why it shows nothing.
    pub fn check(&self, keys: &[VerifierKey]) -> Result<Findings, String> {
        let head = |note: &Note, which: &str| {
            if !keys.iter().any(|key| note.is_signed_by(key)) {
                return Err(format!("what was {which} is not signed by the log's key"));
            }
            Checkpoint::parse(&note.text).ok_or_else(|| format!("what was {which} is no checkpoint"))
        };
        let shown = head(&self.shown, "shown")?;
        let seen = self.seen.as_ref().map(|note| head(note, "seen")).transpose()?;
        if seen.as_ref().is_some_and(|s| s.origin != shown.origin) {
            return Err("the two heads are of different logs".to_owned());
        }
        match (self.case, seen) {
            (Case::Fork, Some(seen)) => self.check_fork(&seen, &shown),
            (Case::Rollback, Some(seen)) => Self::check_rollback(&seen, &shown, self.noted),
            (Case::Freeze, None) => self.check_freeze(&shown),
            (Case::Fork | Case::Rollback, None) => Err("what was seen before is not there".to_owned()),
            (Case::Freeze, Some(_)) => Err("a freeze has nothing that was seen before".to_owned()),
        }
    }

    fn check_fork(&self, seen: &Checkpoint, shown: &Checkpoint) -> Result<Findings, String> {
        let (small, large) = if seen.size <= shown.size { (seen, shown) } else { (shown, seen) };
        let forked = if small.size == large.size {
            small.root != large.root
        } else {
            let (root, proof) = self.proof.as_ref().ok_or("there is no proof of what the larger tree began with")?;
            if !verify_consistency(small.size, root, large.size, &large.root, proof) {
                return Err("the proof does not lead to the larger tree's root".to_owned());
            }
            *root != small.root
        };
        if !forked {
            return Err("the two heads agree: there is no fork".to_owned());
        }
        Ok(Findings {
            proven: vec![
                format!("the log's key has signed two pasts: of {} entries, and of {}", small.size, large.size),
                format!("they differ within the first {} entries", small.size),
            ],
            not_proven: vec![
                "who did it: whoever has the log's key, or restored an old copy of the keyring and went on from it"
                    .to_owned(),
            ],
        })
    }

    fn check_rollback(seen: &Checkpoint, shown: &Checkpoint, noted: Time) -> Result<Findings, String> {
        if shown.size >= seen.size {
            return Err("what was shown is not shorter than what was seen".to_owned());
        }
        Ok(Findings {
            proven: vec![format!("the log's key has signed {} entries, and {}", seen.size, shown.size)],
            not_proven: vec![
                format!(
                    "that {} entries were shown as the newest at {noted}: that is the word of whoever brings this",
                    shown.size
                ),
                "intent: a mirror that is behind looks the same".to_owned(),
            ],
        })
    }

    fn check_freeze(&self, shown: &Checkpoint) -> Result<Findings, String> {
        let (max_age, cosigners) = self.freeze.as_ref().ok_or("a freeze needs max-age and cosigners")?;
        let times: Vec<Time> = cosigners.iter().filter_map(|key| Some(key.newest(&self.shown)?.0)).collect();
        let newest = times.iter().max().ok_or("none of the cosigners that it names has signed")?;
        let age = self.noted.since(*newest);
        if age <= *max_age {
            return Err(format!("it was cosigned at {newest}, which is not longer ago than {max_age}"));
        }
        Ok(Findings {
            proven: vec![format!(
                "{} cosigners that this file names have signed {} entries, the last of them at {newest}",
                times.len(),
                shown.size
            )],
            not_proven: vec![
                format!("that nothing newer was to be had at {}: that is the word of whoever brings this", self.noted),
                "that these are the policy's cosigners: compare their vkeys".to_owned(),
                "intent: cosigners that are away, or a clock that is ahead, look the same".to_owned(),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::log::cosign::CosignerSecret;
    use crate::log::merkle::{Peaks, leaf, node};
    use crate::log::note::SignerKey;

    fn key() -> SignerKey {
        SignerKey::generate("cdn.example/keys/1", &mut StdRng::from_seed([7; 32]))
    }

    fn signed(size: u64, root: Digest) -> Note {
        let text = Checkpoint { origin: "cdn.example/keys/1".into(), size, root }.to_text();
        Note { signatures: vec![key().sign(&text)], text }
    }

    fn tree(leaves: &[&[u8]]) -> (u64, Digest) {
        let mut peaks = Peaks::default();
        leaves.iter().for_each(|l| peaks.push(leaf(l)));
        (peaks.size(), peaks.root())
    }

    fn note(leaves: &[&[u8]]) -> Note {
        let (size, root) = tree(leaves);
        signed(size, root)
    }

    fn all() -> Vec<Evidence> {
        let noted = Time(1_795_244_400);
        let plain = |case, seen, shown| Evidence { case, noted, freeze: None, proof: None, seen, shown };
        let same = plain(Case::Fork, Some(note(&[b"a", b"b"])), note(&[b"a", b"x"]));
        // From 2 to 3 leaves the proof is the third leaf.
        let grown = Evidence {
            proof: Some((tree(&[b"a", b"x"]).1, vec![leaf(b"c")])),
            ..plain(Case::Fork, Some(note(&[b"a", b"b"])), note(&[b"a", b"x", b"c"]))
        };
        let rollback = plain(Case::Rollback, Some(note(&[b"a", b"b"])), note(&[b"a"]));
        let cosigner = CosignerSecret::generate("w1", &mut StdRng::from_seed([1; 32]));
        let mut shown = note(&[b"a"]);
        shown.signatures.push(cosigner.cosign(&shown.text, noted.minus(Span::days(8))));
        let freeze =
            Evidence { freeze: Some((Span::days(7), vec![cosigner.verifier()])), ..plain(Case::Freeze, None, shown) };
        vec![same, grown, rollback, freeze]
    }

    #[test]
    fn a_file_has_one_spelling_and_shows_its_case() {
        assert_eq!(node(&leaf(b"a"), &leaf(b"x")), tree(&[b"a", b"x"]).1);
        for evidence in all() {
            let text = evidence.to_text();
            assert_eq!(Evidence::parse(text.as_bytes()), Ok(evidence.clone()), "{text}");
            let findings = evidence.check(&[key().verifier()]).unwrap();
            assert!(!findings.proven.is_empty() && !findings.not_proven.is_empty());
            for (from, to) in
                [("noted ", "noted  "), ("|\n", "| \n"), ("shown\n", "shown \n"), ("\n", "\r\n"), ("v1", "v2")]
            {
                assert!(Evidence::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from}: {text}");
            }
            assert!(Evidence::parse((text.clone() + "\n").as_bytes()).is_err());
            assert!(Evidence::parse(text.trim_end().as_bytes()).is_err());
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        for evidence in all() {
            let text = evidence.to_text().into_bytes();
            let header = text.windows(6).position(|w| w == b"\nnoted").unwrap() + 28;
            for i in header..text.len() {
                let mut wrong = text.clone();
                wrong[i] ^= 1;
                let accepted = Evidence::parse(&wrong).is_ok_and(|e| e.check(&[key().verifier()]).is_ok());
                // How long a policy allows is a claim, and told as one.
                let claim = evidence.case == Case::Freeze && (header..header + 13).contains(&i);
                assert!(!accepted || claim, "{} byte {i}", evidence.case);
            }
        }
    }

    #[test]
    fn what_shows_nothing_is_refused() {
        let keys = [key().verifier()];
        let stranger = SignerKey::generate("cdn.example/keys/1", &mut StdRng::from_seed([8; 32])).verifier();
        let [same, grown, rollback, freeze] = all().try_into().unwrap();
        assert!(same.check(&[stranger]).is_err_and(|e| e.contains("not signed by the log's key")));
        let agreeing = Evidence { shown: note(&[b"a", b"b"]), ..same.clone() };
        assert!(agreeing.check(&keys).is_err_and(|e| e.contains("no fork")));
        // A log that has grown as it should is no fork, whatever is claimed about its beginning.
        let honest = Evidence { shown: note(&[b"a", b"b", b"c"]), ..grown.clone() };
        assert!(honest.check(&keys).is_err_and(|e| e.contains("does not lead")));
        let honest = Evidence { proof: Some((tree(&[b"a", b"b"]).1, vec![leaf(b"c")])), ..honest };
        assert!(honest.check(&keys).is_err_and(|e| e.contains("no fork")));
        assert!(Evidence { proof: None, ..grown }.check(&keys).is_err());
        let longer = Evidence { shown: note(&[b"a", b"b", b"c"]), ..rollback };
        assert!(longer.check(&keys).is_err_and(|e| e.contains("not shorter")));
        let soon = Evidence { noted: freeze.noted.minus(Span::days(2)), ..freeze.clone() };
        assert!(soon.check(&keys).is_err_and(|e| e.contains("not longer ago")));
        assert!(Evidence { case: Case::Fork, ..freeze }.check(&keys).is_err());
    }
}
