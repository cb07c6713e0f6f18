//! What DNS can say of members: fingerprints of their hosts' SSH keys, and their OpenPGP certificates, as lines of a zone
//! file (RFC 1035, section 5).
//!
//! ```text
//! fra1.cdn.example. IN SSHFP 4 2 0f5c…
//! 2bd8…._openpgpkey.ops.example. IN OPENPGPKEY ( mQENBF… )
//! ```
//! SSHFP: RFC 4255, with the numbers of RFC 6594 and RFC 7479, SHA-256 alone. Standby keys are among them, so that a
//! rotation waits for no cache. OPENPGPKEY: RFC 7929; of the certificate that stands in DNS the certifications of others are
//! left out (section 2.1.2 there).
//!
//! Whoever believes DNS believes DNSSEC and whoever has the zone's keys. Nothing here reads any of it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sequoia_openpgp as pgp;

use pgp::Packet;

use super::OpsError;
use crate::digest::Digest;
use crate::fleet::Fleet;
use crate::name::{Glob, MemberName, Slot};
use crate::openpgp::{Certificate, OpenpgpError};
use crate::ssh::{CertificateKind, KeyAlgorithm, SshPublicKey};
use crate::state::SlotKeys;
use crate::text::hex;

/// How much of a digest names somebody in a zone (RFC 7929, section 3).
const OWNER_BYTES: usize = 28;
/// Digits of base64 in a line of a zone file.
const LINE: usize = 64;
/// The longest data of a record (RFC 1035, section 4.1.3).
const DATA_BYTES_MAX: usize = 65_535;

/// A record, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsRecord {
    /// The member.
    pub member: MemberName,
    /// In words, what it is of.
    pub about: String,
    /// The name in the zone, with a dot at its end.
    pub name: String,
    /// What it says.
    pub data: DnsData,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsData {
    /// The SHA-256 of an SSH key, with the number of its algorithm.
    Sshfp(u8, Digest),
    /// An OpenPGP certificate, binary.
    Openpgpkey(Vec<u8>),
}

impl DnsData {
    /// The record's type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sshfp(..) => "SSHFP",
            Self::Openpgpkey(_) => "OPENPGPKEY",
        }
    }

    /// The data as they stand in a zone file, in one line.
    pub fn text(&self) -> String {
        match self {
            Self::Sshfp(algorithm, digest) => format!("{algorithm} 2 {digest}"),
            Self::Openpgpkey(bytes) => BASE64.encode(bytes),
        }
    }
}

impl DnsRecord {
    /// A line of a zone file, or several in brackets.
    pub fn to_zone(&self) -> String {
        let text = self.data.text();
        let data = match &self.data {
            DnsData::Sshfp(..) => text,
            DnsData::Openpgpkey(_) => {
                let rows: Vec<&str> =
                    text.as_bytes().chunks(LINE).filter_map(|row| std::str::from_utf8(row).ok()).collect();
                format!("(\n    {} )", rows.join("\n    "))
            }
        };
        format!("{} IN {} {data}", self.name, self.data.kind())
    }
}

/// The records of members, and whose certificate is left out, with the reason.
#[derive(Debug, Default)]
pub struct DnsRecords {
    /// What a zone can have.
    pub records: Vec<DnsRecord>,
    /// Whose certificate is not among them, and why.
    pub left_out: Vec<(MemberName, String)>,
}

/// The records of the active members that match one of `patterns`, all if there are none.
///
/// # Errors
/// [`OpsError`]: a pattern that matches nobody.
pub fn dns_records(patterns: &[Glob], fleet: &mut Fleet) -> Result<DnsRecords, OpsError> {
    let active = || fleet.state().members.iter().filter(|(_, m)| m.is_active()).map(|(name, _)| name.clone());
    for pattern in patterns {
        if !active().any(|name| pattern.matches(&name.to_string())) {
            return Err(OpsError::NoMatch(pattern.to_string()));
        }
    }
    let wanted = |name: &MemberName| patterns.is_empty() || patterns.iter().any(|p| p.matches(&name.to_string()));
    let names: Vec<MemberName> = active().filter(wanted).collect();
    let mut found = DnsRecords::default();
    for name in names {
        found.records.extend(of_host(&name, fleet)?);
        match of_certificate(&name, fleet)? {
            Ok(record) => found.records.push(record),
            Err(why) => found.left_out.push((name, why)),
        }
    }
    Ok(found)
}

