//! Opens GPUs of NVIDIA.

use candle_core::{Device, cuda_backend::cudarc::driver::result};
use diagnostics::Diagnostic;

use crate::{cuda_errors as errors, probe::probe};

/// Returns the GPU with the ordinal 0, after it has computed correctly.
pub(crate) fn open() -> Result<Device, Diagnostic> {
    // Without a driver nothing else can say what is wrong.
    result::init().map_err(|error| errors::no_cuda_driver(&error.0))?;
    let count = result::device::get_count().map_err(|error| errors::no_cuda_driver(&error.0))?;
    if count == 0 {
        return Err(errors::no_cuda_gpu());
    }
    // All threads use the same stream: the model is loaded by another thread than the one that
    // computes with it.
    let device =
        Device::new_cuda_with_stream(0).map_err(|error| errors::cuda_not_opened(&error))?;
    probe(&device).map_err(|problem| errors::cuda_computes_wrong(&problem))?;
    Ok(device)
}

/// Returns the free memory of an opened GPU in bytes.
pub(crate) fn free_bytes(device: &Device) -> Result<u64, Diagnostic> {
    // The context of the GPU must belong to this thread, which it does after an operation.
    let free = device
        .synchronize()
        .and_then(|()| {
            device
                .as_cuda_device()?
                .cuda_stream()
                .context()
                .bind_to_thread()
                .map_err(candle_core::Error::wrap)
        })
        .and_then(|()| result::mem_get_info().map_err(candle_core::Error::wrap));
    let (free, _total) = free.map_err(|error| errors::cuda_not_opened(&error))?;
    Ok(free as u64)
}
