//! `policy/ssh.toml`: who signs SSH certificates, for whom, for how long, and who may log in where.
//!
//! A text is read in two steps: TOML with line and caret, then its meaning. An [`SshPolicy`] has passed both. Principals
//! are templates over `{pop}`, `{domain}` and `{member}`; what they expand to is checked again when it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::PolicyError;
use super::break_glass::{BreakGlass, RawBreakGlass};
use crate::cidr::{AnyCidr, CidrError};
use crate::digest::Digest;
use crate::limits::{KRL_BYTES_MAX, SSH_LIFETIME_DAYS_MAX, SSH_PRINCIPALS_MAX};
use crate::name::{FleetName, Glob, Label, MemberName, Slot};
use crate::ssh::{CertificateKind, EXTENSIONS, Login, Principal, SOURCE_ADDRESS, WordError};
use crate::text::{nearest, shown};
use crate::time::Span;

/// The file's name.
pub const FILE: &str = "ssh.toml";

/// The file that `keys init` writes.
pub const TEMPLATE: &str = r#"# SSH: certificates, accounts, revocation. In force once a quorum has signed it.

# Who signs. "file" is a key in the authority's home; it has an active and a standby key, and nodes trust both.
[ca.user]
key = "file"

[ca.host]
key = "file"

# SSH certificates of hosts. The first rule whose pattern matches the member is the one.
# Principals may hold {pop} (fra1), {domain} (cdn.example) and {member} (fra1).
[[host]]
match = "*"
principals = ["{pop}.{domain}"]
lifetime = "30d"
renew_at = 0.5              # renewed when this part of the lifetime is over: here two weeks of outage do no harm

# SSH certificates of people, one rule a role.
[[user]]
role = "operator"
principals = ["deploy:{pop}"]
lifetime = "16h"
source_address = []         # networks the login may come from, for example ["2001:db8::/32"]; none means anywhere
extensions = ["permit-pty"] # also: permit-port-forwarding (needed on a jump host), permit-agent-forwarding,
                            # permit-X11-forwarding, permit-user-rc

# On every node: login name -> the principals it accepts.
[accounts]
deploy = ["deploy:{pop}"]

[revocation]
krl_bytes_max = 65536       # sshd reads the whole list at each login

[log]
require_proof = false
"#;

/// A checked `policy/ssh.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPolicy {
    /// Where the CA that signs users has its key.
    pub user_ca: CaKey,
    /// Where the CA that signs hosts has its key.
    pub host_ca: CaKey,
    /// Who lets people in while the log is out of reach.
    pub break_glass: Option<BreakGlass>,
    /// Rules for hosts, in the order of the file.
    pub hosts: Vec<HostRule>,
    /// Rules for users by role.
    pub users: BTreeMap<Label, UserRule>,
    /// Login name to the principals it accepts.
    pub accounts: BTreeMap<Login, Vec<PrincipalTemplate>>,
    /// The largest KRL that is published, bytes.
    pub krl_bytes_max: usize,
    /// Whether users' SSH certificates carry the proof that the log decided them.
    pub staple_proof: bool,
    /// Whether nodes let in nobody whose certificate does not.
    pub require_proof: bool,
}

/// Where a CA's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaKey {
    /// In a file of the authority's home.
    File,
    /// Behind an ssh-agent, which the authority reaches: the fingerprints of the keys that may become CA keys, in the order in
    /// which they are taken.
    Agent(Vec<String>),
}

/// How hosts are certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    /// Which members.
    pub members: Glob,
    /// What they are called.
    pub principals: Vec<PrincipalTemplate>,
    /// How long an SSH certificate lives.
    pub lifetime: Span,
    /// How long after its beginning it is renewed, a tenth of the lifetime aside; shorter than the lifetime.
    pub renew_after: Span,
}

impl HostRule {
    /// How long after its beginning the certificate of `member` is renewed: sooner or later by up to a tenth of the lifetime,
    /// always by the same, so that hosts which joined together do not renew together.
    pub fn renew_after(&self, member: &MemberName) -> Span {
        let Span(middle) = self.renew_after;
        let room = (self.lifetime.0 / 10).min(middle / 2).min(self.lifetime.0.saturating_sub(middle) / 2);
        let [a, b, c, d, ..] = Digest::of(member.to_string().as_bytes()).0;
        let share = u64::from(u32::from_be_bytes([a, b, c, d]));
        // From 0 to twice the room.
        let later = u64::try_from((u128::from(room) * 2 * u128::from(share)) >> 32).unwrap_or(room);
        Span(middle - room + later)
    }
}

