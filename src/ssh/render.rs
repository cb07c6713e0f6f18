//! The SSH files of one node, from plain inputs: what `sshd` and `ssh` there read.
//!
//! ```text
//! revoked.krl              users' revoked SSH certificates and keys      read by sshd at each login
//! user_ca.pub              the CAs that sign users, active and standby    read by sshd at each login
//! principals/deploy        who may log in as deploy                       read by sshd at each login
//! trust.json               what proofs are judged by, where they have to be   read by `keys ssh principals` at each login
//! host-1f0c…-cert.pub      the host's SSH certificate                     read by sshd at each login
//! known_hosts              the CAs that sign hosts                        read by ssh
//! revoked_hosts.krl        hosts' revoked SSH certificates and keys       read by ssh
//! sshd_config.d/10-keys.conf   for /etc/ssh/sshd_config.d/                read by sshd at start and reload
//! ```
//! The order is the order in which they have to reach the disk, each whole (temporary file, sync, rename, sync of the
//! directory) before the next. A crash in between leaves files that nothing refers to yet; the drop-in comes last, since
//! from then on a missing or broken KRL would refuse every login. The SSH certificate's name follows from its key: a running
//! `sshd` reads the files that it was started with again for each login, and one for another key in their place would
//! leave the host without any until the reload. `sshd` says nothing about most mistakes here, so each
//! file is read back before it is handed out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::body::CertificateKind;
use super::certificate::{CertificateError, SshCertificate};
use super::doctor::DROP_IN_HEAD;
use super::key::{KeyAlgorithm, KeyError, SshPublicKey};
use super::krl::{Krl, KrlError};
use super::names::{ConfigPath, HostPattern, Login, Principal};
use super::wire::Line;
use crate::digest::Digest;

/// Algorithms that a CA's signature may have: known to every OpenSSH since 8.2. One unknown name would stop `sshd`.
const CA_SIGNATURE_ALGORITHMS: &str =
    "ssh-ed25519,sk-ssh-ed25519@openssh.com,ecdsa-sha2-nistp256,sk-ecdsa-sha2-nistp256@openssh.com";

/// Why a node's files are not rendered. Nothing is handed out then; the node keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// No CA, which would refuse every user or trust no host.
    #[error("there is no CA for {0}")]
    NoCa(&'static str),
    /// An account that nobody could use.
    #[error("the account {0} accepts no principals")]
    NoPrincipals(Login),
    /// No account at all.
    #[error("no account accepts any principal, so nobody could log in")]
    NoAccounts,
    /// No pattern for the hosts' CAs.
    #[error("no host pattern is given, so no host would be trusted")]
    NoHostPatterns,
    /// A KRL that is none.
    #[error("{file} cannot be used")]
    Krl {
        /// Which one.
        file: &'static str,
        /// Why.
        source: KrlError,
    },
    /// The host's SSH certificate is none.
    #[error("the host's SSH certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// The host's SSH certificate is a good one, but not for this host; `sshd` would silently ignore it.
    #[error("the host's SSH certificate {0}")]
    NotThisHost(&'static str),
    /// What was written does not read back as what was meant. A bug, caught before it locks anybody out.
    #[error("{0} does not read back as it was written")]
    NotReadBack(String),
}

/// A CA's public key as a line of a file: also of an algorithm that is not known here, say a post-quantum one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaLine {
    // First, because one unknown algorithm before the right line makes sshd refuse the login.
    rank: usize,
    name: String,
    blob: Vec<u8>,
}

impl CaLine {
    fn of_known(name: &str, blob: Vec<u8>) -> Self {
        let rank = KeyAlgorithm::ALL.iter().position(|a| a.name() == name).unwrap_or(KeyAlgorithm::ALL.len());
        Self { rank, name: name.to_owned(), blob }
    }
}

