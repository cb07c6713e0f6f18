//! Signatures of files with SSH keys (OpenSSH's PROTOCOL.sshsig), as `ssh-keygen -Y sign` makes them, also with a token.

use ssh_key::encoding::{Decode as _, Encode as _};

use super::key::SshPublicKey;

/// A signature over some bytes, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSignature(ssh_key::SshSig);

impl SshSignature {
    /// Reads the armoured text that `ssh-keygen -Y sign` writes.
    pub fn from_armour(text: &str) -> Option<Self> {
        ssh_key::SshSig::from_pem(text).ok().map(Self)
    }

    /// Reads its bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        ssh_key::SshSig::decode(&mut rest).ok().filter(|_| rest.is_empty()).map(Self)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        self.0.encode_vec().ok()
    }

    /// The key that made it over `message` for the purpose `namespace`; none if it does not hold.
    pub fn signer(&self, namespace: &str, message: &[u8]) -> Option<SshPublicKey> {
        let key = ssh_key::PublicKey::from(self.0.public_key().clone());
        key.verify(namespace, message, &self.0).ok()?;
        SshPublicKey::from_blob(&key.to_bytes().ok()?).ok()
    }
}
