//! The devices that models compute on.

use candle_core::Device;
#[cfg(feature = "cuda")]
use diagnostics::Diagnostic;

#[cfg(feature = "cuda")]
use crate::cuda;

/// The device that a model is loaded to. A model on a GPU never computes on the CPU.
#[derive(Debug, Clone, Default)]
pub enum ComputeDevice {
    /// The CPU, with the kernels of `cpu_kernels`.
    #[default]
    Cpu,
    /// The CPU, with the operations and the weight types of GPUs. It is slow, and serves to test
    /// on any machine what runs on a GPU.
    CpuTensors,
    /// A GPU of NVIDIA.
    #[cfg(feature = "cuda")]
    Cuda(CudaGpu),
}

/// A GPU of NVIDIA that computes correctly.
#[cfg(feature = "cuda")]
#[derive(Debug, Clone)]
pub struct CudaGpu(Device);

#[cfg(feature = "cuda")]
impl CudaGpu {
    /// Opens the first GPU that `CUDA_VISIBLE_DEVICES` lets this process see, and computes on it.
    ///
    /// Errors: `CUDA_UNAVAILABLE` without a driver, without the libraries of CUDA, without a GPU,
    /// or with one for which this binary was not built.
    pub fn open() -> Result<Self, Diagnostic> {
        cuda::open().map(Self)
    }

    /// Memory of the GPU that is free, in bytes.
    ///
    /// Errors: `CUDA_UNAVAILABLE`.
    pub fn free_bytes(&self) -> Result<u64, Diagnostic> {
        cuda::free_bytes(&self.0)
    }
}

impl ComputeDevice {
    /// Whether weights are packed for `cpu_kernels` instead of being tensors.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self, Self::Cpu)
    }

    /// Whether the memory is that of a GPU.
    pub(crate) fn is_gpu(&self) -> bool {
        match self {
            Self::Cpu | Self::CpuTensors => false,
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => true,
        }
    }

    pub(crate) fn candle(&self) -> Device {
        match self {
            Self::Cpu | Self::CpuTensors => Device::Cpu,
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.0.clone(),
        }
    }
}
