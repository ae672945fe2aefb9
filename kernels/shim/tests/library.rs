//! What is asked of NVIDIA's driver library, in which order and from which thread, and what is made of its errors: on a stand-in for it, which
//! does nothing before somebody waits.
#![allow(clippy::unwrap_used)]

use essaim_cuda_shim::STAND_IN;
use essaim_kernels::cuda::{Arg, CudaLibrary, Device, DeviceError, DeviceSource, Launch, PTX, ops};
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long a failure lasts: for one call, until the context is destroyed, until the process ends.
const ONCE: c_int = 0;
const CONTEXT: c_int = 1;
const PROCESS: c_int = 2;

/// The stand-in, for one test at a time.
struct StandIn {
    cuda: CudaLibrary,
    control: libloading::Library,
    _alone: MutexGuard<'static, ()>,
}

/// What is in use.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    device_bytes: u64,
    host_bytes: u64,
    contexts: u64,
    modules: u64,
    streams: u64,
    flags: u64,
}

/// `CU_CTX_SCHED_BLOCKING_SYNC`.
const NOTHING: Counts = Counts { device_bytes: 0, host_bytes: 0, contexts: 0, modules: 0, streams: 0, flags: 4 };

impl StandIn {
    fn new() -> StandIn {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: it is the library that the build made.
        let control = unsafe { libloading::Library::new(STAND_IN).unwrap() };
        // SAFETY: the function of that name takes nothing.
        unsafe { control.get::<unsafe extern "C" fn()>(b"stand_in_restart").unwrap()() };
        // SAFETY: the stand-in does what the functions it names do.
        let cuda = unsafe { CudaLibrary::load(Path::new(STAND_IN)).unwrap() };
        let stand_in = StandIn { cuda, control, _alone: alone };
        stand_in.take_log();
        stand_in
    }

    fn open(&self) -> Result<Device, DeviceError> {
        self.cuda.open(0)
    }

    /// The `number`th call of `function` from now on fails.
    fn fail(&self, function: &str, number: c_int, code: c_int, kind: c_int) {
        let name = CString::new(function).unwrap();
        // SAFETY: the function of that name takes these; the name lives through the call.
        unsafe {
            let fail = self.control.get::<unsafe extern "C" fn(*const c_char, c_int, c_int, c_int)>(b"stand_in_fail");
            fail.unwrap()(name.as_ptr(), number, code, kind);
        }
    }

    /// The functions that were called since the last time.
    fn take_log(&self) -> Vec<String> {
        // SAFETY: gives a text that is good until the next call.
        let text = unsafe {
            let take = self.control.get::<unsafe extern "C" fn() -> *const c_char>(b"stand_in_take_log").unwrap();
            CStr::from_ptr(take()).to_str().unwrap().to_owned()
        };
        text.lines().map(str::to_owned).collect()
    }

    fn counts(&self) -> Counts {
        let mut counts = [0; 6];
        // SAFETY: writes six numbers.
        unsafe { self.control.get::<unsafe extern "C" fn(*mut u64)>(b"stand_in_counts").unwrap()(counts.as_mut_ptr()) };
        let [device_bytes, host_bytes, contexts, modules, streams, flags] = counts;
        Counts { device_bytes, host_bytes, contexts, modules, streams, flags }
    }
}

fn code_of(error: &DeviceError) -> i32 {
    match error {
        DeviceError::Failed { code, .. } => *code,
        other => panic!("{other:?}"),
    }
}

fn read(device: &Device, view: essaim_kernels::cuda::View<'_, f32>) -> Result<Vec<f32>, DeviceError> {
    let mut values = vec![0.0; view.len()];
    device.download(view, &mut values)?;
    Ok(values)
}

