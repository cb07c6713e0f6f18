//! Every field of everything that is signed, changed in turn: each statement of a rich log, each signature line, requests,
//! certificates packet by packet, a backup's manifest, a share. None of it counts any more, and nothing panics.

use std::collections::BTreeSet;

use keys::backup::{ContentKey, Contents, Manifest, Share, split};
use keys::digest::Digest;
use keys::fleet::{Draft, Placed};
use keys::json;
use keys::log::note::{Note, SignatureLine};
use keys::name::Kind;
use keys::ops::{self, Joining};
use keys::state::{Replay, ReplayError, Verdict};
use keys::statement::{
    Act, Approval, BackupMade, Entry, Facts, Objection, Outcome, Reseal, RestoreDrill, RetireReason, RevokeIssued,
    Stop, StopReason, Uninvite, principal_member,
};
use keys::store::{Store, Target, append};
use keys::time::Span;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sequoia_openpgp::PacketPile;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::SerializeInto as _;
use serde_json::{Value, json};

use super::damage::{Case, Grace, all_hold, read};
use crate::support::stage::{Stage, member};
use crate::support::{Sandbox, tests};

tests!["faults::fields":
    every_field_of_every_statement_is_signed,
    every_bit_of_a_signature_line_counts_or_means_nothing,
    every_field_of_a_request_is_signed,
    every_packet_of_every_certificate_is_there_once,
    every_field_of_a_manifest_is_signed,
    every_byte_of_a_share_is_known,
];

/// Every value that differs from `value` in one place: a leaf changed, a field or an element more, less or twice, at any
/// depth. Each with its place.
fn changes(value: &Value) -> Vec<(String, Value)> {
    let mut found = vec![(String::new(), Value::Null)];
    match value {
        Value::Null => {}
        Value::Bool(b) => found.push((String::new(), json!(!b))),
        Value::Number(n) => {
            let n = n.as_u64().unwrap();
            found.extend([n + 1, n.saturating_sub(1), 0, (1 << 53) - 1].map(|n| (String::new(), json!(n))));
        }
        Value::String(text) => {
            let last = if text.ends_with('1') { '2' } else { '1' };
            let first = if text.starts_with('a') { 'b' } else { 'a' };
            let inner = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
            let changed = [
                format!("{}{last}", inner(0, text.len().saturating_sub(1))),
                format!("{first}{}", inner(1.min(text.len()), text.len())),
                format!("{text}{last}"),
                String::new(),
            ];
            found.extend(changed.map(|text| (String::new(), json!(text))));
        }
        Value::Array(list) => {
            let mut shorter = list.clone();
            found.extend(shorter.pop().map(|last| (String::new(), json!([list.clone(), vec![last]].concat()))));
            found.push((String::new(), json!(shorter)));
            found.push((String::new(), json!(list.iter().rev().collect::<Vec<_>>())));
            for (i, inner) in list.iter().enumerate() {
                found.extend(changes(inner).into_iter().map(|(place, changed)| {
                    let mut list = list.clone();
                    list[i] = changed;
                    (format!("[{i}]{place}"), json!(list))
                }));
            }
        }
        Value::Object(map) => {
            for key in map.keys() {
                let mut fewer = map.clone();
                fewer.remove(key);
                found.push((format!(".{key}, without"), json!(fewer)));
                found.extend(changes(&map[key]).into_iter().map(|(place, changed)| {
                    let mut map = map.clone();
                    map.insert(key.clone(), changed);
                    (format!(".{key}{place}"), json!(map))
                }));
            }
            for extra in ["x-more", "zzz"] {
                let mut more = map.clone();
                more.insert(extra.to_owned(), json!(1));
                found.push((format!(".{extra}, added"), json!(more)));
            }
        }
    }
    found.retain(|(_, changed)| changed != value);
    found
}

/// The signed line of a note, as JSON, and what follows it.
fn signed_line(bytes: &[u8]) -> (Value, String) {
    let text = std::str::from_utf8(bytes).unwrap();
    let (line, rest) = text.split_once('\n').unwrap();
    (serde_json::from_str(line).unwrap(), rest.to_owned())
}

