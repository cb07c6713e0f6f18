//! SSH certificates and the files of a node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::Change;
use super::break_glass_cmd;
use super::context::{Context, placed_exit, placed_json, placed_text, reason, shown};
use super::doctor_cmd;
use super::exit::{CliError, Exit};
use super::founding::read_file;
use super::krl_cmd;
use super::node_args::{Ssh, SshSign, SshVerb};
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::ops::{self, IssuePlan};
use crate::ssh::{Principal, SshCertificate, SshPublicKey};

/// Files that are written below a directory, each at once, in the order in which they come.
pub(super) struct Tree<'a> {
    out: &'a Path,
    disk: Disk,
    written: Vec<String>,
}

impl<'a> Tree<'a> {
    /// Makes the directory, if it is not there.
    pub(super) fn create(out: &'a Path) -> Result<Self, CliError> {
        let failed = |source| DiskError { doing: "create", path: shown(out), source };
        let disk = Disk::new(RealFiles::create(out, Access::Public).map_err(failed)?);
        Ok(Self { out, disk, written: Vec::new() })
    }

    /// Writes one.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), CliError> {
        self.disk.replace(path, bytes)?;
        self.written.push(path.to_owned());
        Ok(())
    }

    /// Says what was written.
    pub(super) fn tell(self, context: &Context) -> Result<Exit, CliError> {
        let Self { out, disk: _, written } = self;
        if context.json {
            return context.answer(json!({ "directory": shown(out), "files": written }), Exit::Ok);
        }
        if context.verbose {
            written.iter().try_for_each(|path| context.out.line(path))?;
        }
        context.say(&format!("{} files written to {}", written.len(), shown(out)));
        Ok(Exit::Ok)
    }
}

/// `keys ssh`.
pub(super) fn ssh(context: &Context, args: &Ssh) -> Result<Exit, CliError> {
    match &args.verb {
        SshVerb::Sign { what: SshSign::Host { pops, again, change, reason: why } } => {
            let plan = |fleet: &mut crate::fleet::Fleet| {
                Ok(ops::plan_host(pops.as_ref(), *again, fleet, &mut context.rng()?)?)
            };
            sign(context, change, &reason(why, "host certificates"), &plan).map(|(exit, _)| exit)
        }
        SshVerb::Sign {
            what: SshSign::User { member, key, principals, lifetime, again, out, change, reason: why },
        } => {
            let public = public_key(key)?;
            let only = principals
                .iter()
                .map(|p| Principal::user(p))
                .collect::<Result<BTreeSet<_>, _>>()
                .map_err(CliError::usage)?;
            let plan = |fleet: &mut crate::fleet::Fleet| {
                Ok(ops::plan_user(member, &public, &only, *lifetime, *again, fleet, &mut context.rng()?)?)
            };
            let (exit, signed) = sign(context, change, &reason(why, "user certificate"), &plan)?;
            if let Some((_, certificate)) = signed.iter().find(|(_, c)| c.subject_blob() == public.blob()) {
                let path = out.clone().unwrap_or_else(|| beside(key));
                super::founding::write_file(&path, format!("{}\n", certificate.to_line()).as_bytes())?;
                context.say(&format!("written to {}", shown(&path)));
            }
            Ok(exit)
        }
        SshVerb::SignBatch { list, again, change, reason: why } => {
            super::sign_batch::batch(context, list, *again, change, &reason(why, "user certificates"))
        }
        SshVerb::Render { node, out, directory, host_key, program, user } => {
            let parse = |text: &str| text.parse().map_err(|e: crate::ssh::WordError| CliError::usage(e));
            let paths = ops::NodePaths {
                directory: parse(directory)?,
                host_key: host_key.as_deref().map(parse).transpose()?,
                program: parse(program)?,
                user: user.parse().map_err(|e: crate::ssh::WordError| CliError::usage(e))?,
            };
            let files = ops::node_files(node, &paths, &mut context.open_published()?)?;
            let mut tree = Tree::create(out)?;
            files.iter().try_for_each(|file| tree.put(&file.path, &file.bytes))?;
            tree.tell(context)
        }
        SshVerb::Principals { directory, login, algorithm, certificate } => {
            super::login_cmd::principals(context, directory, login, &format!("{algorithm} {certificate}"))
        }
        SshVerb::Inspect { file } => inspect(context, file),
        SshVerb::BreakGlass { verb } => break_glass_cmd::break_glass(context, verb),
        SshVerb::Doctor(args) => doctor_cmd::doctor(context, args),
        SshVerb::Krl { verb } => krl_cmd::krl(context, verb),
        SshVerb::Revoke { serials, keys, change, reason: why } => {
            krl_cmd::revoke(context, serials, keys, change, &reason(why, "SSH certificates are taken back"))
        }
    }
}

/// The public key in a file as ssh-keygen writes it.
pub(super) fn public_key(file: &Path) -> Result<SshPublicKey, CliError> {
    let text = String::from_utf8(read_file(file, crate::limits::KEY_FILE_BYTES_MAX)?)
        .map_err(|_| CliError::failed(format!("{} is not a public key", shown(file))))?;
    SshPublicKey::parse_line(text.trim_end()).map_err(|e| CliError::failed(format!("{}: {e}", shown(file))))
}

/// `id_ed25519.pub` becomes `id_ed25519-cert.pub`, where ssh looks for it.
pub(super) fn beside(key: &Path) -> PathBuf {
    let name = key.file_name().and_then(|n| n.to_str()).unwrap_or("key");
    key.with_file_name(format!("{}-cert.pub", name.strip_suffix(".pub").unwrap_or(name)))
}

