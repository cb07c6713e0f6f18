//! Public keys: each stands in one place, now and in the whole history.

use std::collections::BTreeMap;

use super::Finding;
use crate::name::MemberName;
use crate::wireguard::{Lane, Mesh, PastKeys, WgPublicKey};

/// Keys are unique over nodes, lanes and past generations, and are there where traffic is.
pub(crate) fn keys(mesh: &Mesh, past_keys: &PastKeys) -> Vec<Finding> {
    let mut found = shared(mesh);
    found.extend(returned(mesh, past_keys));
    found.extend(missing(mesh));
    found
}

/// A key at two places is a copied disk image or a copied file: `wg` would keep the last peer and forget the other.
fn shared(mesh: &Mesh) -> Vec<Finding> {
    let mut places: BTreeMap<WgPublicKey, Vec<(&MemberName, Lane)>> = BTreeMap::new();
    let externals = mesh.externals();
    for node in mesh.nodes.iter().chain(externals.iter().map(|external| &external.node)) {
        for lane in Lane::ALL {
            if let Some(key) = node.key(lane) {
                places.entry(key).or_default().push((&node.name, lane));
            }
        }
    }
    let mut found = Vec::new();
    for (key, mut places) in places {
        if places.len() < 2 {
            continue;
        }
        places.sort();
        let list: Vec<_> = places.iter().map(|(name, lane)| format!("{name} on lane {lane}")).collect();
        let message = format!("one key, {key}, is that of {}", list.join(" and of "));
        let hint = "copied machines share their keys: make new ones on every copy, and take the shared key for known \
                    to whoever has any of them";
        let mut names: Vec<_> = places.into_iter().map(|(name, _)| name).collect();
        names.dedup();
        found.push(Finding::error("key-shared", names, message, hint));
    }
    found
}

/// A key of an earlier generation was to be destroyed; that it is back means a restored backup or a copied image.
fn returned(mesh: &Mesh, past_keys: &PastKeys) -> Vec<Finding> {
    let mut found = Vec::new();
    let externals = mesh.externals();
    for node in mesh.nodes.iter().chain(externals.iter().map(|external| &external.node)) {
        for lane in Lane::ALL {
            let Some(key) = node.key(lane) else { continue };
            let Some(owner) = past_keys.get(&key) else { continue };
            let whose = if *owner == node.name { "its own".to_owned() } else { format!("{owner}'s") };
            let message = format!("the key on lane {lane}, {key}, was {whose} in an earlier generation");
            let hint = "a restored backup or copied image brings old keys back: make a new key on the machine";
            found.push(Finding::error("key-past", [&node.name], message, hint));
        }
    }
    found
}

fn missing(mesh: &Mesh) -> Vec<Finding> {
    let (mut none, mut preferred, mut standby) = (Vec::new(), Vec::new(), Vec::new());
    for node in &mesh.nodes {
        match (node.key(node.preferred), node.key(node.preferred.other())) {
            (None, None) => none.push(&node.name),
            (None, Some(_)) => preferred.push(&node.name),
            (Some(_), None) => standby.push(&node.name),
            (Some(_), Some(_)) => {}
        }
    }
    let mut found = Vec::new();
    if !none.is_empty() {
        let hint = "they make their keys with `keys bootstrap`, on the machine";
        found.push(Finding::warning("key-none", none, "no key yet; left out of everybody's files", hint));
    }
    if !preferred.is_empty() {
        let hint = "prefer the lane that has a key until the other one has one";
        found.push(Finding::error("key-none-preferred", preferred, "no key on the lane they send on", hint));
    }
    if !standby.is_empty() {
        let hint = "run `keys rotate` on the machine, which makes the standby key";
        let message = "no key on the standby lane: they cannot rotate";
        found.push(Finding::warning("key-none-standby", standby, message, hint));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::samples;

    fn codes(mesh: &Mesh, past: &PastKeys) -> Vec<&'static str> {
        keys(mesh, past).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_key_stands_in_one_place() {
        let none = PastKeys::new();
        let mut mesh = samples::mesh(3);
        assert_eq!(codes(&mesh, &none), [""; 0]);
        mesh.nodes[2].keys[1] = mesh.nodes[0].keys[0];
        assert_eq!(codes(&mesh, &none), ["key-shared"]);
        let found = &keys(&mesh, &none)[0];
        assert_eq!(found.nodes, [samples::name(1), samples::name(3)]);
        assert!(found.message.ends_with("is that of pop1 on lane a and of pop3 on lane b"), "{}", found.message);
        mesh.nodes[2].keys = [mesh.nodes[2].keys[0]; 2];
        assert_eq!(codes(&mesh, &none), ["key-shared"]);
        assert_eq!(keys(&mesh, &none)[0].nodes, [samples::name(3)]);
    }

    #[test]
    fn a_past_key_does_not_come_back() {
        let mesh = samples::mesh(3);
        let past = |owner: usize| PastKeys::from_iter(mesh.nodes[1].keys[1].map(|key| (key, samples::name(owner))));
        assert_eq!(codes(&mesh, &past(3)), ["key-past"]);
        assert!(keys(&mesh, &past(3))[0].message.contains("was pop3's in an earlier generation"));
        assert!(keys(&mesh, &past(2))[0].message.contains("was its own in an earlier generation"));
    }

    #[test]
    fn missing_keys_are_told_apart() {
        let none = PastKeys::new();
        for (keys, expected) in [
            ([false, false], vec!["key-none"]),
            ([false, true], vec!["key-none-preferred"]),
            ([true, false], vec!["key-none-standby"]),
        ] {
            let mut mesh = samples::mesh(2);
            mesh.nodes[0].preferred = Lane::A;
            for (key, there) in mesh.nodes[0].keys.iter_mut().zip(keys) {
                *key = key.filter(|_| there);
            }
            assert_eq!(codes(&mesh, &none), expected);
        }
    }
}
