//! A client of gpg-agent: signs and decrypts with keys that never leave the agent or the card behind it.
//!
//! The agent speaks Assuan, a protocol of lines, over a Unix socket:
//! ```text
//! S: OK Pleased to meet you, process 4711
//! C: SIGKEY B38C6E0B6C44AD8B98C6AF997304FFD2FEBEE5A5
//! S: OK
//! C: SETHASH 10 A4ABD4…
//! S: OK
//! C: PKSIGN
//! S: D (7:sig-val(5:eddsa(1:r32:…)(1:s32:…)))
//! S: OK
//! ```
//! Promises: every signature is verified before it is returned, since an agent may lie; everything read is bounded, in
//! size and in the number of reads, each of which ends at the caller's timeout; decrypted material is wiped; after a
//! failure that leaves the dialogue out of step the connection is not used again. The agent needs no trust beyond that:
//! what it decrypts wrongly fails the key wrap, the checksum or the message's own integrity check, so a false agent can
//! refuse and watch, not deceive.
//!
//! Left to others: where the socket is, which terminal a pinentry may use and how long a person may take are arguments
//! ([`AgentOptions`]); no environment, terminal or clock is read here. Starting an agent is the command line's business.
//!
//! Keys: version 4 Ed25519 (EdDSA), Cv25519 (ECDH) and RSA of at least 3072 bits. Agents of GnuPG 2.2 hold no others
//! that the profiles allow.
//!
//! Follows the GnuPG manual, "Agent's Assuan Protocol"; the Libassuan manual, "Implementation" (lines, redirection);
//! R. Rivest's S-expressions in canonical form (RFC 9804, section 6.1); RFC 6637 for ECDH.

pub mod assuan;
mod client;
mod connection;
mod error;
mod expression;
mod keygrip;
mod keys;
pub mod sexp;
mod socket;

pub use client::{Agent, AgentOptions, Interaction};
pub use error::AgentError;
pub use keygrip::Keygrip;
pub use keys::{AgentDecryptor, AgentSigner};
