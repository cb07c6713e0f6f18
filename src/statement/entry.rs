//! Entries: a statement with its signature lines, as it lies in the log.

use super::body::{Statement, StatementError};
use crate::digest::Digest;
use crate::limits::ENTRY_BYTES_MAX;
use crate::log::note::{self, Note, NoteError, SignatureLine};
use crate::name::{FleetName, MemberName};
use crate::openpgp::Fingerprint;

/// Why bytes are not an entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Not a note.
    #[error("the entry {0}")]
    Note(#[from] NoteError),
    /// The note's text is not a statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Too long for the log.
    #[error("the entry has {0} bytes; at most {ENTRY_BYTES_MAX} fit into the log")]
    TooLong(usize),
}

/// A statement and the exact bytes that its signatures cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What it says.
    pub statement: Statement,
    /// The bytes it was read from: what is signed is what was parsed.
    pub body: Vec<u8>,
    /// SHA-256 of the body.
    pub id: Digest,
}

impl Signed {
    /// Reads a body.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(body: &[u8]) -> Result<Self, StatementError> {
        Ok(Self { statement: Statement::parse(body)?, id: Digest::of(body), body: body.to_vec() })
    }

    /// Writes a statement.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn of(statement: Statement) -> Result<Self, StatementError> {
        let body = statement.to_bytes()?;
        Ok(Self { statement, id: Digest::of(&body), body })
    }
}

/// A statement with its signature lines, which are not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The statement.
    pub signed: Signed,
    /// The lines, in the order of the entry.
    pub signatures: Vec<SignatureLine>,
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong(bytes.len()));
        }
        let note = Note::parse(bytes)?;
        Ok(Self { signed: Signed::parse(note.text.as_bytes())?, signatures: note.signatures })
    }

    /// The id of the statement in an entry's bytes, without looking at anything else; `None` if it has no signature lines.
    pub fn id_of(bytes: &[u8]) -> Option<Digest> {
        let end = bytes.windows(2).rposition(|two| two == b"\n\n")?;
        bytes.get(..=end).map(Digest::of)
    }

    /// Writes the entry.
    ///
    /// # Errors
    /// [`EntryError::TooLong`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, EntryError> {
        let text = String::from_utf8_lossy(&self.signed.body).into_owned();
        let bytes = Note { text, signatures: self.signatures.clone() }.to_bytes();
        if bytes.len() > ENTRY_BYTES_MAX { Err(EntryError::TooLong(bytes.len())) } else { Ok(bytes) }
    }
}

/// The name in a member's signature line: `cdn.example/nginx@fra1`.
pub fn principal(fleet: &FleetName, member: &MemberName) -> String {
    format!("{fleet}/{member}")
}

/// The member that a signature line names; `None` if it names another fleet's.
pub fn principal_member(fleet: &FleetName, name: &str) -> Option<MemberName> {
    name.strip_prefix(fleet.as_str())?.strip_prefix('/')?.parse().ok()
}

/// The key hash in a member's signature line: that of C2SP signed-note, with the algorithm name `keys/openpgp/v1` and the
/// fingerprint in the place of the key.
pub fn key_hash(principal: &str, fingerprint: &Fingerprint) -> [u8; 4] {
    note::key_hash(principal, b"\xffkeys/openpgp/v1\n", fingerprint.as_bytes())
}
