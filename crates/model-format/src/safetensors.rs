use std::collections::BTreeMap;

use diagnostics::Diagnostic;
use serde::Deserialize;

use crate::{cursor::Cursor, errors};

/// Maximum header size; actual headers have some hundred kilobytes.
const MAX_HEADER_BYTES: u64 = 100 << 20;

/// Element type of a safetensors tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 16-bit brain float: the upper half of a 32-bit float.
    BF16,
    /// A type that the built-in engine cannot compute with, and other engines can.
    Foreign(ForeignElement),
}

/// Type of elements that only other engines compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForeignElement {
    name: &'static str,
    bytes: u64,
}

/// Names and sizes of the types that are not [`ElementType::COMPUTABLE`].
const FOREIGN: [(&str, u64); 13] = [
    ("BOOL", 1),
    ("U8", 1),
    ("I8", 1),
    ("F8_E4M3", 1),
    ("F8_E5M2", 1),
    ("F8_E8M0", 1),
    ("U16", 2),
    ("I16", 2),
    ("U32", 4),
    ("I32", 4),
    ("U64", 8),
    ("I64", 8),
    ("F64", 8),
];

impl ElementType {
    /// Name as in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Foreign(foreign) => foreign.name,
        }
    }

    /// Size of an element in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Foreign(foreign) => foreign.bytes,
        }
    }

    /// The types that the built-in engine computes with.
    const COMPUTABLE: [Self; 3] = [Self::F32, Self::F16, Self::BF16];

    fn from_name(name: &str, tensor: &str) -> Result<Self, Diagnostic> {
        let own = Self::COMPUTABLE.into_iter().find(|t| t.name() == name);
        let foreign = FOREIGN.into_iter().find(|(foreign, _)| *foreign == name);
        let foreign = foreign.map(|(name, bytes)| Self::Foreign(ForeignElement { name, bytes }));
        own.or(foreign).ok_or_else(|| Self::refusal(name, tensor))
    }

    fn refusal(name: &str, tensor: &str) -> Diagnostic {
        errors::unsupported_type(tensor, name, Self::COMPUTABLE.into_iter().map(Self::name))
    }
}

/// Location and element type of a safetensors tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetensorsTensor {
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Element type.
    pub kind: ElementType,
    /// Offset of the data from the start of the file.
    pub offset: u64,
    /// Size of the data in bytes.
    pub bytes: u64,
}

/// Validated header of a safetensors file.
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
    /// Returns the size of the header, length field included, from the first 8 bytes of a file.
    pub fn header_length(head: &[u8], file_length: u64) -> Result<u64, Diagnostic> {
        let length = Cursor::new(head).u64("the header length")?;
        if length > MAX_HEADER_BYTES || length > file_length.saturating_sub(8) {
            return Err(errors::header_too_long(
                length,
                file_length,
                MAX_HEADER_BYTES,
            ));
        }
        Ok(length + 8)
    }

    /// Parses the header at the start of `head`, the beginning of a file of `file_length` bytes.
    pub fn parse_header(head: &[u8], file_length: u64) -> Result<Self, Diagnostic> {
        let data_start = Self::header_length(head, file_length)?;
        let mut cursor = Cursor::new(head);
        cursor.take(8, "the header length")?;
        let json = cursor.take(data_start - 8, "the header")?;
        let raw: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(|e| errors::header_json(8, &e))?;

        let mut tensors = BTreeMap::new();
        for (name, value) in raw {
            if name == "__metadata__" {
                continue;
            }
            let raw: RawTensor =
                serde_json::from_value(value).map_err(|e| errors::tensor_json(8, &name, &e))?;
            let tensor = check(&name, raw, data_start, file_length)?;
            tensors.insert(name, tensor);
        }
        check_no_overlap(&tensors)?;
        Ok(Self { tensors })
    }

    /// Checks that the built-in engine can compute with all tensors.
    ///
    /// Errors: `UNSUPPORTED_QUANTIZATION`.
    pub fn check_types(&self) -> Result<(), Diagnostic> {
        for (name, tensor) in &self.tensors {
            if let ElementType::Foreign(foreign) = tensor.kind {
                return Err(ElementType::refusal(foreign.name, name));
            }
        }
        Ok(())
    }

    /// Tensors by name.
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
    let (start, end) = raw.data_offsets;
    let expected = raw
        .shape
        .iter()
        .try_fold(kind.bytes(), |product, &size| product.checked_mul(size));
    let bytes = end.checked_sub(start);
    if bytes.is_none() || bytes != expected {
        return Err(errors::range_mismatch(
            8,
            name,
            &raw.shape,
            kind.name(),
            raw.data_offsets,
        ));
    }
    if end > file_length - data_start {
        return Err(errors::tensor_ends_outside_file(
            name,
            data_start,
            end,
            file_length,
        ));
    }
    Ok(SafetensorsTensor {
        shape: raw.shape,
        kind,
        offset: data_start + start,
        bytes: end - start,
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
        let ((_, end, first), (start, _, second)) = (pair[0], pair[1]);
        if start < end {
            return Err(errors::overlapping_tensors(start, first, second));
        }
    }
    Ok(())
}
