//! Which requirements of which standards a section of the report helps to answer: PCI DSS 4.0.1, the AICPA's trust services
//! criteria (SOC 2), NIST SP 800-57 part 1 revision 5. By number; what they ask for stands in them.

use serde::Serialize;

use super::report::Section;

/// A section and the requirements it helps to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// The section.
    pub section: Section,
    /// What it shows.
    pub shows: &'static str,
    /// Requirements of PCI DSS 4.0.1.
    pub pci_dss: &'static [&'static str],
    /// Trust services criteria.
    pub soc2: &'static [&'static str],
    /// Sections of SP 800-57 part 1 revision 5.
    pub sp800_57: &'static [&'static str],
}

const fn row(
    section: Section,
    shows: &'static str,
    pci_dss: &'static [&'static str],
    soc2: &'static [&'static str],
    sp800_57: &'static [&'static str],
) -> Mapping {
    Mapping { section, shows, pci_dss, soc2, sp800_57 }
}

/// Every section.
pub const MAPPINGS: &[Mapping] = &[
    row(
        Section::Inventory,
        "members and keys with purpose, algorithm, strength, state and due date",
        &["3.6.1", "3.6.1.1", "3.7.1", "12.3.3"],
        &["CC6.1"],
        &["5.6", "7", "8.1.6"],
    ),
    row(
        Section::Cryptoperiods,
        "which keys were replaced in time, late, or not yet; which were destroyed",
        &["3.7.4", "3.7.5"],
        &["CC6.1"],
        &["5.3", "8.2.3", "8.3.4"],
    ),
    row(
        Section::Approvals,
        "who proposed and who signed each change, and what the policy needed",
        &["3.7.6", "3.7.7"],
        &["CC6.2", "CC6.3", "CC8.1"],
        &["9.1", "9.2"],
    ),
    row(
        Section::Departures,
        "how long a removal took, and when what the member could read was replaced",
        &["3.7.5", "8.2.5"],
        &["CC6.2", "CC6.3", "CC7.4"],
        &["8.3.2", "8.3.5", "9.3.4"],
    ),
    row(
        Section::Access,
        "who could decrypt which secret, now and ever",
        &["3.6.1.2", "3.6.1.3", "3.6.1.4", "3.7.3"],
        &["CC6.1", "CC6.3"],
        &["8.2.1"],
    ),
    row(Section::Trust, "who vouches for whose certificate", &["3.7.2", "3.7.7"], &["CC6.1"], &["8.1.5", "8.1.6"]),
    row(
        Section::Ssh,
        "which SSH certificates were decided, for whom and until when",
        &["8.2.1"],
        &["CC6.1", "CC6.2"],
        &["8.1.6"],
    ),
    row(Section::Mesh, "which machines speak to which over encrypted links", &["4.2.1"], &["CC6.6", "CC6.7"], &[]),
    row(
        Section::Policies,
        "how the rules changed, and who decided it",
        &["3.7.1", "12.1.2"],
        &["CC5.3", "CC8.1"],
        &["9.1"],
    ),
    row(Section::Void, "what was tried and had no effect", &["3.7.7", "10.2.1"], &["CC7.2"], &["9.2"]),
    row(Section::Gaps, "how long the record was silent", &["10.3.4"], &["CC7.2"], &["9.2"]),
    row(
        Section::Emergencies,
        "what was done in an emergency, and when it came into the log",
        &["12.10.1"],
        &["CC7.3", "CC7.4"],
        &["9.3.4"],
    ),
    row(
        Section::Drills,
        "whether restoring from a backup was tried, and how it went",
        &[],
        &["CC7.5", "A1.3"],
        &["8.2.2", "9.3"],
    ),
];
