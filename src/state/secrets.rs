//! Secrets: who may read one, and what sealing, resealing and removing do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fold::{Context, Objects, Replay, Stop};
use super::{LiveSecret, Names, Secret, State, Void};
use crate::digest::Digest;
use crate::limits::PARTS_MAX;
use crate::name::{ActName, Address, MemberName, Slot};
use crate::policy::Case;
use crate::statement::{RecipientSet, Remove, Reseal, Seal};

impl<O: Objects> Replay<O> {
    pub(super) fn seal(&mut self, change: &Seal, context: &Context<'_>) -> Result<(), Stop> {
        let address = &change.address;
        let bad = |problem: String| Void::Secret { address: address.clone(), problem };
        let state = self.state_ref()?;
        state.fresh_secret(address, change.generation, change.prev.as_ref())?;
        let before = state.secrets.get(address);
        if change.version != before.map_or(0, |s| s.version) + 1 {
            return Err(bad(format!(
                "version {} does not follow version {}",
                change.version,
                before.map_or(0, |s| s.version)
            ))
            .into());
        }
        if let Some(problem) = bad_parts(change) {
            return Err(bad(problem.to_owned()).into());
        }
        let author = state.active_member(context.by)?;
        if author.active(Slot::Sign).map(|k| k.key.as_str()) != Some(change.author.as_str()) {
            return Err(bad(format!(
                "{} is not the active signing key of {}",
                crate::text::shown(&change.author),
                context.by
            ))
            .into());
        }
        let set = self.recipients(address, &change.recipients)?;
        let state = self.state_ref()?;
        let readers = match &set {
            Some(set) => &set.readers,
            None => &*state.live(address)?.readers,
        };
        // A removal in between makes nobody a reader who was none.
        let case = match state.secrets.get(address).map(|s| &s.meant_for) {
            None => Case::New,
            Some(previous) if readers.keys().all(|r| previous.contains(r)) => Case::Same,
            Some(_) => Case::Wider,
        };
        let readers_signed = RecipientSet::names_digest_of(readers);
        let owner = owner(address);
        self.quorum(ActName::Seal, Some(case), owner.as_ref().map(|o| (o, false)), context)?;
        let readers = match set {
            Some(set) => Arc::new(set.readers),
            None => Arc::clone(&self.state_ref()?.live(address)?.readers),
        };
        let exposed: Names = Arc::new(readers.keys().cloned().collect());
        let live = LiveSecret {
            author: context.by.clone(),
            author_key: change.author.clone(),
            sealed: context.time,
            body: change.body,
            file: change.file,
            readers_signed,
            recipients: change.recipients,
            exposed: Arc::clone(&exposed),
            readers,
            burned: None,
            shape: change.shape,
            parts: change.parts.clone(),
        };
        let secret = Secret {
            generation: change.generation,
            prev: context.id,
            meant_for: exposed,
            live: Some(live),
            version: change.version,
        };
        self.set_secret(address, secret)
    }

    pub(super) fn reseal(&mut self, change: &Reseal, context: &Context<'_>) -> Result<(), Stop> {
        let address = &change.address;
        let bad = |problem: String| Void::Secret { address: address.clone(), problem };
        let state = self.state_ref()?;
        state.fresh_secret(address, change.generation, Some(&change.prev))?;
        let live = state.live(address)?;
        if live.body != change.body {
            return Err(bad("its encrypted body would change; only a new seal may do that".to_owned()).into());
        }
        let set = self.recipients(address, &change.recipients)?;
        let wider = |set: &RecipientSet| set.readers.keys().any(|r| !live.readers.contains_key(r));
        let case = if set.as_ref().is_some_and(wider) { Case::Wider } else { Case::Same };
        let owner = owner(address);
        self.quorum(ActName::Reseal, Some(case), owner.as_ref().map(|o| (o, false)), context)?;
        let secret = self.state_ref()?.secrets.get(address).map(|secret| Secret::clone(secret));
        if let Some(mut secret) = secret {
            (secret.generation, secret.prev) = (change.generation, context.id);
            if let Some(live) = &mut secret.live {
                (live.file, live.recipients) = (change.file, change.recipients);
                if let Some(set) = set {
                    live.readers = Arc::new(set.readers);
                }
                let readers: Names = Arc::new(live.readers.keys().cloned().collect());
                if !live.exposed.is_superset(&readers) {
                    Arc::make_mut(&mut live.exposed).extend(readers.iter().cloned());
                }
                secret.meant_for = readers;
            }
            self.set_secret(address, secret)?;
        }
        Ok(())
    }

    /// Puts a secret into the state; what it has in common with others it shares with them.
    fn set_secret(&mut self, address: &Address, mut secret: Secret) -> Result<(), Stop> {
        self.shared.share(&mut secret);
        self.state_mut()?.secrets.insert(address.clone(), Arc::new(secret));
        Ok(())
    }

