//! Statements: one signed change each, the only way the fleet changes.
//!
//! ```text
//! {"act":"key.activate","at":"2026-11-21T07:00:00Z","by":"alice","changes":[{"gen":2,"key":"…","member":"nginx@fra1",
//!  "prev":"…","slot":"openpgp"}],"log":"cdn.example/keys/1","policy":1,"reason":"scheduled","v":1}      (one line)
//!
//! — cdn.example/alice base64(key hash || OpenPGP signature packet)      (1 to 16 lines)
//! ```
//! The body is one line of canonical JSON (RFC 8785). A signature covers the body's bytes with its line feed. The
//! statement's id is the SHA-256 of the same bytes, never of the whole entry: parts of an OpenPGP signature are not
//! signed, so two entries can carry one statement. A statement holds no log position and can be sequenced again
//! without being signed again; `gen` and `prev` in a change make it void if its subject has changed meanwhile.

mod acts;
mod body;
mod challenge;
mod entry;
mod invitation;
mod request;
mod submission;
mod token;

pub use acts::{
    Act, Activate, BackupMade, Certify, Confirm, Destroy, Enroll, ExchangeDigests, Genesis, Invite, Issue, ObjectKind,
    Objection, Outcome, PolicyUpdate, Publish, PublishedKey, Rekey, Remove, Reseal, RestoreDrill, Retire, RetireReason,
    RevokeIssued, Seal, Snapshot, Stop, StopReason, Uninvite,
};
pub use body::{Statement, StatementError};
pub use challenge::{Challenge, Challenges, answer, preamble};
pub use entry::{Entry, EntryError, Signed, key_hash, principal, principal_member};
pub use invitation::{Approval, Invitations, Invited, machine_digest};
pub use request::{Facts, Machine, Presented, RecipientSet, Request, RequestedKey, RequestedMember};
pub use submission::{Handed, Submission, SubmissionError};
pub use token::{TOKEN_PREFIX, Token, TokenError, TokenKey};
