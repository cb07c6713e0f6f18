//! The integration tests: one binary. A test that needs another program is listed as ignored, with what it needs in front
//! of its name, when that program is not there; `tests/setup` installs all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]
#![allow(clippy::disallowed_methods, reason = "tests drive the program from outside: files, processes, clocks")]
#![allow(clippy::print_stderr, reason = "a test says what it measured, and the seed with which it can be repeated")]
#![allow(missing_docs, reason = "a test's name says what it shows")]

mod bad_input;
mod faults;
mod gpg_agent;
mod lifecycle;
mod replay;
mod ssh_keygen;
mod support;
mod tidy;
mod wg_tools;

fn main() -> std::process::ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let tests = [
        bad_input::tests(),
        faults::tests(),
        gpg_agent::tests(),
        lifecycle::tests(),
        replay::tests(),
        ssh_keygen::tests(),
        tidy::tests(),
        wg_tools::tests(),
    ]
    .concat();
    support::run(&arguments, tests)
}
