use model_format::TensorType;

/// Weight rows side by side in a tile, one for each lane.
pub(crate) const TILE_ROWS: usize = 16;
/// Numbers along a row that are unpacked together.
pub(crate) const CHUNK: usize = 32;
/// Weights of a super-block.
pub(crate) const SUPER: usize = 256;

/// How a tile of 16 weight rows lies in memory.
///
/// Floats: for each column the 16 numbers of the rows.
///
/// Quantised: first the integers, chunk by chunk of 32 columns, then the scales, block by
/// block. The integers of a chunk are eight vectors of 64 bytes, one for each four columns,
/// in which row `r` has the bytes `4 r..4 r + 4`; integers of less than 8 bits share their
/// vectors' bytes ([`planes`]). All integers are stored without a sign, `zero` too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Floats of this many bytes.
    Floats { bytes: usize },
    /// Blocks of 32 with a 16-bit scale and, in some types, a 16-bit minimum for each row.
    Blocks {
        bits: usize,
        zero: i32,
        minimum: bool,
    },
    /// Super-blocks of 256 with a 16-bit scale, and a scale of 8 bits for each `sub` columns.
    /// With `minimum` there is the same again for what is taken away; without it the small
    /// scales have a sign.
    SuperBlocks {
        bits: usize,
        zero: i32,
        sub: usize,
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

    /// Bits of an integer; none for floats.
    pub(crate) const fn bits(self) -> usize {
        match self {
            Self::Floats { .. } => 0,
            Self::Blocks { bits, .. } | Self::SuperBlocks { bits, .. } => bits,
        }
    }

    /// Columns that share a scale of 16 bits.
    pub(crate) const fn block(self) -> usize {
        match self {
            Self::Floats { .. } => 1,
            Self::Blocks { .. } => CHUNK,
            Self::SuperBlocks { .. } => SUPER,
        }
    }

    /// Bytes of the scales of a block of 16 rows.
    pub(crate) const fn scale_bytes(self) -> usize {
        match self {
            Self::Floats { .. } => 0,
            Self::Blocks { minimum, .. } => 2 * TILE_ROWS * (1 + minimum as usize),
            Self::SuperBlocks { sub, minimum, .. } => {
                (2 + SUPER / sub) * TILE_ROWS * (1 + minimum as usize)
            }
        }
    }

    /// Bytes of the numbers of a tile, before its scales.
    pub(crate) const fn number_bytes(self, columns: usize) -> usize {
        match self {
            Self::Floats { bytes } => columns * bytes * TILE_ROWS,
            _ => columns / CHUNK * self.bits() * 64,
        }
    }

    /// Bytes of a tile, a multiple of 64.
    pub(crate) const fn tile_bytes(self, columns: usize) -> usize {
        let scales = columns / self.block() * self.scale_bytes();
        (self.number_bytes(columns) + scales).next_multiple_of(64)
    }
}

/// A type with a zero in the middle has no minimum.
const fn blocks_of(bits: usize, zero: i32) -> Layout {
    Layout::Blocks {
        bits,
        zero,
        minimum: zero == 0,
    }
}

const fn super_blocks_of(bits: usize, zero: i32, sub: usize) -> Layout {
    Layout::SuperBlocks {
        bits,
        zero,
        sub,
        minimum: zero == 0,
    }
}

/// Part of the bits of four columns: `width` bits from bit `from` on, kept in the bits from
/// `at` on of the vector `vector` of the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plane {
    pub(crate) vector: usize,
    pub(crate) at: u32,
    pub(crate) width: u32,
    pub(crate) from: u32,
}

/// Where integers of `bits` bits of the columns `4 group..4 group + 4` of a chunk are: the
/// lower bits, and for odd widths the upper ones.
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

const fn plane(vectors_before: usize, width: usize, from: usize, group: usize) -> Plane {
    let groups = 8 / width;
    Plane {
        vector: vectors_before + group / groups,
        at: (group % groups * width) as u32,
        width: width as u32,
        from: from as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bit of a chunk has a place of its own, and all places are used.
    #[test]
    fn planes_fill_the_vectors() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let mut used = vec![0_u8; bits];
            for group in 0..8 {
                let (low, high) = planes(bits, group);
                for plane in std::iter::once(low).chain(high) {
                    let mask = (((1_u32 << plane.width) - 1) << plane.at) as u8;
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
    fn packed_tiles_are_hardly_larger_than_the_file() {
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
