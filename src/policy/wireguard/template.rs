//! The format by example, which is also where a new fleet begins.

/// Where the policy lies in a fleet.
pub const FILE: &str = "wireguard.toml";

/// The unique local range of [`TEMPLATE`]. A new fleet replaces it by one of its own, made at random.
pub const TEMPLATE_ULA: &str = "fd12:3456:789a::/48";

/// A commented policy that reads as it stands.
pub const TEMPLATE: &str = r#"# The WireGuard mesh: what `keys wg render` writes and `keys rotate` follows.

[mesh]
id = "mesh"                     # a word for this mesh: a-z, 0-9, '-'
ula = "fd12:3456:789a::/48"     # inner IPv6: a unique local range made at random once (RFC 4193)
ipv4 = "10.88.0.0/16"           # inner IPv4: every pool below lies in here
mtu = 1420                      # 1280 to 9000, the same on every node; the path needs 80 bytes more
forbid = ["172.17.0.0/16"]      # ranges used otherwise (docker, a LAN): no pool may touch them

# Every node has two interfaces with a key and a UDP port each, and both are always up. Keys are replaced on the one
# that carries nothing, which is why a rotation loses no packet.
[lanes]
names = ["wg-a", "wg-b"]        # at most 15 of A-Z, a-z, 0-9, '_' and '-'
ports = [51820, 51821]          # both must be open in every firewall between the nodes

[rotation]
interval = "30d"                # each node's keys are replaced this often,
jitter = "3d"                   # sooner or later by up to this
min_gap = "24h"                 # between two rotations of one node
max_offline = "25d"             # a node away for so long misses one rotation at most; + jitter < interval
drain_quiet = "60s"             # a lane on which nothing has arrived for so long carries nothing

[psk]
mode = "none"                   # preshared keys against a later quantum computer: "kem-pair", each pair's own; or none

# Addresses are given out by index, written to the log, and never move: IPv4 is the pool's base + index, IPv6 is
# ula : subnet6 : index.
[ipam]
quarantine = "180d"             # how long a retired node's index is not given out again

[[ipam.pool]]
region = "default"
ipv4 = "10.88.16.0/20"
subnet6 = 16                    # 0 to 65535, another in each pool

[topology]
default = "full"                # every node with every other; "hub": with the nodes that have the role hub;
                                # "groups": with those of its region

# With "hub" and "groups", rules join more: what one selector means with what the other means. Selectors are
# region:NAME, region:* (every node), role:NAME and member:NAME. No node passes on what others send to each other.
#
# [[topology.rule]]
# between = ["region:*", "role:transit"]

# A laptop, a partner's router: one lane, no agent. `keys wg qr laptop` prints its configuration.
#
# [[external]]
# name = "laptop"
# public_key = "…"              # what `wg pubkey` prints
# region = "default"
# index = 4000                  # in that region's pool; no node gets it
# lane = "a"
# endpoint = "203.0.113.9:51820" # without it, it calls
# peers = ["role:hub"]          # the nodes it talks to
"#;
