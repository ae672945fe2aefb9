//! Properties of assignments, the ledger and the order of the data.

use crate::assignment::{assign, of_member, steps_of_members};
use crate::data_order::{DataOrder, DataOrderError, units_of_shard};
use crate::fixtures::{bits, dataset, manifest};
use crate::ids::{Hash, MemberId, RunId};
use crate::ledger::{Ledger, LedgerError, Span, Standing};
use crate::manifest::{Manifest, MixWeight, Phase};
use crate::statements::{Admitted, Contribution, NO_CLAIMS, Record};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn member(index: u32) -> MemberId {
    MemberId(Hash::of(&index.to_le_bytes()).0)
}

fn standing(index: u32, accepted_rounds: u32, accepted_steps: u32, granted_more: u32, absent_rounds: u32) -> Standing {
    let granted_steps = accepted_steps + granted_more;
    Standing { member: member(index), joined_round: 1, accepted_rounds, granted_steps, accepted_steps, absent_rounds }
}

fn standings() -> impl Strategy<Value = Vec<Standing>> {
    proptest::collection::vec((0u32..5, 0u32..40, 0u32..3, 0u32..3), 0..40).prop_map(|entries| {
        let make = |(index, (accepted_rounds, steps, more, absent)): (usize, (u32, u32, u32, u32))| {
            standing(index as u32, accepted_rounds, steps * accepted_rounds.min(1), more, absent)
        };
        let mut members: Vec<Standing> = entries.into_iter().enumerate().map(make).collect();
        members.sort_by_key(|standing| standing.member);
        members
    })
}

fn ledgers() -> impl Strategy<Value = Ledger> {
    (standings(), proptest::collection::vec((1u64..5, 1u64..6), 0..30)).prop_map(|(members, gaps)| {
        let mut ledger = Ledger::genesis(RunId([1; 32]));
        let mut at = 0;
        for (gap, len) in gaps {
            ledger.returned.push(Span { start: at + gap, len });
            at += gap + len;
        }
        ledger.next_round = 3;
        ledger.next_position = at + 7;
        ledger.members = members;
        ledger
    })
}

fn is_newcomer(manifest: &Manifest, standing: &Standing) -> bool {
    standing.accepted_rounds < manifest.admission.probation_rounds || standing.accepted_steps == 0
}

/// A record of the round, with nothing in it.
fn empty_record(ledger: &Ledger) -> Record {
    Record {
        run: ledger.run,
        round: ledger.next_round,
        previous: NO_CLAIMS,
        claims: NO_CLAIMS,
        contributions: Vec::new(),
        refusals: Vec::new(),
        admitted: Vec::new(),
        preimage: NO_CLAIMS,
        tokens_total: 0,
        ledger: NO_CLAIMS,
        checkpoint: NO_CLAIMS,
        outer_state: NO_CLAIMS,
        heldout: Vec::new(),
        audits: Vec::new(),
        withdrawals: Vec::new(),
        slices: Vec::new(),
    }
}

