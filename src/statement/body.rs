//! A statement's body: reading and writing its one canonical line.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::acts::Act;
use crate::digest::Digest;
use crate::json::{self, JsonError};
use crate::limits::{CHANGES_MAX, ENTRY_BYTES_MAX, REASON_BYTES_MAX};
use crate::name::{ActName, MemberName};
use crate::time::Time;

/// The format's version.
const VERSION: u64 = 1;
/// Numbers with fewer digits are whole and exact ([`crate::limits::JSON_INTEGER_MAX`] has as many).
const DIGITS_EXACT: usize = 16;

/// One change, as it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What changes.
    pub act: Act,
    /// When it was proposed.
    pub at: Time,
    /// Who proposed it.
    pub by: MemberName,
    /// After this time it is void if it is not yet in the log.
    pub expires: Time,
    /// The log it is for.
    pub log: String,
    /// The version of the policy it was proposed under; 0 for the genesis.
    pub policy: u64,
    /// Why, in somebody's words.
    pub reason: String,
}

/// Why bytes are not a statement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not canonical JSON, or not the fields of a statement.
    #[error("the statement {0}")]
    Json(#[from] JsonError),
    /// It does not end with exactly one line feed.
    #[error("the statement is not one line")]
    Line,
    /// A version we do not read.
    #[error("the statement has version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// An act we do not know.
    #[error("{0}")]
    Act(String),
    /// No change, or too many.
    #[error(
        "the statement has {0} changes; 1 to {CHANGES_MAX} are allowed, and exactly 1 for genesis, policy.update and ssh.issue"
    )]
    Changes(usize),
    /// Too long.
    #[error("the statement has {0} bytes; at most {ENTRY_BYTES_MAX} fit into the log")]
    TooLong(usize),
    /// The right values in a spelling that is never written, for example `null` for a field that is left out.
    #[error("the statement spells its changes in another way than this program does")]
    Spelling,
    /// A reason that is too long or holds invisible characters.
    #[error("the reason is longer than {REASON_BYTES_MAX} bytes or has invisible characters")]
    Reason,
}

/// The fields around the changes, in the order of canonical JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<T> {
    act: String,
    at: Time,
    by: MemberName,
    changes: Vec<T>,
    exp: Time,
    log: String,
    policy: u64,
    reason: String,
    v: u64,
}

impl Statement {
    /// The bytes that are signed: one line of canonical JSON and a line feed.
    ///
    /// # Errors
    /// [`StatementError`], if it has too many changes or bytes, or a bad reason.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StatementError> {
        let envelope = Line {
            act: self.act.name().to_string(),
            at: self.at,
            by: self.by.clone(),
            changes: changes(&self.act),
            exp: self.expires,
            log: self.log.clone(),
            policy: self.policy,
            reason: self.reason.clone(),
            v: VERSION,
        };
        check(&envelope.reason, envelope.changes.len())?;
        let mut line = json::to_canonical(&envelope);
        line.push('\n');
        // Signature lines have to fit as well: leave them an eighth.
        if line.len() > ENTRY_BYTES_MAX - ENTRY_BYTES_MAX / 8 {
            return Err(StatementError::TooLong(line.len()));
        }
        Ok(line.into_bytes())
    }

    /// Reads what [`Statement::to_bytes`] writes, and nothing else. Fields that begin with `x-` are kept out of the way:
    /// they are signed, and mean nothing here.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(StatementError::TooLong(bytes.len()));
        }
        let line = bytes.strip_suffix(b"\n").ok_or(StatementError::Line)?;
        match Self::parse_plain(line) {
            Some(statement) => Ok(statement),
            None => Self::parse_any(line),
        }
    }

    /// Reads a line that is spelled as we write it, without a tree of its values: what is read is written again and has
    /// to give the same bytes, which refuses as much as [`json::parse`] does. `None` for any other line, and for those
    /// that would need that function's further checks.
    fn parse_plain(line: &[u8]) -> Option<Self> {
        // Keys outside ASCII have no place in a line; where one could hide, or a number too long, all is looked at. Without a
        // backslash every second part between quotation marks is a text.
        let plain = |b: &u8| matches!(b, b' '..=b'~') && *b != b'\\';
        let long = |part: &[u8]| part.split(|b| !b.is_ascii_digit()).any(|digits| digits.len() >= DIGITS_EXACT);
        if !line.iter().all(plain) || line.split(|b| *b == b'"').step_by(2).any(long) {
            return None;
        }
        let rest = std::str::from_utf8(line).ok()?.strip_prefix(r#"{"act":""#)?;
        let name: ActName = rest.split_once('"')?.0.parse().ok()?;
        let mut around = None;
        let act = parse_act(name, Plain { line, around: &mut around }).ok()?;
        let Line { at, by, exp, log, policy, reason, .. } = around?;
        Some(Self { act, at, by, expires: exp, log, policy, reason })
    }

    /// Reads a line in whichever way it is written, and says what is wrong with it.
    fn parse_any(line: &[u8]) -> Result<Self, StatementError> {
        let mut value = json::parse(line)?;
        if let Value::Object(fields) = &mut value {
            fields.retain(|key, _| !key.starts_with("x-"));
            if let Some(version) = fields.get("v").and_then(Value::as_u64).filter(|v| *v != VERSION) {
                return Err(StatementError::Version(version));
            }
        }
        let envelope: Line<Value> = serde_json::from_value(value).map_err(JsonError::Fields)?;
        check(&envelope.reason, envelope.changes.len())?;
        let Line { act, at, by, changes, exp, log, policy, reason, v: _ } = envelope;
        let name: ActName = act.parse().map_err(StatementError::Act)?;
        let act = parse_act(name, changes.clone())?;
        // A field that may be left out could also be there and say nothing; a list that is a set could be in any order.
        if self::changes(&act) != changes {
            return Err(StatementError::Spelling);
        }
        Ok(Self { act, at, by, expires: exp, log, policy, reason })
    }

    /// The statement's id: SHA-256 of its bytes.
    ///
    /// # Errors
    /// As [`Statement::to_bytes`].
    pub fn id(&self) -> Result<Digest, StatementError> {
        Ok(Digest::of(&self.to_bytes()?))
    }
}

