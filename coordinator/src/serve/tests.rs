//! Whole runs with real networks and real arithmetic, small: members are played by a few lines, the coordinator is the real
//! one, killed at will.

use super::*;
use crate::datadir::DataDir;
use crate::init;
use crate::store::{Store, StoredKind};
use crate::testing;
use essaim_kernels::Exec;
use essaim_network::{BlobStore, Multiaddr, Network, NetworkConfig, NetworkEvent, PeerId, peer_id_of, serve_all};
use essaim_protocol::chain::ChainState;
use essaim_protocol::data_order::DataOrder;
use essaim_protocol::dataset::DatasetManifest;
use essaim_protocol::encoding;
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::layout;
use essaim_protocol::ledger::Ledger;
use essaim_protocol::limits;
use essaim_protocol::link::JoinLink;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::messages::{Refused, Reply, Request, Status};
use essaim_protocol::signing::{Keypair, Signed, Strict};
use essaim_protocol::statements::{Claim, Head, Join, Record};
use essaim_train::codec::HEADER_LEN_BYTES;
use essaim_train::contribute::{Contributed, Work, contribute};
use essaim_train::engine::Engine;
use essaim_train::round::RoundContext;
use essaim_train::shard::ShardReader;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a member does with its update.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Honest,
    /// Claims, and never serves.
    Withholds,
    /// Serves an update with a value that is not finite.
    NonFinite,
}

/// A member that reads the coordinator's public folder where a real one would download it.
struct Member {
    keypair: Keypair,
    network: Network,
    _events: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
    public: PathBuf,
    manifest: Signed<Manifest>,
    coordinator: PeerId,
    conduct: Conduct,
}

