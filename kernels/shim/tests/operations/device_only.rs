//! What only devices have: scalars that stay on the device, flags, views at odd addresses, ids that nobody checked.

use super::common::{Numbers, assert_same, bits};
use super::on_device::read;
use super::{checked_shim, shim};
use essaim_kernels::cuda::{Buffer, Device, DeviceError, ops};
use essaim_kernels::ops::{self as cpu, AdamwScalars, AttentionShape, NesterovScalars};
use essaim_kernels::{Exec, Layout, Path, gemm, reduce};

fn exec() -> Exec {
    Exec::new(Path::Scalar, 1).unwrap()
}

fn on(device: &Device, values: &[f32]) -> Buffer<f32> {
    device.buffer_from(values).unwrap()
}

#[test]
fn copies_and_fills() -> Result<(), DeviceError> {
    let device = checked_shim();
    for len in [0, 1, 5, 1024, 1030] {
        let values = Numbers(1).wild(len);
        let (x, mut y) = (on(&device, &values), device.buffer::<f32>(len)?);
        ops::copy(&device, x.view(..), y.view_mut(..))?;
        assert_eq!(read(&y)?.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), raw(&values));
        ops::fill(&device, y.view_mut(..), -0.0)?;
        assert_eq!(raw(&read(&y)?), vec![0x8000_0000; len]);
    }
    Ok(())
}

fn raw(x: &[f32]) -> Vec<u32> {
    x.iter().map(|value| value.to_bits()).collect()
}

/// Two operations in one give what the two give.
#[test]
fn joined_operations() -> Result<(), DeviceError> {
    let device = checked_shim();
    let [x, y] = [1, 2].map(|seed| Numbers(seed).wild(777));
    let (dx, dy, mut out) = (on(&device, &x), on(&device, &y), device.buffer(777)?);
    ops::scaled_sum(&device, dx.view(..), 0.3, dy.view(..), out.view_mut(..))?;
    let mut want = x.clone();
    cpu::scaled_add(&exec(), &mut want, 0.3, &y);
    assert_same(&read(&out)?, &want, "scaled_sum");
    ops::scale_into(&device, dx.view(..), -1.7, out.view_mut(..))?;
    let mut want = x.clone();
    cpu::scale(&exec(), &mut want, -1.7);
    assert_same(&read(&out)?, &want, "scale_into");
    Ok(())
}

#[test]
fn a_factor_of_one_changes_no_bit() -> Result<(), DeviceError> {
    let device = checked_shim();
    let mut values = Numbers(1).wild(3000);
    values.extend([f32::from_bits(0xffd0_beef), f32::from_bits(0x7fa0_0001)]);
    let (mut x, mut factor) = (on(&device, &values), on(&device, &[1.0]));
    ops::scale_by(&device, x.view_mut(..), factor.view(..))?;
    assert_eq!(raw(&read(&x)?), raw(&values));
    factor.upload(&[0.37])?;
    ops::scale_by(&device, x.view_mut(..), factor.view(..))?;
    cpu::scale(&exec(), &mut values, 0.37);
    assert_same(&read(&x)?, &values, "scale_by");
    Ok(())
}

/// A flag of 0 stops an update; any other lets it happen.
#[test]
fn flags_stop_updates() -> Result<(), DeviceError> {
    let device = checked_shim();
    let [p, g, m, v] = [1, 2, 3, 4].map(|seed| Numbers(seed).wild(1500));
    let adamw =
        AdamwScalars { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 1.0, bias2: 0.5 };
    let nesterov = NesterovScalars { lr: 0.7, mu: 0.9 };
    for flag_value in [0, 1, 7] {
        let flag = device.buffer_from(&[flag_value])?;
        let [mut dp, dg, mut dm, mut dv] = [&p, &g, &m, &v].map(|values| on(&device, values));
        let (mut wp, mut wm, mut wv) = (p.clone(), m.clone(), v.clone());
        let (go, grads) = (flag.view(..), dg.view(..));
        ops::adamw_update_if(&device, go, dp.view_mut(..), grads, dm.view_mut(..), dv.view_mut(..), &adamw)?;
        ops::nesterov_update_if(&device, go, dp.view_mut(..), grads, dm.view_mut(..), &nesterov)?;
        ops::axpby_if(&device, go, dv.view_mut(..), 0.3, -1.7, grads)?;
        if flag_value != 0 {
            cpu::adamw_update(&exec(), &mut wp, &g, &mut wm, &mut wv, &adamw);
            cpu::nesterov_update(&exec(), &mut wp, &g, &mut wm, &nesterov);
            cpu::axpby(&exec(), &mut wv, 0.3, -1.7, &g);
        }
        for (got, want) in [(&dp, &wp), (&dm, &wm), (&dv, &wv)] {
            let got = read(got)?;
            assert_same(&got, want, &format!("flag {flag_value}"));
            assert!(flag_value != 0 || raw(&got) == raw(want), "not even a NaN's payload");
        }
    }
    Ok(())
}

