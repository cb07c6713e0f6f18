//! Effects in words: who gains, who loses, what gets weaker. All of it was computed here, from the log and the attachments.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::describe::short_key;
use crate::name::{Address, MemberName};
use crate::state::{Effects, KeyEffect, KeyState, RuleEffect, SettingEffect, Sides, SshEffects};
use crate::text::escape;

/// How many addresses of secrets one line names before it only counts.
const NAMED_MAX: usize = 6;
/// How many invitations are told one by one.
const INVITED_MAX: usize = 40;
/// How many keys are told one by one.
const KEYS_MAX: usize = 24;

/// All of it, a line each.
pub(super) fn lines(effects: &Effects) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(effects.joins.iter().map(|(name, kind)| format!("+ {name} is a member ({kind})")));
    lines.extend(effects.leaves.iter().map(|(name, why)| format!("- {name} is no member any more ({why})")));
    sides(&mut lines, &effects.root, "root");
    for (name, alone) in &effects.alone {
        lines.extend(list(&alone.gains).map(|acts| format!("+ {name} can do alone: {acts}")));
        lines.extend(list(&alone.loses).map(|acts| format!("- {name} can no longer do alone: {acts}")));
    }
    sides(&mut lines, &effects.cosigners, "the log's cosigners");
    lines.extend(effects.rules.iter().map(rule));
    lines.extend(effects.settings.iter().map(setting));
    secrets(effects, &mut lines);
    keys(&effects.keys, effects, &mut lines);
    let joined = |name: &&MemberName| !effects.joins.contains_key(*name);
    lines.extend(
        effects.certificates.iter().filter(joined).map(|n| format!("~ {n}: another version of its certificate")),
    );
    for (name, mesh) in &effects.mesh {
        let peers = format!("{} other PoPs", mesh.peers);
        lines.push(match (&mesh.before, &mesh.after) {
            (None, Some(at)) => format!("+ {name} is in the mesh at {at}, a peer of {peers}"),
            (Some(at), None) => format!("- {name} is out of the mesh; {peers} drop it ({at})"),
            (before, after) => format!(
                "! {name} moves in the mesh from {} to {}",
                before.as_deref().unwrap_or_default(),
                after.as_deref().unwrap_or_default()
            ),
        });
    }
    sides(&mut lines, &effects.externals, "the list of peers without an agent");
    for (sign, count, what) in [('+', effects.pairs_joined, "become"), ('-', effects.pairs_parted, "cease to be")] {
        if count > 0 {
            lines.push(format!("{sign} {count} pairs of PoPs {what} peers in the mesh"));
        }
    }
    ssh(&effects.ssh, &mut lines);
    let many = effects.invited.len() > INVITED_MAX;
    for (name, effect) in effects.invited.iter().take(INVITED_MAX) {
        lines.push(format!("+ {}", super::describe::invited(&effect.invited)));
        if effect.supersedes {
            lines.push(format!("- the invitation that {name} had is good no more"));
        }
    }
    if many {
        lines.push(format!("+ {} more are invited", effects.invited.len().saturating_sub(INVITED_MAX)));
    }
    lines.extend(
        list(&effects.uninvited).map(|names| format!("- nobody can join any more as {names} by the invitation")),
    );
    lines.extend(effects.stopped.iter().map(|id| format!("- statement {id} can never take effect")));
    if lines.is_empty() {
        lines.push("nothing that can be told apart from the present state".to_owned());
    }
    lines.iter().map(|l| escape(l).into_owned()).collect()
}

/// The same on one line.
pub(super) fn summary(effects: &Effects) -> String {
    let mut parts = Vec::new();
    let mut part = |n: usize, what: &str| {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    };
    part(effects.weaker_count(), "rules get WEAKER");
    part(effects.rules.len().saturating_sub(effects.rules.iter().filter(|r| r.weaker).count()), "rules change");
    part(effects.joins.len(), "join");
    part(effects.leaves.len(), "leave");
    part(effects.invited.len(), "are invited");
    part(effects.uninvited.len(), "are invited no longer");
    part(effects.readers_gained().len(), "gain secrets");
    part(effects.readers_lost().len(), "lose secrets");
    part(effects.keys.len(), "keys change");
    part(effects.mesh.len(), "mesh addresses change");
    part(effects.ssh.principals.len(), "change in what SSH principals they have");
    part(effects.stopped.len(), "statements are stopped");
    if parts.is_empty() { "little changes".to_owned() } else { parts.join(", ") }
}

