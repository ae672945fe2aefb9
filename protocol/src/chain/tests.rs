//! Every rule, broken once by an operator that signs what it likes.

use super::*;
use crate::fixtures::{World, bits, manifest, member_key, operator, signed_manifest};
use crate::ids::MemberId;
use crate::messages::Refused;
use crate::signing::{Keypair, StatementError, Strict};
use crate::statements::*;

/// A run of three members up to record `round`, and the chain before that record.
fn before(round: u64) -> (World, ChainState) {
    let mut world = World::new(3);
    world.run(1_000_000, |world| world.store.records.contains_key(&round));
    let mut chain = ChainState::genesis(&signed_manifest(), &Strict).unwrap();
    for round in 0..round {
        let (record, list) = (world.store.record(round).unwrap(), world.store.list(round));
        chain = chain.apply(&record, list.as_ref(), &Strict).unwrap();
    }
    (world, chain)
}

fn fault(result: Result<ChainState, ChainError>) -> ChainFault {
    *result.map(|_| ()).unwrap_err().fault
}

#[test]
fn a_record_that_breaks_a_rule_is_named_with_the_rule() {
    let (world, chain) = before(2);
    let (record, list) = (world.store.record(2).unwrap(), world.store.list(2).unwrap());
    assert!(chain.apply(&record, Some(&list), &Strict).is_ok());
    let broken = |change: &dyn Fn(&mut Record)| {
        let mut value = record.value.clone();
        change(&mut value);
        fault(chain.apply(&operator().sign(value), Some(&list), &Strict))
    };
    let hash = Hash([1; 32]);
    let is_hash = |fault: ChainFault, name: &str| matches!(fault, ChainFault::Hash { field, .. } if field == name);
    assert!(matches!(broken(&|r| r.run = RunId([1; 32])), ChainFault::Run { .. }));
    assert!(matches!(broken(&|r| r.round = 3), ChainFault::Round { got: 3, expected: 2 }));
    assert!(is_hash(broken(&|r| r.previous = hash), "previous"));
    assert!(is_hash(broken(&|r| r.claims = hash), "list of claims"));
    assert!(is_hash(broken(&|r| r.ledger = hash), "ledger"));
    assert_eq!(broken(&|r| r.preimage = hash), ChainFault::Preimage { got: hash });
    assert!(matches!(broken(&|r| r.tokens_total += 64), ChainFault::Number { field: "tokens_total", .. }));
    assert_eq!(broken(&|r| r.contributions.reverse()), ChainFault::Order("contributions"));
    let last = record.value.contributions[2].member;
    assert_eq!(broken(&|r| r.contributions.truncate(2)), ChainFault::NotTheList { member: last });
    let first = &record.value.contributions[0];
    let refusal = |reason| Refusal { member: first.member, claim: first.claim, reason };
    let both = broken(&|r| r.refusals = vec![refusal(RefusalReason::Withheld)]);
    assert_eq!(both, ChainFault::NotTheList { member: first.member });
    let moved = broken(&|r| {
        r.contributions.remove(0);
        r.refusals = vec![refusal(RefusalReason::Mismatch)];
    });
    assert_eq!(moved, ChainFault::NotInThisVersion("an audit's refusal"));
    for (change, field) in [
        ((|c| c.tokens += 1) as fn(&mut Contribution), "number of tokens"),
        (|c| c.loss = bits(f64::INFINITY), "loss"),
        (|c| c.update_len_bytes = 0, "length of the update"),
        (|c| c.update_len_bytes = u64::MAX, "length of the update"),
        (|c| c.steps = 0, "number of inner steps"),
    ] {
        let found = broken(&|r| change(&mut r.contributions[0]));
        assert_eq!(found, ChainFault::Contribution { member: first.member, field });
    }
    let more = broken(&|r| {
        let contribution = &mut r.contributions[0];
        contribution.steps += 1;
        contribution.tokens += 64;
    });
    assert!(matches!(more, ChainFault::Ledger(crate::ledger::LedgerError::Steps { .. })), "{more:?}");
    assert!(matches!(
        broken(&|r| r.admitted = vec![Admitted { member: first.member, join: hash }]),
        ChainFault::Ledger(_)
    ));
    let twice = Admitted { member: MemberId([3; 32]), join: hash };
    assert_eq!(broken(&|r| r.admitted = vec![twice, twice]), ChainFault::Order("admitted members"));
    assert_eq!(broken(&|r| r.audits = vec![hash]), ChainFault::NotInThisVersion("audits"));
    assert_eq!(broken(&|r| r.withdrawals = vec![hash]), ChainFault::NotInThisVersion("withdrawals"));
    assert_eq!(broken(&|r| r.slices = vec![hash]), ChainFault::NotInThisVersion("slices"));
    assert!(matches!(broken(&|r| r.heldout[0].nats = bits(f64::NAN)), ChainFault::Heldout { .. }));
    assert!(matches!(broken(&|r| r.heldout.push(r.heldout[0].clone())), ChainFault::Order("held-out languages")));
}

