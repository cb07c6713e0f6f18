//! What can be wrong with a node's SSH: a word for each, how grave it is, what it does to logins, and the way out.

use std::fmt;

use crate::words::words;

words! {
    /// How grave a finding is.
    Severity, "a severity":
    /// Worth knowing.
    Note = "note",
    /// Lets more in than is meant, or will refuse somebody later.
    Warning = "warning",
    /// Refuses logins that should work, or lets in who should be out.
    Error = "error",
}

words! {
    /// What was found. The words are stable: scripts go by them.
    Code, "a finding":
    /// There is no sshd_config.
    ConfigMissing = "config-missing",
    /// The drop-in is there and nothing includes it.
    DropInUnread = "drop-in-unread",
    /// No file of the configuration was written by keys.
    DropInMissing = "drop-in-missing",
    /// An earlier line has another value for a word of the drop-in.
    Overridden = "overridden",
    /// A Match block has another value for a word of the drop-in.
    MatchOverrides = "match-overrides",
    /// Nothing names a revocation list.
    KrlUnset = "krl-unset",
    /// The revocation list is not there.
    KrlMissing = "krl-missing",
    /// The revocation list has no bytes.
    KrlEmpty = "krl-empty",
    /// The revocation list is cut short or garbage.
    KrlBroken = "krl-broken",
    /// The revocation list is one that some sshd refuses.
    KrlRefused = "krl-refused",
    /// The revocation list lacks what the log revokes.
    KrlLacks = "krl-lacks",
    /// The revocation list revokes what the log does not.
    KrlSurplus = "krl-surplus",
    /// Nothing names the CAs of users.
    CaUnset = "ca-unset",
    /// The file of CAs is not there, or holds none.
    CaMissing = "ca-missing",
    /// A line that sshd cannot read stands before a good one.
    CaLine = "ca-line",
    /// A line that sshd cannot read stands after all good ones.
    CaLineLast = "ca-line-last",
    /// A CA's algorithm is not among those that may sign.
    CaAlgorithm = "ca-algorithm",
    /// A CA of the log is not in the file.
    CaLacks = "ca-lacks",
    /// A CA in the file is none of the log's.
    CaStranger = "ca-stranger",
    /// Both a file and a command say who may log in.
    PrincipalsBoth = "principals-both",
    /// Neither a file nor a command says who may log in.
    PrincipalsUnset = "principals-unset",
    /// The file of an account's principals is not there.
    PrincipalsMissing = "principals-missing",
    /// The file of an account's principals has none.
    PrincipalsEmpty = "principals-empty",
    /// An account accepts others than the log says.
    PrincipalsStranger = "principals-stranger",
    /// The command that says who may log in is not there, or nobody runs it.
    PrincipalsCommand = "principals-command",
    /// The policy wants proofs, and sshd does not ask for them.
    ProofUnset = "proof-unset",
    /// No host key is there.
    HostKeyMissing = "host-key-missing",
    /// The host's private key can be read by others.
    HostKeyMode = "host-key-mode",
    /// No certificate for the host is configured.
    HostCertificateUnset = "host-certificate-unset",
    /// The host's certificate is not there.
    HostCertificateMissing = "host-certificate-missing",
    /// The host's certificate cannot be read.
    HostCertificateBroken = "host-certificate-broken",
    /// The host's certificate is a user's.
    HostCertificateUser = "host-certificate-user",
    /// The host's certificate is for none of its keys.
    HostCertificateStranger = "host-certificate-stranger",
    /// The host's certificate names nobody.
    HostCertificateNobody = "host-certificate-nobody",
    /// The host's certificate has a wildcard.
    HostCertificateWildcard = "host-certificate-wildcard",
    /// The host's certificate does not name the host.
    HostCertificateName = "host-certificate-name",
    /// The host's certificate has expired.
    HostCertificateExpired = "host-certificate-expired",
    /// The host's certificate begins later.
    HostCertificateFuture = "host-certificate-future",
    /// The host's certificate expires soon.
    HostCertificateExpires = "host-certificate-expires",
    /// The host's certificate is by a CA that the log does not have.
    HostCertificateCa = "host-certificate-ca",
    /// The algorithms that the host offers leave its certificate out.
    HostAlgorithms = "host-algorithms",
    /// A file that others can write to.
    Mode = "mode",
    /// A file of principals that sshd takes for unsafe.
    ModeRefused = "mode-refused",
    /// An account without a usable password, and no PAM.
    AccountLocked = "account-locked",
    /// There are principals for an account that does not exist.
    AccountMissing = "account-missing",
    /// Passwords let in, too.
    Password = "password",
    /// Keys in people's homes let in, too.
    AuthorizedKeys = "authorized-keys",
    /// Logins by key are switched off.
    PublicKeyOff = "public-key-off",
    /// ssh on this machine does not ask the list of revoked hosts.
    ClientUnset = "client-unset",
    /// The list of revoked hosts that ssh asks is not there or broken.
    ClientKrl = "client-krl",
    /// The list of revoked hosts that ssh asks has no bytes.
    ClientKrlEmpty = "client-krl-empty",
    /// The list of revoked hosts that ssh asks lacks what the log revokes.
    ClientKrlLacks = "client-krl-lacks",
    /// sshd itself refuses its configuration.
    LiveConfig = "live-config",
    /// Nobody answers.
    LiveSilent = "live-silent",
    /// The running sshd shows no certificate.
    LiveNoCertificate = "live-no-certificate",
    /// The running sshd shows another certificate than the file holds.
    LiveReload = "live-reload",
    /// The running sshd shows a certificate that has expired.
    LiveExpired = "live-expired",
}

