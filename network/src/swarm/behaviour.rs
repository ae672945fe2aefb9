//! The libp2p behaviours of a node, put together.
//!
//! Their place is kept here for NAT traversal: relay (client and server), AutoNAT and hole punching join this struct.

use super::codec::{FrameCodec, budget};
use super::config::{KadMode, NetworkConfig, NetworkError};
use crate::blob::{MAX_BLOB_FRAME_LEN, MAX_BLOB_REQUEST_LEN};
use crate::metrics::Counters;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::kad::{self, store::MemoryStore, store::MemoryStoreConfig};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, allow_block_list, connection_limits, identify, mdns, noise, ping, tcp, yamux,
};
use std::sync::Arc;
use std::time::Duration;

/// The protocol of control requests.
pub(crate) const CONTROL_PROTOCOL: StreamProtocol = StreamProtocol::new("/essaim/control/1");
/// The protocol of blob requests.
pub(crate) const BLOB_PROTOCOL: StreamProtocol = StreamProtocol::new("/essaim/blob/1");
/// The protocol of the Kademlia table.
pub(crate) const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/essaim/kad/1");

/// What a gossip message may be longer than its data: signature, author, topic, framing.
const GOSSIP_OVERHEAD_MAX: usize = 1024;
/// Blobs that a node announces to the Kademlia table.
const PROVIDED_MAX: usize = 16 * 1024;
/// How long a Kademlia query may take.
const KAD_QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything that a node speaks. Limits and blocks come first: behaviours are asked in order, and the first denial wins.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(crate) ping: ping::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) kad: Toggle<kad::Behaviour<MemoryStore>>,
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) control: request_response::Behaviour<FrameCodec>,
    pub(crate) blobs: request_response::Behaviour<FrameCodec>,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
}

/// The gossip topic of a swarm.
pub(crate) fn topic(config: &NetworkConfig) -> IdentTopic {
    IdentTopic::new(format!("/essaim/gossip/1/{}", config.run_topic))
}

/// What identify says of a node's swarm: peers whose word differs are in another run.
pub(crate) fn swarm_name(config: &NetworkConfig) -> String {
    format!("/essaim/1/{}", config.run_topic)
}

fn gossip(config: &NetworkConfig, key: &Keypair) -> Result<gossipsub::Behaviour, String> {
    let settings = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(config.limits.gossip_len_max + GOSSIP_OVERHEAD_MAX)
        .message_id_fn(|message| MessageId::from(blake3::hash(&message.data).as_bytes().to_vec()))
        .build()
        .map_err(|error| error.to_string())?;
    let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), settings)?;
    let topic = topic(config);
    // Only invalid messages cost score. Many nodes behind one address are a household or a test, and a topic where a round
    // is announced every few minutes has no rate of delivery to hold anybody to.
    let scores = gossipsub::TopicScoreParams {
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        time_in_mesh_weight: 0.0,
        invalid_message_deliveries_weight: -20.0,
        invalid_message_deliveries_decay: 0.9,
        ..Default::default()
    };
    let params = gossipsub::PeerScoreParams {
        topics: [(topic.hash(), scores)].into(),
        ip_colocation_factor_weight: 0.0,
        ..Default::default()
    };
    gossip.with_peer_score(params, gossipsub::PeerScoreThresholds::default())?;
    gossip.subscribe(&topic).map_err(|error| error.to_string())?;
    Ok(gossip)
}

fn kad(config: &NetworkConfig, key: &Keypair) -> Option<kad::Behaviour<MemoryStore>> {
    let mode = match config.kad {
        KadMode::Off => return None,
        KadMode::Client => kad::Mode::Client,
        KadMode::Server => kad::Mode::Server,
    };
    let me = key.public().to_peer_id();
    let store = MemoryStoreConfig { max_provided_keys: PROVIDED_MAX, ..Default::default() };
    let mut settings = kad::Config::new(KAD_PROTOCOL);
    settings.set_query_timeout(KAD_QUERY_TIMEOUT);
    let mut kad = kad::Behaviour::with_config(me, MemoryStore::with_config(me, store), settings);
    kad.set_mode(Some(mode));
    Some(kad)
}