#[test]
fn a_device_is_opened_and_given_back_in_order() {
    let stand_in = StandIn::new();
    let infos = stand_in.cuda.devices().unwrap();
    assert_eq!((infos.len(), infos[0].name.as_str(), infos[0].compute_capability), (1, "A stand-in", (8, 6)));
    assert!(!stand_in.take_log().iter().any(|call| call.contains("Ctx")), "a list starts no device");
    // Within, it takes the known-answer test.
    let device = stand_in.open().unwrap();
    assert_eq!((device.info().multiprocessors, device.info().free_bytes), (3, 1 << 30));
    assert_eq!(device.info().driver_version, "12.4");
    let log = stand_in.take_log();
    let order = [
        "cuDevicePrimaryCtxSetFlags_v2",
        "cuDevicePrimaryCtxRetain",
        "cuCtxSetCurrent",
        "cuMemGetInfo_v2",
        "cuModuleLoadDataEx",
        "cuStreamCreate",
        "cuMemAllocHost_v2",
        "cuModuleGetFunction",
        "cuMemAlloc_v2",
        "cuMemcpyHtoDAsync_v2",
        "cuLaunchKernel",
        "cuMemcpyDtoHAsync_v2",
        "cuStreamSynchronize",
    ];
    let first = order.map(|name| log.iter().position(|call| call == name).unwrap_or_else(|| panic!("no {name}")));
    assert!(first.is_sorted(), "{:?}", order.iter().zip(first).collect::<Vec<_>>());
    let looked_up = log.iter().filter(|call| *call == "cuModuleGetFunction").count();
    assert_eq!(looked_up, PTX.matches(".entry ").count());
    let open = Counts { device_bytes: 0, host_bytes: 8 << 20, contexts: 1, modules: 1, streams: 1, flags: 4 };
    assert_eq!(stand_in.counts(), open);
    drop(device);
    let end = ["cuCtxSetCurrent", "cuStreamSynchronize", "cuStreamDestroy_v2", "cuMemFreeHost", "cuModuleUnload"];
    assert_eq!(stand_in.take_log(), [&end[..], &["cuDevicePrimaryCtxRelease_v2"]].concat());
    assert_eq!(stand_in.counts(), NOTHING);
}

/// A context is current for one thread; the stand-in refuses calls of one for which it is not.
#[test]
fn any_thread_may_use_the_device() {
    let stand_in = StandIn::new();
    let device = stand_in.open().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let device = device.clone();
            scope.spawn(move || {
                let mut x = device.buffer_from(&[thread as f32; 1000]).unwrap();
                ops::scale(&device, x.view_mut(..), 3.0).unwrap();
                assert_eq!(read(&device, x.view(..)).unwrap(), [3.0 * thread as f32; 1000]);
            });
        }
    });
    std::thread::spawn(move || drop(device)).join().unwrap();
    assert_eq!(stand_in.counts(), NOTHING);
}

/// The driver may read the source of a copy long after the call: what changes meanwhile must not reach the device.
#[test]
fn what_is_uploaded_may_be_changed_at_once() {
    let stand_in = StandIn::new();
    let device = stand_in.open().unwrap();
    let mut x = device.buffer::<f32>(3).unwrap();
    stand_in.take_log();
    let mut values = vec![1.0, 2.0, 3.0];
    x.upload(&values).unwrap();
    values.fill(f32::NAN);
    drop(values);
    assert!(!stand_in.take_log().contains(&"cuStreamSynchronize".to_owned()), "a small copy waits for nothing");
    assert_eq!(read(&device, x.view(..)).unwrap(), [1.0, 2.0, 3.0]);
    // More than the staging memory holds, from an odd place in it; then once more, as it is.
    for len in [(9 << 18) + 5, 1 << 20, 1 << 20] {
        let mut values: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let mut x = device.buffer(len).unwrap();
        device.upload(x.view_mut(..1), &[-1.0]).unwrap();
        device.upload(x.view_mut(1..), &values[1..]).unwrap();
        let want = [&[-1.0], &values[1..]].concat();
        values.fill(f32::NAN);
        assert!(read(&device, x.view(..)).unwrap() == want, "{len} elements");
    }
}

#[test]
fn memory_is_given_back_and_too_much_is_refused_with_the_numbers() {
    let stand_in = StandIn::new();
    let device = stand_in.open().unwrap();
    let (x, y) = (device.buffer::<f32>(1000).unwrap(), device.buffer::<u32>(0).unwrap());
    assert_eq!(stand_in.counts().device_bytes, 4004);
    drop(x);
    assert_eq!(stand_in.counts().device_bytes, 4);
    let error = device.buffer::<f32>(1 << 28).unwrap_err();
    let (asked_bytes, total_bytes) = (1 << 30, 1 << 30);
    assert_eq!(error, DeviceError::OutOfMemory { asked_bytes, free_bytes: total_bytes - 4, total_bytes });
    assert!(device.buffer_from(&[1.0]).is_ok(), "it is not lost");
    drop((y, device));
    assert_eq!(stand_in.counts(), NOTHING);
}

/// A kernel that fails takes the context with it. Once it is destroyed, the device can be had again.
#[test]
fn a_lost_device_says_so_until_it_is_opened_again() {
    let stand_in = StandIn::new();
    let device = stand_in.open().unwrap();
    let x = device.buffer_from(&[1.0]).unwrap();
    let args = [Arg::Address(0x100), Arg::F32(1.0), Arg::U64(1)];
    let launch = Launch { kernel: "essaim_fill", grid: [1; 3], block: [256, 1, 1], args: &args };
    // SAFETY: the address leads nowhere, and the stand-in touches only what is a buffer of its own.
    assert_eq!(unsafe { device.launch(&launch) }, Ok(()), "it is only queued");
    let error = device.synchronize().unwrap_err();
    let reason = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered".into();
    assert_eq!(error, DeviceError::Failed { operation: "waiting for the device", code: 700, reason });
    stand_in.take_log();
    assert_eq!(device.synchronize(), Err(error.clone()));
    assert_eq!(device.buffer::<f32>(1).map(|_| ()), Err(error.clone()));
    assert_eq!(read(&device, x.view(..)), Err(error.clone()));
    assert_eq!(stand_in.take_log(), Vec::<String>::new(), "a lost device is asked nothing more");
    drop((x, device));
    assert_eq!(stand_in.counts(), NOTHING);
    let device = stand_in.open().unwrap();
    assert_eq!(read(&device, device.buffer_from(&[2.0]).unwrap().view(..)).unwrap(), [2.0]);
}

