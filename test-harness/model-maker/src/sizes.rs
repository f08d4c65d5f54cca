use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::architecture::Architecture;

/// Predefined sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Shape {
    /// SmolLM2 with 135 million weights; its hidden size is not a multiple of 256.
    #[value(name = "smollm2-135m")]
    SmolLm2,
    /// Llama 3.2 with 1.2 billion weights.
    #[value(name = "llama-3.2-1b")]
    Llama32,
    /// Qwen3 with 0.6 billion weights.
    #[value(name = "qwen3-0.6b")]
    Qwen3,
    /// A few million weights; all sizes are multiples of 256.
    Tiny,
}

/// Layer sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Number of transformer blocks.
    pub layers: usize,
    /// Hidden size: dimensions of the residual stream.
    pub hidden: usize,
    /// Intermediate size of the feed-forward part.
    pub inner: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key-value heads.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Maximum sequence length in tokens.
    pub context: usize,
    /// Base of the rotary frequencies (RoPE theta).
    pub rope_theta: f32,
    /// Divisor of low rotary frequencies in Llama 3; `None` for no scaling.
    pub llama3_factor: Option<f32>,
    /// Epsilon of the RMS norms.
    pub epsilon: f32,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
    /// Mixture of experts; ignored by dense families.
    pub experts: ExpertSizes,
    /// Sliding window in tokens; ignored by families without one.
    pub window: usize,
}

/// Sizes of a mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertSizes {
    /// Number of experts per layer.
    pub count: usize,
    /// Number of experts selected per token.
    pub used: usize,
    /// Intermediate size of an expert.
    pub inner: usize,
}

impl Sizes {
    /// Returns predefined sizes, adapted to the family.
    pub fn of(shape: Shape, architecture: Architecture) -> Self {
        let gemma = architecture == Architecture::Gemma3;
        let mut sizes = match shape {
            Shape::SmolLm2 => Self::new([30, 576, 1536], [9, 3, 64], 49_152, 8192),
            Shape::Llama32 => Self::new([16, 2048, 8192], [32, 8, 64], 128_256, 131_072),
            Shape::Qwen3 => Self::new([28, 1024, 3072], [16, 8, 128], 151_936, 40_960),
            // Covers one period of Gemma's window pattern and a layer of the next.
            Shape::Tiny if gemma => Self::new([7, 256, 512], [4, 2, 64], 512, 512),
            Shape::Tiny => Self::new([3, 256, 512], [4, 2, 64], 512, 512),
        };
        match shape {
            Shape::SmolLm2 => sizes.rope_theta = 100_000.0,
            Shape::Llama32 => {
                sizes.rope_theta = 500_000.0;
                sizes.llama3_factor = (architecture == Architecture::Llama).then_some(32.0);
            }
            Shape::Qwen3 => (sizes.rope_theta, sizes.epsilon) = (1_000_000.0, 1e-6),
            Shape::Tiny => {
                sizes.tied = matches!(architecture, Architecture::Qwen3 | Architecture::Gemma3);
                sizes.window = 16;
            }
        }
        if architecture == Architecture::Qwen3Moe {
            sizes.experts.inner = sizes.inner / 2;
        }
        if gemma {
            (sizes.rope_theta, sizes.epsilon) = (1_000_000.0, 1e-6);
        }
        sizes
    }

    fn new(
        [layers, hidden, inner]: [usize; 3],
        [heads, kv_heads, head_dim]: [usize; 3],
        vocabulary: usize,
        context: usize,
    ) -> Self {
        Self {
            layers,
            hidden,
            inner,
            heads,
            kv_heads,
            head_dim,
            vocabulary,
            context,
            rope_theta: 10_000.0,
            llama3_factor: None,
            epsilon: 1e-5,
            tied: true,
            experts: ExpertSizes {
                count: 4,
                used: 2,
                inner,
            },
            window: 512,
        }
    }

    /// Checks that the family supports these sizes.
    pub(crate) fn check(&self, architecture: Architecture) -> Result<()> {
        let queries = self.heads * self.head_dim;
        ensure!(
            !architecture.has_square_queries() || queries == self.hidden,
            "{} heads of {} dimensions do not match the hidden size {}, as the family requires",
            self.heads,
            self.head_dim,
            self.hidden
        );
        ensure!(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            "{} query heads cannot share {} key-value heads",
            self.heads,
            self.kv_heads
        );
        ensure!(
            self.head_dim.is_multiple_of(2),
            "a head of {} dimensions cannot be rotated",
            self.head_dim
        );
        Ok(())
    }
}
