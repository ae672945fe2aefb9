//! From a join link to a running driver: identity, network, manifest, what is on disk.

use super::act::{blocking, claimed};
use super::fetch::Fetcher;
use super::peers::{Asker, LinkPeers, LinkPeersError};
use super::{Bound, Driver, End, NO_ANSWER, UNREACHABLE_AFTER, UNREACHABLE_EVERY};
use crate::config::Config;
use crate::disk::{Disk, DiskError, Found};
use crate::events::{Event, bytes_text};
use crate::files::FileError;
use crate::identity::Identity;
use crate::reporter::Reporter;
use crate::withheld::Withheld;
use crate::worker::Worker;
use essaim_kernels::{Exec, ExecError};
use essaim_network::{BlobError, BlobStore, Multiaddr, Network, NetworkConfig, NetworkError, NetworkEvent, peer_id_of};
use essaim_protocol::chain::{ChainError, ChainState};
use essaim_protocol::ids::RunId;
use essaim_protocol::link::JoinLink;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::messages::{Reply, Request};
use essaim_protocol::round::{MemberConfig, MemberError, MemberMachine, MemberRestored, MemberTiming};
use essaim_protocol::signing::{Signed, Strict};
use essaim_train::inner;
use essaim_train::selfcheck::{self, SelfCheckError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Connections lost in a row, before the manifest is known, after which the link is thought to be wrong: nodes of another
/// run end a connection as soon as it is made.
const LOST_MAX: u32 = 5;

/// What a member joins with.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// The run and where to find it.
    pub link: JoinLink,
    /// The data directory, which the caller holds open.
    pub root: PathBuf,
    /// Settings.
    pub config: Config,
    /// Whether to end when the run does.
    pub exit_when_finished: bool,
    /// How long the coordinator may be silent before the program ends; for ever if none.
    pub give_up_after: Option<Duration>,
}

/// Why a member cannot take part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The link's addresses.
    #[error(transparent)]
    Link(#[from] LinkPeersError),
    /// An address to listen on.
    #[error("'{0}' is no multiaddress to listen on, such as /ip4/0.0.0.0/udp/4101/quic-v1")]
    Listen(String),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// This machine does not calculate as the run demands.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// This machine comes to other bits.
    #[error("this machine does not come to the bits that the run demands ({0}); it cannot take part")]
    SelfCheck(#[from] SelfCheckError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The run's files.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The blob store.
    #[error(transparent)]
    Store(#[from] BlobError),
    /// The peers of the link do not know the run.
    #[error("the peers of the join link answer, but do not know run {run}; get a new link from the operator")]
    UnknownRun {
        /// The run.
        run: RunId,
    },
    /// The peers of the link end every connection.
    #[error(
        "the peers of the join link end the connection: they serve another run than {run}; get a new link from the operator"
    )]
    SentAway {
        /// The run.
        run: RunId,
    },
    /// The manifest does not hold.
    #[error("the run's manifest: {0}")]
    Manifest(#[from] ChainError),
    /// The machine refuses what it was given.
    #[error(transparent)]
    Machine(#[from] MemberError),
    /// The model does not fit.
    #[error(
        "this run needs {needed}, {allowed} are allowed: give more with --memory, or join from a larger machine",
        needed = bytes_text(*needed_bytes), allowed = bytes_text(*allowed_bytes)
    )]
    Memory {
        /// What the smallest micro-batch needs, bytes.
        needed_bytes: u64,
        /// What is allowed, bytes.
        allowed_bytes: u64,
    },
    /// The data set does not fit the manifest.
    #[error("the run's data set cannot be used: {0}; tell the operator")]
    Data(String),
    /// The network's task ended.
    #[error("the network stopped unexpectedly; start again to go on")]
    NetworkStopped,
    /// The worker's thread ended.
    #[error("the calculation stopped unexpectedly; start again to go on, and report what is above")]
    WorkerStopped,
    /// Something that cannot be.
    #[error("internal: {0}; please report this")]
    Bug(String),
}

