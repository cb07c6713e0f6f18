//! Targets for what a machine joins by: the token, the table and the list of invitations, the configuration, the challenges.

use keys::enrolment::{CloudFormat, Config, Parts};
use keys::limits::{CHALLENGES_MAX, INVITATIONS_MAX, MIRRORS_MAX, SERVICES_MAX, URL_BYTES_MAX};
use keys::name::MemberName;
use keys::ops::{Inviting, parse_inventory};
use keys::statement::{Challenges, Invitations, TOKEN_PREFIX, Token, TokenKey};
use keys::text::is_hidden;

/// One of the five, by the first byte.
///
/// # Panics
/// If it breaks a promise.
pub fn invitation(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match (kind % 5, std::str::from_utf8(rest)) {
        (0, Ok(text)) => token(text),
        (1, Ok(text)) => table(text),
        (2, _) => list(rest),
        (4, _) => challenges(rest),
        (_, Ok(text)) => config(text),
        (_, Err(_)) => {}
    }
}

/// A token has one spelling and does not show itself; so has its public half.
fn token(text: &str) {
    if let Ok(token) = Token::parse(text) {
        assert_eq!(token.to_text().as_str(), text);
        assert!(!format!("{token:?}").contains(&text[TOKEN_PREFIX.len()..]));
        assert_eq!(crate::one_spelling::<TokenKey>(&token.key().to_string()), Some(token.key()));
    }
    let _ = crate::one_spelling::<TokenKey>(text);
}

/// A table that is read says who, each once, within the limits, and reads back when it is written; what is said of one that
/// is refused is one line without hidden characters.
fn table(text: &str) {
    let all = match parse_inventory(text) {
        Ok(all) => all,
        Err(problem) => return assert!(!problem.contains(is_hidden), "{problem:?}"),
    };
    assert!((1..=INVITATIONS_MAX).contains(&all.len()));
    let names: std::collections::BTreeSet<&MemberName> = all.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), all.len(), "one is there twice");
    for (member, inviting) in &all {
        assert!(!member.is_service() && inviting.services.len() <= SERVICES_MAX);
        assert!(!inviting.dmi.as_deref().is_some_and(|uuid| uuid.contains(is_hidden) || uuid.is_empty()));
    }
    let rows: String = all.iter().map(|(member, inviting)| row(member, inviting)).collect();
    let written = format!("member,services,region,roles,endpoint,dmi,replace\n{rows}");
    assert_eq!(parse_inventory(&written).as_ref(), Ok(&all), "{written}");
}

fn row(member: &MemberName, inviting: &Inviting) -> String {
    let words = |labels: &std::collections::BTreeSet<keys::name::Label>| {
        labels.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let facts = &inviting.facts;
    let region = facts.region.as_ref().map(ToString::to_string).unwrap_or_default();
    let endpoint = facts.endpoint.as_ref().map(|e| e.host.to_string()).unwrap_or_default();
    let (services, roles) = (words(&inviting.services), words(&facts.roles));
    let (dmi, replace) = (inviting.dmi.as_deref().unwrap_or_default(), if inviting.replace { "yes" } else { "" });
    format!("{member},{services},{region},{roles},{endpoint},{dmi},{replace}\n")
}

/// A list has one spelling, is in order and within the limits.
fn list(data: &[u8]) {
    let Ok(list) = Invitations::parse(data) else { return };
    assert_eq!(list.to_bytes(), data);
    assert!((1..=INVITATIONS_MAX).contains(&list.invitations.len()));
    assert!(list.invitations.is_sorted_by(|a, b| a.member < b.member));
    assert!(list.invitations.iter().all(|i| i.services.len() <= SERVICES_MAX));
}

/// A list of challenges has one spelling, is in order with one for each key, and within the limits.
fn challenges(data: &[u8]) {
    let Ok(list) = Challenges::parse(data) else { return };
    assert_eq!(list.to_bytes(), data);
    assert!((1..=CHALLENGES_MAX).contains(&list.challenges.len()));
    assert!(list.challenges.iter().all(|c| list.of(&c.member).any(|found| found == c)));
    let keys = |i: &keys::statement::Challenge| (i.member.clone(), i.slot, i.key.clone());
    assert!(list.challenges.is_sorted_by(|a, b| keys(a) < keys(b)));
}

/// A configuration that is read is within the limits, and reads back as a machine would be given it; without its seed it
/// says the same and has the seed nowhere; what is said of one that is refused shows no seed.
fn config(text: &str) {
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(error) => {
            let shown = error.to_string();
            let is_token = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "-_".contains(c));
            assert!(!shown.contains(is_hidden) && !shown.split(TOKEN_PREFIX).skip(1).any(is_token), "{shown:?}");
            return assert_eq!(Config::without_seed(text), None);
        }
    };
    assert!((1..=MIRRORS_MAX).contains(&config.mirrors.len()) && !config.member.is_service());
    assert!(config.mirrors.iter().all(|m| (1..=URL_BYTES_MAX).contains(&m.len()) && !m.contains(char::is_control)));
    if let Some(kept) = Config::without_seed(text) {
        let seed = config.seed.as_ref().expect("there was one");
        let rest = Config::parse(&kept).expect("what is kept is read");
        assert!(rest.seed.is_none() && !kept.contains(seed.to_text().as_str()));
        assert!(rest.says_the_same(&config) && Config::without_seed(&kept).is_none());
    }
    let Some(token) = &config.seed else { return };
    let parts = Parts {
        fleet: &config.fleet,
        id: config.id,
        log: config.log.clone(),
        mirrors: config.mirrors.clone(),
        ca: config.ca.clone(),
        member: &config.member,
        endpoint: config.endpoint.clone(),
        snapshot: config.snapshot,
        token,
        programs: vec!["/usr/bin/keys".to_owned()],
        sha256: config.id,
    };
    // What cannot stand in a script is refused there, and is quoted nowhere.
    if parts.render(CloudFormat::Sh).is_ok() {
        let again = Config::parse(&parts.config()).expect("what is written is read");
        // What guards it, nobody writes for it.
        let again = Config { protection: config.protection, ..again };
        assert!(again.says_the_same(&config) && again.seed.is_some_and(|seed| seed.key() == token.key()));
    }
}

