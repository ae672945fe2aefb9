//! A round, from both ends: the coordinator's and the member's state machine.
//!
//! Both are **sans-IO**: they own no socket, disk or clock. A driver hands in what happened (`handle_*`, with the time in
//! milliseconds on any clock that does not go back), then takes out what is to be done (`poll_action`) until there is
//! nothing more, and calls `handle_timeout` when `next_timeout` has come. The same machines run in the daemons and in the
//! simulation.
//!
//! Two rules for drivers:
//! 1. **Actions are done in their order**, and a `Persist` is on disk before anything after it is done, and before a reply
//!    that the machine returned is sent. So whatever was said is found again after a crash, and said again in the same bytes.
//! 2. Time never decides a number. Two machines with other clocks sign other statements, but what a statement means is
//!    computed from statements alone.

mod coordinator;
mod member;

pub use coordinator::{
    CoordinatorAction, CoordinatorConfig, CoordinatorError, CoordinatorMachine, CoordinatorPhase, CoordinatorRestored,
    CoordinatorView, HeldClaim, Stored, UpdateOutcome,
};
pub use member::{
    AdvanceFailure, Halt, MemberAction, MemberConfig, MemberError, MemberEvent, MemberMachine, MemberPhase,
    MemberRestored, MemberStored, MemberTiming, MemberView, WorkDone, WorkOrder,
};

use crate::ids::Hash;
use crate::statements::HeldoutLoss;

/// What an outer step came to, as the driver computed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OuterResult {
    /// Hash of the checkpoint's model file.
    pub checkpoint: Hash,
    /// Hash of the outer state.
    pub outer_state: Hash,
    /// Held-out loss of the checkpoint, by rising language.
    pub heldout: Vec<HeldoutLoss>,
}

#[cfg(test)]
mod tests;
