//! Control requests, gossip, listening and re-dialling, over real sockets on loopback.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, QUIC, TCP, config, next, wait};
use essaim_network::{Network, NetworkError, NetworkEvent, PublishError, RequestError, serve_all};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_over_quic_and_over_tcp() {
    for (listen, seed) in [(QUIC, 1), (TCP, 3)] {
        let server = Node::start(config(seed, listen)).await;
        let asker = Node::start(config(seed + 1, listen)).await;
        asker.connect(&server).await;
        let peer = server.peer();
        let (_server, _dir) = server.echo();
        assert_eq!(asker.net.request(peer, b"abc".to_vec()).await, Ok(b"cba".to_vec()), "{listen}");
        assert_eq!(asker.net.request(peer, vec![]).await, Ok(vec![]), "{listen}: the empty request");
        let longest = common::bytes(4 << 20, 1);
        let back: Vec<u8> = longest.iter().rev().copied().collect();
        assert_eq!(asker.net.request(peer, longest).await, Ok(back), "{listen}: the longest request");
        let too_long = asker.net.request(peer, vec![0; (4 << 20) + 1]).await;
        assert_eq!(too_long, Err(RequestError::TooLong { len: (4 << 20) + 1, max: 4 << 20 }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_not_answered_says_why() {
    let patient = |seed, timeout_ms| {
        let mut settings = config(seed, QUIC);
        settings.request_timeout = Duration::from_millis(timeout_ms);
        settings
    };
    let mut server = Node::start(patient(1, 3000)).await;
    let asker = Node::start(patient(2, 500)).await;
    asker.connect(&server).await;
    let peer = server.peer();

    let asked = tokio::spawn({
        let net = asker.net.clone();
        async move { net.request(peer, b"drop".to_vec()).await }
    });
    let reply = next(&mut server.events, |event| match event {
        NetworkEvent::Request { peer, bytes, reply } => Some((peer, bytes, reply)),
        _ => None,
    })
    .await;
    assert_eq!((reply.0, &reply.1[..]), (asker.peer(), &b"drop"[..]));
    drop(reply);
    assert_eq!(asked.await.unwrap(), Err(RequestError::NoAnswer(peer)));

    // Kept, and not answered in time.
    assert_eq!(asker.net.request(peer, b"keep".to_vec()).await, Err(RequestError::Timeout(peer)));
    let reply = next(&mut server.events, |event| match event {
        NetworkEvent::Request { reply, .. } => Some(reply),
        _ => None,
    })
    .await;
    wait("the asker's giving up is seen", || !reply.is_open()).await;
    assert!(!reply.send(vec![1]), "nobody waits any more");

    // Answered with more than a frame may hold.
    let asked = tokio::spawn({
        let net = asker.net.clone();
        async move { net.request(peer, b"long".to_vec()).await }
    });
    let reply = next(&mut server.events, |event| match event {
        NetworkEvent::Request { reply, .. } => Some(reply),
        _ => None,
    })
    .await;
    assert!(!reply.send(vec![0; (4 << 20) + 1]));
    assert_eq!(asked.await.unwrap(), Err(RequestError::NoAnswer(peer)));

    let stranger = essaim_network::PeerId::random();
    assert_eq!(asker.net.request(stranger, vec![]).await, Err(RequestError::Unreachable(stranger)));
    asker.net.shutdown().await;
    assert_eq!(asker.net.request(peer, vec![]).await, Err(RequestError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_an_error_and_leaves_nothing_behind() {
    for (listen, seed) in [(QUIC, 1), (TCP, 3)] {
        let holder = Node::start(config(seed, listen)).await;
        let mut settings = config(seed + 1, listen);
        let taken = holder.net.listen_addrs()[0].clone();
        let without_peer: essaim_network::Multiaddr =
            taken.iter().filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_))).collect();
        settings.listen = vec![without_peer.clone()];
        let dir = tempfile::tempdir().unwrap();
        let store = || Arc::new(essaim_network::BlobStore::open(dir.path()).unwrap());
        match Network::start(settings.clone(), store(), serve_all()).await {
            Err(NetworkError::Listen { addr, source }) => {
                assert_eq!((addr, source.kind()), (without_peer, std::io::ErrorKind::AddrInUse), "{listen}");
            }
            other => panic!("{listen}: {:?}", other.map(|_| ())),
        }
        holder.net.shutdown().await;
        // The port and the store's lock are free again.
        let started = Network::start(settings, store(), serve_all()).await;
        assert!(started.is_ok(), "{listen}: {:?}", started.map(|_| ()));
    }
}

#[tokio::test]
async fn a_bootstrap_address_without_a_peer_is_refused() {
    let mut settings = config(1, QUIC);
    settings.bootstrap = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(essaim_network::BlobStore::open(dir.path()).unwrap());
    let started = Network::start(settings, store, serve_all()).await;
    assert!(matches!(started, Err(NetworkError::Bootstrap { .. })));
}

/// Publishes until somebody listens: subscriptions travel on their own after a connection.
async fn publish(net: &Network, bytes: &[u8]) {
    for _ in 0..500 {
        match net.publish(bytes.to_vec()).await {
            Ok(()) => return,
            Err(PublishError::NoPeers) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nobody ever listened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_passes_along_a_line_once_it_is_accepted() {
    let first = Node::start(config(1, QUIC)).await;
    let mut middle = Node::start(config(2, QUIC)).await;
    let mut last = Node::start(config(3, TCP)).await;
    first.connect(&middle).await;
    middle.connect(&last).await;

    publish(&first.net, b"bad").await;
    let gossip = |event| match event {
        NetworkEvent::Gossip { author, relayer, bytes, verdict } => Some((author, relayer, bytes, verdict)),
        _ => None,
    };
    let (author, relayer, bytes, verdict) = next(&mut middle.events, gossip).await;
    assert_eq!((author, relayer, &bytes[..]), (first.peer(), first.peer(), &b"bad"[..]));
    verdict.reject();
    wait("the relayer is penalised", || middle.net.metrics().penalties == 1).await;

    publish(&first.net, b"good").await;
    assert_eq!(first.net.publish(b"good".to_vec()).await, Err(PublishError::Duplicate));
    let (_, _, bytes, verdict) = next(&mut middle.events, gossip).await;
    assert_eq!(bytes, b"good");
    verdict.accept();
    // The last of the line hears "good" first: "bad" was never passed on.
    let (author, relayer, bytes, _) = next(&mut last.events, gossip).await;
    assert_eq!((author, relayer, &bytes[..]), (first.peer(), middle.peer(), &b"good"[..]));

    let too_long = first.net.publish(vec![0; (64 << 10) + 1]).await;
    assert_eq!(too_long, Err(PublishError::TooLong { len: (64 << 10) + 1, max: 64 << 10 }));
    publish(&first.net, &common::bytes(64 << 10, 5)).await;
    assert_eq!(next(&mut middle.events, gossip).await.2.len(), 64 << 10, "the longest message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_peer_that_restarts_is_found_again() {
    let hub = Node::start(config(1, QUIC)).await;
    let hub_addr = hub.addr();
    let hub_peer = hub.peer();
    let mut settings = config(2, TCP);
    settings.bootstrap = vec![hub_addr.clone()];
    let mut node = Node::start(settings).await;
    let connected = |event| matches!(event, NetworkEvent::PeerConnected { .. }).then_some(());
    let disconnected = |event| matches!(event, NetworkEvent::PeerDisconnected { .. }).then_some(());
    next(&mut node.events, connected).await;
    hub.net.shutdown().await;
    drop(hub);
    next(&mut node.events, disconnected).await;
    assert!(!node.net.is_connected(&hub_peer));

    let mut again = config(1, QUIC);
    again.listen = vec![hub_addr.iter().filter(|p| !matches!(p, libp2p::multiaddr::Protocol::P2p(_))).collect()];
    let hub = Node::start(again).await;
    next(&mut node.events, connected).await;
    let (_hub, _dir) = hub.echo();
    assert_eq!(node.net.request(hub_peer, b"12".to_vec()).await, Ok(b"21".to_vec()));
    assert!(node.net.metrics().bootstrap_dials >= 2);
}

#[test]
fn a_bootstrap_peer_that_vanishes_without_a_word_is_found_again() {
    // The hub's runtime is torn down around it, as a kill would: no farewell is sent, its sockets just go.
    let hub_runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = hub_runtime.block_on(Node::start(config(1, QUIC)));
    let hub_addr = hub.addr();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async move {
        let mut settings = config(2, QUIC);
        settings.bootstrap = vec![hub_addr.clone()];
        settings.silence_timeout = Duration::from_millis(1500);
        let node = Node::start(settings).await;
        let hub_peer = hub.peer();
        wait("connected", || node.net.is_connected(&hub_peer)).await;
        hub_runtime.shutdown_background();
        drop(hub);
        wait("silence noticed", || !node.net.is_connected(&hub_peer)).await;
        let mut again = config(1, QUIC);
        again.listen = vec![hub_addr.iter().filter(|p| !matches!(p, libp2p::multiaddr::Protocol::P2p(_))).collect()];
        let _hub = Node::start(again).await;
        wait("connected again", || node.net.is_connected(&hub_peer)).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_another_swarm_are_sent_away() {
    let here = Node::start(config(1, QUIC)).await;
    let mut settings = config(2, QUIC);
    settings.run_topic = "another".to_owned();
    let mut other = Node::start(settings).await;
    other.net.dial(here.addr()).await;
    next(&mut other.events, |event| matches!(event, NetworkEvent::PeerConnected { .. }).then_some(())).await;
    next(&mut other.events, |event| matches!(event, NetworkEvent::PeerDisconnected { .. }).then_some(())).await;
    assert!(other.net.connected_peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_listen_loses_requests_not_memory() {
    let mut settings = config(1, QUIC);
    settings.limits.events_max = 4;
    let mut server = Node::start(settings).await;
    let asker = Node::start(config(2, QUIC)).await;
    asker.connect(&server).await;
    let peer = server.peer();
    let asks = (0..20u8).map(|n| {
        let net = asker.net.clone();
        tokio::spawn(async move { net.request(peer, vec![n]).await })
    });
    let asks: Vec<_> = asks.collect();
    wait("the queue overflows", || server.net.metrics().requests_dropped >= 16).await;
    assert_eq!(server.net.metrics().requests_received, 20);
    server.events.close();
    while server.events.recv().await.is_some() {}
    for ask in asks {
        assert_eq!(ask.await.unwrap(), Err(RequestError::NoAnswer(peer)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_is_the_fallback_where_quic_does_not_come_through() {
    let hub = Node::start(config(1, TCP)).await;
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let quic = format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{}", dead.local_addr().unwrap().port(), hub.peer());
    let mut settings = config(2, QUIC);
    settings.bootstrap = vec![quic.parse().unwrap(), hub.addr()];
    let node = Node::start(settings).await;
    wait("connected", || node.net.is_connected(&hub.peer())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_whose_handles_are_gone_shuts_down() {
    let here = Node::start(config(1, QUIC)).await;
    let mut there = Node::start(config(2, QUIC)).await;
    there.connect(&here).await;
    let (peer, dir) = (here.peer(), here.dir.clone());
    drop(here);
    next(&mut there.events, |event| match event {
        NetworkEvent::PeerDisconnected { peer: gone } => (gone == peer).then_some(()),
        _ => None,
    })
    .await;
    // And it lets go of its store.
    essaim_network::BlobStore::open(dir.path().join("blobs")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_kept_after_the_start_are_dialled_too() {
    let hub = Node::start(config(1, QUIC)).await;
    let node = Node::start(config(2, QUIC)).await;
    node.net.keep_connected(hub.peer(), hub.addr()).await;
    wait("connected", || node.net.is_connected(&hub.peer())).await;
    node.net.disconnect(hub.peer()).await;
    wait("disconnected", || node.net.metrics().bootstrap_dials >= 2).await;
    wait("connected again", || node.net.is_connected(&hub.peer())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_of_the_local_network_hinders_nothing() {
    let multicast = |seed| {
        let mut settings = config(seed, QUIC);
        settings.mdns = true;
        settings
    };
    let here = Node::start(multicast(1)).await;
    let there = Node::start(multicast(2)).await;
    there.connect(&here).await;
    let peer = here.peer();
    let (_here, _dir) = here.echo();
    assert_eq!(there.net.request(peer, b"12".to_vec()).await, Ok(b"21".to_vec()));
}

#[test]
fn a_peer_that_was_killed_and_started_again_is_reached_at_once() {
    // As above, the node's runtime is torn down around it: the hub still believes in the old connection.
    let first_life = tokio::runtime::Runtime::new().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = runtime.block_on(async {
        let mut settings = config(1, QUIC);
        settings.silence_timeout = Duration::from_secs(60);
        settings.request_timeout = Duration::from_secs(2);
        Node::start(settings).await
    });
    let node = |hub_addr| async move {
        let mut settings = config(2, QUIC);
        settings.bootstrap = vec![hub_addr];
        Node::start(settings).await
    };
    let first = first_life.block_on(node(hub.addr()));
    let peer = first.peer();
    runtime.block_on(wait("connected", || hub.net.is_connected(&peer)));
    first_life.shutdown_background();
    drop(first);
    runtime.block_on(async {
        assert!(hub.net.is_connected(&peer), "the hub knows nothing yet");
        let second = node(hub.addr()).await;
        wait("connected again", || second.net.is_connected(&hub.peer())).await;
        let (_second, _dir) = second.echo();
        tokio::time::sleep(Duration::from_millis(200)).await;
        for _ in 0..6 {
            assert_eq!(hub.net.request(peer, b"12".to_vec()).await, Ok(b"21".to_vec()));
        }
        assert_eq!(hub.net.connected_peers(), [peer]);
    });
}
