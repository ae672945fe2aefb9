//! The coordinator's driver in the simulation: a disk that survives, a machine that does not.

use super::Sabotage;
use super::arithmetic;
use super::checkers::Observation;
use super::world::{Event, World};
use essaim_protocol::hash_chain::HashChain;
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::ledger::Ledger;
use essaim_protocol::messages::{Refused, Reply, Request};
use essaim_protocol::round::{
    CoordinatorAction, CoordinatorConfig, CoordinatorMachine, CoordinatorRestored, HeldClaim, OuterResult, Stored,
    UpdateOutcome,
};
use essaim_protocol::signing::{Keypair, Signed};
use essaim_protocol::statements::{ClaimList, Join, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is on the coordinator's disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// Record and ledger by round, as stored.
    pub records: BTreeMap<u64, (Arc<Vec<u8>>, Vec<u8>)>,
    /// Lists of claims by round.
    pub lists: BTreeMap<u64, Arc<Vec<u8>>>,
    /// Claims and receipts of the open round.
    pub claims: BTreeMap<(u64, MemberId), HeldClaim>,
    /// Checkpoints by round.
    pub results: BTreeMap<u64, OuterResult>,
}

/// The coordinator.
pub struct Coordinator {
    /// Its disk.
    pub disk: Disk,
    /// Its machine, while it is up.
    pub machine: Option<CoordinatorMachine>,
    /// Its key.
    pub keypair: Keypair,
    /// Its hash chain.
    pub hash_chain: HashChain,
    /// How often it was started: what an earlier life began is void.
    pub life: u64,
    /// When its timer is set.
    pub timer_ms: Option<u64>,
    /// Updates of the open round that it has an answer for.
    pub answered: BTreeSet<(u64, MemberId)>,
    /// Whether every round is done.
    pub finished: bool,
    /// Statements refused, by reason, over all lives.
    pub refused: BTreeMap<Refused, u64>,
    /// Proofs of misconduct seen.
    pub misconduct: u64,
}

impl World {
    /// Starts the coordinator from its disk.
    pub(super) fn start_coordinator(&mut self) {
        let config = CoordinatorConfig {
            manifest: self.manifest.clone(),
            keypair: self.coordinator.keypair.clone(),
            hash_chain: self.coordinator.hash_chain.clone(),
            check: self.check.clone(),
            update_len_bytes: Some(arithmetic::UPDATE_LEN_BYTES),
        };
        let disk = &self.coordinator.disk;
        let last = disk.records.last_key_value().map(|(_, (record, ledger))| {
            let record = Signed::<Record>::from_bytes(record).expect("a stored record");
            (record, Ledger::from_bytes(ledger).expect("a stored ledger"))
        });
        let sabotage = self.plan.sabotage;
        let list = disk.lists.last_key_value().filter(|_| sabotage != Some(Sabotage::ForgetsLists));
        let claims: Vec<HeldClaim> = disk.claims.values().cloned().collect();
        // Claims that a list names are not forgotten: the machine would not start.
        let next = disk.records.last_key_value().map_or(0, |(round, _)| round + 1);
        let list_is_old = !disk.lists.contains_key(&next);
        let restored = CoordinatorRestored {
            last,
            list: list.map(|(_, list)| Signed::from_bytes(list).expect("a stored list")),
            claims: if sabotage == Some(Sabotage::ForgetsClaims) && list_is_old { Vec::new() } else { claims },
        };
        let machine = CoordinatorMachine::new(config, restored, self.queue.now_ms());
        self.coordinator.machine = Some(machine.expect("a machine from what was stored"));
        self.coordinator.life += 1;
        self.coordinator.timer_ms = None;
        self.coordinator.answered.clear();
        self.drive_coordinator(Vec::new());
    }

