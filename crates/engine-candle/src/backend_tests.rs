//! The CPU backend and the tensor backend must agree.

use candle_core::{Device, Tensor};
use cpu_kernels::{Activation, Threads};
use inference_execution::{Batch, BlockId, Chunk, SequenceId};

use crate::{
    attention::{Attention, Heads},
    backend::Backend as _,
    cpu::{CpuBackend, CpuRows},
    kv::{CpuKv, KvShape, TensorKv},
    norm::{Norm, Vector},
    plan::{Limits, Plan},
    pseudo_random::PseudoRandom,
    rope::Rotation,
    tensors::TensorBackend,
};

const KV: KvShape = KvShape {
    layers: 2,
    heads: 2,
    width: 20,
};
const BLOCKS: u32 = 8;

/// Both backends, and random inputs for them.
struct Both {
    cpu: CpuBackend,
    tensors: TensorBackend,
    random: PseudoRandom,
}

impl Both {
    fn new() -> Self {
        let kv = TensorKv::new(KV, BLOCKS, &Device::Cpu).unwrap();
        Self {
            cpu: CpuBackend::new(Threads::new(2).unwrap(), CpuKv::new(KV, BLOCKS)),
            // The rows of a chunk are in several pieces.
            tensors: TensorBackend::new(Device::Cpu, kv).with_scores(6 * 64),
            random: PseudoRandom::new(3),
        }
    }

    fn vector(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.random.next() * 4.0).collect()
    }

    fn rows(&mut self, rows: usize, columns: usize) -> (CpuRows, Tensor) {
        let values = self.vector(rows * columns);
        let tensor = Tensor::from_slice(&values, (rows, columns), &Device::Cpu).unwrap();
        (self.cpu.rows_of(&values, columns), tensor)
    }

    fn assert_equal(&mut self, cpu: CpuRows, tensor: Tensor) {
        let cpu = self.cpu.to_host(cpu).unwrap();
        let tensor = self.tensors.to_host(tensor).unwrap();
        assert_eq!(cpu.len(), tensor.len());
        for (cpu, tensor) in cpu.iter().zip(&tensor) {
            assert!((cpu - tensor).abs() < 1e-5, "{cpu} {tensor}");
        }
    }
}

/// Runs an operation on both backends and compares the results. Operands before the semicolon are
/// pairs of a value per backend.
macro_rules! on_both {
    ($both:ident.$operation:ident($($operand:ident),+ ; $($rest:expr),*)) => {{
        let cpu = $both.cpu.$operation($($operand.0),+, $($rest),*).unwrap();
        let tensor = $both.tensors.$operation($($operand.1),+, $($rest),*).unwrap();
        $both.assert_equal(cpu, tensor);
    }};
}

#[test]
fn row_operations_agree() {
    let mut both = Both::new();
    let weight = both.vector(12);
    let norm = Norm {
        weight: Vector::new(weight, &Device::Cpu).unwrap(),
        epsilon: 1e-5,
    };
    for rows in [1, 19] {
        let (x, y) = (both.rows(rows, 12), both.rows(rows, 12));
        let borrowed = (&x.0, &x.1);
        on_both!(both.norm(borrowed; &norm));
        let selected: Vec<u32> = vec![rows as u32 - 1, 0];
        on_both!(both.select(borrowed; &selected));
        on_both!(both.add(x, y;));
        let x = both.rows(rows, 36);
        on_both!(both.norm_heads(x; &norm));
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let (gate, up) = (both.rows(rows, 36), both.rows(rows, 36));
            let cpu = both.cpu.gated(activation, gate.0, up.0).unwrap();
            let tensor = both.tensors.gated(activation, gate.1, up.1).unwrap();
            both.assert_equal(cpu, tensor);
        }
        let x = both.rows(rows, 36);
        on_both!(both.scale(x; 0.7));
        let x = both.rows(rows, 36);
        on_both!(both.softcap(x; 0.9));
    }
}

#[test]
fn rotations_agree() {
    let mut both = Both::new();
    let rotation = Rotation {
        frequencies: vec![1.0, 0.3, 0.01],
        scale: 1.1,
    };
    let positions = [0, 1, 5, 700];
    // Of each head of 8 elements, 6 are rotated.
    let x = both.rows(4, 24);
    let cpu_angles = both.cpu.angles(&rotation, &positions).unwrap();
    let tensor_angles = both.tensors.angles(&rotation, &positions).unwrap();
    let cpu = both.cpu.rotate(x.0, 8, &cpu_angles).unwrap();
    let tensor = both.tensors.rotate(x.1, 8, &tensor_angles).unwrap();
    both.assert_equal(cpu, tensor);
}

#[test]
fn combinations_agree() {
    let mut both = Both::new();
    let (first, second) = (both.rows(2, 7), both.rows(1, 7));
    let targets = || [vec![(0, 0.3), (2, 1.0)], vec![(0, 0.7)]];
    let cpu_parts: Vec<_> = [first.0, second.0].into_iter().zip(targets()).collect();
    let tensor_parts: Vec<_> = [first.1, second.1].into_iter().zip(targets()).collect();
    let cpu = both.cpu.combine(3, cpu_parts).unwrap();
    let tensor = both.tensors.combine(3, tensor_parts).unwrap();
    both.assert_equal(cpu, tensor);
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
fn attention_agrees() {
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
            let cpu = both.cpu.attend(1, attention, [q.0, k.0, v.0], &plan);
            let tensor = both.tensors.attend(1, attention, [q.1, k.1, v.1], &plan);
            both.assert_equal(cpu.unwrap(), tensor.unwrap());
            // Copying a block back and forth changes nothing.
            for kv in [both.cpu.kv(), both.tensors.kv()] {
                kv.copy(BlockId(1), BlockId(5)).unwrap();
                kv.copy(BlockId(5), BlockId(1)).unwrap();
            }
        }
    }
}
