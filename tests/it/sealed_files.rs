//! Sealed files that nobody of ours would make, by somebody who has the author's key or everybody's public ones: what is in
//! them is never taken for a value, and they cost no more than they weigh.

use std::io::Write as _;

use keys::digest::Digest;
use keys::limits::{PKESK_MAX, SEALED_BYTES_MAX};
use keys::name::Kind;
use keys::openpgp::{Envelope, Profile, SealError, Sealed, generate, open, open_raw, seal};
use keys::time::Span;
use sequoia_openpgp::crypto::{Decryptor, KeyPair};
use sequoia_openpgp::packet::key::{Key4, PublicParts, SecretParts, UnspecifiedRole};
use sequoia_openpgp::packet::{Key, Tag};
use sequoia_openpgp::serialize::stream::{ArbitraryWriter, Encryptor, LiteralWriter, Message, Recipient, Signer};
use sequoia_openpgp::types::{Curve, Features, SymmetricAlgorithm};
use sequoia_openpgp::{Fingerprint, KeyHandle};

use crate::support::{Ran, Sandbox, TestFleet, Tool, now, tests};

tests!["sealed_files":
    what_is_sealed_twice_is_no_value,
    what_was_not_signed_is_no_value,
    a_bomb_of_compressed_zeros_is_refused needs [Python3],
    a_thousand_recipients_are_borne_and_too_many_refused,
    nothing_and_too_much_are_no_sealed_files,
    the_wrong_key_opens_nothing_and_says_whose_it_is_not,
];

type PublicKey = Key<PublicParts, UnspecifiedRole>;

fn made(key: sequoia_openpgp::Result<Key4<SecretParts, UnspecifiedRole>>) -> Key<SecretParts, UnspecifiedRole> {
    let mut key = key.unwrap();
    key.set_creation_time(now().minus(Span::days(1)).to_system()).unwrap();
    key.into()
}

/// An author who signs, and a reader: all that a message is made with.
struct Two {
    author: KeyPair,
    reader: Key<SecretParts, UnspecifiedRole>,
    public: PublicKey,
}

impl Two {
    fn new() -> Self {
        let author = made(Key4::generate_ecc(true, Curve::Ed25519)).into_keypair().unwrap();
        let reader = made(Key4::generate_ecc(false, Curve::Cv25519));
        let public = reader.clone().parts_into_public();
        Self { author, reader, public }
    }

    fn own(&self) -> Vec<(Fingerprint, Box<dyn Decryptor>)> {
        vec![(self.reader.fingerprint(), Box::new(self.reader.clone().into_keypair().unwrap()))]
    }

    fn open(&self, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        open(bytes, &envelope(), &mut self.own(), self.author.public()).map(|o| o.value.to_vec())
    }

    fn encrypted<'a>(&'a self, message: Message<'a>) -> Message<'a> {
        let features = Features::empty().set_seipdv1();
        let to = Recipient::new(features, KeyHandle::from(self.public.keyid()), &self.public);
        Encryptor::for_recipients(message, [to]).symmetric_algo(SymmetricAlgorithm::AES256).build().unwrap()
    }
}

fn envelope() -> Envelope {
    Envelope {
        fleet: "cdn.example".parse().unwrap(),
        origin: "cdn.example/keys/1".to_owned(),
        address: "fra1/token".to_owned(),
        version: 1,
        readers: Digest::of(b"readers"),
    }
}

fn what_is_sealed_twice_is_no_value(_: &Sandbox) {
    let two = Two::new();
    let good = seal(b"the value", &envelope(), &[&two.public], two.author.clone(), Profile::Compat, now()).unwrap();
    assert_eq!(two.open(&good).unwrap(), b"the value");
    // The good message inside another one, as packets; and one that is made in two layers.
    let mut wrapped = Vec::new();
    let mut writer = two.encrypted(Message::new(&mut wrapped));
    writer.write_all(&good).unwrap();
    writer.finalize().unwrap();
    let mut layered = Vec::new();
    let inner = two.encrypted(two.encrypted(Message::new(&mut layered)));
    let mut literal = LiteralWriter::new(inner).build().unwrap();
    literal.write_all(b"the value").unwrap();
    literal.finalize().unwrap();
    for bytes in [wrapped, layered] {
        assert!(Sealed::parse(&bytes).is_ok(), "from outside it looks like any other");
        let why = two.open(&bytes).unwrap_err();
        assert!(matches!(why, SealError::Structure | SealError::Decrypt(_)), "{why}");
    }
}

fn what_was_not_signed_is_no_value(_: &Sandbox) {
    let two = Two::new();
    let mut unsigned = Vec::new();
    let mut literal = LiteralWriter::new(two.encrypted(Message::new(&mut unsigned))).build().unwrap();
    literal.write_all(b"the value").unwrap();
    literal.finalize().unwrap();
    assert_eq!(two.open(&unsigned).unwrap_err(), SealError::Structure);
    // By the author, for nothing in particular: what she signed elsewhere is not put here.
    let mut elsewhere = Vec::new();
    let signer = Signer::new(two.encrypted(Message::new(&mut elsewhere)), two.author.clone()).unwrap().build().unwrap();
    let mut literal = LiteralWriter::new(signer).build().unwrap();
    literal.write_all(b"a letter of hers").unwrap();
    literal.finalize().unwrap();
    assert!(matches!(two.open(&elsewhere), Err(SealError::Envelope { .. })));
}

