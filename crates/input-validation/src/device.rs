use std::{fmt, str::FromStr};

use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::errors::{invalid_backend, invalid_device};

/// Kind of hardware that runs a model.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The CPU.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// Apple GPUs.
    Metal,
    /// GPUs of AMD, Intel and others. No worker of rbee uses them yet.
    Vulkan,
}

impl FromStr for Backend {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "metal" => Ok(Self::Metal),
            "vulkan" => Ok(Self::Vulkan),
            _ => Err(invalid_backend(text)),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
        })
    }
}

/// Device of a node: `CPU-0`, `GPU-1`. Parsing ignores the case of the letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceId {
    /// The CPU; nodes have `CPU-0` only.
    Cpu(u16),
    /// The GPU with this index, from 0.
    Gpu(u16),
}

/// The index has a `u16`.
const PATTERN: &str = "^([Cc][Pp][Uu]|[Gg][Pp][Uu])-0*([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}\
                       |65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";

string_schema!(
    DeviceId,
    PATTERN,
    "CPU-0",
    "Device of a node: `CPU-0`, `GPU-1`."
);

impl FromStr for DeviceId {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let parsed = text.split_once('-').and_then(|(kind, index)| {
            // `u16::from_str` accepts a sign.
            let digits = index.bytes().all(|b| b.is_ascii_digit());
            let index = index.parse().ok().filter(|_| digits)?;
            match kind.to_ascii_uppercase().as_str() {
                "CPU" => Some(Self::Cpu(index)),
                "GPU" => Some(Self::Gpu(index)),
                _ => None,
            }
        });
        parsed.ok_or_else(|| invalid_device(text))
    }
}

impl TryFrom<String> for DeviceId {
    type Error = Diagnostic;
    fn try_from(text: String) -> Result<Self, Diagnostic> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(device: DeviceId) -> Self {
        device.to_string()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(index) => write!(f, "CPU-{index}"),
            Self::Gpu(index) => write!(f, "GPU-{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_display_as_parsed() {
        for text in ["CPU-0", "GPU-0", "GPU-15"] {
            assert_eq!(text.parse::<DeviceId>().unwrap().to_string(), text);
        }
        for bad in ["", "CPU", "CPU-", "GPU--1", "GPU-+1", "TPU-0", "GPU-99999"] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad}");
        }
    }
}
