//! Buffers and views on a driver whose memory is the host's.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::cuda::driver::DeviceKind;

/// Allocations by their address, and what was launched.
#[derive(Debug)]
struct HostDriver {
    info: DeviceInfo,
    memory: Mutex<BTreeMap<u64, Vec<u8>>>,
    launched: Mutex<Vec<(String, Vec<Arg>)>>,
}

const MEMORY_BYTES: u64 = 4096;

impl HostDriver {
    fn open() -> (Arc<HostDriver>, Device) {
        let info = DeviceInfo {
            name: "host".into(),
            ordinal: 0,
            compute_capability: (7, 5),
            multiprocessors: 1,
            clock_khz: 0,
            memory_bytes: MEMORY_BYTES,
            free_bytes: MEMORY_BYTES,
            driver_version: "0".into(),
            kind: DeviceKind::Shim,
        };
        let driver = Arc::new(HostDriver { info, memory: Mutex::default(), launched: Mutex::default() });
        (driver.clone(), Device::new(driver))
    }

    fn living(&self) -> usize {
        self.memory.lock().unwrap().len()
    }

    /// Runs `with` on the `len` bytes at `address`.
    fn at(&self, address: u64, len: usize, with: impl FnOnce(&mut [u8])) -> Result<(), DeviceError> {
        let mut memory = self.memory.lock().unwrap();
        let outside = DeviceError::Failed { operation: "copy", code: 1, reason: "outside every buffer".into() };
        let (start, bytes) = memory.range_mut(..=address).next_back().ok_or(outside.clone())?;
        let offset = (address - start) as usize;
        bytes.get_mut(offset..offset + len).map(with).ok_or(outside)
    }
}

impl Driver for HostDriver {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, len_bytes: usize) -> Result<u64, DeviceError> {
        let mut memory = self.memory.lock().unwrap();
        let used: u64 = memory.values().map(|bytes| bytes.len() as u64).sum();
        let free_bytes = MEMORY_BYTES - used;
        if len_bytes as u64 > free_bytes {
            let asked_bytes = len_bytes as u64;
            return Err(DeviceError::OutOfMemory { asked_bytes, free_bytes, total_bytes: MEMORY_BYTES });
        }
        let last = memory.last_key_value().map_or(0, |(address, bytes)| address + bytes.len() as u64);
        let address = (last + 1).next_multiple_of(256);
        memory.insert(address, vec![0xaa; len_bytes]);
        Ok(address)
    }

    fn free(&self, address: u64) {
        self.memory.lock().unwrap().remove(&address).expect("freed twice");
    }

    fn upload(&self, target: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.at(target, bytes.len(), |memory| memory.copy_from_slice(bytes))
    }

    fn download(&self, source: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.at(source, bytes.len(), |memory| bytes.copy_from_slice(memory))
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        self.launched.lock().unwrap().push((launch.kernel.to_owned(), launch.args.to_vec()));
        Ok(())
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[test]
fn what_was_uploaded_comes_back_bit_for_bit() -> Result<(), DeviceError> {
    let (_, device) = HostDriver::open();
    let values = [1.5f32, -0.0, f32::from_bits(0x7fc0_0001), f32::from_bits(1)];
    let buffer = device.buffer_from(&values)?;
    let mut back = [0.0f32; 4];
    buffer.download(&mut back)?;
    assert_eq!(back.map(f32::to_bits), values.map(f32::to_bits));
    let ids = device.buffer_from(&[7u32, u32::MAX])?;
    let mut back = [0u32; 2];
    ids.download(&mut back)?;
    assert_eq!(back, [7, u32::MAX]);
    Ok(())
}

#[test]
fn views_are_parts_of_their_buffer() -> Result<(), DeviceError> {
    let (_, device) = HostDriver::open();
    let mut buffer = device.buffer_from(&[0u32, 1, 2, 3, 4, 5, 6, 7])?;
    let (first, second) = buffer.split_at_mut(3);
    device.upload(first.range(1..), &[10, 20])?;
    device.upload(second.range(..=1), &[30, 40])?;
    let mut back = [0; 8];
    buffer.download(&mut back)?;
    assert_eq!(back, [0, 10, 20, 30, 40, 5, 6, 7]);

    let (left, right) = buffer.view(2..7).split_at(2);
    let (mut l, mut r) = ([0; 2], [0; 3]);
    device.download(left, &mut l)?;
    device.download(right, &mut r)?;
    assert_eq!((l, r), ([20, 30], [40, 5, 6]));

    let mut all = buffer.view_mut(..);
    device.upload(all.reborrow().range(7..), &[70])?;
    let mut last = [0];
    device.download(all.as_view().range(7..8), &mut last)?;
    assert_eq!(last, [70]);
    assert_eq!((all.len(), all.range(8..).len(), buffer.view(5..5).is_empty()), (8, 0, true));
    Ok(())
}

#[test]
fn arguments_are_the_addresses_of_their_views() -> Result<(), DeviceError> {
    let (driver, device) = HostDriver::open();
    let (x, mut y) = (device.buffer::<f32>(8)?, device.buffer::<f32>(8)?);
    let args = [x.view(2..).arg(), y.view_mut(1..4).arg(), 3u32.into(), 0.5f32.into(), 9u64.into()];
    let launch = Launch { kernel: "essaim_none", grid: [1, 1, 1], block: [32, 1, 1], args: &args };
    // SAFETY: this driver only notes the launch.
    unsafe { device.launch(&launch)? };
    let (Arg::Address(x), Arg::Address(y)) = (x.view(..).arg(), y.view_mut(..).arg()) else { panic!("no addresses") };
    let want = vec![Arg::Address(x + 8), Arg::Address(y + 4), Arg::U32(3), Arg::F32(0.5), Arg::U64(9)];
    assert_eq!(*driver.launched.lock().unwrap(), vec![("essaim_none".to_owned(), want)]);
    Ok(())
}

#[test]
fn memory_is_given_back_and_a_lack_of_it_is_said_with_numbers() -> Result<(), DeviceError> {
    let (driver, device) = HostDriver::open();
    let empty = device.buffer::<f32>(0)?;
    assert!(empty.is_empty() && empty.device().info().name == "host");
    empty.download(&mut [])?;
    let kept = device.buffer::<f32>(1000)?;
    let refused = device.buffer::<u32>(24).unwrap_err();
    assert_eq!(refused, DeviceError::OutOfMemory { asked_bytes: 96, free_bytes: 92, total_bytes: 4096 });
    assert!(matches!(device.buffer::<u32>(usize::MAX / 2), Err(DeviceError::OutOfMemory { .. })));
    assert_eq!(driver.living(), 2);
    drop((kept, empty));
    assert_eq!(driver.living(), 0);
    assert_eq!(device.buffer::<u32>(1024)?.len(), 1024);
    Ok(())
}

#[test]
#[should_panic(expected = "range 3 … 9 of a view of 8 elements")]
fn a_view_beyond_its_buffer_is_a_bug() {
    let (_, device) = HostDriver::open();
    device.buffer::<f32>(8).unwrap().view(3..9);
}

#[test]
#[should_panic(expected = "the lengths differ")]
fn a_transfer_of_another_length_is_a_bug() {
    let (_, device) = HostDriver::open();
    device.buffer::<f32>(8).unwrap().download(&mut [0.0; 7]).unwrap();
}
