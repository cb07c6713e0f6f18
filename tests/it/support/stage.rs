//! A fleet driven through the library, for tests that make entries the program would never make.

use std::collections::BTreeMap;

use keys::digest::Digest;
use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Fleet, Known, Placed};
use keys::home::Home;
use keys::log::note::SignatureLine;
use keys::name::{FleetName, Kind, Label, MemberName, Slot};
use keys::openpgp::{Fingerprint, Profile, sign_statement};
use keys::ops::{self, Founder, Founding, Joining};
use keys::state::{Replay, Verdict};
use keys::statement::{Act, Entry, Facts, Signed, Statement, key_hash, principal};
use keys::store::{LogReader, Store, read_checkpoint};
use keys::time::{Span, Time};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::Sandbox;

/// 2026-11-21T07:00:00Z.
pub(crate) const NOW: Time = Time(1_795_244_400);

/// A founded fleet with its homes, at a time of its own.
pub(crate) struct Stage {
    pub keyring: Store,
    pub homes: BTreeMap<MemberName, Home>,
    pub now: Time,
    pub rng: StdRng,
}

pub(crate) fn member(name: &str) -> MemberName {
    name.parse().unwrap()
}

impl Stage {
    /// A fleet of these operators; the first one's home holds the authority casc1, too. Two and more need two.
    pub(crate) fn found(sandbox: &Sandbox, operators: &[&str]) -> Self {
        Self::found_as(sandbox, operators, Profile::Compat)
    }

    pub(crate) fn found_as(sandbox: &Sandbox, operators: &[&str], profile: Profile) -> Self {
        let disk = |name: &str, access| Disk::new(RealFiles::create(&sandbox.path(name), access).unwrap());
        let home = |name: &str| Home::on(disk(&format!("home-{name}"), Access::Private));
        let fleet: FleetName = "cdn.example".parse().unwrap();
        let homes: BTreeMap<MemberName, Home> = operators.iter().map(|n| (member(n), home(n))).collect();
        let mut founders = Vec::new();
        for (i, name) in operators.iter().enumerate() {
            let user_id = format!("{name} <{name}@ops.example>");
            founders.push(if i == 0 {
                Founder::Here { name: member(name), user_id }
            } else {
                let request = ops::ask_to_found(&member(name), &user_id, &fleet, profile, &homes[&member(name)], NOW);
                Founder::Elsewhere(request.unwrap())
            });
        }
        let founding = Founding { fleet, profile, founders, authority: member("casc1"), reason: "founded".into() };
        let mut stage = Self {
            keyring: Store::new(disk("keyring", Access::Public)),
            homes,
            now: NOW,
            rng: StdRng::from_seed(*b"a public seed, for tests alone!!"),
        };
        let first = &stage.homes[&member(operators[0])];
        let policy = disk("policy", Access::Public);
        ops::found(&founding, first, stage.keyring.disk(), &policy, NOW, &mut stage.rng).unwrap();
        if operators.len() > 1 {
            stage.sign_founding(operators);
        }
        for name in operators {
            stage.sync(name);
        }
        stage.sync(operators[0]);
        stage
    }

