//! What has to hold on every disk that a fault may leave.

use std::collections::{BTreeMap, BTreeSet};

use keys::fleet::{Fleet, FleetError, Severity};
use keys::home::Home;
use keys::name::{Address, MemberName};
use keys::ops;
use keys::state::KeyState;
use keys::store::{LogReader, Store, StoreError, read_checkpoint};

use super::estate::Estate;

/// What is known of an estate whatever happens to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// The entries that the log may have, in order. Empty: nothing is known of them.
    pub entries: Vec<Vec<u8>>,
    /// How many of them were acknowledged.
    pub acknowledged: usize,
    /// The values that each secret may have.
    pub values: BTreeMap<&'static str, Vec<&'static str>>,
}

/// What was found on a disk.
#[derive(Default)]
pub(crate) struct Found {
    /// The log's entries; none if there is no fleet.
    pub entries: Vec<Vec<u8>>,
    /// The fleet, if it has been founded.
    pub fleet: Option<Fleet>,
    /// What the verifier takes for damage.
    pub damage: Vec<String>,
    /// What it takes for an interrupted writer's.
    pub notes: Vec<String>,
}

/// Things that do not hold, by kind: how often, and the first example.
#[derive(Debug, Default)]
pub(crate) struct Violations(BTreeMap<String, (usize, String)>);

impl Violations {
    pub(crate) fn add(&mut self, problem: &str, example: &str) {
        // Digests, numbers and the names of temporary files differ from run to run.
        let word = |word: &str| match word {
            w if w.starts_with(".tmp-") => ".tmp-#".to_owned(),
            w if w.len() > 12 && w.bytes().all(|b| b.is_ascii_hexdigit()) => "#".to_owned(),
            w if w.len() == 2 && w.bytes().all(|b| b.is_ascii_hexdigit()) => "#".to_owned(),
            w if w.bytes().all(|b| b.is_ascii_digit() || b == b'.') => "#".to_owned(),
            w => w.to_owned(),
        };
        let words = |part: &str| part.split('/').map(|p| word(p.trim_end_matches(':'))).collect::<Vec<_>>().join("/");
        let kind = problem.split(' ').map(words).collect::<Vec<_>>().join(" ");
        let (count, _) = self.0.entry(kind).or_insert_with(|| (0, example.to_owned()));
        *count += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.values().map(|(count, _)| count).sum()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (kind, (count, example)) in other.0 {
            self.0.entry(kind).or_insert_with(|| (0, example)).0 += count;
        }
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(kind, (count, example))| writeln!(f, "  {count} x {kind}\n      first: {example}"))
    }
}

impl Expected {
    /// Checks an estate: it opens, the log is a beginning of what was written and not shorter than what was acknowledged,
    /// every secret opens for every reader, every private key is in its home. What the verifier says is given beside.
    pub(crate) fn check(&self, estate: &Estate) -> Result<Found, String> {
        let (report, fleet) = match estate.verify() {
            Ok(verified) => verified,
            Err(FleetError::Store(StoreError::NoKeyring(_))) if self.acknowledged == 0 => return Ok(Found::default()),
            Err(e) => return Err(format!("it cannot be verified: {e}")),
        };
        let lines = |severity| {
            let of = report.problems.iter().filter(move |p| p.severity == severity);
            of.map(|p| format!("{}: {}", p.path, p.problem)).collect::<Vec<_>>()
        };
        let (damage, notes) = (lines(Severity::Damage), lines(Severity::Note));
        let mut fleet = match fleet {
            Some(fleet) => fleet,
            None => estate.open_unknown().map_err(|e| format!("it does not open: {e}"))?,
        };
        let entries = entries(&estate.store())?;
        if entries.len() < self.acknowledged {
            return Err(format!("{} entries; {} were acknowledged", entries.len(), self.acknowledged));
        }
        if !self.entries.is_empty() && !self.entries.starts_with(&entries) {
            return Err("the log is not a beginning of what was written".to_owned());
        }
        self.secrets(estate, &mut fleet)?;
        private_keys(&fleet, |member| estate.home(&home_of(member)))?;
        Ok(Found { entries, fleet: Some(fleet), damage, notes })
    }

