//! Peers that send what no honest node sends: refused, counted, and disconnected when they persist.
#![allow(clippy::unwrap_used)]

mod common;

use common::raw::{self, frame};
use common::{Node, QUIC, TCP, bytes, config, wait};
use essaim_network::blob::{BlobRequest, BlobResponse};
use essaim_network::{FetchError, FetchRequest, Misbehaviour, NetworkEvent, PublishError};
use essaim_protocol::ids::Hash;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::{Swarm, SwarmBuilder, gossipsub};
use std::sync::atomic::Ordering;
use std::time::Duration;

const CONTROL: &str = "/essaim/control/1";
const BLOB: &str = "/essaim/blob/1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_are_counted_and_their_sender_is_blocked() {
    let zero_hash = BlobRequest::Piece(Hash([0; 32]), 0).to_bytes();
    let cases: [(&str, &str, &str, Vec<u8>); 7] = [
        ("oversized control", QUIC, CONTROL, ((4u32 << 20) + 1).to_le_bytes().to_vec()),
        ("largest length", TCP, CONTROL, u32::MAX.to_le_bytes().to_vec()),
        ("oversized blob request", TCP, BLOB, frame(&[0; 38])),
        ("unknown tag", QUIC, BLOB, frame(&[9; 33])),
        ("piece without index", QUIC, BLOB, frame(&zero_hash[..33])),
        ("bytes after the frame", QUIC, CONTROL, [frame(b"good"), vec![1]].concat()),
        ("cut short", QUIC, CONTROL, frame(&[5; 100])[..50].to_vec()),
    ];
    for (n, (what, listen, protocol, bytes)) in cases.into_iter().enumerate() {
        let server = Node::start(config(1, listen)).await;
        let addr = server.addr();
        let (net, _dir) = server.echo();
        let (answered, closed) = raw::send(50 + n as u8, addr.clone(), protocol, vec![bytes; 10]).await;
        assert_eq!((answered, closed), (0, true), "{what}");
        let metrics = net.metrics();
        assert_eq!((metrics.frames_malformed, metrics.peers_blocked), (4, 1), "{what}: {metrics:?}");
        // It cannot come back at once, and others are served as before.
        let (answered, _) = raw::send(50 + n as u8, addr.clone(), CONTROL, [frame(b"hello")]).await;
        assert_eq!(answered, 0, "{what}");
        assert_eq!(raw::send(99, addr, CONTROL, [frame(b"hello")]).await, (1, false), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_harm_nobody_but_their_sender() {
    let server = Node::start(config(1, QUIC)).await;
    let addr = server.addr();
    let (net, _dir) = server.echo();
    for seed in 0..20u8 {
        let protocol = if seed % 2 == 0 { CONTROL } else { BLOB };
        let noise = (0..6u64).map(|n| bytes(usize::from(seed) * 37 + 1, u64::from(seed) * 100 + n));
        raw::send(100 + seed, addr.clone(), protocol, noise).await;
    }
    let metrics = net.metrics();
    assert!(metrics.frames_malformed >= 40 && metrics.peers_blocked >= 10, "{metrics:?}");
    assert_eq!(raw::send(99, addr, CONTROL, [frame(b"hello")]).await, (1, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_answers_are_the_providers_fault() {
    let answers: [(&str, Vec<u8>); 5] = [
        ("oversized", u32::MAX.to_le_bytes().to_vec()),
        ("empty frame", frame(&[])),
        ("unknown tag", frame(&[77, 1, 2])),
        ("another answer", frame(&BlobResponse::Piece(vec![1]).to_bytes())),
        ("bytes after the frame", [frame(&BlobResponse::Stat(10).to_bytes()), vec![0; 9]].concat()),
    ];
    for (n, (what, answer)) in answers.into_iter().enumerate() {
        let receiver = Node::start(config(1, QUIC)).await;
        let liar = raw::serve(70 + n as u8, receiver.addr(), move |_| Some(answer.clone())).await;
        wait("connected", || receiver.net.is_connected(&liar.peer)).await;
        let request = FetchRequest::new(Hash::of(b"x"), 1000).providers([liar.peer]);
        let fetched = receiver.net.fetch(request.patience(Duration::from_millis(300))).await;
        assert!(matches!(fetched, Err(FetchError::Unavailable { .. })), "{what}: {fetched:?}");
        assert_eq!(receiver.net.metrics().penalties, 1, "{what}");
        assert_eq!(liar.asked.load(Ordering::SeqCst), 1, "{what}: it is not asked again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_can_block_a_peer_and_the_block_ends() {
    let mut settings = config(1, QUIC);
    settings.penalties.block = Duration::from_millis(600);
    let mut server = Node::start(settings).await;
    let peer = Node::start(config(2, QUIC)).await;
    peer.connect(&server).await;
    server.net.penalize(peer.peer(), Misbehaviour::BadRequest).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(server.net.is_connected(&peer.peer()), "once is not enough");
    server.net.penalize(peer.peer(), Misbehaviour::Severe).await;
    let blocked = common::next(&mut server.events, |event| match event {
        NetworkEvent::PeerBlocked { peer } => Some(peer),
        _ => None,
    })
    .await;
    assert_eq!(blocked, peer.peer());
    wait("disconnected", || !peer.net.is_connected(&server.peer())).await;
    peer.net.dial(server.addr()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!server.net.is_connected(&peer.peer()), "refused");
    tokio::time::sleep(Duration::from_millis(600)).await;
    peer.connect(&server).await;
    assert!(server.net.is_connected(&peer.peer()), "and forgiven");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_with_room_for_those_reserved() {
    let mut settings = config(1, QUIC);
    settings.limits.connections_max = 2;
    let server = Node::start(settings).await;
    let mut others = Vec::new();
    for seed in 2..6 {
        let other = Node::start(config(seed, QUIC)).await;
        other.net.dial(server.addr()).await;
        others.push(other);
    }
    wait("two are let in", || server.net.connected_peers().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.net.connected_peers().len(), 2);
    let outside = others.iter().find(|other| !other.net.is_connected(&server.peer())).expect("two were refused");
    server.net.reserve(outside.peer()).await;
    outside.connect(&server).await;
    assert_eq!(server.net.connected_peers().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_requests_wait_for_room_and_all_are_answered() {
    let mut settings = config(1, QUIC);
    // Room for one of the longest at a time.
    settings.limits.long_requests_bytes_max = 0;
    let server = Node::start(settings).await;
    let asker = Node::start(config(2, QUIC)).await;
    asker.connect(&server).await;
    let peer = server.peer();
    let (_net, _dir) = server.echo();
    let asks = (0..6).map(|n| asker.net.request(peer, vec![n; 4 << 20]));
    for (n, response) in (0u8..).zip(futures::future::join_all(asks).await) {
        assert_eq!(response.map(|bytes| (bytes.len(), bytes[0])), Ok((4 << 20, n)));
    }
}

/// A gossip peer that does not sign what it says.
fn unsigned_gossip(seed: u8) -> Swarm<gossipsub::Behaviour> {
    let key = Keypair::ed25519_from_bytes(common::secret(seed)).unwrap();
    let settings =
        gossipsub::ConfigBuilder::default().validation_mode(gossipsub::ValidationMode::None).build().unwrap();
    SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_quic()
        .with_behaviour(|_| {
            let author = gossipsub::MessageAuthenticity::Author(key.public().to_peer_id());
            gossipsub::Behaviour::new(author, settings).unwrap()
        })
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_without_a_signature_is_never_heard() {
    let mut server = Node::start(config(1, QUIC)).await;
    let honest = Node::start(config(2, QUIC)).await;
    honest.connect(&server).await;
    let mut forger = unsigned_gossip(3);
    forger.dial(server.addr()).unwrap();
    let topic = gossipsub::IdentTopic::new("/essaim/gossip/1/test");
    let forged = async {
        let mut said = 0;
        while said < 3 {
            tokio::select! {
                _ = forger.select_next_some() => {}
                _ = tokio::time::sleep(Duration::from_millis(20)) => {
                    said += u32::from(forger.behaviour_mut().publish(topic.clone(), format!("forged {said}")).is_ok());
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forged).await.expect("the forger finds a listener");
    // Keeps the forger's messages on their way while an honest one is awaited.
    tokio::spawn(async move {
        loop {
            forger.select_next_some().await;
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    while honest.net.publish(b"signed".to_vec()).await == Err(PublishError::NoPeers) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = common::next(&mut server.events, |event| match event {
        NetworkEvent::Gossip { bytes, author, .. } => Some((bytes, author)),
        _ => None,
    })
    .await;
    assert_eq!(first, (b"signed".to_vec(), honest.peer()));
    assert_eq!(server.net.metrics().gossip_received, 1);
}
