//! Faults: power cuts, kills, disks that fail, flipped bits, limits. Each harness shows that it can fail.
//!
//! With `KEYS_TEST_LONG=1` everything is tried that can be; without it a fixed part of it, which takes less than half of the
//! time: of disks that hardly differ every third, of kills every third.

mod check;
mod crash;
mod damage;
mod disk;
mod errors;
mod estate;
mod fields;
mod flips;
mod heads;
mod kill;
mod limits;
mod lockless;
mod writers;

use crate::support::Test;

/// Whether everything is to be tried.
fn is_long() -> bool {
    std::env::var_os("KEYS_TEST_LONG").is_some_and(|value| value == "1")
}

pub(crate) fn tests() -> Vec<Test> {
    [
        crash::tests(),
        errors::tests(),
        fields::tests(),
        flips::tests(),
        heads::tests(),
        kill::tests(),
        limits::tests(),
        lockless::tests(),
        writers::tests(),
    ]
    .concat()
}
