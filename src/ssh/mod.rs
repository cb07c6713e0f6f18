//! SSH: keys, certificates (OpenSSH's PROTOCOL.certkeys), revocation lists (PROTOCOL.krl) and the files of one node.
//!
//! For: issuing SSH certificates from logged statements, revoking them, and writing what `sshd` and `ssh` read.
//! Promises: a certificate always names its principals; the bytes a CA signs follow from a logged body and its serial;
//! every signature is verified before it is returned; every file is decoded back before it is handed out; no KRL is
//! written that some supported `sshd` would refuse, since it would then refuse every login.
//! Left to others: files and their order on disk, agents, the clock, and which certificates the log knows.

mod agent_wire;
mod body;
mod certificate;
pub mod doctor;
mod issue;
mod key;
mod krl;
mod krl_entries;
mod krl_format;
mod krl_read;
#[cfg(test)]
mod krl_tests;
mod names;
mod private;
mod render;
#[cfg(test)]
mod sample;
mod serials;
mod sshsig;
mod staple;
mod wire;

pub use agent_wire::{AgentAnswerError, agent_identities, agent_request, agent_signature};
pub use body::{
    BodyError, CertificateBody, CertificateFields, CertificateKind, EXTENSIONS, FORCE_COMMAND, Nonce, SOURCE_ADDRESS,
    Serial, VERIFY_REQUIRED,
};
pub use certificate::{CertificateError, SshCertificate};
pub use issue::{Issuer, Order, issue, to_be_signed};
pub use key::{KeyAlgorithm, KeyError, SshPublicKey};
pub use krl::{Krl, KrlError, KrlScope};
pub use krl_entries::KrlEntry;
pub use names::{ConfigPath, HostPattern, KeyId, Login, Principal, WordError};
pub use private::{CaSigner, CertificateAuthority, SignError, SshPrivateKey};
pub use render::{CaLine, NodeFile, NodeInput, ProofInput, RenderError, render};
pub use sshsig::SshSignature;
pub use staple::{Staple, Stapled};
