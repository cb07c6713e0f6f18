//! The mesh with real WireGuard: machines in network namespaces, each with its own home, interfaces and agent.

mod lab;
mod live;
mod rotation;

pub(crate) fn tests() -> Vec<crate::support::Test> {
    [live::tests(), rotation::tests()].concat()
}
