//! Values for tests: a small manifest, its keys, and a loopback world of one coordinator and some members.

use crate::chain::Sources;
use crate::dataset::{DatasetManifest, Mix, ShardInfo};
use crate::hash_chain::HashChain;
use crate::ids::{Hash, MemberId};
use crate::manifest::*;
use crate::messages::{Reply, Request};
use crate::round::*;
use crate::signing::{Keypair, Signed, Strict};
use crate::statements::{Claim, ClaimList, HeldoutLoss, Join, Record};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) fn bits(value: f64) -> F64Bits {
    F64Bits(value.to_bits())
}

pub(crate) fn operator() -> Keypair {
    Keypair::from_secret(&[1; 32])
}

pub(crate) fn member_key(index: u8) -> Keypair {
    Keypair::from_secret(&[100 + index; 32])
}

pub(crate) fn hash_chain() -> HashChain {
    HashChain::from_secret(&[2; 32], 64)
}

pub(crate) fn dataset() -> DatasetManifest {
    let shard = |name: &str, tokens: u64| ShardInfo {
        hash: Hash::of(name.as_bytes()),
        len_bytes: tokens * 2 + 64,
        tokens,
        documents: 10,
    };
    DatasetManifest {
        version: 1,
        name: "test".into(),
        tokenizer: Hash::of(b"tokenizer"),
        vocab_size: 256,
        mixes: vec![
            Mix { name: "fr".into(), shards: vec![shard("a", 1601), shard("b", 3300), shard("tiny", 20)] },
            Mix { name: "en".into(), shards: vec![shard("c", 2000)] },
        ],
        heldout: Vec::new(),
        sources: Vec::new(),
        settings: String::new(),
    }
}

pub(crate) fn manifest() -> Manifest {
    let dataset = dataset().to_bytes();
    Manifest {
        protocol: PROTOCOL_VERSION,
        name: "test".into(),
        numerics: "f32-exact/1".into(),
        model: ModelConfig {
            vocab_size: 256,
            d_model: 16,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            ffn: 32,
            context: 16,
            tied: true,
            rope_theta: bits(10000.0),
            norm_eps: bits(1e-5),
            init_std: bits(0.02),
        },
        tokenizer: Hash::of(b"tokenizer"),
        dataset: Hash::of(&dataset),
        dataset_len_bytes: dataset.len() as u64,
        phases: vec![Phase {
            name: "all".into(),
            tokens: 1 << 20,
            weights: vec![MixWeight { mix: "fr".into(), weight: 3 }, MixWeight { mix: "en".into(), weight: 2 }],
        }],
        seed: [9; 32],
        inner: InnerConfig {
            optimizer: Optimizer::Muon,
            steps: 20,
            batch: 4,
            grad_segments: 1,
            peak_lr: bits(1e-3),
            final_lr_fraction: bits(0.1),
            warmup_tokens: 0,
            total_tokens: 1 << 20,
            beta1: bits(0.9),
            beta2: bits(0.95),
            eps: bits(1e-8),
            weight_decay: bits(0.1),
            clip_norm: bits(1.0),
            muon_momentum: bits(0.95),
            muon_iterations: 5,
        },
        codec: Codec::Q4 { block: 64 },
        outer: OuterConfig { lr: bits(0.7), momentum: bits(0.9), clip_to_median: true },
        rounds: 6,
        admission: Admission {
            members_min: 2,
            members_max: 8,
            probation_steps: 4,
            probation_rounds: 1,
            member_share_max_permille: 1000,
            newcomer_share_max_permille: 1000,
            absent_rounds_max: 2,
        },
        timing: Timing { round_min_ms: 1_000, round_max_ms: 60_000, fetch_max_ms: 10_000 },
        audit_permille: 0,
        keyframe_every_rounds: 10,
        heldout_tokens_max: 0,
        operators: vec![operator().member()],
        threshold: 1,
        hash_chain_anchor: hash_chain().anchor(),
        hash_chain_len: 64,
        extensions: Vec::new(),
    }
}

pub(crate) fn signed_manifest() -> Signed<Manifest> {
    operator().sign(manifest())
}

