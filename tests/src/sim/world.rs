//! The world: who is there, what is under way, what happens next.

use super::arithmetic::Remembered;
use super::byzantine::VICES;
use super::checkers::Observation;
use super::coordinator::{Coordinator, Disk};
use super::link::Link;
use super::node::Node;
use super::queue::Queue;
use super::rng::Rng;
use super::{Plan, Sabotage, Summary};
use essaim_protocol::hash_chain::HashChain;
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::manifest::{
    Admission, Codec, F64Bits, InnerConfig, Manifest, MixWeight, ModelConfig, Optimizer, OuterConfig, PROTOCOL_VERSION,
    Phase, Timing,
};
use essaim_protocol::messages::{Reply, Request};
use essaim_protocol::round::{OuterResult, UpdateOutcome};
use essaim_protocol::signing::{Keypair, Signed};
use essaim_protocol::statements::Contribution;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A request arrives at the coordinator.
    Request { from: usize, request: Arc<Request> },
    /// A reply arrives at a member.
    Reply { to: usize, request: Arc<Request>, reply: Reply },
    /// A gossiped head arrives at a member.
    Head { to: usize, head: Arc<Vec<u8>> },
    /// The coordinator's question for an update arrives.
    FetchAsk { round: u64, node: usize, update: Hash },
    /// The answer arrives.
    FetchAnswer { round: u64, node: usize, outcome: UpdateOutcome },
    /// The coordinator asks again if it has no answer.
    FetchAgain { life: u64, round: u64, node: usize, update: Hash },
    /// The coordinator's aggregation is done.
    Aggregated { life: u64, round: u64, result: OuterResult },
    /// A member's job is done.
    Job { node: usize, life: u64, number: u64, job: Job },
    /// The coordinator's timer.
    CoordinatorTimer,
    /// A member's timer.
    NodeTimer(usize),
    /// The coordinator is started again.
    CoordinatorUp,
    /// The coordinator dies.
    CoordinatorCrash,
    /// A member is started.
    NodeUp(usize),
    /// A member dies, in that life of it.
    NodeCrash(usize, u64),
    /// A member leaves for good.
    NodeLeaves(usize),
}

/// Something that takes a member a while.
#[derive(Debug, Clone)]
pub(super) enum Job {
    /// Computing the next checkpoint.
    Apply { round: u64, contributions: Vec<Contribution> },
    /// Downloading a checkpoint.
    CatchUp { round: u64 },
    /// Inner steps.
    Work,
}

/// A simulated run.
pub struct World {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) queue: Queue<Event>,
    pub(super) link: Link,
    pub(super) manifest: Signed<Manifest>,
    pub(super) check: Arc<Remembered>,
    pub(super) coordinator: Coordinator,
    pub(super) nodes: Vec<Node>,
    pub(super) index: BTreeMap<MemberId, usize>,
    pub(super) observations: Vec<Observation>,
    /// Crashes of members and of the coordinator.
    pub(super) crashes: (u64, u64),
    finished_ms: Option<u64>,
    events: u64,
}

impl World {
    /// The world of a plan, before anything happens.
    pub fn new(plan: Plan) -> World {
        let mut rng = Rng::new(plan.seed);
        let keypair = Keypair::from_secret(&rng.bytes());
        let hash_chain = HashChain::from_secret(&rng.bytes(), plan.rounds + 10);
        let manifest = keypair.sign(manifest(&plan, keypair.member(), &hash_chain));
        let nodes: Vec<Node> = (0..plan.members).map(|_| node(&plan, &mut rng)).collect();
        let index = nodes.iter().enumerate().map(|(index, node)| (node.keypair.member(), index)).collect();
        let mut world = World {
            plan,
            link: Link::new(plan.loss_permille),
            manifest,
            check: Arc::new(Remembered::default()),
            coordinator: Coordinator {
                disk: Disk::default(),
                machine: None,
                keypair,
                hash_chain,
                life: 0,
                timer_ms: None,
                answered: BTreeSet::new(),
                finished: false,
                refused: BTreeMap::new(),
                misconduct: 0,
            },
            nodes,
            index,
            observations: Vec::new(),
            crashes: (0, 0),
            finished_ms: None,
            events: 0,
            queue: Queue::default(),
            rng,
        };
        world.schedule();
        world
    }

