//! Making a backup: keyring and policy, closed for a quorum of custodians. Effects, in order:
//!
//! 1. the keyring is verified, under its lock: a backup of what is damaged is none.
//! 2. NAME.partial is written from beginning to end, each file read twice and compared, and made durable.
//! 3. it gets its name.
//!
//! A crash before the last step leaves nothing that could be taken for a backup. No plaintext of what is sealed here is
//! ever on a disk: files go through memory, one at a time, into the encryption.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek as _, SeekFrom, Write};

use rand::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{OpsError, signers};
use crate::backup::{
    Archive, ArchiveError, Body, ContentKey, Contents, Custody, Manifest, Share, Sums, origin, rewrite_size, split,
};
use crate::digest::Digest;
use crate::disk::{Disk, EntryKind, NewFile, is_temporary};
use crate::fleet::{Draft, Fleet, Signer};
use crate::home::Home;
use crate::limits::{BACKUP_FILES_MAX, KEY_FILE_BYTES_MAX, KEYRING_FILE_BYTES_MAX, POLICY_BYTES_MAX, SHARE_BYTES_MAX};
use crate::name::{Kind, MemberName, Slot};
use crate::openpgp::{self, BodyWriter, Certificate, Fingerprint, PublicKey, StatementSignature, sign_statement};
use crate::statement::{Act, BackupMade};
use crate::time::Time;

/// What a backup is, beside the files in it, of the room that it needs.
const OVERHEAD: u64 = 4 << 20;

/// Somebody who gets a share, with the keys that it is sealed to.
#[derive(Debug, Clone)]
pub struct Custodian {
    /// A member's name, or a certificate's fingerprint.
    pub name: String,
    keys: Vec<PublicKey>,
    primary: Fingerprint,
}

impl Custodian {
    /// An operator of the fleet, by her certificate in the log: active and standby key.
    ///
    /// # Errors
    /// [`OpsError`], if she is none, or her certificate is not to be trusted now.
    pub fn member(name: &MemberName, fleet: &mut Fleet) -> Result<Self, OpsError> {
        let member = fleet.state().members.get(name).filter(|m| m.is_active());
        let member = member.ok_or_else(|| OpsError::NoMember(name.clone()))?;
        if member.kind != Kind::Operator {
            return Err(OpsError::Impossible(format!("{name} is a {}; custodians are operators", member.kind)));
        }
        fleet.check_vouched(name)?;
        let wanted: Vec<String> = fleet.state().encryption_keys(name).map(str::to_owned).collect();
        let certificate = fleet.certificate(name)?;
        let key = |text: &String| certificate.key(&Fingerprint::from_hex(text).ok()?).cloned();
        let keys: Vec<PublicKey> = wanted.iter().filter_map(key).collect();
        if keys.is_empty() || keys.len() != wanted.len() {
            return Err(OpsError::Impossible(format!("{name} has no encryption key to seal a share to")));
        }
        Ok(Self { name: name.to_string(), keys, primary: certificate.fingerprint() })
    }

    /// Somebody else, by a certificate that the caller vouches for.
    ///
    /// # Errors
    /// [`OpsError`], if it is expired, revoked, or cannot be encrypted to.
    pub fn certificate(certificate: &Certificate, now: Time) -> Result<Self, OpsError> {
        let name = certificate.fingerprint().to_hex();
        certificate.alive(now).map_err(|e| OpsError::Impossible(format!("the certificate {name} {e}")))?;
        let key = certificate.flagged_key(Slot::Openpgp, now).and_then(|f| certificate.key(&f).cloned());
        let none = || OpsError::Impossible(format!("the certificate {name} has no key that can be encrypted to"));
        Ok(Self { keys: vec![key.ok_or_else(none)?], primary: certificate.fingerprint(), name })
    }
}

/// A backup that is to be made.
#[derive(Debug)]
pub struct BackupPlan {
    /// Its id, random.
    pub id: Digest,
    /// Who gets shares, in order of their names.
    pub custodians: Vec<Custodian>,
    /// How many of them are needed.
    pub need: usize,
    /// Whose private halves go in; nobody's, unless they were asked for by name.
    pub holds: BTreeSet<MemberName>,
}

