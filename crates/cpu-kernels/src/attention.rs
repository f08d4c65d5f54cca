//! Causal attention over a blocked KV cache.

mod kernel;
mod shape;

pub use shape::AttentionShape;

use self::kernel::{Attend, TASK_ROWS, Task};
use crate::{
    isa::Isa,
    kv_blocks::KvBlocks,
    lanes::{LANES, dispatch},
    threads::Threads,
};

/// Number of queries per task that share the keys and values read.
const TASK_QUERIES: usize = 24;
/// Maximum number of scores of a task with more than one row, so that they stay in the cache.
const TASK_SCORES: usize = 1 << 17;

/// Consecutive tokens of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSpan<'a> {
    /// Number of tokens.
    pub rows: usize,
    /// Position of the first token in its sequence.
    pub position: usize,
    /// Blocks of the sequence from its start, at least up to the last token of the span.
    pub blocks: &'a [u32],
}

/// Computes attention for each row of each span, one span after the other. `queries` and `out`
/// have the shape `[rows, heads * width]`; `kv` already contains the keys and values of the rows.
///
/// The order of every sum depends only on the position of its row: scores are summed element by
/// element, softmax weights per lane across blocks, and values position by position.
pub fn attention<'a>(
    isa: Isa,
    threads: &Threads,
    shape: AttentionShape,
    spans: impl Iterator<Item = AttentionSpan<'a>>,
    queries: &'a [f32],
    kv: &KvBlocks,
    out: &'a mut [f32],
) {
    let (mut tasks, work) = tasks(shape, spans, queries, kv, out);
    threads.fill(work, &mut tasks, 1, |_, tasks| {
        for task in tasks {
            dispatch(isa, Attend { shape, kv, task });
        }
    });
}

/// Returns all tasks and their total cost in multiply-adds.
fn tasks<'a>(
    shape: AttentionShape,
    spans: impl Iterator<Item = AttentionSpan<'a>>,
    queries: &'a [f32],
    kv: &KvBlocks,
    out: &'a mut [f32],
) -> (Vec<Task<'a>>, usize) {
    let part = shape.heads / kv.heads() * kv.width();
    let mut parts = queries.chunks_exact(part).zip(out.chunks_exact_mut(part));
    let (mut tasks, mut work) = (Vec::new(), 0);
    for span in spans {
        let mut row = 0;
        while row < span.rows {
            let position = span.position + row;
            let rows = task_rows(shape, kv, position).min(span.rows - row);
            let first_task = tasks.len();
            tasks.extend((0..kv.heads()).map(|head| Task {
                head,
                position,
                blocks: span.blocks,
                rows,
                ..Task::default()
            }));
            for row in 0..rows {
                for (task, (queries, out)) in tasks[first_task..].iter_mut().zip(&mut parts) {
                    task.queries[row] = queries;
                    task.out[row] = out;
                }
                work += 2 * shape.visible(position + row).len() * shape.heads * kv.width();
            }
            row += rows;
        }
    }
    (tasks, work)
}

/// Returns the number of rows of a task that starts at `position`.
fn task_rows(shape: AttentionShape, kv: &KvBlocks, position: usize) -> usize {
    let group = shape.heads / kv.heads();
    let scores = group * shape.visible(position).len().next_multiple_of(LANES);
    (TASK_QUERIES / group)
        .min(TASK_SCORES / scores)
        .clamp(1, TASK_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_long_sequences_have_few_rows() {
        let kv = KvBlocks::new(1, 1, 8);
        let shape = AttentionShape {
            heads: 3,
            scale: 1.0,
            softcap: None,
            window: None,
        };
        assert_eq!(task_rows(shape, &kv, 0), 8);
        assert_eq!(task_rows(shape, &kv, 19_990), 2);
        assert_eq!(task_rows(shape, &kv, 1_000_000), 1);
    }
}
