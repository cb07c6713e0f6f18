//! Fuzz targets: one function for each parser that meets other people's bytes, and one for the fold of the log.
//!
//! A target takes any bytes and returns; it panics where a promise of the library is broken: a panic inside, a text that
//! is accepted in two spellings of which the format allows one, a value that does not read back as it was written.
//! Two programs run them: libFuzzer, guided by coverage (`fuzz/run long`), and `short`, which replays the committed
//! corpus and changes it at random, and needs nothing but cargo (`fuzz/run short`).

pub mod agent;
pub mod backup;
pub mod delivery;
pub mod example;
pub mod fold;
pub mod formats;
pub mod joining;
pub mod lint;
pub mod log;
pub mod login;
pub mod mutate;
pub mod name;
pub mod openpgp;
pub mod policy;
pub mod ssh;
pub mod statement;
pub mod wireguard;
pub mod witness;

/// One target.
pub struct Target {
    /// Its name: that of its function, of its folder under `corpus/`, and of its libFuzzer program.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Well-formed inputs to begin with; `fuzz/run seeds` writes them into the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the format, which chance would not find.
    pub words: &'static [&'static str],
}

macro_rules! targets {
    ($($module:ident :: $name:ident, $words:expr;)*) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            run: $module::$name,
            seeds: $module::seeds::$name,
            words: $words,
        }),*];
    };
}

const NOTE: &[&str] = &["\u{2014} ", "\n\n", "\n", " ", "+", "cdn.example/keys/1", "=", "AAAA"];
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "true",
    "-1",
    "0",
    "9007199254740992",
    "\\u0000",
    "\\ud800",
    "x-",
    "e1",
];
const STATEMENT: &[&str] = &[
    "\u{2014} ",
    "\n\n",
    "\"act\"",
    "genesis",
    "policy.update",
    "member.enroll",
    "member.retire",
    "key.publish",
    "key.certify",
    "key.activate",
    "key.destroy",
    "secret.seal",
    "secret.reseal",
    "secret.remove",
    "ssh.issue",
    "ssh.revoke",
    "\"changes\":[",
    "nginx@fra1",
    "casc1",
    "alice",
    "\"x-",
    "2026-11-21T07:00:00Z",
    "null",
    "{}",
    "[]",
];
const REQUEST: &[&str] = &[
    "\u{2014} ",
    "\n\n",
    "\"invitation\":{",
    "\"machine\":{",
    "\"dmi\":",
    "\"id\":",
    "\"token\":",
    "null",
    "{}",
    "[]",
    "alice",
    "nginx@fra1",
];
const TOML: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    " = ",
    "\"",
    "{ ",
    " }",
    "\n",
    "#",
    "true",
    "0",
    "-1",
    "9223372036854775807",
    "1979-05-27",
    "''",
    "\"\"\"",
    "inf",
    "30d",
    "0s",
];
const NAMES: &[&str] =
    &["@", "*", "/", ".", "..", "-", ":", "::", "sealed/", "_shared", ".pgp", "/0", "/32", "/128", "[", "]"];
const PACKETS: &[&str] = &["\u{1}\u{0}", "log@cdn.example", "address@cdn.example", "alice <alice@ops.cdn.example>"];
const LOOKS: &[&str] = &[
    "-----BEGIN ",
    "OPENSSH PRIVATE KEY",
    "-----",
    "PrivateKey = ",
    "AGE-SECRET-KEY-1",
    "PRIVATE+KEY+",
    "ghp_",
    "AKIA",
    "password",
    "_token",
    ": ",
    " = ",
    "\"",
    "\n",
    "keys-lint: allow",
];
/// Words of sshd_config and of the files that it names.
const DOCTOR: &[&str] = &[
    "\nInclude x",
    "\nMatch all",
    "\nRevokedKeys ",
    "TrustedUserCAKeys",
    "HostKey",
    "HostCertificate ",
    "none",
    "yes",
    "/%u",
    "=",
    "\"",
    "*",
    "AuthorizedPrincipalsFile",
    "CASignatureAlgorithms -",
    "ssh-ed25519 AAAA",
    "-----BEGIN OPENSSH PRIVATE KEY-----\n",
    "b3BlbnNzaC1rZXktdjEA",
];
const SSH: &[&str] = &[
    "ssh-ed25519",
    "ssh-ed25519-cert-v01@openssh.com",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "nistp256",
    "force-command",
    "source-address",
    "\0\0\0\0",
    "\0\0\0\u{1}",
];

const SUBMISSION: &[&str] = &[
    "keys/submit/v1\n",
    "entry ",
    "request ",
    "object ",
    "\n",
    "0",
    "18446744073709551615",
    "{\"act\":",
    "\n\n\u{2014} ",
];
const LOOKUP: &[&str] =
    &["/pks/lookup?", "op=get", "&search=", "&exact=on", "0x", "%40", "%3C", "+", "/pks/v2/", "hu/"];
const PUBLIC: &[&str] = &[
    "keyring/",
    "policy/",
    "log/",
    "checkpoint",
    "tile/",
    "entries/",
    ".p/",
    "commit/",
    "objects/",
    "ssh/",
    "sealed/",
    "certs/",
    "proposals/",
    "requests/",
    "body",
    ".sig",
    ".request",
    ".pgp",
    ".toml",
    "..",
    "//",
    "%2e",
];

