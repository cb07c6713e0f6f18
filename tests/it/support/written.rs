//! What others than the program write into a keyring, file by file, as whoever may push to it can; and what one home does
//! by itself, where [`Stage`] otherwise has everybody sign.

use keys::digest::Digest;
use keys::disk::{Access, Disk, RealFiles};
use keys::fleet::{Draft, Fleet, FleetError, Known, Placed};
use keys::home::Home;
use keys::log::note::SignatureLine;
use keys::name::{Kind, Slot};
use keys::ops::{self, Joining, OpsError, Selection};
use keys::state::Objects as _;
use keys::statement::{Act, Facts, PolicyUpdate, Statement};
use keys::time::Span;

use super::Sandbox;
use super::stage::{Stage, member};

impl Stage {
    /// A proposal as files: body, and a file a line.
    pub(crate) fn hand_in(&self, body: &[u8], lines: &[SignatureLine]) -> Digest {
        let id = Digest::of(body);
        self.keyring.disk().replace(&format!("proposals/{id}/body"), body).unwrap();
        lines.iter().for_each(|line| self.add_line(&id, line));
        id
    }

    /// One more line beside a body.
    pub(crate) fn add_line(&self, id: &Digest, line: &SignatureLine) {
        let text = line.to_text();
        let name = Digest::of(text.as_bytes());
        self.keyring.disk().replace(&format!("proposals/{id}/{name}.sig"), text.as_bytes()).unwrap();
    }

    /// A statement by `who` alone, among the proposals with all signatures it needs.
    pub(crate) fn hand_in_as(&self, who: &str, statement: &Statement) -> Digest {
        let line = self.line(&self.replay(), who, statement);
        self.hand_in(&statement.to_bytes().unwrap(), &[line])
    }

    /// What a command in the home of `who` does: signed by whoever is there, placed where it belongs.
    pub(crate) fn act(&mut self, who: &str, drafts: impl FnOnce(&mut Fleet, &Home) -> Vec<Draft>) -> Vec<Placed> {
        self.try_act(who, |fleet, home| Ok(drafts(fleet, home))).unwrap()
    }

    /// The same, where it may be refused.
    pub(crate) fn try_act(
        &mut self,
        who: &str,
        drafts: impl FnOnce(&mut Fleet, &Home) -> Result<Vec<Draft>, OpsError>,
    ) -> Result<Vec<Placed>, OpsError> {
        let mut fleet = self.prepared(who);
        let home = self.homes[&member(who)].clone();
        let drafts = drafts(&mut fleet, &home)?;
        let placed = ops::carry_out(&home, &mut fleet, drafts, None)?;
        fleet.done();
        Ok(placed)
    }

    /// `who` signs a proposal.
    pub(crate) fn approve(&mut self, who: &str, id: &Digest) -> Result<Placed, FleetError> {
        let mut fleet = self.prepared(who);
        let home = self.homes[&member(who)].clone();
        let proposal = fleet.proposal(id).unwrap().expect("the proposal is there");
        let mut signers = ops::signers(&home, &mut fleet, None).unwrap();
        let sequencer = ops::sequencer(&home, &fleet).unwrap();
        let placed = fleet.approve(&proposal, &mut signers, sequencer.as_ref());
        fleet.done();
        placed
    }

    /// The one proposal that a change has become.
    #[track_caller]
    pub(crate) fn proposed(placed: &[Placed]) -> Digest {
        let [Placed::Proposed { id, .. }] = placed else { panic!("not proposed: {placed:?}") };
        *id
    }

    /// Seals a value in the home of `who`.
    pub(crate) fn seal(&mut self, who: &str, address: &str, value: &str) -> Vec<Placed> {
        self.act(who, |fleet, home| {
            let plan = ops::plan_seal(&address.parse().unwrap(), fleet).unwrap();
            vec![ops::seal(&plan, value.as_bytes(), "sealed", None, home, fleet).unwrap()]
        })
    }

