//! Why the agent did not do what it was asked, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::keygrip::Keygrip;
use crate::text::shown;

/// Why the agent did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Nobody listens on the socket, or it may not be opened.
    #[error("cannot reach gpg-agent at '{}'", shown(&path.to_string_lossy()))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket's place is taken by a file that names no usable socket.
    #[error("'{}' is not gpg-agent's socket: {reason}", shown(&path.to_string_lossy()))]
    Redirection {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option cannot be sent.
    #[error("the option '{name}' for gpg-agent {reason}")]
    Option {
        /// The option.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The agent was silent for too long.
    #[error("gpg-agent did not answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// How long one answer was waited for.
        limit: Duration,
    },
    /// The connection failed.
    #[error("the connection to gpg-agent failed")]
    Connection {
        /// What the system said.
        source: io::Error,
    },
    /// The connection is out of step after an earlier failure.
    #[error("the connection to gpg-agent was given up after an earlier failure")]
    GivenUp,
    /// The agent does not follow the protocol, or exceeds a limit.
    #[error("gpg-agent does not keep to its protocol: {0}")]
    Protocol(&'static str),
    /// The agent asked for something that this client does not hand out.
    #[error("gpg-agent asked for '{}'", shown(keyword))]
    Inquiry {
        /// What it asked for.
        keyword: String,
    },
    /// The agent does not hold the key.
    #[error("gpg-agent has no secret key with keygrip {keygrip}")]
    NoSecretKey {
        /// The key.
        keygrip: Keygrip,
    },
    /// The person at the pinentry said no.
    #[error("cancelled at the pinentry")]
    Cancelled,
    /// A passphrase or PIN is needed and there is nowhere to ask for it.
    #[error("gpg-agent has no terminal or display to ask for the passphrase on")]
    NoPinentry,
    /// The key is on a card, and the card is not there.
    #[error("the card with the key is not present")]
    CardNotPresent,
    /// The passphrase or PIN was wrong.
    #[error("wrong passphrase or PIN")]
    BadPassphrase,
    /// The card has locked itself after wrong PINs.
    #[error("the card's PIN is blocked")]
    PinBlocked,
    /// The agent reports something else.
    #[error("gpg-agent refused: {} (error {code})", shown(text))]
    Refused {
        /// GnuPG's error value: source in the bits from 24 up, code in the lower 16.
        code: u32,
        /// Its description by the agent.
        text: String,
    },
    /// The key is of a kind that is not used through an agent.
    #[error("the key cannot be used through gpg-agent: {0}")]
    UnsupportedKey(&'static str),
    /// The digest is not of a kind that is signed.
    #[error("gpg-agent is not asked to sign this digest: {0}")]
    UnsupportedDigest(&'static str),
    /// What was to be decrypted does not fit the key.
    #[error("the ciphertext does not fit the key: {0}")]
    Ciphertext(&'static str),
    /// The agent's signature does not verify with the key it was asked to sign with.
    #[error("gpg-agent returned a signature that is not of the key with keygrip {keygrip}")]
    WrongSignature {
        /// The key.
        keygrip: Keygrip,
    },
    /// What the agent decrypted is no session key.
    #[error("what gpg-agent decrypted is no session key")]
    WrongPlaintext,
}

impl AgentError {
    /// What to do next, for the command line to print.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } | Self::Redirection { .. } => Some(
                "start it with 'gpgconf --launch gpg-agent' and compare the path with 'gpgconf --list-dirs agent-socket'",
            ),
            Self::Timeout { .. } => Some("answer the pinentry or touch the card in time, or allow more time"),
            Self::Connection { .. } | Self::GivenUp => Some("run the command again"),
            Self::NoSecretKey { .. } => Some(
                "insert the card or import the secret key; 'gpg --list-secret-keys --with-keygrip' shows what there is",
            ),
            Self::Cancelled => Some("run the command again and confirm it"),
            Self::NoPinentry => Some(
                "run it on a terminal, or set a graphical pinentry with 'pinentry-program' in gpg-agent.conf; on a machine \
                 without people use a key without passphrase",
            ),
            Self::CardNotPresent => Some("insert the card and see that 'gpg --card-status' finds it"),
            Self::BadPassphrase => Some("run the command again with the right passphrase or PIN"),
            Self::PinBlocked => Some("unblock the PIN with 'gpg --change-pin'"),
            Self::WrongSignature { .. } => Some("find out who answers on this socket before it is used again"),
            Self::UnsupportedKey(_) => Some("use a version 4 Ed25519, Cv25519 or RSA key of at least 3072 bits"),
            Self::Option { .. }
            | Self::Protocol(_)
            | Self::Inquiry { .. }
            | Self::Refused { .. }
            | Self::UnsupportedDigest(_)
            | Self::Ciphertext(_)
            | Self::WrongPlaintext => None,
        }
    }

    /// Whether the socket is a restricted one, which does not take this command.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code & 0xffff == code::FORBIDDEN)
    }

    /// Gives a refusal its meaning; `keygrip` is the key that the command was about. Other errors stay as they are.
    pub(super) fn about(self, keygrip: &Keygrip) -> Self {
        let Self::Refused { code, .. } = &self else { return self };
        let source = code >> 24 & 0x7f;
        match code & 0xffff {
            code::NO_SECKEY => Self::NoSecretKey { keygrip: *keygrip },
            code::CANCELED | code::FULLY_CANCELED | code::NOT_CONFIRMED => Self::Cancelled,
            code::NO_PIN_ENTRY | code::WINDOW_TOO_SMALL => Self::NoPinentry,
            // A pinentry without a terminal passes on the system's error, ENOTTY as a rule.
            code::SYSTEM.. if source == SOURCE_PINENTRY => Self::NoPinentry,
            code::CARD_NOT_PRESENT
            | code::CARD_REMOVED
            | code::CARD_RESET
            | code::WRONG_CARD
            | code::NO_SCDAEMON
            | code::ENODEV => Self::CardNotPresent,
            code::BAD_PASSPHRASE | code::BAD_PIN => Self::BadPassphrase,
            code::PIN_BLOCKED => Self::PinBlocked,
            _ => self,
        }
    }
}

