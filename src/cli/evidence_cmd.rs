//! Keeping what shows that a log cannot be right, and `keys log evidence`, by which a third person checks it.

use std::path::Path;

use serde_json::json;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::read_file;
use crate::fleet::{Fleet, FleetError, Known};
use crate::home::Home;
use crate::limits::EVIDENCE_BYTES_MAX;
use crate::log::evidence::Evidence;
use crate::log::note::VerifierKey;
use crate::store::Store;
use crate::time::rough;

/// `keys log evidence`.
pub(super) fn evidence(context: &Context, file: &Path, vkeys: &[String]) -> Result<Exit, CliError> {
    let keys = vkeys.iter().map(|k| VerifierKey::parse(k)).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|e| CliError::usage(format!("--vkey {e}")))?;
    let bytes = read_file(file, EVIDENCE_BYTES_MAX)?;
    let no = |why: &str| CliError::new(Exit::No, format!("{} shows nothing: {why}", shown(file)));
    let evidence = Evidence::parse(&bytes).map_err(no)?;
    let findings = evidence.check(&keys).map_err(|why| no(&why))?;
    if context.json {
        let value = json!({ "case": evidence.case.word(), "noted": evidence.noted.to_string(), "proven": findings.proven, "not_proven": findings.not_proven });
        return context.answer(value, Exit::Ok);
    }
    let out = context.out;
    out.line(&format!("{}, noted at {}", evidence.case, evidence.noted))?;
    for (title, list) in [("proven", &findings.proven), ("not proven", &findings.not_proven)] {
        list.iter().try_for_each(|line| out.line(&format!("{title}: {line}")))?;
    }
    Ok(Exit::Ok)
}

impl Context {
    /// The error as it is shown, with what shows it to others kept in the home.
    pub(super) fn with_evidence(
        &self,
        error: FleetError,
        store: &Store,
        known: &Known,
        home: Option<&Home>,
    ) -> CliError {
        let kept = home.and_then(|home| {
            let evidence = error.evidence(store, known, self.now())?;
            home.keep_evidence(&evidence).ok()
        });
        let error = CliError::from(error);
        match kept {
            Some(path) => error
                .hint(format!("kept in the home as {path}; anybody can check it: keys log evidence FILE --vkey VKEY")),
            None => error,
        }
    }

    /// Says it where nothing newer has been had for longer than the policy allows, and keeps what shows it. Reading goes on.
    pub(super) fn notice_freeze(&self, home: Option<&Home>, fleet: &Fleet) {
        let Some(evidence) = fleet.freeze() else { return };
        let age = fleet.published().and_then(|p| p.time()).map(|t| rough(fleet.now().since(t))).unwrap_or_default();
        let own = home.filter(|h| h.pin().is_ok_and(|p| p.is_some_and(|p| p.id == fleet.pin().id)));
        let kept = own.and_then(|home| home.keep_evidence(&evidence).ok());
        let kept = kept.map(|path| format!("; kept in the home as {path}")).unwrap_or_default();
        self.warn(&format!("warning: FREEZE? no quorum of cosigners has said for {age} what is newest{kept}"));
    }
}
