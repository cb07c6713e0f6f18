//! A fleet on a simulated machine, and the program's commands over it, composed as `keys::cli` composes them.

use std::sync::atomic::{AtomicU64, Ordering};

use keys::fleet::{Draft, Fleet, FleetError, Known, Placed, Report, Signer};
use keys::home::Home;
use keys::limits::REQUEST_BYTES_MAX;
use keys::log::note::SignerKey;
use keys::name::{Kind, MemberName, Slot};
use keys::openpgp::{Fingerprint, Profile};
use keys::ops::{self, Founder, Founding, Joining, OpsError, Selection};
use keys::state::Objects as _;
use keys::statement::{Act, Facts, Genesis, Request, RetireReason};
use keys::store::{Store, StoreError, read_checkpoint, request_path};
use keys::time::{Span, Time};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::disk::Machine;

/// A command line, without the words around it.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// `keys init cdn.example --operator 'Alice <…>'`, with the request of a second founder if there is one.
    Init { second: Option<Vec<u8>> },
    /// `keys enroll POP`, with a service or without
    Enroll(&'static str, Option<&'static str>),
    /// `keys approve --all --yes`
    Approve,
    /// `keys seal ADDRESS`
    Seal(&'static str, &'static str),
    /// `keys rotate GLOB --yes`
    Rotate(&'static str),
    /// `keys sync`
    Sync,
    /// `keys reseal --yes`
    Reseal,
    /// `keys revoke MEMBER --reason compromised --yes`
    Revoke(&'static str),
}

/// How a command ended that did not fail: exit 0, or exit 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Waits,
}

/// A machine with a keyring, a policy and homes, at a time.
#[derive(Clone)]
pub(crate) struct Estate {
    pub machine: Machine,
    pub now: Time,
}

