//! Importing: many values, each to an address of its own, in one go.
//!
//! What is there already with the same value stays as it is, so that an import which was interrupted, or whose proposal
//! waits, is simply run again. All statements of an import are placed by one commit, or none is.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::seal::{SealPlan, plan_seal, seal_all};
use super::{OpsError, open};
use crate::fleet::{Draft, Fleet};
use crate::home::Home;
use crate::name::{Address, MemberName};
use crate::openpgp::SealError;

/// A value that comes from elsewhere.
pub struct Incoming {
    /// What it is called there, for people.
    pub from: String,
    /// Where it is to be.
    pub address: Address,
    /// The value; wiped when dropped.
    pub value: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Incoming({} from {:?}, ..)", self.address, self.from)
    }
}

/// What becomes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The secret is new.
    New(SealPlan),
    /// The secret is there with another value, and gets this one.
    Changes(SealPlan),
    /// The secret is there, and no key here opens it: whether the value is another one cannot be told, and it gets this one.
    Unknown(SealPlan),
    /// The secret is there with this value, and stays as it is.
    Same,
}

impl Fate {
    /// How it is sealed, if it is.
    pub fn plan(&self) -> Option<&SealPlan> {
        match self {
            Self::New(plan) | Self::Changes(plan) | Self::Unknown(plan) => Some(plan),
            Self::Same => None,
        }
    }
}

/// What an import will do, in the order of the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportPlan {
    /// Each value's fate.
    pub fates: Vec<Fate>,
}

/// Plans an import: each address once, its readers by policy, and what is there opened for comparison.
///
/// # Errors
/// [`OpsError`]; also if two values come to one address, or a secret that is there is damaged.
pub fn plan_import(incoming: &[Incoming], home: &Home, fleet: &mut Fleet) -> Result<ImportPlan, OpsError> {
    let mut sources: BTreeMap<&Address, &str> = BTreeMap::new();
    for one in incoming {
        if let Some(other) = sources.insert(&one.address, &one.from) {
            let (a, b) = (crate::text::shown(other), crate::text::shown(&one.from));
            return Err(OpsError::Impossible(format!("'{a}' and '{b}' would both become {}", one.address)));
        }
    }
    let mut fates = Vec::with_capacity(incoming.len());
    for one in incoming {
        fates.push(fate(one, home, fleet)?);
    }
    Ok(ImportPlan { fates })
}

fn fate(one: &Incoming, home: &Home, fleet: &mut Fleet) -> Result<Fate, OpsError> {
    if one.value.is_empty() {
        return Err(OpsError::Seal { address: one.address.clone(), source: SealError::Empty });
    }
    match open(&one.address, None, home, fleet) {
        Ok(there) if there.value == one.value => Ok(Fate::Same),
        Ok(_) => Ok(Fate::Changes(plan_seal(&one.address, fleet)?)),
        Err(OpsError::NoSecret(_)) => Ok(Fate::New(plan_seal(&one.address, fleet)?)),
        Err(OpsError::Seal { source: SealError::NotForUs, .. }) => Ok(Fate::Unknown(plan_seal(&one.address, fleet)?)),
        Err(e) => Err(e),
    }
}

impl ImportPlan {
    /// The statements that carry it out.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn drafts(
        &self,
        incoming: &[Incoming],
        reason: &str,
        author: Option<&MemberName>,
        home: &Home,
        fleet: &mut Fleet,
    ) -> Result<Vec<Draft>, OpsError> {
        let values: Vec<(&SealPlan, &[u8])> = self
            .fates
            .iter()
            .zip(incoming)
            .filter_map(|(fate, one)| fate.plan().map(|plan| (plan, one.value.as_slice())))
            .collect();
        seal_all(&values, reason, author, home, fleet)
    }
}
