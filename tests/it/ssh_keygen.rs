//! What we write is read back by OpenSSH's own `ssh-keygen`, and the other way round.
//!
//! Each test takes a directory of its own and the absolute path of `ssh-keygen`, and panics on failure.

#![allow(clippy::disallowed_methods, reason = "tests write their files and run ssh-keygen themselves")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Sandbox, Tool, tests};
use keys::digest::Digest;
use keys::ssh::{
    CaLine, CaSigner, CertificateBody, CertificateFields, CertificateKind, KeyAlgorithm, KeyError, Krl, KrlError,
    KrlScope, NodeInput, Nonce, Principal, Serial, SshCertificate, SshPrivateKey, SshPublicKey, issue, render,
};
use keys::time::{Span, Time};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

tests!["ssh_keygen":
    certificates_show_what_was_ordered needs [SshKeygen],
    keys_go_both_ways needs [SshKeygen],
    foreign_certificates_are_read needs [SshKeygen],
    random_krls_list_as_meant needs [SshKeygen],
    krls_of_ssh_keygen_are_read needs [SshKeygen],
    wide_gaps_stay_readable needs [SshKeygen],
    both_agree_on_who_is_revoked needs [SshKeygen],
    rendered_files_are_read needs [SshKeygen],
];

const NOW: Time = Time(1_795_244_400);

fn run(dir: &Path, ssh_keygen: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(ssh_keygen);
    command.args(args).current_dir(dir).env("TZ", "UTC").env("LC_ALL", "C").env("HOME", dir);
    command.stdin(std::process::Stdio::null()).output().expect("ssh-keygen starts")
}

fn good(dir: &Path, ssh_keygen: &Path, args: &[&str]) -> String {
    let output = run(dir, ssh_keygen, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "ssh-keygen {args:?}: {out}{err}");
    out.into_owned()
}

/// Makes `name` and `name.pub`.
fn generate(dir: &Path, ssh_keygen: &Path, name: &str, kind: &[&str]) -> String {
    good(dir, ssh_keygen, &[&["-q", "-N", "", "-C", "a comment", "-f", name, "-t"], kind].concat());
    read(dir, &format!("{name}.pub"))
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).expect("a text that was just written")
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(dir.join(name), bytes).expect("the directory is ours");
}

fn key(n: u64) -> SshPrivateKey {
    SshPrivateKey::generate(&mut StdRng::seed_from_u64(n))
}

fn serial(n: u64) -> Serial {
    Serial::new(n).expect("not 0")
}

fn host_fields(ca: &SshPublicKey) -> CertificateFields {
    CertificateFields {
        kind: CertificateKind::Host,
        ca: ca.clone(),
        subject: key(3).public().clone(),
        key_id: "fra1 of cdn.example".parse().expect("printable"),
        principals: ["fra1.cdn.example", "2001:db8::1"].map(|p| Principal::host(p).expect("good")).into(),
        valid_after: NOW,
        valid_before: NOW.plus(Span::days(30)),
        critical_options: [].into(),
        extensions: [].into(),
        nonce: Nonce([7; 32]),
    }
}

fn user_fields(ca: &SshPublicKey) -> CertificateFields {
    let options =
        [("force-command", "/bin/x y"), ("source-address", "10.0.0.0/8,2001:db8::/32"), ("verify-required", "")];
    CertificateFields {
        kind: CertificateKind::User,
        subject: key(2).public().clone(),
        key_id: "alice \"a\" \\ ~".parse().expect("printable"),
        principals: ["deploy:fra1", "_ops", "a.b-c"].map(|p| Principal::user(p).expect("good")).into(),
        critical_options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        extensions: keys::ssh::EXTENSIONS.map(str::to_owned).into(),
        ..host_fields(ca)
    }
}

fn issued(fields: CertificateFields, n: u64, ca: &CaSigner) -> SshCertificate {
    let body = CertificateBody::new(fields).expect("a good body");
    issue(&body, serial(n), None, ca).expect("a certificate")
}

