use diagnostics::Diagnostic;
use half::{bf16, f16};
use model_format::TensorType;

use crate::{
    Threads, WeightMemory,
    layout::{CHUNK, Layout, Plane, SUPER, TILE_ROWS, planes},
    memory::Piece,
    unpack::{Unpacked, part},
};

/// A weight matrix `[rows, columns]` in its stored type, its rows interleaved so that 16 of
/// them are multiplied at once. It takes the place of the file's bytes.
pub struct PackedMatrix {
    kind: TensorType,
    layout: Layout,
    rows: usize,
    columns: usize,
    memory: Piece,
}

impl PackedMatrix {
    /// Packs the bytes of a file: rows one after the other, each a whole number of blocks.
    ///
    /// Errors: bytes that are not `rows` x `columns` numbers of the type; no memory.
    pub fn new(
        kind: TensorType,
        (rows, columns): (usize, usize),
        data: &[u8],
        memory: &WeightMemory,
        threads: &Threads,
    ) -> Result<Self, Diagnostic> {
        let refused = || {
            Diagnostic::internal(format!(
                "{} bytes are not {rows} x {columns} {}",
                data.len(),
                kind.name()
            ))
        };
        let block = kind.block_size() as usize;
        if rows == 0 || columns == 0 || !columns.is_multiple_of(block) {
            return Err(refused());
        }
        let row_bytes = (columns / block).checked_mul(kind.block_bytes() as usize);
        let row_bytes = row_bytes
            .filter(|&bytes| bytes.checked_mul(rows) == Some(data.len()))
            .ok_or_else(refused)?;
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

    /// The type of the weights.
    pub fn kind(&self) -> TensorType {
        self.kind
    }

    /// Rows: the length of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the length of what it is multiplied with.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// The bytes of the tile with this number, and of those after it.
    pub(crate) fn tiles_from(&self, index: usize) -> &[u8] {
        let begin = index * self.layout.tile_bytes(self.columns);
        self.memory.get(begin..).unwrap_or_default()
    }

    /// Writes the weights of a row into `out`, `columns` long. False, and nothing written,
    /// where there is no such row.
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
            Layout::Blocks { zero, minimum, .. } => {
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
                    for (out, number) in out.iter_mut().zip(self.numbers(chunk, lane)) {
                        *out = scale * (i32::from(number) - zero) as f32 + added;
                    }
                }
            }
            Layout::SuperBlocks {
                zero, sub, minimum, ..
            } => {
                let (chunks, blocks) = self.tile_parts(tile);
                for (index, (out, chunk)) in out.chunks_exact_mut(CHUNK).zip(chunks).enumerate() {
                    let scales = &blocks
                        .clone()
                        .nth(index * CHUNK / SUPER)
                        .unwrap_or_default();
                    for (at, (out, number)) in
                        out.iter_mut().zip(self.numbers(chunk, lane)).enumerate()
                    {
                        let part = (index * CHUNK % SUPER + at) / sub;
                        let (scale, taken) = self.super_scales(scales, sub, part, lane);
                        let number = i32::from(number) - zero;
                        *out = scale * number as f32 - if minimum { taken } else { 0.0 };
                    }
                }
            }
        }
        true
    }

    /// The chunks of the numbers of a tile, and the scales of its blocks.
    fn tile_parts<'a>(
        &self,
        tile: &'a [u8],
    ) -> (
        impl Iterator<Item = &'a [u8]>,
        impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let (numbers, scales) = tile.split_at(self.layout.number_bytes(self.columns));
        (
            numbers.chunks_exact(64 * self.layout.bits()),
            scales.chunks_exact(self.layout.scale_bytes()),
        )
    }

    /// The scale of a part of a super-block and what its numbers are made less by.
    fn super_scales(&self, scales: &[u8], sub: usize, index: usize, lane: usize) -> (f32, f32) {
        let parts = SUPER / sub;
        if let Layout::SuperBlocks { minimum: true, .. } = self.layout {
            let (scale, taken) = (half_at(scales, lane), half_at(&scales[32..], lane));
            let small = &scales[64..];
            let minima = &small[parts * TILE_ROWS..];
            let minimum = minima[index / 2 * 2 * TILE_ROWS + 2 * lane + index % 2];
            (
                scale * f32::from(small[index * TILE_ROWS + lane]),
                taken * f32::from(minimum),
            )
        } else {
            let small = scales[32 + index * TILE_ROWS + lane].cast_signed();
            (half_at(scales, lane) * f32::from(small), 0.0)
        }
    }

    /// The 32 integers of a row in a chunk.
    fn numbers(&self, chunk: &[u8], lane: usize) -> [u8; CHUNK] {
        let mut out = [0; CHUNK];
        for (group, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let (low, high) = planes(self.layout.bits(), group);
            let read = |plane: Plane| {
                let word = u32::from_le_bytes(part(chunk, 64 * plane.vector + 4 * lane));
                (word >> plane.at & bytes_of(plane.width)) << plane.from
            };
            *out = (read(low) | high.map_or(0, read)).to_le_bytes();
        }
        out
    }
}

