//! Memory of a device, with Rust's rules of borrowing: a [`View`] is a shared slice, a [`ViewMut`] an exclusive one.
//!
//! Nothing here reads device memory on the host except [`Buffer::download`] and [`Device::download`].

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::driver::{Arg, DeviceError, DeviceInfo, Driver, Launch};

/// What a buffer can hold: `f32` and `u32`, whose every bit pattern is a value.
pub trait Element: Copy + Send + Sync + 'static + private::Sealed {}

impl Element for f32 {}
impl Element for u32 {}

mod private {
    /// Implemented for types of four bytes without padding for which every bit pattern is valid: code here relies on it.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u32 {}
}

const ELEMENT_BYTES: usize = 4;

fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: an element is four bytes without padding (`Sealed`), and bytes have no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) }
}

fn bytes_of_mut<T: Element>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and any bytes written form valid elements.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), std::mem::size_of_val(values)) }
}

/// A device and everything queued on it. Clones are the same device.
#[derive(Debug, Clone)]
pub struct Device {
    driver: Arc<dyn Driver>,
}

impl Device {
    /// The device behind a driver.
    pub fn new(driver: Arc<dyn Driver>) -> Device {
        Device { driver }
    }

    /// What carries it all out.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// What the device is.
    pub fn info(&self) -> &DeviceInfo {
        self.driver.info()
    }

    /// A buffer of `len` elements, whose contents are undefined.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn buffer<T: Element>(&self, len: usize) -> Result<Buffer<T>, DeviceError> {
        let info = self.info();
        let too_much = || DeviceError::OutOfMemory {
            asked_bytes: u64::MAX,
            free_bytes: info.free_bytes,
            total_bytes: info.memory_bytes,
        };
        let len_bytes = len.max(1).checked_mul(ELEMENT_BYTES).ok_or_else(too_much)?;
        let address = self.driver.alloc(len_bytes)?;
        Ok(Buffer { device: self.clone(), address, len, element: PhantomData })
    }

    /// A buffer that holds a copy of `values`.
    ///
    /// # Errors
    /// When the device has no room, or fails.
    pub fn buffer_from<T: Element>(&self, values: &[T]) -> Result<Buffer<T>, DeviceError> {
        let mut buffer = self.buffer(values.len())?;
        buffer.upload(values)?;
        Ok(buffer)
    }

    /// Copies `values` to the device, after the work already queued.
    ///
    /// # Errors
    /// When the device fails, now or in work queued before.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn upload<T: Element>(&self, target: ViewMut<'_, T>, values: &[T]) -> Result<(), DeviceError> {
        assert_eq!(target.len(), values.len(), "upload: the lengths differ");
        if values.is_empty() {
            return Ok(());
        }
        self.driver.upload(target.address, bytes_of(values))
    }

    /// Waits for the work already queued, and copies `source` from the device.
    ///
    /// # Errors
    /// When the device fails, now or in work queued before.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn download<T: Element>(&self, source: View<'_, T>, values: &mut [T]) -> Result<(), DeviceError> {
        assert_eq!(source.len(), values.len(), "download: the lengths differ");
        if values.is_empty() {
            return self.driver.synchronize();
        }
        self.driver.download(source.address, bytes_of_mut(values))
    }

    /// Waits until everything queued has been done.
    ///
    /// # Errors
    /// When any of it failed.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        self.driver.synchronize()
    }

    /// Queues a kernel. The operations of [`super::ops`] do this; nothing else needs to.
    ///
    /// # Errors
    /// When the device fails, now or in work queued before.
    ///
    /// # Safety
    /// The addresses must come from views that live during this call, of this device, and hold everything that the kernel touches for
    /// these arguments; what it writes must come from a [`ViewMut`].
    pub unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        // SAFETY: the caller's promise is the driver's condition.
        unsafe { self.driver.launch(launch) }
    }
}