/// Plans a backup for these custodians, `need` of whom open it together.
///
/// # Errors
/// [`OpsError`], if one is there twice or the numbers are no quorum.
pub fn plan_backup(
    mut custodians: Vec<Custodian>,
    need: usize,
    holds: BTreeSet<MemberName>,
    rng: &mut impl CryptoRng,
) -> Result<BackupPlan, OpsError> {
    custodians.sort_by(|a, b| a.name.cmp(&b.name));
    let mut seen = BTreeSet::new();
    for custodian in &custodians {
        // One key is one custodian, whatever the names and certificates around it.
        let keys = custodian.keys.iter().map(openpgp::material);
        let known: Vec<bool> = keys.map(|k| !seen.insert(k)).collect();
        if known.contains(&true) || custodians.iter().filter(|c| c.primary == custodian.primary).count() > 1 {
            return Err(OpsError::Impossible(format!(
                "the custodian {} is there twice; each counts once",
                custodian.name
            )));
        }
    }
    // Refused before anything is read.
    let (key, names) = (ContentKey::generate(rng), names(&custodians));
    let nobody = (Digest::of(b""), &"none.example".parse()?);
    split(&key, &names, need, nobody, rng)?;
    let mut id = [0; 32];
    rng.fill_bytes(&mut id);
    Ok(BackupPlan { id: Digest(id), custodians, need, holds })
}

/// Checks that the private halves of these members lie in this home, and may go into a backup: an operator's or an
/// authority's, whose loss nothing makes good. A machine's keys are made anew.
///
/// # Errors
/// [`OpsError`].
pub fn check_holds(holds: &BTreeSet<MemberName>, home: &Home, fleet: &Fleet) -> Result<(), OpsError> {
    let here = home.members()?;
    for name in holds {
        let member = fleet.state().members.get(name).filter(|m| m.is_active());
        let member = member.ok_or_else(|| OpsError::NoMember(name.clone()))?;
        if !matches!(member.kind, Kind::Operator | Kind::Authority) {
            let problem = "the keys of machines are made anew, not restored";
            return Err(crate::state::Void::BackedUp { member: name.clone(), problem }.into());
        }
        if !here.contains(name) {
            return Err(OpsError::KeyElsewhere { member: name.clone(), slot: Slot::Openpgp });
        }
        if home.agent(name)?.is_some() {
            return Err(OpsError::Impossible(format!(
                "gpg-agent has the keys of {name}; it is gpg that backs them up"
            )));
        }
    }
    Ok(())
}

/// Takes the id that the log knows already for this plan: whoever is without the log's key has to wait for that.
///
/// # Errors
/// [`OpsError::Backup`], if the log does not know it, or knows it otherwise.
pub fn adopt_id(plan: &mut BackupPlan, id: Digest, fleet: &Fleet) -> Result<(), OpsError> {
    let custodians: BTreeSet<String> = plan.custodians.iter().map(|c| c.name.clone()).collect();
    let backups = &fleet.state().backups;
    let right = |name: &&MemberName| {
        let held = backups.get(*name).and_then(|ids| ids.get(&id));
        held.is_some_and(|h| h.custodians == custodians && h.need == plan.need as u64)
    };
    match plan.holds.iter().find(|name| !right(name)) {
        Some(name) => Err(OpsError::Impossible(format!(
            "the log does not know the backup {} of the private halves of {name} for these custodians; 'keys log show' \
             shows whether it has been taken in",
            id.short()
        ))),
        None => {
            plan.id = id;
            Ok(())
        }
    }
}

/// The entry by which the log knows that a backup with private halves is made; none if there are none in it.
pub fn backup_draft(plan: &BackupPlan, reason: &str) -> Option<Draft> {
    let change = |member: &MemberName| BackupMade {
        backup: plan.id,
        custodians: plan.custodians.iter().map(|c| c.name.clone()).collect(),
        member: member.clone(),
        need: plan.need as u64,
    };
    let changes: Vec<BackupMade> = plan.holds.iter().map(change).collect();
    (!changes.is_empty()).then(|| Draft::bare(Act::Backup(changes), reason))
}

fn names(custodians: &[Custodian]) -> Vec<String> {
    custodians.iter().map(|c| c.name.clone()).collect()
}

