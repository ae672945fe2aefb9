//! The coordinator's machine by itself.

use super::super::UpdateOutcome;
use super::*;
use crate::fixtures::{World, bits, coordinator_config, honest_claim, manifest, member_key, operator, toy_outer};
use crate::messages::{Reply, Request};
use crate::statements::Claim;

/// A world of three nodes in the open round `round`, of whom `idle` never work. Round 1 has two members, since two are enough
/// to open the run; round 2 has three.
fn open(round: u64, idle: &[usize]) -> World {
    let mut world = World::new(3);
    idle.iter().for_each(|index| world.nodes[*index].works = false);
    world.run(1_000_000, |world| world.store.records.contains_key(&(round - 1)));
    world
}

fn sign(index: u8, claim: Claim) -> Vec<u8> {
    member_key(index).sign(claim).to_bytes()
}

fn send(world: &mut World, index: usize, bytes: Vec<u8>) -> Reply {
    let reply = world.answer(index, &Request::Claim(bytes));
    world.drive_coordinator();
    reply
}

#[test]
fn each_bad_claim_is_refused_for_its_reason() {
    let mut world = open(1, &[0, 1, 2]);
    let honest = honest_claim(&world, 0);
    let hash = Hash([8; 32]);
    let with = |change: &dyn Fn(&mut Claim)| {
        let mut claim = honest.clone();
        change(&mut claim);
        sign(0, claim)
    };
    let cases: Vec<(Vec<u8>, Refused)> = vec![
        (b"nonsense".to_vec(), Refused::Malformed),
        (vec![0; 1 << 20], Refused::Malformed),
        (with(&|c| c.run = crate::ids::RunId([1; 32])), Refused::WrongRun),
        (with(&|c| c.round = 0), Refused::Stale),
        (with(&|c| c.round = 2), Refused::Stale),
        (with(&|c| c.base = hash), Refused::WrongBase),
        (with(&|c| c.assignment = hash), Refused::WrongAssignment),
        (with(&|c| (c.steps, c.tokens) = (c.steps + 1, c.tokens + 64)), Refused::WrongAssignment),
        (with(&|c| (c.steps, c.tokens) = (0, 0)), Refused::Impossible),
        (with(&|c| c.skipped = c.steps + 1), Refused::Impossible),
        (with(&|c| c.tokens += 1), Refused::Impossible),
        (with(&|c| c.loss = bits(f64::NAN)), Refused::Impossible),
        (with(&|c| c.update_len_bytes = 0), Refused::Impossible),
        (with(&|c| c.update_len_bytes = 1 << 40), Refused::Impossible),
        (with(&|c| c.state_digests = Some(hash)), Refused::Impossible),
        (with(&|c| c.residual = Some(hash)), Refused::Impossible),
        (with(&|c| c.member = member_key(1).member()), Refused::WrongSender),
        (sign(1, honest.clone()), Refused::Unsigned),
    ];
    for (bytes, reason) in &cases {
        assert_eq!(send(&mut world, 0, bytes.clone()), Reply::Refused(*reason));
    }
    assert_eq!(world.store.claims.len(), 0);
    let counted: u64 = world.coordinator.view(0).refused.values().sum();
    assert_eq!(counted, cases.len() as u64);
    // Somebody who is no member, with a good signature.
    world.add();
    let stranger = Claim { member: member_key(3).member(), ..honest.clone() };
    assert_eq!(send(&mut world, 3, sign(3, stranger)), Reply::Refused(Refused::NotMember));
    // After all that, the honest claim is still welcome.
    assert!(matches!(send(&mut world, 0, sign(0, honest)), Reply::Receipt(_)));
}

