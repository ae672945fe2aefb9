//! Inner steps on a device give the CPU's bits. The device is the shim: the CUDA kernels, run on this CPU.
#![allow(clippy::unwrap_used)]

use essaim_cuda_shim::{Call, Counts, Options, Order, ShimDriver, WatchedDriver, test_card};
use essaim_kernels::Exec;
use essaim_kernels::cuda::{Device, DeviceError};
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::{Manifest, Optimizer};
use essaim_protocol::statements::Contribution;
use essaim_train::aggregate::next_checkpoint;
use essaim_train::contribute::{ContributeError, Contributed, Progress, Work, contribute};
use essaim_train::device::{DeviceInnerLoop, device_memory_bytes, micro_batch_for, usable_bytes};
use essaim_train::engine::{Engine, StepError};
use essaim_train::inner::InnerLoop;
use essaim_train::model::Operator;
use essaim_train::params::ParamLayout;
use essaim_train::replay::{ReplayError, replay};
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::{self, tiny_manifest, tiny_unit};
use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

const RUN: RunId = RunId([6; 32]);
const MEMBER: MemberId = MemberId([8; 32]);

fn exec() -> Exec {
    Exec::detect(2).unwrap()
}

/// The shim, or the card that `ESSAIM_TEST_DEVICE` names.
fn device(order: Order) -> Device {
    test_card().unwrap_or_else(|| Device::new(ShimDriver::with(Options { order, ..Options::default() }).unwrap()))
}

fn manifest(optimizer: Optimizer, tied: bool) -> Manifest {
    let mut manifest = tiny_manifest(optimizer);
    manifest.model.tied = tied;
    manifest
}

fn context<'a>(exec: &'a Exec, manifest: &'a Manifest) -> RoundContext<'a> {
    RoundContext { exec, manifest, run: RUN, round: 1 }
}

type Units = Result<Vec<u32>, Box<dyn Error + Send + Sync>>;

fn work<'a>(exec: &'a Exec, engine: Engine<'a>, manifest: &'a Manifest, base: &'a Base, micro_batch: u32) -> Work<'a> {
    let (context, steps) = (context(exec, manifest), manifest.inner.steps);
    Work { context, engine, member: MEMBER, base, base_tokens_total: 36, steps, micro_batch }
}

