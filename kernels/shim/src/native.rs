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
    pub(crate) skipped: Site,
}

/// As `Site` in interface.h.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub(crate) file: *const c_char,
    pub(crate) line: u32,
}

impl Site {
    pub(crate) const NOWHERE: Site = Site { file: c"".as_ptr(), line: 0 };
}

// SAFETY: the name is only read, and lives as long as the launch.
unsafe impl Sync for Site {}

/// As `Touch` in access.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Touch {
    launch: u32,
    block: u32,
    interval: u32,
    thread: u16,
    warp_interval: u16,
}

/// What is known of four bytes of memory: as `Shadow` in access.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shadow {
    /// 0 until it is written.
    pub(crate) written: u32,
    write: Touch,
    reads: [Touch; 2],
}

/// A buffer and its shadow, one for each four bytes: as `Region` in access.h.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) shadow: *mut Shadow,
}

/// As `Watch` in access.h.
#[repr(C)]
struct RawWatch {
    regions: *const Region,
    regions_len: u64,
    launch: u32,
}

/// As `Report` in access.h.
#[repr(C)]
struct Report {
    text: [u8; 256],
}

/// For a launch of a checked kernel: all buffers by rising address, and the launch's number, from 1.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) regions: &'a [Region],
    pub(crate) launch: u32,
}

unsafe extern "C" {
    fn essaim_shim_kernels_plain(count: *mut u32) -> *const RawKernel;
    fn essaim_shim_kernels_checked(count: *mut u32) -> *const RawKernel;
    fn essaim_shim_run_block(
        invoke: Invoke,
        args: *const u64,
        grid: *const Grid,
        block: u64,
        watch: *const RawWatch,
        report: *mut Report,
    );
}

/// A kernel of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) kinds: &'static [u8],
    pub(crate) invoke: Invoke,
}

/// All kernels, as they are or with every access reported.
pub(crate) fn table(checked: bool) -> Vec<Kernel> {
    let mut count = 0;
    // SAFETY: gives a static table and its length; names are literals, kinds a static list of their length.
    unsafe {
        let list = if checked { essaim_shim_kernels_checked } else { essaim_shim_kernels_plain };
        let first = list(&mut count);
        let raw = std::slice::from_raw_parts(first, count as usize);
        let describe = |kernel: &RawKernel| Kernel {
            name: CStr::from_ptr(kernel.name).to_str().unwrap_or("a name that is not UTF-8"),
            kinds: std::slice::from_raw_parts(kernel.kinds, kernel.kinds_len as usize),
            invoke: kernel.invoke,
        };
        raw.iter().map(describe).collect()
    }
}

/// Runs one block on this CPU thread; `watch` for kernels of the checked table, and only for them. An error says what went wrong, in words.
///
/// # Safety
/// `args` are the kernel's parameters in number and kind, the addresses lead to living memory, and the kernel touches nothing outside it. The
/// regions of a watch have shadows of their length, which nothing else uses.
pub(crate) unsafe fn run_block(
    kernel: &Kernel,
    args: &[u64],
    grid: &Grid,
    block: u64,
    watch: Option<&Watch<'_>>,
) -> Result<(), String> {
    let mut report = Report { text: [0; 256] };
    let raw = watch.map(|watch| RawWatch {
        regions: watch.regions.as_ptr(),
        regions_len: watch.regions.len() as u64,
        launch: watch.launch,
    });
    let watch = raw.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: as above; the grid is read only, and the report is written within its length.
    unsafe { essaim_shim_run_block(kernel.invoke, args.as_ptr(), grid, block, watch, &mut report) };
    let len = report.text.iter().position(|byte| *byte == 0).unwrap_or(report.text.len());
    if len == 0 { Ok(()) } else { Err(String::from_utf8_lossy(&report.text[..len]).into_owned()) }
}
