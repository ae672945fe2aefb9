//! Following the chain.

use super::{
    AdvanceFailure, Advancing, Evidence, Halt, Head, Ledger, MemberAction, MemberEvent, MemberMachine, MemberStored,
    RequestKind, Signed, Work,
};
use crate::chain::ChainState;
use crate::ids::{Hash, MemberId};
use crate::messages::{Refused, Request, Status};
use crate::statements::{ClaimList, Join, Record};

impl MemberMachine {
    /// The checkpoint that [`MemberAction::Apply`] asked for is on disk, with its outer state: these are their hashes.
    pub fn handle_checkpoint(&mut self, now_ms: u64, round: u64, checkpoint: Hash, outer_state: Hash) {
        let Some(Advancing::Applying(next)) = &self.advancing else { return };
        let Some(record) = next.record().filter(|record| record.value.round == round) else { return };
        if record.value.checkpoint == checkpoint && record.value.outer_state == outer_state {
            let next = next.clone();
            self.adopt(now_ms, *next);
        } else {
            let record = Box::new(record.clone());
            self.halt(Halt::Evidence(Evidence::WrongArithmetic { record, checkpoint, outer_state }));
        }
        self.plan(now_ms);
    }

    /// Ledger, checkpoint and outer state that [`MemberAction::CatchUp`] asked for are on disk, the latter two with the
    /// hashes that were asked for. `ledger`: the ledger's bytes.
    pub fn handle_caught_up(&mut self, now_ms: u64, round: u64, ledger: &[u8]) {
        let Some(Advancing::CatchingUp(record)) = &self.advancing else { return };
        if record.value.round != round {
            return;
        }
        let manifest = self.chain.signed_manifest();
        let resumed = Ledger::from_bytes(ledger)
            .ok()
            .and_then(|ledger| ChainState::resume(manifest, &*self.config.check, record, ledger).ok());
        match resumed {
            Some(next) => self.adopt(now_ms, next),
            None => self.give_up_advancing(now_ms),
        }
        self.plan(now_ms);
    }

    /// [`MemberAction::Apply`] or [`MemberAction::CatchUp`] could not be done.
    pub fn handle_advance_failed(&mut self, now_ms: u64, round: u64, failure: AdvanceFailure) {
        let record = match &self.advancing {
            Some(Advancing::Applying(next)) => next.record(),
            Some(Advancing::CatchingUp(record)) => Some(&**record),
            None => None,
        };
        let Some(record) = record.filter(|record| record.value.round == round) else { return };
        match failure {
            AdvanceFailure::Unavailable => self.give_up_advancing(now_ms),
            AdvanceFailure::BadUpdate { member } => {
                let record = Box::new(record.clone());
                self.halt(Halt::BadUpdate { record, member });
            }
        }
        self.plan(now_ms);
    }

    fn give_up_advancing(&mut self, now_ms: u64) {
        self.advancing = None;
        // The first checkpoint can always be derived; any other may be downloaded instead.
        self.must_catch_up = true;
        self.requests.delay(RequestKind::Record, now_ms);
        self.requests.hurry(RequestKind::Status, now_ms);
    }

    fn adopt(&mut self, now_ms: u64, next: ChainState) {
        let before = self.is_member();
        self.stop_work(false);
        self.advancing = None;
        self.must_catch_up = false;
        self.chain = next;
        if let Some(record) = self.chain.record().cloned() {
            self.actions.push_back(MemberAction::Persist(MemberStored::Head {
                round: record.value.round,
                record: record.to_bytes(),
                ledger: self.chain.ledger().to_bytes(),
            }));
            self.tell_outcome(&record, before);
        }
        self.work = Work::Idle;
        if let Some(head) = self.head.clone() {
            self.check_fork(&head);
        }
        self.requests.hurry(RequestKind::Status, now_ms);
        self.requests.hurry(RequestKind::Join, now_ms);
        self.requests.hurry(RequestKind::Record, now_ms);
    }

