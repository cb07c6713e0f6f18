//! Values given to programs: `keys exec` and `keys template`. They come to no disk and into no argument.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::fs::{MemfdFlags, SealFlags};
use zeroize::Zeroizing;

use super::context::{Context, shown};
use super::exit::{CliError, Exit};
use super::founding::place;
use super::secret_cmd::{opened, warn_burned};
use super::value_args::{Exec, Template};
use crate::disk::{Access, Disk, DiskError, RealFiles};
use crate::fleet::Fleet;
use crate::home::Home;
use crate::name::{Address, MemberName};
use crate::ops::{self, OpsError};

/// The largest template.
const TEMPLATE_BYTES_MAX: u64 = 16 << 20;
/// Variables that change which code a program runs. Who seals a secret could choose its name.
const DANGEROUS: [&str; 12] = [
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "GCONV_PATH",
    "HOME",
    "IFS",
    "NODE_OPTIONS",
    "PATH",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "RUBYOPT",
    "SHELLOPTS",
];
/// The same, by how they begin.
const DANGEROUS_PREFIXES: [&str; 6] = ["BASH_FUNC_", "DYLD_", "GIT_", "LD_", "PERL5", "PYTHON"];

/// Values by what they are called.
type Values = BTreeMap<String, (Address, Zeroizing<Vec<u8>>)>;

/// `keys exec`. It does not return if the program could be started.
pub(super) fn exec(context: &Context, args: &Exec) -> Result<Exit, CliError> {
    let home = context.home()?;
    let values = opened(context, |fleet| values(context, args, &home, fleet))?;
    let mut words = args.command.iter();
    let program = words.next().ok_or_else(|| CliError::usage("there is no command after --"))?;
    let mut command = Command::new(program);
    command.args(words);
    // Open until the program has taken our place, and then its own.
    let mut files = Vec::new();
    if args.stdin {
        let mut list = values.values();
        let (Some((_, value)), None) = (list.next(), list.next()) else {
            return Err(CliError::usage(format!("--stdin gives one value, and these are {}", values.len()))
                .hint("name one secret, or give them by --files"));
        };
        command.stdin(std::fs::File::from(in_memory("value", value)?));
    } else {
        for (name, (address, value)) in &values {
            if args.files {
                let file = in_memory(name, value)?;
                rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).map_err(memory)?;
                command.env(format!("{name}_FILE"), format!("/proc/self/fd/{}", file.as_raw_fd()));
                files.push(file);
            } else if value.contains(&0) {
                return Err(CliError::failed(format!(
                    "the value of {address} holds a NUL byte, which no variable can"
                ))
                .hint("give it by --files or --stdin"));
            } else {
                command.env(name, std::ffi::OsStr::from_bytes(value));
            }
        }
    }
    let error = command.exec();
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
    Err(CliError::new(exit, format!("cannot run {}: {error}", shown(Path::new(program)))))
}

/// Opens all that is asked for, or nothing.
fn values(context: &Context, args: &Exec, home: &Home, fleet: &mut Fleet) -> Result<Values, CliError> {
    let mut values = Values::new();
    for text in &args.secrets {
        let (name, pattern) = match text.split_once('=') {
            Some((name, pattern)) => (Some(name), pattern),
            None => (None, text.as_str()),
        };
        let found = ops::select(pattern, fleet.state()).map_err(|e| match e {
            OpsError::Name(e) => CliError::usage(e),
            e => e.into(),
        })?;
        if let (Some(name), 2..) = (name, found.len()) {
            return Err(CliError::usage(format!("{name}= names one secret, and '{pattern}' are {}", found.len())));
        }
        for address in found {
            let variable = match name {
                Some(name) => given(name)?,
                None => derived(&address, if args.files { "_FILE" } else { "" })?,
            };
            let value = open_one(context, &address, args.reader.as_ref(), home, fleet)?;
            if let Some((other, _)) = values.insert(variable.clone(), (address.clone(), value))
                && other != address
            {
                return Err(CliError::usage(format!("{other} and {address} would both be ${variable}"))
                    .hint(format!("say what they are called: OTHER_NAME={address}")));
            }
        }
    }
    Ok(values)
}

