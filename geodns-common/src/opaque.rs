//! Hides numbers from LLVM, which leaves out checks that it can prove superfluous and that the verifier needs.
//!
//! [`core::hint::black_box`] would do, but leads through the stack in the kernel: a store, and a load that waits
//! for it. Here is no instruction at all.

/// Gives back the number, of which LLVM knows nothing any more. The verifier does.
#[inline(always)]
pub fn opaque(number: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let hidden;
        // SAFETY: there is no instruction in it. The register is one that calls spoil anyway.
        unsafe {
            core::arch::asm!("", inlateout("r5") number => hidden, options(pure, nomem, nostack));
        }
        hidden
    }
    #[cfg(not(target_arch = "bpf"))]
    core::hint::black_box(number)
}

/// As [`opaque`], where something is.
#[inline(always)]
pub fn opaque_ref<T>(of: &'static T) -> &'static T {
    #[cfg(target_arch = "bpf")]
    {
        let hidden: *const T;
        // SAFETY: as above; what comes out is what went in.
        unsafe {
            core::arch::asm!("", inlateout("r5") core::ptr::from_ref(of) => hidden, options(pure, readonly, nostack));
            &*hidden
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    core::hint::black_box(of)
}
