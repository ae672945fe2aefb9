//! One card in use: its context, stream, kernels.

use super::super::driver::{Arg, DeviceError, DeviceInfo, Driver, KernelResources, Launch};
use super::api::{
    Api, Code, DeviceHandle, FunctionAttribute, Handle, JIT_ERROR_LOG, OUT_OF_MEMORY, SCHED_BLOCKING_SYNC,
    STREAM_NON_BLOCKING,
};
use super::library::{check, describe};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Page-locked memory through which copies go to the device, and as much for those that come from it.
const STAGING_BYTES: usize = 4 << 20;

/// A card that was opened. Dropping it gives the card back.
///
/// After a failure of a kernel the driver answers every later call with the same error: the card is then *lost* for this object, and only
/// a new one, once this is dropped, can use it again, if the driver lets this process at all.
pub(super) struct Nvidia {
    primary: Primary,
    stream: Handle,
    module: Handle,
    functions: BTreeMap<&'static str, Handle>,
    staging: Mutex<Staging>,
    info: DeviceInfo,
    lost: OnceLock<DeviceError>,
}

// SAFETY: the handles are the driver's, which takes calls from any thread; each call here makes the context current first.
unsafe impl Send for Nvidia {}
// SAFETY: as above; what changes is behind a `OnceLock` and a `Mutex`.
unsafe impl Sync for Nvidia {}

impl std::fmt::Debug for Nvidia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nvidia").field("info", &self.info).field("lost", &self.lost).finish_non_exhaustive()
    }
}

/// A device's primary context, held.
struct Primary {
    api: Arc<Api>,
    device: DeviceHandle,
    context: Handle,
}

impl Primary {
    /// Retains it. Who waits for the device sleeps meanwhile: the machine is a volunteer's, who has other uses for a core.
    fn retain(api: Arc<Api>, device: DeviceHandle) -> Result<Primary, DeviceError> {
        let mut context = std::ptr::null_mut();
        // SAFETY: the handle is the driver's, the pointer is to a pointer.
        let code = unsafe {
            // If it fails, waiting takes a core, and that is all.
            let _ = api.primary_set_flags(device, SCHED_BLOCKING_SYNC);
            api.primary_retain(&raw mut context, device)
        };
        check(&api, "starting the CUDA device", code)?;
        Ok(Primary { api, device, context })
    }

    /// Does something in the context.
    fn enter<T>(&self, operation: &'static str, work: impl FnOnce(&Api) -> Result<T, Code>) -> Result<T, DeviceError> {
        // SAFETY: the context is held.
        let made_current = done(unsafe { self.api.set_current(self.context) });
        made_current.and_then(|()| work(&self.api)).map_err(|code| DeviceError::Failed {
            operation,
            code,
            reason: describe(&self.api, code),
        })
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        // SAFETY: it was retained once, and everything made in it is gone.
        let _ = unsafe { self.api.primary_release(self.device) };
    }
}

fn done(code: Code) -> Result<(), Code> {
    if code == 0 { Ok(()) } else { Err(code) }
}

/// Between the caller's memory and the device. The driver may use the host's side of an asynchronous copy after the call (of pageable memory it
/// only says that it *might* wait), even after a wait that failed; so that side is memory that lives as long as the context.
struct Staging {
    /// What goes to the device; [`STAGING_BYTES`] further, what comes from it.
    start: *mut u8,
    /// Bytes from the start that may still be read: until the next wait.
    used: usize,
}

/// Free and total memory, in bytes.
fn memory_info(api: &Api) -> Result<(u64, u64), Code> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: pointers to integers.
    done(unsafe { api.memory_info(&raw mut free, &raw mut total) })?;
    Ok((free as u64, total as u64))
}

