//! Reads the file and checks what it means.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::external::{place_of_external, problem};
use super::{
    External, FILE, Ipam, LanesTable, MeshTable, Pool, PskMode, Rotation, Selector, Shape, TEMPLATE_ULA, Topology,
    WireguardPolicy,
};
use crate::cidr::{self, AnyCidr};
use crate::limits::TOPOLOGY_RULES_MAX;
use crate::name::Label;
use crate::policy::line::Lines;
use crate::policy::{self, PolicyError};
use crate::text;

/// The file as it is written, before its meaning is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    mesh: MeshTable,
    lanes: LanesTable,
    rotation: Rotation,
    psk: WrittenPsk,
    ipam: Ipam,
    topology: WrittenTopology,
    #[serde(default)]
    external: Vec<External>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPsk {
    mode: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTopology {
    default: Shape,
    #[serde(default)]
    rule: Vec<WrittenRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    between: Vec<Selector>,
}

impl WireguardPolicy {
    /// Reads the content of [`FILE`].
    ///
    /// # Errors
    /// [`PolicyError::Toml`] and [`PolicyError::TooLarge`] if it is not of the right form, [`PolicyError::Meaning`] if
    /// it cannot mean what it says.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file = format!("policy/{FILE}");
        let written: Written = policy::toml(&file, text)?;
        let checked = check(&written)
            .map_err(|Wrong { place, problem }| PolicyError::Meaning { file, place, problem }.in_text(text));
        checked.map(|policy| Self { lines: lines(&policy, text), ..policy })
    }
}

/// Where stands what findings about a mesh come of.
fn lines(policy: &WireguardPolicy, text: &str) -> BTreeMap<String, usize> {
    let Some(lines) = Lines::of(text) else { return BTreeMap::new() };
    let single = ["mesh", "lanes.ports", "topology.default"].map(str::to_owned);
    let pools = (1..=policy.ipam.pools.len()).map(place_of_pool);
    let rules = (1..=policy.topology.rules.len()).map(place_of_rule);
    let externals = (1..=policy.externals.len()).map(place_of_external);
    let places = single.into_iter().chain(pools).chain(rules).chain(externals);
    places.filter_map(|place| lines.line(&place).map(|line| (place, line))).collect()
}

/// How a message names the pool, counted from 1.
pub(crate) fn place_of_pool(number: usize) -> String {
    format!("[[ipam.pool]] number {number}")
}

/// How a message names the rule, counted from 1.
pub(crate) fn place_of_rule(number: usize) -> String {
    format!("[[topology.rule]] number {number}")
}

/// What is wrong, and where.
struct Wrong {
    place: String,
    problem: String,
}

/// An `Err` that names the place.
fn wrong<T>(place: impl Into<String>, problem: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { place: place.into(), problem: problem.into() })
}

fn check(written: &Written) -> Result<WireguardPolicy, Wrong> {
    check_mesh(&written.mesh)?;
    check_lanes(&written.lanes)?;
    check_rotation(&written.rotation)?;
    check_pools(&written.mesh, &written.ipam)?;
    let psk = psk_mode(&written.psk.mode)?;
    let topology = topology(&written.topology, &written.ipam)?;
    if let Some((number, key, problem)) = problem(&written.external, &written.ipam) {
        return wrong(format!("{}: {key}", place_of_external(number)), problem);
    }
    Ok(WireguardPolicy {
        mesh: written.mesh.clone(),
        lanes: written.lanes.clone(),
        rotation: written.rotation,
        psk,
        ipam: written.ipam.clone(),
        topology,
        externals: written.external.clone(),
        lines: BTreeMap::new(),
    })
}

