//! From one generation of a service's directory to the next, and back where the service does not take it.
//!
//! ```text
//! stage → check → flip → reload → verify → settle            the new one is in use
//!           └ discard       └───────┴→ flip back → reload → discard     the old one is
//! ```
//! There is never a second flip before the service was told of the first, so a reader that opened a directory finds its
//! files there. Where there was no generation before, nobody reads yet: the first is checked, and no service is told.
//! What has to go (an expired value that the policy stops) goes whether the service likes it or not.

use crate::words::words;

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looks at what is staged.
    Check,
    /// Makes the service read it.
    Reload,
    /// Finds out whether it did.
    Verify,
}

impl Phase {
    /// The word in messages, and in the environment of a hook.
    pub fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Reload => "reload",
            Self::Verify => "verify",
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the new generation, which nobody sees yet.
    Stage,
    /// Run a hook.
    Run(Phase),
    /// Let readers see the new generation.
    Flip,
    /// Let them see the old one again.
    FlipBack,
    /// Remove the new generation.
    Discard,
    /// Note that the service was told, and remove what is older than the one before.
    Settle,
    /// It is over.
    End(Ended),
}

words! {
    /// How it ended.
    Outcome, "an outcome of a delivery":
    /// The service has what the log says.
    Current = "current",
    /// A secret is missing or cannot be opened: what was there stays.
    Incomplete = "incomplete",
    /// The check refused it: what was there stays.
    Refused = "refused",
    /// The service did not take it, and has the old one again.
    RolledBack = "rolled-back",
    /// Neither forward nor back could be finished.
    Stuck = "stuck",
    /// Its member has left; there is nothing any more.
    Withdrawn = "withdrawn",
}

/// How it ended, short of a change that could not even be staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The new generation is in use.
    Delivered,
    /// It could not be written, or shown: the old one is in use.
    NotStaged,
    /// The check refused it: the old one is in use.
    Refused,
    /// The service did not take it: the old one is in use again.
    RolledBack,
    /// The service did not take it, and it could not be taken back.
    Stuck,
}

/// What kind of change it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// There was nothing before.
    First,
    /// The next generation.
    Next,
    /// The next generation lacks what has to go.
    Forced,
    /// A generation was shown, and whoever did it was ended before the service was told.
    Resumed,
}

/// A change under way.
#[derive(Debug, Clone)]
pub struct Switch {
    case: Case,
    hooks: [bool; 3],
    last: Step,
    problem: Option<String>,
    ending: Ended,
}

impl Switch {
    /// A change of this kind; `check`, `reload` and `verify` are whether there is such a hook.
    pub fn new(case: Case, [check, reload, verify]: [bool; 3]) -> (Self, Step) {
        let mut switch =
            Self { case, hooks: [check, reload, verify], last: Step::Stage, problem: None, ending: Ended::Delivered };
        if case == Case::Resumed {
            switch.last = switch.after_flip();
        }
        let first = switch.last;
        (switch, first)
    }

    /// What follows, now that the last step has ended so.
    pub fn step(&mut self, result: Result<(), String>) -> Step {
        let failed = result.is_err();
        if let Err(problem) = result {
            // What went wrong first is what matters.
            self.problem.get_or_insert(problem);
        }
        self.last = match self.last {
            Step::Stage if failed => self.give_up(Ended::NotStaged),
            Step::Stage if self.has(Phase::Check) && self.case != Case::Forced => Step::Run(Phase::Check),
            Step::Stage => Step::Flip,
            Step::Run(Phase::Check) if failed => self.give_up(Ended::Refused),
            Step::Run(Phase::Check) => Step::Flip,
            Step::Flip if failed => self.give_up(Ended::NotStaged),
            Step::Flip => self.after_flip(),
            Step::Run(_) if self.ending == Ended::RolledBack => Step::Discard,
            Step::Run(_) if failed && self.case == Case::Forced => Step::Settle,
            Step::Run(_) if failed => Step::FlipBack,
            Step::Run(Phase::Reload) if self.has(Phase::Verify) => Step::Run(Phase::Verify),
            Step::Run(_) => Step::Settle,
            // With the link as it is, the new one has to stay.
            Step::FlipBack if failed => Step::End(Ended::Stuck),
            Step::FlipBack => {
                self.ending = Ended::RolledBack;
                if self.has(Phase::Reload) { Step::Run(Phase::Reload) } else { Step::Discard }
            }
            Step::Settle | Step::Discard | Step::End(_) => Step::End(self.ending),
        };
        self.last
    }

