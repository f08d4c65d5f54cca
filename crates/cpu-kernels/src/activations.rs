use crate::{
    layout::{CHUNK, Layout, SUPER, TILE_ROWS},
    simd::{Op, Simd},
    threads::Threads,
};

/// The format of activations, which depends on the layout of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Floats,
    /// Signed bytes with one scale per 32 values.
    Blocks,
    /// Signed bytes with one scale per 256 values.
    SuperBlocks,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::Floats, Self::Blocks, Self::SuperBlocks];

    pub(crate) fn of(layout: Layout) -> Self {
        match layout {
            Layout::Floats { .. } => Self::Floats,
            Layout::Blocks { .. } => Self::Blocks,
            Layout::SuperBlocks { .. } => Self::SuperBlocks,
        }
    }

    /// Returns the maximum number of rows of a panel; sums of floats must stay in registers.
    fn max_rows<S: Simd>(self) -> usize {
        match self {
            Self::Floats => S::MAX_ROWS.min(8),
            Self::Blocks | Self::SuperBlocks => S::MAX_ROWS,
        }
    }

    /// Returns the number of 32-bit words that encode a row.
    const fn row_words(self, columns: usize) -> usize {
        match self {
            Self::Floats => columns,
            Self::Blocks => columns / 4 + columns / 32 * 2,
            Self::SuperBlocks => {
                columns / 4 + columns / SUPER + columns / 16 + columns / 32 + columns / 64
            }
        }
    }
}

/// Activations in panels of up to [`Simd::MAX_ROWS`] rows that are multiplied together.
///
/// The words of the rows of a panel are interleaved; in a panel of 16 rows, the eight words of 32
/// columns of a row are contiguous. A quantized panel has these sections of one 32-bit word per
/// row:
/// - four signed bytes for each group of four columns,
/// - the scale of each block, an `f32`,
/// - for blocks of 32: the sum of the bytes of each block,
/// - for super-blocks: the sums of 16 bytes; the same sums as pairs of `i16`; pairs of the sums
///   of 32 bytes.
pub(crate) struct Panels {
    words: Vec<i32>,
    row_words: usize,
    columns: usize,
    n: usize,
    max_rows: usize,
}

impl Panels {
    pub(crate) fn new<S: Simd>(
        s: S,
        form: Form,
        x: &[f32],
        columns: usize,
        threads: &Threads,
    ) -> Self {
        let n = x.len() / columns;
        let row_words = form.row_words(columns);
        let max_rows = form.max_rows::<S>();
        let mut words = vec![0; n * row_words];
        // Writing a value costs about as much as a few multiplications.
        let work = 8 * x.len();
        threads.fill(work, &mut words, max_rows * row_words, |index, words| {
            let first = index * max_rows;
            let count = words.len() / row_words;
            for (begin, width) in panels(count, max_rows) {
                s.without_tiles().run(Write {
                    form,
                    x: &x[(first + begin) * columns..(first + begin + width) * columns],
                    columns,
                    out: &mut words[begin * row_words..(begin + width) * row_words],
                });
            }
        });
        Self {
            words,
            row_words,
            columns,
            n,
            max_rows,
        }
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Yields the first row, the number of rows and the words of each panel.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, usize, &[i32])> {
        panels(self.n, self.max_rows).map(|(begin, width)| {
            let range = begin * self.row_words..(begin + width) * self.row_words;
            (begin, width, &self.words[range])
        })
    }
}

/// Splits `n` rows into panels whose sizes are powers of two, the largest first. Yields the first
/// row and the number of rows of each.
fn panels(n: usize, max_rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        let rest = n - begin;
        let width = if rest >= max_rows {
            max_rows
        } else {
            1 << rest.checked_ilog2()?
        };
        begin += width;
        Some((begin - width, width))
    })
}

/// Writes one panel.
struct Write<'a> {
    form: Form,
    x: &'a [f32],
    columns: usize,
    out: &'a mut [i32],
}

impl Op for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let width = self.x.len() / self.columns;
        let rows = self.x.chunks_exact(self.columns);
        for (row, x) in rows.enumerate() {
            match self.form {
                Form::Floats => {
                    for (out, x) in self.out[row..].iter_mut().step_by(width).zip(x) {
                        *out = x.to_bits().cast_signed();
                    }
                }
                Form::Blocks => write_blocks(x, self.out, row, width),
                Form::SuperBlocks => write_super_blocks(x, self.out, row, width),
            }
        }
    }
}

#[inline(always)]
fn write_blocks(x: &[f32], out: &mut [i32], row: usize, width: usize) {
    let (words, rest) = out.split_at_mut(x.len() / 4 * width);
    let (scales, sums) = rest.split_at_mut(x.len() / CHUNK * width);
    for (block, x) in x.as_chunks::<CHUNK>().0.iter().enumerate() {
        let scale = Scale::of(x);
        scales[block * width + row] = scale.bits();
        let mut sum = 0;
        for (part, x) in x.as_chunks::<16>().0.iter().enumerate() {
            let bytes = scale.bytes(x);
            sum += sum_of(&bytes);
            put(words, block * 8 + part * 4, row, width, &bytes);
        }
        sums[block * width + row] = sum;
    }
}