/// A rich log, and after it a statement of each of the rarer acts, signed by everybody who is asked.
fn with_rarer_acts(sandbox: &Sandbox) -> Stage {
    let mut stage = crate::snapshots::rich(sandbox);
    let state = stage.open().logged_state().clone();
    let (address, live) = state.live_secrets().next().unwrap();
    let secret = &state.secrets[address];
    let something = Digest::of(b"something");
    let reseal = Reseal {
        address: address.clone(),
        body: live.body,
        file: live.file,
        generation: secret.generation + 1,
        prev: secret.prev,
        recipients: live.recipients,
    };
    let backup = BackupMade {
        backup: something,
        custodians: ["alice", "bob"].map(str::to_owned).into(),
        member: member("alice"),
        need: 2,
    };
    let drill = RestoreDrill {
        backup: Some(something),
        canary: Some(1),
        outcome: Outcome::Good,
        root: something,
        seconds: 7,
        size: state.size,
        state: state.digest(),
    };
    let snapshot = crate::beginnings::true_snapshot(&stage, &state);
    let acts = [
        Act::Object(vec![Objection { statement: something }]),
        Act::Reseal(vec![reseal]),
        Act::SshRevoke(vec![RevokeIssued { serials: state.issued.keys().copied().take(1).collect() }]),
        Act::Backup(vec![backup]),
        Act::Drill(vec![drill]),
        Act::Snapshot(snapshot),
        Act::Emergency(vec![Stop { member: member("fra1"), why: StopReason::Lost }]),
    ];
    let (at, end) = (stage.now, stage.now.plus(Span::hours(2)));
    let terms = ops::Terms { approval: Approval::Auto, not_before: at, not_after: end };
    let wanted = vec![(member("new1"), ops::Inviting::default())];
    let (invitations, tokens) = ops::plan_invite(&wanted, &terms, &stage.open(), &mut stage.rng).unwrap();
    let invite = ops::invite_draft(&invitations, "");
    let object = &invite.objects[0];
    stage.keyring.disk().create(&keys::store::object_path(&Digest::of(object)), object).unwrap();
    let uninvite = Uninvite { member: member("new1"), token: tokens[0].1.key() };
    let acts = acts.into_iter().chain([invite.act, Act::Uninvite(vec![uninvite])]);
    for act in acts {
        stage.later(Span(1));
        let fleet = stage.prepared("alice");
        let sequencer = ops::sequencer(&stage.homes[&member("alice")], &fleet).unwrap().unwrap();
        let replay = stage.replay();
        let statement = stage.statement(&replay, "alice", act);
        let lines = ["alice", "bob", "casc1"].map(|who| stage.line(&replay, who, &statement)).to_vec();
        let entry = vec![Stage::entry(&statement, lines)];
        append(&stage.keyring, fleet.head(), fleet.log(), entry, &sequencer, Target::Published).unwrap();
        fleet.done();
    }
    stage.carry(|fleet, _| {
        let rekey = ops::plan_rekey(None, RetireReason::Retired, fleet.state()).unwrap();
        vec![Draft::bare(Act::Rekey(rekey), "another key")]
    });
    stage
}

/// What each entry of a rich log finds before it.
fn before_each(stage: &Stage) -> Vec<(Replay<Store>, Vec<u8>)> {
    let entries = stage.entries();
    let mut replay = Replay::new("cdn.example/keys/1".into(), stage.keyring.clone());
    let mut all = Vec::new();
    for entry in entries {
        let mut then = Replay::new("cdn.example/keys/1".into(), stage.keyring.clone());
        then.rewind(replay.state().cloned());
        replay.apply(&entry).unwrap();
        all.push((then, entry));
    }
    // Two of them are void on purpose.
    all.retain(|(_, entry)| Entry::parse(entry).is_ok());
    all
}

/// Whether a changed entry has any effect.
fn has_effect(judged: &Result<Verdict, ReplayError>) -> bool {
    match judged {
        Ok(verdict) => verdict.applied > 0 || verdict.void.is_empty(),
        // Nothing can be said: it names an object that is not there, or founds no fleet.
        Err(_) => false,
    }
}

fn every_field_of_every_statement_is_signed(sandbox: &Sandbox) {
    let stage = with_rarer_acts(sandbox);
    let (mut acts, mut cases) = (BTreeSet::new(), 0);
    for (mut replay, entry) in before_each(&stage) {
        assert!(has_effect(&replay.preview(&entry)), "{}", String::from_utf8_lossy(&entry));
        let (statement, signatures) = signed_line(&entry);
        for (place, changed) in changes(&statement) {
            let bytes = format!("{}\n{signatures}", json::to_canonical(&changed));
            let judged = replay.preview(bytes.as_bytes());
            assert!(!has_effect(&judged), "{}{place}: {judged:?}\n{bytes}", statement["act"]);
            cases += 1;
        }
        acts.insert(statement["act"].as_str().unwrap().to_owned());
    }
    eprintln!("faults::fields: {cases} changed statements of {} acts", acts.len());
    assert!(acts.len() >= 21 && cases > 2_000, "{cases} of {acts:?}");
}

