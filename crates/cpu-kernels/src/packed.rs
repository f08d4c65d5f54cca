use diagnostics::Diagnostic;
use half::{bf16, f16};
use model_format::TensorType;

use crate::{
    errors,
    layout::{CHUNK, Layout, Plane, SUPER, TILE_ROWS, planes},
    memory::{Piece, WeightMemory},
    threads::Threads,
    unpack::{Unpacked, part},
};

/// A weight matrix `[rows, columns]` in its stored type, with rows interleaved in tiles of 16 that
/// are multiplied at once. It replaces the bytes of the file.
pub struct PackedMatrix {
    kind: TensorType,
    layout: Layout,
    rows: usize,
    columns: usize,
    memory: Piece,
}

impl PackedMatrix {
    /// Packs a matrix as stored in a model file: row after row, each a whole number of blocks.
    ///
    /// Errors: `data` is not a `rows` x `columns` matrix of type `kind`; out of memory.
    pub fn new(
        kind: TensorType,
        (rows, columns): (usize, usize),
        data: &[u8],
        memory: &WeightMemory,
        threads: &Threads,
    ) -> Result<Self, Diagnostic> {
        let size_error = || errors::matrix_size(kind, rows, columns, data.len());
        let block = kind.block_size() as usize;
        if rows == 0 || columns == 0 || !columns.is_multiple_of(block) {
            return Err(size_error());
        }
        let row_bytes = (columns / block).checked_mul(kind.block_bytes() as usize);
        let row_bytes = row_bytes
            .filter(|&bytes| bytes.checked_mul(rows) == Some(data.len()))
            .ok_or_else(size_error)?;
        let layout = Layout::of(kind);
        let tile_bytes = layout.tile_bytes(columns);
        let size = rows.div_ceil(TILE_ROWS) * tile_bytes;
        let mut memory = memory.take(size)?;
        let work = rows * columns;
        threads.fill(work, &mut memory, tile_bytes, |index, tile| {
            let begin = index * TILE_ROWS * row_bytes;
            let end = data.len().min(begin + TILE_ROWS * row_bytes);
            let rows = &data[begin..end];
            match layout {
                Layout::Floats { bytes: 2 } => pack_floats::<2>(tile, rows, row_bytes),
                Layout::Floats { .. } => pack_floats::<4>(tile, rows, row_bytes),
                _ => pack_blocks(kind, tile, rows, row_bytes),
            }
        });
        Ok(Self {
            kind,
            layout,
            rows,
            columns,
            memory,
        })
    }

    pub(crate) fn kind(&self) -> TensorType {
        self.kind
    }

    /// Returns the number of rows, which is the length of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of columns, which is the length of a row of activations.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Returns the size in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Returns the bytes from tile `index` to the end.
    pub(crate) fn tiles_from(&self, index: usize) -> &[u8] {
        let begin = index * self.layout.tile_bytes(self.columns);
        self.memory.get(begin..).unwrap_or_default()
    }

    /// Dequantizes a row into `out`, which has `columns` elements. Returns false and writes
    /// nothing if the row does not exist or `out` has another length.
    pub fn row(&self, index: usize, out: &mut [f32]) -> bool {
        if index >= self.rows || out.len() != self.columns {
            return false;
        }
        let tile = self.tiles_from(index / TILE_ROWS);
        let lane = index % TILE_ROWS;
        match self.layout {
            Layout::Floats { .. } => {
                for (column, out) in out.iter_mut().enumerate() {
                    let at = column * TILE_ROWS + lane;
                    *out = match self.kind {
                        TensorType::F16 => f16::from_le_bytes(part(tile, 2 * at)).to_f32(),
                        TensorType::BF16 => bf16::from_le_bytes(part(tile, 2 * at)).to_f32(),
                        _ => f32::from_le_bytes(part(tile, 4 * at)),
                    };
                }
            }
            Layout::Blocks {
                zero_point,
                minimum,
                ..
            } => {
                let (chunks, blocks) = self.tile_parts(tile);
                for ((out, chunk), scales) in out
                    .as_chunks_mut::<CHUNK>()
                    .0
                    .iter_mut()
                    .zip(chunks)
                    .zip(blocks)
                {
                    let scale = half_at(scales, lane);
                    let added = if minimum {
                        half_at(&scales[32..], lane)
                    } else {
                        0.0
                    };
                    for (out, value) in out.iter_mut().zip(self.quantized(chunk, lane)) {
                        *out = scale * (i32::from(value) - zero_point) as f32 + added;
                    }
                }
            }
            Layout::SuperBlocks {
                zero_point,
                sub_block,
                minimum,
                ..
            } => {
                let (chunks, blocks) = self.tile_parts(tile);
                for (index, (out, chunk)) in out.chunks_exact_mut(CHUNK).zip(chunks).enumerate() {
                    let scales = &blocks
                        .clone()
                        .nth(index * CHUNK / SUPER)
                        .unwrap_or_default();
                    for (at, (out, value)) in
                        out.iter_mut().zip(self.quantized(chunk, lane)).enumerate()
                    {
                        let part = (index * CHUNK % SUPER + at) / sub_block;
                        let (scale, subtracted) = self.super_scales(scales, sub_block, part, lane);
                        let value = i32::from(value) - zero_point;
                        *out = scale * value as f32 - if minimum { subtracted } else { 0.0 };
                    }
                }
            }
        }
        true
    }