#[test]
fn missing_and_unsigned_are_told_apart() {
    let (world, chain) = before(2);
    let (record, list) = (world.store.record(2).unwrap(), world.store.list(2).unwrap());
    let missing = chain.apply(&record, None, &Strict).unwrap_err();
    assert!(missing.is_missing());
    assert_eq!(missing.to_string(), "the list of claims of round 2: missing");
    let unsigned = member_key(0).sign(record.value.clone());
    let unsigned = chain.apply(&unsigned, Some(&list), &Strict).unwrap_err();
    assert!(!unsigned.is_missing());
    assert!(matches!(*unsigned.fault, ChainFault::Statement(StatementError::Unsigned { valid: 0, needed: 1, .. })));
    // The same list, signed by somebody else: the id is right, the signature is not.
    let other = member_key(0).sign(list.value.clone());
    let other = chain.apply(&record, Some(&other), &Strict).unwrap_err();
    assert_eq!(other.statement, StatementRef::ClaimList { round: 2 });
    let mut manifest = manifest();
    manifest.rounds = 0;
    let error = ChainState::genesis(&operator().sign(manifest), &Strict).unwrap_err();
    assert!(matches!(*error.fault, ChainFault::Manifest(_)));
    let error = ChainState::genesis(&member_key(0).sign(crate::fixtures::manifest()), &Strict).unwrap_err();
    assert_eq!(error.statement, StatementRef::Manifest);
}

#[test]
fn a_round_without_contributions_changes_nothing() {
    let mut world = World::new(2);
    world.run(1_000_000, |world| world.store.records.contains_key(&1));
    world.nodes.iter_mut().for_each(|node| node.works = false);
    world.run(1_000_000, |world| world.store.records.contains_key(&3));
    let [second, third] = [2, 3].map(|round| world.store.record(round).unwrap());
    assert!(third.value.contributions.is_empty());
    assert_eq!(third.value.checkpoint, second.value.checkpoint);
    let mut chain = ChainState::genesis(&signed_manifest(), &Strict).unwrap();
    for round in 0..3 {
        let record = world.store.record(round).unwrap();
        chain = chain.apply(&record, world.store.list(round).as_ref(), &Strict).unwrap();
    }
    for (change, what) in [
        ((|r| r.checkpoint = Hash([1; 32])) as fn(&mut Record), "checkpoint"),
        (|r| r.outer_state = Hash([1; 32]), "outer state"),
        (|r| r.heldout.clear(), "held-out loss"),
    ] {
        let mut value = third.value.clone();
        change(&mut value);
        let result = chain.apply(&operator().sign(value), world.store.list(3).as_ref(), &Strict);
        assert_eq!(fault(result), ChainFault::ChangedByNothing(what));
    }
}

/// The store of a world, with one claim or join replaced.
struct Replaced<'a> {
    world: &'a World,
    claim: Option<Option<Signed<Claim>>>,
    join: Option<Option<Signed<Join>>>,
}

impl Sources for Replaced<'_> {
    fn claim(&self, round: u64, member: &MemberId) -> Option<Signed<Claim>> {
        self.claim.clone().unwrap_or_else(|| self.world.store.claim(round, member))
    }
    fn join(&self, round: u64, member: &MemberId) -> Option<Signed<Join>> {
        self.join.clone().unwrap_or_else(|| self.world.store.join(round, member))
    }
}

#[test]
fn claims_and_joins_behind_a_record_are_checked() {
    let (world, chain) = before(2);
    let (record, list) = (world.store.record(2).unwrap(), world.store.list(2).unwrap());
    let whole = Replaced { world: &world, claim: None, join: None };
    chain.check_sources(&record, Some(&list), &whole, &Strict).unwrap();
    let with = |claim| {
        let sources = Replaced { world: &world, claim: Some(claim), join: None };
        chain.check_sources(&record, Some(&list), &sources, &Strict).unwrap_err()
    };
    let first = list.value.claims[0].member;
    let claim = world.store.claim(2, &first).unwrap();
    let error = with(None);
    assert!(error.is_missing());
    assert_eq!(error.statement, StatementRef::Claim { round: 2, member: first });
    let error = with(Some(operator().sign(claim.value.clone())));
    assert_eq!(*error.fault, ChainFault::Refused(Refused::Unsigned));
    let error = with(Some(operator().sign(Claim { steps: 1, ..claim.value.clone() })));
    assert!(matches!(*error.fault, ChainFault::Hash { field: "id", .. }));

    // A record that says something else than the claims: found only here.
    let mut value = record.value.clone();
    value.contributions[0].update = Hash([1; 32]);
    let lying = operator().sign(value);
    let error = chain.check_sources(&lying, Some(&list), &whole, &Strict).unwrap_err();
    assert_eq!(*error.fault, ChainFault::NotTheClaim { field: "update" });

    let genesis = ChainState::genesis(&signed_manifest(), &Strict).unwrap();
    let opening = world.store.record(0).unwrap();
    genesis.check_sources(&opening, None, &whole, &Strict).unwrap();
    let sources = Replaced { world: &world, claim: None, join: Some(None) };
    assert!(genesis.check_sources(&opening, None, &sources, &Strict).unwrap_err().is_missing());
}

