//! Since when this machine runs, and by what this running is told apart from others.

use crate::time::Span;

/// What the kernel makes up at each start, and for how long it has been running; none where that cannot be read.
pub fn running() -> Option<(String, Span)> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let id = read("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let uptime = read("/proc/uptime")?;
    let seconds = uptime.split(['.', ' ']).next()?.parse().ok()?;
    (!id.is_empty()).then_some((id, Span(seconds)))
}