/// Never the same twice in a process: a key that is made again after a crash must be another one.
pub(crate) fn entropy() -> StdRng {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    StdRng::seed_from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Estate {
    pub(crate) fn new() -> Self {
        Self { machine: Machine::new(), now: Time::parse("2026-11-21T07:00:00Z").unwrap() }
    }

    /// The same estate on another state of its machine.
    pub(crate) fn on(&self, machine: Machine) -> Self {
        Self { machine, now: self.now }
    }

    pub(crate) fn home(&self, who: &str) -> Home {
        Home::on(self.machine.disk(who))
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.machine.disk("keyring"))
    }

    /// Runs a command that has to succeed, and lets a minute pass.
    pub(crate) fn did(&mut self, who: &str, command: &Command) {
        self.run(who, command).unwrap_or_else(|e| panic!("{who}: {command:?}: {e}"));
        self.now = self.now.plus(Span(60));
    }

    pub(crate) fn run(&self, who: &str, command: &Command) -> Result<Outcome, OpsError> {
        match command {
            Command::Init { second } => self.init(who, second.clone()),
            Command::Enroll(pop, service) => self.enroll(who, pop, *service),
            Command::Approve => self.approve(who),
            Command::Seal(address, value) => self.change(who, |fleet, home| {
                let plan = ops::plan_seal(&address.parse()?, fleet)?;
                let draft = ops::seal(&plan, value.as_bytes(), "sealed", None, home, fleet)?;
                Ok(outcome(&ops::carry_out(home, fleet, vec![draft], None)?))
            }),
            Command::Rotate(members) => self.change(who, |fleet, home| {
                let selection = Selection { members: Some(members.parse()?), slot: None, due: false, soon: true };
                let plan = ops::plan_rotate(&selection, fleet.state(), fleet.now())?;
                if plan.rotations.is_empty() {
                    return Ok(Outcome::Done);
                }
                let placed = outcome(&ops::carry_out(home, fleet, plan.drafts("rotated"), None)?);
                if placed == Outcome::Done {
                    catch_up(home, fleet)?;
                }
                Ok(placed)
            }),
            Command::Sync => self.change(who, |fleet, home| {
                let lacking = catch_up(home, fleet)?.iter().any(|p| matches!(p, Placed::Proposed { .. }));
                Ok(if lacking { Outcome::Waits } else { Outcome::Done })
            }),
            Command::Reseal => self.change(who, |fleet, home| reseal(home, fleet)),
            Command::Revoke(member) => self.change(who, |fleet, home| {
                let plan = ops::plan_revoke(&member.parse()?, RetireReason::Compromised, home, fleet)?;
                let placed = outcome(&ops::carry_out(home, fleet, vec![plan.draft("stolen")], None)?);
                if placed == Outcome::Done { reseal(home, fleet) } else { Ok(placed) }
            }),
        }
    }

    /// Opens the fleet as whoever has this home.
    pub(crate) fn open(&self, who: &str) -> Result<Fleet, OpsError> {
        let home = self.home(who);
        let known = Known { pin: home.pin()?.map(|p| p.id), seen: home.seen()?, ..Known::default() };
        Ok(Fleet::open(self.store(), &known, self.now, &mut |_, _| {})?)
    }

    /// Opens the fleet as somebody who knows nothing of it.
    pub(crate) fn open_unknown(&self) -> Result<Fleet, FleetError> {
        Fleet::open(self.store(), &Known::default(), self.now, &mut |_, _| {})
    }

    pub(crate) fn verify(&self) -> Result<(Report, Option<Fleet>), FleetError> {
        Fleet::verify(&self.store(), &Known::default(), self.now, &mut |_, _| {})
    }

    fn remember(home: &Home, fleet: &Fleet) {
        if let Some(head) = fleet.head()
            && home.pin().is_ok_and(|p| p.is_some_and(|p| p.id == fleet.pin().id))
        {
            let _ = home.set_seen(&head.note.to_bytes());
        }
    }

    fn change<T>(&self, who: &str, work: impl FnOnce(&mut Fleet, &Home) -> Result<T, OpsError>) -> Result<T, OpsError> {
        let (home, store) = (self.home(who), self.store());
        let _home_lock = home.disk().try_lock().map_err(FleetError::from)?.expect("one command at a time");
        let _lock = store.disk().try_lock().map_err(FleetError::from)?.expect("one command at a time");
        home.settle()?;
        let mut fleet = self.open(who)?;
        let sequencer = ops::sequencer(&home, &fleet)?;
        if sequencer.is_some() && home.pin()?.is_none() {
            home.set_pin(&fleet.pin())?;
        }
        fleet.prepare(sequencer.as_ref())?;
        if let Some(key) = &sequencer {
            fleet.absorb(key)?;
        }
        let result = work(&mut fleet, &home);
        if result.is_ok() {
            fleet.done();
        }
        Self::remember(&home, &fleet);
        result
    }

    fn init(&self, who: &str, second: Option<Vec<u8>>) -> Result<Outcome, OpsError> {
        let (keyring, policy, home) = (self.machine.disk("keyring"), self.machine.disk("policy"), self.home(who));
        let _lock = keyring.try_lock().map_err(FleetError::from)?.expect("one command at a time");
        if home.pin()?.is_some() {
            return Err(OpsError::Present(who.parse()?));
        }
        let first = Founder::Here { name: who.parse()?, user_id: format!("Alice <{who}@ops.example>") };
        let founding = Founding {
            fleet: "cdn.example".parse()?,
            profile: Profile::Compat,
            founders: [first].into_iter().chain(second.map(Founder::Elsewhere)).collect(),
            authority: "casc1".parse()?,
            reason: "the fleet is founded".to_owned(),
        };
        let founded = ops::found(&founding, &home, &keyring, &policy, self.now, &mut entropy())?;
        Ok(outcome(&[founded.placed]))
    }

    /// The request of a founder who is elsewhere.
    pub(crate) fn ask_to_found(&self, who: &str) -> Vec<u8> {
        let (name, fleet) = (who.parse().unwrap(), "cdn.example".parse().unwrap());
        let user_id = format!("Bob <{who}@ops.example>");
        ops::ask_to_found(&name, &user_id, &fleet, Profile::Compat, &self.home(who), self.now).unwrap()
    }

    fn enroll(&self, who: &str, pop: &str, service: Option<&str>) -> Result<Outcome, OpsError> {
        let mut fleet = self.open(who)?;
        let joining = Joining {
            member: pop.parse()?,
            kind: Kind::Pop,
            services: service.map(str::parse).transpose()?.into_iter().collect(),
            facts: Facts::default(),
            user_id: None,
        };
        let request = ops::ask(&joining, &self.home(who), &mut fleet, &mut entropy())?;
        let keyring = self.machine.disk("keyring");
        let _lock = keyring.try_lock().map_err(FleetError::from)?.expect("one command at a time");
        keyring.create(&request_path(&keys::digest::Digest::of(&request)), &request).map_err(FleetError::from)?;
        Ok(Outcome::Done)
    }

    fn approve(&self, who: &str) -> Result<Outcome, OpsError> {
        let store = self.store();
        match read_checkpoint(&store) {
            Err(StoreError::NoKeyring(_)) => {
                let mut fleet = Fleet::empty(store.clone(), String::new(), self.now);
                for proposal in fleet.proposals()? {
                    if let Act::Genesis(genesis) = &proposal.signed.statement.act {
                        return self.approve_founding(who, genesis, &proposal);
                    }
                }
            }
            other => drop(other.map_err(FleetError::from)?),
        }
        let mut fleet = self.open(who)?;
        Self::remember(&self.home(who), &fleet);
        let requests = self.requests()?;
        let proposals = fleet.proposals()?;
        for proposal in &proposals {
            fleet.standing(proposal)?;
        }
        if requests.is_empty() && proposals.is_empty() {
            return Ok(Outcome::Done);
        }
        self.change(who, |fleet, home| {
            let mut placed = Vec::new();
            for request in &requests {
                placed.extend(ops::grant(request, "admitted", home, fleet, None, &mut entropy())?);
            }
            for proposal in &proposals {
                let Some(current) = fleet.proposal(&proposal.signed.id)? else { continue };
                let mut signers = ops::signers(home, fleet, None)?;
                let sequencer = ops::sequencer(home, fleet)?;
                placed.push(fleet.approve(&current, &mut signers, sequencer.as_ref())?);
            }
            Ok(outcome(&placed))
        })
    }

    /// The requests that wait.
    pub(crate) fn requests(&self) -> Result<Vec<Vec<u8>>, FleetError> {
        let disk = self.machine.disk("keyring");
        let names = disk.list("proposals/requests")?;
        let names = names.iter().filter(|(name, _)| name.ends_with(".request"));
        let read = names.map(|(name, _)| disk.read(&format!("proposals/requests/{name}"), REQUEST_BYTES_MAX));
        Ok(read.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn approve_founding(
        &self,
        who: &str,
        genesis: &Genesis,
        proposal: &keys::fleet::Proposal,
    ) -> Result<Outcome, OpsError> {
        let home = self.home(who);
        let mut fleet = Fleet::empty(self.store(), proposal.signed.statement.log.clone(), self.now);
        let store = self.store();
        let _lock = store.disk().try_lock().map_err(FleetError::from)?.expect("one command at a time");
        let (mut signers, mut sequencer) = (Vec::new(), None);
        for founder in &genesis.members {
            let request = fleet.store().object(&founder.request).map_err(FleetError::from)?;
            let (request, ..) = Request::parse(&request).map_err(|e| OpsError::Request(e.to_string()))?;
            let Some(requested) = request.member(&founder.member) else { continue };
            let key = |slot| requested.keys.iter().find(|k| k.slot == slot && k.active).map(|k| k.key.clone());
            if let (Kind::Authority, Some(log)) = (founder.kind, key(Slot::Log))
                && let Ok(text) = home.key(&founder.member, Slot::Log, &log)
            {
                sequencer = SignerKey::from_private_text(&text).ok().map(keys::fleet::Sequencer::from);
            }
            if let (Kind::Operator, Some(sign)) = (founder.kind, key(Slot::Sign))
                && let Ok(fingerprint) = Fingerprint::from_hex(&sign)
                && let Some(pair) = home.key_pair(&founder.member, &fingerprint)?
            {
                signers.push(Signer { member: founder.member.clone(), key: Box::new(pair) });
            }
        }
        let placed = ops::approve_founding(proposal, genesis, &home, &mut fleet, &mut signers, sequencer.as_ref())?;
        Ok(outcome(&placed))
    }
}

fn outcome(placed: &[Placed]) -> Outcome {
    if placed.iter().all(|p| matches!(p, Placed::Logged { .. })) { Outcome::Done } else { Outcome::Waits }
}

fn reseal(home: &Home, fleet: &mut Fleet) -> Result<Outcome, OpsError> {
    let plan = ops::plan_reseal(None, home, fleet)?;
    let drafts = plan.drafts("recipients brought up to date", home, fleet)?;
    Ok(outcome(&ops::carry_out(home, fleet, drafts, None)?))
}

/// What `keys sync` does: rounds of catching up, each draft signed first by the member it is about.
fn catch_up(home: &Home, fleet: &mut Fleet) -> Result<Vec<Placed>, OpsError> {
    let mut placed = Vec::new();
    for _ in 0..5 {
        let plan = ops::plan_sync(home, fleet, &mut entropy())?;
        if plan.drafts.is_empty() {
            break;
        }
        for draft in plan.drafts {
            let mut signers = ops::signers(home, fleet, None)?;
            let owners = owners(&draft);
            signers.sort_by_key(|s| !owners.contains(&s.member));
            let sequencer = ops::sequencer(home, fleet)?;
            placed.extend(fleet.change(vec![draft], &mut signers, sequencer.as_ref())?);
        }
    }
    ops::destroy_private(home, fleet)?;
    ops::issue_pending(home, fleet)?;
    Ok(placed)
}

fn owners(draft: &Draft) -> Vec<MemberName> {
    match &draft.act {
        Act::Publish(list) => list.iter().map(|c| c.member.owner()).collect(),
        Act::Certify(list) => list.iter().map(|c| c.member.owner()).collect(),
        Act::Destroy(list) => list.iter().map(|c| c.member.owner()).collect(),
        Act::Reseal(list) => list.iter().filter_map(|c| c.address.owner()).collect(),
        _ => Vec::new(),
    }
}

/// The member an address belongs to, if it is not shared.
trait Owner {
    fn owner(&self) -> Option<MemberName>;
}

impl Owner for keys::name::Address {
    fn owner(&self) -> Option<MemberName> {
        if let keys::name::Scope::Member(member) = self.scope() { Some(member.owner()) } else { None }
    }
}
