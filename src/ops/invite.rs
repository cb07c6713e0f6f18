//! Inviting: tokens are made here, and what is logged has their public halves. A list of machines is read from a table.

use std::collections::BTreeSet;

use rand::CryptoRng;

use super::OpsError;
use crate::fleet::{Draft, Fleet};
use crate::limits::{HARDWARE_UUID_BYTES_MAX, INVITATIONS_MAX, SERVICES_MAX};
use crate::name::{Kind, Label, MemberName};
use crate::statement::{Act, Approval, Facts, Invitations, Invite, Invited, Token, Uninvite, machine_digest};
use crate::time::Time;
use crate::wireguard::{Endpoint, EndpointError, Host};

/// Who is to be invited, before there is a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inviting {
    /// The services that join with it.
    pub services: BTreeSet<Label>,
    /// Region, roles, and perhaps the endpoint.
    pub facts: Facts,
    /// The hardware's UUID, where only that machine may come.
    pub dmi: Option<String>,
    /// Whether it takes the place of the machine that has the name now.
    pub replace: bool,
}

/// What all invitations of one statement have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Who has to agree once the machine has asked.
    pub approval: Approval,
    /// The first moment at which they are good.
    pub not_before: Time,
    /// The last one.
    pub not_after: Time,
}

/// Makes a token for each, and the list that is logged.
///
/// # Errors
/// [`OpsError`], if a machine is to be replaced and there is none.
pub fn plan_invite(
    wanted: &[(MemberName, Inviting)],
    terms: &Terms,
    fleet: &Fleet,
    rng: &mut impl CryptoRng,
) -> Result<(Invitations, Vec<(MemberName, Token)>), OpsError> {
    let (mut list, mut tokens) = (Vec::new(), Vec::new());
    let state = fleet.state();
    for (member, inviting) in wanted {
        let there = state.members.get(member).filter(|m| m.is_active() && m.kind == Kind::Pop);
        let replaces = match (inviting.replace, there) {
            (false, _) => None,
            (true, Some(found)) => Some(found.fingerprint.to_hex()),
            (true, None) => return Err(OpsError::NoMember(member.clone())),
        };
        let token = Token::generate(rng);
        list.push(Invited {
            approval: terms.approval,
            confirm: true,
            facts: inviting.facts.clone(),
            machine: inviting.dmi.as_deref().map(|uuid| machine_digest(&state.id, "dmi", uuid)),
            member: member.clone(),
            not_after: terms.not_after,
            not_before: terms.not_before,
            replaces,
            services: inviting.services.clone(),
            token: token.key(),
        });
        tokens.push((member.clone(), token));
    }
    Ok((Invitations::new(list), tokens))
}

/// The statement that makes these invitations.
pub fn invite_draft(list: &Invitations, reason: &str) -> Draft {
    let bytes = list.to_bytes();
    let invite = Invite { invitations: crate::digest::Digest::of(&bytes) };
    Draft::with(Act::Invite(invite), reason, vec![bytes])
}

/// The statement that withdraws the open invitations of these members.
///
/// # Errors
/// [`OpsError::NoInvitation`].
pub fn plan_uninvite(members: &[MemberName], reason: &str, fleet: &Fleet) -> Result<Draft, OpsError> {
    let open = |member: &MemberName| {
        let found = fleet.state().invitations.get(member).filter(|i| i.used.is_none() && i.withdrawn.is_none());
        let found = found.ok_or_else(|| OpsError::NoInvitation(member.clone()))?;
        Ok(Uninvite { member: member.clone(), token: found.invited.token })
    };
    let list = members.iter().collect::<BTreeSet<_>>().into_iter().map(open).collect::<Result<Vec<_>, OpsError>>()?;
    Ok(Draft::bare(Act::Uninvite(list), reason))
}

/// The columns of a table of machines.
const COLUMNS: [&str; 7] = ["member", "services", "region", "roles", "endpoint", "dmi", "replace"];

