//! Restoring from a backup, into a directory of its own. Effects, in order:
//!
//! ```text
//! DIR/restore.tsk  restore.pgp     a one-time key, which custodians seal their shares to   (prepare)
//! DIR/.restoring/…                 everything, written, made durable, then verified         (restore)
//! DIR/home                         the home, if there is one, by one rename
//! DIR/fleet                        keyring and policy, by one rename: now it is restored
//! ```
//! A crash before the last rename leaves no `fleet`; the next run removes what the last one left and begins anew. Keyring
//! and home carry a mark: the fleet may have gone on since the backup, so nothing is signed here before somebody shows
//! that it has not, or that this is no fork ([`confirm`]).

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use sequoia_openpgp as pgp;

use pgp::parse::Parse as _;
use pgp::serialize::MarshalInto as _;
use zeroize::Zeroizing;

use super::OpsError;
use super::backup::{Sources, check_share, verify_backup};
use crate::backup::{ArchiveError, ArchiveReader, ContentKey, Contents, Manifest, Share, check_sums, combine};
use crate::digest::Digest;
use crate::disk::{Access, Disk, DiskError, Files as _, RealFiles};
use crate::fleet::{Fleet, FleetError, Known};
use crate::home::Home;
use crate::limits::{BACKUP_SUMS_BYTES_MAX, KEY_FILE_BYTES_MAX, KEYRING_FILE_BYTES_MAX, SHARE_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::Note;
use crate::openpgp::{self, Certificate, OwnKey, policy_at};
use crate::store::{RESTORED, Store};
use crate::time::{Span, Time};

/// How long custodians may take to bring their shares.
const REQUEST_LIFETIME: Span = Span::days(30);
const SECRET: &str = "restore.tsk";
const PUBLIC: &str = "restore.pgp";
const STAGING: &str = ".restoring";

/// The directory in which a restore takes place, private from birth.
#[derive(Debug)]
pub struct Place {
    path: std::path::PathBuf,
    disk: Disk,
}

impl Place {
    /// Makes the directory, or opens the one that is there.
    ///
    /// # Errors
    /// [`OpsError`], also if others can read it.
    pub fn create(path: &Path) -> Result<Self, OpsError> {
        Ok(Self { path: path.to_owned(), disk: Home::create(path)?.disk().clone() })
    }

    fn names(&self) -> Result<Vec<String>, OpsError> {
        Ok(self.disk.list("").map_err(FleetError::from)?.into_iter().map(|(name, _)| name).collect())
    }

    fn occupied(&self, by: &str) -> OpsError {
        OpsError::Impossible(format!("{} is not empty: it has {by}; restore into an empty directory", self.disk.root()))
    }

    fn remove(&self, name: &str) -> Result<(), OpsError> {
        for (path, _) in self.disk.walk(name).map_err(FleetError::from)? {
            self.disk.remove(&path).map_err(FleetError::from)?;
            self.disk.prune(path.rsplit_once('/').map_or("", |(directory, _)| directory));
        }
        self.disk.prune(name);
        Ok(())
    }

    fn files(&self, name: &str, access: Access) -> Result<RealFiles, OpsError> {
        let path = self.path.join(name);
        let shown = crate::text::shown(&path.display().to_string()).to_string();
        let failed = |source| FleetError::from(DiskError { doing: "create", path: shown, source });
        Ok(RealFiles::create(&path, access).map_err(failed)?)
    }
}

impl Place {
    /// Copies what the sources list to where a restore is staged. Gives how many files there are.
    pub(super) fn copy(&self, sources: &Sources<'_>) -> Result<usize, OpsError> {
        let target = Target::new(self, "fleet", Access::Public)?;
        let paths = sources.list()?;
        paths.iter().try_for_each(|path| target.write(path, &sources.read(path)?))?;
        Ok(paths.len())
    }

    /// Verifies what is staged, and opens it.
    pub(super) fn verified(&self, known: &Known, now: Time) -> Result<Fleet, OpsError> {
        let store = Store::new(Disk::new(self.files(&format!("{STAGING}/fleet/keyring"), Access::Public)?));
        let (report, fleet) = Fleet::verify(&store, known, now, &mut |_, _| {})?;
        if let Some(problem) = report.problems.first().filter(|_| !report.is_sound()) {
            return Err(bad(format!("keyring/{}: {}", problem.path, problem.problem)));
        }
        fleet.ok_or_else(|| bad("its log cannot be replayed"))
    }
}

/// Removes the one-time key, after which the shares that were sealed to it open no more.
///
/// # Errors
/// [`OpsError`].
pub fn forget_request(place: &Place) -> Result<(), OpsError> {
    [SECRET, PUBLIC]
        .iter()
        .try_for_each(|name| place.disk.remove(name).map(drop))
        .map_err(|e| FleetError::from(e).into())
}

/// Makes the one-time key in an empty directory. Gives its certificate, which custodians need.
///
/// # Errors
/// [`OpsError`].
pub fn prepare(place: &Place, manifest: &Manifest, now: Time) -> Result<Certificate, OpsError> {
    if let Some(name) = place.names()?.first() {
        return Err(place.occupied(name));
    }
    let user_id = format!("restore of {} <restore@{}>", manifest.backup.short(), manifest.fleet);
    let cert = openpgp::one_time(manifest.profile, &user_id, REQUEST_LIFETIME, now)?;
    let bad = |e: pgp::anyhow::Error| OpsError::Impossible(format!("the one-time key: {e}"));
    let secret = Zeroizing::new(cert.as_tsk().to_vec().map_err(bad)?);
    let public = Certificate::of(&cert).map_err(|e| OpsError::Impossible(format!("the one-time key {e}")))?;
    place.disk.replace(SECRET, &secret).map_err(FleetError::from)?;
    place.disk.replace(PUBLIC, public.bytes()).map_err(FleetError::from)?;
    Ok(public)
}

/// Opens what custodians sent, each message named for the case that it is wrong.
///
/// # Errors
/// [`OpsError::Share`], naming the message.
pub fn open_shares(place: &Place, messages: &[(String, Vec<u8>)], manifest: &Manifest) -> Result<Vec<Share>, OpsError> {
    let secret = place.disk.read(SECRET, KEY_FILE_BYTES_MAX).map_err(FleetError::from)?.map(Zeroizing::new);
    let secret = secret.ok_or_else(|| {
        OpsError::Impossible(format!(
            "there is no one-time key in {}; 'keys restore prepare' makes it",
            place.disk.root()
        ))
    })?;
    let bad = |e: pgp::anyhow::Error| OpsError::Impossible(format!("{SECRET} is damaged: {e}"));
    let cert = pgp::Cert::from_bytes(secret.as_slice()).map_err(bad)?;
    let mut own: Vec<OwnKey<'_>> = Vec::new();
    for key in cert.keys().secret() {
        let pair = key.key().clone().into_keypair().map_err(bad)?;
        own.push((key.key().fingerprint(), Box::new(pair)));
    }
    let mut shares = Vec::new();
    for (label, message) in messages {
        let wrong = |problem: String| OpsError::Share { custodian: label.clone(), problem };
        let binary = openpgp::dearmor(message, SHARE_BYTES_MAX).map_err(|e| wrong(e.to_string()))?;
        let text = openpgp::decrypt(&binary, &mut own, SHARE_BYTES_MAX).map_err(|e| wrong(e.to_string()))?;
        shares.push(check_share(&text, manifest).map_err(wrong)?);
    }
    Ok(shares)
}

/// What came out of a backup.
pub struct Restored {
    /// The fleet, opened and verified.
    pub fleet: Fleet,
    /// The files that were restored.
    pub files: usize,
    /// Whether there is a home among them.
    pub home: bool,
}

impl std::fmt::Debug for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Restored({} files)", self.files)
    }
}

