//! Damaged files for the tests of every parser of foreign bytes.
//!
//! A [`Corpus`] holds small valid files; [`Corpus::damaged`] makes of them what a broken
//! disk, a faulty converter or an attacker might: flipped bits, impossible numbers, pieces
//! cut, doubled, exchanged, or taken from another file; [`Corpus::changed_json`] changes the
//! values in a document that stays one. The parsers' tests run some seconds
//! each with every `cargo test`; `PROPTEST_CASES=1000000 cargo test -p CRATE --test fuzz`
//! runs one of them for long.

mod json;

use std::{fs, io, ops::Range, path::Path};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

/// Numbers at which arithmetic on counts and offsets goes wrong.
const ODD_NUMBERS: [u64; 14] = [
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
/// Longest that a damaged file becomes by doubling.
const MOST_BYTES: usize = 1 << 16;

/// How many cases a test of a parser runs: `cases`, unless `PROPTEST_CASES` says otherwise.
pub fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|n| n.parse().ok()).unwrap_or(cases),
        // Finding the smallest of a large damaged file takes long and tells little.
        max_shrink_iters: 2000,
        // What was found goes into the corpus, by hand; tests do not write into the checkout.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Small valid files of one kind.
#[derive(Debug, Clone)]
pub struct Corpus {
    files: Vec<Vec<u8>>,
    words: Vec<&'static str>,
}

/// One thing that happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    /// Some bits of a byte are turned over.
    Flip { at: Index, bits: u8 },
    /// A number of so many bytes is written over what was there.
    Number {
        at: Index,
        bytes: usize,
        number: u64,
    },
    /// A piece is lost.
    Cut { from: Index, length: Index },
    /// Everything behind is lost.
    End { at: Index },
    /// A piece occurs several times.
    Repeat {
        from: Index,
        length: Index,
        times: usize,
    },
    /// Bytes appear.
    Insert { at: Index, bytes: Vec<u8> },
    /// A piece of another file appears.
    Splice {
        at: Index,
        file: Index,
        from: Index,
        length: Index,
    },
}

impl Corpus {
    /// The files of that folder. `words` are pieces of the files' language that are put in
    /// at random places as well.
    pub fn read(folder: &Path, words: &[&'static str]) -> io::Result<Self> {
        let mut paths = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()?;
        // Failing cases are repeated by number.
        paths.sort();
        let files = paths.iter().map(fs::read).collect::<io::Result<Vec<_>>>()?;
        if files.is_empty() {
            return Err(io::Error::other(format!("{} is empty", folder.display())));
        }
        let words = words.to_vec();
        Ok(Self { files, words })
    }

    /// The files as they are.
    pub fn files(&self) -> &[Vec<u8>] {
        &self.files
    }

    /// A file, damaged in up to five places.
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

    /// The same as text; what is no UTF-8 becomes U+FFFD.
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
    let number = prop_oneof![select(ODD_NUMBERS.to_vec()), 0..4096_u64];
    prop_oneof![
        3 => (index(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip { at, bits }),
        3 => (index(), select(vec![1, 2, 4, 8]), number)
            .prop_map(|(at, bytes, number)| Damage::Number { at, bytes, number }),
        2 => (index(), index()).prop_map(|(from, length)| Damage::Cut { from, length }),
        1 => index().prop_map(|at| Damage::End { at }),
        1 => (index(), index(), 1..40_usize)
            .prop_map(|(from, length, times)| Damage::Repeat { from, length, times }),
        3 => (index(), bytes).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        1 => (index(), index(), index(), index())
            .prop_map(|(at, file, from, length)| Damage::Splice { at, file, from, length }),
    ]
}

/// A piece that begins at `from`, most often a short one.
fn piece(bytes: &[u8], from: Index, length: Index) -> Range<usize> {
    if bytes.is_empty() {
        return 0..0;
    }
    let begin = from.index(bytes.len());
    let left = bytes.len() - begin;
    let short = left.min(16);
    let longest = if length.index(4) == 0 { left } else { short };
    begin..begin + 1 + length.index(longest)
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
                let cut = piece(bytes, from, length);
                bytes.drain(cut);
            }
            Self::End { at: index } => bytes.truncate(at(index, bytes)),
            Self::Repeat {
                from,
                length,
                times,
            } => {
                let piece = piece(bytes, from, length);
                let repeated = bytes[piece.clone()].repeat(times);
                if repeated.len() < MOST_BYTES {
                    bytes.splice(piece.end..piece.end, repeated);
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
                let piece = other[piece(other, from, length)].to_vec();
                let at = at(index, bytes);
                bytes.splice(at..at, piece);
            }
        }
    }
}
