//! The pages, each under every name that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use sequoia_openpgp as pgp;

use pgp::types::HashAlgorithm;
use pgp::{Fingerprint, KeyID};

use super::Served;
use super::served::encoded;
use crate::digest::Digest;
use crate::limits::{FOUND_MAX, SEARCH_BYTES_MIN};
use crate::openpgp::armor_certificates;

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// Certificates as text.
    Armored,
    /// Certificates, binary, for HKP v2.
    Binary,
    /// Certificates, binary, for WKD.
    Wkd,
    /// Lines.
    Index,
    /// A list as JSON.
    Json,
}

impl PageKind {
    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Armored => "application/pgp-keys",
            Self::Binary => "application/pgp-keys; armor=no",
            Self::Wkd => "application/octet-stream",
            Self::Index => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What it is.
    pub kind: PageKind,
    /// What is on it.
    pub bytes: Arc<[u8]>,
    /// What that is called by, once somebody has asked.
    digest: Arc<OnceLock<Digest>>,
}

impl Page {
    fn of(kind: PageKind, bytes: Vec<u8>) -> Self {
        Self { kind, bytes: bytes.into(), digest: Arc::default() }
    }

    /// The digest of what is on it; worked out once for all names of the page.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Digest::of(&self.bytes))
    }
}

/// All pages, by their paths below the server's root.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pages: BTreeMap<String, Page>,
    /// User ids in lower case, for those who search by a part of one.
    names: Vec<(String, Arc<Served>)>,
}

impl Tree {
    /// The tree of these certificates.
    pub fn of(all: &[Arc<Served>]) -> Self {
        let mut tree = Self::default();
        let mut by_key: BTreeMap<String, Vec<&Arc<Served>>> = BTreeMap::new();
        let mut by_id: BTreeMap<String, Vec<&Arc<Served>>> = BTreeMap::new();
        let mut by_address: BTreeMap<&str, Vec<&Arc<Served>>> = BTreeMap::new();
        for one in all {
            for key in &one.keys {
                by_key.entry(key.to_hex()).or_default().push(one);
                let same = by_id.entry(KeyID::from(key).to_hex()).or_default();
                if !same.iter().any(|known| known.fingerprint == one.fingerprint) {
                    same.push(one);
                }
            }
            for address in &one.addresses {
                by_address.entry(address).or_default().push(one);
            }
            if one.armored.is_some() && !one.is_revoked {
                tree.names.extend(one.user_ids.iter().map(|u| (u.to_lowercase(), Arc::clone(one))));
            }
        }
        for (hex, found) in by_key.iter().chain(&by_id) {
            tree.v1(&spellings(hex, found, |hex| format!("0x{hex}")), found);
        }
        for (hex, found) in &by_key {
            let version = if hex.len() == 40 { "04" } else { "06" };
            let both = ["", "/"].map(|between| spellings(hex, found, |hex| format!("{version}{between}{hex}")));
            tree.v2("certs/by-vfingerprint", &both.concat(), found);
        }
        for (hex, found) in &by_id {
            tree.v2("certs/by-keyid", &spellings(hex, found, str::to_owned), found);
        }
        for (address, found) in &by_address {
            let names = in_urls(address);
            tree.v1(&names, found);
            tree.v2("certs/by-identity", &names, found);
            let list = serde_json::Value::from(found.iter().map(|one| one.json()).collect::<Vec<_>>());
            tree.put(names.iter().map(|name| format!("pks/v2/index/{name}")), PageKind::Json, list.to_string().into());
        }
        tree.wkd(&by_address);
        tree
    }

    fn put(&mut self, paths: impl Iterator<Item = String>, kind: PageKind, bytes: Vec<u8>) {
        let page = Page::of(kind, bytes);
        self.pages.extend(paths.map(|path| (path, page.clone())));
    }

    /// For HKP v1: certificates as one text, and what a list says of them. What older clients cannot read is not there.
    fn v1(&mut self, names: &[String], found: &[&Arc<Served>]) {
        let found: Vec<&Arc<Served>> = found.iter().filter(|one| one.armored.is_some()).copied().collect();
        let text = match found.as_slice() {
            [] => return,
            [one] => one.armored.clone(),
            several => armor_certificates(&together(several)).ok(),
        };
        let Some(text) = text else { return };
        self.put(names.iter().map(|name| format!("pks/get/{name}")), PageKind::Armored, text);
        let names = names.iter().map(|name| format!("pks/index/{name}"));
        self.put(names, PageKind::Index, index(&found).into_bytes());
    }