/// The 16-bit float of a lane.
fn half_at(scales: &[u8], lane: usize) -> f32 {
    f16::from_le_bytes(part(scales, 2 * lane)).to_f32()
}

/// The lowest `width` bits of each of four bytes.
const fn bytes_of(width: u32) -> u32 {
    ((1 << width) - 1) * 0x0101_0101
}

/// Columns of floats that are packed together: what is read and written stays in the first
/// cache meanwhile.
const PACKED_COLUMNS: usize = 64;

/// Writes rows of floats of `N` bytes into a tile.
fn pack_floats<const N: usize>(tile: &mut [u8], rows: &[u8], row_bytes: usize) {
    let parts = tile.chunks_mut(PACKED_COLUMNS * N * TILE_ROWS);
    for (part, columns) in parts.enumerate() {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let numbers = row.as_chunks::<N>().0.get(part * PACKED_COLUMNS..);
            let columns = columns.chunks_exact_mut(N * TILE_ROWS);
            for (column, number) in columns.zip(numbers.unwrap_or_default()) {
                column.as_chunks_mut::<N>().0[lane] = *number;
            }
        }
    }
}

/// Writes rows of blocks into a tile.
fn pack_blocks(kind: TensorType, tile: &mut [u8], rows: &[u8], row_bytes: usize) {
    let layout = Layout::of(kind);
    let block_bytes = kind.block_bytes() as usize;
    let columns = row_bytes / block_bytes * layout.block();
    let (numbers, scales) = tile.split_at_mut(layout.number_bytes(columns));
    let chunk_bytes = 64 * layout.bits();
    let mut unpacked = [const { Unpacked::new() }; TILE_ROWS];
    let numbers = numbers.chunks_exact_mut(layout.block() / CHUNK * chunk_bytes);
    let scales = scales.chunks_exact_mut(layout.scale_bytes());
    for (index, (numbers, scales)) in numbers.zip(scales).enumerate() {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let block = &row[index * block_bytes..][..block_bytes];
            unpacked[lane].read(kind, block);
            pack_scales(layout, scales, lane, &unpacked[lane]);
        }
        for (index, chunk) in numbers.chunks_exact_mut(chunk_bytes).enumerate() {
            pack_chunk(layout.bits(), chunk, &unpacked, index * CHUNK);
        }
    }
}

/// Writes the integers of a chunk, those from `begin` on of each row.
fn pack_chunk(bits: usize, chunk: &mut [u8], rows: &[Unpacked; TILE_ROWS], begin: usize) {
    let vectors = chunk.as_chunks_mut::<64>().0;
    for group in 0..CHUNK / 4 {
        let at = begin + 4 * group;
        let words: [u32; TILE_ROWS] =
            std::array::from_fn(|lane| u32::from_le_bytes(part(&rows[lane].numbers, at)));
        let (low, high) = planes(bits, group);
        for plane in std::iter::once(low).chain(high) {
            let to = vectors[plane.vector].as_chunks_mut::<4>().0;
            for (to, word) in to.iter_mut().zip(words) {
                let word = (word >> plane.from & bytes_of(plane.width)) << plane.at;
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
        Layout::SuperBlocks { sub, minimum, .. } => {
            put(2 * lane, block.scale);
            let mut small = 2 * TILE_ROWS;
            if minimum {
                put(small + 2 * lane, block.minimum);
                small *= 2;
            }
            let parts = SUPER / sub;
            let minima = small + parts * TILE_ROWS;
            for index in 0..parts {
                scales[small + index * TILE_ROWS + lane] = block.scales[index];
                if minimum {
                    // Two parts side by side: they are multiplied as pairs.
                    let at = index / 2 * 2 * TILE_ROWS + 2 * lane + index % 2;
                    scales[minima + at] = block.minima[index];
                }
            }
        }
    }
}
