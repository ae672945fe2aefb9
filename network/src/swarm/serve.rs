//! Answering the blob requests of peers: who may have what, in which order, and how many at once.

use crate::blob::{BlobError, BlobRequest, BlobResponse, BlobStore};
use crate::metrics::{Counters, add};
use essaim_protocol::ids::Hash;
use libp2p::PeerId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Whether a peer may have a blob now; if not, it is told to ask again later. Called from a blocking thread, often: it should
/// answer from memory.
pub type ServePolicy = Arc<dyn Fn(&PeerId, &Hash) -> bool + Send + Sync>;

/// The policy that gives everything to everybody.
pub fn serve_all() -> ServePolicy {
    Arc::new(|_, _| true)
}

/// What to answer to `request`; reads from the disk.
pub(crate) fn answer(
    store: &BlobStore,
    policy: &ServePolicy,
    counters: &Counters,
    peer: &PeerId,
    request: BlobRequest,
) -> BlobResponse {
    let hash = request.hash();
    let response = if !store.contains(&hash) {
        BlobResponse::NotFound
    } else if !policy(peer, &hash) {
        BlobResponse::NotYet
    } else {
        let found = match request {
            BlobRequest::Stat(_) => store.len(&hash).map(BlobResponse::Stat).ok_or(BlobError::NotFound(hash)),
            BlobRequest::Outboard(_) => {
                store.outboard(&hash).map(|outboard| BlobResponse::Outboard(outboard.to_bytes()))
            }
            BlobRequest::Piece(_, index) => store.read_piece(&hash, index).map(BlobResponse::Piece),
        };
        found.unwrap_or_else(|error| {
            tracing::debug!(%peer, %error, "cannot serve");
            BlobResponse::NotFound
        })
    };
    match &response {
        BlobResponse::Piece(_) => add(&counters.pieces_served, 1),
        BlobResponse::Stat(_) | BlobResponse::Outboard(_) => {}
        BlobResponse::NotFound | BlobResponse::NotYet | BlobResponse::Busy => add(&counters.blob_requests_refused, 1),
    }
    response
}

/// Requests waiting to be answered, first come first served, but no peer can hold up the others: it has a bounded number being
/// answered, and the rest of its requests are passed over. Sans-IO.
#[derive(Debug)]
pub(crate) struct ServeQueue<T> {
    active_max: usize,
    active_per_peer_max: usize,
    waiting_max: usize,
    waiting: VecDeque<(PeerId, T)>,
    active: HashMap<PeerId, usize>,
    active_total: usize,
}

impl<T> ServeQueue<T> {
    pub(crate) fn new(active_max: usize, active_per_peer_max: usize, waiting_max: usize) -> ServeQueue<T> {
        ServeQueue {
            active_max,
            active_per_peer_max,
            waiting_max,
            waiting: VecDeque::new(),
            active: HashMap::new(),
            active_total: 0,
        }
    }

    /// Adds a request, or gives it back if there is no room.
    pub(crate) fn push(&mut self, peer: PeerId, item: T) -> Result<(), T> {
        if self.waiting.len() >= self.waiting_max {
            return Err(item);
        }
        self.waiting.push_back((peer, item));
        Ok(())
    }

    /// The next request to answer now; it counts as active until [`ServeQueue::done`].
    pub(crate) fn pop(&mut self) -> Option<(PeerId, T)> {
        if self.active_total >= self.active_max {
            return None;
        }
        let free = |peer: &PeerId| self.active.get(peer).is_none_or(|&count| count < self.active_per_peer_max);
        let at = self.waiting.iter().position(|(peer, _)| free(peer))?;
        let (peer, item) = self.waiting.remove(at)?;
        *self.active.entry(peer).or_default() += 1;
        self.active_total += 1;
        Some((peer, item))
    }

    /// A request of `peer` has been answered, or will not be.
    pub(crate) fn done(&mut self, peer: &PeerId) {
        if let Some(count) = self.active.get_mut(peer) {
            *count -= 1;
            self.active_total -= 1;
            if *count == 0 {
                self.active.remove(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_peer_does_not_hold_up_the_others() {
        let (greedy, modest) = (PeerId::random(), PeerId::random());
        let mut queue = ServeQueue::new(4, 2, 10);
        (0..5).for_each(|item| queue.push(greedy, item).unwrap());
        queue.push(modest, 100).unwrap();
        let popped: Vec<i32> = std::iter::from_fn(|| queue.pop()).map(|(_, item)| item).collect();
        assert_eq!(popped, [0, 1, 100]);
        queue.done(&greedy);
        assert_eq!(queue.pop(), Some((greedy, 2)));
    }

    #[test]
    fn everything_is_bounded() {
        let mut queue = ServeQueue::new(3, 2, 4);
        let peers: Vec<PeerId> = (0..4).map(|_| PeerId::random()).collect();
        peers.iter().for_each(|peer| queue.push(*peer, ()).unwrap());
        assert_eq!(queue.push(peers[0], ()), Err(()));
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 3);
        peers.iter().for_each(|peer| queue.done(peer));
        assert_eq!(queue.active_total, 0, "a done for a peer without active requests changes nothing");
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 1);
    }
}
