//! Real nodes on loopback, and a raw peer that can say anything.
#![allow(clippy::unwrap_used, dead_code)]

use essaim_network::{
    BlobStore, KadMode, Multiaddr, Network, NetworkConfig, NetworkEvent, PeerId, ServePolicy, serve_all,
};
use essaim_protocol::ids::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

pub(crate) mod raw;

pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// Bytes that look random and follow from `seed`.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0u8; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// The secret of node `seed` of this test. Tests run side by side, and a port that one gives up may be another's next: were
/// their keys the same, nodes that dial their old peers would find strangers that look like them.
pub(crate) fn secret(seed: u8) -> [u8; 32] {
    let test = std::thread::current().name().unwrap_or("unnamed").to_owned();
    Hash::of(format!("{} {test} {seed}", std::process::id()).as_bytes()).0
}

/// A configuration for tests: short waits, no discovery but what the test asks for.
pub(crate) fn config(seed: u8, listen: &str) -> NetworkConfig {
    let mut config = NetworkConfig::new(secret(seed), "test");
    config.listen = vec![listen.parse().unwrap()];
    config.kad = KadMode::Off;
    config.redial_wait = Duration::from_millis(50);
    config.blob_timeout = Duration::from_secs(5);
    config.silence_timeout = Duration::from_secs(3);
    config
}

pub(crate) struct Node {
    pub(crate) net: Network,
    pub(crate) events: Receiver<NetworkEvent>,
    pub(crate) dir: Arc<TempDir>,
}

impl Node {
    pub(crate) async fn start(config: NetworkConfig) -> Node {
        Node::start_with(config, serve_all(), Arc::new(tempfile::tempdir().unwrap())).await
    }

    pub(crate) async fn start_with(config: NetworkConfig, policy: ServePolicy, dir: Arc<TempDir>) -> Node {
        let store = Arc::new(BlobStore::open(dir.path().join("blobs")).unwrap());
        let (net, events) = Network::start(config, store, policy).await.unwrap();
        Node { net, events, dir }
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.net.local_peer()
    }

    pub(crate) fn addr(&self) -> Multiaddr {
        self.net.listen_addrs()[0].clone()
    }

    /// Dials `other` and waits until both know of each other.
    pub(crate) async fn connect(&self, other: &Node) {
        self.net.dial(other.addr()).await;
        wait("connected", || self.net.is_connected(&other.peer()) && other.net.is_connected(&self.peer())).await;
    }

    /// Answers every control request with its bytes reversed, and accepts all gossip, from now on.
    pub(crate) fn echo(mut self) -> (Network, Arc<TempDir>) {
        let (net, dir) = (self.net.clone(), self.dir.clone());
        tokio::spawn(async move {
            while let Some(event) = self.events.recv().await {
                match event {
                    NetworkEvent::Request { mut bytes, reply, .. } => {
                        bytes.reverse();
                        reply.send(bytes);
                    }
                    NetworkEvent::Gossip { verdict, .. } => verdict.accept(),
                    _ => {}
                }
            }
        });
        (net, dir)
    }
}

/// Waits for `holds`, ten seconds at most.
pub(crate) async fn wait(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The next event that `pick` wants, ten seconds at most.
pub(crate) async fn next<T>(events: &mut Receiver<NetworkEvent>, mut pick: impl FnMut(NetworkEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = pick(events.recv().await.expect("the network runs")) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.expect("the event comes")
}
