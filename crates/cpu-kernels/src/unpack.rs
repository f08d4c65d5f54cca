//! Unpacks the quantized blocks of GGUF files, as GGML defines them.

use model_format::TensorType;

use crate::layout::SUPER;

/// An unpacked block or super-block of one row.
pub(crate) struct Unpacked {
    /// The 32 or 256 quantized values, with the zero point added.
    pub(crate) values: [u8; SUPER],
    /// F16 scale.
    pub(crate) scale: [u8; 2],
    /// F16 minimum, or the scale of the minima.
    pub(crate) minimum: [u8; 2],
    /// Scales of the sub-blocks.
    pub(crate) scales: [u8; 16],
    /// Minima of the sub-blocks.
    pub(crate) minima: [u8; 16],
}

impl Unpacked {
    pub(crate) const fn new() -> Self {
        Self {
            values: [0; SUPER],
            scale: [0; 2],
            minimum: [0; 2],
            scales: [0; 16],
            minima: [0; 16],
        }
    }

    /// Unpacks `block`, which has the size of a block of `kind`.
    pub(crate) fn read(&mut self, kind: TensorType, block: &[u8]) {
        match kind {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 => {}
            TensorType::Q8_0 => {
                self.scale = part(block, 0);
                for (to, from) in self.values.iter_mut().zip(&block[2..]) {
                    *to = from ^ 0x80;
                }
            }
            TensorType::Q4_0 => {
                self.scale = part(block, 0);
                self.nibbles(&block[2..]);
            }
            TensorType::Q4_1 => {
                self.scale = part(block, 0);
                self.minimum = part(block, 2);
                self.nibbles(&block[4..]);
            }
            TensorType::Q5_0 => {
                self.scale = part(block, 0);
                self.nibbles(&block[6..]);
                self.fifth_bits(u32::from_le_bytes(part(block, 2)));
            }
            TensorType::Q5_1 => {
                self.scale = part(block, 0);
                self.minimum = part(block, 2);
                self.nibbles(&block[8..]);
                self.fifth_bits(u32::from_le_bytes(part(block, 4)));
            }
            TensorType::Q2K => self.q2_k(block),
            TensorType::Q3K => self.q3_k(block),
            TensorType::Q4K => {
                self.six_bit_scales(block);
                self.nibbles_by_32(&block[16..]);
            }
            TensorType::Q5K => {
                self.six_bit_scales(block);
                self.nibbles_by_32(&block[48..]);
                for (index, values) in self.values.chunks_exact_mut(32).enumerate() {
                    for (value, bits) in values.iter_mut().zip(&block[16..48]) {
                        *value |= (bits >> index & 1) << 4;
                    }
                }
            }
            TensorType::Q6K => self.q6_k(block),
        }
    }

    /// Unpacks 16 bytes: first all low nibbles, then all high nibbles.
    fn nibbles(&mut self, bytes: &[u8]) {
        for (index, byte) in bytes.iter().take(16).enumerate() {
            self.values[index] = byte & 15;
            self.values[index + 16] = byte >> 4;
        }
    }

    fn fifth_bits(&mut self, bits: u32) {
        for (index, value) in self.values.iter_mut().take(32).enumerate() {
            *value |= ((bits >> index & 1) as u8) << 4;
        }
    }

    /// Unpacks 128 bytes: of each 32 bytes first the low nibbles, then the high nibbles.
    fn nibbles_by_32(&mut self, bytes: &[u8]) {
        for (values, bytes) in self.values.chunks_exact_mut(64).zip(bytes.chunks_exact(32)) {
            let (lower, upper) = values.split_at_mut(32);
            for ((lower, upper), byte) in lower.iter_mut().zip(upper).zip(bytes) {
                *lower = byte & 15;
                *upper = byte >> 4;
            }
        }
    }

    /// Unpacks the scales of Q4_K and Q5_K: two F16 scales, then eight 6-bit scales and minima.
    fn six_bit_scales(&mut self, block: &[u8]) {
        self.scale = part(block, 0);
        self.minimum = part(block, 2);
        let packed: [u8; 12] = part(block, 4);
        for index in 0..4 {
            let upper = packed[index + 8];
            self.scales[index] = packed[index] & 63;
            self.minima[index] = packed[index + 4] & 63;
            self.scales[index + 4] = upper & 15 | packed[index] >> 6 << 4;
            self.minima[index + 4] = upper >> 4 | packed[index + 4] >> 6 << 4;
        }
    }

    fn q2_k(&mut self, block: &[u8]) {
        self.scale = part(block, 80);
        self.minimum = part(block, 82);
        for (index, byte) in block[..16].iter().enumerate() {
            self.scales[index] = byte & 15;
            self.minima[index] = byte >> 4;
        }
        self.two_bits(&block[16..80]);
    }

    fn q3_k(&mut self, block: &[u8]) {
        self.scale = part(block, 108);
        self.two_bits(&block[32..96]);
        for (index, values) in self.values.chunks_exact_mut(32).enumerate() {
            for (value, bits) in values.iter_mut().zip(&block[..32]) {
                *value |= (bits >> index & 1) << 2;
            }
        }
        let packed: [u8; 12] = part(block, 96);
        for index in 0..16 {
            let lower = packed[index % 8] >> (index / 8 * 4) & 15;
            let upper = packed[8 + index % 4] >> (index / 4 * 2) & 3;
            self.scales[index] = (lower | upper << 4).wrapping_sub(32);
        }
    }

    /// Unpacks 64 bytes: of each 32 bytes first the lowest two bits, then the next two, and so on.
    fn two_bits(&mut self, bytes: &[u8]) {
        for (values, bytes) in self
            .values
            .chunks_exact_mut(128)
            .zip(bytes.chunks_exact(32))
        {
            for (shift, values) in values.chunks_exact_mut(32).enumerate() {
                for (value, byte) in values.iter_mut().zip(bytes) {
                    *value = byte >> (2 * shift) & 3;
                }
            }
        }
    }

    fn q6_k(&mut self, block: &[u8]) {
        self.scale = part(block, 208);
        self.scales = part(block, 192);
        let (lower, upper) = block[..192].split_at(128);
        let halves = lower.chunks_exact(64).zip(upper.chunks_exact(32));
        for (values, (lower, upper)) in self.values.chunks_exact_mut(128).zip(halves) {
            for index in 0..32 {
                let (first, second, bits) = (lower[index], lower[index + 32], upper[index]);
                values[index] = first & 15 | (bits & 3) << 4;
                values[index + 32] = second & 15 | (bits >> 2 & 3) << 4;
                values[index + 64] = first >> 4 | (bits >> 4 & 3) << 4;
                values[index + 96] = second >> 4 | (bits >> 6) << 4;
            }
        }
    }
}

/// Returns the `N` bytes at offset `at`, or zeros if `bytes` is too short.
#[inline]
pub(crate) fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or([0; N])
}