const NOTHING_TO_SIGN: &str = "there is a certificate that is good for a while; --again makes a new one";

type Signed = Vec<(u64, SshCertificate)>;

/// Decides, logs, signs.
pub(super) fn sign(
    context: &Context,
    change: &Change,
    why: &str,
    plan: &dyn Fn(&mut crate::fleet::Fleet) -> Result<IssuePlan, CliError>,
) -> Result<(Exit, Signed), CliError> {
    if change.dry_run {
        let plan = plan(&mut context.open()?)?;
        let exit = if plan.issues.is_empty() { Exit::Ok } else { Exit::Pending };
        if context.json {
            let row = |issue: &crate::statement::Issue| {
                let fields = issue.certificate.fields();
                json!({ "member": issue.member.to_string(), "kind": fields.kind.to_string(), "until": fields.valid_before.to_string() })
            };
            context.answer(json!({ "plan": plan.issues.iter().map(row).collect::<Vec<Value>>() }), exit)?;
            return Ok((exit, Vec::new()));
        }
        for issue in &plan.issues {
            let fields = issue.certificate.fields();
            let line = format!("{} certificate for {}, until {}", fields.kind, issue.member, fields.valid_before);
            context.out.line(&line)?;
        }
        if plan.issues.is_empty() {
            context.say(NOTHING_TO_SIGN);
        }
        return Ok((exit, Vec::new()));
    }
    let (placed, mut signed, wanted) = context.change(|fleet, home| {
        let plan = plan(fleet)?;
        let placed = context.place(fleet, home, plan.drafts(why), change)?;
        let decided = placed.iter().filter_map(|p| match p {
            crate::fleet::Placed::Logged { verdict, .. } => Some(crate::ssh::Serial::of_entry(verdict.index).number()),
            crate::fleet::Placed::HandedIn { .. } | crate::fleet::Placed::Proposed { .. } => None,
        });
        let wanted: BTreeSet<u64> = decided.chain(plan.good).collect();
        Ok((placed, ops::issue_pending(home, fleet)?, wanted))
    })?;
    // Some were signed before, and some only once the head that proves them was published.
    let missing: Vec<u64> = wanted.into_iter().filter(|serial| !signed.iter().any(|(s, _)| s == serial)).collect();
    if !missing.is_empty() {
        let fleet = context.open()?;
        for serial in missing {
            match ops::issued_certificate(serial, &fleet)? {
                Some(certificate) => signed.push((serial, certificate)),
                None => context.say(&format!(
                    "serial {serial} is decided and waits for the authority to sign it{}",
                    if fleet.waiting() > 0 { ", which waits for the log's cosigners" } else { "" }
                )),
            }
        }
    }
    let exit = placed_exit(&placed);
    if context.json {
        let certificates: Vec<Value> = signed.iter().map(|(serial, c)| certificate_json(*serial, c)).collect();
        let placed: Vec<Value> = placed.iter().map(placed_json).collect();
        context.answer(json!({ "certificates": certificates, "placed": placed }), exit)?;
        return Ok((exit, signed));
    }
    for (serial, certificate) in &signed {
        context.out.line(&format!(
            "serial {serial}: {} certificate '{}' for {}",
            certificate.kind(),
            certificate.key_id(),
            certificate.principals().join(", ")
        ))?;
    }
    placed
        .iter()
        .filter(|p| !matches!(p, crate::fleet::Placed::Logged { .. }))
        .for_each(|p| context.say(&placed_text(p)));
    if signed.is_empty() && placed.is_empty() {
        context.say(NOTHING_TO_SIGN);
    }
    Ok((exit, signed))
}

fn certificate_json(serial: u64, certificate: &SshCertificate) -> Value {
    json!({
        "serial": serial, "kind": certificate.kind().to_string(), "key_id": certificate.key_id(), "principals": certificate.principals(),
        "valid_after": certificate.valid_after().to_string(), "valid_before": certificate.valid_before().map(|t| t.to_string()), "certificate": certificate.to_line(),
    })
}

/// `keys ssh inspect`.
fn inspect(context: &Context, file: &Path) -> Result<Exit, CliError> {
    let text = String::from_utf8(read_file(file, crate::limits::KEY_FILE_BYTES_MAX)?)
        .map_err(|_| CliError::new(Exit::No, format!("{} is not an SSH certificate", shown(file))))?;
    let certificate =
        SshCertificate::parse(text.trim_end()).map_err(|e| CliError::new(Exit::No, format!("{}: {e}", shown(file))))?;
    if context.json {
        return context.answer(certificate_json(certificate.serial(), &certificate), Exit::Ok);
    }
    let before = certificate.valid_before().map_or_else(|| "for ever".to_owned(), |t| t.to_string());
    let lines = [
        format!("{} certificate, serial {}", certificate.kind(), certificate.serial()),
        format!("key id       {}", crate::text::escape(certificate.key_id())),
        format!("signed by    {}", certificate.ca_fingerprint()),
        format!("valid        {} to {before}", certificate.valid_after()),
        format!("principals   {}", crate::text::escape(&certificate.principals().join(", "))),
        format!(
            "options      {}",
            crate::text::escape(&certificate.critical_options().keys().cloned().collect::<Vec<_>>().join(", "))
        ),
        format!(
            "extensions   {}",
            crate::text::escape(&certificate.extensions().keys().cloned().collect::<Vec<_>>().join(", "))
        ),
    ];
    lines.iter().try_for_each(|line| context.out.line(line.trim_end()))?;
    Ok(Exit::Ok)
}
