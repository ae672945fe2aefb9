//! What peers ask: decoded, judged by the machine, answered from the store.

use crate::store::{Store, StoreError, StoredKind};
use essaim_network::{Misbehaviour, PeerId, member_of};
use essaim_protocol::encoding;
use essaim_protocol::ids::{MemberId, RunId};
use essaim_protocol::limits;
use essaim_protocol::messages::{Refused, Reply, Request};
use essaim_protocol::round::CoordinatorMachine;

/// An answer, and what the request was worth.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) fault: Option<Fault>,
}

/// What is counted against a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// What no honest member does.
    Wrong(Misbehaviour),
    /// What comes of being slow, or of a restart: held against a peer only when it goes on within one round.
    Late,
}

/// Late requests of one peer in one round that are not held against it.
pub(super) const LATE_MAX: u32 = 8;
/// Peers whose late requests are counted at once.
pub(super) const LATE_PEERS_MAX: usize = 65_536;

/// Answers a request. The actions that the machine queued are to be done before the answer is sent.
pub(super) fn answer(
    machine: &mut CoordinatorMachine,
    store: &Store,
    now_ms: u64,
    peer: &PeerId,
    bytes: &[u8],
) -> Result<Answer, StoreError> {
    let Ok(request) = encoding::decode::<Request>(bytes, limits::CONTROL_MAX) else {
        return Ok(refuse(Refused::Malformed));
    };
    let run = machine.chain().run();
    let reply = match request {
        Request::Manifest { run: of } => if_ours(run, of, || Ok(Reply::Manifest(manifest(machine))))?,
        Request::Status { run: of } => if_ours(run, of, || Ok(Reply::Status(machine.status(now_ms))))?,
        Request::Record { run: of, round } => if_ours(run, of, || record(store, round))?,
        Request::Join(join) => match member_of(peer) {
            Some(member) => machine.handle_join(now_ms, member, &join),
            None => Reply::Refused(Refused::WrongSender),
        },
        Request::Claim(claim) => match member_of(peer) {
            Some(member) => machine.handle_claim(now_ms, member, &claim),
            None => Reply::Refused(Refused::WrongSender),
        },
    };
    let fault = match &reply {
        Reply::Refused(refused) => fault(*refused),
        _ => None,
    };
    Ok(Answer { reply, fault })
}

fn refuse(refused: Refused) -> Answer {
    Answer { reply: Reply::Refused(refused), fault: fault(refused) }
}

fn if_ours(run: RunId, of: RunId, reply: impl FnOnce() -> Result<Reply, StoreError>) -> Result<Reply, StoreError> {
    if run == of { reply() } else { Ok(Reply::Refused(Refused::WrongRun)) }
}

fn manifest(machine: &CoordinatorMachine) -> Vec<u8> {
    machine.chain().signed_manifest().to_bytes()
}

fn record(store: &Store, round: u64) -> Result<Reply, StoreError> {
    let Some(record) = store.get(StoredKind::Record, round, None)? else {
        return Ok(Reply::NotFound);
    };
    Ok(Reply::Record { record, claims: store.get(StoredKind::ClaimList, round, None)? })
}

fn fault(refused: Refused) -> Option<Fault> {
    match refused {
        Refused::Malformed | Refused::Unsigned | Refused::WrongSender | Refused::Impossible | Refused::WrongRun => {
            Some(Fault::Wrong(Misbehaviour::BadRequest))
        }
        Refused::Duplicate => Some(Fault::Wrong(Misbehaviour::MalformedFrame)),
        Refused::WrongBase
        | Refused::WrongAssignment
        | Refused::NotMember
        | Refused::Stale
        | Refused::Closed
        | Refused::Full
        | Refused::Finished => Some(Fault::Late),
    }
}

/// The name of a refusal in JSON and metrics.
pub(super) fn refused_name(refused: Refused) -> &'static str {
    match refused {
        Refused::Malformed => "malformed",
        Refused::Unsigned => "unsigned",
        Refused::WrongRun => "wrong_run",
        Refused::Stale => "stale",
        Refused::Closed => "closed",
        Refused::NotMember => "not_member",
        Refused::WrongBase => "wrong_base",
        Refused::WrongAssignment => "wrong_assignment",
        Refused::Impossible => "impossible",
        Refused::Duplicate => "duplicate",
        Refused::Full => "full",
        Refused::Finished => "finished",
        Refused::WrongSender => "wrong_sender",
    }
}

/// A member's peer is what it signs with.
pub(super) fn short(member: Option<MemberId>, peer: &PeerId) -> String {
    member.map_or_else(|| peer.to_string(), |member| member.short())
}
