//! What a backup is made of: an archive, a manifest, and the shares of the key that opens it.
//!
//! ```text
//! fleet.backup                 a tar archive (POSIX ustar), each part under its name:
//!   share-alice.pgp            one for each custodian: her share of the content key, an OpenPGP message to her
//!   share-bob.pgp
//!   body.pgp                   an OpenPGP message under the content key; inside, a tar archive:
//!     SHA256SUMS                 what follows, as sha256sum prints it
//!     keyring/log/checkpoint …   the keyring
//!     policy/fleet.toml …        the policy's files
//!     home/members/alice/…       private halves, only those that were asked for by name
//!   manifest.json              what the parts are, canonical JSON
//!   manifest.sig               a detached OpenPGP signature over it
//! ```
//! Promises: fewer custodians than the manifest says learn nothing about the content key (Shamir, "How to share a secret",
//! CACM 22, 1979, over GF(256)); every byte of every part follows from the manifest, whose signature whoever restores
//! checks against the log that comes out. Every part has one spelling, and is read as strictly as it is written.
//! Left to others: whose certificates custodians have, where files lie (`crate::ops`).

mod archive;
mod contents;
mod manifest;
mod share;

pub use archive::{Archive, ArchiveError, ArchiveReader, Part, is_path, rewrite_size};
pub use contents::{Contents, ContentsError};
pub use manifest::{Body, Custody, Manifest, ManifestError, Sums, check_sums, origin};
pub use share::{ContentKey, Share, ShareError, combine, split};
