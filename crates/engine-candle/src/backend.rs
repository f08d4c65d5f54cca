use candle_core::Result;
use inference_execution::KvCache;

use crate::{
    architecture::Activation, attention::Attention, linear::Linear, matrix::Matrix, norm::Norm,
    plan::Plan, rope::Rotation,
};

/// The rows that the rows of a part are added to, and what each is multiplied with.
pub(crate) type Targets = Vec<(u32, f32)>;

/// What a forward pass is made of. It is written once, over these operations, and computed
/// on plain memory by kernels of our own ([`crate::cpu::Cpu`]) or, on other devices, by
/// candle's tensor operations ([`crate::tensors::Tensors`]).
pub(crate) trait Backend {
    /// Numbers of the rows of a step, `[rows, columns]`.
    type Rows;

    /// The rows of a matrix with these numbers.
    fn lookup(&mut self, table: &Matrix, numbers: &[u32]) -> Result<Self::Rows>;

    /// The cosines and the sines at these positions, `[positions, rotated numbers / 2]` each.
    fn angles(&mut self, rotation: &Rotation, positions: &[u32]) -> Result<[Self::Rows; 2]>;

    /// `x` times each of the matrices, with its bias.
    fn linear<const N: usize>(
        &mut self,
        x: &Self::Rows,
        linears: [&Linear; N],
    ) -> Result<[Self::Rows; N]>;

    /// The norm of each row.
    fn norm(&mut self, x: &Self::Rows, norm: &Norm) -> Result<Self::Rows>;

    /// The norm of each head of each row, heads being as wide as the norm.
    fn norm_heads(&mut self, x: Self::Rows, norm: &Norm) -> Result<Self::Rows>;

    /// Rotates each head of `width` numbers, first half against second; numbers behind the
    /// rotated ones stay.
    fn rotate(
        &mut self,
        x: Self::Rows,
        width: usize,
        angles: &[Self::Rows; 2],
    ) -> Result<Self::Rows>;

    /// Writes keys and values of a layer to the cache, then attends.
    fn attend(
        &mut self,
        layer: usize,
        attention: Attention,
        query_key_value: [Self::Rows; 3],
        plan: &Plan,
    ) -> Result<Self::Rows>;

    /// `activation(gate) * up`.
    fn gated(
        &mut self,
        activation: Activation,
        gate: Self::Rows,
        up: Self::Rows,
    ) -> Result<Self::Rows>;

    /// `x + y`.
    fn add(&mut self, x: Self::Rows, y: Self::Rows) -> Result<Self::Rows>;

    /// `x * factor`.
    fn scale(&mut self, x: Self::Rows, factor: f32) -> Result<Self::Rows>;

    /// `cap * tanh(x / cap)`.
    fn softcap(&mut self, x: Self::Rows, cap: f32) -> Result<Self::Rows>;

    /// Some rows of `x`.
    fn select(&mut self, x: &Self::Rows, rows: &[u32]) -> Result<Self::Rows>;

    /// The sum over `parts`, of which there is one at least, as `rows` rows: each gives its
    /// rows, times their weights, to the rows with these numbers, one part after the other.
    fn combine(&mut self, rows: usize, parts: Vec<(Self::Rows, Targets)>) -> Result<Self::Rows>;

    /// The numbers where the processor can read them.
    fn numbers(&mut self, x: Self::Rows) -> Result<Vec<f32>>;

    /// Takes back what is not needed any more, so that its memory is used again.
    fn release(&mut self, x: Self::Rows);

    /// Keys and values of all layers.
    fn kv(&mut self) -> &mut dyn KvCache;
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use cpu_kernels::Threads;
    use inference_execution::{Batch, BlockId, Chunk, SequenceId};

    use super::*;
    use crate::{
        attention::Heads,
        cpu::Cpu,
        kv::{CpuKv, KvShape, TensorKv},
        norm::Vector,
        plan::Limits,
        self_test::Numbers,
        tensors::Tensors,
    };

    const KV: KvShape = KvShape {
        layers: 2,
        heads: 2,
        width: 20,
    };
    const BLOCKS: u32 = 8;

    /// Both kinds of backend, and numbers to give them.
    struct Both {
        cpu: Cpu,
        tensors: Tensors,
        numbers: Numbers,
    }

    impl Both {
        fn new() -> Self {
            let kv = TensorKv::new(KV, BLOCKS, &Device::Cpu).unwrap();
            Self {
                cpu: Cpu::new(Threads::new(2).unwrap(), CpuKv::new(KV, BLOCKS)),
                tensors: Tensors::new(Device::Cpu, kv),
                numbers: Numbers::new(3),
            }
        }

        fn vector(&mut self, length: usize) -> Vec<f32> {
            (0..length).map(|_| self.numbers.next() * 4.0).collect()
        }

        fn rows(&mut self, rows: usize, columns: usize) -> (crate::cpu::CpuRows, Tensor) {
            let values = self.vector(rows * columns);
            let tensor = Tensor::from_slice(&values, (rows, columns), &Device::Cpu).unwrap();
            (self.cpu.rows_of(&values, columns), tensor)
        }

