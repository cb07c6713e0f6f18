//! Secrets beside those who seal secrets, too: values of 100 bytes to 1, 10 and 100 recipients, sealed, resealed with one
//! recipient fewer, and opened. Processor time of a secret, ours and theirs in one run.
//!
//! Ours is the whole message in one process: signed by its author, which none of the others does. gpg-agent's part in
//! opening is not counted against gpg and pass. `sops` gets age recipients, with which it is quickest. Who starts a program
//! for each secret is measured with fewer of them.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keys::openpgp::{Envelope, Profile, Wraps, open, reseal_with, seal, seal_with};
use sequoia_openpgp as pgp;
use stage::{NOW, Stage, address};

use pgp::cert::{CertBuilder, CipherSuite};
use pgp::packet::key::{PublicParts, SecretParts, UnspecifiedRole};
use pgp::serialize::SerializeInto as _;
use pgp::types::KeyFlags;

use super::{PublicKey, pair, processor_time, raw_wraps, signing_key};

const VALUE: [u8; 100] = [b'x'; 100];

/// A reader as each of them knows one.
struct Reader {
    cert: pgp::Cert,
    public: PublicKey,
    secret: pgp::packet::Key<SecretParts, UnspecifiedRole>,
    age: age::x25519::Identity,
}

fn reader(i: usize) -> Reader {
    let day = NOW.minus(keys::time::Span::days(1)).to_system();
    let (cert, _) = CertBuilder::general_purpose(Some(format!("reader{i} <reader{i}@cdn.example>")))
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(day)
        .generate()
        .expect("a certificate");
    let flags = KeyFlags::empty().set_storage_encryption().set_transport_encryption();
    let policy = pgp::policy::StandardPolicy::new();
    let key = cert.keys().with_policy(&policy, NOW.to_system()).key_flags(flags).secret().next().expect("a key");
    let secret = key.key().clone().role_into_unspecified();
    let public: pgp::packet::Key<PublicParts, UnspecifiedRole> = secret.clone().parts_into_public();
    Reader { cert, public, secret, age: age::x25519::Identity::generate() }
}

/// Processor time of the children that have ended, in ticks of 10 ms.
pub(crate) fn children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = [13, 14].map(|i: usize| fields[i].parse::<u64>().expect("a number")).iter().sum();
    Duration::from_millis(ticks * 10)
}

/// Processor time of one of `count`, ours and that of programs that were run.
fn each(count: usize, mut work: impl FnMut(usize)) -> Duration {
    let (own, theirs) = (processor_time(), children());
    (0..count).for_each(&mut work);
    (processor_time() - own + children() - theirs) / u32::try_from(count).expect("a few")
}

