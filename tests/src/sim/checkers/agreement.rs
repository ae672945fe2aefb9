//! All honest members adopt the same checkpoints, and nothing makes them stop.

use super::{Checker, Observation};
use essaim_protocol::ids::Hash;
use essaim_protocol::round::MemberEvent;
use std::collections::BTreeMap;

/// Every honest member that adopts round `r` adopts the same checkpoint and outer state, which the record names; the
/// operator being honest, nobody finds evidence against it.
#[derive(Debug, Default)]
pub struct Agreement {
    adopted: BTreeMap<u64, (Hash, Hash)>,
}

impl Checker for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let (round, found, who) = match observation {
            Observation::Adopted { member, round, result } => {
                (*round, (result.checkpoint, result.outer_state), format!("{member:?}"))
            }
            Observation::Record(seen) => {
                let record = &seen.record.value;
                (record.round, (record.checkpoint, record.outer_state), "the record".to_owned())
            }
            Observation::Halted { member, why } => return Err(format!("{member:?} halted: {why}")),
            Observation::Told { member, event: MemberEvent::Omitted(evidence) } => {
                return Err(format!("{member:?} found {}", evidence.describe()));
            }
            _ => return Ok(()),
        };
        let first = *self.adopted.entry(round).or_insert(found);
        if first == found { Ok(()) } else { Err(format!("round {round}: {who} has {found:?}, others {first:?}")) }
    }
}
