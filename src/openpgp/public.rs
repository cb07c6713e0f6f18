//! One public key by itself, as a packet (RFC 9580, section 5.5): for whoever only verifies signatures and has no use for a
//! certificate.

use sequoia_openpgp as pgp;

use pgp::Packet;
use pgp::packet::key::{PublicParts, SubordinateRole};
use pgp::parse::{PacketParser, PacketParserResult, Parse as _};
use pgp::serialize::SerializeInto as _;

use super::{Doing as _, OpenpgpError, PublicKey};

/// Writes the packet of a public subkey.
///
/// # Errors
/// [`OpenpgpError`].
pub fn write_public_key(key: &PublicKey) -> Result<Vec<u8>, OpenpgpError> {
    let key: pgp::packet::Key<PublicParts, SubordinateRole> = key.clone().role_into_subordinate();
    Packet::PublicSubkey(key).to_vec().doing("write a public key")
}

/// Reads the packet of a public subkey, and nothing beside it.
///
/// # Errors
/// [`OpenpgpError`].
pub fn read_public_key(bytes: &[u8]) -> Result<PublicKey, OpenpgpError> {
    let none =
        || OpenpgpError { doing: "read a public key", detail: "it is not one packet of a public key".to_owned() };
    let PacketParserResult::Some(parser) = PacketParser::from_bytes(bytes).doing("read a public key")? else {
        return Err(none());
    };
    let (packet, rest) = parser.next().doing("read a public key")?;
    match (packet, rest) {
        (Packet::PublicSubkey(key), PacketParserResult::EOF(_)) => Ok(key.role_into_unspecified()),
        _ => Err(none()),
    }
}
