//! The member's machine by itself.

use super::*;
use crate::fixtures::{World, manifest, member_key, operator, signed_manifest, toy_outer, work};
use crate::ids::Hash;
use crate::messages::Refused;
use crate::messages::Status;
use crate::signing::Strict;
use std::sync::Arc;

const SECOND: u64 = 1_000;

fn machine(restored: MemberRestored, now_ms: u64) -> MemberMachine {
    let config = MemberConfig {
        manifest: signed_manifest(),
        keypair: member_key(0),
        check: Arc::new(Strict),
        timing: MemberTiming::default(),
    };
    MemberMachine::new(config, restored, now_ms).unwrap()
}

fn actions(machine: &mut MemberMachine) -> Vec<MemberAction> {
    std::iter::from_fn(|| machine.poll_action()).collect()
}

fn requests(machine: &mut MemberMachine) -> Vec<Request> {
    let sent = |action| match action {
        MemberAction::Send(request) => Some(request),
        _ => None,
    };
    actions(machine).into_iter().filter_map(sent).collect()
}

fn status(world: &World, remaining_ms: u64) -> Reply {
    let status = world.coordinator.status(world.now_ms);
    Reply::Status(Status { remaining_ms, ..status })
}

fn status_request() -> Request {
    Request::Status { run: crate::ids::RunId(signed_manifest().id().0) }
}

/// A world whose round 1 is open and in which nobody works; and a machine of member 0 with everything of round 0.
fn at_work(remaining_ms: u64) -> (World, MemberMachine, WorkOrder) {
    let mut world = World::new(2);
    world.nodes.iter_mut().for_each(|node| node.works = false);
    world.run(1_000_000, |world| world.store.records.contains_key(&0));
    let (record, ledger) = &world.store.records[&0];
    let head = (Signed::from_bytes(record).unwrap(), Ledger::from_bytes(ledger).unwrap());
    let mut machine = machine(MemberRestored { head: Some(head), claim: None }, 0);
    assert_eq!(requests(&mut machine), [status_request()], "before it has heard anything it does not work");
    machine.handle_reply(SECOND, &status_request(), status(&world, remaining_ms));
    let orders: Vec<WorkOrder> = actions(&mut machine)
        .into_iter()
        .filter_map(|action| match action {
            MemberAction::Work(order) => Some(order),
            _ => None,
        })
        .collect();
    assert_eq!(orders.len(), 1);
    (world, machine, orders.into_iter().next().unwrap())
}

#[test]
fn work_stops_before_the_deadline_and_the_prefix_is_claimed() {
    let (mut world, mut machine, order) = at_work(20 * SECOND);
    assert_eq!(order.deadline_ms, 18 * SECOND);
    assert_eq!(machine.view().phase, MemberPhase::Working);
    machine.handle_timeout(18 * SECOND - 1);
    assert!(!actions(&mut machine).iter().any(|action| matches!(action, MemberAction::StopWork { .. })));
    machine.handle_timeout(18 * SECOND);
    assert!(actions(&mut machine).contains(&MemberAction::StopWork { round: 1, claim: true }));
    machine.handle_work_done(18 * SECOND, work(&order, machine.member(), 3)).unwrap();
    let done = actions(&mut machine);
    let [MemberAction::Persist(MemberStored::Claim { claim, .. }), MemberAction::Send(Request::Claim(sent)), ..] =
        &done[..]
    else {
        panic!("{done:?}");
    };
    assert_eq!(claim, sent, "on disk before it is sent");
    // The coordinator takes it, and the same bytes are what a restarted machine sends.
    let reply = world.answer(0, &Request::Claim(sent.clone()));
    assert!(matches!(reply, Reply::Receipt(_)));
    let (record, ledger) = &world.store.records[&0];
    let head = (Signed::from_bytes(record).unwrap(), Ledger::from_bytes(ledger).unwrap());
    let restored = MemberRestored { head: Some(head), claim: Some(Signed::from_bytes(claim).unwrap()) };
    let mut again = self::machine(restored, 0);
    actions(&mut again);
    again.handle_reply(SECOND, &status_request(), status(&world, 20 * SECOND));
    let sent_again = requests(&mut again);
    assert!(sent_again.contains(&Request::Claim(sent.clone())), "{sent_again:?}");
    again.handle_reply(SECOND, &Request::Claim(sent.clone()), reply);
    assert!(actions(&mut again).contains(&MemberAction::Event(MemberEvent::Receipted { round: 1 })));
    assert_eq!(again.view().phase, MemberPhase::Waiting);
}

