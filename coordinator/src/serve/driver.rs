//! The task that owns the machine: events in, actions out, in their order.

use super::ServeError;
use super::fetch::{Fetched, Fetches};
use super::open::Opened;
use super::requests::{self, Fault};
use super::show::write_link;
use super::worker::{BaseOf, Done, Job, hashes_of};
use crate::checkpoint::CheckpointHashes;
use crate::datadir::Lock;
use crate::http;
use crate::public::PublicFolder;
use crate::store::Store;
use crate::view::{RunInfo, RunView, SharedView};
use essaim_network::{BlobStore, Misbehaviour, Network, NetworkEvent, PeerId, Responder, member_of, peer_id_of};
use essaim_protocol::encoding;
use essaim_protocol::ids::MemberId;
use essaim_protocol::layout;
use essaim_protocol::messages::Reply;
use essaim_protocol::round::{CoordinatorAction, CoordinatorMachine, UpdateOutcome};
use essaim_protocol::statements::Contribution;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, unbounded_channel};
use tracing::{debug, error, info, warn};

/// How often the view is renewed and counters are written.
const TICK: Duration = Duration::from_millis(500);
/// How long `--exit-when-finished` goes on, so that members hear of the last record.
const LINGER: Duration = Duration::from_secs(5);
/// Between tries of an aggregation that failed for a local reason.
const RETRY: Duration = Duration::from_secs(5);

