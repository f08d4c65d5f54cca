use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::Architecture;

/// Sizes that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Shape {
    /// SmolLM2 with 135 million weights. Its width is no multiple of 256.
    #[value(name = "smollm2-135m")]
    SmolLm2,
    /// Llama 3.2 with 1.2 thousand million weights.
    #[value(name = "llama-3.2-1b")]
    Llama32,
    /// Qwen3 with 0.6 thousand million weights.
    #[value(name = "qwen3-0.6b")]
    Qwen3,
    /// Some million weights or less; its widths are multiples of 256.
    Tiny,
}

/// Sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward part.
    pub inner: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// Longest sequence in tokens.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Factor by which Llama 3 stretches low frequencies; absent, none is stretched.
    pub llama3_factor: Option<f32>,
    /// Epsilon of the norms.
    pub epsilon: f32,
    /// The output matrix is the embedding.
    pub tied: bool,
    /// Experts, for families that have some.
    pub experts: Experts,
    /// Tokens that windowed layers see, for families that have some.
    pub window: usize,
}

/// The parts of a feed-forward part that is several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token uses.
    pub used: usize,
    /// Width inside one.
    pub inner: usize,
}

impl Sizes {
    /// The sizes of that name for that family.
    pub fn of(shape: Shape, architecture: Architecture) -> Self {
        let gemma = architecture == Architecture::Gemma3;
        let mut sizes = match shape {
            Shape::SmolLm2 => Self::new([30, 576, 1536], [9, 3, 64], 49_152, 8192),
            Shape::Llama32 => Self::new([16, 2048, 8192], [32, 8, 64], 128_256, 131_072),
            Shape::Qwen3 => Self::new([28, 1024, 3072], [16, 8, 128], 151_936, 40_960),
            // One full round of Gemma's windows, and one layer of the next.
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
            experts: Experts {
                count: 4,
                used: 2,
                inner,
            },
            window: 512,
        }
    }

    /// Refuses sizes that the family cannot have.
    pub(crate) fn check(&self, architecture: Architecture) -> Result<()> {
        let queries = self.heads * self.head_dim;
        ensure!(
            !architecture.has_square_queries() || queries == self.hidden,
            "{} heads of {} are not the width {}, as this family wants it",
            self.heads,
            self.head_dim,
            self.hidden
        );
        ensure!(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            "{} heads cannot share {} heads of keys",
            self.heads,
            self.kv_heads
        );
        ensure!(
            self.head_dim.is_multiple_of(2),
            "a head of {} cannot be rotated",
            self.head_dim
        );
        Ok(())
    }
}