const ALL: &str = "every login by key or SSH certificate is refused";
const RENDER: &str = "'keys ssh render --node POP --out DIR', and copy its files in their order";
const BUILD: &str = "'keys ssh krl build --out FILE', which writes the file at once or not at all";
const HOST: &str = "'keys ssh sign host POP' where the authority is, then 'keys ssh render' and reload sshd";
const IGNORED: &str = "sshd ignores it without a word, and clients are asked about an unknown host key";

impl Code {
    /// How grave it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::DropInMissing
            | Self::AuthorizedKeys
            | Self::CaLineLast
            | Self::AccountMissing
            | Self::ClientUnset => Severity::Note,
            Self::MatchOverrides
            | Self::KrlSurplus
            | Self::PrincipalsUnset
            | Self::HostCertificateUnset
            | Self::HostCertificateWildcard
            | Self::HostCertificateExpires
            | Self::HostAlgorithms
            | Self::Password => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// What it does to logins.
    pub fn effect(self) -> &'static str {
        match self {
            Self::ConfigMissing | Self::LiveConfig => "sshd does not start, and the next restart locks everybody out",
            Self::DropInUnread | Self::DropInMissing => {
                "sshd goes by other files, and knows neither the fleet's CAs nor its revocations"
            }
            Self::Overridden => "sshd takes the first value it reads, so that of the drop-in has no effect",
            Self::MatchOverrides => "for whom the block matches, its value holds instead of the drop-in's",
            Self::KrlUnset | Self::KrlEmpty => "revocation is off: who was revoked is let in",
            Self::KrlMissing | Self::KrlBroken | Self::KrlRefused => ALL,
            Self::KrlLacks => "who was revoked since is let in",
            Self::KrlSurplus => "SSH certificates that are good are refused",
            Self::CaUnset | Self::CaMissing => "every SSH certificate is refused",
            Self::CaLine => "sshd stops at that line without a word: certificates by the CAs after it are refused",
            Self::CaLineLast => "none yet; whatever is added after it is not read",
            Self::CaAlgorithm | Self::CaLacks => "certificates by that CA are refused",
            Self::CaStranger => "whoever has that key logs in, and the log knows nothing of it",
            Self::PrincipalsBoth => "one yes is enough: what the command refuses the file lets in",
            Self::PrincipalsUnset => "a certificate lets in to the account of the same name as one of its principals",
            Self::PrincipalsMissing | Self::PrincipalsEmpty | Self::ModeRefused | Self::AccountLocked => {
                "nobody can log in to that account"
            }
            Self::PrincipalsStranger => "others can log in to that account than the policy lets in, or fewer",
            Self::PrincipalsCommand => "nobody can log in by SSH certificate, where no file lets them in",
            Self::ProofUnset => "a certificate that the log never decided lets in: a stolen CA key is enough",
            Self::HostKeyMissing | Self::HostKeyMode => "sshd leaves the key out; without any other it does not start",
            Self::HostCertificateUnset
            | Self::HostCertificateMissing
            | Self::HostCertificateBroken
            | Self::HostCertificateUser
            | Self::HostCertificateStranger
            | Self::HostAlgorithms
            | Self::LiveNoCertificate => IGNORED,
            Self::HostCertificateNobody => "older clients take it for every host there is, newer ones for none",
            Self::HostCertificateWildcard => {
                "clients of OpenSSH 9.2 refuse it, newer ones take it for other hosts, too"
            }
            Self::HostCertificateName
            | Self::HostCertificateExpired
            | Self::HostCertificateFuture
            | Self::HostCertificateCa
            | Self::LiveExpired => "clients refuse the host",
            Self::HostCertificateExpires => "clients will refuse the host from then on",
            Self::Mode => "whoever can write to it can let himself in",
            Self::AccountMissing => "none: there is no such account to log in to",
            Self::Password => "a password lets in without any SSH certificate, and no revocation reaches it",
            Self::AuthorizedKeys => "a key in .ssh/authorized_keys lets in without any SSH certificate",
            Self::PublicKeyOff => "no SSH certificate lets anybody in",
            Self::ClientUnset | Self::ClientKrlEmpty | Self::ClientKrlLacks => {
                "ssh from this machine trusts hosts that were revoked"
            }
            Self::ClientKrl => "ssh from this machine refuses every host",
            Self::LiveSilent => "nobody can log in there, or it listens elsewhere",
            Self::LiveReload => "clients see the old certificate until it expires",
        }
    }

    /// The way out.
    pub fn fix(self) -> &'static str {
        match self {
            Self::ConfigMissing => "--config names another one",
            Self::DropInUnread => {
                "put 'Include /etc/ssh/sshd_config.d/*.conf' first into sshd_config, then reload sshd"
            }
            Self::DropInMissing => RENDER,
            Self::Overridden => "take that line out, or let the Include stand before it; then reload sshd",
            Self::MatchOverrides => "take it out of the block, unless it is meant",
            Self::KrlUnset | Self::CaUnset | Self::PrincipalsUnset | Self::HostCertificateUnset => {
                "install the drop-in of 'keys ssh render', then reload sshd"
            }
            Self::KrlMissing
            | Self::KrlEmpty
            | Self::KrlBroken
            | Self::KrlRefused
            | Self::KrlLacks
            | Self::KrlSurplus => BUILD,
            Self::CaMissing | Self::CaLacks | Self::CaStranger | Self::PrincipalsMissing | Self::PrincipalsEmpty => {
                RENDER
            }
            Self::ProofUnset => {
                "'keys ssh render --node POP --out DIR', copy its files in their order, then reload sshd"
            }
            Self::CaLine | Self::CaLineLast => {
                "take the line out, or put it last: CAs of new algorithms come after the old ones"
            }
            Self::CaAlgorithm => "add it to CASignatureAlgorithms, then reload sshd",
            Self::PrincipalsStranger => {
                "'keys ssh render', and remove the files of accounts that the policy no longer has"
            }
            Self::PrincipalsBoth => "set AuthorizedPrincipalsFile none where the command decides, then reload sshd",
            Self::PrincipalsCommand => {
                "install it owned by root, with AuthorizedPrincipalsCommandUser set, or take it out of the configuration"
            }
            Self::HostKeyMissing => "--host-key of 'keys ssh render' says where it lies",
            Self::HostKeyMode => "chmod 600",
            Self::HostCertificateMissing
            | Self::HostCertificateBroken
            | Self::HostCertificateUser
            | Self::HostCertificateStranger
            | Self::HostCertificateNobody
            | Self::HostCertificateWildcard
            | Self::HostCertificateName
            | Self::HostCertificateExpired
            | Self::HostCertificateFuture
            | Self::HostCertificateExpires
            | Self::HostCertificateCa => HOST,
            Self::HostAlgorithms => "add ssh-ed25519-cert-v01@openssh.com to HostKeyAlgorithms, then reload sshd",
            Self::Mode | Self::ModeRefused => "chown root and chmod go-w, the directories above it, too",
            Self::AccountLocked => "usermod -p '*' ACCOUNT: no password, and not locked",
            Self::AccountMissing => "make the account, or take it out of [accounts] in policy/ssh.toml",
            Self::Password => {
                "set PasswordAuthentication no, KbdInteractiveAuthentication no and AuthenticationMethods publickey"
            }
            Self::AuthorizedKeys => "set AuthorizedKeysFile none, once everybody has an SSH certificate",
            Self::PublicKeyOff => "set PubkeyAuthentication yes and AuthenticationMethods publickey",
            Self::ClientUnset => "set RevokedHostKeys and GlobalKnownHostsFile in /etc/ssh/ssh_config",
            Self::ClientKrl | Self::ClientKrlEmpty | Self::ClientKrlLacks => "'keys ssh krl build --hosts --out FILE'",
            Self::LiveConfig => "mend that line; 'sshd -t' says whether it is good",
            Self::LiveSilent => "--address and --port say where it listens; is sshd running?",
            Self::LiveNoCertificate | Self::LiveReload | Self::LiveExpired => "reload sshd: 'systemctl reload ssh'",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub code: Code,
    /// The file, or the address, that it is about.
    pub place: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What was found there, made safe to show.
    pub text: String,
}

impl Finding {
    /// About a whole file.
    pub fn new(code: Code, place: &str, text: impl fmt::Display) -> Self {
        Self { code, place: place.to_owned(), line: None, text: crate::text::escape(&text.to_string()).into_owned() }
    }

    /// The same, about one line.
    pub(super) fn at(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }
}

/// Puts findings in order: the gravest first, then by place, and each once.
pub fn rank(findings: &mut Vec<Finding>) {
    let key = |f: &Finding| (std::cmp::Reverse(f.code.severity()), f.place.clone(), f.line, f.code, f.text.clone());
    findings.sort_by_cached_key(key);
    findings.dedup();
}