/// The driver's state.
pub(super) struct Driver {
    _lock: Lock,
    pub(super) store: Store,
    pub(super) public: PublicFolder,
    pub(super) blobs: Arc<BlobStore>,
    pub(super) network: Network,
    pub(super) events: Receiver<NetworkEvent>,
    pub(super) machine: CoordinatorMachine,
    pub(super) view: SharedView,
    pub(super) started: Instant,
    pub(super) fetches: Fetches,
    pub(super) fetched: UnboundedReceiver<Fetched>,
    pub(super) jobs: std::sync::mpsc::Sender<Job>,
    pub(super) done: UnboundedReceiver<Done>,
    /// The checkpoint that waits for its record.
    pub(super) staged: Option<(u64, PathBuf)>,
    /// The aggregation asked for last, and when to try it again.
    pub(super) aggregation: Option<(u64, Vec<Contribution>)>,
    pub(super) retry_at: Option<tokio::time::Instant>,
    pub(super) checkpoints: Vec<CheckpointHashes>,
    pub(super) claimed: BTreeSet<MemberId>,
    pub(super) refusals: BTreeMap<&'static str, u64>,
    /// Late requests of the open round, by peer.
    pub(super) late: BTreeMap<PeerId, u32>,
    pub(super) replies: Vec<(Responder, Reply)>,
    pub(super) stop_http: tokio::sync::watch::Sender<bool>,
    pub(super) exit_when_finished: bool,
    pub(super) finished_at: Option<Instant>,
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Driver {
    /// Starts HTTP and the thread that calculates, and writes the join link.
    pub(super) async fn start(opened: Opened) -> Result<Driver, ServeError> {
        let manifest = opened.machine.manifest.clone();
        let link = write_link(&opened)?;
        let mut view = RunView::new(RunInfo::new(opened.run.to_string(), &manifest.value, link.clone()));
        view.rounds.clone_from(&opened.restored.rows);
        view.refusals = opened.store.refusals()?;
        let view = SharedView::new(view);
        let address = opened.http.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
        let (stop_http, mut stopped) = tokio::sync::watch::channel(false);
        let router = http::router(view.clone(), opened.data.public());
        tokio::spawn(http::serve(opened.http, router, async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        let (jobs, jobs_in) = std::sync::mpsc::channel();
        let (done_out, done) = unbounded_channel();
        let worker = opened.worker;
        std::thread::Builder::new()
            .name("arithmetic".to_owned())
            .spawn(move || worker.run(&jobs_in, &done_out))
            .map_err(|error| ServeError::Arithmetic(error.to_string()))?;
        let (fetched_out, fetched) = unbounded_channel();
        let checkpoints = opened.restored.records.iter().map(|record| hashes_of(&record.value)).collect();
        let machine = CoordinatorMachine::new(opened.machine, opened.restored.machine, 0)?;
        info!(run = %opened.run, name = %manifest.value.name, parameters = manifest.value.model.parameter_count(), "serving");
        info!(page = %format!("http://{address}/"), "page, API and downloads");
        info!(%link, "join link");
        Ok(Driver {
            _lock: opened.lock,
            store: opened.store,
            public: opened.public,
            blobs: opened.blobs,
            fetches: Fetches::new(opened.network.clone(), fetched_out),
            network: opened.network,
            events: opened.events,
            machine,
            view,
            started: Instant::now(),
            fetched,
            jobs,
            done,
            staged: None,
            aggregation: None,
            retry_at: None,
            checkpoints,
            claimed: opened.restored.claimed,
            refusals: BTreeMap::new(),
            late: BTreeMap::new(),
            replies: Vec::new(),
            stop_http,
            exit_when_finished: opened.exit_when_finished,
            finished_at: None,
        })
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Drives until told to stop.
    pub(super) async fn run(mut self) -> Result<(), ServeError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stop = stop_signal();
        tokio::pin!(stop);
        loop {
            self.act().await?;
            let timeout = self.machine.next_timeout().map(|at_ms| self.started + Duration::from_millis(at_ms));
            let timeout = timeout.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let retry = self.retry_at.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.handle_event(event).await?,
                    None => return Err(ServeError::WorkerGone),
                },
                Some(fetched) = self.fetched.recv() => self.job(Job::Check {
                    round: fetched.round, member: fetched.member, update: fetched.update,
                })?,
                done = self.done.recv() => match done {
                    Some(done) => self.handle_done(done).await?,
                    None => return Err(ServeError::WorkerGone),
                },
                () = tokio::time::sleep_until(timeout.into()) => {
                    let now = self.now_ms();
                    self.machine.handle_timeout(now);
                }
                () = tokio::time::sleep_until(retry), if self.retry_at.is_some() => {
                    self.retry_at = None;
                    self.aggregate()?;
                }
                _ = tick.tick() => self.tick()?,
                () = &mut stop => {
                    info!("stopping: everything is kept; start again with the same command");
                    break;
                }
            }
            if self.exit_when_finished && self.finished_at.is_some_and(|at| at.elapsed() >= LINGER) {
                info!("every round is done");
                break;
            }
        }
        self.act().await?;
        self.flush_refusals()?;
        let _ = self.stop_http.send(true);
        self.network.shutdown().await;
        Ok(())
    }

    fn job(&self, job: Job) -> Result<(), ServeError> {
        self.jobs.send(job).map_err(|_| ServeError::WorkerGone)
    }

    /// Does what the machine asks, then sends the answers that waited for it.
    async fn act(&mut self) -> Result<(), ServeError> {
        while let Some(action) = self.machine.poll_action() {
            match action {
                CoordinatorAction::Persist(stored) => tokio::task::block_in_place(|| self.keep(&stored))?,
                CoordinatorAction::Publish { head } => {
                    self.public.write(layout::HEAD, &head)?;
                    if let Err(error) = self.network.clone().publish(head).await {
                        debug!(%error, "head not gossiped");
                    }
                    tokio::task::block_in_place(|| self.retire())?;
                }
                CoordinatorAction::RoundOpened { round, members } => {
                    self.store.round_opened(round, unix_ms())?;
                    info!(round, members, "round open");
                    self.renew_view();
                }
                CoordinatorAction::Fetch { round, member, update, len_bytes } => {
                    self.fetches.start(Fetched { round, member, update }, len_bytes);
                }
                CoordinatorAction::Aggregate { round, contributions } => {
                    self.aggregation = Some((round, contributions));
                    self.aggregate()?;
                    self.renew_view();
                }
                CoordinatorAction::Misconduct { member, evidence } => {
                    warn!(member = %member.short(), evidence = %evidence.describe(), "misconduct");
                    self.count("misconduct");
                    self.keep_evidence(&member, &evidence)?;
                }
                CoordinatorAction::Finished => {
                    info!("every round is done; still serving downloads, Ctrl-C to stop");
                    self.finished_at = Some(Instant::now());
                    self.renew_view();
                }
            }
        }
        for (responder, reply) in std::mem::take(&mut self.replies) {
            responder.send(encoding::encode(&reply));
        }
        Ok(())
    }

    /// Starts the aggregation that was asked for last.
    fn aggregate(&mut self) -> Result<(), ServeError> {
        let Some((round, contributions)) = self.aggregation.clone() else {
            return Ok(());
        };
        let base = self
            .machine
            .chain()
            .record()
            .map(|record| BaseOf { hashes: hashes_of(&record.value), heldout: record.value.heldout.clone() });
        self.job(Job::Aggregate { round, contributions, base })
    }

    async fn handle_event(&mut self, event: NetworkEvent) -> Result<(), ServeError> {
        match event {
            NetworkEvent::Request { peer, bytes, reply } => {
                let now = self.now_ms();
                let answer = requests::answer(&mut self.machine, &self.store, now, &peer, &bytes)?;
                if let Reply::Refused(refused) = answer.reply {
                    debug!(peer = %requests::short(member_of(&peer), &peer), reason = requests::refused_name(refused), "refused");
                    self.count(requests::refused_name(refused));
                }
                self.replies.push((reply, answer.reply));
                let held = match answer.fault {
                    Some(Fault::Wrong(fault)) => Some(fault),
                    Some(Fault::Late) => {
                        if self.late.len() >= requests::LATE_PEERS_MAX {
                            self.late.clear();
                        }
                        let late = self.late.entry(peer).or_insert(0);
                        *late = late.saturating_add(1);
                        (*late > requests::LATE_MAX).then_some(Misbehaviour::Flooding)
                    }
                    None => None,
                };
                if let Some(fault) = held {
                    self.network.clone().penalize(peer, fault).await;
                }
            }
            // Heads come from here: one that comes back is old news, and another's is none of ours.
            NetworkEvent::Gossip { verdict, .. } => verdict.ignore(),
            NetworkEvent::PeerBlocked { peer } => {
                warn!(peer = %requests::short(member_of(&peer), &peer), "peer blocked for its misbehaviour");
            }
            NetworkEvent::PeerConnected { peer } => debug!(%peer, "connected"),
            NetworkEvent::PeerDisconnected { peer } => debug!(%peer, "disconnected"),
            _ => {}
        }
        Ok(())
    }

    async fn handle_done(&mut self, done: Done) -> Result<(), ServeError> {
        let now = self.now_ms();
        match done {
            Done::Checked { round, member, outcome, reason } => {
                if let Some(reason) = reason {
                    warn!(round, member = %member.short(), %reason, "update refused");
                }
                if matches!(outcome, UpdateOutcome::Malformed | UpdateOutcome::NonFinite)
                    && let Some(peer) = peer_id_of(&member)
                {
                    self.network.clone().penalize(peer, Misbehaviour::WrongBlob).await;
                }
                self.machine.handle_update(now, round, member, outcome);
            }
            Done::Aggregated { round, result, folder } => {
                self.staged = Some((round, folder));
                if let Err(reason) = self.machine.handle_outer(now, round, result) {
                    if round == 0 {
                        return Err(ServeError::Round { round, reason: reason.to_string() });
                    }
                    error!(round, %reason, "no record can be signed over this; its updates are refused");
                    self.machine.handle_outer_failed(now, round, None);
                }
            }
            Done::NonFinite { round, blamed, reason } => {
                if round == 0 {
                    return Err(ServeError::Round { round, reason });
                }
                warn!(round, %reason, blamed = ?blamed, "aggregation refused");
                self.machine.handle_outer_failed(now, round, blamed);
            }
            Done::Failed { round, reason } => {
                error!(round, %reason, "aggregation failed; trying again");
                self.retry_at = Some(tokio::time::Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    pub(super) fn count(&mut self, reason: &'static str) {
        let count = self.refusals.entry(reason).or_insert(0);
        *count = count.saturating_add(1);
    }

    fn flush_refusals(&mut self) -> Result<(), ServeError> {
        for (reason, count) in std::mem::take(&mut self.refusals) {
            self.store.count_refusals(reason, count)?;
            self.view.write(|view| {
                let total = view.refusals.entry(reason.to_owned()).or_insert(0);
                *total = total.saturating_add(count);
            });
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), ServeError> {
        self.flush_refusals()?;
        self.renew_view();
        Ok(())
    }
}

/// Resolves on SIGINT or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
