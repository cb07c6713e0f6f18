//! Targets for what a backup is made of.

use keys::backup::{Archive, Contents, Manifest, Share};

/// A backup has one spelling: its parts written anew give its bytes.
///
/// # Panics
/// If they do not.
pub fn contents(data: &[u8]) {
    let Ok(contents) = Contents::read(data) else { return };
    let body_at = usize::try_from(contents.body_at).expect("it was in memory");
    let body_bytes = usize::try_from(contents.manifest.body.bytes).expect("it was in memory");
    let mut archive = Archive::new(Vec::new());
    for name in contents.manifest.parts() {
        let part = match name.as_str() {
            "body.pgp" => &data[body_at..body_at + body_bytes],
            "manifest.json" => &contents.signed,
            "manifest.sig" => &contents.signature,
            share => {
                &contents.shares[share.strip_prefix("share-").and_then(|n| n.strip_suffix(".pgp")).expect("a share")]
            }
        };
        archive.part(&name, part).expect("what was read can be written");
    }
    assert_eq!(archive.finish().expect("memory does not fail"), data);
}

/// A manifest has one spelling.
///
/// # Panics
/// If it has two.
pub fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    assert_eq!(manifest.to_bytes(), data);
    assert!(manifest.need >= 2 && manifest.need <= manifest.custodians.len());
    assert!(manifest.parts().iter().all(|part| keys::backup::is_path(part)));
}

/// A share has one spelling.
///
/// # Panics
/// If it has two.
pub fn share(data: &[u8]) {
    let Ok(share) = Share::parse(data) else { return };
    assert_eq!(share.to_text().as_slice(), data);
    assert_eq!(share.digest(), keys::digest::Digest::of(data));
}

/// What to begin with.
pub mod seeds {
    use std::collections::BTreeSet;

    use keys::backup::{Body, ContentKey, Custody, Sums, split};
    use keys::digest::Digest;
    use keys::openpgp::Profile;
    use keys::time::Time;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const BODY: &[u8] = b"a closed body";

    fn shares() -> Vec<Share> {
        let mut rng = StdRng::from_seed([5; 32]);
        let names = ["alice", "bob", "carol"].map(str::to_owned);
        let key = ContentKey::generate(&mut rng);
        let fleet = "cdn.example".parse().expect("a name");
        split(&key, &names, 2, (Digest::of(b"backup"), &fleet), &mut rng).expect("2 of 3")
    }

    fn sealed(share: &Share) -> Vec<u8> {
        format!("sealed for {}", share.custodian).into_bytes()
    }

    fn example() -> Manifest {
        let custody = |share: &Share| Custody {
            file: Digest::of(&sealed(share)),
            keys: vec!["94A0".to_owned()],
            name: share.custodian.clone(),
            share: share.digest(),
        };
        Manifest {
            backup: Digest::of(b"backup"),
            body: Body { bytes: BODY.len() as u64, file: Digest::of(BODY) },
            by: "alice".parse().expect("a name"),
            checkpoint: crate::example::checkpoint().to_text(),
            custodians: shares().iter().map(custody).collect(),
            fleet: "cdn.example".parse().expect("a name"),
            holds: BTreeSet::from(["casc1".parse().expect("a name")]),
            id: Digest::of(b"fleet"),
            key: "94A0".to_owned(),
            made: Time(1_795_244_400),
            need: 2,
            profile: Profile::Compat,
            sums: Sums { bytes: 1, digest: Digest::of(b"sums"), files: 1 },
            v: Manifest::VERSION,
        }
    }

    /// Of [`super::contents`].
    pub fn contents() -> Vec<Vec<u8>> {
        let mut archive = Archive::new(Vec::new());
        let mut part = |name: &str, bytes: &[u8]| archive.part(name, bytes).expect("memory does not fail");
        shares().iter().for_each(|share| part(&format!("share-{}.pgp", share.custodian), &sealed(share)));
        part("body.pgp", BODY);
        part("manifest.json", &example().to_bytes());
        part("manifest.sig", b"a signature");
        vec![archive.finish().expect("memory does not fail")]
    }

    /// Of [`super::manifest`].
    pub fn manifest() -> Vec<Vec<u8>> {
        let all = Manifest { need: 3, holds: BTreeSet::new(), profile: Profile::Modern, ..example() };
        vec![example().to_bytes(), all.to_bytes()]
    }

    /// Of [`super::share`].
    pub fn share() -> Vec<Vec<u8>> {
        shares().iter().map(|share| share.to_text().to_vec()).collect()
    }
}
