//! Targets for WireGuard: preshared-key exchanges, and what `wg show` prints.

use keys::wireguard::device::Running;
use keys::wireguard::exchange::{Exchange, FIXED_BYTES, Head};

/// An exchange has one spelling, and its head is what it begins with.
pub fn exchange(data: &[u8]) {
    if let Ok(length) = Head::length(data) {
        assert!(length >= FIXED_BYTES);
    }
    if let Ok(head) = Head::parse(data) {
        assert_eq!(head.to_bytes(), data);
    }
    let Ok(exchange) = Exchange::parse(data) else { return };
    assert_eq!(exchange.to_bytes(), data);
    assert!(data.starts_with(&exchange.head().to_bytes()));
}

/// A dump is read or refused; a private key in it is not kept.
pub fn wg_dump(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(running) = Running::parse(text, 1_800_000_000) {
        assert!(running.peers.len() < text.lines().count());
    }
}

/// What to begin with.
pub mod seeds {
    use keys::wireguard::exchange::KemPrivate;
    use keys::wireguard::{WgPrivateKey, WgPublicKey};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::Exchange;

    fn public(i: u8) -> WgPublicKey {
        WgPrivateKey::generate(&mut StdRng::from_seed([i; 32])).public()
    }

    /// Of [`super::exchange`]: none, and two peers.
    pub fn exchange() -> Vec<Vec<u8>> {
        let kem = |i| KemPrivate::generate(&mut StdRng::from_seed([i; 32]));
        let peers = [2, 3].map(|i| (public(i), kem(i).public()));
        [&peers[..0], &peers[..]].map(|peers| Exchange::new(public(1), &kem(1), peers).to_bytes()).to_vec()
    }

    /// Of [`super::wg_dump`].
    pub fn wg_dump() -> Vec<Vec<u8>> {
        let head = format!("(none)\t{}\t51820\toff\n", public(1));
        let peer =
            format!("{}\t(none)\t198.51.100.2:51820\t10.88.16.2/32,fd12::2/128\t1799999990\t15\t27\t25\n", public(2));
        vec![head.clone().into_bytes(), (head + &peer).into_bytes()]
    }
}
