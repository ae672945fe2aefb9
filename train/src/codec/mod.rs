//! The update: a pseudo-gradient and second moments, compressed, in one blob.
//!
//! All integers are little-endian. The length follows from the manifest alone, so it is known before an update is fetched.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `ESSAIMUP` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | codec: 0 (`q4`) |
//! | 16 | 32 | run id |
//! | 48 | 32 | member |
//! | 80 | 8 | round |
//! | 88 | 8 | parameters |
//! | 96 | 4 | values in a block |
//! | 100 | 4 | second moments |
//! | 104 | | blocks of the pseudo-gradient, in the order of the parameters; the last may be shorter |
//! | | | sections of second moments: the largest value as a float32, then one byte a value |
//!
//! Everything is computed with additions, multiplications, divisions and square roots, each rounded once. The form is
//! canonical: bytes that no encoder would write are refused.

mod byte_float;
mod q4;
mod update;

pub use update::{Update, UpdateError};

use crate::moments::MomentLayout;
use crate::params::ParamLayout;
use essaim_kernels::Exec;
use essaim_protocol::ids::{MemberId, RunId};
use essaim_protocol::manifest::{Codec, Manifest};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes before the blocks.
pub const HEADER_LEN_BYTES: usize = 104;

const MAGIC: &[u8; 8] = b"ESSAIMUP";
const VERSION: u32 = 1;
const CODEC_Q4: u32 = 0;

/// Blocks that one task encodes, checks or adds up; also the blocks whose squares are summed before they join the rest.
const TASK_BLOCKS: usize = 1024;

/// Whose update, for which round of which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateHeader {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: u64,
    /// The member.
    pub member: MemberId,
}

/// The shape of every update of a run: it follows from the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateFormat {
    parameters: usize,
    block: usize,
    /// Lengths of the sections of second moments.
    sections: Vec<usize>,
}

/// Why a pseudo-gradient has no update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A value is infinite or not a number.
    #[error(
        "the {what} holds a value that is not finite (first in part {part}): nothing can be claimed for this round"
    )]
    NonFinite {
        /// `pseudo-gradient` or `second moments`.
        what: &'static str,
        /// Which block or section.
        part: usize,
    },
}

impl UpdateFormat {
    /// The format of the updates of a run.
    pub fn of(manifest: &Manifest) -> UpdateFormat {
        let layout = ParamLayout::new(&manifest.model);
        let moments = MomentLayout::new(&layout, manifest.inner.optimizer);
        let Codec::Q4 { block } = manifest.codec;
        UpdateFormat { parameters: layout.total(), block: block as usize, sections: moments.sections() }
    }

    /// Length of an update.
    pub fn len_bytes(&self) -> usize {
        HEADER_LEN_BYTES + self.blocks_len_bytes() + self.sections.iter().map(|len| 4 + len).sum::<usize>()
    }

    /// How many parameters an update is of.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// How many second moments an update carries.
    pub fn moments(&self) -> usize {
        self.sections.iter().sum()
    }

    fn blocks_len_bytes(&self) -> usize {
        let rest = self.parameters % self.block;
        let last = if rest == 0 { 0 } else { q4::block_len_bytes(rest) };
        self.parameters / self.block * q4::block_len_bytes(self.block) + last
    }

    fn header(&self, header: &UpdateHeader) -> [u8; HEADER_LEN_BYTES] {
        let mut bytes = [0; HEADER_LEN_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&CODEC_Q4.to_le_bytes());
        bytes[16..48].copy_from_slice(header.run.as_bytes());
        bytes[48..80].copy_from_slice(header.member.as_bytes());
        bytes[80..88].copy_from_slice(&header.round.to_le_bytes());
        bytes[88..96].copy_from_slice(&(self.parameters as u64).to_le_bytes());
        bytes[96..100].copy_from_slice(&(self.block as u32).to_le_bytes());
        bytes[100..104].copy_from_slice(&(self.moments() as u32).to_le_bytes());
        bytes
    }

    /// The update of `pseudo_gradient` (`[parameters]`) and `moments` (`[moments]`, none negative).
    ///
    /// # Errors
    /// [`EncodeError`] when a value is not finite.
    ///
    /// # Panics
    /// When a length is not that of the format, or this thread fails the known-answer test.
    pub fn encode(
        &self,
        exec: &Exec,
        header: &UpdateHeader,
        pseudo_gradient: &[f32],
        moments: &[f32],
    ) -> Result<Vec<u8>, EncodeError> {
        assert_eq!(pseudo_gradient.len(), self.parameters, "a pseudo-gradient of another model");
        assert_eq!(moments.len(), self.moments(), "second moments of another model");
        let mut bytes = vec![0; self.len_bytes()];
        bytes[..HEADER_LEN_BYTES].copy_from_slice(&self.header(header));
        let (blocks, sections) = bytes[HEADER_LEN_BYTES..].split_at_mut(self.blocks_len_bytes());
        let block_len_bytes = q4::block_len_bytes(self.block);
        let bad = AtomicUsize::new(usize::MAX);
        let encode = |start: usize, chunk: &mut [u8]| {
            let first = start / block_len_bytes;
            let values = pseudo_gradient[first * self.block..].chunks(self.block);
            for (index, (out, values)) in chunk.chunks_mut(block_len_bytes).zip(values).enumerate() {
                if !q4::encode_block(values, out) {
                    bad.fetch_min(first + index, Ordering::Relaxed);
                }
            }
        };
        exec.install(|| exec.for_each_chunk(blocks, TASK_BLOCKS * block_len_bytes, encode));
        match bad.into_inner() {
            usize::MAX => self.encode_moments(moments, sections)?,
            part => return Err(EncodeError::NonFinite { what: "pseudo-gradient", part }),
        }
        Ok(bytes)
    }

    fn encode_moments(&self, mut moments: &[f32], mut out: &mut [u8]) -> Result<(), EncodeError> {
        for (part, &len) in self.sections.iter().enumerate() {
            let (values, later) = moments.split_at(len);
            let (section, rest) = out.split_at_mut(4 + len);
            let (scale_bytes, codes) = section.split_at_mut(4);
            if !values.iter().all(|value| value.is_finite()) {
                return Err(EncodeError::NonFinite { what: "second moments", part });
            }
            let scale = values.iter().fold(0.0f32, |scale, &value| if value > scale { value } else { scale });
            scale_bytes.copy_from_slice(&scale.to_le_bytes());
            if scale > 0.0 {
                let code = |(code, &value): (&mut u8, &f32)| *code = byte_float::encode(value.max(0.0), scale);
                codes.iter_mut().zip(values).for_each(code);
            }
            (moments, out) = (later, rest);
        }
        Ok(())
    }
}