/// As the inner loop limits a gradient: squares one after the other, then the root.
#[test]
fn clip_factors() -> Result<(), DeviceError> {
    let device = checked_shim();
    for (count, max_norm) in [(0, 1.0), (1, 1.0), (5, 0.1), (255, 3.0), (256, 1e9), (600, 2.0)] {
        let squares: Vec<f32> = Numbers(3).vec(count, 1.0).iter().map(|x| x * x).collect();
        let mut out = device.buffer(2)?;
        ops::clip_factor(&device, on(&device, &squares).view(..), max_norm, out.view_mut(..))?;
        let norm = squares.iter().fold(0.0f32, |sum, square| sum + square).sqrt();
        let want = [norm, if norm > max_norm { max_norm / norm } else { 1.0 }];
        assert_eq!(raw(&read(&out)?), raw(&want), "{count} squares");
    }
    for square in [f32::INFINITY, f32::NAN] {
        let mut out = device.buffer(2)?;
        ops::clip_factor(&device, on(&device, &[1.0, square]).view(..), 1.0, out.view_mut(..))?;
        let out = read(&out)?;
        assert!(!out[0].is_finite() && (out[1] == 0.0 || out[1] == 1.0), "{out:?}");
    }
    let (square, mut out) = (on(&device, &[2.5]), device.buffer(1)?);
    ops::inverse_norm(&device, square.view(..), 1e-7, out.view_mut(..))?;
    assert_eq!(raw(&read(&out)?), raw(&[1.0 / (2.5f32.sqrt() + 1e-7)]));
    Ok(())
}

#[test]
fn one_value_that_is_not_finite_is_found() -> Result<(), DeviceError> {
    let device = checked_shim();
    let check = |values: &[f32], norm: f32| -> Result<u32, DeviceError> {
        let (mut flag, mut got) = (device.buffer::<u32>(1)?, [9]);
        ops::all_finite(&device, on(&device, values).view(..), on(&device, &[norm]).view(..), flag.view_mut(..))?;
        flag.download(&mut got)?;
        Ok(got[0])
    };
    let fine = Numbers(1).vec(1300, 1e30);
    assert_eq!(check(&[], 0.0)?, 1);
    assert_eq!(check(&fine, f32::MAX)?, 1);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(check(&fine, bad)?, 0);
        for at in [0, 511, 512, 1299] {
            let mut values = fine.clone();
            values[at] = bad;
            assert_eq!(check(&values, 1.0)?, 0, "at {at}");
        }
    }
    Ok(())
}

/// Many tensors at once give what each gives alone.
#[test]
fn squares_of_many_tensors() -> Result<(), DeviceError> {
    let device = checked_shim();
    let lens = [1, 0, 31, 4096, 8 * 4096, 8 * 4096 + 1, 70_000, 5];
    let mut ranges = Vec::new();
    let mut end = 3;
    for len in lens {
        ranges.push(end..end + len);
        end += len + len % 3;
    }
    let x = Numbers(4).vec(end, 3.0);
    let mut plan = ops::SquaresPlan::new(&device, &ranges)?;
    let mut out = device.buffer(lens.len())?;
    ops::sum_squares_each(&device, &mut plan, on(&device, &x).view(..), out.view_mut(..))?;
    let want: Vec<f32> = ranges.into_iter().map(|range| reduce::sum_squares(&exec(), &x[range])).collect();
    assert_eq!(raw(&read(&out)?), raw(&want));
    // One group of eight blocks has one partial sum.
    assert_eq!(ops::SquaresPlan::len(lens.into_iter()), 1 + 8 + 4 * (1 + 1 + 1 + 1 + 2 + 3 + 1));
    ops::sum_squares_each(
        &device,
        &mut ops::SquaresPlan::new(&device, &[])?,
        out.view(..),
        device.buffer(0)?.view_mut(..),
    )
}

