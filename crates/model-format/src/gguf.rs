use std::collections::BTreeMap;

use diagnostics::{Code, Diagnostic, escape};

use crate::{
    cursor::Cursor,
    invalid,
    tensor_type::TensorType,
    value::{Array, Value, read_value},
};

const MAGIC: &[u8] = b"GGUF";
/// How much of a file that is something else is told.
const START_BYTES: usize = 32;
const MAX_KEY_BYTES: usize = 65_535;
const MAX_TENSOR_NAME_BYTES: usize = 1024;
const MAX_DIMENSIONS: u32 = 4;
const MAX_ALIGNMENT: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;

/// Where a tensor is and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Sizes, slowest first (rows, columns): the reverse of the order in the file.
    pub shape: Vec<u64>,
    /// How its numbers are stored.
    pub kind: TensorType,
    /// Where its data begins, from the start of the file.
    pub offset: u64,
    /// Bytes of its data.
    pub bytes: u64,
}

impl TensorInfo {
    /// Numbers in it.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// The header of a GGUF file, checked; strings and arrays point into the bytes given.
#[derive(Debug, Clone)]
pub struct Gguf<'a> {
    bytes: &'a [u8],
    metadata: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, TensorInfo>,
}

impl<'a> Gguf<'a> {
    /// Reads a whole file that is in memory or mapped.
    pub fn parse(file: &'a [u8]) -> Result<Self, Diagnostic> {
        Self::parse_header(file, file.len() as u64)
    }

    /// Reads the header from the first bytes of a file of `file_length` bytes.
    pub fn parse_header(head: &'a [u8], file_length: u64) -> Result<Self, Diagnostic> {
        let mut cursor = Cursor::new(head);
        let start = &head[..head.len().min(MAGIC.len())];
        if !MAGIC.starts_with(start) {
            return Err(not_gguf(head));
        }
        cursor.take(MAGIC.len() as u64, "the magic `GGUF`")?;
        let version = cursor.u32("the version")?;
        if version.swap_bytes() == 2 || version.swap_bytes() == 3 {
            return Err(invalid(4, "the file is big-endian, expected little-endian"));
        }
        if !(2..=3).contains(&version) {
            return Err(invalid(
                4,
                format!("expected GGUF version 2 or 3, found {version}"),
            ));
        }
        let tensor_count = cursor.u64("the tensor count")?;
        let value_count = cursor.u64("the metadata count")?;
        // A tensor takes a name of 1 byte, one dimension, type and offset; a value a key of
        // 1 byte, a type and a byte.
        cursor.check_count(tensor_count, 33, "tensors")?;
        cursor.check_count(value_count, 14, "metadata values")?;

        let metadata = read_metadata(&mut cursor, value_count)?;
        let mut gguf = Self {
            bytes: head,
            metadata,
            tensors: BTreeMap::new(),
        };
        let alignment = gguf.alignment()?;
        gguf.read_tensors(&mut cursor, tensor_count, alignment, file_length)?;
        Ok(gguf)
    }