impl CaLine {
    /// The bytes that the base64 stands for.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}

impl From<&SshPublicKey> for CaLine {
    fn from(key: &SshPublicKey) -> Self {
        Self::of_known(key.algorithm().name(), key.blob().to_vec())
    }
}

impl FromStr for CaLine {
    type Err = KeyError;
    fn from_str(line: &str) -> Result<Self, KeyError> {
        let line = Line::parse(line)?;
        if line.name.contains("-cert-v") {
            return Err(KeyError::Certificate);
        }
        // A name with an equals sign or a quote would read as an option of the line.
        if !line.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'@' | b'.')) {
            return Err(KeyError::Format("not the name of an algorithm"));
        }
        if KeyAlgorithm::ALL.iter().any(|a| a.name() == line.name) {
            SshPublicKey::from_blob(&line.blob)?;
        } else if line.blob.len() <= 4 + line.name.len() {
            return Err(KeyError::Format("nothing behind the name"));
        }
        Ok(Self::of_known(line.name, line.blob))
    }
}

impl fmt::Display for CaLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Line::write(&self.name, &self.blob))
    }
}

/// Everything that one node's files follow from.
#[derive(Debug, Clone)]
pub struct NodeInput {
    /// The CAs that sign users: active, standby, break-glass.
    pub user_cas: BTreeSet<CaLine>,
    /// The CAs that sign hosts: active and standby.
    pub host_cas: BTreeSet<CaLine>,
    /// Login name to the principals it accepts.
    pub accounts: BTreeMap<Login, BTreeSet<Principal>>,
    /// The KRL for users, as it was published.
    pub revoked_users: Vec<u8>,
    /// The KRL for hosts, as it was published.
    pub revoked_hosts: Vec<u8>,
    /// The hosts that the host CAs speak for: `*.fra1.cdn.example,fra1.cdn.example`.
    pub host_patterns: BTreeSet<HostPattern>,
    /// The file of the host's private key, which was made on the node and stays there.
    pub host_key_path: ConfigPath,
    /// The host's public key.
    pub host_key: SshPublicKey,
    /// The host's SSH certificate, one line.
    pub host_certificate: String,
    /// Where the files will lie; [`NodeInput::DIRECTORY`] by default.
    pub directory: ConfigPath,
    /// Where nobody is let in without proof: who judges it, and by what.
    pub proof: Option<ProofInput>,
}

/// How a node judges whether the log decided a certificate.
#[derive(Debug, Clone)]
pub struct ProofInput {
    /// The file that [`crate::login`] writes.
    pub trust: Vec<u8>,
    /// The program `keys` on the node. `sshd` runs it only if nobody but root can change it or a directory above it.
    pub program: ConfigPath,
    /// The account that `sshd` runs it as.
    pub user: Login,
}

impl NodeInput {
    /// Where the files lie unless told otherwise.
    pub const DIRECTORY: &'static str = "/etc/keys/ssh";
    /// The file by which proofs are judged, below the directory.
    pub const TRUST: &'static str = "trust.json";
    /// The drop-in's path below the directory; its place is `/etc/ssh/sshd_config.d/10-keys.conf`.
    pub const DROP_IN: &'static str = "sshd_config.d/10-keys.conf";

    /// The name of the file, below the directory, of the SSH certificate for a host key.
    pub fn host_certificate_file(key: &SshPublicKey) -> String {
        format!("host-{}-cert.pub", Self::host_key_name(key))
    }

    /// The name of the file, below the directory, of a host's private key, unless told otherwise.
    pub fn host_key_file(key: &SshPublicKey) -> String {
        format!("host-{}.key", Self::host_key_name(key))
    }

    fn host_key_name(key: &SshPublicKey) -> String {
        Digest::of(key.to_string().as_bytes()).short()
    }
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// Its path below the directory.
    pub path: String,
    /// What is in it; never nothing.
    pub bytes: Vec<u8>,
}