    fn v2(&mut self, place: &str, names: &[String], found: &[&Arc<Served>]) {
        let names = names.iter().map(|name| format!("pks/v2/{place}/{name}"));
        self.put(names, PageKind::Binary, together(found));
    }

    /// The Web Key Directory of each domain that an address has.
    fn wkd(&mut self, by_address: &BTreeMap<&str, Vec<&Arc<Served>>>) {
        let split = by_address.iter().filter_map(|(address, found)| Some((address.rsplit_once('@')?, found)));
        for ((local, domain), found) in split {
            let Some(hashed) = hashed(local) else { continue };
            let place = format!(".well-known/openpgpkey/{domain}");
            self.put(std::iter::once(format!("{place}/policy")), PageKind::Index, Vec::new());
            self.put(std::iter::once(format!("{place}/hu/{hashed}")), PageKind::Wkd, together(found));
        }
    }

    /// The page at this path below the root.
    pub fn page(&self, path: &str) -> Option<&Page> {
        self.pages.get(path)
    }

    /// All paths and pages.
    pub fn pages(&self) -> impl Iterator<Item = (&str, &Page)> {
        self.pages.iter().map(|(path, page)| (path.as_str(), page))
    }

    /// A list of the certificates that have this in a user id, as long as a list may be; `None` if there is none.
    pub fn search(&self, text: &str) -> Option<Page> {
        let text = text.to_lowercase();
        if text.len() < SEARCH_BYTES_MIN {
            return None;
        }
        let mut seen: BTreeSet<&Fingerprint> = BTreeSet::new();
        let named = self.names.iter().filter(|(name, one)| name.contains(&text) && seen.insert(&one.fingerprint));
        let found: Vec<&Arc<Served>> = named.map(|(_, one)| one).take(FOUND_MAX).collect();
        let bytes: Vec<u8> = (!found.is_empty()).then(|| index(&found))?.into_bytes();
        Some(Page::of(PageKind::Index, bytes))
    }
}

/// The name made of upper-case digits, and, where it is a primary key's, of lower-case ones: a file server cannot fold them.
fn spellings(hex: &str, found: &[&Arc<Served>], name: impl Fn(&str) -> String) -> Vec<String> {
    let is_primary = found.iter().any(|one| one.fingerprint.to_hex().ends_with(hex));
    let lower = is_primary.then(|| name(&hex.to_ascii_lowercase())).filter(|lower| *lower != name(hex));
    std::iter::once(name(hex)).chain(lower).collect()
}

/// An address as it is, and as clients write it in a URL: a file server that rewrites does not decode it.
fn in_urls(address: &str) -> Vec<String> {
    vec![address.to_owned(), encoded(address)]
}

fn together(found: &[&Arc<Served>]) -> Vec<u8> {
    found.iter().flat_map(|one| one.bytes.iter().copied()).collect()
}

fn index(found: &[&Arc<Served>]) -> String {
    let lines: String = found.iter().map(|one| one.lines()).collect();
    format!("info:1:{}\n{lines}", found.len())
}

/// The name of a local part in a Web Key Directory: z-base-32 of its SHA-1. The address says whose it is, not the hash.
fn hashed(local: &str) -> Option<String> {
    let mut context = HashAlgorithm::SHA1.context().ok()?.for_digest();
    context.update(local.as_bytes());
    let digest = context.into_digest().ok()?;
    let mut name = String::new();
    for five in digest.chunks(5) {
        let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for shift in (0..8).rev() {
            name.push(char::from(*b"ybndrfg8ejkmcpqxot1uwisza345h769".get((bits >> (5 * shift) & 31) as usize)?));
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of draft-koch-openpgp-webkey-service, section 3.1.
    #[test]
    fn a_local_part_has_the_name_of_the_draft() {
        assert_eq!(hashed("joe.doe").as_deref(), Some("iy9q119eutrkn8s1mk4r39qejnbu3n5q"));
    }
}
