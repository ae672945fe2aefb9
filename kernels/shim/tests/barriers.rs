//! Takes away each barrier of the kernels in turn, and sees that a checked device finds it missing. So every barrier is needed, and a
//! missing one would not pass these tests.
#![allow(clippy::unwrap_used)]

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use essaim_cuda_shim::{Options, Order, ShimDriver};
use essaim_kernels::Layout;
use essaim_kernels::cuda::{Buffer, Device, DeviceError, Launch, ops};
use essaim_kernels::ops::AttentionShape;

type Outcome = Result<(), DeviceError>;

/// Values in no order: a maximum of them is found by many threads in turn.
fn values(device: &Device, len: usize) -> Result<Buffer<f32>, DeviceError> {
    device.buffer_from(&(0..len).map(|i| (i * 7919 % 1009) as f32 / 100.0 - 5.0).collect::<Vec<f32>>())
}

fn attention(device: &Device) -> Outcome {
    // Two tiles of queries and keys, two pieces of a head, two heads of a group.
    let shape = AttentionShape { batch: 1, seq: 70, heads: 2, kv_heads: 1, head_dim: 40 };
    let (q, k, v) = (values(device, shape.q_len())?, values(device, shape.kv_len())?, values(device, shape.kv_len())?);
    let (mut out, mut stats) = (values(device, shape.q_len())?, values(device, shape.stats_len())?);
    ops::attention_forward(device, shape, q.view(..), k.view(..), v.view(..), out.view_mut(..), stats.view_mut(..))?;
    let (mut dq, mut dk, mut dv) = (values(device, q.len())?, values(device, k.len())?, values(device, v.len())?);
    let mut scratch = device.buffer::<f32>(ops::attention_scratch_len(&shape))?;
    let (vq, vk, vv, vo, vs) = (q.view(..), k.view(..), v.view(..), out.view(..), stats.view(..));
    let (gq, gk, gv) = (dq.view_mut(..), dk.view_mut(..), dv.view_mut(..));
    ops::attention_backward(device, shape, vq, vk, vv, vo, vs, vq, gq, gk, gv, scratch.view_mut(..))
}

fn products(device: &Device) -> Outcome {
    for (m, n, k) in [(5, 6, 40), (8, 8, 3)] {
        let (a, b, mut c) = (values(device, m * k)?, values(device, n * k)?, values(device, m * n)?);
        ops::gemm(device, Layout::NT, m, n, k, a.view(..), k, b.view(..), k, c.view_mut(..), n, false)?;
    }
    Ok(())
}

fn losses(device: &Device) -> Outcome {
    // More blocks of 4096 than warps.
    let vocab = 17 * 4096;
    let (mut logits, mut loss) = (values(device, vocab)?, values(device, 1)?);
    let targets = device.buffer_from(&[3u32])?;
    ops::cross_entropy_forward_backward(device, logits.view_mut(..), targets.view(..), loss.view_mut(..), 1.0)
}

fn embeddings(device: &Device) -> Outcome {
    let ids = vec![1u32; 1100];
    let (ids, dout, mut table) = (device.buffer_from(&ids)?, values(device, 2200)?, values(device, 4)?);
    let mut scratch = device.buffer::<u32>(ops::embedding_scratch_len(ids.len()))?;
    ops::embedding_backward(device, ids.view(..), dout.view(..), table.view_mut(..), scratch.view_mut(..))
}

fn norms(device: &Device) -> Outcome {
    for (rows, cols) in [(2, 4200), (140, 3)] {
        let (x, w, rstd) = (values(device, rows * cols)?, values(device, cols)?, values(device, rows)?);
        let (mut dx, mut dw) = (values(device, rows * cols)?, values(device, cols)?);
        let (vx, vw, vr) = (x.view(..), w.view(..), rstd.view(..));
        ops::rmsnorm_backward(device, vx, vw, vr, vx, dx.view_mut(..), false, dw.view_mut(..))?;
    }
    Ok(())
}

fn sums(device: &Device) -> Outcome {
    let x = values(device, 40_000)?;
    let (mut out, mut scratch) = (values(device, 2)?, device.buffer::<f32>(ops::sum_scratch_len(x.len()))?);
    ops::sum(device, x.view(..), out.view_mut(..1), scratch.view_mut(..))?;
    ops::max_abs(device, x.view(..), out.view_mut(..1), scratch.view_mut(..))?;
    // As many partial sums as tens of millions of elements give.
    let partial = values(device, 3000)?;
    let args = [partial.view(..).arg(), 3000u32.into(), out.view_mut(..1).arg()];
    // SAFETY: it reads 3000 elements and writes one.
    unsafe { device.launch(&Launch { kernel: "essaim_sum_tree", grid: [1; 3], block: [512, 1, 1], args: &args })? };
    ops::clip_factor(device, partial.view(..600), 1.0, out.view_mut(..))?;
    let mut flag = device.buffer::<u32>(1)?;
    let mut broken = values(device, 3000)?;
    device.upload(broken.view_mut(1000..1001), &[f32::NAN])?;
    device.upload(broken.view_mut(2001..2002), &[f32::INFINITY])?;
    ops::all_finite(device, broken.view(..), x.view(..1), flag.view_mut(..))
}

fn means(device: &Device) -> Outcome {
    let (x, mut rows) = (values(device, 4 * 130)?, values(device, 4)?);
    ops::row_means(device, x.view(..), rows.view_mut(..))
}

/// The files whose barriers a case reaches, and the case.
type Case = (&'static str, fn(&Device) -> Outcome);

const CASES: [Case; 11] = [
    ("attention", attention),
    ("attention_forward", attention),
    ("attention_backward", attention),
    ("gemm", products),
    ("loss", losses),
    ("embedding", embeddings),
    ("columns", norms),
    ("reduce", sums),
    ("reduce", norms),
    ("reduce", means),
    ("reduce", losses),
];

/// Every `__syncthreads()` of the kernels: the stem of its file, the file, the line.
fn barriers() -> Vec<(String, String, u32)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh") {
            continue;
        }
        let name = |part: Option<&std::ffi::OsStr>| part.unwrap().to_str().unwrap().to_owned();
        for (index, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.split("//").next().unwrap().contains("__syncthreads()") {
                found.push((name(path.file_stem()), name(path.file_name()), index as u32 + 1));
            }
        }
    }
    found
}

fn checked(without_barrier: Option<(&'static std::ffi::CStr, u32)>) -> Device {
    let options = Options { order: Order::Forward, checked: true, without_barrier, ..Options::default() };
    let driver: Arc<ShimDriver> = ShimDriver::with(options).unwrap();
    Device::new(driver)
}

#[test]
fn all_is_well_with_the_barriers_in_place() {
    for (family, case) in CASES {
        assert_eq!(case(&checked(None)), Ok(()), "{family}");
    }
}

#[test]
fn no_barrier_can_be_left_out() {
    let barriers = barriers();
    assert!(barriers.len() > 20, "only {} barriers found", barriers.len());
    let mut unseen = Vec::new();
    for (family, file, line) in barriers {
        let name: &'static std::ffi::CStr = Box::leak(CString::new(file.clone()).unwrap().into_boxed_c_str());
        let cases = CASES.iter().filter(|(of, _)| *of == family);
        let mut outcomes = cases.map(|(_, case)| case(&checked(Some((name, line)))));
        let is_race = |outcome: Outcome| matches!(outcome, Err(DeviceError::Failed { code: 700, .. }));
        if !outcomes.any(is_race) {
            unseen.push(format!("{file}:{line}"));
        }
    }
    assert!(unseen.is_empty(), "nothing goes wrong without {unseen:?}");
}
