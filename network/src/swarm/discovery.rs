//! The task's part in finding peers: what they say of themselves, the Kademlia table, multicast DNS.

use super::behaviour::KAD_PROTOCOL;
use super::task::Task;
use libp2p::kad::{self, GetClosestPeersError, GetClosestPeersOk, GetProvidersOk, QueryResult};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId, identify};
use std::collections::HashSet;
use tokio::sync::oneshot;

/// Addresses taken from one peer's own account of itself.
const ADDRS_PER_PEER_MAX: usize = 8;
/// Providers dialled for one query.
const PROVIDERS_MAX: usize = 16;
/// Peers of other swarms that are remembered, so that they are not dialled again.
const FOREIGN_MAX: usize = 1024;

/// A Kademlia query whose outcome somebody waits for.
pub(super) enum Query {
    Providers { found: HashSet<PeerId>, reply: oneshot::Sender<Vec<PeerId>> },
    Peer { peer: PeerId, reply: oneshot::Sender<bool> },
}

impl Task {
    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        if info.protocol_version != self.swarm_name {
            tracing::debug!(peer = %peer_id, theirs = info.protocol_version, "peer of another swarm");
            if self.foreign.len() >= FOREIGN_MAX {
                self.foreign.clear();
            }
            self.foreign.insert(peer_id);
            // An error means that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer_id);
            return;
        }
        if info.protocols.contains(&KAD_PROTOCOL)
            && let Some(kad) = self.swarm.behaviour_mut().kad.as_mut()
        {
            for addr in info.listen_addrs.into_iter().take(ADDRS_PER_PEER_MAX) {
                kad.add_address(&peer_id, addr);
            }
        }
    }

    /// Dials what was found on the local network.
    pub(super) fn on_mdns(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, addr) in found {
            if !self.swarm.is_connected(&peer) && !self.foreign.contains(&peer) {
                // An error means that it is being dialled already.
                let _ = self.swarm.dial(DialOpts::peer_id(peer).addresses(vec![addr]).build());
            }
        }
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { return };
        let Some(query) = self.queries.get_mut(&id) else { return };
        match (query, result) {
            (
                Query::Providers { found, .. },
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                let here = *self.swarm.local_peer_id();
                let room = PROVIDERS_MAX.saturating_sub(found.len());
                let fresh: Vec<PeerId> =
                    providers.into_iter().filter(|p| *p != here && !found.contains(p)).take(room).collect();
                found.extend(&fresh);
                // Their addresses are known for as long as the query runs, so now is the time to dial.
                for peer in fresh {
                    drop(self.swarm.dial(DialOpts::peer_id(peer).build()));
                }
            }
            (
                Query::Peer { peer, .. },
                QueryResult::GetClosestPeers(
                    Ok(GetClosestPeersOk { peers, .. }) | Err(GetClosestPeersError::Timeout { peers, .. }),
                ),
            ) => {
                let peer = *peer;
                let addrs = peers.into_iter().filter(|info| info.peer_id == peer).flat_map(|info| info.addrs);
                let addrs: Vec<Multiaddr> = addrs.take(ADDRS_PER_PEER_MAX).collect();
                let found = !addrs.is_empty();
                addrs.into_iter().for_each(|addr| self.swarm.add_peer_address(peer, addr));
                if let Some(Query::Peer { reply, .. }) = self.queries.remove(&id) {
                    // Whoever asked may no longer wait.
                    let _ = reply.send(found);
                }
                return;
            }
            _ => {}
        }
        if step.last
            && let Some(Query::Providers { found, reply }) = self.queries.remove(&id)
        {
            let _ = reply.send(found.into_iter().collect());
        }
    }
}
