//! The task's part in requests: outcomes of this node's own, and the answering of others'.

use super::codec::{BadFrame, is_malformed};
use super::events::{Answer, NetworkEvent, Responder};
use super::handle::RequestError;
use super::penalty::Misbehaviour;
use super::serve;
use super::task::{RequestEvent, Task, Waiting};
use crate::blob::{BlobRequest, BlobResponse};
use crate::metrics::add;
use libp2p::PeerId;
use libp2p::request_response::{InboundRequestId, Message, OutboundFailure, ResponseChannel};

impl Task {
    /// What control and blob requests have in common: outcomes of ours, and faults in theirs.
    fn on_outcome(&mut self, event: RequestEvent, waiting: fn(&mut Task) -> &mut Waiting) {
        let (peer, id, outcome) = match event {
            RequestEvent::Message { peer, message: Message::Response { request_id, response }, .. } => {
                (peer, request_id, Ok(response))
            }
            RequestEvent::OutboundFailure { peer, request_id, error, .. } => {
                if matches!(&error, OutboundFailure::Io(error) if is_malformed(error)) {
                    self.malformed(peer, "an answer");
                }
                (peer, request_id, Err(request_error(peer, error)))
            }
            RequestEvent::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a request could not be answered");
                return;
            }
            _ => return,
        };
        tracing::trace!(%peer, ok = outcome.is_ok(), "request done");
        if let Some(reply) = waiting(self).remove(&id) {
            // Whoever asked may no longer wait.
            let _ = reply.send(outcome);
        }
    }

    pub(super) fn on_control(&mut self, event: RequestEvent) {
        let RequestEvent::Message { peer, message: Message::Request { request, channel, .. }, .. } = event else {
            return self.on_outcome(event, |task| &mut task.control_waiting);
        };
        let bytes = match request.bytes {
            Ok(bytes) => bytes,
            Err(BadFrame(what)) => return self.malformed(peer, &what),
        };
        add(&self.counters().requests_received, 1);
        let (answers, len_max) = (self.answers.clone(), self.control_len_max);
        let reply = Responder { channel, answers, len_max, _room: request.room };
        if self.events.try_send(NetworkEvent::Request { peer, bytes, reply }).is_err() {
            add(&self.counters().requests_dropped, 1);
        }
    }

    pub(super) fn on_blobs(&mut self, event: RequestEvent) {
        match event {
            RequestEvent::Message { peer, message: Message::Request { request, channel, request_id }, .. } => {
                let bytes = match request.bytes {
                    Ok(bytes) => bytes,
                    Err(BadFrame(what)) => return self.malformed(peer, &what),
                };
                match BlobRequest::from_bytes(&bytes) {
                    Ok(request) => self.queue_blob(peer, request, request_id, channel),
                    Err(error) => self.malformed(peer, &error.to_string()),
                }
            }
            RequestEvent::ResponseSent { peer, request_id, .. } => self.served(&peer, request_id),
            RequestEvent::InboundFailure { peer, request_id, .. } => {
                self.served(&peer, request_id);
                self.on_outcome(event, |task| &mut task.blob_waiting);
            }
            _ => self.on_outcome(event, |task| &mut task.blob_waiting),
        }
    }

    fn queue_blob(
        &mut self,
        peer: PeerId,
        request: BlobRequest,
        id: InboundRequestId,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        if let Err((_, _, channel)) = self.serving.push(peer, (id, request, channel)) {
            add(&self.counters().blob_requests_refused, 1);
            let busy = BlobResponse::Busy.to_bytes();
            // An error means that the peer no longer waits.
            let _ = self.swarm.behaviour_mut().blobs.send_response(channel, busy);
        }
    }

    fn malformed(&mut self, peer: PeerId, what: &str) {
        tracing::debug!(%peer, what, "malformed frame");
        add(&self.counters().frames_malformed, 1);
        self.penalize(peer, Misbehaviour::MalformedFrame);
    }

    fn served(&mut self, peer: &PeerId, id: InboundRequestId) {
        if self.serving_ids.remove(&id) {
            self.serving.done(peer);
        }
    }

    /// Answers waiting blob requests as far as the limits allow. A request counts as active until its answer is sent, since
    /// the answer is in memory until then.
    pub(super) fn serve_waiting(&mut self) {
        while let Some((peer, (id, request, channel))) = self.serving.pop() {
            if !channel.is_open() {
                self.serving.done(&peer);
                continue;
            }
            self.serving_ids.insert(id);
            let (store, policy, shared) = (self.store.clone(), self.policy.clone(), self.shared.clone());
            let answers = self.answers.clone();
            tokio::task::spawn_blocking(move || {
                let response = serve::answer(&store, &policy, &shared.counters, &peer, request);
                // If the task is gone, so is the peer.
                let _ = answers.send(Answer::Blob { channel, peer, bytes: response.to_bytes() });
            });
        }
    }
}

fn request_error(peer: PeerId, error: OutboundFailure) -> RequestError {
    match error {
        OutboundFailure::DialFailure => RequestError::Unreachable(peer),
        OutboundFailure::Timeout => RequestError::Timeout(peer),
        OutboundFailure::ConnectionClosed => RequestError::ConnectionLost(peer),
        OutboundFailure::UnsupportedProtocols => RequestError::Unsupported(peer),
        OutboundFailure::Io(error) if is_malformed(&error) => RequestError::Malformed(peer),
        OutboundFailure::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => RequestError::NoAnswer(peer),
        OutboundFailure::Io(error) => RequestError::Stream { peer, reason: error.to_string() },
    }
}