/// `ssh-keygen -L` without the first line, each line trimmed.
fn listed(dir: &Path, ssh_keygen: &Path, line: &str) -> Vec<String> {
    write(dir, "listed-cert.pub", format!("{line}\n"));
    let text = good(dir, ssh_keygen, &["-L", "-f", "listed-cert.pub"]);
    text.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

/// Host and user certificates say to `ssh-keygen -L` what was ordered.
fn certificates_show_what_was_ordered(sandbox: &Sandbox) {
    let (dir, ssh_keygen) = (sandbox.root(), Tool::SshKeygen.path().unwrap());
    let ssh_keygen = ssh_keygen.as_path();
    let ca_key = key(1);
    let (ca_public, ca) = (ca_key.public().clone(), CaSigner::from(ca_key));
    let valid = "Valid: from 2026-11-21T07:00:00 to 2026-12-21T07:00:00";
    let signer = format!("Signing CA: ED25519 {} (using ssh-ed25519)", ca_public.fingerprint());
    let host = issued(host_fields(&ca_public), 42, &ca);
    let public = |n: u64| format!("Public key: ED25519-CERT {}", key(n).public().fingerprint());
    let expected = [
        "Type: ssh-ed25519-cert-v01@openssh.com host certificate",
        &public(3),
        &signer,
        "Key ID: \"fra1 of cdn.example\"",
        "Serial: 42",
        valid,
        "Principals:",
        "2001:db8::1",
        "fra1.cdn.example",
        "Critical Options: (none)",
        "Extensions: (none)",
    ];
    assert_eq!(listed(dir, ssh_keygen, &host.to_line()), expected);
    let user = issued(user_fields(&ca_public), u64::MAX, &ca);
    let expected = [
        "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
        &public(2),
        &signer,
        "Key ID: \"alice \"a\" \\ ~\"",
        "Serial: 18446744073709551615",
        valid,
        "Principals:",
        "_ops",
        "a.b-c",
        "deploy:fra1",
        "Critical Options:",
        "force-command /bin/x y",
        "source-address 10.0.0.0/8,2001:db8::/32",
        "verify-required",
        "Extensions:",
        "permit-X11-forwarding",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-pty",
        "permit-user-rc",
    ];
    assert_eq!(listed(dir, ssh_keygen, &user.to_line()), expected);
    for (name, kind, shown) in [("e", &["ecdsa"][..], "ECDSA"), ("r", &["rsa", "-b", "3072"], "RSA")] {
        let subject = SshPublicKey::parse_line(&generate(dir, ssh_keygen, name, kind)).expect("an accepted key");
        let fields = CertificateFields { subject: subject.clone(), ..user_fields(&ca_public) };
        let lines = listed(dir, ssh_keygen, &issued(fields, 5, &ca).to_line());
        assert_eq!(lines.get(1), Some(&format!("Public key: {shown}-CERT {}", subject.fingerprint())));
        assert_eq!(lines.get(2), Some(&signer));
    }
}

/// Private and public keys in both directions.
fn keys_go_both_ways(sandbox: &Sandbox) {
    let (dir, ssh_keygen) = (sandbox.root(), Tool::SshKeygen.path().unwrap());
    let ssh_keygen = ssh_keygen.as_path();
    let ours = key(3);
    let comment = "fra1 host key".parse().expect("printable");
    write(dir, "ours", ours.to_openssh(&comment).as_bytes());
    set_private(&dir.join("ours"));
    assert_eq!(good(dir, ssh_keygen, &["-y", "-f", "ours"]).trim_end(), format!("{} fra1 host key", ours.public()));
    assert!(good(dir, ssh_keygen, &["-l", "-f", "ours"]).contains(&ours.public().fingerprint()));
    let theirs = SshPublicKey::parse_line(&generate(dir, ssh_keygen, "theirs", &["ed25519"])).expect("an Ed25519 key");
    let read_back = SshPrivateKey::from_openssh(&read(dir, "theirs")).expect("its private half");
    assert_eq!(*read_back.public(), theirs);
    good(dir, ssh_keygen, &["-q", "-p", "-N", "a passphrase", "-f", "theirs"]);
    assert!(matches!(SshPrivateKey::from_openssh(&read(dir, "theirs")), Err(KeyError::Encrypted)));
    for (name, kind, expected) in [
        ("ecdsa", &["ecdsa"][..], Ok(KeyAlgorithm::EcdsaP256)),
        ("rsa", &["rsa", "-b", "3072"], Ok(KeyAlgorithm::Rsa)),
        ("small", &["rsa", "-b", "2048"], Err(KeyError::RsaBits { bits: 2_048 })),
        ("p384", &["ecdsa", "-b", "384"], Err(KeyError::Algorithm("ecdsa-sha2-nistp384".into()))),
    ] {
        let key = SshPublicKey::parse_line(&generate(dir, ssh_keygen, name, kind));
        assert_eq!(key.as_ref().map(SshPublicKey::algorithm).map_err(Clone::clone), expected, "{name}");
        if let Ok(key) = key {
            assert!(good(dir, ssh_keygen, &["-l", "-f", &format!("{name}.pub")]).contains(&key.fingerprint()));
        }
        assert!(SshPrivateKey::from_openssh(&read(dir, name)).is_err(), "{name}");
    }
}

fn set_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

/// Certificates that `ssh-keygen` issued are read: valid for ever, with every option, by every kind of CA.
fn foreign_certificates_are_read(sandbox: &Sandbox) {
    let (dir, ssh_keygen) = (sandbox.root(), Tool::SshKeygen.path().unwrap());
    let ssh_keygen = ssh_keygen.as_path();
    let ca = SshPublicKey::parse_line(&generate(dir, ssh_keygen, "ca", &["ed25519"])).expect("a CA");
    let sign = |ca: &str, subject: &str, args: &[&str]| {
        let file = format!("{subject}.pub");
        good(dir, ssh_keygen, &[&["-q", "-s", ca, "-I", "some one"], args, &[&file]].concat());
        SshCertificate::parse(&read(dir, &format!("{subject}-cert.pub")))
    };
    for (name, kind) in [
        ("user", &["ed25519"][..]),
        ("user-e", &["ecdsa"]),
        ("user-e384", &["ecdsa", "-b", "384"]),
        ("user-e521", &["ecdsa", "-b", "521"]),
        ("user-r", &["rsa", "-b", "2048"]),
    ] {
        let public = generate(dir, ssh_keygen, name, kind);
        let forever = sign("ca", name, &["-n", "Root,a b"]).expect("readable");
        assert_eq!((forever.valid_before(), forever.serial(), forever.key_id()), (None, 0, "some one"));
        assert_eq!(forever.principals(), ["Root", "a b"]);
        assert_eq!((forever.extensions().len(), forever.kind()), (5, CertificateKind::User));
        assert!(forever.is_current(NOW) && forever.is_signed_by(&ca), "{name}");
        assert!(!forever.is_signed_by(key(1).public()));
        let blob = public.split(' ').nth(1).expect("base64");
        assert!(forever.subject().is_err() || forever.subject().expect("accepted").to_string().ends_with(blob));
    }
    let options =
        ["-O", "force-command=x", "-O", "source-address=10.0.0.1", "-O", "extension:log@x.example=y", "-z", "9"];
    let full =
        sign("ca", "user", &[&["-n", "a", "-V", "20260101Z:20270101Z"], &options[..]].concat()).expect("readable");
    assert_eq!((full.serial(), full.critical_options().len(), full.extensions().len()), (9, 2, 6));
    assert_eq!(full.valid_before().map(|t| t.to_string()).as_deref(), Some("2027-01-01T00:00:00Z"));
    let host = sign("ca", "user", &["-h", "-n", "fra1.cdn.example"]).expect("readable");
    assert_eq!((host.kind(), host.extensions().len()), (CertificateKind::Host, 0));
    generate(dir, ssh_keygen, "rsa-ca", &["rsa", "-b", "3072"]);
    let by_rsa = sign("rsa-ca", "user", &["-n", "a"]).expect("readable");
    let listing = good(dir, ssh_keygen, &["-l", "-f", "rsa-ca.pub"]);
    assert!(listing.contains(&by_rsa.ca_fingerprint()) && !by_rsa.is_signed_by(&ca));
    // A certificate for everybody is one that we do not even read (CVE-2024-7594).
    assert!(sign("ca", "user", &[]).is_err());
}

/// A random set of runs, of the shapes that make lists, ranges and bitmaps.
fn random_runs(rng: &mut StdRng) -> Vec<(u64, u64)> {
    let mut below = |n: u64| rng.next_u64() % n;
    let count = [0, 1, 3, 20, 100, 400][below(6) as usize];
    let mut next = 1 + [0, below(1_000), below(1 << 40), u64::MAX - 1 - below(100_000)][below(4) as usize];
    let shape = below(6);
    let mut runs = Vec::new();
    for _ in 0..count {
        let (gap, length) = match shape {
            0 => (1, 0),
            1 => (1 + below(3), below(3)),
            2 => (50, 0),
            3 => (1 + below(300), below(40)),
            4 => (1 + below(1 << 44), below(5_000)),
            _ => (1 + below(20_000), below(2) * below(400)),
        };
        let last = next.saturating_add(length);
        runs.push((next, last));
        next = last.saturating_add(gap);
        if next == u64::MAX {
            break;
        }
    }
    runs
}

/// The runs as `ssh-keygen -Q -l` shows them: merged where they touch.
fn shown_runs(runs: &[(u64, u64)]) -> BTreeSet<String> {
    let mut sorted = runs.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some(run) if first <= run.1.saturating_add(1) => run.1 = run.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    let shown = |(first, last): (u64, u64)| match first == last {
        true => format!("serial: {first}"),
        false => format!("serial: {first}-{last}"),
    };
    merged.into_iter().map(shown).collect()
}

type Listing = BTreeMap<String, BTreeSet<String>>;

/// A random KRL with the listing that it has to have.
fn random_krl(rng: &mut StdRng, cas: &[SshPublicKey]) -> (Krl, Listing) {
    let mut krl = Krl::new(rng.next_u64(), Time(rng.next_u64() % 4_000_000_000));
    let mut listing = Listing::new();
    let scopes = cas.iter().map(|ca| (KrlScope::Ca(ca.clone()), format!("# CA key ssh-ed25519 {}", ca.fingerprint())));
    for (scope, title) in scopes.chain([(KrlScope::AnyCa, "# Wildcard CA".to_owned())]) {
        let runs = random_runs(rng);
        for &(first, last) in &runs {
            krl.revoke_serials(scope.clone(), serial(first), serial(last));
        }
        let mut lines = shown_runs(&runs);
        for _ in 0..rng.next_u64() % 3 {
            let id = format!("id {:x} ~\"\\", rng.next_u64());
            krl.revoke_key_id(scope.clone(), id.parse().expect("printable"));
            lines.insert(format!("id: {id}"));
        }
        if !lines.is_empty() {
            listing.insert(title, lines);
        }
    }
    let mut hashes = BTreeSet::new();
    for _ in 0..rng.next_u64() % 3 {
        let key = key(rng.next_u64() % 50);
        krl.revoke_key(key.public().clone());
        hashes.insert(format!("hash: {} # ssh-ed25519", key.public().fingerprint()));
        let digest = Digest::of(&rng.next_u64().to_be_bytes());
        krl.revoke_sha256(digest);
        hashes.insert(format!("hash: SHA256:{digest}"));
    }
    if !hashes.is_empty() {
        listing.insert(String::new(), hashes);
    }
    (krl, listing)
}

/// What `ssh-keygen -Q -l` says, by section.
fn listing(dir: &Path, ssh_keygen: &Path, file: &str) -> Listing {
    let mut sections = Listing::new();
    let mut title = String::new();
    for line in good(dir, ssh_keygen, &["-Q", "-l", "-f", file]).lines() {
        if line.starts_with("# CA key ") || line.starts_with("# Wildcard CA") {
            title = line.to_owned();
        } else if !line.is_empty() && !line.starts_with('#') {
            sections.entry(title.clone()).or_default().insert(line.to_owned());
        }
    }
    sections
}

/// The seeds of so many random lists; `KEYS_TEST_SEED=7` tries that one alone.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let one = std::env::var("KEYS_TEST_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    one.map_or(0..count, |seed| seed..seed + 1)
}

