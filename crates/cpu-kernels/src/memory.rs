#![allow(unsafe_code)]

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use diagnostics::Diagnostic;
use memmap2::{Advice, MmapMut};

/// What the system is asked for at once: some of its large pages.
const REGION: usize = 64 << 20;
/// Every piece begins with a cache line.
const LINE: usize = 64;

/// Memory for the weights of one model, handed out piece after piece.
///
/// Matrices lie one behind the other in large pages: few translations of addresses are
/// needed, and what is fetched ahead beyond a matrix's end is the next one's begin. A region
/// goes back to the system when nothing holds a piece of it any more.
#[derive(Default)]
pub struct WeightMemory {
    rest: Mutex<Option<Rest>>,
}

/// What is left of the newest region.
struct Rest {
    region: Arc<Region>,
    begin: usize,
}

impl WeightMemory {
    /// `size` zeros.
    ///
    /// Errors: no memory.
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
    /// Keeps what `base` points to.
    _memory: MmapMut,
}

// SAFETY: `base` points to memory that the region owns; what is done with it is for `Piece` to
// keep right.
unsafe impl Send for Region {}
// SAFETY: As above.
unsafe impl Sync for Region {}

impl Region {
    fn new(length: usize) -> Result<Self, Diagnostic> {
        let mut memory = MmapMut::map_anon(length).map_err(|e| {
            Diagnostic::internal(format!("{length} bytes of memory for weights: {e}"))
                .hint("free memory, or take a smaller model")
        })?;
        // Where the system has no large pages, small ones do.
        let _ = memory.advise(Advice::HugePage);
        Ok(Self {
            base: memory.as_mut_ptr(),
            length,
            _memory: memory,
        })
    }
}

/// A part of a region that nothing else is part of.
pub(crate) struct Piece {
    region: Arc<Region>,
    begin: usize,
    length: usize,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `take` gives out ranges inside the region that do not overlap, so this piece
        // alone reaches its bytes, which live as long as the region it holds; they are zeros
        // from the system or what was written to them.
        unsafe { std::slice::from_raw_parts(self.region.base.add(self.begin), self.length) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `deref`; this reference is the only one, as `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.region.base.add(self.begin), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_share_a_region_but_no_byte() {
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
    fn more_than_the_system_has_is_an_error() {
        let refused = WeightMemory::default().take(usize::MAX >> 1);
        assert!(refused.is_err());
    }
}
