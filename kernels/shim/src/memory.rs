//! The shim's device memory: each allocation between two fences whose bytes must not change.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;

use crate::native::{Region, Shadow};

/// Buffers are aligned to this, as on a card.
const ALIGNMENT: usize = 256;
/// Bytes before and after each buffer.
const FENCE: usize = 1024;
const FENCE_BYTE: u8 = 0xc5;
/// What memory holds before it is written: a NaN as float32, and no index of anything.
const UNDEFINED: [u8; 4] = 0xffd1_5ea5_u32.to_le_bytes();

#[derive(Debug)]
struct Allocation {
    start: *mut u8,
    len: usize,
    /// One for each four bytes if accesses are checked, else none.
    shadow: Vec<Shadow>,
}

// SAFETY: the pointer is the allocation's own.
unsafe impl Send for Allocation {}

impl Allocation {
    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.checked_add(2 * FENCE)?, ALIGNMENT).ok()
    }

    fn new(len: usize, checked: bool) -> Option<Allocation> {
        let layout = Allocation::layout(len)?;
        // SAFETY: the layout is not empty; writes stay within it.
        unsafe {
            let memory = alloc(layout);
            if memory.is_null() {
                return None;
            }
            memory.write_bytes(FENCE_BYTE, FENCE);
            let start = memory.add(FENCE);
            for at in 0..len {
                start.add(at).write(UNDEFINED[at % 4]);
            }
            start.add(len).write_bytes(FENCE_BYTE, FENCE);
            let shadow = vec![Shadow::default(); if checked { len.div_ceil(4) } else { 0 }];
            Some(Allocation { start, len, shadow })
        }
    }

    /// The distance from the buffer of the first fence byte that changed: negative before it, from 0 after its end.
    fn damage(&self) -> Option<isize> {
        // SAFETY: both fences belong to the allocation, and no kernel runs.
        let (before, after) = unsafe {
            let before = std::slice::from_raw_parts(self.start.sub(FENCE), FENCE);
            (before, std::slice::from_raw_parts(self.start.add(self.len), FENCE))
        };
        let after = after.iter().position(|byte| *byte != FENCE_BYTE).map(|at| at as isize);
        let before = before.iter().rposition(|byte| *byte != FENCE_BYTE).map(|at| at as isize - FENCE as isize);
        after.or(before)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Some(layout) = Allocation::layout(self.len) {
            // SAFETY: allocated with this layout, FENCE bytes before `start`.
            unsafe { dealloc(self.start.sub(FENCE), layout) }
        }
    }
}

/// All buffers of a device.
#[derive(Debug)]
pub(crate) struct Memory {
    total_bytes: u64,
    used_bytes: u64,
    checked: bool,
    buffers: BTreeMap<u64, Allocation>,
}

impl Memory {
    pub(crate) fn new(total_bytes: u64, checked: bool) -> Memory {
        Memory { total_bytes, used_bytes: 0, checked, buffers: BTreeMap::new() }
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.total_bytes - self.used_bytes
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// `None` when there is no room.
    pub(crate) fn alloc(&mut self, len: usize) -> Option<u64> {
        if len as u64 > self.free_bytes() {
            return None;
        }
        let allocation = Allocation::new(len, self.checked)?;
        let address = allocation.start as u64;
        self.used_bytes += len as u64;
        self.buffers.insert(address, allocation);
        Some(address)
    }

    /// Gives back a buffer, and says if something was written around it.
    pub(crate) fn free(&mut self, address: u64) -> Result<(), String> {
        let allocation = self.buffers.remove(&address).ok_or("freed what is no buffer")?;
        self.used_bytes -= allocation.len as u64;
        described(&allocation)
    }

    /// Whether `len` bytes from `address` lie within one living buffer; its end counts when `len` is 0.
    pub(crate) fn holds(&self, address: u64, len: usize) -> bool {
        self.room(address).is_some_and(|room| len <= room)
    }

    /// Bytes from `address` to the end of its buffer.
    fn room(&self, address: u64) -> Option<usize> {
        let (start, allocation) = self.buffers.range(..=address).next_back()?;
        allocation.len.checked_sub((address - start) as usize)
    }

    /// Notes that the host wrote `len` bytes.
    pub(crate) fn note_upload(&mut self, address: u64, len: usize) {
        if let Some((start, allocation)) = self.buffers.range_mut(..=address).next_back()
            && self.checked
        {
            let first = (address - start) as usize;
            for shadow in &mut allocation.shadow[first / 4..(first + len).div_ceil(4)] {
                shadow.written = 1;
            }
        }
    }

    /// All buffers with their shadows, which are lent as long as nothing else of this is called.
    pub(crate) fn regions(&mut self) -> Vec<Region> {
        let region = |(start, allocation): (&u64, &mut Allocation)| Region {
            start: *start,
            len: allocation.len as u64,
            shadow: allocation.shadow.as_mut_ptr(),
        };
        self.buffers.iter_mut().map(region).collect()
    }

    /// Looks at the fences of the buffer that `address` lies in.
    pub(crate) fn check(&self, address: u64) -> Result<(), String> {
        match self.buffers.range(..=address).next_back() {
            Some((_, allocation)) => described(allocation),
            None => Ok(()),
        }
    }

    /// Looks at all fences.
    pub(crate) fn check_all(&self) -> Result<(), String> {
        self.buffers.values().try_for_each(described)
    }
}

fn described(allocation: &Allocation) -> Result<(), String> {
    let Some(at) = allocation.damage() else { return Ok(()) };
    let len = allocation.len;
    let place = if at < 0 { format!("{} bytes before", -at) } else { format!("{at} bytes beyond the end of") };
    Err(format!("something was written {place} a buffer of {len} bytes"))
}
