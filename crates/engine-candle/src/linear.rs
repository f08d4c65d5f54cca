use crate::{matrix::Matrix, norm::Vector};

/// A linear layer.
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vector>,
}
