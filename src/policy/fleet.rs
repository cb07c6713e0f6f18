//! policy/fleet.toml: roles, quorums, how long keys are used and certificates live.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::lock::{TimeLockTable, TimeLocks};
use super::publish::{CosignerTable, Publication, PublishTable};
use super::quorum::{Case, Quorums, Role, Rule};
use super::{PolicyError, toml};
use crate::name::{ActName, FleetName, Kind, MemberName, Protection, Slot};
use crate::openpgp::{Profile, Validity};
use crate::time::Span;

/// The file's name.
pub const FILE: &str = "fleet.toml";

/// policy/fleet.toml, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetPolicy {
    /// The fleet's name.
    pub domain: FleetName,
    /// Which OpenPGP it speaks.
    pub profile: Profile,
    /// Who may change the policy.
    pub root: BTreeSet<MemberName>,
    /// How many operators must vouch for an authority.
    pub vouching_operators: usize,
    /// How long certificates live.
    pub certificates: Validity,
    /// How long somebody vouches for a certificate.
    pub certifications: Validity,
    /// How long a key of a slot is active before its rotation is due.
    pub cryptoperiods: BTreeMap<Slot, Span>,
    /// How long a proposal may wait for signatures.
    pub proposal_lifetime: Span,
    /// How long a restore drill counts; none: nobody is reminded.
    pub restore_drills: Option<Span>,
    /// Who has to sign what.
    pub quorums: Quorums,
    /// Who has to cosign a head of the log before it is published; none: the log's own signature is enough.
    pub publication: Option<Publication>,
    /// What has to guard the private halves of machines that join.
    pub protection: ProtectionPolicy,
    /// What waits in the log before it takes effect.
    pub time_locks: TimeLocks,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    fleet: Fleet,
    roles: Roles,
    trust: Trust,
    certificates: Validity,
    certifications: Validity,
    cryptoperiods: BTreeMap<Slot, Span>,
    proposals: Proposals,
    quorum: Vec<Rule>,
    #[serde(default)]
    cosigner: Vec<CosignerTable>,
    publish: Option<PublishTable>,
    #[serde(default, rename = "time-lock")]
    time_lock: TimeLockTable,
    drills: Option<Drills>,
    #[serde(default)]
    protection: ProtectionPolicy,
}

/// What has to guard the private halves of machines that join: at least this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtectionPolicy {
    /// Of an authority.
    pub authority: Protection,
    /// Of a PoP with its services.
    pub pop: Protection,
}