impl Member {
    async fn new(seed: u8, data: &DataDir, conduct: Conduct) -> Member {
        let manifest = std::fs::read(data.public().join(layout::MANIFEST)).unwrap();
        let manifest = Signed::<Manifest>::from_bytes(&manifest).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(BlobStore::open(dir.path()).unwrap());
        let mut config = NetworkConfig::new([seed; 32], manifest.id().to_string());
        let withholds = conduct == Conduct::Withholds;
        let policy: essaim_network::ServePolicy = if withholds { Arc::new(|_, _| false) } else { serve_all() };
        config.bootstrap = addresses(data);
        config.redial_wait = Duration::from_millis(100);
        let (network, mut events) = Network::start(config, store, policy).await.unwrap();
        let drain = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let NetworkEvent::Gossip { verdict, .. } = event {
                    verdict.accept();
                }
            }
        });
        let coordinator = peer_id_of(&manifest.value.operators[0]).unwrap();
        let public = data.public();
        let keypair = Keypair::from_secret(&[seed; 32]);
        Member { keypair, network, _events: drain, _dir: dir, public, manifest, coordinator, conduct }
    }

    async fn ask(&self, request: Request) -> Option<Reply> {
        let bytes = self.network.request(self.coordinator, encoding::encode(&request)).await.ok()?;
        Some(encoding::decode(&bytes, limits::CONTROL_MAX).unwrap())
    }

    fn run(&self) -> RunId {
        RunId(self.manifest.id().0)
    }

    /// The chain after a round, from public files; none while they change.
    fn chain(&self, round: u64) -> Option<ChainState> {
        let record = std::fs::read(self.public.join(layout::record(round))).ok()?;
        let ledger = std::fs::read(self.public.join(layout::ledger(round))).ok()?;
        let record = Signed::<Record>::from_bytes(&record).unwrap();
        let ledger = Ledger::from_bytes(&ledger).unwrap();
        Some(ChainState::resume(&self.manifest, &Strict, &record, ledger).unwrap())
    }

    fn work(&self, chain: &ChainState) -> Option<Contributed> {
        let record = &chain.record()?.value;
        let manifest = &self.manifest.value;
        let folder = self.public.join(layout::checkpoint(record.round));
        let base = crate::checkpoint::read(&folder, manifest, worker::hashes_of(record)).ok()?;
        let dataset = std::fs::read(self.public.join(layout::DATASET)).unwrap();
        let dataset = DatasetManifest::from_bytes(&dataset).unwrap();
        let order = DataOrder::new(manifest, &dataset).unwrap();
        let assignment = chain.assignment_of(&self.keypair.member())?;
        let exec = Exec::detect(1).unwrap();
        let context = RoundContext { exec: &exec, manifest, run: self.run(), round: record.round + 1 };
        let work = Work {
            context,
            engine: Engine::Cpu,
            member: self.keypair.member(),
            base: &base,
            base_tokens_total: record.tokens_total,
            steps: assignment.steps(),
            micro_batch: 2,
        };
        let mut units = |step: u32| {
            let unit = order.locate(assignment.position_of(step).unwrap());
            let mut shard = ShardReader::open(&self.public.join(layout::shard(&unit.shard.hash)))?;
            Ok(shard.unit_tokens(manifest.inner.batch, manifest.model.context, unit.unit)?)
        };
        let mut done = contribute(&work, &mut units, &mut |_| ControlFlow::Continue(())).unwrap();
        if self.conduct == Conduct::NonFinite {
            // The scale of the first block.
            done.update[HEADER_LEN_BYTES..HEADER_LEN_BYTES + 2].copy_from_slice(&0x7f80u16.to_le_bytes());
            done.update_hash = Hash::of(&done.update);
        }
        Some(done)
    }

    fn claim(&self, chain: &ChainState, done: &Contributed) -> Signed<Claim> {
        let member = self.keypair.member();
        self.keypair.sign(Claim {
            run: self.run(),
            round: chain.open_round(),
            member,
            base: chain.head_id(),
            assignment: chain.assignment_of(&member).unwrap().digest(),
            steps: done.steps,
            skipped: done.skipped,
            tokens: done.tokens,
            loss: done.loss,
            update: done.update_hash,
            update_len_bytes: done.update.len() as u64,
            state_digests: None,
            residual: None,
        })
    }

    async fn status(&self) -> Option<(Status, Option<Head>)> {
        let Some(Reply::Status(status)) = self.ask(Request::Status { run: self.run() }).await else { return None };
        let head = status.head.as_ref().map(|head| Signed::<Head>::from_bytes(head).unwrap().value);
        Some((status, head))
    }

    /// Takes part until every round is done.
    async fn take_part(&self) {
        let member = self.keypair.member();
        let mut claimed = None;
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Some((status, head)) = self.status().await else { continue };
            if status.finished {
                return;
            }
            let chain = head.as_ref().and_then(|head| self.chain(head.round));
            let known = chain.as_ref().is_some_and(|chain| chain.ledger().member(&member).is_some());
            let Some(chain) = chain.filter(|_| known) else {
                let head = head.map_or(self.manifest.id(), |head| head.record);
                let join = self.keypair.sign(Join { run: self.run(), member, head });
                self.ask(Request::Join(join.to_bytes())).await;
                continue;
            };
            if status.claims.is_some() || claimed == Some(chain.open_round()) {
                continue;
            }
            let Some(done) = tokio::task::block_in_place(|| self.work(&chain)) else { continue };
            self.network.store().insert_bytes(&done.update).unwrap();
            let claim = self.claim(&chain, &done);
            if let Some(Reply::Receipt(_)) = self.ask(Request::Claim(claim.to_bytes())).await {
                claimed = Some(chain.open_round());
            }
        }
    }
}

fn addresses(data: &DataDir) -> Vec<Multiaddr> {
    let link: JoinLink = std::fs::read_to_string(data.link()).unwrap().parse().unwrap();
    link.peers.iter().map(|peer| peer.parse().unwrap()).collect()
}

