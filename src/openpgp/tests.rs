//! The laws of this module, on keys made here. What gpg and sq think of them is tested in `tests/it`.

use std::collections::BTreeSet;

use sequoia_openpgp as pgp;

use pgp::crypto::{Decryptor, KeyPair};
use pgp::policy::StandardPolicy;
use pgp::{Cert, Fingerprint};

use super::*;
use crate::digest::Digest;
use crate::name::{FleetName, Kind, MemberName, Slot};
use crate::time::{Span, Time};

const NOW: Time = Time(1_795_244_400);
const YEAR: Span = Span::days(365);

fn fleet() -> FleetName {
    "cdn.example".parse().unwrap()
}

fn member(kind: Kind, name: &str) -> (Made, Certificate, String) {
    member_in(kind, name, Profile::Compat)
}

fn member_in(kind: Kind, name: &str, profile: Profile) -> (Made, Certificate, String) {
    let user_id = name.parse::<MemberName>().unwrap().user_id(kind, &fleet());
    let made = generate(kind, &user_id, &fleet(), profile, YEAR, NOW).unwrap();
    let certificate = Certificate::of(&made.cert).unwrap();
    (made, certificate, user_id)
}

fn pair(cert: &Cert, fingerprint: &Fingerprint) -> KeyPair {
    let key = cert.keys().map(|k| k.key().clone()).find(|k| &k.fingerprint() == fingerprint).unwrap();
    key.parts_into_secret().unwrap().into_keypair().unwrap()
}

fn primary(made: &Made) -> KeyPair {
    pair(&made.cert, &made.cert.fingerprint())
}

fn find(made: &Made, slot: Slot, usage: Use) -> Fingerprint {
    made.subkeys.iter().find(|(s, _, u)| *s == slot && *u == usage).map(|(_, f, _)| f.clone()).unwrap()
}

/// The encryption subkeys that a tool which goes by flags would choose.
fn flagged(certificate: &Certificate, at: Time) -> Vec<Fingerprint> {
    let policy = StandardPolicy::at(at.to_system());
    let cert = certificate.cert();
    cert.keys().with_policy(&policy, at.to_system()).for_storage_encryption().map(|k| k.key().fingerprint()).collect()
}

#[test]
fn only_the_active_subkey_is_flagged_and_promotion_moves_the_flag() {
    for profile in [Profile::Compat, Profile::Modern] {
        let (made, certificate, user_id) = member_in(Kind::Pop, "fra1", profile);
        let (active, standby) = (find(&made, Slot::Openpgp, Use::Encrypt), find(&made, Slot::Openpgp, Use::Standby));
        assert_eq!(flagged(&certificate, NOW), std::slice::from_ref(&active));
        assert_eq!(certificate.check(&user_id, NOW).unwrap(), Some(NOW.minus(Span(60)).plus(YEAR)));

        let (cert, next) = add_subkey(made.cert.clone(), Kind::Pop, Slot::Openpgp, profile, NOW).unwrap();
        let wanted = [(standby.clone(), Use::Encrypt), (active.clone(), Use::Retiring), (next.clone(), Use::Standby)];
        let promoted = Certificate::of(&rebind(cert, &wanted, &fleet(), NOW).unwrap()).unwrap();
        assert_eq!(flagged(&promoted, NOW), std::slice::from_ref(&standby));
        promoted.succeeds(&certificate, &BTreeSet::new()).unwrap();
        let states = subkey_states(promoted.cert(), &fleet());
        for (key, word) in [(&active, "retiring"), (&standby, "active"), (&next, "standby")] {
            assert!(states.contains(&(key.clone(), word.to_owned())), "{states:?}");
        }
        let bindings = promoted.cert().keys().subkeys().map(|k| k.self_signatures().count()).max();
        assert_eq!(bindings, Some(1), "superseded bindings are dropped");
    }
}

