//! The network: each message is lost, delayed or delivered twice as chance will have it. Different delays reorder them.

use super::rng::Rng;

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Messages lost, in thousandths.
    pub loss_permille: u32,
    /// Messages delivered twice, in thousandths.
    pub duplicate_permille: u32,
    /// Messages that take long, in thousandths.
    pub slow_permille: u32,
}

impl Link {
    /// A network that loses `loss_permille` of 1000 messages.
    pub fn new(loss_permille: u32) -> Link {
        Link { loss_permille, duplicate_permille: 50, slow_permille: 30 }
    }

    /// After how many milliseconds each copy of a message arrives: none, one or two.
    pub fn deliveries(&self, rng: &mut Rng) -> Vec<u64> {
        if rng.chance(self.loss_permille) {
            return Vec::new();
        }
        let copies = if rng.chance(self.duplicate_permille) { 2 } else { 1 };
        (0..copies)
            .map(|_| if rng.chance(self.slow_permille) { rng.range(500, 6_000) } else { rng.range(5, 200) })
            .collect()
    }
}
