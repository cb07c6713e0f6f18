//! What a node does next about its own lanes.

use std::time::Duration;

use super::Ends;
use crate::name::MemberName;
use crate::time::{Span, Time, rough};
use crate::wireguard::Lane;

/// A lane that is not drained after so long is reported. It is never replaced by time alone.
pub const ALARM_AFTER: Span = Span::hours(24);
/// So many peers are named; the rest is counted.
const NAMED: usize = 5;

/// How far a lane is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Peers whose packets go through it, or may: their route is on it, or should be, or the other lane is not proven.
    pub carrying: Vec<MemberName>,
    /// For how long nothing arrived on it from anybody who was heard on the other lane meanwhile.
    pub quiet_for: Duration,
}

/// What a node does next about its own lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No lane is draining.
    Nothing,
    /// A lane is draining; why it is not replaced yet, for people.
    Wait(String),
    /// The lane carries nothing: make a new key for it, publish it, set it.
    Replace(Lane),
    /// As [`Step::Wait`], for longer than [`ALARM_AFTER`].
    Alarm {
        /// The lane.
        lane: Lane,
        /// For how long it has been draining.
        undrained: Span,
        /// Why, for people.
        reason: String,
    },
}

/// What the node with the lanes `own` does next, if `drain` is that of the lane it is draining.
///
/// Before it carries out [`Step::Replace`] the driver reads the log to its end. If that changes what is wanted it goes
/// through another round and asks again: two peers that replace the keys of different lanes and do not know of each
/// other are left with none. A log that moves on before the new key is in it is such a change.
///
/// `drain_quiet` is the policy's. The time that has passed by `now` decides only between waiting and an alarm.
pub fn next_step(own: &Ends, drain: &Drain, drain_quiet: Span, now: Time) -> Step {
    let Some(lane) = own.drained_lane() else { return Step::Nothing };
    let reason = if !drain.carrying.is_empty() {
        format!("lane {lane} still carries packets for {}", names(&drain.carrying))
    } else if drain.quiet_for < drain_quiet.to_duration() {
        let quiet = Span(drain.quiet_for.as_secs());
        format!("lane {lane} has been quiet for {} of {}", rough(quiet), rough(drain_quiet))
    } else {
        return Step::Replace(lane);
    };
    let undrained = now.since(own.since);
    if undrained < ALARM_AFTER { Step::Wait(reason) } else { Step::Alarm { lane, undrained, reason } }
}

fn names(members: &[MemberName]) -> String {
    let named: Vec<_> = members.iter().take(NAMED).map(ToString::to_string).collect();
    match members.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
