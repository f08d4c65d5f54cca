use model_format::TensorType;

/// Weight rows in a tile, one per lane.
pub(crate) const TILE_ROWS: usize = 16;
/// Columns that are unpacked together.
pub(crate) const CHUNK: usize = 32;
/// Columns of a super-block.
pub(crate) const SUPER: usize = 256;

/// Memory layout of a tile of 16 weight rows.
///
/// Floats: for each column, the values of the 16 rows.
///
/// Quantized: the values of all chunks of 32 columns, then the scales of all blocks. A chunk of
/// 8-bit values is eight vectors of 64 bytes, one per group of four columns, in which row `r`
/// occupies bytes `4 * r..4 * r + 4`; narrower values are split into bit planes that share
/// vectors (see [`planes`]). All values are stored unsigned, with `zero_point` added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Floats of the given size.
    Floats { bytes: usize },
    /// Blocks of 32 columns with, per row, an F16 scale and, if `minimum`, an F16 minimum.
    Blocks {
        bits: usize,
        zero_point: i32,
        minimum: bool,
    },
    /// Super-blocks of 256 columns with, per row, an F16 scale and an 8-bit scale for each
    /// sub-block of `sub_block` columns. With `minimum`, minima are stored the same way and
    /// subtracted; without it, the 8-bit scales are signed.
    SuperBlocks {
        bits: usize,
        zero_point: i32,
        sub_block: usize,
        minimum: bool,
    },
}

impl Layout {
    pub(crate) const fn of(kind: TensorType) -> Self {
        match kind {
            TensorType::F32 => Self::Floats { bytes: 4 },
            TensorType::F16 | TensorType::BF16 => Self::Floats { bytes: 2 },
            TensorType::Q4_0 => blocks_of(4, 8),
            TensorType::Q4_1 => blocks_of(4, 0),
            TensorType::Q5_0 => blocks_of(5, 16),
            TensorType::Q5_1 => blocks_of(5, 0),
            TensorType::Q8_0 => blocks_of(8, 128),
            TensorType::Q2K => super_blocks_of(2, 0, 16),
            TensorType::Q3K => super_blocks_of(3, 4, 16),
            TensorType::Q4K => super_blocks_of(4, 0, 32),
            TensorType::Q5K => super_blocks_of(5, 0, 32),
            TensorType::Q6K => super_blocks_of(6, 32, 16),
        }
    }

    /// Returns the bits of a quantized value; 0 for floats.
    pub(crate) const fn bits(self) -> usize {
        match self {
            Self::Floats { .. } => 0,
            Self::Blocks { bits, .. } | Self::SuperBlocks { bits, .. } => bits,
        }
    }

    /// Returns the number of columns that share an F16 scale.
    pub(crate) const fn block(self) -> usize {
        match self {
            Self::Floats { .. } => 1,
            Self::Blocks { .. } => CHUNK,
            Self::SuperBlocks { .. } => SUPER,
        }
    }

    /// Returns the size of the scales of one block for all 16 rows.
    pub(crate) const fn scale_bytes(self) -> usize {
        match self {
            Self::Floats { .. } => 0,
            Self::Blocks { minimum, .. } => 2 * TILE_ROWS * (1 + minimum as usize),
            Self::SuperBlocks {
                sub_block, minimum, ..
            } => (2 + SUPER / sub_block) * TILE_ROWS * (1 + minimum as usize),
        }
    }

    /// Returns the size of the values of a tile, which precede its scales.
    pub(crate) const fn value_bytes(self, columns: usize) -> usize {
        match self {
            Self::Floats { bytes } => columns * bytes * TILE_ROWS,
            _ => columns / CHUNK * self.bits() * 64,
        }
    }

    /// Returns the size of a tile, a multiple of 64 bytes.
    pub(crate) const fn tile_bytes(self, columns: usize) -> usize {
        let scales = columns / self.block() * self.scale_bytes();
        (self.value_bytes(columns) + scales).next_multiple_of(64)
    }
}

/// Types with a zero point have no minimum.
const fn blocks_of(bits: usize, zero_point: i32) -> Layout {
    Layout::Blocks {
        bits,
        zero_point,
        minimum: zero_point == 0,
    }
}

const fn super_blocks_of(bits: usize, zero_point: i32, sub_block: usize) -> Layout {
    Layout::SuperBlocks {
        bits,
        zero_point,
        sub_block,
        minimum: zero_point == 0,
    }
}

/// A bit plane of a group of four columns: `width` bits of each value starting at `value_bit`,
/// stored in vector `vector` of the chunk starting at bit `stored_bit` of each byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plane {
    pub(crate) vector: usize,
    pub(crate) stored_bit: u32,
    pub(crate) width: u32,
    pub(crate) value_bit: u32,
}

/// Returns the bit planes of the `bits`-bit values in columns `4 * group..4 * group + 4` of a
/// chunk: the low bits and, for 3, 5 and 6 bits, the high bits.
pub(crate) const fn planes(bits: usize, group: usize) -> (Plane, Option<Plane>) {
    let low_width = match bits {
        8 => 8,
        2 | 3 => 2,
        _ => 4,
    };
    let high_width = bits - low_width;
    (
        plane(0, low_width, 0, group),
        if high_width == 0 {
            None
        } else {
            Some(plane(low_width, high_width, low_width, group))
        },
    )
}

const fn plane(vectors_before: usize, width: usize, value_bit: usize, group: usize) -> Plane {
    let groups = 8 / width;
    Plane {
        vector: vectors_before + group / groups,
        stored_bit: (group % groups * width) as u32,
        width: width as u32,
        value_bit: value_bit as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_use_every_bit_of_a_chunk_exactly_once() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let mut used = vec![0_u8; bits];
            for group in 0..8 {
                let (low, high) = planes(bits, group);
                for plane in std::iter::once(low).chain(high) {
                    let mask = (((1_u32 << plane.width) - 1) << plane.stored_bit) as u8;
                    assert_eq!(used[plane.vector] & mask, 0);
                    used[plane.vector] |= mask;
                }
                let width = low.width + high.map_or(0, |h| h.width);
                assert_eq!(width as usize, bits);
            }
            assert!(used.iter().all(|&byte| byte == 0xff));
        }
    }

    #[test]
    fn packed_tiles_are_at_most_slightly_larger_than_in_the_file() {
        for kind in TensorType::ALL {
            let columns = 1024;
            let blocks = columns as u64 / kind.block_size();
            let stored = 16 * blocks * kind.block_bytes();
            let packed = Layout::of(*kind).tile_bytes(columns) as u64;
            let most = if *kind == TensorType::Q2K { 20 } else { 4 };
            assert!(packed * 100 <= stored * (100 + most), "{kind:?}");
        }
    }
}
