use std::{
    collections::BTreeMap,
    ffi::OsStr,
    sync::{Mutex, PoisonError},
};

use nvml_wrapper::{Device, Nvml as Library, enums::device::UsedGpuMemory, error::NvmlError};

/// Names of the library: the driver installs the first one, development packages the second.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

/// A GPU of NVIDIA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvidiaGpu {
    pub name: String,
    pub memory_total_bytes: u64,
    pub memory_free_bytes: u64,
    /// `9.0`.
    pub compute_capability: String,
    /// The ids of the processes that use its memory, and how many bytes each of them uses.
    /// Processes of which the driver does not report this are left out.
    pub processes: Vec<(u32, u64)>,
}

/// What NVIDIA's driver reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nvidia {
    /// The driver is not installed.
    NotInstalled,
    /// The driver is installed and does not work; the reason as a sentence.
    Failed(String),
    /// The GPUs in the order of their PCI addresses. One that does not respond has a reason.
    Gpus {
        driver: String,
        gpus: Vec<Result<NvidiaGpu, String>>,
    },
}

/// Asks NVIDIA's driver.
pub trait NvidiaDriver: Send + Sync {
    /// Returns the current state.
    fn state(&self) -> Nvidia;
}

/// The library of NVIDIA's driver. It is loaded when it is used first.
#[derive(Debug)]
pub struct Nvml {
    names: Vec<String>,
    /// Once it is loaded.
    library: Mutex<Option<Library>>,
}

impl Default for Nvml {
    fn default() -> Self {
        Self::at(LIBRARIES.map(str::to_owned).to_vec())
    }
}

impl Nvml {
    /// The library by its possible file names.
    pub(crate) fn at(names: Vec<String>) -> Self {
        Self {
            names,
            library: Mutex::default(),
        }
    }

    fn load(&self) -> Result<Library, Nvidia> {
        for name in &self.names {
            match Library::builder().lib_path(OsStr::new(name)).init() {
                Ok(library) => return Ok(library),
                Err(error) if is_missing(&error, name) => {}
                Err(error) => return Err(Nvidia::Failed(error.to_string())),
            }
        }
        Err(Nvidia::NotInstalled)
    }
}

/// Whether the file itself is missing. Its own dependencies may be, too.
fn is_missing(error: &NvmlError, name: &str) -> bool {
    let NvmlError::LibloadingError(error) = error else {
        return false;
    };
    let error = error.to_string();
    error.contains(name) && error.contains("No such file")
}

impl NvidiaDriver for Nvml {
    fn state(&self) -> Nvidia {
        let mut library = self.library.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = match library.take() {
            Some(loaded) => loaded,
            None => match self.load() {
                Ok(loaded) => loaded,
                Err(state) => return state,
            },
        };
        match describe(&loaded) {
            Ok(state) => {
                *library = Some(loaded);
                state
            }
            // It is loaded again for the next call: the driver may have been replaced.
            Err(error) => Nvidia::Failed(error.to_string()),
        }
    }
}

fn describe(library: &Library) -> Result<Nvidia, NvmlError> {
    let driver = library.sys_driver_version()?;
    let gpus = (0..library.device_count()?)
        .map(|index| gpu(library, index).map_err(|error| error.to_string()));
    Ok(Nvidia::Gpus {
        driver,
        gpus: gpus.collect(),
    })
}

fn gpu(library: &Library, index: u32) -> Result<NvidiaGpu, NvmlError> {
    let device = library.device_by_index(index)?;
    let memory = device.memory_info()?;
    let capability = device.cuda_compute_capability()?;
    Ok(NvidiaGpu {
        name: device.name()?,
        memory_total_bytes: memory.total,
        memory_free_bytes: memory.free,
        compute_capability: format!("{}.{}", capability.major, capability.minor),
        processes: processes(&device),
    })
}

