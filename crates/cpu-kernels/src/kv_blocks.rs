use crate::{aligned::AlignedFloats, lanes::LANES};

/// Tokens per block of the KV cache.
pub const BLOCK_TOKENS: usize = LANES;

/// The KV cache of one layer in blocks of [`BLOCK_TOKENS`] tokens, laid out for attention.
///
/// Keys have the layout `[block][head][element][token]`, so that lanes compute the scores of
/// different tokens. Values have the layout `[block][head][group][token][element]` with groups of
/// 16 elements, the last padded with zeros.
pub struct KvBlocks {
    heads: usize,
    width: usize,
    keys: AlignedFloats,
    values: AlignedFloats,
}

impl KvBlocks {
    /// Creates `blocks` zeroed blocks for `heads` key-value heads of `width` elements.
    pub fn new(blocks: usize, heads: usize, width: usize) -> Self {
        let tokens = blocks * BLOCK_TOKENS;
        Self {
            heads,
            width,
            keys: AlignedFloats::zeros(tokens * heads * width),
            values: AlignedFloats::zeros(tokens * heads * groups(width) * LANES),
        }
    }

    /// Returns the size in bytes of a block for `heads` key-value heads of `width` elements.
    pub fn block_bytes(heads: usize, width: usize) -> usize {
        (width + groups(width) * LANES) * heads * BLOCK_TOKENS * size_of::<f32>()
    }

    /// Writes the keys and values of one token, `heads * width` elements each, to position
    /// `offset` of a block.
    pub fn write(&mut self, block: usize, offset: usize, keys: &[f32], values: &[f32]) {
        let (heads, width, padded) = (self.heads, self.width, groups(self.width) * LANES);
        let slot = self.keys.as_mut_slice();
        let slot = &mut slot[block * heads * width * BLOCK_TOKENS..];
        let (elements, _) = slot.as_chunks_mut::<BLOCK_TOKENS>();
        for (element, key) in elements.iter_mut().zip(&keys[..heads * width]) {
            element[offset] = *key;
        }
        let slot = &mut self.values.as_mut_slice()[block * heads * padded * BLOCK_TOKENS..];
        let (groups, _) = slot.as_chunks_mut::<LANES>();
        let mut groups = groups[offset..].iter_mut().step_by(BLOCK_TOKENS);
        for head in values[..heads * width].chunks_exact(width) {
            for (from, to) in head.chunks(LANES).zip(&mut groups) {
                to[..from.len()].copy_from_slice(from);
            }
        }
    }

    /// Copies block `from` to block `to`.
    pub fn copy(&mut self, from: usize, to: usize) {
        let padded = groups(self.width) * LANES;
        for (pool, width) in [(&mut self.keys, self.width), (&mut self.values, padded)] {
            let length = self.heads * width * BLOCK_TOKENS;
            pool.as_mut_slice()
                .copy_within(from * length..(from + 1) * length, to * length);
        }
    }

    pub(crate) fn heads(&self) -> usize {
        self.heads
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Returns the number of groups of 16 elements in a value.
    pub(crate) fn groups(&self) -> usize {
        groups(self.width)
    }

    /// Returns the keys of a head in a block, `[element][token]`.
    #[inline(always)]
    pub(crate) fn keys(&self, block: u32, head: usize) -> &[[f32; LANES]] {
        let length = self.width * BLOCK_TOKENS;
        let begin = (block as usize * self.heads + head) * length;
        let (keys, _) = self.keys.as_slice()[begin..begin + length].as_chunks();
        keys
    }

    /// Returns the values of a head in a block, `[group][token][element]`.
    #[inline(always)]
    pub(crate) fn values(&self, block: u32, head: usize) -> &[[[f32; LANES]; BLOCK_TOKENS]] {
        let length = groups(self.width) * LANES * BLOCK_TOKENS;
        let begin = (block as usize * self.heads + head) * length;
        let (tokens, _) = self.values.as_slice()[begin..begin + length].as_chunks();
        let (values, _) = tokens.as_chunks();
        values
    }
}

fn groups(width: usize) -> usize {
    width.div_ceil(LANES)
}
