//! The names of acts: what a statement can do, and what a quorum rule can be about.

use crate::words::words;

words! {
    /// What kind of change a statement makes.
    ActName, "an act":
    /// The first entry: the fleet's founders, policy and log.
    Genesis = "genesis",
    /// A new policy.
    PolicyUpdate = "policy.update",
    /// New members with their keys.
    Enroll = "member.enroll",
    /// A newcomer has shown that it has its keys.
    Confirm = "member.confirm",
    /// Members leave, with a reason.
    Retire = "member.retire",
    /// An owner publishes new standby keys, or a new version of its certificate.
    Publish = "key.publish",
    /// Somebody vouches for a certificate, or takes that back.
    Certify = "key.certify",
    /// Standby keys become active.
    Activate = "key.activate",
    /// Deactivated keys were destroyed by their owner.
    Destroy = "key.destroy",
    /// A secret gets a (new) value.
    Seal = "secret.seal",
    /// A secret gets other recipients; its body stays.
    Reseal = "secret.reseal",
    /// A secret is removed.
    Remove = "secret.remove",
    /// An SSH certificate is issued.
    SshIssue = "ssh.issue",
    /// SSH certificates are revoked.
    SshRevoke = "ssh.revoke",
    /// Somebody objects to a statement: it can never take effect any more.
    Object = "proposal.object",
    /// A backup with private halves of a member is made.
    Backup = "backup.make",
    /// A restore was tried, and this came of it.
    Drill = "drill.restore",
    /// What replaying the log comes to is put on record, for those who start from there.
    Snapshot = "snapshot",
    /// The log gets another key.
    Rekey = "log.rekey",
    /// Members are stopped at once, by people and machines that the log does not reach; it is logged later.
    Emergency = "emergency",
    /// Machines may join by a token each, within a window.
    Invite = "member.invite",
    /// Invitations are withdrawn.
    Uninvite = "member.uninvite",
}
