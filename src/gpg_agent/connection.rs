//! One command and its answer over a socket, within limits of size, reads and time per read.
//!
//! Whatever the agent sends may be a secret and is wiped here.

use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use zeroize::{Zeroize as _, Zeroizing};

use super::assuan::{Line, data_lines};
use super::error::AgentError;
use crate::limits::{AGENT_ANSWER_BYTES_MAX, AGENT_INQUIRIES_MAX, AGENT_LINE_BYTES_MAX, AGENT_READS_MAX};

/// The one question that a command may be asked, and its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inquiry<'a> {
    /// What the agent asks for.
    pub(super) keyword: &'a str,
    /// What it gets.
    pub(super) answer: &'a [u8],
}

/// What a successful command returns.
pub(super) struct Answer {
    /// The data of all `D` lines.
    pub(super) data: Zeroizing<Vec<u8>>,
    /// Whether the agent said that the padding is already removed (`S PADDING 0`), as cards do for RSA.
    pub(super) is_unpadded: bool,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer(..)")
    }
}

/// A connection to an agent.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    timeout: Duration,
    received: Received,
    is_given_up: bool,
}

impl Connection {
    /// Takes over a connected socket and reads the greeting.
    pub(super) fn open(stream: UnixStream, timeout: Duration) -> Result<Self, AgentError> {
        let failed = |source| AgentError::Connection { source };
        stream.set_read_timeout(Some(timeout)).map_err(failed)?;
        stream.set_write_timeout(Some(timeout)).map_err(failed)?;
        let mut connection = Self { stream, timeout, received: Received::default(), is_given_up: false };
        connection.answer(None)?;
        Ok(connection)
    }

    /// Sends a command and reads its answer.
    ///
    /// # Errors
    /// [`AgentError::Refused`] and [`AgentError::Inquiry`] leave the connection usable. After any other error an answer
    /// may still be under way, and the next command would take it for its own; so there is no next command.
    pub(super) fn command(&mut self, command: &str, inquiry: Option<Inquiry<'_>>) -> Result<Answer, AgentError> {
        if self.is_given_up {
            return Err(AgentError::GivenUp);
        }
        let answer = self.exchange(command, inquiry);
        self.is_given_up = !matches!(answer, Ok(_) | Err(AgentError::Refused { .. }) | Err(AgentError::Inquiry { .. }));
        answer
    }

    fn exchange(&mut self, command: &str, inquiry: Option<Inquiry<'_>>) -> Result<Answer, AgentError> {
        if !self.received.is_empty() {
            return Err(AgentError::Protocol("it speaks unasked"));
        }
        debug_assert!(command.len() <= AGENT_LINE_BYTES_MAX && !command.contains(['\r', '\n']));
        self.send(format!("{command}\n").as_bytes())?;
        self.answer(inquiry)
    }

    fn answer(&mut self, inquiry: Option<Inquiry<'_>>) -> Result<Answer, AgentError> {
        let mut reads_left = AGENT_READS_MAX;
        let mut inquiries_left = AGENT_INQUIRIES_MAX;
        let mut declined = None;
        // As large as it may become, so that it never moves and leaves a copy behind.
        let mut data = Zeroizing::new(Vec::with_capacity(AGENT_ANSWER_BYTES_MAX));
        let mut is_unpadded = false;
        loop {
            let line = self.line(&mut reads_left)?;
            match Line::parse(&line)? {
                Line::Ok | Line::Err { .. } if declined.is_some() => {
                    return Err(AgentError::Inquiry { keyword: declined.unwrap_or_default() });
                }
                Line::Ok => return Ok(Answer { data, is_unpadded }),
                Line::Err { code, text } => return Err(AgentError::Refused { code, text }),
                Line::Data(part) => {
                    if data.len().saturating_add(part.len()) > AGENT_ANSWER_BYTES_MAX {
                        return Err(AgentError::Protocol("an answer is too long"));
                    }
                    data.extend_from_slice(&part);
                }
                Line::Inquire(keyword) => {
                    inquiries_left = inquiries_left.checked_sub(1).ok_or(AgentError::Protocol("too many questions"))?;
                    match inquiry {
                        Some(expected) if keyword == expected.keyword.as_bytes() => {
                            self.send(&[data_lines(expected.answer), b"END\n".to_vec()].concat())?;
                        }
                        // A notice in the form of a question.
                        _ if keyword == b"PINENTRY_LAUNCHED" => self.send(b"END\n")?,
                        _ => {
                            declined = Some(String::from_utf8_lossy(keyword).into_owned());
                            self.send(b"CAN\n")?;
                        }
                    }
                }
                Line::Status(status) => is_unpadded |= status == b"PADDING 0",
                Line::Comment => {}
            }
        }
    }

