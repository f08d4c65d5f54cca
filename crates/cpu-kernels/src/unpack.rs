//! The blocks of GGUF files, as GGML defines them, taken apart.

use model_format::TensorType;

use crate::layout::SUPER;

/// One row's block or super-block, taken apart.
pub(crate) struct Unpacked {
    /// The integers, `zero` too large; 32 or 256 of them.
    pub(crate) numbers: [u8; SUPER],
    /// The 16-bit scale.
    pub(crate) scale: [u8; 2],
    /// The 16-bit minimum, or the scale of the minima.
    pub(crate) minimum: [u8; 2],
    /// The scales of the parts of a super-block.
    pub(crate) scales: [u8; 16],
    /// Their minima.
    pub(crate) minima: [u8; 16],
}

impl Unpacked {
    pub(crate) const fn new() -> Self {
        Self {
            numbers: [0; SUPER],
            scale: [0; 2],
            minimum: [0; 2],
            scales: [0; 16],
            minima: [0; 16],
        }
    }

    /// Takes a block apart; `block` has as many bytes as a block of `kind`.
    pub(crate) fn read(&mut self, kind: TensorType, block: &[u8]) {
        match kind {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 => {}
            TensorType::Q8_0 => {
                self.scale = part(block, 0);
                for (to, from) in self.numbers.iter_mut().zip(&block[2..]) {
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
                self.two_scales(block);
                self.wide_nibbles(&block[16..]);
            }
            TensorType::Q5K => {
                self.two_scales(block);
                self.wide_nibbles(&block[48..]);
                for (index, numbers) in self.numbers.chunks_exact_mut(32).enumerate() {
                    for (number, bits) in numbers.iter_mut().zip(&block[16..48]) {
                        *number |= (bits >> index & 1) << 4;
                    }
                }
            }
            TensorType::Q6K => self.q6_k(block),
        }
    }

    /// 16 bytes: first all lower halves, then all upper ones.
    fn nibbles(&mut self, bytes: &[u8]) {
        for (index, byte) in bytes.iter().take(16).enumerate() {
            self.numbers[index] = byte & 15;
            self.numbers[index + 16] = byte >> 4;
        }
    }

    fn fifth_bits(&mut self, bits: u32) {
        for (index, number) in self.numbers.iter_mut().take(32).enumerate() {
            *number |= ((bits >> index & 1) as u8) << 4;
        }
    }

    /// 128 bytes: each 32 of them first all lower halves, then all upper ones.
    fn wide_nibbles(&mut self, bytes: &[u8]) {
        for (numbers, bytes) in self
            .numbers
            .chunks_exact_mut(64)
            .zip(bytes.chunks_exact(32))
        {
            let (lower, upper) = numbers.split_at_mut(32);
            for ((lower, upper), byte) in lower.iter_mut().zip(upper).zip(bytes) {
                *lower = byte & 15;
                *upper = byte >> 4;
            }
        }
    }

    /// Q4_K and Q5_K: two 16-bit scales, then eight scales and minima of 6 bits.
    fn two_scales(&mut self, block: &[u8]) {
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
        for (index, numbers) in self.numbers.chunks_exact_mut(32).enumerate() {
            for (number, bits) in numbers.iter_mut().zip(&block[..32]) {
                *number |= (bits >> index & 1) << 2;
            }
        }
        let packed: [u8; 12] = part(block, 96);
        for index in 0..16 {
            let lower = packed[index % 8] >> (index / 8 * 4) & 15;
            let upper = packed[8 + index % 4] >> (index / 4 * 2) & 3;
            self.scales[index] = (lower | upper << 4).wrapping_sub(32);
        }
    }

    /// 64 bytes: each 32 of them first the lowest two bits of all, then the next.
    fn two_bits(&mut self, bytes: &[u8]) {
        for (numbers, bytes) in self
            .numbers
            .chunks_exact_mut(128)
            .zip(bytes.chunks_exact(32))
        {
            for (shift, numbers) in numbers.chunks_exact_mut(32).enumerate() {
                for (number, byte) in numbers.iter_mut().zip(bytes) {
                    *number = byte >> (2 * shift) & 3;
                }
            }
        }
    }

    fn q6_k(&mut self, block: &[u8]) {
        self.scale = part(block, 208);
        self.scales = part(block, 192);
        let (lower, upper) = block[..192].split_at(128);
        let halves = lower.chunks_exact(64).zip(upper.chunks_exact(32));
        for (numbers, (lower, upper)) in self.numbers.chunks_exact_mut(128).zip(halves) {
            for index in 0..32 {
                let (first, second, bits) = (lower[index], lower[index + 32], upper[index]);
                numbers[index] = first & 15 | (bits & 3) << 4;
                numbers[index + 32] = second & 15 | (bits >> 2 & 3) << 4;
                numbers[index + 64] = first >> 4 | (bits >> 4 & 3) << 4;
                numbers[index + 96] = second >> 4 | (bits >> 6) << 4;
            }
        }
    }
}

/// `N` bytes from `at` on; zeros where there are not as many.
#[inline]
pub(crate) fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or([0; N])
}