    /// Opens a value in the home of `who`.
    #[track_caller]
    pub(crate) fn opens(&self, who: &str, address: &str) -> String {
        let opened = ops::open(&address.parse().unwrap(), None, &self.homes[&member(who)], &mut self.open());
        String::from_utf8(opened.unwrap().value.to_vec()).unwrap()
    }

    /// A member of any kind joins from the home `home`; everybody signs.
    pub(crate) fn join_from(&mut self, sandbox: &Sandbox, home: &str, joining: &Joining) {
        let disk = Disk::new(RealFiles::create(&sandbox.path(home), Access::Private).unwrap());
        let home = Home::on(disk);
        let request = ops::ask(joining, &home, &mut self.open(), &mut self.rng).unwrap();
        self.homes.insert(joining.member.clone(), home);
        self.admit(&request);
    }

    /// A new version of a file of the policy.
    pub(crate) fn policy(fleet: &Fleet, file: &str, change: impl FnOnce(String) -> String) -> Vec<Draft> {
        let policy = &fleet.state().policy;
        let text = String::from_utf8(fleet.store().object(&policy.files[file]).unwrap()).unwrap();
        let text = change(text);
        let mut files = policy.files.clone();
        files.insert(file.to_owned(), Digest::of(text.as_bytes()));
        let update = PolicyUpdate { generation: policy.version + 1, policy: files, prev: policy.prev };
        vec![Draft::with(Act::PolicyUpdate(update), "another policy", vec![text.into_bytes()])]
    }

    /// A rotation of one slot.
    pub(crate) fn rotation(fleet: &Fleet, who: &str, slot: Slot) -> Vec<Draft> {
        let selection = Selection { members: Some(who.parse().unwrap()), slot: Some(slot), due: false, soon: true };
        ops::plan_rotate(&selection, fleet.state(), fleet.now()).unwrap().drafts("drill")
    }

    /// Lets these catch up in turn, and alice take in what they hand in, until nobody hands in anything.
    pub(crate) fn settle(&mut self, others: &[&str]) {
        for _ in 0..8 {
            let before = self.entries().len();
            for who in others.iter().chain(&["alice"]) {
                self.sync(who);
            }
            if self.entries().len() == before {
                return;
            }
        }
        panic!("the fleet does not come to rest");
    }

    pub(crate) fn later(&mut self, span: Span) {
        self.now = self.now.plus(span);
    }

    /// The text of the active key in a member's slot.
    pub(crate) fn active_key(&self, who: &str, slot: Slot) -> String {
        self.open().state().members[&member(who)].active(slot).unwrap().key.clone()
    }

    /// Whether a member has a standby in each slot.
    pub(crate) fn has_standbys(&self, who: &str) -> bool {
        self.open().state().members[&member(who)].slots.values().all(|s| s.standbys().count() == 1)
    }

    /// What the newest entry does.
    pub(crate) fn newest_act(&self) -> String {
        let entry = self.entries().pop().unwrap();
        keys::statement::Entry::parse(&entry).unwrap().signed.statement.act.name().to_string()
    }

    /// Checks that a verification finds nothing damaged.
    #[track_caller]
    pub(crate) fn is_sound(&self) {
        let damaged = self.damaged();
        assert!(damaged.is_empty(), "{damaged:?}");
    }

    /// The files that a verification names as damaged.
    pub(crate) fn damaged(&self) -> Vec<String> {
        let (report, _) = Fleet::verify(&self.keyring, &Known::default(), self.now, &mut |_, _| {}).unwrap();
        let damage = report.problems.into_iter().filter(|p| p.severity == keys::fleet::Severity::Damage);
        damage.map(|p| p.path).collect()
    }
}

/// An operator who joins later.
pub(crate) fn operator(name: &str) -> Joining {
    Joining {
        member: member(name),
        kind: Kind::Operator,
        services: Vec::new(),
        facts: Facts::default(),
        user_id: Some(format!("{name} <{name}@ops.example>")),
    }
}