    /// The other founders sign the genesis statement; the first one appends it.
    fn sign_founding(&mut self, operators: &[&str]) {
        let mut fleet = Fleet::empty(self.keyring.clone(), "cdn.example/keys/1".into(), self.now);
        let genesis = fleet.proposals().unwrap().remove(0);
        let Act::Genesis(act) = &genesis.signed.statement.act else { panic!("no genesis") };
        let mut signers = Vec::new();
        for name in operators {
            let founder = act.members.iter().find(|m| m.member == member(name)).unwrap();
            let request = keys::state::Objects::object(&self.keyring, &founder.request).unwrap();
            let (request, ..) = keys::statement::Request::parse(&request).unwrap();
            let key = request.members[0].keys.iter().find(|k| k.slot == Slot::Sign && k.active).unwrap();
            let pair = self.homes[&member(name)].key_pair(&member(name), &Fingerprint::from_hex(&key.key).unwrap());
            signers.push(keys::fleet::Signer { member: member(name), key: Box::new(pair.unwrap().unwrap()) });
        }
        let log = self.homes[&member(operators[0])].key_files(&member("casc1"), Slot::Log).unwrap();
        for text in log {
            // The active log key is one of the two in the home: the one that the founding accepts.
            let key = keys::log::note::SignerKey::from_private_text(&text).unwrap();
            let request = act.members.iter().find(|m| m.kind == Kind::Authority).unwrap().request;
            let request = keys::state::Objects::object(&self.keyring, &request).unwrap();
            let (request, ..) = keys::statement::Request::parse(&request).unwrap();
            let active = request.members[0].keys.iter().find(|k| k.slot == Slot::Log && k.active).unwrap();
            if key.verifier().to_string() == active.key {
                let placed = fleet.approve(&genesis, &mut signers, Some(&key.into())).unwrap();
                assert!(matches!(placed, Placed::Logged { .. }), "{placed:?}");
                return;
            }
        }
        panic!("the log's key is not in the first home");
    }

    /// Opens the fleet, everything replayed.
    pub(crate) fn open(&self) -> Fleet {
        Fleet::open(self.keyring.clone(), &Known::default(), self.now, &mut |_, _| {}).unwrap()
    }

    /// Opens the fleet for a change by `who`, prepared.
    pub(crate) fn prepared(&self, who: &str) -> Fleet {
        let mut fleet = self.open();
        let sequencer = ops::sequencer(&self.homes[&member(who)], &fleet).unwrap();
        fleet.prepare(sequencer.as_ref()).unwrap();
        if let Some(key) = &sequencer {
            fleet.absorb(key).unwrap();
        }
        fleet
    }

    /// Catches up as `who`, until there is nothing to do.
    pub(crate) fn sync(&mut self, who: &str) {
        for _ in 0..5 {
            let mut fleet = self.prepared(who);
            let home = self.homes[&member(who)].clone();
            let plan = ops::plan_sync(&home, &mut fleet, &mut self.rng).unwrap();
            if plan.drafts.is_empty() {
                fleet.done();
                ops::destroy_private(&home, &fleet).unwrap();
                return;
            }
            for draft in plan.drafts {
                ops::carry_out(&home, &mut fleet, vec![draft], None).unwrap();
            }
            fleet.done();
        }
    }

    /// Enrols a PoP with services; every operator signs.
    pub(crate) fn join(&mut self, sandbox: &Sandbox, pop: &str, services: &[&str]) {
        let disk = Disk::new(RealFiles::create(&sandbox.path(&format!("home-{pop}")), Access::Private).unwrap());
        let home = Home::on(disk);
        let joining = Joining {
            member: member(pop),
            kind: Kind::Pop,
            services: services.iter().map(|s| s.parse::<Label>().unwrap()).collect(),
            facts: Facts::default(),
            user_id: None,
        };
        let request = ops::ask(&joining, &home, &mut self.open(), &mut self.rng).unwrap();
        self.homes.insert(member(pop), home);
        self.admit(&request);
    }

    /// Admits a request with the signatures of everybody.
    pub(crate) fn admit(&mut self, request: &[u8]) {
        let first = self.first();
        let mut fleet = self.prepared(&first);
        let draft = ops::admit(request, "admitted", &self.homes[&member(&first)], &mut fleet, &mut self.rng).unwrap();
        let mut signers = self.all_signers(&mut fleet);
        let sequencer = ops::sequencer(&self.homes[&member(&first)], &fleet).unwrap();
        let placed = fleet.change(vec![draft], &mut signers, sequencer.as_ref()).unwrap();
        assert!(matches!(placed[..], [Placed::Logged { .. }]), "{placed:?}");
        fleet.done();
    }