/// Takes part in a run until it ends, or the caller drops the future. The caller holds the data directory open.
///
/// # Errors
/// [`JoinError`].
pub async fn join(
    options: JoinOptions,
    identity: Identity,
    reporter: Arc<Reporter>,
    start: Instant,
) -> Result<End, JoinError> {
    let link_peers = LinkPeers::of(&options.link)?;
    let run = options.link.run;
    reporter.report(&Event::Started {
        run: run.to_string(),
        member: identity.keypair.member().to_string(),
        data_dir: options.root.display().to_string(),
        threads: options.config.threads,
        memory_bytes: options.config.memory_bytes,
    });
    let (root, threads) = (options.root.clone(), options.config.threads);
    let (disk, store, exec) = blocking(move || -> Result<_, JoinError> {
        let disk = Disk::open(&root)?;
        let store = BlobStore::open(root.join("blobs"))?;
        let exec = Exec::from_env(threads)?;
        selfcheck::self_check(&exec)?;
        Ok((Arc::new(disk), Arc::new(store), exec))
    })
    .await??;
    let withheld = Arc::new(Withheld::default());
    let config = network_config(&options, &identity, &link_peers)?;
    let (network, mut events) = Network::start(config, store.clone(), withheld.policy()).await?;
    let addresses = network.listen_addrs().iter().map(ToString::to_string).collect();
    reporter.report(&Event::Listening { addresses });
    let asker = Asker::new(network.clone(), link_peers.peers.clone());
    let getting = Getting { run, disk: &disk, asker: &asker, reporter: &reporter, give_up: options.give_up_after };
    let manifest = match getting.manifest(&mut events).await? {
        Ok(manifest) => manifest,
        Err(end) => return Ok(end),
    };
    let micro_batch = check_manifest(&manifest, &options.config, &reporter)?;
    let mut peers = link_peers.peers;
    for peer in manifest.value.operators.iter().filter_map(peer_id_of) {
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    let value = Arc::new(manifest.value.clone());
    let Start { found, bound } = {
        let (disk, value, store) = (disk.clone(), value.clone(), store.clone());
        blocking(move || find(&disk, &value, &store)).await??
    };
    for problem in &found.damaged {
        reporter.report(&Event::Warning { message: problem.clone() });
    }
    let (head, base) = match found.head {
        Some((record, ledger, base)) => (Some((record.clone(), ledger)), Some((record.value.round, base))),
        None => (None, None),
    };
    let restored = MemberRestored { head, claim: found.claim.clone() };
    let timing = MemberTiming { poll_ms: 1000, ..MemberTiming::default() };
    let keypair = identity.keypair.clone();
    let config = MemberConfig { manifest, keypair, check: Arc::new(Strict), timing };
    let now_ms = start.elapsed().as_millis() as u64;
    let machine = MemberMachine::new(config, restored, now_ms)?;
    if let Some(claim) = &found.claim {
        withheld.withhold(claim.value.update);
        if claim.value.round == machine.chain().open_round() {
            reporter.report(&claimed(&claim.value, true));
        }
    }
    let worker = Worker {
        exec,
        manifest: value.clone(),
        run,
        member: machine.member(),
        micro_batch,
        store,
        disk: disk.clone(),
        withheld: withheld.clone(),
        reporter: reporter.clone(),
        base,
    };
    let (jobs, job_queue) = std::sync::mpsc::channel();
    let (outcomes, outcome_queue) = mpsc::unbounded_channel();
    let thread = std::thread::Builder::new().name("essaim-worker".into());
    thread.spawn(move || worker.run(&job_queue, &outcomes)).map_err(|error| JoinError::Bug(error.to_string()))?;
    let (reports, report_queue) = mpsc::unbounded_channel();
    let driver = Driver {
        machine,
        fetcher: Fetcher::new(network.clone(), peers.clone()),
        asker: Asker::new(network.clone(), peers),
        network,
        manifest: value,
        disk,
        withheld,
        reporter,
        options,
        start,
        jobs,
        reports,
        data: None,
        working: None,
        advance: None,
        catch_up_reason: None,
        bound,
        served: None,
        told_joined: false,
        last_answer: Instant::now(),
        last_problem: NO_ANSWER.to_owned(),
        told_unreachable: None,
        end: None,
    };
    driver.fetch_data();
    driver.fetch_tokenizer();
    driver.run(events, report_queue, outcome_queue).await
}

fn network_config(
    options: &JoinOptions,
    identity: &Identity,
    link_peers: &LinkPeers,
) -> Result<NetworkConfig, JoinError> {
    let mut config = NetworkConfig::new(identity.secret, options.link.run.to_string());
    let parse = |text: &String| text.parse::<Multiaddr>().map_err(|_| JoinError::Listen(text.clone()));
    config.listen = options.config.listen.iter().map(parse).collect::<Result<_, _>>()?;
    config.bootstrap.clone_from(&link_peers.addresses);
    config.mdns = options.config.mdns;
    Ok(config)
}

/// Checks a manifest whose id is the run's, and that the model fits; gives the micro-batch.
fn check_manifest(manifest: &Signed<Manifest>, config: &Config, reporter: &Reporter) -> Result<u32, JoinError> {
    ChainState::genesis(manifest, &Strict)?;
    let value = &manifest.value;
    let micro_batch = inner::micro_batch_for(value, config.memory_bytes).ok_or_else(|| JoinError::Memory {
        needed_bytes: inner::memory_bytes(value, 1),
        allowed_bytes: config.memory_bytes,
    })?;
    reporter.report(&Event::Manifest {
        name: value.name.clone(),
        parameters: value.model.parameter_count(),
        rounds: value.rounds,
        micro_batch,
        needed_bytes: inner::memory_bytes(value, micro_batch),
    });
    Ok(micro_batch)
}

/// What a start finds on disk.
struct Start {
    found: Found,
    /// A claim of the round that may still be open, whose update is lost. There must be no second, different claim for that
    /// round, so the same update is made again, or none.
    bound: Option<Bound>,
}

/// What is on disk and of use. A claim is only if its update is there too.
fn find(disk: &Disk, manifest: &Manifest, store: &BlobStore) -> Result<Start, JoinError> {
    let mut found = disk.find(manifest)?;
    if let Some((record, ..)) = &found.head {
        disk.settle(record.value.round)?;
    }
    let mut bound = found.unreadable_claim.map(|round| Bound { round, claim: None });
    let past = |round: u64| found.head.as_ref().is_some_and(|(record, ..)| round <= record.value.round);
    match found.claim.take() {
        Some(claim) if past(claim.value.round) => {}
        Some(claim) => match store.verify(&claim.value.update) {
            Ok(()) => found.claim = Some(claim),
            Err(_) => {
                let round = claim.value.round;
                found.damaged.push(format!("the update claimed for round {round} is lost; it is made again"));
                bound = Some(Bound { round, claim: Some(claim.value) });
            }
        },
        None => {}
    }
    Ok(Start { found, bound })
}

/// Getting the manifest.
struct Getting<'a> {
    run: RunId,
    disk: &'a Arc<Disk>,
    asker: &'a Asker,
    reporter: &'a Reporter,
    give_up: Option<Duration>,
}

