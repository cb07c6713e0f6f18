//! The integration tests: one binary. A test that needs another program is listed as ignored, with what it needs in front
//! of its name, when that program is not there; `tests/setup` installs all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]
#![allow(clippy::disallowed_methods, reason = "tests drive the program from outside: files, processes, clocks")]
#![allow(clippy::print_stderr, reason = "a test says what it measured, and the seed with which it can be repeated")]
#![allow(missing_docs, reason = "a test's name says what it shows")]

mod admission;
mod agent;
mod agent_boot;
mod agent_systemd;
mod agent_talk;
mod agent_trials;
mod ahead;
mod attacks;
mod audit;
mod backup;
mod bad_input;
mod beginnings;
mod bootstrap;
mod cloud_boot;
mod confirming;
mod counting;
mod delivery;
mod demo;
mod documents;
mod drill;
mod effects;
mod emergency;
mod ever;
mod export;
mod faults;
mod git;
mod going;
mod gpg;
mod gpg_agent;
mod hardening;
mod import;
mod integrations;
mod inviting;
mod kept;
mod large;
mod lifecycle;
mod lint;
mod locks;
mod mesh;
mod mesh_sim;
mod named;
mod nginx;
mod objections;
mod peers;
mod proofs;
mod protecting;
mod recipients;
mod rekey;
mod remote;
mod renew;
mod replay;
mod resealing;
mod root;
mod sealed_files;
mod secrecy;
mod snapshots;
mod sq;
mod ssh_agent;
mod ssh_batch;
mod ssh_doctor;
mod ssh_keygen;
mod ssh_revoke;
mod sshd;
mod sshd_break_glass;
mod sshd_crash;
mod sshd_logins;
mod sshd_proof;
mod stores;
mod strangers;
mod structured;
mod support;
mod tidy;
mod values;
mod web;
mod wg_people;
mod wg_tools;
mod wg_topology;
mod wireguard;
mod witness;

fn main() -> std::process::ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let tests = [
        admission::tests(),
        agent::tests(),
        agent_boot::tests(),
        agent_systemd::tests(),
        agent_talk::tests(),
        agent_trials::tests(),
        ahead::tests(),
        attacks::tests(),
        audit::tests(),
        backup::tests(),
        bad_input::tests(),
        beginnings::tests(),
        bootstrap::tests(),
        cloud_boot::tests(),
        confirming::tests(),
        counting::tests(),
        delivery::tests(),
        demo::tests(),
        documents::tests(),
        drill::tests(),
        effects::tests(),
        emergency::tests(),
        ever::tests(),
        export::tests(),
        faults::tests(),
        git::tests(),
        going::tests(),
        gpg::tests(),
        gpg_agent::tests(),
        hardening::tests(),
        import::tests(),
        integrations::tests(),
        inviting::tests(),
        kept::tests(),
        large::tests(),
        lifecycle::tests(),
        lint::tests(),
        locks::tests(),
        mesh_sim::tests(),
        mesh::tests(),
        named::tests(),
        nginx::tests(),
        objections::tests(),
        peers::tests(),
        proofs::tests(),
        protecting::tests(),
        recipients::tests(),
        rekey::tests(),
        remote::tests(),
        renew::tests(),
        replay::tests(),
        resealing::tests(),
        root::tests(),
        sealed_files::tests(),
        secrecy::tests(),
        snapshots::tests(),
        sq::tests(),
        ssh_agent::tests(),
        ssh_batch::tests(),
        ssh_doctor::tests(),
        ssh_keygen::tests(),
        ssh_revoke::tests(),
        sshd::tests(),
        sshd_break_glass::tests(),
        sshd_crash::tests(),
        sshd_logins::tests(),
        sshd_proof::tests(),
        stores::tests(),
        strangers::tests(),
        structured::tests(),
        tidy::tests(),
        values::tests(),
        web::tests(),
        wg_people::tests(),
        wg_tools::tests(),
        wg_topology::tests(),
        wireguard::tests(),
        witness::tests(),
    ]
    .concat();
    support::run(&arguments, tests)
}
