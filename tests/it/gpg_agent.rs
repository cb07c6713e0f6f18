//! `keys::gpg_agent` against the real gpg-agent, judged by the real gpg.
//!
//! Each function gets an empty directory and the path of gpg, and panics if what it shows is not so. The agents are
//! those of private homes below the directory and are ended with the function, however it ends.

#![allow(clippy::disallowed_methods, reason = "the tests run gpg and make its files")]
#![allow(clippy::unwrap_used, reason = "what fails here is the test")]

use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use crate::support::{Sandbox, Tool, tests};
use keys::gpg_agent::{Agent, AgentDecryptor, AgentError, AgentOptions, AgentSigner, Interaction, Keygrip};
use openpgp::cert::CertParser;
use openpgp::cert::amalgamation::key::ErasedKeyAmalgamation;
use openpgp::crypto::{SessionKey, Signer as _};
use openpgp::packet::key::PublicParts;
use openpgp::packet::signature::SignatureBuilder;
use openpgp::packet::{PKESK, SKESK};
use openpgp::parse::Parse as _;
use openpgp::parse::stream::{DecryptionHelper, DecryptorBuilder, MessageStructure, VerificationHelper};
use openpgp::policy::StandardPolicy;
use openpgp::serialize::Serialize as _;
use openpgp::serialize::stream::{Encryptor, LiteralWriter, Message, Recipient};
use openpgp::types::{Features, HashAlgorithm, SignatureType, SymmetricAlgorithm};
use openpgp::{Cert, KeyHandle, Packet};
use sequoia_openpgp as openpgp;

tests!["gpg_agent":
    curve_keys_sign_and_decrypt_through_the_agent needs [Gpg, GpgConf],
    rsa_keys_sign_and_decrypt_through_the_agent needs [Gpg, GpgConf],
    keygrips_are_those_of_gpg needs [Gpg, GpgConf],
    restricted_and_redirected_sockets_serve needs [Gpg, GpgConf],
    refusals_of_the_agent_are_told_apart needs [Gpg, GpgConf],
];

const MESSAGE: &[u8] = b"rotate service-key/nginx@fra1\n";

/// A gpg home of its own, whose agent is ended when this is dropped.
struct Home<'a> {
    path: PathBuf,
    gpg: &'a Path,
}

impl<'a> Home<'a> {
    /// `dir` must be short: a socket's path has at most 107 bytes.
    fn new(dir: &Path, gpg: &'a Path) -> Self {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = dir.join("g");
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self { path, gpg }
    }

    /// Runs gpg, or a program that is installed beside it, without the caller's environment.
    fn run(&self, program: &Path, arguments: &[&OsStr]) -> Output {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("GNUPGHOME", &self.path).env("LC_ALL", "C");
        command.args(arguments).output().unwrap()
    }

    fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let all: Vec<&OsStr> = ["--batch", "--no-tty"].iter().chain(arguments).map(OsStr::new).collect();
        let output = self.run(self.gpg, &all);
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Makes a key and its subkey by gpg's parameters.
    fn generate(&self, parameters: &str) {
        let file = self.file("parameters", format!("{parameters}\nExpire-Date: 0\n%commit\n").as_bytes());
        self.gpg(&["--pinentry-mode", "loopback", "--generate-key", &file]);
    }

    fn certs(&self) -> Vec<Cert> {
        CertParser::from_bytes(&self.gpg(&["--export"])).unwrap().map(|cert| cert.unwrap()).collect()
    }

    /// The certificate of a home with one.
    fn cert(&self) -> Cert {
        self.certs().pop().unwrap()
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path.join(name);
        std::fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// The path of one of the agent's sockets.
    fn socket(&self, which: &str) -> PathBuf {
        let output = self.run(&self.gpg.with_file_name("gpgconf"), &["--list-dirs".as_ref(), which.as_ref()]);
        let mut path = output.stdout;
        assert_eq!(path.pop(), Some(b'\n'));
        assert!(!path.contains(&b'%'), "gpgconf escapes the path, choose a plainer directory");
        PathBuf::from(OsString::from_vec(path))
    }

    fn agent(&self) -> Agent {
        Agent::connect_with(&self.socket("agent-socket"), &options()).unwrap()
    }

    fn end_agent(&self) {
        let all: Vec<&OsStr> =
            vec!["--homedir".as_ref(), self.path.as_os_str(), "--kill".as_ref(), "gpg-agent".as_ref()];
        self.run(&self.gpg.with_file_name("gpgconf"), &all);
    }
}

impl Drop for Home<'_> {
    fn drop(&mut self) {
        self.end_agent();
    }
}

fn options() -> AgentOptions {
    AgentOptions { timeout: Duration::from_secs(30), ..AgentOptions::default() }
}

/// The certificate's only subkey, which encrypts.
fn encryption_key(cert: &Cert) -> ErasedKeyAmalgamation<'_, PublicParts> {
    cert.keys().subkeys().next().unwrap().into()
}

fn moment_after(cert: &Cert) -> SystemTime {
    cert.primary_key().key().creation_time() + Duration::from_secs(1)
}

