//! Updates that are here and must not be served yet: nobody can copy what nobody has seen, so a member's update goes out
//! only once the list of claims of its round is signed.

use essaim_network::ServePolicy;
use essaim_protocol::ids::Hash;
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// The set of updates that are withheld.
#[derive(Debug, Default)]
pub struct Withheld(RwLock<HashSet<Hash>>);

impl Withheld {
    /// Withholds `update` from now on. Called before it is in the store.
    pub fn withhold(&self, update: Hash) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(update);
    }

    /// Serves everything from now on: the round is closed, or over.
    pub fn release(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether `hash` is withheld.
    pub fn holds(&self, hash: &Hash) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(hash)
    }

    /// The policy for the network.
    pub fn policy(self: &Arc<Withheld>) -> ServePolicy {
        let withheld = self.clone();
        Arc::new(move |_, hash| !withheld.holds(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_network::PeerId;

    #[test]
    fn an_update_goes_out_only_after_release() {
        let withheld = Arc::new(Withheld::default());
        let (policy, peer) = (withheld.policy(), PeerId::random());
        let (mine, other) = (Hash::of(b"mine"), Hash::of(b"other"));
        withheld.withhold(mine);
        assert!(!policy(&peer, &mine) && policy(&peer, &other));
        withheld.release();
        assert!(policy(&peer, &mine));
    }
}