fn open_one(
    context: &Context,
    address: &Address,
    reader: Option<&MemberName>,
    home: &Home,
    fleet: &mut Fleet,
) -> Result<Zeroizing<Vec<u8>>, OpsError> {
    let opened = ops::open(address, reader, home, fleet)?;
    warn_burned(context, address, opened.burned.as_ref());
    Ok(opened.value)
}

fn is_variable(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn given(name: &str) -> Result<String, CliError> {
    if is_variable(name) {
        return Ok(name.to_owned());
    }
    let problem = format!("'{}' cannot be a variable's name: letters, digits and _", crate::text::shown(name));
    Err(CliError::usage(problem))
}

/// What a secret's variable is called if nobody says so. It replaces none that is there, and none that says what code runs.
fn derived(address: &Address, suffix: &str) -> Result<String, CliError> {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = address.name().chars().map(letter).collect();
    let problem = if !is_variable(&name) {
        "no variable can be called so"
    } else if suffix.is_empty()
        && (DANGEROUS.contains(&name.as_str()) || DANGEROUS_PREFIXES.iter().any(|p| name.starts_with(p)))
    {
        "that variable changes what programs run"
    } else if std::env::var_os(format!("{name}{suffix}")).is_some() {
        "that variable is there already"
    } else {
        return Ok(name);
    };
    Err(CliError::usage(format!("{address} would be ${name}{suffix}: {problem}"))
        .hint(format!("say what it is called: NAME={address}")))
}

fn memory(e: rustix::io::Errno) -> CliError {
    CliError::failed(format!("cannot make a file in memory: {e}"))
}

/// An empty file in memory.
pub(super) fn memory_file(name: &str) -> Result<OwnedFd, CliError> {
    rustix::fs::memfd_create(name, MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).map_err(memory)
}

/// A file in memory that nobody can change any more, at its beginning.
pub(super) fn in_memory(name: &str, value: &[u8]) -> Result<OwnedFd, CliError> {
    let mut file = std::fs::File::from(memory_file(name)?);
    let written = file.write_all(value).and_then(|()| file.rewind());
    written.map_err(|e| CliError::failed(format!("cannot write a file in memory: {e}")))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(memory)?;
    Ok(file.into())
}

/// `keys template`.
pub(super) fn template(context: &Context, args: &Template) -> Result<Exit, CliError> {
    let named = shown(&args.file);
    let read = |input: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        input.take(TEMPLATE_BYTES_MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = if args.file.as_os_str() == "-" {
        read(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(&args.file).and_then(|mut file| read(&mut file))
    };
    let bytes = bytes.map_err(|e| CliError::new(Exit::NotFound, format!("cannot read {named}: {e}")))?;
    if bytes.len() as u64 > TEMPLATE_BYTES_MAX {
        return Err(CliError::failed(format!("{named} has more than {TEMPLATE_BYTES_MAX} bytes")));
    }
    let wrong = |e: ops::TemplateError| CliError::failed(format!("{named}: {e}"));
    let template = ops::Template::parse(&bytes).map_err(wrong)?;
    let home = context.home()?;
    let values = opened(context, |fleet| {
        let open =
            |address: &Address| Ok((address.clone(), open_one(context, address, args.reader.as_ref(), &home, fleet)?));
        template.addresses().into_iter().map(open).collect::<Result<BTreeMap<_, _>, CliError>>()
    })?;
    let filled = template.fill(|address| values.get(address).map(|v| v.as_slice())).map_err(wrong)?;
    match &args.out {
        None => context.out.bytes(&filled)?,
        Some(path) => write_private(path, &filled)?,
    }
    Ok(Exit::Ok)
}

/// Writes a file for its owner alone, durably and at once.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let (directory, name) = place(path)?;
    let files = RealFiles::open(directory, Access::Private).map_err(|source| DiskError {
        doing: "open",
        path: shown(directory),
        source,
    })?;
    Ok(Disk::new(files).replace(name, bytes)?)
}
