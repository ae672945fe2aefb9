//! What the page, the JSON API and the metrics show: a picture of the run that the driver keeps up to date, so that no
//! request ever waits for the round machine or the store.

mod round;

pub use round::{ContributionView, RefusalView, RoundDetail, RoundSummary, refusal_name};

use essaim_protocol::manifest::Manifest;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// Where the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Fewer members than the first round needs.
    Waiting,
    /// Members do inner steps.
    Training,
    /// The list of claims is signed; updates are fetched.
    Collecting,
    /// The next checkpoint is calculated.
    Aggregating,
    /// Every round is done.
    Finished,
}

/// What does not change while a coordinator runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunInfo {
    /// The run's id.
    pub run_id: String,
    /// Its name.
    pub name: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Rounds of the run.
    pub rounds: u64,
    /// Members that the first round waits for.
    pub members_min: u32,
    /// A full checkpoint stays public every so many rounds.
    pub keyframe_every_rounds: u64,
    /// The join link.
    pub link: String,
    /// Version of this program.
    pub version: String,
}

/// A member of the open round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its id.
    pub member: String,
    /// The first round it took part in.
    pub joined_round: u64,
    /// Rounds in which its contribution counted.
    pub accepted_rounds: u64,
    /// Inner steps that it is assigned in the open round.
    pub assigned_steps: u64,
    /// Rounds in a row without a contribution.
    pub absent_rounds: u32,
    /// Whether its claim for the open round is here.
    pub claimed: bool,
    /// Whether it is connected.
    pub connected: bool,
}

/// The run, now.
#[derive(Debug, Clone)]
pub struct RunView {
    /// What does not change.
    pub info: RunInfo,
    /// Where the run is.
    pub phase: Phase,
    /// The open round; after the end, the last.
    pub round: u64,
    /// When the open round opened.
    pub opened: Option<Instant>,
    /// When it closes at the latest.
    pub deadline: Option<Instant>,
    /// Joins that wait for the next record.
    pub joins_waiting: u64,
    /// Members of the open round.
    pub members: Vec<MemberView>,
    /// Peers connected.
    pub peers: u64,
    /// Every recorded round, from record 0 on.
    pub rounds: Vec<RoundSummary>,
    /// Statements and updates refused since the run began, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Counters of the network.
    pub network: Vec<(&'static str, u64)>,
}

/// `/api/status`.
#[derive(Debug, Clone, Serialize)]
pub struct Status<'a> {
    #[serde(flatten)]
    info: &'a RunInfo,
    phase: Phase,
    round: u64,
    /// Rounds recorded, the opening record 0 not counted.
    rounds_done: u64,
    members: usize,
    claims: usize,
    joins_waiting: u64,
    peers: u64,
    tokens_total: u64,
    elapsed_ms: Option<u64>,
    remaining_ms: Option<u64>,
    finished: bool,
    last_record: Option<&'a str>,
    checkpoint: Option<&'a str>,
    refusals: &'a BTreeMap<String, u64>,
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl RunInfo {
    /// The fixed part for a manifest.
    pub fn new(run_id: String, manifest: &Manifest, link: String) -> RunInfo {
        RunInfo {
            run_id,
            name: manifest.name.clone(),
            parameters: manifest.model.parameter_count(),
            rounds: manifest.rounds,
            members_min: manifest.admission.members_min,
            keyframe_every_rounds: manifest.keyframe_every_rounds,
            link,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl RunView {
    /// A run without a record.
    pub fn new(info: RunInfo) -> RunView {
        RunView {
            info,
            phase: Phase::Waiting,
            round: 0,
            opened: None,
            deadline: None,
            joins_waiting: 0,
            members: Vec::new(),
            peers: 0,
            rounds: Vec::new(),
            refusals: BTreeMap::new(),
            network: Vec::new(),
        }
    }

    /// What `/api/status` says at `now`.
    pub fn status(&self, now: Instant) -> Status<'_> {
        let last = self.rounds.last();
        Status {
            info: &self.info,
            phase: self.phase,
            round: self.round,
            rounds_done: last.map_or(0, |round| round.round),
            members: self.members.len(),
            claims: self.members.iter().filter(|member| member.claimed).count(),
            joins_waiting: self.joins_waiting,
            peers: self.peers,
            tokens_total: last.map_or(0, |round| round.tokens_total),
            elapsed_ms: self.opened.map(|opened| millis(now.saturating_duration_since(opened))),
            remaining_ms: self.deadline.map(|deadline| millis(deadline.saturating_duration_since(now))),
            finished: self.phase == Phase::Finished,
            last_record: last.map(|round| round.record.as_str()),
            checkpoint: last.map(|round| round.checkpoint.as_str()),
            refusals: &self.refusals,
        }
    }
}

/// The view, shared between the driver, which writes, and the HTTP service, which reads.
#[derive(Debug, Clone)]
pub struct SharedView(Arc<RwLock<RunView>>);

impl SharedView {
    /// Shares a view.
    pub fn new(view: RunView) -> SharedView {
        SharedView(Arc::new(RwLock::new(view)))
    }

    /// Reads it. Keep it short: a writer waits.
    pub fn read<T>(&self, read: impl FnOnce(&RunView) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes it.
    pub fn write<T>(&self, write: impl FnOnce(&mut RunView) -> T) -> T {
        write(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
