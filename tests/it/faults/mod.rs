//! Faults: power cuts, kills, disks that fail, flipped bits, limits. Each harness shows that it can fail.

mod check;
mod crash;
mod disk;
mod errors;
mod estate;
mod flips;
mod kill;
mod limits;
mod lockless;
mod writers;

use crate::support::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        crash::tests(),
        errors::tests(),
        flips::tests(),
        kill::tests(),
        limits::tests(),
        lockless::tests(),
        writers::tests(),
    ]
    .concat()
}