/// The bytes of a signature packet that its signature does not cover: the unhashed subpackets and the two bytes of the
/// digest that a verifier may look at first (RFC 4880, section 5.2.3).
fn uncovered(packet: &[u8]) -> std::ops::Range<usize> {
    let pile = PacketPile::from_bytes(packet).unwrap();
    let sequoia_openpgp::Packet::Signature(signature) = pile.path_ref(&[0]).unwrap() else { panic!("no signature") };
    let body = packet.len() - sequoia_openpgp::serialize::MarshalInto::serialized_len(signature);
    let length = |at: usize| usize::from(packet[at]) << 8 | usize::from(packet[at + 1]);
    let hashed = length(body + 4);
    let unhashed = body + 6 + hashed;
    unhashed + 2..unhashed + 2 + length(unhashed) + 2
}

fn every_bit_of_a_signature_line_counts_or_means_nothing(sandbox: &Sandbox) {
    let stage = crate::snapshots::rich(sandbox);
    let (mut seen, mut cases, mut harmless) = (BTreeSet::new(), 0, 0);
    for (mut replay, entry) in before_each(&stage) {
        let parsed = Entry::parse(&entry).unwrap();
        let act = signed_line(&entry).0["act"].to_string();
        // The genesis is judged by its founders' own certificates, and each act once is enough.
        if replay.state().is_none() || !seen.insert(act) {
            continue;
        }
        let whole = replay.preview(&entry).unwrap();
        for (i, line) in parsed.signatures.iter().enumerate() {
            let range = uncovered(&line.signature);
            let signer = principal_member(&"cdn.example".parse().unwrap(), &line.name).unwrap();
            assert!(whole.signers.contains(&signer), "{}", line.name);
            // Whether the member still counts with another line in the place of hers.
            let mut counts = |line: SignatureLine| {
                let text = String::from_utf8(parsed.signed.body.clone()).unwrap();
                let mut signatures = parsed.signatures.clone();
                signatures[i] = line;
                replay.preview(&Note { text, signatures }.to_bytes()).unwrap().signers.contains(&signer)
            };
            for at in 0..line.signature.len() {
                let mut changed = line.clone();
                changed.signature[at] ^= 1 << (at % 8);
                let counted = counts(changed);
                assert!(!counted || range.contains(&at), "byte {at} of {}", line.name);
                cases += 1;
                harmless += usize::from(counted);
            }
            assert!(!counts(SignatureLine { key_hash: [0; 4], ..line.clone() }));
            assert!(!counts(SignatureLine { name: "cdn.example/nobody".to_owned(), ..line.clone() }));
        }
    }
    eprintln!("faults::fields: {cases} changed signatures, {harmless} of them outside what is signed");
    assert!(seen.len() >= 10 && cases > 1_000, "{cases}");
}

fn every_field_of_a_request_is_signed(sandbox: &Sandbox) {
    let mut stage = Stage::found(sandbox, &["alice"]);
    let disk = keys::disk::RealFiles::create(&sandbox.path("home-fra1"), keys::disk::Access::Private).unwrap();
    let home = keys::home::Home::on(keys::disk::Disk::new(disk));
    let facts =
        Facts { endpoint: Some("198.51.100.7".parse::<keys::wireguard::Host>().unwrap().into()), ..Facts::default() };
    let services = ["nginx".parse().unwrap()].into();
    let joining = Joining { member: member("fra1"), kind: Kind::Pop, services, facts, user_id: None };
    let request = ops::ask(&joining, &home, &mut stage.open(), &mut stage.rng).unwrap();
    let alice = stage.homes[&member("alice")].clone();
    let (line, signatures) = signed_line(&request);
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::from_seed([7; 32]);
    let mut fleet = stage.prepared("alice");
    let size = fleet.state().size;
    let changed = changes(&line);
    let mut cases = 0;
    for (place, changed) in changed {
        let bytes = format!("{}\n{signatures}", json::to_canonical(&changed));
        let granted = ops::grant(bytes.as_bytes(), "admitted", &alice, &mut fleet, None, &mut rng);
        assert!(granted.is_err() && fleet.state().size == size, "{place}: {granted:?}");
        cases += 1;
    }
    for at in (0..signatures.len()).filter(|at| signatures.is_char_boundary(*at)).step_by(3) {
        let cut = format!("{}\n{}", json::to_canonical(&line), &signatures[..at]);
        assert!(ops::grant(cut.as_bytes(), "admitted", &alice, &mut fleet, None, &mut rng).is_err(), "cut at {at}");
    }
    assert!(cases > 200, "{cases}");
    let placed = ops::grant(&request, "admitted", &alice, &mut fleet, None, &mut rng).unwrap();
    assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
    eprintln!("faults::fields: {cases} changed requests");
}

