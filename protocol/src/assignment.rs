//! Who does what in a round: a pure function of manifest, ledger and seed, so that everybody computes it and nobody is told.
//!
//! **How many inner steps** ([`steps_of_members`]). A member on probation (fewer than `probation_rounds` accepted
//! contributions) is asked for `probation_steps`. Afterwards it is asked for twice the inner steps of its last accepted
//! contribution if that was all it was assigned, else for an eighth more (at least one more) than it did; never for more
//! than `inner.steps`. Each round in a row that it was absent halves the question. Speed is thus what was accepted, never
//! what is said. Then two caps, both on levels, so that they only bite the largest:
//!
//! - *newcomers*: if anybody is past probation, all on probation together get at most
//!   `floor(q · V / (1000 − q))` inner steps, `V` those of the others and `q` the manifest's thousandths: none is asked for
//!   more than the largest level that keeps to it.
//! - *members*: nobody is asked for more than `C`, the largest integer with `1000 · C ≤ p · T(C)`, where `T(C)` is the
//!   round's total under that level (newcomers' cap included) and `p` the manifest's thousandths. With fewer than `1000 / p`
//!   members no level can do it, and there is no cap.
//!
//! No cap brings a member below one inner step.
//!
//! **Which positions** ([`assign`]). Members draw in an order shuffled by the seed, first from the ledger's returned spans
//! (in an order shuffled by the seed), then fresh positions. What one draws is gone for the next: disjoint by construction.
//! A shuffle is a sort by the keyed BLAKE3 hash of each item's canonical bytes.

use crate::encoding;
use crate::ids::{Hash, MemberId, RunId};
use crate::ledger::{Ledger, Span, Standing};
use crate::manifest::Manifest;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What one member does in one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Assignment {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: u64,
    /// Who.
    pub member: MemberId,
    /// The positions, in the order in which the inner steps read them.
    pub spans: Vec<Span>,
}

impl Assignment {
    /// Inner steps assigned.
    pub fn steps(&self) -> u32 {
        let total = self.spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.len));
        u32::try_from(total).unwrap_or(u32::MAX)
    }

    /// The hash of the canonical bytes: what a claim names.
    pub fn digest(&self) -> Hash {
        Hash::of(&encoding::encode(self))
    }

    /// The position that inner step `step` (from 0) of this assignment reads.
    pub fn position_of(&self, step: u32) -> Option<u64> {
        let mut left = u64::from(step);
        for span in &self.spans {
            if left < span.len {
                return Some(span.start.saturating_add(left));
            }
            left = left.saturating_sub(span.len);
        }
        None
    }

    /// Every position, in order.
    pub fn positions(&self) -> impl Iterator<Item = u64> + '_ {
        self.spans.iter().flat_map(|span| span.start..span.end())
    }

    /// What is left after the first `steps` inner steps.
    pub fn rest(&self, steps: u32) -> Vec<Span> {
        let mut skip = u64::from(steps);
        let mut out = Vec::new();
        for span in &self.spans {
            let cut = skip.min(span.len);
            skip = skip.saturating_sub(cut);
            if cut < span.len {
                out.push(Span { start: span.start.saturating_add(cut), len: span.len.saturating_sub(cut) });
            }
        }
        out
    }
}

/// A member's assignment among those of a round, which are sorted by member id.
pub fn of_member<'a>(assignments: &'a [Assignment], member: &MemberId) -> Option<&'a Assignment> {
    let index = assignments.binary_search_by_key(member, |assignment| assignment.member).ok()?;
    assignments.get(index)
}

/// The seed of a round's assignment: the BLAKE3 key derivation of run, round, the preimage that the record before revealed,
/// and that record's id.
pub fn seed(run: RunId, round: u64, preimage: Hash, record: Hash) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("essaim/1 assignment seed");
    hasher.update(run.as_bytes());
    hasher.update(&round.to_le_bytes());
    hasher.update(preimage.as_bytes());
    hasher.update(record.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The assignments of the round that `ledger` decides, one for each of its members, by rising member id.
pub fn assign(manifest: &Manifest, ledger: &Ledger, seed: [u8; 32]) -> Vec<Assignment> {
    let mut order: Vec<(Standing, u32)> =
        ledger.members.iter().copied().zip(steps_of_members(manifest, &ledger.members)).collect();
    order.sort_by_cached_key(|(standing, _)| shuffle_key(&seed, standing.member.as_bytes()));
    let mut spans = ledger.returned.clone();
    spans.sort_by_cached_key(|span| shuffle_key(&seed, &encoding::encode(span)));
    let mut queue: VecDeque<Span> = spans.into();
    let mut fresh = ledger.next_position;
    let mut out: Vec<Assignment> = order
        .into_iter()
        .map(|(standing, steps)| Assignment {
            run: ledger.run,
            round: ledger.next_round,
            member: standing.member,
            spans: draw(&mut queue, &mut fresh, u64::from(steps)),
        })
        .collect();
    out.sort_unstable_by_key(|assignment| assignment.member);
    out
}

fn shuffle_key(seed: &[u8; 32], item: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(seed, item).as_bytes()
}

/// Takes `steps` positions, returned ones first.
fn draw(queue: &mut VecDeque<Span>, fresh: &mut u64, mut steps: u64) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    while steps > 0 {
        let source = queue.pop_front().unwrap_or(Span { start: *fresh, len: u64::MAX });
        let len = source.len.min(steps);
        steps = steps.saturating_sub(len);
        let taken = Span { start: source.start, len };
        if source.len == u64::MAX {
            *fresh = taken.end();
        } else if len < source.len {
            queue.push_front(Span { start: taken.end(), len: source.len.saturating_sub(len) });
        }
        out.push(taken);
    }
    out
}

