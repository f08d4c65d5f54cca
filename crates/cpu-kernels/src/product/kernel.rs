use crate::{layout::TILE_ROWS, simd::Simd, threads::SharedSlice};

/// Multiplies tiles of one weight type by a panel of `N` rows.
pub(super) trait Kernel {
    fn run<S: Simd, const N: usize>(s: S, weights: Slab<'_>, x: &[[i32; N]], to: Target<'_>);
}

/// Consecutive tiles of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Slab<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) tile_bytes: usize,
    /// Size of the values of a tile, which precede its scales.
    pub(super) value_bytes: usize,
    pub(super) columns: usize,
    pub(super) tiles: usize,
}

impl<'a> Slab<'a> {
    /// Yields the values and the scales of each tile.
    #[inline(always)]
    pub(super) fn tiles(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.bytes
            .chunks_exact(self.tile_bytes)
            .take(self.tiles)
            .map(move |tile| tile.split_at(self.value_bytes))
    }
}

/// The destination of the sums of a panel.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) out: &'a SharedSlice<'a, f32>,
    /// Rows of the matrix.
    pub(super) rows: usize,
    /// First matrix row of the slab.
    pub(super) first_row: usize,
    /// First activation row of the panel.
    pub(super) row: usize,
}

impl Target<'_> {
    /// Stores the sums of a tile with row `row` of the panel.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn put<S: Simd>(&self, s: S, tile: usize, row: usize, sums: S::Floats) {
        let first = self.first_row + tile * TILE_ROWS;
        let count = TILE_ROWS.min(self.rows - first);
        // SAFETY: A task writes only its own tiles, once per row of activations and one after the
        // other, and keeps no other reference into `out`.
        let out = unsafe { self.out.part((self.row + row) * self.rows + first, count) };
        let sums = s.to_array(sums);
        match <&mut [f32; TILE_ROWS]>::try_from(&mut *out) {
            Ok(all) => *all = sums,
            Err(_) => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

/// Returns the float that is stored as a word of a panel.
#[inline(always)]
pub(super) fn f32_from_bits(bits: i32) -> f32 {
    f32::from_bits(bits.cast_unsigned())
}