/// Restores a backup into `place`, with enough shares: unpacks it, holds every file against its digest, replays the log from
/// its first entry, and checks that it is the pinned fleet and that its root is that of the manifest, whose signature an
/// operator or authority of that log made. `known` has to pin the fleet.
///
/// # Errors
/// [`OpsError`]; there is then no restored fleet.
pub fn restore(
    place: &Place,
    (contents, file): (&Contents, &mut File),
    shares: &[Share],
    known: &Known,
    now: Time,
) -> Result<Restored, OpsError> {
    let names = place.names()?;
    let known_names = [SECRET, PUBLIC, STAGING, "home"];
    if let Some(name) = names.iter().find(|n| !known_names.contains(&n.as_str()) || !names.iter().any(|n| n == SECRET))
    {
        return Err(place.occupied(name));
    }
    let key = combine(shares, contents.manifest.need)?;
    // What a run that was interrupted has left.
    place.remove(STAGING)?;
    place.remove("home")?;
    let result = unpack(place, contents, file, &key).and_then(|files| {
        let fleet = verify(place, contents, known, now)?;
        finish(place, contents, fleet, files)
    });
    if result.is_err() {
        let _ = place.remove(STAGING);
    }
    result
}

fn bad(problem: impl ToString) -> OpsError {
    OpsError::Backup(format!("what is inside is not what its manifest says: {}", problem.to_string()))
}

