/// Alignment that suffices for every block type.
const ALIGNMENT: usize = 64;

/// A copy of bytes at an aligned address; candle panics on unaligned ones.
pub(crate) struct AlignedBytes {
    buffer: Vec<u8>,
    begin: usize,
    length: usize,
}

impl AlignedBytes {
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        let mut buffer = vec![0; bytes.len() + ALIGNMENT];
        let begin = buffer.as_ptr().align_offset(ALIGNMENT);
        buffer[begin..begin + bytes.len()].copy_from_slice(bytes);
        Self {
            buffer,
            begin,
            length: bytes.len(),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.buffer[self.begin..self.begin + self.length]
    }
}
