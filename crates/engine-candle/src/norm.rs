use candle_core::{Device, Result, Tensor};

/// A root-mean-square norm.
pub(crate) struct Norm {
    pub(crate) weight: Vector,
    pub(crate) epsilon: f32,
}

/// A weight vector, in host memory and on the device.
pub(crate) struct Vector {
    pub(crate) values: Vec<f32>,
    pub(crate) tensor: Tensor,
}

impl Vector {
    pub(crate) fn new(values: Vec<f32>, device: &Device) -> Result<Self> {
        let tensor = Tensor::new(values.as_slice(), device)?;
        Ok(Self { values, tensor })
    }
}
