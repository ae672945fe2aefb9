//! The task that owns the swarm: one loop over libp2p's events, the handle's commands and the caller's answers.

use super::behaviour::{self, Behaviour, BehaviourEvent};
use super::codec::Request;
use super::config::{NetworkConfig, NetworkError};
use super::discovery::Query;
use super::events::{Answer, GossipVerdict, NetworkEvent};
use super::handle::{Command, ControlReply, PublishError, Shared};
use super::listen;
use super::penalty::{Misbehaviour, PenaltyBook};
use super::redial::Redial;
use super::serve::{ServePolicy, ServeQueue};
use crate::blob::{BlobRequest, BlobStore};
use crate::identity::keypair_of;
use crate::metrics::{Counters, add};
use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance};
use libp2p::kad::{self, QueryId};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, InboundRequestId, OutboundRequestId, ResponseChannel};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, mdns, ping};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How often waits are looked at: re-dialling, the end of blocks.
const TICK: Duration = Duration::from_millis(100);
/// How long a listener may take to say where it listens.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing may wait for the ports to be free again: a QUIC handshake that is cut off takes three seconds to drain.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type RequestEvent = request_response::Event<Request, Vec<u8>>;
pub(super) type Waiting = HashMap<OutboundRequestId, ControlReply>;
type BlobItem = (InboundRequestId, BlobRequest, ResponseChannel<Vec<u8>>);

/// What the loop does next.
enum Flow {
    GoOn,
    Stop(Option<oneshot::Sender<()>>),
}

pub(crate) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) topic: IdentTopic,
    pub(super) swarm_name: String,
    pub(super) store: Arc<BlobStore>,
    pub(super) policy: ServePolicy,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::Sender<NetworkEvent>,
    /// Events of connections, which are not to be lost while the caller is busy; bounded, see [`Task::tell`].
    pub(super) backlog: VecDeque<NetworkEvent>,
    pub(super) events_max: usize,
    pub(super) control_len_max: usize,
    pub(super) answers: mpsc::UnboundedSender<Answer>,
    pub(super) answer_queue: mpsc::UnboundedReceiver<Answer>,
    pub(super) control_waiting: Waiting,
    pub(super) blob_waiting: Waiting,
    pub(super) serving: ServeQueue<BlobItem>,
    pub(super) serving_ids: HashSet<InboundRequestId>,
    /// The latest connection that each peer dialled.
    pub(super) inbound: HashMap<PeerId, ConnectionId>,
    pub(super) queries: HashMap<QueryId, Query>,
    pub(super) book: PenaltyBook,
    pub(super) redial: Redial,
    pub(super) foreign: HashSet<PeerId>,
}

impl Task {
    pub(crate) fn new(
        config: &NetworkConfig,
        store: Arc<BlobStore>,
        policy: ServePolicy,
        shared: Arc<Shared>,
        events: mpsc::Sender<NetworkEvent>,
    ) -> Result<Task, NetworkError> {
        let key = keypair_of(config.keypair_seed).ok_or(NetworkError::Key)?;
        let mut swarm = behaviour::build(config, &key, &shared.counters)?;
        let mut redial = Redial::new(config.redial_wait);
        for addr in &config.bootstrap {
            match addr.iter().last() {
                Some(Protocol::P2p(peer)) if peer == key.public().to_peer_id() => {}
                Some(Protocol::P2p(peer)) => {
                    // However many connections there are, there is room for these.
                    swarm.behaviour_mut().limits.bypass_peer_id(&peer);
                    redial.add(peer, addr.clone());
                }
                _ => return Err(NetworkError::Bootstrap { addr: addr.clone() }),
            }
        }
        let (answers, answer_queue) = mpsc::unbounded_channel();
        let limits = &config.limits;
        Ok(Task {
            swarm,
            topic: behaviour::topic(config),
            swarm_name: behaviour::swarm_name(config),
            store,
            policy,
            shared,
            events,
            backlog: VecDeque::new(),
            events_max: limits.events_max.max(1),
            control_len_max: limits.control_len_max,
            answers,
            answer_queue,
            control_waiting: HashMap::new(),
            blob_waiting: HashMap::new(),
            serving: ServeQueue::new(limits.blob_answers_max, limits.blob_answers_per_peer_max, limits.blob_queue_max),
            serving_ids: HashSet::new(),
            inbound: HashMap::new(),
            queries: HashMap::new(),
            book: PenaltyBook::new(config.penalties.clone()),
            redial,
            foreign: HashSet::new(),
        })
    }