#[test]
fn a_claim_gets_one_receipt_and_a_second_claim_is_misconduct() {
    let mut world = open(1, &[0, 1, 2]);
    let claim = honest_claim(&world, 0);
    let first = send(&mut world, 0, sign(0, claim.clone()));
    assert!(matches!(first, Reply::Receipt(_)));
    assert_eq!(send(&mut world, 0, sign(0, claim.clone())), first);
    world.restart_coordinator();
    assert_eq!(send(&mut world, 0, sign(0, claim.clone())), first, "after a restart: the same bytes");
    let second = Claim { loss: bits(1.0), ..claim.clone() };
    assert_eq!(send(&mut world, 0, sign(0, second.clone())), Reply::Refused(Refused::Duplicate));
    assert_eq!(world.misconduct, 1);
    // A second claim that is no claim proves nothing.
    let broken = Claim { base: Hash([1; 32]), ..claim.clone() };
    assert_eq!(send(&mut world, 0, sign(0, broken)), Reply::Refused(Refused::WrongBase));
    assert_eq!(send(&mut world, 0, sign(1, second)), Reply::Refused(Refused::Unsigned));
    assert_eq!(world.misconduct, 1);
    assert_eq!(world.store.claims.len(), 1);
    assert_eq!(send(&mut world, 0, sign(0, claim)), first);
}

#[test]
fn a_round_closes_at_its_deadline_whoever_is_missing() {
    let mut world = open(1, &[1, 2]);
    let opened_ms = world.now_ms;
    world.run(opened_ms + 59_999, |_| false);
    assert!(!world.coordinator.is_closed());
    let late = honest_claim(&world, 1);
    world.run(opened_ms + 60_000, |world| world.store.lists.contains_key(&1));
    assert_eq!(world.store.list(1).unwrap().value.claims.len(), 1);
    world.run(opened_ms + 60_000, |world| world.store.records.contains_key(&1));
    let record = world.store.record(1).unwrap().value;
    assert_eq!((record.contributions.len(), record.refusals.len()), (1, 0));
    assert_eq!(send(&mut world, 1, sign(1, late)), Reply::Refused(Refused::Stale));
}

#[test]
fn a_claim_after_the_list_is_told_that_the_round_is_closed() {
    let mut world = open(1, &[1, 2]);
    let late = honest_claim(&world, 1);
    // At the very moment of the deadline the claim counts as late.
    world.now_ms += 60_000;
    let now_ms = world.now_ms;
    let sender = world.nodes[1].machine.member();
    assert_eq!(world.coordinator.handle_claim(now_ms, sender, &sign(1, late)), Reply::Refused(Refused::Closed));
    assert!(world.coordinator.is_closed());
}

#[test]
fn updates_that_cannot_be_used_are_refused_with_their_reason() {
    let mut world = World::new(3);
    let [a, b] = [0, 1].map(|index| world.nodes[index].machine.member());
    world.outcome.insert(a, UpdateOutcome::Malformed);
    world.outcome.insert(b, UpdateOutcome::Unavailable);
    world.run(1_000_000, |world| world.store.records.contains_key(&2));
    let record = world.store.record(2).unwrap().value;
    let mut expected = vec![(a, RefusalReason::Malformed), (b, RefusalReason::Withheld)];
    expected.sort();
    let refused: Vec<_> = record.refusals.iter().map(|refusal| (refusal.member, refusal.reason)).collect();
    assert_eq!(refused, expected);
    assert_eq!(record.contributions.len(), 1);
    // Two rounds without an accepted contribution: dropped.
    let standing = |member| world.coordinator.chain().ledger().member(member).copied();
    assert_eq!(standing(&a), None);
    assert_eq!(standing(&record.contributions[0].member).map(|standing| standing.accepted_rounds), Some(1));
}

/// A machine in the phase of fetching, with its claims.
fn fetching() -> (CoordinatorMachine, Vec<MemberId>, u64) {
    let mut world = open(2, &[0, 1, 2]);
    let members: Vec<MemberId> = world.nodes.iter().map(|node| node.machine.member()).collect();
    for (index, member) in members.iter().enumerate() {
        let claim = sign(index as u8, honest_claim(&world, index));
        assert!(matches!(world.coordinator.handle_claim(world.now_ms, *member, &claim), Reply::Receipt(_)));
    }
    world.now_ms += 1_000;
    world.coordinator.handle_timeout(world.now_ms);
    assert!(world.coordinator.is_closed());
    (world.coordinator, members, world.now_ms)
}

