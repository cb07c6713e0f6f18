//! `keys audit`: the report for auditors as text, JSON and a page; the bundle for those without `keys`; the sample.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::audit_text::lines;
use super::context::{Context, shown};
use super::describe;
use super::exit::{CliError, Exit};
use super::founding::write_file;
use super::record_args::{Audit, AuditPeriod, AuditVerb};
use crate::audit::{Bundle, Collector, Head, PublishedFacts, Report, page, sample};
use crate::digest::Digest;
use crate::disk::{Access, Disk, RealFiles};
use crate::fleet::{Fleet, FleetError};
use crate::name::{MemberName, Slot};
use crate::state::{Objects as _, Prepared, State, Verdict, Watch};
use crate::statement::Entry;
use crate::store::{LogReader, Store, prove_all};
use crate::time::Time;

/// `keys audit`.
pub(super) fn audit(context: &Context, args: &Audit) -> Result<Exit, CliError> {
    match &args.verb {
        None => report(context, args),
        Some(AuditVerb::Bundle { out, period }) => bundle(context, out, *period),
        Some(AuditVerb::Sample { count, seed, period }) => choose(context, *count, seed.as_deref(), *period),
    }
}

fn report(context: &Context, args: &Audit) -> Result<Exit, CliError> {
    let audited = Audited::new(context, args.period, OpenEnd::Now)?;
    let report = &audited.report;
    let exit = if args.check && report.exceptions().next().is_some() { Exit::Pending } else { Exit::Ok };
    if let Some(path) = &args.html {
        write_file(path, page(report).as_bytes())?;
        context.say(&format!("written to {}", shown(path)));
    }
    if context.json {
        return context.answer(serde_json::to_value(report).map_err(CliError::failed)?, exit);
    }
    lines(report, context).iter().try_for_each(|line| context.out.line(line))?;
    Ok(exit)
}

/// What the end of the period is if none is given.
enum OpenEnd {
    Now,
    /// The log's newest time: so that the same log gives the same bytes.
    Newest,
}

/// A log that was replayed, and the report on it.
struct Audited {
    report: Report,
    fleet: Fleet,
    /// By entry: whose signatures counted.
    signers: Vec<BTreeSet<MemberName>>,
}

/// The collector, and beside it who signed what.
struct Looker {
    collector: Collector<Store>,
    signers: Vec<BTreeSet<MemberName>>,
}

impl Watch for Looker {
    fn before(&mut self, state: Option<&State>, entry: &Prepared) {
        self.collector.before(state, entry);
    }

    fn after(&mut self, verdict: &Verdict, state: &State) {
        self.collector.after(verdict, state);
        self.signers.push(verdict.signers.clone());
    }
}

impl Audited {
    /// Replays the log, and reports on a period of it.
    fn new(context: &Context, period: AuditPeriod, end: OpenEnd) -> Result<Self, CliError> {
        if let (Some(from), Some(to)) = (period.from, period.to)
            && from > to
        {
            return Err(CliError::usage(format!("--from {from} is after --to {to}")));
        }
        let objects = Store::new(context.keyring(false)?);
        let mut looker = Looker { collector: Collector::new(objects, period.from, period.to), signers: Vec::new() };
        let fleet = context.open_watched(&mut looker)?;
        let head = fleet.head().ok_or_else(|| CliError::failed("the log has no head"))?;
        let head = Head {
            size: head.checkpoint.size,
            root: head.checkpoint.root,
            signed_by: head.note.signatures.iter().map(|line| line.name.clone()).collect(),
            published: published(&fleet),
            now: match end {
                OpenEnd::Now => fleet.now(),
                OpenEnd::Newest => fleet.state().time,
            },
        };
        let report = looker.collector.finish(&head, fleet.state());
        let early = || CliError::new(Exit::NotFound, "the period ends before the fleet was founded");
        Ok(Self { report: report.ok_or_else(early)?, fleet, signers: looker.signers })
    }

    /// The first entry of the period.
    fn first(&self) -> u64 {
        let log = &self.report.log;
        log.until.saturating_sub(u64::try_from(log.entries).unwrap_or(u64::MAX))
    }

    /// All entries, as they lie in the log.
    fn entries(&self) -> Result<Vec<Vec<u8>>, CliError> {
        let mut reader = LogReader::new(self.fleet.store(), self.report.log.size);
        let mut all = Vec::new();
        while let Some((_, entries)) = reader.next_bundle().map_err(FleetError::from)? {
            all.extend(entries);
        }
        Ok(all)
    }
}

/// What is published, if the policy names cosigners.
fn published(fleet: &Fleet) -> Option<PublishedFacts> {
    let wanted = fleet.state().policy.policy.fleet.publication.as_ref();
    let published = fleet.published();
    // The policy that holds for the published head may be an older one.
    let then = published.and_then(|p| p.publication.as_ref()).or(wanted)?;
    let cosigned = published.and_then(|p| p.cosigned.clone()).unwrap_or_default();
    let by: BTreeMap<String, Time> = cosigned.by.iter().map(|(name, (_, at))| (name.clone(), *at)).collect();
    let names = then.cosigners.iter().map(|c| c.key.name().to_owned());
    Some(PublishedFacts {
        size: published.map_or(0, |p| p.checkpoint.size),
        waiting: fleet.waiting(),
        absent: names.filter(|name| !by.contains_key(name)).collect(),
        by,
        cosigned: cosigned.time,
        missing: if published.is_some() { cosigned.missing_in_words() } else { "nothing is published".to_owned() },
        max_age: then.max_age.0,
    })
}

