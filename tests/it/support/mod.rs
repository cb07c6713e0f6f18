//! What every test stands on: a sandbox of its own, the program run in it, other people's programs by absolute path.

pub(crate) mod faulty;
mod fleet;
mod gpg;
pub(crate) mod growing;
pub(crate) mod machine;
mod private;
mod request;
mod running;
mod sandbox;
pub(crate) mod stage;
mod tools;
pub(crate) mod written;

pub(crate) use fleet::{TestFleet, fingerprints, user_id};
pub(crate) use gpg::GpgHome;
pub(crate) use private::{Needles, files_below, private_numbers};
pub(crate) use request::{Forged, now};
pub(crate) use running::{Running, bound};
pub(crate) use sandbox::{Ran, Sandbox, at_time, command_of};
pub(crate) use tools::Tool;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name, the programs without which it is skipped, and what it does in a sandbox of its own.
#[derive(Clone)]
pub(crate) struct Test {
    pub name: &'static str,
    pub needs: &'static [Tool],
    pub run: fn(&Sandbox),
}

/// Lists a module's tests: `tests![module: one, two needs [Gpg], …]`. A function that is left out is dead code, and the
/// lints say so.
macro_rules! tests {
    ($module:literal: $($name:ident $(needs [$($tool:ident),* $(,)?])?),* $(,)?) => {
        pub(crate) fn tests() -> Vec<crate::support::Test> {
            vec![$(crate::support::Test {
                name: concat!($module, "::", stringify!($name)),
                needs: &[$($(crate::support::Tool::$tool),*)?],
                run: $name,
            }),*]
        }
    };
}
pub(crate) use tests;

/// Runs the tests; what lacks a program is reported as ignored. A process that a test has left behind is a failure.
#[expect(clippy::print_stderr, reason = "whoever runs the tests wants to know what was left")]
pub(crate) fn run(arguments: &Arguments, tests: Vec<Test>) -> std::process::ExitCode {
    running::adopt_orphans();
    let trials = tests
        .into_iter()
        .map(|test| {
            let missing: Vec<&str> =
                test.needs.iter().filter(|tool| tool.path().is_none()).map(|tool| tool.name()).collect();
            let trial = Trial::test(test.name, move || {
                let sandbox = Sandbox::new(test.name);
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (test.run)(&sandbox)));
                sandbox.finish(result.is_ok());
                result.map_err(|panic| Failed::from(text(panic.as_ref())))
            });
            if missing.is_empty() {
                trial
            } else {
                trial
                    .with_kind(format!("skipped, needs {}: run tests/setup", missing.join(", ")))
                    .with_ignored_flag(true)
            }
        })
        .collect();
    let ended = libtest_mimic::run(arguments, trials).exit_code();
    let left = running::left_over();
    if left.is_empty() {
        return ended;
    }
    eprintln!("still running after the tests, and killed now:\n  {}", left.join("\n  "));
    std::process::ExitCode::FAILURE
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    text.unwrap_or_else(|| "the test panicked".to_owned())
}