#[test]
fn a_claim_is_sent_until_it_is_receipted() {
    let (_, mut machine, order) = at_work(50 * SECOND);
    machine.handle_work_done(2 * SECOND, work(&order, machine.member(), 4)).unwrap();
    let mut sent = 0;
    let mut now_ms = 2 * SECOND;
    while now_ms < 40 * SECOND {
        for request in requests(&mut machine) {
            sent += usize::from(matches!(request, Request::Claim(_)));
            // Nothing is ever answered.
            machine.handle_request_error(now_ms, &request);
        }
        now_ms = machine.next_timeout().unwrap();
        machine.handle_timeout(now_ms);
    }
    assert!((4..40).contains(&sent), "{sent}");
}

#[test]
fn impossible_work_is_the_drivers_fault_and_claims_nothing() {
    let (_, mut machine, order) = at_work(50 * SECOND);
    let mut done = work(&order, machine.member(), order.assignment.steps() + 1);
    let error = machine.handle_work_done(SECOND, done).unwrap_err();
    assert_eq!(error, MemberError::Work { round: 1, refused: Refused::WrongAssignment });
    assert!(!actions(&mut machine).iter().any(|action| matches!(action, MemberAction::Persist(_))));
    // The round is over for it.
    done.steps = 1;
    machine.handle_work_done(SECOND, done).unwrap();
    assert!(!actions(&mut machine).iter().any(|action| matches!(action, MemberAction::Persist(_))));
}

#[test]
fn nothing_is_served_before_the_list_is_signed() {
    let (mut world, mut machine, order) = at_work(50 * SECOND);
    machine.handle_work_done(2 * SECOND, work(&order, machine.member(), 4)).unwrap();
    machine.handle_reply(3 * SECOND, &status_request(), status(&world, 40 * SECOND));
    assert!(!actions(&mut machine).contains(&MemberAction::ServeUpdates { round: 1 }));
    let chain = world.coordinator.chain();
    let head = Head { run: chain.run(), round: 0, record: chain.head_id(), claims: Some(Hash([1; 32])) };
    assert!(!machine.handle_head(3 * SECOND, &member_key(1).sign(head.clone()).to_bytes()), "not the operator's");
    assert!(!machine.handle_head(3 * SECOND, b"nonsense"));
    assert!(!actions(&mut machine).contains(&MemberAction::ServeUpdates { round: 1 }));
    assert!(machine.handle_head(3 * SECOND, &operator().sign(head).to_bytes()));
    assert!(actions(&mut machine).contains(&MemberAction::ServeUpdates { round: 1 }));
    world.run(0, |_| true);
}

#[test]
fn a_round_closed_without_it_is_sat_out() {
    let (world, mut machine, _) = at_work(50 * SECOND);
    let chain = world.coordinator.chain();
    let head = Head { run: chain.run(), round: 0, record: chain.head_id(), claims: Some(Hash([1; 32])) };
    machine.handle_head(3 * SECOND, &operator().sign(head).to_bytes());
    let done = actions(&mut machine);
    assert!(done.contains(&MemberAction::StopWork { round: 1, claim: false }), "{done:?}");
    assert!(!done.contains(&MemberAction::ServeUpdates { round: 1 }));
}

#[test]
fn a_late_head_of_an_earlier_round_stops_nothing() {
    let mut world = World::new(2);
    world.nodes.iter_mut().for_each(|node| node.works = false);
    world.run(1_000_000, |world| world.store.records.contains_key(&1));
    let (record, ledger) = &world.store.records[&1];
    let head = (Signed::from_bytes(record).unwrap(), Ledger::from_bytes(ledger).unwrap());
    let mut machine = machine(MemberRestored { head: Some(head), claim: None }, 0);
    let first = world.store.record(0).unwrap();
    let list = world.store.list(1).unwrap().id();
    let late = Head { run: machine.chain().run(), round: 0, record: first.id(), claims: Some(list) };
    let late = Status {
        head: Some(operator().sign(late).to_bytes()),
        claims: None,
        elapsed_ms: 0,
        remaining_ms: 0,
        finished: false,
    };
    // The answer to a question that was asked before the restart.
    machine.handle_reply(SECOND, &status_request(), Reply::Status(late));
    machine.handle_reply(SECOND, &status_request(), status(&world, 20 * SECOND));
    let done = actions(&mut machine);
    assert!(done.iter().any(|action| matches!(action, MemberAction::Work(order) if order.round == 2)), "{done:?}");
}

