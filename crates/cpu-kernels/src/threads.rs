use std::sync::Arc;

use diagnostics::Diagnostic;
use rayon::prelude::*;

/// Multiply-adds below which waking another thread costs more than it helps.
const PARALLEL_FROM: usize = 1 << 20;

/// The threads that an engine computes with on the CPU. They park when there is nothing to
/// do, and so does the thread that waits for them: an engine takes no time from others on a
/// busy machine that it does not compute in.
#[derive(Clone)]
pub struct Threads(Option<Arc<rayon::ThreadPool>>);

impl Threads {
    /// `count` threads; one means that the caller computes itself.
    pub fn new(count: usize) -> Result<Self, Diagnostic> {
        if count <= 1 {
            return Ok(Self(None));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("engine-{index}"))
            .build()
            .map_err(|e| Diagnostic::internal(format!("{count} threads cannot start: {e}")))?;
        Ok(Self(Some(Arc::new(pool))))
    }

    /// Lets `task` fill each piece of `out`, `size` long (the last may be shorter),
    /// given its index. `work` is the cost of all together in multiply-adds.
    pub fn fill<T: Send>(
        &self,
        work: usize,
        out: &mut [T],
        size: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let size = size.max(1);
        match &self.0 {
            Some(pool) if work >= PARALLEL_FROM => pool.install(|| {
                out.par_chunks_mut(size)
                    .enumerate()
                    .for_each(|(index, piece)| task(index, piece));
            }),
            _ => out
                .chunks_mut(size)
                .enumerate()
                .for_each(|(index, piece)| task(index, piece)),
        }
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
        }
    }
}
