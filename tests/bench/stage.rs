//! Fleets to measure, driven through the library: homes and a keyring in a temporary directory, public seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Draft, Fleet, Known, Placed};
use keys::home::Home;
use keys::log::note::SignatureLine;
use keys::name::{Address, Kind, Label, MemberName, Slot};
use keys::openpgp::{Fingerprint, Profile, sign_statement};
use keys::ops::{self, Founder, Founding, Joining};
use keys::policy::WireguardPolicy;
use keys::policy::wireguard::TEMPLATE;
use keys::statement::{Act, Entry, Facts, Signed, Statement, key_hash, principal};
use keys::store::{LogReader, Store, read_checkpoint};
use keys::time::{Span, Time};
use keys::wireguard::address::addresses;
use keys::wireguard::{CheckedMesh, Host, Lane, Mesh, Node, PastKeys, WgPrivateKey};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// 2026-11-21T07:00:00Z.
pub const NOW: Time = Time(1_795_244_400);

/// A fleet of one operator, alice, whose home holds the authority too.
pub struct Stage {
    directory: tempfile::TempDir,
    /// The keyring.
    pub store: Store,
    /// Homes by their owner's name.
    pub homes: BTreeMap<String, Home>,
    /// The present.
    pub now: Time,
    rng: StdRng,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// A founded fleet without machines.
    pub fn new() -> Self {
        Self::beginning(NOW)
    }

    /// The same, founded at another time.
    pub fn beginning(now: Time) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk =
            |name: &str| Disk::new(RealFiles::create(&directory.path().join(name), Access::Public).expect("a disk"));
        let (keyring, policy) = (disk("keyring"), disk("policy"));
        let alice = Home::create(&directory.path().join("alice")).expect("a home");
        let mut rng = StdRng::from_seed(*b"a public seed, for benches alone");
        let founding = Founding {
            fleet: "cdn.example".parse().expect("a name"),
            profile: Profile::Compat,
            founders: vec![Founder::Here { name: member("alice"), user_id: "Alice <alice@ops.example>".into() }],
            authority: member("casc1"),
            reason: "founded".into(),
        };
        ops::found(&founding, &alice, &keyring, &policy, now, &mut rng).expect("a fleet");
        let homes = [("alice".to_owned(), alice)].into();
        let mut stage = Self { directory, store: Store::new(keyring), homes, now, rng };
        stage.sync("alice");
        stage
    }

    /// A fleet of `count` PoPs, `pop1` onward, each with the service nginx.
    pub fn with_pops(count: usize) -> Self {
        Self::new().of_pops(count)
    }

    /// The same fleet, once so many PoPs have joined.
    pub fn of_pops(mut self, count: usize) -> Self {
        for i in 1..=count {
            self.join(&format!("pop{i}"));
        }
        self
    }

    /// The directory with everything in it.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory, which is then left alone.
    pub fn keep(self) -> PathBuf {
        self.directory.keep()
    }

    /// Opens the fleet: replays and checks everything.
    pub fn open(&self) -> Fleet {
        Fleet::open(self.store.clone(), &Known::default(), self.now, &mut |_, _| {}).expect("a sound keyring")
    }

    /// Opens it for a change by alice.
    pub fn prepared(&self) -> Fleet {
        let mut fleet = self.open();
        let sequencer = ops::sequencer(&self.homes["alice"], &fleet).expect("alice's home");
        fleet.prepare(sequencer.as_ref()).expect("prepared");
        fleet
    }

    fn sync(&mut self, who: &str) {
        for _ in 0..5 {
            let mut fleet = self.prepared();
            let home = self.homes[who].clone();
            let plan = ops::plan_sync(&home, &mut fleet, &mut self.rng).expect("a plan");
            let done = plan.drafts.is_empty();
            for draft in plan.drafts {
                ops::carry_out(&home, &mut fleet, vec![draft], None).expect("carried out");
            }
            fleet.done();
            if done {
                return;
            }
        }
    }

    fn join(&mut self, pop: &str) {
        let home = Home::create(&self.path().join(pop)).expect("a home");
        let joining = Joining {
            member: member(pop),
            kind: Kind::Pop,
            services: vec!["nginx".parse::<Label>().expect("a label")],
            facts: Facts::default(),
            user_id: None,
        };
        let request = ops::ask(&joining, &home, &mut self.open(), &mut self.rng).expect("a request");
        let mut fleet = self.prepared();
        let admission =
            ops::admit(&request, "admitted", &self.homes["alice"], &mut fleet, &mut self.rng).expect("admitted");
        self.place(&mut fleet, vec![admission]);
        fleet.done();
        self.homes.insert(pop.to_owned(), home);
    }

    /// Lets a machine make its next standbys; gives what that took on `clock`, without the replay before it.
    pub fn catch_up(&mut self, who: &str, clock: impl Fn() -> Duration) -> Duration {
        let mut fleet = self.prepared();
        let began = clock();
        let plan = ops::plan_sync(&self.homes[who].clone(), &mut fleet, &mut self.rng).expect("a plan");
        for draft in plan.drafts {
            ops::carry_out(&self.homes[who], &mut fleet, vec![draft], None).expect("carried out");
        }
        let took = clock() - began;
        fleet.done();
        took
    }

    /// Places drafts with alice's signatures.
    pub fn place(&self, fleet: &mut Fleet, drafts: Vec<Draft>) {
        let placed = ops::carry_out(&self.homes["alice"], fleet, drafts, None).expect("carried out");
        assert!(placed.iter().all(|p| matches!(p, Placed::Logged { .. })), "{placed:?}");
    }

    /// Seals one value to each address in one commit; a service's two keys and alice's two can read it.
    pub fn seal(&self, fleet: &mut Fleet, addresses: &[Address]) {
        let drafts = addresses.iter().map(|address| self.sealed(fleet, address));
        let drafts = drafts.collect();
        self.place(fleet, drafts);
    }

    fn sealed(&self, fleet: &mut Fleet, address: &Address) -> Draft {
        let plan = ops::plan_seal(address, fleet).expect("a plan");
        ops::seal(&plan, &[7; 100], "measured", None, &self.homes["alice"], fleet).expect("sealed")
    }

    /// The same by few statements, each of which seals many.
    pub fn seal_many(&self, fleet: &mut Fleet, addresses: &[Address]) {
        for part in addresses.chunks(64) {
            let mut all: Option<Draft> = None;
            for address in part {
                let one = self.sealed(fleet, address);
                match (&mut all, one) {
                    (Some(all), Draft { act: Act::Seal(changes), objects, .. }) => {
                        let Act::Seal(list) = &mut all.act else { unreachable!("it seals") };
                        list.extend(changes);
                        all.objects.extend(objects);
                    }
                    (all, one) => *all = Some(one),
                }
            }
            self.place(fleet, all.into_iter().collect());
        }
    }

    /// Grows the log to `size` entries by an estate's daily work: new values of secrets, a day passing now and then.
    pub fn grow(&mut self, size: u64) {
        let pops: Vec<String> = self.homes.keys().filter(|name| *name != "alice").cloned().collect();
        let mut fleet = self.prepared();
        let mut round = 0;
        while fleet.state().size < size {
            let missing = usize::try_from(size - fleet.state().size).expect("a size");
            let addresses: Vec<Address> = (0..missing.min(200))
                .map(|i| address(&format!("nginx@{}/value-{}", pops[i % pops.len()], i / pops.len())))
                .collect();
            self.seal(&mut fleet, &addresses);
            round += 1;
            if round % 10 == 0 {
                self.now = self.now.plus(Span::hours(1));
                fleet.done();
                fleet = self.prepared();
            }
        }
        fleet.done();
    }

    /// Seals so many secrets, shared out among the PoPs' services.
    pub fn fill(&self, secrets: usize) {
        let pops: Vec<&String> = self.homes.keys().filter(|name| *name != "alice").collect();
        let of = |i: usize| address(&format!("nginx@{}/value-{}", pops[i % pops.len()], i / pops.len()));
        let all: Vec<Address> = (0..secrets).map(of).collect();
        let mut fleet = self.prepared();
        self.seal_many(&mut fleet, &all);
        fleet.done();
    }

    /// The log's entries.
    pub fn entries(&self) -> Vec<Vec<u8>> {
        let (_, checkpoint) = read_checkpoint(&self.store).expect("a checkpoint");
        let mut reader = LogReader::new(&self.store, checkpoint.size);
        let mut all = Vec::new();
        while let Some((_, entries)) = reader.next_bundle().expect("a bundle") {
            all.extend(entries);
        }
        all
    }
}

