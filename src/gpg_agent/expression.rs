//! What keys, signatures and ciphertexts look like as the agent's S-expressions.

use sequoia_openpgp as openpgp;

use openpgp::crypto::mem::Protected;
use openpgp::crypto::mpi;
use openpgp::types::Curve;

use super::connection::Answer;
use super::error::AgentError;
use super::keygrip::{Parameters, unsigned};
use super::sexp::{self, Sexp};

/// Reads an answer's S-expression. Agents end some answers with a zero byte, as if they were C strings; no expression
/// ends with one.
fn expression(answer: &Answer) -> Result<Sexp<'_>, AgentError> {
    let bytes = answer.data.strip_suffix(b"\0").unwrap_or(&answer.data);
    sexp::parse(bytes).map_err(|_| AgentError::Protocol("an answer is not a canonical S-expression"))
}

/// The signature in `(sig-val (eddsa (r …) (s …)))` or `(sig-val (rsa (s …)))`.
pub(super) fn signature(parameters: &Parameters, answer: &Answer) -> Result<mpi::Signature, AgentError> {
    let missing = AgentError::Protocol("an answer is not a signature of the key's kind");
    let expression = expression(answer)?;
    let number = |path: &[&str]| expression.value(path).map(mpi::MPI::new);
    match parameters {
        Parameters::Rsa { .. } => number(&["sig-val", "rsa", "s"]).map(|s| mpi::Signature::RSA { s }).ok_or(missing),
        Parameters::Ed25519 { .. } => {
            let (r, s) = (number(&["sig-val", "eddsa", "r"]), number(&["sig-val", "eddsa", "s"]));
            r.zip(s).map(|(r, s)| mpi::Signature::EdDSA { r, s }).ok_or(missing)
        }
        Parameters::Cv25519 { .. } => Err(missing),
    }
}

/// What is to be decrypted, as gpg puts it: `(enc-val (ecdh (s …) (e …)))` or `(enc-val (rsa (a …)))`.
pub(super) fn enc_val(parameters: &Parameters, ciphertext: &mpi::Ciphertext) -> Result<Vec<u8>, AgentError> {
    let wrong = AgentError::Ciphertext;
    match (parameters, ciphertext) {
        (Parameters::Rsa { modulus }, mpi::Ciphertext::RSA { c }) => {
            if c.value().len() > modulus.len() {
                return Err(wrong("it is longer than the modulus"));
            }
            let number = unsigned(c.value());
            Ok(Sexp::list("enc-val", [Sexp::list("rsa", [Sexp::pair("a", &number)])]).to_bytes())
        }
        (Parameters::Cv25519 { .. }, mpi::Ciphertext::ECDH { e, key }) => {
            e.decode_point(&Curve::Cv25519).map_err(|_| wrong("its point is malformed"))?;
            let length = u8::try_from(key.len()).map_err(|_| wrong("its wrapped key is too long"))?;
            // With its length, as it stands in the packet. The agent does not use it, but some look for it.
            let wrapped_key = [&[length], key.as_ref()].concat();
            let ecdh = Sexp::list("ecdh", [Sexp::pair("s", &wrapped_key), Sexp::pair("e", e.value())]);
            Ok(Sexp::list("enc-val", [ecdh]).to_bytes())
        }
        _ => Err(wrong("it is of another algorithm")),
    }
}

/// The decrypted bytes in `(value …)`.
pub(super) fn value(answer: &Answer) -> Result<&[u8], AgentError> {
    expression(answer)?.value(&["value"]).ok_or(AgentError::Protocol("an answer is not a decrypted value"))
}

/// The x coordinate that ECDH agreed on (RFC 7748, section 6.1). Agents put OpenPGP's prefix for it in front, cards need
/// not.
pub(super) fn shared_point(value: &[u8]) -> Result<Protected, AgentError> {
    let point = match value.split_first() {
        Some((0x40, point)) if point.len() == 32 => point,
        _ => value,
    };
    // All zero means that the sender's point has small order and the key took no part.
    if point.len() != 32 || point.iter().all(|&b| b == 0) {
        return Err(AgentError::WrongPlaintext);
    }
    Ok(Protected::from(point))
}

/// Removes the padding of PKCS #1 version 1.5 (RFC 8017, section 7.2.2): `00 02`, at least 8 bytes other than zero, a
/// zero, the message. libgcrypt drops the first zero because it takes the whole for a number.
///
/// Every fault gives the same `None`, so that nobody who sends ciphertexts learns from us which it was.
pub(super) fn unpad(padded: &[u8], modulus_bytes: usize) -> Option<&[u8]> {
    let padded = padded.strip_prefix(&[0]).unwrap_or(padded);
    let rest = padded.strip_prefix(&[2]).filter(|_| padded.len().checked_add(1) == Some(modulus_bytes))?;
    let end = rest.iter().position(|&b| b == 0).filter(|&length| length >= 8)?;
    rest.get(end..)?.split_first().map(|(_, message)| message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_padding_is_removed_or_refused() {
        let padded = [&[2], [5; 8].as_slice(), &[0], b"key"].concat();
        let modulus_bytes = padded.len() + 1;
        assert_eq!(unpad(&padded, modulus_bytes), Some(b"key".as_slice()));
        assert_eq!(unpad(&[&[0], padded.as_slice()].concat(), modulus_bytes), Some(b"key".as_slice()));
        let mut other_type = padded.clone();
        other_type[0] = 1;
        let mut short = padded.clone();
        short[8] = 0;
        for wrong in [&other_type[..], &short, &padded[1..], &[2; 13], &[0; 13], &[]] {
            assert_eq!(unpad(wrong, modulus_bytes), None, "{wrong:?}");
        }
    }
}
