//! The shim itself: that it runs blocks as a card would, and sees what a card would not forgive.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use essaim_cuda_shim::{Call, Counts, Options, Order, ShimDriver, WatchedDriver};
use essaim_kernels::cuda::{Arg, Buffer, Device, DeviceError, Driver, Launch};

const ORDERS: [Order; 4] = [Order::Forward, Order::Backward, Order::Shuffled(7), Order::Rotating];

fn driver(order: Order) -> Arc<ShimDriver> {
    ShimDriver::with(Options { order, ..Options::default() }).unwrap()
}

fn launch(device: &Device, kernel: &'static str, grid: u32, block: u32, args: &[Arg]) -> Result<(), DeviceError> {
    // SAFETY: the tests below give each kernel the memory it touches, or the fences around it.
    unsafe { device.launch(&Launch { kernel, grid: [grid, 1, 1], block: [block, 1, 1], args }) }
}

#[test]
fn barriers_hold_in_every_order() -> Result<(), DeviceError> {
    for order in ORDERS {
        let device = Device::new(driver(order));
        let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let mut x = device.buffer_from(&values)?;
        launch(&device, "shim_test_reverse", 4, 256, &[x.view_mut(..).arg(), 1000u32.into()])?;
        let mut got = vec![0.0; 1000];
        x.download(&mut got)?;
        let want: Vec<f32> = values.chunks(256).flat_map(|part| part.iter().rev().copied()).collect();
        assert_eq!(got, want, "{order:?}");

        for len in [1u32, 2, 31, 33, 256, 1024] {
            let mut x = device.buffer_from(&vec![1u32; len as usize])?;
            launch(&device, "shim_test_scan", 1, len, &[x.view_mut(..).arg()])?;
            let mut got = vec![0; len as usize];
            x.download(&mut got)?;
            assert_eq!(got, (1..=len).collect::<Vec<_>>(), "{order:?}, {len}");
        }
    }
    Ok(())
}

/// The point of having several orders.
#[test]
fn a_missing_barrier_shows() -> Result<(), DeviceError> {
    let run = |order: Order| -> Result<bool, DeviceError> {
        let device = Device::new(driver(order));
        let mut x = device.buffer_from(&[1u32; 64])?;
        launch(&device, "shim_test_racy_scan", 1, 64, &[x.view_mut(..).arg()])?;
        let mut got = vec![0; 64];
        x.download(&mut got)?;
        Ok(got == (1..=64).collect::<Vec<_>>())
    };
    assert!(!run(Order::Forward)?, "forward, a thread reads what its left neighbour has just written");
    assert!(run(Order::Backward)?, "backward, this one hides");
    assert!(!run(Order::Shuffled(3))?);
    Ok(())
}

