//! What break-glass keys sign: an order for one certificate, on paper or a stick, with no log and no server.
//!
//! ```text
//! {"fleet":"cdn.example","issue":{"certificate":{…},"member":"alice"},"serial":4503599627370496,"v":1}
//! ```
//! On one line in canonical JSON. Whoever holds one of the keys signs the file as it is, with
//! `ssh-keygen -Y sign -n break-glass@keys` (OpenSSH's PROTOCOL.sshsig); the holder of the key that the order names as its CA
//! signs the certificate, which carries the order and the signatures ([`crate::ssh::Staple`]). Whether they are enough is judged
//! by [`super::admit`].

use std::collections::BTreeSet;

use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::json::{self, JsonError};
use crate::name::FleetName;
use crate::ssh::{Serial, SshSignature};
use crate::statement::Issue;

/// What the signatures are for, as `ssh-keygen -n` takes it.
pub const NAMESPACE: &str = "break-glass@keys";
/// From here on serials are those of break-glass certificates; below are the log's entries. Twice this is the limit of what
/// canonical JSON has numbers for.
const SERIALS: u64 = 1 << 52;
const VERSION: u64 = 1;

/// Why bytes are no order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Not canonical JSON with these fields.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// A version that is not read here.
    #[error("has version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// A serial that is an entry's of the log, or none.
    #[error("has the serial {0}, which is no break-glass certificate's")]
    Serial(u64),
}

/// An order for one break-glass certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassOrder {
    /// Whose machines it is for.
    pub fleet: FleetName,
    /// What is ordered, and for whom.
    pub issue: Issue,
    serial: u64,
    v: u64,
}

impl BreakGlassOrder {
    /// An order with a serial that no other has.
    pub fn new(fleet: FleetName, issue: Issue, rng: &mut impl CryptoRng) -> Self {
        Self { fleet, issue, serial: SERIALS | (rng.next_u64() % SERIALS), v: VERSION }
    }

    /// The certificate's serial.
    pub fn serial(&self) -> Serial {
        Serial::new(self.serial).expect("checked to be large")
    }

    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{}\n", json::to_canonical(self)).into_bytes()
    }

    /// Reads an order.
    ///
    /// # Errors
    /// [`OrderError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OrderError> {
        let value = json::parse(bytes.strip_suffix(b"\n").unwrap_or_default())?;
        if let Some(other) = value.get("v").and_then(serde_json::Value::as_u64).filter(|v| *v != VERSION) {
            return Err(OrderError::Version(other));
        }
        let order: Self = serde_json::from_value(value).map_err(JsonError::Fields)?;
        if !(SERIALS..2 * SERIALS).contains(&order.serial) {
            return Err(OrderError::Serial(order.serial));
        }
        Ok(order)
    }

    /// The keys, out of `keys`, that made signatures over these bytes, each once.
    pub fn signers(bytes: &[u8], signatures: &[SshSignature], keys: &BTreeSet<String>) -> BTreeSet<String> {
        let signed = signatures.iter().filter_map(|signature| signature.signer(NAMESPACE, bytes));
        signed.map(|key| key.to_string()).filter(|key| keys.contains(key)).collect()
    }
}
