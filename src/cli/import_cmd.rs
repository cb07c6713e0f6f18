//! `keys import`: what others seal becomes secrets of ours, all of it in one go.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::context::{Context, Planned, Shown, reason, shown};
use super::describe::names_json;
use super::exit::{CliError, Exit};
use super::helper::AGE;
use super::import_args::{Import, ImportVerb, Into};
use crate::formats::{self, Format, Leaf, Step, path_text, secret_name};
use crate::limits::{IMPORT_BYTES_MAX, IMPORT_VALUES_MAX, SECRET_BYTES_MAX};
use crate::name::Address;
use crate::ops::{self, ImportFate, ImportPlan, Incoming};

/// A value with its name elsewhere.
pub(super) struct Found {
    /// As people there call it.
    pub from: String,
    /// The same as a path, which the rule makes a name of.
    pub source: String,
    pub value: Zeroizing<Vec<u8>>,
}

impl Found {
    /// A value of a structured file.
    pub(super) fn leaf(leaf: Leaf) -> Self {
        let step = |step: &Step| match step {
            Step::Key(key) => key.clone(),
            Step::Index(index) => index.to_string(),
        };
        Self {
            from: path_text(&leaf.path),
            source: leaf.path.iter().map(step).collect::<Vec<_>>().join("/"),
            value: Zeroizing::new(leaf.value.as_bytes().to_vec()),
        }
    }
}

/// `keys import`.
pub(super) fn import(context: &Context, args: &Import) -> Result<Exit, CliError> {
    match &args.verb {
        ImportVerb::Env { file, into } => {
            let leaves = leaves(file, &read_secret(file)?)?;
            take_over(context, into, leaves)
        }
        ImportVerb::Pass { directory, first_line, into } => {
            let found = super::pass_cmd::read_store(context, directory, *first_line)?;
            take_over(context, into, found)
        }
        ImportVerb::Sops { file, identity, into } => {
            let found = super::sops_cmd::read(context, file, identity.as_deref())?;
            take_over(context, into, found)
        }
        ImportVerb::Age { file, identity, name, into } => {
            let value =
                AGE.run(&["--decrypt", "--identity", &absolute(identity)?, &absolute(file)?], b"", SECRET_BYTES_MAX)?;
            take_over(context, into, vec![whole(file, name.as_deref(), &[".age"], value)?])
        }
        ImportVerb::AnsibleVault { file, password_file, name, into } => {
            if file == password_file {
                return Err(CliError::usage("the password and the vault cannot be one file"));
            }
            let password = read_secret(password_file)?;
            let value = formats::open_vault(&read_secret(file)?, &password)
                .map_err(|e| CliError::new(Exit::No, format!("{} {e}", shown(file))))?;
            take_over(context, into, vec![whole(file, name.as_deref(), &[".vault"], value)?])
        }
    }
}

/// A file as one value, called after it.
pub(super) fn whole(
    file: &Path,
    name: Option<&str>,
    endings: &[&str],
    value: Zeroizing<Vec<u8>>,
) -> Result<Found, CliError> {
    let own = file.file_name().and_then(|n| n.to_str()).filter(|n| *n != "-");
    let plain = own.map(|n| endings.iter().find_map(|e| n.strip_suffix(e)).unwrap_or(n));
    let source = name.or(plain).ok_or_else(|| CliError::usage("--name says what to call it"))?.to_owned();
    Ok(Found { from: own.unwrap_or(&source).to_owned(), source, value })
}

/// A path as a program of others takes it: what begins with a hyphen is an option to them.
pub(super) fn absolute(path: &Path) -> Result<String, CliError> {
    let absolute = std::path::absolute(path)
        .map_err(|e| CliError::new(Exit::Unknown, format!("cannot tell where {} is: {e}", shown(path))))?;
    let text = absolute.to_str().ok_or_else(|| CliError::failed(format!("{} is not UTF-8", shown(path))))?;
    Ok(text.to_owned())
}

/// A file's text.
pub(super) fn text<'a>(file: &Path, bytes: &'a [u8]) -> Result<&'a str, CliError> {
    std::str::from_utf8(bytes)
        .map_err(|e| CliError::failed(format!("{} is not UTF-8 from byte {} on", shown(file), e.valid_up_to())))
}

fn leaves(file: &Path, bytes: &[u8]) -> Result<Vec<Found>, CliError> {
    let leaves = Format::Env.scan(text(file, bytes)?).map_err(|e| CliError::failed(format!("{}, {e}", shown(file))))?;
    Ok(leaves.into_iter().map(Found::leaf).collect())
}

