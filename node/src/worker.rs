//! The thread that calculates: inner steps, aggregation, checkpoints. It alone holds the base in memory, and does one job
//! after the other, so that training never runs on a thread of the async runtime.

use crate::disk::{Disk, DiskError};
use crate::engine::{EngineError, Trainer};
use crate::events::Event;
use crate::reporter::Reporter;
use crate::withheld::Withheld;
use essaim_kernels::Exec;
use essaim_network::{BlobError, BlobStore};
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::Manifest;
use essaim_protocol::round::{AdvanceFailure, WorkDone, WorkOrder};
use essaim_protocol::statements::Contribution;
use essaim_train::aggregate::{self, AggregateError};
use essaim_train::contribute::{self, ContributeError, Contributed, Progress, Work};
use essaim_train::round::{Base, RoundContext};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::mpsc;

/// Why a job came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The round's base is not in memory.
    #[error("the checkpoint of round {wanted} is not here")]
    NoBase {
        /// The round whose checkpoint was needed.
        wanted: u64,
    },
    /// The updates do not give a checkpoint.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The update cannot be kept.
    #[error("the update cannot be kept: {0}")]
    Store(#[from] BlobError),
    /// No update was made.
    #[error(transparent)]
    Contribute(#[from] ContributeError),
    /// A device failed in an earlier round, and nothing else can train.
    #[error("{0}; trying again in the next round")]
    Engine(EngineError),
    /// A device failed in an earlier round, and only a new process can have it again.
    #[error("{0}; starting again")]
    Restart(EngineError),
}

impl From<EngineError> for WorkerError {
    fn from(error: EngineError) -> WorkerError {
        match error {
            EngineError::Restart { .. } => WorkerError::Restart(error),
            _ => WorkerError::Engine(error),
        }
    }
}

impl WorkerError {
    /// What a failed advance means to the member's machine; `None` when the checkpoint is proven not to exist.
    pub fn failure(&self) -> Option<AdvanceFailure> {
        match self {
            WorkerError::Aggregate(AggregateError::NonFinite) => None,
            WorkerError::Aggregate(AggregateError::Update { member, .. }) => {
                Some(AdvanceFailure::BadUpdate { member: *member })
            }
            _ => Some(AdvanceFailure::Unavailable),
        }
    }
}

/// How a job can be told to end. Times are milliseconds on the driver's clock.
#[derive(Debug)]
pub struct WorkControl {
    state: AtomicU8,
    deadline_ms: AtomicU64,
    clock: Instant,
}

const GO_ON: u8 = 0;
const CLAIM: u8 = 1;
const ABANDON: u8 = 2;

impl WorkControl {
    /// Work until `deadline_ms` after `clock`.
    pub fn new(clock: Instant, deadline_ms: u64) -> WorkControl {
        WorkControl { state: AtomicU8::new(GO_ON), deadline_ms: AtomicU64::new(deadline_ms), clock }
    }

    /// Ends the work after the inner step that is being done; with `claim`, what was done is an update.
    pub fn stop(&self, claim: bool) {
        // Whoever abandons has the last word.
        self.state.fetch_max(if claim { CLAIM } else { ABANDON }, Ordering::Relaxed);
    }

    /// Moves the deadline.
    pub fn set_deadline(&self, deadline_ms: u64) {
        self.deadline_ms.store(deadline_ms, Ordering::Relaxed);
    }

    fn is_abandoned(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ABANDON
    }

    /// Whether another inner step should begin, after `steps` that took `took_ms` together. One that would end beyond the
    /// deadline is not begun, since then nothing could be claimed in time.
    fn may_begin(&self, steps: u32, took_ms: u64) -> bool {
        if self.state.load(Ordering::Relaxed) != GO_ON {
            return false;
        }
        let Some(step_ms) = took_ms.checked_div(u64::from(steps)) else { return true };
        let now_ms = self.clock.elapsed().as_millis() as u64;
        now_ms.saturating_add(step_ms) <= self.deadline_ms.load(Ordering::Relaxed)
    }
}

/// Something to calculate.
#[derive(Debug)]
pub enum Job {
    /// The checkpoint of `round` from that of the round before and these contributions, whose updates are in the store. For
    /// round 0: the first checkpoint.
    Apply {
        /// The round.
        round: u64,
        /// By rising member id.
        contributions: Vec<Contribution>,
    },
    /// Takes a checkpoint that was downloaded.
    Adopt {
        /// The round.
        round: u64,
        /// The model file.
        model: PathBuf,
        /// The outer state's file.
        outer: PathBuf,
    },
    /// The inner steps of an assignment.
    Contribute {
        /// What to do.
        order: WorkOrder,
        /// The first so many inner steps of it.
        steps: u32,
        /// Batches, in order; closed early when no more will come.
        units: mpsc::Receiver<Vec<u32>>,
        /// How to end it.
        control: Arc<WorkControl>,
    },
}

/// What came of a job.
#[derive(Debug)]
pub enum Outcome {
    /// Checkpoint and outer state of a round are on disk, with these hashes; or not.
    Advanced {
        /// The round.
        round: u64,
        /// Hashes of checkpoint and outer state.
        result: Result<(Hash, Hash), WorkerError>,
    },
    /// An update was made and is in the store; `None` when there is nothing to claim.
    Worked {
        /// The round.
        round: u64,
        /// What to claim.
        result: Result<Option<WorkDone>, WorkerError>,
    },
}

/// What the thread works with.
pub struct Worker {
    /// Where operations run.
    pub exec: Exec,
    /// The run's manifest, checked.
    pub manifest: Arc<Manifest>,
    /// The run.
    pub run: RunId,
    /// This member.
    pub member: MemberId,
    /// What does the inner steps.
    pub trainer: Trainer,
    /// Where updates are.
    pub store: Arc<BlobStore>,
    /// Where checkpoints go.
    pub disk: Arc<Disk>,
    /// Updates that must not be served yet.
    pub withheld: Arc<Withheld>,
    /// Whom to tell of progress.
    pub reporter: Arc<Reporter>,
    /// The newest checkpoint and outer state, and their round.
    pub base: Option<(u64, Base)>,
}

impl Worker {
    /// Does the jobs of `jobs` until it is closed.
    pub fn run(mut self, jobs: &std::sync::mpsc::Receiver<Job>, outcomes: &mpsc::UnboundedSender<Outcome>) {
        for job in jobs {
            let outcome = match job {
                Job::Apply { round, contributions } => {
                    Outcome::Advanced { round, result: self.apply(round, &contributions) }
                }
                Job::Adopt { round, model, outer } => {
                    Outcome::Advanced { round, result: self.adopt(round, &model, &outer) }
                }
                Job::Contribute { order, steps, units, control } => {
                    Outcome::Worked { round: order.round, result: self.contribute(&order, steps, units, &control) }
                }
            };
            if outcomes.send(outcome).is_err() {
                return;
            }
        }
    }

    fn context(&self, round: u64) -> RoundContext<'_> {
        RoundContext { exec: &self.exec, manifest: &self.manifest, run: self.run, round }
    }

    fn apply(&mut self, round: u64, contributions: &[Contribution]) -> Result<(Hash, Hash), WorkerError> {
        let base = match round.checked_sub(1) {
            None => Base::initial(&self.exec, &self.manifest),
            Some(before) => {
                let held = self.base.take().filter(|(held, _)| *held == before);
                let (_, mut base) = held.ok_or(WorkerError::NoBase { wanted: before })?;
                let store = self.store.clone();
                let mut fetch = |contribution: &Contribution| {
                    store.read(&contribution.update, contribution.update_len_bytes).map_err(io::Error::other)
                };
                let made = aggregate::next_checkpoint(&self.context(round), contributions, &mut fetch, &mut base);
                if let Err(error) = made {
                    // The base is as it was.
                    self.base = Some((before, base));
                    return Err(error.into());
                }
                base
            }
        };
        let hashes = self.disk.write_state(&self.manifest, round, &base)?;
        self.base = Some((round, base));
        Ok(hashes)
    }

    fn adopt(
        &mut self,
        round: u64,
        model: &std::path::Path,
        outer: &std::path::Path,
    ) -> Result<(Hash, Hash), WorkerError> {
        self.base = None;
        let base = Disk::read_state(&self.manifest, model, outer)?;
        let hashes = self.disk.write_state(&self.manifest, round, &base)?;
        self.base = Some((round, base));
        Ok(hashes)
    }

    fn contribute(
        &mut self,
        order: &WorkOrder,
        steps: u32,
        mut units: mpsc::Receiver<Vec<u32>>,
        control: &WorkControl,
    ) -> Result<Option<WorkDone>, WorkerError> {
        let round = order.round;
        let wanted = round.saturating_sub(1);
        let held = self.base.as_ref().filter(|(held, _)| *held == wanted);
        let (_, base) = held.ok_or(WorkerError::NoBase { wanted })?;
        let chosen = self.trainer.ready(&self.exec, &self.manifest, &self.reporter)?.clone();
        let work = Work {
            context: self.context(round),
            engine: chosen.engine(),
            member: self.member,
            base,
            base_tokens_total: order.base_tokens_total,
            steps,
            micro_batch: chosen.micro_batch,
        };
        let next = std::cell::RefCell::new(None);
        let mut started = None::<Instant>;
        let mut source = |_step: u32| next.borrow_mut().take().ok_or_else(|| "no batch is here".into());
        let mut proceed = |progress: &Progress| {
            let started = *started.get_or_insert_with(Instant::now);
            self.tell(round, progress, started);
            if !control.may_begin(progress.steps, started.elapsed().as_millis() as u64) {
                return ControlFlow::Break(());
            }
            // Waits for data; the feeder ends when the work is to be stopped, so this does not outlast it.
            match units.blocking_recv() {
                Some(tokens) if !control.is_abandoned() => {
                    *next.borrow_mut() = Some(tokens);
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(()),
            }
        };
        let contributed = match contribute::contribute(&work, &mut source, &mut proceed) {
            Ok(contributed) => contributed,
            Err(ContributeError::NothingDone) => return Ok(None),
            Err(error) => {
                if let ContributeError::Device(lost) = &error {
                    // Opened again for the next round.
                    self.trainer.lost(lost);
                }
                return Err(error.into());
            }
        };
        self.trainer.worked();
        if let (Some(started), true) = (started, contributed.steps == steps) {
            self.tell_last(round, &contributed, started);
        }
        if control.is_abandoned() {
            return Ok(None);
        }
        self.keep(round, contributed).map(Some)
    }

    /// Puts the update where it can be served from, later.
    fn keep(&self, round: u64, contributed: Contributed) -> Result<WorkDone, WorkerError> {
        let update = contributed.update_hash;
        self.disk.note_updates(round, &[update])?;
        self.withheld.withhold(update);
        self.store.insert_bytes(&contributed.update)?;
        let done = WorkDone {
            round,
            steps: contributed.steps,
            skipped: contributed.skipped,
            loss: contributed.loss,
            update,
            update_len_bytes: contributed.update.len() as u64,
        };
        Ok(done)
    }

    fn tell(&self, round: u64, progress: &Progress, started: Instant) {
        let Some(last) = progress.last else { return };
        self.reporter.report(&Event::InnerStep {
            round,
            step: progress.steps,
            steps: progress.of,
            loss: last.loss,
            tokens_per_s: progress.tokens as f64 / started.elapsed().as_secs_f64().max(1e-9),
            peers: self.reporter.peers(),
        });
    }

    /// The last inner step is followed by no call of the progress callback.
    fn tell_last(&self, round: u64, contributed: &Contributed, started: Instant) {
        self.reporter.report(&Event::InnerStep {
            round,
            step: contributed.steps,
            steps: contributed.steps,
            loss: f64::from_bits(contributed.loss.0),
            tokens_per_s: contributed.tokens as f64 / started.elapsed().as_secs_f64().max(1e-9),
            peers: self.reporter.peers(),
        });
    }
}