/// How the people of one role are certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRule {
    /// What they may log in as.
    pub principals: Vec<PrincipalTemplate>,
    /// How long an SSH certificate lives.
    pub lifetime: Span,
    /// Where they may come from; anywhere, if empty.
    pub source_addresses: BTreeSet<AnyCidr>,
    /// What their sessions may do.
    pub extensions: BTreeSet<String>,
}

impl UserRule {
    /// The critical options that the rule puts into an SSH certificate.
    pub fn critical_options(&self) -> BTreeMap<String, String> {
        let networks: Vec<String> = self.source_addresses.iter().map(AnyCidr::to_string).collect();
        // An empty list would be a network that nobody comes from.
        if networks.is_empty() { BTreeMap::new() } else { [(SOURCE_ADDRESS.to_owned(), networks.join(","))].into() }
    }
}

impl SshPolicy {
    /// Reads the file.
    ///
    /// # Errors
    /// [`PolicyError`], with line and caret, or with the table and key that cannot mean what it says.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file = format!("policy/{FILE}");
        let raw: RawPolicy = super::toml(&file, text)?;
        raw.check().map_err(|Wrong { place, problem }| PolicyError::Meaning { file, place, problem }.in_text(text))
    }

    /// Where the CA keys of `slot` are; none if it is not a CA's.
    pub fn ca_key(&self, slot: Slot) -> Option<&CaKey> {
        match slot {
            Slot::SshUserCa => Some(&self.user_ca),
            Slot::SshHostCa => Some(&self.host_ca),
            Slot::Openpgp | Slot::Sign | Slot::Wireguard | Slot::SshHost | Slot::Log => None,
        }
    }

    /// The first rule for the host `member`.
    pub fn host_rule(&self, member: &MemberName) -> Option<&HostRule> {
        let name = member.to_string();
        self.hosts.iter().find(|rule| rule.members.matches(&name))
    }

    /// The rule for `role`.
    pub fn user_rule(&self, role: &str) -> Option<&UserRule> {
        self.users.iter().find(|(word, _)| word.as_str() == role).map(|(_, rule)| rule)
    }

    /// Login name to principals on the node that `places` describes.
    ///
    /// # Errors
    /// [`WordError`], if a template does not give a user's principal there.
    pub fn accounts_at(&self, places: Places<'_>) -> Result<BTreeMap<Login, BTreeSet<Principal>>, WordError> {
        self.accounts
            .iter()
            .map(|(login, templates)| Ok((login.clone(), expand_all(templates, CertificateKind::User, places)?)))
            .collect()
    }
}

/// What the placeholders of a template stand for.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// `{pop}`: the site that is logged in to, or that is certified.
    pub pop: &'a Label,
    /// `{domain}`: the fleet's name.
    pub domain: &'a FleetName,
    /// `{member}`: whose SSH certificate it is.
    pub member: &'a MemberName,
}

/// A principal with placeholders: `deploy:{pop}`, `{pop}.{domain}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrincipalTemplate(String);

impl PrincipalTemplate {
    /// The principal at `places`.
    ///
    /// # Errors
    /// [`WordError`], if what comes out is no principal of `kind`.
    pub fn expand(&self, kind: CertificateKind, places: Places<'_>) -> Result<Principal, WordError> {
        // Names hold no braces, so nothing that was put in is expanded once more.
        let text = self
            .0
            .replace("{pop}", places.pop.as_str())
            .replace("{domain}", places.domain.as_str())
            .replace("{member}", &places.member.to_string());
        match kind {
            CertificateKind::User => Principal::user(&text),
            CertificateKind::Host => Principal::host(&text),
        }
    }
}

/// All principals of `templates` at `places`.
///
/// # Errors
/// [`WordError`], for the first that is no principal of `kind`.
pub fn expand_all(
    templates: &[PrincipalTemplate],
    kind: CertificateKind,
    places: Places<'_>,
) -> Result<BTreeSet<Principal>, WordError> {
    templates.iter().map(|template| template.expand(kind, places)).collect()
}

impl fmt::Display for PrincipalTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
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
pub(super) struct Wrong {
    place: String,
    problem: String,
}

pub(super) fn wrong<T>(place: impl fmt::Display, problem: impl fmt::Display) -> Result<T, Wrong> {
    Err(Wrong { place: place.to_string(), problem: problem.to_string() })
}