/// Writes everything below the staging directory, and makes it durable.
fn unpack(place: &Place, contents: &Contents, file: &mut File, key: &ContentKey) -> Result<Vec<String>, OpsError> {
    let manifest = &contents.manifest;
    file.seek(SeekFrom::Start(contents.body_at)).map_err(ArchiveError::from)?;
    let body = BufReader::new(file).take(manifest.body.bytes);
    let policy = policy_at(crate::time::LATEST);
    let clear = openpgp::body_reader(key.expose(), manifest.profile, &policy, body).map_err(bad)?;
    let mut reader = ArchiveReader::new(clear);
    let first = reader.next_part().map_err(bad)?;
    if first.is_none_or(|p| p.path != "SHA256SUMS") {
        return Err(bad("it does not begin with SHA256SUMS"));
    }
    let sums = reader.bytes(BACKUP_SUMS_BYTES_MAX).map_err(bad)?;
    if Digest::of(&sums) != manifest.sums.digest {
        return Err(bad("SHA256SUMS"));
    }
    let listed = check_sums(&sums).map_err(bad)?;
    let (public, private) =
        (Target::new(place, "fleet", Access::Public)?, Target::new(place, "home", Access::Private)?);
    for (digest, path) in &listed {
        let part = reader.next_part().map_err(bad)?;
        if part.is_none_or(|p| p.path != *path) {
            return Err(bad(format!("{path} is not where SHA256SUMS has it")));
        }
        let bytes = Zeroizing::new(reader.bytes(KEYRING_FILE_BYTES_MAX).map_err(bad)?);
        if Digest::of(&bytes) != *digest {
            return Err(bad(path));
        }
        match path.strip_prefix("home/") {
            Some(at) => private.write(at, &bytes)?,
            None => public.write(path, &bytes)?,
        }
    }
    if reader.next_part().map_err(bad)?.is_some() {
        return Err(bad("it has more files than SHA256SUMS lists"));
    }
    let of = |path: &str| path.strip_prefix("home/members/").and_then(|p| p.split('/').next()?.parse().ok());
    let stranger = listed.iter().find(|(_, path)| {
        path.starts_with("home/") && path != "home/pin" && of(path).is_none_or(|name| !manifest.holds.contains(&name))
    });
    if let Some((_, path)) = stranger {
        return Err(bad(format!("{path} is of nobody whose private halves it holds")));
    }
    place.disk.settle(STAGING).map_err(FleetError::from)?;
    Ok(listed.into_iter().map(|(_, path)| path).collect())
}

/// A directory that is filled: durable once it has been settled, which is done once for all of it.
struct Target {
    files: RealFiles,
    disk: Disk,
}

impl Target {
    fn new(place: &Place, name: &str, access: Access) -> Result<Self, OpsError> {
        let open = || place.files(&format!("{STAGING}/{name}"), access);
        Ok(Self { files: open()?, disk: Disk::new(open()?) })
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), OpsError> {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        self.disk.make_directory(directory).map_err(FleetError::from)?;
        let failed = |source| {
            let path = crate::text::shown(&format!("{}/{path}", self.disk.root())).to_string();
            FleetError::from(DiskError { doing: "write", path, source })
        };
        Ok(self.files.write_new(path, bytes).and_then(|()| self.files.sync_file(path)).map_err(failed)?)
    }
}

