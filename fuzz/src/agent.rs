//! Targets for what gpg-agent answers.

use keys::gpg_agent::assuan::{Line, data_lines, plus_encode};
use keys::gpg_agent::sexp;
use keys::limits::AGENT_LINE_BYTES_MAX;

/// A canonical S-expression has one spelling.
pub fn sexp(data: &[u8]) {
    let Ok(expression) = sexp::parse(data) else { return };
    assert_eq!(expression.to_bytes(), data);
    let _ = expression.value(&["sig-val", "eddsa", "r"]);
}

/// A line of Assuan, and the same bytes as data that we send.
pub fn assuan(data: &[u8]) {
    let _ = Line::parse(data).map(|line| format!("{line:?}"));
    let mut read = Vec::new();
    for line in data_lines(data).split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\n").expect("lines end");
        assert!(line.len() <= AGENT_LINE_BYTES_MAX);
        let Ok(Line::Data(part)) = Line::parse(line) else { panic!("our own line is not data") };
        read.extend_from_slice(&part);
    }
    assert_eq!(read, data);
    let word = plus_encode(&String::from_utf8_lossy(data));
    assert!(word.bytes().all(|b| b.is_ascii_graphic()));
}

/// What to begin with.
pub mod seeds {
    /// Of [`super::sexp`].
    pub fn sexp() -> Vec<Vec<u8>> {
        vec![
            b"(7:sig-val(5:eddsa(1:r2:ab)(1:s3:c)d)))".to_vec(),
            b"(5:value33:@0123456789abcdef0123456789abcdef)".to_vec(),
        ]
    }

    /// Of [`super::assuan`].
    pub fn assuan() -> Vec<Vec<u8>> {
        let lines = [
            "OK Pleased to meet you",
            "ERR 67108881 No secret key <GPG Agent>",
            "D (7:a%25%0Ab)",
            "S INQUIRE_MAXLEN 4096",
            "INQUIRE CIPHERTEXT x",
            "# comment",
        ];
        lines.iter().map(|line| line.as_bytes().to_vec()).collect()
    }
}
