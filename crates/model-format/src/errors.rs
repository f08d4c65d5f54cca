//! The errors of this crate, each with its message and hint.

use std::{fmt::Display, io, path::Path};

use diagnostics::{Code, Diagnostic, escape, excerpt};

/// Maximum length of a name from a file in a message.
const MAX_NAME_CHARS: usize = 80;
/// Maximum length of the message of a parser, which may quote the file.
const MAX_REASON_CHARS: usize = 300;

const DAMAGED: &str = "download the file again: it is truncated or damaged";
const FAULTY: &str =
    "download or convert the model again: it is damaged or was written by a faulty converter";

/// Prepends the path of the affected file to the message.
#[must_use]
pub fn about_file(mut error: Diagnostic, path: &Path) -> Diagnostic {
    error.message = format!("{}: {}", shown(path), error.message);
    error
}

fn shown(path: &Path) -> String {
    escape(&path.display().to_string())
}

fn quoted(text: &str) -> String {
    excerpt(text, MAX_NAME_CHARS)
}

fn reason(error: &serde_json::Error) -> String {
    excerpt(&error.to_string(), MAX_REASON_CHARS)
}

/// A file whose structure is wrong at `offset`.
fn damaged(offset: u64, message: impl Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("damaged model file at byte {offset}: {message}"),
    )
    .hint(DAMAGED)
    .detail("offset", offset)
}

fn faulty(message: String) -> Diagnostic {
    Diagnostic::new(Code::InvalidModelFile, message).hint(FAULTY)
}

// Split models.

pub(crate) fn missing_part(path: &Path, part: usize, count: usize) -> Diagnostic {
    let error = Diagnostic::new(
        Code::ModelNotFound,
        format!("part {part} of {count} of the model is missing"),
    );
    about_file(error, path).hint(format!(
        "download all {count} parts of the model into one directory"
    ))
}

/// `found` and `expected` are the number of a part, from 1, and the number of parts.
pub(crate) fn wrong_part(found: (usize, usize), expected: (usize, usize)) -> Diagnostic {
    let message = format!(
        "the file is part {} of {} of a model, expected part {} of {}",
        found.0, found.1, expected.0, expected.1
    );
    let hint = if found.1 > 1 {
        format!(
            "give the part its original name, which ends with `-{:05}-of-{:05}.gguf`, next to the \
             other parts",
            found.0, found.1
        )
    } else {
        "remove the part numbers from the name of a model that is not split".to_owned()
    };
    Diagnostic::new(Code::InvalidModelFile, message).hint(hint)
}

pub(crate) fn tensor_in_two_parts(name: &str, first: usize, second: usize) -> Diagnostic {
    faulty(format!(
        "tensor `{}` is in part {first} and in part {second}",
        quoted(name)
    ))
}

pub(crate) fn tensor_count(found: usize, expected: u32) -> Diagnostic {
    faulty(format!(
        "the parts have {found} tensors together, expected {expected}"
    ))
}

pub(crate) fn no_parts() -> Diagnostic {
    faulty("the model has no files".to_owned())
}

// Reading values.

pub(crate) fn truncated(offset: u64, what: &str, bytes: u64, left: u64) -> Diagnostic {
    damaged(
        offset,
        format!("{what} needs {bytes} bytes, but {left} remain"),
    )
}

pub(crate) fn name_length(offset: u64, what: &str, bytes: usize, limit: usize) -> Diagnostic {
    damaged(
        offset,
        format!("{what} has {bytes} bytes, expected 1 to {limit}"),
    )
}

pub(crate) fn name_not_utf8(offset: u64, what: &str) -> Diagnostic {
    damaged(offset, format!("{what} is not UTF-8"))
}

pub(crate) fn count_too_large(offset: u64, count: u64, what: &str, left: u64) -> Diagnostic {
    damaged(
        offset,
        format!("{count} {what} do not fit in the remaining {left} bytes"),
    )
}

pub(crate) fn unknown_value_type(offset: u64, number: u32) -> Diagnostic {
    damaged(
        offset,
        format!("expected a value type from 0 to 12, found {number}"),
    )
}