#[inline(always)]
fn write_super_blocks(x: &[f32], out: &mut [i32], row: usize, width: usize) {
    let (words, rest) = out.split_at_mut(x.len() / 4 * width);
    let (scales, rest) = rest.split_at_mut(x.len() / SUPER * width);
    let (sums, rest) = rest.split_at_mut(x.len() / 16 * width);
    let (pairs, wide_pairs) = rest.split_at_mut(x.len() / 32 * width);
    for (block, x) in x.as_chunks::<SUPER>().0.iter().enumerate() {
        let scale = Scale::of(x);
        scales[block * width + row] = scale.bits();
        let mut part_sums = [0; 16];
        for (part, x) in x.as_chunks::<16>().0.iter().enumerate() {
            let bytes = scale.bytes(x);
            part_sums[part] = sum_of(&bytes);
            put(words, block * 64 + part * 4, row, width, &bytes);
        }
        for (part, sum) in part_sums.iter().enumerate() {
            sums[(block * 16 + part) * width + row] = *sum;
        }
        for (part, s) in part_sums.as_chunks::<2>().0.iter().enumerate() {
            pairs[(block * 8 + part) * width + row] = pair(s[0], s[1]);
        }
        for (part, s) in part_sums.as_chunks::<4>().0.iter().enumerate() {
            wide_pairs[(block * 4 + part) * width + row] = pair(s[0] + s[1], s[2] + s[3]);
        }
    }
}

/// Packs two 16-bit integers into one word, the first in the lower half.
#[inline(always)]
fn pair(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}

#[inline(always)]
fn sum_of(bytes: &[i8; 16]) -> i32 {
    bytes.iter().map(|&b| i32::from(b)).sum()
}

/// Writes four words of a row of a panel, starting at word `first`.
#[inline(always)]
fn put(words: &mut [i32], first: usize, row: usize, width: usize, bytes: &[i8; 16]) {
    let (begin, step) = if width == TILE_ROWS {
        (first / 8 * 8 * width + row * 8 + first % 8, 1)
    } else {
        (first * width + row, width)
    };
    for (word, b) in words[begin..]
        .iter_mut()
        .step_by(step)
        .zip(bytes.as_chunks::<4>().0)
    {
        let [a, b, c, d] = b.map(i8::cast_unsigned);
        *word = i32::from_le_bytes([a, b, c, d]);
    }
}

/// The scale of a block of activations and its inverse.
struct Scale {
    scale: f32,
    inverse: f32,
}

/// Blocks with no larger magnitude are treated as zero: the inverse scale would be infinite.
const NEGLIGIBLE: f32 = 1e-30;
/// Adding this to a value below 2^22 leaves its nearest integer, ties to even, in the lowest bits.
const ROUND: f32 = 12_582_912.0;

impl Scale {
    /// Maps the largest magnitude to 127. If any value is NaN, so is the scale.
    #[inline(always)]
    fn of<const N: usize>(x: &[f32; N]) -> Self {
        // Without the sign bit, the bits of floats sort like the floats, with NaN last.
        let mut lanes = [0_u32; 16];
        for x in x.as_chunks::<16>().0 {
            for (lane, x) in lanes.iter_mut().zip(x) {
                *lane = (*lane).max(x.to_bits() & 0x7fff_ffff);
            }
        }
        let largest = f32::from_bits(lanes.into_iter().fold(0, u32::max));
        if largest <= NEGLIGIBLE {
            return Self {
                scale: 0.0,
                inverse: 0.0,
            };
        }
        Self {
            scale: largest / 127.0,
            inverse: 127.0 / largest,
        }
    }

    #[inline(always)]
    fn bits(&self) -> i32 {
        self.scale.to_bits().cast_signed()
    }

    #[inline(always)]
    fn bytes(&self, x: &[f32; 16]) -> [i8; 16] {
        x.map(|x| (x * self.inverse + ROUND).to_bits() as i8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_powers_of_two_that_cover_all_rows() {
        for (n, expected) in [
            (0, vec![]),
            (1, vec![(0, 1)]),
            (7, vec![(0, 4), (4, 2), (6, 1)]),
            (19, vec![(0, 8), (8, 8), (16, 2), (18, 1)]),
        ] {
            assert_eq!(panels(n, 8).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn bytes_are_rounded_to_nearest_and_nan_makes_the_scale_nan() {
        let mut x = [0.0; 16];
        assert_eq!(Scale::of(&x).scale, 0.0);
        x[..4].copy_from_slice(&[254.0, -254.0, 3.0, 5.0]);
        let scale = Scale::of(&x);
        assert_eq!(scale.scale, 2.0);
        assert_eq!(scale.bytes(&x)[..5], [127, -127, 2, 2, 0]);
        x[7] = f32::NAN;
        assert!(Scale::of(&x).scale.is_nan());
        x[7] = f32::NEG_INFINITY;
        assert_eq!(Scale::of(&x).scale, f32::INFINITY);
        assert_eq!(Scale::of(&[1e-31; 16]).bytes(&[1e-31; 16]), [0; 16]);
    }
}
