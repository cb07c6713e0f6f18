//! The target for what lint looks through: any file beside a fleet.

use keys::lint::{is_binary, plain};

/// A file that may hold values that were never sealed.
pub fn plain_values(data: &[u8]) {
    let lines = String::from_utf8_lossy(data).lines().count();
    let mut before = 0;
    for found in plain(data) {
        assert!(found.line > before && found.line <= lines, "each line is told of once, in order");
        before = found.line;
    }
    let _ = is_binary(data);
}

/// Where chance begins.
pub mod seeds {
    /// Of [`super::plain_values`].
    pub fn plain_values() -> Vec<Vec<u8>> {
        let body = "q8Zr3VtYw1Lk5Nf0Hs7Dx2Jc9Gb4Mp6TaUeQiRoSyPuW";
        let block = format!("-----BEGIN {}-----\n{body}\n", "OPENSSH PRIVATE KEY");
        let words = format!("db_password: '{body}'\nPrivateKey = {body}=\nghp{}{body}\n", '_');
        vec![block.into_bytes(), words.into_bytes()]
    }
}
