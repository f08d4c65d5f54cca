use std::ops::Range;

use candle_core::{D, Device, Result, Tensor};

use crate::{kv::LayerKv, plan::Span};

/// Sizes of attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    /// What scores are multiplied with.
    pub(crate) scale: f32,
    /// Bound `c` that scores `s` are kept within: `c * tanh(s / c)`.
    pub(crate) softcap: Option<f32>,
}

impl Heads {
    /// Query heads that share a key head.
    fn group(self) -> usize {
        self.queries / self.keys
    }
}

/// Causal attention of the rows of each span over what its sequence has in the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    /// Tokens that a token sees, itself included; absent, all.
    pub(crate) window: Option<usize>,
}

impl Attention {
    /// The first position that a position sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Attention by candle's tensor operations; `queries` is `[rows, heads * width]`, and so is
/// the result.
pub(crate) fn attend(
    attention: Attention,
    spans: &[Span],
    queries: &Tensor,
    kv: &LayerKv,
) -> Result<Tensor> {
    let parts = spans
        .iter()
        .map(|span| attend_span(attention, span, queries, kv))
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&parts, 0)
}

fn attend_span(
    attention: Attention,
    span: &Span,
    queries: &Tensor,
    kv: &LayerKv,
) -> Result<Tensor> {
    let (heads, device) = (attention.heads, queries.device());
    let seen = attention.first_seen(span.position)..span.position + span.rows;
    let length = seen.len();
    let slots: Vec<u32> = seen.clone().map(|p| span.slot(p) as u32).collect();
    let slots = Tensor::new(slots, device)?;
    // [key heads, length, width]
    let gather = |pool: &Tensor| -> Result<Tensor> {
        pool.index_select(&slots, 0)?
            .reshape((length, heads.keys, heads.width))?
            .transpose(0, 1)?
            .contiguous()
    };
    let (keys, values) = (gather(&kv.keys)?, gather(&kv.values)?);
    // [key heads, group * rows, width]
    let folded = (heads.keys, heads.group() * span.rows, heads.width);
    let q = queries
        .narrow(0, span.row, span.rows)?
        .reshape((span.rows, heads.queries, heads.width))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape(folded)?;
    let scores = (q.matmul(&keys.t()?)? * f64::from(heads.scale))?;
    let scores = match heads.softcap.map(f64::from) {
        Some(cap) => ((scores / cap)?.tanh()? * cap)?,
        None => scores,
    };
    let scores = scores.reshape((heads.queries, span.rows, length))?;
    let scores = scores.broadcast_add(&mask(attention, span, seen, device)?)?;
    let scores = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    let weights = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    let weights = weights.reshape((heads.keys, heads.group() * span.rows, length))?;
    weights
        .matmul(&values)?
        .reshape((heads.queries, span.rows, heads.width))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((span.rows, heads.queries * heads.width))
}

/// Minus infinity where a row would look ahead or too far back, `[rows, seen]`.
fn mask(attention: Attention, span: &Span, seen: Range<usize>, device: &Device) -> Result<Tensor> {
    let shape = (span.rows, seen.len());
    let mut values = Vec::with_capacity(shape.0 * shape.1);
    for position in span.position..span.position + span.rows {
        let visible = attention.first_seen(position)..=position;
        let of = |p: usize| {
            if visible.contains(&p) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        };
        values.extend(seen.clone().map(of));
    }
    Tensor::from_vec(values, shape, device)
}
