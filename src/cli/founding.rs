//! `keys init` and `keys enroll`.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::args::{Enroll, Init};
use super::context::{Context, placed_exit, placed_json, placed_text, reason, shown};
use super::exit::{CliError, Exit};
use super::helper::{GPGCONF, gpg_certificate};
use crate::digest::Digest;
use crate::disk::Disk;
use crate::fleet::{Fleet, Placed};
use crate::home::Home;
use crate::limits::ROLES_MAX;
use crate::name::{Kind, MemberName};
use crate::openpgp::Profile;
use crate::ops::{self, Founder, Founding, Joining, Ticket};
use crate::statement::{Facts, Machine, Token, machine_digest};
use crate::store::request_path;
use crate::wireguard::Endpoint;

fn profile(word: &str) -> Profile {
    if word == Profile::Modern.word() { Profile::Modern } else { Profile::Compat }
}

/// `keys init`.
pub(super) fn init(context: &Context, args: &Init) -> Result<Exit, CliError> {
    let founders = args.operators.iter().map(|who| founder(context, who, args)).collect::<Result<Vec<_>, _>>()?;
    if founders.iter().filter(|f| matches!(f, Founder::Here { .. })).count() > 1 {
        return Err(CliError::usage("only one operator's keys are made here: one home, one person")
            .hint("the others run 'keys enroll NAME --operator USERID --founding DOMAIN --out NAME.request' and give you the file"));
    }
    context.require_probed()?;
    let keyring = context.keyring(true)?;
    let policy = context.policy(true)?;
    if !keyring.list("")?.is_empty() || !policy.list("")?.is_empty() {
        let place = context.fleet_name()?;
        return Err(CliError::failed(format!("{place} holds a fleet already, or a part of one"))
            .hint("found the new one in an empty directory: --fleet DIR"));
    }
    let (home, _lock) = context.create_home()?;
    let _lock = context.lock(&keyring)?;
    let founding = Founding {
        fleet: args.domain.clone(),
        profile: profile(&args.profile),
        founders,
        authority: args.authority.clone(),
        reason: reason(&args.reason, "the fleet is founded"),
    };
    let founded = ops::found(&founding, &home, &keyring, &policy, context.now(), &mut context.rng()?)?;
    let exit = placed_exit(std::slice::from_ref(&founded.placed));
    if context.json {
        let value = serde_json::json!({ "fleet": founded.pin.fleet.to_string(), "id": founded.pin.id.to_string(), "log": founded.pin.log, "placed": placed_json(&founded.placed) });
        return context.answer(value, exit);
    }
    context.out.line(&format!("fleet  {}", founded.pin.fleet))?;
    context.out.line(&format!("id     {}", founded.pin.id))?;
    context.out.line(&format!("log    {}", founded.pin.log))?;
    match &founded.placed {
        Placed::Logged { .. } => context.say("Founded. Pin the id on every machine; it is the only thing one has to trust. Next: 'keys enroll' on a machine."),
        Placed::HandedIn { .. } | Placed::Proposed { .. } => context.say(&format!("Not founded yet: {}. Each founder runs 'keys approve' on this keyring.", placed_text(&founded.placed))),
    }
    Ok(exit)
}

fn founder(context: &Context, who: &str, args: &Init) -> Result<Founder, CliError> {
    if let Some(fingerprint) = who.strip_prefix("gpg:") {
        return agent_founder(context, fingerprint, args);
    }
    if who.contains('<') {
        return Ok(Founder::Here { name: name_of(who)?, user_id: user_id(who)? });
    }
    let path = Path::new(who);
    let bytes = read_file(path, crate::limits::REQUEST_BYTES_MAX)?;
    Ok(Founder::Elsewhere(bytes))
}

/// The member's name in a user id: the part before the '@' of the address.
fn name_of(user_id: &str) -> Result<MemberName, CliError> {
    let local = user_id.split_once('<').and_then(|(_, rest)| rest.split_once('@')).map(|(local, _)| local);
    let local = local.ok_or_else(|| {
        CliError::usage(format!("'{}' is not a user id like 'Alice <alice@ops.example>'", crate::text::shown(user_id)))
    })?;
    local.parse().map_err(CliError::usage)
}