#[test]
fn a_process_that_the_driver_will_not_have_back() {
    let stand_in = StandIn::new();
    let device = stand_in.open().unwrap();
    stand_in.fail("cuStreamSynchronize", 1, 719, PROCESS);
    assert_eq!(code_of(&device.synchronize().unwrap_err()), 719);
    drop(device);
    assert_eq!(code_of(&stand_in.open().unwrap_err()), 719);
    assert_eq!(stand_in.counts(), NOTHING);
}

/// Drivers to come have errors that this program does not know.
#[test]
fn codes_that_nobody_knows_are_passed_on() {
    let stand_in = StandIn::new();
    for code in [98_765, -5, i32::MAX, i32::MIN] {
        let device = stand_in.open().unwrap();
        stand_in.fail("cuLaunchKernel", 1, code, CONTEXT);
        let mut x = device.buffer::<f32>(1).unwrap();
        let error = ops::fill(&device, x.view_mut(..), 1.0).unwrap_err();
        let reason = "the driver has no name for it".to_owned();
        assert_eq!(error, DeviceError::Failed { operation: "essaim_fill", code, reason });
    }
}

#[test]
fn whatever_fails_at_opening_leaves_nothing() {
    let stand_in = StandIn::new();
    let functions = [
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceTotalMem_v2",
        "cuDevicePrimaryCtxRetain",
        "cuCtxSetCurrent",
        "cuMemGetInfo_v2",
        "cuModuleLoadDataEx",
        "cuStreamCreate",
        "cuMemAllocHost_v2",
        "cuModuleGetFunction",
        "cuMemAlloc_v2",
        "cuMemcpyHtoDAsync_v2",
        "cuLaunchKernel",
        "cuMemcpyDtoHAsync_v2",
        "cuStreamSynchronize",
    ];
    for function in functions {
        stand_in.fail(function, 1, 218, ONCE);
        let error = stand_in.open().unwrap_err();
        assert_eq!(code_of(&error), 218, "{function}");
        assert!(error.to_string().contains("CUDA_ERROR_INVALID_PTX: a PTX JIT compilation failed"), "{error}");
        assert_eq!(error.to_string().contains("; line 9: no such instruction"), function == "cuModuleLoadDataEx");
        let left = stand_in.counts();
        assert_eq!((left.contexts, left.device_bytes, left.host_bytes), (0, 0, 0), "{function}: {left:?}");
    }
    // These only say how fast it is, and how to wait.
    stand_in.fail("cuDeviceGetAttribute", 4, 1, ONCE);
    stand_in.fail("cuDevicePrimaryCtxSetFlags_v2", 1, 708, ONCE);
    assert_eq!(stand_in.open().unwrap().info().clock_khz, 0);
}

#[test]
fn a_library_without_device_and_one_that_is_another() {
    let stand_in = StandIn::new();
    // SAFETY: the stand-in does what the functions it names do; of others none is called.
    let load = |path: &str| unsafe { CudaLibrary::load(Path::new(path)) }.map(|_| ()).unwrap_err().to_string();
    stand_in.fail("cuInit", 1, 100, ONCE);
    assert!(load(STAND_IN).contains("finds no device"));
    stand_in.fail("cuInit", 1, 4321, ONCE);
    assert!(load(STAND_IN).ends_with("does not start: the driver has no name for it"));
    let error = load("libm.so.6");
    assert!(error.contains("cuInit") && error.contains("install NVIDIA's driver"), "{error}");
    assert_eq!(stand_in.cuda.open(1).unwrap_err(), DeviceError::NoSuchDevice { ordinal: 1, count: 1 });
}

#[test]
fn what_kernels_take_is_told() {
    let stand_in = StandIn::new();
    let resources = stand_in.cuda.resources(0).unwrap();
    assert_eq!(resources.len(), PTX.matches(".entry ").count());
    assert!(
        resources.iter().all(|kernel| (kernel.registers, kernel.local_bytes, kernel.shared_bytes) == (40, 0, 1024))
    );
    assert_eq!(stand_in.counts(), NOTHING);
}
