//! Writes a tar archive (POSIX.1-1988, ustar) with the same bytes for the same files: sorted by path, no owner, one date.

use std::collections::BTreeMap;

use crate::time::Time;

const BLOCK: usize = 512;

/// An archive of `files`, all of them dated `time`. Paths are at most 100 bytes; the caller's names are bounded.
pub(super) fn archive(files: &BTreeMap<String, Vec<u8>>, time: Time) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, bytes) in files {
        out.extend(header(path, bytes.len(), time));
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

fn header(path: &str, size: usize, time: Time) -> [u8; BLOCK] {
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in header.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    let mode = if path.ends_with(".sh") { "0000755\0" } else { "0000644\0" };
    put(0, path.as_bytes());
    put(100, mode.as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", time.0).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in header.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(148, format!("{sum:06o}\0 ").as_bytes());
    header
}