/// The files that go into a backup, by their path in it.
pub struct Sources<'a> {
    /// The keyring, which the caller has locked.
    pub keyring: &'a Disk,
    /// The policy's files.
    pub policy: &'a Disk,
    /// A home, which the caller has locked, and whose private halves of it.
    pub home: Option<(&'a Disk, &'a BTreeSet<MemberName>)>,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources(..)")
    }
}

impl Sources<'_> {
    pub(super) fn list(&self) -> Result<Vec<String>, OpsError> {
        let mut paths = Vec::new();
        let file = |kind: &EntryKind| *kind == EntryKind::File;
        for (path, kind) in self.keyring.walk("").map_err(crate::fleet::FleetError::from)? {
            if file(&kind) && !is_temporary(&path) && !path.starts_with('.') {
                paths.push(format!("keyring/{path}"));
            }
        }
        for (path, kind) in self.policy.list("").map_err(crate::fleet::FleetError::from)? {
            if file(&kind) && path.ends_with(".toml") {
                paths.push(format!("policy/{path}"));
            }
        }
        if let Some((home, members)) = self.home {
            let below = members.iter().map(|name| format!("members/{name}")).collect::<Vec<_>>();
            for directory in below {
                for (path, kind) in home.walk(&directory).map_err(crate::fleet::FleetError::from)? {
                    if file(&kind) && !is_temporary(&path) {
                        paths.push(format!("home/{path}"));
                    }
                }
            }
            paths.push("home/pin".to_owned());
        }
        if paths.len() > BACKUP_FILES_MAX {
            return Err(OpsError::Impossible(format!("more than {BACKUP_FILES_MAX} files are too many for a backup")));
        }
        paths.sort();
        Ok(paths)
    }

    pub(super) fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, OpsError> {
        let (disk, at, limit) = match path.split_once('/') {
            Some(("policy", at)) => (self.policy, at, POLICY_BYTES_MAX),
            Some(("home", at)) => (self.home.ok_or_else(|| moved(path))?.0, at, KEY_FILE_BYTES_MAX),
            Some((_, at)) => (self.keyring, at, KEYRING_FILE_BYTES_MAX),
            None => return Err(OpsError::Impossible(format!("{path} belongs nowhere"))),
        };
        let bytes = disk.read(at, limit).map_err(crate::fleet::FleetError::from)?;
        bytes.map(Zeroizing::new).ok_or_else(|| moved(path))
    }
}

fn moved(path: &str) -> OpsError {
    let path = crate::text::shown(path).to_string();
    crate::fleet::FleetError::Moved(format!("{path} is another file now than when the backup was begun")).into()
}

/// Writes a backup to `out`, which the caller then commits. The fleet is that of the sources' keyring, verified; `only`
/// picks who signs the manifest.
///
/// # Errors
/// [`OpsError`].
pub fn write_backup(
    plan: &BackupPlan,
    sources: &Sources<'_>,
    home: &Home,
    fleet: &mut Fleet,
    only: Option<&MemberName>,
    out: &mut NewFile,
    rng: &mut impl CryptoRng,
) -> Result<Manifest, OpsError> {
    let mut signer = maker(home, fleet, only)?;
    let mut sums = String::new();
    let (mut bytes, mut files) = (0u64, Vec::new());
    for path in sources.list()? {
        let content = sources.read(&path)?;
        let digest = Digest::of(&content);
        bytes = bytes.saturating_add(content.len() as u64);
        sums.push_str(&format!("{digest}  {path}\n"));
        files.push((path, digest));
    }
    let sums_of = Sums { bytes, digest: Digest::of(sums.as_bytes()), files: files.len() as u64 };
    // A header and some padding for each file.
    let needed = bytes.saturating_add(files.len() as u64 * 1024).saturating_add(sums.len() as u64 + OVERHEAD);
    out.need_room(needed).map_err(crate::fleet::FleetError::from)?;
    let written = write(plan, sources, (&files, &sums, sums_of), fleet, &mut signer, out, rng);
    // The encryption in between says less than the disk did.
    match out.failure() {
        Some(e) if written.is_err() => Err(crate::fleet::FleetError::from(e).into()),
        _ => written,
    }
}

