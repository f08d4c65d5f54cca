use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use worker_contract::ALL_TOKENS;

use super::SamplerSettings;

/// The tokens so far, as far as the penalties consider them.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Occurrences of each token of prompt and output. Tracked only for the repetition penalty.
    pub seen: BTreeMap<u32, u32>,
    /// Occurrences of each output token. Tracked only for the frequency and presence penalties.
    pub generated: BTreeMap<u32, u32>,
    /// The tokens in the window, if it is limited, and whether each is an output token.
    window: VecDeque<(u32, bool)>,
}

impl History {
    pub fn new(settings: &SamplerSettings, prompt: &[u32]) -> Self {
        let mut history = Self::default();
        if settings.penalizes() {
            let window = usize::try_from(settings.penalty_window).unwrap_or(usize::MAX);
            for token in &prompt[prompt.len().saturating_sub(window)..] {
                history.push(settings, *token, false);
            }
        }
        history
    }

    /// Appends a token; the oldest one leaves a window that is full.
    pub fn push(&mut self, settings: &SamplerSettings, token: u32, is_output: bool) {
        if !settings.penalizes() || settings.penalty_window == 0 {
            return;
        }
        if settings.penalizes_repetition() {
            *self.seen.entry(token).or_default() += 1;
        }
        if settings.counts_tokens() && is_output {
            *self.generated.entry(token).or_default() += 1;
        }
        if settings.penalty_window == ALL_TOKENS {
            return;
        }
        self.window.push_back((token, is_output));
        if self.window.len() > settings.penalty_window as usize
            && let Some((oldest, was_output)) = self.window.pop_front()
        {
            remove(&mut self.seen, oldest);
            if was_output {
                remove(&mut self.generated, oldest);
            }
        }
    }
}

fn remove(counts: &mut BTreeMap<u32, u32>, token: u32) {
    if let Entry::Occupied(mut count) = counts.entry(token) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}
