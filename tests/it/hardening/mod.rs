//! Holes that were there once, a test each: how somebody could stop a fleet, take something from it or have it lie, with
//! no key at all, with a member's stolen keys, or by bad luck alone.

mod going_on;
mod homes;
mod planted;
mod renewal;
mod robbed;
mod secrets;
mod verifying;

use crate::support::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        planted::tests(),
        robbed::tests(),
        secrets::tests(),
        homes::tests(),
        going_on::tests(),
        renewal::tests(),
        verifying::tests(),
    ]
    .concat()
}
