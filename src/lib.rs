//! Secrets and key lifecycle of a fleet of machines: every machine makes its own private keys, which never leave it; the
//! public halves live in a signed keyring; secrets are sealed to exactly the machines that need them; every change is a
//! signed statement in an append-only log, and the fleet's state is what replaying that log under its policy gives.
//!
//! Open a fleet, which replays and checks everything, and ask it something. This is the example fleet that lies in the
//! project's own `keyring/`:
//!
//! ```
//! use keys::disk::{Access, Disk, RealFiles};
//! use keys::fleet::{Fleet, Known};
//! use keys::store::Store;
//! use keys::time::Time;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keyring = concat!(env!("CARGO_MANIFEST_DIR"), "/keyring");
//! let store = Store::new(Disk::new(RealFiles::open(keyring.as_ref(), Access::Public)?));
//! let now = Time::parse("2027-01-01T00:00:00Z").ok_or("no time")?;
//! let fleet = Fleet::open(store.clone(), &Known::default(), now, &mut |_, _| {})?;
//! assert_eq!(fleet.state().fleet.as_str(), "cdn.example");
//!
//! // Every file of the keyring against the log:
//! let (report, _) = Fleet::verify(&store, &Known::default(), now, &mut |done, of| assert!(done <= of))?;
//! assert!(report.is_sound());
//! # Ok(()) }
//! ```
//!
//! Founding a fleet, sealing, opening and planning a rotation are shown in [`ops`].
//!
//! # The map
//!
//! A module uses only what stands above it in this table (a test reads the `use crate::…` lines). *Core* computes: no
//! files, clock, environment, threads; it is all there is with `--no-default-features`. *Shell* acts.
//!
//! | module | what it is | kind |
//! |---|---|---|
//! | [`limits`] | every bound on what is read, with its reason | core |
//! | [`text`] | showing what others wrote; hexadecimal; near words | core |
//! | `words` | macros for enums of fixed words | core |
//! | `ed25519` | Ed25519 signatures of keys that sign much | core |
//! | [`digest`] | SHA-256 values | core |
//! | [`time`] | points in time and spans, in whole seconds | core |
//! | [`cidr`] | address ranges | core |
//! | [`json`] | canonical JSON (RFC 8785) | core |
//! | [`name`] | checked names: fleets, members, slots, addresses, acts | core |
//! | [`log`] | the log's formats (C2SP): tree, tiles, notes, checkpoints, commits, proofs | core |
//! | [`openpgp`] | certificates, standby subkeys, web of trust, sealed messages | core |
//! | [`ssh`] | SSH keys, certificates, revocation lists, node files | core |
//! | [`policy`] | the TOML files that say what may happen | core |
//! | [`wireguard`] | WireGuard keys, addresses, checks, configurations | core |
//! | [`formats`] | other people's formats: structured files, and what other tools seal | core |
//! | [`statement`] | statements, entries, requests: what is signed | core |
//! | [`enrolment`] | what a machine makes when it joins | core |
//! | [`backup`] | what a backup is made of: archive, manifest, shares | core |
//! | [`state`] | the fold: what the log means | core |
//! | [`audit`] | the report for auditors: values, page, bundle, sample | core |
//! | [`lint`] | findings about secrets, rules, and values that were never sealed | core |
//! | [`login`] | what `sshd` asks: whether the log decided an SSH certificate | core |
//! | [`directory`] | what a key server says of a fleet: the tree of pages, and what is asked for | core |
//! | [`agent`] | what a machine's agent does, worked out: deliveries, steps between generations, rounds | core |
//! | [`disk`] | files that are old or new, never torn | shell |
//! | [`gpg_agent`] | signing and opening through gpg-agent | shell |
//! | [`ssh_agent`] | CA keys behind an ssh-agent | shell |
//! | `http` | a small HTTP/1.1 server, with bounds | shell |
//! | [`store`] | a keyring on a disk; appending to the log | shell |
//! | [`home`] | where private halves lie | shell |
//! | [`fleet`] | an opened fleet: questions and changes | shell |
//! | [`witness`] | cosigning logs, and asking others to | shell |
//! | [`remote`] | a keyring that is kept elsewhere: pulling it, handing in | shell |
//! | [`ops`] | what people and machines do with it | shell |
//! | [`node`] | what the agent touches on its machine: files of services, hooks, systemd | shell |
//! | [`cli`] | the command | shell |

pub mod agent;
pub mod audit;
pub mod backup;
pub mod cidr;
#[cfg(feature = "cli")]
pub mod cli;
pub mod digest;
pub mod directory;
#[cfg(feature = "shell")]
pub mod disk;
mod ed25519;
pub mod enrolment;
#[cfg(feature = "shell")]
pub mod fleet;
pub mod formats;
#[cfg(feature = "shell")]
pub mod gpg_agent;
#[cfg(feature = "shell")]
pub mod home;
#[cfg(feature = "net")]
mod http;
pub mod json;
pub mod limits;
pub mod lint;
pub mod log;
pub mod login;
pub mod name;
#[cfg(feature = "shell")]
pub mod node;
pub mod openpgp;
#[cfg(feature = "shell")]
pub mod ops;
pub mod policy;
#[cfg(feature = "net")]
pub mod remote;
pub mod ssh;
#[cfg(feature = "shell")]
pub mod ssh_agent;
pub mod state;
pub mod statement;
#[cfg(feature = "shell")]
pub mod store;
pub mod text;
pub mod time;
pub mod wireguard;
#[cfg(feature = "net")]
pub mod witness;
mod words;