/// 1 000 random KRLs, four sets of serials each, are listed by `ssh-keygen` as they were meant.
fn random_krls_list_as_meant(sandbox: &Sandbox) {
    let (dir, ssh_keygen) = (sandbox.root(), Tool::SshKeygen.path().unwrap());
    let ssh_keygen = ssh_keygen.as_path();
    let cas = [11, 12, 13].map(|n| key(n).public().clone());
    for seed in seeds(1_000) {
        let (krl, expected) = random_krl(&mut StdRng::seed_from_u64(seed), &cas);
        write(dir, "random.krl", krl.write(1 << 20).expect("small"));
        assert_eq!(listing(dir, ssh_keygen, "random.krl"), expected, "KEYS_TEST_SEED={seed}");
    }
}

/// Keys of every kind that OpenSSH 9.2 makes, with their lines and fingerprints by both hashes.
struct Theirs {
    line: String,
    sha256: String,
    sha1: String,
}

impl Theirs {
    fn all(dir: &Path, ssh_keygen: &Path) -> Vec<Self> {
        let kinds: [(&str, &[&str]); 5] = [
            ("k-ed", &["ed25519"]),
            ("k-256", &["ecdsa"]),
            ("k-384", &["ecdsa", "-b", "384"]),
            ("k-521", &["ecdsa", "-b", "521"]),
            ("k-rsa", &["rsa", "-b", "2048"]),
        ];
        let made = kinds.iter().map(|(name, kind)| {
            let line = generate(dir, ssh_keygen, name, kind).trim_end().to_owned();
            let print = |hash: &str| {
                let shown = good(dir, ssh_keygen, &["-l", "-E", hash, "-f", &format!("{name}.pub")]);
                shown.split(' ').nth(1).expect("a fingerprint").to_owned()
            };
            Self { line, sha256: print("sha256"), sha1: print("sha1") }
        });
        made.collect()
    }
}