    /// What the record means for this member.
    fn tell_outcome(&mut self, record: &Signed<Record>, was_member: bool) {
        let value = &record.value;
        let round = value.round;
        let me = self.member;
        if let Some(mine) = value.contributions.iter().find(|contribution| contribution.member == me) {
            let (steps, tokens) = (mine.steps, mine.tokens);
            self.event(MemberEvent::Accepted { round, steps, tokens });
        } else if let Some(mine) = value.refusals.iter().find(|refusal| refusal.member == me) {
            self.event(MemberEvent::NotAccepted { round, reason: mine.reason });
        } else if was_member {
            self.event(MemberEvent::Missed { round });
        }
        let next = round.saturating_add(1);
        match (was_member, self.is_member()) {
            (false, true) => self.event(MemberEvent::Admitted { round: next }),
            (true, false) => self.event(MemberEvent::Dropped { round: next }),
            _ => {}
        }
    }

    pub(super) fn event(&mut self, event: MemberEvent) {
        self.actions.push_back(MemberAction::Event(event));
    }

    /// The request of a kind, if there is one to make.
    pub(super) fn request(&self, kind: RequestKind) -> Option<Request> {
        let run = self.chain.run();
        match kind {
            RequestKind::Status => Some(Request::Status { run }),
            RequestKind::Record => Some(Request::Record { run, round: self.next_record()? }),
            RequestKind::Join => {
                let join = Join { run, member: self.member, head: self.chain.head_id() };
                Some(Request::Join(self.config.keypair.sign(join).to_bytes()))
            }
            RequestKind::Claim => match &self.work {
                Work::Claimed(claimed) => Some(Request::Claim(claimed.claim.to_bytes())),
                _ => None,
            },
        }
    }

    /// The round whose record is wanted: the next, or the newest where the checkpoint is downloaded.
    fn next_record(&self) -> Option<u64> {
        let head = self.head.as_ref()?.value.round;
        if self.catches_up(head) { Some(head) } else { Some(self.chain.open_round()) }
    }

    fn catches_up(&self, head: u64) -> bool {
        let behind = head.saturating_add(1).saturating_sub(self.chain.open_round());
        head > 0 && (self.must_catch_up || behind > self.config.timing.catch_up_after_rounds)
    }

    /// Takes the coordinator's status. `false`: it is of no use.
    pub(super) fn take_status(&mut self, now_ms: u64, status: &Status) -> bool {
        let Some(bytes) = &status.head else { return true };
        if !self.take_head(now_ms, bytes) {
            return false;
        }
        let Some(head) = &self.head else { return true };
        let (round, record) = (head.value.round, head.value.record);
        if status.claims.is_none() {
            self.closes = Some((round, now_ms.saturating_add(status.remaining_ms)));
        }
        if let Some(bytes) = &status.claims
            && self.chain.head_id() == record
        {
            return self.take_list(bytes);
        }
        true
    }

    /// Takes a signed head. `false`: it is none of this run's operators.
    pub(super) fn take_head(&mut self, now_ms: u64, bytes: &[u8]) -> bool {
        if self.head_bytes == bytes {
            return true;
        }
        let Ok(head) = Signed::<Head>::from_bytes(bytes) else { return false };
        let signed = self.chain.signed_by_operators(&head, &*self.config.check).is_ok();
        if !signed || head.value.run != self.chain.run() || head.value.round > self.chain.manifest().rounds {
            return false;
        }
        self.head_bytes = bytes.to_vec();
        self.check_fork(&head);
        let newness = |head: &Head| (head.round, head.claims.is_some());
        if self.head.as_ref().is_none_or(|known| newness(&head.value) > newness(&known.value)) {
            self.head = Some(head);
            self.requests.hurry(RequestKind::Record, now_ms);
        }
        true
    }

    /// Halts if a head proves that the operators signed two records of one round.
    fn check_fork(&mut self, head: &Signed<Head>) {
        let known = self.head.as_ref().and_then(|known| Evidence::of_heads(known, head));
        let adopted = self.chain.record().and_then(|record| Evidence::of_head(head, record));
        if let Some(evidence) = adopted.or(known) {
            self.halt(Halt::Evidence(evidence));
        }
    }