/// Toy arithmetic: the next checkpoint is a hash of the last and the updates.
pub(crate) fn toy_outer(base: Option<&OuterResult>, round: u64, updates: &[Hash]) -> OuterResult {
    if let Some(base) = base
        && updates.is_empty()
    {
        return base.clone();
    }
    let mut hasher = blake3::Hasher::new();
    if let Some(base) = base {
        hasher.update(base.checkpoint.as_bytes());
    }
    updates.iter().for_each(|update| {
        hasher.update(update.as_bytes());
    });
    let checkpoint: Hash = hasher.finalize().into();
    let loss = HeldoutLoss { language: "fr".into(), nats: bits(10.0 / (round + 1) as f64), tokens: 5, text_bytes: 9 };
    OuterResult { checkpoint, outer_state: Hash::of(checkpoint.as_bytes()), heldout: vec![loss] }
}

/// What the coordinator keeps.
#[derive(Debug, Default, Clone)]
pub(crate) struct Store {
    pub(crate) records: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    pub(crate) lists: BTreeMap<u64, Vec<u8>>,
    pub(crate) claims: BTreeMap<(u64, MemberId), (Vec<u8>, Vec<u8>)>,
    pub(crate) joins: BTreeMap<(u64, MemberId), Vec<u8>>,
}

impl Store {
    pub(crate) fn keep(&mut self, stored: Stored) {
        match stored {
            Stored::Claim { round, member, claim, receipt } => {
                assert!(self.claims.insert((round, member), (claim, receipt)).is_none(), "a second claim is stored");
            }
            Stored::ClaimList { round, list } => {
                assert!(self.lists.insert(round, list).is_none(), "a second list is stored");
            }
            Stored::Record { round, record, ledger, joins } => {
                assert!(self.records.insert(round, (record, ledger)).is_none(), "a second record is stored");
                self.joins.extend(joins.into_iter().map(|(member, join)| ((round, member), join)));
            }
        }
    }

    pub(crate) fn restore(&self) -> CoordinatorRestored {
        let held = |(claim, receipt): &(Vec<u8>, Vec<u8>)| HeldClaim {
            claim: Signed::from_bytes(claim).unwrap(),
            receipt: Signed::from_bytes(receipt).unwrap(),
        };
        let last = self.records.last_key_value().map(|(_, (record, ledger))| {
            (Signed::from_bytes(record).unwrap(), crate::ledger::Ledger::from_bytes(ledger).unwrap())
        });
        CoordinatorRestored {
            last,
            list: self.lists.last_key_value().map(|(_, list)| Signed::from_bytes(list).unwrap()),
            claims: self.claims.values().map(held).collect(),
        }
    }

    pub(crate) fn record(&self, round: u64) -> Option<Signed<Record>> {
        self.records.get(&round).map(|(record, _)| Signed::from_bytes(record).unwrap())
    }

    pub(crate) fn list(&self, round: u64) -> Option<Signed<ClaimList>> {
        self.lists.get(&round).map(|list| Signed::from_bytes(list).unwrap())
    }
}

impl Sources for Store {
    fn claim(&self, round: u64, member: &MemberId) -> Option<Signed<Claim>> {
        self.claims.get(&(round, *member)).map(|(claim, _)| Signed::from_bytes(claim).unwrap())
    }

    fn join(&self, round: u64, member: &MemberId) -> Option<Signed<Join>> {
        self.joins.get(&(round, *member)).map(|join| Signed::from_bytes(join).unwrap())
    }
}

/// A member and its driver.
pub(crate) struct Node {
    pub(crate) machine: MemberMachine,
    pub(crate) head: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) claim: Option<Vec<u8>>,
    pub(crate) results: BTreeMap<u64, OuterResult>,
    pub(crate) events: Vec<MemberEvent>,
    pub(crate) halt: Option<Halt>,
    pub(crate) finished: bool,
    /// Whether it does its work at once.
    pub(crate) works: bool,
}

/// One coordinator and some members, every message delivered at once.
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) coordinator: CoordinatorMachine,
    pub(crate) store: Store,
    pub(crate) results: BTreeMap<u64, OuterResult>,
    pub(crate) outcome: BTreeMap<MemberId, UpdateOutcome>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) misconduct: usize,
    pub(crate) finished: bool,
    pending: VecDeque<(usize, Request)>,
}