/// A random specification for `ssh-keygen -k`, and what [`Krl::entries`] has to make of the list.
fn random_spec(rng: &mut StdRng, ca: Option<&Theirs>, keys: &[Theirs]) -> (String, BTreeSet<String>) {
    let (mut spec, mut entries) = (String::new(), BTreeSet::new());
    let of = ca.map_or_else(|| "any CA".to_owned(), |ca| format!("the CA {}", ca.sha256));
    for run in shown_runs(&random_runs(rng)) {
        spec.push_str(&format!("{run}\n"));
        let range = run.strip_prefix("serial: ").expect("as it is shown");
        entries.insert(match range.split_once('-') {
            None => format!("serial {range} of {of}"),
            Some((first, last)) => format!("serials {first} to {last} of {of}"),
        });
    }
    for _ in 0..rng.next_u64() % 3 {
        let id = [format!("id {:x} ~'\"\\", rng.next_u64()), format!("Zoë {}", rng.next_u64() % 9)];
        let id = &id[(rng.next_u64() % 2) as usize];
        spec.push_str(&format!("id: {id}\n"));
        entries.insert(format!("the key id '{id}' of {of}"));
    }
    for kind in ["key", "sha256", "sha1", "hash"] {
        for key in keys.iter().filter(|_| rng.next_u64().is_multiple_of(6)).collect::<Vec<_>>() {
            let value = if kind == "hash" { &key.sha256 } else { &key.line };
            spec.push_str(&format!("{kind}: {value}\n"));
            entries.insert(format!("the key {}", if kind == "sha1" { &key.sha1 } else { &key.sha256 }));
        }
    }
    (spec, entries)
}

