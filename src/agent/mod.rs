//! What a machine's agent does, worked out without doing it: what belongs into a service's directory, the steps from one
//! generation to the next and back, what follows what in a round, and when.
//!
//! Nothing here touches a file, a clock or a program; `node` and the command line do, and the tests drive the same machines
//! through thousands of nodes.

mod ack;
mod hooks;
mod manifest;
mod metrics;
mod rounds;
mod switch;
mod units;

pub use ack::{Ack, AckedDelivery, Boot, HookName, WAVES, waves};
pub use hooks::{HookRule, Hooks};
pub use manifest::{Lack, Manifest, ManifestFile, Part, Wish, wishes};
pub use metrics::{Metric, Numbers, Seen, ServiceNumbers};
pub use rounds::{Act, Happened, INTERVAL, Rounds, Schedule};
pub use switch::{Case, Ended, Outcome, Phase, Step, Switch};
#[cfg(feature = "net")]
pub(crate) use units::word;
pub use units::{AGENT_UNIT, CREDENTIAL_SOCKET, Places, agent_unit, asked_by, drop_in};