/// What to begin with.
pub mod seeds {
    use keys::digest::Digest;
    use keys::name::Slot;
    use keys::statement::{Approval, Challenge, Facts, Invited, machine_digest};
    use keys::time::Time;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    /// Tokens of a public string.
    pub fn tokens(count: usize) -> Vec<Token> {
        let mut rng = StdRng::from_seed(*b"a public seed, for tests alone!!");
        (0..count).map(|_| Token::generate(&mut rng)).collect()
    }

    /// Of [`super::invitation`]: two of each kind.
    pub fn invitation() -> Vec<Vec<u8>> {
        let tokens = tokens(2);
        let invited = |member: &str, token: &Token, approval| Invited {
            approval,
            confirm: approval == Approval::Auto,
            facts: Facts::default(),
            machine: None,
            member: member.parse().expect("a name"),
            not_after: Time(1_795_251_600),
            not_before: Time(1_795_244_400),
            replaces: None,
            services: Default::default(),
            token: token.key(),
        };
        let one = Invitations::new(vec![Invited {
            facts: Facts {
                endpoint: "198.51.100.7".parse::<keys::wireguard::Host>().ok().map(Into::into),
                region: "eu".parse().ok(),
                roles: ["hub", "transit"].map(|r| r.parse().expect("a label")).into(),
            },
            machine: Some(machine_digest(&Digest::of(b"fleet"), "dmi", "4C4C4544-0042")),
            replaces: Some("00".repeat(20)),
            services: ["dns", "nginx"].map(|s| s.parse().expect("a label")).into(),
            ..invited("fra1", &tokens[0], Approval::Operators)
        }]);
        let two =
            ["fra1", "sin1"].iter().zip(&tokens).map(|(name, token)| invited(name, token, Approval::Auto)).collect();
        let challenge = |member: &str, slot| Challenge {
            answer: Digest::of(b"answer"),
            key: "00".repeat(20),
            member: member.parse().expect("a name"),
            sealed: b"sealed".to_vec(),
            slot,
        };
        let id = Digest::of(b"fleet");
        let config = format!(
            "fleet = \"cdn.example\"\nid = \"{id}\"\nmirrors = [\"https://keys.cdn.example\", \"/srv/fleet\"]\n\
             # who it is\nmember = \"fra1\"\nseed = \"{}\"\nendpoint = \"198.51.100.7\"\n",
            *tokens[0].to_text()
        );
        let table = "member,services,region,roles,endpoint,dmi,replace\n\
            fra1,nginx wg,eu,hub,198.51.100.1,4C4C4544-0042,\n\nsin1,,,,,,yes\n";
        [
            (0, tokens[0].to_text().as_bytes().to_vec()),
            (0, tokens[0].key().to_string().into_bytes()),
            (1, table.as_bytes().to_vec()),
            (1, b"member\nfra1\n".to_vec()),
            (2, one.to_bytes()),
            (2, Invitations::new(two).to_bytes()),
            (4, Challenges::new(vec![challenge("fra1", Slot::Wireguard), challenge("fra1", Slot::Openpgp)]).to_bytes()),
            (3, config.replace("seed = ", "log = []\nseed = ").into_bytes()),
            // Chance finds no second copy of a seed.
            (3, config.replace("# who it is", &format!("# {}", *tokens[0].to_text())).into_bytes()),
            (3, config.replace("\"cdn.example\"", &format!("\"{}\"", *tokens[0].to_text())).into_bytes()),
            (3, config.into_bytes()),
        ]
        .map(|(kind, rest)| [&[kind][..], &rest].concat())
        .to_vec()
    }
}