/// 1 000 random lists of every kind of entry that `ssh-keygen -k` writes are read as they were meant, for CAs of every kind and
/// for any. Those that OpenSSH itself does not read back (its bitmaps are too wide) are refused for just that.
fn krls_of_ssh_keygen_are_read(sandbox: &Sandbox) {
    let (dir, ssh_keygen) = (sandbox.root(), Tool::SshKeygen.path().unwrap());
    let ssh_keygen = ssh_keygen.as_path();
    let keys = Theirs::all(dir, ssh_keygen);
    for (i, ca) in keys.iter().enumerate() {
        write(dir, &format!("ca-{i}.pub"), format!("{}\n", ca.line));
    }
    let (mut our_bytes, mut their_bytes, mut unreadable, mut kinds) = (0, 0, 0, [0; 4]);
    for seed in seeds(1_000) {
        let mut rng = StdRng::seed_from_u64(seed);
        let chosen = (rng.next_u64() % 6) as usize;
        let (spec, expected) = random_spec(&mut rng, keys.get(chosen), &keys);
        if spec.is_empty() {
            continue;
        }
        write(dir, "spec", &spec);
        let ca = if chosen < keys.len() { format!("ca-{chosen}.pub") } else { "none".to_owned() };
        good(dir, ssh_keygen, &["-q", "-k", "-f", "theirs.krl", "-s", &ca, "-z", "5", "spec"]);
        let theirs = fs::read(dir.join("theirs.krl")).expect("just written");
        let parsed = Krl::parse(&theirs);
        if !run(dir, ssh_keygen, &["-Q", "-l", "-f", "theirs.krl"]).status.success() {
            assert!(matches!(parsed, Err(KrlError::Refused(why)) if why.contains("bitmap")), "KEYS_TEST_SEED={seed}");
            unreadable += 1;
            continue;
        }
        let read = parsed.unwrap_or_else(|e| panic!("KEYS_TEST_SEED={seed}: {e}"));
        // A key by its hash and the same key itself are one entry.
        let entries: BTreeSet<String> = read.entries().iter().map(ToString::to_string).collect();
        assert_eq!((read.version(), entries), (5, expected.clone()), "KEYS_TEST_SEED={seed}");
        for (n, kind) in ["serial", "the key id", "the key SHA256", "the key SHA1"].iter().enumerate() {
            kinds[n] += usize::from(expected.iter().any(|e| e.starts_with(kind)));
        }
        let ours = read.write(1 << 20).expect("small");
        assert_eq!(Krl::parse(&ours), Ok(read), "KEYS_TEST_SEED={seed}");
        our_bytes += ours.len();
        their_bytes += theirs.len();
    }
    assert!(our_bytes <= their_bytes, "{our_bytes} bytes against {their_bytes}; {unreadable} unreadable");
    if seeds(1_000).end == 1_000 {
        assert!(unreadable > 0 && kinds.iter().all(|n| *n > 100), "{unreadable} unreadable, {kinds:?}");
    }
}

