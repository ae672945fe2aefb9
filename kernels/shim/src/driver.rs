//! A [`Driver`] that runs the kernels on the CPU.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use essaim_kernels::cuda::{Arg, DeviceError, DeviceInfo, DeviceKind, Driver, Launch};
use rayon::prelude::*;

use crate::memory::Memory;
use crate::native::{self, Grid, KINDS, Kernel, Site, Watch};

/// What a parameter of a kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// A pointer.
    Address,
    /// An integer of 32 bits.
    U32,
    /// An integer of 64 bits.
    U64,
    /// A float.
    F32,
}

/// A kernel, as its C++ source declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// Its name.
    pub name: &'static str,
    /// Its parameters in order.
    pub parameters: Vec<Parameter>,
}

/// All kernels that the shim can run, in the order of their sources; those of the shim's own tests begin with `shim_test_`.
pub fn kernels() -> Vec<KernelInfo> {
    let info = |kernel: Kernel| KernelInfo {
        name: kernel.name,
        parameters: kernel.kinds.iter().map(|kind| KINDS[usize::from(*kind)]).collect(),
    };
    native::table(false).into_iter().map(info).collect()
}

/// In which order the threads of a block run between two barriers, and the blocks of a grid. Results must not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By their numbers.
    Forward,
    /// By their numbers, the last first.
    Backward,
    /// Shuffled anew after each barrier, from this seed.
    Shuffled(u64),
    /// Each launch takes the next of the three others.
    Rotating,
}

/// How a [`ShimDriver`] is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The order of threads.
    pub order: Order,
    /// CPU threads that share a grid's blocks; 0 for one per CPU.
    pub threads: usize,
    /// How much memory the device claims to have, in bytes.
    pub memory_bytes: u64,
    /// Whether every access to memory is looked at. Slow, and all on one CPU thread.
    pub checked: bool,
    /// A `__syncthreads()` that does nothing, by the name of its file in `kernels/cuda` and its line: to see that a test finds it missing.
    pub without_barrier: Option<(&'static CStr, u32)>,
}

impl Default for Options {
    /// The order stands in `ESSAIM_SHIM_ORDER` (`forward`, `backward`, `shuffled`, `rotating`), or rotates; 64 GiB; checked if
    /// `ESSAIM_SHIM_CHECKED` is 1.
    fn default() -> Self {
        let order = match std::env::var("ESSAIM_SHIM_ORDER").as_deref() {
            Err(_) | Ok("" | "rotating") => Order::Rotating,
            Ok("forward") => Order::Forward,
            Ok("backward") => Order::Backward,
            Ok("shuffled") => Order::Shuffled(1),
            Ok(other) => panic!("ESSAIM_SHIM_ORDER is '{other}'; forward, backward, shuffled or rotating are known"),
        };
        let checked = std::env::var_os("ESSAIM_SHIM_CHECKED").is_some_and(|value| value == "1");
        Options { order, threads: 0, memory_bytes: 64 << 30, checked, without_barrier: None }
    }
}

/// A device that is a CPU.
///
/// A launch has been done when it returns. Like a card, it takes nothing more after a kernel did harm: every later call gives the same error.
/// A harm that nobody was told of makes the drop panic.
#[derive(Debug)]
pub struct ShimDriver {
    info: DeviceInfo,
    order: Order,
    checked: bool,
    without_barrier: Option<(&'static CStr, u32)>,
    kernels: BTreeMap<&'static str, Kernel>,
    launches: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    memory: Memory,
    failed: Option<DeviceError>,
    told: bool,
}

impl State {
    /// The error of before, or the one of now if there is one.
    fn verdict(&mut self, operation: &'static str, now: Result<(), String>) -> Result<(), DeviceError> {
        if let (None, Err(reason)) = (&self.failed, now) {
            // The code of an illegal address, as a card would give it.
            self.failed = Some(DeviceError::Failed { operation, code: 700, reason });
        }
        match &self.failed {
            None => Ok(()),
            Some(error) => {
                self.told = true;
                Err(error.clone())
            }
        }
    }
}

/// One pool for all drivers of a process, so that tests side by side do not start one each.
fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
    static POOLS: OnceLock<Mutex<BTreeMap<usize, Arc<rayon::ThreadPool>>>> = OnceLock::new();
    let pools = POOLS.get_or_init(Mutex::default);
    let mut pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("the system has threads");
    pools.entry(threads).or_insert_with(|| Arc::new(start())).clone()
}