    /// Splits a tile into the chunks of its quantized values and the scales of its blocks.
    fn tile_parts<'a>(
        &self,
        tile: &'a [u8],
    ) -> (
        impl Iterator<Item = &'a [u8]>,
        impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let (values, scales) = tile.split_at(self.layout.value_bytes(self.columns));
        (
            values.chunks_exact(64 * self.layout.bits()),
            scales.chunks_exact(self.layout.scale_bytes()),
        )
    }

    /// Returns the scale of sub-block `index` and the value subtracted from its elements.
    fn super_scales(
        &self,
        scales: &[u8],
        sub_block: usize,
        index: usize,
        lane: usize,
    ) -> (f32, f32) {
        let parts = SUPER / sub_block;
        if let Layout::SuperBlocks { minimum: true, .. } = self.layout {
            let (scale, min_scale) = (half_at(scales, lane), half_at(&scales[32..], lane));
            let small = &scales[64..];
            let minima = &small[parts * TILE_ROWS..];
            let minimum = minima[index / 2 * 2 * TILE_ROWS + 2 * lane + index % 2];
            (
                scale * f32::from(small[index * TILE_ROWS + lane]),
                min_scale * f32::from(minimum),
            )
        } else {
            let small = scales[32 + index * TILE_ROWS + lane].cast_signed();
            (half_at(scales, lane) * f32::from(small), 0.0)
        }
    }

    /// Returns the 32 quantized values of a row in a chunk.
    fn quantized(&self, chunk: &[u8], lane: usize) -> [u8; CHUNK] {
        let mut out = [0; CHUNK];
        for (group, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let (low, high) = planes(self.layout.bits(), group);
            let read = |plane: Plane| {
                let word = u32::from_le_bytes(part(chunk, 64 * plane.vector + 4 * lane));
                (word >> plane.stored_bit & repeated_mask(plane.width)) << plane.value_bit
            };
            *out = (read(low) | high.map_or(0, read)).to_le_bytes();
        }
        out
    }
}

/// Returns the F16 value of a lane.
fn half_at(scales: &[u8], lane: usize) -> f32 {
    f16::from_le_bytes(part(scales, 2 * lane)).to_f32()
}

/// Returns a mask of the lowest `width` bits of each of four bytes.
const fn repeated_mask(width: u32) -> u32 {
    ((1 << width) - 1) * 0x0101_0101
}

/// Columns of floats that are packed together, so that source and destination stay in the L1
/// cache.
const PACKED_COLUMNS: usize = 64;

/// Packs rows of `N`-byte floats into a tile.
fn pack_floats<const N: usize>(tile: &mut [u8], rows: &[u8], row_bytes: usize) {
    let parts = tile.chunks_mut(PACKED_COLUMNS * N * TILE_ROWS);
    for (part, columns) in parts.enumerate() {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let values = row.as_chunks::<N>().0.get(part * PACKED_COLUMNS..);
            let columns = columns.chunks_exact_mut(N * TILE_ROWS);
            for (column, value) in columns.zip(values.unwrap_or_default()) {
                column.as_chunks_mut::<N>().0[lane] = *value;
            }
        }
    }
}

