//! Cosigners: being one, asking one, and what is published, fresh or withheld by what they say.

mod evidence;
mod killed;
mod protocol;
mod publication;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::SeedableRng as _;
use sha2::Digest as _;
use signed_note::{Note, Signer, StandardSigner};
use tlog_tiles::{Checkpoint, Hash, HashReader, prove_tree, stored_hashes, tree_hash};

use crate::support::{Running, Sandbox, Test};

pub(crate) fn tests() -> Vec<Test> {
    [evidence::tests(), killed::tests(), protocol::tests(), publication::tests()].concat()
}

/// A cosigner in a home of its own, and its vkey.
pub(crate) struct Cosigner<'a> {
    pub sandbox: &'a Sandbox,
    pub home: &'a str,
    pub vkey: String,
}

impl<'a> Cosigner<'a> {
    pub(crate) fn init(sandbox: &'a Sandbox, home: &'a str, auditor: bool) -> Self {
        let name = format!("{home}.example/c1");
        let mut args = vec!["--home", home, "log", "witness", "init", "--name", &name];
        args.extend(auditor.then_some("--auditor"));
        let vkey = sandbox.keys(&args).ok().trim().to_owned();
        Self { sandbox, home, vkey }
    }

    /// Watches the log of the fleet in `fleet/`.
    pub(crate) fn watch(&self) {
        self.sandbox.keys(&["--home", self.home, "--fleet", "fleet", "log", "witness", "add-log"]).ok();
    }

    pub(crate) fn serve(&self) -> Served {
        self.serve_with(&[], Stdio::null())
    }

    /// Serves with more arguments; what it complains of goes to `talk`.
    pub(crate) fn serve_with(&self, more: &[&str], talk: impl Into<Stdio>) -> Served {
        let mut command = self.sandbox.bound_command();
        command.args(["--home", self.home, "log", "witness", "serve", "--listen", "127.0.0.1:0"]).args(more);
        let mut child = Running::start(command.stdout(Stdio::piped()).stderr(talk));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let scheme = if more.is_empty() { "http://" } else { "https://" };
        let address = line.trim().rsplit(scheme).next().unwrap().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        Served { child, address }
    }
}

/// A cosigner that watches a log of other make.
fn watching<'a>(sandbox: &'a Sandbox, log: &ForeignLog) -> Cosigner<'a> {
    let witness = Cosigner::init(sandbox, "w1", false);
    sandbox.keys(&["--home", "w1", "log", "witness", "add-log", &log.vkey]).ok();
    witness
}

/// A cosigner's process; ended when dropped.
pub(crate) struct Served {
    pub child: Running,
    pub address: String,
}

impl Served {
    pub(crate) fn post(&self, body: &[u8]) -> (u16, String, String) {
        let head = format!("POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        converse(&self.address, &[head.as_bytes(), body].concat())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String, String) {
        converse(&self.address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }
}

/// Sends bytes, and reads one answer: status, head, body.
pub(crate) fn converse(address: &str, bytes: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    answer(&mut stream)
}

fn answer(stream: &mut TcpStream) -> (u16, String, String) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head[9..12].parse().unwrap(), head, String::from_utf8(body).unwrap())
}

/// A log written with somebody else's code.
pub(crate) struct ForeignLog {
    pub origin: &'static str,
    pub skey: String,
    pub vkey: String,
    hashes: Vec<Hash>,
    size: u64,
}

struct Stored<'a>(&'a [Hash]);

impl HashReader for Stored<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|i| self.0[usize::try_from(*i).unwrap()]).collect())
    }
}

impl ForeignLog {
    pub(crate) fn new(seed: u8) -> Self {
        let origin = "other.example/log";
        let key = keys::log::note::SignerKey::generate(origin, &mut rand::rngs::StdRng::from_seed([seed; 32]));
        let (skey, vkey) = (key.to_private_text().to_string(), key.verifier().to_string());
        Self { origin, skey, vkey, hashes: Vec::new(), size: 0 }
    }

    pub(crate) fn grow(&mut self, records: &[&str]) {
        for record in records {
            let new = stored_hashes(self.size, record.as_bytes(), &Stored(&self.hashes)).unwrap();
            self.hashes.extend(new);
            self.size += 1;
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// A signed checkpoint with these extension lines.
    pub(crate) fn checkpoint(&self, extension: &str) -> Vec<u8> {
        let root = tree_hash(self.size, &Stored(&self.hashes)).unwrap();
        let text = Checkpoint::new(self.origin, self.size, root, extension).unwrap().to_bytes();
        let signer = StandardSigner::new(&self.skey).unwrap();
        let mut note = Note::new(&text, &[]).unwrap();
        note.add_sigs(&[&signer as &dyn Signer]).unwrap();
        note.to_bytes()
    }

    /// A request from `old`.
    pub(crate) fn request(&self, old: u64) -> Vec<u8> {
        let proof = if old == 0 || old > self.size {
            Vec::new()
        } else {
            prove_tree(self.size, old, &Stored(&self.hashes)).unwrap()
        };
        let mut text = format!("old {old}\n");
        for hash in proof {
            text.push_str(&BASE64.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        [text.into_bytes(), self.checkpoint("")].concat()
    }
}

/// When the cosigner `vkey` signed `text` by this line, computed from the words of C2SP tlog-cosignature alone.
pub(crate) fn cosigned_at(vkey: &str, text: &str, line: &str) -> Option<u64> {
    let mut parts = vkey.splitn(3, '+');
    let (name, _hash, key) = (parts.next()?, parts.next()?, BASE64.decode(parts.next()?).ok()?);
    let key = key.strip_prefix(&[4])?;
    let id = sha2::Sha256::digest([name.as_bytes(), b"\n\x04", key].concat());
    let payload = line.strip_prefix("\u{2014} ")?.strip_prefix(name)?.strip_prefix(' ')?.trim_end();
    let payload = BASE64.decode(payload).ok()?;
    let (hash, rest) = payload.split_at(4);
    let (time, signature) = rest.split_at(8);
    let time = u64::from_be_bytes(time.try_into().ok()?);
    let key = ed25519_dalek::VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
    let message = format!("cosignature/v1\ntime {time}\n{text}");
    let good = hash == &id[..4] && key.verify_strict(message.as_bytes(), &signature).is_ok();
    good.then_some(time)
}
