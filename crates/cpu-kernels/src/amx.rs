//! AMX byte products (Intel Software Developer's Manual, volume 1, chapter 18). Rust's AMX
//! intrinsics are unstable, so this module uses inline assembly.
#![allow(unsafe_code)]

use std::{
    arch::{asm, x86_64::__cpuid_count},
    mem::MaybeUninit,
};

/// Aligns to a cache line, from which tiles load fastest.
#[repr(C, align(64))]
pub(crate) struct CacheAligned<T>(pub(crate) T);

/// Rows and bytes per row of each tile register: sums, then activations and weights of 32
/// columns, then those of 16 columns.
const SHAPES: [(u8, u16); 5] = [(16, 64), (16, 32), (8, 64), (16, 16), (4, 64)];

static CONFIGURATION: CacheAligned<[u8; 64]> = CacheAligned(configuration());

const fn configuration() -> [u8; 64] {
    let mut bytes = [0; 64];
    // The palette.
    bytes[0] = 1;
    let mut tile = 0;
    while tile < SHAPES.len() {
        let (rows, row_bytes) = SHAPES[tile];
        bytes[16 + 2 * tile] = row_bytes as u8;
        bytes[48 + tile] = rows;
        tile += 1;
    }
    bytes
}

/// Returns true if the processor has AMX-INT8 and the operating system lets this process use it.
pub(crate) fn is_permitted() -> bool {
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    let features = __cpuid_count(7, 0).edx;
    features & AMX_TILE != 0 && features & AMX_INT8 != 0 && request_permission()
}

/// Requests AMX from Linux (`Documentation/arch/x86/xstate.rst`), which enables it per process.
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let result: usize;
    // SAFETY: The system call takes two integers and accesses no memory of this process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}

/// Configures the tile registers of this thread.
///
/// # Safety
///
/// AMX [`is_permitted`].
#[inline(always)]
pub(crate) unsafe fn configure() {
    // SAFETY: The instruction reads the 64 bytes of the configuration.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, preserves_flags, readonly));
    }
}

/// Releases the tile registers of this thread, so that context switches need not save them.
///
/// # Safety
///
/// AMX [`is_permitted`].
#[inline(always)]
pub(crate) unsafe fn release() {
    // SAFETY: The instruction accesses no memory.
    unsafe {
        asm!("tilerelease", options(nostack, preserves_flags, nomem));
    }
}

/// Multiplies 16 rows of weights, four columns per cache line, by 16 rows of activations,
/// starting at group `part * GROUPS` of eight. Returns `sums[row of x][row of weights]`.
///
/// # Safety
///
/// The tile registers of this thread are [`configure`]d.
#[inline(always)]
pub(crate) unsafe fn multiply<const GROUPS: usize>(
    weights: &CacheAligned<[[u8; 64]; GROUPS]>,
    x: &[i32; 128],
    part: usize,
) -> CacheAligned<[[i32; 16]; 16]> {
    const { assert!(GROUPS == 8 || GROUPS == 4) };
    // The rows of `x` are 32 bytes apart; a part of 16 bytes starts at byte 0 or 16.
    let x = x[part * GROUPS % 8..].as_ptr();
    let mut sums = MaybeUninit::uninit();
    macro_rules! multiply {
        ($x:literal, $weights:literal) => {
            asm!(
                "tilezero tmm0",
                concat!("tileloadd tmm", $x, ", [{x} + {x_row}]"),
                concat!("tileloadd tmm", $weights, ", [{weights} + {line}]"),
                concat!("tdpbsud tmm0, tmm", $x, ", tmm", $weights),
                "tilestored [{sums} + {line}], tmm0",
                x = in(reg) x,
                x_row = in(reg) 32_usize,
                weights = in(reg) weights,
                sums = in(reg) sums.as_mut_ptr(),
                line = in(reg) 64_usize,
                options(nostack, preserves_flags),
            )
        };
    }
    // SAFETY: The loads read 16 rows of 32 or 16 bytes from `x` and `GROUPS` lines of weights;
    // the store writes all 16 lines of `sums`.
    unsafe {
        if GROUPS == 8 {
            multiply!(1, 2);
        } else {
            multiply!(3, 4);
        }
        sums.assume_init()
    }
}
