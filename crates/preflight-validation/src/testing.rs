//! Machines and models for tests.

use hive_contract::{Capabilities, Cpu, Device, Disk, PreflightCheck, Ram, Verdict};
use input_validation::{Backend, DeviceId};
use model_format::MemoryNeeds;

use crate::model::{HeaderNeeds, ModelFacts, Needs};
use crate::plan::Engines;

/// A machine with 8 GiB of available memory, a CPU and these GPUs.
pub(crate) fn machine(gpus: &[Device]) -> Capabilities {
    let cpu = Device {
        id: DeviceId::Cpu(0),
        backend: Backend::Cpu,
        name: "a processor".to_owned(),
        memory_total_bytes: 16 << 30,
        memory_free_bytes: 8 << 30,
        driver: None,
        compute_capability: None,
        processes: Vec::new(),
    };
    Capabilities {
        hostname: "box".to_owned(),
        devices: [&[cpu], gpus].concat(),
        cpu: Cpu {
            name: "a processor".to_owned(),
            cores: 8,
            features: vec!["avx2".to_owned()],
        },
        ram: Ram {
            total_bytes: 16 << 30,
            available_bytes: 8 << 30,
        },
        disk: Disk {
            total_bytes: 1 << 40,
            free_bytes: 100 << 30,
        },
        problems: Vec::new(),
        worker_binaries: vec![
            "llm-cpu-worker-rbee".to_owned(),
            "llm-cuda-worker-rbee".to_owned(),
        ],
        engines: Vec::new(),
        power: hive_contract::Power::default(),
    }
}

pub(crate) fn cuda_gpu(index: u16, free: u64) -> Device {
    Device {
        id: DeviceId::Gpu(index),
        backend: Backend::Cuda,
        name: "NVIDIA H100".to_owned(),
        memory_total_bytes: 80 << 30,
        memory_free_bytes: free,
        driver: Some("580.65.06".to_owned()),
        compute_capability: Some("9.0".to_owned()),
        processes: Vec::new(),
    }
}

pub(crate) fn vulkan_gpu(index: u16) -> Device {
    Device {
        id: DeviceId::Gpu(index),
        backend: Backend::Vulkan,
        name: "AMD Radeon".to_owned(),
        memory_total_bytes: 16 << 30,
        memory_free_bytes: 15 << 30,
        driver: None,
        compute_capability: None,
        processes: Vec::new(),
    }
}

/// A model of 2 billion weights with a workspace of 64 MiB.
pub(crate) fn model(weight_bytes: u64, kv_bytes_per_token: u64, context_length: u32) -> ModelFacts {
    ModelFacts {
        model: "hf:org/repo".parse().unwrap(),
        needs: Needs::Header(HeaderNeeds {
            memory: MemoryNeeds {
                weight_bytes,
                kv_bytes_per_token,
                context_length,
            },
            workspace_bytes: 64 << 20,
            parameters: 2_000_000_000,
            quantization: "Q8_0".to_owned(),
            architecture: "llama".to_owned(),
            engine: engine_choice::Needs {
                format: engine_choice::Format::Gguf,
                architecture: "llama".to_owned(),
                tensor_types: ["Q8_0".to_owned()].into(),
                backend: Backend::Cpu,
                features: [].into(),
                not_built_in: None,
            },
        }),
        fetch_bytes: 0,
    }
}

/// The engine of rbee, and no other one.
pub(crate) fn engines() -> Engines {
    Engines {
        declared: vec![engine_choice::builtin().unwrap()],
        unusable: Vec::new(),
    }
}

/// Every failure has a code and a hint, every warning a hint, and every check says something.
pub(crate) fn assert_explained(checks: &[PreflightCheck]) {
    for check in checks {
        let (failed, warned) = (
            check.verdict == Verdict::Fail,
            check.verdict == Verdict::Warn,
        );
        assert_eq!(check.code.is_some(), failed, "{check:?}");
        assert_eq!(check.hint.is_some(), failed || warned, "{check:?}");
        for text in [&check.name, &check.requirement, &check.measured] {
            assert!(!text.is_empty(), "{check:?}");
        }
    }
}
