//! SSH certificates for many keys at once: the raw signatures, ours, and ssh-keygen in one process and in one for each; and a
//! revocation list of many certificates.
//!
//! Ours and ssh-keygen read a `.pub` file for each key and write a `-cert.pub` beside it, in memory-backed storage. Ours verifies
//! every signature before it is written, ssh-keygen does not; what that costs is printed by itself.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer as _, SigningKey};
use keys::ops::issue_all;
use keys::ssh::{
    CaSigner, CertificateAuthority as _, CertificateBody, CertificateFields, CertificateKind, Issuer, Krl, KrlScope,
    Nonce, Order, Principal, Serial, SshPrivateKey, SshPublicKey, issue, to_be_signed,
};
use keys::time::{Span, Time};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::processor_time_of_all;
use crate::secrets::children;

/// What something took, the programs that it ran included.
struct Took {
    cpu: Duration,
    wall: Duration,
}

fn measured(work: impl FnOnce()) -> Took {
    let cpu = || processor_time_of_all() + children();
    let (before, wall) = (cpu(), Instant::now());
    work();
    Took { cpu: cpu() - before, wall: wall.elapsed() }
}

fn show(what: &str, took: &Took, count: usize) {
    let each = took.cpu.as_secs_f64() * 1e6 / count as f64;
    println!("{what:<60} {:>8.3} s cpu {:>8.3} s {each:>8.1} us each", took.cpu.as_secs_f64(), took.wall.as_secs_f64());
}

fn body(key: &SshPublicKey, ca: &CaSigner, n: usize) -> CertificateBody {
    let at = Time(1_795_244_400);
    let mut nonce = [0; 32];
    nonce[..8].copy_from_slice(&n.to_be_bytes());
    CertificateBody::new(CertificateFields {
        kind: CertificateKind::User,
        ca: ca.public().clone(),
        subject: key.clone(),
        key_id: "user alice".parse().expect("printable"),
        principals: [Principal::user("deploy:fra1").expect("good")].into(),
        valid_after: at,
        valid_before: at.plus(Span::hours(16)),
        critical_options: [].into(),
        extensions: ["permit-pty".to_owned()].into(),
        nonce: Nonce(nonce),
    })
    .expect("a body")
}

fn serial(n: usize) -> Serial {
    Serial::new(n as u64 + 1).expect("not 0")
}