fn check(reason: &str, changes: usize) -> Result<(), StatementError> {
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(crate::text::is_hidden) {
        return Err(StatementError::Reason);
    }
    if changes == 0 || changes > CHANGES_MAX {
        return Err(StatementError::Changes(changes));
    }
    Ok(())
}

fn changes(act: &Act) -> Vec<Value> {
    fn list<T: Serialize>(items: &[T]) -> Vec<Value> {
        items.iter().map(|item| serde_json::to_value(item).unwrap_or(Value::Object(Map::new()))).collect()
    }
    match act {
        Act::Genesis(one) => list(std::slice::from_ref(one)),
        Act::PolicyUpdate(one) => list(std::slice::from_ref(one)),
        Act::SshIssue(one) => list(std::slice::from_ref(one)),
        Act::Snapshot(one) => list(std::slice::from_ref(one)),
        Act::Enroll(all) => list(all),
        Act::Confirm(all) => list(all),
        Act::Retire(all) => list(all),
        Act::Publish(all) => list(all),
        Act::Certify(all) => list(all),
        Act::Activate(all) => list(all),
        Act::Destroy(all) => list(all),
        Act::Seal(all) => list(all),
        Act::Reseal(all) => list(all),
        Act::Remove(all) => list(all),
        Act::SshRevoke(all) => list(all),
        Act::Object(all) => list(all),
        Act::Backup(all) => list(all),
        Act::Drill(all) => list(all),
        Act::Rekey(one) => list(std::slice::from_ref(one)),
        Act::Emergency(all) => list(all),
        Act::Invite(one) => list(std::slice::from_ref(one)),
        Act::Uninvite(all) => list(all),
    }
}

/// Where the changes of a statement are read from, once it is known what they are.
trait Changes {
    fn read<T: Serialize + DeserializeOwned>(self) -> Result<Vec<T>, StatementError>;
}

/// From their values.
impl Changes for Vec<Value> {
    fn read<T: Serialize + DeserializeOwned>(self) -> Result<Vec<T>, StatementError> {
        self.into_iter().map(|c| serde_json::from_value(c).map_err(|e| JsonError::Fields(e).into())).collect()
    }
}

/// From a line that has to be written as we write it; what is around them goes to `around`.
struct Plain<'a> {
    line: &'a [u8],
    around: &'a mut Option<Line<()>>,
}

impl Changes for Plain<'_> {
    fn read<T: Serialize + DeserializeOwned>(self) -> Result<Vec<T>, StatementError> {
        let read: Line<T> = serde_json::from_slice(self.line).map_err(JsonError::Fields)?;
        check(&read.reason, read.changes.len())?;
        if read.v != VERSION || serde_json::to_vec(&read).map_err(JsonError::Fields)? != self.line {
            return Err(StatementError::Spelling);
        }
        let Line { act, at, by, changes, exp, log, policy, reason, v } = read;
        *self.around = Some(Line { act, at, by, changes: Vec::new(), exp, log, policy, reason, v });
        Ok(changes)
    }
}