    /// Takes the coordinator down for a while.
    pub(super) fn crash_coordinator(&mut self) {
        if let Some(machine) = self.coordinator.machine.take() {
            for (reason, count) in machine.view(self.queue.now_ms()).refused {
                *self.coordinator.refused.entry(reason).or_insert(0) += count;
            }
            self.crashes.1 += 1;
            let down_ms = self.rng.range(500, 12_000);
            self.queue.push(down_ms, Event::CoordinatorUp);
        }
    }

    /// A request has arrived.
    pub(super) fn coordinator_request(&mut self, from: usize, request: &Arc<Request>) {
        let now_ms = self.queue.now_ms();
        let sender = self.nodes[from].keypair.member();
        let Some(machine) = &mut self.coordinator.machine else { return };
        let disk = &self.coordinator.disk;
        let reply = match &**request {
            Request::Manifest { .. } => Reply::Manifest(self.manifest.to_bytes()),
            Request::Status { .. } => Reply::Status(machine.status(now_ms)),
            Request::Join(bytes) => machine.handle_join(now_ms, sender, bytes),
            Request::Claim(bytes) => machine.handle_claim(now_ms, sender, bytes),
            Request::Record { round, .. } => match disk.records.get(round) {
                Some((record, _)) => {
                    Reply::Record { record: record.to_vec(), claims: disk.lists.get(round).map(|list| list.to_vec()) }
                }
                None => Reply::NotFound,
            },
        };
        self.drive_coordinator(vec![(from, request.clone(), reply)]);
    }

    /// An answer to a fetch has arrived.
    pub(super) fn coordinator_fetched(&mut self, round: u64, node: usize, outcome: UpdateOutcome) {
        let now_ms = self.queue.now_ms();
        let member = self.nodes[node].keypair.member();
        let Some(machine) = &mut self.coordinator.machine else { return };
        machine.handle_update(now_ms, round, member, outcome);
        self.coordinator.answered.insert((round, member));
        self.drive_coordinator(Vec::new());
    }

    /// Asks a member for its update, now and until there is an answer or the round goes on.
    pub(super) fn coordinator_fetch(&mut self, life: u64, round: u64, node: usize, update: Hash) {
        let member = self.nodes[node].keypair.member();
        let Some(machine) = &self.coordinator.machine else { return };
        let open = life == self.coordinator.life && machine.is_closed() && machine.chain().open_round() == round;
        if open && !self.coordinator.answered.contains(&(round, member)) {
            self.send(Event::FetchAsk { round, node, update });
            self.queue.push(2_000, Event::FetchAgain { life, round, node, update });
        }
    }

    /// A checkpoint is on disk.
    pub(super) fn coordinator_aggregated(&mut self, life: u64, round: u64, result: OuterResult) {
        if life != self.coordinator.life {
            return;
        }
        let now_ms = self.queue.now_ms();
        let Some(machine) = &mut self.coordinator.machine else { return };
        self.coordinator.disk.results.insert(round, result.clone());
        machine.handle_outer(now_ms, round, result).expect("a result that keeps the rules");
        self.drive_coordinator(Vec::new());
    }

    /// Its timer rang.
    pub(super) fn coordinator_timer(&mut self) {
        let now_ms = self.queue.now_ms();
        self.coordinator.timer_ms = None;
        if let Some(machine) = &mut self.coordinator.machine {
            machine.handle_timeout(now_ms);
            self.drive_coordinator(Vec::new());
        }
    }

    /// Does what the machine asks for, then sends the replies; either may end in a crash.
    fn drive_coordinator(&mut self, mut replies: Vec<(usize, Arc<Request>, Reply)>) {
        if self.plan.sabotage == Some(Sabotage::ReceiptsFirst) {
            self.coordinator_send(&mut replies);
        }
        loop {
            let Some(machine) = &mut self.coordinator.machine else { return };
            let Some(action) = machine.poll_action() else { break };
            let danger = match &action {
                CoordinatorAction::Persist(Stored::Claim { .. })
                    if self.plan.sabotage == Some(Sabotage::ReceiptsFirst) =>
                {
                    20
                }
                CoordinatorAction::Persist(Stored::Claim { .. }) | CoordinatorAction::Fetch { .. } => 3_000,
                _ => 60,
            };
            if self.rng.draw().is_multiple_of(danger) {
                // Before this action: what came before it is done, this and the rest are not.
                self.crash_coordinator();
                return;
            }
            self.coordinator_action(action);
        }
        self.coordinator_send(&mut replies);
        let timeout_ms = self.coordinator.machine.as_ref().and_then(CoordinatorMachine::next_timeout);
        if let Some(at_ms) = timeout_ms
            && self.coordinator.timer_ms.is_none_or(|set_ms| set_ms > at_ms)
        {
            self.coordinator.timer_ms = Some(at_ms);
            self.queue.push_at(at_ms, Event::CoordinatorTimer);
        }
    }

