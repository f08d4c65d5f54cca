use diagnostics::Diagnostic;
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use model_format::{ModelHeader, TensorType};

use crate::{
    architecture::Architecture,
    engine::CandleEngine,
    load::{LoadOptions, build},
    weights::RawTensor,
};

mod models;
#[cfg(test)]
mod reference;

#[cfg(test)]
pub(crate) use models::Numbers;
pub(crate) use models::tiny_header;
use models::{gemma2_header, gemma3_header, phi3_header, qwen3_moe_header, tiny_tensors};

/// The prompt of the test.
const PROMPT: [u32; 21] = [
    5, 17, 3, 60, 41, 2, 9, 33, 21, 7, 50, 12, 63, 0, 28, 19, 44, 8, 31, 5, 5,
];
/// Sums in another order differ in the last digits.
const TOLERANCE_F32: f32 = 2e-4;
/// Activations are rounded to 8 bits, now and then to the neighbour of the reference's.
const TOLERANCE_Q8_0: f32 = 1e-2;

/// A tiny model and what it must say.
struct Case {
    header: fn() -> ModelHeader,
    kind: TensorType,
    /// Logits of the first tokens of the vocabulary after the prompt, by the reference in
    /// this module's tests.
    expected: [f32; 6],
    tolerance: f32,
}

const CASES: &[Case] = &[
    Case {
        header: tiny_header,
        kind: TensorType::F32,
        expected: [
            -1.255_407_4,
            -1.761_403_1,
            0.360_931_96,
            -0.568_140_1,
            -0.649_212_24,
            1.922_336_4,
        ],
        tolerance: TOLERANCE_F32,
    },
    Case {
        header: tiny_header,
        kind: TensorType::Q8_0,
        expected: [
            -1.210_812_3,
            -1.674_874_1,
            0.320_188_57,
            -0.653_366_27,
            -0.608_808_17,
            1.874_426_1,
        ],
        tolerance: TOLERANCE_Q8_0,
    },
    Case {
        header: gemma2_header,
        kind: TensorType::F32,
        expected: [
            -1.684_574,
            0.344_658_26,
            -0.239_620_1,
            -2.321_681,
            0.637_690_6,
            2.504_732_6,
        ],
        tolerance: TOLERANCE_F32,
    },
    Case {
        header: gemma3_header,
        kind: TensorType::F32,
        expected: [
            0.535_071_6,
            1.710_354_1,
            -2.189_124,
            0.501_525_7,
            -0.230_172_2,
            4.362_990_4,
        ],
        tolerance: TOLERANCE_F32,
    },
    Case {
        header: phi3_header,
        kind: TensorType::F32,
        expected: [
            0.194_379_24,
            0.199_674_46,
            -2.537_547_6,
            -0.809_887_23,
            0.349_320_7,
            2.280_891,
        ],
        tolerance: TOLERANCE_F32,
    },
    Case {
        header: qwen3_moe_header,
        kind: TensorType::F32,
        expected: [
            -1.806_308_6,
            -0.978_844_94,
            -1.607_002,
            -0.523_786_96,
            0.712_952_9,
            0.329_758_9,
        ],
        tolerance: TOLERANCE_F32,
    },
];

/// Checks the engine on this machine: tiny models made in memory, one for each kind of
/// computation that a family needs, must give known logits, and the same ones bit for bit in
/// pieces and in company.
pub fn self_test() -> Result<(), Diagnostic> {
    for case in CASES {
        let header = (case.header)();
        let what = format!("{} in {}", header.architecture, case.kind.name());
        let whole = logits(&mut tiny_engine(&header, case.kind)?, &[21])?;
        for (token, (found, expected)) in whole.iter().zip(case.expected).enumerate() {
            if (found - expected).abs() > case.tolerance {
                return Err(Diagnostic::internal(format!(
                    "self-test of {what}: logit {token} is {found}, expected {expected}",
                ))
                .hint("this build computes wrongly on this processor: report it"));
            }
        }
        let pieces = logits(&mut tiny_engine(&header, case.kind)?, &[1, 15, 3, 2])?;
        if pieces != whole {
            return Err(Diagnostic::internal(format!(
                "self-test of {what}: a prompt in pieces gives other logits than the whole",
            ))
            .hint("this build computes wrongly on this processor: report it"));
        }
    }
    Ok(())
}

/// The logits after the prompt, fed in chunks of these sizes beside another sequence.
fn logits(engine: &mut CandleEngine, sizes: &[usize]) -> Result<Vec<f32>, Diagnostic> {
    let chunk = |sequence, tokens: &[u32], position: usize, blocks: &[u32], wants_logits| Chunk {
        sequence: SequenceId(sequence),
        tokens: tokens.to_vec(),
        position: position as u32,
        blocks: blocks.iter().map(|&b| BlockId(b)).collect(),
        wants_logits,
    };
    let mut position = 0;
    let mut last = Vec::new();
    for &size in sizes {
        let tokens = &PROMPT[position..position + size];
        let company = &PROMPT[..sizes.len()];
        let batch = Batch {
            chunks: vec![
                chunk(1, company, 0, &[2], false),
                chunk(2, tokens, position, &[3, 0], true),
            ],
        };
        last = engine.step(&batch)?.values;
        position += size;
    }
    Ok(last)
}

