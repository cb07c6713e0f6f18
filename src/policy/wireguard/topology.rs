//! `[topology]`: who is whose peer.
//!
//! ```toml
//! [topology]
//! default = "groups"
//! [[topology.rule]]
//! between = ["region:*", "role:transit"]
//! ```
//!
//! What the default joins stays joined; rules join more. What is asked of a node are its name, region and roles, and all of it
//! is put into [`Marks`], so that two nodes with the same marks have the same peers. Whether two nodes are peers is symmetric
//! by construction: [`Topology::joined`] takes each rule from both sides.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::Ipam;
use crate::name::{Label, MemberName};
use crate::text;
use crate::words::{serde_by_text, words};

words! {
    /// `[topology] default`: who is whose peer without any rule.
    Shape, "a topology":
    /// Every node is every other's peer.
    Full = "full",
    /// Nodes with the role `hub` are everybody's peers, others only theirs.
    Hub = "hub",
    /// The nodes of one region are each other's peers.
    Groups = "groups",
}

/// The role that makes a hub.
pub const HUB: &str = "hub";
/// The role of nodes that join regions: [`Topology::uses_transit`].
pub const TRANSIT: &str = "transit";

/// What a node is, as far as the topology asks.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Its name.
    pub name: &'a MemberName,
    /// Its region.
    pub region: &'a str,
    /// Its roles.
    pub roles: &'a BTreeSet<Label>,
}

/// Some nodes: `region:eu`, `region:*` (all), `role:transit`, `member:fra1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Every node: each has a region.
    Everybody,
    /// The nodes of a region.
    Region(Label),
    /// The nodes with a role.
    Role(Label),
    /// One node.
    Member(MemberName),
}

impl Selector {
    /// Whether it means that node.
    pub fn matches(&self, site: &Site<'_>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Region(region) => region.as_str() == site.region,
            Self::Role(role) => site.roles.contains(role),
            Self::Member(name) => name == site.name,
        }
    }
}

impl Selector {
    /// Refuses a region that no pool has: nobody could be in it, so it is a slip of the pen.
    pub(super) fn check(&self, ipam: &Ipam) -> Result<(), String> {
        match self {
            Self::Region(region) if ipam.pools.iter().all(|pool| pool.region != *region) => {
                let known: Vec<_> = ipam.pools.iter().map(|pool| pool.region.as_str()).collect();
                let nearest =
                    text::nearest(region.as_str(), known).map(|near| format!("; did you mean 'region:{near}'?"));
                let problem = format!("'{self}' means nobody: no [[ipam.pool]] has that region");
                Err(problem + &nearest.unwrap_or_default())
            }
            Self::Everybody | Self::Region(_) | Self::Role(_) | Self::Member(_) => Ok(()),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("region:*"),
            Self::Region(region) => write!(f, "region:{region}"),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Member(name) => write!(f, "member:{name}"),
        }
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(whole: &str) -> Result<Self, String> {
        let said = |problem: String| format!("'{}': {problem}", text::shown(whole));
        let kinds = "expected region:NAME, region:*, role:NAME or member:NAME";
        let (kind, name) = whole.split_once(':').ok_or_else(|| said(kinds.to_owned()))?;
        let label = || name.parse::<Label>().map_err(|e| said(e.to_string()));
        match kind {
            "region" if name == "*" => Ok(Self::Everybody),
            "region" => label().map(Self::Region),
            "role" => label().map(Self::Role),
            "member" => {
                let member: MemberName = name.parse().map_err(|e: crate::name::NameError| said(e.to_string()))?;
                match member.is_service() {
                    true => Err(said(format!("a service is no node of the mesh; its machine is '{}'", member.owner()))),
                    false => Ok(Self::Member(member)),
                }
            }
            _ => Err(said(kinds.to_owned())),
        }
    }
}

serde_by_text!(Selector);

/// `[topology]`: a default, and rules that join more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Who is whose peer without any rule.
    #[serde(rename = "default")]
    pub(super) shape: Shape,
    /// Each joins what the one selector means with what the other means.
    pub(super) rules: Vec<[Selector; 2]>,
}

/// All that decides whose peer a node is. Rules are bits: the first rule's ends are the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marks<'a> {
    /// Its region, where the default goes by regions.
    region: Option<&'a str>,
    /// Whether it is a hub, where the default goes by hubs.
    hub: bool,
    /// The rules whose first and whose second selector means it.
    ends: [u64; 2],
}

impl Topology {
    /// Who is whose peer without any rule.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The rules, in the order of the file.
    pub fn rules(&self) -> &[[Selector; 2]] {
        &self.rules
    }

    /// Whether regions are joined by nodes with the role [`TRANSIT`].
    pub fn uses_transit(&self) -> bool {
        let transit = |end: &Selector| matches!(end, Selector::Role(role) if role.as_str() == TRANSIT);
        self.shape == Shape::Groups && self.rules.iter().flatten().any(transit)
    }

