//! The shape of a structured file: the file with a placeholder for each value.
//!
//! ```text
//! keys/shape/1 yaml
//! # the database
//! db:
//!   user: <text>
//!   port: <integer> # the usual one
//! ```
//! Keys, their order, comments and white space in front of values stay as they are. Of a value only its kind is told:
//! neither its length nor how many lines it takes nor how far a comment stands behind it. A comment that begins as an
//! assignment does (`# password: …`) is taken for a value that somebody has put out of use, and is hidden with the comment
//! lines that follow it at once.
//!
//! A shape is checked as it is made: read again it has the same ways, and nothing but placeholders at their ends.

use super::format::Format;
use super::leaf::{FormatError, Kind, Leaf, path_text};
use crate::limits::SHAPE_BYTES_MAX;

/// What the first line begins with.
const HEAD: &str = "keys/shape/1 ";
/// What stands for a comment that is hidden.
const COMMENT: &str = "# <comment>";

/// Why there is no shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// The file is broken.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The value is no text.
    #[error("it is not UTF-8")]
    NotText,
    /// There is nothing in it.
    #[error("there is no value in it")]
    Empty,
    /// It is too large.
    #[error("its shape has more than {SHAPE_BYTES_MAX} bytes")]
    TooLarge,
    /// It is written in a way of which no shape can be made.
    #[error("no shape can be made of it around {0}; write that value in a simpler way, or seal the file whole")]
    Unclear(String),
    /// Bytes that are no shape.
    #[error("it is no shape")]
    NotAShape,
}

/// A structured file without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The file's format.
    pub format: Format,
    /// The file, with placeholders.
    pub text: String,
}

impl Shape {
    /// The shape of a file.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn of(format: Format, file: &[u8]) -> Result<Self, ShapeError> {
        let text = std::str::from_utf8(file).map_err(|_| ShapeError::NotText)?;
        let leaves = format.scan(text)?;
        if leaves.is_empty() {
            return Err(ShapeError::Empty);
        }
        let shape = with_placeholders(format, text, &leaves);
        if shape.len() > SHAPE_BYTES_MAX {
            return Err(ShapeError::TooLarge);
        }
        // Should a place be wrong, part of a value would be left: then there is no shape.
        let again = format.scan(&shape).map_err(|e| ShapeError::Unclear(format!("line {}", e.line)))?;
        let differs = |a: &Leaf, b: &Leaf| a.path != b.path || (b.value.as_str() != placeholder(a.kind) && !is_bare(a));
        if let Some((leaf, _)) = leaves.iter().zip(&again).find(|(a, b)| differs(a, b)) {
            return Err(ShapeError::Unclear(path_text(&leaf.path)));
        }
        if leaves.len() != again.len() {
            return Err(ShapeError::Unclear("its end".to_owned()));
        }
        Ok(Self { format, text: shape })
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{HEAD}{}\n{}", self.format, self.text).into_bytes()
    }

    /// Reads what [`Shape::to_bytes`] has written.
    ///
    /// # Errors
    /// [`ShapeError::NotAShape`], [`ShapeError::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ShapeError> {
        if bytes.len() > SHAPE_BYTES_MAX.saturating_add(64) {
            return Err(ShapeError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ShapeError::NotAShape)?;
        let (head, text) = text.split_once('\n').ok_or(ShapeError::NotAShape)?;
        let format = head.strip_prefix(HEAD).and_then(|f| f.parse().ok()).ok_or(ShapeError::NotAShape)?;
        Ok(Self { format, text: text.to_owned() })
    }
}

fn placeholder(kind: Kind) -> String {
    format!("<{kind}>")
}

/// Nothing, written as nothing: there is no place for a placeholder, and nothing to hide.
fn is_bare(leaf: &Leaf) -> bool {
    leaf.kind == Kind::Null && leaf.span.is_empty()
}

fn with_placeholders(format: Format, text: &str, leaves: &[Leaf]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gaps = Gaps { format, hiding: false };
    let mut at = 0;
    for leaf in leaves.iter().filter(|leaf| !is_bare(leaf)) {
        gaps.push(text.get(at..leaf.span.start).unwrap_or_default(), at == 0, &mut out);
        let placeholder = placeholder(leaf.kind);
        match format {
            Format::Json | Format::Toml => out.push_str(&format!("\"{placeholder}\"")),
            Format::Yaml | Format::Env | Format::Ini => out.push_str(&placeholder),
        }
        at = leaf.span.end;
    }
    gaps.push(text.get(at..).unwrap_or_default(), at == 0, &mut out);
    out
}

