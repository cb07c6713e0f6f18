//! Renewing: new values, made as the policy says, for secrets that are due, or that somebody could read who should not know
//! them. Resealing is not enough then: whoever could read a value may have kept it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use rand::{CryptoRng, RngExt as _};
use zeroize::Zeroizing;

use super::OpsError;
use super::seal::{SealPlan, plan_seal};
use crate::fleet::Fleet;
use crate::name::{Address, Glob, Label, MemberName};
use crate::policy::{Format, Generator, SecretRule};
use crate::state::LiveSecret;
use crate::time::{Span, Time, rough};

/// Which secrets get new values.
#[derive(Debug, Clone, Default)]
pub struct Renewing {
    /// Only those that match.
    pub pattern: Option<Glob>,
    /// Those whose time is over.
    pub due: bool,
    /// Those that are burned. With neither of the two, all that match.
    pub burned: bool,
}

/// Why a secret gets a new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It was asked for.
    Asked,
    /// Its time is over since then.
    Due(Time),
    /// This member could read it, and was compromised or lost.
    Burned(MemberName),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked => f.write_str("asked for"),
            Self::Due(since) => write!(f, "due since {}", since.day()),
            Self::Burned(by) => write!(f, "burned by {by}"),
        }
    }
}

/// A new value to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Where, and to whom.
    pub plan: SealPlan,
    /// Why.
    pub why: Why,
    /// How.
    pub generator: Generator,
    /// What is told of it.
    pub hook: Option<Label>,
    /// Whose value it is, where two accounts take turns.
    pub role: Option<String>,
    /// The other account, whose value goes on being good.
    pub other: Option<String>,
    format: Format,
}

impl Renewal {
    /// What is sealed: the value, and what stands around it.
    pub fn sealed(&self, value: &[u8]) -> Zeroizing<Vec<u8>> {
        let (before, after) = self.format.around(self.role.as_deref());
        let mut sealed = Zeroizing::new(Vec::with_capacity(before.len() + value.len() + after.len()));
        sealed.extend_from_slice(before.as_bytes());
        sealed.extend_from_slice(value);
        sealed.extend_from_slice(after.as_bytes());
        sealed
    }
}

/// What gets a new value, and what does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RenewPlan {
    /// In this order: what stands in a list needs that the lists before it are done.
    pub steps: Vec<Vec<Renewal>>,
    /// What only people can make a value for: the policy says nothing of how.
    pub by_hand: Vec<(Address, Why)>,
    /// What cannot have one now, and why.
    pub stuck: Vec<(Address, String)>,
}

/// Finds what gets a new value.
///
/// # Errors
/// [`OpsError`]; [`OpsError::Impossible`], if the policy has them wait for each other in a circle. What is the matter with
/// one secret alone is told in the plan.
pub fn plan_renew(renewing: &Renewing, fleet: &mut Fleet) -> Result<RenewPlan, OpsError> {
    let now = fleet.now();
    let chosen: Vec<(Address, Why, Option<SecretRule>, Time)> = {
        let state = fleet.state();
        let matches = |a: &Address| renewing.pattern.as_ref().is_none_or(|p| p.matches(&a.to_string()));
        let pick = |(address, live): (&Address, &LiveSecret)| {
            let rule = state.policy.policy.secrets.rule(address);
            let due = state.renewal_due(address, live).filter(|since| *since <= now);
            let why = why(renewing, live, due)?;
            Some((address.clone(), why, rule.cloned(), live.sealed))
        };
        state.live_secrets().filter(|(a, _)| matches(a)).filter_map(pick).collect()
    };
    let mut plan = RenewPlan::default();
    let mut renewals = BTreeMap::new();
    let mut after = BTreeMap::new();
    for (address, why, rule, sealed) in chosen {
        let Some((rule, generator)) = rule.as_ref().and_then(|r| Some((r, r.generate.clone()?))) else {
            plan.by_hand.push((address, why));
            continue;
        };
        if let Some(wait) = unsettled(rule, sealed, now) {
            let problem = format!(
                "its readers have had the value of {} ago for {} only; the other account may be in use for {} more",
                rough(now.since(sealed)),
                rough(now.since(sealed)),
                rough(wait)
            );
            plan.stuck.push((address, problem));
            continue;
        }
        match plan_seal(&address, fleet) {
            Ok(seal) => {
                let role = |version| rule.role(version).map(str::to_owned);
                let renewal = Renewal {
                    role: role(seal.version),
                    other: role(seal.version + 1),
                    format: rule.format.clone().unwrap_or_else(|| Format::usual(!rule.roles.is_empty())),
                    hook: rule.hook.clone(),
                    plan: seal,
                    why,
                    generator,
                };
                renewals.insert(address.clone(), renewal);
                after.insert(address, rule.after.clone());
            }
            Err(e @ (OpsError::Readers { .. } | OpsError::Reader { .. } | OpsError::Underway { .. })) => {
                plan.stuck.push((address, e.to_string()));
            }
            Err(e) => return Err(e),
        }
    }
    plan.steps = in_order(renewals, &after)?;
    Ok(plan)
}

