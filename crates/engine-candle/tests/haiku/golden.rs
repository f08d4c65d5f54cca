//! Compares the embedded model with outputs of another implementation in F32.

use crate::common::{
    decode_unbatched, f16_file, golden, haiku, logprobs, open, open_tensors, q8_file,
};
use engine_candle::LoadedModel;
use inference_execution::Engine as _;

/// Tolerance of logprobs with float weights.
const TOLERANCE_FLOAT: f32 = 1e-3;
/// The same where activations are 16-bit floats.
const TOLERANCE_F16: f32 = 5e-2;
/// Tolerance of the logprobs of likely tokens with Q8_0 weights.
const TOLERANCE_Q8_0: f32 = 0.15;

fn assert_golden(mut loaded: LoadedModel, tolerance: f32) {
    for case in golden() {
        let prompt = loaded.codec.encode_chat(&case.messages, &[]).unwrap();
        assert_eq!(prompt, case.prompt_ids);
        let run = decode_unbatched(&mut loaded.engine, &prompt);
        assert_eq!(run.output(), case.output_ids);
        assert_eq!(loaded.codec.decode(run.output()), case.output_text);
        for (logits, top) in run.logits.iter().zip(&case.top5_first3) {
            let logprobs = logprobs(logits);
            for expected in top {
                let found = logprobs[expected.id as usize];
                assert!(
                    (found - expected.logprob).abs() < tolerance,
                    "{found} {}",
                    expected.logprob
                );
            }
        }
    }
}

#[test]
fn f16_gguf_matches_golden_outputs() {
    assert_golden(open(&f16_file()), TOLERANCE_FLOAT);
    assert_golden(open_tensors(&f16_file()), TOLERANCE_F16);
}

#[test]
fn safetensors_match_golden_outputs() {
    assert_golden(open(&haiku()), TOLERANCE_FLOAT);
    assert_golden(open_tensors(&haiku()), TOLERANCE_F16);
}

#[test]
fn q8_0_is_close_to_golden_outputs() {
    assert_close(open(&q8_file()));
    assert_close(open_tensors(&q8_file()));
}

fn assert_close(mut loaded: LoadedModel) {
    let mut same_text = 0;
    let mut largest: f32 = 0.0;
    for case in golden() {
        let run = decode_unbatched(&mut loaded.engine, &case.prompt_ids);
        assert_eq!(run.output()[0], case.output_ids[0]);
        same_text += usize::from(run.output() == case.output_ids);
        let found = logprobs(&run.logits[0]);
        // Unlikely tokens may differ by more.
        for expected in case.top5_first3[0].iter().filter(|t| t.logprob > -6.0) {
            largest = largest.max((found[expected.id as usize] - expected.logprob).abs());
        }
    }
    println!("{same_text} of 20 texts are the same, largest difference {largest}");
    assert!(largest < TOLERANCE_Q8_0, "{largest}");
    assert!(same_text >= 18, "{same_text}");
}

#[test]
fn describes_the_model() {
    let mut loaded = open(&q8_file());
    let description = loaded.engine.describe().clone();
    assert_eq!(description.architecture, "llama");
    assert_eq!(description.quantization, "Q8_0");
    assert_eq!((description.layers, description.vocab_size), (4, 2048));
    assert_eq!(description.context_length, 512);
    assert_eq!(description.parameters, 2_885_888);
    // Eight sequences of full length.
    assert_eq!(loaded.engine.kv().blocks(), 8 * 512 / 16);
    assert_eq!(loaded.engine.kv().block_tokens(), 16);
}
