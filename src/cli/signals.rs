//! SIGTERM and SIGINT: the first is noticed where it does no harm, and the second ends the process at once.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use super::exit::{CliError, Exit};

/// A socket from which something can be read once the end is wanted.
pub(super) fn ending() -> Result<UnixStream, CliError> {
    ending_by(&Arc::new(AtomicBool::new(false)))
}

/// The same; `wanted` becomes true with it.
pub(super) fn ending_by(wanted: &Arc<AtomicBool>) -> Result<UnixStream, CliError> {
    let failed = |e: std::io::Error| CliError::failed(format!("cannot wait for signals: {e}"));
    let (wake, woken) = UnixStream::pair().map_err(failed)?;
    for signal in [SIGTERM, SIGINT] {
        // In this order: the second finds what the first has left.
        let status = i32::from(Exit::Failed.code());
        signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(wanted)).map_err(failed)?;
        signal_hook::flag::register(signal, Arc::clone(wanted)).map_err(failed)?;
        pipe::register(signal, woken.try_clone().map_err(failed)?).map_err(failed)?;
    }
    Ok(wake)
}
