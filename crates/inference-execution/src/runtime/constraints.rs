use std::sync::{Arc, Mutex, PoisonError};

use answer_constraint::{Compiler, OutputConstraint, Vocabulary};
use diagnostics::Diagnostic;
use text_codec::Codec;

use super::shared::Shared;
use crate::{Guide, MaskThread};

/// What constrained requests need; nothing is made before the first of them comes.
pub(super) struct Constraints {
    compiler: Compiler,
    shared: Arc<Shared>,
    masks: Mutex<Option<MaskThread>>,
}

impl Constraints {
    pub fn new(codec: Arc<Codec>, vocab_size: u32, shared: &Arc<Shared>) -> Self {
        Self {
            compiler: Compiler::new(move || vocabulary(&codec, vocab_size)),
            shared: shared.clone(),
            masks: Mutex::new(None),
        }
    }

    /// A guide for an answer that begins with `so_far`. Compiling takes its time.
    pub fn guide(&self, shape: OutputConstraint, so_far: &[u32]) -> Result<Guide, Diagnostic> {
        let begun = self.compiler.compile(shape, so_far)?;
        Ok(Guide::new(begun, self.masks()?))
    }

    fn masks(&self) -> Result<MaskThread, Diagnostic> {
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(masks) = &*masks {
            return Ok(masks.clone());
        }
        let shared = self.shared.clone();
        let started = MaskThread::start(self.shared.capacity(), move || shared.wake())?;
        Ok(masks.insert(started).clone())
    }
}

/// The model's tokens as bytes. It may have more than the tokenizer, for alignment; those
/// stand for no text.
fn vocabulary(codec: &Codec, vocab_size: u32) -> Vocabulary {
    Vocabulary {
        tokens: (0..vocab_size)
            .map(|id| codec.token_bytes(id).to_vec())
            .collect(),
        end_tokens: codec.end_tokens().to_vec(),
    }
}