const JOINING: &[&str] = &[
    "kt1.",
    "seed = \"",
    "mirrors = [",
    "log = []",
    "fleet = \"",
    "member",
    ",",
    "\n",
    "replace",
    "yes",
    "dmi",
    "services",
    "\"\"\"",
    "#",
    "{\"invitations\":[",
    "{\"challenges\":[",
    "\"slot\":\"openpgp\"",
    "\"approval\":\"auto\"",
    "\"services\":[]",
    "\"machine\":",
    "null",
    "\\u001b",
];
const DELIVERY: &[&str] = &[
    "[a]\n",
    "run = [\"/",
    "timeout = \"",
    "600s",
    "\\u0000",
    "/unit/",
    ".service/",
    "..",
    "\u{1b}",
    "\\u001b",
    "\"files\":[",
    "\"owner\":null",
    "\"parts\":[]",
    "\"deliveries\":[]",
    "\"generation\":null",
    "\n\n\u{2014} ",
];

targets! {
    log::note, NOTE;
    log::vkey, NOTE;
    log::checkpoint, NOTE;
    log::commit, NOTE;
    log::tile, &["tile/", "entries/", "x", "/", ".p/", "000", "255"];
    log::proof, &[];
    log::tlog_proof, &["c2sp.org/tlog-proof@v1\n", "extra ", "index ", "\n\n", "\u{2014} ", "=", "0", "3"];
    witness::add_checkpoint, &["old ", "\n\n", "\u{2014} ", "=", "0"];
    witness::evidence, &["case ", "noted ", "max-age ", "cosigner ", "root ", "proof ", "seen\n", "shown\n", "| ", "|\n"];
    statement::json, JSON;
    statement::body, STATEMENT;
    statement::entry, STATEMENT;
    statement::request, REQUEST;
    statement::recipients, STATEMENT;
    statement::submission, SUBMISSION;
    fold::replay, STATEMENT;
    fold::state, JSON;
    openpgp::certificate, PACKETS;
    openpgp::signature, PACKETS;
    openpgp::sealed, PACKETS;
    openpgp::inside, PACKETS;
    ssh::public_key, SSH;
    ssh::certificate_line, SSH;
    ssh::certificate_blob, SSH;
    ssh::krl, SSH;
    ssh::doctor, DOCTOR;
    ssh::words, NAMES;
    login::trust, JSON;
    login::staple, STATEMENT;
    policy::fleet_toml, TOML;
    policy::secrets_toml, TOML;
    policy::ssh_toml, TOML;
    policy::wireguard_toml, TOML;
    name::names, NAMES;
    name::ranges, NAMES;
    name::paths, NAMES;
    name::public, PUBLIC;
    name::lookup, LOOKUP;
    name::shown, &["\u{1b}[2J", "\u{202e}", "\u{200b}", "\n[GNUPG:] GOODSIG"];
    backup::contents, &["share-", ".pgp", "body.pgp", "manifest.json", "manifest.sig", "ustar\0", "0000600\0", "{\"backup\":\""];
    backup::manifest, JSON;
    backup::share, &["{\"backup\":\"", "\",\"custodian\":\"", "\",\"fleet\":\"", "\",\"share\":\"", "\",\"v\":1}\n"];
    lint::plain_values, LOOKS;
    formats::structured, &[": ", "- ", "\n", "#", "'", "\"", "|", ">-", "{", "}", "[", "]", "=", "&", "*", "!!", "<<", "---", "null", "export ", "\"\"\""];
    formats::shape, &["keys/shape/1 ", "yaml\n", "<text>"];
    formats::sops_file, &["ENC[AES256_GCM,data:", ",iv:", ",tag:", ",type:str]", "\"sops\": ", "sops_mac=", "mac", "lastmodified", "pgp", "enc", "key_groups"];
    formats::vault, &["$ANSIBLE_VAULT;1.1;AES256\n", "0a", "30"];
    wireguard::exchange, &["keys-ex1", "\0\0\0\u{1}", "\0\0\0\0"];
    wireguard::wg_dump, &["(none)", "off", "\t", "\n", "0.0.0.0/0", ","];
    joining::invitation, JOINING;
    delivery::delivery, DELIVERY;
    agent::sexp, &["(", ")", "7:sig-val", "5:eddsa", "1:r", "0:", "99999999999999999999:"];
    agent::assuan, &["OK", "ERR ", "D ", "S ", "INQUIRE ", "#", "%", "%25", " ", "67108881"];
}

/// Reads `text` by `FromStr`; what is accepted must be written back as it was read.
///
/// # Panics
/// If it is not.
fn one_spelling<T: std::str::FromStr + std::fmt::Display>(text: &str) -> Option<T> {
    let value = text.parse::<T>().ok()?;
    assert_eq!(value.to_string(), text, "two spellings of one {}", std::any::type_name::<T>());
    Some(value)
}

/// Reads `text` by `FromStr`; what is accepted must read back as the same value from its own spelling.
///
/// # Panics
/// If it does not.
fn reads_back<T>(text: &str) -> Option<T>
where
    T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug,
{
    let value = text.parse::<T>().ok()?;
    assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(&value), "not read back from {text:?}");
    Some(value)
}
