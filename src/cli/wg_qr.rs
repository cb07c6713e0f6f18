//! `keys wg qr`: the configuration of a peer without an agent, as text and as a QR code (ISO/IEC 18004) on the terminal.
//!
//! The private key is the peer's own and is not kept here: whoever has it gives it on stdin, and it goes to the terminal
//! and nowhere else.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};

use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

use super::context::Context;
use super::exit::{CliError, Exit};
use crate::limits::KEY_FILE_BYTES_MAX;
use crate::name::MemberName;
use crate::ops;
use crate::wireguard::render::ExternalConfig;
use crate::wireguard::{CheckedMesh, External, WgPrivateKey};

/// Bytes in the largest code at the lowest level of correction: version 40-L.
const QR_BYTES_MAX: usize = 2_953;
/// Light modules around a code, on each side: the standard's.
const QUIET: usize = 4;
/// Bright white on black, whatever the terminal's own colours are, as a phone's camera expects it.
const COLOURS: &str = "\x1b[38;5;231m\x1b[48;5;16m";
const PLAIN: &str = "\x1b[0m";

pub(super) fn qr(context: &Context, name: &MemberName, private: bool, text: bool) -> Result<Exit, CliError> {
    let fleet = context.open_published()?;
    let mesh = ops::mesh(fleet.state())?;
    let external = found(&mesh, name)?;
    let config = ExternalConfig::new(&mesh, external);
    if !private {
        context.out.bytes(config.without_key().as_bytes())?;
        context.say("the private key is missing in it; with it comes a QR code: --private-key - < KEYFILE");
        return Ok(Exit::Ok);
    }
    if !text && !std::io::stdout().is_terminal() {
        return Err(CliError::usage("what would be printed has the private key in it, and stdout is no terminal")
            .hint("run it in a terminal; --text prints the text alone, to whatever reads it"));
    }
    let key = read_key()?;
    if external.node.key(external.lane) != Some(key.public()) {
        return Err(CliError::new(
            Exit::No,
            format!("the private key belongs to {}, and the policy has another public key for {name}", key.public()),
        ));
    }
    if text {
        context.out.bytes(config.with_key(&key).as_bytes())?;
        return Ok(Exit::Ok);
    }
    let code = code(&config, &key)?;
    context.out.bytes(config.with_key(&key).as_bytes())?;
    context.out.bytes(drawn(&code).as_bytes())?;
    Ok(Exit::Ok)
}

fn found<'m>(mesh: &'m CheckedMesh, name: &MemberName) -> Result<&'m External, CliError> {
    mesh.externals().iter().find(|external| external.node.name == *name).ok_or_else(|| {
        let names: Vec<String> = mesh.externals().iter().map(|external| external.node.name.to_string()).collect();
        let known =
            if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
        let error = CliError::new(Exit::NotFound, format!("the policy has no [[external]] '{name}'; {known}"));
        match mesh.node(name) {
            Some(_) => error.hint("a PoP has an agent and files of its own: keys wg render"),
            None => error,
        }
    })
}

/// Reads what `wg genkey` prints.
fn read_key() -> Result<WgPrivateKey, CliError> {
    if std::io::stdin().is_terminal() {
        return Err(CliError::usage("the private key is read from stdin, which is a terminal")
            .hint("give it as --private-key - < KEYFILE"));
    }
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX + 1));
    let limit = u64::try_from(KEY_FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    let read = std::io::stdin().lock().take(limit).read_to_string(&mut text);
    read.map_err(|e| CliError::new(Exit::Unknown, format!("cannot read the private key: {e}")))?;
    WgPrivateKey::from_file_text(&text)
        .map_err(|e| CliError::new(Exit::No, format!("stdin is no private key as `wg genkey` prints it: {e}")))
}

fn code(config: &ExternalConfig, key: &WgPrivateKey) -> Result<QrCode, CliError> {
    let text = config.compact(key);
    QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L).map_err(|_| {
        let fit = fitting(text.len(), config.peers);
        CliError::failed(format!(
            "{} peers make {} bytes, and a QR code holds {QR_BYTES_MAX}: about {fit} peers",
            config.peers,
            text.len()
        ))
        .hint("narrow 'peers' of the [[external]], or print the text alone: --text")
    })
}

/// How many peers of the size of these fit.
fn fitting(bytes: usize, peers: usize) -> usize {
    // The part that is not peers has about 150 bytes.
    let each = bytes.saturating_sub(150).checked_div(peers).unwrap_or(0).max(1);
    (QR_BYTES_MAX - 150) / each
}

/// Two rows of the code a line, light on dark.
fn drawn(code: &QrCode) -> Zeroizing<String> {
    let width = code.width();
    let colors = code.to_colors();
    let side = width + 2 * QUIET;
    let light = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < width);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => colors.get(y * width + x) != Some(&Color::Dark),
            (_, _) => true,
        }
    };
    let mut text = Zeroizing::new(String::with_capacity(side * side * 3));
    for y in (0..side).step_by(2) {
        text.push_str(COLOURS);
        for x in 0..side {
            // Below the last row there is nothing: dark, as the background.
            text.push(match (light(x, y), y + 1 < side && light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        let _ = writeln!(text, "{PLAIN}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modules of what is drawn: true is dark.
    fn read_back(text: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in text.lines() {
            let line =
                line.strip_prefix(COLOURS).and_then(|line| line.strip_suffix(PLAIN)).expect("a line of the code");
            rows.push(line.chars().map(|c| matches!(c, '▄' | ' ')).collect::<Vec<_>>());
            rows.push(line.chars().map(|c| matches!(c, '▀' | ' ')).collect::<Vec<_>>());
        }
        let side = rows.first().map_or(0, Vec::len);
        rows.truncate(side);
        rows
    }

    #[test]
    fn somebody_elses_reader_reads_what_is_drawn() {
        for text in ["[Interface]\nPrivateKey=x\n".to_owned(), "A".repeat(1_000), "b".repeat(QR_BYTES_MAX)] {
            let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L).expect("a code");
            let rows = read_back(&drawn(&code));
            assert_eq!(rows.len(), code.width() + 2 * QUIET);
            assert!(rows.iter().all(|row| row.len() == rows.len()), "a square");
            let inside = rows.len() - 2 * QUIET;
            let grid = rqrr::SimpleGrid::from_func(inside, |x, y| rows[y + QUIET][x + QUIET]);
            let (_, content) = rqrr::Grid::new(grid).decode().expect("a readable code");
            assert_eq!(content, text);
            let edge = |at: usize| !(QUIET..QUIET + inside).contains(&at);
            let quiet = (0..rows.len()).all(|y| (0..rows.len()).all(|x| !(edge(x) || edge(y)) || !rows[y][x]));
            assert!(quiet, "nothing dark in the quiet zone");
        }
        assert!(QrCode::with_error_correction_level("b".repeat(QR_BYTES_MAX + 1), EcLevel::L).is_err());
    }

    #[test]
    fn how_many_fit_follows_from_their_size() {
        assert_eq!(fitting(150 + 40 * 130, 40), 21);
    }
}