    /// What decides whose peer `site` is.
    pub fn marks<'a>(&self, site: &Site<'a>) -> Marks<'a> {
        let mut ends = [0; 2];
        for (n, rule) in self.rules.iter().enumerate() {
            for (bits, selector) in ends.iter_mut().zip(rule) {
                *bits |= u64::from(selector.matches(site)) << (n % 64);
            }
        }
        Marks {
            region: (self.shape == Shape::Groups).then_some(site.region),
            hub: self.shape == Shape::Hub && site.roles.iter().any(|role| role.as_str() == HUB),
            ends,
        }
    }

    /// Whether two different nodes with these marks are peers.
    pub fn joined(&self, a: &Marks<'_>, b: &Marks<'_>) -> bool {
        let by_default = match self.shape {
            Shape::Full => true,
            Shape::Hub => a.hub || b.hub,
            Shape::Groups => a.region == b.region,
        };
        let ([a1, a2], [b1, b2]) = (a.ends, b.ends);
        by_default || a1 & b2 != 0 || a2 & b1 != 0
    }

    /// Whether the two are peers. Nobody is its own.
    pub fn joins(&self, a: &Site<'_>, b: &Site<'_>) -> bool {
        a.name != b.name && self.joined(&self.marks(a), &self.marks(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Place {
        name: MemberName,
        region: String,
        roles: BTreeSet<Label>,
    }

    impl Place {
        fn new(name: &str, region: &str, roles: &[&str]) -> Self {
            let roles = roles.iter().map(|role| role.parse().expect("a label")).collect();
            Self { name: name.parse().expect("a name"), region: region.to_owned(), roles }
        }

        fn site(&self) -> Site<'_> {
            Site { name: &self.name, region: &self.region, roles: &self.roles }
        }
    }

    fn topology(shape: Shape, rules: &[[&str; 2]]) -> Topology {
        let rules = rules.iter().map(|rule| rule.map(|text| text.parse().expect("a selector"))).collect();
        Topology { shape, rules }
    }

    fn pairs(topology: &Topology, places: &[Place]) -> Vec<String> {
        let mut found = Vec::new();
        for (i, a) in places.iter().enumerate() {
            for b in places.iter().skip(i + 1).filter(|b| topology.joins(&a.site(), &b.site())) {
                found.push(format!("{}-{}", a.name, b.name));
            }
        }
        found
    }

    #[test]
    fn each_default_joins_what_it_says() {
        let places = [
            Place::new("a", "eu", &["hub"]),
            Place::new("b", "eu", &[]),
            Place::new("c", "us", &["transit"]),
            Place::new("d", "us", &[]),
        ];
        assert_eq!(pairs(&topology(Shape::Full, &[]), &places), ["a-b", "a-c", "a-d", "b-c", "b-d", "c-d"]);
        assert_eq!(pairs(&topology(Shape::Hub, &[]), &places), ["a-b", "a-c", "a-d"]);
        assert_eq!(pairs(&topology(Shape::Groups, &[]), &places), ["a-b", "c-d"]);
        let groups = |rule| pairs(&topology(Shape::Groups, &[rule]), &places);
        assert_eq!(groups(["region:*", "role:transit"]), ["a-b", "a-c", "b-c", "c-d"]);
        assert_eq!(groups(["role:transit", "region:*"]), ["a-b", "a-c", "b-c", "c-d"]);
        assert_eq!(groups(["member:d", "region:eu"]), ["a-b", "a-d", "b-d", "c-d"]);
        // A rule says what is joined beyond its own end only where both ends mean the nodes.
        assert_eq!(groups(["role:transit", "role:transit"]), ["a-b", "c-d"]);
        assert_eq!(pairs(&topology(Shape::Hub, &[["member:b", "member:c"]]), &places), ["a-b", "a-c", "a-d", "b-c"]);
    }

    #[test]
    fn selectors_read_what_they_write() {
        for text in ["region:*", "region:eu", "role:transit", "member:fra1"] {
            assert_eq!(text.parse::<Selector>().map(|s| s.to_string()), Ok(text.to_owned()));
        }
        for (text, part) in [
            ("eu", "expected region:NAME, region:*, role:NAME or member:NAME"),
            ("zone:eu", "expected region:NAME"),
            ("role:*", "'role:*'"),
            ("region:EU", "upper-case"),
            ("member:nginx@fra1", "a service is no node of the mesh; its machine is 'fra1'"),
            ("role:", "empty"),
        ] {
            let message = text.parse::<Selector>().expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    fn place() -> impl Strategy<Value = Place> {
        let roles = proptest::sample::subsequence(vec!["hub", "transit", "db"], 0..=3);
        let region = proptest::sample::select(vec!["eu", "us", "ap"]);
        ("[a-e]", region, roles).prop_map(|(name, region, roles)| Place::new(&name, region, &roles))
    }

    proptest! {
        /// Both ends say the same of a pair, nobody is its own peer, rules only add, and what a node's marks leave out
        /// changes nothing.
        #[test]
        fn a_pair_is_joined_from_both_sides(
            shape in proptest::sample::select(vec![Shape::Full, Shape::Hub, Shape::Groups]),
            rules in proptest::collection::vec(proptest::sample::select(vec![
                ["region:*", "role:transit"], ["region:eu", "role:db"], ["member:a", "region:us"], ["role:hub", "member:c"],
            ]), 0..4),
            a in place(), b in place(),
        ) {
            let (with, without) = (topology(shape, &rules), topology(shape, &[]));
            prop_assert_eq!(with.joins(&a.site(), &b.site()), with.joins(&b.site(), &a.site()));
            prop_assert!(!with.joins(&a.site(), &a.site()));
            prop_assert!(!without.joins(&a.site(), &b.site()) || with.joins(&a.site(), &b.site()));
            let by_rule = rules.iter().any(|rule| {
                let [one, other] = rule.map(|text| text.parse::<Selector>().expect("a selector"));
                one.matches(&a.site()) && other.matches(&b.site()) || one.matches(&b.site()) && other.matches(&a.site())
            });
            let due = a.name != b.name && (by_rule || without.joins(&a.site(), &b.site()));
            prop_assert_eq!(with.joins(&a.site(), &b.site()), due);
        }
    }
}
