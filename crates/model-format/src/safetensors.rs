use std::collections::BTreeMap;

use diagnostics::{Code, Diagnostic, escape};
use serde::Deserialize;

use crate::{cursor::Cursor, invalid, tensor_type::unsupported};

/// Largest header that is read; real ones have some hundred kilobytes.
const MAX_HEADER_BYTES: u64 = 100 << 20;

/// How the numbers of a safetensors tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// Upper half of a 32-bit float.
    BF16,
}

impl ElementType {
    /// Its usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// Bytes of one number.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    fn from_name(name: &str, tensor: &str) -> Result<Self, Diagnostic> {
        [Self::F32, Self::F16, Self::BF16]
            .into_iter()
            .find(|t| t.name() == name)
            .ok_or_else(|| {
                unsupported(name, tensor)
                    .hint("use a safetensors model in F32, F16 or BF16, or a GGUF file")
            })
    }
}

/// Where a tensor is and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetensorsTensor {
    /// Sizes, slowest first.
    pub shape: Vec<u64>,
    /// How its numbers are stored.
    pub kind: ElementType,
    /// Where its data begins, from the start of the file.
    pub offset: u64,
    /// Bytes of its data.
    pub bytes: u64,
}

/// The header of a safetensors file, checked.
#[derive(Debug, Clone)]
pub struct Safetensors {
    tensors: BTreeMap<String, SafetensorsTensor>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Safetensors {
    /// How many bytes of the file the header takes, from its first 8 bytes.
    pub fn header_length(head: &[u8], file_length: u64) -> Result<u64, Diagnostic> {
        let length = Cursor::new(head).u64("the header length")?;
        if length > MAX_HEADER_BYTES || length > file_length.saturating_sub(8) {
            return Err(invalid(
                0,
                format!(
                    "the header claims {length} bytes, the file has {file_length}, the limit is {MAX_HEADER_BYTES}"
                ),
            ));
        }
        Ok(length + 8)
    }

    /// Reads the header from the first bytes of a file of `file_length` bytes; they may be
    /// the whole file.
    pub fn parse_header(head: &[u8], file_length: u64) -> Result<Self, Diagnostic> {
        let data_start = Self::header_length(head, file_length)?;
        let mut cursor = Cursor::new(head);
        cursor.take(8, "the header length")?;
        let json = cursor.take(data_start - 8, "the header")?;
        let raw: BTreeMap<String, serde_json::Value> = serde_json::from_slice(json)
            .map_err(|e| invalid(8, format!("the header is not the JSON expected: {e}")))?;

        let mut tensors = BTreeMap::new();
        for (name, value) in raw {
            if name == "__metadata__" {
                continue;
            }
            let raw: RawTensor = serde_json::from_value(value).map_err(|e| {
                invalid(
                    8,
                    format!("tensor `{}` is described wrongly: {e}", escape(&name)),
                )
            })?;
            let tensor = check(&name, raw, data_start, file_length)?;
            tensors.insert(name, tensor);
        }
        check_no_overlap(&tensors)?;
        Ok(Self { tensors })
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, SafetensorsTensor> {
        &self.tensors
    }
}

fn check(
    name: &str,
    raw: RawTensor,
    data_start: u64,
    file_length: u64,
) -> Result<SafetensorsTensor, Diagnostic> {
    let kind = ElementType::from_name(&raw.dtype, name)?;
    let (begin, end) = raw.data_offsets;
    let expected = raw
        .shape
        .iter()
        .try_fold(kind.bytes(), |product, &size| product.checked_mul(size));
    let bytes = end.checked_sub(begin);
    if bytes.is_none() || bytes != expected {
        return Err(invalid(
            8,
            format!(
                "tensor `{}` of shape {:?} and type {} does not fill its bytes {begin} to {end}",
                escape(name),
                raw.shape,
                kind.name()
            ),
        ));
    }
    if end > file_length - data_start {
        return Err(invalid(
            file_length,
            format!(
                "tensor `{}` ends at byte {data_start} + {end}, the file has {file_length}",
                escape(name)
            ),
        ));
    }
    Ok(SafetensorsTensor {
        shape: raw.shape,
        kind,
        offset: data_start + begin,
        bytes: end - begin,
    })
}

fn check_no_overlap(tensors: &BTreeMap<String, SafetensorsTensor>) -> Result<(), Diagnostic> {
    let mut ranges: Vec<_> = tensors
        .iter()
        .filter(|(_, t)| t.bytes > 0)
        .map(|(name, t)| (t.offset, t.offset + t.bytes, name))
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let ((_, end, first), (begin, _, second)) = (pair[0], pair[1]);
        if begin < end {
            return Err(Diagnostic::new(
                Code::InvalidModelFile,
                format!(
                    "tensors `{}` and `{}` overlap at byte {begin}",
                    escape(first),
                    escape(second)
                ),
            )
            .hint("the file is damaged: fetch it again"));
        }
    }
    Ok(())
}
