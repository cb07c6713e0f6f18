//! The directories that services read: no pair is torn for whoever opens a generation once, and owners, modes and crashes.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use keys::agent::{Manifest, ManifestFile, Part};
use keys::digest::Digest;
use keys::node::{Ids, RunDirectory, read_together};
use zeroize::Zeroizing;

use crate::support::{Sandbox, tests};

tests!["delivery":
    no_pair_is_torn_in_twenty_thousand_rotations,
    owner_and_mode_are_right_before_anybody_sees_a_file,
    what_a_crash_left_is_tidied_up,
];

/// What a service is given: a certificate and its key, both at `version`.
fn pair(version: u64) -> (Manifest, Vec<Zeroizing<Vec<u8>>>) {
    let file = |name: &str| ManifestFile {
        name: name.to_owned(),
        mode: "0400".parse().unwrap(),
        parts: vec![Part {
            address: format!("nginx@fra1/{name}").parse().unwrap(),
            body: Digest::of(&version.to_be_bytes()),
            version,
        }],
    };
    let manifest =
        Manifest { member: "nginx@fra1".parse().unwrap(), owner: None, files: vec![file("tls.crt"), file("tls.key")] };
    // Of different lengths, so that half a file shows.
    let value =
        |name: &str| Zeroizing::new(format!("{name} {version}\n").repeat(1 + version as usize % 7).into_bytes());
    let values = vec![value("tls.crt"), value("tls.key")];
    (manifest, values)
}

/// The version of a file of `pair`; nothing for one that is not whole.
fn version_of(name: &str, bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let version: u64 = text.lines().next()?.strip_prefix(name)?.trim().parse().ok()?;
    let (_, values) = pair(version);
    values.iter().any(|v| v.as_slice() == bytes).then_some(version)
}

#[expect(clippy::print_stderr, reason = "how often a path tears is worth knowing")]
fn no_pair_is_torn_in_twenty_thousand_rotations(sandbox: &Sandbox) {
    const ROTATIONS: u64 = 20_000;
    // In memory, as it is on a machine: on a disk each step is flushed.
    let memory = Path::new("/dev/shm");
    let made = memory.is_dir().then(|| tempfile::tempdir_in(memory).unwrap());
    let place = made.as_ref().map_or_else(|| sandbox.path("run"), |d| d.path().join("run"));
    let run = RunDirectory::create(&place).unwrap();
    let service = run.service(&"nginx".parse().unwrap()).unwrap();
    let turn = |version: u64| {
        let (manifest, values) = pair(version);
        service.stage(version, &manifest, &values, Ids::own()).unwrap();
        service.show(version).unwrap();
        service.settle(version, version.checked_sub(1)).unwrap();
    };
    turn(1);
    let over = AtomicBool::new(false);
    let directory = service.path();
    let names = ["tls.crt", "tls.key"];
    let versions = |bytes: [&[u8]; 2]| [version_of(names[0], bytes[0]), version_of(names[1], bytes[1])];
    let ((together, torn), (by_path, torn_by_path)) = std::thread::scope(|threads| {
        let reader = threads.spawn(|| {
            let (mut reads, mut torn, mut newest) = (0_u64, 0_u64, 0);
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_micros(20));
                let files = read_together(directory, &names, 1 << 10).unwrap();
                let [Some(crt), Some(key)] = versions([&files[0], &files[1]]) else { panic!("half a file") };
                assert!(crt >= newest, "never back");
                newest = crt;
                reads += 1;
                torn += u64::from(crt != key);
            }
            (reads, torn)
        });
        let path_reader = threads.spawn(|| {
            let (mut reads, mut torn) = (0_u64, 0_u64);
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_micros(20));
                let read = names.map(|n| std::fs::read(directory.join("current").join(n)));
                // Where a generation goes away in between there is nothing to compare.
                let [Ok(crt), Ok(key)] = read else { continue };
                let [Some(crt), Some(key)] = versions([&crt, &key]) else { panic!("half a file") };
                reads += 1;
                torn += u64::from(crt != key);
            }
            (reads, torn)
        });
        for version in 2..=ROTATIONS {
            turn(version);
        }
        over.store(true, Ordering::Relaxed);
        (reader.join().unwrap(), path_reader.join().unwrap())
    });
    eprintln!(
        "{ROTATIONS} rotations: {torn} of {together} pairs torn by open_generation(), {torn_by_path} of {by_path} by path"
    );
    assert!(together > 1_000 && by_path > 1_000, "both readers read: {together}, {by_path}");
    assert_eq!(torn, 0);
    let found = service.look().unwrap();
    assert_eq!(found.generations, [ROTATIONS - 1, ROTATIONS], "one is kept for whoever is still reading");
    assert_eq!((found.current.map(|(n, _)| n), found.settled), (Some(ROTATIONS), Some(ROTATIONS)));
}

fn owner_and_mode_are_right_before_anybody_sees_a_file(sandbox: &Sandbox) {
    let run = RunDirectory::create(&sandbox.path("run")).unwrap();
    let service = run.service(&"nginx".parse().unwrap()).unwrap();
    let (mut manifest, values) = pair(1);
    manifest.files[0].mode = "0440".parse().unwrap();
    service.stage(1, &manifest, &values, Ids::own()).unwrap();
    assert!(!service.path().join("current").exists(), "nobody is shown what is only staged");
    service.show(1).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(run.path()), 0o751);
    assert_eq!(mode(service.path()), 0o751);
    assert_eq!(mode(&service.path_of(1)), 0o750, "the group of a file gets to it");
    assert_eq!(mode(&service.path().join("current/tls.crt")), 0o440);
    assert_eq!(mode(&service.path().join("current/tls.key")), 0o400);
    assert_eq!(mode(&service.path().join("gen-1.json")), 0o600);
    let own = std::fs::metadata(service.path().join("current/tls.key")).unwrap();
    assert_eq!((own.uid(), own.gid()), (Ids::own().user, Ids::own().group));
    // A directory that others write to is not used.
    let open = sandbox.path("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    assert!(RunDirectory::create(&open).unwrap_err().to_string().contains("alone to write"));
}

fn what_a_crash_left_is_tidied_up(sandbox: &Sandbox) {
    let run = RunDirectory::create(&sandbox.path("run")).unwrap();
    let name = "nginx".parse().unwrap();
    let service = run.service(&name).unwrap();
    for version in [1, 2] {
        let (manifest, values) = pair(version);
        service.stage(version, &manifest, &values, Ids::own()).unwrap();
    }
    service.show(1).unwrap();
    let left = service.path().join(".new-3");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("tls.key"), "half").unwrap();
    std::os::unix::fs::symlink("gen-2", service.path().join(".current-2")).unwrap();
    std::fs::write(service.path().join("gen-9.json"), "{}").unwrap();
    let again = run.service(&name).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(service.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["current", "gen-1", "gen-1.json", "gen-2", "gen-2.json"]);
    let found = again.look().unwrap();
    assert_eq!(found.current, Some((1, pair(1).0)));
    assert_eq!(found.settled, None, "the service has not been told of it yet");
    again.withdraw().unwrap();
    run.remove(again).unwrap();
    assert_eq!(run.services().unwrap(), []);
}
