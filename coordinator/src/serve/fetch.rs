//! Fetching the updates of a closed round: a task each, tried again until it is here or the round goes on without.

use essaim_network::{FetchError, FetchRequest, Network, peer_id_of};
use essaim_protocol::ids::{Hash, MemberId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

/// Fetches at once.
const FETCHES_MAX: usize = 32;
/// How long one try goes on without a new piece.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait between tries.
const PAUSE: Duration = Duration::from_millis(500);

/// An update that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetched {
    pub(super) round: u64,
    pub(super) member: MemberId,
    pub(super) update: Hash,
}

/// The fetches of the round that is closed.
#[derive(Debug)]
pub(super) struct Fetches {
    network: Network,
    done: UnboundedSender<Fetched>,
    room: Arc<Semaphore>,
    running: BTreeMap<MemberId, (Hash, AbortHandle)>,
}

impl Fetches {
    pub(super) fn new(network: Network, done: UnboundedSender<Fetched>) -> Fetches {
        Fetches { network, done, room: Arc::new(Semaphore::new(FETCHES_MAX)), running: BTreeMap::new() }
    }

    /// Starts to fetch an update.
    pub(super) fn start(&mut self, what: Fetched, len_bytes: u64) {
        let (network, done, room) = (self.network.clone(), self.done.clone(), self.room.clone());
        let task = tokio::spawn(async move {
            let Ok(_room) = room.acquire().await else { return };
            if fetch(&network, what, len_bytes).await {
                // The driver is gone when nobody listens.
                let _ = done.send(what);
            }
        });
        if let Some((_, old)) = self.running.insert(what.member, (what.update, task.abort_handle())) {
            old.abort();
        }
    }

    /// Ends every fetch that still runs. Gives the updates of the round.
    pub(super) fn stop(&mut self) -> Vec<(MemberId, Hash)> {
        let ended = std::mem::take(&mut self.running);
        ended
            .into_iter()
            .map(|(member, (update, task))| {
                task.abort();
                (member, update)
            })
            .collect()
    }
}

impl Drop for Fetches {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tries until the update is here. False when it never will be.
async fn fetch(network: &Network, what: Fetched, len_bytes: u64) -> bool {
    let Some(peer) = peer_id_of(&what.member) else { return false };
    loop {
        let request = FetchRequest::new(what.update, len_bytes).providers([peer]).patience(PATIENCE);
        match network.fetch(request).await {
            Ok(blob) if blob.len_bytes == len_bytes => return true,
            Ok(blob) => {
                warn!(member = %what.member.short(), got = blob.len_bytes, len_bytes, "update of another length than claimed");
                return false;
            }
            Err(FetchError::Stopped) => return false,
            Err(error) => debug!(member = %what.member.short(), %error, "update not fetched yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
