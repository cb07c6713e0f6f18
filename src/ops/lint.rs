//! What lint finds in a fleet: the state's findings, whether its readers are vouched for now, and its sealed files. Needs no
//! key and no home; [`duplicate_values`] does.

use std::collections::{BTreeMap, BTreeSet};

use super::OpsError;
use super::open::open;
use crate::digest::Digest;
use crate::fleet::{Fleet, FleetError};
use crate::home::Home;
use crate::limits::SEALED_BYTES_MAX;
use crate::lint::{self, Code, Finding, Reached, Severity};
use crate::name::{Address, MemberName};
use crate::openpgp::{SealError, Sealed};
use crate::state::Void;
use crate::store::StoreError;

/// What a fleet's secrets came to.
#[derive(Debug, Clone)]
pub struct Lint {
    /// What is wrong, or will be.
    pub findings: Vec<Finding>,
    /// Who can read how much.
    pub reach: Vec<Reached>,
    /// How many secrets there are.
    pub secrets: usize,
}

/// Looks at everything about a fleet's secrets that shows without a key. `percent_max` is how much of all secrets one member
/// may read without being told of.
///
/// # Errors
/// [`OpsError`] if the keyring cannot be read.
pub fn lint(fleet: &mut Fleet, percent_max: usize) -> Result<Lint, OpsError> {
    let (state, now) = (fleet.state(), fleet.now());
    let reach = lint::reach(state);
    let mut findings = lint::recipients(state, now);
    findings.extend(lint::duplicates(state));
    findings.extend(lint::rules(state));
    findings.extend(lint::reach_findings(state, &reach, percent_max));
    let secrets = state.live_secrets().count();
    findings.extend(unvouched(fleet));
    findings.extend(sealed_files(fleet)?);
    Ok(Lint { findings, reach, secrets })
}

/// Readers that nothing new could be sealed to, for another reason than that their certificates have expired.
fn unvouched(fleet: &mut Fleet) -> Vec<Finding> {
    let state = fleet.state();
    let readers: BTreeSet<MemberName> = state
        .live_secrets()
        .flat_map(|(_, live)| live.readers.keys())
        .filter(|r| state.active_member(r).is_ok())
        .cloned()
        .collect();
    let mut found = Vec::new();
    for reader in readers {
        match fleet.check_vouched(&reader) {
            Ok(()) | Err(Void::Certificate { .. }) => {}
            Err(why) => {
                let text = format!("it reads secrets, and nothing new can be sealed to it: {why}");
                let fix = "keys sync, where whoever vouches is";
                found.push(finding(Severity::Error, Code::ReaderUnvouched, reader.to_string(), text, fix));
            }
        }
    }
    found
}

/// Every sealed file against the log, and every file in the place of one: whether it is an OpenPGP message.
fn sealed_files(fleet: &Fleet) -> Result<Vec<Finding>, OpsError> {
    let mut found = Vec::new();
    let (state, store) = (fleet.state(), fleet.store());
    for (address, live) in state.live_secrets() {
        let parts = || live.parts.iter().try_for_each(|part| store.part(address, part).map(drop));
        match store.sealed(address, &live.file).and_then(|_| parts()) {
            Ok(()) => {}
            Err(e @ (StoreError::Missing(_) | StoreError::Damaged { .. })) => {
                let fix = "fetch it again from a mirror; keys log verify";
                found.push(finding(Severity::Error, Code::SealedDamaged, address.to_string(), e.to_string(), fix));
            }
            Err(e) => return Err(FleetError::from(e).into()),
        }
    }
    for (path, _) in store.disk().walk("sealed").map_err(StoreError::from).map_err(FleetError::from)? {
        if let Some((address, part)) = Address::part_from_path(&path)
            && state.live_secret(&address).is_some_and(|live| live.parts.contains(&part))
        {
            continue;
        }
        let bytes = store.read(&path, SEALED_BYTES_MAX).map_err(FleetError::from)?.unwrap_or_default();
        found.extend(sealed_file(&path, &bytes));
        let is_live = |a: &Address| state.secrets.get(a).is_some_and(|s| s.live.is_some());
        if !crate::disk::is_temporary(&path) && !Address::from_path(&path).as_ref().is_some_and(is_live) {
            let text = "the log knows no secret there".to_owned();
            found.push(finding(Severity::Error, Code::SealedForeign, path, text, "remove it; keys seal seals a value"));
        }
    }
    Ok(found)
}

/// A file in the place of a sealed one that is no OpenPGP message.
pub fn sealed_file(path: &str, bytes: &[u8]) -> Option<Finding> {
    let why = Sealed::parse(bytes).err()?;
    let fix = "never write there by hand: keys seal seals a value";
    Some(finding(Severity::Error, Code::SealedForeign, path.to_owned(), format!("it {why}"), fix))
}

fn finding(severity: Severity, code: Code, place: String, text: String, fix: &'static str) -> Finding {
    Finding { severity, code, place, line: None, text, fix }
}

/// Values that stand at more than one address, of those that a key of this home opens: whoever learns one has the other. Also
/// gives how many were opened. Values are compared by their digests, which live as long as this call.
///
/// # Errors
/// [`OpsError`].
pub fn duplicate_values(home: &Home, fleet: &mut Fleet) -> Result<(Vec<Finding>, usize), OpsError> {
    let addresses: Vec<Address> = fleet.state().live_secrets().map(|(a, _)| a.clone()).collect();
    let mut values: BTreeMap<Digest, Vec<Address>> = BTreeMap::new();
    let mut opened = 0;
    for address in addresses {
        match open(&address, None, home, fleet) {
            Ok(secret) => {
                opened += 1;
                values.entry(Digest::of(&secret.value)).or_default().push(address);
            }
            // A file that is wrong is a finding of its own.
            Err(OpsError::Seal { source: SealError::NotForUs, .. } | OpsError::Fleet(FleetError::Store(_))) => {}
            Err(e) => return Err(e),
        }
    }
    let mut found = Vec::new();
    for group in values.into_values() {
        let [first, others @ ..] = group.as_slice() else { continue };
        for other in others {
            let text = format!("its value is that of {first}: whoever can read one has both");
            let fix = "keys seal a value of its own";
            found.push(finding(Severity::Warning, Code::DuplicateValue, other.to_string(), text, fix));
        }
    }
    Ok((found, opened))
}
