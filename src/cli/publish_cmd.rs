//! `keys log publish`, and publishing at the end of every change: cosigners are asked without any lock, then what has its
//! quorum is published under the keyring's.

use std::time::Duration;

use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use crate::fleet::{Fleet, Sequencer};
use crate::home::Home;
use crate::log::note::SignatureLine;
use crate::policy::Cosigner;
use crate::store::Store;
use crate::witness::{AskError, Cosigners as _, HttpCosigners};

/// How long a cosigner has for each answer, when somebody waits for the publication itself.
const PATIENT: Duration = Duration::from_secs(15);
/// The same at the end of a change, which does not depend on it.
const BRIEF: Duration = Duration::from_secs(4);

/// `keys log publish`.
pub(super) fn publish(context: &Context) -> Result<Exit, CliError> {
    let mut fleet = context.open()?;
    let size = |fleet: &Fleet| fleet.published().map_or(0, |p| p.checkpoint.size);
    let before = size(&fleet);
    let lines = context.ask(&fleet, PATIENT);
    let disk = context.keyring(false)?;
    context.require_probed()?;
    let _lock = context.lock(&disk)?;
    if fleet.has_moved_on() {
        fleet = context.open()?;
    }
    let home = context.maybe_home()?;
    let renewed = publish_locked(&mut fleet, &lines, None)?;
    context.remember(home.as_ref(), &fleet);
    if let Some(home) = &home {
        context.sign_published(home, &fleet)?;
    }
    let (now, waiting) = (size(&fleet), fleet.waiting());
    let lacks = if waiting > 0 { context.lacking(&fleet, &lines) } else { String::new() };
    let exit = if waiting > 0 { Exit::Pending } else { Exit::Ok };
    if context.json {
        let by: Vec<&str> = fleet
            .published()
            .and_then(|p| p.cosigned.as_ref())
            .into_iter()
            .flat_map(|c| c.by.keys().map(String::as_str))
            .collect();
        let value =
            json!({ "published": now, "waiting": waiting, "renewed": renewed, "cosigned_by": by, "lacks": lacks });
        return context.answer(value, exit);
    }
    let out = context.out;
    match (waiting, renewed) {
        (0, false) => out.line(&format!("published: {now} entries, as before"))?,
        (0, true) if before == now => out.line(&format!("published: {now} entries, cosigned anew"))?,
        (_, true) => out.line(&format!("published: {now} entries, {} more than before", now.saturating_sub(before)))?,
        (_, false) => out.line(&format!("published: {now} entries, as before"))?,
    }
    if waiting > 0 {
        out.line(&format!("waiting:   {waiting} more, which lack {lacks}"))?;
    }
    Ok(exit)
}

/// Publishes what has its quorum. The caller holds the keyring's lock.
fn publish_locked(fleet: &mut Fleet, lines: &[SignatureLine], sequencer: Option<&Sequencer>) -> Result<bool, CliError> {
    let published = fleet.prepare(sequencer).and_then(|()| fleet.publish_cosigned(lines));
    // What fails here leaves the mark, and the next writer makes the views right.
    if published.is_ok() {
        fleet.done();
    }
    Ok(published?)
}

impl Context {
    /// Publishes at the end of a change, as far as cosigners answer; what does not work here is done by the next one.
    pub(super) fn publish_after(&self, mut fleet: Fleet, home: &Home, sequencer: &Sequencer) {
        if fleet.state().policy.policy.fleet.publication.is_none() {
            return;
        }
        let lines = self.ask(&fleet, BRIEF);
        let result = self.lock(fleet.store().disk()).and_then(|_lock| {
            // Who has written meanwhile publishes for us, too.
            if fleet.has_moved_on() { Ok(false) } else { publish_locked(&mut fleet, &lines, Some(sequencer)) }
        });
        if let Err(e) = result {
            self.say(&format!("not published: {}", e.message));
        }
        self.remember(Some(home), &fleet);
        if let Err(e) = self.sign_published(home, &fleet) {
            self.say(&format!("SSH certificates that wait for the publication were not signed: {}", e.message));
        }
        if fleet.waiting() > 0 {
            let lacks = self.lacking(&fleet, &lines);
            self.say(&format!(
                "{} entries wait for cosigners: {lacks} missing; 'keys log publish' asks again",
                fleet.waiting()
            ));
        }
    }

    /// Signs the SSH certificates that waited for what is published now.
    fn sign_published(&self, home: &Home, fleet: &Fleet) -> Result<(), CliError> {
        let signed = crate::ops::issue_pending(home, fleet)?;
        if !signed.is_empty() {
            self.say(&format!("{} SSH certificates signed", signed.len()));
        }
        Ok(())
    }

    /// What the newest head still lacks, in words.
    fn lacking(&self, fleet: &Fleet, lines: &[SignatureLine]) -> String {
        fleet.lacking(lines).unwrap_or_else(|| "nothing".to_owned())
    }

    /// Asks everybody who should be asked, at one time, and says who did not answer.
    fn ask(&self, fleet: &Fleet, deadline: Duration) -> Vec<SignatureLine> {
        let Some(head) = fleet.head() else { return Vec::new() };
        let asked: Vec<(Cosigner, u64)> = fleet.to_be_asked();
        let (store, note, size) = (fleet.store(), &head.note, head.checkpoint.size);
        let web = HttpCosigners::new(deadline);
        let one = |cosigner: &Cosigner, known: u64, store: &Store| -> Result<SignatureLine, AskError> {
            web.cosign(cosigner, cosigner.url.as_deref().unwrap_or_default(), store, (note, size), known)
        };
        let answers: Vec<(String, Result<SignatureLine, AskError>)> = std::thread::scope(|scope| {
            let started: Vec<_> = asked
                .iter()
                .map(|(cosigner, known)| (cosigner, scope.spawn(|| one(cosigner, *known, store))))
                .collect();
            let joined = started.into_iter().map(|(cosigner, thread)| {
                let failed = || Err(AskError::Unreachable("asking failed".to_owned()));
                (crate::text::shown(cosigner.key.name()).to_string(), thread.join().unwrap_or_else(|_| failed()))
            });
            joined.collect()
        });
        let mut lines = Vec::new();
        for (name, answer) in answers {
            match answer {
                Ok(line) => lines.push(line),
                Err(e) => self.say(&format!("cosigner {name}: {e}")),
            }
        }
        lines
    }
}