fn line(what: &str, ours: Duration, theirs: Duration) {
    println!(
        "{what:<58} {:>8} us {:>9} us {:>8.2}",
        ours.as_micros(),
        theirs.as_micros(),
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

/// Measures with `ours` secrets, and with `programs` where each starts a program.
pub fn measure(ours: usize, programs: usize) {
    println!("{:<58} {:>11} {:>12} {:>8}", "a secret of 100 bytes", "ours", "theirs", "ratio");
    let readers: Vec<Reader> = (0..100).map(reader).collect();
    for count in [1, 10, 100] {
        recipients(&readers[..count], ours, programs);
    }
    fleet(ours.min(1000));
}

fn recipients(readers: &[Reader], ours: usize, programs: usize) {
    let r = readers.len();
    let author = signing_key();
    let author_key: PublicKey = author.clone().parts_into_public();
    let to: Vec<&PublicKey> = readers.iter().map(|r| &r.public).collect();
    let envelope = |i: usize| Envelope {
        fleet: "cdn.example".parse().expect("a name"),
        origin: "cdn.example/keys/1".into(),
        address: format!("nginx@fra1/value-{i}"),
        version: 1,
        readers: keys::digest::Digest::of(b"readers"),
    };
    let own = || {
        let key: Box<dyn pgp::crypto::Decryptor> = Box::new(pair(&readers[0].secret));
        (readers[0].public.fingerprint(), key)
    };
    // One command's work: as 'keys import', 'keys renew' and 'keys reseal' do it, the agreement with each reader is made once.
    let (mut sealed, mut wraps) = (Vec::new(), Wraps::default());
    let seals = each(ours, |i| {
        let one = seal_with(&mut wraps, &VALUE, &envelope(i), &to, pair(&author), Profile::Compat, NOW);
        sealed.push(one.expect("sealed"))
    });
    let alone = each(ours, |i| drop(seal(&VALUE, &envelope(i), &to, pair(&author), Profile::Compat, NOW)));
    let opens = each(ours, |i| drop(open(&sealed[i], &envelope(i), &mut [own()], &author_key).expect("opened")));
    let fewer = &to[..r.div_ceil(2).max(r - 1)];
    let mut wraps = Wraps::default();
    let reseals = each(ours, |i| drop(reseal_with(&mut wraps, &sealed[i], &mut [own()], fewer).expect("resealed")));

    let limit = each(ours.min(200), |_| {
        std::hint::black_box(raw_wraps(&to, &author));
    });
    line(&format!("seal to {r} / {r} key wraps and a signature"), seals, limit);
    line(&format!("seal to {r}, one message by itself / the same"), alone, limit);
    let mut crate_sealed = Vec::new();
    let age_seals = each(ours, |_| crate_sealed.push(age_seal(readers)));
    line(&format!("seal to {r} / the age crate, same process"), seals, age_seals);
    line(
        &format!("open, of {r} / the age crate, same process"),
        opens,
        each(ours, |i| age_open(readers, &crate_sealed[i])),
    );
    line(
        &format!("reseal, of {r} / the age crate, opened and sealed again"),
        reseals,
        each(ours, |i| {
            age_open(readers, &crate_sealed[i]);
            age_seal(readers);
        }),
    );
    let place = tempfile::tempdir().expect("a temporary directory");
    let others = Others { place: place.path(), readers, programs };
    others.set_up();
    for (name, works) in
        [("gpg", others.gpg()), ("pass", others.pass()), ("age", others.age()), ("sops, a file each", others.sops())]
    {
        for ((what, ours), theirs) in
            [("seal to", seals), ("open, of", opens), ("reseal, of", reseals)].into_iter().zip(works)
        {
            if let Some(theirs) = theirs {
                line(&format!("{what} {r} / {name}"), ours, theirs);
            }
        }
    }
    line(&format!("seal to {r} / one gpg process for all"), seals, others.gpg_at_once());
    let (one_seal, one_open) = others.sops_at_once(ours);
    line(&format!("seal to {r} / sops, one file with all"), seals, one_seal);
    line(&format!("open, of {r} / sops, one file with all"), opens, one_open);
    others.end();
}

fn age_seal(readers: &[Reader]) -> Vec<u8> {
    let to: Vec<age::x25519::Recipient> = readers.iter().map(|r| r.age.to_public()).collect();
    let encryptor = age::Encryptor::with_recipients(to.iter().map(|r| r as &dyn age::Recipient)).expect("recipients");
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).expect("memory");
    writer.write_all(&VALUE).expect("memory");
    writer.finish().expect("an end");
    out
}

fn age_open(readers: &[Reader], sealed: &[u8]) {
    let decryptor = age::Decryptor::new(sealed).expect("a file");
    let mut reader = decryptor.decrypt(std::iter::once(&readers[0].age as &dyn age::Identity)).expect("ours");
    let mut value = Vec::new();
    reader.read_to_end(&mut value).expect("memory");
    assert_eq!(value, VALUE);
}

/// Programs, each with a home of its own. Times: sealing, opening, resealing.
struct Others<'a> {
    place: &'a Path,
    readers: &'a [Reader],
    programs: usize,
}

type Works = [Option<Duration>; 3];

