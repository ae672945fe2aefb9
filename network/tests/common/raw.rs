//! A libp2p peer that writes any bytes on the request protocols, as no honest node would.

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Codec, Config, Event, Message, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Bytes as they are: no frame is added or taken away.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawCodec;

async fn read_all<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

impl Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read_all(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read_all(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }
}

/// A frame as an honest node writes it.
pub(crate) fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

pub(crate) fn swarm(seed: u8, protocol: &'static str) -> Swarm<request_response::Behaviour<RawCodec>> {
    let key = Keypair::ed25519_from_bytes(super::secret(seed)).unwrap();
    let protocols = [(StreamProtocol::new(protocol), ProtocolSupport::Full)];
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| request_response::Behaviour::<RawCodec>::new(protocols, Config::default()))
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

/// What [`serve`] gives: a peer that answers what it is told to.
pub(crate) struct RawPeer {
    pub(crate) peer: PeerId,
    pub(crate) asked: Arc<AtomicU32>,
    pub(crate) refused: Arc<AtomicBool>,
}

/// Connects to `to` and answers its blob requests: `answer` gets the request without its frame and gives the bytes to write,
/// or `None` to keep the asker waiting.
pub(crate) async fn serve(
    seed: u8,
    to: Multiaddr,
    mut answer: impl FnMut(Vec<u8>) -> Option<Vec<u8>> + Send + 'static,
) -> RawPeer {
    let mut swarm = swarm(seed, "/essaim/blob/1");
    let peer = *swarm.local_peer_id();
    swarm.dial(to).unwrap();
    let (asked, refused) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, closed) = (asked.clone(), refused.clone());
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => drop(ready.take().map(|ready| ready.send(()))),
                SwarmEvent::ConnectionClosed { .. } => closed.store(true, Ordering::SeqCst),
                SwarmEvent::Behaviour(Event::Message {
                    message: Message::Request { request, channel, .. }, ..
                }) => {
                    count.fetch_add(1, Ordering::SeqCst);
                    match answer(request.get(4..).unwrap_or_default().to_vec()) {
                        Some(bytes) => drop(swarm.behaviour_mut().send_response(channel, bytes)),
                        None => kept.push(channel),
                    }
                }
                _ => {}
            }
        }
    });
    is_ready.await.unwrap();
    RawPeer { peer, asked, refused }
}

/// Connects to `to`, sends `requests` one after another on `protocol`, and returns how many were answered with anything,
/// and whether the connection was closed on us.
pub(crate) async fn send(
    seed: u8,
    to: Multiaddr,
    protocol: &'static str,
    requests: impl IntoIterator<Item = Vec<u8>>,
) -> (usize, bool) {
    let mut swarm = swarm(seed, protocol);
    let Some(libp2p::multiaddr::Protocol::P2p(peer)) = to.iter().last() else { panic!("no peer in {to}") };
    swarm.dial(to).unwrap();
    let mut answered = 0;
    let mut connected = false;
    for request in requests {
        let mut outstanding = None;
        if connected {
            outstanding = Some(swarm.behaviour_mut().send_request(&peer, request.clone()));
        }
        loop {
            let event =
                tokio::time::timeout(Duration::from_secs(10), swarm.select_next_some()).await.expect("an answer");
            match event {
                SwarmEvent::ConnectionEstablished { .. } if outstanding.is_none() => {
                    connected = true;
                    outstanding = Some(swarm.behaviour_mut().send_request(&peer, request.clone()));
                }
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                    return (answered, true);
                }
                SwarmEvent::Behaviour(Event::Message {
                    message: Message::Response { request_id, response }, ..
                }) if Some(request_id) == outstanding => {
                    answered += usize::from(!response.is_empty());
                    break;
                }
                SwarmEvent::Behaviour(Event::OutboundFailure { request_id, .. }) if Some(request_id) == outstanding => {
                    break;
                }
                _ => {}
            }
        }
    }
    (answered, false)
}
