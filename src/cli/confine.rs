//! What a server may still do once it serves, held by the kernel (Landlock, landlock(7)): nobody can lift it from within, and
//! it needs no privilege. What the kernel does not know yet is left out.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags,
};

/// Confines this thread, and all that it starts from now on, to files: reading and writing below `written`, reading below
/// each of `read` that is there. No file elsewhere can be opened, nothing can be run, no connection made, no port bound, no
/// other process be sent a signal. What is open already stays open. Gives whether the kernel holds it; `false` is what an
/// older kernel says.
///
/// # Errors
/// If the kernel can, and does not.
pub(super) fn confine(written: &Path, read: &[PathBuf]) -> Result<bool, RulesetError> {
    let reading: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let writing =
        reading | make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer});
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    if let Ok(place) = PathFd::new(written) {
        rules = rules.add_rule(PathBeneath::new(place, writing))?;
    }
    for place in read.iter().filter_map(|path| PathFd::new(path).ok()) {
        rules = rules.add_rule(PathBeneath::new(place, reading))?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::disk::{Access, Disk, RealFiles};

    #[test]
    fn what_is_elsewhere_is_out_of_reach_and_what_is_served_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let place = move |name: &str| root.join(name);
        for name in ["keyring", "policy", "home"] {
            fs::create_dir(place(name)).unwrap();
            fs::write(place(name).join("file"), name).unwrap();
        }
        std::os::unix::fs::symlink(place("home"), place("keyring/home")).unwrap();
        let keyring = Disk::new(RealFiles::open(&place("keyring"), Access::Public).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // A thread of its own: the rest of the tests go on without.
        let confined = std::thread::spawn(move || {
            // Before it, all of this works.
            assert!(fs::read(place("home/file")).is_ok() && TcpStream::connect(address).is_ok());
            if !confine(&place("keyring"), &[place("policy"), place("absent")]).unwrap() {
                return false;
            }
            let denied = |result: std::io::Result<()>, what: &str| {
                let kind = result.map_err(|e| e.kind());
                assert_eq!(kind, Err(ErrorKind::PermissionDenied), "{what}");
            };
            for path in [place("home/file"), place("keyring/home/file"), "/etc/passwd".into(), "/proc/self/maps".into()]
            {
                denied(fs::read(&path).map(drop), &path.display().to_string());
            }
            denied(fs::write(place("policy/file"), "x"), "the policy is not written");
            denied(fs::write(place("new"), "x"), "nothing is made beside the keyring");
            denied(fs::rename(place("home/file"), place("keyring/taken")), "nothing is moved into the keyring");
            denied(std::process::Command::new("/bin/true").status().map(drop), "nothing is run");
            assert_eq!(fs::read(place("policy/file")).unwrap(), b"policy");
            // What a server does in its keyring.
            keyring.replace("proposals/requests/one", b"1").unwrap();
            keyring.replace("proposals/requests/one", b"2").unwrap();
            keyring.create("objects/ab/cd", b"3").unwrap();
            assert_eq!(keyring.read("proposals/requests/one", 9).unwrap().unwrap(), b"2");
            assert_eq!(keyring.walk("").unwrap().iter().filter(|(p, _)| p.contains('/')).count(), 2);
            assert!(keyring.try_lock().unwrap().is_some());
            assert!(keyring.remove("objects/ab/cd").unwrap());
            keyring.prune("objects/ab");
            // The port that is open answers on; of connections and ports there is no other, where the kernel knows how.
            let ask = TcpStream::connect(address).map(drop);
            assert!(ask.is_ok() || ask.map_err(|e| e.kind()) == Err(ErrorKind::PermissionDenied));
            // It is handed down.
            std::thread::spawn(|| fs::read("/etc/passwd").is_err()).join().unwrap()
        });
        confined.join().unwrap();
        drop(listener);
    }
}
