use worker_contract::{ALL_TOKENS, InferRequest, SamplingValues};

/// Parameters of the sampler with a value for each, within the limits that admission enforces.
/// The default leaves the model's distribution unchanged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SamplerSettings {
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: u32,
    pub min_p: f32,
    pub typical_p: f32,
    pub repetition_penalty: f32,
    pub frequency_penalty: f32,
    pub presence_penalty: f32,
    pub penalty_window: u32,
    pub logit_bias: Vec<(u32, f32)>,
    pub choice: u32,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: ALL_TOKENS,
            logit_bias: Vec::new(),
            choice: 0,
        }
    }
}

impl SamplerSettings {
    /// Resolves the parameters of a request to a model that recommends `recommended`.
    pub fn resolve(request: &InferRequest, recommended: &SamplingValues) -> Self {
        let sampling = &request.sampling;
        let values = sampling
            .values
            .or(recommended)
            .or(&request.sampling_defaults);
        let neutral = Self::default();
        Self {
            temperature: values.temperature.unwrap_or(neutral.temperature),
            top_p: values.top_p.unwrap_or(neutral.top_p),
            top_k: values.top_k.unwrap_or(neutral.top_k),
            min_p: values.min_p.unwrap_or(neutral.min_p),
            typical_p: values.typical_p.unwrap_or(neutral.typical_p),
            repetition_penalty: values
                .repetition_penalty
                .unwrap_or(neutral.repetition_penalty),
            frequency_penalty: values
                .frequency_penalty
                .unwrap_or(neutral.frequency_penalty),
            presence_penalty: values.presence_penalty.unwrap_or(neutral.presence_penalty),
            penalty_window: values.penalty_window.unwrap_or(neutral.penalty_window),
            logit_bias: sampling.logit_bias.clone(),
            choice: sampling.choice,
        }
    }

    /// Returns the temperature and the parameters that are not neutral.
    pub fn used(&self) -> SamplingValues {
        fn unless<T: PartialEq + Copy>(value: T, neutral: T) -> Option<T> {
            (value != neutral).then_some(value)
        }
        let neutral = Self::default();
        let window = unless(self.penalty_window, neutral.penalty_window);
        SamplingValues {
            temperature: Some(self.temperature),
            top_p: unless(self.top_p, neutral.top_p),
            top_k: unless(self.top_k, neutral.top_k),
            min_p: unless(self.min_p, neutral.min_p),
            typical_p: unless(self.typical_p, neutral.typical_p),
            repetition_penalty: unless(self.repetition_penalty, neutral.repetition_penalty),
            frequency_penalty: unless(self.frequency_penalty, neutral.frequency_penalty),
            presence_penalty: unless(self.presence_penalty, neutral.presence_penalty),
            penalty_window: window.filter(|_| self.penalizes()),
        }
    }

    /// Whether earlier tokens change the logits.
    pub fn penalizes(&self) -> bool {
        self.penalizes_repetition() || self.counts_tokens()
    }

    pub fn penalizes_repetition(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    pub fn counts_tokens(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}
