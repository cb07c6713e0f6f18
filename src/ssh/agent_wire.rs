//! The messages of the ssh-agent protocol (draft-miller-ssh-agent, sections 3.4 to 3.6), without their length.

use super::key::SshPublicKey;
use super::wire::{Malformed, Put as _, Reader};

const FAILURE: u8 = 5;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_RESPONSE: u8 = 14;

/// What is wrong with an agent's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its answer is none of the agent protocol: {0}")]
pub struct AgentAnswerError(&'static str);

impl From<Malformed> for AgentAnswerError {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.0)
    }
}

/// The fields of a request for a signature over `message`, with no flags: for Ed25519 and ECDSA there are none.
pub fn agent_request(key: &SshPublicKey, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.blob().len() + message.len() + 12);
    out.put_string(key.blob());
    out.put_string(message);
    out.put_u32(0);
    out
}

/// The blobs of the keys in an answer, at most `max`.
///
/// # Errors
/// [`AgentAnswerError`].
pub fn agent_identities(answer: &[u8], max: usize) -> Result<Vec<Vec<u8>>, AgentAnswerError> {
    let mut reader = Reader::new(answer);
    match reader.u8()? {
        IDENTITIES_ANSWER => {}
        FAILURE => return Err(AgentAnswerError("it does not say which keys it has; is it locked?")),
        _ => return Err(AgentAnswerError("another answer than asked for")),
    }
    let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    if count > max {
        return Err(AgentAnswerError("it has too many keys"));
    }
    let mut blobs = Vec::new();
    for _ in 0..count {
        blobs.push(reader.string()?.to_vec());
        reader.string()?;
    }
    reader.finish()?;
    Ok(blobs)
}

/// The signature blob in an answer; none if the agent refuses.
///
/// # Errors
/// [`AgentAnswerError`].
pub fn agent_signature(answer: &[u8]) -> Result<Option<Vec<u8>>, AgentAnswerError> {
    let mut reader = Reader::new(answer);
    match reader.u8()? {
        SIGN_RESPONSE => {}
        FAILURE => return Ok(None),
        _ => return Err(AgentAnswerError("another answer than asked for")),
    }
    let signature = reader.string()?.to_vec();
    reader.finish()?;
    Ok(Some(signature))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn answers_are_read_and_others_refused() {
        let mut answer = vec![IDENTITIES_ANSWER];
        answer.put_u32(2);
        for text in ["blob", "comment", "other", ""] {
            answer.put_string(text.as_bytes());
        }
        assert_eq!(agent_identities(&answer, 2), Ok(vec![b"blob".to_vec(), b"other".to_vec()]));
        assert!(agent_identities(&answer, 1).is_err());
        for end in 0..answer.len() {
            assert!(agent_identities(&answer[..end], 9).is_err(), "{end}");
        }
        assert!(agent_identities(&[&answer[..], &[0]].concat(), 9).is_err());
        assert!(agent_identities(&[FAILURE], 9).is_err());

        let mut answer = vec![SIGN_RESPONSE];
        answer.put_string(b"signature");
        assert_eq!(agent_signature(&answer), Ok(Some(b"signature".to_vec())));
        assert_eq!(agent_signature(&[FAILURE]), Ok(None));
        for wrong in [&answer[..answer.len() - 1], &[], &[6], &[&answer[..], &[0]].concat()] {
            assert!(agent_signature(wrong).is_err());
        }
        let key = sample::key(1);
        let request = agent_request(key.public(), b"message");
        assert_eq!(request.len(), 4 + key.public().blob().len() + 4 + 7 + 4);
    }
}