pub(crate) fn coordinator_config() -> CoordinatorConfig {
    CoordinatorConfig {
        manifest: signed_manifest(),
        keypair: operator(),
        hash_chain: hash_chain(),
        check: Arc::new(Strict),
        update_len_bytes: None,
    }
}

fn member_machine(index: u8, restored: MemberRestored, now_ms: u64) -> MemberMachine {
    let config = MemberConfig {
        manifest: signed_manifest(),
        keypair: member_key(index),
        check: Arc::new(Strict),
        timing: MemberTiming::default(),
    };
    MemberMachine::new(config, restored, now_ms).unwrap()
}

impl World {
    pub(crate) fn new(members: u8) -> World {
        let coordinator = CoordinatorMachine::new(coordinator_config(), CoordinatorRestored::default(), 0).unwrap();
        let mut world = World {
            now_ms: 0,
            coordinator,
            store: Store::default(),
            results: BTreeMap::new(),
            outcome: BTreeMap::new(),
            nodes: Vec::new(),
            misconduct: 0,
            finished: false,
            pending: VecDeque::new(),
        };
        (0..members).for_each(|_| world.add());
        world
    }

    pub(crate) fn add(&mut self) {
        let index = u8::try_from(self.nodes.len()).unwrap();
        self.nodes.push(Node {
            machine: member_machine(index, MemberRestored::default(), self.now_ms),
            head: None,
            claim: None,
            results: BTreeMap::new(),
            events: Vec::new(),
            halt: None,
            finished: false,
            works: true,
        });
    }

    pub(crate) fn restart_coordinator(&mut self) {
        let restored = self.store.restore();
        self.coordinator = CoordinatorMachine::new(coordinator_config(), restored, self.now_ms).unwrap();
    }

    pub(crate) fn restart_node(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let head = node.head.as_ref().map(|(record, ledger)| {
            (Signed::from_bytes(record).unwrap(), crate::ledger::Ledger::from_bytes(ledger).unwrap())
        });
        let claim = node.claim.as_ref().map(|claim| Signed::from_bytes(claim).unwrap());
        let restored = MemberRestored { head, claim };
        node.machine = member_machine(u8::try_from(index).unwrap(), restored, self.now_ms);
    }

    /// Lets everything happen that happens by `until_ms`, or until `stop` says so.
    pub(crate) fn run(&mut self, until_ms: u64, stop: impl Fn(&World) -> bool) {
        loop {
            self.settle();
            if stop(self) {
                return;
            }
            let timeouts = self.nodes.iter().filter_map(|node| node.machine.next_timeout());
            let next = timeouts.chain(self.coordinator.next_timeout()).min().unwrap_or(u64::MAX);
            if next > until_ms {
                return;
            }
            self.now_ms = self.now_ms.max(next);
            self.coordinator.handle_timeout(self.now_ms);
            self.nodes.iter_mut().for_each(|node| node.machine.handle_timeout(self.now_ms));
        }
    }

    fn settle(&mut self) {
        loop {
            let before = self.pending.len();
            self.drive_coordinator();
            (0..self.nodes.len()).for_each(|index| self.drive_node(index));
            let Some((index, request)) = self.pending.pop_front() else {
                if before == 0 {
                    return;
                }
                continue;
            };
            let reply = self.answer(index, &request);
            self.drive_coordinator();
            self.nodes[index].machine.handle_reply(self.now_ms, &request, reply);
        }
    }

    pub(crate) fn answer(&mut self, index: usize, request: &Request) -> Reply {
        let sender = self.nodes[index].machine.member();
        match request {
            Request::Manifest { .. } => Reply::Manifest(signed_manifest().to_bytes()),
            Request::Status { .. } => Reply::Status(self.coordinator.status(self.now_ms)),
            Request::Join(bytes) => self.coordinator.handle_join(self.now_ms, sender, bytes),
            Request::Claim(bytes) => self.coordinator.handle_claim(self.now_ms, sender, bytes),
            Request::Record { round, .. } => match self.store.records.get(round) {
                Some((record, _)) => {
                    Reply::Record { record: record.clone(), claims: self.store.lists.get(round).cloned() }
                }
                None => Reply::NotFound,
            },
        }
    }

