//! What a server may still do once it serves, held by the kernel: nobody can lift it from within, and it needs no privilege.
//! Landlock (landlock(7)) says which files, seccomp (seccomp(2)) which system calls. What the kernel does not know yet is left
//! out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

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

/// System calls that a server has no use for once its socket listens: those that run programs, open sockets, look into other
/// processes, and change the system, and those by whose faults kernels have been taken over. It is a list of what is refused,
/// not of what is allowed: which calls a C library makes is its own affair, and a call that is missing there would be found out
/// by whoever is served.
const REFUSED: &[i64] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_memfd_create,
    // Sockets: those that there are answer on.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // What is mounted, and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    // Rights.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    // The kernel and the machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Refuses (EPERM) this thread, and all that it starts from now on, the calls of [`REFUSED`].
///
/// # Errors
/// If this machine's kind is none that is known here, or its kernel does not do it.
pub(super) fn refuse_calls() -> Result<(), seccompiler::Error> {
    apply_filter(&program()?)
}

fn program() -> Result<BpfProgram, seccompiler::Error> {
    let refused = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error().unsigned_abs());
    let mut rules = BTreeMap::new();
    for call in REFUSED {
        rules.insert(*call, Vec::new());
        // The same in x32, where a kernel has that; and what has numbers of its own there.
        #[cfg(target_arch = "x86_64")]
        rules.insert(*call | X32, Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    rules.extend((X32 + 512..X32 + 548).map(|call| (call, Vec::new())));
    let kind = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refused, kind)?.try_into()?)
}

/// What tells calls of x32 from those of x86-64.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

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

    #[test]
    fn what_a_server_has_no_use_for_is_refused_and_what_it_has_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asking = TcpStream::connect(address).unwrap();
        let refused = std::thread::spawn(move || {
            // Before it, all of this works.
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok() && std::os::unix::net::UnixStream::pair().is_ok());
            refuse_calls().unwrap();
            let denied = |result: std::io::Result<()>, what: &str| {
                assert_eq!(result.map_err(|e| e.kind()), Err(ErrorKind::PermissionDenied), "{what}");
            };
            denied(std::process::Command::new("/bin/true").status().map(drop), "a program");
            denied(TcpStream::connect(address).map(drop), "a connection");
            let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
            denied(socket.map(drop).map_err(Into::into), "a socket");
            denied(std::os::unix::net::UnixStream::pair().map(drop), "a pair of sockets");
            denied(
                rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).map(drop).map_err(Into::into),
                "memory",
            );
            denied(
                rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
                    .map(drop)
                    .map_err(Into::into),
                "a process",
            );
            denied(rustix::process::chroot("/").map_err(Into::into), "another root");
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.lines().any(|l| l == "Seccomp:\t2"), "{status}");
            // What is there is used on, in threads that are started now, too.
            let one = listener.accept().unwrap().0;
            let (mut one, mut asking) = (one, asking);
            std::thread::spawn(move || std::io::Write::write_all(&mut one, b"yes").unwrap()).join().unwrap();
            let mut answer = [0; 3];
            std::io::Read::read_exact(&mut asking, &mut answer).unwrap();
            std::thread::spawn(|| std::process::Command::new("/bin/true").status().is_err()).join().unwrap()
        });
        assert!(refused.join().unwrap(), "it is handed down");
    }
}
