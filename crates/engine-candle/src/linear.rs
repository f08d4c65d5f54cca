use crate::{matrix::Matrix, norm::Vector};

/// A matrix and, in some families, what is added to its product.
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vector>,
}
