//! What `sshd` asks at a login: whether the log decided this SSH certificate.
//!
//! A CA's signature says only that somebody has the CA's key. Where the policy asks for proof, a user's certificate carries
//! the log entry that orders it and the proof that the log has it ([`crate::ssh::Staple`]); a node has what it takes to
//! judge both without any network in one file, [`Trust`]; and [`admit`] lets in a certificate only if
//!
//! 1. the log's key signed the head that the proof leads to, and the cosigners that the policy names did,
//! 2. the entry stands in the log where the certificate's serial says, and orders exactly this certificate,
//! 3. the members whose signatures the entry bears are the quorum that the policy asks for,
//! 4. lifetime, options and principals are what the policy gives the member.
//!
//! Where the log is out of reach, holders of break-glass keys sign instead: [`BreakGlass`] says how many of them it takes.
//!
//! So whoever has stolen a CA's key, or the log's key with it, opens nothing. What it cannot know is what happened after the
//! node's files were rendered: who has left is in the KRL and missing in the newer [`Trust`].
//!
//! Left to others: the clock (`sshd` judges the validity), the KRL (`sshd` reads it), files and logs (`crate::cli`).

mod admit;
mod break_glass;
mod order;
#[cfg(test)]
mod tests;
mod trust;

pub use admit::{Admitted, Refusal, admit};
pub use break_glass::BreakGlass;
pub use order::{BreakGlassOrder, NAMESPACE as BREAK_GLASS_NAMESPACE, OrderError};
pub use trust::{Trust, TrustError, TrustedKey, TrustedMember, UserTerms};
