//! Transfers between real nodes on loopback: several providers, liars, stalls, losses, restarts.
#![allow(clippy::unwrap_used)]

mod common;

use common::raw::{self, frame};
use common::{Node, QUIC, TCP, bytes, config, wait};
use essaim_network::blob::{BlobRequest, BlobResponse, PIECE_LEN, hash_file, piece_range};
use essaim_network::{FetchError, FetchProgress, FetchRequest, KadMode, ServePolicy, serve_all};
use essaim_protocol::ids::Hash;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Twenty pieces, the last one short.
const LEN: usize = 5_000_000;
const PIECES: u32 = 20;

/// A policy that allows everything, slowly: so that there is a middle of the transfer to do something in.
fn slowly(delay: Duration) -> ServePolicy {
    Arc::new(move |_, _| {
        std::thread::sleep(delay);
        true
    })
}

async fn provider(seed: u8, listen: &str, policy: ServePolicy, content: &[u8]) -> Node {
    let node = Node::start_with(config(seed, listen), policy, Arc::new(tempfile::tempdir().unwrap())).await;
    node.net.store().insert_bytes(content).unwrap();
    node
}

/// Answers as an honest provider of `content` would.
fn honest(content: &[u8], request: &[u8]) -> BlobResponse {
    match BlobRequest::from_bytes(request).unwrap() {
        BlobRequest::Stat(_) => BlobResponse::Stat(content.len() as u64),
        BlobRequest::Outboard(_) => {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content).unwrap();
            BlobResponse::Outboard(hash_file(file.path()).unwrap().to_bytes())
        }
        BlobRequest::Piece(_, index) => {
            let range = piece_range(content.len() as u64, index);
            BlobResponse::Piece(content[range.start as usize..range.end as usize].to_vec())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_among_two_providers_is_found_out_and_the_blob_arrives() {
    for (listen, base) in [(QUIC, 1), (TCP, 11)] {
        let content = bytes(LEN, 1);
        let hash = Hash::of(&content);
        let good = provider(base, listen, slowly(Duration::from_millis(5)), &content).await;
        let receiver = Node::start(config(base + 1, listen)).await;
        receiver.connect(&good).await;
        let lied = content.clone();
        // Right about everything but the pieces, in each of which one bit is flipped.
        let liar = raw::serve(base + 2, receiver.addr(), move |request| {
            let mut response = honest(&lied, &request);
            if let BlobResponse::Piece(bytes) = &mut response {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
            }
            Some(frame(&response.to_bytes()))
        })
        .await;
        wait("the liar is connected", || receiver.net.is_connected(&liar.peer)).await;
        let request = FetchRequest::new(hash, LEN as u64).providers([liar.peer, good.peer()]);
        let fetched = receiver.net.fetch(request).await.unwrap();
        assert_eq!((fetched.len_bytes, fetched.pieces_fetched, fetched.pieces_resumed), (LEN as u64, PIECES, 0));
        assert_eq!(receiver.net.store().read(&hash, LEN as u64).unwrap(), content);
        let metrics = receiver.net.metrics();
        assert!(metrics.pieces_wrong >= 1 && metrics.penalties >= 1, "{listen}: {metrics:?}");
        assert_eq!(metrics.pieces_verified, u64::from(PIECES));
        assert!(receiver.net.is_connected(&good.peer()), "the honest one is not blamed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn false_claims_of_every_kind_come_to_nothing() {
    let content = bytes(4 * PIECE_LEN, 2);
    let hash = Hash::of(&content);
    let good = provider(1, QUIC, serve_all(), &content).await;
    for (n, seed) in [(0, 21u8), (1, 22), (2, 23), (3, 24), (4, 25)] {
        let receiver = Node::start(config(30 + n, QUIC)).await;
        receiver.connect(&good).await;
        let lied = content.clone();
        let liar = raw::serve(seed, receiver.addr(), move |request| {
            let response = match (n, BlobRequest::from_bytes(&request).unwrap(), honest(&lied, &request)) {
                // A shorter blob, a longer one, one of a single piece.
                (0, _, BlobResponse::Stat(len)) => BlobResponse::Stat(len - 1),
                (1, _, BlobResponse::Stat(_)) => BlobResponse::Stat(9 * PIECE_LEN as u64),
                (2, _, BlobResponse::Stat(_)) => BlobResponse::Stat(100),
                // A list with a flipped bit, and one cut short.
                (3, _, BlobResponse::Outboard(mut list)) => {
                    list[40] ^= 1;
                    BlobResponse::Outboard(list)
                }
                (4, _, BlobResponse::Outboard(list)) => BlobResponse::Outboard(list[..64].to_vec()),
                (_, _, response) => response,
            };
            Some(frame(&response.to_bytes()))
        })
        .await;
        wait("the liar is connected", || receiver.net.is_connected(&liar.peer)).await;
        // The liar alone first: its claim fails, and nothing is left of it. A claim that is off by less than a piece is set
        // right by the last piece, and then the transfer succeeds.
        let alone = FetchRequest::new(hash, 1 << 30).providers([liar.peer]).only_these();
        let alone = receiver.net.fetch(alone.patience(Duration::from_millis(300))).await;
        assert_eq!(alone.is_ok(), n == 0, "lie {n}: {alone:?}");
        let both = FetchRequest::new(hash, 1 << 30).providers([liar.peer, good.peer()]);
        let fetched = receiver.net.fetch(both).await.unwrap();
        assert_eq!(fetched.len_bytes, content.len() as u64, "lie {n}");
        assert_eq!(receiver.net.store().read(&hash, 1 << 30).unwrap(), content, "lie {n}");
        assert!(receiver.net.is_connected(&good.peer()), "lie {n}: the honest one is not blamed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_goes_away_midway_is_replaced() {
    let content = bytes(LEN, 3);
    let hash = Hash::of(&content);
    let first = provider(1, QUIC, slowly(Duration::from_millis(15)), &content).await;
    let second = provider(2, TCP, serve_all(), &content).await;
    let receiver = Node::start(config(3, QUIC)).await;
    receiver.connect(&first).await;
    receiver.connect(&second).await;
    let (sender, mut progress) = watch::channel(FetchProgress::default());
    let request = FetchRequest::new(hash, LEN as u64).providers([first.peer()]).progress(sender);
    let fetch = tokio::spawn({
        let net = receiver.net.clone();
        async move { net.fetch(request).await }
    });
    progress.wait_for(|now| now.pieces_done >= 5).await.unwrap();
    assert_eq!(second.net.metrics().pieces_served, 0, "nobody asked the second yet");
    first.net.shutdown().await;
    let fetched = fetch.await.unwrap().unwrap();
    assert_eq!(fetched.pieces_fetched, PIECES);
    assert_eq!(receiver.net.store().read(&hash, LEN as u64).unwrap(), content);
    let served = second.net.metrics().pieces_served;
    assert!((1..=u64::from(PIECES - 5)).contains(&served), "what was there was not fetched again: {served}");
    assert_eq!(receiver.net.metrics().penalties, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_stalls_is_replaced() {
    let content = bytes(LEN, 4);
    let hash = Hash::of(&content);
    let good = provider(1, QUIC, serve_all(), &content).await;
    let mut settings = config(2, QUIC);
    settings.blob_timeout = Duration::from_millis(600);
    let receiver = Node::start(settings).await;
    let told = content.clone();
    // Gives everything up to the last piece, and then nothing more, without hanging up.
    let mut pieces = 0;
    let staller = raw::serve(3, receiver.addr(), move |request| {
        let response = honest(&told, &request);
        pieces += u32::from(matches!(response, BlobResponse::Piece(_)));
        (pieces <= 3).then(|| frame(&response.to_bytes()))
    })
    .await;
    wait("the staller is connected", || receiver.net.is_connected(&staller.peer)).await;
    receiver.connect(&good).await;
    let request = FetchRequest::new(hash, LEN as u64).providers([staller.peer]);
    let fetched = receiver.net.fetch(request).await.unwrap();
    assert_eq!(fetched.pieces_fetched, PIECES);
    // Three pieces came from the staller, unless this machine was so busy that they came too late.
    assert!(good.net.metrics().pieces_served >= u64::from(PIECES) - 3);
    assert_eq!(receiver.net.store().read(&hash, LEN as u64).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_restarts_goes_on_where_it_was() {
    let content = bytes(LEN, 5);
    let hash = Hash::of(&content);
    let source = provider(1, QUIC, slowly(Duration::from_millis(10)), &content).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let receiver = Node::start_with(config(2, QUIC), serve_all(), dir.clone()).await;
    receiver.connect(&source).await;
    let (sender, mut progress) = watch::channel(FetchProgress::default());
    let request = FetchRequest::new(hash, LEN as u64).providers([source.peer()]).progress(sender);
    let fetch = tokio::spawn({
        let net = receiver.net.clone();
        async move { net.fetch(request).await }
    });
    progress.wait_for(|now| now.pieces_done >= 6).await.unwrap();
    fetch.abort();
    assert!(fetch.await.unwrap_err().is_cancelled());
    receiver.net.shutdown().await;
    drop(receiver);

    // One of the pieces on disk is damaged meanwhile: it is fetched again, the others are not.
    let partial = dir.path().join("blobs/partial").join(hash.to_string());
    let mut on_disk = std::fs::read(&partial).unwrap();
    let intact = on_disk.chunks(PIECE_LEN).zip(content.chunks(PIECE_LEN)).filter(|(a, b)| a == b).count() as u32;
    assert!((6..PIECES).contains(&intact));
    let last = on_disk.len() - 1;
    assert_eq!(last, LEN - 1, "the last piece comes first");
    let damaged = on_disk.chunks(PIECE_LEN).zip(content.chunks(PIECE_LEN)).position(|(a, b)| a == b).unwrap();
    on_disk[damaged * PIECE_LEN + 9] ^= 1;
    std::fs::write(&partial, &on_disk).unwrap();

    let receiver = Node::start_with(config(2, QUIC), serve_all(), dir).await;
    receiver.connect(&source).await;
    let request = FetchRequest::new(hash, LEN as u64).providers([source.peer()]);
    let fetched = receiver.net.fetch(request).await.unwrap();
    assert_eq!((fetched.pieces_resumed, fetched.pieces_fetched), (intact - 1, PIECES - intact + 1));
    assert_eq!(receiver.net.metrics().pieces_verified, u64::from(PIECES - intact + 1));
    assert_eq!(receiver.net.store().read(&hash, LEN as u64).unwrap(), content);
    assert!(!partial.exists());

    // And once it is here, it is not fetched at all.
    let again = receiver.net.fetch(FetchRequest::new(hash, LEN as u64)).await.unwrap();
    assert_eq!((again.pieces_fetched, again.pieces_resumed, again.path), (0, PIECES, fetched.path));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_before_the_policy_allows_it() {
    let content = bytes(1000, 6);
    let hash = Hash::of(&content);
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let source = provider(1, QUIC, Arc::new(move |_, _| gate.load(Ordering::SeqCst)), &content).await;
    let receiver = Node::start(config(2, QUIC)).await;
    receiver.connect(&source).await;
    let ask = || FetchRequest::new(hash, 1000).providers([source.peer()]);
    match receiver.net.fetch(ask().patience(Duration::from_millis(400))).await {
        Err(FetchError::Unavailable { last, .. }) => assert!(last.contains("NotYet"), "{last}"),
        other => panic!("{other:?}"),
    }
    let fetch = tokio::spawn({
        let (net, request) = (receiver.net.clone(), ask());
        async move { net.fetch(request).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(source.net.metrics().pieces_served, 0);
    open.store(true, Ordering::SeqCst);
    assert_eq!(fetch.await.unwrap().unwrap().len_bytes, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_are_bounded_and_every_size_travels() {
    let source = Node::start(config(1, QUIC)).await;
    let receiver = Node::start(config(2, QUIC)).await;
    receiver.connect(&source).await;
    for len in [0, 1, PIECE_LEN - 1, PIECE_LEN, PIECE_LEN + 1, 2 * PIECE_LEN, 3 * PIECE_LEN + 7] {
        let content = bytes(len, 7);
        let hash = source.net.store().insert_bytes(&content).unwrap();
        if len > 0 {
            let short = FetchRequest::new(hash, len as u64 - 1).providers([source.peer()]);
            match receiver.net.fetch(short).await {
                Err(FetchError::TooLong { len_bytes, max_len_bytes, .. }) => {
                    assert_eq!((len_bytes, max_len_bytes), (len as u64, len as u64 - 1));
                }
                other => panic!("{len}: {other:?}"),
            }
        }
        let exact = FetchRequest::new(hash, len as u64).providers([source.peer()]);
        assert_eq!(receiver.net.fetch(exact).await.unwrap().len_bytes, len as u64);
        assert_eq!(receiver.net.store().read(&hash, len as u64).unwrap(), content);
    }
    assert_eq!(source.net.metrics().penalties + receiver.net.metrics().penalties, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_files_are_served_and_damaged_ones_never() {
    let content = bytes(3 * PIECE_LEN, 8);
    let hash = Hash::of(&content);
    let source = Node::start(config(1, QUIC)).await;
    let file = source.dir.path().join("model.safetensors");
    std::fs::write(&file, &content).unwrap();
    source.net.store().register_external(hash, &file).unwrap();
    let first = Node::start(config(2, QUIC)).await;
    first.connect(&source).await;
    let ask = || FetchRequest::new(hash, content.len() as u64).providers([source.peer()]);
    assert_eq!(first.net.fetch(ask()).await.unwrap().pieces_fetched, 3);

    let mut damaged = content.clone();
    damaged[PIECE_LEN + 5] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let second = Node::start(config(3, QUIC)).await;
    second.connect(&source).await;
    // The damaged piece is not served; the blob comes from the other node, which the caller did not name.
    second.connect(&first).await;
    assert_eq!(second.net.fetch(ask()).await.unwrap().pieces_fetched, 3);
    assert_eq!(second.net.store().read(&hash, content.len() as u64).unwrap(), content);
    assert_eq!(second.net.metrics().pieces_wrong, 0);
    assert!(!source.net.store().contains(&hash), "the damaged file is forgotten");
    assert_eq!(std::fs::read(&file).unwrap(), damaged, "but it is its owner's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_of_one_blob_at_once_share_the_work() {
    let content = bytes(LEN, 9);
    let hash = Hash::of(&content);
    let source = provider(1, QUIC, serve_all(), &content).await;
    let receiver = Node::start(config(2, QUIC)).await;
    receiver.connect(&source).await;
    let fetches = (0..4).map(|_| receiver.net.fetch(FetchRequest::new(hash, LEN as u64).providers([source.peer()])));
    let fetched = futures::future::join_all(fetches).await;
    let pieces: u32 = fetched.into_iter().map(|fetched| fetched.unwrap().pieces_fetched).sum();
    assert_eq!((pieces, source.net.metrics().pieces_served), (PIECES, u64::from(PIECES)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_only_known_to_others_is_found() {
    let kad = |seed, bootstrap| {
        let mut settings = config(seed, QUIC);
        settings.kad = KadMode::Server;
        settings.bootstrap = bootstrap;
        settings
    };
    let hub = Node::start(kad(1, vec![])).await;
    let owner = Node::start(kad(2, vec![hub.addr()])).await;
    let receiver = Node::start(kad(3, vec![hub.addr()])).await;
    wait("both know the hub", || hub.net.connected_peers().len() == 2).await;
    let (first, second) = (bytes(2 * PIECE_LEN, 10), bytes(1000, 11));
    for content in [&first, &second] {
        owner.net.store().insert_bytes(content).unwrap();
    }
    // Named, but its address is known to the hub only.
    let named = FetchRequest::new(Hash::of(&first), 1 << 20).providers([owner.peer()]);
    assert_eq!(receiver.net.fetch(named).await.unwrap().len_bytes, first.len() as u64);

    // Not even named: it says in the table that it has the blob.
    let third = Node::start(kad(4, vec![hub.addr()])).await;
    wait("it knows the hub", || third.net.is_connected(&hub.peer())).await;
    owner.net.start_providing(Hash::of(&second)).await;
    let start = Instant::now();
    while third.net.providers(Hash::of(&second)).await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "the announcement arrives");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let fetched = third.net.fetch(FetchRequest::new(Hash::of(&second), 1000)).await.unwrap();
    assert_eq!(fetched.len_bytes, 1000);
    assert!(owner.net.metrics().pieces_served >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_and_an_absent_blob_are_errors_not_stalls() {
    let content = bytes(LEN, 12);
    let source = provider(1, QUIC, serve_all(), &content).await;
    let receiver = Node::start(config(2, QUIC)).await;
    receiver.connect(&source).await;
    receiver.net.store().set_quota_bytes(1_000_000);
    let request = FetchRequest::new(Hash::of(&content), LEN as u64).providers([source.peer()]);
    assert!(matches!(receiver.net.fetch(request).await, Err(FetchError::Local(_))));
    let absent = FetchRequest::new(Hash::of(b"absent"), 100).providers([source.peer()]);
    match receiver.net.fetch(absent.patience(Duration::from_millis(300))).await {
        Err(FetchError::Unavailable { last, asked: 1, .. }) => assert!(last.contains("NotFound"), "{last}"),
        other => panic!("{other:?}"),
    }
}

/// A measurement, not a check: `cargo test --release -p essaim-network --test transfer -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    const MEASURED_LEN: usize = 256_000_000;
    let content = bytes(MEASURED_LEN, 99);
    let hash = Hash::of(&content);
    for (listen, providers) in [(QUIC, 1), (TCP, 1), (QUIC, 2)] {
        let receiver = Node::start(config(50, listen)).await;
        let mut sources = Vec::new();
        for n in 0..providers {
            let source = provider(60 + n, listen, serve_all(), &content).await;
            source.net.store().outboard(&hash).unwrap();
            receiver.connect(&source).await;
            sources.push(source);
        }
        let request = FetchRequest::new(hash, MEASURED_LEN as u64).providers(sources.iter().map(Node::peer));
        let start = Instant::now();
        let fetched = receiver.net.fetch(request).await.unwrap();
        let rate = MEASURED_LEN as f64 / 1e6 / start.elapsed().as_secs_f64();
        println!("{listen}, {providers} provider(s): {rate:.0} MB/s, {} pieces", fetched.pieces_fetched);
    }
}