    /// Carries out drafts with the signatures of everybody.
    pub(crate) fn carry(&mut self, drafts: impl FnOnce(&mut Fleet, &Home) -> Vec<keys::fleet::Draft>) -> Vec<Placed> {
        let first = self.first();
        let mut fleet = self.prepared(&first);
        let home = self.homes[&member(&first)].clone();
        let drafts = drafts(&mut fleet, &home);
        let mut signers = self.all_signers(&mut fleet);
        let sequencer = ops::sequencer(&home, &fleet).unwrap();
        let placed = fleet.change(drafts, &mut signers, sequencer.as_ref()).unwrap();
        fleet.done();
        placed
    }

    fn first(&self) -> String {
        let holder = self.homes.iter().find(|(_, h)| h.members().unwrap().contains(&member("casc1")));
        holder.map(|(n, _)| n.to_string()).unwrap()
    }

    fn all_signers(&self, fleet: &mut Fleet) -> Vec<keys::fleet::Signer> {
        let operators = self.homes.values().flat_map(|home| ops::signers(home, fleet, None).unwrap());
        operators.collect()
    }

    /// A fold over all entries, to which a test may then offer what it likes.
    pub(crate) fn replay(&self) -> Replay<Store> {
        let mut replay = Replay::new("cdn.example/keys/1".into(), self.keyring.clone());
        for entry in self.entries() {
            replay.apply(&entry).unwrap();
        }
        replay
    }

    /// The log's entries.
    pub(crate) fn entries(&self) -> Vec<Vec<u8>> {
        let (_, checkpoint) = read_checkpoint(&self.keyring).unwrap();
        let mut reader = LogReader::new(&self.keyring, checkpoint.size);
        let mut all = Vec::new();
        while let Some((_, entries)) = reader.next_bundle().unwrap() {
            all.extend(entries);
        }
        all
    }

    /// A statement as of now, under the policy in force.
    pub(crate) fn statement(&self, replay: &Replay<Store>, by: &str, act: Act) -> Statement {
        let at = replay.state().unwrap().time.max(self.now);
        Statement {
            act,
            at,
            by: member(by),
            expires: at.plus(Span::days(7)),
            log: "cdn.example/keys/1".into(),
            policy: replay.state().unwrap().policy.version,
            reason: String::new(),
        }
    }

    /// `who`'s signature line over a statement, by her active signing key.
    pub(crate) fn line(&self, replay: &Replay<Store>, who: &str, statement: &Statement) -> SignatureLine {
        let key = replay.state().unwrap().members[&member(who)].active(Slot::Sign).unwrap().key.clone();
        self.line_by(who, &key, statement, statement.at)
    }

    /// `who`'s signature line by a key of hers, dated `at`.
    pub(crate) fn line_by(&self, who: &str, key: &str, statement: &Statement, at: Time) -> SignatureLine {
        let fingerprint = Fingerprint::from_hex(key).unwrap();
        let holder = self.homes.values().find(|h| h.members().unwrap().contains(&member(who))).unwrap();
        let mut pair = holder.key_pair(&member(who), &fingerprint).unwrap().expect("the key is in the home");
        let fleet: FleetName = "cdn.example".parse().unwrap();
        let body = statement.to_bytes().unwrap();
        let name = principal(&fleet, &member(who));
        let signature = sign_statement(&mut pair, &fleet, &statement.log, &body, at).unwrap();
        SignatureLine { key_hash: key_hash(&name, &fingerprint), name, signature }
    }

    /// An entry of a statement with these lines.
    pub(crate) fn entry(statement: &Statement, signatures: Vec<SignatureLine>) -> Vec<u8> {
        Entry { signed: Signed::of(statement.clone()).unwrap(), signatures }.to_bytes().unwrap()
    }

    /// What becomes of a statement signed by these members.
    pub(crate) fn judge(&self, replay: &mut Replay<Store>, act: Act, signers: &[&str]) -> Verdict {
        let statement = self.statement(replay, signers[0], act);
        let lines = signers.iter().map(|who| self.line(replay, who, &statement)).collect();
        replay.preview(&Self::entry(&statement, lines)).unwrap()
    }
}

/// The id of an entry's statement.
pub(crate) fn id_of(entry: &[u8]) -> Digest {
    Entry::parse(entry).unwrap().signed.id
}
