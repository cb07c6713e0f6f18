//! C2SP tlog-witness, `add-checkpoint`: what is sent, and what a witness has to look at before it cosigns. Pure; keeping
//! the record and answering by HTTP is the shell's (`crate::witness`).
//!
//! ```text
//! old 300
//! PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
//!
//! cdn.example/keys/1
//! 302
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — cdn.example/keys/1 Az3grlgtzPICa5OS…
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;
use crate::limits::CONSISTENCY_HASHES_MAX;
use crate::log::checkpoint::Checkpoint;
use crate::log::merkle::{empty_root, verify_consistency};
use crate::log::note::{Note, VerifierKey};

/// The body of a request to cosign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness cosigned last, as the sender knows it.
    pub old_size: u64,
    /// The consistency proof from there.
    pub proof: Vec<Digest>,
    /// The checkpoint.
    pub note: Note,
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not a request, or its sizes run backwards (400).
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// The log is not one that is watched (404).
    #[error("this witness does not watch a log of that name")]
    Unknown,
    /// No key that is trusted for the log signed it, or one did not sign what it should have (403).
    #[error("the checkpoint is not signed by a key that is trusted for this log")]
    Unsigned,
    /// The witness has cosigned another size last (409).
    #[error("the size that was cosigned last is {0}")]
    Conflict(u64),
    /// The tree is not one that has grown from the one before (422).
    #[error("the checkpoint is not consistent with what was cosigned before: {0}")]
    Inconsistent(&'static str),
}