fn contribution(member: MemberId, steps: u32) -> Contribution {
    Contribution {
        member,
        claim: NO_CLAIMS,
        update: NO_CLAIMS,
        update_len_bytes: 1,
        steps,
        tokens: u64::from(steps) * 64,
        loss: bits(1.0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn assignments_are_disjoint_and_take_what_waits_first(ledger in ledgers(), seed in any::<[u8; 32]>()) {
        let assignments = assign(&manifest(), &ledger, seed);
        prop_assert_eq!(assignments.len(), ledger.members.len());
        prop_assert!(assignments.is_sorted_by(|a, b| a.member < b.member));
        let steps = steps_of_members(&manifest(), &ledger.members);
        let mut taken = BTreeSet::new();
        for (assignment, steps) in assignments.iter().zip(steps) {
            prop_assert_eq!(assignment.steps(), steps);
            prop_assert!((1..=20).contains(&steps));
            for (index, position) in assignment.positions().enumerate() {
                prop_assert_eq!(assignment.position_of(index as u32), Some(position));
                prop_assert!(taken.insert(position), "position {} twice", position);
            }
            prop_assert_eq!(assignment.position_of(assignment.steps()), None);
        }
        let waiting: BTreeSet<u64> = ledger.returned.iter().flat_map(|span| span.start..span.end()).collect();
        let fresh: Vec<u64> = taken.iter().copied().filter(|p| !waiting.contains(p)).collect();
        prop_assert!(fresh.iter().copied().eq(ledger.next_position..ledger.next_position + fresh.len() as u64));
        prop_assert!(fresh.is_empty() || waiting.is_subset(&taken));
    }

    #[test]
    fn caps_hold_wherever_they_can(
        members in standings(), share in 1u32..=1000, newcomers in 1u32..=1000, probation in 1u32..30,
    ) {
        let mut manifest = manifest();
        manifest.admission.member_share_max_permille = share;
        manifest.admission.newcomer_share_max_permille = newcomers;
        manifest.admission.probation_steps = probation;
        let steps = steps_of_members(&manifest, &members);
        let total: u64 = steps.iter().map(|steps| u64::from(*steps)).sum();
        let of = |newcomer: bool| -> Vec<u64> {
            let pairs = members.iter().zip(&steps);
            pairs.filter(|(m, _)| is_newcomer(&manifest, m) == newcomer).map(|(_, s)| u64::from(*s)).collect()
        };
        if members.len() as u64 * u64::from(share) >= 1000 {
            let most = steps.iter().copied().max().unwrap_or(0);
            prop_assert!(u64::from(most) * 1000 <= u64::from(share) * total, "{} of {}", most, total);
        }
        let (new, old): (u64, u64) = (of(true).iter().sum(), of(false).iter().sum());
        if old > 0 && newcomers < 1000 {
            // Never below one inner step each.
            let all_at_one = new == of(true).len() as u64;
            prop_assert!(all_at_one || new * 1000 <= u64::from(newcomers) * (new + old), "{} + {}", new, old);
        }
        prop_assert!(steps.iter().all(|steps| *steps >= 1));
    }

    #[test]
    fn returned_work_is_conserved(
        seed in any::<[u8; 32]>(),
        rounds in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 12), 1..12),
    ) {
        let manifest = Manifest { admission: crate::manifest::Admission { members_max: 64, ..manifest().admission }, ..manifest() };
        let mut ledger = Ledger::genesis(RunId([1; 32]));
        let mut consumed = BTreeSet::new();
        for (round, chances) in rounds.iter().enumerate() {
            let assignments = assign(&manifest, &ledger, *Hash::of(&[&seed[..], &[round as u8]].concat()).as_bytes());
            let mut record = empty_record(&ledger);
            for (assignment, chance) in assignments.iter().zip(chances) {
                // A third vanishes, a third does a part, a third does all.
                let steps = match chance % 3 {
                    0 => 0,
                    1 => u32::from(*chance) % (assignment.steps() + 1),
                    _ => assignment.steps(),
                };
                if steps > 0 {
                    record.contributions.push(contribution(assignment.member, steps));
                    for position in assignment.positions().take(steps as usize) {
                        prop_assert!(consumed.insert(position));
                    }
                }
            }
            let newcomer = member(round as u32);
            if ledger.member(&newcomer).is_none() {
                record.admitted = vec![Admitted { member: newcomer, join: NO_CLAIMS }];
            }
            ledger = ledger.apply(&manifest, &assignments, &record).unwrap();
            prop_assert_eq!(Ledger::from_bytes(&ledger.to_bytes()), Ok(ledger.clone()));
            let waiting: BTreeSet<u64> = ledger.returned.iter().flat_map(|span| span.start..span.end()).collect();
            prop_assert!(waiting.is_disjoint(&consumed));
            prop_assert_eq!((waiting.len() + consumed.len()) as u64, ledger.next_position);
            prop_assert_eq!(ledger.tokens_total, consumed.len() as u64 * 64);
        }
    }
}