/// `len` elements in a device's memory; given back when dropped.
#[derive(Debug)]
pub struct Buffer<T: Element> {
    device: Device,
    address: u64,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// How many elements it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device whose memory this is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A part of it, to read.
    ///
    /// # Panics
    /// When the range ends beyond the buffer.
    pub fn view(&self, range: impl RangeBounds<usize>) -> View<'_, T> {
        View { address: self.address, len: self.len, element: PhantomData }.range(range)
    }

    /// A part of it, to write.
    ///
    /// # Panics
    /// When the range ends beyond the buffer.
    pub fn view_mut(&mut self, range: impl RangeBounds<usize>) -> ViewMut<'_, T> {
        ViewMut { address: self.address, len: self.len, element: PhantomData }.range(range)
    }

    /// Two parts that do not overlap: `[0, middle)` and `[middle, len)`.
    ///
    /// # Panics
    /// When `middle` is beyond the buffer.
    pub fn split_at_mut(&mut self, middle: usize) -> (ViewMut<'_, T>, ViewMut<'_, T>) {
        self.view_mut(..).split_at(middle)
    }

    /// Copies `values` to the device, after the work already queued.
    ///
    /// # Errors
    /// When the device fails, now or in work queued before.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn upload(&mut self, values: &[T]) -> Result<(), DeviceError> {
        let device = self.device.clone();
        device.upload(self.view_mut(..), values)
    }

    /// Waits for the work already queued, and copies all of it to `values`.
    ///
    /// # Errors
    /// When the device fails, now or in work queued before.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn download(&self, values: &mut [T]) -> Result<(), DeviceError> {
        self.device.download(self.view(..), values)
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.device.driver.free(self.address);
    }
}

/// The first element and the number of elements of a range within `0 … len`.
fn resolve(range: &impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last + 1,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    assert!(start <= end && end <= len, "range {start} … {end} of a view of {len} elements");
    (start, end - start)
}

fn advance(address: u64, elements: usize) -> u64 {
    address + (elements * ELEMENT_BYTES) as u64
}

/// Elements of a device's memory, to read: what `&[T]` is on the host.
#[derive(Debug)]
pub struct View<'a, T: Element> {
    address: u64,
    len: usize,
    element: PhantomData<&'a [T]>,
}

impl<T: Element> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Element> Copy for View<'_, T> {}

impl<'a, T: Element> View<'a, T> {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of it.
    ///
    /// # Panics
    /// When the range ends beyond the view.
    pub fn range(self, range: impl RangeBounds<usize>) -> View<'a, T> {
        let (start, len) = resolve(&range, self.len);
        View { address: advance(self.address, start), len, element: PhantomData }
    }

    /// `[0, middle)` and `[middle, len)`.
    ///
    /// # Panics
    /// When `middle` is beyond the view.
    pub fn split_at(self, middle: usize) -> (View<'a, T>, View<'a, T>) {
        (self.range(..middle), self.range(middle..))
    }

    /// As an argument of a kernel that reads it.
    pub fn arg(self) -> Arg {
        Arg::Address(self.address)
    }
}

/// Elements of a device's memory, to write: what `&mut [T]` is on the host. It is not `Copy`; [`ViewMut::reborrow`] lends it.
#[derive(Debug)]
pub struct ViewMut<'a, T: Element> {
    address: u64,
    len: usize,
    element: PhantomData<&'a mut [T]>,
}

impl<'a, T: Element> ViewMut<'a, T> {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same elements, lent for less long.
    pub fn reborrow(&mut self) -> ViewMut<'_, T> {
        ViewMut { address: self.address, len: self.len, element: PhantomData }
    }

    /// The same elements, to read.
    pub fn as_view(&self) -> View<'_, T> {
        View { address: self.address, len: self.len, element: PhantomData }
    }

    /// A part of it.
    ///
    /// # Panics
    /// When the range ends beyond the view.
    pub fn range(self, range: impl RangeBounds<usize>) -> ViewMut<'a, T> {
        let (start, len) = resolve(&range, self.len);
        ViewMut { address: advance(self.address, start), len, element: PhantomData }
    }

    /// Two parts that do not overlap: `[0, middle)` and `[middle, len)`.
    ///
    /// # Panics
    /// When `middle` is beyond the view.
    pub fn split_at(self, middle: usize) -> (ViewMut<'a, T>, ViewMut<'a, T>) {
        assert!(middle <= self.len, "split at {middle} of a view of {} elements", self.len);
        let first = ViewMut { address: self.address, len: middle, element: PhantomData };
        let second = ViewMut { address: advance(self.address, middle), len: self.len - middle, element: PhantomData };
        (first, second)
    }

    /// As an argument of a kernel that writes it.
    pub fn arg(&mut self) -> Arg {
        Arg::Address(self.address)
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