fn parse_act(name: ActName, changes: impl Changes) -> Result<Act, StatementError> {
    fn list<T: Serialize + DeserializeOwned>(changes: impl Changes) -> Result<Vec<T>, StatementError> {
        changes.read()
    }
    fn one<T: Serialize + DeserializeOwned>(changes: impl Changes) -> Result<T, StatementError> {
        <[T; 1]>::try_from(changes.read()?).map(|[one]| one).map_err(|all| StatementError::Changes(all.len()))
    }
    Ok(match name {
        ActName::Genesis => Act::Genesis(one(changes)?),
        ActName::PolicyUpdate => Act::PolicyUpdate(one(changes)?),
        ActName::SshIssue => Act::SshIssue(one(changes)?),
        ActName::Enroll => Act::Enroll(list(changes)?),
        ActName::Confirm => Act::Confirm(list(changes)?),
        ActName::Retire => Act::Retire(list(changes)?),
        ActName::Publish => Act::Publish(list(changes)?),
        ActName::Certify => Act::Certify(list(changes)?),
        ActName::Activate => Act::Activate(list(changes)?),
        ActName::Destroy => Act::Destroy(list(changes)?),
        ActName::Seal => Act::Seal(list(changes)?),
        ActName::Reseal => Act::Reseal(list(changes)?),
        ActName::Remove => Act::Remove(list(changes)?),
        ActName::SshRevoke => Act::SshRevoke(list(changes)?),
        ActName::Object => Act::Object(list(changes)?),
        ActName::Backup => Act::Backup(list(changes)?),
        ActName::Drill => Act::Drill(list(changes)?),
        ActName::Snapshot => Act::Snapshot(one(changes)?),
        ActName::Rekey => Act::Rekey(one(changes)?),
        ActName::Emergency => Act::Emergency(list(changes)?),
        ActName::Invite => Act::Invite(one(changes)?),
        ActName::Uninvite => Act::Uninvite(list(changes)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retire(change: &str) -> String {
        format!(
            r#"{{"act":"member.retire","at":"2026-11-21T07:00:00Z","by":"alice","changes":[{change}],"exp":"2026-11-28T07:00:00Z","log":"cdn.example/keys/1","policy":1,"reason":"lost","v":1}}"#
        ) + "\n"
    }

    #[test]
    fn a_field_that_says_nothing_is_left_out() {
        let text = retire(r#"{"member":"fra1","why":"lost"}"#);
        let statement = Statement::parse(text.as_bytes()).unwrap();
        assert_eq!(statement.to_bytes().unwrap(), text.as_bytes());
        let other = retire(r#"{"cert":null,"member":"fra1","why":"lost"}"#);
        assert!(matches!(Statement::parse(other.as_bytes()), Err(StatementError::Spelling)));
    }

    #[test]
    fn a_line_spelled_as_we_write_it_is_read_without_a_tree_and_alike() {
        let text = retire(r#"{"member":"fra1","why":"lost"}"#);
        let line = |text: &str| text.trim_end_matches('\n').as_bytes().to_vec();
        let plain = Statement::parse_plain(&line(&text));
        assert!(plain.is_some());
        assert_eq!(plain, Statement::parse_any(&line(&text)).ok());
        let digits = text.replace("\"reason\":\"lost\"", "\"reason\":\"12345678901234567890\"");
        assert!(Statement::parse_plain(&line(&digits)).is_some(), "no number");
        for (from, to) in [
            ("\"policy\":1", "\"policy\":9007199254740992"),
            ("\"policy\":1", "\"policy\":1.0"),
            ("\"policy\":1", "\"policy\":01"),
            ("\"policy\":1", "\"policy\":1,\"policy\":1"),
            ("\"by\":\"alice\",", ""),
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":1,\"x-ticket\":7"),
            ("\"v\":1", "\"v\":1,\"y\":7"),
            ("\"v\":1}", "\"v\":1} "),
            ("\"reason\":\"lost\"", "\"reason\":\"\\u006cost\""),
            ("\"reason\":\"lost\"", "\"reason\":\"l\u{f6}st\""),
            ("[{\"member\":\"fra1\",\"why\":\"lost\"}]", "[]"),
            ("{\"member\":\"fra1\",", "{\"cert\":null,\"member\":\"fra1\","),
            ("{\"member\":\"fra1\",\"why\":\"lost\"}", "{\"why\":\"lost\",\"member\":\"fra1\"}"),
            ("\"member.retire\"", "\"member.enroll\""),
        ] {
            assert!(text.contains(from), "{from}");
            assert_eq!(Statement::parse_plain(&line(&text.replacen(from, to, 1))), None, "{to}");
        }
    }

    #[test]
    fn fields_for_others_are_kept_out_of_the_way() {
        let text = retire(r#"{"member":"fra1","why":"lost"}"#);
        let more = text.replace("\"v\":1}", "\"v\":1,\"x-ticket\":null}");
        assert_eq!(Statement::parse(more.as_bytes()).unwrap(), Statement::parse(text.as_bytes()).unwrap());
    }
}