/// Renders the files in the order in which they have to be written.
///
/// # Errors
/// [`RenderError`], if any file would not do what it is for.
pub fn render(input: &NodeInput) -> Result<Vec<NodeFile>, RenderError> {
    let mut files = vec![krl("revoked.krl", &input.revoked_users)?, text("user_ca.pub", ca_file(&input.user_cas)?)];
    if input.accounts.is_empty() {
        return Err(RenderError::NoAccounts);
    }
    for (login, principals) in &input.accounts {
        files.push(text(&format!("principals/{login}"), principals_file(login, principals)?));
    }
    if let Some(proof) = &input.proof {
        files.push(NodeFile { path: NodeInput::TRUST.to_owned(), bytes: proof.trust.clone() });
    }
    files.push(text(&NodeInput::host_certificate_file(&input.host_key), host_certificate(input)?));
    files.push(text("known_hosts", known_hosts(&input.host_patterns, &input.host_cas)?));
    files.push(krl("revoked_hosts.krl", &input.revoked_hosts)?);
    files.push(text(NodeInput::DROP_IN, drop_in(input)));
    match files.iter().find(|file| file.bytes.is_empty()) {
        Some(empty) => Err(RenderError::NotReadBack(empty.path.clone())),
        None => Ok(files),
    }
}

fn text(path: &str, text: String) -> NodeFile {
    NodeFile { path: path.to_owned(), bytes: text.into_bytes() }
}

fn krl(file: &'static str, bytes: &[u8]) -> Result<NodeFile, RenderError> {
    Krl::parse(bytes).map_err(|source| RenderError::Krl { file, source })?;
    Ok(NodeFile { path: file.to_owned(), bytes: bytes.to_vec() })
}

fn ca_file(cas: &BTreeSet<CaLine>) -> Result<String, RenderError> {
    if cas.is_empty() {
        return Err(RenderError::NoCa("users"));
    }
    let file: String = cas.iter().map(|ca| format!("{ca}\n")).collect();
    let read: Result<Vec<CaLine>, _> = file.lines().map(str::parse).collect();
    if read.is_ok_and(|read| read.iter().eq(cas)) {
        return Ok(file);
    }
    Err(RenderError::NotReadBack("user_ca.pub".to_owned()))
}

fn principals_file(login: &Login, principals: &BTreeSet<Principal>) -> Result<String, RenderError> {
    if principals.is_empty() {
        return Err(RenderError::NoPrincipals(login.clone()));
    }
    let file: String = principals.iter().map(|principal| format!("{principal}\n")).collect();
    let read: Result<Vec<Principal>, _> = file.lines().map(Principal::user).collect();
    if read.is_ok_and(|read| read.iter().eq(principals)) {
        return Ok(file);
    }
    Err(RenderError::NotReadBack(format!("principals/{login}")))
}

fn host_certificate(input: &NodeInput) -> Result<String, RenderError> {
    let file = format!("{}\n", SshCertificate::parse(&input.host_certificate)?.to_line());
    let certificate = SshCertificate::parse(&file)?;
    if certificate.kind() != CertificateKind::Host {
        return Err(RenderError::NotThisHost("is a user's"));
    }
    if certificate.subject_blob() != input.host_key.blob() {
        return Err(RenderError::NotThisHost("is for another host key"));
    }
    if !input.host_cas.iter().any(|ca| ca.blob == certificate.ca_blob()) {
        return Err(RenderError::NotThisHost("is signed by a CA that clients are not told to trust"));
    }
    let ca = SshPublicKey::from_blob(certificate.ca_blob());
    if ca.is_ok_and(|ca| ca.algorithm() == KeyAlgorithm::Ed25519 && !certificate.is_signed_by(&ca)) {
        return Err(RenderError::NotThisHost("has a wrong signature"));
    }
    Ok(file)
}