impl Nvidia {
    /// Opens `device` and loads `ptx`.
    pub(super) fn new(
        api: Arc<Api>,
        device: DeviceHandle,
        mut info: DeviceInfo,
        ptx: &'static str,
    ) -> Result<Nvidia, DeviceError> {
        let primary = Primary::retain(api, device)?;
        (info.free_bytes, info.memory_bytes) = primary.enter("asking for the device's free memory", memory_info)?;
        let module = load_module(&primary, ptx)?;
        // From here on, what is made is given back by dropping this.
        let mut nvidia = Nvidia {
            primary,
            stream: std::ptr::null_mut(),
            module,
            functions: BTreeMap::new(),
            staging: Mutex::new(Staging { start: std::ptr::null_mut(), used: 0 }),
            info,
            lost: OnceLock::new(),
        };
        let mut stream = std::ptr::null_mut();
        // SAFETY: the pointer is to a pointer.
        let create = |api: &Api| done(unsafe { api.stream_create(&raw mut stream, STREAM_NON_BLOCKING) });
        nvidia.primary.enter("making a CUDA stream", create)?;
        nvidia.stream = stream;
        let mut start = std::ptr::null_mut();
        // SAFETY: the pointer is to a pointer.
        let pin = |api: &Api| done(unsafe { api.host_alloc(&raw mut start, 2 * STAGING_BYTES) });
        nvidia.primary.enter("page-locking memory of the machine", pin)?;
        nvidia.staging = Mutex::new(Staging { start: start.cast(), used: 0 });
        for name in entries(ptx) {
            let c_name = CString::new(name).map_err(|_| DeviceError::UnknownKernel { name: name.to_owned() })?;
            let mut function = std::ptr::null_mut();
            // SAFETY: the module is loaded, the name ends with a zero.
            let find = |api: &Api| done(unsafe { api.module_function(&raw mut function, module, c_name.as_ptr()) });
            nvidia.primary.enter("looking up a kernel", find)?;
            nvidia.functions.insert(name, function);
        }
        Ok(nvidia)
    }

    /// What each kernel takes of a multiprocessor, by name.
    pub(super) fn resources(&self) -> Result<Vec<KernelResources>, DeviceError> {
        let of_one = |(name, function): (&&'static str, &Handle)| {
            let attribute = |attribute: FunctionAttribute| {
                let mut value = 0;
                // SAFETY: the pointer is to an integer, the function of the loaded module.
                let ask =
                    |api: &Api| done(unsafe { api.function_attribute(&raw mut value, attribute as c_int, *function) });
                self.primary.enter("asking about a kernel", ask)?;
                Ok(value.max(0).unsigned_abs())
            };
            Ok(KernelResources {
                name,
                registers: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
                local_bytes: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
                shared_bytes: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            })
        };
        self.functions.iter().map(of_one).collect()
    }

    /// Does something in the context of the card, unless it is lost. A failure loses it.
    fn run<T>(&self, operation: &'static str, work: impl FnOnce(&Api) -> Result<T, Code>) -> Result<T, DeviceError> {
        if let Some(error) = self.lost.get() {
            return Err(error.clone());
        }
        self.primary.enter(operation, work).inspect_err(|error| {
            self.lost.get_or_init(|| error.clone());
        })
    }

    fn staging(&self) -> MutexGuard<'_, Staging> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for everything queued; then nothing reads the staging memory any more.
    fn settle(&self, staging: &mut Staging) -> Result<(), DeviceError> {
        // SAFETY: the stream lives as long as this object.
        self.run("waiting for the device", |api| done(unsafe { api.stream_synchronize(self.stream) }))?;
        staging.used = 0;
        Ok(())
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
        let asked = self.primary.enter("allocating device memory", |api| {
            let mut address = 0;
            // SAFETY: the pointer is to an integer. The memory is undefined until written, as the trait says.
            match unsafe { api.alloc(&raw mut address, len_bytes) } {
                OUT_OF_MEMORY => Ok(Err(memory_info(api)?)),
                code => done(code).map(|()| Ok(address)),
            }
        });
        asked?.map_err(|(free_bytes, total_bytes)| DeviceError::OutOfMemory {
            asked_bytes: len_bytes as u64,
            free_bytes,
            total_bytes,
        })
    }

    fn free(&self, address: u64) {
        // Waits for the work queued before. A failure of that work shows in the next call; of a lost card nothing can be freed singly.
        let _ = self.primary.enter("freeing device memory", |api| {
            // SAFETY: the address came from `alloc`, and its owner is being dropped.
            unsafe { done(api.stream_synchronize(self.stream)).and_then(|()| done(api.free(address))) }
        });
    }