fn every_packet_of_every_certificate_is_there_once(sandbox: &Sandbox) {
    let stage = crate::snapshots::rich(sandbox);
    let files = read(&sandbox.path("keyring"));
    drop(stage);
    let mut cases = Vec::new();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("certs/")) {
        let packets: Vec<Vec<u8>> =
            PacketPile::from_bytes(bytes).unwrap().into_children().map(|p| p.to_vec().unwrap()).collect();
        assert!(packets.len() > 5, "{path}");
        for at in 0..packets.len() {
            let with = |list: &[&[Vec<u8>]]| Some(list.concat().concat());
            let before = &packets[..at];
            let one = &packets[at..=at];
            let after = &packets[at + 1..];
            for (how, content) in [("less", with(&[before, after])), ("twice", with(&[before, one, one, after]))] {
                let how = format!("packet {at} {how}");
                cases.push(Case { path: path.clone(), how, content, grace: Grace::None });
            }
        }
    }
    let parsed =
        cases.iter().filter(|c| keys::openpgp::Certificate::parse(c.content.as_ref().unwrap()).is_ok()).count();
    eprintln!("faults::fields: {} changed certificates, of which {parsed} can be read", cases.len());
    all_hold(&files, &cases, 60);
}

fn every_field_of_a_manifest_is_signed(sandbox: &Sandbox) {
    crate::backup::backed_up(sandbox);
    let open = || {
        let disk = keys::disk::RealFiles::open(&sandbox.path("fleet/keyring"), keys::disk::Access::Public).unwrap();
        let store = Store::new(keys::disk::Disk::new(disk));
        keys::fleet::Fleet::open(store, &keys::fleet::Known::default(), super::damage::now(), &mut |_, _| {}).unwrap()
    };
    let mut fleet = open();
    let whole = std::fs::read(sandbox.path("fleet.backup")).unwrap();
    let contents = Contents::read(whole.as_slice()).unwrap();
    ops::verify_backup(&contents, &mut fleet).unwrap();
    let (line, _) = signed_line(&contents.signed);
    let (mut cases, mut read) = (0, 0);
    for (place, changed) in changes(&line) {
        let signed = format!("{}\n", json::to_canonical(&changed)).into_bytes();
        cases += 1;
        let Ok(manifest) = Manifest::parse(&signed) else { continue };
        read += 1;
        let forged = Contents { manifest, signed, ..contents.clone() };
        let refused = ops::verify_backup(&forged, &mut fleet).map_err(|e| e.to_string());
        assert!(refused.is_err_and(|e| e.contains("it cannot be trusted")), "{place}");
    }
    let range = uncovered(&contents.signature);
    for at in (0..contents.signature.len()).filter(|at| !range.contains(at)) {
        let mut forged = contents.clone();
        forged.signature[at] ^= 1 << (at % 8);
        assert!(ops::verify_backup(&forged, &mut fleet).is_err(), "byte {at} of the signature");
    }
    eprintln!("faults::fields: {cases} changed manifests, of which {read} can be read");
    assert!(cases > 150 && read > 50, "{cases} {read}");
}

fn every_byte_of_a_share_is_known(sandbox: &Sandbox) {
    crate::backup::backed_up(sandbox);
    let whole = std::fs::read(sandbox.path("fleet.backup")).unwrap();
    let mut manifest = Contents::read(whole.as_slice()).unwrap().manifest;
    let mut rng = StdRng::from_seed([3; 32]);
    let names: Vec<String> = manifest.custodians.iter().map(|c| c.name.clone()).collect();
    let key = ContentKey::generate(&mut rng);
    let shares = split(&key, &names, manifest.need, (manifest.backup, &manifest.fleet), &mut rng).unwrap();
    for (custody, share) in manifest.custodians.iter_mut().zip(&shares) {
        custody.share = share.digest();
    }
    for share in &shares {
        let text = share.to_text();
        assert!(ops::check_share(&text, &manifest).is_ok());
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.to_vec();
                changed[at] ^= 1 << bit;
                assert!(ops::check_share(&changed, &manifest).is_err(), "byte {at}, bit {bit}");
            }
            assert!(ops::check_share(&text[..at], &manifest).is_err(), "{at} bytes");
        }
        let moved = Share::parse(&text).unwrap();
        assert_eq!(Digest::of(&moved.to_text()), share.digest());
    }
}
