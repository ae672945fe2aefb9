//! Each checker can fail: a small run is watched, then told with one thing changed.

use super::super::arithmetic::outer_step;
use super::super::{Plan, world::World};
use super::*;
use essaim_protocol::chain::Evidence;
use essaim_protocol::ids::Hash;
use essaim_protocol::ledger::{Ledger, Span};
use essaim_protocol::signing::Keypair;

/// A small run, whole.
struct Story {
    manifest: Signed<Manifest>,
    check: Arc<Remembered>,
    observations: Vec<Observation>,
    summary: Summary,
}

fn story() -> Story {
    let plan = Plan { byzantine_permille: 0, ..Plan::small(1) };
    let mut world = World::new(plan);
    while world.advance() {}
    let observations = world.take_observations();
    Story { manifest: world.signed_manifest(), check: world.signatures(), observations, summary: world.summary() }
}

impl Story {
    /// What the referee says.
    fn verdict(&self) -> Result<(), String> {
        let mut referee = Referee::new(self.manifest.clone(), self.check.clone(), 400);
        referee.observe(self.observations.clone());
        referee.finish(&self.summary)
    }

    #[track_caller]
    fn fails(&self, with: &str) {
        let verdict = self.verdict();
        assert!(verdict.as_ref().is_err_and(|why| why.contains(with)), "{verdict:?} does not speak of '{with}'");
    }

    fn record(&self, round: u64) -> &RecordSeen {
        let seen = self.observations.iter().find_map(|observation| match observation {
            Observation::Record(seen) if seen.record.value.round == round => Some(&**seen),
            _ => None,
        });
        seen.unwrap()
    }

    /// The chain before the record of `round`.
    fn chain(&self, round: u64) -> ChainState {
        let mut chain = ChainState::genesis(&self.manifest, &*self.check).unwrap();
        for round in 0..round {
            let seen = self.record(round);
            chain = chain.apply(&seen.record, seen.list.as_ref(), &*self.check).unwrap();
        }
        chain
    }
}

/// A key that signs in nobody's name.
fn stranger() -> Keypair {
    Keypair::from_secret(&[99; 32])
}

#[test]
fn an_unchanged_story_passes() {
    let story = story();
    assert_eq!(story.verdict(), Ok(()));
    assert!(story.observations.len() > 100);
    assert!(story.summary.contributions > 20, "{:?}", story.summary);
}

#[test]
fn the_chain_is_checked() {
    let whole = story();
    let changes: [fn(&mut RecordSeen); 6] = [
        |seen| {
            let mut record = seen.record.value.clone();
            record.tokens_total += 1;
            seen.record = stranger().sign(record);
        },
        |seen| {
            seen.claims.pop();
        },
        |seen| seen.list = None,
        |seen| {
            let claim = &seen.claims[0];
            seen.claims[0] = stranger().sign(claim.value.clone());
        },
        |seen| {
            let claim = &seen.claims[0];
            seen.claims[0] = stranger().sign(Claim { tokens: claim.value.tokens + 1, ..claim.value.clone() });
        },
        |seen| {
            let list = seen.list.as_ref().unwrap();
            seen.list = Some(stranger().sign(list.value.clone()));
        },
    ];
    for change in changes {
        let mut story = Story {
            manifest: whole.manifest.clone(),
            check: whole.check.clone(),
            observations: whole.observations.clone(),
            summary: whole.summary.clone(),
        };
        let seen = story.observations.iter_mut().find_map(|observation| match observation {
            Observation::Record(seen) if seen.record.value.contributions.len() > 2 => Some(seen),
            _ => None,
        });
        change(seen.unwrap());
        // The changed record may also be a second one of its round: only the chain is looked at.
        let mut referee = Referee::with(story.manifest.clone(), story.check.clone(), Vec::new());
        referee.observe(story.observations.clone());
        let verdict = referee.finish(&story.summary);
        assert!(verdict.as_ref().is_err_and(|why| why.starts_with("chain: ")), "{verdict:?}");
    }
}

#[test]
fn a_second_record_list_head_or_claim_is_found() {
    let mut second = story();
    let mut seen = second.record(3).clone();
    let mut record = seen.record.value.clone();
    record.checkpoint = Hash([1; 32]);
    seen.record = stranger().sign(record);
    second.observations.insert(0, Observation::Record(Box::new(seen)));
    second.fails("chain");
    // With the chain out of the way: what it says comes after what it has.
    let mut checker = OneOfEach::default();
    let forged = second.observations.remove(0);
    assert_eq!(checker.observe(&forged), Ok(()));
    let found = second.observations.iter().find_map(|observation| checker.observe(observation).err());
    assert!(found.is_some_and(|why| why.contains("two records")));

    let changes: [fn(&Observation) -> Option<Observation>; 3] = [
        |observation| match observation {
            Observation::List { list } if list.value.claims.len() > 1 => {
                let mut value = list.value.clone();
                value.claims.pop();
                Some(Observation::List { list: stranger().sign(value) })
            }
            _ => None,
        },
        |observation| match observation {
            Observation::Head { head } if head.value.round == 2 => {
                let value = Head { record: Hash([1; 32]), ..head.value.clone() };
                Some(Observation::Head { head: stranger().sign(value) })
            }
            _ => None,
        },
        |observation| match observation {
            Observation::Claimed { claim } => {
                let value = Claim { update: Hash([1; 32]), ..claim.value.clone() };
                Some(Observation::Claimed { claim: stranger().sign(value) })
            }
            _ => None,
        },
    ];
    for change in changes {
        let mut story = story();
        let at = story.observations.iter().position(|observation| change(observation).is_some()).unwrap();
        let added = change(&story.observations[at]).unwrap();
        story.observations.insert(at + 1, added);
        story.fails("one of each: two ");
    }
}

