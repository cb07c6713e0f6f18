//! `keys ssh break-glass`: an SSH certificate while the log is out of reach, by the keys that the policy keeps in safes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::{read_file, write_file};
use super::node_args::{BreakGlassOrderArgs, BreakGlassVerb};
use super::render_cmd::public_key;
use crate::cidr::AnyCidr;
use crate::limits::{KEY_FILE_BYTES_MAX, SSH_STAPLE_BYTES_MAX};
use crate::login::{BREAK_GLASS_NAMESPACE, BreakGlass, BreakGlassOrder};
use crate::ops;
use crate::ssh::{SshSignature, Staple};

/// `keys ssh break-glass`.
pub(super) fn break_glass(context: &Context, verb: &BreakGlassVerb) -> Result<Exit, CliError> {
    match verb {
        BreakGlassVerb::Order(args) => order(context, args),
        BreakGlassVerb::Issue { order, signatures, ca_key, out } => {
            issue(context, order, signatures, ca_key.as_deref(), out.as_deref())
        }
    }
}

fn order(context: &Context, args: &BreakGlassOrderArgs) -> Result<Exit, CliError> {
    let fleet = context.open_published()?;
    let key = public_key(&args.key)?;
    let wanted = ops::BreakGlassWish {
        member: args.member.clone(),
        key,
        ca: args.ca.clone(),
        principals: args.principals.iter().cloned().collect(),
        lifetime: args.lifetime,
        source_addresses: args.source_addresses.iter().copied().collect::<BTreeSet<AnyCidr>>(),
    };
    let (order, policy) = ops::order_break_glass(&wanted, &fleet, context.now(), &mut context.rng()?)?;
    write_file(&args.out, &order.to_bytes())?;
    let fields = order.issue.certificate.fields();
    let file = shown(&args.out);
    if context.json {
        let keys: Vec<&String> = policy.keys.iter().collect();
        let value = json!({ "file": file, "serial": order.serial().number(), "ca": fields.ca.fingerprint(), "keys": keys,
            "sign": policy.sign, "until": fields.valid_before.to_string() });
        return context.answer(value, Exit::Ok);
    }
    let principals = fields.principals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    context.out.line(&format!("{file}: {} as {principals}, until {}", order.issue.member, fields.valid_before))?;
    context.say(&format!("{} of these {} keys have to sign, the first one last:", policy.sign, policy.keys.len()));
    context.say(&format!("  {}  the certificate's CA", fields.ca.fingerprint()));
    for key in policy.keys.iter().filter(|k| **k != fields.ca.to_string()) {
        let fingerprint = key.parse::<crate::ssh::SshPublicKey>().map(|k| k.fingerprint()).unwrap_or_default();
        context.say(&format!("  {fingerprint}"));
    }
    context.say(&format!("each of the others: ssh-keygen -Y sign -n {BREAK_GLASS_NAMESPACE} -f KEY {file}"));
    context.say(&format!("then: keys ssh break-glass issue {file} --signature {file}.sig --ca-key KEY"));
    Ok(Exit::Ok)
}

fn issue(
    context: &Context,
    order: &Path,
    signatures: &[PathBuf],
    ca_key: Option<&Path>,
    out: Option<&Path>,
) -> Result<Exit, CliError> {
    let fleet = context.open_published()?;
    let bytes = read_file(order, SSH_STAPLE_BYTES_MAX)?;
    let parsed = BreakGlassOrder::parse(&bytes)
        .map_err(|e| CliError::new(Exit::No, format!("{} is no break-glass order: it {e}", shown(order))))?;
    let policy = ops::check_break_glass(&parsed, &fleet, context.now())?;
    let mut found = Vec::new();
    for file in signatures {
        found.push(signature(file, &bytes, &policy)?);
    }
    let fields = parsed.issue.certificate.fields();
    let mut signers = BreakGlassOrder::signers(&bytes, &found, &policy.keys);
    signers.insert(fields.ca.to_string());
    if signers.len() < policy.sign {
        let message = format!("{} of {} break-glass keys have signed {}", signers.len(), policy.sign, shown(order));
        let hint = format!("another holder: ssh-keygen -Y sign -n {BREAK_GLASS_NAMESPACE} -f KEY {}", shown(order));
        return Err(CliError::new(Exit::Unauthorised, message).hint(hint));
    }
    let staple = Staple::break_glass(&parsed.fleet, &bytes, &found)
        .ok_or_else(|| CliError::failed("the signatures do not fit a certificate; two or three are enough"))?;
    let key = ca_key.map(|file| read_file(file, KEY_FILE_BYTES_MAX)).transpose()?.map(zeroize::Zeroizing::new);
    let agent = context.ssh_agent();
    let certificate = ops::issue_break_glass(&parsed, &staple, key.as_deref().map(Vec::as_slice), agent)?;
    let name = order.file_name().and_then(|n| n.to_str()).unwrap_or("order");
    let out = out.map_or_else(|| order.with_file_name(format!("{name}-cert.pub")), Path::to_owned);
    write_file(&out, format!("{}\n", certificate.to_line()).as_bytes())?;
    if context.json {
        let value = json!({ "file": shown(&out), "serial": certificate.serial(), "signed_by": signers });
        return context.answer(value, Exit::Ok);
    }
    context.out.line(&format!("{}: serial {}, signed by {} keys", shown(&out), certificate.serial(), signers.len()))?;
    context.say("the log knows nothing of it: tell the others why it was needed");
    Ok(Exit::Ok)
}

/// A signature over the order by one of the keys, or why it is none.
fn signature(file: &Path, order: &[u8], policy: &BreakGlass) -> Result<SshSignature, CliError> {
    let no = |problem: &str| CliError::new(Exit::No, format!("{}: {problem}", shown(file)));
    let text = String::from_utf8(read_file(file, KEY_FILE_BYTES_MAX)?).map_err(|_| no("is not a text"))?;
    let signature = SshSignature::from_armour(&text).ok_or_else(|| no("is no signature that ssh-keygen -Y wrote"))?;
    match signature.signer(BREAK_GLASS_NAMESPACE, order) {
        None => Err(no(&format!("is no signature over this order for the purpose {BREAK_GLASS_NAMESPACE}"))),
        Some(key) if !policy.keys.contains(&key.to_string()) => {
            Err(no(&format!("{} is none of the break-glass keys", key.fingerprint())))
        }
        Some(_) => Ok(signature),
    }
}