    /// Starts, crashes of the coordinator, and members that leave.
    fn schedule(&mut self) {
        self.queue.push(0, Event::CoordinatorUp);
        let expected_ms = self.plan.rounds * 30_000;
        for index in 0..self.nodes.len() {
            let late = self.rng.chance(self.plan.late_permille);
            let start_ms = if late { self.rng.range(20_000, expected_ms * 3 / 4) } else { self.rng.range(0, 10_000) };
            self.queue.push(start_ms, Event::NodeUp(index));
            if self.rng.chance(80) {
                let leave_ms = self.rng.range(start_ms, expected_ms);
                self.queue.push(leave_ms, Event::NodeLeaves(index));
            }
        }
        let crash_ms = self.rng.pause(self.plan.coordinator_crash_every_ms);
        self.queue.push(crash_ms, Event::CoordinatorCrash);
    }

    /// Lets the next thing happen. `false`: the run is over, or will never be.
    pub fn advance(&mut self) -> bool {
        let Some(event) = self.queue.pop() else { return false };
        self.events += 1;
        let now_ms = self.queue.now_ms();
        self.handle(event);
        if self.coordinator.finished && self.finished_ms.is_none() {
            self.finished_ms = Some(now_ms);
        }
        let timing = &self.manifest.value.timing;
        let longest_ms = (self.plan.rounds + 5) * (timing.round_max_ms + timing.fetch_max_ms + 20_000);
        // After the end, members have five minutes to hear of it.
        let all_know = || self.nodes.iter().all(|node| node.left || node.finished || node.vice.is_some());
        let over = self.finished_ms.is_some_and(|end_ms| now_ms > end_ms + 300_000 || all_know());
        !over && now_ms < longest_ms
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request { .. } if self.plan.sabotage == Some(Sabotage::Silence) => {}
            Event::Request { from, request } => self.coordinator_request(from, &request),
            Event::Reply { to, request, reply } => self.node_reply(to, &request, reply),
            Event::Head { to, head } => self.node_head(to, &head),
            Event::FetchAsk { round, node, update } => self.node_asked(round, node, update),
            Event::FetchAnswer { round, node, outcome } => self.coordinator_fetched(round, node, outcome),
            Event::FetchAgain { life, round, node, update } => self.coordinator_fetch(life, round, node, update),
            Event::Aggregated { life, round, result } => self.coordinator_aggregated(life, round, result),
            Event::Job { node, life, number, job } => self.node_job(node, life, number, job),
            Event::CoordinatorTimer => self.coordinator_timer(),
            Event::NodeTimer(index) => self.node_timer(index),
            Event::CoordinatorUp if self.coordinator.machine.is_none() => self.start_coordinator(),
            Event::CoordinatorUp => {}
            Event::CoordinatorCrash => {
                self.crash_coordinator();
                let after_ms = self.rng.pause(self.plan.coordinator_crash_every_ms) + 15_000;
                self.queue.push(after_ms, Event::CoordinatorCrash);
            }
            Event::NodeUp(index) => self.start_node(index),
            Event::NodeCrash(index, life) if self.nodes[index].life == life => self.crash_node(index),
            Event::NodeCrash(..) => {}
            Event::NodeLeaves(index) => {
                self.nodes[index].machine = None;
                self.nodes[index].left = true;
            }
        }
    }

    /// Puts a message on the network.
    pub(super) fn send(&mut self, message: Event) {
        for after_ms in self.link.deliveries(&mut self.rng) {
            self.queue.push(after_ms, message.clone());
        }
    }

    pub(super) fn see(&mut self, observation: Observation) {
        self.observations.push(observation);
    }

    /// What was seen since this was called last.
    pub fn take_observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observations)
    }

    /// The run's manifest.
    pub fn signed_manifest(&self) -> Signed<Manifest> {
        self.manifest.clone()
    }

    /// The cache of verified signatures.
    pub fn signatures(&self) -> Arc<Remembered> {
        self.check.clone()
    }

    /// Statements refused by reason, and proofs of misconduct.
    pub fn refusals(&self) -> (BTreeMap<essaim_protocol::messages::Refused, u64>, u64) {
        let mut refused = self.coordinator.refused.clone();
        if let Some(machine) = &self.coordinator.machine {
            for (reason, count) in machine.view(self.queue.now_ms()).refused {
                *refused.entry(reason).or_insert(0) += count;
            }
        }
        (refused, self.coordinator.misconduct)
    }

    /// What it came to.
    pub fn summary(&self) -> Summary {
        let records = self.coordinator.disk.records.values();
        let records: Vec<_> =
            records.map(|(record, _)| Signed::<essaim_protocol::statements::Record>::from_bytes(record)).collect();
        let values = || records.iter().flatten().map(|record| &record.value);
        let ledgers = self.coordinator.disk.records.values().map(|(_, ledger)| {
            essaim_protocol::ledger::Ledger::from_bytes(ledger).map_or((0, 0), |l| (l.members.len(), l.next_position))
        });
        let (members, positions) =
            ledgers.fold((0, 0), |(sum, _), (members, position)| (sum + members as u64, position));
        let alive: Vec<&Node> =
            self.nodes.iter().filter(|node| node.vice.is_none() && node.machine.is_some()).collect();
        Summary {
            now_ms: self.finished_ms.unwrap_or(self.queue.now_ms()),
            events: self.events,
            records: records.len() as u64,
            rounds: self.plan.rounds,
            contributions: values().map(|record| record.contributions.len() as u64).sum(),
            refusals: values().map(|record| record.refusals.len() as u64).sum(),
            refused: self.refusals().0.values().sum(),
            member_rounds: members,
            empty_rounds: values().skip(1).filter(|record| record.contributions.is_empty()).count() as u64,
            member_crashes: self.crashes.0,
            coordinator_crashes: self.crashes.1,
            honest_alive: alive.len(),
            honest_at_end: alive.iter().filter(|node| node.finished).count(),
            positions,
        }
    }
}