/// The machine of member 0 and what it does with record 1 of a world, once it has asked for it.
fn given_record(record: &Signed<Record>, list: Option<Vec<u8>>, world: &World) -> (MemberMachine, Vec<MemberAction>) {
    let (first, ledger) = &world.store.records[&0];
    let head = (Signed::from_bytes(first).unwrap(), Ledger::from_bytes(ledger).unwrap());
    let mut machine = machine(MemberRestored { head: Some(head), claim: None }, 0);
    let signed = operator().sign(Head { run: machine.chain().run(), round: 1, record: record.id(), claims: None });
    assert!(machine.handle_head(SECOND, &signed.to_bytes()));
    let asked = Request::Record { run: machine.chain().run(), round: 1 };
    assert!(requests(&mut machine).contains(&asked));
    machine.handle_reply(SECOND, &asked, Reply::Record { record: record.to_bytes(), claims: list });
    let done = actions(&mut machine);
    (machine, done)
}

fn world_with_record() -> (World, Signed<Record>, Option<Vec<u8>>) {
    let mut world = World::new(2);
    world.run(1_000_000, |world| world.store.records.contains_key(&1));
    let (record, list) = (world.store.record(1).unwrap(), world.store.lists.get(&1).cloned());
    (world, record, list)
}

#[test]
fn a_record_with_other_arithmetic_halts_with_the_proof() {
    let (world, record, list) = world_with_record();
    let (mut machine, done) = given_record(&record, list, &world);
    assert!(done.iter().any(|action| matches!(action, MemberAction::Apply { round: 1, .. })), "{done:?}");
    let computed = Hash([1; 32]);
    machine.handle_checkpoint(2 * SECOND, 1, computed, record.value.outer_state);
    let halts: Vec<Halt> = actions(&mut machine)
        .into_iter()
        .filter_map(|action| match action {
            MemberAction::Halt(halt) => Some(halt),
            _ => None,
        })
        .collect();
    let [Halt::Evidence(evidence)] = &halts[..] else { panic!("{halts:?}") };
    assert!(evidence.holds(&manifest(), &Strict));
    assert!(matches!(evidence, Evidence::WrongArithmetic { checkpoint, .. } if *checkpoint == computed));
    assert_eq!(machine.chain().round(), Some(0), "the record is not adopted");
    assert_eq!(machine.next_timeout(), None);
}

#[test]
fn a_signed_record_that_breaks_a_rule_halts_and_one_that_is_not_signed_does_not() {
    let (world, record, list) = world_with_record();
    let broken = Record { tokens_total: 0, ..record.value.clone() };
    let (machine, done) = given_record(&operator().sign(broken.clone()), list.clone(), &world);
    assert!(done.iter().any(|action| matches!(action, MemberAction::Halt(Halt::BadRecord { .. }))), "{done:?}");
    assert_eq!(machine.view().phase, MemberPhase::Halted);
    let (machine, done) = given_record(&member_key(1).sign(broken), list.clone(), &world);
    assert!(!done.iter().any(|action| matches!(action, MemberAction::Halt(_))), "{done:?}");
    assert_eq!(machine.view().phase, MemberPhase::CatchingUp);
    // Without its list, or with another, the record is asked for again.
    for other in [None, Some(b"nonsense".to_vec()), Some(operator().sign(crate::vectors::list()).to_bytes())] {
        let (mut machine, done) = given_record(&record, other, &world);
        assert!(!done.iter().any(|action| matches!(action, MemberAction::Halt(_) | MemberAction::Apply { .. })));
        let due_ms = machine.next_timeout().unwrap();
        machine.handle_timeout(due_ms + 10 * SECOND);
        assert!(requests(&mut machine).iter().any(|request| matches!(request, Request::Record { round: 1, .. })));
    }
    let (mut machine, _) = given_record(&record, list, &world);
    machine.handle_advance_failed(SECOND, 1, AdvanceFailure::BadUpdate { member: member_key(1).member() });
    assert!(actions(&mut machine).iter().any(|action| matches!(action, MemberAction::Halt(Halt::BadUpdate { .. }))));
}

