use crate::sampler::uniform;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The chat templates of Mistral models require this length.
const LENGTH: u32 = 9;

/// Generates the ids of an output's tool calls: nine letters and digits that depend on prompt,
/// seed and choice only, so that they stay the same when another worker continues the output.
#[derive(Debug, Clone)]
pub(crate) struct CallIds {
    key: u64,
    choice: u32,
}

impl CallIds {
    pub fn new(prompt: &[u32], seed: u64, choice: u32) -> Self {
        // FNV-1a, 64 bit: <http://www.isthe.com/chongo/tech/comp/fnv/>.
        let key = prompt
            .iter()
            .flat_map(|token| token.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self { key, choice }
    }

    /// Returns the id of the call with this index.
    pub fn id(&self, index: u32) -> String {
        let count = 62_u64.pow(LENGTH) as f64;
        let mut number = (uniform(self.key, self.choice, index) * count) as u64;
        let mut id = String::with_capacity(LENGTH as usize);
        for _ in 0..LENGTH {
            id.push(char::from(ALPHABET[(number % 62) as usize]));
            number /= 62;
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_depend_on_prompt_seed_choice_and_index_only() {
        let mut seen = HashSet::new();
        for prompt in [&[1, 2][..], &[1, 3], &[256, 2]] {
            for seed in [0, 1, u64::MAX] {
                for choice in 0..3 {
                    let ids = CallIds::new(prompt, seed, choice);
                    for index in 0..4 {
                        let id = ids.id(index);
                        assert!(id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
                        assert_eq!(CallIds::new(prompt, seed, choice).id(index), id);
                        assert!(seen.insert(id));
                    }
                }
            }
        }
    }
}