#[test]
fn a_replaced_signing_key_was_one_when_it_signed() {
    let (made, certificate, _) = member(Kind::Operator, "alice");
    let (first, second) = (find(&made, Slot::Sign, Use::Sign), find(&made, Slot::Sign, Use::Standby));
    let later = NOW.plus(Span::days(30));
    let wanted = [(second.clone(), Use::Sign), (first.clone(), Use::Verify)];
    let rotated = Certificate::of(&rebind(made.cert, &wanted, &fleet(), later).unwrap()).unwrap();
    rotated.succeeds(&certificate, &BTreeSet::new()).unwrap();
    let signing = |certificate: &Certificate, at: Time| -> Vec<Fingerprint> {
        let policy = StandardPolicy::at(at.to_system());
        let keys = certificate.cert().keys().with_policy(&policy, at.to_system()).for_signing();
        keys.map(|k| k.key().fingerprint()).collect()
    };
    assert_eq!(signing(&certificate, NOW), std::slice::from_ref(&first));
    assert_eq!(signing(&rotated, NOW), std::slice::from_ref(&first), "as of then");
    assert!(signing(&rotated, later).contains(&second));
    let bindings = |f: &Fingerprint| {
        rotated.cert().keys().find(|k| k.key().fingerprint() == *f).unwrap().self_signatures().count()
    };
    assert_eq!((bindings(&first), bindings(&second)), (2, 1), "superseded bindings of a standby are dropped");
}

#[test]
fn certificates_from_outside_are_bounded() {
    let (made, certificate, _) = member(Kind::Service, "nginx@fra1");
    assert_eq!(Certificate::parse(certificate.bytes()).unwrap(), certificate);
    use pgp::serialize::MarshalInto as _;
    let secret = made.cert.as_tsk().to_vec().unwrap();
    assert_eq!(Certificate::parse(&secret).unwrap_err(), CertificateError::Secret);
    let two = [certificate.bytes(), certificate.bytes()].concat();
    assert!(matches!(Certificate::parse(&two), Err(CertificateError::Several(2) | CertificateError::Parse(_))));
    assert!(matches!(
        Certificate::parse(&vec![0; crate::limits::CERT_BYTES_MAX + 1]),
        Err(CertificateError::TooMany { what: "bytes", .. })
    ));
    assert!(Certificate::parse(b"").is_err());
    for end in 0..certificate.bytes().len() {
        // A prefix may still be a certificate (cut between packets), but never this one.
        assert!(Certificate::parse(&certificate.bytes()[..end]).map_or(true, |c| c != certificate));
    }
}

#[test]
fn a_revocation_takes_effect_and_cannot_be_stripped() {
    let (made, certificate, user_id) = member(Kind::Pop, "fra1");
    let revoked = merge_revocation(&certificate, &made.revocation).unwrap();
    assert!(revoked.is_revoked(NOW) && !certificate.is_revoked(NOW));
    assert!(revoked.check(&user_id, NOW).is_err());
    revoked.succeeds(&certificate, &BTreeSet::new()).unwrap();
    assert_eq!(
        certificate.succeeds(&revoked, &BTreeSet::new()),
        Err(CertificateError::Lost("a revocation that was there before is missing"))
    );
    let (other, _, _) = member(Kind::Pop, "ams1");
    assert!(merge_revocation(&certificate, &other.revocation).is_err());
}

