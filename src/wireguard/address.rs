//! Inner addresses: an index given once, in a region's pool.
//!
//! An address is a function of the node's region and index, both written to the log when the node joins: never of its
//! name (hashes collide) nor of its place in a list (which moves). The log's append is the lock: of two nodes that ask
//! for one index, the second entry is refused.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::cidr::Cidr6;
use crate::policy::wireguard::{Pool, WireguardPolicy};
use crate::text;

/// Why a region and an index give no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// No pool serves the region.
    #[error("region '{region}' has no pool; there are pools for {known}")]
    Region {
        /// The region, made safe to show.
        region: String,
        /// The regions that have one.
        known: String,
    },
    /// The index is the network's, the broadcast address's, or beyond the pool.
    #[error("index {index} is not from 1 to {index_max}, those of region '{region}'")]
    Index {
        /// The index.
        index: u64,
        /// The last of the pool.
        index_max: u64,
        /// The region.
        region: String,
    },
}

/// A node's inner addresses, the same on both lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addresses {
    /// The pool's base plus the index.
    pub ipv4: Ipv4Addr,
    /// The ULA, the region's subnet, the index.
    pub ipv6: Ipv6Addr,
}

/// The index for the next node of `pool`: the lowest from 1 that no node has and that is not in quarantine; `None` if
/// the pool is used up.
pub fn lowest_free(pool: &Pool, used: &BTreeSet<u64>, quarantined: &BTreeSet<u64>) -> Option<u64> {
    (1..=pool.index_max()).find(|index| !used.contains(index) && !quarantined.contains(index))
}

/// The inner addresses of the node with `index` in `region`.
///
/// # Errors
/// [`AddressError`] if the region has no pool or the index is not in it.
pub fn addresses(policy: &WireguardPolicy, region: &str, index: u64) -> Result<Addresses, AddressError> {
    let pool = policy.pool(region).ok_or_else(|| AddressError::Region {
        region: text::shown(region).to_string(),
        known: policy.ipam().pools.iter().map(|pool| pool.region.as_str()).collect::<Vec<_>>().join(", "),
    })?;
    let index_max = pool.index_max();
    let inside = (1..=index_max).contains(&index);
    match (pool.ipv4.nth(index), pool.ipv6(&policy.mesh().ula).nth(index)) {
        (Some(ipv4), Some(ipv6)) if inside => Ok(Addresses { ipv4, ipv6 }),
        _ => Err(AddressError::Index { index, index_max, region: region.to_owned() }),
    }
}

/// A unique local range for a new mesh: fd00::/8 and 40 random bits (RFC 4193, section 3.2).
pub fn random_ula(rng: &mut impl rand::CryptoRng) -> Cidr6 {
    let mut global_id = [0; 5];
    rng.fill_bytes(&mut global_id);
    let [a, b, c, d, e] = global_id;
    let base = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    Cidr6::new(base, 48).expect("the last 80 bits are zero")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wireguard::TEMPLATE;
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use std::collections::BTreeMap;

    fn policy(length: u8) -> WireguardPolicy {
        WireguardPolicy::parse(&TEMPLATE.replace("10.88.16.0/20", &format!("10.88.16.0/{length}"))).expect("a policy")
    }

    #[test]
    fn addresses_are_base_plus_index() {
        let policy = policy(20);
        let first = addresses(&policy, "default", 1).expect("in the pool");
        assert_eq!(first.ipv4.to_string(), "10.88.16.1");
        assert_eq!(first.ipv6.to_string(), "fd12:3456:789a:10::1");
        let last = addresses(&policy, "default", 4_094).expect("in the pool");
        assert_eq!(last.ipv4.to_string(), "10.88.31.254");
        assert_eq!(last.ipv6.to_string(), "fd12:3456:789a:10::ffe");
        for index in [0, 4_095, 4_096, u64::MAX] {
            let error = addresses(&policy, "default", index).expect_err("not in the pool");
            assert_eq!(error.to_string(), format!("index {index} is not from 1 to 4094, those of region 'default'"));
        }
        let error = addresses(&policy, "eu\u{1b}", 1).expect_err("no such region");
        assert_eq!(error.to_string(), "region 'eu\\u{1b}' has no pool; there are pools for default");
    }

    #[test]
    fn the_smallest_pool_has_two_nodes() {
        let policy = policy(30);
        let pool = policy.pool("default").expect("a pool");
        let set = |indices: &[u64]| indices.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(lowest_free(pool, &set(&[]), &set(&[])), Some(1));
        assert_eq!(lowest_free(pool, &set(&[]), &set(&[1])), Some(2));
        assert_eq!(lowest_free(pool, &set(&[2]), &set(&[1])), None);
    }

    #[test]
    fn a_random_range_is_a_unique_local_one() {
        let range = random_ula(&mut rand::rngs::StdRng::from_seed([3; 32]));
        assert!(range.to_string().starts_with("fd"));
        assert!(WireguardPolicy::parse(&TEMPLATE.replace("fd12:3456:789a::/48", &range.to_string())).is_ok());
    }

    proptest! {
        /// Nodes come and go in any order: nobody's address changes, nobody has another's, and a retired index is not
        /// given out while it is in quarantine.
        #[test]
        fn nobody_moves_and_nobody_collides(steps in proptest::collection::vec((any::<bool>(), 0usize..30), 0..60)) {
            let policy = policy(27);
            let pool = policy.pool("default").expect("a pool");
            let (mut given, mut quarantined) = (BTreeMap::new(), BTreeSet::new());
            for (i, (joins, which)) in steps.into_iter().enumerate() {
                let before = given.clone();
                if joins {
                    let used = before.keys().copied().collect();
                    let Some(index) = lowest_free(pool, &used, &quarantined) else {
                        prop_assert_eq!(used.len() + quarantined.len(), 30);
                        continue;
                    };
                    prop_assert!(!used.contains(&index) && !quarantined.contains(&index));
                    given.insert(index, (i, addresses(&policy, "default", index).expect("a free index is in the pool")));
                } else if let Some(index) = before.keys().nth(which).copied() {
                    given.remove(&index);
                    quarantined.insert(index);
                }
                for (index, (node, at)) in &given {
                    prop_assert!(before.get(index).is_none_or(|old| old == &(*node, *at)));
                }
                let distinct: BTreeSet<_> = given.values().flat_map(|(_, at)| [at.ipv4.to_string(), at.ipv6.to_string()]).collect();
                prop_assert_eq!(distinct.len(), 2 * given.len());
            }
        }
    }
}
