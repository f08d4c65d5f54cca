use candle_core::{Device, Result, Tensor};

/// The weight of a root-mean-square norm.
pub(crate) struct Norm {
    pub(crate) weight: Vector,
    pub(crate) epsilon: f32,
}

/// A vector of weights, where the processor and where the device can read it.
pub(crate) struct Vector {
    pub(crate) numbers: Vec<f32>,
    pub(crate) tensor: Tensor,
}

impl Vector {
    pub(crate) fn new(numbers: Vec<f32>, device: &Device) -> Result<Self> {
        let tensor = Tensor::new(numbers.as_slice(), device)?;
        Ok(Self { numbers, tensor })
    }
}