fn last_aggregate(machine: &mut CoordinatorMachine) -> Option<Vec<MemberId>> {
    let mut last = None;
    while let Some(action) = machine.poll_action() {
        if let CoordinatorAction::Aggregate { contributions, .. } = action {
            last = Some(contributions.iter().map(|contribution| contribution.member).collect());
        }
    }
    last
}

#[test]
fn an_update_that_does_not_come_is_withheld_at_the_deadline() {
    let (mut machine, members, now_ms) = fetching();
    machine.handle_update(now_ms, 2, members[0], UpdateOutcome::Verified);
    machine.handle_update(now_ms, 2, MemberId([1; 32]), UpdateOutcome::Verified);
    machine.handle_update(now_ms, 1, members[1], UpdateOutcome::Verified);
    assert_eq!(last_aggregate(&mut machine), None);
    assert_eq!(machine.next_timeout(), Some(now_ms + 10_000));
    machine.handle_timeout(now_ms + 9_999);
    assert_eq!(last_aggregate(&mut machine), None);
    machine.handle_timeout(now_ms + 10_000);
    assert_eq!(last_aggregate(&mut machine), Some(vec![members[0]]));
}

#[test]
fn values_found_not_finite_in_aggregation_are_left_out() {
    let (mut machine, members, now_ms) = fetching();
    for member in &members {
        machine.handle_update(now_ms, 2, *member, UpdateOutcome::Verified);
    }
    assert_eq!(last_aggregate(&mut machine).map(|members| members.len()), Some(3));
    machine.handle_outer_failed(now_ms, 2, Some(members[2]));
    let left = last_aggregate(&mut machine).unwrap();
    assert_eq!(left.len(), 2);
    assert!(!left.contains(&members[2]));
    machine.handle_outer_failed(now_ms, 2, None);
    assert_eq!(last_aggregate(&mut machine), Some(Vec::new()));
    // A result that breaks a rule signs nothing; the right one ends the round.
    let mut wrong = toy_outer(None, 0, &[]);
    wrong.checkpoint = Hash([1; 32]);
    assert!(machine.handle_outer(now_ms, 2, wrong).is_err());
    assert_eq!(machine.poll_action(), None);
    machine.handle_outer(now_ms, 2, toy_outer(None, 0, &[])).unwrap();
    assert_eq!(machine.chain().round(), Some(2));
    assert_eq!(machine.chain().record().unwrap().value.refusals.len(), 3);
}

#[test]
fn joins_are_checked_and_may_be_repeated() {
    let mut world = open(2, &[0, 1, 2]);
    world.add();
    let me = member_key(3);
    let run = world.coordinator.chain().run();
    let head = world.coordinator.chain().head_id();
    let join = |run, member, head| Join { run, member, head };
    let mut send = |key: &Keypair, join: Join| {
        let bytes = key.sign(join).to_bytes();
        world.coordinator.handle_join(0, me.member(), &bytes)
    };
    let refused = |reason| Reply::Refused(reason);
    assert_eq!(send(&me, join(crate::ids::RunId([1; 32]), me.member(), head)), refused(Refused::WrongRun));
    assert_eq!(send(&me, join(run, me.member(), Hash([1; 32]))), refused(Refused::Stale));
    assert_eq!(send(&member_key(4), join(run, me.member(), head)), refused(Refused::Unsigned));
    assert_eq!(send(&me, join(run, member_key(0).member(), head)), refused(Refused::WrongSender));
    assert_eq!(send(&me, join(run, me.member(), head)), Reply::Joined);
    assert_eq!(send(&me, join(run, me.member(), head)), Reply::Joined);
    assert_eq!(world.coordinator.view(0).pending_joins, 1);
    let member = world.nodes[0].machine.member();
    let again = member_key(0).sign(join(run, member, head)).to_bytes();
    assert_eq!(world.coordinator.handle_join(0, member, &again), Reply::Joined);
    assert_eq!(world.coordinator.view(0).pending_joins, 1);
}