/// The pinentry, as libgpg-error numbers the sources of errors.
const SOURCE_PINENTRY: u32 = 5;

/// The codes of libgpg-error that have a meaning of their own here.
mod code {
    pub(super) const BAD_PASSPHRASE: u32 = 11;
    pub(super) const NO_SECKEY: u32 = 17;
    pub(super) const NO_PIN_ENTRY: u32 = 85;
    pub(super) const BAD_PIN: u32 = 87;
    pub(super) const WRONG_CARD: u32 = 91;
    pub(super) const CANCELED: u32 = 99;
    pub(super) const CARD_RESET: u32 = 109;
    pub(super) const CARD_REMOVED: u32 = 110;
    pub(super) const CARD_NOT_PRESENT: u32 = 112;
    pub(super) const NOT_CONFIRMED: u32 = 114;
    pub(super) const NO_SCDAEMON: u32 = 119;
    pub(super) const PIN_BLOCKED: u32 = 130;
    pub(super) const FULLY_CANCELED: u32 = 198;
    pub(super) const FORBIDDEN: u32 = 251;
    pub(super) const WINDOW_TOO_SMALL: u32 = 301;
    /// From here on the codes are the system's, in libgpg-error's own order.
    pub(super) const SYSTEM: u32 = 1 << 15;
    pub(super) const ENODEV: u32 = SYSTEM | 80;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(code: u32) -> AgentError {
        AgentError::Refused { code, text: "said the agent".into() }.about(&Keygrip([7; 20]))
    }

    #[test]
    fn refusals_of_real_agents_are_understood() {
        // 67108881 No secret key <GPG Agent>; 83918950 Inappropriate ioctl for device <Pinentry>;
        // 83886179 Operation cancelled <Pinentry>; 67108949 No pinentry <GPG Agent>; 100663408 Card not present <SCD>.
        assert!(matches!(meaning(67_108_881), AgentError::NoSecretKey { .. }));
        assert!(matches!(meaning(83_918_950), AgentError::NoPinentry));
        assert!(matches!(meaning(83_886_179), AgentError::Cancelled));
        assert!(matches!(meaning(67_108_949), AgentError::NoPinentry));
        assert!(matches!(meaning(100_663_408), AgentError::CardNotPresent));
        assert!(matches!(meaning(6 << 24 | code::ENODEV), AgentError::CardNotPresent));
        assert!(matches!(meaning(16_777_295), AgentError::Refused { code: 16_777_295, .. }));
    }

    #[test]
    fn what_an_agent_says_cannot_redraw_the_terminal() {
        let error = AgentError::Refused { code: 1, text: "\u{1b}[2Jgone".into() };
        assert_eq!(error.to_string(), "gpg-agent refused: \\u{1b}[2Jgone (error 1)");
        assert_eq!(
            meaning(67_108_881).to_string(),
            "gpg-agent has no secret key with keygrip 0707070707070707070707070707070707070707"
        );
    }
}
