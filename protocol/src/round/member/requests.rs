//! Which requests are under way, and when the next of each kind is due.

use super::MemberTiming;
use crate::ids::MemberId;
use crate::messages::Request;
use std::collections::BTreeMap;

/// The kinds of requests that a machine sends; at most one of each is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RequestKind {
    Status,
    Record,
    Join,
    Claim,
}

impl RequestKind {
    pub(super) fn of(request: &Request) -> Option<RequestKind> {
        match request {
            Request::Status { .. } => Some(RequestKind::Status),
            Request::Record { .. } => Some(RequestKind::Record),
            Request::Join(_) => Some(RequestKind::Join),
            Request::Claim(_) => Some(RequestKind::Claim),
            Request::Manifest { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// When the one under way is given up.
    gives_up_ms: Option<u64>,
    /// When the next may be sent.
    next_ms: u64,
    /// Failures in a row.
    failures: u32,
}

#[derive(Debug)]
pub(super) struct Requests {
    timing: MemberTiming,
    member: MemberId,
    slots: BTreeMap<RequestKind, Slot>,
}

impl Requests {
    pub(super) fn new(timing: MemberTiming, member: MemberId) -> Requests {
        Requests { timing, member, slots: BTreeMap::new() }
    }

    fn slot(&self, kind: RequestKind) -> Slot {
        self.slots.get(&kind).copied().unwrap_or_default()
    }

    pub(super) fn is_free(&self, kind: RequestKind) -> bool {
        self.slot(kind).gives_up_ms.is_none()
    }

    /// When something is to be done about this kind: give up the one under way, or send the next if it is wanted.
    pub(super) fn due(&self, kind: RequestKind, wanted: bool) -> Option<u64> {
        let slot = self.slot(kind);
        slot.gives_up_ms.or(wanted.then_some(slot.next_ms))
    }

    pub(super) fn sent(&mut self, kind: RequestKind, now_ms: u64) {
        let gives_up_ms = Some(now_ms.saturating_add(self.timing.request_timeout_ms));
        self.slots.entry(kind).or_default().gives_up_ms = gives_up_ms;
    }

    /// The one under way is over. Success: the next is due after the usual pause. Failure: after a growing one.
    pub(super) fn answered(&mut self, kind: RequestKind, now_ms: u64, success: bool) {
        let slot = self.slot(kind);
        let failures = if success { 0 } else { slot.failures.saturating_add(1) };
        let pause_ms = match (success, kind) {
            (true, RequestKind::Status) => self.timing.poll_ms,
            // The next record may be there already; a claim that is receipted is not wanted any more.
            (true, RequestKind::Record | RequestKind::Claim) => 0,
            // A join is only repeated in case the coordinator forgot it.
            (true, RequestKind::Join) => self.timing.retry_max_ms,
            (false, _) => self.backoff_ms(kind, failures),
        };
        let next_ms = now_ms.saturating_add(pause_ms);
        self.slots.insert(kind, Slot { gives_up_ms: None, next_ms, failures });
    }

    /// The next of this kind is due at once.
    pub(super) fn hurry(&mut self, kind: RequestKind, now_ms: u64) {
        let slot = self.slots.entry(kind).or_default();
        slot.next_ms = slot.next_ms.min(now_ms);
    }

    /// The next of this kind is not due before a pause, growing with each such delay in a row.
    pub(super) fn delay(&mut self, kind: RequestKind, now_ms: u64) {
        self.answered(kind, now_ms, false);
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        let late: Vec<RequestKind> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.gives_up_ms.is_some_and(|at_ms| at_ms <= now_ms))
            .map(|(kind, _)| *kind)
            .collect();
        for kind in late {
            self.answered(kind, now_ms, false);
        }
    }

    /// Doubling pauses, each cut by up to half in a way that differs from member to member: so that thousands do not come
    /// back in the same moment.
    fn backoff_ms(&self, kind: RequestKind, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(20);
        let pause_ms = self.timing.retry_min_ms.checked_shl(doublings).unwrap_or(u64::MAX);
        let pause_ms = pause_ms.clamp(1, self.timing.retry_max_ms.max(1));
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.member.as_bytes());
        hasher.update(&failures.to_le_bytes());
        hasher.update(&[kind as u8]);
        let draw = hasher.finalize().as_bytes().first().copied().unwrap_or(0);
        let cut_ms = pause_ms.saturating_mul(u64::from(draw)) >> 9;
        pause_ms.saturating_sub(cut_ms).max(1)
    }
}
