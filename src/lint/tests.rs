//! What looks like a secret, and what does not. Each sample is put together here, so that no file of this project has one.

use super::{ALLOW, Code, Plain, Severity, is_binary, plain, policy};

/// 64 characters as of a key.
const NOISE: &str = "q8Zr3VtYw1Lk5Nf0Hs7Dx2Jc9Gb4Mp6TaUeQiRoSyPuWzXvKdFgEhBnCjAlOmI1";

fn noise(length: usize) -> &'static str {
    &NOISE[..length]
}

fn kinds(text: &str) -> Vec<(usize, Code)> {
    plain(text.as_bytes()).iter().map(|p| (p.line, p.code)).collect()
}

#[test]
fn private_keys_are_seen_whatever_they_are_wrapped_in() {
    for label in ["OPENSSH PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
        let block = format!("-----BEGIN {label}-----\n\n{NOISE}\n-----END {label}-----\n");
        assert_eq!(kinds(&format!("first\n{block}")), [(2, Code::PlainKey)], "{label}");
        let indented = block.replace('\n', "\n    ");
        assert_eq!(kinds(&indented), [(1, Code::PlainKey)], "{label}");
        let in_a_string = format!("key = \"-----BEGIN {label}-----\\n{NOISE}\\n\"");
        assert_eq!(kinds(&in_a_string), [(1, Code::PlainKey)], "{label}");
        // A text about such blocks, and the block of a public key, are none.
        assert_eq!(kinds(&format!("a file that begins with -----BEGIN {label}-----\nis refused\n")), []);
        assert_eq!(kinds(&block.replace("PRIVATE", "PUBLIC")), [], "{label}");
    }
    let locked = format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{NOISE}\n");
    assert_eq!(plain(locked.as_bytes())[0].severity, Severity::Warning);
    let wireguard = format!("[Interface]\nPrivateKey = {}=\n", noise(43));
    assert_eq!(kinds(&wireguard), [(2, Code::PlainKey)]);
    assert_eq!(kinds(&wireguard.replace("PrivateKey", "PresharedKey")), [(2, Code::PlainKey)]);
    assert_eq!(kinds(&wireguard.replace("PrivateKey", "PublicKey")), []);
    assert_eq!(kinds("PrivateKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), []);
    assert_eq!(kinds(&format!("AGE-SECRET-KEY-1{}\n", noise(58).to_uppercase())), [(1, Code::PlainKey)]);
    assert_eq!(kinds(&format!("{}+cdn.example/w1+3b89380a+{}\n", "PRIVATE+KEY", noise(44))), [(1, Code::PlainKey)]);
    assert_eq!(kinds("a note's private key begins with PRIVATE+KEY+\n"), []);
}

#[test]
fn tokens_are_seen_by_how_they_begin() {
    for (begins, length) in [
        ("AKIA", 16),
        ("ghp_", 36),
        ("github_pat_", 60),
        ("glpat-", 20),
        ("xoxb-", 24),
        ("sk_live_", 24),
        ("AIza", 35),
        ("npm_", 36),
        ("hvs.", 24),
    ] {
        let rest = if begins == "AKIA" { noise(length).to_uppercase() } else { noise(length).to_owned() };
        for text in [format!("{begins}{rest}"), format!("curl -H 'Authorization: Bearer {begins}{rest}' x")] {
            assert_eq!(kinds(&text), [(1, Code::PlainToken)], "{text}");
        }
        // Too short, in the middle of a word, of one character, an example.
        let short: String = rest.chars().take(length.min(36) / 2).collect();
        assert_eq!(kinds(&format!("{begins}{short} ")), [], "{begins}");
        assert_eq!(kinds(&format!("x{begins}{rest}")), [], "{begins}");
        assert_eq!(kinds(&format!("{begins}{}", "A".repeat(length))), [], "{begins}");
    }
    assert_eq!(kinds("AKIAIOSFODNN7EXAMPLE"), []);
}

#[test]
fn what_looks_random_under_a_telling_name_is_a_warning() {
    for line in [
        format!("password = \"{}\"", noise(16)),
        format!("  db_password: {}", noise(20)),
        format!("export API_KEY={}", noise(24)),
        format!("\"client_secret\": \"{}\",", noise(32)),
        format!("auth-token := '{}'", noise(18)),
        "PASSWORD=Tr0ub4dor&3".to_owned(),
    ] {
        let found = plain(line.as_bytes());
        let expected = Plain {
            line: 1,
            severity: Severity::Warning,
            code: Code::PlainValue,
            kind: "something random under a name that says it is secret",
        };
        assert_eq!(found, [expected], "{line}");
        assert!(found.iter().all(|f| !line.contains(f.kind)), "what was found is not repeated");
    }
    for line in [
        "password = \"\"",
        "password = ${DB_PASSWORD}",
        "password: {{ db_password_1 }}",
        "secret = nginx@fra1/tls.key-2026",
        "let token = self.next_token(42);",
        "token: Vec<u8>,",
        "password = correct-horse-battery-staple",
        "password = changeme123",
        "password_file = /etc/keys/pw-Abc123/x9",
        "token_digest = 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "public = q8Zr3VtYw1Lk5Nf0Hs7Dx2Jc9Gb4Mp6T",
        "# the password is in the safe",
    ] {
        assert_eq!(kinds(line), [], "{line}");
    }
}

#[test]
fn a_line_that_is_meant_to_be_there_says_so() {
    let line = format!("token = {}", noise(24));
    assert_eq!(kinds(&line).len(), 1);
    assert_eq!(kinds(&format!("{line} # {ALLOW}")), []);
    assert_eq!(kinds(&format!("# {ALLOW}\n{line}")), []);
    assert_eq!(kinds(&format!("# {ALLOW}\n\n{line}")), [(3, Code::PlainValue)], "for one line");
}

#[test]
fn no_bytes_are_too_odd() {
    assert!(is_binary(b"\x7fELF\0") && !is_binary("p\u{e4}ss".as_bytes()) && !is_binary(b""));
    let long = format!("password={}\n", "\u{e4}".repeat(200_000));
    let all =
        [&b"\xff\xfe-----BEGIN "[..], b"=", b":", b"password=", b"password='", long.as_bytes(), b"-----BEGIN -----"];
    for bytes in all {
        assert_eq!(plain(bytes), []);
    }
}

#[test]
fn a_mistake_in_a_policy_has_its_line_and_hides_no_other() {
    let files = |secrets: &str, ssh: &str| {
        [("secrets.toml", secrets), ("ssh.toml", ssh)].map(|(n, t)| (n.to_owned(), t.to_owned())).into()
    };
    let found = policy(&files("[recovery]\noperators = []\n\n[[secret]]\nmatch = \"a/b\"\nshraed = true\n", "x = "));
    let told: Vec<_> = found.iter().map(|f| (f.place.as_str(), f.line)).collect();
    assert_eq!(told, [("policy/secrets.toml", Some(6)), ("policy/ssh.toml", Some(1))]);
    assert!(found[0].text.contains("unknown field `shraed`"), "{}", found[0].text);
    let found = policy(&files("[recovery]\noperators = []\n[[secret]]\nmatch = \"nginx\"\n", ""));
    assert!(found[0].text.contains("OWNER/NAME"), "{found:?}");
    // Each good by itself, and not all there.
    let found = policy(&[("secrets.toml".to_owned(), "[recovery]\noperators = []\n".to_owned())].into());
    assert!(found[0].text.contains("fleet.toml is missing"), "{found:?}");
}
