//! What the device code needs of a place where kernels run, and how that place fails.
//!
//! A step on a device is a long list of launches with addresses and numbers. Who carries them out is behind [`Driver`]: NVIDIA's driver
//! on a card, or, in tests, the same kernels compiled for the CPU. So everything above it runs on any machine.

use std::fmt;

/// What a driver answers when asked for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A card that speaks CUDA.
    Cuda,
    /// The kernels compiled for the CPU: for tests.
    Shim,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Cuda => "cuda",
            DeviceKind::Shim => "shim",
        })
    }
}

/// A device, as it described itself when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name, as the vendor writes it.
    pub name: String,
    /// Its number on this machine, from 0.
    pub ordinal: u32,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    /// How many blocks run side by side is a multiple of this.
    pub multiprocessors: u32,
    /// Its highest clock, in kHz; 0 where unknown.
    pub clock_khz: u32,
    /// All of its memory, in bytes.
    pub memory_bytes: u64,
    /// What was free at opening, in bytes.
    pub free_bytes: u64,
    /// The driver's version, for people.
    pub driver_version: String,
    /// What runs the kernels.
    pub kind: DeviceKind,
}

impl DeviceInfo {
    /// Floating-point operations a second that its float32 units can do at the highest clock, a fused multiply-add being two; none where unknown.
    pub fn peak_flops(&self) -> Option<f64> {
        // Units of a multiprocessor, from the table of arithmetic throughput in NVIDIA's CUDA C++ Programming Guide.
        let units = match self.compute_capability {
            (7, _) | (8, 0) => 64,
            (8.., _) => 128,
            _ => return None,
        };
        let per_clock = 2 * units * u64::from(self.multiprocessors);
        (self.kind == DeviceKind::Cuda && self.clock_khz > 0)
            .then(|| per_clock as f64 * f64::from(self.clock_khz) * 1e3)
    }
}

/// What a kernel takes of a multiprocessor, as the driver translated it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelResources {
    /// Its name.
    pub name: &'static str,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of memory that a thread has beside them: registers that were spilled.
    pub local_bytes: u32,
    /// Bytes of shared memory of a block.
    pub shared_bytes: u32,
}

/// One argument of a kernel, as it lies in the parameter list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// A pointer into the device's memory.
    Address(u64),
    /// An unsigned int.
    U32(u32),
    /// An unsigned long long.
    U64(u64),
    /// A float.
    F32(f32),
}

impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        Arg::U32(value)
    }
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Arg::U64(value)
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Arg::F32(value)
    }
}

/// One launch of a kernel. Shared memory is static, so it is no part of this.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The kernel's name in the module, such as `essaim_fill`.
    pub kernel: &'static str,
    /// Blocks in x, y and z, each at least 1; y and z at most 65535.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z; their product is 1 to 1024.
    pub block: [u32; 3],
    /// The arguments in the order of the kernel's parameters.
    pub args: &'a [Arg],
}

/// One place where kernels run: a CUDA device, or the test shim. Everything happens in the order of the calls.
pub trait Driver: Send + Sync + fmt::Debug {
    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// Takes `len_bytes` (at least 1) of device memory, aligned to 256 bytes. What it holds is undefined.
    fn alloc(&self, len_bytes: usize) -> Result<u64, DeviceError>;

    /// Gives back what [`Driver::alloc`] gave, once the work already queued no longer needs it. A failure shows in a later call.
    fn free(&self, address: u64);

    /// Copies to the device, after the work already queued. `bytes` may be changed as soon as this returns.
    fn upload(&self, target: u64, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Waits for the work already queued and copies from the device.
    fn download(&self, source: u64, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Queues a kernel. A failure of the kernel itself may show in any later call.
    ///
    /// # Safety
    /// Every address must lead to living memory of this driver, and the kernel must touch nothing outside that memory: it checks no bounds itself.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError>;

    /// Waits until everything queued has been done.
    fn synchronize(&self) -> Result<(), DeviceError>;
}

/// Why a device cannot be used, or stopped working. None of it is a peer's fault, and none of it says anything about the bits that
/// were computed before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// This machine has no CUDA driver, or one that cannot be loaded.
    #[error("no CUDA driver: {reason}")]
    NoDriver {
        /// What the system said.
        reason: String,
    },
    /// There is no device of that number.
    #[error("there is no CUDA device {ordinal}; this machine has {count}")]
    NoSuchDevice {
        /// The number that was asked for.
        ordinal: u32,
        /// How many there are, numbered from 0.
        count: u32,
    },
    /// The device or its driver is older than the kernels need.
    #[error("{name}: {what} is {found}, and at least {needed} is needed")]
    TooOld {
        /// The device's name.
        name: String,
        /// `compute capability` or `driver`.
        what: &'static str,
        /// The version found.
        found: String,
        /// The version needed.
        needed: String,
    },
    /// The device's memory does not suffice.
    #[error("the device has no room for {asked_bytes} bytes more: {free_bytes} of its {total_bytes} bytes are free")]
    OutOfMemory {
        /// What was asked for.
        asked_bytes: u64,
        /// What was free then.
        free_bytes: u64,
        /// All of its memory.
        total_bytes: u64,
    },
    /// The device or its driver failed. What it was computing is lost.
    #[error("{operation} failed with code {code}: {reason}")]
    Failed {
        /// What was being done.
        operation: &'static str,
        /// The driver's code.
        code: i32,
        /// The driver's words.
        reason: String,
    },
    /// The device does not compute as `f32-exact/1` demands.
    #[error(
        "the device fails the known-answer test of exact arithmetic: {what}: got {got:#010x}, must be {want:#010x}"
    )]
    SelfTest {
        /// Which answer.
        what: &'static str,
        /// The answer, or its digest.
        got: u32,
        /// The known answer.
        want: u32,
    },
    /// A bug: the module has no such kernel.
    #[error("the kernels have none of the name {name}")]
    UnknownKernel {
        /// The name that was launched.
        name: String,
    },
    /// A bug: the arguments are not the kernel's parameters, or the grid is none.
    #[error("launch of {kernel}: {reason}")]
    WrongLaunch {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        reason: String,
    },
}
