//! Proofs for strangers: that the log has an entry, to be checked offline by whoever has the log's verifier key.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;

use super::context::{Context, shown};
use super::describe;
use super::exit::{CliError, Exit};
use super::founding::{read_file, write_file};
use crate::digest::Digest;
use crate::limits::{ENTRY_BYTES_MAX, PROOF_BYTES_MAX};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::{Note, VerifierKey};
use crate::log::proof::Proof;
use crate::name::{MemberName, Slot};
use crate::state::State;
use crate::statement::Entry;
use crate::store::{LogReader, Store, prove, read_checkpoint};

/// Digits of an entry's id that are enough to name it.
const ID_DIGITS_MIN: usize = 8;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The entry of a member is the one that last changed its certificate or published keys of it; with --slot, the
one that last changed which key is active there.

Nothing is replayed for an index or an id if this home has accepted the very checkpoint that is published, or if
a key given with --vkey signed it. Otherwise, and for a member, the whole log is replayed first. Either way the
proof is checked before it is handed out. It says that whoever has the log's key put the entry at this place, not
that the entry took effect: that only the replay of all entries shows ('keys log verify').

Examples:
  keys log prove 7 --out 7.tlog-proof --entry 7.entry
  keys log prove fra1 --out fra1.tlog-proof --entry fra1.entry
  keys log prove fra1 --slot wireguard
  keys log prove 5c1f09ab42d7"
)]
pub(super) struct Prove {
    /// An entry by its index or by the first digits of its id, or a member
    #[arg(value_name = "WHAT")]
    pub what: String,
    /// The entry that last changed the member's active key in this slot
    #[arg(long)]
    pub slot: Option<Slot>,
    /// Write the proof there instead of to stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the entry itself there: whoever checks the proof needs it
    #[arg(long, value_name = "FILE")]
    pub entry: Option<PathBuf>,
    /// A verifier key of the log (C2SP vkey): go by it, and replay nothing
    #[arg(long, value_name = "VKEY")]
    pub vkey: Vec<String>,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Reads nothing but the two files: neither fleet nor home is needed. The key has to come from somebody you believe
('keys log vkey' prints it). Shows that the log has exactly this entry; neither that its signatures are good nor that
it took effect.

Examples:
  keys log check-proof 7.tlog-proof --entry 7.entry --vkey cdn.example/keys/1+e95b7eb7+AUSl…"
)]
pub(super) struct CheckProof {
    /// The proof (C2SP tlog-proof)
    #[arg(value_name = "PROOF")]
    pub proof: PathBuf,
    /// The entry, as 'keys log prove --entry' wrote it
    #[arg(long, value_name = "FILE")]
    pub entry: PathBuf,
    /// A verifier key of the log (C2SP vkey); any of several will do
    #[arg(long, value_name = "VKEY", required = true)]
    pub vkey: Vec<String>,
}

/// Why the published checkpoint is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    Vkey,
    Seen,
    Replayed,
}

impl Basis {
    fn word(self) -> &'static str {
        match self {
            Self::Vkey => "vkey",
            Self::Seen => "seen",
            Self::Replayed => "replayed",
        }
    }
}

/// A checkpoint that is believed, and the state if it had to be replayed for that.
struct Believed {
    note: Note,
    checkpoint: Checkpoint,
    basis: Basis,
    state: Option<State>,
}

/// `keys log prove`.
pub(super) fn prove_entry(context: &Context, args: &Prove) -> Result<Exit, CliError> {
    let store = Store::new(context.keyring(false)?);
    let index: Option<u64> = args.what.parse().ok();
    let is_id = args.what.len() >= ID_DIGITS_MIN && args.what.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let about_member = args.slot.is_some() || (index.is_none() && !is_id);
    let mut believed = believe(context, &store, args, about_member)?;
    // An id may consist of decimal digits alone.
    let size = believed.checkpoint.size;
    let mut found = index.filter(|i| !about_member && (*i < size || !is_id));
    if found.is_none() && !about_member {
        found = find(&store, &believed.checkpoint, |id| id.to_string().starts_with(&args.what))?;
    }
    if found.is_none() {
        // A name may look like the beginning of an id.
        if believed.state.is_none() {
            believed = believe(context, &store, args, true)?;
        }
        let statement = of_member(believed.state.as_ref(), args)?;
        found = find(&store, &believed.checkpoint, |id| *id == statement)?;
    }
    let index = found.ok_or_else(|| CliError::new(Exit::NotFound, "the log has no such entry"))?;
    let (proof, entry) = prove(&store, &believed.note, &believed.checkpoint, index)?;
    hand_out(context, args, &believed, &proof, &entry)
}