#[test]
fn speed_is_what_was_accepted() {
    let manifest = manifest();
    let steps = |standing: Standing| steps_of_members(&manifest, &[standing])[0];
    assert_eq!(steps(Standing::new(member(0), 1)), 4, "probation");
    assert_eq!(steps(standing(0, 1, 4, 0, 0)), 8, "all of it: twice as much");
    assert_eq!(steps(standing(0, 2, 15, 0, 0)), 20, "never more than inner.steps");
    assert_eq!(steps(standing(0, 3, 8, 4, 0)), 9, "a part: an eighth more");
    assert_eq!(steps(standing(0, 3, 1, 4, 0)), 2, "a part: at least one more");
    assert_eq!(steps(standing(0, 3, 8, 4, 1)), 4, "absent: half");
    assert_eq!(steps(standing(0, 3, 8, 4, 40)), 1, "absent for long: one");
}

#[test]
fn a_member_cap_binds_the_fastest_only() {
    let mut manifest = manifest();
    manifest.admission.member_share_max_permille = 300;
    let members = [standing(0, 3, 10, 0, 0), standing(1, 3, 2, 0, 0), standing(2, 3, 2, 0, 0), standing(3, 3, 2, 0, 0)];
    // 1000·C ≤ 300·(C + 12): C = 5.
    assert_eq!(steps_of_members(&manifest, &members), [5, 4, 4, 4]);
    // Three members cannot all be under 30 %: no cap.
    assert_eq!(steps_of_members(&manifest, &members[..3]), [20, 4, 4]);
}

#[test]
fn contributions_that_contradict_the_ledger_are_refused() {
    let manifest = manifest();
    let mut ledger = Ledger::genesis(RunId([1; 32]));
    ledger.members = vec![Standing::new(member(1), 0)];
    let assignments = assign(&manifest, &ledger, [0; 32]);
    let apply = |change: &dyn Fn(&mut Record)| {
        let mut record = empty_record(&ledger);
        change(&mut record);
        ledger.apply(&manifest, &assignments, &record)
    };
    assert!(apply(&|record| record.contributions = vec![contribution(member(1), 4)]).is_ok());
    let refused = [
        apply(&|record| record.contributions = vec![contribution(member(1), 5)]),
        apply(&|record| record.contributions = vec![contribution(member(1), 0)]),
        apply(&|record| record.contributions = vec![contribution(member(2), 1)]),
        apply(&|record| record.contributions = vec![contribution(member(1), 1); 2]),
        apply(&|record| record.admitted = vec![Admitted { member: member(1), join: NO_CLAIMS }]),
        apply(&|record| record.admitted = vec![Admitted { member: member(2), join: NO_CLAIMS }; 2]),
        apply(&|record| record.admitted = (2..20).map(|i| Admitted { member: member(i), join: NO_CLAIMS }).collect()),
        apply(&|record| record.round = 1),
        apply(&|record| record.run = RunId([2; 32])),
    ];
    for (index, refused) in refused.iter().enumerate() {
        let expected = matches!(
            (index, refused),
            (0 | 1, Err(LedgerError::Steps { .. }))
                | (2 | 3, Err(LedgerError::NotAssigned { .. }))
                | (4 | 5, Err(LedgerError::AdmittedTwice { .. }))
                | (6, Err(LedgerError::Members { got: 19, max: 8 }))
                | (7, Err(LedgerError::Round { .. }))
                | (8, Err(LedgerError::Run { .. }))
        );
        assert!(expected, "{index}: {refused:?}");
    }
    assert_eq!(of_member(&assignments, &member(9)), None);
}