fn user_id(text: &str) -> Result<String, CliError> {
    let well_formed = text.ends_with('>')
        && text.len() <= 200
        && !text.chars().any(crate::text::is_hidden)
        && text.matches(['<', '>']).count() == 2;
    if well_formed {
        Ok(text.to_owned())
    } else {
        Err(CliError::usage(format!(
            "'{}' is not a user id like 'Alice <alice@ops.example>'",
            crate::text::shown(text)
        )))
    }
}

/// A certificate whose secrets gpg-agent has: gpg gives the public part, gpgconf the socket.
fn agent_founder(context: &Context, fingerprint: &str, args: &Init) -> Result<Founder, CliError> {
    if fingerprint.len() < 16 || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(CliError::usage(format!(
            "'gpg:{}' has no fingerprint; 'gpg --list-keys --with-colons' shows it",
            crate::text::shown(fingerprint)
        )));
    }
    let certificate = gpg_certificate(fingerprint)?;
    let socket = match &args.agent_socket {
        Some(path) => path.clone(),
        None => {
            GPGCONF.run(&["--launch", "gpg-agent"], b"", 1 << 10)?;
            PathBuf::from(String::from_utf8_lossy(&GPGCONF.ask(&["--list-dirs", "agent-socket"])?).trim_end())
        }
    };
    let user_id = certificate.user_id();
    let name = name_of(&user_id)?;
    context.say(&format!("operator {name}: {user_id}, with the keys that gpg-agent has"));
    Ok(Founder::Agent { name, certificate: Box::new(certificate), socket: socket.display().to_string() })
}

/// `keys enroll`.
pub(super) fn enroll(context: &Context, args: &Enroll) -> Result<Exit, CliError> {
    if args.member.is_service() {
        return Err(CliError::usage(format!(
            "a service joins with its PoP: 'keys enroll {} --service {}'",
            args.member.host_label(),
            args.member.service_label().map_or("NAME", |l| l.as_str())
        )));
    }
    // What makes no sense is refused before anything is made.
    if args.roles.len() > ROLES_MAX {
        return Err(CliError::usage(format!("{} roles; a machine has at most {ROLES_MAX}", args.roles.len())));
    }
    let user_id = args.operator.as_deref().map(user_id).transpose()?;
    if let (Some(domain), Some(user_id)) = (&args.founding, &user_id) {
        let (home, _lock) = context.create_home()?;
        let request = ops::ask_to_found(&args.member, user_id, domain, profile(&args.profile), &home, context.now())?;
        return deliver(context, args, &request, None);
    }
    let (home, _lock) = context.create_home()?;
    let kind = match (&args.operator, args.authority) {
        (Some(_), _) => Kind::Operator,
        (None, true) => Kind::Authority,
        (None, false) => Kind::Pop,
    };
    let joining = Joining {
        member: args.member.clone(),
        kind,
        services: args.services.clone(),
        facts: Facts {
            endpoint: args.endpoint.clone().map(Endpoint::from),
            region: args.region.clone(),
            roles: args.roles.iter().cloned().collect(),
        },
        user_id,
    };
    let store = context.keyring(false)?;
    let known = context.known(Some(&home))?;
    let trusted = known.pin.is_some();
    let mut fleet = Fleet::open(crate::store::Store::new(store), &known, context.now(), &mut |_, _| {})?;
    if !trusted {
        context.say(&format!("pinning the fleet {} by its id {}", fleet.state().fleet, fleet.state().id));
        context.say("compare the id with the one that the operators have; --pin ID does it for you");
    }
    let request = match &args.token {
        None => ops::ask(&joining, &home, &mut fleet, &mut context.rng()?)?,
        Some(path) => {
            let machine = machine(&fleet.state().id);
            let ticket = Ticket { token: read_token(path)?, machine, endpoint: joining.facts.endpoint };
            ops::ask_by_invitation(&args.member, &ticket, &home, &mut fleet, &mut context.rng()?)?
        }
    };
    context.remember(Some(&home), &fleet);
    deliver(context, args, &request, Some(&home))
}

