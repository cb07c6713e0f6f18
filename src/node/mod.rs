//! What the agent touches on its machine: the directories that services read, the programs it asks, and systemd.
//!
//! [`Reader`], from [`open_generation`], is for services written in Rust: it reads several files of one generation, and never
//! of two. What is to happen is worked out in `agent`; the command line drives both.
#![allow(clippy::disallowed_methods, reason = "this is shell: it starts hooks, reads /etc and writes services' files")]

mod accounts;
mod boot;
mod credentials;
mod generation;
mod hook;
mod mount;
mod notify;
mod reader;

pub use accounts::Ids;
pub use boot::running;
pub use credentials::{Units, serve_credentials};
pub use generation::{Found, RunDirectory, ServiceDirectory};
pub use hook::{HookCall, HookError, read_hooks, run_hook};
pub use mount::{Mounted, mount_in_memory};
pub use notify::Notifier;
pub use reader::{Reader, open_generation, read_together};