#[test]
fn an_epoch_reads_every_unit_once_in_another_order() {
    let order = DataOrder::new(&manifest(), &dataset()).unwrap();
    let units = order.units_of_mix("fr").unwrap();
    assert_eq!(units, units_of_shard(1601, 16, 4) + units_of_shard(3300, 16, 4));
    assert_eq!(units_of_shard(1601, 16, 4), 25);
    assert_eq!(units_of_shard(1600, 16, 4), 24, "the last target is missing");
    let mut epochs: Vec<Vec<(Hash, u64)>> = vec![Vec::new(); 40];
    let mut given = [0u64; 2];
    for position in 0..4_000 {
        let unit = order.locate(position);
        let mix = usize::from(unit.mix == "en");
        given[mix] += 1;
        // Weights 3 and 2: never more than one position away from the exact share.
        assert!((given[0] * 5).abs_diff((position + 1) * 3) <= 5, "{position}: {given:?}");
        if mix == 0 {
            epochs[usize::try_from(unit.epoch).unwrap()].push((unit.shard.hash, unit.unit));
        }
    }
    assert_eq!(given, [2_400, 1_600]);
    let whole: Vec<&Vec<(Hash, u64)>> = epochs.iter().filter(|epoch| epoch.len() as u64 == units).collect();
    assert!(whole.len() > 25);
    for epoch in &whole {
        assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len() as u64, units);
    }
    assert!(whole.iter().any(|epoch| epoch != &whole[0]), "no epoch is shuffled otherwise");
    // Any position is found without the ones before it.
    let again = DataOrder::new(&manifest(), &dataset()).unwrap();
    for position in [3_999, 0, 17, 1 << 50, 5, u64::MAX / 4] {
        assert_eq!(again.locate(position), order.locate(position));
    }
}

#[test]
fn phases_change_the_mix_and_go_on_in_each_mix() {
    let mut manifest = manifest();
    let phase = |name: &str, positions: u64, weights: &[(&str, u32)]| Phase {
        name: name.into(),
        tokens: positions * 64 - 1,
        weights: weights.iter().map(|(mix, weight)| MixWeight { mix: (*mix).into(), weight: *weight }).collect(),
    };
    manifest.phases = vec![
        phase("first", 7, &[("fr", 2), ("en", 1)]),
        phase("second", 4, &[("en", 1)]),
        phase("third", 1, &[("en", 1 << 20), ("fr", 1)]),
    ];
    let order = DataOrder::new(&manifest, &dataset()).unwrap();
    let mixes: String = (0..14).map(|position| &order.locate(position).mix[..1]).collect();
    assert_eq!(mixes, "feffefFEEEEEEE".replace('F', "f").replace('E', "e"));
    let english: Vec<u64> = (0..30).map(|p| order.locate(p)).filter(|u| u.mix == "en").map(|u| u.unit).collect();
    assert!(english.iter().copied().eq(0..english.len() as u64), "{english:?}");
    // 2^20 to 1 is a cycle of 4096 with one slot of the rare mix.
    let rare = (11..11 + 4096).filter(|position| order.locate(*position).mix == "fr").count();
    assert_eq!(rare, 1);
}

#[test]
fn a_data_set_that_does_not_belong_is_refused() {
    let other = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest();
        change(&mut manifest);
        DataOrder::new(&manifest, &dataset()).map(|_| ()).unwrap_err()
    };
    assert!(matches!(other(&|m| m.dataset = NO_CLAIMS), DataOrderError::OtherDataset { .. }));
    assert!(matches!(other(&|m| m.tokenizer = NO_CLAIMS), DataOrderError::OtherTokenizer { .. }));
    assert!(matches!(other(&|m| m.model.vocab_size = 255), DataOrderError::Vocabulary { got: 256, model: 255 }));
    assert!(matches!(other(&|m| m.phases[0].weights[1].mix = "de".into()), DataOrderError::UnknownMix { .. }));
    assert!(matches!(other(&|m| m.phases[0].weights[1].mix = "fr".into()), DataOrderError::MixTwice { .. }));
    assert!(matches!(other(&|m| m.inner.batch = 200), DataOrderError::EmptyMix { tokens: 3201, .. }));
}