    fn coordinator_send(&mut self, replies: &mut Vec<(usize, Arc<Request>, Reply)>) {
        for (to, request, reply) in replies.drain(..) {
            if let Reply::Receipt(receipt) = &reply {
                let receipt = Signed::from_bytes(receipt).expect("the machine's receipt");
                self.see(Observation::Receipted { receipt });
            }
            self.send(Event::Reply { to, request, reply });
        }
    }

    fn coordinator_action(&mut self, action: CoordinatorAction) {
        match action {
            CoordinatorAction::Persist(stored) => self.coordinator_store(stored),
            CoordinatorAction::Publish { head } => {
                self.see(Observation::Head { head: Signed::from_bytes(&head).expect("the machine's head") });
                let head = Arc::new(head);
                for to in 0..self.nodes.len() {
                    self.send(Event::Head { to, head: head.clone() });
                }
            }
            CoordinatorAction::Fetch { round, member, update, .. } => {
                let node = self.index[&member];
                self.coordinator_fetch(self.coordinator.life, round, node, update);
            }
            CoordinatorAction::Aggregate { round, contributions } => {
                let base = round.checked_sub(1).and_then(|base| self.coordinator.disk.results.get(&base));
                let result = arithmetic::outer_step(base, round, &contributions);
                let (life, after_ms) = (self.coordinator.life, self.rng.range(200, 1_500));
                self.queue.push(after_ms, Event::Aggregated { life, round, result });
            }
            CoordinatorAction::Misconduct { evidence, .. } => {
                assert!(evidence.holds(&self.manifest.value, &*self.check), "evidence that proves nothing");
                self.coordinator.misconduct += 1;
            }
            CoordinatorAction::RoundOpened { .. } => {}
            CoordinatorAction::Finished => self.coordinator.finished = true,
        }
    }

    fn coordinator_store(&mut self, stored: Stored) {
        match stored {
            Stored::Claim { round, member, claim, receipt } => {
                let held = HeldClaim {
                    claim: Signed::from_bytes(&claim).expect("the machine's claim"),
                    receipt: Signed::from_bytes(&receipt).expect("the machine's receipt"),
                };
                self.coordinator.disk.claims.insert((round, member), held);
            }
            Stored::ClaimList { round, list } => {
                let signed: Signed<ClaimList> = Signed::from_bytes(&list).expect("the machine's list");
                self.see(Observation::List { list: signed });
                self.coordinator.disk.lists.insert(round, Arc::new(list));
            }
            Stored::Record { round, record, ledger, joins } => {
                let signed: Signed<Record> = Signed::from_bytes(&record).expect("the machine's record");
                let joins: Vec<Signed<Join>> =
                    joins.iter().map(|(_, join)| Signed::from_bytes(join).expect("a member's join")).collect();
                let disk = &mut self.coordinator.disk;
                let list = disk.lists.get(&round).map(|list| Signed::from_bytes(list).expect("a stored list"));
                let claims = disk.claims.values().map(|held| held.claim.clone()).collect();
                disk.claims.clear();
                disk.records.insert(round, (Arc::new(record), ledger));
                self.see(Observation::Record(Box::new(super::checkers::RecordSeen {
                    record: signed,
                    list,
                    claims,
                    joins,
                })));
            }
        }
    }
}