impl AddCheckpoint {
    /// Writes the body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            text.push_str(&BASE64.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        [text.into_bytes(), self.note.to_bytes()].concat()
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], for any other spelling, too.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Malformed("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(Refusal::Malformed("it has no empty line"))?;
        let mut lines = head.split('\n');
        let old =
            lines.next().and_then(|l| l.strip_prefix("old ")).ok_or(Refusal::Malformed("it names no old size"))?;
        let old_size: u64 = old.parse().map_err(|_| Refusal::Malformed("the old size is no number"))?;
        let proof = lines
            .map(|line| Some(Digest(BASE64.decode(line).ok()?.try_into().ok()?)))
            .collect::<Option<Vec<Digest>>>()
            .ok_or(Refusal::Malformed("a line of the proof is no hash in base64"))?;
        if proof.len() > CONSISTENCY_HASHES_MAX {
            return Err(Refusal::Malformed("the proof is too long"));
        }
        let note = Note::parse(note.as_bytes()).map_err(|_| Refusal::Malformed("the checkpoint is no signed note"))?;
        let parsed = Self { old_size, proof, note };
        if parsed.to_bytes() == bytes { Ok(parsed) } else { Err(Refusal::Malformed("it has another spelling")) }
    }

    /// The log's name, which says which keys and which record are to be asked for.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], if the note's text is no checkpoint.
    pub fn checkpoint(&self) -> Result<Checkpoint, Refusal> {
        Checkpoint::parse_foreign(&self.note.text).ok_or(Refusal::Malformed("the note is no checkpoint"))
    }

    /// Checks everything that the specification asks of a witness, in its order. `keys` are those trusted for the log;
    /// `last` is what was cosigned last. What passes is to be recorded before it is cosigned.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, keys: &[VerifierKey], last: Option<&Checkpoint>) -> Result<Checkpoint, Refusal> {
        let new = self.checkpoint()?;
        let claimed = |key: &VerifierKey| {
            self.note.signatures.iter().any(|l| {
                l.name == key.name() && l.key_hash == key.hash() && !key.verify(self.note.text.as_bytes(), &l.signature)
            })
        };
        if keys.iter().any(claimed) || !keys.iter().any(|key| self.note.is_signed_by(key)) {
            return Err(Refusal::Unsigned);
        }
        if self.old_size > new.size {
            return Err(Refusal::Malformed("the old size is larger than the checkpoint's"));
        }
        let last_size = last.map_or(0, |l| l.size);
        if self.old_size != last_size {
            return Err(Refusal::Conflict(last_size));
        }
        if new.size == 0 && new.root != empty_root() {
            return Err(Refusal::Inconsistent("an empty log has another root"));
        }
        let Some(last) = last.filter(|l| l.size > 0) else {
            let nothing = self.proof.is_empty();
            return if nothing { Ok(new) } else { Err(Refusal::Inconsistent("from size 0 there is nothing to prove")) };
        };
        if last.size == new.size && last.root != new.root {
            return Err(Refusal::Inconsistent("another root was cosigned for this size"));
        }
        if !verify_consistency(last.size, &last.root, new.size, &new.root, &self.proof) {
            return Err(Refusal::Inconsistent("the consistency proof does not hold"));
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::log::merkle::{Hashes, consistency, leaf, node, root};
    use crate::log::note::SignerKey;

    struct Leaves(u8);

    impl Hashes for Leaves {
        type Error = Infallible;
        fn hash(&self, height: u32, index: u64) -> Result<Digest, Infallible> {
            if height == 0 {
                return Ok(leaf(&[self.0, u8::try_from(index).expect("small")]));
            }
            let (Ok(left), Ok(right)) = (self.hash(height - 1, index * 2), self.hash(height - 1, index * 2 + 1));
            Ok(node(&left, &right))
        }
    }

    fn key() -> SignerKey {
        SignerKey::generate("other.example/log", &mut StdRng::from_seed([3; 32]))
    }

    fn head(tree: u8, size: u64) -> Checkpoint {
        let Ok(root) = root(&Leaves(tree), size);
        Checkpoint { origin: "other.example/log".into(), size, root }
    }

    fn request(tree: u8, old_size: u64, size: u64) -> AddCheckpoint {
        let Ok(proof) = consistency(&Leaves(tree), old_size.min(size), size);
        let text = head(tree, size).to_text();
        AddCheckpoint { old_size, proof, note: Note { signatures: vec![key().sign(&text)], text } }
    }

    #[test]
    fn a_request_has_one_spelling() {
        let request = request(1, 5, 9);
        assert!(!request.proof.is_empty());
        let bytes = request.to_bytes();
        assert_eq!(AddCheckpoint::parse(&bytes), Ok(request));
        let text = String::from_utf8(bytes).unwrap();
        for wrong in [
            text.replacen("old 5", "old 05", 1),
            text.replacen("old 5", "old +5", 1),
            text.replacen("old 5", "Old 5", 1),
            text.replacen("old 5", "old 5\r", 1),
            text.replacen("old 5\n", "old 5\nAAAA\n", 1),
            text.replacen("\n\n", "\n", 1),
            text.clone() + "x",
            format!(
                "old 5\n{}\n{}",
                format!("{}\n", "A".repeat(43) + "=").repeat(64),
                text.split_once("\n\n").unwrap().1
            ),
        ] {
            assert!(matches!(AddCheckpoint::parse(wrong.as_bytes()), Err(Refusal::Malformed(_))), "{wrong}");
        }
    }

    #[test]
    fn what_has_grown_is_taken_and_nothing_else() {
        let keys = [key().verifier()];
        let five = head(1, 5);
        assert_eq!(request(1, 0, 5).check(&keys, None), Ok(five.clone()));
        assert_eq!(request(1, 5, 9).check(&keys, Some(&five)), Ok(head(1, 9)));
        assert_eq!(request(1, 5, 5).check(&keys, Some(&five)), Ok(five.clone()), "the same again: a heartbeat");
        assert_eq!(request(1, 0, 0).check(&keys, None), Ok(head(1, 0)));

        assert_eq!(request(1, 4, 9).check(&keys, Some(&five)), Err(Refusal::Conflict(5)));
        assert_eq!(request(1, 0, 4).check(&keys, Some(&five)), Err(Refusal::Conflict(5)), "a rollback");
        assert_eq!(request(1, 3, 9).check(&keys, None), Err(Refusal::Conflict(0)));
        assert!(matches!(request(1, 9, 5).check(&keys, Some(&five)), Err(Refusal::Malformed(_))));
        for (what, forked) in [("grown", request(2, 5, 9)), ("of one size", request(2, 5, 5))] {
            assert!(matches!(forked.check(&keys, Some(&five)), Err(Refusal::Inconsistent(_))), "a fork, {what}");
        }
        let padded = AddCheckpoint { proof: vec![Digest::of(b"x")], ..request(1, 0, 5) };
        assert!(matches!(padded.check(&keys, None), Err(Refusal::Inconsistent(_))));
        let text = Checkpoint { size: 0, ..head(1, 5) }.to_text();
        let hollow =
            AddCheckpoint { old_size: 0, proof: Vec::new(), note: Note { signatures: vec![key().sign(&text)], text } };
        assert!(matches!(hollow.check(&keys, None), Err(Refusal::Inconsistent(_))));
    }

    #[test]
    fn only_the_logs_own_signature_opens_the_door() {
        let keys = [key().verifier()];
        let good = request(1, 0, 5);
        assert_eq!(good.check(&[], None), Err(Refusal::Unsigned));
        let stranger = SignerKey::generate("other.example/log", &mut StdRng::from_seed([4; 32]));
        let mut other = good.clone();
        other.note.signatures = vec![stranger.sign(&other.note.text)];
        assert_eq!(other.check(&keys, None), Err(Refusal::Unsigned));
        // A stranger's line beside the log's is not looked at; a wrong line in the log's name is.
        other.note.signatures.extend(good.note.signatures.clone());
        assert!(other.check(&keys, None).is_ok());
        let mut wrong = good.note.signatures[0].clone();
        wrong.signature[9] ^= 1;
        other.note.signatures.push(wrong);
        assert_eq!(other.check(&keys, None), Err(Refusal::Unsigned));
    }

    #[test]
    fn extension_lines_of_other_logs_are_signed_along() {
        let text = head(1, 5).to_text() + "an extension\n";
        let note = Note { signatures: vec![key().sign(&text)], text };
        let request = AddCheckpoint { old_size: 0, proof: Vec::new(), note };
        assert_eq!(AddCheckpoint::parse(&request.to_bytes()), Ok(request.clone()));
        assert_eq!(request.check(&[key().verifier()], None), Ok(head(1, 5)));
    }
}
