//! A small operator in this process: the protocol's machine, a real network, real arithmetic, nothing on disk. It can be told
//! to lie about a checkpoint.

use essaim_kernels::Exec;
use essaim_network::{
    BlobStore, FetchRequest, Multiaddr, Network, NetworkConfig, NetworkEvent, member_of, peer_id_of, serve_all,
};
use essaim_protocol::dataset::{DatasetManifest, Mix, ShardInfo};
use essaim_protocol::encoding;
use essaim_protocol::hash_chain::HashChain;
use essaim_protocol::ids::{Hash, RunId};
use essaim_protocol::limits::CONTROL_MAX;
use essaim_protocol::link::JoinLink;
use essaim_protocol::manifest::{Manifest, Optimizer};
use essaim_protocol::messages::{Refused, Reply, Request};
use essaim_protocol::round::{
    CoordinatorAction, CoordinatorConfig, CoordinatorMachine, CoordinatorRestored, OuterResult, Stored, UpdateOutcome,
};
use essaim_protocol::signing::{Keypair, Signed, Strict};
use essaim_train::aggregate;
use essaim_train::checkpoint::write_model_file;
use essaim_train::codec::UpdateFormat;
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::tiny_manifest;
use essaim_train::shard::ShardWriter;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const SECRET: [u8; 32] = [42; 32];

/// What the operator is to do.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) members_min: u32,
    /// The checkpoint of this round is recorded with another hash than it has.
    pub(crate) lies_in_round: Option<u64>,
}

/// The operator and its run.
pub(crate) struct Operator {
    network: Network,
    events: tokio::sync::mpsc::Receiver<NetworkEvent>,
    machine: CoordinatorMachine,
    manifest: Signed<Manifest>,
    plan: Plan,
    exec: Exec,
    base: Option<Base>,
    records: BTreeMap<u64, (Vec<u8>, Option<Vec<u8>>)>,
    lists: BTreeMap<u64, Vec<u8>>,
    /// Round and checkpoint of the last record.
    recorded: watch::Sender<Option<(u64, Hash)>>,
    start: Instant,
}