    /// Takes the signed list of claims of the open round.
    fn take_list(&mut self, bytes: &[u8]) -> bool {
        let Ok(list) = Signed::<ClaimList>::from_bytes(bytes) else { return false };
        if list.value.round != self.chain.open_round() {
            return true;
        }
        if self.chain.check_list(&list, &*self.config.check).is_err() {
            return false;
        }
        self.note_list(&list);
        true
    }

    /// Looks whether a receipted claim of this member is missing from its list.
    fn note_list(&mut self, list: &Signed<ClaimList>) {
        let Work::Claimed(claimed) = &mut self.work else { return };
        if claimed.list_seen || list.value.round != claimed.claim.value.round {
            return;
        }
        claimed.list_seen = true;
        let receipt = claimed.receipt.as_ref();
        let omitted = receipt.and_then(|receipt| Evidence::of_omission(&claimed.claim, receipt, list));
        if let Some(evidence) = omitted {
            self.event(MemberEvent::Omitted(evidence));
        }
    }

    /// Takes a record. `false`: it is not one that was asked for, or not whole.
    pub(super) fn take_record(&mut self, now_ms: u64, bytes: &[u8], list: Option<&[u8]>) -> bool {
        if self.advancing.is_some() {
            return true;
        }
        let Ok(record) = Signed::<Record>::from_bytes(bytes) else { return false };
        let signed = self.chain.signed_by_operators(&record, &*self.config.check).is_ok();
        if !signed || record.value.run != self.chain.run() {
            return false;
        }
        if record.value.round < self.chain.open_round() {
            if let Some(evidence) = self.chain.record().and_then(|known| Evidence::of_records(known, &record)) {
                self.halt(Halt::Evidence(evidence));
            }
            return true;
        }
        if record.value.round == self.chain.open_round() && !self.catches_up(record.value.round) {
            return self.apply(record, list);
        }
        if Some(record.value.round) != self.next_record()
            || self.chain.check_detached(&record, &*self.config.check).is_err()
        {
            return false;
        }
        self.requests.hurry(RequestKind::Status, now_ms);
        self.actions.push_back(MemberAction::CatchUp {
            round: record.value.round,
            ledger: record.value.ledger,
            checkpoint: record.value.checkpoint,
            outer_state: record.value.outer_state,
        });
        self.stop_work(false);
        self.advancing = Some(Advancing::CatchingUp(Box::new(record)));
        true
    }

    fn apply(&mut self, record: Signed<Record>, list: Option<&[u8]>) -> bool {
        let list = list.and_then(|bytes| Signed::<ClaimList>::from_bytes(bytes).ok());
        // A list that the record does not name proves nothing against the record: whoever answered mixed them up.
        let list = list.filter(|list| list.id() == record.value.claims);
        match self.chain.apply(&record, list.as_ref(), &*self.config.check) {
            Ok(next) => {
                if let Some(list) = &list {
                    self.note_list(list);
                }
                self.stop_work(false);
                self.actions.push_back(MemberAction::Apply {
                    round: record.value.round,
                    contributions: record.value.contributions.clone(),
                    checkpoint: record.value.checkpoint,
                    outer_state: record.value.outer_state,
                });
                self.advancing = Some(Advancing::Applying(Box::new(next)));
                true
            }
            Err(error) if error.is_missing() => false,
            Err(error) => {
                self.halt(Halt::BadRecord { record: Box::new(record), error });
                true
            }
        }
    }

    /// Takes a refusal of a join or claim.
    pub(super) fn take_refusal(&mut self, now_ms: u64, kind: RequestKind, reason: Refused) -> bool {
        self.requests.hurry(RequestKind::Status, now_ms);
        match kind {
            RequestKind::Claim => self.claim_refused(reason),
            RequestKind::Join => {
                self.event(MemberEvent::JoinRefused { reason });
                false
            }
            RequestKind::Status | RequestKind::Record => false,
        }
    }

    /// Whether `member` is this machine's; for drivers that serve several.
    pub fn is_me(&self, member: &MemberId) -> bool {
        self.member == *member
    }
}
