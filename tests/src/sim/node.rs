//! A member's driver in the simulation.

use super::Sabotage;
use super::arithmetic;
use super::byzantine::{self, Vice};
use super::checkers::Observation;
use super::world::{Event, Job, World};
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::ledger::Ledger;
use essaim_protocol::messages::{Reply, Request};
use essaim_protocol::round::{
    AdvanceFailure, MemberAction, MemberConfig, MemberMachine, MemberRestored, MemberStored, MemberTiming, OuterResult,
    UpdateOutcome, WorkOrder,
};
use essaim_protocol::signing::{Keypair, Signed};
use essaim_protocol::statements::{Claim, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A member: what is on its disk, and its machine while it is up.
pub struct Node {
    /// Its key; on disk.
    pub keypair: Keypair,
    /// How it breaks the rules, if it does.
    pub vice: Option<Vice>,
    /// Milliseconds of one inner step.
    pub speed_ms: u64,
    /// The stored head: round, record, ledger.
    pub head: Option<(u64, Vec<u8>, Vec<u8>)>,
    /// The stored claim.
    pub claim: Option<Signed<Claim>>,
    /// Stored checkpoints, by round.
    pub results: BTreeMap<u64, OuterResult>,
    /// Stored updates.
    pub updates: BTreeSet<Hash>,
    /// Its machine.
    pub machine: Option<MemberMachine>,
    /// How often it was started.
    pub life: u64,
    /// When its timer is set.
    pub timer_ms: Option<u64>,
    /// The job under way, by number.
    pub job: u64,
    /// The work under way, since when, under which job number.
    pub working: Option<(WorkOrder, u64, u64)>,
    /// The round whose updates it may serve, because its list is signed.
    pub serves: Option<u64>,
    /// Whether it left for good.
    pub left: bool,
    /// Whether it saw the end of the run.
    pub finished: bool,
    /// The claim before, for those who send it again.
    pub earlier: Option<Vec<u8>>,
}

/// How patient simulated members are: lost messages are the rule here.
pub const TIMING: MemberTiming = MemberTiming {
    poll_ms: 5_000,
    request_timeout_ms: 2_500,
    retry_min_ms: 300,
    retry_max_ms: 6_000,
    margin_ms: 4_000,
    catch_up_after_rounds: 3,
};

impl World {
    /// Starts a member from its disk.
    pub(super) fn start_node(&mut self, index: usize) {
        let now_ms = self.queue.now_ms();
        let (manifest, check) = (self.manifest.clone(), self.check.clone());
        let node = &mut self.nodes[index];
        if node.left || node.machine.is_some() {
            return;
        }
        let config = MemberConfig { manifest, keypair: node.keypair.clone(), check, timing: TIMING };
        let head = node.head.as_ref().filter(|(round, ..)| node.results.contains_key(round));
        let head = head.map(|(_, record, ledger)| {
            let record = Signed::<Record>::from_bytes(record).expect("a stored record");
            (record, Ledger::from_bytes(ledger).expect("a stored ledger"))
        });
        let forgets = self.plan.sabotage == Some(Sabotage::ForgetfulMembers);
        let claim = node.claim.clone().filter(|claim| node.updates.contains(&claim.value.update) && !forgets);
        let machine = MemberMachine::new(config, MemberRestored { head, claim }, now_ms);
        node.machine = Some(machine.expect("a machine from what was stored"));
        node.life += 1;
        node.timer_ms = None;
        node.working = None;
        node.serves = None;
        let crash_ms = self.rng.pause(self.plan.member_crash_every_ms);
        self.queue.push(crash_ms, Event::NodeCrash(index, self.nodes[index].life));
        self.drive_node(index);
    }

    /// Takes a member down for a while.
    pub(super) fn crash_node(&mut self, index: usize) {
        if self.nodes[index].machine.take().is_some() {
            self.crashes.0 += 1;
            let down_ms = self.rng.range(1_000, 90_000);
            self.queue.push(down_ms, Event::NodeUp(index));
        }
    }

    /// An answer has arrived.
    pub(super) fn node_reply(&mut self, index: usize, request: &Request, reply: Reply) {
        let now_ms = self.queue.now_ms();
        if let Some(machine) = &mut self.nodes[index].machine {
            machine.handle_reply(now_ms, request, reply);
            self.drive_node(index);
        }
    }

    /// A gossiped head has arrived.
    pub(super) fn node_head(&mut self, index: usize, head: &[u8]) {
        let now_ms = self.queue.now_ms();
        if let Some(machine) = &mut self.nodes[index].machine {
            assert!(machine.handle_head(now_ms, head), "an honest head was refused");
            self.drive_node(index);
        }
    }

    /// Its timer rang.
    pub(super) fn node_timer(&mut self, index: usize) {
        let now_ms = self.queue.now_ms();
        self.nodes[index].timer_ms = None;
        if let Some(machine) = &mut self.nodes[index].machine {
            machine.handle_timeout(now_ms);
            self.drive_node(index);
        }
    }

    /// The coordinator asks for an update.
    pub(super) fn node_asked(&mut self, round: u64, index: usize, update: Hash) {
        let node = &self.nodes[index];
        let Some(machine) = &node.machine else { return };
        let early = self.plan.sabotage == Some(Sabotage::ServesEarly);
        let may = machine.chain().open_round() > round || node.serves == Some(round) || early;
        let outcome = match node.vice {
            Some(Vice::Withhold) => return,
            Some(Vice::Malformed) => UpdateOutcome::Malformed,
            Some(Vice::NonFinite) => UpdateOutcome::NonFinite,
            _ => UpdateOutcome::Verified,
        };
        if may && node.updates.contains(&update) {
            let listed = self.coordinator.disk.lists.contains_key(&round);
            self.see(Observation::Served { member: self.nodes[index].keypair.member(), round, listed });
            self.send(Event::FetchAnswer { round, node: index, outcome });
        }
    }

    /// Something that took a while is done.
    pub(super) fn node_job(&mut self, index: usize, life: u64, job: u64, done: Job) {
        let node = &self.nodes[index];
        if node.life != life || node.machine.is_none() {
            return;
        }
        match done {
            Job::Apply { round, contributions } if job == node.job => self.node_applied(index, round, &contributions),
            Job::CatchUp { round } if job == node.job => self.node_caught_up(index, round),
            Job::Work if node.working.as_ref().is_some_and(|(_, _, number)| *number == job) => self.node_worked(index),
            _ => {}
        }
        self.drive_node(index);
    }

    fn node_applied(&mut self, index: usize, round: u64, contributions: &[essaim_protocol::statements::Contribution]) {
        let now_ms = self.queue.now_ms();
        let unlucky = self.rng.chance(20);
        let node = &mut self.nodes[index];
        let Some(machine) = &mut node.machine else { return };
        let base = round.checked_sub(1).and_then(|base| node.results.get(&base));
        if unlucky || (round > 0 && base.is_none()) {
            machine.handle_advance_failed(now_ms, round, AdvanceFailure::Unavailable);
            return;
        }
        let mut result = arithmetic::outer_step(base, round, contributions);
        if self.plan.sabotage == Some(Sabotage::WrongArithmetic) && index == 0 && round > 2 {
            result.checkpoint.0[0] ^= 1;
        }
        node.results.insert(round, result.clone());
        machine.handle_checkpoint(now_ms, round, result.checkpoint, result.outer_state);
    }

    fn node_caught_up(&mut self, index: usize, round: u64) {
        let now_ms = self.queue.now_ms();
        let disk = &self.coordinator.disk;
        let newest = disk.records.last_key_value().map_or(0, |(newest, _)| *newest);
        // The checkpoint before the last may be gone already: only keyframes stay.
        let kept = round >= newest || round.is_multiple_of(self.manifest.value.keyframe_every_rounds);
        let found = disk.results.get(&round).filter(|_| kept).cloned().zip(disk.records.get(&round));
        let node = &mut self.nodes[index];
        let Some(machine) = &mut node.machine else { return };
        match found {
            Some((result, (_, ledger))) => {
                node.results.insert(round, result);
                machine.handle_caught_up(now_ms, round, ledger);
            }
            None => machine.handle_advance_failed(now_ms, round, AdvanceFailure::Unavailable),
        }
    }

    /// Reports as many inner steps as there was time for.
    fn node_worked(&mut self, index: usize) {
        let now_ms = self.queue.now_ms();
        let node = &mut self.nodes[index];
        let (Some((order, since_ms, _)), Some(machine)) = (node.working.take(), &mut node.machine) else { return };
        let possible = u32::try_from((now_ms - since_ms) / node.speed_ms).unwrap_or(u32::MAX);
        let done = arithmetic::inner_steps(&order, node.keypair.member(), possible.min(order.assignment.steps()));
        match node.vice.filter(|vice| !vice.claims_honestly()) {
            None => {
                node.updates.insert(done.update);
                machine.handle_work_done(now_ms, done).expect("work that makes a claim");
            }
            Some(vice) => {
                let earlier = node.earlier.as_ref();
                let chain = machine.chain();
                let misdeeds = byzantine::misdeeds(vice, &node.keypair, chain, &order, earlier, &mut self.rng);
                node.earlier = Some(misdeeds.honest);
                let nothing = arithmetic::inner_steps(&order, node.keypair.member(), 0);
                machine.handle_work_done(now_ms, nothing).expect("no work");
                let joins = misdeeds.joins.into_iter().map(Request::Join);
                for request in misdeeds.claims.into_iter().map(Request::Claim).chain(joins) {
                    self.send(Event::Request { from: index, request: Arc::new(request) });
                }
            }
        }
    }

    fn drive_node(&mut self, index: usize) {
        loop {
            let node = &mut self.nodes[index];
            let Some(machine) = &mut node.machine else { return };
            let Some(action) = machine.poll_action() else { break };
            if self.rng.draw().is_multiple_of(2_000) {
                self.crash_node(index);
                return;
            }
            self.node_action(index, action);
        }
        let node = &mut self.nodes[index];
        let timeout_ms = node.machine.as_ref().and_then(MemberMachine::next_timeout);
        if let Some(at_ms) = timeout_ms
            && node.timer_ms.is_none_or(|set_ms| set_ms > at_ms)
        {
            node.timer_ms = Some(at_ms);
            self.queue.push_at(at_ms, Event::NodeTimer(index));
        }
    }

    fn node_action(&mut self, index: usize, action: MemberAction) {
        let now_ms = self.queue.now_ms();
        let member = self.nodes[index].keypair.member();
        let honest = self.nodes[index].vice.is_none();
        match action {
            MemberAction::Send(request) => {
                if let (Request::Claim(bytes), true) = (&request, honest) {
                    let claim: Signed<Claim> = Signed::from_bytes(bytes).expect("the machine's claim");
                    if self.plan.sabotage == Some(Sabotage::ServesEarly) {
                        let (round, update) = (claim.value.round, claim.value.update);
                        self.send(Event::FetchAsk { round, node: index, update });
                    }
                    self.see(Observation::Claimed { claim });
                }
                self.send(Event::Request { from: index, request: Arc::new(request) });
            }
            MemberAction::Persist(stored) => self.node_store(index, member, honest, stored),
            MemberAction::Apply { round, contributions, .. } => {
                let after_ms = self.rng.range(100, 2_500);
                self.node_begin(index, after_ms, Job::Apply { round, contributions });
            }
            MemberAction::CatchUp { round, .. } => {
                let after_ms = self.rng.range(500, 4_000);
                self.node_begin(index, after_ms, Job::CatchUp { round });
            }
            MemberAction::Work(order) => {
                let node = &mut self.nodes[index];
                let after_ms = u64::from(order.assignment.steps()) * node.speed_ms;
                self.node_begin(index, after_ms, Job::Work);
                let node = &mut self.nodes[index];
                node.working = Some((order, now_ms, node.job));
            }
            MemberAction::StopWork { claim, .. } => {
                if claim {
                    self.node_worked(index);
                } else {
                    self.nodes[index].working = None;
                }
            }
            MemberAction::ServeUpdates { round } => self.nodes[index].serves = Some(round),
            MemberAction::Event(event) => self.see(Observation::Told { member, event }),
            MemberAction::Halt(halt) => self.see(Observation::Halted { member, why: halt.describe() }),
            MemberAction::Finished => self.nodes[index].finished = true,
        }
    }

    fn node_begin(&mut self, index: usize, after_ms: u64, job: Job) {
        let node = &mut self.nodes[index];
        node.job += 1;
        let (life, number) = (node.life, node.job);
        self.queue.push(after_ms, Event::Job { node: index, life, number, job });
    }

    fn node_store(&mut self, index: usize, member: MemberId, honest: bool, stored: MemberStored) {
        let node = &mut self.nodes[index];
        match stored {
            MemberStored::Claim { claim, .. } => node.claim = Some(Signed::from_bytes(&claim).expect("a claim")),
            MemberStored::Head { round, record, ledger } => {
                node.head = Some((round, record, ledger));
                node.results.retain(|kept, _| kept + 1 >= round);
                let result = node.results[&round].clone();
                if honest {
                    self.see(Observation::Adopted { member, round, result });
                }
            }
        }
    }
}