impl Operator {
    pub(crate) async fn start(root: &Path, plan: Plan) -> Operator {
        let store = Arc::new(BlobStore::open(root).unwrap());
        let chain = HashChain::from_secret(&[3; 32], plan.rounds + 2);
        let keypair = Keypair::from_secret(&SECRET);
        let mut manifest = tiny_manifest(Optimizer::Muon);
        let dataset = dataset(&mut manifest, &store);
        manifest.dataset = store.insert_bytes(&dataset).unwrap();
        manifest.dataset_len_bytes = dataset.len() as u64;
        manifest.operators = vec![keypair.member()];
        (manifest.hash_chain_anchor, manifest.hash_chain_len) = (chain.anchor(), chain.len());
        (manifest.rounds, manifest.admission.members_min) = (plan.rounds, plan.members_min);
        manifest.timing.round_min_ms = 300;
        manifest.timing.round_max_ms = 8_000;
        let manifest = keypair.sign(manifest);
        let mut config = NetworkConfig::new(SECRET, manifest.id().to_string());
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse::<Multiaddr>().unwrap()];
        let (network, events) = Network::start(config, store, serve_all()).await.unwrap();
        let config = CoordinatorConfig {
            manifest: manifest.clone(),
            keypair,
            hash_chain: chain,
            check: Arc::new(Strict),
            update_len_bytes: Some(UpdateFormat::of(&manifest.value).len_bytes() as u64),
        };
        let machine = CoordinatorMachine::new(config, CoordinatorRestored::default(), 0).unwrap();
        Operator {
            network,
            events,
            machine,
            manifest,
            plan,
            exec: Exec::detect(1).unwrap(),
            base: None,
            records: BTreeMap::new(),
            lists: BTreeMap::new(),
            recorded: watch::channel(None).0,
            start: Instant::now(),
        }
    }

    pub(crate) fn run_id(&self) -> RunId {
        RunId(self.manifest.id().0)
    }

    pub(crate) fn link(&self) -> JoinLink {
        let peers = self.network.listen_addrs().iter().map(ToString::to_string).collect();
        JoinLink { run: self.run_id(), peers, http: None }
    }

    pub(crate) fn recorded(&self) -> watch::Receiver<Option<(u64, Hash)>> {
        self.recorded.subscribe()
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Serves for ever.
    pub(crate) async fn run(mut self) {
        loop {
            self.drain().await;
            let wait = self.machine.next_timeout().map(|at| at.saturating_sub(self.now_ms())).unwrap_or(60_000);
            tokio::select! {
                event = self.events.recv() => if let NetworkEvent::Request { peer, bytes, reply } = event.unwrap() {
                    let answer = self.answer(member_of(&peer).unwrap(), &bytes);
                    // What the machine wants kept would be on disk here.
                    self.drain().await;
                    reply.send(encoding::encode(&answer));
                },
                () = tokio::time::sleep(Duration::from_millis(wait)) => self.machine.handle_timeout(self.now_ms()),
            }
        }
    }

    fn answer(&mut self, sender: essaim_protocol::ids::MemberId, bytes: &[u8]) -> Reply {
        let now_ms = self.now_ms();
        match encoding::decode::<Request>(bytes, CONTROL_MAX).unwrap() {
            Request::Manifest { run } if run == self.run_id() => Reply::Manifest(self.manifest.to_bytes()),
            Request::Status { .. } => Reply::Status(self.machine.status(now_ms)),
            Request::Record { round, .. } => match self.records.get(&round).cloned() {
                Some((record, claims)) => Reply::Record { record, claims },
                None => Reply::NotFound,
            },
            Request::Join(bytes) => self.machine.handle_join(now_ms, sender, &bytes),
            Request::Claim(bytes) => self.machine.handle_claim(now_ms, sender, &bytes),
            Request::Manifest { .. } => Reply::Refused(Refused::WrongRun),
        }
    }

    async fn drain(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                CoordinatorAction::Persist(Stored::ClaimList { round, list }) => _ = self.lists.insert(round, list),
                CoordinatorAction::Persist(Stored::Record { round, record, ledger, .. }) => {
                    self.network.store().insert_bytes(&ledger).unwrap();
                    let value = Signed::<essaim_protocol::statements::Record>::from_bytes(&record).unwrap().value;
                    self.records.insert(round, (record, self.lists.get(&round).cloned()));
                    self.recorded.send_replace(Some((round, value.checkpoint)));
                }
                CoordinatorAction::Publish { head } => _ = self.network.publish(head).await,
                CoordinatorAction::Fetch { round, member, update, len_bytes } => {
                    let request = FetchRequest::new(update, len_bytes).providers(peer_id_of(&member));
                    let fetched = self.network.fetch(request.patience(Duration::from_secs(5))).await;
                    let outcome = if fetched.is_ok() { UpdateOutcome::Verified } else { UpdateOutcome::Unavailable };
                    self.machine.handle_update(self.now_ms(), round, member, outcome);
                }
                CoordinatorAction::Aggregate { round, contributions } => self.aggregate(round, &contributions),
                _ => {}
            }
        }
    }

    fn aggregate(&mut self, round: u64, contributions: &[essaim_protocol::statements::Contribution]) {
        let manifest = self.manifest.value.clone();
        let store = self.network.store().clone();
        let context = RoundContext { exec: &self.exec, manifest: &manifest, run: self.run_id(), round };
        let base = self.base.get_or_insert_with(|| Base::initial(&self.exec, &manifest));
        let mut fetch = |contribution: &essaim_protocol::statements::Contribution| {
            store.read(&contribution.update, contribution.update_len_bytes).map_err(io::Error::other)
        };
        aggregate::next_checkpoint(&context, contributions, &mut fetch, base).unwrap();
        let path = store.dir().join("model");
        let mut checkpoint = write_model_file(&path, &manifest.model, &base.params).unwrap();
        store.insert_file(&path).unwrap();
        let outer_state = store.insert_bytes(&base.outer.to_bytes()).unwrap();
        if self.plan.lies_in_round == Some(round) {
            checkpoint = Hash::of(b"another checkpoint");
        }
        let result = OuterResult { checkpoint, outer_state, heldout: Vec::new() };
        self.machine.handle_outer(self.now_ms(), round, result).unwrap();
    }
}

/// A data set of one shard; gives the bytes of its manifest.
fn dataset(manifest: &mut Manifest, store: &BlobStore) -> Vec<u8> {
    let vocab = manifest.model.vocab_size;
    let mut shard = ShardWriter::new(vocab);
    for document in 0..40u32 {
        shard.push(&(0..200).map(|i| (i * i + document * 13) % vocab).collect::<Vec<u32>>()).unwrap();
    }
    let (tokens, documents) = (shard.tokens(), shard.documents());
    let bytes = shard.finish();
    let hash = store.insert_bytes(&bytes).unwrap();
    manifest.tokenizer = store.insert_bytes(b"{}").unwrap();
    let mix = manifest.phases[0].weights[0].mix.clone();
    let shards = vec![ShardInfo { hash, len_bytes: bytes.len() as u64, tokens, documents }];
    let dataset = DatasetManifest {
        version: 1,
        name: "test".into(),
        tokenizer: manifest.tokenizer,
        vocab_size: vocab,
        mixes: vec![Mix { name: mix, shards }],
        heldout: Vec::new(),
        sources: Vec::new(),
        settings: String::new(),
    };
    dataset.to_bytes()
}
