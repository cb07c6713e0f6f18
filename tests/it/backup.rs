//! Backups: any k of the custodians open one, fewer do not; what was changed is refused by name; what comes out is the fleet,
//! and signs nothing before it is shown not to be behind.

use std::path::{Path, PathBuf};

use crate::support::{GpgHome, Needles, Ran, Sandbox, TestFleet, Tool, files_below, private_numbers, tests};

tests!["backup":
    every_two_of_three_open_it_and_no_one_alone,
    a_share_is_worth_what_it_is,
    whatever_is_changed_is_refused_and_named,
    a_restore_goes_into_an_empty_directory_of_the_pinned_fleet,
    what_was_restored_signs_nothing_before_it_is_confirmed,
    nothing_private_is_in_a_backup_or_beside_it,
    no_custody_is_refused,
    a_damaged_keyring_is_not_backed_up,
    a_killed_backup_or_restore_leaves_nothing_or_all_of_it,
    gpg_opens_a_share_and_checks_the_manifest needs [Gpg],
    a_modern_fleet_is_backed_up_and_restored,
    a_full_disk_is_told_and_leaves_no_half_backup needs [MountNamespace],
    a_disk_that_fills_up_meanwhile_leaves_no_half_backup needs [Strace],
];

const CUSTODIANS: [&str; 3] = ["alice", "bob", "carol"];

