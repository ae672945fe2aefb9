//! What the network tells its caller, and how the caller answers.

use libp2p::gossipsub::{MessageAcceptance, MessageId};
use libp2p::request_response::ResponseChannel;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

/// Something that happened in the network.
#[derive(Debug)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// A peer asks something of the caller.
    Request {
        /// Who asks; proven by the connection's handshake.
        peer: PeerId,
        /// What is asked, within [`super::NetworkLimits::control_len_max`].
        bytes: Vec<u8>,
        /// The way back. Dropping it tells the peer that there is no answer.
        reply: Responder,
    },
    /// A gossip message, signed by its author.
    Gossip {
        /// Who wrote it; proven by its signature.
        author: PeerId,
        /// Who passed it on.
        relayer: PeerId,
        /// What it says, within [`super::NetworkLimits::gossip_len_max`].
        bytes: Vec<u8>,
        /// Whether it is passed on: only after [`GossipVerdict::accept`].
        verdict: GossipVerdict,
    },
    /// The first connection with a peer is established.
    PeerConnected {
        /// The peer.
        peer: PeerId,
    },
    /// The last connection with a peer is closed.
    PeerDisconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A peer was disconnected and is refused for a while, for its misbehaviour.
    PeerBlocked {
        /// The peer.
        peer: PeerId,
    },
    /// The node listens on this address.
    Listening {
        /// The address, without `/p2p/`.
        addr: Multiaddr,
    },
}

/// What a caller's answer makes the task do. Unbounded, but never longer than the requests and messages outstanding, which
/// are bounded.
#[derive(Debug)]
pub(crate) enum Answer {
    Response { channel: ResponseChannel<Vec<u8>>, bytes: Vec<u8> },
    Blob { channel: ResponseChannel<Vec<u8>>, peer: PeerId, bytes: Vec<u8> },
    Verdict { message: MessageId, relayer: PeerId, acceptance: MessageAcceptance },
}

/// The way back to the peer that made a control request.
#[derive(Debug)]
pub struct Responder {
    pub(crate) channel: ResponseChannel<Vec<u8>>,
    pub(crate) answers: UnboundedSender<Answer>,
    pub(crate) len_max: usize,
    /// The request's room among long requests: free again when it is answered.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

impl Responder {
    /// Sends the response. `false` if the peer no longer waits for it, or if it is longer than
    /// [`super::NetworkLimits::control_len_max`]: the peer is then told that there is no answer.
    pub fn send(self, bytes: Vec<u8>) -> bool {
        if bytes.len() > self.len_max {
            tracing::warn!(len = bytes.len(), max = self.len_max, "a response is too long to send");
            return false;
        }
        self.channel.is_open() && self.answers.send(Answer::Response { channel: self.channel, bytes }).is_ok()
    }

    /// Whether the peer still waits.
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }
}

/// What is to become of a gossip message. Dropping it ignores the message.
#[derive(Debug)]
pub struct GossipVerdict {
    pub(crate) message: MessageId,
    pub(crate) relayer: PeerId,
    pub(crate) answers: UnboundedSender<Answer>,
    pub(crate) given: bool,
}

impl GossipVerdict {
    fn give(&mut self, acceptance: MessageAcceptance) {
        self.given = true;
        let verdict = Answer::Verdict { message: self.message.clone(), relayer: self.relayer, acceptance };
        // If the task is gone, so is every peer.
        let _ = self.answers.send(verdict);
    }

    /// The message is good: pass it on.
    pub fn accept(mut self) {
        self.give(MessageAcceptance::Accept);
    }

    /// The message is of no use here; whoever passed it on did nothing wrong.
    pub fn ignore(mut self) {
        self.give(MessageAcceptance::Ignore);
    }

    /// The message is bad: whoever passed it on is penalised.
    pub fn reject(mut self) {
        self.give(MessageAcceptance::Reject);
    }
}

impl Drop for GossipVerdict {
    fn drop(&mut self) {
        if !self.given {
            self.give(MessageAcceptance::Ignore);
        }
    }
}
