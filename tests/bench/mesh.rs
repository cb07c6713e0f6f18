//! The files of a mesh: all nodes of a full one, all files and those for wg-quick alone, beside wg-meshconf writing its own
//! for the same nodes, and one node rendering for itself, with the peak memory of a process that does nothing else.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use keys::name::MemberName;
use keys::wireguard::CheckedMesh;
use keys::wireguard::render::{FileKind, RenderOptions, Renderer, render_one};
use stage::member;

/// Sizes of the whole mesh.
const WHOLE: [usize; 2] = [100, 1_000];
/// Sizes at which one node renders for itself.
const ONE: [usize; 3] = [100, 1_000, 10_000];

/// Measures and prints. `meshconf` is the directory that wg-meshconf was installed into.
pub fn measure(meshconf: Option<&str>) {
    for count in WHOLE {
        whole(count, meshconf);
    }
    for count in ONE {
        let program = std::env::current_exe().expect("this program");
        // A process of its own, so that its peak is its own.
        let ran = Command::new(program).args(["mesh-one", &count.to_string()]).output().expect("run");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        print!("{}", String::from_utf8_lossy(&ran.stdout));
    }
}

fn whole(count: usize, meshconf: Option<&str>) {
    let mesh = stage::mesh(count);
    let quick = || RenderOptions::default().only([FileKind::WgQuick]);
    for (what, options) in [("all files", RenderOptions::default()), ("wg-quick files", quick())] {
        let (took, bytes) = best(3, || rendered(&mesh, options.clone(), |_, _, _| ()));
        said(&format!("{count} nodes, {what} of both lanes, in memory"), took, bytes);
        let directory = tempfile::tempdir().expect("a directory");
        let made = |node: &MemberName, path: &str| {
            let path = directory.path().join(node.to_string()).join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            path
        };
        let write =
            |node: &MemberName, path: &str, bytes: &[u8]| std::fs::write(made(node, path), bytes).expect("written");
        let (took, bytes) = best(1, || rendered(&mesh, options.clone(), write));
        said(&format!("{count} nodes, {what} of both lanes, written"), took, bytes);
    }
    // The same content as the other program writes: lane a's wg-quick file of each node, without fsync.
    let one_each = || {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |node: &MemberName, path: &str, bytes: &[u8]| {
            if path == "wg-quick/wg-a.conf" {
                std::fs::write(directory.path().join(format!("{node}.conf")), bytes).expect("written");
            }
        };
        rendered(&mesh, quick(), write);
        directory
    };
    let (ours, directory) = best(3, one_each);
    said(&format!("{count} nodes, one wg-quick file each, written"), ours, size(directory.path(), count));
    let Some(meshconf) = meshconf else { return };
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("database.csv"), database(&mesh)).expect("written");
    let began = Instant::now();
    let ran = Command::new("python3")
        .args(["-c", "import sys; from wg_meshconf import main; sys.exit(main())"])
        .args(["-d", "database.csv", "genconfig", "-o", "out"])
        .env("PYTHONPATH", meshconf)
        .current_dir(&directory)
        .output()
        .expect("python3");
    let theirs = began.elapsed();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    said(
        &format!("{count} nodes, one wg-quick file each, wg-meshconf"),
        theirs,
        size(&directory.path().join("out"), count),
    );
    println!("{count} nodes: {:.0} times ours", theirs.as_secs_f64() / ours.as_secs_f64());
}

fn said(what: &str, took: Duration, bytes: usize) {
    println!("{what}: {:.3} s, {:.1} MB", took.as_secs_f64(), bytes as f64 / 1e6);
}

/// Renders what `options` want of all nodes from the beginning, and gives the number of bytes.
fn rendered(mesh: &CheckedMesh, options: RenderOptions, mut put: impl FnMut(&MemberName, &str, &[u8])) -> usize {
    let mut total = 0;
    let each = |node: &MemberName, path: &str, bytes: &[u8]| {
        total += bytes.len();
        put(node, path, bytes);
        Ok::<(), Infallible>(())
    };
    let Ok(()) = Renderer::new(mesh, options).all(each);
    total
}

/// The bytes of the files in a directory, of which there have to be so many.
fn size(directory: &Path, count: usize) -> usize {
    let files = std::fs::read_dir(directory).expect("its files");
    let sizes: Vec<u64> = files.map(|file| file.and_then(|f| f.metadata()).expect("a file").len()).collect();
    assert_eq!(sizes.len(), count);
    sizes.iter().sum::<u64>() as usize
}

/// The same nodes as the other program keeps them. It needs the private keys; any will do.
fn database(mesh: &CheckedMesh) -> String {
    let mut csv =
        "Name,Address,Endpoint,AllowedIPs,ListenPort,PersistentKeepalive,FwMark,PrivateKey,DNS,MTU,Table,PreUp,\
                   PostUp,PreDown,PostDown,SaveConfig\n"
            .to_owned();
    for (i, node) in mesh.nodes().iter().enumerate() {
        let endpoint = node.endpoint.as_ref().map(|endpoint| endpoint.host.to_string()).unwrap_or_default();
        let key = stage::private_key_text(i);
        let (v4, v6) = (node.addresses.ipv4, node.addresses.ipv6);
        let _ = writeln!(csv, "{},\"{v4}/32,{v6}/128\",{endpoint},,51820,,,{},,1420,,,,,,", node.name, key.trim_end());
    }
    csv
}

/// One node of `count` renders for itself.
pub fn one(count: usize) {
    let mesh = stage::mesh(count);
    let name = member("pop7");
    let before = peak();
    let render = || render_one(&mesh, RenderOptions::default(), &name).expect("rendered");
    let (took, bytes) = best(5, || render().iter().map(|(_, bytes)| bytes.len()).sum::<usize>());
    let grown = peak().saturating_sub(before);
    println!(
        "one of {count} nodes renders for itself: {:.2} ms, {} kB of files, peak memory {} MB, of which the rendering {} MB",
        took.as_secs_f64() * 1e3,
        bytes / 1_000,
        peak() / 1_000,
        grown / 1_000
    );
}

fn best<T>(runs: usize, mut run: impl FnMut() -> T) -> (Duration, T) {
    let once = |run: &mut dyn FnMut() -> T| {
        let began = Instant::now();
        let value = run();
        (began.elapsed(), value)
    };
    let first = once(&mut run);
    (1..runs).map(|_| once(&mut run)).fold(first, |best, next| if next.0 < best.0 { next } else { best })
}

/// The largest this process has been in memory, kB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}