/// A process that computes and draws is in both lists, with the same memory. A driver that does
/// not list processes has none.
fn processes(device: &Device<'_>) -> Vec<(u32, u64)> {
    let lists = [
        device.running_compute_processes(),
        device.running_graphics_processes(),
    ];
    let mut processes = BTreeMap::new();
    for process in lists.into_iter().flatten().flatten() {
        if let UsedGpuMemory::Used(bytes) = process.used_gpu_memory {
            let known: &mut u64 = processes.entry(process.pid).or_default();
            *known = bytes.max(*known);
        }
    }
    processes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use super::*;

    /// Compiles a library with these functions.
    fn library(dir: &Path, functions: &str) -> Nvml {
        let (source, path) = (dir.join("nvml.c"), dir.join("libnvidia-ml.so.1"));
        fs::write(&source, functions).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&path, &source])
            .output()
            .expect("a C compiler: `apt-get install gcc`");
        assert!(compiled.status.success(), "{compiled:?}");
        Nvml::at(vec![path.to_str().unwrap().to_owned()])
    }

    #[test]
    fn a_missing_library_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libnvidia-ml.so.1");
        let nvml = Nvml::at(vec![path.to_str().unwrap().to_owned()]);
        assert_eq!(nvml.state(), Nvidia::NotInstalled);
        fs::write(&path, "not a library").unwrap();
        let Nvidia::Failed(reason) = nvml.state() else {
            panic!("it is not a library");
        };
        assert!(reason.contains("libnvidia-ml.so.1"), "{reason}");
    }

    #[test]
    fn a_driver_that_is_not_loaded_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let nvml = library(
            dir.path(),
            "int nvmlInit_v2(void) { return 9; } int nvmlShutdown(void) { return 0; }",
        );
        let expected = Nvidia::Failed("NVIDIA driver is not loaded".to_owned());
        assert_eq!(nvml.state(), expected);
    }

    #[test]
    fn gpus_are_described_and_a_lost_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let nvml = library(
            dir.path(),
            r#"
            #include <string.h>
            typedef unsigned long long u64;
            int nvmlInit_v2(void) { return 0; }
            int nvmlShutdown(void) { return 0; }
            int nvmlSystemGetDriverVersion(char *text, unsigned length) {
                strncpy(text, "580.65.06", length); return 0;
            }
            int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
            int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
                *device = (void *)(u64)(index + 1); return index == 1 ? 15 : 0;
            }
            int nvmlDeviceGetName(void *device, char *text, unsigned length) {
                strncpy(text, "NVIDIA H200", length); return 0;
            }
            struct memory { unsigned version; u64 total, reserved, free, used; };
            int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *memory) {
                memory->total = 100; memory->reserved = 5; memory->free = 70; memory->used = 25;
                return 0;
            }
            int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
                *major = 9; *minor = 0; return 0;
            }
            struct process { unsigned pid; u64 used; unsigned gpu, compute; };
            static int list(unsigned *count, struct process *list, const struct process *all) {
                if (list == 0 || *count < 2) { *count = 2; return 7; }
                *count = 2; list[0] = all[0]; list[1] = all[1]; return 0;
            }
            int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *out) {
                static const struct process all[2] = {{7, 30, 0, 0}, {8, (u64)-1, 0, 0}};
                return list(count, out, all);
            }
            int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, struct process *out) {
                static const struct process all[2] = {{7, 30, 0, 0}, {5, 2, 0, 0}};
                return list(count, out, all);
            }
            "#,
        );
        let gpu = NvidiaGpu {
            name: "NVIDIA H200".to_owned(),
            memory_total_bytes: 100,
            memory_free_bytes: 70,
            compute_capability: "9.0".to_owned(),
            // The memory of 8 is not reported.
            processes: vec![(5, 2), (7, 30)],
        };
        for _ in 0..2 {
            let Nvidia::Gpus { driver, gpus } = nvml.state() else {
                panic!("{:?}", nvml.state());
            };
            assert_eq!(driver, "580.65.06");
            assert_eq!(gpus[0], Ok(gpu.clone()));
            let lost = gpus[1].as_ref().unwrap_err();
            assert!(lost.contains("fell off the bus"), "{lost}");
        }
    }
}
