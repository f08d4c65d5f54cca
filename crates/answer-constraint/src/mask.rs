/// A set of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask {
    /// Bit `id % 32` of word `id / 32` represents token `id`.
    words: Vec<u32>,
}

impl TokenMask {
    /// Creates a set of tokens.
    pub fn of(tokens: &[u32]) -> Self {
        let words = tokens.iter().max().map_or(0, |id| *id as usize / 32 + 1);
        let mut mask = Self {
            words: vec![0; words],
        };
        for id in tokens {
            mask.words[*id as usize / 32] |= 1 << (id % 32);
        }
        mask
    }

    /// Creates a set from bits; bits from `tokens` on are ignored.
    pub(crate) fn from_words(mut words: Vec<u32>, tokens: usize) -> Self {
        words.truncate(tokens.div_ceil(32));
        if let Some(last) = words.get_mut(tokens / 32) {
            *last &= (1_u32 << (tokens % 32)) - 1;
        }
        Self { words }
    }

    /// Adds a token to the set.
    pub fn insert(&mut self, id: u32) {
        let index = id as usize / 32;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        if let Some(word) = self.words.get_mut(index) {
            *word |= 1 << (id % 32);
        }
    }

    /// Returns the set as bits: bit `id % 32` of word `id / 32` represents token `id`. Tokens
    /// beyond the last word are not in the set.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    pub fn contains(&self, id: u32) -> bool {
        self.words
            .get(id as usize / 32)
            .is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Iterates over the tokens in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.words.iter().zip(0_u32..).flat_map(|(word, index)| {
            (0..32)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| index * 32 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_exactly_its_tokens() {
        let mask = TokenMask::of(&[0, 31, 32, 95]);
        assert_eq!(mask.ids().collect::<Vec<_>>(), [0, 31, 32, 95]);
        assert!(mask.contains(31) && !mask.contains(33) && !mask.contains(960));
        let truncated = TokenMask::from_words(vec![u32::MAX; 4], 33);
        assert_eq!(truncated.ids().count(), 33);
        assert_eq!(
            TokenMask::from_words(vec![u32::MAX; 2], 64).ids().count(),
            64
        );
        assert!(TokenMask::of(&[]).is_empty() && !mask.is_empty());
        let mut larger = TokenMask::of(&[1]);
        larger.insert(2);
        larger.insert(95);
        assert_eq!(larger.ids().collect::<Vec<_>>(), [1, 2, 95]);
    }
}