#[test]
fn a_receipted_claim_that_is_left_out_is_found() {
    let mut story = story();
    let at = story.observations.iter().position(|o| matches!(o, Observation::Receipted { .. })).unwrap();
    let Observation::Receipted { receipt } = &story.observations[at] else { unreachable!() };
    let forged = stranger().sign(Receipt { claim: Hash([1; 32]), ..receipt.value.clone() });
    story.observations.insert(at, Observation::Receipted { receipt: forged });
    story.fails("receipts: ");
}

#[test]
fn an_update_served_too_early_is_found() {
    let mut story = story();
    let served = story.observations.iter_mut().find_map(|observation| match observation {
        Observation::Served { listed, .. } => Some(listed),
        _ => None,
    });
    *served.unwrap() = false;
    story.fails("served after the list: ");
}

/// The state after `round`, with another ledger in it.
fn with_ledger(story: &Story, round: u64, change: impl Fn(&mut Ledger)) -> (ChainState, Record, ChainState) {
    let before = story.chain(round);
    let record = story.record(round).record.value.clone();
    let after = story.chain(round + 1);
    let mut ledger = after.ledger().clone();
    change(&mut ledger);
    // Signed by an operator of another manifest, which differs in nothing else.
    let key = stranger();
    let mut manifest = story.manifest.value.clone();
    manifest.operators = vec![key.member()];
    let manifest = key.sign(manifest);
    ledger.run = essaim_protocol::ids::RunId(manifest.id().0);
    let changed = key.sign(Record { run: ledger.run, ledger: ledger.hash(), ..record.clone() });
    let after = ChainState::resume(&manifest, &*story.check, &changed, ledger).unwrap();
    (before, record, after)
}

/// A round in which work came back.
fn round_with_returned(story: &Story) -> u64 {
    (2..6).find(|round| !story.chain(round + 1).ledger().returned.is_empty()).unwrap()
}

#[test]
fn positions_handed_out_twice_are_found() {
    let story = story();
    let round = (2..6).find(|round| !story.record(*round).record.value.contributions.is_empty()).unwrap();
    let member = story.record(round).record.value.contributions[0].member;
    let first = story.chain(round).assignment_of(&member).unwrap().spans[0].start;
    let again = |ledger: &mut Ledger| ledger.returned = vec![Span { start: first, len: 1 }];
    let (before, record, after) = with_ledger(&story, round, again);
    let verdict = Disjoint::default().round(&before, &record, &after);
    assert!(verdict.as_ref().is_err_and(|why| why.contains("somebody else's")), "{verdict:?}");
    let mut checker = Disjoint::default();
    let after = story.chain(round + 1);
    assert_eq!(checker.round(&before, &record, &after), Ok(()));
    assert!(checker.round(&before, &record, &after).is_err_and(|why| why.contains("consumed twice")));
}

#[test]
fn forgotten_work_is_found() {
    let story = story();
    let round = round_with_returned(&story);
    let mut checker = NothingLost::default();
    for earlier in 1..round {
        let (before, after) = (story.chain(earlier), story.chain(earlier + 1));
        assert_eq!(checker.round(&before, &story.record(earlier).record.value, &after), Ok(()));
    }
    let forget = |ledger: &mut Ledger| {
        ledger.returned.pop();
    };
    let (before, record, after) = with_ledger(&story, round, forget);
    let verdict = checker.round(&before, &record, &after);
    assert!(verdict.as_ref().is_err_and(|why| why.contains("consumed or waiting")), "{verdict:?}");
}

#[test]
fn disagreement_and_a_halt_are_found() {
    let mut other = story();
    let adopted = other.observations.iter_mut().rev().find_map(|observation| match observation {
        Observation::Adopted { result, round, .. } => Some((result, *round)),
        _ => None,
    });
    let (result, round) = adopted.unwrap();
    *result = outer_step(None, round, &[]);
    other.fails("agreement: ");

    let mut halted = story();
    let member = halted.record(1).record.value.admitted.first().map_or(MemberId([0; 32]), |admitted| admitted.member);
    halted.observations.push(Observation::Halted { member, why: "a fork".to_owned() });
    halted.fails("halted: a fork");

    let mut omitted = story();
    let seen = omitted.record(2).clone();
    let receipt = stranger().sign(Receipt { run: seen.record.value.run, round: 2, claim: seen.claims[0].id() });
    let list = ClaimList { claims: Vec::new(), ..seen.list.unwrap().value };
    let evidence = Evidence::of_omission(&seen.claims[0], &receipt, &stranger().sign(list)).unwrap();
    omitted.observations.push(Observation::Told { member, event: MemberEvent::Omitted(evidence) });
    omitted.fails("agreement: ");
}

#[test]
fn a_standstill_is_found() {
    let whole = story();
    let changes: [fn(&mut Summary); 4] = [
        |summary| summary.records -= 1,
        |summary| summary.honest_at_end -= 1,
        |summary| summary.contributions = summary.member_rounds / 3,
        |summary| summary.empty_rounds = summary.rounds / 2,
    ];
    for change in changes {
        let mut summary = whole.summary.clone();
        change(&mut summary);
        assert!(Progress { share_permille: 400 }.end(&summary).is_err(), "{summary:?}");
    }
    assert_eq!(Progress { share_permille: 400 }.end(&whole.summary), Ok(()));
}
