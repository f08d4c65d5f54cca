use std::collections::BTreeMap;

use diagnostics::Diagnostic;

use crate::{
    cursor::Cursor,
    errors,
    tensor_type::{ForeignType, Storage, TensorType},
    value::{Array, Value, read_value},
};

const MAGIC: &[u8] = b"GGUF";
/// Number of bytes shown of a file that is not GGUF.
const SHOWN_BYTES: usize = 32;
const MAX_KEY_BYTES: usize = 65_535;
const MAX_TENSOR_NAME_BYTES: usize = 1024;
const MAX_DIMENSIONS: u32 = 4;
const MAX_ALIGNMENT: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;

/// Location and storage type of a GGUF tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Dimensions, outermost first (rows, columns): the reverse of the order in the file.
    pub shape: Vec<u64>,
    /// Storage type.
    pub kind: TensorType,
    /// Index of the file that has the data; 0 unless the model is split.
    pub part: usize,
    /// Offset of the data from the start of the file.
    pub offset: u64,
    /// Size of the data in bytes.
    pub bytes: u64,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// GGUF tensor that the built-in engine cannot compute with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTensor {
    /// Dimensions, outermost first (rows, columns).
    pub shape: Vec<u64>,
    /// Storage type.
    pub kind: ForeignType,
    /// Size of the data in bytes.
    pub bytes: u64,
}

/// Tensor info as in the file.
struct RawTensor {
    /// Dimensions, outermost first.
    shape: Vec<u64>,
    storage: Storage,
    /// Offset from the start of the data.
    offset: u64,
    bytes: u64,
}

/// Validated header of a GGUF file, or of all files of a split model; strings and arrays borrow
/// from the bytes of the files.
#[derive(Debug, Clone)]
pub struct Gguf<'a> {
    parts: Vec<&'a [u8]>,
    metadata: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, TensorInfo>,
    foreign: BTreeMap<&'a str, ForeignTensor>,
}

/// What the beginning of a GGUF file contains.
#[derive(Debug, Clone)]
pub enum Prefix<'a> {
    /// The complete header.
    Complete(Gguf<'a>),
    /// A part of the header, which needs at least this number of bytes from the start of the file.
    Needs(u64),
}

impl<'a> Gguf<'a> {
    /// Parses a complete file in memory.
    pub fn parse(file: &'a [u8]) -> Result<Self, Diagnostic> {
        Self::parse_header(file, file.len() as u64)
    }

    /// Parses the header at the start of `head`, the beginning of a file of `file_length` bytes.
    pub fn parse_header(head: &'a [u8], file_length: u64) -> Result<Self, Diagnostic> {
        Self::read(&mut Cursor::of_prefix(head, file_length), head, file_length)
    }

    /// Parses the header of a file of `file_length` bytes as far as its beginning `head` is known.
    pub fn parse_prefix(head: &'a [u8], file_length: u64) -> Result<Prefix<'a>, Diagnostic> {
        let mut cursor = Cursor::of_prefix(head, file_length);
        match Self::read(&mut cursor, head, file_length) {
            Ok(gguf) => Ok(Prefix::Complete(gguf)),
            Err(error) => cursor.needed().map(Prefix::Needs).ok_or(error),
        }
    }

    fn read(cursor: &mut Cursor<'a>, head: &'a [u8], file_length: u64) -> Result<Self, Diagnostic> {
        let start = &head[..head.len().min(MAGIC.len())];
        if !MAGIC.starts_with(start) {
            return Err(errors::not_gguf(&head[..head.len().min(SHOWN_BYTES)]));
        }
        cursor.take(MAGIC.len() as u64, "the magic `GGUF`")?;
        let version = cursor.u32("the version")?;
        if version.swap_bytes() == 2 || version.swap_bytes() == 3 {
            return Err(errors::big_endian(4));
        }
        if !(2..=3).contains(&version) {
            return Err(errors::unsupported_version(4, version));
        }
        let tensor_count = cursor.u64("the tensor count")?;
        let value_count = cursor.u64("the metadata count")?;
        // A tensor takes at least a name of 1 byte, one dimension, a type and an offset; a value
        // at least a key of 1 byte, a type and a byte.
        cursor.check_count(tensor_count, 33, "tensors")?;
        cursor.check_count(value_count, 14, "metadata values")?;

        let metadata = read_metadata(cursor, value_count)?;
        let mut gguf = Self {
            parts: vec![head],
            metadata,
            tensors: BTreeMap::new(),
            foreign: BTreeMap::new(),
        };
        let alignment = gguf.alignment()?;
        gguf.read_tensors(cursor, tensor_count, alignment, file_length)?;
        Ok(gguf)
    }

    /// Returns the number of this part of a split model, from 0, and the number of parts.
    pub(crate) fn part(&self) -> Result<(u32, u32), Diagnostic> {
        Ok((
            self.u32("split.no")?.unwrap_or(0),
            self.u32("split.count")?.unwrap_or(1).max(1),
        ))
    }

    /// Adds the tensors of the next part of a split model.
    pub(crate) fn append(&mut self, next: Self) -> Result<(), Diagnostic> {
        let part = self.parts.len();
        for (name, info) in next.tensors {
            let info = TensorInfo { part, ..info };
            if let Some(other) = self.tensors.insert(name, info) {
                return Err(errors::tensor_in_two_parts(name, other.part + 1, part + 1));
            }
        }
        self.foreign.extend(next.foreign);
        self.parts.extend(next.parts);
        Ok(())
    }

    /// Checks the number of tensors of a split model.
    pub(crate) fn check_tensor_count(&self) -> Result<(), Diagnostic> {
        match self.u32("split.tensors.count")? {
            Some(count) if count as usize != self.tensors.len() + self.foreign.len() => Err(
                errors::tensor_count(self.tensors.len() + self.foreign.len(), count),
            ),
            _ => Ok(()),
        }
    }

    fn alignment(&self) -> Result<u64, Diagnostic> {
        let Some(alignment) = self.u32("general.alignment")? else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        let alignment = u64::from(alignment);
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return Err(errors::invalid_alignment(alignment, MAX_ALIGNMENT));
        }
        Ok(alignment)
    }

