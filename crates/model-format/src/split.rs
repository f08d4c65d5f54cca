//! Models that are split into several GGUF files: `NAME-00001-of-00003.gguf`, ….

use std::path::{Path, PathBuf};

use diagnostics::Diagnostic;

use crate::{
    errors::{self, about_file},
    gguf::Gguf,
};

/// The beginning of a GGUF file, which contains its header, or all of it.
#[derive(Debug, Clone, Copy)]
pub struct GgufFile<'a> {
    /// Path of the file, for errors.
    pub path: &'a Path,
    /// The beginning of the file.
    pub head: &'a [u8],
    /// Size of the file in bytes.
    pub length: u64,
}

/// Returns the files of the model that `path` belongs to, in order: the parts of a split model if
/// the name is one of a part, otherwise `path` alone.
///
/// Errors: `MODEL_NOT_FOUND` with the path of a part that does not exist.
pub fn gguf_parts(path: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(name) = name.and_then(PartName::parse) else {
        return Ok(vec![path.to_owned()]);
    };
    let count = name.count;
    let parts: Vec<PathBuf> = (1..=count)
        .map(|part| path.with_file_name(name.of_part(part)))
        .collect();
    match parts.iter().position(|part| !part.exists()) {
        Some(missing) => Err(errors::missing_part(&parts[missing], missing + 1, count)),
        None => Ok(parts),
    }
}

/// Name of a part of a split model: `STEM-00002-of-00003.gguf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartName<'a> {
    /// Name of the model.
    pub stem: &'a str,
    /// Number of the part, from 1.
    pub part: usize,
    /// Number of parts.
    pub count: usize,
    /// Extension of the file.
    pub extension: &'a str,
}

impl<'a> PartName<'a> {
    /// Splits the name of a file, if it is that of a part.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (name, extension) = name.rsplit_once('.')?;
        let (name, count) = name.rsplit_once("-of-")?;
        let (stem, part) = name.rsplit_once('-')?;
        let number = |digits: &str| -> Option<usize> {
            let is_number = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?
        };
        let (part, count) = (number(part)?, number(count)?);
        let is_part = (1..=count).contains(&part) && extension.eq_ignore_ascii_case("gguf");
        is_part.then_some(Self {
            stem,
            part,
            count,
            extension,
        })
    }

    /// Returns the name of another part of the model.
    #[must_use]
    pub fn of_part(&self, part: usize) -> String {
        let (stem, count, extension) = (self.stem, self.count, self.extension);
        format!("{stem}-{part:05}-of-{count:05}.{extension}")
    }
}

/// Parses the files of one model, in order.
///
/// Errors: those of [`Gguf::parse_header`]; `INVALID_MODEL_FILE` if the files are not the parts of
/// one model, or not all of them. The message starts with the path of the file.
pub fn parse_gguf_parts<'a>(files: &[GgufFile<'a>]) -> Result<Gguf<'a>, Diagnostic> {
    let mut joined: Option<Gguf<'a>> = None;
    for (index, file) in files.iter().enumerate() {
        let about = |error| about_file(error, file.path);
        let part = Gguf::parse_header(file.head, file.length).map_err(about)?;
        let (number, count) = part.part().map_err(about)?;
        if (number as usize, count as usize) != (index, files.len()) {
            let expected = (index + 1, files.len());
            let error = errors::wrong_part((number as usize + 1, count as usize), expected);
            return Err(about(error));
        }
        match &mut joined {
            None => joined = Some(part),
            Some(joined) => joined.append(part).map_err(about)?,
        }
    }
    let gguf = joined.ok_or_else(errors::no_parts)?;
    if let Some(first) = files.first() {
        gguf.check_tensor_count()
            .map_err(|error| about_file(error, first.path))?;
    }
    Ok(gguf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_recognized() {
        let part_name = |name| {
            let PartName {
                stem,
                part,
                count,
                extension,
            } = PartName::parse(name)?;
            Some((stem, part, count, extension))
        };
        assert_eq!(
            part_name("a-b-00002-of-00003.gguf"),
            Some(("a-b", 2, 3, "gguf"))
        );
        assert_eq!(
            part_name("m-00001-of-00001.GGUF"),
            Some(("m", 1, 1, "GGUF"))
        );
        for other in [
            "m.gguf",
            "m-00001-of-00003.bin",
            "m-00004-of-00003.gguf",
            "m-00000-of-00003.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-0000x.gguf",
            "m-+0001-of-00003.gguf",
            "00001-of-00003.gguf",
        ] {
            assert_eq!(part_name(other), None, "{other}");
        }
    }

    #[test]
    fn every_part_leads_to_all_parts_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |part: usize| dir.path().join(format!("m-{part:05}-of-00003.gguf"));
        for part in [1, 2, 3] {
            std::fs::write(path(part), "").unwrap();
        }
        let all: Vec<PathBuf> = (1..=3).map(path).collect();
        for part in &all {
            assert_eq!(gguf_parts(part).unwrap(), all);
        }
        std::fs::remove_file(path(2)).unwrap();
        let error = gguf_parts(&path(3)).unwrap_err();
        assert_eq!(
            error.message,
            format!("{}: part 2 of 3 of the model is missing", path(2).display())
        );
        let single = dir.path().join("m.gguf");
        assert_eq!(gguf_parts(&single).unwrap(), [single]);
    }
}
