//! Reading an update: every byte is checked before any is used.

use super::q4::{self, BlockFault};
use super::{HEADER_LEN_BYTES, TASK_BLOCKS, UpdateFormat, UpdateHeader, byte_float};
use essaim_kernels::Exec;
use essaim_protocol::statements::RefusalReason;
use std::sync::Mutex;

/// What is wrong with an update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Not as long as every update of the run is.
    #[error("an update of {got} bytes, every update of this run has {expected}")]
    Length {
        /// Its length, bytes.
        got: usize,
        /// The length of every update of the run, bytes.
        expected: usize,
    },
    /// The header is not the one that this member, round and run have.
    #[error("the update's header has another {field}")]
    Header {
        /// Which field.
        field: &'static str,
    },
    /// A scale is infinite or not a number.
    #[error("the update's {what} {part} is not finite")]
    NonFinite {
        /// `block` or `section`.
        what: &'static str,
        /// Which, from 0.
        part: usize,
    },
    /// Bits that no encoder writes.
    #[error("the update's {what} {part} has bits that no encoder writes")]
    NotCanonical {
        /// `block` or `section`.
        what: &'static str,
        /// Which, from 0.
        part: usize,
    },
}

impl UpdateError {
    /// The reason that a record gives for refusing such an update.
    pub fn refusal(&self) -> RefusalReason {
        match self {
            UpdateError::NonFinite { .. } => RefusalReason::NonFinite,
            _ => RefusalReason::Malformed,
        }
    }
}

/// An update whose every byte was checked.
#[derive(Debug)]
pub struct Update<'a> {
    format: &'a UpdateFormat,
    blocks: &'a [u8],
    sections: &'a [u8],
    norm: f64,
}

impl<'a> Update<'a> {
    /// Checks `bytes` as the update that `header` names.
    ///
    /// # Errors
    /// [`UpdateError`]: the first thing that is wrong.
    ///
    /// # Panics
    /// When this thread fails the known-answer test.
    pub fn open(
        exec: &Exec,
        bytes: &'a [u8],
        format: &'a UpdateFormat,
        header: &UpdateHeader,
    ) -> Result<Update<'a>, UpdateError> {
        let expected = format.len_bytes();
        if bytes.len() != expected {
            return Err(UpdateError::Length { got: bytes.len(), expected });
        }
        let (head, body) = bytes.split_at(HEADER_LEN_BYTES);
        check_header(head, &format.header(header))?;
        let (blocks, sections) = body.split_at(format.blocks_len_bytes());
        let norm = exec.install(|| check_blocks(exec, format, blocks))?;
        check_sections(format, sections)?;
        Ok(Update { format, blocks, sections, norm })
    }

    /// The Euclidean norm of the decompressed pseudo-gradient, in float64: the exact squares of each block are added in
    /// order within 1024 blocks, then these sums in order.
    pub fn norm(&self) -> f64 {
        self.norm
    }

    /// `acc = acc + weight * (scale * q)` for every parameter: each operation rounded once to float32.
    ///
    /// # Panics
    /// When `acc` is not `[parameters]`.
    pub fn accumulate(&self, exec: &Exec, weight: f32, acc: &mut [f32]) {
        assert_eq!(acc.len(), self.format.parameters, "an accumulator of another model");
        let block = self.format.block;
        let block_len_bytes = q4::block_len_bytes(block);
        exec.for_each_chunk(acc, TASK_BLOCKS * block, |start, chunk| {
            let blocks = self.blocks[start / block * block_len_bytes..].chunks(block_len_bytes);
            chunk.chunks_mut(block).zip(blocks).for_each(|(acc, bytes)| q4::accumulate_block(bytes, weight, acc));
        });
    }

    /// `acc = acc + weight * moment` for every second moment: each operation rounded once to float32.
    ///
    /// # Panics
    /// When `acc` is not `[moments]`.
    pub fn accumulate_moments(&self, weight: f32, acc: &mut [f32]) {
        assert_eq!(acc.len(), self.format.moments(), "second moments of another model");
        let (mut acc, mut bytes) = (acc, self.sections);
        for &len in &self.format.sections {
            let (values, later) = acc.split_at_mut(len);
            let (section, rest) = bytes.split_at(4 + len);
            let (scale, codes) = scale_and_codes(section);
            values.iter_mut().zip(codes).for_each(|(acc, &code)| *acc += weight * byte_float::decode(code, scale));
            (acc, bytes) = (later, rest);
        }
    }
}

fn check_header(got: &[u8], expected: &[u8; HEADER_LEN_BYTES]) -> Result<(), UpdateError> {
    let fields = [
        ("magic", 0..8),
        ("version", 8..12),
        ("codec", 12..16),
        ("run", 16..48),
        ("member", 48..80),
        ("round", 80..88),
        ("number of parameters", 88..96),
        ("block", 96..100),
        ("number of second moments", 100..104),
    ];
    match fields.into_iter().find(|(_, range)| got[range.clone()] != expected[range.clone()]) {
        Some((field, _)) => Err(UpdateError::Header { field }),
        None => Ok(()),
    }
}

/// The norm of the blocks, or the first that is wrong.
fn check_blocks(exec: &Exec, format: &UpdateFormat, blocks: &[u8]) -> Result<f64, UpdateError> {
    let block_len_bytes = q4::block_len_bytes(format.block);
    let count = format.parameters.div_ceil(format.block);
    let mut sums = vec![0.0f64; count.div_ceil(TASK_BLOCKS)];
    let fault: Mutex<Option<(usize, BlockFault)>> = Mutex::new(None);
    exec.for_each_chunk(&mut sums, 1, |task, sum| {
        for index in task * TASK_BLOCKS..((task + 1) * TASK_BLOCKS).min(count) {
            let values = format.block.min(format.parameters - index * format.block);
            let bytes = &blocks[index * block_len_bytes..][..q4::block_len_bytes(values)];
            match q4::check_block(bytes, values) {
                Ok(squares) => sum[0] += squares,
                Err(found) => {
                    let mut first = fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if first.is_none_or(|(earlier, _)| index < earlier) {
                        *first = Some((index, found));
                    }
                    return;
                }
            }
        }
    });
    match fault.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        None => Ok(sums.iter().fold(0.0, |total, sum| total + sum).sqrt()),
        Some((part, BlockFault::NonFinite)) => Err(UpdateError::NonFinite { what: "block", part }),
        Some((part, BlockFault::NotCanonical)) => Err(UpdateError::NotCanonical { what: "block", part }),
    }
}

fn check_sections(format: &UpdateFormat, mut bytes: &[u8]) -> Result<(), UpdateError> {
    for (part, &len) in format.sections.iter().enumerate() {
        let (section, rest) = bytes.split_at(4 + len);
        let (scale, codes) = scale_and_codes(section);
        if !scale.is_finite() {
            return Err(UpdateError::NonFinite { what: "section", part });
        }
        // The largest value of a section is its scale, so its code is the largest there is; without a scale there is no value.
        let largest = codes.iter().copied().max().unwrap_or(0);
        let canonical = if scale == 0.0 { largest == 0 } else { largest == byte_float::CODE_MAX };
        if scale.to_bits() >> 31 != 0 || !canonical {
            return Err(UpdateError::NotCanonical { what: "section", part });
        }
        bytes = rest;
    }
    Ok(())
}

fn scale_and_codes(section: &[u8]) -> (f32, &[u8]) {
    let (scale, codes) = section.split_at(4);
    (f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]), codes)
}