    fn upload(&self, target: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut staging = self.staging();
        let mut to = target;
        let mut rest = bytes;
        while !rest.is_empty() {
            if staging.used == STAGING_BYTES {
                self.settle(&mut staging)?;
            }
            let (now, later) = rest.split_at(rest.len().min(STAGING_BYTES - staging.used));
            // SAFETY: within the staging memory, of which nothing uses this part before the next wait; the target is the caller's memory of
            // that length.
            self.run("copying to the device", |api| unsafe {
                let from = staging.start.add(staging.used);
                std::ptr::copy_nonoverlapping(now.as_ptr(), from, now.len());
                done(api.copy_to_device(to, from.cast(), now.len(), self.stream))
            })?;
            staging.used += now.len();
            to += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn download(&self, source: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let mut staging = self.staging();
        let mut from = source;
        for part in bytes.chunks_mut(STAGING_BYTES) {
            // SAFETY: the source is the caller's memory of that length; nobody else has this half of the staging memory while it is locked.
            let half = unsafe { staging.start.add(STAGING_BYTES) };
            // SAFETY: as above.
            self.run("copying from the device", |api| unsafe {
                done(api.copy_from_device(half.cast(), from, part.len(), self.stream))
            })?;
            self.settle(&mut staging)?;
            // SAFETY: it was waited for, and is as long as the part.
            unsafe { std::ptr::copy_nonoverlapping(half, part.as_mut_ptr(), part.len()) };
            from += part.len() as u64;
        }
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let unknown = || DeviceError::UnknownKernel { name: launch.kernel.to_owned() };
        let function = *self.functions.get(launch.kernel).ok_or_else(unknown)?;
        let mut params = Params::new(launch)?;
        let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (launch.grid, launch.block);
        let (stream, params, extra) = (self.stream, params.pointers().as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the function belongs to the loaded module; arguments are the caller's promise; the driver copies them here and now.
        let queue = |api: &Api| unsafe {
            api.launch(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, 0, stream, params, extra)
        };
        self.run(launch.kernel, |api| done(queue(api)))
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.settle(&mut self.staging())
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        let staging = self.staging().start;
        let _ = self.primary.enter("giving the device back", |api| {
            // SAFETY: nothing else uses stream, module and staging memory, and all work on them is waited for. Of a lost card the calls fail,
            // and giving back the context frees what it had.
            unsafe {
                if !self.stream.is_null() {
                    let _ = api.stream_synchronize(self.stream);
                    let _ = api.stream_destroy(self.stream);
                }
                if !staging.is_null() {
                    let _ = api.host_free(staging.cast());
                }
                done(api.module_unload(self.module))
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

/// Has the driver translate `ptx` for the card of the context. What its translator says when it fails is in the error.
fn load_module(primary: &Primary, ptx: &str) -> Result<Handle, DeviceError> {
    const OPERATION: &str = "translating the kernels for this device";
    const LOG_LEN: usize = 4096;
    let failed = |code, reason| DeviceError::Failed { operation: OPERATION, code, reason };
    let image = CString::new(ptx).map_err(|_| failed(0, "the PTX has a zero byte".into()))?;
    let mut log = [0u8; LOG_LEN];
    let mut options = JIT_ERROR_LOG;
    // The size is passed by value, in the place of a pointer.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(LOG_LEN - 1)];
    let mut module = std::ptr::null_mut();
    let loaded = primary.enter(OPERATION, |api| {
        // SAFETY: a context is current; image, options and log live through the call; the log keeps its last zero byte.
        Ok(unsafe {
            let (image, len) = (image.as_ptr().cast(), options.len() as u32);
            api.module_load(&raw mut module, image, len, options.as_mut_ptr(), values.as_mut_ptr())
        })
    });
    match loaded? {
        0 => Ok(module),
        code => {
            let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
            let log = log.split_whitespace().collect::<Vec<_>>().join(" ");
            let separator = if log.is_empty() { "" } else { "; " };
            Err(failed(code, format!("{}{separator}{log}", describe(&primary.api, code))))
        }
    }
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
