use std::{ops::Range, sync::OnceLock};

use bytes::Bytes;
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use sha2::{Digest as _, Sha256};

/// Bytes that begin with a stamp.
const BLOCK: u64 = 64 << 10;
/// Bytes of the stamp: seed and position, scrambled.
const STAMP: u64 = 16;

/// Content of a file, which follows from a seed and takes no memory: random bytes, of which
/// those at the beginning of every 64 KiB differ from block to block and from seed to seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    seed: u64,
    size: u64,
}

impl Content {
    /// Content of `size` bytes.
    pub const fn new(seed: u64, size: u64) -> Self {
        Self { seed, size }
    }

    /// Size in bytes.
    pub const fn size(self) -> u64 {
        self.size
    }

    /// SHA-256 of all bytes. Takes about a second per gigabyte.
    pub fn sha256(self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for piece in self.pieces(0..self.size) {
            hash.update(&piece);
        }
        hash.finalize().into()
    }

    /// Returns the bytes of `range`, which ends with the content at the latest.
    pub fn read(self, range: Range<u64>) -> Vec<u8> {
        self.pieces(range).flatten().collect()
    }

    /// The bytes of `range` in pieces of at most 64 KiB.
    pub fn pieces(self, range: Range<u64>) -> impl Iterator<Item = Bytes> + Send + use<> {
        let end = range.end.min(self.size);
        let mut at = range.start;
        std::iter::from_fn(move || {
            let piece = self.piece(at, end)?;
            at += piece.len() as u64;
            Some(piece)
        })
    }

    fn piece(self, at: u64, end: u64) -> Option<Bytes> {
        if at >= end {
            return None;
        }
        let (block, within) = (at / BLOCK, at % BLOCK);
        let left = (end - at) as usize;
        let piece = if within < STAMP {
            Bytes::copy_from_slice(&self.stamp(block)[within as usize..])
        } else {
            base().slice(within as usize..)
        };
        Some(piece.slice(..left.min(piece.len())))
    }

    fn stamp(self, block: u64) -> [u8; STAMP as usize] {
        let mut random =
            StdRng::seed_from_u64(self.seed ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut stamp = [0; STAMP as usize];
        random.fill_bytes(&mut stamp);
        stamp
    }
}

fn base() -> &'static Bytes {
    static BASE: OnceLock<Bytes> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut base = vec![0; BLOCK as usize];
        StdRng::seed_from_u64(0).fill_bytes(&mut base);
        base.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parts_of_the_whole() {
        let content = Content::new(7, 3 * BLOCK + 5);
        let whole = content.read(0..content.size());
        assert_eq!(whole.len() as u64, content.size());
        for (start, end) in [
            (0, 1),
            (3, 20),
            (BLOCK - 2, 2 * BLOCK + 7),
            (3 * BLOCK, content.size()),
        ] {
            assert_eq!(
                content.read(start..end),
                whole[start as usize..end as usize]
            );
        }
        assert_eq!(content.sha256(), <[u8; 32]>::from(Sha256::digest(&whole)));
    }

    #[test]
    fn blocks_and_seeds_differ() {
        let content = Content::new(7, 2 * BLOCK);
        assert_ne!(content.read(0..BLOCK), content.read(BLOCK..2 * BLOCK));
        assert_ne!(
            content.read(0..BLOCK),
            Content::new(8, BLOCK).read(0..BLOCK)
        );
    }
}