#[test]
fn warps_exchange_their_values() -> Result<(), DeviceError> {
    for order in ORDERS {
        let device = Device::new(driver(order));
        // Powers of two that only the right pairing adds without loss are not needed: sums of these differ if a lane is missed or counted twice.
        let values: Vec<f32> = (0..128u32).map(|i| (1u32 << (i % 24)) as f32).collect();
        let x = device.buffer_from(&values)?;
        let (mut down, mut across) = (device.buffer::<f32>(4)?, device.buffer::<f32>(128)?);
        let args = [x.view(..).arg(), down.view_mut(..).arg(), across.view_mut(..).arg()];
        launch(&device, "shim_test_warp", 1, 128, &args)?;
        let (mut got_down, mut got_across) = (vec![0.0; 4], vec![0.0; 128]);
        down.download(&mut got_down)?;
        across.download(&mut got_across)?;
        let want: Vec<f32> = values.chunks(32).map(|warp| warp.iter().sum()).collect();
        assert_eq!(got_down, want);
        assert_eq!(got_across, want.iter().flat_map(|sum| [*sum; 32]).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn indices_and_parameters_arrive() -> Result<(), DeviceError> {
    let device = Device::new(driver(Order::Rotating));
    let (grid, block) = ([2u32, 3, 4], [5u32, 2, 3]);
    let (blocks, threads) = (24, 30);
    let mut out = device.buffer::<u32>(blocks * threads)?;
    let args = [out.view_mut(..).arg(), 3u32.into(), (5u64 << 32).into(), f32::from_bits(9).into()];
    // SAFETY: the kernel writes one element a thread.
    unsafe { device.launch(&Launch { kernel: "shim_test_indices", grid, block, args: &args })? };
    let mut got = vec![0; blocks * threads];
    out.download(&mut got)?;
    let want: Vec<u32> = (0..24).flat_map(|block| (0..30).map(move |thread| block * 1000 + thread + 17)).collect();
    assert_eq!(got, want);
    Ok(())
}

#[test]
fn wrong_launches_are_refused_and_do_no_harm() -> Result<(), DeviceError> {
    let device = Device::new(driver(Order::Forward));
    let mut x = device.buffer::<f32>(8)?;
    let at = x.view_mut(..).arg();
    let reason = |result: Result<(), DeviceError>| match result {
        Err(DeviceError::WrongLaunch { kernel, reason }) if kernel == "essaim_fill" => reason,
        other => panic!("{other:?}"),
    };
    let fill = |args: &[Arg]| launch(&device, "essaim_fill", 1, 32, args);
    assert_eq!(reason(fill(&[at, 1.0f32.into()])), "2 arguments for 3 parameters");
    assert_eq!(reason(fill(&[at, 1u32.into(), 8u64.into()])), "argument 1 is U32(1) for a F32");
    assert_eq!(reason(fill(&[at, 1.0f32.into(), 8u32.into()])), "argument 2 is U32(8) for a U64");
    assert_eq!(reason(fill(&[8u64.into(), 1.0f32.into(), 8u64.into()])), "argument 0 is U64(8) for a Address");
    let nowhere = Arg::Address(0x1000);
    assert_eq!(
        reason(fill(&[nowhere, 1.0f32.into(), 8u64.into()])),
        "argument 0 points to 0x1000, which is in no buffer"
    );
    for (grid, block) in [(0, 32), (1, 0), (1, 1025), (1 << 31, 1)] {
        let args = [at, 1.0f32.into(), 8u64.into()];
        assert!(reason(launch(&device, "essaim_fill", grid, block, &args)).starts_with("no card takes"));
    }
    let unknown = launch(&device, "essaim_nothing", 1, 32, &[]);
    assert_eq!(unknown, Err(DeviceError::UnknownKernel { name: "essaim_nothing".into() }));
    fill(&[at, 1.0f32.into(), 8u64.into()])?;
    let mut got = [0.0; 8];
    x.download(&mut got)?;
    assert_eq!(got, [1.0; 8]);
    Ok(())
}

fn harm(result: Result<(), DeviceError>) -> String {
    match result {
        Err(DeviceError::Failed { code: 700, reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn writing_beyond_a_buffer_ends_the_device() -> Result<(), DeviceError> {
    let device = Device::new(driver(Order::Forward));
    let mut x = device.buffer::<f32>(100)?;
    let args = [x.view_mut(..).arg(), 100u32.into()];
    let found = harm(launch(&device, "shim_test_beyond", 1, 128, &args));
    assert_eq!(found, "shim_test_beyond: something was written 0 bytes beyond the end of a buffer of 400 bytes");
    assert_eq!(harm(device.synchronize()), found);
    assert_eq!(harm(x.upload(&[0.0; 100])), found);
    assert_eq!(harm(device.buffer::<f32>(1).map(drop)), found);
    Ok(())
}

#[test]
#[should_panic(expected = "nobody asked")]
fn harm_that_is_found_last_of_all_is_not_passed_over() {
    let driver = driver(Order::Forward);
    let device = Device::new(driver.clone());
    let x = device.buffer::<f32>(100).unwrap();
    let Arg::Address(at) = x.view(..).arg() else { panic!("no address") };
    // SAFETY: writes into the fence behind the buffer.
    unsafe { ((at + 400) as *mut u8).write(0) };
    drop(x);
    drop(device);
    drop(driver);
}

#[test]
fn barriers_that_not_all_threads_reach_are_found() -> Result<(), DeviceError> {
    for order in ORDERS {
        for kernel in ["shim_test_diverged", "shim_test_two_barriers"] {
            let device = Device::new(driver(order));
            let mut x = device.buffer::<f32>(64)?;
            let found = harm(launch(&device, kernel, 1, 64, &[x.view_mut(..).arg()]));
            assert!(
                found.starts_with(kernel) && found.contains("not all threads of a block reach tests.cu:"),
                "{found}"
            );
        }
        let device = Device::new(driver(order));
        let mut x = device.buffer_from(&[1u32; 64])?;
        launch(&device, "shim_test_scan", 1, 64, &[x.view_mut(..).arg()])?;
    }
    Ok(())
}

#[test]
fn memory_that_nobody_wrote_is_not_a_number() -> Result<(), DeviceError> {
    let device = Device::new(driver(Order::Rotating));
    let mut x = device.buffer::<f32>(64 * 9)?;
    let mut got = vec![0.0; 64 * 9];
    x.download(&mut got)?;
    assert!(got.iter().all(|value| value.is_nan()));
    launch(&device, "essaim_fill", 3, 256, &[x.view_mut(..).arg(), 1.0f32.into(), (64u64 * 9).into()])?;
    launch(&device, "shim_test_unwritten", 9, 64, &[x.view_mut(..).arg()])?;
    x.download(&mut got)?;
    assert!(got.iter().all(|value| value.is_nan()), "shared memory survives from one block to the next");
    Ok(())
}

#[test]
fn memory_is_counted() -> Result<(), DeviceError> {
    let driver = ShimDriver::with(Options { memory_bytes: 1000, ..Options::default() })?;
    let device = Device::new(driver.clone());
    let kept = device.buffer::<f32>(200)?;
    let refused = device.buffer::<f32>(51).unwrap_err();
    assert_eq!(refused, DeviceError::OutOfMemory { asked_bytes: 204, free_bytes: 200, total_bytes: 1000 });
    assert_eq!(driver.used_bytes(), 800);
    drop(kept);
    assert_eq!(driver.used_bytes(), 0);
    Ok(())
}

#[test]
fn a_watched_driver_counts_and_fails_when_told() -> Result<(), DeviceError> {
    let watched = WatchedDriver::new(driver(Order::Forward));
    let device = Device::new(watched.clone());
    let mut x = device.buffer_from(&[0.0f32; 8])?;
    let args = [x.view_mut(..).arg(), 2.0f32.into(), 8u64.into()];
    launch(&device, "essaim_fill", 1, 32, &args)?;
    assert_eq!(watched.launched(), ["essaim_fill"]);
    let counts = Counts { allocs: 1, uploads: 1, launches: 1, ..Counts::default() };
    assert_eq!((watched.take_counts(), watched.take_counts()), (counts, Counts::default()));

    let lost = DeviceError::Failed { operation: "launch", code: 719, reason: "the card fell off".into() };
    watched.fail_at(Call::Launch, 2, lost.clone());
    launch(&device, "essaim_fill", 1, 32, &args)?;
    device.synchronize()?;
    assert_eq!(launch(&device, "essaim_fill", 1, 32, &args), Err(lost.clone()));
    assert_eq!(device.synchronize(), Err(lost.clone()));
    watched.repair();
    device.synchronize()?;
    watched.fail_at(Call::Any, 1, lost.clone());
    assert_eq!(device.buffer::<f32>(1).map(drop), Err(lost));
    drop(x);
    assert_eq!((watched.take_counts().frees, watched.info().ordinal), (1, 0));
    Ok(())
}

/// Runs a kernel on a checked device whose buffer of 64 holds ones, and gives what was found.
fn checked(kernel: &'static str, grid: u32, args: impl Fn(&mut Buffer<f32>) -> Vec<Arg>) -> Option<String> {
    let device = Device::new(ShimDriver::checked().unwrap());
    let mut x = device.buffer_from(&[1.0f32; 64]).unwrap();
    let args = args(&mut x);
    launch(&device, kernel, grid, 64, &args).err().map(|error| harm(Err(error)))
}

#[test]
fn a_checked_device_looks_at_every_access() -> Result<(), DeviceError> {
    let found = checked("shim_test_all_write", 2, |x| vec![x.view_mut(..).arg()]).unwrap();
    assert!(found.contains("writes word 0 of a buffer, which thread 0 of block"), "{found}");
    assert_eq!(checked("shim_test_all_write", 1, |x| vec![x.view_mut(..).arg()]), None);

    let warp = |wait: u32| checked("shim_test_warp_barrier", 1, move |x| vec![x.view_mut(..).arg(), wait.into()]);
    assert_eq!(warp(1), None);
    assert!(warp(0).unwrap().contains("of tile, which"), "{:?}", warp(0));

    let found = checked("shim_test_unwritten", 1, |x| vec![x.view_mut(..).arg()]).unwrap();
    assert!(found.contains("of tile, which nobody wrote"), "{found}");
    assert_eq!(checked("shim_test_reverse", 1, |x| vec![x.view_mut(..).arg(), 64u32.into()]), None);
    assert_eq!(checked("shim_test_reverse", 1, |x| vec![x.view_mut(..).arg(), 50u32.into()]), None);

    let device = Device::new(ShimDriver::checked()?);
    let (x, mut y) = (device.buffer_from(&[1.0f32; 64])?, device.buffer::<f32>(64)?);
    let mut beyond =
        |n: u32| launch(&device, "shim_test_reads_beyond", 1, 64, &[x.view(..).arg(), y.view_mut(..).arg(), n.into()]);
    beyond(63)?;
    let found = harm(beyond(64));
    assert!(found.contains("thread 63 of block 0 reads outside every buffer"), "{found}");
    Ok(())
}

#[test]
fn a_checked_device_finds_races_that_an_order_hides() -> Result<(), DeviceError> {
    for order in ORDERS {
        let device = Device::new(ShimDriver::with(Options { order, checked: true, ..Options::default() })?);
        let mut x = device.buffer_from(&[1u32; 64])?;
        launch(&device, "shim_test_scan", 1, 64, &[x.view_mut(..).arg()])?;
        let found = harm(launch(&device, "shim_test_racy_scan", 1, 64, &[x.view_mut(..).arg()]));
        assert!(found.contains("of sums, which thread"), "{order:?}: {found}");
    }
    let device = Device::new(ShimDriver::checked()?);
    let (x, mut y) = (device.buffer::<f32>(64)?, device.buffer::<f32>(64)?);
    let copy = [x.view(..).arg(), y.view_mut(..).arg(), 64u64.into()];
    let found = harm(launch(&device, "essaim_copy", 1, 64, &copy));
    assert!(found.contains("of a buffer, which nobody wrote"), "{found}");
    Ok(())
}
