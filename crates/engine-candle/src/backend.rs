use candle_core::Result;
use cpu_kernels::Activation;
use inference_execution::KvCache;

use crate::{
    attention::Attention, linear::Linear, matrix::Matrix, norm::Norm, plan::Plan, rope::Rotation,
};

/// For each row of a part, the row it is added to and its weight.
pub(crate) type Targets = Vec<(u32, f32)>;

/// The operations of a forward pass, which is written once over this trait. The CPU backend runs
/// them with `cpu_kernels` on host memory, the tensor backend with candle on other devices.
pub(crate) trait Backend {
    /// Values of the rows of a step, of shape `[rows, columns]`.
    type Rows;

    /// Returns the rows of a matrix with the given indices.
    fn lookup(&mut self, table: &Matrix, indices: &[u32]) -> Result<Self::Rows>;

    /// Returns the cosines and the sines at the positions, each of shape
    /// `[positions, rotated elements / 2]`.
    fn angles(&mut self, rotation: &Rotation, positions: &[u32]) -> Result<[Self::Rows; 2]>;

    /// Applies each of the linear layers to `x`.
    fn linear<const N: usize>(
        &mut self,
        x: &Self::Rows,
        linears: [&Linear; N],
    ) -> Result<[Self::Rows; N]>;

    /// Normalizes each row.
    fn norm(&mut self, x: &Self::Rows, norm: &Norm) -> Result<Self::Rows>;

    /// Normalizes each head of each row; heads have the width of the norm.
    fn norm_heads(&mut self, x: Self::Rows, norm: &Norm) -> Result<Self::Rows>;

    /// Rotates each head of `width` elements, first half against second half; elements beyond the
    /// rotated ones are unchanged.
    fn rotate(
        &mut self,
        x: Self::Rows,
        width: usize,
        angles: &[Self::Rows; 2],
    ) -> Result<Self::Rows>;

    /// Writes the keys and values of a layer to the cache, then computes attention.
    fn attend(
        &mut self,
        layer: usize,
        attention: Attention,
        query_key_value: [Self::Rows; 3],
        plan: &Plan,
    ) -> Result<Self::Rows>;

    /// Returns `activation(gate) * up`.
    fn gated(
        &mut self,
        activation: Activation,
        gate: Self::Rows,
        up: Self::Rows,
    ) -> Result<Self::Rows>;

    fn add(&mut self, x: Self::Rows, y: Self::Rows) -> Result<Self::Rows>;

    fn scale(&mut self, x: Self::Rows, factor: f32) -> Result<Self::Rows>;

    /// Returns `cap * tanh(x / cap)`.
    fn softcap(&mut self, x: Self::Rows, cap: f32) -> Result<Self::Rows>;

    /// Returns the rows of `x` with the given indices.
    fn select(&mut self, x: &Self::Rows, rows: &[u32]) -> Result<Self::Rows>;

    /// Returns `rows` rows that are the weighted sums of the parts, added in the order of the
    /// parts, of which there is at least one.
    fn combine(&mut self, rows: usize, parts: Vec<(Self::Rows, Targets)>) -> Result<Self::Rows>;

    /// Copies the values to host memory.
    fn to_host(&mut self, x: Self::Rows) -> Result<Vec<f32>>;

    /// Frees rows, so that their memory can be reused.
    fn release(&mut self, x: Self::Rows);

    fn kv(&mut self) -> &mut dyn KvCache;
}