fn node(plan: &Plan, rng: &mut Rng) -> Node {
    let keypair = Keypair::from_secret(&rng.bytes());
    let byzantine = rng.chance(plan.byzantine_permille);
    let vice = VICES[rng.range(0, VICES.len() as u64 - 1) as usize];
    Node {
        keypair,
        vice: byzantine.then_some(vice),
        speed_ms: rng.range(100, 2_000),
        head: None,
        claim: None,
        results: BTreeMap::new(),
        updates: BTreeSet::new(),
        machine: None,
        life: 0,
        timer_ms: None,
        job: 0,
        working: None,
        serves: None,
        left: false,
        finished: false,
        earlier: None,
    }
}

fn manifest(plan: &Plan, operator: MemberId, hash_chain: &HashChain) -> Manifest {
    let number = |value: f64| F64Bits(value.to_bits());
    let (model, inner) = numbers(number);
    Manifest {
        protocol: PROTOCOL_VERSION,
        name: format!("simulation {}", plan.seed),
        numerics: "f32-exact/1".to_owned(),
        model,
        tokenizer: Hash::of(b"tokenizer"),
        dataset: Hash::of(b"dataset"),
        dataset_len_bytes: 1,
        phases: vec![Phase {
            name: "all".to_owned(),
            tokens: 1 << 30,
            weights: vec![MixWeight { mix: "main".to_owned(), weight: 1 }],
        }],
        seed: [3; 32],
        inner,
        codec: Codec::Q4 { block: 64 },
        outer: OuterConfig { lr: number(0.7), momentum: number(0.9), clip_to_median: true },
        rounds: plan.rounds,
        admission: Admission {
            members_min: 3,
            members_max: 4096,
            probation_steps: 4,
            probation_rounds: 2,
            member_share_max_permille: 300,
            newcomer_share_max_permille: 400,
            absent_rounds_max: 3,
        },
        timing: Timing { round_min_ms: 5_000, round_max_ms: 45_000, fetch_max_ms: 20_000 },
        audit_permille: 0,
        keyframe_every_rounds: 10,
        heldout_tokens_max: 0,
        operators: vec![operator],
        threshold: 1,
        hash_chain_anchor: hash_chain.anchor(),
        hash_chain_len: hash_chain.len(),
        extensions: Vec::new(),
    }
}

fn numbers(number: impl Fn(f64) -> F64Bits) -> (ModelConfig, InnerConfig) {
    let model = ModelConfig {
        vocab_size: 256,
        d_model: 16,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        ffn: 32,
        context: 16,
        tied: true,
        rope_theta: number(10_000.0),
        norm_eps: number(1e-5),
        init_std: number(0.02),
    };
    let inner = InnerConfig {
        optimizer: Optimizer::Muon,
        steps: 40,
        batch: 4,
        grad_segments: 1,
        peak_lr: number(1e-3),
        final_lr_fraction: number(0.1),
        warmup_tokens: 0,
        total_tokens: 1 << 30,
        beta1: number(0.9),
        beta2: number(0.95),
        eps: number(1e-8),
        weight_decay: number(0.1),
        clip_norm: number(1.0),
        muon_momentum: number(0.95),
        muon_iterations: 5,
    };
    (model, inner)
}