    pub(super) fn remove(&mut self, change: &Remove, context: &Context<'_>) -> Result<(), Stop> {
        let address = &change.address;
        let state = self.state_ref()?;
        state.fresh_secret(address, change.generation, Some(&change.prev))?;
        state.live(address)?;
        let owner = owner(address);
        self.quorum(ActName::Remove, None, owner.as_ref().map(|o| (o, false)), context)?;
        if let Some(secret) = self.state_mut()?.secrets.get_mut(address).map(Arc::make_mut) {
            (secret.generation, secret.prev, secret.live) = (change.generation, context.id, None);
        }
        Ok(())
    }

    /// Reads a recipient set and checks it: readers that the policy allows, each with exactly the keys that the log has
    /// for it now. Nothing is ever sealed to a key that is not active or standby, and nobody loses a key unnoticed. `None` if
    /// it is that of the present value.
    fn recipients(&self, address: &Address, digest: &Digest) -> Result<Option<RecipientSet>, Stop> {
        let bad = |problem: String| Void::Secret { address: address.clone(), problem };
        let state = self.state_ref()?;
        // A new value mostly goes to the readers of the one before, whose set has been read.
        let before = state.secrets.get(address).and_then(|s| s.live.as_ref()).filter(|l| l.recipients == *digest);
        let other = match before {
            Some(_) => None,
            None => {
                let bytes = self.objects().object(digest)?;
                let read = RecipientSet::parse(&bytes);
                Some(read.map_err(|e| Void::Object { object: *digest, problem: e.to_string() })?)
            }
        };
        let readers = other.as_ref().map(|set| &set.readers).or(before.map(|live| &*live.readers));
        let allowed = state.readers(address).map_err(|e| bad(e.to_string()))?;
        for (reader, keys) in readers.into_iter().flatten() {
            if !allowed.contains(reader) {
                return Err(bad(format!("{reader} may not read it by the policy in force")).into());
            }
            let expected: Vec<&str> = state.encryption_keys(reader).collect();
            if *keys != expected {
                return Err(bad(format!(
                    "its recipient keys of {reader} are not the active and standby key that the log has"
                ))
                .into());
            }
        }
        Ok(other)
    }
}

/// What is wrong with the parts that a change names.
fn bad_parts(change: &Seal) -> Option<&'static str> {
    let files: BTreeSet<&Digest> = change.parts.iter().chain([&change.file]).collect();
    match change.parts.len() {
        0 => None,
        n if n > PARTS_MAX => Some("it has more parts than a value may have"),
        _ if change.shape.is_some() => Some("it has both a shape and parts"),
        n if files.len() != n + 1 => Some("it names one of its files twice"),
        _ => None,
    }
}

/// Whose secret it is, where it is one member's.
fn owner(address: &Address) -> Option<MemberName> {
    match address.scope() {
        crate::name::Scope::Member(member) => Some(member.clone()),
        crate::name::Scope::SharedService(_) | crate::name::Scope::Shared => None,
    }
}

impl State {
    fn fresh_secret(&self, address: &Address, generation: u64, prev: Option<&Digest>) -> Result<(), Void> {
        let found = self.secrets.get(address);
        match (found, prev) {
            (None, None) if generation == 1 => Ok(()),
            (Some(secret), Some(prev)) => self.fresh(address, (secret.generation, &secret.prev), (generation, prev)),
            (found, _) => Err(Void::Stale {
                subject: address.to_string(),
                found: found.map_or(0, |s| s.generation),
                proposed: generation,
            }),
        }
    }

    fn live(&self, address: &Address) -> Result<&LiveSecret, Void> {
        let live = self.secrets.get(address).and_then(|s| s.live.as_ref());
        live.ok_or_else(|| Void::Secret { address: address.clone(), problem: "there is none".to_owned() })
    }

    /// The keys that a secret for `member` is sealed to: active first, then standby.
    pub fn encryption_keys(&self, member: &MemberName) -> impl Iterator<Item = &str> {
        let slot = self.members.get(member).filter(|m| m.is_active()).and_then(|m| m.slot(Slot::Openpgp));
        slot.into_iter().flat_map(super::SlotKeys::usable).map(|k| k.key.as_str())
    }

    /// The recipient set of `readers` as of now.
    pub fn recipient_set(&self, readers: impl IntoIterator<Item = MemberName>) -> RecipientSet {
        let with_keys = |member: MemberName| {
            let keys = self.encryption_keys(&member).map(str::to_owned).collect();
            (member, keys)
        };
        RecipientSet::new(readers.into_iter().map(with_keys).collect::<BTreeMap<_, _>>())
    }
}
