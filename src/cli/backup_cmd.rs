//! `keys backup`: make one, look at one, open a share.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Change;
use super::backup_args::{Backup, BackupMake, BackupVerb};
use super::context::{Context, Go, placed_exit, placed_text, shown};
use super::describe::names_json;
use super::exit::{CliError, Exit};
use super::founding::read_file;
use super::output::{Progress, Table};
use crate::backup::{Contents, Manifest};
use crate::digest::Digest;
use crate::disk::{NewFile, open_file};
use crate::fleet::{Fleet, Severity};
use crate::limits::CERT_BYTES_MAX;
use crate::name::MemberName;
use crate::openpgp::Certificate;
use crate::ops::{self, BackupPlan, Custodian, Sources};
use crate::store::Store;

/// `keys backup`.
pub(super) fn backup(context: &Context, args: &Backup) -> Result<Exit, CliError> {
    match &args.verb {
        None => make(context, &args.make),
        Some(BackupVerb::Show { file }) => show(context, file),
        Some(BackupVerb::OpenShare { file, custodian, to, yes }) => open_share(context, file, custodian, to, *yes),
    }
}

fn make(context: &Context, args: &BackupMake) -> Result<Exit, CliError> {
    let (Some(path), Some(need)) = (&args.out, args.need) else {
        return Err(CliError::usage("--out, --custodian and --need say where to, for whom and how many"));
    };
    let mut rng = context.rng()?;
    let home = context.home()?;
    let holds: BTreeSet<MemberName> = args.private_halves.iter().cloned().collect();
    let mut plan = |fleet: &mut Fleet| -> Result<BackupPlan, CliError> {
        ops::check_holds(&holds, &home, fleet)?;
        let custodians = args.custodians.iter().map(|who| custodian(who, fleet));
        Ok(ops::plan_backup(custodians.collect::<Result<_, _>>()?, need, holds.clone(), &mut rng)?)
    };
    let plan = match (&args.logged, holds.is_empty()) {
        (_, true) => plan(&mut context.open()?)?,
        (Some(id), false) => {
            let id = Digest::parse(id).ok_or_else(|| CliError::usage("--logged expects a backup's id: 64 digits"))?;
            let mut fleet = context.open()?;
            let mut plan = plan(&mut fleet)?;
            ops::adopt_id(&mut plan, id, &fleet)?;
            plan
        }
        (None, false) => match record(context, args, &mut plan)? {
            (plan, Exit::Ok) => plan,
            (_, exit) => return Ok(exit),
        },
    };
    // Nobody writes meanwhile: what is read is one state.
    let (keyring, policy) = (context.keyring(false)?, context.policy(false)?);
    let _home_lock = context.lock(home.disk())?;
    let _lock = context.lock(&keyring)?;
    let mut fleet = verified(context, &Store::new(keyring.clone()), &home)?;
    let mut out = NewFile::create(path)?;
    let home_source = Some((home.disk(), &plan.holds)).filter(|(_, holds)| !holds.is_empty());
    let sources = Sources { keyring: &keyring, policy: &policy, home: home_source };
    let signer = args.signer.as_ref();
    let manifest = ops::write_backup(&plan, &sources, &home, &mut fleet, signer, &mut out, &mut context.rng()?)?;
    out.commit()?;
    context.remember(Some(&home), &fleet);
    if context.json {
        return context.answer(json!({ "file": shown(path), "backup": manifest_json(&manifest) }), Exit::Ok);
    }
    context.out.line(&format!(
        "{}: backup {} of {} files, {} of {} custodians open it",
        shown(path),
        manifest.backup.short(),
        manifest.sums.files,
        manifest.need,
        manifest.custodians.len()
    ))?;
    let names = manifest.holds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    context.say(&match names.as_str() {
        "" => "no private half is in it; try it with 'keys drill restore'".to_owned(),
        names => {
            format!("the private halves of {names} are in it, and the log says so; try it with 'keys drill restore'")
        }
    });
    Ok(Exit::Ok)
}

/// Says what it means, asks, and has it logged. Only what the log knows is written.
fn record(
    context: &Context,
    args: &BackupMake,
    plan: &mut dyn FnMut(&mut Fleet) -> Result<BackupPlan, CliError>,
) -> Result<(BackupPlan, Exit), CliError> {
    let names = args.private_halves.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let need = args.need.unwrap_or_default();
    context.say(&format!(
        "The private halves of {names} would leave this home. Any {need} of the custodians could then act as {names}, and \
         read whatever {names} can read, until the keys are replaced. The log says that there is such a backup."
    ));
    let change = Change { yes: args.yes, ..Change::default() };
    if let Go::No(exit) = context.confirm(&change, "Make it?")? {
        // Nothing was logged, and nothing is written.
        return Err(CliError::new(exit, "no backup was made"));
    }
    let (plan, placed) = context.change(|fleet, home| {
        let plan = plan(fleet)?;
        let draft = ops::backup_draft(&plan, "private halves are backed up");
        let placed = context.place(fleet, home, draft.into_iter().collect(), &change)?;
        Ok((plan, placed))
    })?;
    placed.iter().for_each(|p| context.say(&placed_text(p)));
    let exit = placed_exit(&placed);
    if exit != Exit::Ok {
        context.say(&format!(
            "no backup was made: the log has to know of it first. Once it has taken that in, run this again with --logged {}",
            plan.id
        ));
    }
    Ok((plan, exit))
}

