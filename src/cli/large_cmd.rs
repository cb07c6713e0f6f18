//! Values too large to be held in memory: how `keys seal` reads them and `keys open` gives them out, part by part.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::args::Open;
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::Progress;
use super::secret_cmd::{first_of, source, warn_burned};
use crate::disk;
use crate::fleet::Fleet;
use crate::home::Home;
use crate::limits::{LARGE_BYTES_MAX, SECRET_BYTES_MAX};
use crate::name::Address;
use crate::ops::{self, Large, Opened, Parted};
use crate::store::Store;

/// A value that was read.
pub(super) enum Input {
    Whole(Zeroizing<Vec<u8>>),
    Large(Parted<File>),
}

/// A value, or what there is to read it.
pub(super) enum Output {
    Whole(Opened),
    Large(Large, Store),
}

/// Reads a value from a file or stdin.
pub(super) fn read(context: &Context, input: Option<&Path>) -> Result<Input, CliError> {
    let (mut from, size) = source(input)?;
    if size > LARGE_BYTES_MAX {
        return Err(CliError::failed(format!(
            "the value has more than {} GiB; nothing was sealed",
            LARGE_BYTES_MAX >> 30
        ))
        .hint("encrypt the data with a key of its own (age, LUKS, a database's own encryption), and seal that key"));
    }
    let is_large = size > SECRET_BYTES_MAX as u64;
    let first = if is_large { Zeroizing::default() } else { first_of(&mut from, size)? };
    if !is_large && first.len() <= SECRET_BYTES_MAX {
        return Ok(Input::Whole(first));
    }
    let fleet = context.open_published()?;
    let mut all = Cursor::new(first.as_slice()).chain(from);
    keep(context, &fleet, &mut all, size).map(Input::Large)
}

/// Keeps a large value, encrypted, until it is sealed.
pub(super) fn keep(
    context: &Context,
    fleet: &Fleet,
    value: &mut dyn Read,
    size: u64,
) -> Result<Parted<File>, CliError> {
    let profile = fleet.state().policy.policy.fleet.profile;
    let spool = disk::unnamed(context.home_path()?)?;
    let mut progress = Progress::new("read", context.quiet || size == 0);
    Ok(Parted::read(value, profile, spool, &mut |read| progress.step(read, size))?)
}

/// Opens a value; of a large one every part is there then, and whole.
pub(super) fn open(context: &Context, args: &Open, home: &Home, fleet: &mut Fleet) -> Result<Output, CliError> {
    let (address, reader) = (&args.address, args.reader.as_ref());
    let Some(large) = ops::open_large(address, reader, home, fleet)?.filter(|_| args.key.is_none()) else {
        return Ok(Output::Whole(ops::open(address, reader, home, fleet)?));
    };
    let mut progress = Progress::new("checked", context.quiet);
    large.check(fleet.store(), &mut |checked| progress.step(checked.min(large.size()), large.size()))?;
    Ok(Output::Large(large, fleet.store().clone()))
}

/// Gives out a large value.
pub(super) fn give_out(context: &Context, address: &Address, large: &Large, store: &Store) -> Result<Exit, CliError> {
    warn_burned(context, address, large.burned.as_ref());
    if context.verbose {
        let (version, author, sealed, size) = (large.version, &large.author, large.sealed, large.size());
        context.say(&format!("{address} version {version}, sealed by {author} on {sealed}, {size} bytes"));
    }
    let mut from = large.reader(store);
    let mut buffer = Zeroizing::new(vec![0; 1 << 20]);
    loop {
        let length = from.read(&mut buffer).map_err(|e| {
            CliError::new(Exit::Moved, format!("{e}; what was written until here is not all of it"))
                .hint("somebody may have sealed another value in the meantime; run it again")
        })?;
        match buffer.get(..length) {
            Some([]) | None => return Ok(Exit::Ok),
            Some(part) => context.out.bytes(part)?,
        }
    }
}
