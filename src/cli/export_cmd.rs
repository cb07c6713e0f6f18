//! `keys export`: secrets in the form of other tools.
//!
//! Every value is opened and sealed anew before the first file is written, so that one that does not open stops all. Files
//! are 0600 from birth. An export that is interrupted leaves files that hold ciphertext alone.

use std::path::Path;

use rand::Rng as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::helper::gpg_certificate;
use super::import_args::{Export, ExportVerb, From};
use crate::disk::{Access, Disk, DiskError, NewFile, RealFiles};
use crate::fleet::Fleet;
use crate::formats::{Format, SopsStanza, write_sops};
use crate::name::{Address, MemberName};
use crate::openpgp::{self, PublicKey};
use crate::ops::{self, ForeignReader, Opened};

/// `keys export`.
pub(super) fn export(context: &Context, args: &Export) -> Result<Exit, CliError> {
    let from = match &args.verb {
        ExportVerb::Pass { from, .. } | ExportVerb::Sops { from, .. } => from,
    };
    let home = context.home()?;
    let mut fleet = context.open_published()?;
    let readers: Vec<ForeignReader> =
        from.readers.iter().map(|who| reader(context, who, &mut fleet)).collect::<Result<_, _>>()?;
    let mut secrets = Vec::new();
    for address in ops::select(&from.from, fleet.state())? {
        let opened = ops::open(&address, from.reader.as_ref(), &home, &mut fleet)?;
        if let Some(by) = &opened.burned {
            context.say(&format!("warning: {address} is burned: {by} could read it, and was compromised or lost"));
        }
        secrets.push((address, opened));
    }
    let place = match &args.verb {
        ExportVerb::Pass { directory, .. } => {
            store(directory, &readers, &secrets)?;
            directory
        }
        ExportVerb::Sops { file, .. } => {
            sops(context, file, &readers, &secrets)?;
            file
        }
    };
    warn(context, from);
    if context.json {
        let addresses: Vec<String> = secrets.iter().map(|(address, _)| address.to_string()).collect();
        let readers: Vec<&str> = readers.iter().map(|r| r.fingerprint.as_str()).collect();
        return context.answer(json!({ "to": shown(place), "secrets": addresses, "readers": readers }), Exit::Ok);
    }
    context.out.line(&format!("{}: {} secrets for {}", shown(place), secrets.len(), from.readers.join(", ")))?;
    Ok(Exit::Ok)
}

fn warn(context: &Context, from: &From) {
    context.say(&format!(
        "warning: the log knows nothing of this copy. It stays readable to {} whatever happens to their keys here: \
         'keys who' does not count it, and nobody can tell whether it is the newest",
        crate::text::escape(&from.readers.join(", "))
    ));
}

/// A member by name, or a certificate that gpg has by fingerprint.
fn reader(context: &Context, who: &str, fleet: &mut Fleet) -> Result<ForeignReader, CliError> {
    let digits = who.strip_prefix("0x").unwrap_or(who);
    if !(matches!(digits.len(), 40 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit())) {
        let name: MemberName = who.parse().map_err(|e| {
            CliError::usage(e)
                .hint("--gpg-id takes a member's name, or a full fingerprint of 40 digits: a shorter one can be forged")
        })?;
        return Ok(ForeignReader::member(&name, fleet)?);
    }
    let fingerprint = digits.to_ascii_uppercase();
    let certificate = gpg_certificate(&fingerprint)?;
    if certificate.fingerprint().to_hex() != fingerprint {
        return Err(CliError::failed(format!("{fingerprint} is a subkey of {}", certificate.fingerprint().to_hex()))
            .hint("name the certificate by the fingerprint of its first key"));
    }
    Ok(ForeignReader::certificate(&certificate, context.now())?)
}

fn seal(value: &[u8], readers: &[ForeignReader]) -> Result<Vec<u8>, CliError> {
    let keys: Vec<&PublicKey> = readers.iter().flat_map(|r| &r.keys).collect();
    openpgp::encrypt(value, &keys).map_err(CliError::failed)
}

/// A password store: `fra1/nginx/tls.key.gpg`, as below `keyring/sealed/`.
fn store(directory: &Path, readers: &[ForeignReader], secrets: &[(Address, Opened)]) -> Result<(), CliError> {
    let mut files = vec![(
        ".gpg-id".to_owned(),
        readers.iter().map(|r| format!("{}\n", r.fingerprint)).collect::<String>().into_bytes(),
    )];
    for (address, opened) in secrets {
        let path = address.path();
        let path = path.strip_prefix("sealed/").and_then(|p| p.strip_suffix(".pgp")).unwrap_or(&path);
        files.push((format!("{path}.gpg"), seal(&opened.value, readers)?));
    }
    let mut entries = match std::fs::read_dir(directory) {
        Ok(entries) => Some(entries),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(CliError::new(Exit::Unknown, format!("cannot read {}: {e}", shown(directory)))),
    };
    if entries.as_mut().is_some_and(|e| e.next().is_some()) {
        return Err(CliError::failed(format!("{} is not empty; nothing is overwritten", shown(directory)))
            .hint("give a directory that is not there, and move what you want from it"));
    }
    let failed = |source| DiskError { doing: "create", path: shown(directory), source };
    let disk = Disk::new(RealFiles::create(directory, Access::Private).map_err(failed)?);
    for (path, bytes) in files {
        disk.create(&path, &bytes)?;
    }
    Ok(())
}

/// A sops file: names with their values.
fn sops(
    context: &Context,
    file: &Path,
    readers: &[ForeignReader],
    secrets: &[(Address, Opened)],
) -> Result<(), CliError> {
    let format = Format::of_name(&file.to_string_lossy()).filter(|f| matches!(f, Format::Yaml | Format::Json));
    let format = format.ok_or_else(|| {
        CliError::usage(format!("{}: its name does not tell a format", shown(file)))
            .hint("let it end in .yaml, .yml or .json")
    })?;
    if let [(first, _), rest @ ..] = secrets
        && let Some((other, _)) = rest.iter().find(|(a, _)| a.scope() != first.scope())
    {
        return Err(CliError::failed(format!(
            "{first} and {other} have different owners, and names alone are written"
        ))
        .hint("export one owner's secrets to a file of their own, for example --from 'nginx@fra1/*'"));
    }
    let mut values = Vec::with_capacity(secrets.len());
    for (address, opened) in secrets {
        let text = std::str::from_utf8(&opened.value).map_err(|_| {
            CliError::failed(format!("{address} is no text, and sops files hold texts"))
                .hint("'keys export pass' takes any bytes")
        })?;
        values.push((address.name(), text));
    }
    let mut rng = context.rng()?;
    let mut key = Zeroizing::new([0; 32]);
    rng.fill_bytes(key.as_mut_slice());
    let mut stanzas = Vec::new();
    for reader in readers {
        let message = openpgp::armor(&seal(key.as_slice(), std::slice::from_ref(reader))?).map_err(CliError::failed)?;
        let message = String::from_utf8(message).map_err(CliError::failed)?;
        stanzas.push(SopsStanza { fingerprint: reader.fingerprint.clone(), message });
    }
    let text = write_sops(&values, format, &key, &stanzas, context.now(), &mut rng).map_err(CliError::failed)?;
    let mut out = NewFile::create(file)?;
    std::io::Write::write_all(&mut out, text.as_bytes()).map_err(|source| DiskError {
        doing: "write",
        path: shown(file),
        source,
    })?;
    out.commit()?;
    Ok(())
}
