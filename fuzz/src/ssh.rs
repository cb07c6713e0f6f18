//! Targets for SSH: public keys, certificates, revocation lists, and the words of its files.

use keys::ssh::doctor::{Account, HostKey, Machine, Question, Seen, SeenFile, account_in, examine, public_part};
use keys::ssh::{
    CaLine, ConfigPath, HostPattern, KeyId, Krl, Login, Principal, SshCertificate, SshPrivateKey, SshPublicKey,
};
use keys::time::Time;

use crate::one_spelling;

/// A public key: as a line, as a blob, as a CA's line.
pub fn public_key(data: &[u8]) {
    if let Ok(key) = SshPublicKey::from_blob(data) {
        assert_eq!(key.blob(), data);
        assert_eq!(key.to_string().parse::<SshPublicKey>().ok(), Some(key.clone()));
        assert!(!key.verify(b"nobody signed this", &[0; 83]));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    one_spelling::<SshPublicKey>(text);
    if let Ok(key) = SshPublicKey::parse_line(text) {
        assert_eq!(SshPublicKey::parse_line(&key.to_string()).ok(), Some(key));
    }
    if let Ok(line) = text.parse::<CaLine>() {
        let written = line.to_string();
        assert_eq!(written.parse().ok(), Some(line));
        assert!(!written.contains(|c: char| c.is_control()), "a line that is two");
    }
    let _ = SshPrivateKey::from_openssh(text);
}

/// An SSH certificate as a line.
pub fn certificate_line(data: &[u8]) {
    let Ok(certificate) = std::str::from_utf8(data).map_err(drop).and_then(|t| SshCertificate::parse(t).map_err(drop))
    else {
        return;
    };
    check(&certificate);
}

/// An SSH certificate as the bytes that its base64 stands for.
pub fn certificate_blob(data: &[u8]) {
    if let Ok(certificate) = SshCertificate::from_blob(data.to_vec()) {
        check(&certificate);
    }
}

fn check(certificate: &SshCertificate) {
    let again = SshCertificate::parse(&certificate.to_line()).expect("what is written is read");
    assert_eq!(again.to_line(), certificate.to_line());
    assert!(!certificate.principals().is_empty(), "it would open every account");
    let _ = (certificate.subject(), certificate.ca_fingerprint(), certificate.is_current(Time(1_798_761_600)));
    let _ = certificate.subject().map(|key| certificate.is_signed_by(&key));
    if let Ok(ca) = SshPublicKey::from_blob(certificate.ca_blob()) {
        let _ = certificate.is_signed_by(&ca);
    }
    let _ = Krl::new(1, Time(0)).is_revoked(certificate);
}

/// A revocation list reads back from its shortest form.
pub fn krl(data: &[u8]) {
    let Ok(krl) = Krl::parse(data) else { return };
    assert!(krl.beyond(&krl).is_empty(), "a list differs from itself");
    assert_eq!(krl.entries().is_empty(), krl.is_empty());
    if let Ok(written) = krl.write(usize::MAX) {
        let again = Krl::parse(&written).expect("what is written is read");
        assert!(again == krl);
        assert_eq!(again.write(usize::MAX).ok(), Some(written), "two spellings of one list");
    }
}

/// A machine whose every file is the same bytes, sshd_config among them: whatever is found is told without control characters.
pub fn doctor(data: &[u8]) {
    struct Same<'a>(&'a [u8]);
    impl Machine for Same<'_> {
        fn read(&self, _: &str) -> Seen {
            Seen::There(SeenFile { bytes: self.0.to_vec(), mode: 0o644, loose: None })
        }
        fn names(&self, _: &str) -> Vec<String> {
            vec!["deploy".to_owned(), "x.conf".to_owned()]
        }
        fn host_key(&self, _: &str) -> HostKey {
            let public = std::str::from_utf8(self.0).ok().and_then(public_part);
            public.map_or(HostKey::Unreadable, |blob| HostKey::There { blob, mode: 0o600 })
        }
        fn account(&self, name: &str) -> Account {
            std::str::from_utf8(self.0).map_or(Account::Unknown, |text| account_in(text, name))
        }
    }
    let (config, client_config) = ("/etc/ssh/sshd_config", "/etc/ssh/ssh_config");
    let question = Question { config, client_config, now: Time(1_798_761_600), wanted: None };
    let examined = examine(&question, &Same(data));
    assert!(!examined.findings.is_empty(), "no file is a configuration and a revocation list at once");
    for finding in &examined.findings {
        assert!(!finding.text.chars().any(char::is_control), "{:?}", finding.text);
    }
}

