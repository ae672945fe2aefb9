//! One card in use: its context, stream, kernels.

use super::super::driver::{Arg, DeviceError, DeviceInfo, Driver, Launch};
use super::library::{check, describe};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUfunction, CUmodule, CUresult, CUstream};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::sync::OnceLock;

/// A card that was opened. Dropping it gives the card back.
///
/// After a failure of a kernel the driver answers every later call with the same error: the card is then *lost* for this object, and only
/// a new one, once this is dropped, can use it again.
pub(super) struct Nvidia {
    primary: Primary,
    stream: CUstream,
    module: CUmodule,
    functions: HashMap<&'static str, CUfunction>,
    info: DeviceInfo,
    lost: OnceLock<DeviceError>,
}

// SAFETY: the handles are the driver's, which takes calls from any thread; each call here makes the context current first.
unsafe impl Send for Nvidia {}
// SAFETY: as above; what changes is behind a `OnceLock`.
unsafe impl Sync for Nvidia {}

impl std::fmt::Debug for Nvidia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nvidia").field("info", &self.info).field("lost", &self.lost).finish_non_exhaustive()
    }
}

/// A device's primary context, held.
struct Primary {
    device: CUdevice,
    context: CUcontext,
}

impl Drop for Primary {
    fn drop(&mut self) {
        // SAFETY: it was retained once, and everything made in it is gone.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl Nvidia {
    /// Opens `device` and loads `ptx`.
    pub(super) fn new(device: CUdevice, mut info: DeviceInfo, ptx: &'static str) -> Result<Nvidia, DeviceError> {
        // SAFETY: the handle is the driver's.
        let context = check("starting the CUDA device", unsafe { result::primary_ctx::retain(device) })?;
        let primary = Primary { device, context };
        // SAFETY: the context is held by `primary`.
        check("making the CUDA context current", unsafe { result::ctx::set_current(context) })?;
        let (free_bytes, total_bytes) = check("asking for the device's free memory", result::mem_get_info())?;
        (info.free_bytes, info.memory_bytes) = (free_bytes as u64, total_bytes as u64);
        let module = load_module(ptx)?;
        let mut nvidia = Nvidia {
            primary,
            stream: std::ptr::null_mut(),
            module,
            functions: HashMap::new(),
            info,
            lost: OnceLock::new(),
        };
        nvidia.stream = check("making a CUDA stream", result::stream::create(result::stream::StreamKind::NonBlocking))?;
        for name in entries(ptx) {
            let c_name = CString::new(name).map_err(|_| DeviceError::UnknownKernel { name: name.to_owned() })?;
            // SAFETY: the module is loaded.
            let function = check("looking up a kernel", unsafe { result::module::get_function(module, c_name) })?;
            nvidia.functions.insert(name, function);
        }
        Ok(nvidia)
    }

    /// Does something in the context of the card, unless it is lost. A failure loses it.
    fn run<T>(&self, operation: &'static str, work: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DeviceError> {
        if let Some(error) = self.lost.get() {
            return Err(error.clone());
        }
        self.enter(operation, work).inspect_err(|error| {
            self.lost.get_or_init(|| error.clone());
        })
    }

    /// Does something in the context of the card.
    fn enter<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, DeviceError> {
        // SAFETY: the context is held by `primary`.
        check(operation, unsafe { result::ctx::set_current(self.primary.context) }.and_then(|()| work()))
    }
}

impl Driver for Nvidia {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, len_bytes: usize) -> Result<u64, DeviceError> {
        if let Some(error) = self.lost.get() {
            return Err(error.clone());
        }
        let asked = self.enter("allocating device memory", || {
            // SAFETY: the memory is undefined until written, as the trait says.
            match unsafe { result::malloc_sync(len_bytes) } {
                Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(Err(result::mem_get_info()?)),
                other => other.map(Ok),
            }
        });
        asked?.map_err(|(free, total)| DeviceError::OutOfMemory {
            asked_bytes: len_bytes as u64,
            free_bytes: free as u64,
            total_bytes: total as u64,
        })
    }

    fn free(&self, address: u64) {
        // Waits for the work queued before. A failure of that work shows in the next call; of a lost card nothing can be freed singly.
        let _ = self.enter("freeing device memory", || {
            // SAFETY: the address came from `alloc`, and its owner is being dropped.
            unsafe { result::stream::synchronize(self.stream).and_then(|()| result::free_sync(address)) }
        });
    }

    fn upload(&self, target: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.run("copying to the device", || {
            // SAFETY: the target is the caller's memory of that length. From pageable memory, the driver has a copy of `bytes` when this
            // returns, and the rest happens in the order of the stream.
            unsafe { result::memcpy_htod_async(target, bytes, self.stream) }
        })
    }

