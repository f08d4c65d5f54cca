use std::ops::Range;

/// Parameters of attention beyond the sizes that [`KvBlocks`](crate::KvBlocks) defines.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Number of query heads; a multiple of the number of key-value heads.
    pub heads: usize,
    /// Factor that scores are multiplied by.
    pub scale: f32,
    /// Soft cap `c` of scores `s`: `c * tanh(s / c)`.
    pub softcap: Option<f32>,
    /// Number of tokens that a token attends to, including itself; `None` means all.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// Returns the positions that the token at `position` attends to.
    pub(super) fn visible(&self, position: usize) -> Range<usize> {
        let end = position + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }
}
