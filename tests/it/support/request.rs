//! Requests that the program itself would not make: well-formed and signed, with something wrong in them.

use keys::enrolment::{Fresh, Setting, sign_request};
use keys::name::{FleetName, Kind, MemberName, Slot};
use keys::openpgp::{Certificate, Fingerprint, Profile};
use keys::statement::{Facts, Request};
use keys::time::{Span, Time};
use rand::SeedableRng as _;

/// A request in the making.
pub(crate) struct Forged {
    pub fleet: FleetName,
    pub log: String,
    pub fresh: Fresh,
    pub certificate: Certificate,
}

/// The present, in whole seconds.
pub(crate) fn now() -> Time {
    Time::from_system(std::time::SystemTime::now())
}

impl Forged {
    /// A sound one: fresh keys for `member` of `fleet`, with a certificate made at `made` for `validity`.
    pub(crate) fn new(fleet: &str, member: &str, kind: Kind, made: Time, validity: Span) -> Self {
        let (fleet, name): (FleetName, MemberName) = (fleet.parse().unwrap(), member.parse().unwrap());
        let log = format!("{fleet}/keys/1");
        let setting = Setting { fleet: &fleet, log: &log, profile: Profile::Compat, now: made };
        let mut rng = rand::rngs::StdRng::from_seed(*b"a public seed, for tests alone!!");
        let fresh = Fresh::generate(&name, kind, validity, &setting, &mut rng).unwrap();
        let certificate = Certificate::of(&fresh.cert).unwrap();
        Self { fleet, log, fresh, certificate }
    }

    /// Names another key for the active one of a slot.
    pub(crate) fn with_key(mut self, slot: Slot, key: &str) -> Self {
        let found = self.fresh.keys.iter_mut().find(|k| k.slot == slot && k.active).unwrap();
        found.key = key.to_owned();
        self
    }

    /// The request, signed by its own active signing key.
    pub(crate) fn signed(&self) -> Vec<u8> {
        let signing = self.fresh.signing_key().unwrap();
        self.signed_by(&signing)
    }

    /// The request, signed by a key of its own certificate.
    pub(crate) fn signed_by(&self, signing: &Fingerprint) -> Vec<u8> {
        let endpoint = "198.51.100.250".parse::<keys::wireguard::Host>().unwrap();
        let facts = match self.fresh.kind {
            Kind::Pop => Facts { endpoint: Some(endpoint.into()), ..Facts::default() },
            Kind::Operator | Kind::Authority | Kind::Service => Facts::default(),
        };
        let requested = self.fresh.requested(&self.certificate, facts, Vec::new());
        let request = Request::new(now(), self.log.clone(), vec![requested]);
        let secret = self.fresh.cert.keys().secret().map(|k| k.key().clone()).find(|k| k.fingerprint() == *signing);
        let mut signer = secret.unwrap().into_keypair().unwrap();
        sign_request(&request, &self.fresh.member, &mut signer, &self.fleet, now()).unwrap()
    }
}