fn list<T: ToString>(items: &BTreeSet<T>) -> Option<String> {
    (!items.is_empty()).then(|| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn sides<T: ToString + Ord>(lines: &mut Vec<String>, sides: &Sides<T>, what: &str) {
    lines.extend(list(&sides.gains).map(|names| format!("+ {what} gains {names}")));
    lines.extend(list(&sides.loses).map(|names| format!("- {what} loses {names}")));
}

fn rule(rule: &RuleEffect) -> String {
    let words = |list: &[String]| if list.is_empty() { "nobody".to_owned() } else { list.join(", or ") };
    let case = rule.case.map(|c| format!(" ({c})")).unwrap_or_default();
    let mark = if rule.weaker { "! WEAKER: " } else { "~ " };
    format!("{mark}{}{case} takes {} instead of {}", rule.act, words(&rule.after), words(&rule.before))
}

fn setting(setting: &SettingEffect) -> String {
    let mark = if setting.weaker { "! WEAKER: " } else { "~ " };
    format!("{mark}{} = {} instead of {}", setting.name, setting.after, setting.before)
}

fn addresses(list: &BTreeSet<&Address>) -> String {
    let named: Vec<String> = list.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = list.len().saturating_sub(named.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

fn secrets(effects: &Effects, lines: &mut Vec<String>) {
    for (address, secret) in &effects.secrets {
        if let Some(version) = secret.version {
            lines.push(format!("~ {address} has a new value, version {version}"));
        }
        if secret.removed {
            lines.push(format!("- {address} is removed"));
        }
        if secret.orphaned {
            lines.push(format!("! {address} belongs to nobody any more"));
        }
    }
    let mut tell = |sign: char, verb: &str, pick: &dyn Fn(&crate::state::SecretEffect) -> BTreeSet<MemberName>| {
        let mut by: BTreeMap<MemberName, BTreeSet<&Address>> = BTreeMap::new();
        for (address, secret) in &effects.secrets {
            for name in pick(secret) {
                by.entry(name).or_default().insert(address);
            }
        }
        lines.extend(by.iter().map(|(name, list)| format!("{sign} {name} {verb} {}", addresses(list))));
    };
    tell('+', "can read", &|s| s.readers.gains.clone());
    tell('-', "is no recipient any more of", &|s| if s.removed { BTreeSet::new() } else { s.readers.loses.clone() });
    tell('+', "will be able to read, from the next reseal on:", &|s| s.next_reseal.gains.clone());
    tell('-', "will be no reader any more, from the next reseal on, of", &|s| s.next_reseal.loses.clone());
    tell('!', "could read what has to be replaced now:", &|s| s.burned.iter().cloned().collect());
}

/// Keys of members who stay are told one by one; those of who comes or goes follow from that.
fn keys(keys: &[KeyEffect], effects: &Effects, lines: &mut Vec<String>) {
    let stays = |k: &&KeyEffect| !effects.joins.contains_key(&k.member) && !effects.leaves.contains_key(&k.member);
    let told: Vec<&KeyEffect> = keys.iter().filter(stays).collect();
    let word = |state: Option<KeyState>| state.map_or("unknown", KeyState::word);
    lines.extend(told.iter().take(KEYS_MAX).map(|k| {
        format!("~ {} {}: {} is {} instead of {}", k.member, k.slot, short_key(&k.key), word(k.after), word(k.before))
    }));
    if told.len() > KEYS_MAX {
        lines.push(format!("~ and {} more keys change", told.len() - KEYS_MAX));
    }
    for name in effects.leaves.keys() {
        let of = keys.iter().filter(|k| k.member == *name && k.after == Some(KeyState::Compromised)).count();
        if of > 0 {
            lines.push(format!("- {of} keys of {name} count as compromised"));
        }
    }
}

fn ssh(ssh: &SshEffects, lines: &mut Vec<String>) {
    for (what, ca) in [("users", &ssh.user_ca), ("hosts", &ssh.host_ca)] {
        lines.extend(ca.gains.iter().map(|k| format!("+ SSH CA for {what} trusted: {}", short_key(k))));
        lines.extend(ca.loses.iter().map(|k| format!("- SSH CA for {what} no longer trusted: {}", short_key(k))));
    }
    for (name, change) in &ssh.principals {
        lines.extend(list(&change.gains).map(|p| format!("+ {name} may have SSH certificates as {p}")));
        lines.extend(list(&change.loses).map(|p| format!("- {name} may no longer have SSH certificates as {p}")));
    }
    lines.extend(ssh.accounts.gains.iter().map(|a| format!("+ SSH account {a} is let in")));
    lines.extend(ssh.accounts.loses.iter().map(|a| format!("- SSH account {a} is no longer let in")));
    lines.extend(ssh.certified.iter().map(|c| {
        let principals = c.principals.iter().cloned().collect::<Vec<_>>().join(", ");
        format!("+ {} gets an SSH certificate as {principals}, until {}", c.member, c.until)
    }));
    if !ssh.revoked.is_empty() {
        lines.push(format!("- {} SSH certificates are revoked", ssh.revoked.len()));
    }
}