fn why(renewing: &Renewing, live: &LiveSecret, due: Option<Time>) -> Option<Why> {
    let burned = live.burned.as_ref().map(|(_, by)| Why::Burned(by.clone()));
    let due = due.map(Why::Due);
    match (renewing.burned, renewing.due) {
        (true, true) => burned.or(due),
        (true, false) => burned,
        (false, true) => due,
        (false, false) => burned.or(due).or(Some(Why::Asked)),
    }
}

/// How long the other account may still be in use.
fn unsettled(rule: &SecretRule, sealed: Time, now: Time) -> Option<Span> {
    let until = sealed.plus(rule.settles());
    (!rule.roles.is_empty() && until > now).then(|| until.since(now))
}

/// Each after those that it waits for.
fn in_order(
    mut renewals: BTreeMap<Address, Renewal>,
    after: &BTreeMap<Address, Vec<Glob>>,
) -> Result<Vec<Vec<Renewal>>, OpsError> {
    let mut steps = Vec::new();
    while !renewals.is_empty() {
        let waits = |address: &Address| {
            let globs = after.get(address).into_iter().flatten();
            let mut others = globs.flat_map(|g| renewals.keys().filter(move |a| g.matches(&a.to_string())));
            others.any(|a| a != address)
        };
        let ready: BTreeSet<Address> = renewals.keys().filter(|a| !waits(a)).cloned().collect();
        if ready.is_empty() {
            let names = renewals.keys().take(4).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(OpsError::Impossible(format!(
                "policy/secrets.toml has these wait for each other (after = …): {names}"
            )));
        }
        steps.push(ready.iter().filter_map(|a| renewals.remove(a)).collect());
    }
    Ok(steps)
}

/// Makes a value; `None` for a hook, which only the shell can ask.
pub fn generate(generator: &Generator, rng: &mut impl CryptoRng) -> Option<Zeroizing<Vec<u8>>> {
    let mut random = |n: u32| {
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(n).unwrap_or_default()]);
        rng.fill(bytes.as_mut_slice());
        bytes
    };
    let value = match generator {
        Generator::Random(n) => return Some(random(*n)),
        Generator::Hex(n) => crate::text::hex(&random(*n)),
        Generator::Base64(n) => BASE64.encode(random(*n).as_slice()),
        Generator::Base64Url(n) => BASE64URL.encode(random(*n).as_slice()),
        Generator::Alnum(n) => {
            const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
            (0..*n).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
        }
        Generator::Words(n) => {
            let bytes = random(n * 2);
            let words: Vec<String> =
                bytes.chunks_exact(2).map(|two| word(u16::from_be_bytes([two[0], two[1]]))).collect();
            words.join("-")
        }
        Generator::Hook(_) => return None,
    };
    Some(Zeroizing::new(value.into_bytes()))
}

/// A word for 16 bits: consonant, vowel, consonant, vowel, consonant (arXiv:0901.4016).
fn word(n: u16) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let consonant = |shift: u16| CONSONANTS[usize::from(n >> shift & 15)];
    let vowel = |shift: u16| VOWELS[usize::from(n >> shift & 3)];
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn values_are_of_the_form_that_is_asked_for() {
        let mut rng = rand::rngs::StdRng::from_seed(*b"a public seed, for tests alone!!");
        let mut made = |text: &str| generate(&text.parse().unwrap(), &mut rng).unwrap();
        assert_eq!(made("random:20").len(), 20);
        assert!(crate::text::unhex(std::str::from_utf8(&made("hex:32")).unwrap()).is_some_and(|b| b.len() == 32));
        assert_eq!(BASE64.decode(made("wireguard-psk").as_slice()).unwrap().len(), 32);
        assert_eq!(BASE64URL.decode(made("base64url:17").as_slice()).unwrap().len(), 17);
        let alnum = made("alnum:4096");
        assert!(alnum.len() == 4096 && alnum.iter().all(u8::is_ascii_alphanumeric));
        assert_eq!(alnum.iter().collect::<BTreeSet<_>>().len(), 62, "all of them come");
        assert_eq!(made("words:7").split(|b| *b == b'-').filter(|w| w.len() == 5).count(), 7);
        assert_ne!(made("hex:32"), made("hex:32"));
        assert_eq!(generate(&Generator::Hook("x".parse().unwrap()), &mut rng), None);
        // The examples of arXiv:0901.4016: 127.0.0.1 is lusab-babad, 63.84.220.193 is gutih-tugad.
        assert_eq!([word(0x7f00), word(0x0001), word(0x3f54), word(0xdcc1)], ["lusab", "babad", "gutih", "tugad"]);
    }
}