        fn agree(&mut self, (cpu, tensor): (crate::cpu::CpuRows, Tensor)) {
            let ours = self.cpu.numbers(cpu).unwrap();
            let theirs = self.tensors.numbers(tensor).unwrap();
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
            }
        }
    }

    /// The same operation on both, whose operands are named once.
    macro_rules! on_both {
        ($both:ident.$operation:ident($($operand:ident),+ ; $($rest:expr),*)) => {{
            let ours = $both.cpu.$operation($($operand.0),+, $($rest),*).unwrap();
            let theirs = $both.tensors.$operation($($operand.1),+, $($rest),*).unwrap();
            $both.agree((ours, theirs));
        }};
    }

    #[test]
    fn operations_on_rows_give_the_same_on_both() {
        let mut both = Both::new();
        let weight = both.vector(12);
        let norm = Norm {
            weight: Vector::new(weight, &Device::Cpu).unwrap(),
            epsilon: 1e-5,
        };
        for rows in [1, 19] {
            let (x, y) = (both.rows(rows, 12), both.rows(rows, 12));
            let normed = (&x.0, &x.1);
            on_both!(both.norm(normed; &norm));
            let wanted: Vec<u32> = vec![rows as u32 - 1, 0];
            let selected = (&x.0, &x.1);
            on_both!(both.select(selected; &wanted));
            on_both!(both.add(x, y;));
            let x = both.rows(rows, 36);
            on_both!(both.norm_heads(x; &norm));
            for activation in [Activation::Silu, Activation::GeluTanh] {
                let (gate, up) = (both.rows(rows, 36), both.rows(rows, 36));
                let ours = both.cpu.gated(activation, gate.0, up.0).unwrap();
                let theirs = both.tensors.gated(activation, gate.1, up.1).unwrap();
                both.agree((ours, theirs));
            }
            let x = both.rows(rows, 36);
            on_both!(both.scale(x; 0.7));
            let x = both.rows(rows, 36);
            on_both!(both.softcap(x; 0.9));
        }
    }

    #[test]
    fn both_rotate_alike() {
        let mut both = Both::new();
        let rotation = Rotation {
            frequencies: vec![1.0, 0.3, 0.01],
            scale: 1.1,
        };
        let positions = [0, 1, 5, 700];
        // Of each head of 8 numbers, 6 are rotated.
        let x = both.rows(4, 24);
        let ours = both.cpu.angles(&rotation, &positions).unwrap();
        let theirs = both.tensors.angles(&rotation, &positions).unwrap();
        let ours = both.cpu.rotate(x.0, 8, &ours).unwrap();
        let theirs = both.tensors.rotate(x.1, 8, &theirs).unwrap();
        both.agree((ours, theirs));
    }

    #[test]
    fn both_combine_alike() {
        let mut both = Both::new();
        let (first, second) = (both.rows(2, 7), both.rows(1, 7));
        let targets = || [vec![(0, 0.3), (2, 1.0)], vec![(0, 0.7)]];
        let ours: Vec<_> = [first.0, second.0].into_iter().zip(targets()).collect();
        let theirs: Vec<_> = [first.1, second.1].into_iter().zip(targets()).collect();
        let ours = both.cpu.combine(3, ours).unwrap();
        let theirs = both.tensors.combine(3, theirs).unwrap();
        both.agree((ours, theirs));
    }

    fn plan(chunks: &[(u64, usize, u32, &[u32])]) -> Plan {
        let chunks = chunks
            .iter()
            .map(|&(sequence, rows, position, blocks)| Chunk {
                sequence: SequenceId(sequence),
                tokens: vec![0; rows],
                position,
                blocks: blocks.iter().map(|&b| BlockId(b)).collect(),
                wants_logits: false,
            });
        let limits = Limits {
            vocab_size: 1,
            context_length: 64,
            blocks: BLOCKS,
        };
        let batch = Batch {
            chunks: chunks.collect(),
        };
        Plan::new(&batch, limits).unwrap()
    }

    #[test]
    fn both_attend_alike() {
        for (window, softcap) in [
            (None, None),
            (Some(1), None),
            (Some(7), Some(0.5)),
            (Some(33), None),
            (Some(1000), Some(3.0)),
        ] {
            let mut both = Both::new();
            let heads = Heads {
                queries: 6,
                keys: 2,
                width: 20,
                scale: 0.3,
                softcap,
            };
            let attention = Attention { heads, window };
            let first = plan(&[(1, 30, 0, &[7, 1])]);
            let second = plan(&[(1, 5, 30, &[7, 1, 4]), (2, 1, 0, &[0]), (3, 17, 0, &[2, 6])]);
            for plan in [first, second] {
                let rows = plan.tokens.len();
                let [q, k, v] = [120, 40, 40].map(|columns| both.rows(rows, columns));
                let ours = both.cpu.attend(1, attention, [q.0, k.0, v.0], &plan);
                let theirs = both.tensors.attend(1, attention, [q.1, k.1, v.1], &plan);
                both.agree((ours.unwrap(), theirs.unwrap()));
                // A block is as good as its copy.
                for backend in [both.cpu.kv(), both.tensors.kv()] {
                    backend.copy(BlockId(1), BlockId(5)).unwrap();
                    backend.copy(BlockId(5), BlockId(1)).unwrap();
                }
            }
        }
    }
}
