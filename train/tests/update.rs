//! Updates: round trips, damage, threads, and a golden hash.
#![allow(clippy::unwrap_used)]

use essaim_kernels::{Exec, Path};
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::{Codec, Manifest, Optimizer};
use essaim_protocol::statements::RefusalReason;
use essaim_train::codec::{EncodeError, HEADER_LEN_BYTES, Update, UpdateFormat, UpdateHeader};
use essaim_train::selfcheck::tiny_manifest;

const HEADER: UpdateHeader = UpdateHeader { run: RunId([7; 32]), round: 3, member: MemberId([9; 32]) };

fn exec(threads: usize) -> Exec {
    Exec::new(Path::detect(), threads).unwrap()
}

fn gradient(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 % 10_007) as f32 - 5000.0) * 1e-6 * (1 + i % 3) as f32).collect()
}

fn moments(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 104_729 % 1009) as f32 * 1e-9).collect()
}

fn encoded(format: &UpdateFormat, exec: &Exec) -> Vec<u8> {
    format.encode(exec, &HEADER, &gradient(format.parameters()), &moments(format.moments())).unwrap()
}

#[test]
fn an_update_is_close_to_what_was_encoded() {
    for block in [2, 10, 64, 4096] {
        let manifest = Manifest { codec: Codec::Q4 { block }, ..tiny_manifest(Optimizer::Muon) };
        let format = UpdateFormat::of(&manifest);
        let exec = exec(2);
        let bytes = encoded(&format, &exec);
        assert_eq!(bytes.len(), format.len_bytes());
        let update = Update::open(&exec, &bytes, &format, &HEADER).unwrap();
        let (values, second) = (gradient(format.parameters()), moments(format.moments()));
        let mut back = vec![0.0; values.len()];
        update.accumulate(&exec, 1.0, &mut back);
        for (block, back) in values.chunks(block as usize).zip(back.chunks(block as usize)) {
            let largest = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let errors = block.iter().zip(back).map(|(value, back)| (value - back).abs());
            assert!(errors.fold(0.0, f32::max) <= largest / 13.9, "more than half a code off");
        }
        let square = back.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        assert!((update.norm() / square.sqrt() - 1.0).abs() < 1e-6);
        let mut back = vec![0.0; second.len()];
        update.accumulate_moments(1.0, &mut back);
        assert!(second.iter().zip(&back).all(|(value, back)| (value - back).abs() <= value / 16.0));
    }
}

#[test]
fn no_thread_count_changes_a_bit() {
    // Long enough for several tasks, with a short last block.
    let mut manifest = tiny_manifest(Optimizer::AdamW);
    manifest.model.vocab_size = 3002;
    manifest.codec = Codec::Q4 { block: 22 };
    let format = UpdateFormat::of(&manifest);
    assert!(format.parameters() > 5 * 1024 * 22 && !format.parameters().is_multiple_of(22));
    let bytes = encoded(&format, &exec(1));
    let results = [1, 2, 3].map(|threads| {
        let exec = exec(threads);
        assert!(encoded(&format, &exec) == bytes);
        let update = Update::open(&exec, &bytes, &format, &HEADER).unwrap();
        let mut acc = gradient(format.parameters());
        update.accumulate(&exec, 0.3, &mut acc);
        (acc, update.norm().to_bits())
    });
    assert!(results[0] == results[1] && results[0] == results[2]);
}

#[test]
fn golden_update() {
    let format = UpdateFormat::of(&tiny_manifest(Optimizer::Muon));
    let hash = Hash::of(&encoded(&format, &exec(1))).to_string();
    assert_eq!(hash, GOLDEN);
}

const GOLDEN: &str = "3d53635a53117bf1df378766d33ee3dce54a2140c1ab1e028b296906e2b4b7f1";

#[test]
fn values_that_are_not_finite_are_not_encoded() {
    let format = UpdateFormat::of(&tiny_manifest(Optimizer::Muon));
    let (mut values, mut second) = (gradient(format.parameters()), moments(format.moments()));
    second[0] = f32::INFINITY;
    let error = format.encode(&exec(1), &HEADER, &values, &second).unwrap_err();
    assert_eq!(error, EncodeError::NonFinite { what: "second moments", part: 0 });
    values[130] = f32::NAN;
    let error = format.encode(&exec(2), &HEADER, &values, &second).unwrap_err();
    assert_eq!(error, EncodeError::NonFinite { what: "pseudo-gradient", part: 2 });
}

#[test]
fn every_kind_of_damage_has_its_reason() {
    let format = UpdateFormat::of(&tiny_manifest(Optimizer::Muon));
    let exec = exec(1);
    let bytes = encoded(&format, &exec);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        let error = Update::open(&exec, &bytes, &format, &HEADER).unwrap_err();
        (error.refusal(), error.to_string())
    };
    let malformed = |change: &dyn Fn(&mut Vec<u8>), wanted: &str| {
        let (reason, text) = refused(change);
        assert_eq!(reason, RefusalReason::Malformed);
        assert!(text.contains(wanted), "'{text}' does not say '{wanted}'");
    };
    malformed(&|bytes| bytes.truncate(9), "of 9 bytes");
    malformed(&|bytes| bytes.push(0), "bytes");
    for (at, field) in [(0, "magic"), (8, "version"), (12, "codec"), (20, "run"), (50, "member"), (80, "round")] {
        malformed(&|bytes| bytes[at] ^= 1, field);
    }
    malformed(&|bytes| bytes[90] ^= 1, "number of parameters");
    malformed(&|bytes| bytes[96] ^= 2, "block");
    malformed(&|bytes| bytes[HEADER_LEN_BYTES + 34 + 2] &= 0xf0, "block 1");
    let last = bytes.len() - 1;
    malformed(&|bytes| bytes[last] = 249, "section");
    let section = bytes.len() - format.moments() - 4 * tiny_sections(&format);
    let non_finite = |at: usize, wanted: &str| {
        let (reason, text) = refused(&|bytes| bytes[at..at + 2].copy_from_slice(&[0x80, 0x7f]));
        assert_eq!(reason, RefusalReason::NonFinite, "{text}");
        assert!(text.contains(wanted), "{text}");
    };
    non_finite(HEADER_LEN_BYTES + 34, "block 1");
    non_finite(section + 2, "section 0");
}

/// Sections of the tiny run under Muon: rows and columns of embedding and head, and five norms.
fn tiny_sections(format: &UpdateFormat) -> usize {
    assert_eq!(format.moments(), 2 * (70 + 24) + 5 * 24);
    4 + 5
}

#[test]
fn any_flipped_bit_of_the_body_changes_the_values_or_is_refused() {
    let format = UpdateFormat::of(&tiny_manifest(Optimizer::Muon));
    let exec = exec(1);
    let bytes = encoded(&format, &exec);
    let values = |bytes: &[u8]| {
        let update = Update::open(&exec, bytes, &format, &HEADER).ok()?;
        let (mut values, mut second) = (vec![0.0; format.parameters()], vec![0.0; format.moments()]);
        update.accumulate(&exec, 1.0, &mut values);
        update.accumulate_moments(1.0, &mut second);
        Some((values, second))
    };
    let before = values(&bytes).unwrap();
    for at in (HEADER_LEN_BYTES..bytes.len()).step_by(7) {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(
                values(&damaged).is_none_or(|after| after != before),
                "byte {at}, bit {bit}: two forms of one update"
            );
        }
    }
}
