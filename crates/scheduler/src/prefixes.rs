//! Which workers computed the beginnings of prompts, and so may have them in their caches.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use input_validation::ModelRef;
use worker_registry::SpawnId;

/// Number of prefixes after which the older half is forgotten.
const KEPT: usize = 1 << 16;
/// Number of workers that are remembered of a prefix, the latest ones.
const WORKERS: usize = 4;

/// The beginnings of a prompt, as hashes, the shortest first. Prompts with the same hash begin with
/// the same text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptPrefixes {
    hashes: Vec<u64>,
    bytes: u64,
}

impl PromptPrefixes {
    /// `bytes` is the size of the whole prompt.
    pub fn new(hashes: Vec<u64>, bytes: u64) -> Self {
        Self { hashes, bytes }
    }

    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Size of the whole prompt; 0 if unknown.
    pub fn prompt_bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// The workers that computed prefixes. In two halves: what is not used while one half fills is
/// forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrefixTable {
    young: HashMap<u64, Vec<SpawnId>>,
    old: HashMap<u64, Vec<SpawnId>>,
}

impl PrefixTable {
    /// Records that a worker computes the prompt.
    pub(crate) fn computed(&mut self, model: &ModelRef, prompt: &PromptPrefixes, spawn: &SpawnId) {
        for prefix in &prompt.hashes {
            let key = key(model, *prefix);
            let mut workers = match self.young.remove(&key) {
                Some(workers) => workers,
                None => self.old.remove(&key).unwrap_or_default(),
            };
            workers.retain(|worker| worker.worker != spawn.worker);
            workers.insert(0, spawn.clone());
            workers.truncate(WORKERS);
            if self.young.len() >= KEPT / 2 {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key, workers);
        }
    }

    /// Returns the workers that computed a prefix of the prompt, each with the number of the
    /// longest such prefix, from 1.
    pub(crate) fn known(&self, model: &ModelRef, prompt: &PromptPrefixes) -> Vec<(SpawnId, u32)> {
        let mut known: Vec<(SpawnId, u32)> = Vec::new();
        for (number, prefix) in (1..).zip(&prompt.hashes) {
            let key = key(model, *prefix);
            // A worker that computed a longer prefix computed the shorter ones.
            let Some(workers) = self.young.get(&key).or_else(|| self.old.get(&key)) else {
                break;
            };
            for worker in workers {
                match known.iter_mut().find(|(known, _)| known == worker) {
                    Some((_, longest)) => *longest = number,
                    None => known.push((worker.clone(), number)),
                }
            }
        }
        known
    }
}

fn key(model: &ModelRef, prefix: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (model, prefix).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use input_validation::Generation;

    use super::*;

    fn spawn(name: &str) -> SpawnId {
        SpawnId {
            worker: name.parse().unwrap(),
            generation: Generation(1),
        }
    }

    fn prompt(hashes: &[u64]) -> PromptPrefixes {
        PromptPrefixes::new(hashes.to_vec(), 0)
    }

    #[test]
    fn the_longest_common_prefix_of_each_worker_is_known() {
        let (a, b): (ModelRef, ModelRef) =
            ("mock:a=1".parse().unwrap(), "mock:b=1".parse().unwrap());
        let mut table = PrefixTable::default();
        table.computed(&a, &prompt(&[1, 2, 3]), &spawn("x"));
        table.computed(&a, &prompt(&[1, 5]), &spawn("y"));
        let known = |hashes: &[u64]| table.known(&a, &prompt(hashes));
        assert_eq!(known(&[1, 2, 9]), [(spawn("y"), 1), (spawn("x"), 2)]);
        assert_eq!(known(&[9, 2]), []);
        assert_eq!(table.known(&b, &prompt(&[1])), [], "of another model");
    }

    #[test]
    fn a_new_process_of_a_worker_has_an_empty_cache() {
        let model: ModelRef = "mock:a=1".parse().unwrap();
        let mut table = PrefixTable::default();
        table.computed(&model, &prompt(&[1, 2]), &spawn("x"));
        let next = SpawnId {
            generation: Generation(2),
            ..spawn("x")
        };
        table.computed(&model, &prompt(&[1]), &next);
        let known = table.known(&model, &prompt(&[1, 2]));
        assert!(known.contains(&(next, 1)), "{known:?}");
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_used() {
        let model: ModelRef = "mock:a=1".parse().unwrap();
        let mut table = PrefixTable::default();
        for number in 0..4 * KEPT as u64 {
            table.computed(&model, &prompt(&[number]), &spawn("x"));
            table.computed(&model, &prompt(&[u64::MAX]), &spawn("y"));
        }
        assert!(table.young.len() + table.old.len() <= KEPT);
        assert_eq!(table.known(&model, &prompt(&[0])), []);
        assert_eq!(table.known(&model, &prompt(&[u64::MAX])), [(spawn("y"), 1)]);
    }
}
