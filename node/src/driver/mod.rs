//! The daemon: a member's machine, driven over network, disk and worker.
//!
//! One task owns the machine. Everything else reports to it: the network (events, replies), the worker (checkpoints,
//! updates), and tasks that fetch. So there is no lock around what the member believes, and a `Persist` is on disk before
//! what follows it is begun.

mod act;
mod answer;
mod catch_up;
mod data;
mod error;
mod evidence;
mod fetch;
mod manifest;
mod peers;
mod start;

pub use error::{JoinError, JoinOptions};
pub use peers::LinkPeersError;
pub use start::join;

use crate::disk::Disk;
use crate::events::Event;
use crate::reporter::Reporter;
use crate::withheld::Withheld;
use crate::worker::{Job, Outcome, WorkControl};
use catch_up::Downloaded;
use data::{Data, DataError};
use essaim_network::{Network, NetworkEvent};
use essaim_protocol::ids::Hash;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::messages::{Reply, Request};
use essaim_protocol::round::{MemberMachine, MemberPhase, WorkOrder};
use essaim_protocol::statements::{Claim, Contribution};
use fetch::Fetcher;
use peers::Asker;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Silence of the coordinator before it is told.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(6);
/// Between two such reports.
const UNREACHABLE_EVERY: Duration = Duration::from_secs(30);

/// What is wrong with a coordinator of which nothing worse is known.
const NO_ANSWER: &str = "it does not answer";

/// What tasks report to the driver.
enum Report {
    /// A request was answered, or not.
    Answer { request: Request, reply: Result<Reply, String> },
    /// The updates of a round are in the store, or why not.
    Updates { round: u64, result: Result<(), String> },
    /// What a round's record names was downloaded, or why not.
    Downloaded { round: u64, result: Result<Downloaded, String> },
    /// No more batches come for a round.
    FeedEnded { round: u64, result: Result<(), DataError> },
    /// The dataset manifest is here, or cannot be used.
    Data(Result<Arc<Data>, DataError>),
    /// The tokenizer is in the store.
    Tokenizer,
}

/// How the checkpoint of a round is being had.
struct Advance {
    round: u64,
    started: Instant,
    /// Contributions to aggregate once their updates are here.
    contributions: Vec<Contribution>,
    /// The hashes of checkpoint and outer state that the record names.
    expected: (Hash, Hash),
    /// The ledger, if checkpoint and outer state are downloaded instead of computed.
    ledger: Option<Vec<u8>>,
}

/// Work on a round.
struct Working {
    round: u64,
    /// Inner steps to do.
    steps: u32,
    control: Arc<WorkControl>,
    feeder: Option<JoinHandle<()>>,
    /// What to do, as long as it has not begun: it waits for the dataset manifest.
    order: Option<WorkOrder>,
}

/// A claim that was signed and whose update is not here any more. Another claim for its round would be misconduct.
struct Bound {
    round: u64,
    /// The claim; none if it cannot be read.
    claim: Option<Claim>,
}

/// How the daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every round is done.
    Finished,
    /// By request.
    Stopped,
    /// The operator broke the rules.
    Halted {
        /// What was broken, and where the proof is.
        reason: String,
    },
    /// The coordinator was not reached for as long as the user wanted to wait.
    GaveUp {
        /// What the last try ended with.
        reason: String,
    },
    /// What trains failed, and only a new process can have it again. All that counts is on disk.
    Restart {
        /// What happened.
        reason: String,
    },
}

struct Driver {
    machine: MemberMachine,
    manifest: Arc<Manifest>,
    network: Network,
    asker: Asker,
    fetcher: Fetcher,
    disk: Arc<Disk>,
    withheld: Arc<Withheld>,
    reporter: Arc<Reporter>,
    options: JoinOptions,
    /// The driver's clock.
    start: Instant,
    jobs: std::sync::mpsc::Sender<Job>,
    reports: mpsc::UnboundedSender<Report>,
    state: DriverState,
}

/// What changes as it runs.
struct DriverState {
    data: Option<Arc<Data>>,
    working: Option<Working>,
    advance: Option<Advance>,
    bound: Option<Bound>,
    /// Why the next checkpoint is downloaded.
    catch_up_reason: Option<String>,
    /// Hashes of the checkpoint and outer state that others may have from here.
    served: Option<[Hash; 2]>,
    told_joined: bool,
    last_answer: Instant,
    last_problem: String,
    told_unreachable: Option<Instant>,
    end: Option<End>,
}

impl DriverState {
    fn new() -> DriverState {
        DriverState {
            data: None,
            working: None,
            advance: None,
            bound: None,
            catch_up_reason: None,
            served: None,
            told_joined: false,
            last_answer: Instant::now(),
            last_problem: NO_ANSWER.to_owned(),
            told_unreachable: None,
            end: None,
        }
    }
}

impl Driver {
    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn report(&self, event: Event) {
        self.reporter.report(&event);
    }

    fn warn(&self, message: String) {
        self.report(Event::Warning { message });
    }

    /// Runs until the end.
    async fn run(
        mut self,
        mut network_events: mpsc::Receiver<NetworkEvent>,
        mut reports: mpsc::UnboundedReceiver<Report>,
        mut outcomes: mpsc::UnboundedReceiver<Outcome>,
    ) -> Result<End, JoinError> {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            while let Some(action) = self.machine.poll_action() {
                if let ControlFlow::Break(end) = self.act(action).await? {
                    self.state.end = Some(end);
                }
            }
            if let Some(end) = self.state.end.take() {
                return Ok(end);
            }
            self.move_deadline();
            let wait = self.machine.next_timeout().map(|at_ms| {
                let left_ms = at_ms.saturating_sub(self.now_ms());
                Duration::from_millis(left_ms)
            });
            tokio::select! {
                event = network_events.recv() => match event {
                    Some(event) => self.on_network(event).await,
                    None => return Err(JoinError::NetworkStopped),
                },
                Some(report) = reports.recv() => self.on_report(report)?,
                outcome = outcomes.recv() => match outcome {
                    Some(outcome) => self.on_outcome(outcome)?,
                    None => return Err(JoinError::WorkerStopped),
                },
                () = tokio::time::sleep(wait.unwrap_or(Duration::from_secs(3600))) => {
                    self.machine.handle_timeout(self.now_ms());
                }
                _ = tick.tick() => self.on_tick(),
            }
        }
    }

    /// The machine learns of the round's end as it polls; the worker plans with it.
    fn move_deadline(&self) {
        if let (Some(working), Some(deadline_ms)) = (&self.state.working, self.machine.view().deadline_ms) {
            working.control.set_deadline(deadline_ms);
        }
    }

    fn on_tick(&mut self) {
        self.reporter.set_peers(self.network.connected_peers().len());
        let silent = self.state.last_answer.elapsed();
        if self.machine.view().phase == MemberPhase::Finished {
            return;
        }
        let due = self.state.told_unreachable.is_none_or(|told| told.elapsed() >= UNREACHABLE_EVERY);
        if silent >= UNREACHABLE_AFTER && due {
            self.state.told_unreachable = Some(Instant::now());
            self.report(Event::Unreachable { tried_s: silent.as_secs_f64(), reason: self.state.last_problem.clone() });
        }
        if self.options.give_up_after.is_some_and(|limit| silent >= limit) {
            self.state.end = Some(End::GaveUp { reason: self.state.last_problem.clone() });
        }
    }
}