    pub(crate) fn local_peer(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    /// Binds every address, and returns when each listener has said where it listens.
    pub(crate) async fn listen(&mut self, addrs: &[Multiaddr]) -> Result<(), NetworkError> {
        let mut waiting: HashMap<ListenerId, &Multiaddr> = HashMap::new();
        for addr in addrs {
            waiting.insert(listen::listen(&mut self.swarm, addr)?, addr);
        }
        let deadline = tokio::time::Instant::now() + LISTEN_TIMEOUT;
        while let Some(addr) = waiting.values().next().copied() {
            let failed = |source| NetworkError::Listen { addr: addr.clone(), source };
            let next = tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await;
            let event = next.map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => drop(waiting.remove(listener_id)),
                SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                    return Err(failed(std::io::Error::new(error.kind(), error.to_string())));
                }
                _ => {}
            }
            self.on_swarm(event);
        }
        Ok(())
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopped = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm(event),
                command = commands.recv() => match self.on_command(command) {
                    Flow::GoOn => {}
                    Flow::Stop(reply) => break reply,
                },
                Some(answer) = self.answer_queue.recv() => self.on_answer(answer),
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
            self.flush_backlog();
            self.serve_waiting();
        };
        commands.close();
        let addrs: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        drop(self);
        listen::wait_free(&addrs, CLOSE_TIMEOUT).await;
        if let Some(reply) = stopped {
            // Whoever asked may no longer wait.
            let _ = reply.send(());
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Tells the caller of a connection. Such events wait for room, up to as many as the channel holds; then the oldest goes:
    /// [`crate::Network::connected_peers`] has the truth.
    fn tell(&mut self, event: NetworkEvent) {
        if self.backlog.len() >= self.events_max {
            self.backlog.pop_front();
            add(&self.counters().events_dropped, 1);
        }
        self.backlog.push_back(event);
        self.flush_backlog();
    }

    fn flush_backlog(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => return self.backlog.push_front(event),
                Err(mpsc::error::TrySendError::Closed(_)) => return self.backlog.clear(),
            }
        }
    }

    fn on_tick(&mut self, now: Instant) {
        for (peer, addrs) in self.redial.take_due(now) {
            add(&self.counters().bootstrap_dials, 1);
            let opts = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addrs)
                .extend_addresses_through_behaviour()
                .build();
            if let Err(error) = self.swarm.dial(opts) {
                tracing::debug!(%peer, %error, "cannot dial a bootstrap peer");
            }
        }
        for peer in self.book.take_unblocked(now) {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
    }

    pub(super) fn penalize(&mut self, peer: PeerId, what: Misbehaviour) {
        if peer == self.local_peer() {
            return;
        }
        add(&self.counters().penalties, 1);
        tracing::debug!(%peer, ?what, "misbehaviour");
        if self.book.add(Instant::now(), peer, what) {
            add(&self.counters().peers_blocked, 1);
            tracing::info!(%peer, ?what, "peer blocked for its misbehaviour");
            // Blocking closes its connections too.
            self.swarm.behaviour_mut().blocked.block_peer(peer);
            self.tell(NetworkEvent::PeerBlocked { peer });
        }
    }

    fn on_command(&mut self, command: Option<Command>) -> Flow {
        let Some(command) = command else { return Flow::Stop(None) };
        match command {
            Command::Control { peer, bytes, reply } => {
                let request = Request::outgoing(bytes, self.control_len_max);
                let id = self.swarm.behaviour_mut().control.send_request(&peer, request);
                self.control_waiting.insert(id, reply);
            }
            Command::Blob { peer, ask, reply } => {
                let request = Request::outgoing(ask.to_bytes(), ask.response_len_max());
                let id = self.swarm.behaviour_mut().blobs.send_request(&peer, request);
                self.blob_waiting.insert(id, reply);
            }
            Command::Publish { bytes, reply } => drop(reply.send(self.publish(bytes))),
            Command::Dial(addr) => {
                if let Err(error) = self.swarm.dial(addr.clone()) {
                    tracing::debug!(%addr, %error, "cannot dial");
                }
            }
            Command::Reserve(peer) => self.swarm.behaviour_mut().limits.bypass_peer_id(&peer),
            Command::Unreserve(peer) => self.swarm.behaviour_mut().limits.remove_peer_id(&peer),
            Command::KeepConnected { peer, addr } => {
                self.swarm.behaviour_mut().limits.bypass_peer_id(&peer);
                self.redial.add(peer, addr);
                if self.swarm.is_connected(&peer) {
                    self.redial.on_connected(&peer);
                }
            }
            // An error means that there is no connection.
            Command::Disconnect(peer) => {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Penalize { peer, what } => self.penalize(peer, what),
            Command::StartProviding(hash) => {
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut()
                    && let Err(error) = kad.start_providing(kad::RecordKey::new(hash.as_bytes()))
                {
                    tracing::debug!(%hash, %error, "cannot announce a blob");
                }
            }
            Command::StopProviding(hash) => {
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                    kad.stop_providing(&kad::RecordKey::new(hash.as_bytes()));
                }
            }
            Command::Providers { hash, reply } => {
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                    let id = kad.get_providers(kad::RecordKey::new(hash.as_bytes()));
                    self.queries.insert(id, Query::Providers { found: HashSet::new(), reply });
                }
            }
            Command::FindPeer { peer, reply } => {
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                    let id = kad.get_closest_peers(peer);
                    self.queries.insert(id, Query::Peer { peer, reply });
                }
            }
            Command::Shutdown(reply) => return Flow::Stop(Some(reply)),
        }
        Flow::GoOn
    }

    fn publish(&mut self, bytes: Vec<u8>) -> Result<(), PublishError> {
        let len = bytes.len() as u64;
        let topic = self.topic.clone();
        match self.swarm.behaviour_mut().gossip.publish(topic, bytes) {
            Ok(_) => {
                add(&self.counters().sent_bytes, len);
                Ok(())
            }
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(PublishError::NoPeers),
            Err(gossipsub::PublishError::Duplicate) => Err(PublishError::Duplicate),
            Err(error) => Err(PublishError::Other(error.to_string())),
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            // An error means that the peer no longer waits.
            Answer::Response { channel, bytes } => {
                drop(self.swarm.behaviour_mut().control.send_response(channel, bytes));
            }
            Answer::Blob { channel, peer, bytes } => {
                if self.swarm.behaviour_mut().blobs.send_response(channel, bytes).is_err() {
                    tracing::debug!(%peer, "it no longer waits for a piece");
                }
            }
            Answer::Verdict { message, relayer, acceptance } => {
                let rejected = acceptance == MessageAcceptance::Reject;
                self.swarm.behaviour_mut().gossip.report_message_validation_result(&message, &relayer, acceptance);
                if rejected {
                    self.penalize(relayer, Misbehaviour::BadGossip);
                }
            }
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, num_established, .. } => {
                if endpoint.is_listener() {
                    self.replace_inbound(peer_id, connection_id);
                }
                self.redial.on_connected(&peer_id);
                if num_established.get() == 1 {
                    write(&self.shared.connected).insert(peer_id);
                    self.tell(NetworkEvent::PeerConnected { peer: peer_id });
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                if self.inbound.get(&peer_id) == Some(&connection_id) {
                    self.inbound.remove(&peer_id);
                }
                if num_established == 0 {
                    tracing::debug!(peer = %peer_id, ?cause, "disconnected");
                    self.redial.on_disconnected(Instant::now(), &peer_id);
                    write(&self.shared.connected).remove(&peer_id);
                    self.tell(NetworkEvent::PeerDisconnected { peer: peer_id });
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                write(&self.shared.listening).push(address.clone());
                self.tell(NetworkEvent::Listening { addr: address });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                write(&self.shared.listening).retain(|addr| *addr != address);
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "no longer listening");
                write(&self.shared.listening).retain(|addr| !addresses.contains(addr));
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "listener"),
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(peer = ?peer_id, %error, "cannot connect");
            }
            _ => {}
        }
    }

    /// A peer that dials although it is connected has restarted: its old connection is dead, which would show only after the
    /// silence time-out, and until then requests would get lost in it.
    fn replace_inbound(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(old) = self.inbound.insert(peer, connection) {
            tracing::debug!(%peer, "an older connection makes way for a new one");
            self.swarm.close_connection(old);
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Control(event) => self.on_control(event),
            BehaviourEvent::Blobs(event) => self.on_blobs(event),
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Ping(ping::Event { connection, result: Err(ping::Failure::Timeout), .. }) => {
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_mdns(found),
            _ => {}
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source: relayer, message_id, message } = event else { return };
        let counters = self.shared.counters.clone();
        add(&counters.gossip_received, 1);
        add(&counters.received_bytes, message.data.len() as u64);
        let answers = self.answers.clone();
        let verdict = GossipVerdict { message: message_id, relayer, answers, given: false };
        // Strict validation has seen to it that there is an author.
        let Some(author) = message.source else { return };
        let event = NetworkEvent::Gossip { author, relayer, bytes: message.data, verdict };
        if self.events.try_send(event).is_err() {
            add(&counters.gossip_dropped, 1);
        }
    }
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