/// A member's name.
pub fn member(name: &str) -> MemberName {
    name.parse().expect("a name")
}

/// A secret's address.
pub fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// The entry of a draft, signed by everybody in `home`, without placing it.
pub fn sign(home: &Home, fleet: &Fleet, draft: &Draft) -> Vec<u8> {
    let signed = Signed::of(Statement {
        act: draft.act.clone(),
        at: fleet.now(),
        by: member("alice"),
        expires: fleet.now().plus(Span::days(7)),
        log: fleet.log().to_owned(),
        policy: fleet.state().policy.version,
        reason: draft.reason.clone(),
    })
    .expect("a statement");
    let state = fleet.state();
    let line = |who: &str| {
        let key = &state.members[&member(who)].active(Slot::Sign).expect("a signing key").key;
        let fingerprint = Fingerprint::from_hex(key).expect("a fingerprint");
        let mut pair = home.key_pair(&member(who), &fingerprint).expect("a home").expect("its key");
        let name = principal(&state.fleet, &member(who));
        let signature = sign_statement(&mut pair, &state.fleet, &state.log, &signed.body, fleet.now()).expect("signed");
        SignatureLine { key_hash: key_hash(&name, &fingerprint), name, signature }
    };
    let signatures = vec![line("alice"), line("casc1")];
    Entry { signed, signatures }.to_bytes().expect("an entry")
}

/// A mesh of `count` PoPs, each with a key on both lanes.
pub fn mesh(count: usize) -> CheckedMesh {
    let policy = WireguardPolicy::parse(&TEMPLATE.replace("10.88.16.0/20", "10.88.0.0/17")).expect("a policy");
    let host = |i: usize| if i < 255 { format!("198.51.100.{i}") } else { format!("2001:db8::{i:x}") };
    let mut node = |i: usize| Node {
        name: member(&format!("pop{i}")),
        region: "default".to_owned(),
        roles: BTreeSet::new(),
        index: i as u64,
        addresses: addresses(&policy, "default", i as u64).expect("an index of the pool"),
        endpoint: Some(host(i).parse::<Host>().expect("a host").into()),
        keys: [2 * i, 2 * i + 1].map(|seed| Some(private_key(seed).public())),
        preferred: Lane::A,
        nat: false,
    };
    let nodes = (1..=count).map(&mut node).collect();
    CheckedMesh::new(Mesh { policy, nodes }, &PastKeys::new()).expect("a sound mesh")
}

/// A private key that is none: its number is its seed.
fn private_key(number: usize) -> WgPrivateKey {
    let mut seed = *b"a public seed, for benches alone";
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    WgPrivateKey::generate(&mut StdRng::from_seed(seed))
}

/// The same as `wg genkey` would print it.
pub fn private_key_text(number: usize) -> String {
    private_key(number).to_file_text().to_string()
}
