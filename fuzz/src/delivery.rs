//! Targets for the agent's own formats: hooks, acknowledgements, generations, and who asks for a credential.

use keys::agent::{Ack, Hooks, Manifest, asked_by};
use keys::limits::{
    ACK_BYTES_MAX, DELIVERY_FILES_MAX, DELIVERY_PARTS_MAX, HOOK_ARGUMENTS_MAX, HOOK_SECONDS_MAX, HOOKS_MAX,
    SERVICES_MAX,
};
use keys::policy::check_file_name;
use keys::text::is_hidden;

/// One of the four, by the first byte.
///
/// # Panics
/// If it breaks a promise.
pub fn delivery(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => drop(std::str::from_utf8(rest).map(hooks)),
        1 => ack(rest),
        2 => credential(rest),
        _ => manifest(rest),
    }
}

/// Hooks that are read are programs by their paths, within the limits, and read back when they are written.
fn hooks(text: &str) {
    let hooks = match Hooks::parse("hooks.toml", text) {
        Ok(hooks) => hooks,
        Err(error) => return assert!(!error.to_string().contains(|c| c != '\n' && is_hidden(c)), "{error}"),
    };
    let mut written = String::new();
    for (name, hook) in hooks.iter() {
        assert!(hook.run[0].starts_with('/') && hook.run.len() <= HOOK_ARGUMENTS_MAX);
        assert!(hook.run.iter().all(|word| !word.contains('\0') && word.len() <= 4_096));
        assert!((1..=HOOK_SECONDS_MAX).contains(&hook.timeout.0));
        assert_eq!(hooks.find(name), Some(hook));
        let word = |word: &String| {
            format!("\"{}\"", word.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect::<String>())
        };
        let run = hook.run.iter().map(word).collect::<Vec<_>>().join(",");
        written.push_str(&format!("[{name}]\nrun = [{run}]\ntimeout = \"{}\"\n", hook.timeout));
    }
    assert!(hooks.iter().count() <= HOOKS_MAX);
    // Ten bytes for each of theirs may be more than is read.
    if written.len() < text.len().max(4_096) {
        assert_eq!(Hooks::parse("hooks.toml", &written).as_ref(), Ok(&hooks), "{written}");
    }
}

/// An acknowledgement has one spelling, and nothing in it that a terminal would not show.
fn ack(data: &[u8]) {
    let (ack, note) = match Ack::parse(data) {
        Ok(read) => read,
        Err(problem) => return assert!(!problem.contains(is_hidden), "{problem:?}"),
    };
    assert_eq!((ack.to_text(), note.to_bytes().as_slice()), (note.text, data));
    assert!(data.len() <= ACK_BYTES_MAX && ack.deliveries.len() <= SERVICES_MAX + 1 && ack.size > 0);
    assert!(ack.is_said_by(&ack), "an acknowledgement that is said anew at once");
    assert!(![&ack.log, &ack.program].iter().any(|text| text.contains(is_hidden)));
}

/// Whoever asks is one unit for one credential, both in visible characters, and its name is told in one way.
fn credential(data: &[u8]) {
    let Some((unit, credential)) = asked_by(data) else { return };
    for part in [unit, credential] {
        assert!(!part.is_empty() && !part.contains('/') && !part.contains(is_hidden), "{part:?}");
    }
    let end = format!("/unit/{unit}/{credential}");
    assert!(data.ends_with(end.as_bytes()));
    assert_eq!(asked_by(end.as_bytes()), Some((unit, credential)));
}

/// A manifest has one spelling, and no name that leads out of its directory.
fn manifest(data: &[u8]) {
    let manifest = match Manifest::parse(data) {
        Ok(manifest) => manifest,
        Err(problem) => return assert!(!problem.contains(is_hidden), "{problem:?}"),
    };
    assert_eq!(manifest.to_text().as_bytes(), data);
    assert!(manifest.files.len() <= DELIVERY_FILES_MAX);
    for file in &manifest.files {
        assert_eq!(check_file_name(&file.name), Ok(()));
        assert!((1..=DELIVERY_PARTS_MAX).contains(&file.parts.len()));
        assert_eq!(manifest.file(&file.name), Some(file), "two files of one name");
    }
    assert!(!manifest.is_part_of(&manifest));
    assert_eq!(manifest.directory_mode() & 0o007, 0, "others get in");
}

/// What to begin with.
pub mod seeds {
    use keys::agent::{AckedDelivery, HookName, ManifestFile, Outcome, Part};
    use keys::digest::Digest;
    use keys::name::Protection;
    use keys::time::Time;

    use super::*;

    /// Of [`super::delivery`]: two of each kind.
    pub fn delivery() -> Vec<Vec<u8>> {
        let delivered = |directory: &str, outcome, generation: Option<u64>| AckedDelivery {
            directory: directory.parse().expect("a label"),
            expired: generation.is_none(),
            failed: if outcome == Outcome::Current { Vec::new() } else { vec![HookName::Reload, HookName::Verify] },
            generation,
            member: "nginx@fra1".parse().expect("a name"),
            outcome,
        };
        let ack = |deliveries| Ack {
            boot: None,
            at: Time(1_795_244_400),
            deliveries,
            log: "cdn.example/keys/1".to_owned(),
            member: "fra1".parse().expect("a name"),
            program: "0.1.0".to_owned(),
            protection: Protection::File,
            root: Digest::of(b"root"),
            size: 120,
            v: Ack::VERSION,
        };
        let noted = |ack: Ack| format!("{}\n\u{2014} cdn.example/fra1 AAAAAAAA\n", ack.to_text()).into_bytes();
        let part = |name: &str| Part {
            address: format!("nginx@fra1/{name}").parse().expect("an address"),
            body: Digest::of(name.as_bytes()),
            version: 3,
        };
        let file = |name: &str, mode: &str, parts: Vec<Part>| ManifestFile {
            name: name.to_owned(),
            mode: mode.parse().expect("a mode"),
            parts,
        };
        let manifest = |owner: &str, files| Manifest {
            member: "nginx@fra1".parse().expect("a name"),
            owner: owner.parse().ok(),
            files,
        };
        let hook = "[nginx-check]\nrun = [\"/etc/keys/nginx-check\"]\ntimeout = \"10s\"\n";
        let two = format!("{hook}[reload]\nrun = [\"/bin/systemctl\", \"reload\", \"nginx\"]\n");
        let pem = file("tls.pem", "0440", vec![part("tls.crt"), part("tls.key")]);
        [
            (0, hook.as_bytes().to_vec()),
            (0, two.into_bytes()),
            (
                1,
                noted(ack(vec![
                    delivered("nginx", Outcome::RolledBack, Some(8)),
                    delivered("dns", Outcome::Stuck, None),
                ])),
            ),
            (1, noted(ack(vec![delivered("nginx", Outcome::Current, Some(1))]))),
            (2, b"a1b2c3/unit/nginx.service/tls.pem".to_vec()),
            (2, b"/unit/a@b.service/x".to_vec()),
            (3, manifest("root:www-data", vec![pem, file("tsig", "0400", vec![part("tsig")])]).to_text().into_bytes()),
            (3, manifest("", Vec::new()).to_text().into_bytes()),
        ]
        .map(|(kind, rest)| [&[kind][..], &rest].concat())
        .to_vec()
    }
}