/// Reads a file that is secret, '-' for stdin, into memory that is wiped.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
    let limit = SECRET_BYTES_MAX as u64 + 1;
    let read = if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            return Err(CliError::usage("it is read from stdin, which is a terminal").hint("pipe it in"));
        }
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| {
            let size = file.metadata().map_or(0, |m| m.len()).min(limit);
            bytes.reserve_exact(usize::try_from(size).unwrap_or_default());
            file.take(limit).read_to_end(&mut bytes)
        })
    };
    read.map_err(|e| {
        let exit = if e.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Unknown };
        CliError::new(exit, format!("cannot read {}: {e}", shown(path)))
    })?;
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(CliError::failed(format!("{} has more than {SECRET_BYTES_MAX} bytes", shown(path))));
    }
    Ok(bytes)
}

/// Seals what was found, each at its address.
pub(super) fn take_over(context: &Context, into: &Into, found: Vec<Found>) -> Result<Exit, CliError> {
    let bytes = found.iter().fold(0_usize, |sum, one| sum.saturating_add(one.value.len()));
    if found.len() > IMPORT_VALUES_MAX || bytes > IMPORT_BYTES_MAX {
        let found = found.len();
        return Err(CliError::failed(format!(
            "{found} values of {bytes} bytes are more than the {IMPORT_VALUES_MAX} values and {IMPORT_BYTES_MAX} bytes of one import"
        ))
        .hint("import it in parts"));
    }
    let (incoming, empty) = addressed(into, found)?;
    for from in &empty {
        context.say(&format!("left out: {} is empty, and an empty value is not sealed", crate::text::shown(from)));
    }
    let why = reason(&into.reason, "imported");
    context.planned(
        &into.change,
        &Planned {
            question: "Import them?",
            plan: &|fleet, home| Ok(ops::plan_import(&incoming, home, fleet)?),
            show: &|plan, _| show(plan, &incoming),
            drafts: &|plan, fleet, home| Ok(plan.drafts(&incoming, &why, into.change.signer.as_ref(), home, fleet)?),
            after: &|_, _| Ok(()),
        },
    )
}

/// The address of each value; beside them the names of those that are empty.
fn addressed(into: &Into, found: Vec<Found>) -> Result<(Vec<Incoming>, Vec<String>), CliError> {
    let mut renames = BTreeMap::new();
    for rename in &into.rename {
        let (from, name) = rename.rsplit_once('=').ok_or_else(|| CliError::usage("--rename expects FROM=NAME"))?;
        renames.insert(from, name);
    }
    let (mut incoming, mut empty) = (Vec::new(), Vec::new());
    for Found { from, source, value } in found {
        let renamed = renames.remove(from.as_str()).map(str::to_owned);
        if value.is_empty() {
            empty.push(from);
            continue;
        }
        let hint = format!("give it one with --rename '{}=NAME'", crate::text::shown(&from));
        let name = match renamed {
            Some(name) => name,
            None => secret_name(&source).map(|name| format!("{}{name}", into.prefix)).map_err(|e| {
                let from = crate::text::shown(&from);
                CliError::failed(format!("no name can be made of '{from}': it {e}")).hint(&hint)
            })?,
        };
        let address: Address = format!("{}/{name}", into.owner).parse().map_err(|e| CliError::failed(e).hint(&hint))?;
        incoming.push(Incoming { from, address, value });
    }
    if let Some((from, _)) = renames.first_key_value() {
        return Err(CliError::usage(format!("--rename: nothing is called '{}'", crate::text::shown(from))));
    }
    Ok((incoming, empty))
}

fn show(plan: &ImportPlan, incoming: &[Incoming]) -> Shown {
    let (mut lines, mut values) = (Vec::new(), Vec::<Value>::new());
    for (fate, one) in plan.fates.iter().zip(incoming) {
        let word = match fate {
            ImportFate::New(_) => "new",
            ImportFate::Changes(_) => "changes",
            ImportFate::Unknown(_) => "unknown",
            ImportFate::Same => "same",
        };
        let told = match fate {
            ImportFate::New(_) => "new",
            ImportFate::Changes(_) => "another value than the one that is there",
            ImportFate::Unknown(_) => "replaces one that no key here opens, whether it is another or not",
            ImportFate::Same => "there already, left alone",
        };
        let mut line = format!("{}: {told}", one.address);
        let mut value = json!({ "from": one.from, "address": one.address.to_string(), "fate": word });
        if let Some(sealed) = fate.plan() {
            let readers = sealed.recipients.readers.keys();
            let names = readers.clone().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            line.push_str(&format!(", version {} to {names}", sealed.version));
            if let Value::Object(fields) = &mut value {
                fields.insert("version".to_owned(), sealed.version.into());
                fields.insert("readers".to_owned(), names_json(readers));
            }
        }
        line.push_str(&format!(" (from {})", crate::text::shown(&one.from)));
        lines.push(line);
        values.push(value);
    }
    if lines.is_empty() {
        lines.push("there is nothing to import".to_owned());
    }
    Shown { lines, json: json!({ "values": values }), empty: plan.fates.iter().all(|fate| fate.plan().is_none()) }
}
