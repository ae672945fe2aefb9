//! When to dial the peers that a node stays connected to. Sans-IO: time is an argument.

use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The longest wait is this many times the first.
const WAIT_FACTOR_MAX: u32 = 20;

#[derive(Debug)]
struct Target {
    addrs: Vec<Multiaddr>,
    connected: bool,
    wait: Duration,
    next_at: Option<Instant>,
}

/// The peers to stay connected to, and when each is to be dialled next.
#[derive(Debug)]
pub struct Redial {
    first_wait: Duration,
    targets: BTreeMap<PeerId, Target>,
}

impl Redial {
    /// Nobody yet; the first wait after a lost connection is `first_wait`, and doubles with each attempt.
    pub fn new(first_wait: Duration) -> Redial {
        Redial { first_wait, targets: BTreeMap::new() }
    }

    /// Adds an address of a peer to stay connected to.
    pub fn add(&mut self, peer: PeerId, addr: Multiaddr) {
        let wait = self.first_wait;
        let target =
            self.targets.entry(peer).or_insert(Target { addrs: Vec::new(), connected: false, wait, next_at: None });
        if !target.addrs.contains(&addr) {
            target.addrs.push(addr);
        }
    }

    /// A connection with `peer` is there.
    pub fn on_connected(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.connected = true;
            target.wait = self.first_wait;
        }
    }

    /// The last connection with `peer` is gone.
    pub fn on_disconnected(&mut self, now: Instant, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.connected = false;
            target.next_at = Some(now + target.wait);
        }
    }

    /// The peers to dial at `now`, each with its addresses.
    pub fn take_due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let longest = self.first_wait * WAIT_FACTOR_MAX;
        let mut due = Vec::new();
        for (peer, target) in &mut self.targets {
            if !target.connected && target.next_at.is_none_or(|at| at <= now) {
                target.next_at = Some(now + target.wait);
                target.wait = (target.wait * 2).min(longest);
                due.push((*peer, target.addrs.clone()));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_bound_and_start_over_after_a_connection() {
        let (first, start, peer) = (Duration::from_millis(100), Instant::now(), PeerId::random());
        let mut redial = Redial::new(first);
        redial.add(peer, "/ip4/127.0.0.1/tcp/1".parse().unwrap());
        redial.add(peer, "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap());
        let mut attempts_ms = Vec::new();
        for ms in 0..10_000 {
            let due = redial.take_due(start + Duration::from_millis(ms));
            if let [(found, addrs)] = &due[..] {
                assert_eq!((*found, addrs.len()), (peer, 2));
                attempts_ms.push(ms);
            }
        }
        assert_eq!(attempts_ms, [0, 100, 300, 700, 1500, 3100, 5100, 7100, 9100]);

        redial.on_connected(&peer);
        assert!(redial.take_due(start + Duration::from_secs(60)).is_empty());
        let lost = start + Duration::from_secs(61);
        redial.on_disconnected(lost, &peer);
        assert!(redial.take_due(lost + Duration::from_millis(99)).is_empty());
        assert_eq!(redial.take_due(lost + Duration::from_millis(100)).len(), 1);
    }
}
