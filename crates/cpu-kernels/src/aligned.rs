/// A cache line; a load that crosses two of them takes twice as long.
const LINE: usize = 64;

/// Floats that start at a cache line.
#[derive(Default)]
pub(crate) struct AlignedFloats {
    buffer: Vec<f32>,
    begin: usize,
    length: usize,
}

impl AlignedFloats {
    /// Returns zeros; pages are allocated on first write.
    pub(crate) fn zeros(length: usize) -> Self {
        let buffer = vec![0.0; length + LINE / size_of::<f32>()];
        let begin = buffer.as_ptr().align_offset(LINE);
        Self {
            buffer,
            begin,
            length,
        }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.buffer[self.begin..self.begin + self.length]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.buffer[self.begin..self.begin + self.length]
    }
}