    /// What went wrong first, if anything did.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn give_up(&mut self, how: Ended) -> Step {
        self.ending = how;
        Step::Discard
    }

    fn after_flip(&self) -> Step {
        match self.case {
            Case::First => Step::Settle,
            _ if self.has(Phase::Reload) => Step::Run(Phase::Reload),
            _ if self.has(Phase::Verify) => Step::Run(Phase::Verify),
            _ => Step::Settle,
        }
    }

    fn has(&self, phase: Phase) -> bool {
        let [check, reload, verify] = self.hooks;
        match phase {
            Phase::Check => check,
            Phase::Reload => reload,
            Phase::Verify => verify,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a change whose steps at `failing` (counted from 0) fail; gives the steps.
    fn run(case: Case, hooks: [bool; 3], failing: &[usize]) -> Vec<Step> {
        let (mut switch, mut step) = Switch::new(case, hooks);
        let mut steps = Vec::new();
        while !matches!(step, Step::End(_)) {
            let fails = failing.contains(&steps.len());
            steps.push(step);
            assert!(steps.len() < 12, "it ends: {steps:?}");
            step = switch.step(if fails { Err(format!("step {}", steps.len() - 1)) } else { Ok(()) });
        }
        assert_eq!(switch.problem().is_some(), !failing.is_empty());
        steps.push(step);
        steps
    }

    const ALL: [bool; 3] = [true; 3];
    const CHECK: Step = Step::Run(Phase::Check);
    const RELOAD: Step = Step::Run(Phase::Reload);
    const VERIFY: Step = Step::Run(Phase::Verify);

    #[test]
    fn a_change_goes_forward_or_back_to_where_it_was() {
        use Step::{Discard, End, Flip, FlipBack, Settle, Stage};
        let cases: [(&[usize], &[Step]); 8] = [
            (&[], &[Stage, CHECK, Flip, RELOAD, VERIFY, Settle, End(Ended::Delivered)]),
            (&[0], &[Stage, Discard, End(Ended::NotStaged)]),
            (&[1], &[Stage, CHECK, Discard, End(Ended::Refused)]),
            (&[2], &[Stage, CHECK, Flip, Discard, End(Ended::NotStaged)]),
            (&[3], &[Stage, CHECK, Flip, RELOAD, FlipBack, RELOAD, Discard, End(Ended::RolledBack)]),
            (&[4], &[Stage, CHECK, Flip, RELOAD, VERIFY, FlipBack, RELOAD, Discard, End(Ended::RolledBack)]),
            (&[3, 5], &[Stage, CHECK, Flip, RELOAD, FlipBack, RELOAD, Discard, End(Ended::RolledBack)]),
            (&[3, 4], &[Stage, CHECK, Flip, RELOAD, FlipBack, End(Ended::Stuck)]),
        ];
        for (failing, steps) in cases {
            assert_eq!(run(Case::Next, ALL, failing), steps, "{failing:?}");
        }
    }

    #[test]
    fn what_has_to_go_goes_and_the_first_is_told_nobody() {
        use Step::{End, Flip, Settle, Stage};
        let done = End(Ended::Delivered);
        assert_eq!(run(Case::Forced, ALL, &[2]), [Stage, Flip, RELOAD, Settle, done]);
        assert_eq!(run(Case::First, ALL, &[]), [Stage, CHECK, Flip, Settle, done]);
        assert_eq!(run(Case::Resumed, ALL, &[]), [RELOAD, VERIFY, Settle, done]);
        assert_eq!(run(Case::Next, [false; 3], &[]), [Stage, Flip, Settle, done]);
    }

    #[test]
    fn whatever_fails_readers_are_never_left_between_two_flips() {
        for case in [Case::First, Case::Next, Case::Forced, Case::Resumed] {
            for hooks in 0..8_u8 {
                for failing in 0..256_usize {
                    let failing: Vec<usize> = (0..8).filter(|i| failing & (1 << i) != 0).collect();
                    let hooks = [hooks & 1 != 0, hooks & 2 != 0, hooks & 4 != 0];
                    let (mut switch, mut step) = Switch::new(case, hooks);
                    let (mut at, mut shown) = (0, case == Case::Resumed);
                    while !matches!(step, Step::End(_)) {
                        let fails = failing.contains(&at);
                        match step {
                            Step::Flip => {
                                assert!(!shown, "{case:?} {hooks:?} {failing:?}: two flips");
                                shown = !fails;
                            }
                            Step::FlipBack => shown = shown && fails,
                            // What is seen is not removed.
                            Step::Discard => assert!(!shown, "{case:?} {hooks:?} {failing:?}"),
                            _ => {}
                        }
                        at += 1;
                        assert!(at < 12);
                        step = switch.step(if fails { Err(String::new()) } else { Ok(()) });
                    }
                    let is_new = matches!(step, Step::End(Ended::Delivered | Ended::Stuck));
                    assert_eq!(shown, is_new, "{case:?} {hooks:?} {failing:?}");
                }
            }
        }
    }
}
