use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::Result;

use crate::{
    cargo::{build_binaries, cargo, root, succeed},
    outside, setup,
    tally::Tally,
};

/// Version of cmake, from the Python registry.
const CMAKE: &str = "cmake==3.31.6";
/// Programs of llama.cpp that are built.
const PROGRAMS: [&str; 2] = ["llama-server", "ggml-rpc-server"];
/// Options of the server for embeddings beside outputs.
const EMBEDDING: [&str; 3] = ["--embeddings", "--pooling", "mean"];
const OPTIONS: [&str; 11] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=ON",
    "-DGGML_RPC=ON",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
];

/// Serves two models with llama.cpp's own server behind the adapter: the scenarios with the tag
/// `@llama_cpp`, the conformance test, and the official OpenAI client; and one model with parts of it
/// in llama.cpp's RPC server. The server is built once, from the source distribution
/// of llama-cpp-python; it stays in the target directory.
pub fn run() -> Result<Tally> {
    let python = setup::python_with_packages()?;
    let source = outside::download(&python, "llama-cpp")?;
    let server = build(&source)?;
    let embedded = root().join("models/haiku/rbee-haiku-tiny-f16.gguf");
    let smollm2 = outside::download(&python, "model")?;
    let bin_dir = build_binaries(false)?;
    let mut tally = Tally::of(
        cargo()
            .args(["test", "--quiet", "--package", "adapter-worker-rbee"])
            .args(["--test", "bdd", "--", "--tags", "@llama_cpp"])
            .env("RBEE_BIN_DIR", &bin_dir)
            .env("RBEE_LLAMA_SERVER", &server)
            .env("RBEE_LLAMA_TEMPLATES", source.join("models/templates"))
            .env("RBEE_EMBEDDED_MODEL", &embedded)
            .env("RBEE_SMOLLM2_MODEL", &smollm2),
    )?;
    tally += Tally::of(
        cargo()
            .args(["test", "--quiet", "--package", "scheduler"])
            .args(["--test", "bdd", "--", "--tags", "@llama_cpp"])
            .env("RBEE_BIN_DIR", &bin_dir)
            .env("RBEE_LLAMA_SERVER", &server)
            .env("RBEE_SMOLLM2_MODEL", &smollm2),
    )?;
    for (model, options) in [(&embedded, &EMBEDDING[..]), (&smollm2, &[])] {
        let name = format!("conformance with {}", model.display());
        let mut command = conformance(&bin_dir, &server, model);
        tally += Tally::one(&name, succeed(command.args(options)).is_ok());
    }
    tally += Tally::of(
        Command::new(&python)
            .arg(root().join("test-harness/end-to-end/openai_client.py"))
            .env("RBEE_BIN_DIR", &bin_dir)
            .env("RBEE_LLAMA_SERVER", &server)
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )?;
    Ok(tally)
}

fn conformance(bin_dir: &Path, server: &Path, model: &Path) -> Command {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", "worker-conformance", "--"])
        .arg("--model")
        .arg(model)
        .arg("--command")
        .arg(bin_dir.join("adapter-worker-rbee"))
        .args(["{options}", "--engine", "llama-cpp", "--"])
        .arg(server)
        .args([
            "-m", "{model}", "--port", "{port}", "-np", "{slots}", "-c", "4096",
        ])
        .args(["-t", "{threads}", "--metrics"]);
    command
}

/// Builds the programs of llama.cpp unless they exist. Returns the path of its server.
fn build(source: &Path) -> Result<PathBuf> {
    let build = source.join("build");
    let programs = build.join("bin");
    if PROGRAMS.iter().all(|name| programs.join(name).exists()) {
        return Ok(programs.join(PROGRAMS[0]));
    }
    setup::need_program("c++", "g++")?;
    setup::need_program("make", "make")?;
    let venv = root().join("target/outside/cmake");
    let cmake = venv.join("bin/cmake");
    if !cmake.exists() {
        setup::create_venv(&venv)?;
        let pip = ["-m", "pip", "install", "--quiet", CMAKE];
        succeed(Command::new(venv.join("bin/python")).args(pip))?;
    }
    println!("building {} in {}", PROGRAMS.join(", "), build.display());
    succeed(
        Command::new(&cmake)
            .arg("-S")
            .arg(source)
            .arg("-B")
            .arg(&build)
            .args(OPTIONS),
    )?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    succeed(
        Command::new(&cmake)
            .arg("--build")
            .arg(&build)
            .arg("--target")
            .args(PROGRAMS)
            .args(["--parallel", &jobs.to_string()]),
    )?;
    Ok(programs.join(PROGRAMS[0]))
}