#[test]
fn a_full_run_admits_nobody_more() {
    let mut world = World::new(8);
    world.run(1_000_000, |world| world.store.records.contains_key(&1));
    assert_eq!(world.coordinator.chain().ledger().members.len(), 8);
    world.add();
    let chain = world.coordinator.chain();
    let join = Join { run: chain.run(), member: member_key(8).member(), head: chain.head_id() };
    let bytes = member_key(8).sign(join).to_bytes();
    let reply = world.coordinator.handle_join(world.now_ms, member_key(8).member(), &bytes);
    assert_eq!(reply, Reply::Refused(Refused::Full));
}

#[test]
fn a_deserted_run_waits_instead_of_spending_its_rounds() {
    let mut world = World::new(2);
    world.run(1_000_000, |world| world.store.records.contains_key(&1));
    let nodes = std::mem::take(&mut world.nodes);
    world.run(100_000_000, |_| false);
    let records = world.store.records.len();
    assert!(records <= 5, "{records} records");
    assert!(world.coordinator.chain().ledger().members.is_empty());
    assert_eq!(world.coordinator.next_timeout(), None);
    // One of them comes back: it is admitted after round_max_ms, and the run goes on.
    world.nodes = nodes;
    world.nodes.truncate(1);
    world.now_ms += 1_000_000;
    world.run(200_000_000, |world| world.finished);
    assert!(world.finished);
}

#[test]
fn a_machine_is_not_made_of_parts_of_other_runs() {
    let make = |change: &dyn Fn(&mut CoordinatorConfig)| {
        let mut config = coordinator_config();
        change(&mut config);
        CoordinatorMachine::new(config, CoordinatorRestored::default(), 0).map(|_| ()).unwrap_err()
    };
    let other_key = make(&|config| config.keypair = member_key(0));
    assert_eq!(other_key, CoordinatorError::NotOperator { got: member_key(0).member() });
    assert!(matches!(
        make(&|config| config.hash_chain = HashChain::from_secret(&[3; 32], 64)),
        CoordinatorError::HashChain { .. }
    ));
    assert!(matches!(
        make(&|config| config.hash_chain = HashChain::from_secret(&[2; 32], 65)),
        CoordinatorError::HashChain { .. }
    ));
    let two = make(&|config| {
        let mut manifest = manifest();
        manifest.operators.push(member_key(0).member());
        manifest.threshold = 2;
        let signed = operator().sign(manifest);
        config.manifest = signed;
    });
    // Signed by one of two: refused before the threshold is looked at.
    assert!(matches!(two, CoordinatorError::Chain(_)));
    let unsigned = make(&|config| config.manifest = member_key(0).sign(manifest()));
    assert!(matches!(unsigned, CoordinatorError::Chain(_)));
}

#[test]
fn a_list_without_its_claims_does_not_restart() {
    let mut world = open(1, &[1, 2]);
    let end_ms = world.now_ms + 60_000;
    world.run(end_ms, |world| world.store.lists.contains_key(&1));
    let mut restored = world.store.restore();
    restored.last = {
        let (record, ledger) = &world.store.records[&0];
        Some((Signed::from_bytes(record).unwrap(), Ledger::from_bytes(ledger).unwrap()))
    };
    assert!(
        CoordinatorMachine::new(coordinator_config(), restored.clone(), 0).is_ok_and(|machine| machine.is_closed())
    );
    restored.claims.clear();
    let error = CoordinatorMachine::new(coordinator_config(), restored, 0).map(|_| ()).unwrap_err();
    assert!(matches!(error, CoordinatorError::ClaimLost { round: 1, .. }));
}
