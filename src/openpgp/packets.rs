//! A sealed file taken apart without any key: who can open it, and which bytes are the body.
//!
//! ```text
//! PKESK PKESK …      one for each recipient key: the session key, wrapped
//! SEIPD              the encrypted body: what the log names by its SHA-256, and resealing leaves alone
//! ```
//! Only the framing is ours (RFC 9580, section 4.2); it lets recipients be listed and exchanged in microseconds.

use sequoia_openpgp::{Fingerprint, KeyHandle, KeyID};

use crate::digest::Digest;
use crate::limits::{PKESK_MAX, SEALED_BYTES_MAX};

const TAG_PKESK: u8 = 1;
const TAG_SEIPD: u8 = 18;

/// Why bytes are not a sealed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The packet framing is broken or cut short.
    #[error("is cut short or not an OpenPGP message")]
    Framing,
    /// Something else than PKESK packets and one SEIPD packet.
    #[error("has an OpenPGP packet with tag {0} where only recipients and one encrypted body belong")]
    Unexpected(u8),
    /// No encrypted body.
    #[error("has no encrypted body")]
    NoBody,
    /// No recipient, or one that hides who it is.
    #[error("has a recipient without a key id")]
    Anonymous,
    /// More recipients or bytes than a sealed file may have.
    #[error("is larger than a sealed file may be")]
    TooLarge,
}

/// A sealed file's parts, borrowed from its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed<'a> {
    /// Each recipient's key handle and its whole PKESK packet.
    pub recipients: Vec<(KeyHandle, &'a [u8])>,
    /// The whole SEIPD packet.
    pub body: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Takes `bytes` apart.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        if bytes.len() > SEALED_BYTES_MAX {
            return Err(PacketError::TooLarge);
        }
        let mut recipients = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let packet = Packet::parse(rest)?;
            match packet.tag {
                TAG_PKESK => recipients.push((recipient(packet.content()?)?, packet.whole)),
                TAG_SEIPD if packet.whole.len() == rest.len() => return Ok(Self { recipients, body: packet.whole }),
                TAG_SEIPD => {
                    return Err(PacketError::Unexpected(
                        Packet::parse(rest.get(packet.whole.len()..).unwrap_or_default())?.tag,
                    ));
                }
                other => return Err(PacketError::Unexpected(other)),
            }
            if recipients.len() > PKESK_MAX {
                return Err(PacketError::TooLarge);
            }
            rest = rest.get(packet.whole.len()..).unwrap_or_default();
        }
        Err(PacketError::NoBody)
    }

    /// SHA-256 of the encrypted body.
    pub fn body_digest(&self) -> Digest {
        Digest::of(self.body)
    }
}

/// The key handle of a PKESK packet's content: version 3 has a key id, version 6 a fingerprint (RFC 9580, section 5.1).
fn recipient(content: &[u8]) -> Result<KeyHandle, PacketError> {
    match content {
        [3, rest @ ..] => {
            let id = rest.first_chunk::<8>().ok_or(PacketError::Framing)?;
            if id == &[0; 8] { Err(PacketError::Anonymous) } else { Ok(KeyID::from_bytes(id).into()) }
        }
        [6, 0, ..] => Err(PacketError::Anonymous),
        [6, length, version, rest @ ..] => {
            let fingerprint = rest.get(..usize::from(*length).saturating_sub(1)).ok_or(PacketError::Framing)?;
            Fingerprint::from_bytes(*version, fingerprint).map(KeyHandle::from).map_err(|_| PacketError::Framing)
        }
        _ => Err(PacketError::Framing),
    }
}

/// One packet: its tag, all its bytes, and where its content lies in them.
struct Packet<'a> {
    tag: u8,
    whole: &'a [u8],
    parts: Vec<&'a [u8]>,
}