    fn secrets(&self, estate: &Estate, fleet: &mut Fleet) -> Result<(), String> {
        let live: Vec<(Address, BTreeSet<MemberName>)> = fleet
            .state()
            .live_secrets()
            .map(|(address, secret)| (address.clone(), secret.readers.keys().cloned().collect()))
            .collect();
        for (address, readers) in &live {
            let allowed = self.values.get(address.to_string().as_str()).cloned().unwrap_or_default();
            for reader in readers {
                let home = estate.home(&home_of(reader));
                match ops::open(address, Some(reader), &home, fleet) {
                    Ok(opened) if allowed.iter().any(|v| v.as_bytes() == opened.value.as_slice()) => {}
                    Ok(_) => return Err(format!("{address} opens for {reader} as another value")),
                    Err(e) => return Err(format!("{address} does not open for {reader}: {e}")),
                }
            }
        }
        Ok(())
    }
}

/// The name of the home where a member's private halves are: the first operator's has the authority's, too.
pub(crate) fn home_of(member: &MemberName) -> String {
    let owner = member.owner().to_string();
    if owner == "casc1" { "alice".to_owned() } else { owner }
}

/// The entries of a log, as far as they are published.
pub(crate) fn entries(store: &Store) -> Result<Vec<Vec<u8>>, String> {
    let (_, checkpoint) = read_checkpoint(store).map_err(|e| e.to_string())?;
    let mut reader = LogReader::new(store, checkpoint.size);
    let mut all = Vec::new();
    while let Some((_, entries)) = reader.next_bundle().map_err(|e| e.to_string())? {
        all.extend(entries);
    }
    Ok(all)
}

/// Every key that the log names, that is not destroyed, and whose member has not left, is in its member's home.
pub(crate) fn private_keys(fleet: &Fleet, home: impl Fn(&MemberName) -> Home) -> Result<(), String> {
    for (name, member) in fleet.state().members.iter().filter(|(_, m)| m.is_active()) {
        let home = home(name);
        let certificate = home.secret_certificate(name).map_err(|e| e.to_string())?;
        let subkeys: BTreeSet<String> = certificate
            .iter()
            .flat_map(|c| c.keys().secret().map(|k| k.key().fingerprint().to_hex()).collect::<Vec<_>>())
            .collect();
        for (slot, keys) in &member.slots {
            let needed = keys.keys.iter().filter(|k| !matches!(k.state, KeyState::Destroyed | KeyState::Compromised));
            for key in needed {
                let there = if slot.is_openpgp() {
                    subkeys.contains(&key.key)
                } else {
                    home.key(name, *slot, &key.key).is_ok_and(|text| !text.is_empty())
                };
                if !there {
                    return Err(format!("the {} {slot} key of {name} is lost", key.state));
                }
            }
        }
    }
    Ok(())
}

/// Files that no command needs and nobody will remove: temporary ones in the homes and the keyring.
pub(crate) fn leftovers(estate: &Estate, places: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for place in places {
        let files = estate.machine.disk(place).walk("").unwrap_or_default();
        found.extend(
            files.into_iter().filter(|(p, _)| keys::disk::is_temporary(p)).map(|(p, _)| format!("{place}/{p}")),
        );
    }
    found
}

/// What waits, as `keys approve --json` lists it, and is not only overtaken. What a machine handed in may have been signed by a
/// key that a commit, which it could not see yet, has replaced. Such a proposal lacks its author until it expires; the machine
/// has handed in the same again since.
pub(crate) fn stuck<'a>(listed: &'a serde_json::Value, machines: &[&str]) -> Vec<&'a serde_json::Value> {
    let overtaken = |w: &&serde_json::Value| {
        let missing = w["standing"]["missing"].as_str().unwrap_or_default();
        machines.iter().any(|name| {
            w["statement"]["by"] == *name
                && [&format!("its author {name}"), "its author's signature"].contains(&missing)
        })
    };
    listed["waiting"].as_array().expect("a list").iter().filter(|w| !overtaken(w)).collect()
}