/// Principals, key ids, logins, patterns and paths: each has one spelling and leads nowhere else.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let plain = |word: &str| !word.contains(|c: char| c.is_control() || matches!(c, ',' | '"' | '%' | '/' | ' ' | '*'));
    if let Some(word) = one_spelling::<Principal>(text) {
        assert!(plain(word.as_str()));
    }
    if let Some(word) = one_spelling::<Login>(text) {
        assert!(plain(word.as_str()) && !word.as_str().starts_with('.'));
    }
    if let Some(word) = one_spelling::<KeyId>(text) {
        assert!(!word.as_str().contains(|c: char| c.is_control()));
    }
    if let Some(path) = one_spelling::<ConfigPath>(text) {
        assert!(path.as_str().split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")));
    }
    if let Some(pattern) = one_spelling::<HostPattern>(text) {
        assert!(pattern.as_str().split(',').all(|p| plain(p.strip_prefix("*.").unwrap_or(p))));
    }
}

/// What to begin with.
pub mod seeds {
    use keys::digest::Digest;
    use keys::ssh::{KrlScope, Serial};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::example;

    fn key(seed: u8) -> SshPublicKey {
        SshPrivateKey::generate(&mut StdRng::from_seed([seed; 32])).public().clone()
    }

    fn certificates() -> Vec<SshCertificate> {
        let lines = example::files("keyring/objects/ssh").into_iter().filter_map(|line| String::from_utf8(line).ok());
        lines.filter_map(|line| SshCertificate::parse(line.trim_end()).ok()).collect()
    }

    /// Of [`super::public_key`].
    pub fn public_key() -> Vec<Vec<u8>> {
        vec![key(1).to_string().into_bytes(), key(2).blob().to_vec(), format!("{} a comment", key(3)).into_bytes()]
    }

    /// Of [`super::certificate_line`].
    pub fn certificate_line() -> Vec<Vec<u8>> {
        certificates().iter().step_by(3).map(|c| c.to_line().into_bytes()).collect()
    }

    /// Of [`super::certificate_blob`].
    pub fn certificate_blob() -> Vec<Vec<u8>> {
        use base64::Engine as _;
        let blob = |c: &SshCertificate| {
            let line = c.to_line();
            let text = line.split(' ').nth(1).unwrap_or_default().to_owned();
            base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
        };
        certificates().iter().step_by(3).map(blob).collect()
    }

    /// Of [`super::krl`]: an empty list, and one with sections of every kind.
    pub fn krl() -> Vec<Vec<u8>> {
        let mut full = Krl::new(7, Time(1_798_761_600));
        let serial = |n| Serial::new(n).expect("not zero");
        for (first, last) in [(1, 1), (3, 3), (5, 9), (20, 21), (100, 100_000), (1 << 40, 1 << 40)] {
            full.revoke_serials(KrlScope::Ca(key(1)), serial(first), serial(last));
        }
        for n in (200_000..200_300).step_by(3) {
            full.revoke_serials(KrlScope::AnyCa, serial(n), serial(n));
        }
        full.revoke_key_id(KrlScope::AnyCa, "alice@ops".parse().expect("a key id"));
        full.revoke_key(key(4));
        full.revoke_sha256(Digest::of(b"a key"));
        [Krl::new(1, Time(0)), full].iter().map(|krl| krl.write(usize::MAX).expect("a list")).collect()
    }

    /// Of [`super::doctor`]: configurations, a file of CAs, and a host's private key.
    pub fn doctor() -> Vec<Vec<u8>> {
        let drop_in = "# Written by keys. Other words.\nHostKey /k\nHostCertificate /c\nTrustedUserCAKeys /a\nRevokedKeys /r\n\
             AuthorizedPrincipalsFile /p/%u\nAuthorizedPrincipalsCommand none\nCASignatureAlgorithms ssh-ed25519\n";
        let blocks = "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM=yes\nMatch User \"a b\"\n  RevokedKeys none # why\nMatch all\nPort 2222\n";
        let cas = format!("# CAs\n{}\n{}\n", key(1), key(2));
        let private =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAAXg=\n";
        [drop_in, blocks, &cas, private].iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    /// Of [`super::words`].
    pub fn words() -> Vec<Vec<u8>> {
        let words =
            ["deploy:fra1", "root", "*.fra1.cdn.example,fra1.cdn.example", "/etc/ssh/keys/ca.pub", "2001:db8::1"];
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }
}
