//! Doing what the machine decides, in its order.

use super::catch_up;
use super::data::BATCHES_AHEAD;
use super::evidence;
use super::{Advance, Driver, End, JoinError, Report, Working};
use crate::bench::peak_memory_bytes;
use crate::events::Event;
use crate::worker::{Job, WorkControl};
use essaim_protocol::ids::Hash;
use essaim_protocol::messages::Request;
use essaim_protocol::round::{AdvanceFailure, Halt, MemberAction, MemberEvent, MemberStored, WorkDone, WorkOrder};
use essaim_protocol::signing::Signed;
use essaim_protocol::statements::{Claim, Contribution, Record};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

impl Driver {
    /// Does one action. What it leaves to tasks comes back as a report.
    pub(super) async fn act(&mut self, action: MemberAction) -> Result<ControlFlow<End>, JoinError> {
        match action {
            MemberAction::Send(request) => self.send(request),
            MemberAction::Persist(MemberStored::Claim { round, claim }) => self.persist_claim(round, claim).await?,
            MemberAction::Persist(MemberStored::Head { round, record, ledger }) => {
                self.persist_head(round, record, ledger).await?;
            }
            MemberAction::Apply { round, contributions, checkpoint, outer_state } => {
                self.apply(round, contributions, (checkpoint, outer_state)).await?;
            }
            MemberAction::CatchUp { round, ledger, checkpoint, outer_state } => {
                let wanted = catch_up::Wanted { ledger, checkpoint, outer_state };
                self.catch_up(round, wanted);
            }
            MemberAction::Work(order) => self.work(order)?,
            MemberAction::StopWork { round, claim } => self.stop_work(round, claim),
            MemberAction::ServeUpdates { round } => {
                self.withheld.release();
                self.report(Event::Closed { round });
            }
            MemberAction::Event(event) => self.tell(event)?,
            MemberAction::Halt(halt) => return self.halt(&halt).map(ControlFlow::Break),
            MemberAction::Finished => {
                self.finished();
                if self.options.exit_when_finished {
                    return Ok(ControlFlow::Break(End::Finished));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn send(&self, request: Request) {
        let (asker, reports) = (self.asker.clone(), self.reports.clone());
        tokio::spawn(async move {
            let reply = asker.ask(&request).await.map_err(|problem| problem.text);
            // The driver is gone only when the program ends.
            let _ = reports.send(Report::Answer { request, reply });
        });
    }

    async fn persist_claim(&self, round: u64, claim: Vec<u8>) -> Result<(), JoinError> {
        let (disk, bytes) = (self.disk.clone(), claim.clone());
        blocking(move || disk.write_claim(round, &bytes)).await??;
        if let Ok(claim) = Signed::<Claim>::from_bytes(&claim) {
            self.report(claimed(&claim.value, false));
        }
        Ok(())
    }

    async fn persist_head(&mut self, round: u64, record: Vec<u8>, ledger: Vec<u8>) -> Result<(), JoinError> {
        let parsed = Signed::<Record>::from_bytes(&record).map_err(|error| JoinError::Bug(error.to_string()))?.value;
        let (disk, store) = (self.disk.clone(), self.network.store().clone());
        let (checkpoint, outer_state, ledger_hash) = (parsed.checkpoint, parsed.outer_state, parsed.ledger);
        let tokenizer = self.machine.chain().manifest().tokenizer;
        let first_kept = round.saturating_add(1).saturating_sub(self.options.config.keep_rounds);
        let old = self.state.served.replace([checkpoint, outer_state]);
        blocking(move || -> Result<(), JoinError> {
            for hash in old.into_iter().flatten().filter(|hash| *hash != checkpoint && *hash != outer_state) {
                store.remove(&hash)?;
            }
            disk.write_head(round, &record, &ledger)?;
            for hash in disk.forget_before(first_kept)? {
                store.remove(&hash)?;
            }
            // Whoever comes late may have it from here. What was downloaded to get here is there twice.
            for hash in [checkpoint, outer_state, ledger_hash] {
                store.remove(&hash)?;
            }
            let (model, outer) = disk.state_files(round);
            store.register_external(checkpoint, model)?;
            store.register_external(outer_state, outer)?;
            if let Some(path) = store.path(&tokenizer) {
                disk.add_tokenizer(round, &path)?;
            }
            Ok(())
        })
        .await??;
        self.withheld.release();
        self.tell_adopted(&parsed);
        Ok(())
    }

    fn tell_adopted(&mut self, record: &Record) {
        let Some(advance) = self.state.advance.take().filter(|advance| advance.round == record.round) else { return };
        let checkpoint = record.checkpoint.to_string();
        let me = self.machine.member();
        let event = match advance.ledger {
            Some(_) => {
                let reason = self.state.catch_up_reason.take().unwrap_or_default();
                Event::CaughtUp { round: record.round, checkpoint, reason }
            }
            None => Event::Applied {
                round: record.round,
                included: record.contributions.len(),
                refused: record.refusals.len(),
                mine: record.contributions.iter().any(|contribution| contribution.member == me),
                checkpoint,
                tokens_total: record.tokens_total,
                took_s: advance.started.elapsed().as_secs_f64(),
            },
        };
        self.report(event);
    }

    async fn apply(
        &mut self,
        round: u64,
        contributions: Vec<Contribution>,
        expected: (Hash, Hash),
    ) -> Result<(), JoinError> {
        let advance = Advance { round, started: Instant::now(), contributions, expected, ledger: None };
        let contributions = advance.contributions.clone();
        self.state.advance = Some(advance);
        if contributions.is_empty() {
            return self.job(Job::Apply { round, contributions });
        }
        let updates: Vec<Hash> = contributions.iter().map(|contribution| contribution.update).collect();
        let disk = self.disk.clone();
        blocking(move || disk.note_updates(round, &updates)).await??;
        let (fetcher, reports) = (self.fetcher.clone(), self.reports.clone());
        tokio::spawn(async move {
            let fetched = fetcher.fetch_updates(&contributions).await;
            let result = fetched.map_err(|(member, error)| format!("the update of member {}: {error}", member.short()));
            let _ = reports.send(Report::Updates { round, result });
        });
        Ok(())
    }

    fn catch_up(&mut self, round: u64, wanted: catch_up::Wanted) {
        let expected = (wanted.checkpoint, wanted.outer_state);
        let late = if self.machine.chain().round().is_none() { "this member comes late" } else { "too far behind" };
        self.state.catch_up_reason.get_or_insert_with(|| late.to_owned());
        let started = Instant::now();
        self.state.advance = Some(Advance { round, started, contributions: Vec::new(), expected, ledger: None });
        let (fetcher, reports) = (self.fetcher.clone(), self.reports.clone());
        let manifest = self.manifest.clone();
        tokio::spawn(async move {
            let result = catch_up::download(&fetcher, &manifest, &wanted).await;
            let _ = reports.send(Report::Downloaded { round, result });
        });
    }

    /// Gives the worker something to calculate.
    pub(super) fn job(&self, job: Job) -> Result<(), JoinError> {
        self.jobs.send(job).map_err(|_| JoinError::WorkerStopped)
    }

    fn work(&mut self, order: WorkOrder) -> Result<(), JoinError> {
        let mut steps = order.assignment.steps();
        if let Some(bound) = self.state.bound.as_ref().filter(|bound| bound.round == order.round) {
            let Some(claim) = &bound.claim else {
                self.warn(format!("round {}: sat out, since something was claimed and cannot be read", order.round));
                self.nothing_done(order.round);
                return Ok(());
            };
            steps = steps.min(claim.steps);
        }
        let control = Arc::new(WorkControl::new(self.start, order.deadline_ms));
        let remaining_s = order.deadline_ms.saturating_sub(self.now_ms()) as f64 / 1000.0;
        let round = order.round;
        self.report(Event::RoundStarted { round, steps, remaining_s });
        self.state.working = Some(Working { round, steps, control, feeder: None, order: Some(order) });
        self.begin_work()
    }

    /// Begins the work that was ordered, if its data is known.
    pub(super) fn begin_work(&mut self) -> Result<(), JoinError> {
        let (Some(data), Some(working)) = (self.state.data.clone(), &mut self.state.working) else { return Ok(()) };
        let Some(order) = working.order.take() else { return Ok(()) };
        let (batches, units) = mpsc::channel(BATCHES_AHEAD);
        let (assignment, fetcher, reports) = (order.assignment.clone(), self.fetcher.clone(), self.reports.clone());
        let round = order.round;
        let feeder = tokio::spawn(async move {
            let result = data.feed(assignment, fetcher, batches).await;
            let _ = reports.send(Report::FeedEnded { round, result });
        });
        working.feeder = Some(feeder);
        let (steps, control) = (working.steps, working.control.clone());
        self.job(Job::Contribute { order, steps, units, control })
    }

    fn stop_work(&mut self, round: u64, claim: bool) {
        let Some(working) = self.state.working.take().filter(|working| working.round == round) else { return };
        working.control.stop(claim);
        if let Some(feeder) = &working.feeder {
            feeder.abort();
        }
        if working.order.is_some() && claim {
            // It never began: there is nothing to claim.
            self.nothing_done(round);
        }
    }

    /// Tells the machine that a round's work came to nothing.
    pub(super) fn nothing_done(&mut self, round: u64) {
        let none = Hash([0; 32]);
        let loss = essaim_protocol::manifest::F64Bits(0);
        let done = WorkDone { round, steps: 0, skipped: 0, loss, update: none, update_len_bytes: 0 };
        // Work of no inner step is no claim, so there is nothing to refuse.
        let _ = self.machine.handle_work_done(self.now_ms(), done);
    }

    fn tell(&mut self, event: MemberEvent) -> Result<(), JoinError> {
        match event {
            MemberEvent::Admitted { round } => {
                self.state.told_joined = false;
                self.report(Event::Admitted { round });
            }
            MemberEvent::Dropped { round } => {
                self.state.told_joined = false;
                self.warn(format!(
                    "round {round}: no longer a member, after too many rounds without work; joining again"
                ));
            }
            MemberEvent::Receipted { round } => self.report(Event::Receipt { round }),
            MemberEvent::ClaimRefused { round, reason } => {
                self.report(Event::Refused { what: "claim", reason: format!("{reason:?}, round {round}") });
            }
            MemberEvent::NotAccepted { round, reason } => {
                self.report(Event::Refused { what: "contribution", reason: format!("{reason:?}, round {round}") });
            }
            MemberEvent::JoinRefused { reason } => {
                self.report(Event::Refused { what: "join", reason: format!("{reason:?}") });
            }
            MemberEvent::Missed { round } => self.warn(format!("round {round} ended without a claim of this member")),
            MemberEvent::Omitted(proof) => {
                let path = evidence::keep(&self.options.root, &proof.describe(), &evidence::statements(&proof))?;
                self.warn(format!("{}; the proof is in {}", proof.describe(), path.display()));
            }
            _ => {}
        }
        Ok(())
    }

    fn halt(&mut self, halt: &Halt) -> Result<End, JoinError> {
        let reason = halt.describe();
        let path = evidence::keep(&self.options.root, &reason, &evidence::statements_of_halt(halt))?;
        let evidence = path.display().to_string();
        self.report(Event::Halted { reason: reason.clone(), evidence: evidence.clone() });
        Ok(End::Halted { reason: format!("{reason}; the proof is in {evidence}") })
    }

    fn finished(&mut self) {
        let chain = self.machine.chain();
        let (Some(round), Some(record)) = (chain.round(), chain.record()) else { return };
        let checkpoint = record.value.checkpoint.to_string();
        let path = self.disk.folder(round).display().to_string();
        let first_inner_step_s = self.reporter.status().first_inner_step_s;
        let peak_memory_bytes = peak_memory_bytes();
        self.report(Event::Finished { rounds: round, checkpoint, path, first_inner_step_s, peak_memory_bytes });
    }

    /// Tells the machine that a checkpoint could not be had.
    pub(super) fn advance_failed(&mut self, round: u64, failure: AdvanceFailure, why: String) {
        self.state.advance = None;
        if failure == AdvanceFailure::Unavailable {
            self.warn(format!("round {round}: {why}; downloading the checkpoint instead"));
            self.state.catch_up_reason = Some(why);
        }
        self.machine.handle_advance_failed(self.now_ms(), round, failure);
    }
}

/// The event of a claim.
pub(super) fn claimed(claim: &Claim, again: bool) -> Event {
    Event::Claimed {
        round: claim.round,
        steps: claim.steps,
        tokens: claim.tokens,
        loss: f64::from_bits(claim.loss.0),
        update_len_bytes: claim.update_len_bytes,
        again,
    }
}

/// Runs what touches the disk on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| JoinError::Bug(error.to_string()))
}
