//! How operations queue kernels.

use crate::cuda::{Arg, Device, DeviceError, Launch, View};

/// Most blocks in x.
const GRID_X_MAX: usize = i32::MAX as usize;
/// Most blocks in y.
const GRID_Y_MAX: usize = 65_535;

/// Threads of a block of most kernels.
pub(crate) const THREADS: usize = 256;
/// Threads of a warp, and lanes of the fixed order of sums.
pub(crate) const LANES: usize = 32;

/// Queues `kernel` on a grid of `x` by `y` blocks.
///
/// The callers have checked that the views in `args` are as long as the kernel's sizes say.
pub(super) fn launch(
    device: &Device,
    kernel: &'static str,
    (x, y): (usize, usize),
    threads: usize,
    args: &[Arg],
) -> Result<(), DeviceError> {
    assert!(x <= GRID_X_MAX && y <= GRID_Y_MAX, "{kernel} on {x} by {y} blocks is more than a device takes");
    let launch = Launch { kernel, grid: [x as u32, y as u32, 1], block: [threads as u32, 1, 1], args };
    // SAFETY: every address in `args` comes from a view that the calling operation borrows, mutably where the kernel writes, and the
    // operation has checked its length.
    unsafe { device.launch(&launch) }
}

/// Blocks in y for `len` elements; the kernels that get fewer than they need go round.
pub(super) fn blocks_y(len: usize, of: usize) -> usize {
    len.div_ceil(of).clamp(1, GRID_Y_MAX)
}

/// A size that the kernels take as 32 bits.
pub(super) fn size(value: usize) -> Arg {
    assert!(value <= i32::MAX as usize, "a size of {value} is more than the kernels count");
    Arg::U32(value as u32)
}

/// A size that the kernels take as 64 bits.
pub(super) fn long(value: usize) -> Arg {
    Arg::U64(value as u64)
}

/// A kernel's `go`: null for always.
pub(super) fn go(flag: Option<View<'_, u32>>) -> Arg {
    match flag {
        None => Arg::Address(0),
        Some(flag) => {
            assert_eq!(flag.len(), 1, "a flag is one element");
            flag.arg()
        }
    }
}
