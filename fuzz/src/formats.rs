//! Targets for other people's formats: structured files and their shapes, sops files, vaults.

use keys::formats::{Format, Shape, Sops, open_vault, path_text};

/// A structured file of each format: places lie in the text, ways are one each, and its shape is that of its shape.
///
/// # Panics
/// If they do not, or it is not.
pub fn structured(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in Format::ALL {
        let Ok(leaves) = format.scan(text) else { continue };
        let mut ways = std::collections::BTreeSet::new();
        let mut end = 0;
        for leaf in &leaves {
            assert!(text.get(leaf.span.clone()).is_some(), "{format}: {leaf:?} lies in the text");
            assert!(leaf.span.start >= end, "{format}: {leaf:?} comes after the one before");
            end = leaf.span.end;
            assert!(ways.insert(path_text(&leaf.path)), "{format}: {leaf:?} is there twice");
        }
        let Ok(shape) = Shape::of(*format, data) else { continue };
        assert_eq!(Shape::parse(&shape.to_bytes()).as_ref(), Ok(&shape));
        let again = format.scan(&shape.text).expect("a shape is a file of its format");
        assert_eq!(again.len(), leaves.len(), "{format}: {text:?} has the shape {:?}", shape.text);
        let told = |value: &str| value.is_empty() || (value.starts_with('<') && value.ends_with('>'));
        assert!(again.iter().all(|leaf| told(&leaf.value)), "{format}: {text:?} has the shape {:?}", shape.text);
    }
}

/// A shape as it is kept has one spelling.
///
/// # Panics
/// If it has two.
pub fn shape(data: &[u8]) {
    let Ok(shape) = Shape::parse(data) else { return };
    assert_eq!(shape.to_bytes(), data);
}

/// A sops file, with a data key that is none.
pub fn sops_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in [Format::Yaml, Format::Json, Format::Env, Format::Ini] {
        let Ok(sops) = Sops::parse(format, text) else { continue };
        let _ = (sops.stanzas(), sops.clear_count());
        let _ = sops.open(&seeds::DATA_KEY);
    }
}

/// What ansible-vault writes.
pub fn vault(data: &[u8]) {
    let _ = open_vault(data, b"a password");
}

/// What to begin with.
pub mod seeds {
    use keys::formats::{Format, Shape, SopsStanza, write_sops};
    use keys::time::Time;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    /// The data key of the sops files here.
    pub const DATA_KEY: [u8; 32] = [7; 32];

    const FILES: [(Format, &str); 5] = [
        (Format::Yaml, "# c\na:\n  - 'x' # d\n  - {b: 1.5, c: ~}\n  - |2-\n     two\n     lines\ne: !!str f\n"),
        (Format::Json, "{\"a\": [\"x\\n\\u00fc\", -1.5e3, true, null, {}], \"b\": {\"c\": \"\"}}"),
        (Format::Toml, "# c\n[a.\"b c\"]\nx = 'y' # d\nz = [1, 1979-05-27]\n[[e]]\nf = \"\"\"\ng\"\"\"\n"),
        (Format::Env, "# c\nexport A=x # d\nB='y\nz'\nC=\"\\n\\$\"\nD=\n"),
        (Format::Ini, "; c\ntop = 1\n[a b]\nx: y # z\n"),
    ];

    /// Of [`super::structured`].
    pub fn structured() -> Vec<Vec<u8>> {
        FILES.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
    }

    /// Of [`super::shape`].
    pub fn shape() -> Vec<Vec<u8>> {
        FILES.iter().filter_map(|(format, text)| Some(Shape::of(*format, text.as_bytes()).ok()?.to_bytes())).collect()
    }

    /// Of [`super::sops_file`].
    pub fn sops_file() -> Vec<Vec<u8>> {
        let stanza = SopsStanza { fingerprint: "94A0".to_owned(), message: "-----BEGIN".to_owned() };
        let write = |format| {
            let values = [("a", "x"), ("b", "two\nlines")];
            let mut rng = StdRng::from_seed([5; 32]);
            let file = write_sops(&values, format, &DATA_KEY, &[stanza.clone()], Time(1_795_244_400), &mut rng);
            file.expect("names that can be written").into_bytes()
        };
        vec![write(Format::Yaml), write(Format::Json)]
    }

    /// Of [`super::vault`].
    pub fn vault() -> Vec<Vec<u8>> {
        vec![
            b"$ANSIBLE_VAULT;1.1;AES256\n30300a30300a3030\n".to_vec(),
            b"$ANSIBLE_VAULT;1.2;AES256;prod\n3030\n".to_vec(),
        ]
    }
}
