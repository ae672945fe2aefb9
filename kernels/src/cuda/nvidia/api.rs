//! NVIDIA's driver library, which `cudarc` finds when the program runs: the functions that are used of it, as `cuda.h` declares them.
//!
//! A result is a plain integer here. In C it is an enumeration to which every driver may add, and `cudarc`'s own declarations make a Rust `enum` of it,
//! which is undefined behaviour as soon as a newer driver answers with an error that did not exist when the program was built.

use cudarc::driver::sys;
use libloading::Library;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::Path;

/// `CUresult`: 0 is success.
pub(super) type Code = c_int;
/// `CUdevice`, a number.
pub(super) type DeviceHandle = c_int;
/// `CUdeviceptr`.
pub(super) type Address = u64;
/// `CUcontext`, `CUstream`, `CUmodule` or `CUfunction`: opaque.
pub(super) type Handle = *mut c_void;

/// `CUDA_ERROR_OUT_OF_MEMORY`.
pub(super) const OUT_OF_MEMORY: Code = sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY as Code;
/// `CUDA_ERROR_NO_DEVICE`.
pub(super) const NO_DEVICE: Code = sys::CUresult::CUDA_ERROR_NO_DEVICE as Code;

/// A number about a device.
pub(super) use sys::CUdevice_attribute as DeviceAttribute;
/// A number about a kernel.
pub(super) use sys::CUfunction_attribute as FunctionAttribute;

/// Who waits for the device sleeps, instead of asking again and again.
pub(super) const SCHED_BLOCKING_SYNC: c_uint = sys::CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as c_uint;
/// Nothing waits for the default stream, which is not used.
pub(super) const STREAM_NON_BLOCKING: c_uint = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint;
/// A buffer for what the translation of PTX finds wrong, and its length.
pub(super) const JIT_ERROR_LOG: [c_int; 2] = [
    sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER as c_int,
    sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as c_int,
];

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal($($argument:ident: $kind:ty),*);)*) => {
        /// The functions of a library that stays loaded as long as the program runs. Each gives a [`Code`].
        pub(super) struct Api {
            $($name: unsafe extern "system" fn($($kind),*) -> Code,)*
        }

        impl Api {
            /// Those of a library.
            ///
            /// # Errors
            /// What the system says: a function is missing.
            ///
            /// # Safety
            /// The library is NVIDIA's, or has functions of the same names that do the same with the same arguments. It is never
            /// unloaded.
            unsafe fn of(library: &Library) -> Result<Api, libloading::Error> {
                // SAFETY: the caller's promise; the types are those of cuda.h.
                Ok(unsafe { Api { $($name: *library.get($symbol)?,)* } })
            }

            $(
                $(#[$doc])*
                ///
                /// # Safety
                /// As NVIDIA's description of the function demands; pointers lead to what is written or read.
                #[allow(clippy::too_many_arguments)]
                pub(super) unsafe fn $name(&self, $($argument: $kind),*) -> Code {
                    // SAFETY: the caller's promise.
                    unsafe { (self.$name)($($argument),*) }
                }
            )*
        }
    };
}