/// A gigabyte of zeros in a megabyte of file.
fn a_bomb_of_compressed_zeros_is_refused(_: &Sandbox) {
    let script = "import sys,zlib\nn=1<<30\nc=zlib.compressobj(9)\nw=sys.stdout.buffer.write\n\
        w(c.compress(b'\\xcb\\xff'+(n+6).to_bytes(4,'big')+b'b\\0'+bytes(4)))\n\
        for i in range(1024): w(c.compress(bytes(1<<20)))\nw(c.flush())";
    let zeros = Ran::of(Tool::Python3.command().args(["-c", script]));
    zeros.ok();
    let zeros = zeros.output.stdout;
    assert!((900_000..2_000_000).contains(&zeros.len()), "{}", zeros.len());
    let two = Two::new();
    for algorithm in [2_u8, 1] {
        let mut bomb = Vec::new();
        let mut writer = ArbitraryWriter::new(two.encrypted(Message::new(&mut bomb)), Tag::CompressedData).unwrap();
        // ZLIB, and the same without its head as ZIP.
        let data = if algorithm == 2 { &zeros[..] } else { &zeros[2..] };
        writer.write_all(&[&[algorithm], data].concat()).unwrap();
        writer.finalize().unwrap();
        let why = two.open(&bomb).unwrap_err();
        assert!(!matches!(why, SealError::NotForUs), "{why}");
        assert!(open_raw(&bomb, &mut two.own()).is_err());
    }
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB").to_owned();
    assert!(peak.trim().parse::<u64>().unwrap() < 1 << 20, "nothing of that size was in memory: {peak} kB");
}

fn a_thousand_recipients_are_borne_and_too_many_refused(_: &Sandbox) {
    let two = Two::new();
    let others: Vec<PublicKey> =
        (0..999).map(|_| made(Key4::generate_ecc(false, Curve::Cv25519)).parts_into_public()).collect();
    let all: Vec<&PublicKey> = others.iter().chain([&two.public]).collect();
    let file = seal(b"the value", &envelope(), &all, two.author.clone(), Profile::Compat, now()).unwrap();
    assert_eq!(Sealed::parse(&file).unwrap().recipients.len(), 1_000);
    assert_eq!(two.open(&file).unwrap(), b"the value");
    // As many of one kind as are not allowed, in front of a good body.
    let sealed = Sealed::parse(&file).unwrap();
    let mut many = sealed.recipients[0].1.repeat(PKESK_MAX);
    many.extend_from_slice(sealed.recipients[1].1);
    many.extend_from_slice(sealed.body);
    assert!(two.open(&many).unwrap_err().to_string().contains("larger than a sealed file may be"));
}

fn nothing_and_too_much_are_no_sealed_files(_: &Sandbox) {
    let two = Two::new();
    assert!(two.open(b"").unwrap_err().to_string().contains("has no encrypted body"));
    let why = two.open(&vec![0xd2; SEALED_BYTES_MAX + 1]).unwrap_err().to_string();
    assert!(why.contains("larger than a sealed file may be"), "{why}");
    // Lengths that promise more than there is.
    for bytes in
        [&[0xd2, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..], &[0xc1, 0xff, 0x7f, 0xff, 0xff, 0xff, 3], &[0xd2, 0xfe, 1]]
    {
        assert!(two.open(bytes).unwrap_err().to_string().contains("cut short"));
    }
}

fn the_wrong_key_opens_nothing_and_says_whose_it_is_not(sandbox: &Sandbox) {
    let fleet = TestFleet::of_one(sandbox);
    fleet.join("fra1", "");
    fleet.join("ams1", "");
    fleet.seal("fra1/token", "for fra1");
    let opened = fleet.keys("ams1", &["open", "fra1/token"]);
    opened.refuses(3, "fra1/token");
    assert_eq!(opened.stdout(), "");
    // A recipient's name with another key behind it.
    let two = Two::new();
    let made =
        generate(Kind::Pop, "x", &"cdn.example".parse().unwrap(), Profile::Compat, Span::days(9), now()).unwrap();
    let stranger = made.cert.keys().subkeys().secret().find(|k| k.key().pk_algo().for_encryption()).unwrap();
    let pair = stranger.key().clone().into_keypair().unwrap();
    let file = seal(b"the value", &envelope(), &[&two.public], two.author.clone(), Profile::Compat, now()).unwrap();
    let mut own: Vec<(Fingerprint, Box<dyn Decryptor>)> = vec![(two.public.fingerprint(), Box::new(pair))];
    let why = open(&file, &envelope(), &mut own, two.author.public()).unwrap_err();
    assert!(matches!(why, SealError::Decrypt(_)), "{why}");
}
