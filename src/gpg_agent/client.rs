//! The agent's commands that this client uses.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use sequoia_openpgp::types::HashAlgorithm;

use super::assuan::plus_encode;
use super::connection::{Answer, Connection, Inquiry};
use super::error::AgentError;
use super::keygrip::Keygrip;
use super::socket;
use crate::limits::AGENT_PROMPT_BYTES_MAX;
use crate::text;

/// Whether the agent may ask a person for a passphrase or PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interaction {
    /// It may, by its pinentry.
    #[default]
    Ask,
    /// It must not: a key that needs asking fails with [`AgentError::NoPinentry`]. For work without people.
    Refuse,
}

/// How an agent is spoken to. What is `None` is left to the agent's own environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOptions {
    /// How long one read or write may wait: long enough for a person to find the card and touch it. Not zero.
    pub timeout: Duration,
    /// Whether a person may be asked.
    pub interaction: Interaction,
    /// The terminal for a pinentry, as `/dev/pts/1`.
    pub ttyname: Option<String>,
    /// The terminal's type, as in `TERM`.
    pub ttytype: Option<String>,
    /// The display for a graphical pinentry, as in `DISPLAY`.
    pub display: Option<String>,
    /// The locale of a pinentry's characters, as `de_DE.UTF-8`.
    pub lc_ctype: Option<String>,
    /// The locale of a pinentry's messages.
    pub lc_messages: Option<String>,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            interaction: Interaction::Ask,
            ttyname: None,
            ttytype: None,
            display: None,
            lc_ctype: None,
            lc_messages: None,
        }
    }
}

impl AgentOptions {
    /// The options of a pinentry, as the agent names them.
    fn of_pinentry(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("ttyname", self.ttyname.as_deref()),
            ("ttytype", self.ttytype.as_deref()),
            ("display", self.display.as_deref()),
            ("lc-ctype", self.lc_ctype.as_deref()),
            ("lc-messages", self.lc_messages.as_deref()),
        ]
    }
}

/// A connection to a gpg-agent.
#[derive(Debug)]
pub struct Agent {
    connection: Connection,
}

impl Agent {
    /// Connects to the agent that listens on `socket` (`gpgconf --list-dirs agent-socket` shows where), with the
    /// default [`AgentOptions`].
    ///
    /// # Errors
    /// As [`Agent::connect_with`].
    pub fn connect(socket: &Path) -> Result<Self, AgentError> {
        Self::connect_with(socket, &AgentOptions::default())
    }

    /// Connects to the agent that listens on `socket` and hands it the options.
    ///
    /// On a restricted socket (the one that is forwarded to other machines) the pinentry's options are not sent on: the
    /// agent asks where it runs.
    ///
    /// # Errors
    /// [`AgentError::Unreachable`] and [`AgentError::Redirection`] if there is no socket, [`AgentError::Option`] for a
    /// value that cannot be sent, others if the agent does not do its part.
    pub fn connect_with(socket: &Path, options: &AgentOptions) -> Result<Self, AgentError> {
        Self::over(socket::connect(socket)?, options)
    }

    /// Speaks to the agent at the other end of `stream`.
    pub(super) fn over(stream: UnixStream, options: &AgentOptions) -> Result<Self, AgentError> {
        let mut agent = Self { connection: Connection::open(stream, options.timeout)? };
        for (name, value) in options.of_pinentry() {
            let Some(value) = value else { continue };
            match agent.connection.command(&option(name, value)?, None) {
                Err(error) if !error.is_forbidden() => return Err(error),
                _ => {}
            }
        }
        if options.interaction == Interaction::Refuse {
            agent.connection.command("OPTION pinentry-mode=error", None)?;
        }
        Ok(agent)
    }