#[test]
fn statements_verify_for_their_log_and_key_alone() {
    for (profile, kind) in
        [(Profile::Compat, Kind::Operator), (Profile::Modern, Kind::Operator), (Profile::Modern, Kind::Pop)]
    {
        let (made, certificate, _) = member_in(kind, "alice", profile);
        let fingerprint = find(&made, Slot::Sign, Use::Sign);
        let body = b"{\"act\":\"x\"}\n";
        let bytes =
            sign_statement(&mut pair(&made.cert, &fingerprint), &fleet(), "cdn.example/keys/1", body, NOW).unwrap();
        let signature = StatementSignature::parse(&bytes, &fleet(), "cdn.example/keys/1").unwrap();
        assert_eq!((signature.issuer(), signature.created()), (&fingerprint, NOW));
        let key = certificate.key(&fingerprint).unwrap();
        assert_eq!(signature.verify(key, body), Ok(()));
        assert_eq!(signature.verify(key, b"{\"act\":\"y\"}\n"), Err(SignatureError::Wrong));
        let standby = find(&made, Slot::Sign, Use::Standby);
        assert_eq!(signature.verify(certificate.key(&standby).unwrap(), body), Err(SignatureError::Wrong));
        let wrong_log = StatementSignature::parse(&bytes, &fleet(), "cdn.example/keys/2").unwrap_err();
        assert_eq!(wrong_log, SignatureError::Log("cdn.example/keys/2".into()));
        // An ML-DSA signature has 3 309 bytes that all mean the same: every sixteenth will do.
        let step = if bytes.len() > 1000 { 16 } else { 1 };
        for i in (0..bytes.len()).step_by(step) {
            let mut wrong = bytes.clone();
            wrong[i] ^= 0x10;
            let accepted = StatementSignature::parse(&wrong, &fleet(), "cdn.example/keys/1")
                .is_ok_and(|s| s.verify(key, body).is_ok());
            // Two bytes of digest prefix and the unhashed area are not signed; the id of a statement does not cover them.
            let same = StatementSignature::parse(&wrong, &fleet(), "cdn.example/keys/1")
                .is_ok_and(|s| s.signature_is(&signature));
            assert!(!accepted || same, "byte {i} of {}", bytes.len());
        }
    }
}

#[test]
fn one_operator_with_two_fake_authorities_counts_once() {
    let (alice, bob) = (member(Kind::Operator, "alice"), member(Kind::Operator, "bob"));
    let roots = [alice.1.fingerprint(), bob.1.fingerprint()];
    let authority = |name: &str, by: &[&Made]| {
        let (made, mut certificate, _) = member(Kind::Authority, name);
        let grant = Grant::Authority { fleet: fleet(), amount: amount_for(2) };
        for operator in by {
            certificate = certify(&certificate, &grant, &mut primary(operator), Span::days(180), NOW).unwrap();
        }
        (made, certificate)
    };
    let honest = authority("casc1", &[&alice.0, &bob.0]);
    let fakes = [authority("fake1", &[&alice.0]), authority("fake2", &[&alice.0])];
    let pop_grant = Grant::Pop { fleet: fleet(), pop: "fra1".parse().unwrap() };
    let (pop, pop_certificate, pop_id) = member(Kind::Pop, "fra1");
    let (_, service, service_id) = member(Kind::Service, "nginx@fra1");
    let good_pop = certify(&pop_certificate, &pop_grant, &mut primary(&honest.0), Span::days(30), NOW).unwrap();
    let service = certify(&service, &Grant::Service, &mut primary(&pop), Span::days(7), NOW).unwrap();
    let mut bad_pop = pop_certificate.clone();
    for fake in &fakes {
        bad_pop = certify(&bad_pop, &pop_grant, &mut primary(&fake.0), Span::days(30), NOW).unwrap();
    }
    let count = |pop: &Certificate, authorities: &[&Certificate], user_id: &str, target: &Certificate| {
        let mut certificates = vec![&alice.1, &bob.1, pop, &service];
        certificates.extend(authorities);
        Web { roots: &roots, certificates: &certificates }.endorsers(user_id, &target.fingerprint(), NOW).unwrap()
    };
    assert_eq!(count(&good_pop, &[&honest.1], &pop_id, &good_pop), 2);
    assert_eq!(count(&good_pop, &[&honest.1], &service_id, &service), 2);
    assert_eq!(count(&bad_pop, &[&fakes[0].1, &fakes[1].1], &pop_id, &bad_pop), 1, "amounts would have said 120");
    assert_eq!(count(&bad_pop, &[&fakes[0].1, &fakes[1].1], &service_id, &service), 1);
    assert_eq!(count(&pop_certificate, &[&honest.1], &pop_id, &pop_certificate), 0, "nobody vouches");
    // The same operator twice among the roots is one operator.
    let doubled = [roots[0].clone(), roots[0].clone()];
    let web = Web { roots: &doubled, certificates: &[&alice.1, &honest.1, &good_pop] };
    assert_eq!(web.endorsers(&pop_id, &good_pop.fingerprint(), NOW).unwrap(), 1);
}