#[test]
fn a_chain_resumes_from_a_record_and_its_ledger() {
    let (world, chain) = before(3);
    let (record, ledger) = (chain.record().unwrap(), chain.ledger().clone());
    let resumed = ChainState::resume(&signed_manifest(), &Strict, record, ledger.clone()).unwrap();
    assert_eq!(resumed.assignments(), chain.assignments());
    assert_eq!(resumed.head_id(), chain.head_id());
    let next = world.store.record(3).unwrap();
    resumed.apply(&next, world.store.list(3).as_ref(), &Strict).unwrap();
    let mut other = ledger;
    other.tokens_total += 1;
    let error = ChainState::resume(&signed_manifest(), &Strict, record, other).unwrap_err();
    assert_eq!(error.statement, StatementRef::Ledger { round: 2 });
    let mut value = record.value.clone();
    value.preimage = Hash([9; 32]);
    let forged = operator().sign(value);
    let error = ChainState::resume(&signed_manifest(), &Strict, &forged, chain.ledger().clone()).unwrap_err();
    assert!(matches!(*error.fault, ChainFault::Preimage { .. }));
}

#[test]
fn evidence_holds_only_if_it_is_signed_and_contradicts() {
    let (world, chain) = before(2);
    let record = world.store.record(2).unwrap();
    let forked = Record { checkpoint: Hash([1; 32]), ..record.value.clone() };
    let fork = Evidence::of_records(&record, &operator().sign(forked.clone())).unwrap();
    assert!(fork.holds(&manifest(), &Strict));
    assert_eq!(fork.describe(), "two different records of round 2");
    assert_eq!(fork.statements().len(), 2);
    let forged = Evidence::of_records(&record, &member_key(0).sign(forked)).unwrap();
    assert!(!forged.holds(&manifest(), &Strict));
    assert_eq!(Evidence::of_records(&record, &record), None);
    assert_eq!(Evidence::of_records(&record, &world.store.record(1).unwrap()), None);

    let list = world.store.list(2).unwrap();
    let shorter = ClaimList { claims: list.value.claims[1..].to_vec(), ..list.value.clone() };
    let lists = Evidence::of_lists(&list, &operator().sign(shorter.clone())).unwrap();
    assert!(lists.holds(&manifest(), &Strict));

    let member = list.value.claims[0].member;
    let claim = world.store.claim(2, &member).unwrap();
    let receipt = Receipt { run: chain.run(), round: 2, claim: claim.id() };
    let receipt = operator().sign(receipt);
    assert_eq!(Evidence::of_omission(&claim, &receipt, &list), None);
    let omitted = Evidence::of_omission(&claim, &receipt, &operator().sign(shorter)).unwrap();
    assert!(omitted.holds(&manifest(), &Strict));

    let key = world.nodes.iter().position(|node| node.machine.member() == member).unwrap();
    let key: Keypair = member_key(u8::try_from(key).unwrap());
    let second = key.sign(Claim { loss: bits(1.0), ..claim.value.clone() });
    assert!(Evidence::of_claims(&claim, &second).unwrap().holds(&manifest(), &Strict));

    let head = |record| operator().sign(Head { run: chain.run(), round: 2, record, claims: None });
    assert!(Evidence::of_heads(&head(Hash([1; 32])), &head(Hash([2; 32]))).unwrap().holds(&manifest(), &Strict));
    assert!(Evidence::of_head(&head(Hash([1; 32])), &record).unwrap().holds(&manifest(), &Strict));
    assert_eq!(Evidence::of_head(&head(record.id()), &record), None);

    let (checkpoint, outer_state) = (record.value.checkpoint, record.value.outer_state);
    let wrong = |checkpoint| Evidence::WrongArithmetic { record: Box::new(record.clone()), checkpoint, outer_state };
    assert!(wrong(Hash([1; 32])).holds(&manifest(), &Strict));
    assert!(!wrong(checkpoint).holds(&manifest(), &Strict));
}