// --- The bundle ---------------------------------------------------------------------------------------------------------

fn bundle(context: &Context, out: &Path, period: AuditPeriod) -> Result<Exit, CliError> {
    let is_archive = out.extension().is_some_and(|e| e == "tar");
    if !is_archive && out.read_dir().is_ok_and(|mut d| d.next().is_some()) {
        return Err(CliError::failed(format!("{} is not empty", shown(out)))
            .hint("--out wants a new or empty directory, or a file whose name ends with .tar"));
    }
    let audited = Audited::new(context, period, OpenEnd::Newest)?;
    let (fleet, report) = (&audited.fleet, &audited.report);
    let state = fleet.state();
    let head = fleet.head().ok_or_else(|| CliError::failed("the log has no head"))?;
    let object = |digest: &Digest| fleet.store().object(digest).map_err(FleetError::from);
    let owner = |key: &str| {
        let has = |m: &crate::state::Member| m.slot(Slot::Sign).is_some_and(|s| s.find(key).is_some());
        state.members.iter().find(|(_, m)| has(m)).map(|(name, _)| name.to_string())
    };
    let mut signing = BTreeMap::new();
    for (key, digest) in &state.signing {
        if let Some(member) = owner(key) {
            signing.insert(key.clone(), (member, object(digest)?));
        }
    }
    let mut certificates = BTreeMap::new();
    for (name, member) in &state.members {
        certificates.insert(name.to_string(), object(&member.cert)?);
    }
    let mut policies = BTreeMap::new();
    for (version, files) in &report.policy_files {
        for (name, digest) in files {
            policies.insert(format!("{version}/{name}"), object(digest)?);
        }
    }
    let entries = audited.entries()?;
    let first = audited.first();
    let proofs = prove_all(fleet.store(), (&head.note, &head.checkpoint), &entries, first..report.log.until);
    let proofs = proofs.map_err(FleetError::from)?.into_iter().map(|p| (p.index, p.to_bytes())).collect();
    let bundle = Bundle {
        report,
        proofs,
        checkpoint: head.note.to_bytes(),
        vkeys: state.authority_keys(Slot::Log).iter().map(|(_, k)| k.key.clone()).collect(),
        entries: entries.into_iter().zip(audited.signers.clone()).collect(),
        signing,
        certificates,
        policies,
    };
    let files = bundle.files();
    if is_archive {
        write_file(out, &bundle.archive())?;
    } else {
        let disk = RealFiles::create(out, Access::Public).map_err(|source| crate::disk::DiskError {
            doing: "create",
            path: shown(out),
            source,
        })?;
        let disk = Disk::new(disk);
        for (path, bytes) in &files {
            disk.replace(path, bytes)?;
        }
    }
    if context.json {
        let value = json!({ "out": shown(out), "files": files.len(), "entries": report.log.size, "exceptions": report.exceptions().count() });
        return context.answer(value, Exit::Ok);
    }
    context.out.line(&format!("{} files with {} entries written to {}", files.len(), report.log.size, shown(out)))?;
    context.say("its VERIFY.md says how to check it without keys");
    Ok(Exit::Ok)
}

// --- The sample ---------------------------------------------------------------------------------------------------------

fn choose(context: &Context, count: usize, seed: Option<&str>, period: AuditPeriod) -> Result<Exit, CliError> {
    let given = seed.map(|text| {
        Digest::parse(text).ok_or_else(|| CliError::usage("--seed expects 64 lower-case hexadecimal digits"))
    });
    let given = given.transpose()?;
    let audited = Audited::new(context, period, OpenEnd::Now)?;
    let log = &audited.report.log;
    let seed = given.unwrap_or(log.root);
    let first = audited.first();
    let chosen = sample(&seed, first..log.until, count);
    let all = audited.entries()?;
    let row = |index: u64| {
        let bytes = usize::try_from(index).ok().and_then(|i| all.get(i));
        bytes.and_then(|bytes| Entry::parse(bytes).ok()).map(|entry| entry.signed)
    };
    if context.json {
        let rows: Vec<Value> = chosen
            .iter()
            .map(|index| {
                let signed = row(*index);
                json!({ "entry": index, "id": signed.as_ref().map(|s| s.id.to_string()), "statement": signed.as_ref().map(describe::statement_json) })
            })
            .collect();
        let value = json!({ "seed": seed.to_string(), "first": first, "entries": log.entries, "sample": rows });
        return context.answer(value, Exit::Ok);
    }
    context.out.line(&format!("seed     {seed}"))?;
    context.out.line(&format!("of       {} entries from number {first} on, {} chosen", log.entries, chosen.len()))?;
    context.out.line("")?;
    for index in &chosen {
        let text = match row(*index) {
            Some(signed) => format!("{}  {}", signed.id.short(), describe::headline(&signed.statement)),
            None => "unreadable".to_owned(),
        };
        context.out.line(&format!("{index:>6}  {}", crate::text::escape(&text)))?;
    }
    context.say("one in full: keys log show N; its proof: keys log prove N; for gpg: keys log show N --raw DIR");
    Ok(Exit::Ok)
}
