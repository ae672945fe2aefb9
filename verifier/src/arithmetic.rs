//! Second pass: every checkpoint rebuilt from the updates, drawn contributions replayed, held-out losses measured again.
//! Memory: the parameters, the outer state, one more vector, and one replay at a time.

use crate::files::{Files, NOT_THERE};
use crate::finding::{Finding, Kind};
use crate::report::Report;
use crate::statements::{Statements, open_shard};
use essaim_kernels::Exec;
use essaim_kernels::cuda::Device;
use essaim_protocol::assignment::Assignment;
use essaim_protocol::chain::ChainState;
use essaim_protocol::ids::Hash;
use essaim_protocol::layout;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::signing::Strict;
use essaim_protocol::statements::{Claim, Contribution, Record};
use essaim_train::aggregate::{AggregateError, next_checkpoint};
use essaim_train::contribute::Work;
use essaim_train::engine::Engine;
use essaim_train::eval::evaluate_shard;
use essaim_train::model::Evaluator;
use essaim_train::replay::replay;
use essaim_train::round::{Base, RoundContext};
use essaim_train::shard::ShardReader;
use essaim_train::state::OuterState;
use essaim_train::{checkpoint, device, inner};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor};
use std::time::Instant;

/// What the second pass has to do.
#[derive(Debug)]
pub struct Plan {
    /// Numbers of the contributions to replay, counted through all rounds after `from`.
    pub replays: BTreeSet<u64>,
    /// Whether every record's held-out loss is measured again, and not only those of rounds with a replay and the last.
    pub every_heldout: bool,
    /// The round to start from: 0, or one whose checkpoint is public.
    pub from: u64,
    /// Bytes that a replay may use.
    pub memory_bytes: u64,
    /// Where replays run; on the CPU if none.
    pub device: Option<Device>,
}

impl Plan {
    /// Where replays run, and how many sequences at a time.
    fn engine(&self, manifest: &Manifest, threads: usize) -> (Engine<'_>, u32) {
        let (engine, micro_batch) = match &self.device {
            Some(device) => (Engine::Device(device), device::micro_batch_for(manifest, device::usable_bytes(device))),
            None => (Engine::Cpu, inner::micro_batch_for(manifest, self.memory_bytes, threads)),
        };
        (engine, micro_batch.unwrap_or(1))
    }
}

/// The second pass.
#[derive(Debug)]
pub struct Arithmetic<'a> {
    /// The files.
    pub files: &'a Files,
    /// What the first pass found.
    pub statements: &'a Statements,
    /// Where operations run.
    pub exec: &'a Exec,
    /// What to do.
    pub plan: Plan,
}

