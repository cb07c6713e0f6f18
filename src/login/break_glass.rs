//! Letting people in while the log is out of reach: holders of break-glass keys have signed, as many as the policy asks.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::order::BreakGlassOrder;
use super::{Admitted, Refusal, Trust};
use crate::name::{Kind, MemberName};
use crate::policy::ssh::{Places, expand_all};
use crate::ssh::{CertificateFields, CertificateKind, Principal, SOURCE_ADDRESS, SshCertificate, SshSignature};
use crate::state::State;
use crate::time::Span;

/// How much longer than the policy says a certificate may be good: it begins a little before it is ordered.
const BACKDATE: Span = Span(300);

/// What a node knows of the break-glass keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// The public keys, as OpenSSH writes them.
    pub keys: BTreeSet<String>,
    /// How many of them have to have signed.
    pub sign: usize,
    /// The longest life, seconds.
    pub lifetime: u64,
    /// What a certificate may log in as at this PoP.
    pub principals: BTreeSet<String>,
    /// What its sessions may do.
    pub extensions: BTreeSet<String>,
}

impl BreakGlass {
    /// What the policy says at the PoP `pop`; none where it names no such keys.
    pub fn at(state: &State, pop: &MemberName) -> Option<Self> {
        let policy = state.policy.policy.ssh.break_glass.as_ref()?;
        let places = Places { pop: pop.host_label(), domain: &state.fleet, member: pop };
        let principals = expand_all(&policy.principals, CertificateKind::User, places).ok()?;
        Some(Self {
            keys: policy.keys.clone(),
            sign: policy.sign,
            lifetime: policy.lifetime.0,
            principals: principals.iter().map(ToString::to_string).collect(),
            extensions: policy.extensions.clone(),
        })
    }

    /// Why an order for a certificate like this would not be let in, whoever signs it.
    ///
    /// # Errors
    /// [`Refusal::Terms`], [`Refusal::NoBreakGlass`].
    pub fn check(&self, fields: &CertificateFields) -> Result<(), Refusal> {
        if !self.keys.contains(&fields.ca.to_string()) {
            return Err(Refusal::NoBreakGlass);
        }
        let lifetime = Span(self.lifetime);
        if fields.valid_before.since(fields.valid_after).0 > lifetime.0.saturating_add(BACKDATE.0) {
            return Err(Refusal::Terms(format!("it lives longer than the {lifetime} that the policy gives")));
        }
        // Where people may come from can only be narrowed.
        if let Some(stranger) = fields.critical_options.keys().find(|name| *name != SOURCE_ADDRESS) {
            return Err(Refusal::Terms(format!("the policy does not give it the critical option '{stranger}'")));
        }
        match fields.extensions.iter().find(|e| !self.extensions.contains(*e)) {
            Some(stranger) => Err(Refusal::Terms(format!("the policy does not give it the extension '{stranger}'"))),
            None => Ok(()),
        }
    }
}

