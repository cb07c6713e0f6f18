//! What a key server says of a fleet: a tree of pages, worked out from the members' certificates alone, so that a file server,
//! a mirror and `keys serve` all say the same.
//!
//! ```text
//! pks/get/0xFPR              HKP v1, armored; also by key id, by subkeys, and by address: pks/get/alice@ops.example
//! pks/index/0xFPR            the same certificates as lines: info:1:N, pub:…, uid:…
//! pks/v2/certs/by-vfingerprint/04FPR, …/04/FPR, by-keyid/KEYID, by-identity/ADDRESS      HKP v2, binary
//! pks/v2/index/ADDRESS       the same as JSON
//! .well-known/openpgpkey/DOMAIN/hu/…, .well-known/openpgpkey/DOMAIN/policy                WKD, advanced method
//! ```
//! Follows draft-ietf-openpgp-hkp and draft-koch-openpgp-webkey-service. Promises: nothing but what a member's certificate
//! holds is in it; third parties are heard only if the fleet names them, so nobody can flood a certificate; each is within
//! bounds ([`Served`]); what older clients cannot read is not shown to them. Left to others: which certificates those are.

mod lookup;
mod served;
mod tree;

pub use lookup::{Asked, asked};
pub use served::{Certifiers, Served, Standing};
pub use tree::{Page, PageKind, Tree};
