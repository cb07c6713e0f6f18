//! `keys store probe`: whether an object store keeps its word to several writers.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{CliError, Exit};

/// A keyring in an object store.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Debug, Subcommand)]
enum StoreVerb {
    /// Try with many writers at once whether the store keeps its word; without that nothing is written to it
    Probe,
}

/// `keys store …`.
pub(super) fn store(context: &Context, args: &StoreArgs) -> Result<Exit, CliError> {
    match args.verb {
        StoreVerb::Probe => match context.store_address() {
            Some(address) => probe_it(context, address),
            None => Err(CliError::usage("a directory has a lock, and needs no probe")
                .hint("name an object store: --fleet s3://BUCKET/PREFIX")),
        },
    }
}

#[cfg(not(feature = "store-object"))]
fn probe_it(_: &Context, address: &str) -> Result<Exit, CliError> {
    Err(CliError::usage(format!("{}: this keys was built without object stores", crate::text::shown(address))))
}

#[cfg(feature = "store-object")]
fn probe_it(context: &Context, address: &str) -> Result<Exit, CliError> {
    use crate::disk::{Probing, probe};
    use rand::RngExt as _;

    let store = context.cloud(address)?;
    let (home, _lock) = context.create_home()?;
    let scratch = format!("probe/{:016x}/", context.rng()?.random::<u64>());
    let how = Probing::default();
    context.say(&format!("{} writers at once, below {address}/{scratch}", how.writers));
    let probed = probe(&store, &scratch, how).map_err(|e| {
        CliError::new(Exit::Unknown, format!("cannot find out: {}", crate::text::shown(&e.to_string())))
    })?;
    let held = probed.held();
    home.set_probed(store.identity(), held)?;
    let exit = if held { Exit::Ok } else { Exit::No };
    let requests = store.requests().load(std::sync::atomic::Ordering::Relaxed);
    if context.json {
        let value = serde_json::json!({
            "held": held, "requests": requests,
            "created": probed.created, "double_wins": probed.double_wins, "wrong": probed.wrong,
            "appended": probed.appended, "appended_lost": probed.appended_lost,
            "counted": probed.counted, "counted_lost": probed.counted_lost,
        });
        return context.answer(value, exit);
    }
    let line = |text: &str| context.out.line(text);
    line(&format!(
        "create if absent   {} names, {} double wins, {} wrong",
        probed.created, probed.double_wins, probed.wrong
    ))?;
    line(&format!("append             {} entries, {} lost", probed.appended, probed.appended_lost))?;
    line(&format!("replace unchanged  {} times, {} lost", probed.counted, probed.counted_lost))?;
    line(if held { "held" } else { "broken: this store is not fit for a keyring with more than one writer" })?;
    Ok(exit)
}
