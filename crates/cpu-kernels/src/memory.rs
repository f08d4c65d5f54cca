#![allow(unsafe_code)]

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use diagnostics::Diagnostic;
use memmap2::{Advice, MmapMut};

use crate::errors;

/// Minimum size of an allocation from the operating system: several huge pages.
const REGION: usize = 64 << 20;
/// Alignment of pieces: a cache line.
const LINE: usize = 64;

/// Allocator for the weights of one model.
///
/// Matrices are placed one after the other in huge pages: few TLB entries are needed, and
/// prefetching beyond the end of a matrix loads the start of the next one. A region is unmapped
/// when its last piece is dropped.
#[derive(Default)]
pub struct WeightMemory {
    rest: Mutex<Option<Rest>>,
}

/// The unused end of the newest region.
struct Rest {
    region: Arc<Region>,
    begin: usize,
}

impl WeightMemory {
    /// Allocates `size` zeroed bytes.
    ///
    /// Errors: out of memory.
    pub(crate) fn take(&self, size: usize) -> Result<Piece, Diagnostic> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut from = match rest.take() {
            Some(from) if from.region.length - from.begin >= size => from,
            _ => Rest {
                region: Arc::new(Region::new(size.max(REGION))?),
                begin: 0,
            },
        };
        let piece = Piece {
            region: Arc::clone(&from.region),
            begin: from.begin,
            length: size,
        };
        let end = from.begin + size;
        if let Some(begin) = end.checked_next_multiple_of(LINE)
            && begin < from.region.length
        {
            from.begin = begin;
            *rest = Some(from);
        }
        Ok(piece)
    }
}

struct Region {
    base: *mut u8,
    length: usize,
    /// Owns the memory at `base`.
    _memory: MmapMut,
}

// SAFETY: The region owns the memory at `base`, and only `Piece` accesses it.
unsafe impl Send for Region {}
// SAFETY: As above; pieces do not overlap.
unsafe impl Sync for Region {}

impl Region {
    fn new(length: usize) -> Result<Self, Diagnostic> {
        let mut memory =
            MmapMut::map_anon(length).map_err(|e| errors::weight_allocation(length, &e))?;
        // Without huge pages, normal ones work as well.
        let _ = memory.advise(Advice::HugePage);
        Ok(Self {
            base: memory.as_mut_ptr(),
            length,
            _memory: memory,
        })
    }
}

/// An exclusively owned part of a region.
pub(crate) struct Piece {
    region: Arc<Region>,
    begin: usize,
    length: usize,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `take` returns disjoint ranges within the region, so only this piece accesses
        // its bytes. They live as long as the region, which the piece keeps alive, and are
        // initialized: the system provides zeros.
        unsafe { std::slice::from_raw_parts(self.region.base.add(self.begin), self.length) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `deref`; `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.region.base.add(self.begin), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_share_a_region_without_overlap() {
        let memory = WeightMemory::default();
        let mut pieces: Vec<Piece> = [100, 0, 64, 1, REGION, 7, REGION - 63, 3]
            .map(|size| memory.take(size).unwrap())
            .into();
        for (number, piece) in (1..).zip(&mut pieces) {
            assert_eq!(piece.as_ptr().align_offset(LINE), 0);
            assert!(piece.iter().all(|byte| *byte == 0), "piece {number}");
            piece.fill(number);
        }
        for (number, piece) in (1..).zip(&pieces) {
            assert!(piece.iter().all(|byte| *byte == number), "piece {number}");
        }
        assert!(Arc::ptr_eq(&pieces[0].region, &pieces[3].region));
        drop(memory);
        let last = pieces.pop().unwrap();
        drop(pieces);
        assert_eq!(*last, [8; 3]);
    }

    #[test]
    fn too_large_an_allocation_is_an_error() {
        let refused = WeightMemory::default().take(usize::MAX >> 1);
        assert!(refused.is_err());
    }
}