    fn read_tensors(
        &mut self,
        cursor: &mut Cursor<'a>,
        count: u64,
        alignment: u64,
        file_length: u64,
    ) -> Result<(), Diagnostic> {
        // Offsets are relative to the start of the data, which follows the last tensor info.
        let mut raw = BTreeMap::new();
        for _ in 0..count {
            let at = cursor.position();
            let name = cursor.name("a tensor name", MAX_TENSOR_NAME_BYTES)?;
            let tensor = read_tensor_info(cursor, name, alignment)?;
            if raw.insert(name, tensor).is_some() {
                return Err(errors::duplicate(at, "tensor", name));
            }
        }
        let data_start = cursor.position().next_multiple_of(alignment);
        for (name, tensor) in raw {
            let end = data_start
                .checked_add(tensor.offset)
                .and_then(|start| start.checked_add(tensor.bytes));
            if end.is_none_or(|end| end > file_length) {
                return Err(errors::tensor_outside_file(
                    name,
                    tensor.bytes,
                    data_start,
                    tensor.offset,
                    file_length,
                ));
            }
            self.insert(name, tensor, data_start);
        }
        Ok(())
    }

    fn insert(&mut self, name: &'a str, tensor: RawTensor, data_start: u64) {
        let RawTensor {
            shape,
            storage,
            offset,
            bytes,
        } = tensor;
        match storage {
            Storage::Computable(kind) => {
                let info = TensorInfo {
                    shape,
                    kind,
                    part: 0,
                    offset: data_start + offset,
                    bytes,
                };
                self.tensors.insert(name, info);
            }
            Storage::Foreign(kind) => {
                let foreign = ForeignTensor { shape, kind, bytes };
                self.foreign.insert(name, foreign);
            }
        }
    }

