use std::{fs::File, path::Path};

use object::{
    Endianness,
    elf::FileHeader64,
    read::{
        ReadCache,
        elf::{FileHeader as _, SectionHeader as _},
    },
};

/// A version of the GNU C library.
pub(super) type Version = (u32, u32);

/// Returns the oldest version of the GNU C library that has all symbols that a program uses (the
/// section `.gnu.version_r`, Linux Standard Base). `None` if it uses none, or is not a program of
/// Linux.
pub(super) fn needed_by(program: &Path) -> Option<Version> {
    let data = &ReadCache::new(File::open(program).ok()?);
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let mut newest = None;
    for section in sections.iter() {
        let Some((mut needs, link)) = section.gnu_verneed(endian, data).ok()? else {
            continue;
        };
        let strings = sections.strings(endian, data, link).ok()?;
        while let Some((_, mut symbols)) = needs.next().ok()? {
            while let Some(symbol) = symbols.next().ok()? {
                let name = symbol.name(endian, strings).ok()?;
                newest = newest.max(version(name));
            }
        }
    }
    newest
}

/// Parses the name of a set of symbols: `GLIBC_2.34`.
fn version(name: &[u8]) -> Option<Version> {
    let text = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version(b"GLIBC_2.34"), Some((2, 34)));
        assert_eq!(version(b"GLIBC_2.2.5"), Some((2, 2)));
        assert!(version(b"GLIBC_2.9") < version(b"GLIBC_2.14"));
        for other in [&b"GCC_3.0"[..], b"GLIBC_PRIVATE", b"", b"\xff"] {
            assert_eq!(version(other), None);
        }
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn this_program_needs_a_version() {
        let program = std::env::current_exe().unwrap();
        assert!(needed_by(&program).unwrap() >= (2, 2));
        assert_eq!(needed_by(Path::new("/etc/passwd")), None);
        assert_eq!(needed_by(Path::new("/nowhere")), None);
    }
}
