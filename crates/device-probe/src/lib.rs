//! Finds what a machine can compute on. [`SystemProbe`] inspects this machine, [`MockProbe`]
//! presents any other one to tests.
//!
//! - `nvidia` asks NVML, a library of NVIDIA's driver that is loaded at run time.
//! - `sysfs` reads what the kernel knows about GPUs: AMD's with their memory, and those of NVIDIA
//!   that have no driver.
//! - `vulkan` runs `vulkaninfo`, if it is installed, for the GPUs of other vendors.
//! - `cpu` detects the instruction sets.
//! - `power` finds the network cards by which the machine can be woken.

mod cpu;
mod errors;
mod mock;
mod nvidia;
mod power;
mod probe;
mod processes;
mod sysfs;
mod system;
mod vulkan;

pub use mock::MockProbe;
pub use nvidia::{Nvidia, NvidiaDriver, NvidiaGpu, Nvml};
pub use probe::{Machine, Probe};
pub use processes::without_workers;
pub use system::{Sources, SystemProbe};