    /// Whether the agent knows the key: its secret part, or the card that holds it (which need not be inserted).
    ///
    /// # Errors
    /// Any error means that this could not be found out.
    pub fn has_key(&mut self, keygrip: &Keygrip) -> Result<bool, AgentError> {
        match self.command(&format!("HAVEKEY {keygrip}"), None, keygrip) {
            Ok(_) => Ok(true),
            Err(AgentError::NoSecretKey { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has a digest signed; the answer is a `sig-val` S-expression, not yet verified.
    pub(super) fn sign(
        &mut self,
        keygrip: &Keygrip,
        hash: HashAlgorithm,
        digest: &[u8],
        prompt: Option<&str>,
    ) -> Result<Answer, AgentError> {
        // libgcrypt numbers these three as OpenPGP does (RFC 9580, section 9.5).
        let number = u8::from(hash);
        self.command(&format!("SIGKEY {keygrip}"), None, keygrip)?;
        self.command(&format!("SETHASH {number} {}", text::hex(digest)), None, keygrip)?;
        self.prompt(keygrip, prompt)?;
        self.command("PKSIGN", None, keygrip)
    }

    /// Has an `enc-val` S-expression decrypted; the answer is a `value` S-expression.
    pub(super) fn decrypt(
        &mut self,
        keygrip: &Keygrip,
        ciphertext: &[u8],
        prompt: Option<&str>,
    ) -> Result<Answer, AgentError> {
        self.command(&format!("SETKEY {keygrip}"), None, keygrip)?;
        self.prompt(keygrip, prompt)?;
        self.command("PKDECRYPT", Some(Inquiry { keyword: "CIPHERTEXT", answer: ciphertext }), keygrip)
    }

    fn prompt(&mut self, keygrip: &Keygrip, prompt: Option<&str>) -> Result<(), AgentError> {
        let Some(prompt) = prompt else { return Ok(()) };
        self.command(&format!("SETKEYDESC {}", description(prompt)), None, keygrip).map(|_| ())
    }

    fn command(
        &mut self,
        command: &str,
        inquiry: Option<Inquiry<'_>>,
        keygrip: &Keygrip,
    ) -> Result<Answer, AgentError> {
        self.connection.command(command, inquiry).map_err(|error| error.about(keygrip))
    }
}

/// The command that sets an option. The agent takes the value as it stands.
fn option(name: &'static str, value: &str) -> Result<String, AgentError> {
    if value.is_empty() || value.trim() != value || value.chars().any(text::is_hidden) {
        return Err(AgentError::Option { name, reason: "is empty or has white space or hidden characters" });
    }
    // Paths have at most 4096 bytes, a line 1000; a terminal's or display's name has a few dozen.
    if value.len() > AGENT_PROMPT_BYTES_MAX {
        return Err(AgentError::Option { name, reason: "is too long" });
    }
    Ok(format!("OPTION {name}={value}"))
}

/// A prompt as `SETKEYDESC` takes it, cut to what fits in a line. The agent expands `%` in it, so that is doubled.
fn description(prompt: &str) -> String {
    let mut out = String::new();
    for c in text::escape(prompt).chars() {
        let encoded = if c == '%' { plus_encode("%%") } else { plus_encode(c.encode_utf8(&mut [0; 4])) };
        if out.len().saturating_add(encoded.len()) > AGENT_PROMPT_BYTES_MAX {
            break;
        }
        out.push_str(&encoded);
    }
    out
}

/// Agents for tests.
#[cfg(test)]
pub(super) mod testing {
    use std::io::{BufRead as _, BufReader, Write as _};

    use super::*;

    /// An agent that answers each line it gets with what `answer` makes of it, and hangs up on `None`.
    pub(in crate::gpg_agent) fn scripted(
        options: &AgentOptions,
        mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Agent, AgentError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"OK Pleased to meet you\n").unwrap();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap());
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                let Some(reply) = answer(line.trim_ascii_end()) else { return };
                if theirs.write_all(&reply).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Agent::over(ours, options)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::testing::scripted;
    use super::*;
    use crate::limits::AGENT_LINE_BYTES_MAX;

    const KEYGRIP: Keygrip = Keygrip([0xab; 20]);

    fn answering(reply: &'static str) -> Agent {
        scripted(&AgentOptions::default(), move |_| Some(reply.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn no_is_not_i_do_not_know() {
        assert!(answering("OK\n").has_key(&KEYGRIP).unwrap());
        assert!(!answering("ERR 67108881 No secret key <GPG Agent>\n").has_key(&KEYGRIP).unwrap());
        assert!(matches!(answering("ERR 67109115 Forbidden\n").has_key(&KEYGRIP), Err(AgentError::Refused { .. })));
        let mut gone = scripted(&AgentOptions::default(), |_| None).unwrap();
        assert!(matches!(gone.has_key(&KEYGRIP), Err(AgentError::Connection { .. })));
        assert!(matches!(gone.has_key(&KEYGRIP), Err(AgentError::GivenUp)));
    }

    #[test]
    fn refusals_leave_the_connection_usable() {
        let mut agent = answering("ERR 83886179 Operation cancelled <Pinentry>\n");
        for _ in 0..2 {
            let result = agent.sign(&KEYGRIP, HashAlgorithm::SHA256, &[0; 32], None);
            assert!(matches!(result, Err(AgentError::Cancelled)), "{result:?}");
        }
    }

    #[test]
    fn options_are_sent_in_order() {
        let (sent, lines) = mpsc::channel();
        let options = AgentOptions {
            interaction: Interaction::Refuse,
            ttyname: Some("/dev/pts/1".into()),
            lc_ctype: Some("de_DE.UTF-8".into()),
            ..AgentOptions::default()
        };
        let answer = move |line: &[u8]| {
            let _ = sent.send(String::from_utf8_lossy(line).into_owned());
            Some(b"OK\n".to_vec())
        };
        let agent = scripted(&options, answer).unwrap();
        drop(agent);
        let lines: Vec<String> = lines.iter().collect();
        assert_eq!(lines, ["OPTION ttyname=/dev/pts/1", "OPTION lc-ctype=de_DE.UTF-8", "OPTION pinentry-mode=error"]);
    }

    #[test]
    fn a_restricted_socket_forbids_options_but_not_silently_the_promise_to_ask_nobody() {
        let forbidden = |_: &[u8]| Some(b"ERR 67109115 Forbidden <GPG Agent>\n".to_vec());
        let terminal = AgentOptions { ttyname: Some("/dev/pts/1".into()), ..AgentOptions::default() };
        assert!(scripted(&terminal, forbidden).is_ok());
        let refusing = AgentOptions { interaction: Interaction::Refuse, ..AgentOptions::default() };
        assert!(matches!(scripted(&refusing, forbidden), Err(AgentError::Refused { .. })));
        let unknown = |_: &[u8]| Some(b"ERR 67109038 Unknown option <GPG Agent>\n".to_vec());
        assert!(matches!(scripted(&terminal, unknown), Err(AgentError::Refused { .. })));
    }

    #[test]
    fn options_cannot_carry_commands() {
        for wrong in ["", " x", "x\nRESET", "x\r", "\u{1b}[2J", &"x".repeat(1_000)] {
            assert!(matches!(option("ttyname", wrong), Err(AgentError::Option { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn prompts_are_escaped_and_cut() {
        assert_eq!(description("100% sure\n?"), "100%25%25+sure%5Cu%7Ba%7D%3F");
        let longest = format!("SETKEYDESC {}", description(&"ü%\u{1b}".repeat(1_000)));
        assert!(longest.len() <= AGENT_LINE_BYTES_MAX && longest.len() > 800);
        assert!(longest.is_ascii());
    }
}
