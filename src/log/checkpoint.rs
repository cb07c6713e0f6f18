//! C2SP tlog-checkpoint: the head of the log, `origin`, `size` and `root`, a line each, in a signed note. No extension
//! lines: ML-DSA cosignatures would not cover them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;

/// The head of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, for example `cdn.example/keys/1`.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of the tree.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0))
    }

    /// Reads the signed text; `None` for any other spelling, extension lines included.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root = Digest(BASE64.decode(root).ok()?.try_into().ok()?);
        let parsed = Self { origin: origin.to_owned(), size: size.parse().ok()?, root };
        (!origin.is_empty() && parsed.to_text() == text).then_some(parsed)
    }

    /// Reads the signed text of anybody's log: extension lines may follow, none of them empty, and mean nothing here.
    pub fn parse_foreign(text: &str) -> Option<Self> {
        let end = text.match_indices('\n').nth(2)?.0 + 1;
        let (own, extensions) = text.split_at_checked(end)?;
        let whole = extensions.is_empty() || extensions.ends_with('\n');
        let right = whole && extensions.lines().all(|line| !line.is_empty());
        Self::parse(own).filter(|_| right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_one_spelling() {
        let checkpoint = Checkpoint { origin: "cdn.example/keys/1".into(), size: 7, root: Digest::of(b"x") };
        let text = checkpoint.to_text();
        assert_eq!(Checkpoint::parse(&text), Some(checkpoint));
        for wrong in [
            text.replace("\n7\n", "\n07\n"),
            text.replace("\n7\n", "\n+7\n"),
            text.clone() + "extension\n",
            text.replace('=', ""),
            text.replace("cdn.example/keys/1", ""),
        ] {
            assert_eq!(Checkpoint::parse(&wrong), None, "{wrong:?}");
        }
    }
}
