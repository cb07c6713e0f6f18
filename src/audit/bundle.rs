//! The bundle: all that somebody needs who checks the record without `keys`. The head and the log's keys, every entry as it was
//! logged, its body and its signatures as files that gpg takes, certificates, policies, the report, and three short scripts.
//!
//! Nothing that is encrypted is in it, and nothing private. The same log and the same period give the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Report;
use super::{csv, html, tar};
use crate::digest::Digest;
use crate::name::MemberName;
use crate::statement::{Entry, principal_member};

/// Files of ours that are in every bundle.
const OURS: [(&str, &str); 5] = [
    ("check-proof.sh", include_str!("../../docs/verify/check-proof.sh")),
    ("VERIFY.md", include_str!("bundle/VERIFY.md")),
    ("verify-files.sh", include_str!("bundle/verify-files.sh")),
    ("verify-log.sh", include_str!("bundle/verify-log.sh")),
    ("verify-signatures.sh", include_str!("bundle/verify-signatures.sh")),
];

/// What a bundle is made of.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    /// The report.
    pub report: &'a Report,
    /// The head, as published.
    pub checkpoint: Vec<u8>,
    /// The log's verifier keys.
    pub vkeys: Vec<String>,
    /// All entries, as they lie in the log, each with the members whose signatures counted.
    pub entries: Vec<(Vec<u8>, BTreeSet<MemberName>)>,
    /// For each entry of the period, by index, the proof that the log has it.
    pub proofs: BTreeMap<u64, Vec<u8>>,
    /// The certificates that have, or had, the keys that signed: whose, and the bytes.
    pub signing: BTreeMap<String, (String, Vec<u8>)>,
    /// Present certificates by member.
    pub certificates: BTreeMap<String, Vec<u8>>,
    /// The policies' files, by path below `policy/`.
    pub policies: BTreeMap<String, Vec<u8>>,
}

impl Bundle<'_> {
    /// The files by path.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<String, Vec<u8>> =
            OURS.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        let mut put = |path: String, bytes: Vec<u8>| drop(files.insert(path, bytes));
        put("checkpoint".to_owned(), self.checkpoint.clone());
        put("vkeys".to_owned(), lines(&self.vkeys));
        put("fleet-id".to_owned(), lines([self.report.id]));
        for (index, (bytes, counted)) in self.entries.iter().enumerate() {
            put(format!("entries/{index:06}.entry"), bytes.clone());
            let Ok(entry) = Entry::parse(bytes) else { continue };
            put(format!("entries/{index:06}.body"), entry.signed.body);
            for (n, line) in entry.signatures.into_iter().enumerate() {
                let member = principal_member(&self.report.fleet, &line.name);
                let Some(member) = member.filter(|m| counted.contains(m)) else { continue };
                let (member, place) = (member.to_string(), n + 1);
                // The number keeps two lines in one name apart, and a long name out of the path.
                let name = if member.len() <= 64 { member } else { "member".to_owned() };
                put(format!("entries/{index:06}-{place}-{name}.sig"), line.signature);
            }
        }
        for (index, proof) in &self.proofs {
            put(format!("entries/{index:06}.tlog-proof"), proof.clone());
        }
        let signers = self.signing.iter().map(|(key, (member, _))| format!("{key} {member}")).collect::<BTreeSet<_>>();
        put("signers".to_owned(), lines(signers));
        let rings: BTreeMap<Digest, &Vec<u8>> = self.signing.values().map(|(_, c)| (Digest::of(c), c)).collect();
        put("signing.pgp".to_owned(), rings.into_values().flatten().copied().collect());
        for (member, certificate) in &self.certificates {
            let name = if member.len() <= 64 { member.clone() } else { Digest::of(member.as_bytes()).short() };
            put(format!("certificates/{name}.pgp"), certificate.clone());
        }
        for (path, text) in &self.policies {
            put(format!("policy/{path}"), text.clone());
        }
        let json = serde_json::to_string_pretty(self.report).unwrap_or_default() + "\n";
        put("REPORT.json".to_owned(), json.into_bytes());
        put("REPORT.html".to_owned(), html::page(self.report).into_bytes());
        put("REPORT-findings.csv".to_owned(), csv::findings(self.report));
        put("REPORT-entries.csv".to_owned(), csv::entries(self.report));
        put("REPORT-keys.csv".to_owned(), csv::keys(self.report));
        put("REPORT-access.csv".to_owned(), csv::access(self.report));
        let sums = files.iter().map(|(path, bytes)| format!("{}  {path}", Digest::of(bytes))).collect::<Vec<_>>();
        files.insert("SHA256SUMS".to_owned(), lines(sums));
        files
    }

    /// The files as one tar archive, below a directory.
    pub fn archive(&self) -> Vec<u8> {
        let files = self.files().into_iter().map(|(path, bytes)| (format!("audit/{path}"), bytes)).collect();
        tar::archive(&files, self.report.log.newest)
    }
}

fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    items.into_iter().map(|item| item.to_string() + "\n").collect::<String>().into_bytes()
}
