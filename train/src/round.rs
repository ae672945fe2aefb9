//! What contributions, aggregation and replay have in common: which round of which run, on which threads.

use crate::checkpoint;
use crate::codec::UpdateHeader;
use crate::init::initial_parameters;
use crate::state::OuterState;
use essaim_kernels::Exec;
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::Manifest;

/// A round of a run, and the threads that calculate for it.
#[derive(Debug, Clone, Copy)]
pub struct RoundContext<'a> {
    /// Where operations run.
    pub exec: &'a Exec,
    /// The run's manifest, checked.
    pub manifest: &'a Manifest,
    /// The run: the manifest's hash.
    pub run: RunId,
    /// The round.
    pub round: u64,
}

impl RoundContext<'_> {
    /// The header of a member's update in this round.
    pub fn header(&self, member: MemberId) -> UpdateHeader {
        UpdateHeader { run: self.run, round: self.round, member }
    }
}

/// What a round starts from: the record before it commits to all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// The checkpoint's parameters, flat, in the order of [`crate::params::ParamLayout`].
    pub params: Vec<f32>,
    /// The outer state.
    pub outer: OuterState,
}

impl Base {
    /// What round 1 starts from, and record 0 commits to: it follows from the manifest.
    ///
    /// # Panics
    /// When the manifest was not checked.
    pub fn initial(exec: &Exec, manifest: &Manifest) -> Base {
        let params = initial_parameters(exec, &manifest.seed, &manifest.model);
        Base { params, outer: OuterState::initial(manifest) }
    }

    /// The hash of the checkpoint's model file, as the record has it.
    pub fn checkpoint_hash(&self, manifest: &Manifest) -> Hash {
        checkpoint::model_file_hash(&manifest.model, &self.params)
    }

    /// The hash of the outer state's file, as the record has it.
    pub fn outer_hash(&self) -> Hash {
        self.outer.hash()
    }
}
