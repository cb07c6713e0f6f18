//! Structured files: what is readable of them, and single values.

use serde_json::json;

use super::args::{Ls, Seal};
use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use crate::formats::{Format, Shape, path_text};
use crate::ops::{self, Opened};

/// The format that --values names, or a name tells.
pub(super) fn format_of(args: &Seal) -> Result<Option<Format>, CliError> {
    let Some(word) = args.values.as_deref() else { return Ok(None) };
    if word != "auto" {
        return word.parse().map(Some).map_err(CliError::usage);
    }
    let file = args.input.as_deref().map(shown).and_then(|name| Format::of_name(&name));
    file.or_else(|| Format::of_name(args.address.name())).map(Some).ok_or_else(|| {
        CliError::usage("no name here tells the file's format").hint("say it: --values=yaml, json, toml, env or ini")
    })
}

/// A shape, line by line, safe to show.
pub(super) fn show(context: &Context, shape: &Shape) -> Result<(), CliError> {
    if context.json {
        return Ok(());
    }
    shape.text.lines().try_for_each(|line| context.out.line(&format!("  {}", crate::text::escape(line))))
}

/// `keys ls --shape`: every structured file that matches.
pub(super) fn list(context: &Context, args: &Ls) -> Result<Exit, CliError> {
    let fleet = context.open()?;
    let addresses = fleet.state().live_secrets().filter(|(_, live)| live.shape.is_some()).map(|(a, _)| a);
    let addresses = addresses.filter(|a| args.pattern.as_ref().is_none_or(|p| p.matches(&a.to_string())));
    let mut rows = Vec::new();
    for address in addresses {
        let Some(shape) = ops::shape_of(address, &fleet)? else { continue };
        if !context.json {
            context.out.line(&format!("{address} ({})", shape.format))?;
        }
        show(context, &shape)?;
        rows.push(json!({ "address": address.to_string(), "format": shape.format.word(), "shape": shape.text }));
    }
    if context.json {
        return context.answer(json!({ "shapes": rows }), Exit::Ok);
    }
    if rows.is_empty() {
        context.say("no structured files");
    }
    Ok(Exit::Ok)
}

/// `keys open --key`: one value of a structured file, as it is without quotes and escapes.
pub(super) fn one(context: &Context, opened: &Opened, way: &str) -> Result<Exit, CliError> {
    let format = opened.format.ok_or_else(|| {
        CliError::failed("it was not sealed as a structured file").hint("'keys seal --values' does that")
    })?;
    let text = std::str::from_utf8(&opened.value).map_err(CliError::failed)?;
    let leaves = format.scan(text).map_err(CliError::failed)?;
    let Some(leaf) = leaves.iter().find(|leaf| path_text(&leaf.path) == way) else {
        let ways: Vec<String> = leaves.iter().map(|leaf| path_text(&leaf.path)).collect();
        let near = crate::text::nearest(way, ways.iter().map(String::as_str)).map(|w| format!("; did you mean {w}?"));
        let missing = format!("there is no value at {}{}", crate::text::shown(way), near.unwrap_or_default());
        return Err(CliError::new(Exit::NotFound, missing).hint("'keys ls --shape' shows what there is"));
    };
    context.out.bytes(leaf.value.as_bytes())?;
    Ok(Exit::Ok)
}
