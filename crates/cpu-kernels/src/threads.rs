#![allow(unsafe_code)]

use std::{marker::PhantomData, sync::Arc};

use diagnostics::Diagnostic;

use crate::pool::Pool;

/// Multiply-adds below which another thread would cost more than it helps.
const PARALLEL_FROM: usize = 1 << 15;

/// The threads that an engine computes with on the CPU. Those without work wait some
/// microseconds for the next piece of a step and then park: an engine takes no time from
/// others on a busy machine that it does not compute in.
#[derive(Clone)]
pub struct Threads(Option<Arc<Pool>>);

impl Threads {
    /// `count` threads; one means that the caller computes itself.
    pub fn new(count: usize) -> Result<Self, Diagnostic> {
        if count <= 1 {
            return Ok(Self(None));
        }
        Pool::new(count - 1).map(|pool| Self(Some(Arc::new(pool))))
    }

    /// How many compute.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.workers() + 1)
    }

    /// Calls `task` with each number below `tasks` once, in any order and on any thread, and
    /// comes back when all calls have. `work` is the cost of all together in multiply-adds.
    pub fn for_each(&self, work: usize, tasks: usize, task: impl Fn(usize) + Sync) {
        match &self.0 {
            Some(pool) if work >= PARALLEL_FROM && tasks > 1 => pool.run(tasks, &task),
            _ => (0..tasks).for_each(task),
        }
    }

    /// Lets `task` fill each piece of `out`, `size` long (the last may be shorter), given its
    /// index. `work` is the cost of all together in multiply-adds.
    pub fn fill<T: Send>(
        &self,
        work: usize,
        out: &mut [T],
        size: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let size = size.max(1);
        let pieces = out.len().div_ceil(size);
        let out = Shared::new(out);
        self.for_each(work, pieces, |index| {
            let begin = index * size;
            let length = size.min(out.length - begin);
            // SAFETY: `for_each` gives each index to one call, and pieces of different
            // indices do not overlap.
            task(index, unsafe { out.part(begin, length) });
        });
    }
}

/// A slice of which several threads write different parts.
pub(crate) struct Shared<'a, T> {
    base: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: It gives out nothing but parts of a slice of `T: Send`, and who asks for a part
// promises that nobody else has it.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(out: &'a mut [T]) -> Self {
        Self {
            base: out.as_mut_ptr(),
            length: out.len(),
            borrow: PhantomData,
        }
    }

    /// `length` elements from `begin`, or fewer where the slice ends.
    ///
    /// # Safety
    ///
    /// No part that overlaps this one may be in use.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, begin: usize, length: usize) -> &mut [T] {
        let begin = begin.min(self.length);
        let length = length.min(self.length - begin);
        // SAFETY: The range lies inside the slice, which is borrowed for as long as `self`
        // lives; the caller promises that nobody else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(begin), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_filled_whatever_the_threads() {
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
