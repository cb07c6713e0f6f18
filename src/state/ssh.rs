//! SSH certificates: decided by the log before they are signed.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::{Context, Objects, Replay, Stop};
use super::{Issued, KeyState, State, Void};
use crate::name::{ActName, FleetName, Kind, Label, MemberName, Slot};
use crate::policy::Case;
use crate::policy::ssh::{Places, expand_all};
use crate::ssh::{CertificateBody, CertificateKind, Principal, Serial};
use crate::statement::{Issue, RevokeIssued};
use crate::time::{Span, Time};

impl<O: Objects> Replay<O> {
    pub(super) fn ssh_issue(&mut self, change: &Issue, context: &Context<'_>) -> Result<(), Stop> {
        let name = &change.member;
        let kind = self.active_member(name)?.kind;
        self.state_ref()?.check_issue(name, &change.certificate, context.time)?;
        self.quorum(ActName::SshIssue, Some(Case::of_kind(kind)), Some((name, false)), context)?;
        let issued = Issued { member: name.clone(), certificate: change.certificate.clone() };
        // Never 0, dense, and known before the certificate is signed.
        self.state_mut()?.issued.insert(Serial::of_entry(context.index).number(), issued);
        Ok(())
    }

    pub(super) fn ssh_revoke(&mut self, change: &RevokeIssued, context: &Context<'_>) -> Result<(), Stop> {
        let state = self.state_ref()?;
        if let Some(serial) = change.serials.iter().find(|s| !state.issued.contains_key(s)) {
            return Err(Void::Ssh {
                member: context.by.clone(),
                problem: format!("no certificate with the serial {serial} was ever issued"),
            }
            .into());
        }
        self.quorum(ActName::SshRevoke, None, None, context)?;
        self.state_mut()?.revoked_serials.extend(&change.serials);
        Ok(())
    }
}

/// What the policy gives an SSH certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTerms {
    /// The principals it may name.
    pub principals: BTreeSet<Principal>,
    /// How long it may live.
    pub lifetime: Span,
    /// The critical options it has to have, and no others.
    pub critical_options: BTreeMap<String, String>,
    /// The extensions it may have.
    pub extensions: BTreeSet<String>,
}

impl State {
    /// What the policy gives an SSH certificate for `member`. A user's principals with `{pop}` are expanded for every PoP.
    ///
    /// # Errors
    /// In words, why it gives none.
    pub fn ssh_terms(&self, member: &MemberName, kind: CertificateKind) -> Result<SshTerms, String> {
        let policy = &self.policy.policy.ssh;
        let found = self.active_member(member).map_err(|e| e.to_string())?;
        let fleet: &FleetName = &self.fleet;
        match kind {
            CertificateKind::Host => {
                if found.kind != Kind::Pop {
                    return Err(format!("{member} is a {}; hosts are PoPs", found.kind));
                }
                let rule = policy.host_rule(member).ok_or("policy/ssh.toml has no [[host]] rule for it")?;
                let places = Places { pop: member.host_label(), domain: fleet, member };
                let principals = expand_all(&rule.principals, kind, places).map_err(|e| e.to_string())?;
                Ok(SshTerms {
                    principals,
                    lifetime: rule.lifetime,
                    critical_options: BTreeMap::new(),
                    extensions: BTreeSet::new(),
                })
            }
            CertificateKind::User => {
                let rule = policy
                    .user_rule(found.kind.word())
                    .ok_or_else(|| format!("policy/ssh.toml has no [[user]] rule for the role {}", found.kind))?;
                let pops: Vec<Label> = self
                    .members
                    .iter()
                    .filter(|(_, m)| m.is_active() && m.kind == Kind::Pop)
                    .map(|(n, _)| n.host_label().clone())
                    .collect();
                let mut principals = BTreeSet::new();
                // Without a PoP there is nowhere to log in; the member's own name then stands for one.
                for pop in if pops.is_empty() { std::slice::from_ref(member.host_label()) } else { &pops } {
                    let places = Places { pop, domain: fleet, member };
                    principals.extend(expand_all(&rule.principals, kind, places).map_err(|e| e.to_string())?);
                }
                Ok(SshTerms {
                    principals,
                    lifetime: rule.lifetime,
                    critical_options: rule.critical_options(),
                    extensions: rule.extensions.clone(),
                })
            }
        }
    }

    /// Checks an SSH certificate against the policy: by an active CA key of ours, for a key of the member's own where it
    /// is a host, with the principals, lifetime and options that the policy gives, and no others.
    ///
    /// # Errors
    /// [`Void::Ssh`].
    pub fn check_issue(&self, name: &MemberName, certificate: &CertificateBody, now: Time) -> Result<(), Void> {
        let bad = |problem: String| Err(Void::Ssh { member: name.clone(), problem });
        let member = self.active_member(name)?;
        let terms = certificate.fields();
        let ca_slot = match terms.kind {
            CertificateKind::Host => Slot::SshHostCa,
            CertificateKind::User => Slot::SshUserCa,
        };
        let ca = terms.ca.to_string();
        if !self
            .members
            .values()
            .any(|m| m.kind == Kind::Authority && m.is_active() && m.active(ca_slot).is_some_and(|k| k.key == ca))
        {
            return bad(format!("its CA key is not an active {ca_slot} key of this fleet"));
        }
        if terms.kind == CertificateKind::Host {
            let subject = terms.subject.to_string();
            let own = member.slot(Slot::SshHost).and_then(|k| k.find(&subject)).map(|k| k.state);
            if !matches!(own, Some(KeyState::Active | KeyState::PreActive)) {
                return bad("its key is not an active or standby host key of the member".to_owned());
            }
        }
        let expected =
            self.ssh_terms(name, terms.kind).map_err(|problem| Void::Ssh { member: name.clone(), problem })?;
        if let Some(stranger) = terms.principals.iter().find(|p| !expected.principals.contains(*p)) {
            return bad(format!("the policy does not give it the principal '{stranger}'"));
        }
        if terms.valid_before.since(now) > expected.lifetime {
            return bad(format!("it lives longer than the {} that the policy gives", expected.lifetime));
        }
        if terms.critical_options != expected.critical_options {
            return bad("its critical options are not those of the policy".to_owned());
        }
        if let Some(stranger) = terms.extensions.iter().find(|e| !expected.extensions.contains(*e)) {
            return bad(format!("the policy does not give it the extension '{stranger}'"));
        }
        Ok(())
    }
}
