//! Keys and bodies for the tests of this module, from public seeds.

use rand::SeedableRng as _;

use super::body::{CertificateBody, CertificateFields, CertificateKind, Nonce, Serial};
use super::certificate::SshCertificate;
use super::issue::issue;
use super::key::SshPublicKey;
use super::names::Principal;
use super::private::{CaSigner, SshPrivateKey};
use super::staple::Staple;
use super::wire::Put as _;
use crate::time::{Span, Time};

pub(super) fn key(n: u64) -> SshPrivateKey {
    SshPrivateKey::generate(&mut rand::rngs::StdRng::seed_from_u64(n))
}

pub(super) fn ca() -> CaSigner {
    key(1).into()
}

pub(super) fn token_key() -> SshPublicKey {
    let mut blob = Vec::new();
    blob.put_string(b"sk-ssh-ed25519@openssh.com");
    blob.put_string(&key(7).public().ed25519().expect("Ed25519"));
    blob.put_string(b"ssh:");
    SshPublicKey::from_blob(&blob).expect("a token's key")
}

pub(super) fn rsa_key() -> SshPublicKey {
    let (mut n, mut blob) = (vec![0x55; 384], Vec::new());
    n[0] = 0x80;
    blob.put_string(b"ssh-rsa");
    blob.put_positive(&[1, 0, 1]);
    blob.put_positive(&n);
    SshPublicKey::from_blob(&blob).expect("a key of 3072 bits")
}

pub(super) fn user_fields() -> CertificateFields {
    let valid_after = Time(1_795_244_100);
    CertificateFields {
        kind: CertificateKind::User,
        ca: key(1).public().clone(),
        subject: key(2).public().clone(),
        key_id: "alice".parse().expect("printable"),
        principals: ["deploy:fra1", "ops"].map(|p| Principal::user(p).expect("good")).into(),
        valid_after,
        valid_before: valid_after.plus(Span::hours(16)),
        critical_options: [("source-address".to_owned(), "2001:db8::/32".to_owned())].into(),
        extensions: ["permit-pty".to_owned()].into(),
        nonce: Nonce([9; 32]),
    }
}

pub(super) fn host_fields() -> CertificateFields {
    CertificateFields {
        kind: CertificateKind::Host,
        subject: key(3).public().clone(),
        key_id: "fra1".parse().expect("printable"),
        principals: ["fra1.cdn.example", "2001:db8::1"].map(|p| Principal::host(p).expect("good")).into(),
        critical_options: [].into(),
        extensions: [].into(),
        ..user_fields()
    }
}

pub(super) fn body(fields: CertificateFields) -> CertificateBody {
    CertificateBody::new(fields).expect("a good body")
}

pub(super) fn serial(n: u64) -> Serial {
    Serial::new(n).expect("not 0")
}

pub(super) fn issued(fields: CertificateFields, n: u64) -> SshCertificate {
    stapled(fields, n, None)
}

pub(super) fn stapled(fields: CertificateFields, n: u64, staple: Option<&Staple>) -> SshCertificate {
    issue(&body(fields), serial(n), staple, &ca()).expect("a certificate")
}