#[test]
fn what_cannot_be_computed_is_downloaded() {
    let (world, record, list) = world_with_record();
    let (mut machine, _) = given_record(&record, list.clone(), &world);
    machine.handle_advance_failed(SECOND, 1, AdvanceFailure::Unavailable);
    machine.handle_timeout(30 * SECOND);
    let asked = Request::Record { run: machine.chain().run(), round: 1 };
    assert!(requests(&mut machine).contains(&asked));
    machine.handle_reply(30 * SECOND, &asked, Reply::Record { record: record.to_bytes(), claims: list });
    let done = actions(&mut machine);
    let wanted = MemberAction::CatchUp {
        round: 1,
        ledger: record.value.ledger,
        checkpoint: record.value.checkpoint,
        outer_state: record.value.outer_state,
    };
    assert!(done.contains(&wanted), "{done:?}");
    let ledger = &world.store.records[&1].1;
    let mut wrong = ledger.clone();
    wrong[40] ^= 1;
    machine.handle_caught_up(31 * SECOND, 1, &wrong);
    assert_eq!(machine.chain().round(), Some(0));
    machine.handle_timeout(90 * SECOND);
    assert!(requests(&mut machine).contains(&asked));
    machine.handle_reply(90 * SECOND, &asked, Reply::Record { record: record.to_bytes(), claims: None });
    machine.handle_caught_up(91 * SECOND, 1, ledger);
    assert_eq!(machine.chain().round(), Some(1));
}

#[test]
fn a_fork_is_seen_from_a_head_and_from_a_record() {
    let (world, record, list) = world_with_record();
    let (mut machine, _) = given_record(&record, list, &world);
    let result = &world.results[&1];
    machine.handle_checkpoint(SECOND, 1, result.checkpoint, result.outer_state);
    assert_eq!(machine.chain().round(), Some(1));
    actions(&mut machine);
    let head = Head { run: machine.chain().run(), round: 1, record: Hash([7; 32]), claims: None };
    machine.handle_head(SECOND, &operator().sign(head).to_bytes());
    let halted = actions(&mut machine).into_iter().find_map(|action| match action {
        MemberAction::Halt(Halt::Evidence(evidence)) => Some(evidence),
        _ => None,
    });
    assert!(halted.is_some_and(|evidence| evidence.holds(&manifest(), &Strict)));
}

#[test]
fn a_receipted_claim_left_out_of_the_list_is_evidence() {
    let (mut world, mut machine, order) = at_work(50 * SECOND);
    machine.handle_work_done(2 * SECOND, work(&order, machine.member(), 4)).unwrap();
    let claim = requests(&mut machine).into_iter().find(|request| matches!(request, Request::Claim(_))).unwrap();
    let receipt = world.answer(0, &claim);
    machine.handle_reply(3 * SECOND, &claim, receipt);
    actions(&mut machine);
    let chain = world.coordinator.chain();
    let list =
        crate::statements::ClaimList { run: chain.run(), round: 1, previous: chain.head_id(), claims: Vec::new() };
    let list = operator().sign(list);
    let head = Head { run: chain.run(), round: 0, record: chain.head_id(), claims: Some(list.id()) };
    let status = Status {
        head: Some(operator().sign(head).to_bytes()),
        claims: Some(list.to_bytes()),
        elapsed_ms: 0,
        remaining_ms: 0,
        finished: false,
    };
    machine.handle_reply(4 * SECOND, &status_request(), Reply::Status(status));
    let omitted = actions(&mut machine).into_iter().find_map(|action| match action {
        MemberAction::Event(MemberEvent::Omitted(evidence)) => Some(evidence),
        _ => None,
    });
    assert!(omitted.is_some_and(|evidence| evidence.holds(&manifest(), &Strict)));
}

#[test]
fn a_member_far_behind_downloads_and_one_a_little_behind_computes() {
    let mut world = World::new(2);
    world.run(1_000_000, |world| world.store.records.contains_key(&5));
    world.add();
    let end_ms = world.now_ms + 100 * SECOND;
    world.run(end_ms, |world| world.nodes[2].machine.chain().round() >= Some(5));
    assert!(!world.nodes[2].results.contains_key(&1), "the checkpoints before were not computed");
    let mut world = World::new(2);
    world.run(1_000_000, |world| world.store.records.contains_key(&1));
    world.add();
    let end_ms = world.now_ms + 100 * SECOND;
    world.run(end_ms, |world| world.nodes[2].machine.chain().round() >= Some(1));
    assert_eq!(world.nodes[2].results.get(&0), Some(&toy_outer(None, 0, &[])), "the first checkpoint is derived");
}
