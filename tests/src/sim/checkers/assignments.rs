//! Every position is handed out to one member at a time, consumed at most once, and never forgotten.

use super::Checker;
use essaim_protocol::assignment::of_member;
use essaim_protocol::chain::ChainState;
use essaim_protocol::statements::Record;
use std::collections::BTreeSet;

/// Assignments of a round are disjoint from each other and from everything consumed before.
#[derive(Debug, Default)]
pub struct Disjoint {
    consumed: BTreeSet<u64>,
}

impl Checker for Disjoint {
    fn name(&self) -> &'static str {
        "assignments disjoint"
    }

    fn round(&mut self, before: &ChainState, record: &Record, after: &ChainState) -> Result<(), String> {
        for contribution in &record.contributions {
            let assignment = of_member(before.assignments(), &contribution.member).ok_or("a contribution of nobody")?;
            for position in assignment.positions().take(contribution.steps as usize) {
                if !self.consumed.insert(position) {
                    return Err(format!("position {position} is consumed twice"));
                }
            }
        }
        let mut taken = BTreeSet::new();
        for assignment in after.assignments() {
            for position in assignment.positions() {
                if self.consumed.contains(&position) || !taken.insert(position) {
                    return Err(format!("position {position} of {:?} is somebody else's", assignment.member));
                }
            }
        }
        Ok(())
    }
}

/// Work that was handed out and not done waits or is handed out again: consumed, waiting and fresh positions are all there
/// are, and what waits is handed out before anything fresh.
#[derive(Debug, Default)]
pub struct NothingLost {
    consumed: BTreeSet<u64>,
}

impl Checker for NothingLost {
    fn name(&self) -> &'static str {
        "vanished work is assigned again"
    }

    fn round(&mut self, before: &ChainState, record: &Record, after: &ChainState) -> Result<(), String> {
        for contribution in &record.contributions {
            let assignment = of_member(before.assignments(), &contribution.member).ok_or("a contribution of nobody")?;
            self.consumed.extend(assignment.positions().take(contribution.steps as usize));
        }
        let ledger = after.ledger();
        let waiting: u64 = ledger.returned.iter().map(|span| span.len).sum();
        let known = self.consumed.len() as u64 + waiting;
        if known != ledger.next_position {
            return Err(format!("{} positions handed out, {known} consumed or waiting", ledger.next_position));
        }
        let again: BTreeSet<u64> = after.assignments().iter().flat_map(|a| a.positions().collect::<Vec<_>>()).collect();
        let fresh = again.iter().any(|position| *position >= ledger.next_position);
        let waits = ledger.returned.iter().flat_map(|span| span.start..span.end()).find(|p| !again.contains(p));
        match waits {
            Some(position) if fresh => Err(format!("position {position} waits, and fresh ones are handed out")),
            _ => Ok(()),
        }
    }
}
