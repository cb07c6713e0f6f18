//! Rules of policy/secrets.toml that do nothing, or that nobody would miss.

use super::finding::{Code, Finding, Severity};
use crate::name::Address;
use crate::policy::SecretRule;
use crate::policy::secrets::FILE;
use crate::state::State;

/// Rules in force that an earlier one hides, that allow sharing nobody makes use of, or that match no secret.
pub fn rules(state: &State) -> Vec<Finding> {
    let rules = &state.policy.policy.secrets.rules;
    let addresses: Vec<(&Address, String)> = state.live_secrets().map(|(a, _)| (a, a.to_string())).collect();
    let mut found = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let place = format!("policy/{FILE}, [[secret]] number {} ({})", i + 1, rule.pattern);
        let earlier = rules.get(..i).unwrap_or_default();
        // A star in the later pattern can only fall on a star of the earlier one, so what is matched as text is matched
        // whatever stands for the star.
        if let Some(n) = earlier.iter().position(|e| e.pattern.matches(rule.pattern.as_str())) {
            let text = format!(
                "it never holds: number {} ({}) matches all that it matches",
                n + 1,
                earlier_pattern(earlier, n)
            );
            found.push(Finding::new(
                Severity::Warning,
                Code::RuleShadowed,
                place,
                text,
                "put it before that one, or take it out",
            ));
            continue;
        }
        let matching = addresses.iter().filter(|(_, text)| rule.pattern.matches(text));
        let (held, hidden): (Vec<_>, Vec<_>) =
            matching.partition(|(_, text)| !earlier.iter().any(|e| e.pattern.matches(text)));
        if held.is_empty() {
            found.push(empty(rule, place, hidden.len()));
        } else if rule.shared && !held.iter().any(|(address, _)| makes_use(state, address)) {
            let text = "it lets PoPs share, and no secret under it is on more than one".to_owned();
            found.push(Finding::new(Severity::Warning, Code::RuleUnused, place, text, "take shared = true out"));
        }
    }
    found
}

fn earlier_pattern(earlier: &[SecretRule], n: usize) -> String {
    earlier.get(n).map(|e| e.pattern.to_string()).unwrap_or_default()
}

fn empty(rule: &SecretRule, place: String, hidden: usize) -> Finding {
    let text = match hidden {
        0 => "it matches no secret".to_owned(),
        n => format!("earlier rules decide all {n} secrets that it matches"),
    };
    match rule.shared {
        true => Finding::new(
            Severity::Warning,
            Code::RuleUnused,
            place,
            format!("{text}, and would let PoPs share"),
            "take it out",
        ),
        false => Finding::new(Severity::Note, Code::RuleEmpty, place, text, "take it out"),
    }
}

/// Whether a secret needs its rule to be shared: by its address, or by readers on more than one PoP.
fn makes_use(state: &State, address: &Address) -> bool {
    let readers = state.readers_by_policy(address).unwrap_or_default();
    let on_pops = readers.iter().filter(|r| super::recipients::is_on_a_pop(state, r));
    let places: std::collections::BTreeSet<_> = on_pops.map(crate::name::MemberName::owner).collect();
    address.is_shared() || places.len() > 1
}
