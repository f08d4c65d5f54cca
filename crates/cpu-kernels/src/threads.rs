#![allow(unsafe_code)]

use std::{marker::PhantomData, sync::Arc};

use diagnostics::Diagnostic;

use crate::pool::Pool;

/// Minimum work in multiply-adds that is worth distributing.
const PARALLEL_FROM: usize = 1 << 15;

/// The compute threads of an engine. Idle threads spin for some microseconds and then park, so
/// that an engine without work uses no CPU time.
#[derive(Clone)]
pub struct Threads(Option<Arc<Pool>>);

impl Threads {
    /// Starts threads so that `count` compute, including the caller.
    ///
    /// Errors: a thread cannot be started.
    pub fn new(count: usize) -> Result<Self, Diagnostic> {
        if count <= 1 {
            return Ok(Self(None));
        }
        Pool::new(count - 1).map(|pool| Self(Some(Arc::new(pool))))
    }

    /// Returns the number of threads that compute, including the caller.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.workers() + 1)
    }

    /// Calls `task` once with each index below `tasks`, in any order and on any thread, and
    /// returns after the last call. `work` is the total cost in multiply-adds.
    pub fn for_each(&self, work: usize, tasks: usize, task: impl Fn(usize) + Sync) {
        match &self.0 {
            Some(pool) if work >= PARALLEL_FROM && tasks > 1 => pool.run(tasks, &task),
            _ => (0..tasks).for_each(task),
        }
    }

    /// Calls `task` with the index and the elements of each piece of `out`. Pieces have `size`
    /// elements; the last may be shorter. `work` is the total cost in multiply-adds.
    pub fn fill<T: Send>(
        &self,
        work: usize,
        out: &mut [T],
        size: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let size = size.max(1);
        let pieces = out.len().div_ceil(size);
        let out = SharedSlice::new(out);
        self.for_each(work, pieces, |index| {
            let begin = index * size;
            let length = size.min(out.length - begin);
            // SAFETY: `for_each` passes each index to one call, and pieces of different indices
            // do not overlap.
            task(index, unsafe { out.part(begin, length) });
        });
    }
}

/// A slice whose parts are written by several threads.
pub(crate) struct SharedSlice<'a, T> {
    base: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: Access is only through `part`, whose callers guarantee that parts in use do not overlap;
// `T: Send` lets another thread write them.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub(crate) fn new(out: &'a mut [T]) -> Self {
        Self {
            base: out.as_mut_ptr(),
            length: out.len(),
            borrow: PhantomData,
        }
    }

    /// Returns `length` elements from `begin`, or fewer at the end of the slice.
    ///
    /// # Safety
    ///
    /// No overlapping part may be in use.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, begin: usize, length: usize) -> &mut [T] {
        let begin = begin.min(self.length);
        let length = length.min(self.length - begin);
        // SAFETY: The range is inside the slice, which is borrowed for the lifetime of `self`; the
        // caller guarantees exclusive use.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(begin), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_every_piece_with_any_number_of_threads() {
        for count in [0, 1, 3] {
            let threads = Threads::new(count).unwrap();
            for work in [0, PARALLEL_FROM] {
                let mut out = vec![-1.0; 10];
                threads.fill(work, &mut out, 4, |index, piece| piece.fill(index as f32));
                assert_eq!(out, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]);
            }
            threads.fill(PARALLEL_FROM, &mut Vec::<u8>::new(), 4, |_, _| {});
        }
    }
}