/// The published checkpoint, if there is reason to believe it.
fn believe(context: &Context, store: &Store, args: &Prove, state: bool) -> Result<Believed, CliError> {
    let keys = vkeys(&args.vkey)?;
    let signed = |note: &Note, checkpoint: &Checkpoint| {
        keys.iter().any(|key| key.name() == checkpoint.origin && note.is_signed_by(key))
    };
    if !state {
        let (note, checkpoint) = read_checkpoint(store)?;
        if signed(&note, &checkpoint) {
            return Ok(Believed { note, checkpoint, basis: Basis::Vkey, state: None });
        }
        let home = context.maybe_home()?;
        let known = context.known(home.as_ref())?;
        let pinned = home.as_ref().map(|h| h.pin()).transpose()?.flatten().is_some_and(|p| p.log == checkpoint.origin);
        if keys.is_empty() && pinned && known.seen.as_deref() == Some(&note.to_bytes()) {
            return Ok(Believed { note, checkpoint, basis: Basis::Seen, state: None });
        }
    }
    let fleet = context.open()?;
    let head = fleet.head().ok_or_else(|| CliError::new(Exit::NotFound, "the log has no entries yet"))?;
    let (note, checkpoint) = (head.note.clone(), head.checkpoint.clone());
    if !keys.is_empty() && !signed(&note, &checkpoint) {
        return Err(CliError::new(Exit::No, "log/checkpoint is not signed by any of the keys given with --vkey"));
    }
    Ok(Believed { note, checkpoint, basis: Basis::Replayed, state: Some(fleet.state().clone()) })
}

/// The statement that made what the log says of a member now.
fn of_member(state: Option<&State>, args: &Prove) -> Result<Digest, CliError> {
    let name: Option<MemberName> = args.what.parse().ok();
    let member = name.as_ref().zip(state).and_then(|(name, state)| state.members.get(name));
    let unknown = || {
        CliError::new(Exit::NotFound, format!("there is no entry and no member {}", crate::text::shown(&args.what)))
            .hint("'keys log show' lists the entries, 'keys status' the members")
    };
    let member = member.ok_or_else(unknown)?;
    match args.slot {
        None => Ok(member.prev),
        Some(slot) => member.slot(slot).map(|keys| keys.prev).ok_or_else(|| {
            CliError::new(Exit::NotFound, format!("{} has no keys in the slot {slot}", crate::text::shown(&args.what)))
        }),
    }
}

/// The index of the first entry whose id fits.
fn find(store: &Store, checkpoint: &Checkpoint, fits: impl Fn(&Digest) -> bool) -> Result<Option<u64>, CliError> {
    let mut reader = LogReader::new(store, checkpoint.size);
    while let Some((first, entries)) = reader.next_bundle()? {
        let found = entries.iter().zip(first..).find(|(entry, _)| Entry::id_of(entry).is_some_and(|id| fits(&id)));
        if let Some((_, index)) = found {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn hand_out(
    context: &Context,
    args: &Prove,
    believed: &Believed,
    proof: &Proof,
    entry: &[u8],
) -> Result<Exit, CliError> {
    let bytes = proof.to_bytes();
    let id = Entry::id_of(entry).map(|id| id.to_string());
    if let Some(path) = &args.entry {
        write_file(path, entry)?;
    }
    if let Some(path) = &args.out {
        write_file(path, &bytes)?;
    }
    let size = believed.checkpoint.size;
    if context.json {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let value = json!({ "index": proof.index, "size": size, "log": believed.checkpoint.origin, "id": id, "basis": believed.basis.word(), "proof": text(&bytes), "entry": text(entry) });
        return context.answer(value, Exit::Ok);
    }
    let what = Entry::parse(entry).map(|e| describe::headline(&e.signed.statement));
    let what = what.unwrap_or_else(|e| format!("unreadable: {e}"));
    let why = match believed.basis {
        Basis::Vkey => "its checkpoint is signed by the given key",
        Basis::Seen => "its checkpoint was accepted here before",
        Basis::Replayed => "the whole log was replayed",
    };
    context.say(&format!("entry {} of {size}: {what} ({why})", proof.index));
    match &args.out {
        Some(path) => context.out.line(&shown(path))?,
        None => context.out.bytes(&bytes)?,
    }
    args.entry.iter().filter(|_| args.out.is_some()).try_for_each(|path| context.out.line(&shown(path)))?;
    Ok(Exit::Ok)
}

/// `keys log check-proof`.
pub(super) fn check_proof(context: &Context, args: &CheckProof) -> Result<Exit, CliError> {
    let keys = vkeys(&args.vkey)?;
    let proof = read_file(&args.proof, PROOF_BYTES_MAX)?;
    let entry = read_file(&args.entry, ENTRY_BYTES_MAX)?;
    let no = |e| CliError::new(Exit::No, format!("{}: {e}", shown(&args.proof)));
    let proof = Proof::parse(&proof).map_err(no)?;
    let checkpoint = proof.verify(&entry, &keys).map_err(no)?;
    let read = Entry::parse(&entry).map_err(|e| CliError::new(Exit::No, format!("{}: {e}", shown(&args.entry))))?;
    let Checkpoint { origin, size, .. } = &checkpoint;
    if context.json {
        let statement = describe::statement_json(&read.signed);
        let value = json!({ "in_log": true, "log": origin, "size": size, "index": proof.index, "id": read.signed.id.to_string(), "statement": statement });
        return context.answer(value, Exit::Ok);
    }
    context.out.line(&format!("in the log: entry {} of {size} in {}", proof.index, crate::text::escape(origin)))?;
    context.out.line(&format!("id: {}", read.signed.id))?;
    context.out.line(&describe::headline(&read.signed.statement))?;
    context.say("not checked here: the entry's own signatures, and whether it took effect");
    Ok(Exit::Ok)
}

fn vkeys(texts: &[String]) -> Result<Vec<VerifierKey>, CliError> {
    let read = |text: &String| {
        VerifierKey::parse(text.trim()).map_err(|e| CliError::usage(format!("--vkey {} {e}", crate::text::shown(text))))
    };
    texts.iter().map(read).collect()
}