fn options(root: &Path) -> ServeOptions {
    ServeOptions { data_dir: root.to_owned(), threads: 1, listen: vec![], http: None, exit_when_finished: false }
}

/// A run whose port is fixed, so that members find a coordinator that was started again.
fn make_run(dir: &Path, extra: &str) -> DataDir {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let network = format!("[network]\nlisten = ['/ip4/127.0.0.1/udp/{free}/quic-v1']\nhttp = '127.0.0.1:0'\n{extra}");
    let run_toml = testing::run_toml(dir, &network);
    let root = dir.join("data");
    init::init(&run_toml, &root, &Exec::detect(1).unwrap(), &mut |_, _, _| ()).unwrap();
    DataDir::open(&root).unwrap()
}

/// Serves, killed at each of the moments (milliseconds after its start) and started again, until every round is done.
async fn serve_killed(data: &DataDir, kills_ms: &[u64]) {
    for kill_ms in kills_ms {
        port_free(data).await;
        let mut task = tokio::spawn(serve(options(data.root())));
        tokio::select! {
            ended = &mut task => panic!("ended by itself: {:?}", ended.unwrap()),
            () = tokio::time::sleep(Duration::from_millis(*kill_ms)) => task.abort(),
        }
        let _ = task.await;
    }
    port_free(data).await;
    serve(ServeOptions { exit_when_finished: true, ..options(data.root()) }).await.unwrap();
}

/// The sockets of an aborted task close a little later; those of a killed process are gone at once.
async fn port_free(data: &DataDir) {
    let address = addresses(data).first().unwrap().to_string();
    let port: u16 = address.split('/').nth(4).unwrap().parse().unwrap();
    while std::net::UdpSocket::bind(("127.0.0.1", port)).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn records(data: &DataDir) -> Vec<Record> {
    let store = Store::open(&data.store()).unwrap();
    let last = store.last_round(StoredKind::Record).unwrap().unwrap();
    let read = |round| store.get(StoredKind::Record, round, None).unwrap().unwrap();
    (0..=last).map(|round| Signed::<Record>::from_bytes(&read(round)).unwrap().value).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &name) } else { std::fs::copy(&path, &name).map(|_| ()).unwrap() }
    }
}