impl Arithmetic<'_> {
    /// Walks from the first round of the plan to the last.
    ///
    /// # Errors
    /// A finding about the first statement that does not hold.
    pub fn run(&self, report: &mut Report, each: &mut dyn FnMut(u64, u64)) -> Result<(), Finding> {
        let (mut state, mut base) = self.start(report)?;
        let mut number = 0u64;
        let last = self.statements.last_round;
        while let Some(round) = state.round().filter(|round| *round < last) {
            let round = round + 1;
            each(round, last);
            let record = self.record(round)?;
            let replayed = self.replays(&state, &record, &base, &mut number, report)?;
            self.rebuild(round, &record, &mut base, report)?;
            if replayed || self.plan.every_heldout || round == last {
                self.heldout(&record, &base, report)?;
            }
            state = self.advance(&state, round)?;
            self.public_checkpoint(round, &record, report)?;
        }
        Ok(())
    }

    fn record(&self, round: u64) -> Result<Record, Finding> {
        let record = self.files.record(round)?;
        Ok(record.ok_or_else(|| Finding::missing(layout::record(round), NOT_THERE))?.value)
    }

    /// The next state. The files are read again, and may have changed since the first pass, so they are checked again.
    fn advance(&self, state: &ChainState, round: u64) -> Result<ChainState, Finding> {
        let record =
            self.files.record(round)?.ok_or_else(|| Finding::missing(layout::record(round), "gone meanwhile"))?;
        let list = if round > 0 { self.files.claim_list(round)? } else { None };
        Ok(state.apply(&record, list.as_ref(), &Strict)?)
    }

    /// State and base after the round that the plan starts from.
    fn start(&self, report: &mut Report) -> Result<(ChainState, Base), Finding> {
        let mut state = self.advance(&self.statements.genesis, 0)?;
        let manifest = self.statements.genesis.manifest();
        let from = self.plan.from;
        for round in 1..=from {
            state = self.advance(&state, round)?;
        }
        let record = self.record(from)?;
        let base = if from == 0 { Base::initial(self.exec, manifest) } else { self.keyframe(from, &record)? };
        compare(from, "checkpoint", base.checkpoint_hash(manifest), record.checkpoint)?;
        compare(from, "outer state", base.outer_hash(), record.outer_state)?;
        if from == 0 {
            report.checkpoints_rebuilt += 1;
        }
        if self.plan.every_heldout || from == self.statements.last_round {
            self.heldout(&record, &base, report)?;
        }
        self.public_checkpoint(from, &record, report)?;
        Ok((state, base))
    }

    /// A public checkpoint as the base to go on from.
    fn keyframe(&self, round: u64, record: &Record) -> Result<Base, Finding> {
        let manifest = self.statements.genesis.manifest();
        let path = layout::model_file(round);
        let len_bytes = checkpoint::model_file_len_bytes(&manifest.model);
        let bytes = self.files.blob(&path, len_bytes, record.checkpoint)?;
        let params = checkpoint::read_model(Cursor::new(bytes), len_bytes, &manifest.model)
            .map_err(|error| Finding::contradiction(&path, error))?;
        let path = layout::outer_state(round);
        let bytes = self.files.blob(&path, OuterState::len_bytes(manifest), record.outer_state)?;
        let outer = OuterState::from_bytes(&bytes, manifest).map_err(|error| Finding::contradiction(&path, error))?;
        Ok(Base { params, outer })
    }

    fn context(&self, round: u64) -> RoundContext<'_> {
        let genesis = &self.statements.genesis;
        RoundContext { exec: self.exec, manifest: genesis.manifest(), run: genesis.run(), round }
    }

    /// From the checkpoint before to the one that the record names.
    fn rebuild(&self, round: u64, record: &Record, base: &mut Base, report: &mut Report) -> Result<(), Finding> {
        let started = Instant::now();
        let mut wrong = None;
        let mut fetch = |contribution: &Contribution| {
            let path = layout::update(round, &contribution.member);
            self.files.blob(&path, contribution.update_len_bytes, contribution.update).map_err(|finding| {
                let error = io::Error::other(finding.to_string());
                wrong = Some(finding);
                error
            })
        };
        let result = next_checkpoint(&self.context(round), &record.contributions, &mut fetch, base);
        if let Some(finding) = wrong {
            return Err(finding);
        }
        result.map_err(|error| self.aggregate_finding(round, &error))?;
        let manifest = self.statements.genesis.manifest();
        compare(round, "checkpoint", base.checkpoint_hash(manifest), record.checkpoint)?;
        compare(round, "outer state", base.outer_hash(), record.outer_state)?;
        report.checkpoints_rebuilt += 1;
        report.seconds_rebuilding += started.elapsed().as_secs_f64();
        Ok(())
    }

    fn aggregate_finding(&self, round: u64, error: &AggregateError) -> Finding {
        let statement = match error {
            AggregateError::Hash { member, .. } | AggregateError::Update { member, .. } => {
                layout::update(round, member)
            }
            _ => format!("record {round}"),
        };
        Finding::contradiction(statement, error)
    }

    /// Replays the drawn contributions of a round. True when there was one.
    fn replays(
        &self,
        state: &ChainState,
        record: &Record,
        base: &Base,
        number: &mut u64,
        report: &mut Report,
    ) -> Result<bool, Finding> {
        let mut any = false;
        for contribution in &record.contributions {
            if self.plan.replays.contains(number) {
                let started = Instant::now();
                self.replay_one(state, record, base, contribution)?;
                report.contributions_replayed += 1;
                report.seconds_replaying += started.elapsed().as_secs_f64();
                any = true;
            }
            *number += 1;
        }
        Ok(any)
    }

    fn replay_one(
        &self,
        state: &ChainState,
        record: &Record,
        base: &Base,
        contribution: &Contribution,
    ) -> Result<(), Finding> {
        let manifest = self.statements.genesis.manifest();
        let member = contribution.member;
        let name = format!("the contribution of {} in round {}", member.short(), record.round);
        let assignment = state
            .assignment_of(&member)
            .ok_or_else(|| Finding::contradiction(&name, "the member has no assignment"))?;
        let (engine, micro_batch) = self.plan.engine(manifest, self.exec.threads());
        let tokens = state.record().map_or(0, |record| record.value.tokens_total);
        let context = self.context(record.round);
        let steps = contribution.steps;
        let work = Work { context, engine, member, base, base_tokens_total: tokens, steps, micro_batch };
        let mut units =
            Units { files: self.files, statements: self.statements, assignment, open: BTreeMap::new(), wrong: None };
        let result = replay(&work, &mut |step| units.tokens(step), contribution);
        if let Some(finding) = units.wrong {
            return Err(finding);
        }
        let done = result.map_err(|error| match error.contradicts() {
            true => Finding::contradiction(&name, error),
            false => Finding::missing(&name, error),
        })?;
        let path = layout::claim(record.round, &member);
        let claim = self.files.statement::<Claim>(&path)?.ok_or_else(|| Finding::missing(&path, "gone meanwhile"))?;
        if claim.value.skipped != done.skipped {
            let reason = format!("replay skips {} inner steps, the claim says {}", done.skipped, claim.value.skipped);
            return Err(Finding::contradiction(name, reason));
        }
        Ok(())
    }

    /// Measures a record's held-out loss again.
    fn heldout(&self, record: &Record, base: &Base, report: &mut Report) -> Result<(), Finding> {
        let (manifest, dataset) = (self.statements.genesis.manifest(), &self.statements.dataset);
        let name = format!("the held-out loss in record {}", record.round);
        if record.heldout.len() != dataset.heldout.len() {
            let reason = format!("it has {} languages, the data set {}", record.heldout.len(), dataset.heldout.len());
            return Err(Finding::contradiction(name, reason));
        }
        let mut evaluator = Evaluator::new(&manifest.model);
        for said in &record.heldout {
            let shard = dataset.heldout.iter().find(|heldout| heldout.language == said.language);
            let unknown = || Finding::contradiction(&name, format!("the data set has no language '{}'", said.language));
            let shard = &shard.ok_or_else(unknown)?.shard;
            let mut reader = open_shard(self.files, shard, dataset.vocab_size)?;
            let token_bytes = &self.statements.token_bytes;
            let tokens_max = manifest.heldout_tokens_max;
            let loss = evaluate_shard(self.exec, &mut evaluator, &base.params, &mut reader, token_bytes, tokens_max)
                .map_err(|error| Finding::contradiction(layout::shard(&shard.hash), error))?;
            let got = (loss.nats.to_bits(), loss.tokens, loss.text_bytes);
            if got != (said.nats.0, said.tokens, said.text_bytes) {
                let reason = format!(
                    "'{}': {:?} nats over {} tokens and {} bytes measured, {:?} over {} and {} recorded",
                    said.language,
                    loss.nats,
                    loss.tokens,
                    loss.text_bytes,
                    f64::from_bits(said.nats.0),
                    said.tokens,
                    said.text_bytes,
                );
                return Err(Finding::contradiction(name, reason));
            }
        }
        report.heldout_checked += 1;
        Ok(())
    }

    /// The checkpoint folder of a keyframe or of the last round. A run that is under way replaces the latter by a newer one
    /// meanwhile: that is no fault.
    fn public_checkpoint(&self, round: u64, record: &Record, report: &mut Report) -> Result<(), Finding> {
        if round.is_multiple_of(self.statements.genesis.manifest().keyframe_every_rounds) {
            return self.checkpoint_folder(round, record);
        }
        if round != self.statements.last_round {
            return Ok(());
        }
        let result = self.checkpoint_folder(round, record);
        let is_missing = result.as_ref().is_err_and(|finding| finding.kind == Kind::Missing);
        if is_missing && self.files.head()?.is_some_and(|head| head.value.round > round) {
            report.warnings.push(format!("the run has gone on: the checkpoint of round {round} is no longer public"));
            return Ok(());
        }
        result
    }

    fn checkpoint_folder(&self, round: u64, record: &Record) -> Result<(), Finding> {
        let manifest = self.statements.genesis.manifest();
        let len_bytes = checkpoint::model_file_len_bytes(&manifest.model);
        self.files.stream_hash(&layout::model_file(round), len_bytes, record.checkpoint)?;
        self.files.stream_hash(&layout::outer_state(round), OuterState::len_bytes(manifest), record.outer_state)?;
        let folder = layout::checkpoint(round);
        for (name, expected) in checkpoint::checkpoint_files(manifest) {
            self.same(&format!("{folder}/{name}"), &expected)?;
        }
        self.same(&format!("{folder}/tokenizer.json"), &self.statements.tokenizer)
    }

    fn same(&self, path: &str, expected: &[u8]) -> Result<(), Finding> {
        let bytes = self.files.read(path, expected.len() as u64)?;
        if bytes != expected {
            let at = bytes.iter().zip(expected).position(|(got, expected)| got != expected).unwrap_or(bytes.len());
            return Err(Finding::contradiction(
                path,
                format!("it differs from byte {at} on from what the manifest gives"),
            ));
        }
        Ok(())
    }
}