/// Signs through the agent and has gpg verify.
fn sign_and_verify(home: &Home<'_>, cert: &Cert) {
    let signer = AgentSigner::new(home.agent(), cert.primary_key().key()).unwrap();
    let mut signer = signer.with_prompt("100% a test\nof 'keys'");
    for hash in [HashAlgorithm::SHA256, HashAlgorithm::SHA384, HashAlgorithm::SHA512] {
        let signature = SignatureBuilder::new(SignatureType::Binary)
            .set_hash_algo(hash)
            .set_signature_creation_time(moment_after(cert))
            .unwrap()
            .sign_message(&mut signer, MESSAGE)
            .unwrap();
        let mut bytes = Vec::new();
        Packet::from(signature).serialize(&mut bytes).unwrap();
        let (signature, message) = (home.file("signature", &bytes), home.file("message", MESSAGE));
        let status = home.gpg(&["--status-fd", "1", "--verify", &signature, &message]);
        assert!(String::from_utf8_lossy(&status).contains("[GNUPG:] GOODSIG"), "{hash}");
    }
    // The connection serves on after its signatures.
    let mut agent = signer.into_agent();
    assert!(agent.has_key(&Keygrip::of(cert.primary_key().key()).unwrap()).unwrap());
}

/// Decrypts with a key in the agent.
struct AgentHelper {
    decryptor: AgentDecryptor,
}

impl VerificationHelper for AgentHelper {
    fn get_certs(&mut self, _: &[KeyHandle]) -> openpgp::Result<Vec<Cert>> {
        Ok(Vec::new())
    }

    fn check(&mut self, _: MessageStructure<'_>) -> openpgp::Result<()> {
        Ok(())
    }
}

impl DecryptionHelper for AgentHelper {
    fn decrypt(
        &mut self,
        pkesks: &[PKESK],
        _: &[SKESK],
        algorithm: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> openpgp::Result<Option<Cert>> {
        let opened = pkesks.iter().any(|pkesk| {
            pkesk.decrypt(&mut self.decryptor, algorithm).is_some_and(|(algorithm, key)| decrypt(algorithm, &key))
        });
        assert!(opened, "the agent opened none of the session keys");
        Ok(None)
    }
}

fn open(home: &Home<'_>, cert: &Cert, sealed: &[u8]) -> Vec<u8> {
    let decryptor = AgentDecryptor::new(home.agent(), encryption_key(cert).key()).unwrap();
    let policy = StandardPolicy::new();
    let mut reader = DecryptorBuilder::from_bytes(sealed)
        .unwrap()
        .with_policy(&policy, moment_after(cert), AgentHelper { decryptor })
        .unwrap();
    let mut opened = Vec::new();
    reader.read_to_end(&mut opened).unwrap();
    opened
}

/// Seals with Sequoia and with gpg, and opens both through the agent.
fn seal_and_open(home: &Home<'_>, cert: &Cert) {
    let key = encryption_key(cert);
    let recipient = Recipient::new(Features::empty().set_seipdv1(), KeyHandle::from(key.key().keyid()), key.key());
    let mut sealed = Vec::new();
    let message = Encryptor::for_recipients(Message::new(&mut sealed), [recipient]).build().unwrap();
    let mut literal = LiteralWriter::new(message).build().unwrap();
    literal.write_all(MESSAGE).unwrap();
    literal.finalize().unwrap();
    assert_eq!(open(home, cert, &sealed), MESSAGE);

    let name = cert.fingerprint().to_hex();
    let message = home.file("message", MESSAGE);
    let sealed =
        home.gpg(&["--trust-model", "always", "--compress-algo", "none", "-r", &name, "-o", "-", "-e", &message]);
    assert_eq!(open(home, cert, &sealed), MESSAGE);
}

const CURVES: &str = "Key-Type: eddsa\nKey-Curve: ed25519\nSubkey-Type: ecdh\nSubkey-Curve: cv25519\nName-Real: curves\n\
                      %no-protection";
const RSA: &str =
    "Key-Type: rsa\nKey-Length: 3072\nSubkey-Type: rsa\nSubkey-Length: 3072\nName-Real: rsa\n%no-protection";

/// An Ed25519 key in the agent signs what gpg verifies; its Cv25519 subkey opens what Sequoia and gpg sealed.
fn curve_keys_sign_and_decrypt_through_the_agent(sandbox: &Sandbox) {
    let (dir, gpg) = (sandbox.root(), Tool::Gpg.path().unwrap());
    let gpg = gpg.as_path();
    let home = Home::new(dir, gpg);
    home.generate(CURVES);
    sign_and_verify(&home, &home.cert());
    seal_and_open(&home, &home.cert());
}

/// The same with keys of 3072-bit RSA.
fn rsa_keys_sign_and_decrypt_through_the_agent(sandbox: &Sandbox) {
    let (dir, gpg) = (sandbox.root(), Tool::Gpg.path().unwrap());
    let gpg = gpg.as_path();
    let home = Home::new(dir, gpg);
    home.generate(RSA);
    sign_and_verify(&home, &home.cert());
    seal_and_open(&home, &home.cert());
}

/// Keygrips are those that gpg shows.
fn keygrips_are_those_of_gpg(sandbox: &Sandbox) {
    let (dir, gpg) = (sandbox.root(), Tool::Gpg.path().unwrap());
    let gpg = gpg.as_path();
    let home = Home::new(dir, gpg);
    home.generate(CURVES);
    home.generate(RSA);
    let shown = String::from_utf8(home.gpg(&["--list-keys", "--with-keygrip", "--with-colons"])).unwrap();
    let mut expected: Vec<&str> =
        shown.lines().filter(|line| line.starts_with("grp:")).filter_map(|line| line.split(':').nth(9)).collect();
    let certs = home.certs();
    let mut ours: Vec<String> =
        certs.iter().flat_map(Cert::keys).map(|key| Keygrip::of(key.key()).unwrap().to_string()).collect();
    expected.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, expected);
    assert_eq!(ours.len(), 4);
}

