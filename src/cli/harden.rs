//! Before anything else: no core dump, no ptrace by others, and memory that is not swapped where that is allowed.

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Hardens the process as far as the system lets it. None of it is a reason not to run: a container may forbid any of it.
pub(super) fn harden() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // With a bound on locked memory a later allocation would fail; without one everything can be locked as it is touched.
    if getrlimit(Resource::Memlock).current.is_none() {
        let _ = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    }
}
