use std::ops::Range;

use candle_core::{D, Device, Result, Tensor};

use crate::{kv::LayerKv, plan::Span};

/// The attention parameters shared by all layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Number of query heads.
    pub(crate) queries: usize,
    /// Number of key-value heads.
    pub(crate) keys: usize,
    /// Elements per head.
    pub(crate) width: usize,
    /// Factor that scores are multiplied by.
    pub(crate) scale: f32,
    /// Soft cap `c` of scores `s`: `c * tanh(s / c)`.
    pub(crate) softcap: Option<f32>,
}

impl Heads {
    /// Returns the number of query heads that share a key-value head.
    fn group(self) -> usize {
        self.queries / self.keys
    }
}

/// Causal attention of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    /// Number of tokens that a token attends to, including itself; `None` means all.
    pub(crate) window: Option<usize>,
}

impl Attention {
    /// Returns the first position that the token at `position` attends to.
    fn first_visible(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Computes attention with candle's tensor operations. `queries` and the result have the shape
/// `[rows, heads * width]`. At most `scores` scores are in memory at once, or those of one row.
pub(crate) fn attend(
    attention: Attention,
    spans: &[Span],
    queries: &Tensor,
    kv: &LayerKv,
    scores: usize,
) -> Result<Tensor> {
    let mut parts = Vec::with_capacity(spans.len());
    for span in spans {
        let length = (span.position + span.rows) * attention.heads.queries;
        let most = (scores / length.max(1)).max(1);
        for first in (0..span.rows).step_by(most) {
            let rows = first..span.rows.min(first + most);
            parts.push(attend_rows(attention, span, rows, queries, kv)?);
        }
    }
    Tensor::cat(&parts, 0)
}

/// Computes attention of some of the rows of a span.
fn attend_rows(
    attention: Attention,
    span: &Span,
    part: Range<usize>,
    queries: &Tensor,
    kv: &LayerKv,
) -> Result<Tensor> {
    let (heads, device) = (attention.heads, queries.device());
    let (position, rows) = (span.position + part.start, part.len());
    let visible = attention.first_visible(position)..position + rows;
    let length = visible.len();
    let slots: Vec<u32> = visible.clone().map(|p| span.slot(p) as u32).collect();
    let slots = Tensor::new(slots, device)?;
    // [key-value heads, length, width]
    let gather = |pool: &Tensor| -> Result<Tensor> {
        pool.index_select(&slots, 0)?
            .reshape((length, heads.keys, heads.width))?
            .transpose(0, 1)?
            .contiguous()
    };
    let (keys, values) = (gather(&kv.keys)?, gather(&kv.values)?);
    // [key-value heads, group * rows, width]
    let folded = (heads.keys, heads.group() * rows, heads.width);
    let q = queries
        .narrow(0, span.row + part.start, rows)?
        .reshape((rows, heads.queries, heads.width))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape(folded)?;
    let scores = (q.matmul(&keys.t()?)? * f64::from(heads.scale))?;
    let scores = match heads.softcap.map(f64::from) {
        Some(cap) => ((scores / cap)?.tanh()? * cap)?,
        None => scores,
    };
    let scores = scores.reshape((heads.queries, rows, length))?;
    let scores = scores.broadcast_add(&mask(
        attention,
        position..position + rows,
        visible,
        device,
    )?)?;
    let scores = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    let weights = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    let weights = weights.reshape((heads.keys, heads.group() * rows, length))?;
    weights
        .matmul(&values)?
        .reshape((heads.queries, rows, heads.width))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((rows, heads.queries * heads.width))
}

/// Returns the attention mask of shape `[rows, positions]` for the rows at these positions of the
/// sequence: negative infinity for positions that a
/// row does not attend to.
fn mask(
    attention: Attention,
    rows: Range<usize>,
    positions: Range<usize>,
    device: &Device,
) -> Result<Tensor> {
    let shape = (rows.len(), positions.len());
    let mut values = Vec::with_capacity(shape.0 * shape.1);
    for position in rows {
        let visible = attention.first_visible(position)..=position;
        let bias = |p: usize| {
            if visible.contains(&p) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        };
        values.extend(positions.clone().map(bias));
    }
    Tensor::from_vec(values, shape, device)
}
