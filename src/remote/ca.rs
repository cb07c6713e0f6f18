//! Whose word counts for an `https://` mirror's name: the public CAs, or those that a fleet names and no others. What a mirror
//! says is believed in neither case; a CA of one's own keeps others from seeing who asks for what.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::RootCertStore;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::MirrorError;
use super::mirror::{self, Counters, Mirror};
use crate::http::certificates;

/// Mirrors in the order in which they are asked, and who vouches for the names of those at `https://`.
#[derive(Debug, Clone, Default)]
pub struct Mirrors {
    /// Their addresses.
    pub addresses: Vec<String>,
    /// The only CAs that are trusted; none: the public ones.
    pub ca: Option<Ca>,
    /// What object stores among them were asked is counted here.
    pub requests: Counters,
}

impl Mirrors {
    /// The mirror at one of these addresses.
    pub(super) fn open(&self, address: &str) -> Result<Arc<dyn Mirror>, MirrorError> {
        mirror::open_by(address, self.ca.as_ref(), &self.requests)
    }
}

/// Certificates of CAs.
#[derive(Debug, Clone)]
pub struct Ca(Arc<Vec<Certificate<'static>>>);

impl Ca {
    /// Reads PEM. The error goes on with what is wrong about the file.
    ///
    /// # Errors
    /// If it holds no certificate, one that can be nobody's, or something secret.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        if pem.windows(PRIVATE.len()).any(|w| w == PRIVATE) {
            return Err("has a private key in it: give the CA's certificate alone".to_owned());
        }
        let found = certificates(pem)?;
        for certificate in &found {
            let usable = RootCertStore::empty().add(certificate.clone());
            usable.map_err(|e| format!("has a certificate that cannot be a CA's: {e}"))?;
        }
        Ok(Self(Arc::new(found.iter().map(|c| Certificate::from_der(c).to_owned()).collect())))
    }

    /// The certificates as PEM, and nothing else that stood beside them.
    pub fn to_pem(&self) -> String {
        let lines = |der: &[u8]| {
            let text = BASE64.encode(der);
            text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect::<String>()
        };
        let one =
            |c: &Certificate<'_>| format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines(c.der()));
        self.0.iter().map(one).collect()
    }

    pub(super) fn config(&self) -> TlsConfig {
        TlsConfig::builder().root_certs(RootCerts::Specific(Arc::clone(&self.0))).build()
    }
}

/// What the head of a private key in PEM ends with.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_no_ca() {
        let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, said) in [
            ("", "no certificate"),
            ("garbage", "no certificate"),
            (private, "a private key"),
            (&format!("{certificate}{private}"), "a private key"),
            (certificate, "cannot be a CA's"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "damaged"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "damaged"),
        ] {
            let problem = Ca::parse(pem.as_bytes()).map(|_| ()).unwrap_err();
            assert!(problem.contains(said), "{pem:?}: {problem}");
        }
    }
}
