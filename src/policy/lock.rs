//! `[time-lock]` in policy/fleet.toml: what waits in the log before it takes effect.

use serde::Deserialize;

use crate::time::Span;

/// The shortest time lock: anything less is nobody's chance to look.
const MIN: Span = Span(60);
/// The longest time lock: what nobody has stopped by then has been agreed to.
const MAX: Span = Span::days(30);

/// How long changes wait in the log, where everybody sees them, before they take effect. Zero: not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeLocks {
    /// A new policy.
    pub policy_update: Span,
    /// New operators and authorities.
    pub member_enroll: Span,
    /// Another key for the log, unless the one before was stolen or lost.
    pub log_rekey: Span,
}

/// Tables, so that `policy.update = "24h"` is read as it is written.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeLockTable {
    #[serde(default)]
    policy: PolicyTable,
    #[serde(default)]
    member: MemberTable,
    #[serde(default)]
    log: LogTable,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LogTable {
    rekey: Option<Span>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PolicyTable {
    update: Option<Span>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct MemberTable {
    enroll: Option<Span>,
}

impl TimeLocks {
    /// The locks by act.
    pub fn by_act(&self) -> [(&'static str, Span); 3] {
        [("policy.update", self.policy_update), ("member.enroll", self.member_enroll), ("log.rekey", self.log_rekey)]
    }
}

impl TimeLockTable {
    /// Checks the spans.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub(super) fn checked(self) -> Result<TimeLocks, (String, String)> {
        let given = [
            ("policy.update", self.policy.update),
            ("member.enroll", self.member.enroll),
            ("log.rekey", self.log.rekey),
        ];
        for (act, span) in given.iter().filter_map(|(act, span)| Some((act, (*span)?))) {
            let problem = match span {
                s if s < MIN => "is shorter than a minute; leave it out if nothing has to wait",
                s if s > MAX => "is longer than 30d",
                _ => continue,
            };
            return Err((format!("[time-lock] {act}"), problem.to_owned()));
        }
        let span = |given: Option<Span>| given.unwrap_or_default();
        Ok(TimeLocks {
            policy_update: span(self.policy.update),
            member_enroll: span(self.member.enroll),
            log_rekey: span(self.log.rekey),
        })
    }
}
