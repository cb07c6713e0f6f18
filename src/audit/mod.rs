//! The report for auditors: what happened in a period, what there was at its end, and what somebody would write up.
//!
//! A [`Collector`] looks on while the log is replayed, once, and holds no more than the state and the report. It judges
//! nothing that the fold has judged: what took effect, who counted and why something is void it takes from there, and puts it
//! in the order in which auditors ask. All times are the log's. [`Report`] is the value that is printed, written as JSON
//! (`docs/formats/audit.md`) and as a page.
//!
//! Left to others: replaying and verifying (`crate::state`, and whoever opens the log), and everything that the log does not
//! say, which [`Report::not_checked`] names.

mod access;
mod algorithm;
mod bundle;
mod collect;
mod csv;
mod entry;
mod finding;
mod history;
mod html;
mod inventory;
mod lives;
mod mapping;
mod need;
mod report;
mod routine;
mod rows;
mod sample;
mod tar;

pub use bundle::Bundle;
pub use collect::{Collector, Head};
pub use finding::{GAP_MAX, GRACE, LEAVE_MAX, RENEW_MAX};
pub use history::{History, Reading};
pub use html::{Belongs, Ring, RingNode, page};
pub use mapping::{MAPPINGS, Mapping};
pub use report::{
    Access, ActCount, Approval, Cryptoperiod, Departure, FORMAT, Finding, FollowUp, Gap, KeyRow, LogFacts, Measure,
    MemberRow, MeshRow, Period, PolicyChange, PublishedFacts, Report, SecretRow, Section, Severity, Special, SshRow,
    Timeliness, VoidRow, Vouch,
};
pub use sample::sample;