#[test]
fn dots_of_rows() -> Result<(), DeviceError> {
    let device = checked_shim();
    for (rows, cols) in [(1, 1), (9, 64), (17, 33), (3, 5000), (4, 0)] {
        let [x, y] = [1, 2].map(|seed| Numbers(seed).wild(rows * cols));
        let mut out = device.buffer(rows)?;
        ops::row_dots(&device, on(&device, &x).view(..), on(&device, &y).view(..), out.view_mut(..))?;
        let want: Vec<f32> =
            (0..rows).map(|row| reduce::dot(&exec(), &x[row * cols..][..cols], &y[row * cols..][..cols])).collect();
        assert_same(&read(&out)?, &want, &format!("{rows} rows of {cols}"));
    }
    Ok(())
}

/// The factored second moments of `essaim-train`.
#[test]
fn means_and_spans() -> Result<(), DeviceError> {
    let mean = |values: &mut dyn Iterator<Item = f32>, count: usize| {
        (values.fold(0.0f64, |sum, value| sum + f64::from(value)) / count as f64) as f32
    };
    let device = checked_shim();
    for (rows, cols) in [(1, 1), (33, 64), (65, 65), (31, 200), (300, 5)] {
        let x: Vec<f32> = Numbers(1).vec(rows * cols, 1.0).iter().map(|x| x * x).collect();
        let (dx, mut of_rows, mut of_cols) = (on(&device, &x), device.buffer(rows)?, device.buffer(cols)?);
        ops::row_means(&device, dx.view(..), of_rows.view_mut(..))?;
        ops::col_means(&device, dx.view(..), of_cols.view_mut(..))?;
        let want_rows: Vec<f32> = x.chunks_exact(cols).map(|row| mean(&mut row.iter().copied(), cols)).collect();
        let want_cols: Vec<f32> =
            (0..cols).map(|col| mean(&mut x[col..].iter().step_by(cols).copied(), rows)).collect();
        assert_eq!(raw(&read(&of_rows)?), raw(&want_rows));
        assert_eq!(raw(&read(&of_cols)?), raw(&want_cols));

        let (mut of_all, mut full) = (device.buffer(1)?, device.buffer(rows * cols)?);
        ops::row_means(&device, of_rows.view(..), of_all.view_mut(..))?;
        ops::span(&device, of_rows.view(..), of_cols.view(..), of_all.view(..), full.view_mut(..))?;
        let of_all = mean(&mut want_rows.iter().copied(), rows);
        let want: Vec<f32> =
            want_rows.iter().flat_map(|row| want_cols.iter().map(move |col| row / of_all * col)).collect();
        assert_eq!(raw(&read(&full)?), raw(&want));
        let zero = on(&device, &[0.0]);
        ops::span(&device, of_rows.view(..), of_cols.view(..), zero.view(..), full.view_mut(..))?;
        assert_eq!(raw(&read(&full)?), vec![0; rows * cols]);
    }
    Ok(())
}

/// A copy of `values` that begins `offset` elements into a buffer.
fn shifted(device: &Device, values: &[f32], offset: usize) -> Buffer<f32> {
    on(device, &[vec![f32::NAN; offset].as_slice(), values].concat())
}

/// Views need not begin where four elements can be read at once: alone, or all together.
#[test]
fn views_at_odd_addresses() -> Result<(), DeviceError> {
    let device = checked_shim();
    let (m, n, k) = (64, 68, 20);
    let [a, b, c] = [(1, m * k), (2, k * n), (3, m * n)].map(|(seed, len)| Numbers(seed).vec(len, 1.0));
    let mut want = c.clone();
    gemm(&exec(), Layout::NN, m, n, k, &a, k, &b, n, &mut want, n, true);
    let [x, y] = [4, 5].map(|seed| Numbers(seed).wild(1029));
    let mut want_sum = x.clone();
    cpu::add_assign(&exec(), &mut want_sum, &y);
    for offsets in [[1, 0, 0], [0, 2, 0], [0, 0, 3], [1, 1, 1]] {
        let [da, db, mut dc] = [(&a, 0), (&b, 1), (&c, 2)].map(|(values, i)| shifted(&device, values, offsets[i]));
        let (va, vb) = (da.view(offsets[0]..), db.view(offsets[1]..));
        ops::gemm(&device, Layout::NN, m, n, k, va, k, vb, n, dc.view_mut(offsets[2]..), n, true)?;
        assert_same(&read(&dc)?[offsets[2]..], &want, &format!("product with operands at {offsets:?}"));

        let (dx, dy, mut out) =
            (shifted(&device, &x, offsets[0]), shifted(&device, &y, offsets[1]), shifted(&device, &x, offsets[2]));
        ops::add(&device, dx.view(offsets[0]..), dy.view(offsets[1]..), out.view_mut(offsets[2]..))?;
        assert_same(&read(&out)?[offsets[2]..], &want_sum, &format!("sum with operands at {offsets:?}"));
    }
    Ok(())
}

