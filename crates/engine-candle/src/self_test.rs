use diagnostics::Diagnostic;
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use model_format::{ModelHeader, TensorType};

use crate::{
    architecture::Architecture,
    device::ComputeDevice,
    engine::CandleEngine,
    errors,
    load::build,
    options::LoadOptions,
    tiny_models::{
        gemma2_header, gemma3_header, llama_header, phi3_header, qwen3_moe_header, tiny_tensors,
    },
    weights::RawTensor,
};

#[cfg(test)]
mod reference;

const PROMPT: [u32; 21] = [
    5, 17, 3, 60, 41, 2, 9, 33, 21, 7, 50, 12, 63, 0, 28, 19, 44, 8, 31, 5, 5,
];
/// Sums in a different order differ in the last digits.
const TOLERANCE_F32: f32 = 2e-4;
/// Activations are rounded to 8 bits, occasionally to a different value than in the reference.
const TOLERANCE_Q8_0: f32 = 1e-2;
/// Factor of the tolerances with tensors: candle rounds activations to 8 bits by other rules than
/// the reference, and the exponentials of GPUs are less exact.
const TENSOR_FACTOR: f32 = 5.0;

/// A tiny model and its expected logits.
struct Case {
    header: fn() -> ModelHeader,
    kind: TensorType,
    /// Logits of the first tokens of the vocabulary after the prompt, computed by the reference
    /// implementation in this module's tests.
    expected: [f32; 6],
    tolerance: f32,
}

const CASES: &[Case] = &[
    Case {
        header: llama_header,
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
        header: llama_header,
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

/// Checks the engine on a device of this machine. Tiny models created in memory, which cover all
/// variants of computation, must produce known logits, and the same ones for a prompt split into
/// chunks and batched with another sequence: bit-identical with the kernels for the CPU, near
/// otherwise.
///
/// Errors: a model produces different logits, or does not compute.
pub fn self_test(device: &ComputeDevice) -> Result<(), Diagnostic> {
    for case in CASES {
        let header = (case.header)();
        let model = format!("{} in {}", header.architecture, case.kind.name());
        let factor = if device.is_packed() {
            1.0
        } else {
            TENSOR_FACTOR
        };
        let tolerance = case.tolerance * factor;
        let engine = || tiny_engine(&header, case.kind, device);
        let whole = logits(&mut engine()?, &[21])?;
        for (token, (found, expected)) in whole.iter().zip(case.expected).enumerate() {
            // A number that is not one is not near either.
            let is_near = (found - expected).abs() <= tolerance;
            if !is_near {
                let problem = format!("logit {token} is {found}, expected {expected}");
                return Err(errors::self_test(&model, problem));
            }
        }
        let chunked = logits(&mut engine()?, &[1, 15, 3, 2])?;
        let is_same = if device.is_packed() {
            chunked == whole
        } else {
            let mut pairs = chunked.iter().zip(&whole);
            pairs.all(|(a, b)| (a - b).abs() <= tolerance)
        };
        if !is_same {
            let problem = "a prompt in chunks produces other logits than the whole prompt";
            return Err(errors::self_test(&model, problem));
        }
    }
    Ok(())
}

/// Returns the logits after the prompt, processed in chunks of the given sizes and batched with
/// another sequence.
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
        let other = &PROMPT[..sizes.len()];
        let batch = Batch {
            chunks: vec![
                chunk(1, other, 0, &[2], false),
                chunk(2, tokens, position, &[3, 0], true),
            ],
        };
        last = engine.step(&batch)?.values;
        position += size;
    }
    Ok(last)
}

fn tiny_engine(
    header: &ModelHeader,
    kind: TensorType,
    device: &ComputeDevice,
) -> Result<CandleEngine, Diagnostic> {
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
    let mut options = LoadOptions {
        device: device.clone(),
        ..LoadOptions::default()
    };
    build(header, raw, &mut options)
}

#[cfg(test)]
mod tests {
    use inference_execution::Pooling;

    use super::{reference::Reference, *};

    const DEVICES: [ComputeDevice; 2] = [ComputeDevice::Cpu, ComputeDevice::CpuTensors];

    #[test]
    fn expected_logits_match_the_reference() {
        for case in CASES {
            let header = (case.header)();
            let family = header.architecture.clone();
            let reference = Reference::new(header, case.kind).logits(&PROMPT);
            println!("{family}: {:?}", &reference[..6]);
            for (expected, reference) in case.expected.iter().zip(&reference) {
                assert!((f64::from(*expected) - reference).abs() < 1e-5, "{family}");
            }
        }
    }

    #[test]
    fn all_logits_match_the_reference() {
        for case in CASES {
            let header = (case.header)();
            let mut engine = tiny_engine(&header, case.kind, &ComputeDevice::Cpu).unwrap();
            let found = logits(&mut engine, &[21]).unwrap();
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

    /// Returns the embedding row of each chunk of the prompt, processed in chunks of the given
    /// sizes and batched with another sequence.
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
    fn embeddings_match_the_reference() {
        let cases = CASES.iter();
        for (case, device) in cases.flat_map(|case| DEVICES.map(|device| (case, device))) {
            let header = (case.header)();
            let family = header.architecture.clone();
            let engine = |pooling| {
                tiny_engine(&header, case.kind, &device)
                    .unwrap()
                    .with_pooling(Some(pooling))
            };
            let reference = Reference::new(header.clone(), case.kind).states(&PROMPT);
            let sum = |from: usize, to: usize| {
                let mut sum = vec![0.0; reference[0].len()];
                for state in &reference[from..to] {
                    sum.iter_mut().zip(state).for_each(|(a, b)| *a += b);
                }
                sum
            };
            let assert_close = |found: &[f32], expected: &[f64]| {
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
            assert_close(&last[1], &reference[20]);
            let whole = states(&mut engine(Pooling::Last), &[21]);
            if device.is_packed() {
                assert_eq!(whole[0], last[1], "{family}: whole and in chunks");
            }
            assert_close(&whole[0], &reference[20]);
            let sums = states(&mut engine(Pooling::Mean), &[15, 6]);
            assert_close(&sums[0], &sum(0, 15));
            assert_close(&sums[1], &sum(15, 21));
        }
    }

    #[test]
    fn tensors_match_the_kernels_of_the_cpu() {
        for case in CASES {
            let header = (case.header)();
            let [cpu, tensors] = DEVICES.map(|device| {
                let mut engine = tiny_engine(&header, case.kind, &device).unwrap();
                logits(&mut engine, &[1, 15, 5]).unwrap()
            });
            assert_eq!(cpu.len(), tensors.len());
            for (cpu, tensor) in cpu.iter().zip(&tensors) {
                let difference = (cpu - tensor).abs();
                let tolerance = case.tolerance * TENSOR_FACTOR;
                assert!(
                    difference < tolerance,
                    "{}: {difference}",
                    header.architecture
                );
            }
        }
    }

    #[test]
    fn self_test_passes_on_each_device() {
        for device in DEVICES {
            self_test(&device).unwrap();
        }
    }
}
