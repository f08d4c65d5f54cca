#![allow(unsafe_code)]

//! Products of bytes by the tiles of AMX (Intel's Software Developer's Manual, volume 1,
//! chapter 18). The intrinsics are not stable, so these are the instructions themselves.

use std::{
    arch::{asm, x86_64::__cpuid_count},
    mem::MaybeUninit,
};

/// Bytes that begin with a line of the cache, as tiles are read fastest.
#[repr(C, align(64))]
pub(super) struct Lines<T>(pub T);

/// Rows and bytes of a row of the tiles: sums, then activations and weights of 32 columns,
/// then those of 16.
const SHAPES: [(u8, u16); 5] = [(16, 64), (16, 32), (8, 64), (16, 16), (4, 64)];

static CONFIGURATION: Lines<[u8; 64]> = Lines(configuration());

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

/// Whether the processor has tiles of bytes and the system lets this process use them.
pub(crate) fn allowed() -> bool {
    const TILES: u32 = 1 << 24;
    const TILES_OF_BYTES: u32 = 1 << 25;
    let features = __cpuid_count(7, 0).edx;
    features & TILES != 0 && features & TILES_OF_BYTES != 0 && ask_the_system()
}

/// Linux gives a process tiles when it asks for them (`Documentation/arch/x86/xstate.rst`).
#[cfg(target_os = "linux")]
fn ask_the_system() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let answer: usize;
    // SAFETY: The system call takes two numbers and touches no memory of this process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

#[cfg(not(target_os = "linux"))]
fn ask_the_system() -> bool {
    false
}

/// Gives this thread's tiles their shapes.
///
/// # Safety
///
/// Tiles are [`allowed`].
#[inline(always)]
pub(super) unsafe fn configure() {
    // SAFETY: 64 bytes are read.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, preserves_flags, readonly));
    }
}

/// Forgets this thread's tiles, which the system would otherwise keep with its registers.
///
/// # Safety
///
/// Tiles are [`allowed`].
#[inline(always)]
pub(super) unsafe fn release() {
    // SAFETY: No memory is touched.
    unsafe {
        asm!("tilerelease", options(nostack, preserves_flags, nomem));
    }
}

/// Multiplies weights of 16 rows, four columns in each line, with 16 rows of activations,
/// from the group `part * GROUPS` of eight on: `sums[row of x][row of weights]`.
///
/// # Safety
///
/// This thread's tiles are [`configure`]d.
#[inline(always)]
pub(super) unsafe fn multiply<const GROUPS: usize>(
    weights: &Lines<[[u8; 64]; GROUPS]>,
    x: &[i32; 128],
    part: usize,
) -> Lines<[[i32; 16]; 16]> {
    const { assert!(GROUPS == 8 || GROUPS == 4) };
    // The rows of `x` are 32 bytes apart; a part of 16 bytes begins at 0 or at 16.
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
    // SAFETY: Read are 16 rows of 32 or 16 bytes from `x` on and as many lines as there are
    // weights; written are all 16 lines of sums.
    unsafe {
        if GROUPS == 8 {
            multiply!(1, 2);
        } else {
            multiply!(3, 4);
        }
        sums.assume_init()
    }
}