fn requests(
    protocol: StreamProtocol,
    codec: FrameCodec,
    timeout: Duration,
    streams_max: usize,
) -> request_response::Behaviour<FrameCodec> {
    let settings =
        request_response::Config::default().with_request_timeout(timeout).with_max_concurrent_streams(streams_max);
    request_response::Behaviour::with_codec(codec, [(protocol, ProtocolSupport::Full)], settings)
}

fn behaviour(config: &NetworkConfig, key: &Keypair, counters: &Arc<Counters>) -> Result<Behaviour, String> {
    let limits = &config.limits;
    let connections = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(limits.connections_max))
        .with_max_established_per_peer(Some(limits.connections_per_peer_max))
        .with_max_pending_incoming(Some(limits.pending_incoming_max));
    let budget_len = limits.long_requests_bytes_max.max(limits.control_len_max + 1024);
    let codec = |request_len_max, response_len_max| FrameCodec {
        request_len_max,
        response_len_max,
        budget: budget(budget_len),
        counters: counters.clone(),
    };
    let mdns = match config.mdns {
        true => Some(
            mdns::tokio::Behaviour::new(mdns::Config::default(), key.public().to_peer_id())
                .map_err(|error| format!("multicast DNS: {error}"))?,
        ),
        false => None,
    };
    let half_silence = config.silence_timeout / 2;
    let agent = concat!("essaim/", env!("CARGO_PKG_VERSION")).to_owned();
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(connections),
        blocked: allow_block_list::Behaviour::default(),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(half_silence).with_timeout(half_silence)),
        identify: identify::Behaviour::new(
            identify::Config::new(swarm_name(config), key.public())
                .with_agent_version(agent)
                .with_push_listen_addr_updates(true),
        ),
        kad: kad(config, key).into(),
        gossip: gossip(config, key)?,
        control: requests(
            CONTROL_PROTOCOL,
            codec(limits.control_len_max, limits.control_len_max),
            config.request_timeout,
            limits.streams_per_connection_max,
        ),
        blobs: requests(
            BLOB_PROTOCOL,
            codec(MAX_BLOB_REQUEST_LEN, MAX_BLOB_FRAME_LEN),
            config.blob_timeout,
            limits.streams_per_connection_max,
        ),
        mdns: mdns.into(),
    })
}

/// Builds the swarm: TCP with Noise and Yamux, QUIC, and names resolved where the system says how.
pub(crate) fn build(
    config: &NetworkConfig,
    key: &Keypair,
    counters: &Arc<Counters>,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let setup = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
    let behaviour = behaviour(config, key, counters).map_err(|error| setup(&error))?;
    let silence = config.silence_timeout;
    let transports = || {
        let phase = SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .map_err(|error| setup(&error))?;
        Ok::<_, NetworkError>(phase.with_quic_config(|mut quic| {
            quic.max_stream_data = 16 << 20;
            quic.max_connection_data = 64 << 20;
            quic.max_idle_timeout = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
            quic.keep_alive_interval = silence / 3;
            quic
        }))
    };
    let idle = config.idle_timeout;
    let settings = |c: libp2p::swarm::Config| c.with_idle_connection_timeout(idle).with_smart_dial();
    let swarm = match transports()?.with_dns() {
        Ok(phase) => phase.with_behaviour(|_| behaviour).map(|phase| phase.with_swarm_config(settings).build()),
        Err(error) => {
            tracing::warn!(%error, "no system DNS configuration: addresses with names cannot be dialled");
            transports()?.with_behaviour(|_| behaviour).map(|phase| phase.with_swarm_config(settings).build())
        }
    };
    swarm.map_err(|error| setup(&error))
}