fn compare(round: u64, what: &str, got: Hash, said: Hash) -> Result<(), Finding> {
    if got == said {
        return Ok(());
    }
    let reason = format!("its {what} is {said}, the contributions give {got}");
    Err(Finding::contradiction(format!("record {round}"), reason))
}

/// The batches of an assignment, from shards that stay open for as long as the replay takes.
struct Units<'a> {
    files: &'a Files,
    statements: &'a Statements,
    assignment: &'a Assignment,
    open: BTreeMap<Hash, ShardReader<Cursor<Vec<u8>>>>,
    wrong: Option<Finding>,
}

impl Units<'_> {
    fn tokens(&mut self, step: u32) -> Result<Vec<u32>, Box<dyn std::error::Error + Send + Sync>> {
        let position = self.assignment.position_of(step).ok_or("an inner step beyond the assignment")?;
        let unit = self.statements.order.locate(position);
        if !self.open.contains_key(&unit.shard.hash) {
            let reader = open_shard(self.files, unit.shard, self.statements.dataset.vocab_size).map_err(|finding| {
                let text = finding.to_string();
                self.wrong = Some(finding);
                text
            })?;
            // One shard after the other is the rule; a second one stays open for the seam.
            while self.open.len() > 1 {
                self.open.pop_first();
            }
            self.open.insert(unit.shard.hash, reader);
        }
        let manifest = self.statements.genesis.manifest();
        let reader = self.open.get_mut(&unit.shard.hash).ok_or("a shard that was not opened")?;
        Ok(reader.unit_tokens(manifest.inner.batch, manifest.model.context, unit.unit)?)
    }
}