    /// Reads one line, without its line feed.
    fn line(&mut self, reads_left: &mut usize) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        loop {
            if let Some(line) = self.received.take_line() {
                return Ok(line);
            }
            let room = self.received.room();
            if room.is_empty() {
                return Err(AgentError::Protocol("a line is too long"));
            }
            *reads_left = reads_left.checked_sub(1).ok_or(AgentError::Protocol("an answer has no end"))?;
            match self.stream.read(room) {
                Ok(0) => return Err(AgentError::Connection { source: ErrorKind::UnexpectedEof.into() }),
                Ok(count) => self.received.filled(count),
                Err(source) if source.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), AgentError> {
        self.stream.write_all(bytes).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> AgentError {
        // A socket whose timeout runs out reports one or the other, depending on the system.
        if matches!(source.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            AgentError::Timeout { limit: self.timeout }
        } else {
            AgentError::Connection { source }
        }
    }
}

/// What was received and not yet taken: at most one line of the greatest length and its end. Wiped.
struct Received {
    /// Never grows.
    buffer: Zeroizing<Vec<u8>>,
    length: usize,
}

impl Default for Received {
    fn default() -> Self {
        Self { buffer: Zeroizing::new(vec![0; AGENT_LINE_BYTES_MAX + 2]), length: 0 }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Received(..)")
    }
}

impl Received {
    fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where the next bytes go. Empty if the buffer is full.
    fn room(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.length..).unwrap_or_default()
    }

    fn filled(&mut self, count: usize) {
        self.length = self.length.saturating_add(count).min(self.buffer.len());
    }

    fn take_line(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = self.buffer.get_mut(..self.length)?;
        let end = bytes.iter().position(|&b| b == b'\n')?;
        let line = Zeroizing::new(bytes.get(..end)?.to_vec());
        bytes.copy_within(end.saturating_add(1).., 0);
        self.length = self.length.saturating_sub(end).saturating_sub(1);
        bytes.get_mut(self.length..)?.zeroize();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_answer_ends(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            let _ = dialogue(&bytes, None);
        }

        #[test]
        fn any_answer_of_known_lines_ends(text in "((OK|ERR 1|D %41|D|S PADDING 0|INQUIRE X|#) ?\n){0,30}") {
            let _ = dialogue(text.as_bytes(), Some(Inquiry { keyword: "X", answer: b"y" }));
        }
    }

    /// What a command makes of `answer`, all of it sent at once by an agent that then hangs up.
    fn dialogue(answer: &[u8], inquiry: Option<Inquiry<'_>>) -> (Result<Answer, AgentError>, Connection) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"OK hello\n").unwrap();
        let mut connection = Connection::open(ours, Duration::from_secs(20)).unwrap();
        theirs.write_all(answer).unwrap();
        // Only half of it is closed, so that our own lines find a reader.
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        connection.send(b"COMMAND\n").unwrap();
        let result = connection.answer(inquiry);
        (result, connection)
    }

    fn data(answer: &str) -> Vec<u8> {
        dialogue(answer.as_bytes(), None).0.unwrap().data.to_vec()
    }

    #[test]
    fn data_is_collected_and_the_rest_passed_over() {
        assert_eq!(data("OK\n"), b"");
        assert_eq!(data("# comment\nS PROGRESS x\nD a%0Ab\r\nS\nD %25\nD \nOK done\n"), b"a\nb%");
        assert!(dialogue(b"S PADDING 0\nOK\n", None).0.unwrap().is_unpadded);
        assert!(!dialogue(b"S PADDING 00\nOK\n", None).0.unwrap().is_unpadded);
    }

    #[test]
    fn what_was_received_is_not_shown_and_does_not_stay() {
        let (result, connection) = dialogue(b"D secret\nOK\n", None);
        assert_eq!(format!("{:?} {:?}", result.unwrap(), connection.received), "Answer(..) Received(..)");
        assert!(connection.received.buffer.iter().all(|&b| b == 0));
        assert_eq!(format!("{:?}", Line::parse(b"D secret").unwrap()), "Data(..)");
    }

    #[test]
    fn what_is_not_assuan_is_refused() {
        for wrong in [
            "HELLO\n",
            "\n",
            "ok\n",
            "D %4\nOK\n",
            "D %\nOK\n",
            "D %zz\nOK\n",
            "ERR\n",
            "ERR x\n",
            "ERR 4294967296\n",
            "DATA\nOK\n",
        ] {
            assert!(matches!(dialogue(wrong.as_bytes(), None).0, Err(AgentError::Protocol(_))), "{wrong:?}");
        }
        for unfinished in ["", "OK", "D a\n", "S x\nOK"] {
            assert!(
                matches!(dialogue(unfinished.as_bytes(), None).0, Err(AgentError::Connection { .. })),
                "{unfinished:?}"
            );
        }
    }

    #[test]
    fn limits_hold() {
        let line = |length: usize| format!("S {}\nOK\n", "x".repeat(length - 2));
        assert!(dialogue(line(AGENT_LINE_BYTES_MAX).as_bytes(), None).0.is_ok());
        assert!(dialogue(line(AGENT_LINE_BYTES_MAX).replace('\n', "\r\n").as_bytes(), None).0.is_ok());
        for length in [AGENT_LINE_BYTES_MAX + 1, AGENT_LINE_BYTES_MAX + 2, 5_000] {
            let result = dialogue(line(length).as_bytes(), None).0;
            assert!(matches!(result, Err(AgentError::Protocol("a line is too long"))), "{length}");
        }
        let much = "D 0123456789abcdef\n".repeat(AGENT_ANSWER_BYTES_MAX / 16);
        assert_eq!(data(&format!("{much}OK\n")).len(), AGENT_ANSWER_BYTES_MAX);
        let result = dialogue(format!("{much}D x\nOK\n").as_bytes(), None).0;
        assert!(matches!(result, Err(AgentError::Protocol("an answer is too long"))));
        let asking = dialogue("INQUIRE X\n".repeat(AGENT_INQUIRIES_MAX + 1).as_bytes(), None).0;
        assert!(matches!(asking, Err(AgentError::Protocol("too many questions"))));
    }

    #[test]
    fn an_answer_without_end_is_left() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let babbler = std::thread::spawn(move || {
            let _ = theirs.write_all(b"OK\n");
            while theirs.write_all(b"S PROGRESS\n").is_ok() {}
        });
        let mut connection = Connection::open(ours, Duration::from_secs(20)).unwrap();
        // Which of the two depends on whether the agent was faster than the command.
        let result = connection.command("COMMAND", None);
        assert!(
            matches!(result, Err(AgentError::Protocol("an answer has no end" | "it speaks unasked"))),
            "{result:?}"
        );
        drop(connection);
        babbler.join().unwrap();
    }