fn repaired(root: &Path) -> Result<(), String> {
    let data = DataDir::open(root).unwrap();
    open::check(&data, 1).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_goes_on_through_kills_and_its_public_folder_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let data = make_run(dir.path(), "[admission]\nmembers_min = 2\n");
    let members = [Member::new(1, &data, Conduct::Honest).await, Member::new(2, &data, Conduct::Honest).await];
    let taking_part = futures::future::join_all(members.iter().map(Member::take_part));
    tokio::join!(serve_killed(&data, &[300, 900, 500, 1200, 700]), taking_part);
    let chain = records(&data);
    assert_eq!(chain.len(), 7);
    assert!(chain.iter().skip(1).any(|record| record.contributions.len() == 2));
    assert!(chain.iter().all(|record| record.heldout.len() == 2));
    drop(members);

    // What a crash may leave, and what a bad disk does: repaired where it can be, named where it cannot.
    let last = chain.last().unwrap();
    let update = layout::update(6, &last.contributions[0].member);
    let shard = std::fs::read_dir(data.public().join("dataset/shards")).unwrap().next().unwrap().unwrap().file_name();
    let shard = format!("dataset/shards/{}", shard.to_string_lossy());
    let checkpoint = |round| layout::model_file(round);
    let mendable =
        [layout::record(3), layout::MANIFEST.to_owned(), checkpoint(3), checkpoint(6), layout::outer_state(6)];
    for (path, mended) in mendable.iter().map(|path| (path, true)).chain([(&update, false), (&shard, false)]) {
        let copied = dir.path().join("copy");
        copy(data.root(), &copied);
        let file = copied.join("public").join(path);
        let bytes = std::fs::read(&file).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damage in [Some(&flipped[..]), Some(&bytes[..bytes.len() / 2]), None] {
            match damage {
                Some(damage) => std::fs::write(&file, damage).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            let result = repaired(&copied);
            assert_eq!(result.is_ok(), mended, "{path}: {result:?}");
            match result {
                Ok(()) => assert_eq!(std::fs::read(&file).unwrap(), bytes, "{path}"),
                Err(error) => assert!(error.contains(path) && error.lines().count() == 1, "{error}"),
            }
        }
        std::fs::remove_dir_all(&copied).unwrap();
    }
    std::fs::remove_dir_all(data.public().join("checkpoints")).unwrap();
    repaired(data.root()).unwrap();
    assert_eq!(crate::public::PublicFolder::new(&data).rounds_in("checkpoints").unwrap(), [0, 3, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bad_members_are_refused_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let timing = "[timing]\nround_min_ms = 1\nround_max_ms = 2000\nfetch_max_ms = 1000\n";
    let data = make_run(dir.path(), &format!("[admission]\nmembers_min = 3\n{timing}"));
    let honest = Member::new(1, &data, Conduct::Honest).await;
    let withholds = Member::new(2, &data, Conduct::Withholds).await;
    let poisons = Member::new(3, &data, Conduct::NonFinite).await;
    let others = async {
        tokio::select! { () = withholds.take_part() => {}, () = poisons.take_part() => {}, () = honest.take_part() => {} }
    };
    tokio::join!(serve_killed(&data, &[]), others);
    let ids = [&honest, &withholds, &poisons].map(|member| member.keypair.member());
    let reasons = |id: &MemberId| -> Vec<_> {
        let refused = records(&data).into_iter().flat_map(|record| record.refusals);
        refused.filter(|refusal| refusal.member == *id).map(|refusal| refusal.reason).collect()
    };
    let chain = records(&data);
    assert!(chain.iter().skip(1).all(|record| record.contributions.iter().all(|one| one.member == ids[0])));
    assert!(chain.iter().any(|record| !record.contributions.is_empty()));
    use essaim_protocol::statements::RefusalReason;
    assert!(reasons(&ids[1]).contains(&RefusalReason::Withheld));
    assert!(reasons(&ids[2]).contains(&RefusalReason::NonFinite));
    let refusals = Store::open(&data.store()).unwrap().refusals().unwrap();
    assert!(refusals.contains_key("withheld") && refusals.contains_key("non_finite_update"), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_no_statement_is_refused_and_a_peer_that_insists_is_blocked() {
    let dir = tempfile::tempdir().unwrap();
    let data = make_run(dir.path(), "");
    let served = tokio::spawn(serve(options(data.root())));
    let peer = Member::new(9, &data, Conduct::Honest).await;
    while peer.status().await.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let other_run = Request::Status { run: RunId([7; 32]) };
    assert_eq!(peer.ask(other_run).await, Some(Reply::Refused(Refused::WrongRun)));
    assert_eq!(peer.ask(Request::Record { run: peer.run(), round: 5 }).await, Some(Reply::NotFound));
    assert_eq!(peer.ask(Request::Join(vec![1, 2, 3])).await, Some(Reply::Refused(Refused::Malformed)));
    let stranger = Keypair::from_secret(&[8; 32]);
    let join = stranger.sign(Join { run: peer.run(), member: stranger.member(), head: peer.manifest.id() });
    assert_eq!(peer.ask(Request::Join(join.to_bytes())).await, Some(Reply::Refused(Refused::WrongSender)));
    for _ in 0..20 {
        let _ = peer.network.request(peer.coordinator, vec![0xff; 40]).await;
    }
    assert_eq!(peer.ask(Request::Status { run: peer.run() }).await, None, "blocked");
    assert!(matches!(serve(options(data.root())).await, Err(ServeError::DataDir(_))), "one coordinator a directory");
    served.abort();
}
