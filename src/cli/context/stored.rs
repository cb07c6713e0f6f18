//! A fleet in an object store, as commands find it, and one that is at neither of the places where they look.

use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Context;
use crate::cli::exit::CliError;
#[cfg(feature = "store-object")]
use crate::cli::exit::Exit;
#[cfg(feature = "store-object")]
use crate::disk::Cloud;
use crate::disk::{Disk, is_address};
use crate::text;

/// Counters of what was asked of object stores.
pub(in crate::cli) type Requests = crate::remote::Counters;

impl Context {
    /// Says, to whoever wants to hear more, how many requests an object store was sent.
    pub(in crate::cli) fn tell_requests(&self) {
        let counters = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sent: u64 = counters.iter().map(|c| c.load(Ordering::Relaxed)).sum();
        if self.verbose && !counters.is_empty() {
            self.say(&format!("{sent} requests to the object store"));
        }
    }

    /// The address of the object store in which the fleet lies, without a slash at its end; `None` for a directory.
    pub(in crate::cli) fn store_address(&self) -> Option<&str> {
        let given = self.fleet.as_deref().and_then(|fleet| fleet.to_str()).filter(|text| is_address(text))?;
        Some(given.trim_end_matches('/'))
    }

    /// The fleet's place, for messages.
    pub(in crate::cli) fn fleet_name(&self) -> Result<String, CliError> {
        match self.store_address() {
            Some(address) => Ok(text::shown(address).to_string()),
            None => Ok(super::shown(&self.fleet_directory()?)),
        }
    }

    /// The object store at this address.
    #[cfg(feature = "store-object")]
    pub(in crate::cli) fn cloud(&self, address: &str) -> Result<Cloud, CliError> {
        let opened = Cloud::open(address).map_err(|e| {
            let (address, problem) = (text::shown(address), e.to_string());
            let exit = if e.kind() == std::io::ErrorKind::InvalidInput { Exit::Usage } else { Exit::Unknown };
            CliError::new(exit, format!("cannot use {address}: {}", text::shown(&problem)))
        })?;
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(opened.requests());
        Ok(opened)
    }

    #[cfg(feature = "store-object")]
    pub(super) fn store_disk(&self, address: &str) -> Result<Disk, CliError> {
        Ok(Disk::of_bucket(self.cloud(address)?))
    }

    #[cfg(not(feature = "store-object"))]
    pub(super) fn store_disk(&self, address: &str) -> Result<Disk, CliError> {
        Err(CliError::usage(format!("{}: this keys was built without object stores", text::shown(address))))
    }

    /// Refuses to write to an object store that was not tried from this home: one that breaks its word loses a log.
    pub(in crate::cli) fn require_probed(&self) -> Result<(), CliError> {
        let Some(address) = self.store_address() else { return Ok(()) };
        #[cfg(feature = "store-object")]
        {
            let store = self.cloud(address)?;
            if self.maybe_home()?.map(|home| home.has_probed(store.identity())).transpose()? == Some(true) {
                return Ok(());
            }
        }
        let message = format!("it is not known whether {} keeps its word to several writers", text::shown(address));
        Err(CliError::failed(message)
            .hint("run 'keys store probe' with the same --fleet and --home; nothing was changed"))
    }
}

/// How one gets at a fleet that is named by an address of something else than a directory or a store.
pub(super) fn elsewhere(directory: &Path) -> Option<String> {
    let address = directory.to_str()?;
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    let is_scp = address.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    match scheme {
        _ if is_scp || address.ends_with(".git") || matches!(scheme, Some("git" | "ssh")) => {
            Some("it is a git repository: clone it, and give the clone (docs/runbooks/git.md)".to_owned())
        }
        Some("http" | "https") => Some(format!(
            "it is a mirror, from which one reads: 'keys pull --from {}' brings it to a directory (docs/runbooks/mirror.md)",
            text::shown(address)
        )),
        _ => None,
    }
}
