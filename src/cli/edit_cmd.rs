//! `keys edit`: a value in an editor, in memory, and sealed again.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use zeroize::Zeroizing;

use super::context::{Context, placed_exit, placed_json, placed_text, reason, shown};
use super::exit::{CliError, Exit};
use super::scratch::Scratch;
use super::secret_cmd::{opened, plan_json, show_plan, warn_burned};
use super::value_args::Edit;
use crate::limits::SECRET_BYTES_MAX;
use crate::ops;

/// `keys edit`.
pub(super) fn edit(context: &Context, args: &Edit) -> Result<Exit, CliError> {
    let address = &args.address;
    let home = context.home()?;
    // What would keep it from being sealed is better known before anything is written.
    let plan = ops::plan_seal(address, &mut context.open()?)?;
    let is_there = plan.before.is_some();
    if args.new && is_there {
        return Err(CliError::usage(format!("{address} is there already")).hint("leave --new out"));
    }
    if !args.new && !is_there {
        let hint = format!("'keys edit --new {address}' begins with nothing");
        return Err(CliError::from(ops::OpsError::NoSecret(address.clone())).hint(hint));
    }
    if args.change.dry_run {
        show_plan(context, &plan)?;
        return if context.json { context.answer(plan_json(&plan), Exit::Pending) } else { Ok(Exit::Pending) };
    }
    let before = match is_there {
        true => {
            let opened = opened(context, |fleet| Ok(ops::open(address, None, &home, fleet)?))?;
            warn_burned(context, address, opened.burned.as_ref());
            if opened.version + 1 != plan.version {
                return Err(moved(address));
            }
            opened.value
        }
        false => Zeroizing::default(),
    };
    let scratch = Scratch::for_edit()?;
    let path = scratch.path.join(address.name());
    write(&path, &before)?;
    run(args, &path)?;
    let after = read(&path)?;
    if after == before {
        context.say(&format!("{address} is the same as before; nothing was changed"));
        return Ok(Exit::Ok);
    }
    if after.is_empty() {
        return Err(CliError::failed("the file is empty; nothing was changed")
            .hint(format!("'keys rm {address}' removes a secret; an empty value cannot be sealed")));
    }
    let sealed = context.change(|fleet, home| {
        let now = ops::plan_seal(address, fleet)?;
        if now.version != plan.version {
            return Err(moved(address));
        }
        let draft = ops::seal(&now, &after, &reason(&args.reason, "edited"), args.change.signer.as_ref(), home, fleet)?;
        Ok((now, context.place(fleet, home, vec![draft], &args.change)?))
    });
    let (plan, placed) = match sealed {
        Ok(sealed) => sealed,
        Err(e) => return Err(kept(e, scratch, args)),
    };
    let exit = placed_exit(&placed);
    if context.json {
        let placed: Vec<serde_json::Value> = placed.iter().map(placed_json).collect();
        return context.answer(serde_json::json!({ "plan": plan_json(&plan), "placed": placed }), exit);
    }
    show_plan(context, &plan)?;
    placed.iter().for_each(|p| context.say(&placed_text(p)));
    Ok(exit)
}

fn moved(address: &crate::name::Address) -> CliError {
    CliError::new(Exit::Moved, format!("somebody sealed another value of {address} in the meantime"))
        .hint("look at it again: 'keys open', 'keys diff'")
}

/// What was written is not lost because it could not be sealed.
fn kept(e: CliError, scratch: Scratch, args: &Edit) -> CliError {
    match scratch.keep() {
        Ok(directory) => {
            let file = directory.join(args.address.name());
            e.hint(format!(
                "what you wrote is kept in memory, until this machine restarts: keys seal {} --in {}; then remove {}",
                args.address,
                shown(&file),
                shown(&directory)
            ))
        }
        Err(lost) => e.hint(format!("what you wrote could not be kept: {lost}")),
    }
}

fn write(path: &Path, value: &[u8]) -> Result<(), CliError> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, value))
        .map_err(|e| CliError::failed(format!("cannot write {}: {e}", shown(path))))
}

/// Runs the editor, as a shell would read its name: it may have arguments.
fn run(args: &Edit, path: &Path) -> Result<(), CliError> {
    let set = |name| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let editor = args.editor.clone().or_else(|| set("VISUAL")).or_else(|| set("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let told = crate::text::shown(&editor).to_string();
    let status = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("keys-edit")
        .arg(path)
        .current_dir(path.parent().unwrap_or(Path::new("/")))
        .status()
        .map_err(|e| CliError::failed(format!("cannot run the editor '{told}': {e}")))?;
    if status.success() {
        return Ok(());
    }
    Err(CliError::failed(format!("the editor '{told}' ended with {status}; nothing was changed"))
        .hint("VISUAL, EDITOR or --editor name another one"))
}

/// Reads what the editor left, which may have put another file in the place of ours.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let failed =
        |e: std::io::Error| CliError::failed(format!("cannot read back {}: {e}; nothing was changed", shown(path)));
    let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(no_follow.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > SECRET_BYTES_MAX as u64 {
        return Err(CliError::failed(format!("the value has more than {SECRET_BYTES_MAX} bytes; nothing was changed")));
    }
    let mut value = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1));
    file.take(SECRET_BYTES_MAX as u64).read_to_end(&mut value).map_err(failed)?;
    Ok(value)
}