fn check_mesh(mesh: &MeshTable) -> Result<(), Wrong> {
    const UNIQUE_LOCAL_FIRST_BYTES: [u8; 2] = [0xfc, 0xfd];
    let [first, ..] = mesh.ula.base().octets();
    if !UNIQUE_LOCAL_FIRST_BYTES.contains(&first) || mesh.ula.length() != 48 {
        let problem = format!("{} is not a unique local range of 48 bits, such as {TEMPLATE_ULA} (RFC 4193)", mesh.ula);
        return wrong("mesh.ula", problem);
    }
    if let Some((part, word)) = cidr::unusable_part(&mesh.ipv4) {
        return wrong("mesh.ipv4", format!("{} overlaps {part}, which is set aside ({word})", mesh.ipv4));
    }
    if !(1_280..=9_000).contains(&mesh.mtu) {
        return wrong("mesh.mtu", format!("{} is not from 1280 (what IPv6 needs) to 9000", mesh.mtu));
    }
    Ok(())
}

fn check_lanes(lanes: &LanesTable) -> Result<(), Wrong> {
    for name in &lanes.names {
        let shown = text::shown(name);
        let usable = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if name.is_empty() || name.len() > 15 || name.starts_with('-') || !name.bytes().all(usable) {
            let problem = format!(
                "'{shown}' cannot name an interface: 1 to 15 of A-Z, a-z, 0-9, '_' and '-', not beginning with '-'"
            );
            return wrong("lanes.names", problem);
        }
        // `all` and `default` name every interface in /proc/sys/net, `lo` the loopback device.
        if ["all", "default", "lo"].contains(&name.as_str()) {
            return wrong("lanes.names", format!("'{shown}' has a meaning of its own on Linux"));
        }
    }
    let [a, b] = &lanes.names;
    if a.eq_ignore_ascii_case(b) {
        return wrong(
            "lanes.names",
            format!("'{a}' and '{b}' must differ in more than case: each lane is an interface"),
        );
    }
    let [a, b] = lanes.ports;
    if a == 0 || b == 0 {
        return wrong("lanes.ports", "a port is from 1 to 65535");
    }
    if a == b {
        return wrong("lanes.ports", format!("both are {a}; each lane listens on a port of its own"));
    }
    Ok(())
}

fn check_rotation(rotation: &Rotation) -> Result<(), Wrong> {
    let Rotation { interval, jitter, min_gap, max_offline, drain_quiet } = *rotation;
    // Two rotations may lie interval - jitter apart, and whoever is away for longer may miss two: the second takes the
    // last key it knows.
    if max_offline.0.saturating_add(jitter.0) >= interval.0 {
        let problem = format!(
            "{max_offline} with a jitter of {jitter} is not below the interval of {interval}: a node away for so long \
             could miss two rotations and would not find back"
        );
        return wrong("rotation.max_offline", problem);
    }
    if min_gap.0.saturating_add(jitter.0) > interval.0 {
        let problem = format!(
            "{min_gap} with a jitter of {jitter} is above the interval of {interval}: no rotation would ever be due"
        );
        return wrong("rotation.min_gap", problem);
    }
    if drain_quiet.0 == 0 {
        return wrong("rotation.drain_quiet", "0s would replace a key while it is in use; 60s is usual");
    }
    Ok(())
}

fn check_pools(mesh: &MeshTable, ipam: &Ipam) -> Result<(), Wrong> {
    if ipam.pools.is_empty() {
        return wrong("ipam.pool", "there is none; a mesh needs at least one [[ipam.pool]]");
    }
    let mut regions: BTreeMap<&Label, &Pool> = BTreeMap::new();
    let mut subnets: BTreeMap<u16, &Pool> = BTreeMap::new();
    for (i, pool) in ipam.pools.iter().enumerate() {
        let place = format!("{} (region '{}')", place_of_pool(i + 1), pool.region);
        if regions.insert(&pool.region, pool).is_some() {
            return wrong(place, "the region has two pools");
        }
        if let Some(other) = subnets.insert(pool.subnet6, pool) {
            return wrong(place, format!("subnet6 = {} is also that of region '{}'", pool.subnet6, other.region));
        }
        if pool.ipv4.length() > 30 {
            return wrong(place, format!("{} has no address between its first and its last", pool.ipv4));
        }
        if !mesh.ipv4.covers(&pool.ipv4) {
            return wrong(place, format!("{} is not inside mesh.ipv4 = {}", pool.ipv4, mesh.ipv4));
        }
        if let Some(other) = ipam.pools.iter().take(i).find(|other| other.ipv4.overlaps(&pool.ipv4)) {
            return wrong(place, format!("{} overlaps {} of region '{}'", pool.ipv4, other.ipv4, other.region));
        }
        let forbidden = mesh.forbid.iter().find(|range| match range {
            AnyCidr::V4(range) => range.overlaps(&pool.ipv4),
            AnyCidr::V6(range) => range.overlaps(&pool.ipv6(&mesh.ula)),
        });
        if let Some(range) = forbidden {
            return wrong(place, format!("it overlaps {range}, which mesh.forbid keeps for something else"));
        }
    }
    Ok(())
}

