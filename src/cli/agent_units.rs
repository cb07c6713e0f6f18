//! `keys agent units` and `keys agent mount`: what a machine with systemd needs around the agent.

use std::path::Path;

use serde_json::json;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use crate::agent::{AGENT_UNIT, Places, agent_unit, drop_in, wishes};
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::home::HOME_KEY;
use crate::name::Protection;
use crate::node::{Mounted, RunDirectory, mount_in_memory};

/// What is written where.
pub(super) struct Written<'a> {
    pub out: &'a Path,
    pub program: &'a str,
    pub run_dir: &'a Path,
    pub hooks: &'a Path,
    pub metrics: Option<&'a Path>,
}

/// A path as it is on the machine: whole, and text.
pub(super) fn whole(path: &Path) -> Result<String, CliError> {
    let whole = std::path::absolute(path).map_err(|e| CliError::failed(format!("cannot find {}: {e}", shown(path))))?;
    let text = whole.to_str().map(str::to_owned);
    text.ok_or_else(|| CliError::usage(format!("{} is no text, which a unit is", shown(path))))
}

/// `keys agent units`.
pub(super) fn units(context: &Context, written: &Written<'_>) -> Result<Exit, CliError> {
    let home = context.home()?;
    let fleet = context.open_published()?;
    let places = Places {
        program: written.program.to_owned(),
        fleet: whole(&context.fleet_directory()?)?,
        home: whole(context.home_path()?)?,
        run: whole(written.run_dir)?,
        hooks: whole(written.hooks)?,
        metrics: written.metrics.map(whole).transpose()?,
        home_key: match home.protection() {
            Protection::File => None,
            Protection::Host | Protection::Tpm2 => Some(whole(&context.home_path()?.join(HOME_KEY))?),
        },
    };
    let mut files = vec![(AGENT_UNIT.to_owned(), agent_unit(&places).map_err(CliError::usage)?)];
    let (wishes, troubles) = wishes(fleet.state(), &home.members()?, fleet.now());
    troubles.iter().for_each(|t| context.say(t));
    for wish in &wishes {
        files.extend(drop_in(wish, &places).map_err(CliError::usage)?);
    }
    let failed = |source| DiskError { doing: "create", path: shown(written.out), source };
    let disk = Disk::new(RealFiles::create(written.out, Access::Public).map_err(failed)?);
    for (path, text) in &files {
        disk.replace(path, text.as_bytes())?;
    }
    if context.json {
        let paths: Vec<&String> = files.iter().map(|(path, _)| path).collect();
        return context.answer(json!({ "written": paths }), Exit::Ok);
    }
    for (path, _) in &files {
        context.out.line(&shown(&written.out.join(path)))?;
    }
    context.say("then: systemctl daemon-reload && systemctl enable --now keys-agent.service");
    Ok(Exit::Ok)
}

/// `keys agent mount`.
pub(super) fn mount(context: &Context, directory: &Path) -> Result<Exit, CliError> {
    let run = RunDirectory::create(directory)?;
    let mounted = mount_in_memory(run.path()).map_err(|e| {
        CliError::failed(format!("cannot mount a file system in memory on {}: {e}", shown(run.path())))
            .hint("it needs root; without it the files lie on whatever lies there, which 'keys agent' says")
    })?;
    let what = match mounted {
        Mounted::NoSwap => "in memory, never swapped",
        Mounted::Swappable => "in memory; this kernel may swap it",
        Mounted::Before => "in memory already",
    };
    context.out.line(&format!("{}: {what}", shown(run.path())))?;
    Ok(Exit::Ok)
}