    pub(crate) fn drive_coordinator(&mut self) {
        while let Some(action) = self.coordinator.poll_action() {
            match action {
                CoordinatorAction::Persist(stored) => self.store.keep(stored),
                CoordinatorAction::Publish { head } => {
                    self.nodes.iter_mut().for_each(|node| assert!(node.machine.handle_head(self.now_ms, &head)));
                }
                CoordinatorAction::Fetch { round, member, .. } => {
                    let outcome = self.outcome.get(&member).copied().unwrap_or(UpdateOutcome::Verified);
                    self.coordinator.handle_update(self.now_ms, round, member, outcome);
                }
                CoordinatorAction::Aggregate { round, contributions } => {
                    let updates: Vec<Hash> = contributions.iter().map(|c| c.update).collect();
                    let base = round.checked_sub(1).and_then(|base| self.results.get(&base));
                    let result = toy_outer(base, round, &updates);
                    self.results.insert(round, result.clone());
                    self.coordinator.handle_outer(self.now_ms, round, result).unwrap();
                }
                CoordinatorAction::Misconduct { evidence, .. } => {
                    assert!(evidence.holds(&manifest(), &Strict));
                    self.misconduct += 1;
                }
                CoordinatorAction::RoundOpened { .. } => {}
                CoordinatorAction::Finished => self.finished = true,
            }
        }
    }

    fn drive_node(&mut self, index: usize) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[index];
        while let Some(action) = node.machine.poll_action() {
            match action {
                MemberAction::Send(request) => self.pending.push_back((index, request)),
                MemberAction::Persist(MemberStored::Claim { claim, .. }) => node.claim = Some(claim),
                MemberAction::Persist(MemberStored::Head { record, ledger, .. }) => node.head = Some((record, ledger)),
                MemberAction::Apply { round, contributions, .. } => {
                    let updates: Vec<Hash> = contributions.iter().map(|c| c.update).collect();
                    let base = round.checked_sub(1).and_then(|base| node.results.get(&base));
                    let result = toy_outer(base, round, &updates);
                    node.machine.handle_checkpoint(now_ms, round, result.checkpoint, result.outer_state);
                    node.results.insert(round, result);
                }
                MemberAction::CatchUp { round, ledger, checkpoint, outer_state } => {
                    let result = self.results[&round].clone();
                    assert_eq!((result.checkpoint, result.outer_state), (checkpoint, outer_state));
                    node.results.insert(round, result);
                    let bytes = &self.store.records[&round].1;
                    assert_eq!(Hash::of(bytes), ledger);
                    node.machine.handle_caught_up(now_ms, round, bytes);
                }
                MemberAction::Work(order) if node.works => {
                    let done = work(&order, node.machine.member(), order.assignment.steps());
                    node.machine.handle_work_done(now_ms, done).unwrap();
                }
                MemberAction::StopWork { .. } | MemberAction::ServeUpdates { .. } | MemberAction::Work(_) => {}
                MemberAction::Event(event) => node.events.push(event),
                MemberAction::Halt(halt) => node.halt = Some(halt),
                MemberAction::Finished => node.finished = true,
            }
        }
    }
}

/// Toy work: the update is a hash of what it must depend on.
pub(crate) fn work(order: &WorkOrder, member: MemberId, steps: u32) -> WorkDone {
    let text = format!("{} {member} {} {steps}", order.base, order.assignment.digest());
    WorkDone {
        round: order.round,
        steps,
        skipped: 0,
        loss: bits(3.5),
        update: Hash::of(text.as_bytes()),
        update_len_bytes: 100,
    }
}

/// The claim that node `index` would make for the open round if it did all of its work.
pub(crate) fn honest_claim(world: &World, index: usize) -> Claim {
    let chain = world.coordinator.chain();
    let member = world.nodes[index].machine.member();
    let assignment = chain.assignment_of(&member).unwrap();
    Claim {
        run: chain.run(),
        round: chain.open_round(),
        member,
        base: chain.head_id(),
        assignment: assignment.digest(),
        steps: assignment.steps(),
        skipped: 0,
        tokens: u64::from(assignment.steps()) * chain.manifest().tokens_per_step(),
        loss: bits(3.0),
        update: Hash([1; 32]),
        update_len_bytes: 50,
        state_digests: None,
        residual: None,
    }
}