/// Packs rows of quantized blocks into a tile.
fn pack_blocks(kind: TensorType, tile: &mut [u8], rows: &[u8], row_bytes: usize) {
    let layout = Layout::of(kind);
    let block_bytes = kind.block_bytes() as usize;
    let columns = row_bytes / block_bytes * layout.block();
    let (values, scales) = tile.split_at_mut(layout.value_bytes(columns));
    let chunk_bytes = 64 * layout.bits();
    let mut unpacked = [const { Unpacked::new() }; TILE_ROWS];
    let values = values.chunks_exact_mut(layout.block() / CHUNK * chunk_bytes);
    let scales = scales.chunks_exact_mut(layout.scale_bytes());
    for (index, (values, scales)) in values.zip(scales).enumerate() {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let block = &row[index * block_bytes..][..block_bytes];
            unpacked[lane].read(kind, block);
            pack_scales(layout, scales, lane, &unpacked[lane]);
        }
        for (index, chunk) in values.chunks_exact_mut(chunk_bytes).enumerate() {
            pack_chunk(layout.bits(), chunk, &unpacked, index * CHUNK);
        }
    }
}

/// Packs the 32 quantized values of each row that start at `begin` into a chunk.
fn pack_chunk(bits: usize, chunk: &mut [u8], rows: &[Unpacked; TILE_ROWS], begin: usize) {
    let vectors = chunk.as_chunks_mut::<64>().0;
    for group in 0..CHUNK / 4 {
        let at = begin + 4 * group;
        let words: [u32; TILE_ROWS] =
            std::array::from_fn(|lane| u32::from_le_bytes(part(&rows[lane].values, at)));
        let (low, high) = planes(bits, group);
        for plane in std::iter::once(low).chain(high) {
            let to = vectors[plane.vector].as_chunks_mut::<4>().0;
            for (to, word) in to.iter_mut().zip(words) {
                let word =
                    (word >> plane.value_bit & repeated_mask(plane.width)) << plane.stored_bit;
                *to = (u32::from_le_bytes(*to) | word).to_le_bytes();
            }
        }
    }
}

fn pack_scales(layout: Layout, scales: &mut [u8], lane: usize, block: &Unpacked) {
    let mut put = |at: usize, value: [u8; 2]| scales[at..at + 2].copy_from_slice(&value);
    match layout {
        Layout::Floats { .. } => {}
        Layout::Blocks { minimum, .. } => {
            put(2 * lane, block.scale);
            if minimum {
                put(32 + 2 * lane, block.minimum);
            }
        }
        Layout::SuperBlocks {
            sub_block, minimum, ..
        } => {
            put(2 * lane, block.scale);
            let mut small = 2 * TILE_ROWS;
            if minimum {
                put(small + 2 * lane, block.minimum);
                small *= 2;
            }
            let parts = SUPER / sub_block;
            let minima = small + parts * TILE_ROWS;
            for index in 0..parts {
                scales[small + index * TILE_ROWS + lane] = block.scales[index];
                if minimum {
                    // Minima of adjacent sub-blocks are interleaved: they are multiplied as pairs.
                    let at = index / 2 * 2 * TILE_ROWS + 2 * lane + index % 2;
                    scales[minima + at] = block.minima[index];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_data_of_another_size() {
        let threads = Threads::new(1).unwrap();
        let memory = WeightMemory::default();
        for (kind, size, bytes) in [
            (TensorType::F32, (2, 2), 15),
            (TensorType::F32, (0, 2), 0),
            (TensorType::F32, (2, 0), 0),
            (TensorType::Q8_0, (2, 33), 70),
            (TensorType::Q8_0, (2, 16), 34),
            (TensorType::Q4K, (1, 128), 72),
            (TensorType::F16, (usize::MAX, usize::MAX), 4),
        ] {
            let packed = PackedMatrix::new(kind, size, &vec![0; bytes], &memory, &threads);
            assert!(packed.is_err(), "{kind:?} {size:?}");
        }
    }

    #[test]
    fn rejects_missing_rows_and_outputs_of_another_length() {
        let threads = Threads::new(1).unwrap();
        let memory = WeightMemory::default();
        let matrix =
            PackedMatrix::new(TensorType::F32, (3, 2), &[0; 24], &memory, &threads).unwrap();
        assert!(!matrix.row(3, &mut [0.0; 2]));
        assert!(!matrix.row(0, &mut [0.0; 3]));
    }
}
