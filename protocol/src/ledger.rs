//! The ledger: what follows from the records so far. Which data were handed out, whose work came back, who is a member
//! of the next round and how much work of theirs was accepted.
//!
//! It is a **pure function of the records**: [`Ledger::apply`]. Each record commits to the hash of the ledger after it, so
//! that somebody who joins late fetches the ledger by that hash instead of reading the chain from its beginning.
//!
//! Work is counted in **positions**: position `p` is the batch of one inner step, and [`crate::data_order`] says which
//! piece of which shard it is. Every position is either consumed by an accepted contribution, waiting in `returned`, part
//! of an open assignment, or not handed out yet (`next_position` and above).

use crate::assignment::Assignment;
use crate::encoding::{self, DecodeError};
use crate::ids::{Hash, MemberId, RunId};
use crate::limits;
use crate::manifest::Manifest;
use crate::statements::Record;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Consecutive positions: `start`, `start + 1`, … `start + len - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Span {
    /// The first position.
    pub start: u64,
    /// How many; never 0 in a ledger or assignment.
    pub len: u64,
}

impl Span {
    /// The position after the last.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Standing {
    /// Who.
    pub member: MemberId,
    /// The first round it takes part in.
    pub joined_round: u64,
    /// Its accepted contributions since then.
    pub accepted_rounds: u32,
    /// Inner steps that it was assigned in the round of its last accepted contribution.
    pub granted_steps: u32,
    /// Inner steps that it did in that round.
    pub accepted_steps: u32,
    /// Rounds in a row, up to the last, without an accepted contribution.
    pub absent_rounds: u32,
}

impl Standing {
    /// A member that has done nothing yet and takes part from `joined_round` on.
    pub fn new(member: MemberId, joined_round: u64) -> Standing {
        Standing { member, joined_round, accepted_rounds: 0, granted_steps: 0, accepted_steps: 0, absent_rounds: 0 }
    }
}

/// What follows from the records so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Ledger {
    /// The run.
    pub run: RunId,
    /// The round that comes next, and whose members and work this ledger decides: one more than the last record's.
    pub next_round: u64,
    /// Tokens of accepted contributions.
    pub tokens_total: u64,
    /// The lowest position never handed out.
    pub next_position: u64,
    /// Work handed out that nobody did: sorted, disjoint, not adjacent, all below `next_position`.
    pub returned: Vec<Span>,
    /// Members of the next round, by rising id.
    pub members: Vec<Standing>,
}

/// Most spans kept in [`Ledger::returned`]. If more come back, those with the highest positions are given up: that text is
/// skipped in this epoch. It takes tens of thousands of members who all stop half-way to get there.
pub const RETURNED_SPANS_MAX: usize = 1 << 19;

/// Why bytes are no ledger, or a record cannot be applied to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Not canonical bytes.
    #[error("ledger: {0}")]
    Decode(#[from] DecodeError),
    /// Spans or members out of order, or over a bound.
    #[error("ledger: {0}")]
    Form(&'static str),
    /// A record of another run.
    #[error("record of run {got:?} on the ledger of run {expected:?}")]
    Run {
        /// The record's.
        got: RunId,
        /// The ledger's.
        expected: RunId,
    },
    /// A record of another round.
    #[error("record {got} where record {expected} comes next")]
    Round {
        /// The record's.
        got: u64,
        /// The ledger's.
        expected: u64,
    },
    /// A contribution of somebody without an assignment, or a second one of the same member.
    #[error("contribution of {member:?}, who has no assignment in round {round} or contributed already")]
    NotAssigned {
        /// Who.
        member: MemberId,
        /// When.
        round: u64,
    },
    /// A contribution of more inner steps than were assigned, or of none.
    #[error("contribution of {member:?} with {steps} inner steps of {assigned} assigned")]
    Steps {
        /// Who.
        member: MemberId,
        /// Inner steps contributed.
        steps: u32,
        /// Inner steps assigned.
        assigned: u32,
    },
    /// An admitted member that is one already, or is named twice.
    #[error("{member:?} is admitted twice")]
    AdmittedTwice {
        /// Who.
        member: MemberId,
    },
    /// More members than the manifest allows.
    #[error("{got} members, {max} are allowed")]
    Members {
        /// How many there would be.
        got: usize,
        /// How many may be.
        max: u32,
    },
}

impl Ledger {
    /// The ledger before record 0.
    pub fn genesis(run: RunId) -> Ledger {
        Ledger { run, next_round: 0, tokens_total: 0, next_position: 0, returned: Vec::new(), members: Vec::new() }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::encode(self)
    }

    /// The hash of the canonical bytes: what a record commits to.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.to_bytes())
    }

    /// Reads canonical bytes and checks order and bounds.
    ///
    /// # Errors
    /// [`LedgerError::Decode`] and [`LedgerError::Form`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Ledger, LedgerError> {
        let ledger: Ledger = encoding::decode(bytes, limits::LEDGER_MAX)?;
        ledger.check_form()?;
        Ok(ledger)
    }

    /// A member's standing.
    pub fn member(&self, member: &MemberId) -> Option<&Standing> {
        let index = self.members.binary_search_by_key(member, |standing| standing.member).ok()?;
        self.members.get(index)
    }

    /// The ledger after `record`, where `assignments` are those of the record's round, by rising member id.
    ///
    /// Contributions consume the first so many positions of their assignment; the rest of it, and all of the assignment of
    /// members who vanished or whose update was refused, returns. Signatures, hashes and the rest of the record are not
    /// looked at: [`crate::chain`] does that.
    ///
    /// # Errors
    /// [`LedgerError`] when the record contradicts the ledger.
    pub fn apply(
        &self,
        manifest: &Manifest,
        assignments: &[Assignment],
        record: &Record,
    ) -> Result<Ledger, LedgerError> {
        if record.run != self.run {
            return Err(LedgerError::Run { got: record.run, expected: self.run });
        }
        if record.round != self.next_round {
            return Err(LedgerError::Round { got: record.round, expected: self.next_round });
        }
        let mut done: BTreeMap<MemberId, u32> = BTreeMap::new();
        let mut tokens_total = self.tokens_total;
        for contribution in &record.contributions {
            tokens_total = tokens_total.saturating_add(contribution.tokens);
            let (member, round) = (contribution.member, record.round);
            if done.insert(member, contribution.steps).is_some() {
                return Err(LedgerError::NotAssigned { member, round });
            }
        }
        let work = pair(assignments, &done, record.round)?;
        let (returned, next_position) = self.settle(&work);
        Ok(Ledger {
            run: self.run,
            next_round: self.next_round.saturating_add(1),
            tokens_total,
            next_position,
            returned,
            members: self.next_members(manifest, &work, record)?,
        })
    }

    /// Positions that wait after the round, and the next fresh one.
    fn settle(&self, work: &[(&Assignment, u32)]) -> (Vec<Span>, u64) {
        let mut assigned: Vec<Span> = work.iter().flat_map(|(a, _)| a.spans.iter().copied()).collect();
        let next_position = assigned.iter().map(Span::end).fold(self.next_position, u64::max);
        assigned.sort_unstable();
        let mut waiting = subtract(&self.returned, &assigned);
        waiting.extend(work.iter().flat_map(|(assignment, steps)| assignment.rest(*steps)));
        let mut waiting = merge(waiting);
        waiting.truncate(RETURNED_SPANS_MAX);
        (waiting, next_position)
    }

    fn next_members(
        &self,
        manifest: &Manifest,
        work: &[(&Assignment, u32)],
        record: &Record,
    ) -> Result<Vec<Standing>, LedgerError> {
        let mut members: Vec<Standing> = Vec::with_capacity(self.members.len().saturating_add(record.admitted.len()));
        let mut work = work.iter().peekable();
        for standing in &self.members {
            let mut next = *standing;
            while work.next_if(|(assignment, _)| assignment.member < standing.member).is_some() {}
            match work.next_if(|(assignment, steps)| assignment.member == standing.member && *steps > 0) {
                Some((assignment, steps)) => {
                    next.accepted_rounds = next.accepted_rounds.saturating_add(1);
                    next.granted_steps = assignment.steps();
                    next.accepted_steps = *steps;
                    next.absent_rounds = 0;
                }
                None => next.absent_rounds = next.absent_rounds.saturating_add(1),
            }
            if next.absent_rounds < manifest.admission.absent_rounds_max {
                members.push(next);
            }
        }
        for admitted in &record.admitted {
            if self.member(&admitted.member).is_some() {
                return Err(LedgerError::AdmittedTwice { member: admitted.member });
            }
            members.push(Standing::new(admitted.member, record.round.saturating_add(1)));
        }
        members.sort_by_key(|standing| standing.member);
        let twice = members.iter().zip(members.iter().skip(1)).find(|(a, b)| a.member == b.member);
        if let Some((standing, _)) = twice {
            return Err(LedgerError::AdmittedTwice { member: standing.member });
        }
        let max = manifest.admission.members_max;
        if u32::try_from(members.len()).unwrap_or(u32::MAX) > max {
            return Err(LedgerError::Members { got: members.len(), max });
        }
        Ok(members)
    }

    fn check_form(&self) -> Result<(), LedgerError> {
        if self.returned.len() > RETURNED_SPANS_MAX {
            return Err(LedgerError::Form("more returned spans than are kept"));
        }
        let mut end = None;
        for span in &self.returned {
            let past = span.start.checked_add(span.len).ok_or(LedgerError::Form("a span beyond the last position"))?;
            if span.len == 0 || end.is_some_and(|end| span.start <= end) || past > self.next_position {
                return Err(LedgerError::Form("returned spans that are empty, out of order or not handed out before"));
            }
            end = Some(past);
        }
        if u32::try_from(self.members.len()).unwrap_or(u32::MAX) > limits::MEMBERS_MAX {
            return Err(LedgerError::Form("more members than any run may have"));
        }
        if !self.members.is_sorted_by(|a, b| a.member < b.member) {
            return Err(LedgerError::Form("members out of order or twice"));
        }
        Ok(())
    }
}

/// Each assignment with the inner steps done of it; 0 if none were.
fn pair<'a>(
    assignments: &'a [Assignment],
    done: &BTreeMap<MemberId, u32>,
    round: u64,
) -> Result<Vec<(&'a Assignment, u32)>, LedgerError> {
    let mut left = done.iter().peekable();
    let mut out = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        if let Some((&member, _)) = left.next_if(|(member, _)| **member < assignment.member) {
            return Err(LedgerError::NotAssigned { member, round });
        }
        let steps = left.next_if(|(member, _)| **member == assignment.member).map(|(_, steps)| *steps);
        let assigned = assignment.steps();
        if let Some(steps) = steps
            && (steps == 0 || steps > assigned)
        {
            return Err(LedgerError::Steps { member: assignment.member, steps, assigned });
        }
        out.push((assignment, steps.unwrap_or(0)));
    }
    match left.next() {
        Some((&member, _)) => Err(LedgerError::NotAssigned { member, round }),
        None => Ok(out),
    }
}

/// Sorted, disjoint, not adjacent spans that cover what `spans` cover.
fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.len > 0);
    spans.sort_unstable();
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match out.last_mut() {
            Some(last) if last.end() >= span.start => {
                last.len = last.end().max(span.end()).saturating_sub(last.start);
            }
            _ => out.push(span),
        }
    }
    out
}

/// What of `from` is not in `taken`; both sorted and disjoint.
fn subtract(from: &[Span], taken: &[Span]) -> Vec<Span> {
    let mut out = Vec::new();
    let mut taken = taken.iter().peekable();
    for span in from {
        let mut start = span.start;
        while let Some(cut) = taken.peek() {
            if cut.start >= span.end() {
                break;
            }
            if cut.start > start {
                out.push(Span { start, len: cut.start.saturating_sub(start) });
            }
            start = start.max(cut.end());
            if cut.end() > span.end() {
                break;
            }
            taken.next();
        }
        if start < span.end() {
            out.push(Span { start, len: span.end().saturating_sub(start) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, len: u64) -> Span {
        Span { start, len }
    }

    #[test]
    fn spans_merge_and_subtract() {
        assert_eq!(merge(vec![span(5, 2), span(0, 3), span(3, 1), span(9, 0)]), [span(0, 4), span(5, 2)]);
        assert_eq!(
            subtract(&[span(0, 10), span(20, 5)], &[span(2, 3), span(8, 2), span(20, 1)]),
            [span(0, 2), span(5, 3), span(21, 4)]
        );
        assert_eq!(subtract(&[span(0, 4)], &[span(0, 4), span(4, 9)]), []);
    }

    #[test]
    fn a_ledger_out_of_order_is_refused() {
        let mut ledger = Ledger::genesis(RunId([1; 32]));
        ledger.next_position = 10;
        ledger.returned = vec![span(0, 2), span(3, 7)];
        assert_eq!(Ledger::from_bytes(&ledger.to_bytes()), Ok(ledger.clone()));
        for bad in [vec![span(0, 2), span(2, 1)], vec![span(4, 1), span(0, 1)], vec![span(9, 2)], vec![span(1, 0)]] {
            ledger.returned = bad;
            assert!(matches!(Ledger::from_bytes(&ledger.to_bytes()), Err(LedgerError::Form(_))), "{ledger:?}");
        }
        ledger.returned.clear();
        ledger.members = vec![Standing::new(MemberId([2; 32]), 1), Standing::new(MemberId([2; 32]), 1)];
        assert!(matches!(Ledger::from_bytes(&ledger.to_bytes()), Err(LedgerError::Form(_))));
    }
}
