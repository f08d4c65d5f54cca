use std::{fs, io, ops::Range, path::Path};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

/// Numbers that break faulty arithmetic on counts and offsets.
const EXTREME_NUMBERS: [u64; 14] = [
    0,
    1,
    7,
    31,
    255,
    256,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff0,
    u64::MAX,
];
/// Maximum size of a repeated part.
const MAX_REPEATED_BYTES: usize = 1 << 16;

/// Small valid files of one format.
#[derive(Debug, Clone)]
pub struct Corpus {
    files: Vec<Vec<u8>>,
    words: Vec<&'static str>,
}

/// A single damage to a file.
#[derive(Debug, Clone)]
enum Damage {
    /// Flips bits of a byte.
    Flip { at: Index, bits: u8 },
    /// Overwrites bytes with a little-endian number.
    Number {
        at: Index,
        bytes: usize,
        number: u64,
    },
    /// Removes a part.
    Cut { from: Index, length: Index },
    /// Truncates the file.
    Truncate { at: Index },
    /// Repeats a part.
    Repeat {
        from: Index,
        length: Index,
        times: usize,
    },
    /// Inserts bytes.
    Insert { at: Index, bytes: Vec<u8> },
    /// Inserts a part of a file of the corpus.
    Splice {
        at: Index,
        file: Index,
        from: Index,
        length: Index,
    },
}

impl Corpus {
    /// Reads the files of a directory. `words` are fragments of the format, inserted at random.
    ///
    /// Fails if the directory has no files.
    pub fn read(directory: &Path, words: &[&'static str]) -> io::Result<Self> {
        let mut paths = fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        // Failing cases must be reproducible.
        paths.sort();
        let files = paths.iter().map(fs::read).collect::<io::Result<Vec<_>>>()?;
        if files.is_empty() {
            return Err(io::Error::other(format!(
                "{} is empty",
                directory.display()
            )));
        }
        let words = words.to_vec();
        Ok(Self { files, words })
    }

    /// The intact files, sorted by name.
    pub fn files(&self) -> &[Vec<u8>] {
        &self.files
    }

    /// Generates a file with one to five damages.
    pub fn damaged(&self) -> impl Strategy<Value = Vec<u8>> + use<> {
        let files = self.files.clone();
        let words: Vec<Vec<u8>> = self.words.iter().map(|w| w.as_bytes().to_vec()).collect();
        (any::<Index>(), vec(damage(words), 1..6)).prop_map(move |(file, damages)| {
            let mut bytes = file.get(&files).clone();
            for damage in damages {
                damage.apply(&mut bytes, &files);
            }
            bytes
        })
    }

    /// Like [`Self::damaged`], as text: invalid UTF-8 becomes U+FFFD.
    pub fn damaged_text(&self) -> impl Strategy<Value = String> + use<> {
        self.damaged()
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn damage(words: Vec<Vec<u8>>) -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    let bytes = if words.is_empty() {
        vec(any::<u8>(), 1..9).boxed()
    } else {
        prop_oneof![1 => vec(any::<u8>(), 1..9), 4 => select(words)].boxed()
    };
    let number = prop_oneof![select(EXTREME_NUMBERS.to_vec()), 0..4096_u64];
    prop_oneof![
        3 => (index(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip { at, bits }),
        3 => (index(), select(vec![1, 2, 4, 8]), number)
            .prop_map(|(at, bytes, number)| Damage::Number { at, bytes, number }),
        2 => (index(), index()).prop_map(|(from, length)| Damage::Cut { from, length }),
        1 => index().prop_map(|at| Damage::Truncate { at }),
        1 => (index(), index(), 1..40_usize)
            .prop_map(|(from, length, times)| Damage::Repeat { from, length, times }),
        3 => (index(), bytes).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        1 => (index(), index(), index(), index())
            .prop_map(|(at, file, from, length)| Damage::Splice { at, file, from, length }),
    ]
}

/// Selects a part that starts at `from` and is usually short.
fn part(bytes: &[u8], from: Index, length: Index) -> Range<usize> {
    if bytes.is_empty() {
        return 0..0;
    }
    let start = from.index(bytes.len());
    let left = bytes.len() - start;
    let short = left.min(16);
    let longest = if length.index(4) == 0 { left } else { short };
    start..start + 1 + length.index(longest)
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>, files: &[Vec<u8>]) {
        let at = |index: Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Self::Flip { at: index, bits } => {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] ^= bits;
                }
            }
            Self::Number {
                at: index,
                bytes: width,
                number,
            } => {
                let at = at(index, bytes);
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, number.to_le_bytes()[..width].iter().copied());
            }
            Self::Cut { from, length } => {
                let cut = part(bytes, from, length);
                bytes.drain(cut);
            }
            Self::Truncate { at: index } => bytes.truncate(at(index, bytes)),
            Self::Repeat {
                from,
                length,
                times,
            } => {
                let part = part(bytes, from, length);
                let repeated = bytes[part.clone()].repeat(times);
                if repeated.len() < MAX_REPEATED_BYTES {
                    bytes.splice(part.end..part.end, repeated);
                }
            }
            Self::Insert {
                at: index,
                bytes: inserted,
            } => {
                let at = at(index, bytes);
                bytes.splice(at..at, inserted);
            }
            Self::Splice {
                at: index,
                file,
                from,
                length,
            } => {
                let other = file.get(files);
                let part = other[part(other, from, length)].to_vec();
                let at = at(index, bytes);
                bytes.splice(at..at, part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    use serde_json::Value;

    use super::*;

    fn samples<T: std::fmt::Debug>(strategy: &impl Strategy<Value = T>) -> Vec<T> {
        let mut runner = TestRunner::deterministic();
        let mut sample = || strategy.new_tree(&mut runner).unwrap().current();
        (0..200).map(|_| sample()).collect()
    }

    #[test]
    fn most_samples_differ_from_the_corpus() {
        let files = [r#"{"a": [1, 2, 3], "b": {"c": "text"}}"#, r#"["x", "y"]"#];
        let corpus = Corpus {
            files: files.map(|file| file.as_bytes().to_vec()).to_vec(),
            words: vec!["<word>"],
        };
        let damaged = samples(&corpus.damaged());
        let intact = damaged.iter().filter(|file| corpus.files.contains(file));
        assert!(intact.count() < 20);
        let text = samples(&corpus.damaged_text());
        assert!(text.iter().any(|file| file.contains("<word>")));
        assert!(text.iter().any(|file| file.len() > 100));

        let documents = files.map(|file| serde_json::from_str::<Value>(file).unwrap());
        let changed = samples(&corpus.changed_json());
        let intact = changed.iter().filter(|value| documents.contains(value));
        assert!(intact.count() < 20);
    }
}
