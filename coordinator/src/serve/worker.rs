//! The thread that calculates: checks updates, makes the next checkpoint, measures held-out loss. It holds the base
//! checkpoint; jobs come in and answers go out through channels, so the driver never waits for arithmetic.

use crate::checkpoint::{self, CheckpointHashes};
use crate::public::PublicFolder;
use essaim_kernels::Exec;
use essaim_network::BlobStore;
use essaim_protocol::dataset::HeldoutShard;
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::layout;
use essaim_protocol::manifest::{F64Bits, Manifest};
use essaim_protocol::round::{OuterResult, UpdateOutcome};
use essaim_protocol::statements::{Contribution, HeldoutLoss, RefusalReason};
use essaim_train::aggregate::{AggregateError, check_update, next_checkpoint};
use essaim_train::codec::UpdateFormat;
use essaim_train::eval::{TokenBytes, evaluate_shard};
use essaim_train::model::Evaluator;
use essaim_train::round::{Base, RoundContext};
use essaim_train::shard::ShardReader;
use std::path::PathBuf;
use std::sync::Arc;

/// Something to calculate.
#[derive(Debug)]
pub(super) enum Job {
    /// Look at an update that was fetched.
    Check { round: u64, member: MemberId, update: Hash },
    /// Make the checkpoint of `round`.
    Aggregate { round: u64, contributions: Vec<Contribution>, base: Option<BaseOf> },
}

/// What a round starts from, as the record before says.
#[derive(Debug, Clone)]
pub(super) struct BaseOf {
    /// Hashes of the checkpoint.
    pub(super) hashes: CheckpointHashes,
    /// Its held-out loss.
    pub(super) heldout: Vec<HeldoutLoss>,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Done {
    /// What an update is.
    Checked { round: u64, member: MemberId, outcome: UpdateOutcome, reason: Option<String> },
    /// A checkpoint, in a folder under `temp/`.
    Aggregated { round: u64, result: OuterResult, folder: PathBuf },
    /// No checkpoint, because of these values.
    NonFinite { round: u64, blamed: Option<MemberId>, reason: String },
    /// No checkpoint: this machine failed.
    Failed { round: u64, reason: String },
}

/// The thread's state.
pub(super) struct Worker {
    pub(super) exec: Exec,
    pub(super) manifest: Arc<Manifest>,
    pub(super) run: RunId,
    pub(super) public: PublicFolder,
    pub(super) blobs: Arc<BlobStore>,
    pub(super) heldout: Vec<HeldoutShard>,
    pub(super) token_bytes: TokenBytes,
    /// The checkpoint in memory, and the round that made it.
    pub(super) base: Option<(u64, Base)>,
}

/// Why a job came to nothing.
enum Failure {
    NonFinite { blamed: Option<MemberId>, reason: String },
    Local(String),
}

fn local(error: impl ToString) -> Failure {
    Failure::Local(error.to_string())
}

impl Worker {
    /// Works until the driver is gone.
    pub(super) fn run(
        mut self,
        jobs: &std::sync::mpsc::Receiver<Job>,
        done: &tokio::sync::mpsc::UnboundedSender<Done>,
    ) {
        while let Ok(job) = jobs.recv() {
            let answer = match job {
                Job::Check { round, member, update } => self.check(round, member, &update),
                Job::Aggregate { round, contributions, base } => match self.aggregate(round, &contributions, base) {
                    Ok((result, folder)) => Done::Aggregated { round, result, folder },
                    Err(Failure::NonFinite { blamed, reason }) => Done::NonFinite { round, blamed, reason },
                    Err(Failure::Local(reason)) => Done::Failed { round, reason },
                },
            };
            if done.send(answer).is_err() {
                return;
            }
        }
    }

