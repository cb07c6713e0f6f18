//! How the agent talks: lines with the labels event, level, member and service, and no others. Nothing secret is ever among
//! them. docs/formats/delivery.md has the events.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::agent_args::LogForm;
use super::output::complain;
use crate::name::{Label, MemberName};
use crate::time::Time;

/// What a line is about; a closed set, so that programs can look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Reading the fleet from the disk.
    Open,
    /// Fetching from mirrors.
    Pull,
    /// Catching up.
    Sync,
    /// What it owes and could not do.
    Owed,
    /// Deliveries as a whole.
    Deliver,
    /// One service's delivery.
    Delivery,
    /// Values that have expired.
    Expiry,
    /// Taking away what a member that has left was given.
    Withdrawal,
    /// It serves.
    Ready,
    /// Signing what this machine has come to.
    Acknowledge,
    /// Handing in at mirrors.
    HandIn,
    /// Credentials for systemd.
    Credentials,
    /// The home and what the agent remembers in it.
    Home,
    /// The numbers.
    Numbers,
}

impl Event {
    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Pull => "pull",
            Self::Sync => "sync",
            Self::Owed => "owed",
            Self::Deliver => "deliver",
            Self::Delivery => "delivery",
            Self::Expiry => "expiry",
            Self::Withdrawal => "withdrawal",
            Self::Ready => "ready",
            Self::Acknowledge => "acknowledge",
            Self::HandIn => "hand-in",
            Self::Credentials => "credentials",
            Self::Home => "home",
            Self::Numbers => "numbers",
        }
    }

    /// What people read in front of what is the matter.
    fn topic(self) -> &'static str {
        match self {
            Self::Open => "reading the fleet",
            Self::Pull => "fetching",
            Self::Sync => "catching up",
            Self::Owed => "what it owes",
            Self::Deliver => "deliveries",
            Self::Delivery => "delivery",
            Self::Expiry => "expiry",
            Self::Withdrawal => "withdrawal",
            Self::Ready => "READY",
            Self::Acknowledge => "acknowledging",
            Self::HandIn => "handing in",
            Self::Credentials => "credentials",
            Self::Home => "the home",
            Self::Numbers => "the numbers",
        }
    }
}

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

/// How programs that run for long talk unless somebody says otherwise.
pub(super) fn usual_form() -> LogForm {
    if std::env::var_os("JOURNAL_STREAM").is_some() { LogForm::Journal } else { LogForm::Plain }
}

/// Says one line about a member and one of its services, as far as it is about one.
pub(super) fn line(
    form: LogForm,
    level: Level,
    event: &str,
    (member, service): (Option<&MemberName>, Option<&Label>),
    text: &str,
) {
    let text = crate::text::escape(text);
    let prefix = service.map(|s| format!("{s}: ")).unwrap_or_default();
    match form {
        LogForm::Plain => complain(&format!("{prefix}{text}")),
        LogForm::Journal => complain(&format!("<{}>{prefix}{text}", level.number())),
        LogForm::Json => {
            let at = Time::from_system(std::time::SystemTime::now());
            let line = json!({
                "at": at.to_string(), "event": event, "level": level.word(), "member": member.map(ToString::to_string),
                "message": text, "service": service.map(ToString::to_string),
            });
            complain(&line.to_string());
        }
    }
}

/// What is wrong: an event, of a service or the agent itself, or of one thing among several.
type Topic = (Event, String);

/// The agent's log, and what it last complained of: a thing that stays wrong is said once.
pub(super) struct AgentLog {
    form: LogForm,
    quiet: bool,
    member: MemberName,
    complaints: BTreeMap<Topic, String>,
    /// What was overheard in the last act of each kind.
    overheard: BTreeMap<Event, BTreeSet<String>>,
}

impl AgentLog {
    pub(super) fn new(form: LogForm, quiet: bool, member: MemberName) -> Self {
        Self { form, quiet, member, complaints: BTreeMap::new(), overheard: BTreeMap::new() }
    }

    /// Says something.
    pub(super) fn say(&self, level: Level, event: Event, service: Option<&Label>, text: &str) {
        if self.quiet && matches!(level, Level::Notice | Level::Info) {
            return;
        }
        line(self.form, level, event.word(), (Some(&self.member), service), text);
    }

    /// Says that something is wrong, once until it is over or another thing is.
    pub(super) fn complain(&mut self, event: Event, service: Option<&Label>, problem: &str) {
        let about = service.map(ToString::to_string).unwrap_or_default();
        self.complain_of((event, about), service, &format!("{}: {problem}", event.topic()));
    }

    /// Notes that it is over.
    pub(super) fn over(&mut self, event: Event, service: Option<&Label>) {
        let about = service.map(ToString::to_string).unwrap_or_default();
        if self.complaints.remove(&(event, about)).is_some() {
            self.say(Level::Notice, event, service, &format!("{}: good again", event.topic()));
        }
    }

    /// The same as [`AgentLog::complain`] for one of several things that an event is about.
    pub(super) fn complain_of_one(&mut self, event: Event, about: &str, problem: &str) {
        self.complain_of((event, about.to_owned()), None, &format!("{about}: {problem}"));
    }

    /// The same as [`AgentLog::over`] for one of several things; nothing is said.
    pub(super) fn is_over(&mut self, event: Event, about: &str) {
        self.complaints.remove(&(event, about.to_owned()));
    }

    fn complain_of(&mut self, topic: Topic, service: Option<&Label>, text: &str) {
        let event = topic.0;
        if self.complaints.insert(topic, text.to_owned()).as_deref() != Some(text) {
            self.say(Level::Error, event, service, text);
        }
    }

    /// Says what other parts of the program have said in an act, leaving out what they said in the last one, too.
    pub(super) fn overhear(&mut self, event: Event, lines: Vec<(bool, String)>) {
        let before = self.overheard.remove(&event).unwrap_or_default();
        for (is_warning, text) in lines.iter().filter(|(_, text)| !before.contains(text)) {
            self.say(if *is_warning { Level::Warning } else { Level::Info }, event, None, text);
        }
        self.overheard.insert(event, lines.into_iter().map(|(_, text)| text).collect());
    }
}