fn psk_mode(mode: &str) -> Result<PskMode, Wrong> {
    match mode {
        "none" => Ok(PskMode::None),
        "kem-pair" => Ok(PskMode::KemPair),
        "sealed-pair" => wrong(
            "psk.mode",
            "'sealed-pair' is not available: what was sealed opens for as long as the reader's OpenPGP key is kept; use \"kem-pair\"",
        ),
        "group" | "group-secret" | "shared" | "cluster" => wrong(
            "psk.mode",
            format!(
                "'{mode}' is refused: with one secret for all, a single stolen node opens the preshared layer of the \
                 whole mesh; a preshared key belongs to one pair"
            ),
        ),
        other => wrong("psk.mode", unknown(other, &["none", "kem-pair"])),
    }
}

fn topology(written: &WrittenTopology, ipam: &Ipam) -> Result<Topology, Wrong> {
    if written.rule.len() > TOPOLOGY_RULES_MAX {
        return wrong(
            "[[topology.rule]]",
            format!("there are {}; at most {TOPOLOGY_RULES_MAX} can be", written.rule.len()),
        );
    }
    let mut rules = Vec::new();
    for (i, rule) in written.rule.iter().enumerate() {
        let place = || place_of_rule(i + 1);
        if written.default == Shape::Full {
            let problem = "a rule joins nodes, and with default = \"full\" all are joined already; rules go with \
                           \"hub\" and \"groups\"";
            return wrong(place(), problem);
        }
        let [one, other] = rule.between.as_slice() else {
            let problem = format!("between has {} selectors; a rule is between two", rule.between.len());
            return wrong(place(), problem);
        };
        for selector in [one, other] {
            selector.check(ipam).or_else(|problem| wrong(place(), problem))?;
        }
        rules.push([one.clone(), other.clone()]);
    }
    Ok(Topology { shape: written.default, rules })
}