    fn check(&self, round: u64, member: MemberId, update: &Hash) -> Done {
        let max = UpdateFormat::of(&self.manifest).len_bytes() as u64;
        let bytes = match self.blobs.read(update, max) {
            Ok(bytes) => bytes,
            Err(error) => {
                let (outcome, reason) = (UpdateOutcome::Unavailable, Some(error.to_string()));
                return Done::Checked { round, member, outcome, reason };
            }
        };
        let (outcome, reason) = match check_update(&self.context(round), member, &bytes) {
            Ok(_) => (UpdateOutcome::Verified, None),
            Err(error) if error.refusal() == RefusalReason::NonFinite => {
                (UpdateOutcome::NonFinite, Some(error.to_string()))
            }
            Err(error) => (UpdateOutcome::Malformed, Some(error.to_string())),
        };
        Done::Checked { round, member, outcome, reason }
    }

    fn context(&self, round: u64) -> RoundContext<'_> {
        RoundContext { exec: &self.exec, manifest: &self.manifest, run: self.run, round }
    }

    fn aggregate(
        &mut self,
        round: u64,
        contributions: &[Contribution],
        of: Option<BaseOf>,
    ) -> Result<(OuterResult, PathBuf), Failure> {
        let mut base = self.take_base(round, of.as_ref())?;
        let blobs = self.blobs.clone();
        let max = UpdateFormat::of(&self.manifest).len_bytes() as u64;
        let mut fetch = |one: &Contribution| blobs.read(&one.update, max).map_err(std::io::Error::other);
        if let Err(error) = next_checkpoint(&self.context(round), contributions, &mut fetch, &mut base) {
            // The base is unchanged then, and stays the one of the round before.
            self.base = round.checked_sub(1).map(|before| (before, base));
            let reason = error.to_string();
            return Err(match error {
                AggregateError::NonFinite => Failure::NonFinite { blamed: None, reason },
                AggregateError::Update { member, .. } | AggregateError::Weight { member } => {
                    Failure::NonFinite { blamed: Some(member), reason }
                }
                _ => Failure::Local(reason),
            });
        }
        let heldout = match of {
            Some(of) if contributions.is_empty() => of.heldout,
            _ => self.evaluate(&base.params).map_err(local)?,
        };
        if let Some(loss) = heldout.iter().find(|loss| !loss.nats.is_finite()) {
            return Err(Failure::NonFinite { blamed: None, reason: format!("held-out loss of '{}'", loss.language) });
        }
        let (folder, hashes) = checkpoint::write(&self.public, &self.manifest, &base).map_err(local)?;
        self.base = Some((round, base));
        Ok((OuterResult { checkpoint: hashes.model, outer_state: hashes.outer, heldout }, folder))
    }

    /// The base of a round, from memory or from disk; it leaves memory, since aggregation changes it in place.
    fn take_base(&mut self, round: u64, of: Option<&BaseOf>) -> Result<Base, Failure> {
        let held = self.base.take();
        let Some(before) = round.checked_sub(1) else {
            return Ok(Base::initial(&self.exec, &self.manifest));
        };
        if let Some((made_by, base)) = held
            && made_by == before
        {
            return Ok(base);
        }
        let of = of.ok_or_else(|| Failure::Local(format!("round {round} has no record before it")))?;
        let folder = self.public.path(&layout::checkpoint(before));
        checkpoint::read(&folder, &self.manifest, of.hashes).map_err(local)
    }

    /// Held-out loss of parameters, by rising language.
    fn evaluate(&self, params: &[f32]) -> Result<Vec<HeldoutLoss>, String> {
        let mut evaluator = Evaluator::new(&self.manifest.model);
        let mut out = Vec::with_capacity(self.heldout.len());
        for heldout in &self.heldout {
            let path = self.public.path(&layout::shard(&heldout.shard.hash));
            let mut shard = ShardReader::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let max = self.manifest.heldout_tokens_max;
            let loss = evaluate_shard(&self.exec, &mut evaluator, params, &mut shard, &self.token_bytes, max)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            out.push(HeldoutLoss {
                language: heldout.language.clone(),
                nats: F64Bits(loss.nats.to_bits()),
                tokens: loss.tokens,
                text_bytes: loss.text_bytes,
            });
        }
        out.sort_by(|a, b| a.language.cmp(&b.language));
        Ok(out)
    }
}

/// What a record says of its checkpoint.
pub(super) fn hashes_of(record: &essaim_protocol::statements::Record) -> CheckpointHashes {
    CheckpointHashes { model: record.checkpoint, outer: record.outer_state }
}
