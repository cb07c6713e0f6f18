//! The tables of `policy/ssh.toml` as they are written, and what is wrong with those that cannot mean what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::{CaKey, HostRule, Places, PrincipalTemplate, SshPolicy, UserRule};
use crate::cidr::CidrError;
use crate::limits::{KRL_BYTES_MAX, SSH_LIFETIME_DAYS_MAX, SSH_PRINCIPALS_MAX};
use crate::name::{Glob, Label};
use crate::policy::break_glass::RawBreakGlass;
use crate::ssh::{CertificateKind, EXTENSIONS, Login};
use crate::text::{nearest, shown};
use crate::time::Span;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    ca: RawCas,
    #[serde(default)]
    host: Vec<RawHost>,
    #[serde(default)]
    user: Vec<RawUser>,
    #[serde(default)]
    accounts: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    revocation: RawRevocation,
    #[serde(default)]
    log: RawLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCas {
    user: RawCa,
    host: RawCa,
    #[serde(rename = "break-glass")]
    break_glass: Option<RawBreakGlass>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCa {
    key: RawKeys,
}

/// One place for a key, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawKeys {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    #[serde(rename = "match")]
    members: Glob,
    principals: Vec<String>,
    lifetime: Span,
    renew_at: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    role: Label,
    principals: Vec<String>,
    lifetime: Span,
    #[serde(default)]
    source_address: Vec<String>,
    #[serde(default)]
    extensions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRevocation {
    krl_bytes_max: usize,
}

impl Default for RawRevocation {
    fn default() -> Self {
        Self { krl_bytes_max: 65_536 }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawLog {
    staple_proof: Option<bool>,
    require_proof: bool,
}

/// Which table or key, and what is wrong with it.
pub(in crate::policy) struct Wrong {
    pub(super) place: String,
    pub(super) problem: String,
}

pub(in crate::policy) fn wrong<T>(place: impl fmt::Display, problem: impl fmt::Display) -> Result<T, Wrong> {
    Err(Wrong { place: place.to_string(), problem: problem.to_string() })
}

impl RawPolicy {
    pub(super) fn check(self) -> Result<SshPolicy, Wrong> {
        let RawLog { staple_proof, require_proof } = self.log;
        if require_proof && staple_proof == Some(false) {
            return wrong("log.require_proof", "nobody could log in while staple_proof = false; write true there");
        }
        // 44 bytes is a list without entries.
        if !(44..=KRL_BYTES_MAX).contains(&self.revocation.krl_bytes_max) {
            return wrong("revocation.krl_bytes_max", format!("has to be from 44 to {KRL_BYTES_MAX}"));
        }
        let mut users = BTreeMap::new();
        for user in self.user {
            let role = user.role.clone();
            if users.insert(role.clone(), user.check()?).is_some() {
                return wrong(format!("[[user]] role = \"{role}\""), "this role has two rules; write one");
            }
        }
        Ok(SshPolicy {
            user_ca: ca_key("ca.user.key", &self.ca.user.key)?,
            host_ca: ca_key("ca.host.key", &self.ca.host.key)?,
            break_glass: self.ca.break_glass.map(|raw| raw.check(require_proof)).transpose()?,
            hosts: self.host.into_iter().map(RawHost::check).collect::<Result<_, _>>()?,
            users,
            accounts: self.accounts.into_iter().map(account).collect::<Result<_, _>>()?,
            krl_bytes_max: self.revocation.krl_bytes_max,
            staple_proof: staple_proof.unwrap_or(require_proof),
            require_proof,
        })
    }
}

impl RawHost {
    fn check(self) -> Result<HostRule, Wrong> {
        let place = |key: &str| format!("[[host]] match = \"{}\": {key}", self.members);
        check_lifetime(place("lifetime"), self.lifetime)?;
        // A comparison with NaN is false, which refuses it too.
        if !(self.renew_at > 0.0 && self.renew_at < 1.0) {
            return wrong(place("renew_at"), "has to lie between 0 and 1, for example 0.5 for half the lifetime");
        }
        let renew_after = Span((self.lifetime.0 as f64 * self.renew_at) as u64);
        let principals = templates(&place("principals"), CertificateKind::Host, &self.principals)?;
        Ok(HostRule { members: self.members, principals, lifetime: self.lifetime, renew_after })
    }
}

impl RawUser {
    fn check(self) -> Result<UserRule, Wrong> {
        let place = |key: &str| format!("[[user]] role = \"{}\": {key}", self.role);
        check_lifetime(place("lifetime"), self.lifetime)?;
        let principals = templates(&place("principals"), CertificateKind::User, &self.principals)?;
        let mut source_addresses = BTreeSet::new();
        for text in &self.source_address {
            source_addresses.insert(text.parse().or_else(|e: CidrError| wrong(place("source_address"), e))?);
        }
        let extensions = extensions(&place("extensions"), self.extensions)?;
        Ok(UserRule { principals, lifetime: self.lifetime, source_addresses, extensions })
    }
}

pub(in crate::policy) fn extensions(place: &str, names: Vec<String>) -> Result<BTreeSet<String>, Wrong> {
    let Some(unknown) = names.iter().find(|e| !EXTENSIONS.contains(&e.as_str())) else {
        return Ok(names.into_iter().collect());
    };
    let hint = nearest(unknown, EXTENSIONS).map(|word| format!("; did you mean '{word}'?")).unwrap_or_default();
    let known = EXTENSIONS.join(", ");
    wrong(place, format!("'{}' is not an extension; known are {known}{hint}", shown(unknown)))
}

fn ca_key(place: &str, keys: &RawKeys) -> Result<CaKey, Wrong> {
    let texts = match keys {
        RawKeys::One(text) if text == "file" => return Ok(CaKey::File),
        RawKeys::One(text) => std::slice::from_ref(text),
        RawKeys::Several(texts) => texts.as_slice(),
    };
    if texts.is_empty() {
        return wrong(place, "names no key; write \"file\", or fingerprints of keys in an agent");
    }
    let mut fingerprints = Vec::new();
    for text in texts {
        let fingerprint = text.strip_prefix("agent:").filter(|f| is_fingerprint(f));
        let Some(fingerprint) = fingerprint.map(str::to_owned) else {
            let problem = "is no place for a key; write \"file\", or \"agent:SHA256:…\" with what 'ssh-add -l' shows";
            return wrong(place, format!("'{}' {problem}", shown(text)));
        };
        if fingerprints.contains(&fingerprint) {
            return wrong(place, format!("names {fingerprint} twice"));
        }
        fingerprints.push(fingerprint);
    }
    Ok(CaKey::Agent(fingerprints))
}

/// `SHA256:` and 32 bytes in base64 without padding, as OpenSSH shows them.
fn is_fingerprint(text: &str) -> bool {
    use base64::Engine as _;
    let decode = |digits| base64::engine::general_purpose::STANDARD_NO_PAD.decode(digits).ok();
    text.strip_prefix("SHA256:").and_then(decode).is_some_and(|bytes| bytes.len() == 32)
}

fn check_lifetime(place: String, lifetime: Span) -> Result<(), Wrong> {
    if lifetime == Span(0) || lifetime > Span::days(SSH_LIFETIME_DAYS_MAX) {
        return wrong(place, format!("has to be longer than nothing and at most {SSH_LIFETIME_DAYS_MAX}d"));
    }
    Ok(())
}

fn account((login, principals): (String, Vec<String>)) -> Result<(Login, Vec<PrincipalTemplate>), Wrong> {
    let place = format!("accounts.{}", shown(&login));
    let checked = Login::from_str(&login).or_else(|e| wrong(&place, e))?;
    Ok((checked, templates(&place, CertificateKind::User, &principals)?))
}

/// Checks templates by expanding them for a sample node; a name of another length or shape may still fail later.
pub(in crate::policy) fn templates(
    place: &str,
    kind: CertificateKind,
    texts: &[String],
) -> Result<Vec<PrincipalTemplate>, Wrong> {
    if !(1..=SSH_PRINCIPALS_MAX).contains(&texts.len()) {
        return wrong(place, format!("lists {} principals; 1 to {SSH_PRINCIPALS_MAX} are needed", texts.len()));
    }
    let (Ok(pop), Ok(domain), Ok(member)) = ("fra1".parse(), "cdn.example".parse(), "fra1".parse()) else {
        unreachable!("these are names")
    };
    let places = Places { pop: &pop, domain: &domain, member: &member };
    let check = |text: &String| {
        let template = PrincipalTemplate(text.clone());
        match template.expand(kind, places) {
            Ok(_) => Ok(template),
            Err(e) => wrong(
                place,
                format!(
                    "'{}' does not give a principal (placeholders are {{pop}}, {{domain}}, {{member}}): {e}",
                    shown(text)
                ),
            ),
        }
    };
    texts.iter().map(check).collect()
}