impl<'a> Packet<'a> {
    /// Reads the packet at the front of `bytes`: new format (section 4.2.1, partial lengths included) or legacy (4.2.2).
    fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (&first, rest) = bytes.split_first().ok_or(PacketError::Framing)?;
        let finish = |tag, rest: &'a [u8], parts: Vec<&'a [u8]>| {
            let whole = bytes.get(..bytes.len() - rest.len()).ok_or(PacketError::Framing)?;
            Ok(Self { tag, whole, parts })
        };
        match first >> 6 {
            0b11 => {
                let mut parts = Vec::new();
                let mut rest = rest;
                loop {
                    let (length, partial, after) = new_length(rest)?;
                    let (part, after) = after.split_at_checked(length).ok_or(PacketError::Framing)?;
                    parts.push(part);
                    rest = after;
                    if !partial {
                        return finish(first & 0x3f, rest, parts);
                    }
                }
            }
            0b10 => {
                let size = match first & 3 {
                    0 => 1,
                    1 => 2,
                    2 => 4,
                    _ => return Err(PacketError::Framing),
                };
                let (length, rest) = rest.split_at_checked(size).ok_or(PacketError::Framing)?;
                let length = length.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
                let (part, rest) = rest.split_at_checked(length).ok_or(PacketError::Framing)?;
                finish(first >> 2 & 15, rest, vec![part])
            }
            _ => Err(PacketError::Framing),
        }
    }

    /// The content of a packet that came in one piece.
    fn content(&self) -> Result<&'a [u8], PacketError> {
        match self.parts.as_slice() {
            [one] => Ok(one),
            _ => Err(PacketError::Framing),
        }
    }
}

/// A new-format length: the length, whether it is partial, and what follows it.
fn new_length(bytes: &[u8]) -> Result<(usize, bool, &[u8]), PacketError> {
    match bytes {
        [n @ 0..=191, rest @ ..] => Ok((usize::from(*n), false, rest)),
        [a @ 192..=223, b, rest @ ..] => Ok(((usize::from(*a) - 192) * 256 + usize::from(*b) + 192, false, rest)),
        [n @ 224..=254, rest @ ..] => Ok((1 << (n & 0x1f), true, rest)),
        [255, a, b, c, d, rest @ ..] => {
            let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).map_err(|_| PacketError::TooLarge)?;
            Ok((length, false, rest))
        }
        _ => Err(PacketError::Framing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Vec<u8> {
        let mut bytes = vec![0xc1, 12, 3, 1, 2, 3, 4, 5, 6, 7, 8, 18, 0, 0];
        bytes.extend([0x84, 10, 3, 9, 9, 9, 9, 9, 9, 9, 9, 18]); // legacy framing, as gpg writes
        bytes.extend([0xd2, 0xe1, 1, 7, 3, 1, 2, 3]); // two octets, then three more
        bytes
    }

    #[test]
    fn recipients_and_body_are_found() {
        let bytes = message();
        let sealed = Sealed::parse(&bytes).unwrap();
        let ids: Vec<String> = sealed.recipients.iter().map(|(h, _)| h.to_string()).collect();
        assert_eq!(ids, ["0102030405060708", "0909090909090909"]);
        assert_eq!(sealed.body, &bytes[26..]);
        assert_eq!(sealed.recipients.iter().map(|(_, p)| p.len()).sum::<usize>() + sealed.body.len(), bytes.len());
    }

    #[test]
    fn what_is_cut_or_strange_is_refused() {
        let bytes = message();
        for end in 0..bytes.len() {
            assert!(Sealed::parse(&bytes[..end]).is_err(), "{end} bytes");
        }
        let with = |tail: &[u8]| Sealed::parse(&[bytes.as_slice(), tail].concat()).map(|s| s.recipients.len());
        assert_eq!(with(&[0xd2, 1, 1]), Err(PacketError::Unexpected(18)));
        assert_eq!(with(&[0xcb, 1, 1]), Err(PacketError::Unexpected(11)));
        assert_eq!(Sealed::parse(&[0xc1, 9, 3, 0, 0, 0, 0, 0, 0, 0, 0]), Err(PacketError::Anonymous));
        assert_eq!(Sealed::parse(&[0xc3, 1, 4]), Err(PacketError::Unexpected(3)));
        assert_eq!(Sealed::parse(&[0xd2, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(PacketError::Framing));
    }
}