/// What stands between values: keys, punctuation, comments.
struct Gaps {
    format: Format,
    /// Whether the comment lines that come belong to one that is hidden.
    hiding: bool,
}

impl Gaps {
    fn push(&mut self, gap: &str, first: bool, out: &mut String) {
        for (i, line) in gap.split_inclusive('\n').enumerate() {
            let (content, end) = line.strip_suffix('\n').map_or((line, ""), |l| (l, "\n"));
            // Right behind a value white space tells how long it is where comments stand below each other.
            let behind = i == 0 && !first;
            let content = match content.trim_start_matches([' ', '\t']) {
                _ if !behind => content.to_owned(),
                "" | "\r" => content.trim_start_matches([' ', '\t']).to_owned(),
                rest if rest.len() < content.len() => format!(" {rest}"),
                rest => rest.to_owned(),
            };
            out.push_str(&self.line(&content, behind));
            out.push_str(end);
        }
    }

    fn line(&mut self, line: &str, behind: bool) -> String {
        let Some(at) = self.comment(line) else {
            self.hiding &= line.trim().is_empty() && behind;
            return line.to_owned();
        };
        let (before, comment) = line.split_at(at);
        let alone = before.trim().is_empty() && !behind;
        self.hiding = is_assignment(comment) || (self.hiding && alone);
        let end = if line.ends_with('\r') { "\r" } else { "" };
        if self.hiding { format!("{before}{COMMENT}{end}") } else { line.to_owned() }
    }

    /// Where a comment begins in a line.
    fn comment(&self, line: &str) -> Option<usize> {
        let marks: &[u8] = match self.format {
            Format::Json => return None,
            Format::Ini => b"#;",
            Format::Yaml | Format::Toml | Format::Env => b"#",
        };
        let mut quote = None;
        let mut before = b' ';
        for (i, b) in line.bytes().enumerate() {
            match quote {
                Some(q) if b == q => quote = None,
                Some(_) => {}
                // An apostrophe in a word opens nothing.
                None if matches!(b, b'\'' | b'"') && !before.is_ascii_alphanumeric() => quote = Some(b),
                None if marks.contains(&b) && (before.is_ascii_whitespace() || self.format == Format::Toml) => {
                    return Some(i);
                }
                None => {}
            }
            before = b;
        }
        None
    }
}