/// The restricted socket, which is meant to be forwarded, and a file that names the socket serve as well.
fn restricted_and_redirected_sockets_serve(sandbox: &Sandbox) {
    let (dir, gpg) = (sandbox.root(), Tool::Gpg.path().unwrap());
    let gpg = gpg.as_path();
    let home = Home::new(dir, gpg);
    home.generate(CURVES);
    let cert = home.cert();
    let named = format!("%Assuan%\nsocket={}\n", home.socket("agent-socket").display());
    let redirection = PathBuf::from(home.file("redirection", named.as_bytes()));
    let options = AgentOptions { ttyname: Some("/dev/pts/1".into()), ..options() };
    for socket in [home.socket("agent-extra-socket"), redirection] {
        let agent = Agent::connect_with(&socket, &options).unwrap();
        let mut signer = AgentSigner::new(agent, cert.primary_key().key()).unwrap().with_prompt("100%");
        signer.sign(HashAlgorithm::SHA256, &[0; 32]).unwrap();
    }
}

/// What keeps a person's key from being used is told apart: an unknown key, no way to ask, asking forbidden, no agent.
fn refusals_of_the_agent_are_told_apart(sandbox: &Sandbox) {
    let (dir, gpg) = (sandbox.root(), Tool::Gpg.path().unwrap());
    let gpg = gpg.as_path();
    let home = Home::new(dir, gpg);
    home.generate("Key-Type: eddsa\nKey-Curve: ed25519\nName-Real: locked\nPassphrase: secret");
    let cert = home.cert();
    // A new agent has not cached the passphrase; gpg starts it when it looks for secret keys.
    home.end_agent();
    home.gpg(&["--list-secret-keys"]);

    let key = cert.primary_key().key();
    let refusal = |agent: Agent| {
        let error = AgentSigner::new(agent, key).unwrap().sign(HashAlgorithm::SHA256, &[0; 32]).unwrap_err();
        error.downcast::<AgentError>().unwrap()
    };
    let error = refusal(home.agent());
    assert!(matches!(error, AgentError::NoPinentry), "{error}");
    assert!(error.hint().is_some());
    let silent = AgentOptions { interaction: Interaction::Refuse, ..options() };
    let error = refusal(Agent::connect_with(&home.socket("agent-socket"), &silent).unwrap());
    assert!(matches!(error, AgentError::NoPinentry), "{error}");

    let (stranger, _) = openpgp::cert::CertBuilder::new()
        .set_profile(openpgp::Profile::RFC4880)
        .unwrap()
        .set_cipher_suite(openpgp::cert::CipherSuite::Cv25519)
        .set_creation_time(moment_after(&cert))
        .add_transport_encryption_subkey()
        .generate()
        .unwrap();
    let grip = Keygrip::of(stranger.primary_key().key()).unwrap();
    let mut agent = home.agent();
    assert!(!agent.has_key(&grip).unwrap());
    assert!(agent.has_key(&Keygrip::of(key).unwrap()).unwrap());
    let mut signer = AgentSigner::new(agent, stranger.primary_key().key()).unwrap();
    let error = signer.sign(HashAlgorithm::SHA256, &[0; 32]).unwrap_err().downcast::<AgentError>().unwrap();
    assert!(matches!(error, AgentError::NoSecretKey { keygrip } if keygrip == grip), "{error}");
    let subkey = encryption_key(&stranger);
    let ciphertext = subkey.key().encrypt(&SessionKey::from(vec![7; 32])).unwrap();
    let mut decryptor = AgentDecryptor::new(home.agent(), subkey.key()).unwrap();
    let error = openpgp::crypto::Decryptor::decrypt(&mut decryptor, &ciphertext, None).unwrap_err();
    let error = error.downcast::<AgentError>().unwrap();
    assert!(matches!(error, AgentError::NoSecretKey { .. }), "{error}");

    let socket = home.socket("agent-socket");
    home.end_agent();
    let error = Agent::connect_with(&socket, &options()).unwrap_err();
    assert!(matches!(error, AgentError::Unreachable { .. }), "{error}");
}