// Of a function that exists in several versions, the symbol is the one to which cuda.h leads. All are in each driver from that of CUDA 11.0 on.
functions! {
    /// Before all others.
    init = b"cuInit\0"(flags: c_uint);
    /// 12040 is 12.4.
    driver_version = b"cuDriverGetVersion\0"(version: *mut c_int);
    /// `CUDA_ERROR_…`, static; fails for an unknown code.
    error_name = b"cuGetErrorName\0"(error: Code, text: *mut *const c_char);
    /// A few words, static; fails for an unknown code.
    error_string = b"cuGetErrorString\0"(error: Code, text: *mut *const c_char);

    /// How many devices there are.
    device_count = b"cuDeviceGetCount\0"(count: *mut c_int);
    /// The handle of a device.
    device_get = b"cuDeviceGet\0"(device: *mut DeviceHandle, ordinal: c_int);
    /// Its name, cut to `len` bytes with the zero at the end.
    device_name = b"cuDeviceGetName\0"(name: *mut c_char, len: c_int, device: DeviceHandle);
    /// A number about it: a [`DeviceAttribute`].
    device_attribute = b"cuDeviceGetAttribute\0"(value: *mut c_int, attribute: c_int, device: DeviceHandle);
    /// All of its memory.
    device_memory = b"cuDeviceTotalMem_v2\0"(bytes: *mut usize, device: DeviceHandle);

    /// How the primary context will wait.
    primary_set_flags = b"cuDevicePrimaryCtxSetFlags_v2\0"(device: DeviceHandle, flags: c_uint);
    /// Makes the primary context, or counts one user more.
    primary_retain = b"cuDevicePrimaryCtxRetain\0"(context: *mut Handle, device: DeviceHandle);
    /// Counts one user less; the last destroys it with all it has.
    primary_release = b"cuDevicePrimaryCtxRelease_v2\0"(device: DeviceHandle);
    /// For the calling thread.
    set_current = b"cuCtxSetCurrent\0"(context: Handle);

    /// Free and total memory of the current context's device.
    memory_info = b"cuMemGetInfo_v2\0"(free: *mut usize, total: *mut usize);
    /// Device memory.
    alloc = b"cuMemAlloc_v2\0"(address: *mut Address, bytes: usize);
    /// Gives it back.
    free = b"cuMemFree_v2\0"(address: Address);
    /// Page-locked memory of the host.
    host_alloc = b"cuMemAllocHost_v2\0"(pointer: *mut *mut c_void, bytes: usize);
    /// Gives it back.
    host_free = b"cuMemFreeHost\0"(pointer: *mut c_void);
    /// Queues a copy to the device.
    copy_to_device = b"cuMemcpyHtoDAsync_v2\0"(to: Address, from: *const c_void, bytes: usize, stream: Handle);
    /// Queues a copy from the device.
    copy_from_device = b"cuMemcpyDtoHAsync_v2\0"(to: *mut c_void, from: Address, bytes: usize, stream: Handle);

    /// A queue of work.
    stream_create = b"cuStreamCreate\0"(stream: *mut Handle, flags: c_uint);
    /// Waits until it is empty.
    stream_synchronize = b"cuStreamSynchronize\0"(stream: Handle);
    /// Gives it back.
    stream_destroy = b"cuStreamDestroy_v2\0"(stream: Handle);

    /// Translates PTX for the current context's device.
    module_load = b"cuModuleLoadDataEx\0"(
        module: *mut Handle, image: *const c_void, options_len: c_uint, options: *mut c_int, values: *mut *mut c_void
    );
    /// Gives it back.
    module_unload = b"cuModuleUnload\0"(module: Handle);
    /// A kernel by its name.
    module_function = b"cuModuleGetFunction\0"(function: *mut Handle, module: Handle, name: *const c_char);
    /// A number about a kernel: a [`FunctionAttribute`].
    function_attribute = b"cuFuncGetAttribute\0"(value: *mut c_int, attribute: c_int, function: Handle);
    /// Queues a kernel. The parameters are copied before it returns.
    launch = b"cuLaunchKernel\0"(
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
        block_z: c_uint, shared_bytes: c_uint, stream: Handle, params: *mut *mut c_void, extra: *mut *mut c_void
    );
}

impl Api {
    /// Those of the system's library; none where there is no library that can be loaded.
    ///
    /// # Errors
    /// As [`Api::of`].
    pub(super) fn system() -> Result<Option<Api>, libloading::Error> {
        // SAFETY: these look for NVIDIA's library by its name, and `culib` keeps it until the program ends. It panics where there is none.
        unsafe { if sys::is_culib_present() { Api::of(sys::culib()).map(Some) } else { Ok(None) } }
    }

    /// Those of the library at that path.
    ///
    /// # Errors
    /// What the system says: there is none, or a function is missing.
    ///
    /// # Safety
    /// As [`Api::of`].
    pub(super) unsafe fn load(path: &Path) -> Result<Api, libloading::Error> {
        // SAFETY: the caller's promise.
        let library = unsafe { Library::new(path)? };
        // SAFETY: the caller's promise, and the next line's.
        let api = unsafe { Api::of(&library) };
        // It has threads of its own and is not made to be unloaded.
        std::mem::forget(library);
        api
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}