impl ShimDriver {
    /// A device with the default [`Options`].
    ///
    /// # Errors
    /// When this CPU lacks the instructions that the kernels were compiled for.
    pub fn open() -> Result<Arc<ShimDriver>, DeviceError> {
        ShimDriver::with(Options::default())
    }

    /// A device that looks at every access to memory: reads and writes outside the buffers, reads of what nobody wrote, and accesses of two
    /// threads, one of them a write, with no barrier between.
    ///
    /// # Errors
    /// When this CPU lacks the instructions that the kernels were compiled for.
    pub fn checked() -> Result<Arc<ShimDriver>, DeviceError> {
        ShimDriver::with(Options { checked: true, ..Options::default() })
    }

    /// A device.
    ///
    /// # Errors
    /// When this CPU lacks the instructions that the kernels were compiled for.
    pub fn with(options: Options) -> Result<Arc<ShimDriver>, DeviceError> {
        #[cfg(target_arch = "x86_64")]
        if !(std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")) {
            return Err(DeviceError::NoDriver { reason: "the shim needs a CPU with AVX2 and FMA".into() });
        }
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let info = DeviceInfo {
            name: "CUDA kernels on the CPU".into(),
            ordinal: 0,
            compute_capability: (7, 5),
            multiprocessors: u32::try_from(threads).unwrap_or(u32::MAX),
            clock_khz: 0,
            memory_bytes: options.memory_bytes,
            free_bytes: options.memory_bytes,
            driver_version: env!("CARGO_PKG_VERSION").into(),
            kind: DeviceKind::Shim,
        };
        let kernels = native::table(options.checked).into_iter().map(|kernel| (kernel.name, kernel)).collect();
        let state =
            Mutex::new(State { memory: Memory::new(options.memory_bytes, options.checked), failed: None, told: false });
        Ok(Arc::new(ShimDriver {
            info,
            order: options.order,
            checked: options.checked,
            without_barrier: options.without_barrier,
            kernels,
            launches: AtomicU64::new(0),
            state,
        }))
    }

    /// How much memory is in use, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.state().memory.used_bytes()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel and its arguments as 64 bits each, once all is as the kernel declares it.
    fn resolve(&self, launch: &Launch<'_>) -> Result<(Kernel, Vec<u64>), DeviceError> {
        let wrong = |reason: String| DeviceError::WrongLaunch { kernel: launch.kernel.into(), reason };
        let unknown = || DeviceError::UnknownKernel { name: launch.kernel.into() };
        let kernel = *self.kernels.get(launch.kernel).ok_or_else(unknown)?;
        let in_range =
            |sizes: [u32; 3], most: [u32; 3]| sizes.iter().zip(most).all(|(size, most)| (1..=most).contains(size));
        let block_len: u64 = launch.block.iter().map(|size| u64::from(*size)).product();
        if !in_range(launch.grid, [i32::MAX as u32, 65535, 65535])
            || !in_range(launch.block, [1024, 1024, 64])
            || block_len > 1024
        {
            return Err(wrong(format!("no card takes a grid of {:?} and blocks of {:?}", launch.grid, launch.block)));
        }
        if launch.args.len() != kernel.kinds.len() {
            return Err(wrong(format!("{} arguments for {} parameters", launch.args.len(), kernel.kinds.len())));
        }
        let state = self.state();
        let mut args = Vec::with_capacity(launch.args.len());
        for (number, (arg, kind)) in launch.args.iter().zip(kernel.kinds).enumerate() {
            let parameter = KINDS[usize::from(*kind)];
            args.push(match (*arg, parameter) {
                // Null is a value like any other; what reads it fails.
                (Arg::Address(address), Parameter::Address) if address == 0 || state.memory.holds(address, 0) => {
                    address
                }
                (Arg::Address(address), Parameter::Address) => {
                    return Err(wrong(format!("argument {number} points to {address:#x}, which is in no buffer")));
                }
                (Arg::U32(value), Parameter::U32) => u64::from(value),
                (Arg::U64(value), Parameter::U64) => value,
                (Arg::F32(value), Parameter::F32) => u64::from(value.to_bits()),
                (arg, parameter) => return Err(wrong(format!("argument {number} is {arg:?} for a {parameter:?}"))),
            });
        }
        Ok((kernel, args))
    }