/// Certifies `count` keys in each way, and prints.
pub fn measure(count: usize) {
    let mut rng = StdRng::from_seed([7; 32]);
    let directory = tempfile::tempdir_in("/dev/shm").expect("memory-backed storage");
    let ca_key = SshPrivateKey::generate(&mut rng);
    let ca_file = directory.path().join("ca");
    write_private(&ca_file, &ca_key.to_openssh(&"ca".parse().expect("printable")));
    let ca = CaSigner::from(ca_key);
    let keys: Vec<SshPublicKey> = (0..count).map(|_| SshPrivateKey::generate(&mut rng).public().clone()).collect();
    let bodies: Vec<CertificateBody> = keys.iter().enumerate().map(|(n, key)| body(key, &ca, n)).collect();
    let files: Vec<_> = (0..count).map(|n| directory.path().join(format!("k{n}.pub"))).collect();
    for (file, key) in files.iter().zip(&keys) {
        std::fs::write(file, format!("{key}\n")).expect("a file");
    }
    let raw_key = SigningKey::generate(&mut rng);
    let messages: Vec<Vec<u8>> = bodies.iter().enumerate().map(|(n, b)| to_be_signed(b, serial(n), None)).collect();
    // Each way twice, in turns; the second turn counts.
    for turn in 0..2 {
        let raw = measured(|| {
            for message in &messages {
                std::hint::black_box(raw_key.sign(message));
            }
        });
        let signed = measured(|| {
            for (n, body) in bodies.iter().enumerate() {
                let bytes = to_be_signed(body, serial(n), None);
                std::hint::black_box(ca.sign(&bytes).expect("a key in memory signs"));
            }
        });
        let verified = measured(|| {
            for (n, body) in bodies.iter().enumerate() {
                std::hint::black_box(issue(body, serial(n), None, &ca).expect("a certificate"));
            }
        });
        let orders: Vec<Order<'_>> =
            bodies.iter().enumerate().map(|(n, body)| Order { body, serial: serial(n), staple: None }).collect();
        let together = measured(|| {
            let made = issue_all(&Issuer::new(&ca, orders.len()), &orders, 1);
            assert!(std::hint::black_box(made).iter().all(Result::is_ok));
        });
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let both = measured(|| {
            let made = issue_all(&Issuer::new(&ca, orders.len()), &orders, threads);
            assert!(std::hint::black_box(made).iter().all(Result::is_ok));
        });
        let whole = measured(|| {
            let read = |file: &std::path::PathBuf| {
                let text = std::fs::read_to_string(file).expect("a file");
                SshPublicKey::parse_line(text.trim_end()).expect("a key")
            };
            let bodies: Vec<_> = files.iter().enumerate().map(|(n, file)| body(&read(file), &ca, n)).collect();
            let order = |(n, body)| Order { body, serial: serial(n), staple: None };
            let orders: Vec<Order<'_>> = bodies.iter().enumerate().map(order).collect();
            let made = issue_all(&Issuer::new(&ca, orders.len()), &orders, threads);
            for (n, (file, certificate)) in files.iter().zip(made).enumerate() {
                let out = file.with_file_name(format!("k{n}-cert.pub"));
                let line = certificate.expect("a certificate").to_line();
                std::fs::write(out, format!("{line}\n")).expect("a file");
            }
        });
        let one = measured(|| ssh_keygen(&ca_file, &files));
        let few = &files[..count.min(200)];
        let each = measured(|| few.iter().for_each(|file| ssh_keygen(&ca_file, std::slice::from_ref(file))));
        if turn == 0 {
            continue;
        }
        println!("{count} SSH certificates");
        show("raw Ed25519 signatures of the same bytes", &raw, count);
        show("ours: bytes and signatures", &signed, count);
        show("ours: and each signature verified, one by one", &verified, count);
        show("ours: and each signature verified, some at a time", &together, count);
        show(&format!("the same, {threads} threads"), &both, count);
        show("ours: and files read and written", &whole, count);
        show("ssh-keygen, one process, files read and written", &one, count);
        show(&format!("ssh-keygen, one process a key, {} keys", few.len()), &each, few.len());
        let ratio = |a: &Took, b: &Took| a.cpu.as_secs_f64() / b.cpu.as_secs_f64();
        println!("signing rate / raw rate                        {:.3}", ratio(&raw, &signed));
        println!("verified one by one / raw rate                 {:.3}", ratio(&raw, &verified));
        println!("verified some at a time / raw rate             {:.3}", ratio(&raw, &together));
        let by_the_clock = raw.wall.as_secs_f64() / both.wall.as_secs_f64();
        println!("the same, {threads} threads / raw rate of one, by the clock {by_the_clock:.3}");
        println!("ssh-keygen, one process / ours                 {:.1}", ratio(&one, &whole));
        let scaled = each.cpu.as_secs_f64() / few.len() as f64 * count as f64;
        println!("ssh-keygen, one process a key / ours           {:.1}", scaled / whole.cpu.as_secs_f64());
    }
    revoke(&ca);
}

/// A list of a hundred thousand certificates whose serials are dense, as those of a log are.
fn revoke(ca: &CaSigner) {
    let (first, last) = (serial(0), serial(99_999));
    let mut bytes = Vec::new();
    let built = measured(|| {
        let mut list = Krl::new(1, Time(1_795_244_400));
        list.revoke_serials(KrlScope::Ca(ca.public().clone()), first, last);
        bytes = list.write(65_536).expect("small");
    });
    let read = measured(|| drop(std::hint::black_box(Krl::parse(&bytes).expect("our own"))));
    println!("100 000 dense revocations: {} bytes, built in {:?}, read in {:?}", bytes.len(), built.wall, read.wall);
}

fn ssh_keygen(ca: &Path, files: &[std::path::PathBuf]) {
    let mut command = Command::new("ssh-keygen");
    command.args([
        "-q",
        "-I",
        "user alice",
        "-n",
        "deploy:fra1",
        "-V",
        "+16h",
        "-O",
        "clear",
        "-O",
        "permit-pty",
        "-s",
    ]);
    let status = command.arg(ca).args(files).stdin(Stdio::null()).status().expect("ssh-keygen is installed");
    assert!(status.success());
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}