/// Inner steps of each of `members` in the next round, in their order. At least one each.
pub fn steps_of_members(manifest: &Manifest, members: &[Standing]) -> Vec<u32> {
    let admission = &manifest.admission;
    let asked: Vec<Asked> = members.iter().map(|standing| Asked::of(manifest, standing)).collect();
    let caps = Caps {
        newcomers: Levels::new(asked.iter().filter(|asked| asked.newcomer)),
        others: Levels::new(asked.iter().filter(|asked| !asked.newcomer)),
        newcomer_permille: u64::from(admission.newcomer_share_max_permille.min(1000)),
    };
    let highest = caps.newcomers.highest().max(caps.others.highest());
    let share = u64::from(admission.member_share_max_permille);
    let holds = |level: &u64| {
        let total = caps.total(*level);
        level.saturating_mul(1000) <= share.saturating_mul(total)
    };
    let level = (1..=highest).rev().find(holds).unwrap_or(highest);
    let newcomer_level = caps.newcomer_level(level);
    let capped = |asked: &Asked| asked.steps.min(if asked.newcomer { newcomer_level } else { level });
    asked.iter().map(|asked| u32::try_from(capped(asked)).unwrap_or(u32::MAX)).collect()
}

/// What a member would do if nothing capped it.
struct Asked {
    newcomer: bool,
    steps: u64,
}

impl Asked {
    fn of(manifest: &Manifest, standing: &Standing) -> Asked {
        let admission = &manifest.admission;
        let newcomer = standing.accepted_rounds < admission.probation_rounds || standing.accepted_steps == 0;
        let accepted = standing.accepted_steps;
        let steps = if newcomer {
            admission.probation_steps
        } else if accepted >= standing.granted_steps {
            accepted.saturating_mul(2)
        } else {
            accepted.saturating_add((accepted >> 3).max(1))
        };
        let steps = steps.min(manifest.inner.steps).checked_shr(standing.absent_rounds).unwrap_or(0).max(1);
        Asked { newcomer, steps: u64::from(steps) }
    }
}

/// Sums of many numbers, each cut to a level.
struct Levels {
    /// Rising.
    sorted: Vec<u64>,
    /// `sums[i]`: the sum of the first `i`.
    sums: Vec<u64>,
}

impl Levels {
    fn new<'a>(asked: impl Iterator<Item = &'a Asked>) -> Levels {
        let mut sorted: Vec<u64> = asked.map(|asked| asked.steps).collect();
        sorted.sort_unstable();
        let mut sum = 0u64;
        let mut sums = vec![0];
        for steps in &sorted {
            sum = sum.saturating_add(*steps);
            sums.push(sum);
        }
        Levels { sorted, sums }
    }

    fn highest(&self) -> u64 {
        self.sorted.last().copied().unwrap_or(0)
    }

    fn total(&self, level: u64) -> u64 {
        let below = self.sorted.partition_point(|steps| *steps <= level);
        let above = self.sorted.len().saturating_sub(below) as u64;
        self.sums.get(below).copied().unwrap_or(0).saturating_add(above.saturating_mul(level))
    }
}

struct Caps {
    newcomers: Levels,
    others: Levels,
    newcomer_permille: u64,
}

impl Caps {
    /// The level of newcomers where nobody gets more than `level`.
    fn newcomer_level(&self, level: u64) -> u64 {
        let others = self.others.total(level);
        let rest = 1000u64.saturating_sub(self.newcomer_permille);
        let Some(budget) = self.newcomer_permille.saturating_mul(others).checked_div(rest) else {
            return level;
        };
        if others == 0 || self.newcomers.total(level) <= budget {
            return level;
        }
        let (mut holds, mut breaks) = (1u64, level);
        while holds.saturating_add(1) < breaks {
            let middle = holds.midpoint(breaks);
            if self.newcomers.total(middle) <= budget {
                holds = middle;
            } else {
                breaks = middle;
            }
        }
        holds
    }

    fn total(&self, level: u64) -> u64 {
        self.others.total(level).saturating_add(self.newcomers.total(self.newcomer_level(level)))
    }
}