/// Replays what was unpacked, and holds it against the manifest.
fn verify(place: &Place, contents: &Contents, known: &Known, now: Time) -> Result<Fleet, OpsError> {
    let mut fleet = place.verified(known, now)?;
    let head = fleet.head().map(|h| h.checkpoint.to_text());
    if head.as_ref() != Some(&contents.manifest.checkpoint) {
        return Err(bad("its log has another head"));
    }
    verify_backup(contents, &mut fleet)?;
    Ok(fleet)
}

/// Marks what was restored, and gives it its names.
fn finish(place: &Place, contents: &Contents, fleet: Fleet, files: Vec<String>) -> Result<Restored, OpsError> {
    let mark = contents.manifest.checkpoint.as_bytes();
    let disk = &place.disk;
    let home = files.iter().any(|path| path.starts_with("home/"));
    let steps = || -> Result<(), DiskError> {
        fleet.store().disk().replace(RESTORED, mark)?;
        if home {
            disk.replace(&format!("{STAGING}/home/{}", crate::home::RESTORED), mark)?;
            disk.rename(&format!("{STAGING}/home"), "home")?;
        }
        disk.rename(&format!("{STAGING}/fleet"), "fleet")?;
        disk.remove(SECRET)?;
        disk.remove(PUBLIC)?;
        disk.prune(&format!("{STAGING}/home"));
        disk.prune(STAGING);
        Ok(())
    };
    steps().map_err(FleetError::from)?;
    Ok(Restored { fleet, files: files.len(), home })
}

/// What a confirmation showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmed {
    /// There was nothing to confirm.
    Nothing,
    /// The log is that of the others, as far as this many entries.
    Yes(u64),
}

/// Takes the marks of a restore away if `note`, a checkpoint that somebody else has, is of this log and newer than the
/// backup; one that is just the backup's own shows nothing, unless the caller knows that there is none newer.
///
/// # Errors
/// [`OpsError`]: [`FleetError::Fork`] if the log has another past; [`OpsError::Behind`] if it has to be brought up to date.
pub fn confirm(note: &[u8], unchanged: bool, home: Option<&Home>, fleet: &Fleet) -> Result<Confirmed, OpsError> {
    let of_home = home.map(Home::restored).transpose()?.flatten();
    let of_home = of_home.and_then(|text| Checkpoint::parse(&String::from_utf8_lossy(&text)));
    let marks: Vec<Checkpoint> = fleet.restored()?.into_iter().chain(of_home).collect();
    let Some(mark) = marks.iter().max_by_key(|m| m.size) else { return Ok(Confirmed::Nothing) };
    let refuse = |problem: String| Err(OpsError::Checkpoint(problem));
    let parsed = Note::parse(note).ok().and_then(|n| Checkpoint::parse(&n.text).map(|c| (n, c)));
    let Some((note, theirs)) = parsed else { return refuse("it is not a checkpoint".to_owned()) };
    if theirs.origin != fleet.log() {
        return refuse("it is of another log".to_owned());
    }
    let own = fleet.head().map_or(0, |h| h.checkpoint.size);
    if !fleet.every_log_key().iter().any(|key| note.is_signed_by(key)) {
        return refuse("it is not signed by a key of this log".to_owned());
    }
    if theirs.size > own {
        return Err(OpsError::Behind { theirs: theirs.size, own });
    }
    match fleet.root_at(theirs.size)? {
        Some(root) if root == theirs.root => {}
        _ => return Err(FleetError::Fork { size: theirs.size }.into()),
    }
    let same = theirs.size == mark.size && own == mark.size;
    if theirs.size < mark.size || (theirs.size == mark.size && !(same && unchanged)) {
        return refuse(format!(
            "it has {} entries, and the backup had {}: that shows nothing about what came after",
            theirs.size, mark.size
        ));
    }
    if let Some(home) = home {
        home.set_confirmed()?;
    }
    fleet.store().disk().remove(RESTORED).map_err(FleetError::from)?;
    Ok(Confirmed::Yes(theirs.size))
}
