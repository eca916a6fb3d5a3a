//! Advice to the machine about memory. None of it changes the content.

/// Asks for the line of the cache that a value begins in, so that it is there when it is read. Where nothing
/// is known of the machine, nothing happens.
pub fn prefetch<T>(value: &T) {
    let at = std::ptr::from_ref(value);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction reads nothing that the program sees, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction reads nothing that the program sees, and changes neither flags nor stack.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{}]",
            in(reg) at,
            options(nostack, readonly, preserves_flags)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Asks the system to hold memory in pages of 2 MiB (Linux 6.1), as far as it spans such: a random name
/// then costs one miss, not one more for the page table. Where it cannot, nothing is lost.
pub fn in_large_pages<T>(values: &[T]) {
    advise(values, libc::MADV_COLLAPSE);
}

/// A copy in such pages, with room for N values more.
pub fn copy<T: Clone>(values: &[T], more: usize) -> Vec<T> {
    let mut copy = Vec::with_capacity(values.len() + more);
    // Before they are written: then the pages are large from the start.
    advise(copy.spare_capacity_mut(), libc::MADV_HUGEPAGE);
    copy.extend_from_slice(values);
    copy
}

/// Gives memory back to the system that was freed: the allocator would keep it for later. It takes some
/// milliseconds, so it is for who has freed much.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives advice on the large pages that values span whole.
fn advise<T>(values: &[T], advice: libc::c_int) {
    const LARGE: usize = 2 << 20;
    let start = values.as_ptr() as usize;
    let (first, last) = (
        start.next_multiple_of(LARGE),
        (start + size_of_val(values)) / LARGE * LARGE,
    );
    if first >= last {
        return;
    }
    // SAFETY: the range is inside memory that is borrowed; either advice leaves its contents as they are.
    unsafe { libc::madvise(first as *mut libc::c_void, last - first, advice) };
}
