//! CA keys that lie behind an ssh-agent (draft-miller-ssh-agent): in its memory, on a token, in a PKCS#11 module or a TPM.
//!
//! Two questions are asked: which keys it has, and for a signature. What it answers is bounded and not believed: whoever has
//! a certificate signed verifies the signature ([`crate::ssh::issue`]). A connection is made for each question, since a
//! person may take a minute to touch a token and agents end idle connections.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::{SSH_AGENT_ANSWER_BYTES_MAX, SSH_AGENT_KEYS_MAX};
use crate::ssh::{CertificateAuthority, SignError, SshPublicKey, agent_identities, agent_request, agent_signature};

/// How long the agent may take to say which keys it has.
const BRIEF: Duration = Duration::from_secs(5);
/// How long for a signature: somebody looks for the token and touches it.
const PATIENT: Duration = Duration::from_secs(90);

/// What an agent may be asked, with the protocol's numbers.
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;

/// An agent, by its socket.
#[derive(Debug, Clone)]
pub struct SshAgent {
    socket: PathBuf,
}

impl SshAgent {
    /// The agent that listens at `socket`, which nobody has asked yet.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The keys that it has, of the kinds that are accepted here.
    ///
    /// # Errors
    /// [`SignError::Unavailable`].
    pub fn keys(&self) -> Result<Vec<SshPublicKey>, SignError> {
        let answer = self.ask(REQUEST_IDENTITIES, &[], BRIEF)?;
        let blobs = agent_identities(&answer, SSH_AGENT_KEYS_MAX).map_err(|e| self.unavailable(&e))?;
        // What it has besides, of other kinds, is not for us.
        Ok(blobs.iter().filter_map(|blob| SshPublicKey::from_blob(blob).ok()).collect())
    }

    /// A signature by `key`.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, key: &SshPublicKey, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let request = agent_request(key, message);
        let answer = self.ask(SIGN_REQUEST, &request, PATIENT)?;
        let refused = || SignError::Refused(format!("the agent gives no signature by {}", key.fingerprint()));
        agent_signature(&answer).map_err(|e| self.unavailable(&e))?.ok_or_else(refused)
    }

    fn ask(&self, what: u8, fields: &[u8], patience: Duration) -> Result<Vec<u8>, SignError> {
        let io = |e: std::io::Error| self.unavailable(&e);
        let mut stream = UnixStream::connect(&self.socket).map_err(io)?;
        stream.set_read_timeout(Some(patience)).map_err(io)?;
        stream.set_write_timeout(Some(BRIEF)).map_err(io)?;
        let length = u32::try_from(fields.len() + 1).map_err(|_| self.unavailable(&"the request is too long"))?;
        let request = [&length.to_be_bytes(), [what].as_slice(), fields].concat();
        stream.write_all(&request).map_err(io)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(io)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length == 0 || length > SSH_AGENT_ANSWER_BYTES_MAX {
            return Err(self.unavailable(&format!("it answers with {length} bytes")));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).map_err(io)?;
        Ok(answer)
    }

    fn unavailable(&self, problem: &dyn std::fmt::Display) -> SignError {
        let socket = crate::text::shown(&self.socket.display().to_string()).to_string();
        SignError::Unavailable(format!("the ssh-agent at {socket}: {problem}"))
    }
}

/// A CA whose key an agent has.
#[derive(Debug)]
pub struct AgentCa {
    agent: SshAgent,
    public: SshPublicKey,
}

impl AgentCa {
    /// The CA with this key, if the agent has it.
    ///
    /// # Errors
    /// [`SignError::Unavailable`].
    pub fn find(agent: &SshAgent, public: &SshPublicKey) -> Result<Option<Self>, SignError> {
        let has = agent.keys()?.contains(public);
        Ok(has.then(|| Self { agent: agent.clone(), public: public.clone() }))
    }
}

impl CertificateAuthority for AgentCa {
    fn public(&self) -> &SshPublicKey {
        &self.public
    }

    fn sign(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, SignError> {
        self.agent.sign(&self.public, to_be_signed)
    }
}