/// A fleet of three operators with a secret, and a backup of it: `fleet.backup`, 2 of 3.
pub(crate) fn backed_up(sandbox: &Sandbox) -> TestFleet<'_> {
    let fleet = TestFleet::of_two(sandbox);
    fleet.keys("carol", &["enroll", "carol", "--operator", "Carol <carol@ops.example>"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("bob", &["approve", "--all", "--yes"]).exits(4);
    fleet.keys("alice", &["sync"]).ok();
    fleet.join("fra1", "");
    fleet.seal("fra1/token", "the-value-of-the-token-of-fra1");
    make(&fleet, "fleet.backup").ok();
    fleet
}

fn make(fleet: &TestFleet<'_>, name: &str) -> Ran {
    let mut args = vec!["backup", "--out", name, "--need", "2"];
    CUSTODIANS.iter().for_each(|c| args.extend(["--custodian", c]));
    fleet.keys("alice", &args)
}

/// Makes the one-time key in `out`, and has these custodians seal their shares to it. Gives the arguments of the restore.
pub(crate) fn shares(fleet: &TestFleet<'_>, backup: &str, out: &str, custodians: &[&str]) -> Vec<String> {
    fleet.keys("nobody", &["restore", "prepare", backup, "--out", out]).ok();
    let to = format!("{out}/restore.pgp");
    let mut args = Vec::new();
    for who in custodians {
        let share = fleet.keys(who, &["backup", "open-share", backup, "--as", who, "--to", &to, "--yes"]).ok();
        assert!(share.starts_with("-----BEGIN PGP MESSAGE-----"), "{share}");
        let file = format!("{out}-{who}.share");
        fleet.sandbox.write(&file, share);
        args.extend(["--share".to_owned(), file]);
    }
    args
}

fn restore(fleet: &TestFleet<'_>, backup: &str, out: &str, shares: &[String]) -> Ran {
    let pin = pin(fleet);
    let mut args = vec!["restore", backup, "--out", out, "--pin", &pin];
    args.extend(shares.iter().map(String::as_str));
    // Nobody: a machine that has nothing yet.
    fleet.sandbox.keys(&[&["--fleet", "nowhere", "--home", "nobody"], args.as_slice()].concat())
}

fn pin(fleet: &TestFleet<'_>) -> String {
    fleet.keys("alice", &["status", "--json"]).json()["id"].as_str().unwrap().to_owned()
}

/// What whoever copies, removes or unpacks would type.
fn shell(sandbox: &Sandbox, line: &str) {
    let status = std::process::Command::new("/bin/sh").args(["-c", line]).current_dir(sandbox.root()).status();
    assert!(status.unwrap().success(), "{line}");
}

/// Every file below a directory but those that come and go, with its content.
fn tree(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let relative = |path: &PathBuf| path.strip_prefix(directory).unwrap().to_owned();
    let mut all: Vec<_> = files_below(directory).iter().map(|p| (relative(p), std::fs::read(p).unwrap())).collect();
    all.retain(|(path, _)| path != Path::new("keyring/.restored"));
    all
}

fn every_two_of_three_open_it_and_no_one_alone(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let original = tree(&sandbox.path("fleet"));
    for (i, pair) in [["alice", "bob"], ["alice", "carol"], ["bob", "carol"]].iter().enumerate() {
        let out = format!("restored{i}");
        let shares = shares(&fleet, "fleet.backup", &out, pair);
        for one in shares.chunks(2) {
            restore(&fleet, "fleet.backup", &out, one).refuses(4, "1 of 2 shares are there; 1 more are needed");
        }
        let twice = [&shares[..2], &shares[..2]].concat();
        restore(&fleet, "fleet.backup", &out, &twice).refuses(4, "1 of 2 shares are there");
        let said = restore(&fleet, "fleet.backup", &out, &shares).ok();
        assert!(said.starts_with("restored: "), "{said}");
        assert!(tree(&sandbox.path(&out).join("fleet")) == original, "{pair:?}: other files than were backed up");
        let left: Vec<_> = std::fs::read_dir(sandbox.path(&out)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["fleet"], "the one-time key is gone");
        let dir = format!("{out}/fleet");
        sandbox.keys(&["--fleet", &dir, "--home", "fra1", "open", "fra1/token"]).ok();
    }
}

fn a_share_is_worth_what_it_is(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    make(&fleet, "other.backup").ok();
    let good = shares(&fleet, "fleet.backup", "restored", &["alice", "bob"]);
    // A share of another backup, sealed to the same key.
    let to = "restored/restore.pgp";
    let open = |who: &str, as_whom: &str, backup: &str| {
        fleet.keys(who, &["backup", "open-share", backup, "--as", as_whom, "--to", to, "--yes"])
    };
    sandbox.write("other.share", open("bob", "bob", "other.backup").ok());
    let with = |file: &str| [&good[..2], &["--share".to_owned(), file.to_owned()]].concat();
    restore(&fleet, "fleet.backup", "restored", &with("other.share"))
        .refuses(3, "the share of other.share: it is of another backup");
    // Another's, and somebody's who has none.
    open("alice", "bob", "fleet.backup").refuses(5, "the openpgp key of bob is not in this home");
    open("fra1", "fra1", "fleet.backup").refuses(3, "the backup has none; its custodians are alice, bob, carol");
    // Sealed to another machine that restores.
    fleet.keys("nobody", &["restore", "prepare", "fleet.backup", "--out", "elsewhere"]).ok();
    let args = ["backup", "open-share", "fleet.backup", "--as", "bob", "--to", "elsewhere/restore.pgp", "--yes"];
    sandbox.write("elsewhere.share", fleet.keys("bob", &args).ok());
    restore(&fleet, "fleet.backup", "restored", &with("elsewhere.share")).refuses(3, "it is sealed to other keys");
    sandbox.write("noise.share", b"noise");
    restore(&fleet, "fleet.backup", "restored", &with("noise.share")).refuses(3, "the share of noise.share");
    // Without a terminal nobody has compared the fingerprint.
    let unasked = ["backup", "open-share", "fleet.backup", "--as", "bob", "--to", to];
    assert_eq!(fleet.keys("bob", &unasked).exits(9), "");
    restore(&fleet, "fleet.backup", "restored", &good).ok();
}

fn whatever_is_changed_is_refused_and_named(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let good = shares(&fleet, "fleet.backup", "restored", &["alice", "bob"]);
    let whole = std::fs::read(sandbox.path("fleet.backup")).unwrap();
    let mut at = Vec::new();
    let mut from = 0;
    // The headers of the parts, and a byte in the middle of each.
    for name in ["share-alice.pgp", "share-bob.pgp", "share-carol.pgp", "body.pgp", "manifest.json", "manifest.sig"] {
        let header = from + whole[from..].windows(name.len()).position(|w| w == name.as_bytes()).unwrap();
        let size = std::str::from_utf8(&whole[header + 124..header + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        at.extend([
            (header, "header"),
            (header + 130, "header"),
            (header + 512, name),
            (header + 512 + size / 2, name),
        ]);
        at.push((header + 512 + size - 1, name));
        from = header + 512 + size;
    }
    at.push((whole.len() - 1, "no bytes"));
    for (i, (byte, part)) in at.iter().enumerate() {
        let mut changed = whole.clone();
        changed[*byte] ^= 1;
        sandbox.write("changed.backup", &changed);
        let ran = restore(&fleet, "changed.backup", "restored", &good);
        let shown = fleet.keys("alice", &["backup", "show", "changed.backup"]);
        let said = format!("{}{}", ran.stderr(), shown.stderr());
        for ran in [&ran, &shown] {
            assert!([1, 3].contains(&ran.code()), "{i}: byte {byte} of {part}: exit {}: {}", ran.code(), ran.stderr());
        }
        // What the manifest itself says decides about the rest; its own bytes are the signature's.
        let named = said.contains(part) || said.contains("manifest") || *part == "header" || *part == "no bytes";
        assert!(named, "byte {byte} of {part}: {said}");
        assert!(!sandbox.path("restored/fleet").exists(), "byte {byte} of {part}");
    }
    for end in [0, 1, 511, 512, 1000, whole.len() / 2, whole.len() - 1024, whole.len() - 1] {
        sandbox.write("cut.backup", &whole[..end]);
        restore(&fleet, "cut.backup", "restored", &good).refuses(3, "cut short");
    }
    sandbox.write("long.backup", [whole.as_slice(), b"x"].concat());
    restore(&fleet, "long.backup", "restored", &good).refuses(3, "bytes where there should be none");
    restore(&fleet, "fleet.backup", "restored", &good).ok();
}

fn a_restore_goes_into_an_empty_directory_of_the_pinned_fleet(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    sandbox.write("full/file", b"somebody's");
    std::fs::set_permissions(sandbox.path("full"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let prepare = |out: &str| fleet.keys("nobody", &["restore", "prepare", "fleet.backup", "--out", out]);
    prepare("full").refuses(1, "is not empty: it has file");
    let good = shares(&fleet, "fleet.backup", "restored", &["alice", "bob"]);
    prepare("restored").refuses(1, "is not empty");
    sandbox.write("restored/more", b"somebody's");
    restore(&fleet, "fleet.backup", "restored", &good).refuses(1, "is not empty: it has more");
    std::fs::remove_file(sandbox.path("restored/more")).unwrap();
    restore(&fleet, "fleet.backup", "full", &good).refuses(1, "no one-time key");
    let other = "0".repeat(64);
    let args =
        ["restore", "fleet.backup", "--out", "restored", "--pin", &other, "--share", &good[1], "--share", &good[3]];
    sandbox.keys(&[&["--home", "nobody"], &args[..]].concat()).refuses(3, "this is not the pinned fleet");
    let unpinned = ["--home", "nobody", "restore", "fleet.backup", "--out", "restored", "--share", &good[1]];
    sandbox.keys(&unpinned).refuses(2, "is not believed");
    assert!(!sandbox.path("restored/fleet").exists());
    restore(&fleet, "fleet.backup", "restored", &good).ok();
    restore(&fleet, "fleet.backup", "restored", &good).refuses(1, "no one-time key");
    make(&fleet, "fleet.backup").refuses(1, "exists");
}

fn what_was_restored_signs_nothing_before_it_is_confirmed(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let old = std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    let homes = |to: &str| {
        sandbox.copy("alice", to);
        // A machine that was set up anew has not seen anything.
        std::fs::remove_file(sandbox.path(to).join("seen")).unwrap();
    };
    homes("anew");
    let good = shares(&fleet, "fleet.backup", "restored", &["alice", "carol"]);
    restore(&fleet, "fleet.backup", "restored", &good).ok();
    fleet.seal("fra1/token", "a newer value");
    let newer = std::fs::read(fleet.keyring("log/checkpoint")).unwrap();
    let run =
        |home: &str, args: &[&str]| sandbox.keys(&[&["--fleet", "restored/fleet", "--home", home], args].concat());
    for args in [&["sync"][..], &["rotate", "fra1", "--yes"], &["rm", "fra1/token", "--yes"]] {
        run("anew", args).refuses(8, "this keyring was restored from a backup");
    }
    // Whoever has seen more knows by that.
    run("alice", &["sync"]).refuses(3, "ROLLBACK");
    assert!(run("anew", &["log", "verify"]).ok().contains("restored from a backup"));
    assert!(run("anew", &["status"]).ok().contains("restore confirm"));
    // The backup's own checkpoint, an older one, none, a newer one, one of another log.
    let confirm = |bytes: &[u8], more: &[&str]| {
        sandbox.write("theirs", bytes);
        run("anew", &[&["restore", "confirm", "--checkpoint", "theirs"], more].concat())
    };
    confirm(&old, &[]).refuses(3, "shows nothing about what came after");
    confirm(b"noise", &[]).refuses(3, "it is not a checkpoint");
    let forged = String::from_utf8(old.clone()).unwrap().replacen("cdn.example/keys/1\n", "cdn.example/keys/2\n", 1);
    confirm(forged.as_bytes(), &[]).refuses(3, "of another log");
    confirm(&newer, &[]).refuses(8, "it is behind");
    confirm(&newer, &["--unchanged"]).refuses(8, "it is behind");
    run("anew", &["sync"]).refuses(8, "restored");
    // Brought up to date from a mirror, the mark stays, and the newer checkpoint shows it.
    shell(sandbox, "cp -a fleet/keyring/. restored/fleet/keyring/");
    run("anew", &["sync"]).refuses(8, "restored");
    confirm(&old, &["--unchanged"]).refuses(3, "shows nothing");
    assert!(confirm(&newer, &[]).ok().contains("confirmed"));
    run("anew", &["sync"]).ok();
    assert!(confirm(&newer, &[]).ok().contains("nothing to confirm"));
    // Where nothing has happened since, somebody has to say so.
    shell(sandbox, "rm -r restored");
    homes("again");
    let good = shares(&fleet, "fleet.backup", "restored", &["alice", "carol"]);
    restore(&fleet, "fleet.backup", "restored", &good).ok();
    sandbox.write("theirs", &old);
    let confirm = ["restore", "confirm", "--checkpoint", "theirs", "--unchanged"];
    assert!(run("again", &confirm).exits(0).contains("confirmed"));
    run("again", &["sync"]).ok();
}

fn nothing_private_is_in_a_backup_or_beside_it(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let good = shares(&fleet, "fleet.backup", "restored", &["bob", "carol"]);
    let request = std::fs::read(sandbox.path("restored/restore.tsk")).unwrap();
    restore(&fleet, "fleet.backup", "restored", &good).ok();
    let mut needles = Needles::default();
    for home in ["alice", "bob", "carol", "fra1"] {
        private_numbers(&sandbox.path(home)).iter().for_each(|(_, number)| needles.add(home, number));
    }
    needles.add("value", b"the-value-of-the-token-of-fra1");
    assert!(needles.found_in(&std::fs::read(sandbox.path("alice/members/alice/openpgp.tsk")).unwrap()).is_some());
    // The one-time key's own file, which is gone, was the only place for its secret; a share is in no file in the clear.
    let marks: [&[u8]; 2] = [b"\"share\":\"", &request[request.len() - 200..]];
    let mut count = 0;
    for file in files_below(sandbox.root()) {
        let place = file.strip_prefix(sandbox.root()).unwrap();
        if ["alice", "bob", "carol", "fra1"].iter().any(|home| place.starts_with(home)) {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(needles.found_in(&bytes), None, "{}", place.display());
        // The manifest names shares by their digests.
        let found = marks.iter().any(|mark| bytes.windows(mark.len()).any(|w| w == *mark));
        assert!(!found || place == Path::new("fleet.backup"), "{}", place.display());
        count += 1;
    }
    assert!(count > 70, "{count} files were read");
}

fn no_custody_is_refused(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let refused = |custodians: &[&str], need: &str, code: i32, part: &str| {
        let mut args = vec!["backup", "--out", "new.backup", "--need", need];
        custodians.iter().for_each(|c| args.extend(["--custodian", c]));
        fleet.keys("alice", &args).refuses(code, part);
        assert!(!sandbox.path("new.backup").exists() && !sandbox.path("new.backup.partial").exists());
    };
    refused(&["alice", "bob"], "1", 1, "1 of 2 is no custody");
    refused(&["alice", "bob"], "3", 1, "3 of 2 is no custody");
    refused(&["alice", "bob", "alice"], "2", 1, "alice is there twice");
    refused(&["alice", "fra1"], "2", 1, "fra1 is a pop; custodians are operators");
    refused(&["alice", "dave"], "2", 5, "dave is not a member");
    refused(&["alice", "./absent.pgp"], "2", 5, "absent.pgp");
    // A certificate file: somebody outside; but alice's own under another name is still alice.
    fleet.export_ring("ring", &[]);
    let ring = std::fs::read(sandbox.path("ring/ring.pgp")).unwrap();
    sandbox.write("ring.pgp", ring);
    refused(&["alice", "./ring.pgp"], "2", 1, "certificates; exactly one");
    let own = crate::support::fingerprints(&sandbox.path("ring/ring.pgp"))["Alice <alice@ops.example>"].to_lowercase();
    let path = format!("fleet/keyring/certs/{}/{}", &own[..2], &own[2..]);
    refused(&["alice", &path], "2", 1, "is there twice");
    fleet
        .keys("fra1", &["backup", "--out", "new.backup", "--need", "2", "--custodian", "alice", "--custodian", "bob"])
        .refuses(5, "no operator or authority who could sign a backup");
}

fn a_damaged_keyring_is_not_backed_up(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let sealed = fleet.keyring("sealed/fra1/token.pgp");
    let mut bytes = std::fs::read(&sealed).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&sealed, bytes).unwrap();
    make(&fleet, "damaged.backup").refuses(3, "sealed/fra1/token.pgp");
    assert!(!sandbox.path("damaged.backup").exists());
}

/// Killed after every few milliseconds: the backup is there and whole, or not there; the same of a restore.
fn a_killed_backup_or_restore_leaves_nothing_or_all_of_it(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let good = shares(&fleet, "fleet.backup", "restored", &["alice", "bob"]);
    let pin = pin(&fleet);
    let backup = "--fleet fleet --home alice backup --out new.backup --need 2 --custodian alice --custodian bob";
    let restore_line = format!("--home nobody restore fleet.backup --out restored --pin {pin} {}", good.join(" "));
    let (mut killed, mut whole) = (0, 0);
    for (line, made) in [(backup, "new.backup"), (restore_line.as_str(), "restored/fleet")] {
        let args: Vec<&str> = line.split(' ').collect();
        let start = std::time::Instant::now();
        let mut after = std::time::Duration::from_millis(2);
        loop {
            let mut child = sandbox.start(&args);
            std::thread::sleep(after);
            // It may have finished by itself.
            let _ = child.kill();
            let status = child.wait().unwrap();
            // However slow the machine is today, this comes to the command's end within some dozens of runs.
            after = after.mul_f64(1.15) + std::time::Duration::from_millis(1);
            if sandbox.path(made).exists() {
                whole += 1;
                break;
            }
            assert!(!status.success(), "{made}: it said that it was done");
            killed += 1;
            assert!(start.elapsed().as_secs() < 600, "{made} never comes to an end");
        }
    }
    assert!(killed > 4 && whole == 2, "{killed} kills, {whole} whole");
    fleet.keys("alice", &["backup", "show", "new.backup"]).ok();
    let ran = sandbox.keys(&["--fleet", "restored/fleet", "--home", "nobody", "--pin", &pin, "log", "verify"]);
    assert!(ran.ok().contains("verified"));
}

/// A custodian without this program: gpg opens her share, and checks who made the backup.
fn gpg_opens_a_share_and_checks_the_manifest(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    shell(sandbox, "tar xf fleet.backup");
    let gpg = GpgHome::new(sandbox, "g");
    gpg.import(&sandbox.path("carol/members/carol/openpgp.tsk"));
    let share = gpg.run(&["--decrypt", sandbox.path("share-carol.pgp").to_str().unwrap()]).ok();
    assert!(share.contains("\"custodian\":\"carol\"") && share.ends_with("\"v\":1}\n"), "{share}");
    // She hands it on with gpg alone.
    fleet.keys("nobody", &["restore", "prepare", "fleet.backup", "--out", "restored"]).ok();
    let text = sandbox.write("carol.txt", &share);
    let to = sandbox.path("restored/restore.pgp");
    let out = sandbox.path("carol.share");
    let paths = [to.to_str().unwrap(), out.to_str().unwrap(), text.to_str().unwrap()];
    gpg.run(&[
        "--trust-model",
        "always",
        "--compress-algo",
        "none",
        "--recipient-file",
        paths[0],
        "--output",
        paths[1],
        "--encrypt",
        paths[2],
    ])
    .ok();
    std::fs::remove_file(text).unwrap();
    let args = ["backup", "open-share", "fleet.backup", "--as", "bob", "--to", "restored/restore.pgp", "--yes"];
    sandbox.write("bob.share", fleet.keys("bob", &args).ok());
    let shares = ["--share", "carol.share", "--share", "bob.share"].map(str::to_owned);
    restore(&fleet, "fleet.backup", "restored", &shares).ok();
    // And the manifest.
    let (ring, _) = fleet.export_ring("ring", &[]);
    gpg.import(&ring);
    let file = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    let good = gpg.run(&["--verify", &file("manifest.sig"), &file("manifest.json")]);
    good.ok();
    assert!(!GpgHome::status(&good, "GOODSIG").is_empty(), "{}", good.stderr());
    let mut manifest = std::fs::read(sandbox.path("manifest.json")).unwrap();
    manifest[20] ^= 1;
    sandbox.write("manifest.json", manifest);
    assert_ne!(gpg.run(&["--verify", &file("manifest.sig"), &file("manifest.json")]).code(), 0);
}

/// The other profile: another encryption for the body, for shares, for the one-time key.
fn a_modern_fleet_is_backed_up_and_restored(sandbox: &Sandbox) {
    let fleet = TestFleet { sandbox };
    let init = ["init", "cdn.example", "--operator", "Alice <alice@ops.example>", "--profile", "modern"];
    fleet.keys("alice", &init).ok();
    fleet.keys("bob", &["enroll", "bob", "--operator", "Bob <bob@ops.example>"]).ok();
    fleet.keys("alice", &["approve", "--all", "--yes"]).ok();
    fleet.join("fra1", "");
    fleet.seal("fra1/token", "the value");
    let custodians = ["--custodian", "alice", "--custodian", "bob"];
    let make = ["backup", "--out", "fleet.backup", "--need", "2", "--private-halves", "casc1", "--yes"];
    fleet.keys("alice", &[&make[..], &custodians].concat()).ok();
    let original = tree(&sandbox.path("fleet"));
    let good = shares(&fleet, "fleet.backup", "restored", &["alice", "bob"]);
    restore(&fleet, "fleet.backup", "restored", &good[..2]).refuses(4, "1 of 2 shares are there");
    restore(&fleet, "fleet.backup", "restored", &good).ok();
    assert!(tree(&sandbox.path("restored/fleet")) == original);
    assert!(sandbox.path("restored/home/members/casc1").is_dir());
    let opened = sandbox.keys(&["--fleet", "restored/fleet", "--home", "fra1", "open", "fra1/token"]).ok();
    assert_eq!(opened, "the value");
    // A damaged body of this profile is as noticed as one of the other: it is authenticated in chunks.
    let mut bytes = std::fs::read(sandbox.path("fleet.backup")).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    sandbox.write("changed.backup", bytes);
    restore(&fleet, "changed.backup", "elsewhere", &good).refuses(3, "body.pgp is not what the manifest says");
}

const OUT: [&str; 9] = ["backup", "--out", "new.backup", "--need", "2", "--custodian", "alice", "--custodian", "bob"];

fn no_half(sandbox: &Sandbox, directory: &str) {
    for name in ["new.backup", "new.backup.partial"] {
        assert!(!sandbox.path(directory).join(name).exists(), "{directory}/{name}");
    }
}

/// A disk too small for it: said beforehand, with numbers, and nothing is written.
fn a_full_disk_is_told_and_leaves_no_half_backup(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let program = env!("CARGO_BIN_EXE_keys");
    let line = format!("{program} --fleet fleet --home alice {}", OUT.join(" ").replace("new.", "small/new."));
    let script = format!(
        "mkdir small && mount -t tmpfs -o size=32k none small || exit 99
        {line}; code=$?; ls -A small; [ $code = 1 ] || exit 98
        mount -o remount,size=16m small && {line} >&2 && {program} --fleet fleet --home alice backup show small/new.backup >&2"
    );
    let mut command = std::process::Command::new("/usr/bin/unshare");
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").current_dir(sandbox.root());
    let ran = Ran::of(command.args(["-m", "/bin/sh", "-c", &script]));
    assert_eq!(ran.ok(), "", "what is left on the full disk");
    assert!(ran.stderr().contains("cannot write small/new.backup: it needs about"), "{}", ran.stderr());
    fleet.keys("alice", &["log", "verify"]).ok();
}

/// There was room when it began: each write, the sync and the naming fail once.
fn a_disk_that_fills_up_meanwhile_leaves_no_half_backup(sandbox: &Sandbox) {
    let fleet = backed_up(sandbox);
    let partial = sandbox.path("new.backup.partial");
    let inject = |call: &str, nth: usize| {
        let mut command = Tool::Strace.command();
        command.current_dir(sandbox.root()).args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(&partial);
        command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:error=ENOSPC:when={nth}")]);
        command.args([env!("CARGO_BIN_EXE_keys"), "--fleet", "fleet", "--home", "alice"]).args(OUT);
        Ran::of(&mut command)
    };
    let refused = |ran: &Ran| {
        ran.refuses(1, "No space left on device");
        assert!(ran.stderr().contains("new.backup"), "{}", ran.stderr());
        no_half(sandbox, "");
    };
    let mut failed = 0;
    for nth in [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 1_000] {
        let ran = inject("write", nth);
        if ran.code() == 0 {
            std::fs::remove_file(sandbox.path("new.backup")).unwrap();
            break;
        }
        refused(&ran);
        failed += 1;
    }
    assert!((4..11).contains(&failed), "{failed} writes failed");
    refused(&inject("fsync", 1));
    fleet.keys("alice", &OUT).ok();
    fleet.keys("alice", &["backup", "show", "new.backup"]).ok();
}