fn known_hosts(patterns: &BTreeSet<HostPattern>, cas: &BTreeSet<CaLine>) -> Result<String, RenderError> {
    if cas.is_empty() {
        return Err(RenderError::NoCa("hosts"));
    }
    if patterns.is_empty() {
        return Err(RenderError::NoHostPatterns);
    }
    let pairs = || patterns.iter().flat_map(|pattern| cas.iter().map(move |ca| (pattern, ca)));
    let file: String = pairs().map(|(pattern, ca)| format!("@cert-authority {pattern} {ca}\n")).collect();
    let read = file.lines().map(|line| {
        let (pattern, ca) = line.strip_prefix("@cert-authority ")?.split_once(' ')?;
        Some((pattern.parse::<HostPattern>().ok()?, ca.parse::<CaLine>().ok()?))
    });
    if read.eq(pairs().map(|(pattern, ca)| Some((pattern.clone(), ca.clone())))) {
        return Ok(file);
    }
    Err(RenderError::NotReadBack("known_hosts".to_owned()))
}

/// The drop-in. `sshd` keeps the first value it reads for a word, and Debian and others include the drop-ins first.
fn drop_in(input: &NodeInput) -> String {
    let directory = &input.directory;
    let principals = match &input.proof {
        None => format!("AuthorizedPrincipalsFile {directory}/principals/%u\nAuthorizedPrincipalsCommand none"),
        // What the file lets in the command could not keep out: sshd asks one after the other.
        Some(ProofInput { program, user, .. }) => format!(
            "AuthorizedPrincipalsFile none\n\
             AuthorizedPrincipalsCommand {program} ssh principals --directory {directory} %u %t %k\n\
             AuthorizedPrincipalsCommandUser {user}"
        ),
    };
    format!(
        "{DROP_IN_HEAD} Other words belong into another file of this directory.
HostKey {host_key}
HostCertificate {directory}/{certificate}
TrustedUserCAKeys {directory}/user_ca.pub
RevokedKeys {directory}/revoked.krl
{principals}
CASignatureAlgorithms {CA_SIGNATURE_ALGORITHMS}
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthenticationMethods publickey
ExposeAuthInfo yes
LogLevel VERBOSE
",
        host_key = input.host_key_path,
        certificate = NodeInput::host_certificate_file(&input.host_key),
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::time::Time;

    fn input() -> NodeInput {
        let empty = Krl::new(1, Time(5)).write(65_536).expect("small");
        let cas = || [1, 11].map(|n| CaLine::from(sample::key(n).public())).into();
        let deploy = ["deploy:fra1", "ops"].map(|p| Principal::user(p).expect("good"));
        NodeInput {
            user_cas: cas(),
            host_cas: cas(),
            accounts: [("deploy".parse().expect("a login"), deploy.into())].into(),
            revoked_users: empty.clone(),
            revoked_hosts: empty,
            host_patterns: ["*.fra1.cdn.example,fra1.cdn.example".parse().expect("a pattern")].into(),
            host_key_path: "/etc/ssh/ssh_host_ed25519_key".parse().expect("a path"),
            host_key: sample::key(3).public().clone(),
            host_certificate: sample::issued(sample::host_fields(), 42).to_line(),
            proof: None,
            directory: NodeInput::DIRECTORY.parse().expect("a path"),
        }
    }

    fn refused(change: impl FnOnce(&mut NodeInput)) -> RenderError {
        let mut input = input();
        change(&mut input);
        render(&input).expect_err("a node that would break")
    }

    fn file(files: &[NodeFile], path: &str) -> String {
        let file = files.iter().find(|f| f.path == path).expect("it is there");
        String::from_utf8(file.bytes.clone()).expect("text")
    }

    #[test]
    fn files_come_in_the_safe_order() {
        let files = render(&input()).expect("a good node");
        let paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
        let certificate = NodeInput::host_certificate_file(sample::key(3).public());
        assert_ne!(certificate, NodeInput::host_certificate_file(sample::key(1).public()), "each key has its own");
        let expected = [
            "revoked.krl",
            "user_ca.pub",
            "principals/deploy",
            &certificate,
            "known_hosts",
            "revoked_hosts.krl",
            "sshd_config.d/10-keys.conf",
        ];
        assert_eq!(paths, expected);
        assert!(files.iter().all(|f| !f.bytes.is_empty()));
        assert_eq!(file(&files, "principals/deploy"), "deploy:fra1\nops\n");
        assert_eq!(file(&files, "known_hosts").lines().count(), 2);
        let conf = file(&files, NodeInput::DROP_IN);
        for path in [certificate.as_str(), "user_ca.pub", "revoked.krl", "principals/%u"] {
            assert!(conf.contains(&format!(" /etc/keys/ssh/{path}\n")), "{conf}");
        }
    }

    #[test]
    fn algorithms_that_an_old_sshd_does_not_know_stand_last() {
        let mut input = input();
        let blob = {
            use super::super::wire::Put as _;
            let mut blob = Vec::new();
            blob.put_string(b"aa-mldsa44@example.com");
            blob.put_string(&[0; 64]);
            blob
        };
        let unknown: CaLine = Line::write("aa-mldsa44@example.com", &blob).parse().expect("a line");
        input.user_cas.extend([unknown.clone(), CaLine::from(&sample::token_key())]);
        let files = render(&input).expect("a good node");
        let names: Vec<String> =
            file(&files, "user_ca.pub").lines().filter_map(|l| l.split(' ').next().map(str::to_owned)).collect();
        let expected =
            ["ssh-ed25519", "ssh-ed25519", "sk-ssh-ed25519@openssh.com", "aa-mldsa44@example.com"].map(str::to_owned);
        assert_eq!(names, expected);
        let certificate = sample::issued(sample::user_fields(), 1).to_line();
        assert_eq!(certificate.parse::<CaLine>(), Err(KeyError::Certificate));
        for wrong in ["", "ssh-ed25519", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "x AAAAAXg="] {
            assert!(wrong.parse::<CaLine>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_would_lock_out_or_let_in_is_refused() {
        assert_eq!(refused(|i| i.user_cas.clear()), RenderError::NoCa("users"));
        assert_eq!(refused(|i| i.accounts.clear()), RenderError::NoAccounts);
        assert!(matches!(refused(|i| i.accounts.values_mut().for_each(BTreeSet::clear)), RenderError::NoPrincipals(_)));
        assert_eq!(refused(|i| i.host_patterns.clear()), RenderError::NoHostPatterns);
        for junk in [&b""[..], b"\0", b"SSHKRL\n\0", b"# ssh-ed25519 AAAA"] {
            assert!(matches!(
                refused(|i| i.revoked_users = junk.to_vec()),
                RenderError::Krl { file: "revoked.krl", .. }
            ));
            assert!(matches!(refused(|i| i.revoked_hosts = junk.to_vec()), RenderError::Krl { .. }));
        }
        assert!(matches!(refused(|i| i.revoked_users.truncate(43)), RenderError::Krl { .. }));
    }

    #[test]
    fn the_host_certificate_has_to_fit_the_host() {
        let user = sample::issued(sample::user_fields(), 1).to_line();
        assert_eq!(refused(|i| i.host_certificate = user), RenderError::NotThisHost("is a user's"));
        let other = sample::key(8).public().clone();
        assert_eq!(refused(|i| i.host_key = other), RenderError::NotThisHost("is for another host key"));
        let stranger = CaLine::from(sample::key(11).public());
        assert!(matches!(refused(|i| i.host_cas = [stranger].into()), RenderError::NotThisHost(_)));
        assert!(matches!(refused(|i| i.host_certificate.clear()), RenderError::Certificate(_)));
        let plain = sample::key(3).public().to_string();
        assert!(matches!(refused(|i| i.host_certificate = plain), RenderError::Certificate(_)));
    }
}
