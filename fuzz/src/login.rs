//! Targets for what a node judges at a login: its own file, and what a stranger's certificate carries.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use keys::login::{BreakGlassOrder, Trust, admit};
use keys::name::FleetName;
use keys::ssh::{
    CaSigner, CertificateAuthority as _, CertificateBody, CertificateFields, CertificateKind, Nonce, Principal, Serial,
    SshPrivateKey, SshSignature, Staple, Stapled, issue,
};
use keys::time::{Span, Time};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// A node's trust.json.
pub fn trust(data: &[u8]) {
    if let Ok(trust) = Trust::parse(data) {
        let written = trust.to_bytes();
        assert_eq!(Trust::parse(&written).ok().as_ref(), Some(&trust));
    }
}

/// Entry and proof, with two bytes before that say how long the entry is, in a certificate of a CA whose key was stolen: nobody
/// is let in by it, since nobody whom the node knows has signed anything. The same as a break-glass order and a signature.
pub fn staple(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let Some((entry, proof)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { return };
    let fleet: FleetName = "cdn.example".parse().expect("a name");
    let Some(staple) = Staple::new(&fleet, entry, proof) else { return };
    assert_eq!(staple.parts(), Ok(Stapled::Proof(entry, proof)));
    if let Ok(order) = BreakGlassOrder::parse(entry) {
        assert_eq!(order.to_bytes(), entry);
    }
    let broken = SshSignature::from_bytes(proof).and_then(|made| Staple::break_glass(&fleet, entry, &[made]));
    static KNOWN: OnceLock<(Trust, CertificateBody, CaSigner)> = OnceLock::new();
    let (trust, body, ca) = KNOWN.get_or_init(|| {
        let trust = Trust::parse(&seeds::with_members()).expect("a seed");
        let key = |seed| SshPrivateKey::generate(&mut StdRng::from_seed([seed; 32]));
        let ca = CaSigner::from(key(1));
        let at = Time(1_795_244_400);
        let body = CertificateBody::new(CertificateFields {
            kind: CertificateKind::User,
            ca: ca.public().clone(),
            subject: key(2).public().clone(),
            key_id: "user alice".parse().expect("printable"),
            principals: [Principal::user("deploy:fra1").expect("good")].into(),
            valid_after: at,
            valid_before: at.plus(Span::hours(1)),
            critical_options: [].into(),
            extensions: [].into(),
            nonce: Nonce([9; 32]),
        });
        (trust, body.expect("a body"), ca)
    });
    let accepted: BTreeSet<Principal> = [Principal::user("deploy:fra1").expect("good")].into();
    for staple in [Some(staple), broken].iter().flatten() {
        let certificate = issue(body, Serial::of_entry(1), Some(staple), ca).expect("it fits");
        assert!(admit(trust, &accepted, &certificate).is_err(), "somebody is let in");
    }
}

/// What to begin with.
pub mod seeds {
    use keys::log::note::SignerKey;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use crate::example;

    /// Break-glass keys; nobody here has the private halves.
    const GLASS: &str = "\"break-glass\":{\"extensions\":[],\"keys\":[\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB7Dee07XPoLwzaJdaSc6ms37bpW3hQGtAUnHYb8gBkx\",\
                         \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILTSOncMhcGPMI0pyK92xP1z53KBmZVU3g78N/cidI/o\"],\"lifetime\":7200,\"principals\":[\"deploy:fra1\"],\"sign\":2},";

    fn known(glass: &str, members: &str, terms: &str) -> Vec<u8> {
        // The key that has signed the proof of the other target's seed.
        let key = SignerKey::generate("cdn.example/keys/1", &mut StdRng::from_seed([7; 32])).verifier();
        format!(
            "{{{glass}\"cosigners\":[],\"fleet\":\"cdn.example\",\"log\":\"cdn.example/keys/1\",\"log_keys\":[\"{key}\"],\
             \"members\":{members},\"need\":{{}},\"terms\":{terms},\"v\":1}}\n"
        )
        .into_bytes()
    }

    /// With somebody who may log in, and has no key.
    pub(super) fn with_members() -> Vec<u8> {
        known(
            GLASS,
            r#"{"alice":{"keys":[],"kind":"operator","principals":["deploy:fra1"],"roles":["operator","root"]}}"#,
            r#"{"operator":{"critical_options":{},"extensions":[],"lifetime":57600,"quorums":[{"self":1}]}}"#,
        )
    }

    /// Of [`super::trust`].
    pub fn trust() -> Vec<Vec<u8>> {
        vec![known("", "{}", "{}"), with_members()]
    }

    /// Of [`super::staple`].
    pub fn staple() -> Vec<Vec<u8>> {
        let entry = example::entries().into_iter().find(|e| e.windows(9).any(|w| w == b"ssh.issue"));
        let entries = [crate::log::seeds::LOGGED.to_vec(), entry.expect("the example fleet has certificates")];
        let proofs = crate::log::seeds::tlog_proof();
        let both = entries.iter().zip(&proofs).map(|(entry, proof)| {
            let length = u16::try_from(entry.len()).expect("an entry is short").to_be_bytes();
            [&length, entry.as_slice(), proof].concat()
        });
        both.collect()
    }
}