/// Whether a comment begins as an assignment does.
fn is_assignment(comment: &str) -> bool {
    let text = comment.trim_start_matches(['#', ';', ' ', '\t', '-']);
    let text = text.strip_prefix("export ").unwrap_or(text).trim_start_matches(['"', '\'']);
    let name = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))).unwrap_or(text.len());
    let rest = text.get(name..).unwrap_or_default().trim_start_matches(['"', '\'', ' ', '\t']);
    // `https://` is none.
    name > 0 && (rest.starts_with('=') || (rest.starts_with(':') && !rest.starts_with("://")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(format: Format, text: &str) -> String {
        Shape::of(format, text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}")).text
    }

    #[test]
    fn keys_order_and_comments_stay_and_values_do_not() {
        for (format, text, shape) in [
            (
                Format::Yaml,
                "# see https://ops.example\ndb: # said\n  user: web   # one\n  pass: hidden#  # two\n  key: |\n    hidden\n    hidden\n\n  port: 1\nlist: [a, 'b', ~]\nnone:\nend: \"x\"",
                "# see https://ops.example\ndb: # said\n  user: <text> # one\n  pass: <text> # two\n  key: <text>\n\n  port: <integer>\nlist: [<text>, <text>, <null>]\nnone:\nend: <text>",
            ),
            (
                Format::Json,
                "{\n  \"a\": \"hidden\",\n  \"b\": [1.5, true, null] }\n",
                "{\n  \"a\": \"<text>\",\n  \"b\": [\"<float>\", \"<boolean>\", \"<null>\"] }\n",
            ),
            (
                Format::Toml,
                "# said\n[a]\nx = 'hidden'\t# why\nwhen = 1979-05-27\n",
                "# said\n[a]\nx = \"<text>\" # why\nwhen = \"<time>\"\n",
            ),
            (
                Format::Env,
                "# said\r\nexport A=hidden  # why\r\nB='two\nlines'\r\nC=\r\n",
                "# said\r\nexport A=<text> # why\r\nB=<text>\r\nC=<text>\r\n",
            ),
            (Format::Ini, "; said\n[a]\nx = hidden # all\ny =\n", "; said\n[a]\nx = <text>\ny =<text>\n"),
        ] {
            assert_eq!(of(format, text), shape, "{format}");
        }
    }

    #[test]
    fn what_was_put_out_of_use_is_hidden() {
        let text = "# key: |\n#   hidden\n#   hidden\n\n# said\na: 1 # b=hidden\n  # PASSWORD = hidden\nc: 2\n# - export X=hidden\n# it's\n";
        let shape = "# <comment>\n# <comment>\n# <comment>\n\n# said\na: <integer> # <comment>\n  # <comment>\nc: <integer>\n# <comment>\n# <comment>\n";
        assert_eq!(of(Format::Yaml, text), shape);
        assert_eq!(
            of(Format::Yaml, "it's: 1 # x: hidden\n\"a #b: c\": 2\n"),
            "it's: <integer> # <comment>\n\"a #b: c\": <integer>\n"
        );
    }

    /// However long the values are, and over how many lines, the shape is the same.
    #[test]
    fn a_shape_does_not_tell_how_long_a_value_is() {
        let file = |value: &str, blanks: &str| format!("a: {value}{blanks}# c\nb: {value}\n");
        let one = of(Format::Yaml, &file("x", "          "));
        assert_eq!(one, of(Format::Yaml, &file("'a much longer value'", " ")));
        assert_eq!(of(Format::Yaml, "a: |\n  x\nb: 1\n"), of(Format::Yaml, "a: >-\n    x\n    y\n    z\nb: 2\n"));
    }

    #[test]
    fn a_shape_is_kept_and_read() {
        let shape = Shape::of(Format::Env, b"A=hidden\n").unwrap();
        assert_eq!(shape.to_bytes(), b"keys/shape/1 env\nA=<text>\n");
        assert_eq!(Shape::parse(&shape.to_bytes()), Ok(shape));
        assert_eq!(Shape::parse(b"keys/shape/2 env\nA"), Err(ShapeError::NotAShape));
        assert_eq!(Shape::of(Format::Yaml, b"# nothing\n"), Err(ShapeError::Empty));
        assert_eq!(Shape::of(Format::Yaml, b"\xff"), Err(ShapeError::NotText));
        assert!(matches!(Shape::of(Format::Json, b"{"), Err(ShapeError::Format(_))));
    }

    proptest::proptest! {
        /// A value that is marked is nowhere in the shape, however it is written.
        #[test]
        fn no_value_is_left(values in proptest::collection::vec("[ -~]{0,12}", 1..6), fold in 0_usize..4) {
            let marked: Vec<String> = values.iter().map(|v| format!("SECRET{v}SECRET")).collect();
            let quoted = |v: &String| serde_json::Value::from(v.as_str()).to_string();
            let written = |v: &String| match fold {
                0 => quoted(v),
                1 => format!("'{}'", v.replace('\'', "''")),
                2 => format!("|\n    {v}\n    {v}"),
                _ => format!(">-\n    {v}\n\n    {v}"),
            };
            let yaml: String = marked.iter().enumerate().map(|(i, v)| format!("# c\nk{i}:\n  v: {}\n", written(v))).collect();
            let json: String = marked.iter().enumerate().map(|(i, v)| format!("\"k{i}\": {}", quoted(v))).collect::<Vec<_>>().join(", ");
            for (format, text) in [(Format::Yaml, yaml), (Format::Json, format!("{{{json}}}"))] {
                let shape = Shape::of(format, text.as_bytes());
                proptest::prop_assert!(shape.as_ref().is_ok_and(|s| !s.text.contains("SECRET")), "{text}\n{shape:?}");
            }
        }
    }
}