/// An operator or authority of this home, who signs the manifest.
fn maker(home: &Home, fleet: &mut Fleet, only: Option<&MemberName>) -> Result<Signer, OpsError> {
    let found = signers(home, fleet, only)?.into_iter().find(|s| {
        let kind = fleet.state().members.get(&s.member).map(|m| m.kind);
        matches!(kind, Some(Kind::Operator | Kind::Authority))
    });
    found.ok_or(OpsError::NoActor("operator or authority who could sign a backup"))
}

type Inside<'a> = (&'a [(String, Digest)], &'a str, Sums);

fn write(
    plan: &BackupPlan,
    sources: &Sources<'_>,
    (files, sums, sums_of): Inside<'_>,
    fleet: &mut Fleet,
    signer: &mut Signer,
    out: &mut NewFile,
    rng: &mut impl CryptoRng,
) -> Result<Manifest, OpsError> {
    let state = fleet.state();
    let (name, id, profile) = (state.fleet.clone(), state.id, state.policy.policy.fleet.profile);
    let key = ContentKey::generate(rng);
    let shares = split(&key, &names(&plan.custodians), plan.need, (plan.id, &name), rng)?;
    let mut archive = Archive::new(&mut *out);
    let mut custodians = Vec::new();
    for (share, custodian) in shares.iter().zip(&plan.custodians) {
        let sealed = seal_share(share, &custodian.keys)?;
        let custody = Custody {
            file: Digest::of(&sealed),
            keys: custodian.keys.iter().map(|k| k.fingerprint().to_hex()).collect(),
            name: custodian.name.clone(),
            share: share.digest(),
        };
        archive.part(&custody.part(), &sealed)?;
        custodians.push(custody);
    }
    let header_at = archive.begin("body.pgp", 0)?;
    let mut hashed = Hashed { out: archive.out(), hash: Sha256::new(), bytes: 0 };
    let mut inner = Archive::new(BodyWriter::new(key.expose(), profile, &mut hashed)?);
    inner.part("SHA256SUMS", sums.as_bytes())?;
    for (path, digest) in files {
        let content = sources.read(path)?;
        if Digest::of(&content) != *digest {
            return Err(moved(path));
        }
        inner.part(path, &content)?;
    }
    inner.finish()?.finish()?;
    let body = Body { bytes: hashed.bytes, file: Digest(hashed.hash.finalize().into()) };
    archive.end(body.bytes)?;
    let manifest = Manifest {
        backup: plan.id,
        body,
        by: signer.member.clone(),
        checkpoint: fleet.head().map(|h| h.checkpoint.to_text()).unwrap_or_default(),
        custodians,
        fleet: name.clone(),
        holds: plan.holds.clone(),
        id,
        key: signer.key.public().fingerprint().to_hex(),
        made: fleet.now(),
        need: plan.need,
        profile,
        sums: sums_of,
        v: Manifest::VERSION,
    };
    let signed = manifest.to_bytes();
    let signature = sign_statement(signer.key.as_mut(), &name, &origin(&name), &signed, fleet.now())?;
    archive.part("manifest.json", &signed)?;
    archive.part("manifest.sig", &signature)?;
    let out = archive.finish()?;
    let failed = |e: std::io::Error| OpsError::from(ArchiveError::from(e));
    out.seek(SeekFrom::Start(header_at)).map_err(failed)?;
    out.write_all(&rewrite_size("body.pgp", manifest.body.bytes)?).map_err(failed)?;
    Ok(manifest)
}

fn seal_share(share: &Share, keys: &[PublicKey]) -> Result<Vec<u8>, OpsError> {
    let keys: Vec<&PublicKey> = keys.iter().collect();
    openpgp::encrypt(&share.to_text(), &keys)
        .map_err(|e| OpsError::Share { custodian: share.custodian.clone(), problem: e.to_string() })
}

/// Hashes and counts what passes.
struct Hashed<'a> {
    out: &'a mut NewFile,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Checks a backup's signature against the log: by the key that the manifest names, of the member that it names, who is or
