//! Contributions: the same bits on every path, with any threads and any micro-batch; prefixes; skipped steps; replay.
#![allow(clippy::unwrap_used)]

use essaim_kernels::{Exec, Path};
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::{F64Bits, Manifest, Optimizer};
use essaim_protocol::statements::Contribution;
use essaim_train::aggregate::next_checkpoint;
use essaim_train::codec::Update;
use essaim_train::codec::UpdateFormat;
use essaim_train::contribute::{ContributeError, Contributed, Progress, Work, contribute};
use essaim_train::engine::Engine;
use essaim_train::inner::{self, InnerLoop};
use essaim_train::params::ParamLayout;
use essaim_train::replay::{ReplayError, replay};
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::{tiny_manifest, tiny_unit};
use std::error::Error;
use std::ops::ControlFlow;

const RUN: RunId = RunId([6; 32]);
const MEMBER: MemberId = MemberId([8; 32]);

fn exec(threads: usize) -> Exec {
    Exec::new(Path::detect(), threads).unwrap()
}

type Units = Result<Vec<u32>, Box<dyn Error + Send + Sync>>;

fn work<'a>(exec: &'a Exec, manifest: &'a Manifest, base: &'a Base, micro_batch: u32) -> Work<'a> {
    let context = RoundContext { exec, manifest, run: RUN, round: 1 };
    Work {
        context,
        engine: Engine::Cpu,
        member: MEMBER,
        base,
        base_tokens_total: 36,
        steps: manifest.inner.steps,
        micro_batch,
    }
}

