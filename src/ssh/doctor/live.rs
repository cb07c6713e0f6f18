//! What the running sshd shows, beside the files it was to be started with.

use super::super::certificate::SshCertificate;
use super::{Code, Examined, Finding};
use crate::time::Time;

/// What a connection showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nobody answered; why, in words.
    Silent(String),
    /// A host key, and no SSH certificate.
    Key,
    /// An SSH certificate: its line as in a `-cert.pub` file.
    Certificate(String),
}

/// Judges what `address` showed, beside the files that were examined.
pub fn live(address: &str, answer: &Answer, examined: &Examined, now: Time) -> Vec<Finding> {
    let one = |code: Code, text: String| vec![Finding::new(code, address, text)];
    let line = match answer {
        Answer::Silent(why) => return one(Code::LiveSilent, why.clone()),
        Answer::Key if examined.certificates.is_empty() => return Vec::new(),
        Answer::Key => return one(Code::LiveNoCertificate, "shows its host key without a certificate".to_owned()),
        Answer::Certificate(line) => line,
    };
    let Ok(shown) = SshCertificate::parse(line) else {
        return one(Code::LiveNoCertificate, "shows a certificate that cannot be read".to_owned());
    };
    let mut found = Vec::new();
    if !shown.is_current(now) {
        let end = shown.valid_before().map_or_else(String::new, |end| format!(", good until {end}"));
        found.extend(one(Code::LiveExpired, format!("shows a certificate whose time it is not{end}")));
    }
    if let Some((path, _)) = examined.certificates.first()
        && !examined.certificates.iter().any(|(_, blob)| *blob == shown.blob)
    {
        let text =
            format!("shows serial {} by {}, and not the certificate in {path}", shown.serial(), shown.ca_fingerprint());
        found.extend(one(Code::LiveReload, text));
    }
    found
}