/// Reads a hardware's UUID as it is given with an invitation: what firmware calls one is not always of RFC 9562's form.
///
/// # Errors
/// In words.
pub fn hardware_uuid(text: &str) -> Result<String, String> {
    let is_one = (1..=HARDWARE_UUID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let expected = format!("expected 1 to {HARDWARE_UUID_BYTES_MAX} visible characters of ASCII without a space");
    is_one.then(|| text.to_owned()).ok_or(expected)
}

/// Reads a table of machines: a head line with the names of its columns, then a line for each. `member` is needed; there
/// may be `services` and `roles` (with spaces between), `region`, `endpoint`, `dmi`, and `replace` (`yes` or nothing).
///
/// # Errors
/// In words, with the line's number.
pub fn parse_inventory(text: &str) -> Result<Vec<(MemberName, Inviting)>, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let head = lines.next().ok_or_else(|| "it is empty: the first line names the columns".to_owned())?.1;
    let mut columns: Vec<&str> = Vec::new();
    for column in head.split(',').map(str::trim) {
        if !COLUMNS.contains(&column) {
            let (other, known) = (crate::text::shown(column), COLUMNS.join(", "));
            return Err(format!("line 1: '{other}' is no column; there are {known}"));
        }
        if columns.contains(&column) {
            return Err(format!("line 1: the column '{column}' is there twice"));
        }
        columns.push(column);
    }
    let mut all: Vec<(MemberName, Inviting)> = Vec::new();
    for (number, line) in lines {
        let at = |problem: String| format!("line {}: {problem}", number.saturating_add(1));
        if line.contains('"') {
            return Err(at("quotation marks are not read; no value needs them".to_owned()));
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != columns.len() {
            return Err(at(format!("{} fields under {} columns", fields.len(), columns.len())));
        }
        let (mut member, mut inviting) = (None, Inviting::default());
        for (column, field) in columns.iter().zip(&fields).filter(|(_, field)| !field.is_empty()) {
            let bad = |e: String| at(format!("{column}: {e}"));
            match *column {
                "member" => member = Some(field.parse::<MemberName>().map_err(|e| bad(e.to_string()))?),
                "services" => inviting.services = labels(field).map_err(bad)?,
                "roles" => inviting.facts.roles = labels(field).map_err(bad)?,
                "region" => inviting.facts.region = Some(field.parse::<Label>().map_err(|e| bad(e.to_string()))?),
                "endpoint" => {
                    let host: Host = field.parse().map_err(|e: EndpointError| bad(e.to_string()))?;
                    inviting.facts.endpoint = Some(Endpoint::from(host));
                }
                "dmi" => inviting.dmi = Some(hardware_uuid(field).map_err(bad)?),
                _ if *field == "yes" => inviting.replace = true,
                _ => return Err(bad("'yes', or nothing".to_owned())),
            }
        }
        let member = member.ok_or_else(|| at("it names no member".to_owned()))?;
        if member.is_service() {
            return Err(at(format!("{member} is a service: name it as one of its PoP's services")));
        }
        if inviting.services.len() > SERVICES_MAX {
            return Err(at(format!("{} services; at most {SERVICES_MAX} join at once", inviting.services.len())));
        }
        if all.iter().any(|(m, _)| *m == member) {
            return Err(at(format!("{member} is there twice")));
        }
        if all.len() >= INVITATIONS_MAX {
            return Err(at(format!("more than {INVITATIONS_MAX} machines; make several statements")));
        }
        all.push((member, inviting));
    }
    if all.is_empty() { Err("it names no machine".to_owned()) } else { Ok(all) }
}

fn labels(field: &str) -> Result<BTreeSet<Label>, String> {
    field.split_whitespace().map(|word| word.parse::<Label>().map_err(|e| e.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_machines_is_read_or_refused_with_the_line() {
        let text = "member,services,region,roles,endpoint,dmi,replace\n\
            fra1,nginx wg,eu,hub,198.51.100.1,4C4C4544-0042,\n\nsin1,,,,,,yes\n";
        let read = parse_inventory(text).unwrap();
        assert_eq!(read.len(), 2);
        let (name, fra1) = &read[0];
        assert_eq!((name.to_string().as_str(), fra1.services.len(), fra1.replace), ("fra1", 2, false));
        assert_eq!(fra1.facts.region.as_ref().map(Label::as_str), Some("eu"));
        assert!(fra1.facts.endpoint.is_some() && fra1.facts.roles.len() == 1 && fra1.dmi.is_some());
        assert!(read[1].1.replace && read[1].1.services.is_empty());
        for (text, part) in [
            ("", "it is empty"),
            ("member\n", "names no machine"),
            ("member,member\nfra1,fra1\n", "the column 'member' is there twice"),
            ("member,sevices\nfra1,nginx\n", "'sevices' is no column"),
            ("member,sevices\nfra1,\n", "'sevices' is no column"),
            ("member,\u{1b}[2J\nfra1,\n", "'\\u{1b}[2J' is no column"),
            ("member,dmi\nfra1,4C\u{1b}4C\n", "line 2: dmi: expected 1 to 64 visible"),
            ("member\nnginx@fra1\n", "line 2: nginx@fra1 is a service"),
            ("member,services\nfra1\n", "line 2: 1 fields under 2 columns"),
            ("member,services\n\n,nginx\n", "line 3: it names no member"),
            ("member\nfra1\nfra1\n", "line 3: fra1 is there twice"),
            ("member\nFRA1\n", "line 2: member: "),
            ("member,services\nfra1,\"nginx\"\n", "quotation marks"),
            ("member,replace\nfra1,no\n", "'yes', or nothing"),
            ("member,endpoint\nfra1,198.51.100.1:51820\n", "line 2: endpoint: "),
        ] {
            let problem = parse_inventory(text).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
        let services: String = (0..=SERVICES_MAX).map(|i| format!("s{i} ")).collect();
        assert!(parse_inventory(&format!("member,services\nfra1,{services}\n")).unwrap_err().contains("65 services"));
        let many: String = (0..=INVITATIONS_MAX).map(|i| format!("p{i}\n")).collect();
        assert!(parse_inventory(&format!("member\n{many}")).unwrap_err().contains("more than 4096"), "bounded");
    }
}