impl Getting<'_> {
    /// The manifest from disk, or from the peers of the link, who are asked until one gives it.
    async fn manifest(
        &self,
        events: &mut mpsc::Receiver<NetworkEvent>,
    ) -> Result<Result<Signed<Manifest>, End>, JoinError> {
        if let Some(manifest) = self.disk.manifest(&self.run)? {
            return Ok(Ok(manifest));
        }
        let asking = self.ask();
        tokio::pin!(asking);
        loop {
            tokio::select! {
                asked = &mut asking => return asked,
                // Nothing that comes before the manifest can be judged.
                event = events.recv() => if event.is_none() { return Err(JoinError::NetworkStopped) },
            }
        }
    }

    async fn ask(&self) -> Result<Result<Signed<Manifest>, End>, JoinError> {
        let begun = Instant::now();
        let (mut told, mut unknown, mut lost, mut wait) = (None::<Instant>, 0u32, 0u32, Duration::from_millis(250));
        loop {
            let problem = match self.asker.ask(&Request::Manifest { run: self.run }).await {
                Ok(Reply::Manifest(bytes)) => match Signed::<Manifest>::from_bytes(&bytes) {
                    Ok(manifest) if manifest.id().0 == self.run.0 => {
                        if told.is_some() {
                            self.reporter.report(&Event::Reached { after_s: begun.elapsed().as_secs_f64() });
                        }
                        self.disk.write_manifest(&manifest)?;
                        return Ok(Ok(manifest));
                    }
                    Ok(_) => "it answers with the manifest of another run".to_owned(),
                    Err(error) => error.to_string(),
                },
                Ok(Reply::Busy) => "it is busy".to_owned(),
                Ok(_) => {
                    unknown += 1;
                    if unknown >= 3 {
                        return Err(JoinError::UnknownRun { run: self.run });
                    }
                    "it does not know the run".to_owned()
                }
                Err(problem) => {
                    lost = if problem.is_lost { lost + 1 } else { 0 };
                    if lost >= LOST_MAX {
                        return Err(JoinError::SentAway { run: self.run });
                    }
                    problem.text
                }
            };
            let silent = begun.elapsed();
            if self.give_up.is_some_and(|limit| silent >= limit) {
                return Ok(Err(End::GaveUp { reason: problem }));
            }
            if silent >= UNREACHABLE_AFTER && told.is_none_or(|told| told.elapsed() >= UNREACHABLE_EVERY) {
                told = Some(Instant::now());
                self.reporter.report(&Event::Unreachable { tried_s: silent.as_secs_f64(), reason: problem });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }
}
