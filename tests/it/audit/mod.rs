//! The report for auditors: what it says of a life that had everything in it.

mod bundle;
mod life;
mod page;
mod report;
mod routine;

pub(crate) fn tests() -> Vec<crate::support::Test> {
    [report::tests(), page::tests(), bundle::tests(), routine::tests()].concat()
}