#[test]
fn attention_at_odd_addresses() -> Result<(), DeviceError> {
    let device = shim();
    let shape = AttentionShape { batch: 1, seq: 66, heads: 2, kv_heads: 1, head_dim: 36 };
    let q = Numbers(1).vec(shape.q_len(), 2.0);
    let [k, v] = [2, 3].map(|seed| Numbers(seed).vec(shape.kv_len(), 2.0));
    let (mut want, mut want_stats) = (q.clone(), vec![0.0; shape.stats_len()]);
    cpu::attention_forward(&exec(), shape, &q, &k, &v, &mut want, &mut want_stats);
    for offset in [0, 1] {
        let [dq, dk, dv] = [&q, &k, &v].map(|values| shifted(&device, values, offset));
        let (mut out, mut stats) = (device.buffer(shape.q_len())?, device.buffer(shape.stats_len())?);
        let [dq, dk, dv] = [&dq, &dk, &dv].map(|buffer| buffer.view(offset..));
        ops::attention_forward(&device, shape, dq, dk, dv, out.view_mut(..), stats.view_mut(..))?;
        assert_same(&read(&out)?, &want, "out");
        assert_same(&read(&stats)?, &want_stats, "stats");
    }
    Ok(())
}

/// Only the device sees the ids: a wrong one gives NaN, and neither reads nor writes beyond the table.
#[test]
fn ids_outside_the_vocabulary() -> Result<(), DeviceError> {
    let device = checked_shim();
    let ids = device.buffer_from(&[1u32, 4, u32::MAX, 1])?;
    let (table, mut out) = (on(&device, &[1.0; 12]), device.buffer(12)?);
    ops::embedding_forward(&device, ids.view(..), table.view(..), out.view_mut(..))?;
    let nan = f32::NAN;
    assert_eq!(bits(&read(&out)?), bits(&[1.0, 1.0, 1.0, nan, nan, nan, nan, nan, nan, 1.0, 1.0, 1.0]));
    let (dout, mut dtable) = (on(&device, &[0.5; 12]), on(&device, &[0.0; 12]));
    let mut scratch = device.buffer(ops::embedding_scratch_len(4))?;
    ops::embedding_backward(&device, ids.view(..), dout.view(..), dtable.view_mut(..), scratch.view_mut(..))?;
    assert_eq!(read(&dtable)?, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let (mut logits, mut losses) = (on(&device, &[0.0; 16]), device.buffer(4)?);
    ops::cross_entropy_forward_backward(&device, logits.view_mut(..), ids.view(..), losses.view_mut(..), 1.0)?;
    let losses = read(&losses)?;
    assert!(losses[0].is_finite() && losses[1].is_nan() && losses[2].is_nan() && losses[3].is_finite(), "{losses:?}");
    Ok(())
}

/// Nothing to do is no launch, and no failure.
#[test]
fn empty_views() -> Result<(), DeviceError> {
    let device = checked_shim();
    let (mut x, ids) = (device.buffer::<f32>(0)?, device.buffer::<u32>(0)?);
    let mut scratch = device.buffer::<u32>(1)?;
    let mut losses = device.buffer::<f32>(0)?;
    ops::fill(&device, x.view_mut(..), 1.0)?;
    ops::embedding_backward(&device, ids.view(..), losses.view(..), x.view_mut(..), scratch.view_mut(..))?;
    ops::cross_entropy_losses(&device, x.view(..), ids.view(..), losses.view_mut(..))?;
    ops::rmsnorm_forward(&device, x.view(..), x.view(..), 0.0, losses.view_mut(..), device.buffer(3)?.view_mut(..))?;
    let shape = AttentionShape { batch: 1, seq: 0, heads: 2, kv_heads: 1, head_dim: 4 };
    ops::attention_forward(
        &device,
        shape,
        x.view(..),
        x.view(..),
        x.view(..),
        losses.view_mut(..),
        device.buffer(0)?.view_mut(..),
    )
}

#[test]
#[should_panic(expected = "lengths differ")]
fn lengths_are_checked() {
    let device = shim();
    let (mut y, x) = (on(&device, &[0.0; 3]), on(&device, &[0.0; 4]));
    ops::add_assign(&device, y.view_mut(..), x.view(..)).unwrap();
}