impl Others<'_> {
    fn run(&self, program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(self.place)
            .env("GNUPGHOME", self.path("gnupg"))
            .env("PASSWORD_STORE_DIR", self.path("store"))
            .env("SOPS_AGE_KEY_FILE", self.path("age.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}; tests/setup installs it"));
        child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{program} {arguments:?}");
        output.stdout
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn set_up(&self) {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().mode(0o700).create(self.path("gnupg")).expect("a directory");
        std::fs::write(self.path("gnupg/gpg.conf"), "batch\nno-tty\nquiet\ntrust-model always\n").expect("a disk");
        for (i, reader) in self.readers.iter().enumerate() {
            let bytes = if i == 0 { reader.cert.as_tsk().to_vec() } else { reader.cert.to_vec() };
            self.run("gpg", &["--import"], &bytes.expect("bytes"));
        }
        use age::secrecy::ExposeSecret as _;
        let identity = self.readers[0].age.to_string();
        std::fs::write(self.path("age.key"), identity.expose_secret()).expect("a disk");
    }

    /// Ends the agent that gpg has started.
    fn end(&self) {
        self.run("gpgconf", &["--kill", "all"], b"");
    }

    fn fingerprints(&self) -> Vec<String> {
        self.readers.iter().map(|r| r.cert.fingerprint().to_hex()).collect()
    }

    fn age_names(&self) -> Vec<String> {
        self.readers.iter().map(|r| r.age.to_public().to_string()).collect()
    }

    fn gpg(&self) -> Works {
        let names = self.fingerprints();
        let mut to = vec!["--encrypt"];
        names.iter().for_each(|name| to.extend(["--recipient", name]));
        let mut sealed = Vec::new();
        let seals = each(self.programs, |_| sealed.push(self.run("gpg", &to, &VALUE)));
        let opens = each(self.programs, |i| assert_eq!(self.run("gpg", &["--decrypt"], &sealed[i]), VALUE));
        let reseals = each(self.programs, |i| drop(self.run("gpg", &to, &self.run("gpg", &["--decrypt"], &sealed[i]))));
        [Some(seals), Some(opens), Some(reseals)]
    }

    fn gpg_at_once(&self) -> Duration {
        let names = self.fingerprints();
        let files: Vec<String> = (0..self.programs).map(|i| format!("value-{i}")).collect();
        files.iter().for_each(|name| std::fs::write(self.path(name), VALUE).expect("a disk"));
        let mut all = vec!["--multifile", "--encrypt"];
        names.iter().for_each(|name| all.extend(["--recipient", name]));
        all.extend(files.iter().map(String::as_str));
        each(1, |_| drop(self.run("gpg", &all, b""))) / u32::try_from(self.programs).expect("a few")
    }

    fn pass(&self) -> Works {
        let names = self.fingerprints();
        let mut init = vec!["init"];
        init.extend(names.iter().map(String::as_str));
        self.run("pass", &init, b"");
        let seals =
            each(self.programs, |i| drop(self.run("pass", &["insert", "--multiline", &format!("v{i}")], &VALUE)));
        let opens = each(self.programs, |i| assert_eq!(self.run("pass", &["show", &format!("v{i}")], b""), VALUE));
        [Some(seals), Some(opens), None]
    }

    fn age(&self) -> Works {
        let names = self.age_names();
        let mut to = Vec::new();
        names.iter().for_each(|name| to.extend(["--recipient", name]));
        let mut sealed = Vec::new();
        let seals = each(self.programs, |_| sealed.push(self.run("age", &to, &VALUE)));
        let opens = each(self.programs, |i| assert_eq!(self.run("age", &["-d", "-i", "age.key"], &sealed[i]), VALUE));
        let reseals =
            each(self.programs, |i| drop(self.run("age", &to, &self.run("age", &["-d", "-i", "age.key"], &sealed[i]))));
        [Some(seals), Some(opens), Some(reseals)]
    }

    fn sops(&self) -> Works {
        let names = self.age_names().join(",");
        let files: Vec<String> = (0..self.programs).map(|i| format!("sops-{i}")).collect();
        let seals = each(self.programs, |i| {
            std::fs::write(self.path(&files[i]), VALUE).expect("a disk");
            self.run("sops", &["encrypt", "--in-place", "--age", &names, &files[i]], b"");
        });
        let opens = each(self.programs, |i| assert_eq!(self.run("sops", &["decrypt", &files[i]], b""), VALUE));
        let last = self.age_names().pop().unwrap_or_default();
        let reseals = (self.readers.len() > 1).then(|| {
            each(self.programs, |i| {
                drop(self.run("sops", &["rotate", "--in-place", "--rm-age", &last, &files[i]], b""))
            })
        });
        [Some(seals), Some(opens), reseals]
    }

    /// Its best case: one file, one data key, `count` values.
    fn sops_at_once(&self, count: usize) -> (Duration, Duration) {
        let values = (0..count).map(|i| format!("value{i}: {}\n", "x".repeat(VALUE.len()))).collect::<String>();
        std::fs::write(self.path("all.yaml"), values).expect("a disk");
        let names = self.age_names().join(",");
        let a_value = u32::try_from(count).expect("a few");
        let seals = each(1, |_| drop(self.run("sops", &["encrypt", "--in-place", "--age", &names, "all.yaml"], b"")));
        let opens = each(1, |_| drop(self.run("sops", &["decrypt", "all.yaml"], b"")));
        (seals / a_value, opens / a_value)
    }
}

/// The same through a fleet: rules, trust of each reader, the log, files. A service's two keys and the operator's two.
fn fleet(count: usize) {
    let stage = Stage::with_pops(1);
    let addresses: Vec<_> = (0..count).map(|i| address(&format!("nginx@pop1/value-{i}"))).collect();
    let mut fleet = stage.prepared();
    let home = &stage.homes["alice"];
    let per = u32::try_from(count).expect("a few");
    let began = processor_time();
    let plans: Vec<_> = addresses.iter().map(|a| keys::ops::plan_seal(a, &mut fleet).expect("a plan")).collect();
    let planned = processor_time();
    let values: Vec<_> = plans.iter().map(|plan| (plan, VALUE.as_slice())).collect();
    let drafts = keys::ops::seal_all(&values, "measured", None, home, &mut fleet).expect("sealed");
    let sealed = processor_time();
    stage.place(&mut fleet, drafts);
    let placed = processor_time();
    fleet.done();
    let mut fleet = stage.open();
    let opening = processor_time();
    for address in &addresses {
        let opened = keys::ops::open(address, None, &stage.homes["pop1"], &mut fleet).expect("opened");
        assert_eq!(opened.value.as_slice(), VALUE);
    }
    let opened = processor_time();
    for (what, took) in [
        ("in a fleet: plan, with the trust of each reader", planned - began),
        ("in a fleet: seal to 4 keys", sealed - planned),
        ("in a fleet: sign, judge, log and write the files", placed - sealed),
        ("in a fleet: open", opened - opening),
    ] {
        println!("{what:<58} {:>8} us", (took / per).as_micros());
    }
}
