//! `policy/ssh.toml`: who signs SSH certificates, for whom, for how long, and who may log in where.
//!
//! A text is read in two steps: TOML with line and caret, then its meaning. An [`SshPolicy`] has passed both. Principals
//! are templates over `{pop}`, `{domain}` and `{member}`; what they expand to is checked again when it is known.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::PolicyError;
use super::break_glass::BreakGlass;
use crate::cidr::AnyCidr;
use crate::digest::Digest;
use crate::name::{FleetName, Glob, Label, MemberName, Slot};
use crate::ssh::{CertificateKind, Login, Principal, SOURCE_ADDRESS, WordError};
use crate::time::Span;

use self::read::RawPolicy;
pub(super) use self::read::{Wrong, extensions, templates, wrong};

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