fn go_on(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn done(work: &Work<'_>) -> Contributed {
    let mut units = |step: u32| -> Units { Ok(tiny_unit(work.context.manifest, step)) };
    contribute(work, &mut units, &mut go_on).unwrap()
}

fn contribution(done: &Contributed) -> Contribution {
    Contribution {
        member: MEMBER,
        claim: Hash([0; 32]),
        update: done.update_hash,
        update_len_bytes: done.update.len() as u64,
        steps: done.steps,
        tokens: done.tokens,
        loss: done.loss,
    }
}

/// The base after one round of one member: its outer state has momentum and second moments.
fn second_base(exec: &Exec, manifest: &Manifest) -> Base {
    let mut base = Base::initial(exec, manifest);
    let first = base.clone();
    let work = work(exec, manifest, &first, 3);
    let done = done(&work);
    let mut fetch = |_: &Contribution| Ok(done.update.clone());
    next_checkpoint(&work.context, &[contribution(&done)], &mut fetch, &mut base).unwrap();
    assert!(base.outer.seeded);
    base
}

#[test]
fn one_hash_on_every_path_with_any_threads_and_any_micro_batch() {
    for optimizer in [Optimizer::Muon, Optimizer::AdamW] {
        for tied in [false, true] {
            let mut manifest = tiny_manifest(optimizer);
            manifest.model.tied = tied;
            let scalar = Exec::new(Path::Scalar, 1).unwrap();
            for base in [Base::initial(&scalar, &manifest), second_base(&scalar, &manifest)] {
                let wanted = done(&work(&scalar, &manifest, &base, 3));
                for path in Path::available() {
                    for (threads, micro_batch) in [(1, 1), (2, 2), (3, 3)] {
                        let exec = Exec::new(path, threads).unwrap();
                        let got = done(&work(&exec, &manifest, &base, micro_batch));
                        assert!(got == wanted, "{path}, {threads} threads, micro-batches of {micro_batch}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_same_data_again_and_again_is_learnt() {
    for (optimizer, least) in [(Optimizer::Muon, 0.5), (Optimizer::AdamW, 0.05)] {
        let exec = exec(1);
        let manifest = tiny_manifest(optimizer);
        let base = Base::initial(&exec, &manifest);
        let work = work(&exec, &manifest, &base, 3);
        let mut inner = InnerLoop::new(work.context, &base, 0, 3);
        let losses: Vec<f64> = (0..40).map(|_| inner.step(&tiny_unit(&manifest, 0)).unwrap().loss).collect();
        assert!(losses[0] - losses[39] > least, "{optimizer:?}: from {} to {}", losses[0], losses[39]);
    }
}

#[test]
fn a_prefix_counts_and_is_replayed() {
    let exec = exec(2);
    let manifest = tiny_manifest(Optimizer::Muon);
    let base = Base::initial(&exec, &manifest);
    let work = work(&exec, &manifest, &base, 3);
    let mut units = |step: u32| -> Units { Ok(tiny_unit(&manifest, step)) };
    let mut seen = Vec::new();
    let mut stop = |progress: &Progress| {
        seen.push((progress.steps, progress.tokens, progress.last.is_some()));
        if progress.steps == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let prefix = contribute(&work, &mut units, &mut stop).unwrap();
    assert_eq!((prefix.steps, prefix.skipped, prefix.tokens), (2, 0, 72));
    assert_eq!(seen, [(0, 0, false), (1, 36, true), (2, 72, true)]);
    assert_ne!(prefix.update_hash, done(&work).update_hash);
    assert!(replay(&work, &mut units, &contribution(&prefix)).unwrap() == prefix);
}

#[test]
fn a_replay_names_what_differs_and_tells_it_from_what_is_missing() {
    let exec = exec(1);
    let manifest = tiny_manifest(Optimizer::Muon);
    let base = Base::initial(&exec, &manifest);
    let work = work(&exec, &manifest, &base, 3);
    let mut units = |step: u32| -> Units { Ok(tiny_unit(&manifest, step)) };
    let honest = contribution(&done(&work));
    let mut differs = |contribution: &Contribution| match replay(&work, &mut units, contribution) {
        Err(error @ ReplayError::Differs { field, .. }) => {
            assert!(error.contradicts());
            field
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(differs(&Contribution { update: Hash([1; 32]), ..honest.clone() }), "an update of hash");
    assert_eq!(differs(&Contribution { loss: F64Bits(honest.loss.0 ^ 1), ..honest.clone() }), "loss");
    assert_eq!(differs(&Contribution { tokens: 1, ..honest.clone() }), "tokens");
    // Another member's update has another header, another base another update.
    assert_eq!(differs(&Contribution { member: MemberId([1; 32]), ..honest.clone() }), "an update of hash");
    let mut missing = |_: u32| -> Units { Err("no such shard".into()) };
    let error = replay(&work, &mut missing, &honest).unwrap_err();
    assert!(!error.contradicts());
    assert!(error.to_string().contains("no such shard"));
}

#[test]
fn what_cannot_be_done_says_why() {
    let exec = exec(1);
    let manifest = tiny_manifest(Optimizer::Muon);
    let base = Base::initial(&exec, &manifest);
    let work = work(&exec, &manifest, &base, 3);
    let mut units = |step: u32| -> Units { Ok(tiny_unit(&manifest, step)) };
    let stopped = contribute(&work, &mut units, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(ContributeError::NothingDone)));
    let mut short = |_: u32| -> Units { Ok(vec![0; 5]) };
    let error = contribute(&work, &mut short, &mut go_on).unwrap_err().to_string();
    assert_eq!(error, "data of inner step 0: a batch of 5 tokens, the run's have 39");
    let mut unknown = |step: u32| -> Units { Ok(tiny_unit(&manifest, step).iter().map(|token| token + 60).collect()) };
    let error = contribute(&work, &mut unknown, &mut go_on).unwrap_err().to_string();
    assert!(error.contains("where all are below 70"), "{error}");
}

#[test]
fn steps_that_are_not_finite_are_skipped_and_counted_the_same_way_everywhere() {
    let manifest = tiny_manifest(Optimizer::Muon);
    let mut base = Base::initial(&exec(1), &manifest);
    // Token 69's logit is out of range wherever token 69 is read, and far below all others elsewhere: the embedding's first column is
    // positive except for this token, and the head's row for it looks at that column only.
    let layout = ParamLayout::new(&manifest.model);
    let range = |name: &str| layout.tensor(name).unwrap().range();
    let width = manifest.model.d_model as usize;
    let embedding = &mut base.params[range("model.embed_tokens.weight")];
    embedding.iter_mut().step_by(width).for_each(|value| *value = 0.1);
    embedding[69 * width] = -1e3;
    let head = &mut base.params[range("lm_head.weight")][69 * width..];
    head.fill(0.0);
    head[0] = -1e38;
    let unit = |step: u32| -> Vec<u32> {
        let mut tokens: Vec<u32> = tiny_unit(&manifest, step).iter().map(|token| token % 60).collect();
        if step.is_multiple_of(2) {
            tokens[3] = 69;
        }
        tokens
    };
    let mut results = Vec::new();
    for path in Path::available() {
        for threads in [1, 2] {
            let exec = Exec::new(path, threads).unwrap();
            let work = work(&exec, &manifest, &base, 2);
            let mut reports = Vec::new();
            let mut units = |step: u32| -> Units { Ok(unit(step)) };
            let mut watch = |progress: &Progress| {
                reports.extend(progress.last.map(|report| report.skipped));
                ControlFlow::Continue(())
            };
            let done = contribute(&work, &mut units, &mut watch).unwrap();
            assert_eq!(reports, [true, false, true]);
            assert_eq!((done.steps, done.skipped, done.tokens), (4, 2, 144));
            assert!(f64::from_bits(done.loss.0).is_finite());
            results.push(done);
        }
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn when_every_step_is_skipped_the_update_is_zero_and_the_loss_finite() {
    let exec = exec(1);
    let manifest = tiny_manifest(Optimizer::AdamW);
    let mut base = Base::initial(&exec, &manifest);
    base.params.fill(1e30);
    let work = work(&exec, &manifest, &base, 3);
    let done = done(&work);
    assert_eq!((done.steps, done.skipped, done.loss.0), (4, 4, 0));
    let format = UpdateFormat::of(&manifest);
    let header = work.context.header(MEMBER);
    assert_eq!(Update::open(&exec, &done.update, &format, &header).unwrap().norm(), 0.0);
}

#[test]
fn memory_grows_with_the_micro_batch_and_decides_it() {
    let manifest = tiny_manifest(Optimizer::Muon);
    let [one, two, three] = [1, 2, 3].map(|size| inner::memory_bytes(&manifest, size, 2));
    assert!(one < two && two < three);
    assert_eq!(inner::micro_batch_for(&manifest, one - 1, 2), None);
    assert_eq!(inner::micro_batch_for(&manifest, two, 2), Some(2));
    assert_eq!(inner::micro_batch_for(&manifest, u64::MAX, 2), Some(3));
    // Every thread takes its own.
    let [first, second] = [1, 2]
        .map(|threads| inner::memory_bytes(&manifest, 2, threads + 1) - inner::memory_bytes(&manifest, 2, threads));
    assert!(first == second && first > 0);
    assert!(inner::micro_batch_for(&manifest, two, 3) < Some(2));
}