/// Every 50th of 20 000 serials: `ssh-keygen -k` 9.2 and 10.5 write a bitmap that no OpenSSH reads. Ours is read.
fn wide_gaps_stay_readable(sandbox: &Sandbox) {
    let (dir, ssh_keygen) = (sandbox.root(), Tool::SshKeygen.path().unwrap());
    let ssh_keygen = ssh_keygen.as_path();
    for step in [2, 41, 49, 50, 51, 100] {
        let runs: Vec<_> = (1..=400).map(|n| (n * step, n * step)).collect();
        let mut krl = Krl::new(1, NOW);
        runs.iter().for_each(|&(a, b)| krl.revoke_serials(KrlScope::AnyCa, serial(a), serial(b)));
        write(dir, "gaps.krl", krl.write(65_536).expect("small"));
        let expected = Listing::from([("# Wildcard CA".to_owned(), shown_runs(&runs))]);
        assert_eq!(listing(dir, ssh_keygen, "gaps.krl"), expected, "every {step}th");
    }
}

/// `ssh-keygen -Q` and [`Krl::is_revoked`] agree on certificates.
fn both_agree_on_who_is_revoked(sandbox: &Sandbox) {
    let (dir, ssh_keygen) = (sandbox.root(), Tool::SshKeygen.path().unwrap());
    let ssh_keygen = ssh_keygen.as_path();
    let cas = [key(1), key(21)].map(CaSigner::from);
    let mut certificates = Vec::new();
    for n in 1..=40_u64 {
        let ca_key = key([1, 21][(n % 2) as usize]).public().clone();
        let mut fields = user_fields(&ca_key);
        fields.subject = key(100 + n % 7).public().clone();
        fields.key_id = format!("user {}", n % 5).parse().expect("printable");
        let name = format!("c{n}-cert.pub");
        let certificate = issued(fields, n, &cas[(n % 2) as usize]);
        write(dir, &name, certificate.to_line());
        certificates.push((name, certificate));
    }
    let names: Vec<&str> = certificates.iter().map(|(name, _)| name.as_str()).collect();
    let mut rng = StdRng::seed_from_u64(99);
    let mut verdicts = [0, 0];
    for round in 0..60 {
        let mut below = |n: u64| rng.next_u64() % n;
        let mut krl = Krl::new(round, NOW);
        let scope = |n| match n {
            0 => KrlScope::AnyCa,
            1 => KrlScope::Ca(key(1).public().clone()),
            _ => KrlScope::Ca(key(21).public().clone()),
        };
        match below(6) {
            0 => krl.revoke_key_id(scope(below(3)), format!("user {}", below(6)).parse().expect("printable")),
            1 => krl.revoke_key(key(100 + below(8)).public().clone()),
            2 => krl.revoke_sha256(key(100 + below(8)).public().sha256()),
            3 => krl.revoke_sha256(key([1, 21, 22][below(3) as usize]).public().sha256()),
            4 => krl.revoke_key(key([1, 21, 22][below(3) as usize]).public().clone()),
            _ => (0..below(20)).for_each(|_| {
                let first = 1 + below(45);
                krl.revoke_serials(scope(below(3)), serial(first), serial(first + below(3)));
            }),
        }
        write(dir, "q.krl", krl.write(65_536).expect("small"));
        let output = run(dir, ssh_keygen, &[&["-Q", "-f", "q.krl"][..], &names].concat());
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(out.lines().count(), names.len(), "{out}{}", String::from_utf8_lossy(&output.stderr));
        for ((name, certificate), line) in certificates.iter().zip(out.lines()) {
            let revoked = krl.is_revoked(certificate);
            assert!(line.starts_with(&format!("{name} ")), "{line}");
            assert_eq!(line.ends_with(": REVOKED"), revoked, "round {round}: {line}");
            verdicts[usize::from(revoked)] += 1;
        }
    }
    assert!(verdicts.iter().all(|n| *n > 300), "{verdicts:?}");
}