fn done(work: &Work<'_>) -> Result<Contributed, ContributeError> {
    let mut units = |step: u32| -> Units { Ok(tiny_unit(work.context.manifest, step)) };
    contribute(work, &mut units, &mut |_| ControlFlow::Continue(()))
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
    let work = work(exec, Engine::Cpu, manifest, &first, 3);
    let done = done(&work).unwrap();
    let mut fetch = |_: &Contribution| Ok(done.update.clone());
    next_checkpoint(&work.context, &[contribution(&done)], &mut fetch, &mut base).unwrap();
    base
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Every number of every step, and the parameters after each.
#[test]
fn inner_steps_are_the_cpus_bit_for_bit() {
    let exec = exec();
    for (optimizer, tied) in [(Optimizer::Muon, false), (Optimizer::AdamW, true)] {
        let manifest = manifest(optimizer, tied);
        for base in [Base::initial(&exec, &manifest), second_base(&exec, &manifest)] {
            let mut cpu = InnerLoop::new(context(&exec, &manifest), &base, 36, 3);
            let mut on_device =
                DeviceInnerLoop::new(&device(Order::Rotating), context(&exec, &manifest), &base, 36, 2).unwrap();
            for step in 0..3 {
                let tokens = tiny_unit(&manifest, step);
                let (wanted, got) = (cpu.step(&tokens).unwrap(), on_device.step(&tokens).unwrap());
                assert_eq!(got, wanted, "{optimizer:?}, tied {tied}, step {step}");
                assert!(bits(&on_device.params().unwrap()) == bits(cpu.params()), "{optimizer:?}, step {step}");
            }
            assert_eq!(on_device.steps(), cpu.steps());
            assert!(on_device.finish().unwrap() == cpu.finish(), "{optimizer:?}, tied {tied}");
        }
    }
}

/// Each operator is waited for once that is asked for, and what was timed is told once.
#[test]
fn times_of_operators_are_kept_and_change_nothing() {
    let exec = exec();
    for optimizer in [Optimizer::Muon, Optimizer::AdamW] {
        let manifest = manifest(optimizer, true);
        let base = Base::initial(&exec, &manifest);
        let mut cpu = InnerLoop::new(context(&exec, &manifest), &base, 36, 3);
        let mut timed =
            DeviceInnerLoop::new(&device(Order::Rotating), context(&exec, &manifest), &base, 36, 2).unwrap();
        for step in 0..3 {
            let tokens = tiny_unit(&manifest, step);
            assert_eq!(timed.step(&tokens).unwrap(), cpu.step(&tokens).unwrap(), "{optimizer:?}, step {step}");
            let times = timed.take_times();
            let spent =
                Operator::all().map(|operator| times.model.spent(operator)).chain([times.clip, times.optimizer]);
            match step {
                0 => assert!(spent.into_iter().all(|spent| spent == Duration::ZERO), "{times:?}"),
                _ => assert!(spent.into_iter().all(|spent| spent > Duration::ZERO), "{optimizer:?}: {times:?}"),
            }
            assert_eq!(timed.take_times().model.total(), Duration::ZERO);
            timed.start_times();
        }
        assert!(bits(&timed.params().unwrap()) == bits(cpu.params()), "{optimizer:?}");
    }
}

#[test]
fn a_contribution_is_the_cpus_in_whatever_micro_batches_and_order_of_threads() {
    let exec = exec();
    for optimizer in [Optimizer::Muon, Optimizer::AdamW] {
        for tied in [false, true] {
            let manifest = manifest(optimizer, tied);
            let base = second_base(&exec, &manifest);
            let wanted = done(&work(&exec, Engine::Cpu, &manifest, &base, 3)).unwrap();
            for (micro_batch, order) in [(1, Order::Forward), (2, Order::Backward), (3, Order::Shuffled(5))] {
                let device = device(order);
                let work = work(&exec, Engine::Device(&device), &manifest, &base, micro_batch);
                assert!(done(&work).unwrap() == wanted, "{optimizer:?}, tied {tied}, micro-batches of {micro_batch}");
                assert!(replay(&work, &mut |step| Ok(tiny_unit(&manifest, step)), &contribution(&wanted)).is_ok());
            }
        }
    }
}

/// Widths that are no multiple of four, one head, a vocabulary that takes several tiles of no round size.
#[test]
fn a_model_of_odd_sizes() {
    let exec = exec();
    let mut manifest = tiny_manifest(Optimizer::Muon);
    let model = &mut manifest.model;
    (model.vocab_size, model.d_model, model.heads, model.kv_heads) = (131, 18, 3, 1);
    (model.ffn, model.layers, model.context) = (35, 1, 9);
    manifest.check().unwrap();
    let base = Base::initial(&exec, &manifest);
    let wanted = done(&work(&exec, Engine::Cpu, &manifest, &base, 3)).unwrap();
    let device = device(Order::Rotating);
    assert!(done(&work(&exec, Engine::Device(&device), &manifest, &base, 2)).unwrap() == wanted);
}

#[test]
fn the_self_check_comes_to_the_golden_hashes() {
    let device = device(Order::Rotating);
    assert_eq!(selfcheck::self_check_on(&exec(), Engine::Device(&device)), Ok(()));
}

#[test]
fn steps_that_are_not_finite_are_skipped_as_on_the_cpu() {
    let exec = exec();
    for optimizer in [Optimizer::Muon, Optimizer::AdamW] {
        let manifest = tiny_manifest(optimizer);
        let mut base = Base::initial(&exec, &manifest);
        // As in `contribute.rs`: token 69's logit is out of range wherever token 69 is read.
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
        let mut cpu = InnerLoop::new(context(&exec, &manifest), &base, 0, 3);
        let mut on_device =
            DeviceInnerLoop::new(&device(Order::Rotating), context(&exec, &manifest), &base, 0, 3).unwrap();
        for step in 0..4 {
            let before = bits(&on_device.params().unwrap());
            let (wanted, got) = (cpu.step(&unit(step)).unwrap(), on_device.step(&unit(step)).unwrap());
            assert_eq!(got.skipped, step.is_multiple_of(2));
            assert_eq!((got.skipped, got.lr.to_bits()), (wanted.skipped, wanted.lr.to_bits()));
            assert_eq!(got.loss.is_finite(), wanted.loss.is_finite());
            let after = bits(&on_device.params().unwrap());
            assert_eq!(after == before, got.skipped, "nothing changes exactly when the step is skipped");
            assert!(after == bits(cpu.params()));
        }
        assert!(on_device.finish().unwrap() == cpu.finish());
    }
}

#[test]
fn a_batch_that_is_none_of_the_runs_changes_nothing() {
    let (exec, manifest) = (exec(), tiny_manifest(Optimizer::Muon));
    let base = Base::initial(&exec, &manifest);
    let mut on_device = DeviceInnerLoop::new(&device(Order::Rotating), context(&exec, &manifest), &base, 0, 3).unwrap();
    assert!(matches!(on_device.step(&[0; 5]), Err(StepError::Batch(_))));
    let unknown: Vec<u32> = tiny_unit(&manifest, 0).iter().map(|token| token + 60).collect();
    assert!(matches!(on_device.step(&unknown), Err(StepError::Batch(_))));
    assert_eq!(on_device.steps(), (0, 0));
    assert!(on_device.params().unwrap() == base.params);
}

fn watched() -> (Arc<WatchedDriver>, Arc<ShimDriver>, Device) {
    let shim = ShimDriver::open().unwrap();
    let watched = WatchedDriver::new(shim.clone());
    (watched.clone(), shim, Device::new(watched))
}

#[test]
fn memory_is_taken_once_and_is_what_the_formula_says() {
    let exec = exec();
    for (optimizer, tied) in [(Optimizer::Muon, false), (Optimizer::Muon, true), (Optimizer::AdamW, false)] {
        let manifest = manifest(optimizer, tied);
        let base = Base::initial(&exec, &manifest);
        for micro_batch in [1, 2, 3] {
            let (watched, shim, device) = watched();
            let mut inner = DeviceInnerLoop::new(&device, context(&exec, &manifest), &base, 0, micro_batch).unwrap();
            assert_eq!(shim.used_bytes(), device_memory_bytes(&manifest, micro_batch), "{optimizer:?}, tied {tied}");
            inner.step(&tiny_unit(&manifest, 0)).unwrap();
            watched.take_counts();
            inner.step(&tiny_unit(&manifest, 1)).unwrap();
            let counts = watched.take_counts();
            let transfers = Counts { uploads: 1, downloads: 1, launches: counts.launches, ..Counts::default() };
            assert_eq!(counts, transfers, "tokens in, losses and norm out, and nothing else");
            drop(inner);
            assert_eq!(shim.used_bytes(), 0);
        }
    }
}

#[test]
fn the_largest_micro_batch_that_fits_is_taken() {
    let manifest = tiny_manifest(Optimizer::Muon);
    let [one, two, three] = [1, 2, 3].map(|size| device_memory_bytes(&manifest, size));
    assert!(one < two && two < three);
    assert_eq!(micro_batch_for(&manifest, one - 1), None);
    assert_eq!(micro_batch_for(&manifest, two), Some(2));
    assert_eq!(micro_batch_for(&manifest, u64::MAX), Some(3));
    let small = ShimDriver::with(Options { memory_bytes: 1 << 28, ..Options::default() }).unwrap();
    assert_eq!(usable_bytes(&Device::new(small)), 0);
}

/// A device that fails at any call, early or late: an error that is nobody's fault, all memory given back, and the next round works.
#[test]
fn a_device_that_fails_loses_the_round_and_nothing_else() {
    let (exec, manifest) = (exec(), tiny_manifest(Optimizer::Muon));
    let base = Base::initial(&exec, &manifest);
    let wanted = done(&work(&exec, Engine::Cpu, &manifest, &base, 3)).unwrap();
    let (watched, shim, device) = watched();
    let on_device = work(&exec, Engine::Device(&device), &manifest, &base, 3);
    assert!(done(&on_device).unwrap() == wanted);
    let counts = watched.take_counts();
    let fault = DeviceError::Failed { operation: "a test", code: 719, reason: "told to fail".into() };
    let cases = [
        (Call::Alloc, 1),
        (Call::Alloc, counts.allocs),
        (Call::Upload, 1),
        (Call::Upload, counts.uploads),
        (Call::Launch, 1),
        (Call::Launch, counts.launches / 2),
        (Call::Launch, counts.launches),
        (Call::Download, 1),
        (Call::Download, counts.downloads),
    ];
    for (call, number) in cases {
        watched.fail_at(call, number, fault.clone());
        match done(&on_device) {
            Err(ContributeError::Device(error)) => assert_eq!(error, fault, "{call:?} {number}"),
            other => panic!("{call:?} {number}: {other:?}"),
        }
        assert_eq!(shim.used_bytes(), 0, "{call:?} {number}");
        watched.repair();
    }
    assert!(done(&on_device).unwrap() == wanted, "the device is good again");

    watched.fail_at(Call::Launch, 7, fault);
    let mut units = |step: u32| -> Units { Ok(tiny_unit(&manifest, step)) };
    let error = replay(&on_device, &mut units, &contribution(&wanted)).unwrap_err();
    assert!(matches!(error, ReplayError::Undone { .. }) && !error.contradicts(), "{error}");
    assert!(error.to_string().contains("told to fail"), "{error}");
}

#[test]
fn a_device_without_room_says_so_with_numbers() {
    let (exec, manifest) = (exec(), tiny_manifest(Optimizer::Muon));
    let base = Base::initial(&exec, &manifest);
    let memory_bytes = device_memory_bytes(&manifest, 3) - 1;
    let device = Device::new(ShimDriver::with(Options { memory_bytes, ..Options::default() }).unwrap());
    match DeviceInnerLoop::new(&device, context(&exec, &manifest), &base, 0, 3) {
        Err(DeviceError::OutOfMemory { free_bytes, total_bytes, .. }) => {
            assert!(free_bytes < total_bytes && total_bytes == memory_bytes);
        }
        other => panic!("{other:?}"),
    }
    assert!(DeviceInnerLoop::new(&device, context(&exec, &manifest), &base, 0, 2).is_ok());
}

#[test]
fn progress_is_told_as_on_the_cpu() {
    let (exec, manifest) = (exec(), tiny_manifest(Optimizer::AdamW));
    let base = Base::initial(&exec, &manifest);
    let device = device(Order::Rotating);
    let told = |engine| {
        let mut told: Vec<Progress> = Vec::new();
        let mut units = |step: u32| -> Units { Ok(tiny_unit(&manifest, step)) };
        let mut watch = |progress: &Progress| {
            told.push(*progress);
            if progress.steps == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let work = work(&exec, engine, &manifest, &base, 3);
        (contribute(&work, &mut units, &mut watch).unwrap(), told)
    };
    assert!(told(Engine::Device(&device)) == told(Engine::Cpu));
}