    /// Runs all blocks.
    ///
    /// # Safety
    /// As [`Driver::launch`]; the arguments have been resolved.
    unsafe fn run(&self, kernel: &Kernel, args: &[u64], launch: &Launch<'_>) -> Result<(), String> {
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        let (order, seed) = match (self.order, number % 3) {
            (Order::Forward, _) | (Order::Rotating, 0) => (0, 0),
            (Order::Backward, _) | (Order::Rotating, 1) => (1, 0),
            (Order::Shuffled(seed), _) => (2, seed.wrapping_add(number)),
            (Order::Rotating, _) => (2, number),
        };
        let skipped = self.without_barrier.map_or(Site::NOWHERE, |(file, line)| Site { file: file.as_ptr(), line });
        let grid = Grid { grid: launch.grid, block: launch.block, order, seed, skipped };
        let blocks: u64 = launch.grid.iter().map(|size| u64::from(*size)).product();
        let place = |at: u64| match order {
            0 => at,
            1 => blocks - 1 - at,
            _ => (at + seed) % blocks,
        };
        let one = |at: u64| {
            let block = place(at);
            // SAFETY: the caller's promise.
            unsafe { native::run_block(kernel, args, &grid, block, None) }
        };
        if self.checked {
            let mut state = self.state();
            let regions = state.memory.regions();
            let watch = Watch { regions: &regions, launch: u32::try_from(number + 1).unwrap_or(u32::MAX) };
            // SAFETY: the caller's promise; the state is locked, so the shadows are ours.
            let checked = |block: u64| unsafe { native::run_block(kernel, args, &grid, block, Some(&watch)) };
            return (0..blocks).map(place).try_for_each(checked);
        }
        let threads = self.info.multiprocessors as usize;
        if blocks == 1 || threads == 1 {
            return (0..blocks).try_for_each(one);
        }
        // Blocks are few or cheap: a handful of pieces per thread shares them evenly enough.
        let piece = blocks.div_ceil(8 * threads as u64);
        let pieces = blocks.div_ceil(piece);
        let run_piece = |number: u64| (number * piece..blocks.min((number + 1) * piece)).try_for_each(one);
        pool(threads).install(|| (0..pieces).into_par_iter().try_for_each(run_piece))
    }
}

impl Driver for ShimDriver {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, len_bytes: usize) -> Result<u64, DeviceError> {
        let mut state = self.state();
        state.verdict("allocation", Ok(()))?;
        let (free_bytes, total_bytes) = (state.memory.free_bytes(), self.info.memory_bytes);
        let no_room = DeviceError::OutOfMemory { asked_bytes: len_bytes as u64, free_bytes, total_bytes };
        state.memory.alloc(len_bytes).ok_or(no_room)
    }

    fn free(&self, address: u64) {
        let mut state = self.state();
        let found = state.memory.free(address);
        if let (Err(reason), None) = (found, &state.failed) {
            state.failed = Some(DeviceError::Failed { operation: "free", code: 700, reason });
        }
    }

    fn upload(&self, target: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut state = self.state();
        let inside = state.memory.holds(target, bytes.len());
        state.verdict("upload", inside.then_some(()).ok_or_else(|| "beyond the buffer".to_owned()))?;
        // SAFETY: within a living buffer, to which nothing else has access while the state is locked and no kernel runs.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target as *mut u8, bytes.len()) };
        state.memory.note_upload(target, bytes.len());
        Ok(())
    }

    fn download(&self, source: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let mut state = self.state();
        let inside = state.memory.holds(source, bytes.len());
        let found = state.memory.check_all();
        state.verdict("download", found.and(inside.then_some(()).ok_or_else(|| "beyond the buffer".to_owned())))?;
        // SAFETY: as for an upload.
        unsafe { std::ptr::copy_nonoverlapping(source as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        self.state().verdict("launch", Ok(()))?;
        let (kernel, args) = self.resolve(launch)?;
        // SAFETY: the caller's promise.
        let ran = unsafe { self.run(&kernel, &args, launch) };
        let mut state = self.state();
        let mut addresses =
            launch.args.iter().filter_map(|arg| if let Arg::Address(at) = arg { Some(*at) } else { None });
        let fences = addresses.try_for_each(|at| state.memory.check(at));
        state.verdict("launch", ran.and(fences).map_err(|reason| format!("{}: {reason}", kernel.name)))
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        let mut state = self.state();
        let found = state.memory.check_all();
        state.verdict("synchronisation", found)
    }
}

impl Drop for ShimDriver {
    fn drop(&mut self) {
        let state = self.state();
        if let (Some(error), false, false) = (&state.failed, state.told, std::thread::panicking()) {
            panic!("the device failed and nobody asked: {error}");
        }
    }
}