/// Reads a token from a file, or from stdin.
pub(super) fn read_token(path: &Path) -> Result<Token, CliError> {
    let bytes = match path == Path::new("-") {
        true => {
            let mut bytes = Vec::new();
            let read = std::io::Read::read_to_end(&mut std::io::Read::take(std::io::stdin().lock(), 256), &mut bytes);
            read.map_err(|e| CliError::new(Exit::Unknown, format!("cannot read stdin: {e}")))?;
            bytes
        }
        false => read_file(path, 256)?,
    };
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map(str::trim_end).unwrap_or_default();
    Token::parse(text).map_err(|e| CliError::usage(format!("{} {e}", shown(path))))
}

/// What this machine is told apart by; what cannot be read is left out.
pub(super) fn machine(fleet: &Digest) -> Machine {
    let digest = |path: &str, what: &str| {
        let text = read_file(Path::new(path), 256).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.filter(|text| !text.trim().is_empty()).map(|text| machine_digest(fleet, what, &text))
    };
    Machine { dmi: digest("/sys/class/dmi/id/product_uuid", "dmi"), id: digest("/etc/machine-id", "id") }
}

/// Writes the request where it was asked for, or among the keyring's proposals.
fn deliver(context: &Context, args: &Enroll, request: &[u8], home: Option<&Home>) -> Result<Exit, CliError> {
    let id = Digest::of(request);
    let place = match &args.out {
        Some(path) if path == Path::new("-") => {
            context.out.bytes(request)?;
            return Ok(Exit::Ok);
        }
        Some(path) => {
            write_file(path, request)?;
            shown(path)
        }
        None => {
            context.require_probed()?;
            let keyring = context.keyring(false)?;
            let path = request_path(&id);
            let _lock = context.lock(&keyring)?;
            keyring.create(&path, request)?;
            format!("{}/{path}", keyring.root())
        }
    };
    if context.json {
        return context.answer(serde_json::json!({ "request": id.to_string(), "file": place }), Exit::Ok);
    }
    context.out.line(&format!("request {}", id.short()))?;
    context.say(&format!("{} wants to join: {place}", args.member));
    let next = if home.is_some() {
        match &args.token {
            Some(_) => "An authority takes it in with its next 'keys sync'.",
            None => "An operator runs 'keys approve', where an authority is.",
        }
    } else {
        "Give it to whoever founds the fleet: 'keys init … --operator FILE'."
    };
    context.say(next);
    Ok(Exit::Ok)
}

/// Reads a file that the user named, of at most `limit` bytes.
pub(super) fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, CliError> {
    use std::io::Read as _;
    let failed = |e: std::io::Error| {
        let exit = if e.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Unknown };
        CliError::new(exit, format!("cannot read {}: {e}", shown(path)))
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(CliError::failed(format!("{} has more than {limit} bytes", shown(path))));
    }
    Ok(bytes)
}

/// Where a file that the user named is written: the directory, and the name in it. What is there and is no file stays: a
/// new file in the place of /dev/null, or of the link /dev/stdout, would be in everybody's way.
pub(super) fn place(path: &Path) -> Result<(&Path, &str), CliError> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|n| n.to_str());
    let name = name.ok_or_else(|| CliError::usage(format!("{} is not a file name", shown(path))))?;
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => {
            Err(CliError::failed(format!("{} is there and is no regular file; it is not replaced", shown(path)))
                .hint("name another file"))
        }
        _ => Ok((directory, name)),
    }
}

/// Writes a public file that the user named, durably and at once.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let (directory, name) = place(path)?;
    let files = crate::disk::RealFiles::create(directory, crate::disk::Access::Public)
        .map_err(|source| crate::disk::DiskError { doing: "create", path: shown(directory), source })?;
    Ok(Disk::new(files).replace(name, bytes)?)
}
