use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, GgmlType, QuantizedType};

/// Address that every block type may have.
const ALIGNMENT: usize = 64;

/// The weights of a tensor in blocks, in candle's storage.
pub(crate) struct Blocks(Box<dyn QuantizedType>);

impl Blocks {
    /// Copies blocks from the bytes of a file, whose length is a whole number of blocks.
    pub(crate) fn new(kind: GgmlDType, bytes: &[u8]) -> Self {
        let aligned = AlignedBytes::copy(bytes);
        Self(kind.from_data(Cow::Borrowed(aligned.as_slice())))
    }

    pub(crate) fn kind(&self) -> GgmlDType {
        self.0.dtype()
    }

    pub(crate) fn stored(&self) -> &dyn QuantizedType {
        self.0.as_ref()
    }

    /// The blocks as what they are; none when they are of another type.
    #[allow(unsafe_code)]
    pub(crate) fn typed<T: GgmlType>(&self) -> &[T] {
        if self.kind() != T::DTYPE {
            return &[];
        }
        let count = self.0.storage_size_in_bytes() / size_of::<T>();
        // SAFETY: The storage was made by `GgmlDType::from_data` (the field is private and
        // set in `new` alone), which keeps blocks of the type `T` with `T::DTYPE` as a
        // `Vec<T>`. `as_ptr` is that vector's pointer and the size in bytes its length times
        // the size of `T`, so the slice is aligned, initialised and in bounds. It borrows
        // `self`, and nothing changes the storage after `new`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast::<T>(), count) }
    }
}

/// A copy of bytes at an aligned address; candle panics on others.
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
