use std::sync::{Arc, Mutex, PoisonError};

use answer_constraint::{Compiler, OutputConstraint, Vocabulary};
use diagnostics::Diagnostic;
use text_codec::Codec;

use super::shared::Shared;
use crate::guide::{Guide, MaskThread};

/// Creates guides for constrained requests. The compiler and the mask thread are started by the
/// first one.
pub(super) struct Constraints {
    compiler: Compiler,
    shared: Arc<Shared>,
    masks: Mutex<Option<MaskThread>>,
}

impl Constraints {
    pub fn new(codec: Arc<Codec>, vocab_size: u32, shared: Arc<Shared>) -> Self {
        Self {
            compiler: Compiler::new(move || vocabulary(&codec, vocab_size)),
            shared,
            masks: Mutex::new(None),
        }
    }

    /// Returns a guide for an output that starts with `tokens`. Blocks while it compiles the
    /// constraint. What is not enforced is appended to `notes`.
    pub fn guide(
        &self,
        shape: OutputConstraint,
        tokens: &[u32],
        notes: &mut Vec<String>,
    ) -> Result<Guide, Diagnostic> {
        let mut begun = self.compiler.compile(shape, tokens)?;
        notes.append(&mut begun.notes);
        Ok(Guide::new(begun, self.mask_thread()?))
    }

    fn mask_thread(&self) -> Result<MaskThread, Diagnostic> {
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(masks) = &*masks {
            return Ok(masks.clone());
        }
        let shared = self.shared.clone();
        let started = MaskThread::start(self.shared.capacity(), move || shared.wake_engine())?;
        Ok(masks.insert(started).clone())
    }
}

/// Returns the bytes of the model's tokens. A model may have more tokens than its tokenizer, for
/// alignment; these have no bytes.
fn vocabulary(codec: &Codec, vocab_size: u32) -> Vocabulary {
    Vocabulary {
        tokens: (0..vocab_size)
            .map(|id| codec.token_bytes(id).to_vec())
            .collect(),
        end_tokens: codec.end_tokens().to_vec(),
    }
}
