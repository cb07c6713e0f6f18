//! Faults: power cuts, kills, disks that fail, flipped bits, limits. Each harness shows that it can fail.

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