    /// Tensors that the built-in engine cannot compute with, by name.
    pub fn foreign_tensors(&self) -> &BTreeMap<&'a str, ForeignTensor> {
        &self.foreign
    }

    /// Shape of a tensor of any type.
    pub(crate) fn shape(&self, name: &str) -> Option<&[u64]> {
        let own = self.tensors.get(name).map(|info| &info.shape);
        let shape = own.or_else(|| self.foreign.get(name).map(|foreign| &foreign.shape));
        shape.map(Vec::as_slice)
    }

    /// Shape, name of the type and size in bytes of each tensor.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&[u64], &'static str, u64)> {
        let own = self.tensors.values();
        let own = own.map(|info| (info.shape.as_slice(), info.kind.name(), info.bytes));
        let foreign = self.foreign.values();
        own.chain(foreign.map(|f| (f.shape.as_slice(), f.kind.name(), f.bytes)))
    }

    /// Checks that the built-in engine can compute with all tensors.
    ///
    /// Errors: `UNSUPPORTED_QUANTIZATION`.
    pub fn check_types(&self) -> Result<(), Diagnostic> {
        match self.foreign.first_key_value() {
            Some((name, foreign)) => Err(foreign.kind.refusal(name)),
            None => Ok(()),
        }
    }

    /// Tensors that the built-in engine can compute with, by name.
    pub fn tensors(&self) -> &BTreeMap<&'a str, TensorInfo> {
        &self.tensors
    }

    /// Metadata by key.
    pub fn metadata(&self) -> &BTreeMap<&'a str, Value<'a>> {
        &self.metadata
    }

    /// Returns a tensor and its data, which must be within the bytes passed to [`Gguf::parse`].
    pub fn tensor(&self, name: &str) -> Result<(&TensorInfo, &'a [u8]), Diagnostic> {
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| errors::missing_tensor(name))?;
        let range = info.offset as usize..(info.offset + info.bytes) as usize;
        let data = self
            .parts
            .get(info.part)
            .and_then(|part| part.get(range))
            .ok_or_else(|| errors::tensor_not_loaded(name))?;
        Ok((info, data))
    }

    /// Returns a string value: `None` if the key is absent, an error if it has another type.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::String(raw)) => std::str::from_utf8(raw)
                .map(Some)
                .map_err(|_| errors::wrong_value(key, "UTF-8", "not UTF-8")),
            Some(other) => Err(errors::wrong_type(key, "string", other.kind())),
        }
    }

    /// Returns the model architecture: `llama`, `qwen2`.
    pub fn architecture(&self) -> Result<&'a str, Diagnostic> {
        let key = "general.architecture";
        self.required(key, self.string(key)?)
    }

    /// Returns an integer value, which must fit `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Integer(i)) => u32::try_from(*i)
                .map(Some)
                .map_err(|_| errors::wrong_value(key, "an unsigned 32-bit integer", i)),
            Some(other) => Err(errors::wrong_type(key, "integer", other.kind())),
        }
    }

    /// Returns a float value, which must be finite.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(f)) if f.is_finite() => Ok(Some(*f as f32)),
            Some(Value::Float(f)) => Err(errors::wrong_value(key, "a finite float", f)),
            Some(other) => Err(errors::wrong_type(key, "float", other.kind())),
        }
    }

    /// Returns a boolean value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(errors::wrong_type(key, "bool", other.kind())),
        }
    }

    /// Returns an array of any element type.
    pub fn array(&self, key: &str) -> Result<Option<Array<'a>>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(*array)),
            Some(other) => Err(errors::wrong_type(key, "array", other.kind())),
        }
    }

    /// Returns an array of UTF-8 strings.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>, Diagnostic> {
        self.collect(key, "UTF-8 string", |value| match value {
            Value::String(raw) => std::str::from_utf8(raw).ok(),
            _ => None,
        })
    }

    /// Returns an array of integers, which must fit `i64`.
    pub fn i64s(&self, key: &str) -> Result<Option<Vec<i64>>, Diagnostic> {
        self.collect(key, "signed 64-bit integer", |value| match value {
            Value::Integer(i) => i64::try_from(i).ok(),
            _ => None,
        })
    }

    /// Returns an array of floats.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, Diagnostic> {
        self.collect(key, "float", |value| match value {
            Value::Float(f) => Some(f as f32),
            _ => None,
        })
    }

    fn collect<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Diagnostic> {
        let Some(array) = self.array(key)? else {
            return Ok(None);
        };
        array
            .iter()
            .map(|value| {
                read(value).ok_or_else(|| errors::wrong_element(key, expected, value.kind()))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Returns the value of a required key, or an error that names the missing key.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, Diagnostic> {
        value.ok_or_else(|| errors::missing_key(key))
    }
}

fn read_metadata<'a>(
    cursor: &mut Cursor<'a>,
    count: u64,
) -> Result<BTreeMap<&'a str, Value<'a>>, Diagnostic> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let at = cursor.position();
        let key = cursor.name("a metadata key", MAX_KEY_BYTES)?;
        let value = read_value(cursor)?;
        if metadata.insert(key, value).is_some() {
            return Err(errors::duplicate(at, "key", key));
        }
    }
    Ok(metadata)
}

/// Reads a tensor info, whose offset is relative to the start of the data.
fn read_tensor_info(
    cursor: &mut Cursor<'_>,
    name: &str,
    alignment: u64,
) -> Result<RawTensor, Diagnostic> {
    let at = cursor.position();
    let dimensions = cursor.u32("the number of dimensions")?;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(errors::dimension_count(
            at,
            name,
            dimensions,
            MAX_DIMENSIONS,
        ));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        shape.push(cursor.u64("a dimension")?);
    }
    let storage = Storage::from_number(cursor.u32("the tensor type")?, name)?;
    let (block_size, block_bytes) = storage.block();
    let offset = cursor.u64("the tensor offset")?;

    let row = shape[0];
    let elements = shape
        .iter()
        .try_fold(1_u64, |product, &size| product.checked_mul(size));
    let bytes = elements
        .filter(|&n| n > 0 && row % block_size == 0)
        .and_then(|n| (n / block_size).checked_mul(block_bytes));
    let Some(bytes) = bytes else {
        return Err(errors::invalid_shape(at, name, storage.name(), &shape));
    };
    if offset % alignment != 0 {
        return Err(errors::misaligned(at, name, offset, alignment));
    }
    shape.reverse();
    Ok(RawTensor {
        shape,
        storage,
        offset,
        bytes,
    })
}
