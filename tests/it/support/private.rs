//! Private keys as they would show up elsewhere: the numbers that make them, in every spelling a file may have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sequoia_openpgp::Cert;
use sequoia_openpgp::crypto::mpi::SecretKeyMaterial;
use sequoia_openpgp::packet::key::SecretKeyMaterial as Stored;
use sequoia_openpgp::parse::Parse as _;

/// Every file below a directory, in order.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.symlink_metadata().unwrap().is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// The private numbers in a home: the file that holds each, and its bytes.
pub(crate) fn private_numbers(home: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in files_below(&home.join("members")) {
        let numbers = match path.extension().and_then(|e| e.to_str()) {
            Some("tsk") => of_certificate(&path),
            Some("kem") => vec![STANDARD.decode(std::fs::read_to_string(&path).unwrap().trim_end()).unwrap()],
            Some("key") => vec![of_key_file(&std::fs::read_to_string(&path).unwrap())],
            _ => continue,
        };
        assert!(!numbers.is_empty() && numbers.iter().all(|n| n.len() >= 30), "{}", path.display());
        found.extend(numbers.into_iter().map(|n| (path.clone(), n)));
    }
    found
}

fn of_certificate(path: &Path) -> Vec<Vec<u8>> {
    let cert = Cert::from_file(path).unwrap();
    let keys = cert.keys().secret().map(|k| match k.key().secret() {
        Stored::Unencrypted(plain) => plain.map(|numbers| match numbers {
            SecretKeyMaterial::EdDSA { scalar } | SecretKeyMaterial::ECDH { scalar } => scalar.value().to_vec(),
            other => panic!("a kind of key that this fleet does not make: {other:?}"),
        }),
        Stored::Encrypted(_) => panic!("it has a password"),
    });
    keys.collect()
}

/// What is in a private key file of OpenSSH, of Go's notes, or of WireGuard.
fn of_key_file(text: &str) -> Vec<u8> {
    if text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
        let key = ssh_key::PrivateKey::from_openssh(text).unwrap();
        return key.key_data().ed25519().unwrap().private.to_bytes().to_vec();
    }
    match text.trim_end().strip_prefix("PRIVATE+KEY+") {
        // Name, hash, and one byte for the algorithm before the number.
        Some(note) => STANDARD.decode(note.splitn(3, '+').nth(2).unwrap()).unwrap()[1..].to_vec(),
        None => STANDARD.decode(text.trim_end()).unwrap(),
    }
}

/// Byte strings to look for in files, all at once.
#[derive(Default)]
pub(crate) struct Needles {
    by_head: HashMap<[u8; 8], Vec<(String, Vec<u8>)>>,
}

impl Needles {
    /// Looks for `bytes` as they are, backwards, in hexadecimal and in base64, however they are aligned in it.
    pub(crate) fn add(&mut self, label: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let mut spellings = vec![bytes.to_vec(), bytes.iter().rev().copied().collect()];
        spellings.extend([hex.to_uppercase().into_bytes(), hex.into_bytes()]);
        for skipped in 0..3 {
            // The whole groups of three: what stands around them does not change how they are spelled.
            let groups = &bytes[skipped..skipped + (bytes.len() - skipped) / 3 * 3];
            spellings.push(STANDARD_NO_PAD.encode(groups).into_bytes());
            spellings.push(URL_SAFE_NO_PAD.encode(groups).into_bytes());
        }
        for spelling in spellings {
            let head = *spelling.first_chunk().expect("a secret of at least eleven bytes");
            self.by_head.entry(head).or_default().push((label.to_owned(), spelling));
        }
    }

    /// The label of a needle that is in `hay`, or would be if its lines were joined.
    pub(crate) fn found_in(&self, hay: &[u8]) -> Option<&str> {
        let joined: Vec<u8> = hay.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        self.found_in_run(hay).or_else(|| self.found_in_run(&joined))
    }

    fn found_in_run(&self, hay: &[u8]) -> Option<&str> {
        hay.windows(8).enumerate().find_map(|(at, head)| {
            let candidates = self.by_head.get(head)?;
            candidates.iter().find(|(_, needle)| hay[at..].starts_with(needle)).map(|(label, _)| label.as_str())
        })
    }
}
