//! The C side: the table of kernels, and running one block.

use std::ffi::{CStr, c_char};

/// As `Kind` in registry.h.
pub(crate) const KINDS: [crate::Parameter; 4] =
    [crate::Parameter::Address, crate::Parameter::U32, crate::Parameter::U64, crate::Parameter::F32];

/// As `Kernel` in registry.h.
#[repr(C)]
struct RawKernel {
    name: *const c_char,
    kinds: *const u8,
    kinds_len: u32,
    invoke: Invoke,
}

pub(crate) type Invoke = unsafe extern "C" fn(*const u64);

/// As `Grid` in registry.h.
#[repr(C)]
pub(crate) struct Grid {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) order: u32,
    pub(crate) seed: u64,
}

unsafe extern "C" {
    fn essaim_shim_kernels(count: *mut u32) -> *const RawKernel;
    fn essaim_shim_run_block(invoke: Invoke, args: *const u64, grid: *const Grid, block: u64, line: *mut u32) -> u32;
}

/// A kernel of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) kinds: &'static [u8],
    pub(crate) invoke: Invoke,
}

/// All kernels.
pub(crate) fn table() -> Vec<Kernel> {
    let mut count = 0;
    // SAFETY: gives a static table and its length; names are literals, kinds a static list of their length.
    unsafe {
        let first = essaim_shim_kernels(&mut count);
        let raw = std::slice::from_raw_parts(first, count as usize);
        let describe = |kernel: &RawKernel| Kernel {
            name: CStr::from_ptr(kernel.name).to_str().unwrap_or("a name that is not UTF-8"),
            kinds: std::slice::from_raw_parts(kernel.kinds, kernel.kinds_len as usize),
            invoke: kernel.invoke,
        };
        raw.iter().map(describe).collect()
    }
}

/// What can go wrong in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Some threads wait at the barrier of this line, and others do not or have ended.
    Diverged {
        /// A line of the CUDA source.
        line: u32,
    },
    /// A thread's local variables outgrew its stack.
    Stack,
}

/// Runs one block on this CPU thread.
///
/// # Safety
/// `args` are the kernel's parameters in number and kind, the addresses lead to living memory, and the kernel touches nothing outside it.
pub(crate) unsafe fn run_block(kernel: &Kernel, args: &[u64], grid: &Grid, block: u64) -> Result<(), Fault> {
    let mut line = 0;
    // SAFETY: as above; the grid is read only.
    match unsafe { essaim_shim_run_block(kernel.invoke, args.as_ptr(), grid, block, &mut line) } {
        0 => Ok(()),
        1 => Err(Fault::Diverged { line }),
        _ => Err(Fault::Stack),
    }
}