#[test]
fn out_of_scope_withdrawn_and_expired_links_do_not_count() {
    let alice = member(Kind::Operator, "alice");
    let roots = [alice.1.fingerprint()];
    let (casc, casc_certificate, _) = member(Kind::Authority, "casc1");
    let grant = Grant::Authority { fleet: fleet(), amount: amount_for(1) };
    let casc_certificate = certify(&casc_certificate, &grant, &mut primary(&alice.0), Span::days(180), NOW).unwrap();
    let (pop, pop_certificate, pop_id) = member(Kind::Pop, "fra1");
    let pop_grant = Grant::Pop { fleet: fleet(), pop: "fra1".parse().unwrap() };
    let pop_certificate = certify(&pop_certificate, &pop_grant, &mut primary(&casc), Span::days(30), NOW).unwrap();
    let verdict = |certificates: &[&Certificate], user_id: &str, target: &Certificate, at: Time| {
        Web { roots: &roots, certificates }.endorsers(user_id, &target.fingerprint(), at).unwrap()
    };
    let chain = [&alice.1, &casc_certificate, &pop_certificate];
    assert_eq!(verdict(&chain, &pop_id, &pop_certificate, NOW), 1);
    assert_eq!(
        verdict(&chain, &pop_id, &pop_certificate, NOW.plus(Span::days(31))),
        0,
        "the certification has expired"
    );

    // fra1 vouches for a service of another PoP, and for a name outside the fleet.
    let (_, foreign, foreign_id) = member(Kind::Service, "nginx@ams1");
    let foreign = certify(&foreign, &Grant::Service, &mut primary(&pop), Span::days(7), NOW).unwrap();
    assert_eq!(
        verdict(&[&alice.1, &casc_certificate, &pop_certificate, &foreign], &foreign_id, &foreign, NOW),
        0,
        "outside its zone"
    );
    let outside =
        generate(Kind::Pop, "PoP fra1 <pop@fra1.cdn.example.org>", &fleet(), Profile::Compat, YEAR, NOW).unwrap();
    let outside =
        certify(&Certificate::of(&outside.cert).unwrap(), &pop_grant, &mut primary(&casc), Span::days(30), NOW)
            .unwrap();
    assert_eq!(
        verdict(&[&alice.1, &casc_certificate, &outside], "PoP fra1 <pop@fra1.cdn.example.org>", &outside, NOW),
        0,
        "outside the domain"
    );

    let later = NOW.plus(Span(5));
    for at in [NOW, later] {
        let withdrawn = withdraw(&pop_certificate, &mut primary(&casc), at).unwrap();
        assert_eq!(withdrawn.certified_since(&casc.cert.fingerprint()), None, "also within the second");
        assert_eq!(verdict(&[&alice.1, &casc_certificate, &withdrawn], &pop_id, &withdrawn, later), 0, "withdrawn");
    }
    let revoked = merge_revocation(&casc_certificate, &casc.revocation).unwrap();
    assert_eq!(
        verdict(&[&alice.1, &revoked, &pop_certificate], &pop_id, &pop_certificate, NOW),
        0,
        "the authority is revoked"
    );
}

fn envelope(version: u64) -> Envelope {
    Envelope {
        fleet: fleet(),
        origin: "cdn.example/keys/1".into(),
        address: "nginx@fra1/tls.key".into(),
        version,
        readers: Digest::of(b"readers"),
    }
}

fn own<'a>(made: &Made, usage: Use) -> Vec<(Fingerprint, Box<dyn Decryptor + 'a>)> {
    let fingerprint = find(made, Slot::Openpgp, usage);
    vec![(fingerprint.clone(), Box::new(pair(&made.cert, &fingerprint)))]
}