/// The files of a node, as far as `ssh-keygen` reads such files.
fn rendered_files_are_read(sandbox: &Sandbox) {
    let (dir, ssh_keygen) = (sandbox.root(), Tool::SshKeygen.path().unwrap());
    let ssh_keygen = ssh_keygen.as_path();
    let (active, standby) = (key(1), key(11));
    let cas: BTreeSet<CaLine> = [&active, &standby].map(|ca| CaLine::from(ca.public())).into();
    let host_certificate = issued(host_fields(active.public()), 42, &CaSigner::from(key(1))).to_line();
    let deploy = [Principal::user("deploy:fra1").expect("good")].into();
    let mut krl = Krl::new(3, NOW);
    krl.revoke_serials(KrlScope::Ca(active.public().clone()), serial(1), serial(100_000));
    let krl = krl.write(200).expect("100 000 serials in 200 bytes");
    let input = NodeInput {
        user_cas: cas.clone(),
        host_cas: cas,
        accounts: [("deploy".parse().expect("good"), deploy)].into(),
        revoked_users: krl.clone(),
        revoked_hosts: krl,
        host_patterns: ["*.cdn.example,fra1".parse().expect("good")].into(),
        host_key_path: "/etc/ssh/ssh_host_ed25519_key".parse().expect("good"),
        host_key: key(3).public().clone(),
        host_certificate,
        proof: None,
        directory: NodeInput::DIRECTORY.parse().expect("good"),
    };
    for file in render(&input).expect("a good node") {
        fs::create_dir_all(dir.join(&file.path).parent().expect("below dir")).expect("the directory is ours");
        write(dir, &file.path, &file.bytes);
    }
    let cas = good(dir, ssh_keygen, &["-l", "-f", "user_ca.pub"]);
    for ca in [&active, &standby] {
        assert!(cas.contains(&ca.public().fingerprint()), "{cas}");
    }
    for host in ["ams1.cdn.example", "fra1"] {
        let found = good(dir, ssh_keygen, &["-F", host, "-f", "known_hosts"]);
        assert_eq!(found.matches("@cert-authority").count(), 2, "{host}: {found}");
    }
    assert!(!run(dir, ssh_keygen, &["-F", "cdn.elsewhere", "-f", "known_hosts"]).status.success());
    let certificate = NodeInput::host_certificate_file(key(3).public());
    assert!(good(dir, ssh_keygen, &["-L", "-f", &certificate]).contains("host certificate"));
    for file in ["revoked.krl", "revoked_hosts.krl"] {
        let lines = listing(dir, ssh_keygen, file).into_values().flatten().collect::<Vec<_>>();
        assert_eq!(lines, ["serial: 1-100000"]);
    }
}
