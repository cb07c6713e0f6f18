//! Targets for what cosigners are sent, and for evidence.

use keys::log::evidence::Evidence;
use keys::log::witness::AddCheckpoint;

use crate::example;

/// A request to cosign has one spelling, and is judged without a panic.
pub fn add_checkpoint(data: &[u8]) {
    let Ok(request) = AddCheckpoint::parse(data) else { return };
    assert_eq!(request.to_bytes(), data);
    let Ok(checkpoint) = request.checkpoint() else { return };
    // Nobody's key is trusted here.
    assert!(request.check(&[], Some(&checkpoint)).is_err());
}

/// A file of evidence has one spelling, and shows nothing without the log's key.
pub fn evidence(data: &[u8]) {
    let Ok(evidence) = Evidence::parse(data) else { return };
    assert_eq!(evidence.to_text().as_bytes(), data);
    assert!(evidence.check(&[]).is_err());
}

/// What to begin with.
pub mod seeds {
    use keys::digest::Digest;
    use keys::log::evidence::Case;
    use keys::log::note::Note;
    use keys::time::{Span, Time};

    use super::*;

    fn note() -> Note {
        Note::parse(&example::file("keyring/log/checkpoint")).expect("a note")
    }

    /// Of [`super::add_checkpoint`].
    pub fn add_checkpoint() -> Vec<Vec<u8>> {
        let proof = vec![Digest::of(b"x"), Digest::of(b"y")];
        let one = AddCheckpoint { old_size: 0, proof: Vec::new(), note: note() };
        vec![one.to_bytes(), AddCheckpoint { old_size: 7, proof, ..one }.to_bytes()]
    }

    /// Of [`super::evidence`].
    pub fn evidence() -> Vec<Vec<u8>> {
        let noted = Time(1_795_244_400);
        let fork = Evidence {
            case: Case::Fork,
            noted,
            freeze: None,
            proof: Some((Digest::of(b"x"), vec![Digest::of(b"y")])),
            seen: Some(note()),
            shown: note(),
        };
        let freeze = Evidence {
            case: Case::Freeze,
            freeze: Some((Span::days(7), Vec::new())),
            proof: None,
            seen: None,
            ..fork.clone()
        };
        let rollback = Evidence { case: Case::Rollback, proof: None, ..fork.clone() };
        [fork, rollback, freeze].iter().map(|e| e.to_text().into_bytes()).collect()
    }
}