    fn alignment(&self) -> Result<u64, Diagnostic> {
        let Some(alignment) = self.u32("general.alignment")? else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        let alignment = u64::from(alignment);
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return Err(invalid(
                0,
                format!(
                    "`general.alignment` is {alignment}, expected a power of two up to {MAX_ALIGNMENT}"
                ),
            ));
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
        // Offsets count from the start of the data, which is known only after the last info.
        for _ in 0..count {
            let at = cursor.position();
            let name = cursor.name("a tensor name", MAX_TENSOR_NAME_BYTES)?;
            let info = read_tensor_info(cursor, name, alignment)?;
            if self.tensors.insert(name, info).is_some() {
                return Err(invalid(
                    at,
                    format!("tensor `{}` occurs twice", escape(name)),
                ));
            }
        }
        let data_start = cursor.position().next_multiple_of(alignment);
        for (name, info) in &mut self.tensors {
            let end = data_start
                .checked_add(info.offset)
                .and_then(|start| start.checked_add(info.bytes));
            match end {
                Some(end) if end <= file_length => info.offset += data_start,
                _ => {
                    return Err(invalid(
                        file_length,
                        format!(
                            "tensor `{}` has {} bytes from {data_start} + {}, the file has {file_length}",
                            escape(name),
                            info.bytes,
                            info.offset
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<&'a str, TensorInfo> {
        &self.tensors
    }

    /// All metadata by key.
    pub fn metadata(&self) -> &BTreeMap<&'a str, Value<'a>> {
        &self.metadata
    }

    /// A tensor and its bytes, which must be among those given to [`Gguf::parse`].
    pub fn tensor(&self, name: &str) -> Result<(&TensorInfo, &'a [u8]), Diagnostic> {
        let info = self.tensors.get(name).ok_or_else(|| {
            Diagnostic::new(
                Code::InvalidModelFile,
                format!("the model has no tensor `{}`", escape(name)),
            )
            .hint("the file is incomplete, or not of the architecture that it says")
        })?;
        let range = info.offset as usize..(info.offset + info.bytes) as usize;
        let data = self.bytes.get(range).ok_or_else(|| {
            Diagnostic::internal(format!(
                "the data of tensor `{}` is not loaded",
                escape(name)
            ))
        })?;
        Ok((info, data))
    }

    /// A string; `None` when the key is absent, an error when it is something else.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::String(raw)) => std::str::from_utf8(raw)
                .map(Some)
                .map_err(|_| wrong(key, "UTF-8", "other bytes")),
            Some(other) => Err(wrong(key, "a string", other.kind())),
        }
    }

    /// The family of the model: `llama`, `qwen2`.
    pub fn architecture(&self) -> Result<&'a str, Diagnostic> {
        let key = "general.architecture";
        self.required(key, self.string(key)?)
    }

    /// A number that fits `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Integer(i)) => u32::try_from(*i)
                .map(Some)
                .map_err(|_| wrong(key, "a number of 32 bits", &i.to_string())),
            Some(other) => Err(wrong(key, "an integer", other.kind())),
        }
    }

    /// A finite float.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(f)) if f.is_finite() => Ok(Some(*f as f32)),
            Some(Value::Float(f)) => Err(wrong(key, "a finite float", &f.to_string())),
            Some(other) => Err(wrong(key, "a float", other.kind())),
        }
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(wrong(key, "a bool", other.kind())),
        }
    }

    /// An array.
    pub fn array(&self, key: &str) -> Result<Option<Array<'a>>, Diagnostic> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(*array)),
            Some(other) => Err(wrong(key, "an array", other.kind())),
        }
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>, Diagnostic> {
        self.collect(key, "strings", |value| match value {
            Value::String(raw) => std::str::from_utf8(raw).ok(),
            _ => None,
        })
    }

    /// An array of integers.
    pub fn i64s(&self, key: &str) -> Result<Option<Vec<i64>>, Diagnostic> {
        self.collect(key, "integers", |value| match value {
            Value::Integer(i) => i64::try_from(i).ok(),
            _ => None,
        })
    }

    /// An array of floats.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, Diagnostic> {
        self.collect(key, "floats", |value| match value {
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
                read(value)
                    .ok_or_else(|| wrong(key, &format!("an array of {expected}"), value.kind()))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The value of a key that a model cannot do without.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, Diagnostic> {
        value.ok_or_else(|| {
            Diagnostic::new(
                Code::InvalidModelFile,
                format!("the model file lacks the key `{}`", escape(key)),
            )
            .hint("convert the model again with a current converter")
        })
    }
}

fn not_gguf(head: &[u8]) -> Diagnostic {
    let start = String::from_utf8_lossy(&head[..head.len().min(START_BYTES)]);
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "this is not a GGUF file: it begins with `{}`",
            escape(&start)
        ),
    )
    .hint(
        "name a model in the GGUF format; where one was expected, a web page or a Git LFS \
         pointer may have been downloaded in its place",
    )
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
            return Err(invalid(at, format!("key `{}` occurs twice", escape(key))));
        }
    }
    Ok(metadata)
}

/// Reads an info; its offset still counts from the start of the data.
fn read_tensor_info(
    cursor: &mut Cursor<'_>,
    name: &str,
    alignment: u64,
) -> Result<TensorInfo, Diagnostic> {
    let at = cursor.position();
    let dimensions = cursor.u32("the number of dimensions")?;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(invalid(
            at,
            format!(
                "tensor `{}` has {dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}",
                escape(name)
            ),
        ));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        shape.push(cursor.u64("a dimension")?);
    }
    let kind = TensorType::from_number(cursor.u32("the tensor type")?, name)?;
    let offset = cursor.u64("the tensor offset")?;

    let row = shape[0];
    let elements = shape
        .iter()
        .try_fold(1_u64, |product, &size| product.checked_mul(size));
    let bytes = elements
        .filter(|&n| n > 0 && row % kind.block_size() == 0)
        .and_then(|n| (n / kind.block_size()).checked_mul(kind.block_bytes()));
    let Some(bytes) = bytes else {
        return Err(invalid(
            at,
            format!(
                "tensor `{}` of type {} has the impossible shape {shape:?}",
                escape(name),
                kind.name()
            ),
        ));
    };
    if offset % alignment != 0 {
        return Err(invalid(
            at,
            format!(
                "the offset {offset} of tensor `{}` is not a multiple of {alignment}",
                escape(name)
            ),
        ));
    }
    shape.reverse();
    Ok(TensorInfo {
        shape,
        kind,
        offset,
        bytes,
    })
}

fn wrong(key: &str, expected: &str, found: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("`{}` is {found}, expected {expected}", escape(key)),
    )
    .hint("the file is damaged or was made by a faulty converter")
}