#[test]
fn a_secret_opens_for_its_recipients_as_what_it_was_sealed_as() {
    for profile in [Profile::Compat, Profile::Modern] {
        let (alice, alice_certificate, _) = member_in(Kind::Operator, "alice", profile);
        let (nginx, nginx_certificate, _) = member_in(Kind::Service, "nginx@fra1", profile);
        let (other, _, _) = member_in(Kind::Service, "dns@fra1", profile);
        let author = find(&alice, Slot::Sign, Use::Sign);
        let author_key = alice_certificate.key(&author).unwrap();
        let keys = [Use::Encrypt, Use::Standby].map(|u| find(&nginx, Slot::Openpgp, u));
        let recipients: Vec<_> = keys.iter().map(|f| nginx_certificate.key(f).unwrap()).collect();
        let bytes = seal(b"the value", &envelope(3), &recipients, pair(&alice.cert, &author), profile, NOW).unwrap();

        for usage in [Use::Encrypt, Use::Standby] {
            let opened = open(&bytes, &envelope(3), &mut own(&nginx, usage), author_key).unwrap();
            assert_eq!((opened.value.as_slice(), opened.signed), (b"the value".as_slice(), NOW));
        }
        assert_eq!(
            open(&bytes, &envelope(3), &mut own(&other, Use::Encrypt), author_key).unwrap_err(),
            SealError::NotForUs
        );
        assert!(matches!(
            open(&bytes, &envelope(2), &mut own(&nginx, Use::Encrypt), author_key),
            Err(SealError::Envelope { .. })
        ));
        let mallory = member_in(Kind::Operator, "mallory", profile);
        let mallory_key = find(&mallory.0, Slot::Sign, Use::Sign);
        let forged =
            seal(b"forged", &envelope(3), &recipients, pair(&mallory.0.cert, &mallory_key), profile, NOW).unwrap();
        assert!(matches!(
            open(&forged, &envelope(3), &mut own(&nginx, Use::Encrypt), author_key),
            Err(SealError::Author { .. })
        ));

        // Reseal: other recipients, the same body.
        let other_keys = [Use::Encrypt].map(|u| find(&other, Slot::Openpgp, u));
        let other_certificate = Certificate::of(&other.cert).unwrap();
        let to: Vec<_> = other_keys.iter().map(|f| other_certificate.key(f).unwrap()).collect();
        let resealed = reseal(&bytes, &mut own(&nginx, Use::Standby), &to).unwrap();
        assert_eq!(Sealed::parse(&resealed).unwrap().body, Sealed::parse(&bytes).unwrap().body);
        assert!(open(&resealed, &envelope(3), &mut own(&other, Use::Encrypt), author_key).is_ok());
        assert_eq!(
            open(&resealed, &envelope(3), &mut own(&nginx, Use::Encrypt), author_key).unwrap_err(),
            SealError::NotForUs
        );
    }
}

#[test]
fn every_changed_byte_of_a_sealed_file_is_noticed() {
    for profile in [Profile::Compat, Profile::Modern] {
        let (alice, alice_certificate, _) = member_in(Kind::Pop, "alice", profile);
        let author = find(&alice, Slot::Sign, Use::Sign);
        let own_key = find(&alice, Slot::Openpgp, Use::Encrypt);
        let bytes = seal(
            b"v",
            &envelope(1),
            &[alice_certificate.key(&own_key).unwrap()],
            pair(&alice.cert, &author),
            profile,
            NOW,
        )
        .unwrap();
        for i in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[i] ^= 1;
            let result =
                open(&wrong, &envelope(1), &mut own(&alice, Use::Encrypt), alice_certificate.key(&author).unwrap());
            assert!(result.is_err(), "byte {i} of {}", bytes.len());
        }
    }
}

#[test]
fn nothing_and_nobody_are_refused() {
    let (alice, alice_certificate, _) = member(Kind::Operator, "alice");
    let author = find(&alice, Slot::Sign, Use::Sign);
    let key = find(&alice, Slot::Openpgp, Use::Encrypt);
    let to = [alice_certificate.key(&key).unwrap()];
    assert_eq!(
        seal(b"x", &envelope(1), &[], pair(&alice.cert, &author), Profile::Compat, NOW).unwrap_err(),
        SealError::NoRecipients
    );
    assert_eq!(
        seal(b"", &envelope(1), &to, pair(&alice.cert, &author), Profile::Compat, NOW).unwrap_err(),
        SealError::Empty
    );
}
