//! The report for auditors: what it says of a life that had everything in it.

mod life;
mod report;

pub(crate) fn tests() -> Vec<crate::support::Test> {
    report::tests()
}
