use crate::{aligned::AlignedFloats, lanes::LANES};

/// Tokens in a block.
pub const BLOCK_TOKENS: usize = LANES;

/// Keys and values of one layer in blocks of [`BLOCK_TOKENS`] tokens, as attention reads them.
///
/// Keys are `[block][head][number][token]`: the scores of a block's tokens are computed
/// beside each other. Values are `[block][head][group][token][number]` in groups of 16
/// numbers, the last filled up with zeros.
pub struct KvBlocks {
    heads: usize,
    width: usize,
    keys: AlignedFloats,
    values: AlignedFloats,
}

impl KvBlocks {
    /// Room for `blocks` blocks of `heads` keys and values, `width` numbers each, zero at first.
    pub fn new(blocks: usize, heads: usize, width: usize) -> Self {
        let tokens = blocks * BLOCK_TOKENS;
        Self {
            heads,
            width,
            keys: AlignedFloats::zeros(tokens * heads * width),
            values: AlignedFloats::zeros(tokens * heads * groups(width) * LANES),
        }
    }

    /// Bytes that a block of [`BLOCK_TOKENS`] tokens takes.
    pub fn block_bytes(heads: usize, width: usize) -> usize {
        (width + groups(width) * LANES) * heads * BLOCK_TOKENS * size_of::<f32>()
    }

    /// Writes the keys and the values of a token, `heads * width` numbers each, to its place
    /// in a block.
    pub fn write(&mut self, block: usize, offset: usize, keys: &[f32], values: &[f32]) {
        let (heads, width, padded) = (self.heads, self.width, groups(self.width) * LANES);
        let slot = self.keys.as_mut_slice();
        let slot = &mut slot[block * heads * width * BLOCK_TOKENS..];
        let (numbers, _) = slot.as_chunks_mut::<BLOCK_TOKENS>();
        for (number, key) in numbers.iter_mut().zip(&keys[..heads * width]) {
            number[offset] = *key;
        }
        let slot = &mut self.values.as_mut_slice()[block * heads * padded * BLOCK_TOKENS..];
        let (places, _) = slot.as_chunks_mut::<LANES>();
        let mut places = places[offset..].iter_mut().step_by(BLOCK_TOKENS);
        for head in values[..heads * width].chunks_exact(width) {
            for (group, place) in head.chunks(LANES).zip(&mut places) {
                place[..group.len()].copy_from_slice(group);
            }
        }
    }

    /// Copies a block.
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

    /// Groups of 16 numbers in a value.
    pub(crate) fn groups(&self) -> usize {
        groups(self.width)
    }

    /// The keys of a head in a block, `[number][token]`.
    #[inline(always)]
    pub(crate) fn keys(&self, block: u32, head: usize) -> &[[f32; LANES]] {
        let length = self.width * BLOCK_TOKENS;
        let begin = (block as usize * self.heads + head) * length;
        let (keys, _) = self.keys.as_slice()[begin..begin + length].as_chunks();
        keys
    }

    /// The values of a head in a block, `[group][token][number]`.
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