/// was an operator or authority of this fleet, and not compromised.
///
/// # Errors
/// [`OpsError`].
pub fn verify_backup(contents: &Contents, fleet: &mut Fleet) -> Result<(), OpsError> {
    let manifest = &contents.manifest;
    let bad = |problem: String| OpsError::Backup(format!("it cannot be trusted: {problem}"));
    let (id, name) = (fleet.state().id, fleet.state().fleet.clone());
    if manifest.id != id {
        return Err(bad(format!(
            "it is of the fleet {} ({}), not of {name} ({})",
            manifest.fleet,
            manifest.id.short(),
            id.short()
        )));
    }
    let signature = StatementSignature::parse(&contents.signature, &name, &origin(&name));
    let signature = signature.map_err(|e| bad(format!("manifest.sig {e}")))?;
    let certificate = fleet.signing_certificate(&manifest.key)?;
    let key = certificate.as_ref().and_then(|c| c.key(&Fingerprint::from_hex(&manifest.key).ok()?));
    let key = key.ok_or_else(|| bad(format!("its key {} is nobody's in this fleet", manifest.key)))?;
    signature
        .verify(key, &contents.signed)
        .map_err(|_| bad("manifest.sig does not verify over manifest.json".to_owned()))?;
    let member = fleet.state().members.get(&manifest.by).map(AsRef::as_ref);
    let owns = |m: &&crate::state::Member| certificate.as_ref().is_some_and(|c| c.fingerprint() == m.fingerprint);
    let member = member.filter(owns).filter(|m| matches!(m.kind, Kind::Operator | Kind::Authority));
    let member = member.ok_or_else(|| bad(format!("{} is no operator or authority with that key", manifest.by)))?;
    match &member.retired {
        Some((_, why)) if why.burns() => return Err(bad(format!("{}, who made it, was {why}", manifest.by))),
        _ => {}
    }
    let backups = &fleet.state().backups;
    let logged = |name: &&MemberName| backups.get(*name).is_some_and(|ids| ids.contains_key(&manifest.backup));
    match manifest.holds.iter().find(|name| !logged(name)) {
        Some(name) => Err(bad(format!("it holds private halves of {name}, and the log knows nothing of that"))),
        None => Ok(()),
    }
}

/// Opens the share of `custodian` with a key of this home and seals it again, to whoever restores. It is nowhere in the
/// clear.
///
/// # Errors
/// [`OpsError`].
pub fn open_share(
    contents: &Contents,
    custodian: &MemberName,
    to: &Certificate,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Vec<u8>, OpsError> {
    verify_backup(contents, fleet)?;
    let name = custodian.to_string();
    let bad = |problem: String| OpsError::Share { custodian: name.clone(), problem };
    let custody = contents.manifest.custodian(&name).ok_or_else(|| {
        let all = contents.manifest.custodians.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        bad(format!("the backup has none; its custodians are {all}"))
    })?;
    let mut own = Vec::new();
    for fingerprint in custody.keys.iter().filter_map(|k| Fingerprint::from_hex(k).ok()) {
        if let Some(key) = super::open::decryptor(home, custodian, &fingerprint, fleet)? {
            own.push((fingerprint, key));
        }
    }
    if own.is_empty() {
        return Err(OpsError::KeyElsewhere { member: custodian.clone(), slot: Slot::Openpgp });
    }
    let sealed = contents.shares.get(&name).map(Vec::as_slice).unwrap_or_default();
    let text = openpgp::decrypt(sealed, &mut own, SHARE_BYTES_MAX).map_err(|e| bad(e.to_string()))?;
    let share = check_share(&text, &contents.manifest).map_err(bad)?;
    let receiver = Custodian::certificate(to, fleet.now())?;
    Ok(openpgp::armor(&seal_share(&share, &receiver.keys)?)?)
}

/// A share that is of this backup, and right.
///
/// # Errors
/// In words, what is wrong with it.
pub fn check_share(text: &[u8], manifest: &Manifest) -> Result<Share, String> {
    let share = Share::parse(text).map_err(|e| e.to_string())?;
    if share.backup != manifest.backup {
        let (other, this) = (share.backup.short(), manifest.backup.short());
        return Err(format!("it is of another backup ({other}, not {this})"));
    }
    let right: BTreeMap<&str, Digest> = manifest.custodians.iter().map(|c| (c.name.as_str(), c.share)).collect();
    if right.get(share.custodian.as_str()) == Some(&share.digest()) {
        Ok(share)
    } else {
        Err("it is not the share that the manifest names".to_owned())
    }
}
