//! How the agent talks: lines with the labels level, member and service, and no others. Nothing secret is ever among them.

use std::collections::BTreeMap;

use serde_json::json;

use super::agent_args::LogForm;
use super::output::complain;
use crate::name::{Label, MemberName};
use crate::time::Time;

/// How grave it is; the journal's numbers (syslog(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warning,
    Notice,
    Info,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Notice => 5,
            Self::Info => 6,
        }
    }
}

/// The agent's log, and what it last complained of: a thing that stays wrong is said once.
pub(super) struct AgentLog {
    form: LogForm,
    quiet: bool,
    member: MemberName,
    said: BTreeMap<String, String>,
}

impl AgentLog {
    pub(super) fn new(form: LogForm, quiet: bool, member: MemberName) -> Self {
        Self { form, quiet, member, said: BTreeMap::new() }
    }

    /// Says something.
    pub(super) fn say(&self, level: Level, service: Option<&Label>, text: &str) {
        if self.quiet && matches!(level, Level::Notice | Level::Info) {
            return;
        }
        let text = crate::text::escape(text);
        let prefix = service.map(|s| format!("{s}: ")).unwrap_or_default();
        match self.form {
            LogForm::Plain => complain(&format!("{prefix}{text}")),
            LogForm::Journal => complain(&format!("<{}>{prefix}{text}", level.number())),
            LogForm::Json => {
                let at = Time::from_system(std::time::SystemTime::now());
                let line = json!({
                    "at": at.to_string(), "level": level.word(), "member": self.member.to_string(),
                    "message": text, "service": service.map(ToString::to_string),
                });
                complain(&line.to_string());
            }
        }
    }

    /// Says that something is wrong, once until it is over or another thing is; the topic is a service's or the agent's own.
    pub(super) fn complain(&mut self, topic: &str, service: Option<&Label>, problem: &str) {
        let key = format!("{topic} {}", service.map(ToString::to_string).unwrap_or_default());
        if self.said.insert(key, problem.to_owned()).as_deref() != Some(problem) {
            self.say(Level::Error, service, &format!("{topic}: {problem}"));
        }
    }

    /// Notes that it is over.
    pub(super) fn over(&mut self, topic: &str, service: Option<&Label>) {
        let key = format!("{topic} {}", service.map(ToString::to_string).unwrap_or_default());
        if self.said.remove(&key).is_some() {
            self.say(Level::Notice, service, &format!("{topic}: good again"));
        }
    }
}
