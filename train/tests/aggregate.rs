//! From updates to the next checkpoint, compared with the definition written out once more.
#![allow(clippy::unwrap_used)]

use essaim_kernels::{Exec, Path};
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::{F64Bits, Manifest, Optimizer};
use essaim_protocol::statements::Contribution;
use essaim_train::aggregate::{AggregateError, RoundNorms, check_update, next_checkpoint};
use essaim_train::codec::{Update, UpdateFormat};
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::tiny_manifest;
use std::collections::BTreeMap;
use std::io;

const RUN: RunId = RunId([6; 32]);

fn exec(threads: usize) -> Exec {
    Exec::new(Path::detect(), threads).unwrap()
}

/// Updates of three members, the second ten times longer, and a base that is not all zero.
struct Scene {
    manifest: Manifest,
    updates: BTreeMap<MemberId, Vec<u8>>,
    contributions: Vec<Contribution>,
    base: Base,
}

fn scene() -> Scene {
    let manifest = tiny_manifest(Optimizer::Muon);
    let format = UpdateFormat::of(&manifest);
    let exec = exec(1);
    let context = RoundContext { exec: &exec, manifest: &manifest, run: RUN, round: 5 };
    let mut updates = BTreeMap::new();
    let mut contributions = Vec::new();
    for (index, tokens) in [100u64, 300, 36].into_iter().enumerate() {
        let member = MemberId([index as u8 + 1; 32]);
        let size = if index == 1 { 1e-2 } else { 1e-3 };
        let value = |i: usize| ((i * 31 + index * 17) % 101) as f32 * size - 50.0 * size;
        let gradient: Vec<f32> = (0..format.parameters()).map(value).collect();
        let moments: Vec<f32> = (0..format.moments()).map(|i| ((i + index) % 13) as f32 * 1e-8).collect();
        let bytes = format.encode(&exec, &context.header(member), &gradient, &moments).unwrap();
        contributions.push(Contribution {
            member,
            claim: Hash([0; 32]),
            update: Hash::of(&bytes),
            update_len_bytes: bytes.len() as u64,
            steps: 1,
            tokens,
            loss: F64Bits(0),
        });
        updates.insert(member, bytes);
    }
    let mut base = Base::initial(&exec, &manifest);
    base.outer.momentum.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 7) as f32 * 1e-3);
    Scene { manifest, updates, contributions, base }
}

impl Scene {
    fn run(&self, exec: &Exec) -> Result<(Base, RoundNorms), AggregateError> {
        let context = RoundContext { exec, manifest: &self.manifest, run: RUN, round: 5 };
        let mut base = self.base.clone();
        let mut fetch = |contribution: &Contribution| {
            let update = self.updates.get(&contribution.member).cloned();
            update.ok_or_else(|| io::Error::other("gone"))
        };
        let result = next_checkpoint(&context, &self.contributions, &mut fetch, &mut base);
        if result.is_err() {
            assert!(base == self.base, "a failed round changed the base");
        }
        result.map(|norms| (base, norms))
    }
}

#[test]
fn the_next_checkpoint_is_that_of_the_definition() {
    let scene = scene();
    let exec = exec(2);
    let (base, norms) = scene.run(&exec).unwrap();
    let format = UpdateFormat::of(&scene.manifest);
    let context = RoundContext { exec: &exec, manifest: &scene.manifest, run: RUN, round: 5 };
    let (mut gradient, mut moments) = (vec![0.0f32; format.parameters()], vec![0.0f32; format.moments()]);
    let mut sorted = norms.norms.clone();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(norms.median, sorted[1]);
    assert!(norms.norms[1] > 5.0 * norms.median);
    for (contribution, norm) in scene.contributions.iter().zip(&norms.norms) {
        let bytes = &scene.updates[&contribution.member];
        let header = context.header(contribution.member);
        let update = Update::open(&exec, bytes, &format, &header).unwrap();
        assert_eq!(check_update(&context, contribution.member, bytes).unwrap(), *norm);
        let (mut values, mut second) = (vec![0.0f32; gradient.len()], vec![0.0f32; moments.len()]);
        update.accumulate(&exec, 1.0, &mut values);
        update.accumulate_moments(1.0, &mut second);
        let clip = if *norm > norms.median { norms.median / norm } else { 1.0 };
        let share = contribution.tokens as f64 / 436.0;
        for (sum, value) in gradient.iter_mut().zip(values) {
            let term = (share * clip) as f32 * value;
            *sum += term;
        }
        for (sum, value) in moments.iter_mut().zip(second) {
            let term = share as f32 * value;
            *sum += term;
        }
    }
    for (i, &value) in gradient.iter().enumerate() {
        let momentum = 0.9f32 * scene.base.outer.momentum[i] + value;
        let ahead = value + 0.9f32 * momentum;
        assert_eq!(base.outer.momentum[i], momentum);
        assert_eq!(base.params[i], scene.base.params[i] - 0.7f32 * ahead);
    }
    assert_eq!(base.outer.moments, moments);
    assert!(base.outer.seeded);
}

#[test]
fn no_thread_count_and_no_path_changes_a_bit() {
    let scene = scene();
    let (base, norms) = scene.run(&exec(1)).unwrap();
    for path in Path::available() {
        for threads in [1, 2, 3] {
            assert!(scene.run(&Exec::new(path, threads).unwrap()).unwrap() == (base.clone(), norms.clone()));
        }
    }
}

#[test]
fn without_contributions_nothing_changes() {
    let scene = Scene { contributions: Vec::new(), ..scene() };
    let (base, norms) = scene.run(&exec(1)).unwrap();
    assert!(base == scene.base);
    assert_eq!(norms, RoundNorms { norms: Vec::new(), median: 0.0 });
}

#[test]
fn what_cannot_be_aggregated_names_the_member() {
    let second = MemberId([2; 32]);
    let mut broken = scene();
    broken.contributions.swap(0, 1);
    assert!(matches!(broken.run(&exec(1)), Err(AggregateError::Order { member }) if member == MemberId([1; 32])));
    let mut broken = scene();
    broken.contributions[1].tokens = 0;
    assert!(matches!(broken.run(&exec(1)), Err(AggregateError::Weight { member }) if member == second));
    let mut broken = scene();
    broken.updates.remove(&second);
    assert!(matches!(broken.run(&exec(1)), Err(AggregateError::Fetch { member, .. }) if member == second));
    let mut broken = scene();
    broken.updates.get_mut(&second).unwrap()[200] ^= 1;
    assert!(matches!(broken.run(&exec(1)), Err(AggregateError::Hash { member, .. }) if member == second));
    let mut broken = scene();
    let bytes = broken.updates.get_mut(&second).unwrap();
    bytes[80] ^= 1;
    broken.contributions[1].update = Hash::of(bytes);
    assert!(matches!(broken.run(&exec(1)), Err(AggregateError::Update { member, .. }) if member == second));
}

#[test]
fn a_checkpoint_that_overflows_is_an_error() {
    let mut scene = scene();
    scene.base.params[17] = f32::MAX;
    scene.base.outer.momentum[17] = f32::MIN;
    assert!(matches!(scene.run(&exec(2)), Err(AggregateError::NonFinite)));
}