/// Opens the fleet and checks every file: what is damaged is not backed up.
fn verified(context: &Context, store: &Store, home: &crate::home::Home) -> Result<Fleet, CliError> {
    let known = context.known(Some(home))?;
    let mut progress = Progress::new("verifying", context.quiet);
    let (report, fleet) = Fleet::verify(store, &known, context.now(), &mut |done, of| progress.step(done, of))?;
    drop(progress);
    let damage = report.problems.iter().find(|p| p.severity == Severity::Damage);
    match (fleet, damage) {
        (Some(fleet), None) => Ok(fleet),
        (_, damage) => {
            let what = damage.map(|p| format!(": {}: {}", p.path, p.problem)).unwrap_or_default();
            Err(CliError::new(Exit::No, format!("the keyring is damaged, and no backup is made of it{what}"))
                .hint("'keys log verify' lists everything that is damaged"))
        }
    }
}

/// A custodian: an operator's name, or the file of a certificate.
fn custodian(who: &str, fleet: &mut Fleet) -> Result<Custodian, CliError> {
    if let Ok(name) = who.parse::<MemberName>() {
        return Ok(Custodian::member(&name, fleet)?);
    }
    let certificate = certificate(Path::new(who))?;
    Ok(Custodian::certificate(&certificate, fleet.now())?)
}

fn certificate(path: &Path) -> Result<Certificate, CliError> {
    let bytes = read_file(path, CERT_BYTES_MAX)?;
    Certificate::parse(&bytes).map_err(|e| CliError::failed(format!("{} {e}", shown(path))))
}

/// Reads a backup from beginning to end.
pub(super) fn contents(path: &Path) -> Result<Contents, CliError> {
    let file = open_file(path).map_err(|e| {
        let absent = e.source.kind() == std::io::ErrorKind::NotFound;
        if absent { CliError::new(Exit::NotFound, e) } else { e.into() }
    })?;
    Ok(Contents::read(BufReader::new(file)).map_err(ops::OpsError::from)?)
}

fn manifest_json(manifest: &Manifest) -> Value {
    let custodians: Vec<&str> = manifest.custodians.iter().map(|c| c.name.as_str()).collect();
    json!({
        "id": manifest.backup.to_string(), "fleet": manifest.fleet.to_string(), "fleet_id": manifest.id.to_string(),
        "made": manifest.made.to_string(), "by": manifest.by.to_string(), "need": manifest.need, "custodians": custodians,
        "files": manifest.sums.files, "bytes": manifest.sums.bytes, "checkpoint": manifest.checkpoint,
        "holds": names_json(&manifest.holds),
    })
}

fn show(context: &Context, path: &Path) -> Result<Exit, CliError> {
    let contents = contents(path)?;
    let manifest = &contents.manifest;
    // Whose signature it is, only a fleet can say.
    let signed = match context.open() {
        Ok(mut fleet) => {
            ops::verify_backup(&contents, &mut fleet)?;
            "signed by"
        }
        Err(e) if e.exit == Exit::NotFound => "not checked here: signed by",
        Err(e) => return Err(e),
    };
    if context.json {
        let checked = signed == "signed by";
        return context.answer(json!({ "backup": manifest_json(manifest), "signature_checked": checked }), Exit::Ok);
    }
    let size = manifest.checkpoint.lines().nth(1).unwrap_or_default();
    let out = context.out;
    out.line(&format!("backup   {}", manifest.backup))?;
    out.line(&format!("fleet    {}  {}", manifest.fleet, manifest.id))?;
    out.line(&format!("made     {}, {signed} {}", manifest.made, manifest.by))?;
    out.line(&format!("log      {} entries", crate::text::shown(size)))?;
    out.line(&format!("inside   {} files, {} bytes", manifest.sums.files, manifest.sums.bytes))?;
    out.line(&format!("opens    with the shares of {} of {}", manifest.need, manifest.custodians.len()))?;
    let mut table = Table::new(&["custodian", "keys"]);
    manifest.custodians.iter().for_each(|c| table.row([c.name.clone(), c.keys.join(" ")]));
    table.lines().iter().try_for_each(|l| out.line(l))?;
    Ok(Exit::Ok)
}

fn open_share(context: &Context, path: &Path, custodian: &MemberName, to: &Path, yes: bool) -> Result<Exit, CliError> {
    let (contents, to) = (contents(path)?, certificate(to)?);
    let home = context.home()?;
    let mut fleet = context.open()?;
    let manifest = &contents.manifest;
    context.say(&format!(
        "The share of {custodian} of the backup {} of {} goes to whoever has the key\n  {}\nCompare it, by voice, with \
         whoever restores. With {} shares the backup is open to them.",
        manifest.backup.short(),
        manifest.made,
        to.fingerprint().to_spaced_hex(),
        manifest.need
    ));
    let change = Change { yes, ..Change::default() };
    if let Go::No(exit) = context.confirm(&change, "Is it theirs?")? {
        return Ok(exit);
    }
    let share = ops::open_share(&contents, custodian, &to, &home, &mut fleet)?;
    context.out.bytes(&share)?;
    Ok(Exit::Ok)
}