impl ProtectionPolicy {
    /// What it has to be for members of this kind. Operators see to their own, by cards and agents.
    pub fn of(self, kind: Kind) -> Protection {
        match kind {
            Kind::Authority => self.authority,
            Kind::Pop | Kind::Service => self.pop,
            Kind::Operator => Protection::File,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drills {
    restore: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fleet {
    domain: FleetName,
    #[serde(default)]
    profile: Profile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Roles {
    root: Vec<MemberName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trust {
    operators: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposals {
    lifetime: Span,
}

impl FleetPolicy {
    /// Reads the file.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Self::read(text).map_err(|e| e.in_text(text))
    }

    fn read(text: &str) -> Result<Self, PolicyError> {
        let path = format!("policy/{FILE}");
        let file: File = toml(&path, text)?;
        let meaning = |place: &str, problem: String| {
            Err(PolicyError::Meaning { file: path.clone(), place: place.to_owned(), problem })
        };
        let root: BTreeSet<MemberName> = file.roles.root.iter().cloned().collect();
        if root.is_empty() || root.len() != file.roles.root.len() {
            return meaning("[roles] root", "names nobody, or somebody twice".to_owned());
        }
        if file.trust.operators == 0 {
            return meaning(
                "[trust] operators",
                "0 operators would let anybody be an authority; give at least 1".to_owned(),
            );
        }
        let quorums = Quorums::new(&path, file.quorum)?;
        let time_locks = match file.time_lock.checked() {
            Ok(locks) => locks,
            Err((place, problem)) => return meaning(&place, problem),
        };
        for rule in quorums.rules() {
            if let Some(n) =
                rule.need.get(&Role::Root).filter(|n| usize::try_from(**n).unwrap_or(usize::MAX) > root.len())
            {
                return meaning(
                    &format!("[[quorum]] act = \"{}\"", rule.act),
                    format!("needs {n} of root, which has {} members", root.len()),
                );
            }
        }
        let mut spans: Vec<(String, Span)> =
            file.cryptoperiods.iter().map(|(s, p)| (format!("[cryptoperiods] {s}"), *p)).collect();
        for kind in Kind::ALL {
            spans.push((format!("[certificates] {kind}"), file.certificates.of(*kind)));
            spans.push((format!("[certifications] {kind}"), file.certifications.of(*kind)));
        }
        spans.push(("[proposals] lifetime".to_owned(), file.proposals.lifetime));
        spans.extend(file.drills.as_ref().map(|d| ("[drills] restore".to_owned(), d.restore)));
        if let Some((place, _)) = spans.iter().find(|(_, span)| *span < Span(60)) {
            return meaning(place, "is shorter than a minute".to_owned());
        }
        if let Some(slot) = Slot::ALL.iter().find(|slot| !file.cryptoperiods.contains_key(slot)) {
            return meaning("[cryptoperiods]", format!("has no '{slot}'"));
        }
        Ok(Self {
            domain: file.fleet.domain,
            profile: file.fleet.profile,
            root,
            vouching_operators: usize::try_from(file.trust.operators).unwrap_or(usize::MAX),
            certificates: file.certificates,
            certifications: file.certifications,
            cryptoperiods: file.cryptoperiods,
            proposal_lifetime: file.proposals.lifetime,
            quorums,
            restore_drills: file.drills.map(|d| d.restore),
            publication: Publication::new(&path, file.cosigner, file.publish)?,
            protection: file.protection,
            time_locks,
        })
    }

    /// The cryptoperiod of `slot`.
    pub fn cryptoperiod(&self, slot: Slot) -> Span {
        // Parsing saw to it that every slot has one.
        self.cryptoperiods.get(&slot).copied().unwrap_or_default()
    }
}

/// The first policy/fleet.toml of a fleet with these founders: for one operator everything needs one signature, for
/// more the changes that reach further need two.
pub fn template(domain: &FleetName, profile: Profile, operators: &[MemberName]) -> String {
    let names = operators.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    let two = operators.len().min(2);
    let majority = operators.len() / 2 + 1;
    let mut text = format!(
        r#"# Who may do what in this fleet. What stands here is in force once the quorum for policy.update has signed it
# (`keys policy propose`); `keys policy check` reads it before.

[fleet]
domain = "{domain}"
# compat: everything opens in gpg 2.2 and sq. modern: OpenPGP v6 with post-quantum encryption.
profile = "{profile}"

[roles]
# Who may change the policy and admit operators.
root = [{names}]

[trust]
# How many operators must vouch for an authority. Counted over operators, not over signatures or trust amounts.
operators = {two}

# How long certificates live. Expiry alarms; it does not stop a PoP serving.
[certificates]
operator = "1095d"
authority = "365d"
pop = "365d"
service = "365d"

# How long somebody vouches for a certificate before it has to be renewed.
[certifications]
operator = "365d"
authority = "180d"
pop = "90d"
service = "30d"

# How long a key is active before its rotation is due.
[cryptoperiods]
openpgp = "90d"
sign = "365d"
wireguard = "30d"
ssh-host = "180d"
ssh-user-ca = "365d"
ssh-host-ca = "365d"
log = "365d"

[proposals]
# How long a proposal may wait for signatures.
lifetime = "7d"

# What waits in the log, for everybody to see, before it takes effect; any one operator can object meanwhile.
# Recommended once there are operators who look every day: a thief with enough keys then has to wait, too. Off to begin
# with, because a new fleet admits its people and settles its policy in one day.
#
# [time-lock]
# policy.update = "24h"
# member.enroll = "24h"       # operators and authorities only
# log.rekey = "24h"           # unless the key was stolen or lost
#
# How often somebody should try whether a restore works; `keys status` reminds.
#
# [drills]
# restore = "90d"
#
# What has to guard the private halves of machines that join, as they say themselves: "host" (systemd-creds), "tpm2".
#
# [protection]
# pop = "tpm2"
# authority = "tpm2"

# Quorums. Every role of `need` must hold; several rules for one act are alternatives; an act without a rule is nobody's.
# Members count, not keys. Stopping is cheap, starting is dear.
"#,
        profile = profile.word(),
    );
    for (comment, rules) in quorum_table(two, majority) {
        text.push_str(&format!("\n# {comment}\n"));
        for (act, case, need) in rules {
            let when = case.map(|c| format!("when = \"{c}\"\n")).unwrap_or_default();
            text.push_str(&format!("[[quorum]]\nact = \"{act}\"\n{when}need = {{ {need} }}\n"));
        }
    }
    text
}

type Row = (ActName, Option<Case>, String);

fn quorum_table(two: usize, majority: usize) -> Vec<(&'static str, Vec<Row>)> {
    let operator = |n: usize| format!("operator = {n}");
    let own = || "self = 1".to_owned();
    let root = || format!("root = {majority}");
    let authority = || "authority = 1".to_owned();
    let row = |act, case, need| (act, case, need);
    let mut emergency = vec![row(ActName::Emergency, None, root())];
    if majority > 3 {
        emergency.push(row(ActName::Emergency, None, operator(3)));
    }
    vec![
        (
            "An owner publishes its standby keys and reports its own destroyed ones.",
            vec![row(ActName::Publish, None, own()), row(ActName::Destroy, None, own())],
        ),
        (
            "Vouching: operators for authorities, authorities for PoPs, PoPs for their services.",
            vec![
                row(ActName::Certify, Some(Case::Authority), operator(1)),
                row(ActName::Certify, Some(Case::Pop), authority()),
                row(ActName::Certify, Some(Case::Service), own()),
            ],
        ),
        (
            "A scheduled rotation is routine; one out of turn is not.",
            vec![
                row(ActName::Activate, Some(Case::Scheduled), operator(1)),
                row(ActName::Activate, Some(Case::Unscheduled), operator(two)),
            ],
        ),
        (
            "Admission. Operators and authorities are root's business.",
            vec![
                row(ActName::Enroll, Some(Case::Operator), root()),
                row(ActName::Enroll, Some(Case::Authority), root()),
                row(ActName::Enroll, Some(Case::Pop), format!("operator = {two}, authority = 1")),
                row(ActName::Enroll, Some(Case::Service), "operator = 1, self = 1".to_owned()),
            ],
        ),
        (
            "Stopping takes one signature for machines, root for people.",
            vec![
                row(ActName::Retire, Some(Case::Pop), operator(1)),
                row(ActName::Retire, Some(Case::Service), operator(1)),
                row(ActName::Retire, Some(Case::Service), own()),
                row(ActName::Retire, Some(Case::Operator), root()),
                row(ActName::Retire, Some(Case::Authority), root()),
            ],
        ),
        (
            "Secrets: a new value for the same readers is routine; a reader more is not.",
            vec![
                row(ActName::Seal, Some(Case::New), operator(1)),
                row(ActName::Seal, Some(Case::Same), operator(1)),
                row(ActName::Seal, Some(Case::Wider), operator(two)),
                row(ActName::Reseal, Some(Case::Same), operator(1)),
                row(ActName::Reseal, Some(Case::Same), own()),
                row(ActName::Reseal, Some(Case::Wider), operator(two)),
                row(ActName::Remove, None, operator(1)),
            ],
        ),
        (
            "SSH certificates follow policy/ssh.toml. A host gets its own from the authority alone; a person has to ask.",
            vec![
                row(ActName::SshIssue, Some(Case::Pop), authority()),
                row(ActName::SshIssue, Some(Case::Operator), "self = 1, authority = 1".to_owned()),
                row(ActName::SshRevoke, None, operator(1)),
            ],
        ),
        ("The policy itself.", vec![row(ActName::PolicyUpdate, None, root())]),
        ("The log's key: whoever has it can show two people two logs.", vec![row(ActName::Rekey, None, root())]),
        (
            "An objection stops a statement that has not taken effect, for good. Anybody who decides may make one.",
            vec![row(ActName::Object, None, operator(1)), row(ActName::Object, None, authority())],
        ),
        (
            "An emergency stops members also where the log does not reach. With many operators three of them are enough.",
            emergency,
        ),
        (
            "Backups. Private halves leave their home by their owner's will alone, and the log says so. Who tries a restore reports it.",
            vec![
                row(ActName::Backup, None, own()),
                row(ActName::Drill, None, operator(1)),
                row(ActName::Drill, None, authority()),
            ],
        ),
        (
            "A snapshot: by whose word a new machine may start from a state instead of replaying the log. Each signer replays it.",
            vec![row(ActName::Snapshot, None, operator(two))],
        ),
        (
            "Invitations: a machine joins by a token that is good once. Who signs one has agreed to whatever comes with the token.",
            vec![
                row(ActName::Invite, None, operator(two)),
                row(ActName::Uninvite, None, operator(1)),
                row(ActName::Confirm, None, own()),
            ],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<MemberName> {
        list.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_policy_is_one() {
        for operators in [&["alice"][..], &["alice", "bob"], &["a", "b", "c", "d", "e"]] {
            for profile in [Profile::Compat, Profile::Modern] {
                let text = template(&"cdn.example".parse().unwrap(), profile, &names(operators));
                let policy = FleetPolicy::parse(&text).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!((policy.profile, policy.root.len()), (profile, operators.len()));
                let ruled: BTreeSet<ActName> = policy.quorums.rules().iter().map(|r| r.act).collect();
                assert_eq!(ruled.len() + 1, ActName::ALL.len(), "every act but the genesis has a rule");
            }
        }
    }

    #[test]
    fn a_policy_that_cannot_mean_what_it_says_is_refused() {
        let good = template(&"cdn.example".parse().unwrap(), Profile::Compat, &names(&["alice", "bob"]));
        for (from, to, part) in [
            ("root = [\"alice\", \"bob\"]", "root = []", "names nobody"),
            ("root = [\"alice\", \"bob\"]", "root = [\"alice\", \"alice\"]", "twice"),
            ("root = [\"alice\", \"bob\"]", "root = [\"alice\"]", "needs 2 of root, which has 1 members"),
            ("operators = 2", "operators = 0", "at least 1"),
            ("log = \"365d\"", "", "has no 'log'"),
            ("log = \"365d\"", "log = \"5s\"", "shorter than a minute"),
            ("log = \"365d\"", "log = \"1y\"", "expected a length of time"),
            ("lifetime = \"7d\"", "lifetime = \"7d\"\nlifetme = 3", "unknown field `lifetme`"),
            ("domain = \"cdn.example\"", "domain = \"CDN.example\"", "names are lower case: 'cdn.example'"),
            ("profile = \"compat\"", "profile = \"best\"", "expected `compat` or `modern`"),
        ] {
            assert!(good.contains(from), "{from}");
            let message = FleetPolicy::parse(&good.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.contains(part), "{to}: {message}");
        }
    }
}
