use diagnostics::Diagnostic;

use crate::{cursor::Cursor, errors};

/// Maximum nesting of arrays.
const MAX_ARRAY_DEPTH: u32 = 4;

/// GGUF metadata value; strings and arrays borrow from the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// An integer of any width.
    Integer(i128),
    /// A 32-bit or 64-bit float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string, by convention UTF-8.
    String(&'a [u8]),
    /// An array of values of one type.
    Array(Array<'a>),
}

impl Value<'_> {
    /// Name of the type, for error messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "integer",
            Self::Float(_) => "float",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(_) => "array",
        }
    }
}

/// Value types of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Diagnostic> {
        const BY_NUMBER: [Kind; 13] = [
            Kind::U8,
            Kind::I8,
            Kind::U16,
            Kind::I16,
            Kind::U32,
            Kind::I32,
            Kind::F32,
            Kind::Bool,
            Kind::String,
            Kind::Array,
            Kind::U64,
            Kind::I64,
            Kind::F64,
        ];
        let at = cursor.position();
        let number = cursor.u32("a value type")?;
        BY_NUMBER
            .get(number as usize)
            .copied()
            .ok_or_else(|| errors::unknown_value_type(at, number))
    }

    /// Minimum size of a value in bytes.
    fn min_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

/// Validated array, decoded on demand.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    kind: Kind,
    count: u64,
    bytes: &'a [u8],
}

impl PartialEq for Array<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.count, self.bytes) == (other.kind, other.count, other.bytes)
    }
}

impl std::fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array({} of {:?})", self.count, self.kind)
    }
}

impl<'a> Array<'a> {
    /// Number of values.
    pub fn len(&self) -> usize {
        // A value takes at least one byte, so the count fits `usize`.
        self.count as usize
    }

    /// Whether the array has no values.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Iterates over the values.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.bytes);
        let kind = self.kind;
        // Parsing validated all values, so none fails here.
        (0..self.count).map_while(move |_| read(&mut cursor, kind, 1).ok())
    }
}

/// Reads a type and a value of it.
pub(crate) fn read_value<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>, Diagnostic> {
    let kind = Kind::read(cursor)?;
    read(cursor, kind, 0)
}

fn read<'a>(cursor: &mut Cursor<'a>, kind: Kind, depth: u32) -> Result<Value<'a>, Diagnostic> {
    let at = cursor.position();
    let what = "a value";
    Ok(match kind {
        Kind::U8 => Value::Integer(cursor.array::<1>(what)?[0].into()),
        Kind::I8 => Value::Integer(i8::from_le_bytes(cursor.array(what)?).into()),
        Kind::U16 => Value::Integer(u16::from_le_bytes(cursor.array(what)?).into()),
        Kind::I16 => Value::Integer(i16::from_le_bytes(cursor.array(what)?).into()),
        Kind::U32 => Value::Integer(cursor.u32(what)?.into()),
        Kind::I32 => Value::Integer(i32::from_le_bytes(cursor.array(what)?).into()),
        Kind::U64 => Value::Integer(cursor.u64(what)?.into()),
        Kind::I64 => Value::Integer(i64::from_le_bytes(cursor.array(what)?).into()),
        Kind::F32 => Value::Float(f32::from_le_bytes(cursor.array(what)?).into()),
        Kind::F64 => Value::Float(f64::from_le_bytes(cursor.array(what)?)),
        Kind::Bool => match cursor.array::<1>(what)?[0] {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => return Err(errors::invalid_bool(at, other)),
        },
        Kind::String => Value::String(cursor.string("a string")?),
        Kind::Array => {
            if depth == MAX_ARRAY_DEPTH {
                return Err(errors::nested_too_deeply(at, MAX_ARRAY_DEPTH));
            }
            let kind = Kind::read(cursor)?;
            let count = cursor.u64("the length of an array")?;
            cursor.check_count(count, kind.min_bytes(), "array values")?;
            let mut walk = cursor.clone();
            for _ in 0..count {
                if let Err(error) = read(&mut walk, kind, depth + 1) {
                    *cursor = walk;
                    return Err(error);
                }
            }
            let length = walk.position() - cursor.position();
            let bytes = cursor.take(length, "an array")?;
            Value::Array(Array { kind, count, bytes })
        }
    })
}