fn tiny_engine(header: &ModelHeader, kind: TensorType) -> Result<CandleEngine, Diagnostic> {
    let architecture = Architecture::named(&header.architecture, header.format)?;
    let tensors = tiny_tensors(header, architecture, kind);
    let raw = tensors
        .iter()
        .map(|t| {
            let tensor = RawTensor {
                shape: t.shape.clone(),
                kind: t.kind,
                data: &t.data,
            };
            let names = architecture.tensor_names(header.format);
            (t.part.tensor_name(names), tensor)
        })
        .collect();
    build(header, raw, &mut LoadOptions::default())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use inference_execution::Pooling;

    use super::{reference::Reference, *};
    use crate::{engine::Computing, kv::TensorKv, load::kv_shape, tensors::Tensors};

    #[test]
    fn the_known_logits_are_the_references() {
        for case in CASES {
            let header = (case.header)();
            let family = header.architecture.clone();
            let reference = Reference::new(header, case.kind).logits(&PROMPT);
            println!("{family}: {:?}", &reference[..6]);
            for (known, reference) in case.expected.iter().zip(&reference) {
                assert!((f64::from(*known) - reference).abs() < 1e-5, "{family}");
            }
        }
    }

    #[test]
    fn every_logit_is_the_references() {
        for case in CASES {
            let header = (case.header)();
            let found = logits(&mut tiny_engine(&header, case.kind).unwrap(), &[21]).unwrap();
            let family = header.architecture.clone();
            let reference = Reference::new(header, case.kind).logits(&PROMPT);
            let difference = found
                .iter()
                .zip(&reference)
                .map(|(a, b)| (f64::from(*a) - b).abs())
                .fold(0.0, f64::max);
            println!("{family} in {:?}: {difference:e}", case.kind);
            assert!(
                difference < f64::from(case.tolerance),
                "{family}: {difference}"
            );
        }
    }

    /// The row for each chunk of the prompt, in chunks of these sizes beside another sequence.
    fn states(engine: &mut CandleEngine, sizes: &[usize]) -> Vec<Vec<f32>> {
        let chunk = |sequence, tokens: &[u32], position: usize, blocks: &[u32]| Chunk {
            sequence: SequenceId(sequence),
            tokens: tokens.to_vec(),
            position: position as u32,
            blocks: blocks.iter().map(|&b| BlockId(b)).collect(),
            wants_logits: false,
        };
        let mut position = 0;
        let rows = sizes.iter().map(|&size| {
            let own = chunk(2, &PROMPT[position..position + size], position, &[3, 0]);
            let chunks = vec![chunk(1, &PROMPT[..sizes.len()], 0, &[2]), own];
            position += size;
            let states = engine.embed(&Batch { chunks }).unwrap();
            states.rows().nth(1).unwrap().to_vec()
        });
        rows.collect()
    }

    #[test]
    fn the_states_of_texts_are_the_references() {
        for case in CASES {
            let header = (case.header)();
            let family = header.architecture.clone();
            let engine = |pooling| {
                tiny_engine(&header, case.kind)
                    .unwrap()
                    .pooled(Some(pooling))
            };
            let reference = Reference::new(header.clone(), case.kind).states(&PROMPT);
            let sum = |from: usize, to: usize| {
                let mut sum = vec![0.0; reference[0].len()];
                for state in &reference[from..to] {
                    sum.iter_mut().zip(state).for_each(|(a, b)| *a += b);
                }
                sum
            };
            let close = |found: &[f32], expected: &[f64]| {
                assert_eq!(found.len(), expected.len());
                let pairs = found.iter().zip(expected);
                let difference = pairs
                    .map(|(a, b)| (f64::from(*a) - b).abs())
                    .fold(0.0, f64::max);
                // A sum of states is larger than a logit of these models.
                assert!(
                    difference < 20.0 * f64::from(case.tolerance),
                    "{family}: {difference}"
                );
            };
            let last = states(&mut engine(Pooling::Last), &[15, 6]);
            close(&last[1], &reference[20]);
            let whole = states(&mut engine(Pooling::Last), &[21]);
            assert_eq!(whole[0], last[1], "{family}: in pieces as whole");
            let sums = states(&mut engine(Pooling::Mean), &[15, 6]);
            close(&sums[0], &sum(0, 15));
            close(&sums[1], &sum(15, 21));
        }
    }

    #[test]
    fn the_tensor_operations_compute_the_same_models() {
        for case in CASES {
            let header = (case.header)();
            let mut engine = tiny_engine(&header, case.kind).unwrap();
            let ours = logits(&mut engine, &[1, 15, 5]).unwrap();
            let blocks = engine.kv().blocks();
            let kv = TensorKv::new(kv_shape(&header), blocks, &Device::Cpu).unwrap();
            engine.computing = Computing::Device(Tensors::new(Device::Cpu, kv));
            let theirs = logits(&mut engine, &[1, 15, 5]).unwrap();
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let difference = (ours - theirs).abs();
                assert!(difference < case.tolerance, "{}", header.architecture);
            }
        }
    }

    #[test]
    fn the_self_test_passes() {
        self_test().unwrap();
    }
}
