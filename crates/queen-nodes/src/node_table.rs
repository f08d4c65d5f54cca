use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use daemon_shell::TokenHash;
use input_validation::NodeName;

use crate::Node;

/// The nodes by their names, and their names by their tokens.
#[derive(Debug, Default)]
pub(crate) struct NodeTable {
    nodes: BTreeMap<NodeName, Arc<Node>>,
    by_token: HashMap<TokenHash, NodeName>,
}

impl NodeTable {
    /// Inserts a node. Returns the one of its name that it replaces.
    pub(crate) fn insert(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let name = node.name().clone();
        let hash = node.token().hash();
        let replaced = self.nodes.insert(name.clone(), node);
        if replaced.is_some() {
            self.index_tokens();
        } else {
            self.by_token.insert(hash, name);
        }
        replaced
    }

    pub(crate) fn remove(&mut self, name: &NodeName) -> Option<Arc<Node>> {
        let removed = self.nodes.remove(name)?;
        self.index_tokens();
        Some(removed)
    }

    pub(crate) fn get(&self, name: &NodeName) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }

    /// The nodes, ordered by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The node whose token was presented.
    pub(crate) fn of_token(&self, presented: &str) -> Option<&NodeName> {
        self.by_token.get(&TokenHash::of(presented))
    }

    fn index_tokens(&mut self) {
        let nodes = self.nodes.iter();
        let hashes = nodes.map(|(name, node)| (node.token().hash(), name.clone()));
        self.by_token = hashes.collect();
    }
}