fn unknown(word: &str, known: &[&str]) -> String {
    let hint = text::nearest(word, known.iter().copied()).map(|w| format!("; did you mean '{w}'?")).unwrap_or_default();
    format!("'{}' is unknown; known are {}{hint}", text::shown(word), known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wireguard::{OneLane, TEMPLATE};
    use crate::time::Span;

    /// What reading the template says after `from` has become `to`.
    fn changed(from: &str, to: &str) -> Result<WireguardPolicy, String> {
        assert!(TEMPLATE.contains(from), "{from}");
        WireguardPolicy::parse(&TEMPLATE.replace(from, to)).map_err(|e| e.to_string())
    }

    fn refused(from: &str, to: &str) -> String {
        changed(from, to).expect_err(to)
    }

    #[test]
    fn the_template_reads() {
        let policy = WireguardPolicy::parse(TEMPLATE).expect("the template");
        assert_eq!(policy.mesh().ula.to_string(), TEMPLATE_ULA);
        assert_eq!(policy.lanes().ports, [51_820, 51_821]);
        assert_eq!(policy.rotation().max_offline, Span::days(25));
        assert_eq!((policy.psk(), policy.topology().shape()), (PskMode::None, Shape::Full));
        assert_eq!(policy.pool("default").map(|p| p.subnet6), Some(16));
        assert_eq!(policy.pool("eu"), None);
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        for (from, to, part) in [
            ("fd12:3456:789a::/48", "2001:db8:1::/48", "mesh.ula: 2001:db8:1::/48 is not a unique local range"),
            ("fd12:3456:789a::/48", "fd12:3456:789a::/56", "not a unique local range of 48 bits"),
            ("10.88.0.0/16", "127.88.0.0/16", "mesh.ipv4: 127.88.0.0/16 overlaps 127.0.0.0/8, which is set aside"),
            ("10.88.0.0/16", "0.0.0.0/0", "overlaps 0.0.0.0/8"),
            ("10.88.0.0/16", "10.99.0.0/16", "10.88.16.0/20 is not inside mesh.ipv4 = 10.99.0.0/16"),
            ("10.88.0.0/16", "10.88.0.1/16", "host bits; the range is '10.88.0.0/16'"),
            ("mtu = 1420", "mtu = 1279", "mesh.mtu: 1279"),
            ("mtu = 1420", "mtu = 9001", "mesh.mtu: 9001"),
            ("172.17.0.0/16", "10.88.31.0/24", "overlaps 10.88.31.0/24, which mesh.forbid"),
            ("172.17.0.0/16", "fd12:3456:789a:10::/64", "overlaps fd12:3456:789a:10::/64, which mesh.forbid"),
            ("\"wg-b\"", "\"wg-A\"", "'wg-a' and 'wg-A' must differ"),
            ("\"wg-b\"", "\"wg-123456789abcd\"", "cannot name an interface"),
            ("\"wg-b\"", "\"../b\"", "cannot name an interface"),
            ("\"wg-b\"", "\"-b\"", "cannot name an interface"),
            ("\"wg-b\"", "\"all\"", "a meaning of its own"),
            ("\"wg-b\"]", "\"wg-b\", \"wg-c\"]", "there are two lanes, and this has 3"),
            ("51820, 51821]", "51820]", "there are two lanes, and this has 1"),
            ("51821]", "51820]", "lanes.ports: both are 51820"),
            ("51821]", "0]", "lanes.ports: a port is from 1 to 65535"),
            ("51821]", "70000]", "invalid value: integer `70000`, expected u16"),
            ("\"25d\"", "\"27d\"", "rotation.max_offline: 27d with a jitter of 3d is not below the interval of 30d"),
            ("\"24h\"", "\"28d\"", "rotation.min_gap: 28d"),
            ("\"60s\"", "\"0s\"", "rotation.drain_quiet: 0s would"),
            ("\"60s\"", "\"1w\"", "expected a length of time"),
            ("mode = \"none\"", "mode = \"sealed-pair\"", "opens for as long as"),
            ("mode = \"none\"", "mode = \"group\"", "a single stolen node opens the preshared layer of the whole mesh"),
            ("mode = \"none\"", "mode = \"kem-pari\"", "did you mean 'kem-pair'?"),
            ("= \"full\"", "= \"fill\"", "did you mean 'full'?"),
            ("10.88.16.0/20", "10.88.16.0/31", "has no address between its first and its last"),
            ("subnet6 = 16 ", "subnet6 = 65536 ", "65536"),
            ("mtu = 1420", "mut = 1420", "unknown field `mut`"),
        ] {
            let message = refused(from, to);
            assert!(message.contains(part), "{to}: {message}");
        }
    }

    #[test]
    fn pools_are_compared_with_each_other() {
        let second = |region: &str, ipv4: &str, subnet6: u16| {
            let pool = format!("\n[[ipam.pool]]\nregion = \"{region}\"\nipv4 = \"{ipv4}\"\nsubnet6 = {subnet6}\n");
            WireguardPolicy::parse(&format!("{TEMPLATE}{pool}")).map_err(|e| e.to_string())
        };
        assert!(second("eu", "10.88.32.0/20", 32).is_ok());
        for (pool, part) in [
            (second("default", "10.88.32.0/20", 32), "the region has two pools"),
            (second("eu", "10.88.32.0/20", 16), "subnet6 = 16 is also that of region 'default'"),
            (second("eu", "10.88.17.0/24", 32), "10.88.17.0/24 overlaps 10.88.16.0/20 of region 'default'"),
        ] {
            let message = pool.expect_err(part);
            assert!(message.contains(part), "{message}");
        }
        let none = TEMPLATE.split("[[ipam.pool]]").next().unwrap_or_default().to_owned();
        let none = WireguardPolicy::parse(&format!("{none}\n[topology]\ndefault = \"full\"\n"));
        assert!(none.is_err_and(|e| e.to_string().contains("ipam.pool: there is none")));
    }

    #[test]
    fn rules_join_what_is_there() {
        let with = |default: &str, rules: &str| {
            let text = TEMPLATE.replace("default = \"full\"", &format!("default = \"{default}\""));
            WireguardPolicy::parse(&format!("{text}\n{rules}")).map_err(|e| e.to_string())
        };
        let rule = |between: &str| format!("[[topology.rule]]\nbetween = {between}\n");
        let sound = rule("[\"region:*\", \"role:transit\"]") + &rule("[\"region:default\", \"member:fra1\"]");
        for default in ["hub", "groups"] {
            let policy = with(default, &sound).expect("two rules");
            assert_eq!(policy.topology().shape().word(), default);
            let rules: Vec<_> =
                policy.topology().rules().iter().map(|ends| ends.clone().map(|s| s.to_string())).collect();
            assert_eq!(rules, [["region:*", "role:transit"], ["region:default", "member:fra1"]]);
            assert!(with(default, "").is_ok_and(|policy| policy.topology().rules().is_empty()));
        }
        let many = rule("[\"region:*\", \"role:transit\"]").repeat(TOPOLOGY_RULES_MAX + 1);
        for (default, rules, part) in [
            (
                "full",
                rule("[\"region:*\", \"role:x\"]"),
                "[[topology.rule]] number 1: a rule joins nodes, and with default = \"full\"",
            ),
            (
                "hub",
                rule("[\"region:*\"]"),
                "[[topology.rule]] number 1: between has 1 selectors; a rule is between two",
            ),
            ("hub", rule("[\"role:a\", \"role:b\", \"role:c\"]"), "between has 3 selectors"),
            (
                "groups",
                rule("[\"role:a\", \"region:defualt\"]"),
                "[[topology.rule]] number 1: 'region:defualt' means nobody: no [[ipam.pool]] has that region; did you mean 'region:default'?",
            ),
            ("groups", rule("[\"zone:a\", \"role:b\"]"), "expected region:NAME, region:*, role:NAME or member:NAME"),
            ("groups", many, "[[topology.rule]]: there are 65; at most 64"),
        ] {
            let message = with(default, &rules).expect_err(part);
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_refusal_names_the_line() {
        let line = |part: &str| TEMPLATE.lines().position(|line| line.contains(part)).expect(part) + 1;
        for (from, to, place) in [
            ("mtu = 1420", "mtu = 1", "mesh.mtu"),
            ("51821]", "51820]", "lanes.ports"),
            ("\"25d\"", "\"27d\"", "rotation.max_offline"),
            ("mode = \"none\"", "mode = \"group\"", "psk.mode"),
        ] {
            let expected = format!("policy/wireguard.toml:{}: {place}: ", line(from));
            let message = refused(from, to);
            assert!(message.starts_with(&expected), "{message}");
        }
        let expected =
            format!("policy/wireguard.toml:{}: [[ipam.pool]] number 1 (region 'default'): ", line("[[ipam.pool]]"));
        assert!(refused("10.88.16.0/20", "10.99.0.0/20").starts_with(&expected));
        let rule = "[[topology.rule]]\nbetween = [\"region:default\", \"region:eu\"]\n";
        let text = format!("{}{rule}", TEMPLATE.replace("\"full\"", "\"hub\""));
        let message = WireguardPolicy::parse(&text).map_err(|e| e.to_string()).expect_err("no such region");
        let expected = format!("policy/wireguard.toml:{}: [[topology.rule]] number 1: ", TEMPLATE.lines().count() + 1);
        assert!(message.starts_with(&expected), "{message}");
    }

    #[test]
    fn an_external_peer_has_a_key_an_index_and_somebody_to_talk_to() {
        const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let external = |name: &str, key: &str, rest: &str| {
            let head = "[[external]]\nregion = \"default\"\n";
            format!("{head}name = \"{name}\"\npublic_key = \"{key}\"\n{rest}\n")
        };
        let read = |text: &str| WireguardPolicy::parse(&format!("{TEMPLATE}\n{text}")).map_err(|e| e.to_string());
        let laptop = external("laptop", KEY, "index = 4000\npeers = [\"role:hub\", \"member:fra1\"]");
        let policy = read(&laptop).expect("a laptop");
        assert_eq!(
            policy.externals().iter().map(|e| (e.name.as_str(), e.lane, e.endpoint.as_ref())).collect::<Vec<_>>(),
            [("laptop", OneLane::A, None)]
        );
        assert_eq!((policy.reserved("default").collect::<Vec<_>>(), policy.reserved("eu").count()), (vec![4000], 0));
        let router = external(
            "router",
            &KEY.replace("xTIB", "yTIB"),
            "index = 4001\nlane = \"b\"\nendpoint = \"[2001:db8::1]:700\"\npeers = [\"region:*\"]",
        );
        let policy = read(&format!("{laptop}{router}")).expect("two");
        assert_eq!(
            policy.externals()[1].endpoint.as_ref().map(ToString::to_string),
            Some("[2001:db8::1]:700".to_owned())
        );
        let changed = |from: &str, to: &str| router.replace(from, to);
        for (second, part) in [
            (changed("\"router\"", "\"laptop\""), "number 2: name: 'laptop' is there twice"),
            (changed("yTIB", "xTIB"), "number 2: public_key: is also that of 'laptop'"),
            (changed("yTIB", "yTI"), "number 2: public_key: expected 32 bytes in base64"),
            (changed("Dg=", "Dh="), "number 2: public_key: expected 32 bytes in base64"),
            (changed("\"default\"", "\"defualt\""), "'defualt' has no [[ipam.pool]]; did you mean 'default'?"),
            (changed("4001", "4095"), "number 2: index: 4095 is not from 1 to 4094"),
            (changed("4001", "0"), "number 2: index: 0 is not from 1"),
            (changed("4001", "4000"), "index: 4000 of region 'default' is also that of 'laptop'"),
            (changed("[\"region:*\"]", "[]"), "number 2: peers: names nobody"),
            (changed("region:*", "region:eu"), "number 2: peers: 'region:eu' means nobody"),
            (changed("lane = \"b\"", "lane = \"c\""), "'c' is not a lane"),
            (changed("]:700", "]"), "is no HOST:PORT"),
            (changed("[2001:db8::1]:700", "2001:db8::1"), "is no HOST:PORT"),
            (changed(":700", ":0"), "is no HOST:PORT"),
            (changed(":700", ":65536"), "is no HOST:PORT"),
            (changed("[2001:db8::1]:700", ":700"), "is no HOST:PORT"),
        ] {
            let message = read(&format!("{laptop}{second}")).expect_err(part);
            assert!(message.contains(part), "{part}: {message}");
        }
        let line = TEMPLATE.lines().count() + 1 + laptop.lines().count() + 4;
        let message = read(&format!("{laptop}{}", changed("yTIB", "xTIB"))).expect_err("one key twice");
        assert!(
            message.starts_with(&format!("policy/wireguard.toml:{line}: [[external]] number 2: public_key: ")),
            "{message}"
        );
    }
}
