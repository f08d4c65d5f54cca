#![allow(clippy::inline_always)] // `Op::run` is compiled for the instructions it is inlined into.

use crate::{
    Threads,
    layout::{CHUNK, Layout, SUPER, TILE_ROWS},
    simd::{Op, Simd},
};

/// How activations are written for weights of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Floats,
    /// Signed bytes with a scale for 32.
    Blocks,
    /// Signed bytes with a scale for 256.
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

    /// Most rows of a panel; the sums of floats have to stay in registers.
    fn most_rows<S: Simd>(self) -> usize {
        match self {
            Self::Floats => S::MOST_ROWS.min(8),
            Self::Blocks | Self::SuperBlocks => S::MOST_ROWS,
        }
    }

    /// Numbers of 32 bits that stand for a row.
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

/// Rows of activations in panels of up to [`Simd::MOST_ROWS`] that are multiplied together.
///
/// In a panel the rows lie side by side; in one of 16, the bytes of 32 columns of a row lie
/// together. A panel of bytes has these sections, each with a
/// number of 32 bits for each row:
/// - four signed bytes for each four columns,
/// - for each block its scale, a float,
/// - for blocks of 32: the sum of its bytes;
/// - for super-blocks: sums of 16 bytes; the same as pairs of 16 bits; pairs of sums of 32.
pub(crate) struct Panels {
    words: Vec<i32>,
    row_words: usize,
    columns: usize,
    n: usize,
    most: usize,
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
        let most = form.most_rows::<S>();
        let mut words = vec![0; n * row_words];
        // Writing a number costs about as much as some multiplications.
        let work = 8 * x.len();
        threads.fill(work, &mut words, most * row_words, |index, words| {
            let first = index * most;
            let count = words.len() / row_words;
            for (begin, width) in panels(count, most) {
                s.few().run(Write {
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
            most,
        }
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The first row, the number of rows and the words of each panel.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, usize, &[i32])> {
        panels(self.n, self.most).map(|(begin, width)| {
            let range = begin * self.row_words..(begin + width) * self.row_words;
            (begin, width, &self.words[range])
        })
    }
}

/// Splits `n` rows into the first row and the number of rows of panels: powers of two, the
/// largest first.
fn panels(n: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        let rest = n - begin;
        let width = if rest >= most {
            most
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

/// Two integers of 16 bits in one of 32, the first one in the lower half.
#[inline(always)]
fn pair(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}

#[inline(always)]
fn sum_of(bytes: &[i8; 16]) -> i32 {
    bytes.iter().map(|&b| i32::from(b)).sum()
}

/// Writes the four words from `first` on of a row of a panel.
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

/// Largest value of a block that counts as zero: the inverse of its scale would be infinite.
const NOTHING: f32 = 1e-30;
/// Added to a number below 2^22, it leaves its nearest integer in the lowest bits, ties to
/// the even one.
const ROUND: f32 = 12_582_912.0;

impl Scale {
    /// The largest value becomes 127. A value that is no number makes the scale none.
    #[inline(always)]
    fn of<const N: usize>(x: &[f32; N]) -> Self {
        // Without the sign, the bits of floats are ordered as the floats, NaN last.
        let mut lanes = [0_u32; 16];
        for x in x.as_chunks::<16>().0 {
            for (lane, x) in lanes.iter_mut().zip(x) {
                *lane = (*lane).max(x.to_bits() & 0x7fff_ffff);
            }
        }
        let largest = f32::from_bits(lanes.into_iter().fold(0, u32::max));
        if largest <= NOTHING {
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
    fn panels_cover_all_rows() {
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
    fn bytes_are_the_nearest_and_no_number_shows_in_the_scale() {
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
