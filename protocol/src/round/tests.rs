//! Both machines together.

use super::*;
use crate::chain::ChainState;
use crate::fixtures::{World, signed_manifest};
use crate::signing::Strict;

/// Every rule of the chain, from the manifest to the last record.
fn check_chain(world: &World) -> ChainState {
    let mut chain = ChainState::genesis(&signed_manifest(), &Strict).unwrap();
    for round in 0..=*world.store.records.last_key_value().unwrap().0 {
        let (record, list) = (world.store.record(round).unwrap(), world.store.list(round));
        chain.check_sources(&record, list.as_ref(), &world.store, &Strict).unwrap();
        chain = chain.apply(&record, list.as_ref(), &Strict).unwrap();
    }
    chain
}

#[test]
fn a_run_goes_from_the_first_record_to_the_last() {
    let mut world = World::new(3);
    world.run(1_000_000, |world| world.finished);
    let end = world.now_ms + 10_000;
    world.run(end, |_| false);
    let chain = check_chain(&world);
    assert!(chain.is_finished());
    assert_eq!(chain.round(), Some(6));
    assert!(chain.ledger().tokens_total > 0);
    for node in &world.nodes {
        assert!(node.finished);
        assert_eq!(node.halt, None);
        assert_eq!(node.results[&6], world.results[&6]);
        let accepted = node.events.iter().filter(|event| matches!(event, MemberEvent::Accepted { .. })).count();
        assert!(accepted >= 5, "{:?}", node.events);
    }
}

#[test]
fn a_late_joiner_takes_part_in_the_next_round() {
    let mut world = World::new(2);
    world.run(1_000_000, |world| world.store.records.contains_key(&3));
    world.add();
    world.run(1_000_000, |world| world.finished);
    check_chain(&world);
    assert!(world.nodes[2].events.contains(&MemberEvent::Admitted { round: 5 }), "{:?}", world.nodes[2].events);
    assert!(world.store.record(5).unwrap().value.contributions.len() == 3);
}

#[test]
fn a_vanished_member_is_waited_for_once_and_dropped_and_its_work_goes_to_others() {
    let mut world = World::new(3);
    world.run(1_000_000, |world| world.store.records.contains_key(&1));
    // It has claimed for round 2 already; from round 3 on it is gone.
    world.nodes[0].works = false;
    world.run(1_000_000, |world| world.store.records.contains_key(&2));
    let gone = world.nodes[0].machine.member();
    let lost = world.nodes[1].machine.chain().assignment_of(&gone).unwrap().clone();
    world.run(1_000_000, |world| world.store.records.contains_key(&4));
    let chain = check_chain(&world);
    assert!(chain.ledger().member(&gone).is_none());
    assert!(world.now_ms < 2 * 60_000 + 10_000, "{}", world.now_ms);
    let record = world.store.record(3).unwrap();
    assert_eq!(record.value.contributions.len(), 2);
    let mut replayed = ChainState::genesis(&signed_manifest(), &Strict).unwrap();
    for round in 0..=3 {
        let record = world.store.record(round).unwrap();
        replayed = replayed.apply(&record, world.store.list(round).as_ref(), &Strict).unwrap();
    }
    let again: Vec<u64> = replayed.assignments().iter().flat_map(|a| a.positions().collect::<Vec<_>>()).collect();
    assert!(lost.positions().all(|position| again.contains(&position)));
}

#[test]
fn a_coordinator_killed_at_any_moment_signs_nothing_twice() {
    for kill_every_ms in [700, 1_300, 2_900] {
        let mut world = World::new(3);
        let mut end = 0;
        while !world.finished && end < 400_000 {
            end += kill_every_ms;
            world.run(end, |_| false);
            world.now_ms = end;
            // The store refuses a second claim, list or record of one slot.
            world.restart_coordinator();
            if end % 4 == 0 {
                world.restart_node(1);
            }
        }
        world.run(end + 10_000, |_| false);
        let chain = check_chain(&world);
        assert!(chain.is_finished() || kill_every_ms < 1_000, "{kill_every_ms}: {:?}", chain.round());
        assert!(world.nodes.iter().all(|node| node.halt.is_none()));
    }
}