    #[test]
    fn a_silent_agent_is_left_at_the_timeout_for_good() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"OK\n").unwrap();
        let mut connection = Connection::open(ours, Duration::from_millis(30)).unwrap();
        assert!(matches!(connection.command("HAVEKEY", None), Err(AgentError::Timeout { .. })));
        theirs.write_all(b"OK\n").unwrap();
        let late = connection.command("HAVEKEY", None);
        assert!(matches!(late, Err(AgentError::GivenUp)), "the late OK is the first command's, not the second's");
    }

    #[test]
    fn an_answer_before_the_question_is_none() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"OK\nOK\n").unwrap();
        let mut connection = Connection::open(ours, Duration::from_secs(20)).unwrap();
        assert!(matches!(connection.command("HAVEKEY", None), Err(AgentError::Protocol("it speaks unasked"))));
    }

    #[test]
    fn questions_are_answered_or_declined() {
        let sent = |answer: &str, inquiry| {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(b"OK\n").unwrap();
            let mut connection = Connection::open(ours, Duration::from_secs(20)).unwrap();
            theirs.write_all(answer.as_bytes()).unwrap();
            let result = connection.answer(inquiry);
            drop(connection);
            let mut sent = String::new();
            theirs.read_to_string(&mut sent).unwrap();
            (sent, result)
        };
        let (text, result) = sent("INQUIRE X 1\nOK\n", Some(Inquiry { keyword: "X", answer: b"a\n%" }));
        assert_eq!(text, "D a%0A%25\nEND\n");
        assert!(result.is_ok());
        let (text, result) = sent("INQUIRE PINENTRY_LAUNCHED 1 curses\nOK\n", None);
        assert_eq!(text, "END\n");
        assert!(result.is_ok());
        let (text, result) = sent("INQUIRE PASSPHRASE\nERR 67109141 cancelled\n", None);
        assert_eq!(text, "CAN\n");
        assert!(matches!(result, Err(AgentError::Inquiry { keyword }) if keyword == "PASSPHRASE"));
    }
}