pub(crate) fn invalid_bool(offset: u64, byte: u8) -> Diagnostic {
    damaged(offset, format!("expected a bool (0 or 1), found {byte}"))
}

pub(crate) fn nested_too_deeply(offset: u64, limit: u32) -> Diagnostic {
    damaged(
        offset,
        format!("arrays are nested deeper than {limit} levels"),
    )
}

// GGUF headers.

pub(crate) fn not_gguf(start: &[u8]) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("not a GGUF file: it starts with `{}`", start.escape_ascii()),
    )
    .hint(
        "use a file in the GGUF format; a web page or a Git LFS pointer may have been \
         downloaded in its place",
    )
}

pub(crate) fn big_endian(offset: u64) -> Diagnostic {
    damaged(offset, "the file is big-endian, expected little-endian")
}

pub(crate) fn unsupported_version(offset: u64, version: u32) -> Diagnostic {
    damaged(
        offset,
        format!("expected GGUF version 2 or 3, found {version}"),
    )
}

pub(crate) fn invalid_alignment(alignment: u64, limit: u64) -> Diagnostic {
    damaged(
        0,
        format!("`general.alignment` is {alignment}, expected a power of two up to {limit}"),
    )
}

pub(crate) fn duplicate(offset: u64, what: &str, name: &str) -> Diagnostic {
    damaged(offset, format!("duplicate {what} `{}`", quoted(name)))
}

pub(crate) fn dimension_count(offset: u64, tensor: &str, count: u32, limit: u32) -> Diagnostic {
    damaged(
        offset,
        format!(
            "tensor `{}` has {count} dimensions, expected 1 to {limit}",
            quoted(tensor)
        ),
    )
}

pub(crate) fn invalid_shape(offset: u64, tensor: &str, kind: &str, shape: &[u64]) -> Diagnostic {
    damaged(
        offset,
        format!(
            "tensor `{}` of type {kind} has the invalid shape {shape:?}",
            quoted(tensor)
        ),
    )
}

pub(crate) fn misaligned(offset: u64, tensor: &str, start: u64, alignment: u64) -> Diagnostic {
    damaged(
        offset,
        format!(
            "the offset {start} of tensor `{}` is not a multiple of {alignment}",
            quoted(tensor)
        ),
    )
}

/// The tensor occupies `bytes` from `offset` after `data_start`.
pub(crate) fn tensor_outside_file(
    tensor: &str,
    bytes: u64,
    data_start: u64,
    offset: u64,
    file_length: u64,
) -> Diagnostic {
    damaged(
        file_length,
        format!(
            "tensor `{}` has {bytes} bytes from byte {data_start} + {offset} on, but the file \
             has {file_length}",
            quoted(tensor)
        ),
    )
}

pub(crate) fn missing_tensor(name: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("the model has no tensor `{}`", quoted(name)),
    )
    .hint(
        "download or convert the model again: the file is incomplete or declares the wrong \
         architecture",
    )
}

pub(crate) fn tensor_not_loaded(name: &str) -> Diagnostic {
    Diagnostic::internal(format!(
        "the data of tensor `{}` is not loaded",
        quoted(name)
    ))
}

pub(crate) fn missing_key(key: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("the model file has no key `{}`", quoted(key)),
    )
    .hint("convert the model again with a current converter")
}

pub(crate) fn wrong_type(key: &str, expected: &str, found: &str) -> Diagnostic {
    faulty(format!(
        "`{}` has type {found}, expected {expected}",
        quoted(key)
    ))
}

pub(crate) fn wrong_element(key: &str, expected: &str, found: &str) -> Diagnostic {
    faulty(format!(
        "`{}` has an element of type {found}, expected {expected}",
        quoted(key)
    ))
}

pub(crate) fn wrong_value(key: &str, expected: &str, found: impl Display) -> Diagnostic {
    faulty(format!("`{}` is {found}, expected {expected}", quoted(key)))
}

pub(crate) fn gguf_header_too_long(bytes: u64, limit: u64) -> Diagnostic {
    damaged(
        0,
        format!("the header needs at least {bytes} bytes, and the limit is {limit}"),
    )
}

// Safetensors headers.