    fn download(&self, source: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.run("copying from the device", || {
            // SAFETY: the source is the caller's memory of that length, and this waits until `bytes` is written.
            unsafe {
                result::memcpy_dtoh_async(bytes, source, self.stream)
                    .and_then(|()| result::stream::synchronize(self.stream))
            }
        })
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let unknown = || DeviceError::UnknownKernel { name: launch.kernel.to_owned() };
        let function = *self.functions.get(launch.kernel).ok_or_else(unknown)?;
        let mut params = Params::new(launch)?;
        let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (launch.grid, launch.block);
        let (grid, block) = ((grid_x, grid_y, grid_z), (block_x, block_y, block_z));
        self.run(launch.kernel, || {
            // SAFETY: the function belongs to the loaded module; arguments are the caller's promise; the driver copies them here and now.
            unsafe { result::launch_kernel(function, grid, block, 0, self.stream, params.pointers()) }
        })
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream lives as long as this object.
        self.run("waiting for the device", || unsafe { result::stream::synchronize(self.stream) })
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        let _ = self.enter("giving the device back", || {
            // SAFETY: nothing else uses stream or module, and all work on them is waited for. Of a lost card the calls fail, and giving
            // back the context frees what it had.
            unsafe {
                if !self.stream.is_null() {
                    let _ = result::stream::synchronize(self.stream);
                    let _ = result::stream::destroy(self.stream);
                }
                result::module::unload(self.module)
            }
        });
    }
}

/// Most parameters of a kernel.
const PARAMS_MAX: usize = 24;

/// Arguments as the driver wants them: a pointer to each. Eight bytes hold any.
struct Params {
    values: [u64; PARAMS_MAX],
    pointers: [*mut c_void; PARAMS_MAX],
    len: usize,
}

impl Params {
    fn new(launch: &Launch<'_>) -> Result<Params, DeviceError> {
        let len = launch.args.len();
        if len > PARAMS_MAX {
            let reason = format!("{len} arguments, and the driver's side takes {PARAMS_MAX}");
            return Err(DeviceError::WrongLaunch { kernel: launch.kernel.to_owned(), reason });
        }
        let mut values = [0; PARAMS_MAX];
        for (value, arg) in values.iter_mut().zip(launch.args) {
            // Of narrower ones the driver reads the first bytes; devices and their hosts are little-endian.
            *value = match *arg {
                Arg::Address(address) => address,
                Arg::U64(number) => number,
                Arg::U32(number) => u64::from(number),
                Arg::F32(number) => u64::from(number.to_bits()),
            };
        }
        Ok(Params { values, pointers: [std::ptr::null_mut(); PARAMS_MAX], len })
    }

    /// The pointers, good as long as this is neither moved nor dropped.
    fn pointers(&mut self) -> &mut [*mut c_void] {
        for (pointer, value) in self.pointers.iter_mut().zip(&mut self.values) {
            *pointer = std::ptr::from_mut(value).cast();
        }
        &mut self.pointers[..self.len]
    }
}

/// The names of the kernels in a PTX text.
fn entries(ptx: &'static str) -> impl Iterator<Item = &'static str> {
    ptx.lines().filter_map(|line| {
        let (_, rest) = line.trim_start().split_once(".entry ")?;
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| !name.is_empty())
    })
}

/// Has the driver translate `ptx` for the current card. What its translator says when it fails is in the error.
fn load_module(ptx: &str) -> Result<CUmodule, DeviceError> {
    const OPERATION: &str = "translating the kernels for this device";
    const LOG_LEN: usize = 4096;
    let failed = |code, reason| DeviceError::Failed { operation: OPERATION, code, reason };
    let image = CString::new(ptx).map_err(|_| failed(0, "the PTX has a zero byte".into()))?;
    let mut log = [0u8; LOG_LEN];
    let mut options =
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // The size is passed by value, in the place of a pointer.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(LOG_LEN - 1)];
    let mut module = std::ptr::null_mut();
    // SAFETY: a context is current; image, options and log live through the call; the log keeps its last zero byte.
    let loaded = unsafe {
        sys::cuModuleLoadDataEx(
            &raw mut module,
            image.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    loaded.result().map_err(|error| {
        let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
        let log = log.split_whitespace().collect::<Vec<_>>().join(" ");
        let separator = if log.is_empty() { "" } else { "; " };
        failed(error.0 as i32, format!("{}{separator}{log}", describe(error)))
    })?;
    Ok(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_in_the_text() {
        let ptx =
            ".version 7.8\n.visible .entry essaim_fill(\n\t.param .u64 essaim_fill_param_0\n)\n.func f()\n.entry b\n";
        assert_eq!(entries(ptx).collect::<Vec<_>>(), ["essaim_fill", "b"]);
    }

    #[test]
    fn arguments_lie_where_the_pointers_say() {
        let args = [Arg::Address(7 << 40), Arg::U32(5), Arg::F32(1.5), Arg::U64(9)];
        let launch = Launch { kernel: "k", grid: [1; 3], block: [1; 3], args: &args };
        let mut params = Params::new(&launch).unwrap();
        let read = |pointer: &*mut c_void| {
            // SAFETY: each points to eight bytes of `params`, which is neither moved nor dropped meanwhile.
            unsafe { pointer.cast::<u64>().read() }
        };
        let values: Vec<u64> = params.pointers().iter().map(read).collect();
        assert_eq!(values, [7 << 40, 5, u64::from(1.5f32.to_bits()), 9]);
    }

    #[test]
    fn more_arguments_than_there_is_room_for_are_a_bug() {
        let args = [Arg::U32(0); PARAMS_MAX + 1];
        let launch = Launch { kernel: "k", grid: [1; 3], block: [1; 3], args: &args };
        assert!(matches!(Params::new(&launch), Err(DeviceError::WrongLaunch { .. })));
    }
}
