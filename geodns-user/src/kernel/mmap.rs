//! A `BPF_F_MMAPABLE` array map, mapped.
//!
//! - [`Mapping`]: to fill and edit it
//! - [`View`]: to read it
//!
//! Invariants that the SAFETY comments cite:
//! - *mapped*: `base` points to `bytes` readable (and, but for a view's, writable) bytes until `drop`,
//!   page-aligned;
//! - *in bounds*: every access is checked against the map's entries and its value's size first.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use geodns_common::abi::Row;

/// Values of the plan's tables, as the bytes that the program reads.
///
/// # Safety
/// `repr(C)` without padding, and made of integers and rows: every byte is initialised, any bytes are a
/// value, and none is aligned to more than 8.
pub unsafe trait Value: Sized {
    /// The bytes.
    fn bytes(&self) -> &[u8] {
        // SAFETY: no padding, by this trait's promise; rows in it change only through `&mut`.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

/// Memory of an array map, shared with the programs that read it.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// Bytes from one element to the next: the value's size, rounded up to 8 by the kernel.
    stride: usize,
    value_size: usize,
    entries: u32,
}

// SAFETY: the memory is the map's, not a thread's; every store that may race is one atomic word.
unsafe impl Send for Mapping {}
// SAFETY: `&self` gives only atomic stores and loads.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps all of a map's elements.
    pub fn new(map: BorrowedFd<'_>, value_size: usize, entries: u32) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        Self::with(map, value_size, entries, access)
    }

    fn with(
        map: BorrowedFd<'_>,
        value_size: usize,
        entries: u32,
        access: libc::c_int,
    ) -> io::Result<Self> {
        let stride = value_size.next_multiple_of(8);
        // SAFETY: a plain query.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = (stride * entries as usize).next_multiple_of(page);
        // SAFETY: a new mapping, nowhere in particular; the kernel checks its length.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                access,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            base: NonNull::new(base.cast()).expect("mmap gives no null"),
            bytes,
            stride,
            value_size,
            entries,
        })
    }

    /// Elements.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether `size` bytes at `offset` of an element are in it.
    pub fn holds(&self, index: u32, offset: usize, size: usize) -> bool {
        index < self.entries
            && offset
                .checked_add(size)
                .is_some_and(|end| end <= self.value_size)
    }

    fn at(&self, index: u32, offset: usize, size: usize) -> *mut u8 {
        assert!(
            self.holds(index, offset, size),
            "element {index}, {size} bytes at {offset}: not in a map of {} elements of {} bytes",
            self.entries,
            self.value_size
        );
        // SAFETY: in bounds, just checked, of what is mapped.
        unsafe {
            self.base
                .as_ptr()
                .add(index as usize * self.stride + offset)
        }
    }

    /// Copies a whole element that no program can be reading.
    pub fn write(&mut self, index: u32, value: &impl Value) {
        let value = value.bytes();
        let at = self.at(index, 0, value.len());
        // SAFETY: `at` is in bounds; a map's memory and ours do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), at, value.len()) }
    }

    /// Stores one aligned word; what was written before is visible to who sees it.
    pub fn store_u64(&self, index: u32, offset: usize, value: u64) {
        assert_eq!(offset % 8, 0);
        let at = self.at(index, offset, 8).cast();
        // SAFETY: in bounds and, elements being multiples of 8 from a page on, aligned; programs
        // and other processes access the word whole.
        unsafe { AtomicU64::from_ptr(at) }.store(value, Ordering::Release);
    }

    /// Stores one aligned half word; what was written before is visible to who sees it.
    pub fn store_u32(&self, index: u32, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        let at = self.at(index, offset, 4).cast();
        // SAFETY: as in `store_u64`.
        unsafe { AtomicU32::from_ptr(at) }.store(value, Ordering::Release);
    }

    /// Reads an octet and sets it to 0. What is written to it between the two is lost.
    pub fn take_u8(&self, index: u32, offset: usize) -> u8 {
        let at = self.at(index, offset, 1);
        // SAFETY: in bounds; programs write the octet alone, and words that it is in are stored by us.
        let octet = unsafe { AtomicU8::from_ptr(at) };
        let value = octet.load(Ordering::Relaxed);
        // Most are 0, and need not be dragged here from another CPU.
        if value != 0 {
            octet.store(0, Ordering::Relaxed);
        }
        value
    }

    /// Reads one aligned word.
    pub fn load_u64(&self, index: u32, offset: usize) -> u64 {
        assert_eq!(offset % 8, 0);
        let at = self.at(index, offset, 8).cast();
        // SAFETY: as in `store_u64`.
        unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Acquire)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped, and nothing borrows from it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// An array map's elements, to read while programs do.
#[derive(Debug)]
pub struct View<T> {
    /// Nothing here stores to it.
    mapping: Mapping,
    elements: PhantomData<T>,
}

impl<T: Value> View<T> {
    /// Maps all of a map's elements.
    pub fn new(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        Ok(Self {
            mapping: Mapping::with(map, size_of::<T>(), entries, libc::PROT_READ)?,
            elements: PhantomData,
        })
    }

    /// Maps all of a map's elements, which are rows and nothing else: whoever holds one may store to it, as programs
    /// do.
    pub fn of_rows(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self>
    where
        T: AsRef<[Row]>,
    {
        Ok(Self {
            mapping: Mapping::new(map, size_of::<T>(), entries)?,
            elements: PhantomData,
        })
    }

    /// An element. What changes in it are rows and entries, which whoever looks at them reads volatile,
    /// each once.
    pub fn get(&self, index: u32) -> Option<&T> {
        if index >= self.mapping.entries {
            return None;
        }
        let at: *const T = self.mapping.at(index, 0, size_of::<T>()).cast();
        // SAFETY: in bounds of what is mapped for as long as `self`; elements being multiples of 8 from
        // a page on, aligned; any bytes are a value. Rows may change under it, being cells. Everything
        // else is stored to by the daemon alone, through `&mut Instance`, which whoever holds a view
        // keeps borrowed (`tables`); a stranger with the right to write to the map (bpftool) is not kept
        // from it, and can spoil what is read, as he can for the program.
        Some(unsafe { &*at })
    }
}

impl View<u64> {
    /// An element that is one word, read once.
    pub fn load(&self, index: u32) -> Option<u64> {
        (index < self.mapping.entries).then(|| self.mapping.load_u64(index, 0))
    }
}

impl<const N: usize> View<[u64; N]> {
    /// An element of N words, each read once.
    pub fn words(&self, index: u32) -> Option<[u64; N]> {
        let word = |word: usize| self.mapping.load_u64(index, 8 * word);
        (index < self.mapping.entries).then(|| std::array::from_fn(word))
    }
}