pub(crate) fn header_too_long(bytes: u64, file_length: u64, limit: u64) -> Diagnostic {
    damaged(
        0,
        format!(
            "the header claims {bytes} bytes, but the file has {file_length} and the limit is \
             {limit}"
        ),
    )
}

pub(crate) fn header_json(offset: u64, error: &serde_json::Error) -> Diagnostic {
    damaged(
        offset,
        format!("cannot parse the header: {}", reason(error)),
    )
}

pub(crate) fn tensor_json(offset: u64, tensor: &str, error: &serde_json::Error) -> Diagnostic {
    damaged(
        offset,
        format!(
            "invalid description of tensor `{}`: {}",
            quoted(tensor),
            reason(error)
        ),
    )
}

pub(crate) fn range_mismatch(
    offset: u64,
    tensor: &str,
    shape: &[u64],
    kind: &str,
    (start, end): (u64, u64),
) -> Diagnostic {
    damaged(
        offset,
        format!(
            "tensor `{}` of shape {shape:?} and type {kind} does not fill the bytes {start} to \
             {end}",
            quoted(tensor)
        ),
    )
}

pub(crate) fn tensor_ends_outside_file(
    tensor: &str,
    data_start: u64,
    end: u64,
    file_length: u64,
) -> Diagnostic {
    damaged(
        file_length,
        format!(
            "tensor `{}` ends at byte {data_start} + {end}, but the file has {file_length}",
            quoted(tensor)
        ),
    )
}

pub(crate) fn overlapping_tensors(offset: u64, first: &str, second: &str) -> Diagnostic {
    damaged(
        offset,
        format!(
            "tensors `{}` and `{}` overlap",
            quoted(first),
            quoted(second)
        ),
    )
}

// Both formats.

/// A tensor type that no engine computes with; `supported` are the types of the file format.
pub(crate) fn unsupported_type(
    tensor: &str,
    found: &str,
    supported: impl Iterator<Item = &'static str>,
) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedQuantization,
        format!(
            "tensor `{}` has the unsupported type {}",
            quoted(tensor),
            quoted(found)
        ),
    )
    .hint(format!(
        "use a file that has only tensors of these types: {}",
        supported.collect::<Vec<_>>().join(", ")
    ))
}

pub(crate) fn invalid_header(
    architecture: &str,
    field: &str,
    value: impl Display,
    expected: impl Display,
) -> Diagnostic {
    faulty(format!(
        "invalid header of the {} model: {field} = {value}, expected {expected}",
        quoted(architecture)
    ))
}

pub(crate) fn config_json(error: &serde_json::Error) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("cannot parse `config.json`: {}", reason(error)),
    )
    .hint("use the `config.json` of a Hugging Face text model")
}

// Files and directories.

pub(crate) fn io_error(path: &Path, error: &io::Error) -> Diagnostic {
    let path = shown(path);
    match error.kind() {
        io::ErrorKind::NotFound => {
            Diagnostic::new(Code::ModelNotFound, format!("{path} does not exist"))
                .hint("check the path of the model")
        }
        _ => Diagnostic::new(
            Code::StateUnusable,
            format!("{path} cannot be read: {error}"),
        )
        .hint("check the permissions of the file"),
    }
}

pub(crate) fn not_a_regular_file(path: &Path) -> Diagnostic {
    let error = Diagnostic::new(Code::InvalidModelFile, "not a regular file")
        .hint("check the path of the model");
    about_file(error, path)
}

pub(crate) fn file_too_large(path: &Path, limit: u64) -> Diagnostic {
    about_file(
        faulty(format!("the file has more than {limit} bytes")),
        path,
    )
}

pub(crate) fn no_safetensors(directory: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!(
            "{} contains neither `model.safetensors` nor `model.safetensors.index.json`",
            shown(directory)
        ),
    )
    .hint(
        "specify a GGUF file, or a directory with `config.json`, `tokenizer.json` and \
         safetensors files",
    )
}

pub(crate) fn index_json(error: &serde_json::Error) -> Diagnostic {
    faulty(format!("cannot parse the index: {}", reason(error)))
}

pub(crate) fn file_outside_directory(name: &str) -> Diagnostic {
    faulty(format!(
        "the index names `{}`, which is not a file in its directory",
        quoted(name)
    ))
}
