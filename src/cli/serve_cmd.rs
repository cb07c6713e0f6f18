//! `keys serve`: the fleet's directory over HTTP; `keys submit`: handing in at such a place what waits here.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;

use clap::Args as ClapArgs;
use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output::complain;
use super::pull_cmd::mirrors;
use super::signals;
use crate::fleet::Known;
use crate::ops::{self, Outgoing};
use crate::remote::{ServeError, Server, SubmitError, Submitted, submit};
use crate::time::Time;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Its files are those of the fleet's directory, at the same paths: whatever else serves files serves them as well. Requests and
signatures are taken at /v1/submit from whoever the policy would listen to; 'keys pull' and 'keys submit' use both. gpg and sq find the members' certificates: HKP and WKD. Everything
is durable before it is answered, so the process may end at any time; told to end, it first answers whoever has asked. For others than this machine put a web server with
TLS in front.
Examples:
  keys serve --listen 127.0.0.1:7411
  gpg --keyserver hkp://127.0.0.1:7411 --search-keys fra1"
)]
pub(super) struct Serve {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "What waits here is handed in with all that belongs to it: proposals with their signatures, and requests. Handing it in again
does no harm. It is in force once whoever has the log's key has taken it in, and 'keys pull' brings it back.
Examples:
  keys submit
  keys submit --to https://keys.cdn.example"
)]
pub(super) struct Submit {
    /// Where; several are tried in this order [default: the mirrors that the home remembers]
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
}

/// `keys serve`.
pub(super) fn serve(context: &Context, args: &Serve) -> Result<Exit, CliError> {
    let known = Known { pin: context.known(None)?.pin, ..Known::default() };
    let clock = || Time::from_system(std::time::SystemTime::now());
    let server = Server::open(&context.fleet_directory()?, known, clock, |line: &str| complain(line))?;
    let unusable = |e: std::io::Error| CliError::new(Exit::Unknown, format!("cannot listen on {}: {e}", args.listen));
    let listener = TcpListener::bind(args.listen).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let ending = signals::ending()?;
    context.out.line(&format!("serving at http://{address}"))?;
    server.serve(&listener, ending.as_fd())?;
    Ok(Exit::Ok)
}

/// `keys submit`.
pub(super) fn submit_command(context: &Context, args: &Submit) -> Result<Exit, CliError> {
    let home = context.maybe_home()?;
    let addresses = mirrors(home.as_ref(), &args.to)?;
    let mut fleet = context.open()?;
    let mut handed: Vec<(String, Vec<u8>)> = Vec::new();
    for (path, request) in ops::waiting_requests(fleet.store())? {
        handed.push((format!("request {path}"), request));
    }
    for Outgoing { id, bytes } in ops::outbox(&mut fleet, None)? {
        let what = format!("proposal {}", id.short());
        let bytes = bytes.map_err(|e| CliError::failed(format!("{what}: {e}")))?;
        handed.push((what, bytes));
    }
    let (mut done, mut refused) = (Vec::new(), None);
    for (what, bytes) in handed {
        let submitted = match submit(&addresses, &bytes) {
            Ok(submitted) => submitted,
            // That one is not taken is no reason to keep the others back.
            Err(e @ SubmitError::Refused { .. }) => {
                context.say(&format!("{what}: {e}"));
                refused = Some(e);
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        if !context.json {
            let word = if submitted.is_new { "handed in at" } else { "known already at" };
            context.out.line(&format!("{what}: {word} {}", submitted.mirror))?;
        }
        done.push((what, submitted));
    }
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    if context.json {
        let list: Vec<serde_json::Value> = done
            .iter()
            .map(|(what, Submitted { mirror, is_new })| json!({ "what": what, "mirror": mirror, "new": is_new }))
            .collect();
        return context.answer(json!({ "submitted": list }), Exit::Ok);
    }
    if done.is_empty() {
        context.say("nothing waits here");
    }
    Ok(Exit::Ok)
}

impl From<ServeError> for CliError {
    fn from(e: ServeError) -> Self {
        match e {
            ServeError::Disk(e) => e.into(),
            ServeError::Fleet(e) => e.into(),
            ServeError::Net(_) => Self::new(Exit::Unknown, &e),
        }
    }
}

impl From<SubmitError> for CliError {
    fn from(e: SubmitError) -> Self {
        match e {
            SubmitError::NoMirrors => {
                Self::usage(&e).hint("give one with --to; 'keys pull --from URL --remember' keeps mirrors in the home")
            }
            SubmitError::Refused { .. } => {
                Self::new(Exit::No, &e).hint("'keys pull' brings what happened meanwhile; what waits here stays")
            }
            SubmitError::Nowhere(ref faults) => {
                let error = Self::new(Exit::Unknown, &e);
                faults.iter().fold(error, |error, fault| error.hint(format!("mirror {fault}")))
            }
        }
    }
}
