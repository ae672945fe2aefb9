//! Whom to ask: the peers of the join link, one of which is the coordinator.

use essaim_network::{Multiaddr, Network, PeerId, RequestError};
use essaim_protocol::encoding;
use essaim_protocol::limits;
use essaim_protocol::link::JoinLink;
use essaim_protocol::messages::{Reply, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is wrong with the addresses of a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkPeersError {
    /// There is none.
    #[error("the join link names no peer to ask: get a new one from the operator")]
    None,
    /// One is malformed.
    #[error("the join link's peer '{address}' is no multiaddress that ends in /p2p/PEER; the link may be cut off")]
    Malformed {
        /// The address.
        address: String,
    },
}

/// Addresses of the link's peers, and who they are.
#[derive(Debug, Clone)]
pub(crate) struct LinkPeers {
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) peers: Vec<PeerId>,
}

impl LinkPeers {
    pub(crate) fn of(link: &JoinLink) -> Result<LinkPeers, LinkPeersError> {
        let (mut addresses, mut peers) = (Vec::new(), Vec::new());
        for text in &link.peers {
            let malformed = || LinkPeersError::Malformed { address: text.clone() };
            let address: Multiaddr = text.parse().map_err(|_| malformed())?;
            let (_, peer) = text.rsplit_once("/p2p/").ok_or_else(malformed)?;
            let peer: PeerId = peer.parse().map_err(|_| malformed())?;
            addresses.push(address);
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        if peers.is_empty() { Err(LinkPeersError::None) } else { Ok(LinkPeers { addresses, peers }) }
    }
}

/// Why there is no reply.
#[derive(Debug, Clone)]
pub(crate) struct NoReply {
    /// For people.
    pub(crate) text: String,
    /// Whether a connection was there and was lost.
    pub(crate) is_lost: bool,
}

/// Asks control requests of one peer after the other, staying with one that answers.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    network: Network,
    peers: Arc<Vec<PeerId>>,
    current: Arc<AtomicUsize>,
}

impl Asker {
    pub(crate) fn new(network: Network, peers: Vec<PeerId>) -> Asker {
        Asker { network, peers: Arc::new(peers), current: Arc::new(AtomicUsize::new(0)) }
    }

    /// The reply to `request`, or why there is none.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply, NoReply> {
        let at = self.current.load(Ordering::Relaxed);
        let Some(&peer) = self.peers.get(at.checked_rem(self.peers.len()).unwrap_or(0)) else {
            return Err(NoReply { text: "no peer to ask".into(), is_lost: false });
        };
        let answer = self.network.request(peer, encoding::encode(request)).await;
        let reply = match answer {
            Ok(bytes) => encoding::decode(&bytes, limits::CONTROL_MAX)
                .map_err(|error| NoReply { text: format!("its answer is {error}"), is_lost: false }),
            Err(error) => {
                let is_lost = matches!(error, RequestError::ConnectionLost(_));
                Err(NoReply { text: error.to_string(), is_lost })
            }
        };
        if matches!(reply, Err(_) | Ok(Reply::NotFound)) {
            // Whoever else is named in the link may know more.
            let _ = self.current.compare_exchange(at, at.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_protocol::ids::RunId;

    #[test]
    fn the_peers_of_a_link_are_read_and_damage_is_named() {
        let peer = PeerId::random();
        let link = |peers: &[String]| JoinLink { run: RunId([1; 32]), peers: peers.to_vec(), http: None };
        let both = link(&[
            format!("/ip4/127.0.0.1/udp/4101/quic-v1/p2p/{peer}"),
            format!("/ip4/127.0.0.1/tcp/4101/p2p/{peer}"),
        ]);
        let found = LinkPeers::of(&both).unwrap();
        assert_eq!((found.addresses.len(), found.peers), (2, vec![peer]));
        assert!(matches!(LinkPeers::of(&link(&[])), Err(LinkPeersError::None)));
        let cut = link(&["/ip4/127.0.0.1/tcp/4101".to_owned()]);
        assert!(LinkPeers::of(&cut).unwrap_err().to_string().contains("tcp/4101"));
    }
}
