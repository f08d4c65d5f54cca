//! The compiler of CUDA, and the worker for GPUs of NVIDIA built with it. Neither needs a GPU.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    cargo::{cargo, root, succeed, target_dir},
    cuda_shims, setup,
};

/// The packages of NVIDIA that contain the compiler, its headers and static libraries. Drivers of
/// version 580 refuse what a later CUDA than 13.0 compiles.
const WHEELS: [&str; 7] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-curand==10.4.0.35",
];

/// Variables by which builds find the toolkit.
const TOOLKIT_VARIABLES: [&str; 4] = [
    "CUDA_HOME",
    "CUDA_PATH",
    "CUDA_ROOT",
    "CUDA_TOOLKIT_ROOT_DIR",
];

/// Options of `cargo xtask build-cuda`.
#[derive(Args)]
pub struct BuildCudaArgs {
    /// Compute capability of the GPUs that the worker is for, without the dot: 90 for H100 and
    /// H200, 89 for RTX 40, 120 for RTX 50 [default: that of this machine's GPU]
    #[arg(long)]
    compute_cap: Option<u32>,
    /// Build faster, without optimization across crates
    #[arg(long)]
    no_lto: bool,
    /// Directory for the build [default: that of cargo]
    #[arg(long)]
    target_dir: Option<PathBuf>,
}

/// Builds `llm-cuda-worker-rbee`; returns its path.
pub fn build(args: &BuildCudaArgs) -> Result<PathBuf> {
    let capability = match args.compute_cap {
        Some(capability) => capability.to_string(),
        None => capability_of_gpu().context("this machine has no GPU: name a --compute-cap")?,
    };
    let toolkit = fetch()?;
    let mut command = cargo();
    command.args(["build", "--release", "--package", "worker-rbee"]);
    command.args(["--bin", "llm-cuda-worker-rbee", "--features", "cuda"]);
    if let Some(dir) = &args.target_dir {
        command.arg("--target-dir").arg(dir);
    }
    if args.no_lto {
        command.env("CARGO_PROFILE_RELEASE_LTO", "false");
    }
    let bin = toolkit.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(bin.clone()).chain(env::split_paths(&path)))?;
    command
        .envs(TOOLKIT_VARIABLES.map(|name| (name, &toolkit)))
        .env_remove("CUDNN_LIB")
        .env("NVCC", bin.join("nvcc"))
        .env("PATH", path)
        .env("CUDA_COMPUTE_CAP", capability);
    println!("building the worker; the kernels take about 13 minutes of processor time");
    succeed(&mut command)?;
    let target = match &args.target_dir {
        Some(dir) => root().join(dir),
        None => target_dir()?,
    };
    let worker = target.join("release/llm-cuda-worker-rbee");
    println!("{}", worker.display());
    Ok(worker)
}

/// The compute capability of the first GPU, without the dot.
fn capability_of_gpu() -> Option<String> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=compute_cap", "--format=csv,noheader"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.lines().next()?.replace('.', "");
    number.parse::<u32>().ok().map(|number| number.to_string())
}

/// Fetches the compiler of CUDA into `target/cuda` unless it is there, and writes the libraries
/// that load those of CUDA at run time. Returns the directory of the toolkit.
pub fn fetch() -> Result<PathBuf> {
    let home = root().join("target/cuda");
    let toolkit = home.join("toolkit/nvidia/cu13");
    let stamp = home.join("versions");
    let versions = WHEELS.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == versions) && compiles(&toolkit) {
        return Ok(toolkit);
    }
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the compiler is fetched for Linux on x86-64 only; elsewhere, install CUDA 13 and run \
         `cargo build --release --bin llm-cuda-worker-rbee --features cuda`"
    );
    setup::need_program("python3", "python3")?;
    setup::need_program("unzip", "unzip")?;
    setup::need_program("cc", "gcc")?;
    println!("fetching {} (250 MB) into target/cuda", WHEELS.join(", "));
    println!("they are under the license of NVIDIA, which is in each of them");
    let venv = home.join("python");
    setup::create_venv(&venv)?;
    let wheels = home.join("wheels");
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps"];
    let mut download = Command::new(venv.join("bin/python"));
    download.args(pip).arg("--disable-pip-version-check");
    download.args(["--only-binary", ":all:", "--dest"]);
    succeed(download.arg(&wheels).args(WHEELS))?;
    for wheel in fs::read_dir(&wheels)? {
        let mut unzip = Command::new("unzip");
        unzip.arg("-qo").arg(wheel?.path());
        succeed(unzip.arg("nvidia/*").arg("-d").arg(home.join("toolkit")))?;
    }
    prepare(&toolkit)?;
    cuda_shims::write(&toolkit.join("lib"), &home.join("shims"))?;
    ensure!(compiles(&toolkit), "nvcc in {} fails", toolkit.display());
    fs::write(&stamp, versions)?;
    Ok(toolkit)
}

fn compiles(toolkit: &Path) -> bool {
    Command::new(toolkit.join("bin/nvcc"))
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Makes of the packages' content what builds expect: programs, the name of the directory with
/// libraries, and the static runtime under the name by which it is linked.
fn prepare(toolkit: &Path) -> Result<()> {
    for dir in ["bin", "nvvm/bin"] {
        for entry in fs::read_dir(toolkit.join(dir))? {
            let path = entry?.path();
            if path.is_file() {
                succeed(Command::new("chmod").arg("+x").arg(&path))?;
            }
        }
    }
    let link = toolkit.join("lib64");
    if !link.exists() {
        std::os::unix::fs::symlink("lib", link)?;
    }
    let lib = toolkit.join("lib");
    fs::copy(lib.join("libcudart_static.a"), lib.join("libcudart.a"))?;
    Ok(())
}
