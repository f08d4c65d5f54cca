use std::{fs, path::Path};

use hive_contract::Cpu;
use sysinfo::System;

/// Describes the CPU. `procfs` is usually `/proc`.
pub(crate) fn cpu(system: &System, procfs: &Path) -> Cpu {
    let brand = system.cpus().first().map(|cpu| cpu.brand().trim());
    let name = brand.filter(|brand| !brand.is_empty());
    let mut features = features();
    features.extend(matrix_extensions(procfs));
    Cpu {
        name: name.unwrap_or(std::env::consts::ARCH).to_owned(),
        cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        features,
    }
}

/// Intel's matrix extensions, which the standard library does not detect.
fn matrix_extensions(procfs: &Path) -> Vec<String> {
    let info = fs::read_to_string(procfs.join("cpuinfo")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags"));
    let flags = flags.unwrap_or_default().split_whitespace();
    let extensions = flags.filter(|flag| flag.starts_with("amx_"));
    extensions.map(|flag| flag.replace('_', "-")).collect()
}

macro_rules! detected {
    ($detect:ident, $($feature:tt => $name:literal),*) => {{
        let mut features = Vec::new();
        $(if std::arch::$detect!($feature) { features.push($name.to_owned()); })*
        features
    }};
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    detected!(is_x86_feature_detected,
        "sse4.2" => "sse4.2", "avx" => "avx", "avx2" => "avx2", "fma" => "fma", "f16c" => "f16c",
        "avxvnni" => "avxvnni", "avx512f" => "avx512f", "avx512bw" => "avx512bw",
        "avx512vnni" => "avx512vnni", "avx512bf16" => "avx512bf16", "avx512fp16" => "avx512fp16")
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<String> {
    detected!(is_aarch64_feature_detected,
        "neon" => "neon", "fp16" => "fp16", "dotprod" => "dotprod", "i8mm" => "i8mm",
        "bf16" => "bf16", "sve" => "sve", "sve2" => "sve2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrix_extensions_are_read_from_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cpuinfo");
        fs::write(
            &file,
            "processor\t: 0\nflags\t\t: fpu avx2 amx_bf16 amx_tile\n",
        )
        .unwrap();
        assert_eq!(matrix_extensions(dir.path()), ["amx-bf16", "amx-tile"]);
        fs::remove_file(&file).unwrap();
        assert_eq!(matrix_extensions(dir.path()), [] as [&str; 0]);
    }
}
