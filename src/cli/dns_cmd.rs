//! `keys dns records`: what a zone can say of the fleet's members, to be put into it by whoever has the zone.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CliError, Exit};
use crate::name::Glob;
use crate::ops::{DnsRecord, DnsRecords, dns_records};

#[derive(Debug, ClapArgs)]
pub(super) struct Dns {
    #[command(subcommand)]
    pub verb: DnsVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum DnsVerb {
    /// Print SSHFP records of hosts' SSH keys, active and standby, and OPENPGPKEY records of members' certificates
    #[command(
        after_help = "They are for a zone that is signed (DNSSEC): ssh asks for them with VerifyHostKeyDNS=yes, gpg with --auto-key-locate dane.
Standby keys are among them, so print them anew when new standbys are there, not only after a rotation.
Examples:
  keys dns records
  keys dns records fra1 --type sshfp
  keys dns records 'nginx@*' alice --type openpgpkey"
    )]
    Records {
        /// Whose: names or patterns [default: everybody's]
        #[arg(value_name = "MEMBER")]
        members: Vec<Glob>,
        /// Only these
        #[arg(long = "type", value_enum, value_name = "TYPE")]
        kind: Option<RecordType>,
    },
}

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RecordType {
    /// SSH keys of hosts
    Sshfp,
    /// OpenPGP certificates
    Openpgpkey,
}

impl RecordType {
    fn word(self) -> &'static str {
        match self {
            Self::Sshfp => "SSHFP",
            Self::Openpgpkey => "OPENPGPKEY",
        }
    }
}

/// `keys dns`.
pub(super) fn dns(context: &Context, args: &Dns) -> Result<Exit, CliError> {
    let DnsVerb::Records { members, kind } = &args.verb;
    let mut fleet = context.open_published()?;
    let DnsRecords { records, left_out } = dns_records(members, &mut fleet)?;
    let is_wanted = |record: &&DnsRecord| kind.is_none_or(|k| k.word() == record.data.kind());
    let records: Vec<&DnsRecord> = records.iter().filter(is_wanted).collect();
    let left_out: Vec<_> = left_out.iter().filter(|_| *kind != Some(RecordType::Sshfp)).collect();
    for (member, why) in &left_out {
        context.say(&format!("left out: the certificate of {member}: {}", crate::text::escape(why)));
    }
    if context.json {
        let row = |r: &&DnsRecord| json!({ "member": r.member.to_string(), "about": r.about, "name": r.name, "type": r.data.kind(), "data": r.data.text() });
        let rows: Vec<Value> = records.iter().map(row).collect();
        let without: Vec<String> = left_out.iter().map(|(member, _)| member.to_string()).collect();
        return context.answer(json!({ "records": rows, "left_out": without }), Exit::Ok);
    }
    for record in records {
        context.out.line(&format!("; {}\n{}", crate::text::escape(&record.about), record.to_zone()))?;
    }
    Ok(Exit::Ok)
}
