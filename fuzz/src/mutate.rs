//! Changes an input at random, in the ways that break parsers.

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

/// An input grows to at most this many bytes: the largest entry of a log and a little more.
pub const BYTES_MAX: usize = 80 << 10;

/// Numbers at the edges of their widths.
const EDGES: [u64; 12] =
    [0, 1, 127, 128, 255, 256, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 53, i64::MAX as u64, u64::MAX];

/// Changes `input` a few times. `others` are inputs to take pieces from, `words` those of the format.
pub fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str], rng: &mut StdRng) {
    // Mostly one change: two things wrong at once hide each other.
    let count = 1 + rng.next_u32().trailing_zeros().min(5);
    for _ in 0..count {
        once(input, others, words, rng);
    }
    input.truncate(BYTES_MAX);
}

fn once(input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str], rng: &mut StdRng) {
    let at = place(input, rng);
    match rng.random_range(0..12) {
        0 | 1 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        2 if at < input.len() => input[at] = rng.random(),
        3 => input.truncate(at),
        4 => {
            let range = part(input, rng);
            input.drain(range);
        }
        5 => {
            let range = part(input, rng);
            let copy = input[range].to_vec();
            insert(input, at, &copy);
        }
        6 => {
            let range = part(input, rng);
            let copy = input[range].to_vec();
            overwrite(input, at, &copy);
        }
        7 if !others.is_empty() => {
            let other = &others[rng.random_range(0..others.len())];
            let piece = other[part(other, rng)].to_vec();
            if rng.random() { insert(input, at, &piece) } else { overwrite(input, at, &piece) }
        }
        8 | 9 if !words.is_empty() => {
            let word = words[rng.random_range(0..words.len())].as_bytes();
            if rng.random() { insert(input, at, word) } else { overwrite(input, at, word) }
        }
        10 => {
            let edge = EDGES[rng.random_range(0..EDGES.len())].to_be_bytes();
            overwrite(input, at, &edge[8 - (1 << rng.random_range(0..4))..]);
        }
        _ => digits(input, at, rng),
    }
}

/// A place in the input or at its end.
fn place(input: &[u8], rng: &mut StdRng) -> usize {
    rng.random_range(0..=input.len())
}

/// A part of the input, mostly a short one.
fn part(input: &[u8], rng: &mut StdRng) -> std::ops::Range<usize> {
    let at = place(input, rng);
    let longest = if rng.random_range(0..4) == 0 { input.len() } else { 16 };
    at..(at + rng.random_range(0..=longest)).min(input.len())
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if input.len() + piece.len() <= BYTES_MAX {
        input.splice(at..at, piece.iter().copied());
    }
}

fn overwrite(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let end = (at + piece.len()).min(input.len());
    input.splice(at..end, piece.iter().copied());
}

/// Replaces the decimal number at or after `at` by another.
fn digits(input: &mut Vec<u8>, at: usize, rng: &mut StdRng) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
    let length = input[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let number = match rng.random_range(0..3) {
        0 => rng.random_range(0..300_u64),
        1 => EDGES[rng.random_range(0..EDGES.len())],
        _ => {
            let old = std::str::from_utf8(&input[start..start + length]).ok().and_then(|n| n.parse::<u64>().ok());
            old.unwrap_or_default().wrapping_add(if rng.random() { 1 } else { u64::MAX })
        }
    };
    input.splice(start..start + length, number.to_string().bytes());
}