/// Judges a certificate that carries a break-glass order.
pub(super) fn admit(
    trust: &Trust,
    accepted: &BTreeSet<Principal>,
    certificate: &SshCertificate,
    bytes: &[u8],
    signatures: &[SshSignature],
) -> Result<Admitted, Refusal> {
    let glass = trust.break_glass.as_ref().ok_or(Refusal::NoBreakGlass)?;
    let order = BreakGlassOrder::parse(bytes)?;
    if order.fleet != trust.fleet {
        return Err(Refusal::OtherEntry);
    }
    let fields = order.issue.certificate.fields();
    glass.check(fields)?;
    certificate.verify_issued(&order.issue.certificate, order.serial())?;
    let mut signers = BreakGlassOrder::signers(bytes, signatures, &glass.keys);
    // Whoever signed the certificate has signed the order, which is in it.
    signers.insert(fields.ca.to_string());
    if signers.len() < glass.sign {
        return Err(Refusal::BreakGlass { found: signers.len(), needed: glass.sign });
    }
    let member = &order.issue.member;
    if trust.members.get(member).is_none_or(|m| m.kind != Kind::Operator) {
        return Err(Refusal::Stranger(member.clone()));
    }
    let principals: BTreeSet<Principal> =
        accepted.iter().filter(|p| glass.principals.contains(p.as_str())).cloned().collect();
    if !certificate.principals().iter().any(|own| principals.iter().any(|p| p.as_str() == own)) {
        return Err(Refusal::Elsewhere);
    }
    Ok(Admitted { member: member.clone(), principals, broke_glass: signers })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use ssh_key::{HashAlg, LineEnding, PrivateKey, SshSig};

    use super::super::{BREAK_GLASS_NAMESPACE, TrustError, admit};
    use super::*;
    use crate::ssh::{CaSigner, CertificateBody, CertificateError, Nonce, Serial, SshPrivateKey, Staple, issue};
    use crate::statement::Issue;
    use crate::time::Time;

    const NOW: Time = Time(1_795_244_400);

    fn key(n: u64) -> SshPrivateKey {
        SshPrivateKey::generate(&mut StdRng::seed_from_u64(n))
    }

    /// The three keys of the fleet are 1, 2 and 3.
    fn trust() -> Trust {
        let keys: Vec<String> = (1..=3).map(|n| key(n).public().to_string()).collect();
        let text = serde_json::json!({
            "break-glass": { "extensions": ["permit-pty"], "keys": keys, "lifetime": 4 * 3600, "principals": ["root:fra1"], "sign": 2 },
            "cosigners": [], "fleet": "cdn.example", "log": "cdn.example/keys/1", "need": {}, "terms": {}, "v": 1,
            "log_keys": [crate::log::note::SignerKey::generate("cdn.example/keys/1", &mut StdRng::seed_from_u64(9)).verifier().to_string()],
            "members": { "alice": { "keys": [], "kind": "operator", "principals": [], "roles": ["operator"] },
                         "casc1": { "keys": [], "kind": "authority", "principals": [], "roles": ["authority"] } },
        });
        Trust::parse(crate::json::canonical(&text).as_bytes()).expect("good")
    }

    fn fields() -> CertificateFields {
        CertificateFields {
            kind: CertificateKind::User,
            ca: key(1).public().clone(),
            subject: key(4).public().clone(),
            key_id: "break-glass alice".parse().expect("good"),
            principals: ["root:fra1", "root:ams1"].map(|p| Principal::user(p).expect("good")).into(),
            valid_after: NOW.minus(BACKDATE),
            valid_before: NOW.plus(Span::hours(4)),
            critical_options: [].into(),
            extensions: ["permit-pty".to_owned()].into(),
            nonce: Nonce([9; 32]),
        }
    }

    fn order(fields: CertificateFields, member: &str) -> BreakGlassOrder {
        let certificate = CertificateBody::new(fields).expect("good");
        let issue = Issue { certificate, member: member.parse().expect("good") };
        BreakGlassOrder::new("cdn.example".parse().expect("good"), issue, &mut StdRng::seed_from_u64(5))
    }

    fn sign(signer: u64, namespace: &str, bytes: &[u8]) -> SshSignature {
        let text = key(signer).to_openssh(&"x".parse().expect("good"));
        let key = PrivateKey::from_openssh(&*text).expect("a key");
        let made = SshSig::sign(&key, namespace, HashAlg::Sha512, bytes).expect("a signature");
        let text = made.to_pem(LineEnding::LF).expect("a text");
        SshSignature::from_armour(&text).expect("reads back")
    }

    /// The certificate by key 1 for an order, with the signatures of `others` over it.
    fn certificate(order: &BreakGlassOrder, others: &[u64]) -> SshCertificate {
        let bytes = order.to_bytes();
        let signatures: Vec<_> = others.iter().map(|n| sign(*n, BREAK_GLASS_NAMESPACE, &bytes)).collect();
        with(order, &bytes, &signatures)
    }

    fn with(order: &BreakGlassOrder, bytes: &[u8], signatures: &[SshSignature]) -> SshCertificate {
        let staple = Staple::break_glass(&order.fleet, bytes, signatures).expect("fits");
        let ca = (1..9).map(key).find(|k| *k.public() == order.issue.certificate.fields().ca).expect("one of ours");
        issue(&order.issue.certificate, order.serial(), Some(&staple), &CaSigner::from(ca)).expect("issued")
    }

    fn judge(trust: &Trust, certificate: &SshCertificate) -> Result<Admitted, Refusal> {
        admit(trust, &["root:fra1", "root:ams1", "ops"].map(|p| Principal::user(p).expect("good")).into(), certificate)
    }

    #[test]
    fn as_many_keys_as_the_policy_asks_let_somebody_in() {
        let trust = trust();
        let order = order(fields(), "alice");
        assert_eq!(BreakGlassOrder::parse(&order.to_bytes()).expect("reads back"), order);
        for others in [&[2][..], &[3], &[2, 3], &[1, 2], &[2, 2], &[7, 2]] {
            let admitted = judge(&trust, &certificate(&order, others)).expect("let in");
            assert_eq!(admitted.principals, [Principal::user("root:fra1").expect("good")].into());
            let expected: BTreeSet<String> =
                [1].iter().chain(others).filter(|n| **n != 7).map(|n| key(*n).public().to_string()).collect();
            assert_eq!((admitted.member.to_string().as_str(), admitted.broke_glass), ("alice", expected));
        }
        // Whichever of them the CA is.
        let second = CertificateFields { ca: key(2).public().clone(), ..fields() };
        assert!(judge(&trust, &certificate(&self::order(second, "alice"), &[3])).is_ok());
    }

    #[test]
    fn one_stolen_key_opens_nothing() {
        let trust = trust();
        let order = order(fields(), "alice");
        for others in [&[][..], &[1], &[1, 1], &[7], &[7, 8]] {
            let refused = judge(&trust, &certificate(&order, others));
            assert!(matches!(refused, Err(Refusal::BreakGlass { found: 1, needed: 2 })), "{others:?}: {refused:?}");
        }
        // Signatures for another purpose, over another order, over this one and a line more.
        let bytes = order.to_bytes();
        let other = self::order(CertificateFields { nonce: Nonce([8; 32]), ..fields() }, "alice").to_bytes();
        for signature in [
            sign(2, "file", &bytes),
            sign(2, BREAK_GLASS_NAMESPACE, &other),
            sign(2, BREAK_GLASS_NAMESPACE, &[&bytes[..], b"\n"].concat()),
        ] {
            let refused = judge(&trust, &with(&order, &bytes, &[signature]));
            assert!(matches!(refused, Err(Refusal::BreakGlass { found: 1, needed: 2 })), "{refused:?}");
        }
        // An order that others have signed, in a certificate that says something else.
        let grafted = with(&order, &other, &[sign(2, BREAK_GLASS_NAMESPACE, &other)]);
        assert!(matches!(judge(&trust, &grafted), Err(Refusal::Certificate(CertificateError::NotAsOrdered))));
        // No CA of theirs: also that of the log, which has other rules.
        let stranger = self::order(CertificateFields { ca: key(7).public().clone(), ..fields() }, "alice");
        assert!(matches!(judge(&trust, &certificate(&stranger, &[1, 2, 3])), Err(Refusal::NoBreakGlass)));
        let mut none = trust;
        none.break_glass = None;
        assert!(matches!(judge(&none, &certificate(&order, &[2, 3])), Err(Refusal::NoBreakGlass)));
    }

    #[test]
    fn they_give_no_more_than_the_policy() {
        let trust = trust();
        let refused = |change: fn(&mut CertificateFields), member: &str| {
            let mut fields = fields();
            change(&mut fields);
            judge(&trust, &certificate(&order(fields, member), &[2])).expect_err("refused").to_string()
        };
        for (change, expected) in [
            ((|f| f.valid_before = NOW.plus(Span(4 * 3600 + 1))) as fn(&mut CertificateFields), "lives longer"),
            (|f| f.extensions = ["permit-port-forwarding".to_owned()].into(), "permit-port-forwarding"),
            (|f| f.critical_options = [("force-command".to_owned(), "id".to_owned())].into(), "force-command"),
            (|f| f.principals = [Principal::user("ops").expect("good")].into(), "accepted by this account"),
            (|f| f.principals = [Principal::user("root:ams1").expect("good")].into(), "accepted by this account"),
        ] {
            let message = refused(change, "alice");
            assert!(message.contains(expected), "{expected}: {message}");
        }
        for member in ["casc1", "mallory"] {
            assert!(refused(|_| {}, member).contains("is nobody who may log in here"));
        }
        // Where people may come from may be said.
        let from = CertificateFields {
            critical_options: [(SOURCE_ADDRESS.to_owned(), "10.0.0.0/8".to_owned())].into(),
            ..fields()
        };
        assert!(judge(&trust, &certificate(&order(from, "alice"), &[2])).is_ok());
        let mut elsewhere = order(fields(), "alice");
        elsewhere.fleet = "ops.example".parse().expect("good");
        let refused = judge(&trust, &certificate(&elsewhere, &[2])).expect_err("another fleet's");
        assert!(matches!(refused, Refusal::Unproven(_)), "{refused}");
    }

    #[test]
    fn serials_of_the_log_are_not_theirs() {
        let order = order(fields(), "alice");
        let text = String::from_utf8(order.to_bytes()).expect("UTF-8");
        let number = order.serial().number().to_string();
        for serial in ["0", "1", "4503599627370495", "9007199254740992"] {
            let changed = text.replace(&number, serial);
            assert!(BreakGlassOrder::parse(changed.as_bytes()).is_err(), "{serial}");
        }
        assert!(BreakGlassOrder::parse(text.replace("\"v\":1", "\"v\":2").as_bytes()).is_err());
        assert!(BreakGlassOrder::parse(text.trim_end().as_bytes()).is_err(), "it ends with a line feed");
        assert_ne!(order.serial(), Serial::of_entry(0));
    }

    #[test]
    fn a_node_does_not_believe_a_file_by_which_one_key_is_enough() {
        for sign in [0, 1, 4] {
            let mut trust = trust();
            trust.break_glass.as_mut().expect("there").sign = sign;
            assert!(matches!(Trust::parse(&trust.to_bytes()), Err(TrustError::BreakGlass { keys: 3, .. })), "{sign}");
        }
    }
}