/// A host's SSH keys, active and standby, at each name that its SSH certificates have.
fn of_host(member: &MemberName, fleet: &Fleet) -> Result<Vec<DnsRecord>, OpsError> {
    let state = fleet.state();
    let Ok(terms) = state.ssh_terms(member, CertificateKind::Host) else { return Ok(Vec::new()) };
    let hosts: BTreeSet<String> = terms.principals.iter().filter_map(|p| host_name(p.as_str())).collect();
    let keys = state.members.get(member).and_then(|m| m.slot(Slot::SshHost));
    let mut records = Vec::new();
    for key in keys.into_iter().flat_map(SlotKeys::usable) {
        let public: SshPublicKey = key.key.parse().map_err(|e: crate::ssh::KeyError| OpsError::Ssh(e.to_string()))?;
        let data = DnsData::Sshfp(number(public.algorithm()), public.sha256());
        records.extend(hosts.iter().map(|host| DnsRecord {
            member: member.clone(),
            about: format!("{member} {} {}", Slot::SshHost, key.state),
            name: host.clone(),
            data: data.clone(),
        }));
    }
    Ok(records)
}

/// The algorithm's number: RFC 4255, section 3.1.1; RFC 6594, section 5.3.1; RFC 7479. OpenSSH has those of keys on tokens
/// among the plain ones.
fn number(algorithm: KeyAlgorithm) -> u8 {
    match algorithm {
        KeyAlgorithm::Rsa => 1,
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::SkEcdsaP256 => 3,
        KeyAlgorithm::Ed25519 | KeyAlgorithm::SkEd25519 => 4,
    }
}

/// A principal as a name in DNS, if it is one and no address or pattern.
fn host_name(principal: &str) -> Option<String> {
    let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let name = principal.trim_end_matches('.');
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    (!is_address && name.len() <= 253 && name.contains('.') && name.split('.').all(label))
        .then(|| format!("{}.", name.to_ascii_lowercase()))
}

/// A member's certificate at the name that its mail address makes; or why it is left out.
fn of_certificate(member: &MemberName, fleet: &mut Fleet) -> Result<Result<DnsRecord, String>, OpsError> {
    if let Err(void) = fleet.check_vouched(member) {
        return Ok(Err(void.to_string()));
    }
    let certificate = fleet.certificate(member)?;
    let user_id = certificate.cert().userids().next();
    let address = user_id.and_then(|u| u.userid().email().ok().flatten().map(str::to_owned));
    let Some((local, domain)) = address.as_deref().and_then(|a| a.rsplit_once('@')) else {
        return Ok(Err("its user id has no mail address".to_owned()));
    };
    let Some(domain) = host_name(domain) else { return Ok(Err(format!("'{domain}' is no name in DNS"))) };
    let bytes = own_part(&certificate)?;
    if bytes.len() > DATA_BYTES_MAX {
        return Ok(Err(format!("its certificate has {} bytes, a record at most {DATA_BYTES_MAX}", bytes.len())));
    }
    let digest = Digest::of(local.as_bytes()).0;
    let owner = hex(digest.get(..OWNER_BYTES).unwrap_or_default());
    Ok(Ok(DnsRecord {
        member: member.clone(),
        about: format!("{member} {}", certificate.user_id()),
        name: format!("{owner}._openpgpkey.{domain}"),
        data: DnsData::Openpgpkey(bytes),
    }))
}

/// A certificate without what others have signed on it.
fn own_part(certificate: &Certificate) -> Result<Vec<u8>, OpsError> {
    let cert = certificate.cert();
    let own = cert.key_handle();
    let is_own = |packet: &Packet| match packet {
        Packet::Signature(s) => s.get_issuers().iter().any(|issuer| issuer.aliases(&own)),
        _ => true,
    };
    let kept = pgp::Cert::from_packets(cert.clone().into_packets().filter(is_own));
    let failed =
        |e: String| OpenpgpError { doing: "write a certificate for DNS", detail: crate::text::shown(&e).to_string() };
    let kept = kept.map_err(|e| failed(e.to_string()))?;
    let kept = Certificate::of(&kept).map_err(|e| failed(e.to_string()))?;
    Ok(kept.bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_in_dns_are_left_out() {
        assert_eq!(host_name("Fra1.CDN.example").as_deref(), Some("fra1.cdn.example."));
        assert_eq!(host_name("fra1.cdn.example.").as_deref(), Some("fra1.cdn.example."));
        for no in
            ["fra1", "198.51.100.1", "2001:db8::1", "*.cdn.example", "a..b", "", ".", "a b.example", "deploy:fra1"]
        {
            assert_eq!(host_name(no), None, "{no}");
        }
    }

    /// RFC 7929, section 3.
    #[test]
    fn the_owner_is_that_of_the_rfc() {
        let digest = Digest::of(b"hugh").0;
        assert_eq!(hex(&digest[..OWNER_BYTES]), "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6");
    }
}