impl RawPolicy {
    fn check(self) -> Result<SshPolicy, Wrong> {
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

pub(super) fn extensions(place: &str, names: Vec<String>) -> Result<BTreeSet<String>, Wrong> {
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
pub(super) fn templates(place: &str, kind: CertificateKind, texts: &[String]) -> Result<Vec<PrincipalTemplate>, Wrong> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(old: &str, new: &str) -> String {
        assert!(TEMPLATE.contains(old), "{old}");
        SshPolicy::parse(&TEMPLATE.replace(old, new)).expect_err("a bad policy").to_string()
    }

    #[test]
    fn the_template_is_a_policy() {
        let policy = SshPolicy::parse(TEMPLATE).expect("the template");
        let (pop, domain): (Label, FleetName) = ("fra1".parse().expect("good"), "cdn.example".parse().expect("good"));
        let member: MemberName = "fra1".parse().expect("good");
        let places = Places { pop: &pop, domain: &domain, member: &member };
        let host = policy.host_rule(&member).expect("every member matches");
        assert_eq!((host.lifetime, host.renew_after), (Span::days(30), Span::days(15)));
        let principals = expand_all(&host.principals, CertificateKind::Host, places).expect("good");
        assert_eq!(principals.iter().map(Principal::as_str).collect::<Vec<_>>(), ["fra1.cdn.example"]);
        let user = policy.user_rule("operator").expect("a rule");
        assert_eq!((user.lifetime, user.extensions.len()), (Span::hours(16), 1));
        assert!(user.critical_options().is_empty());
        assert_eq!(policy.user_rule("auditor"), None);
        let accounts = policy.accounts_at(places).expect("good");
        assert_eq!(format!("{accounts:?}"), r#"{Login("deploy"): {Principal("deploy:fra1")}}"#);
    }

    #[test]
    fn networks_become_a_critical_option() {
        let text = TEMPLATE.replace("address = []", "address = [\"2001:db8::/32\", \"10.0.0.0/8\"]");
        let policy = SshPolicy::parse(&text).expect("two networks");
        let options = policy.user_rule("operator").map(UserRule::critical_options);
        assert_eq!(options, Some([(SOURCE_ADDRESS.to_owned(), "10.0.0.0/8,2001:db8::/32".to_owned())].into()));
    }

    #[test]
    fn the_first_matching_host_rule_counts() {
        let second = "[[host]]\nmatch = \"fra*\"\nprincipals = [\"{member}\"]\nlifetime = \"1d\"\nrenew_at = 0.25\n";
        let text = TEMPLATE.replacen("[[host]]", &format!("{second}\n[[host]]"), 1);
        let policy = SshPolicy::parse(&text).expect("two rules");
        let rule = |name: &str| policy.host_rule(&name.parse().expect("good")).map(|r| r.renew_after);
        assert_eq!(rule("fra1"), Some(Span::hours(6)));
        assert_eq!(rule("ams1"), Some(Span::days(15)));
    }

    #[test]
    fn hosts_that_joined_together_renew_over_a_fifth_of_the_lifetime() {
        let policy = SshPolicy::parse(TEMPLATE).expect("the template");
        let rule = policy.hosts.first().expect("a rule");
        let after = |n: u32| rule.renew_after(&format!("pop{n}").parse().expect("good"));
        let all: Vec<Span> = (0..1_000).map(after).collect();
        assert!(all.iter().all(|s| (Span::days(12)..=Span::days(18)).contains(s)), "{all:?}");
        for day in 12..18 {
            let on = all.iter().filter(|s| (Span::days(day)..Span::days(day + 1)).contains(s)).count();
            assert!((120..=215).contains(&on), "{on} on day {day}");
        }
        assert_eq!(after(7), all[7], "always the same");
        // Where there is little room it stays within the lifetime.
        let tight = HostRule { renew_after: Span(99), lifetime: Span(100), ..rule.clone() };
        assert!((0..100).all(|n| tight.renew_after(&format!("pop{n}").parse().expect("good")) < Span(100)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (old, new, expected) in [
            ("\"{pop}.{domain}\"", "\"*.{domain}\"", "[[host]] match = \"*\": principals: '*.{domain}' does not give"),
            ("\"{pop}.{domain}\"", "\"{zone}.{domain}\"", "placeholders are {pop}, {domain}, {member}"),
            ("[\"{pop}.{domain}\"]", "[]", "lists 0 principals"),
            ("\"deploy:{pop}\"]\nl", "\"deploy,{pop}\"]\nl", "role = \"operator\": principals: 'deploy,{pop}'"),
            ("\"deploy:{pop}\"]\n\n", "\"\"]\n\n", "accounts.deploy: '' does not give"),
            ("deploy = ", "\"../x\" = ", "accounts.../x: '../x' is not a login name"),
            ("\"30d\"", "\"0s\"", "lifetime: has to be longer than nothing"),
            ("\"16h\"", "\"3654d\"", "at most 3653d"),
            ("0.5 ", "0.0 ", "renew_at: has to lie between 0 and 1"),
            ("0.5 ", "1.0 ", "renew_at"),
            ("0.5 ", "nan ", "renew_at"),
            ("0.5 ", "-0.5 ", "renew_at"),
            ("[\"permit-pty\"]", "[\"permit-ptty\"]", "did you mean 'permit-pty'?"),
            ("[\"permit-pty\"]", "[\"no-touch-required\"]", "'no-touch-required' is not an extension"),
            ("address = []", "address = [\"10.0.0.1/8\"]", "source_address: '10.0.0.1/8' has host bits"),
            ("key = \"file\"", "key = \"agent:SHA256:x\"", "ca.user.key: 'agent:SHA256:x' is no place"),
            ("key = \"file\"", "key = []", "ca.user.key: names no key"),
            ("key = \"file\"", "key = \"disk\"", "ca.user.key: 'disk' is no place"),
            (
                "require_proof = false",
                "require_proof = true\nstaple_proof = false",
                "log.require_proof: nobody could log in",
            ),
            ("65536", "43", "krl_bytes_max: has to be from 44"),
            ("65536", "99999999", "krl_bytes_max"),
        ] {
            let message = refused(old, new);
            assert!(message.starts_with("policy/ssh.toml:") && message.contains(expected), "{new}: {message}");
        }
        let twice = "[[user]]\nrole = \"operator\"\nprincipals = [\"x\"]\nlifetime = \"1h\"\n\n[accounts]";
        assert!(refused("[accounts]", twice).contains("two rules"));
    }

    #[test]
    fn ca_keys_may_lie_in_an_agent() {
        let [one, two] = ["A", "E"].map(|c| format!("SHA256:{}{c}", "A".repeat(42)));
        let read = |key: &str| {
            let text = TEMPLATE.replacen("key = \"file\"", &format!("key = {key}"), 1);
            SshPolicy::parse(&text).map(|policy| (policy.user_ca, policy.host_ca))
        };
        let agent = |keys: &[&String]| CaKey::Agent(keys.iter().map(|k| (*k).clone()).collect());
        assert_eq!(read(&format!("\"agent:{one}\"")).expect("one"), (agent(&[&one]), CaKey::File));
        let both = read(&format!("[\"agent:{one}\", \"agent:{two}\"]")).expect("two");
        assert_eq!(both, (agent(&[&one, &two]), CaKey::File));
        assert!(read(&format!("[\"agent:{one}\", \"agent:{one}\"]")).is_err());
        assert!(read("[\"file\", \"file\"]").is_err());
    }

    #[test]
    fn proofs_are_stapled_before_they_are_asked_for() {
        let read = |lines: &str| {
            let policy = SshPolicy::parse(&TEMPLATE.replace("require_proof = false", lines)).expect("a policy");
            (policy.staple_proof, policy.require_proof)
        };
        assert_eq!(read("require_proof = false"), (false, false));
        assert_eq!(read("staple_proof = true"), (true, false));
        assert_eq!(read("require_proof = true"), (true, true));
        assert_eq!(read(""), (false, false));
    }

    #[test]
    fn unknown_keys_are_shown_where_they_stand() {
        for (old, new) in [
            ("lifetime = \"30d\"", "lifetme = \"30d\""),
            ("[log]", "[logg]"),
            ("require_proof", "require_prof"),
            ("[ca.host]", "[ca.hosts]"),
        ] {
            assert!(refused(old, new).contains("TOML parse error at line"), "{new}");
        }
    }

    #[test]
    fn what_expands_to_no_principal_is_noticed() {
        let template = PrincipalTemplate("{member}".to_owned());
        let (pop, domain): (Label, FleetName) = ("fra1".parse().expect("good"), "cdn.example".parse().expect("good"));
        let member: MemberName = "nginx@fra1".parse().expect("good");
        let places = Places { pop: &pop, domain: &domain, member: &member };
        assert!(template.expand(CertificateKind::User, places).is_err());
        assert!(template.expand(CertificateKind::Host, places).is_err());
    }
}
