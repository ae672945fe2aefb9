//! From a join link to a running driver: network, manifest, what is on disk.

use super::act::{blocking, claimed};
use super::error::{JoinError, JoinOptions};
use super::fetch::Fetcher;
use super::manifest::{Getting, check_manifest};
use super::peers::{Asker, LinkPeers};
use super::{Bound, Driver, DriverState, End};
use crate::disk::{Disk, Found};
use crate::engine::Engines;
use crate::events::Event;
use crate::identity::Identity;
use crate::reporter::Reporter;
use crate::withheld::Withheld;
use crate::worker::{Job, Outcome, Worker};
use essaim_kernels::Exec;
use essaim_network::{BlobStore, Multiaddr, Network, NetworkConfig, peer_id_of};
use essaim_protocol::manifest::Manifest;
use essaim_protocol::round::{MemberConfig, MemberMachine, MemberRestored, MemberTiming};
use essaim_protocol::signing::{Signed, Strict};
use essaim_train::round::Base;
use essaim_train::selfcheck;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Between two questions for the status, milliseconds.
const POLL_MS: u64 = 1000;

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
    let engines = Engines {
        choice: options.config.device,
        source: options.devices.clone(),
        memory_bytes: options.config.memory_bytes,
    };
    let (engines, Local { disk, store, withheld, exec }) = blocking(move || {
        engines.precheck()?;
        Ok::<_, JoinError>((engines, Local::open(&root, threads)?))
    })
    .await??;
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
    // On a thread that may block: a device may have to be started.
    let (manifest, exec, trainer) = {
        let reporter = reporter.clone();
        blocking(move || check_manifest(&manifest, engines, &exec, &reporter).map(|trainer| (manifest, exec, trainer)))
            .await??
    };
    let mut peers = link_peers.peers;
    for peer in manifest.value.operators.iter().filter_map(peer_id_of) {
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    let value = Arc::new(manifest.value.clone());
    let (machine, base, bound) = restore(&disk, manifest, &store, &identity, &reporter, start).await?;
    let (worker_store, member) = (store.clone(), machine.member());
    let (jobs, outcome_queue) = spawn(Worker {
        exec,
        manifest: value.clone(),
        run,
        member,
        trainer,
        store: worker_store,
        disk: disk.clone(),
        withheld: withheld.clone(),
        reporter: reporter.clone(),
        base,
    })?;
    let (reports, report_queue) = mpsc::unbounded_channel();
    let driver = Driver {
        fetcher: Fetcher::new(network.clone(), peers.clone()),
        asker: Asker::new(network.clone(), peers),
        state: DriverState { bound, ..DriverState::new() },
        machine,
        network,
        manifest: value,
        disk,
        withheld,
        reporter,
        options,
        start,
        jobs,
        reports,
    };
    driver.fetch_data();
    driver.fetch_tokenizer();
    driver.run(events, report_queue, outcome_queue).await
}

/// What a member has on this machine.
struct Local {
    disk: Arc<Disk>,
    store: Arc<BlobStore>,
    withheld: Arc<Withheld>,
    exec: Exec,
}

impl Local {
    /// Opens files and threads, and checks that this machine comes to the right bits.
    fn open(root: &Path, threads: usize) -> Result<Local, JoinError> {
        let disk = Arc::new(Disk::open(root)?);
        let store = Arc::new(BlobStore::open(root.join("blobs"))?);
        let withheld = Arc::new(Withheld::default());
        // Before the network is there: the round of this claim may still be open.
        if let Some((_, Ok(claim))) = disk.newest_claim()? {
            withheld.withhold(claim.value.update);
        }
        let exec = Exec::from_env(threads)?;
        selfcheck::self_check(&exec)?;
        Ok(Local { disk, store, withheld, exec })
    }
}

/// The member's machine as it was when this program ended, and the base for the worker.
async fn restore(
    disk: &Arc<Disk>,
    manifest: Signed<Manifest>,
    store: &Arc<BlobStore>,
    identity: &Identity,
    reporter: &Reporter,
    start: Instant,
) -> Result<(MemberMachine, Option<(u64, Base)>, Option<Bound>), JoinError> {
    let Start { found, bound } = {
        let (disk, value, store) = (disk.clone(), manifest.value.clone(), store.clone());
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
    let timing = MemberTiming { poll_ms: POLL_MS, ..MemberTiming::default() };
    let config = MemberConfig { manifest, keypair: identity.keypair.clone(), check: Arc::new(Strict), timing };
    let machine = MemberMachine::new(config, restored, start.elapsed().as_millis() as u64)?;
    if let Some(claim) = found.claim.filter(|claim| claim.value.round == machine.chain().open_round()) {
        reporter.report(&claimed(&claim.value, true));
    }
    Ok((machine, base, bound))
}

type Jobs = std::sync::mpsc::Sender<Job>;

/// Starts the thread that calculates.
fn spawn(worker: Worker) -> Result<(Jobs, mpsc::UnboundedReceiver<Outcome>), JoinError> {
    let (jobs, job_queue) = std::sync::mpsc::channel();
    let (outcomes, outcome_queue) = mpsc::unbounded_channel();
    let thread = std::thread::Builder::new().name("essaim-worker".into());
    thread.spawn(move || worker.run(&job_queue, &outcomes)).map_err(|error| JoinError::Bug(error.to_string()))?;
    Ok((jobs, outcome_queue))
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
