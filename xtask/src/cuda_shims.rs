//! Static libraries in place of those of CUDA, which load the real ones on the first call.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::cargo::{cargo, root, succeed};

/// Modules of cudarc, and the libraries that their functions are in.
const LIBRARIES: [(&str, &str); 5] = [
    ("driver", "cuda"),
    ("nvrtc", "nvrtc"),
    ("curand", "curand"),
    ("cublas", "cublas"),
    ("cublaslt", "cublasLt"),
];

/// What a function does on its first call: the address is found, and every register that holds an
/// argument is as before.
const FIRST_CALL: &str = r"
rbee_cuda_first_call:
    push %rdi
    push %rsi
    push %rdx
    push %rcx
    push %r8
    push %r9
    push %rax
    sub $136, %rsp
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    movups %xmm\n, 16*\n(%rsp)
    .endr
    mov 192(%rsp), %rdi
    call rbee_cuda_resolve
    mov %rax, %r11
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    movups 16*\n(%rsp), %xmm\n
    .endr
    add $136, %rsp
    pop %rax
    pop %r9
    pop %r8
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
    add $8, %rsp
    jmp *%r11
";

/// Writes the libraries to `directory`, for this machine's architecture, which must be x86-64.
pub fn write(directory: &Path, work: &Path) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the libraries of CUDA can be replaced on x86-64 only"
    );
    let sources = sources_of_cudarc()?;
    let mut functions = Vec::new();
    for (library, (module, _)) in LIBRARIES.iter().enumerate() {
        let path = Path::new(&sources).join(module).join("sys/mod.rs");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let names = foreign_functions(&text);
        ensure!(!names.is_empty(), "no functions in {}", path.display());
        functions.extend(names.into_iter().map(|name| (library, name)));
    }
    fs::create_dir_all(work)?;
    fs::write(work.join("functions.S"), assembly(&functions))?;
    fs::write(work.join("libraries.c"), include_str!("cuda_shims.c"))?;
    let compile = |source: &str| {
        let mut command = Command::new("cc");
        command.current_dir(work);
        succeed(command.args(["-O2", "-fPIC", "-Wall", "-Werror", "-c", source]))
    };
    compile("functions.S")?;
    compile("libraries.c")?;
    for (_, name) in LIBRARIES {
        let archive = directory.join(format!("lib{name}.a"));
        if archive.exists() {
            fs::remove_file(&archive)?;
        }
        let mut command = Command::new("ar");
        command.current_dir(work).arg("rcs").arg(archive);
        // The first has the functions of all.
        if name == "cuda" {
            command.args(["functions.o", "libraries.o"]);
        }
        succeed(&mut command)?;
    }
    Ok(())
}

/// The directory with the sources of the version of cudarc that the worker uses.
fn sources_of_cudarc() -> Result<String> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--features", "cuda"])
        .arg("--manifest-path")
        .arg(root().join("bin/worker-rbee/Cargo.toml"))
        .output()
        .context("cannot run cargo metadata")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {text}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut cudarc = packages.filter(|package| package["name"] == "cudarc");
    let manifest = cudarc.next().and_then(|p| p["manifest_path"].as_str());
    let manifest = manifest.context("the worker does not depend on cudarc")?;
    let root = manifest.strip_suffix("Cargo.toml").unwrap_or(manifest);
    Ok(format!("{root}src"))
}

/// The functions that a Rust source declares in blocks `extern "C"`.
fn foreign_functions(source: &str) -> BTreeSet<String> {
    let blocks = source.split("extern \"C\" {").skip(1);
    blocks
        .filter_map(|block| {
            let name = block.trim_start().strip_prefix("fn ")?.split('(').next()?;
            Some(name.to_owned())
        })
        .collect()
}

/// The functions: each jumps to the address in its slot, which is at first that of the instruction
/// after the jump.
fn assembly(functions: &[(usize, String)]) -> String {
    let mut code = vec![".text".to_owned(), FIRST_CALL.to_owned()];
    let mut slots = Vec::new();
    let mut table = Vec::new();
    for (index, (library, name)) in functions.iter().enumerate() {
        code.push(format!(
            ".globl {name}\n.type {name}, @function\n{name}:\n    jmp *rbee_cuda_slots+{}(%rip)\n\
             rbee_first_{index}:\n    push ${index}\n    jmp rbee_cuda_first_call",
            8 * index
        ));
        slots.push(format!("    .quad rbee_first_{index}"));
        table.push(format!(
            "    .quad {library}\n    .quad 9f\n    .section .rodata\n9:  .string \"{name}\"\n    \
             .section .data.rel.ro, \"aw\""
        ));
    }
    [
        code.join("\n"),
        ".data\n.align 8\n.hidden rbee_cuda_slots\n.globl rbee_cuda_slots\nrbee_cuda_slots:".into(),
        slots.join("\n"),
        ".section .data.rel.ro, \"aw\"\n.align 8\n.hidden rbee_cuda_functions\n\
         .globl rbee_cuda_functions\nrbee_cuda_functions:"
            .into(),
        table.join("\n"),
        ".section .note.GNU-stack, \"\", @progbits\n".into(),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_functions_are_found() {
        let source = "pub unsafe fn a(x: u8) { extern \"C\" {\n    fn a(x: u8) -> u8; } a(x) }\n\
                      extern \"C\" { fn b_v2(); }\nextern \"C\" fn callback() {}";
        let found: Vec<String> = foreign_functions(source).into_iter().collect();
        assert_eq!(found, ["a", "b_v2"]);
    }

    /// A program that is not linked with the libraries calls the real functions with all arguments,
    /// and gets an error of the library for those that are missing.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn functions_are_loaded_on_the_first_call() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let names = ["cuInit", "cuSum"].map(str::to_owned).into_iter();
        let mut functions: Vec<_> = names.map(|name| (0, name)).collect();
        functions.push((3, "cublasCreate_v2".to_owned()));
        fs::write(path("functions.S"), assembly(&functions)).unwrap();
        fs::write(path("libraries.c"), include_str!("cuda_shims.c")).unwrap();
        fs::write(
            path("driver.c"),
            "double cuSum(int a, int b, int c, int d, int e, int f, int g, double x, double y)\n\
             { return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + x + 2*y; }\n",
        )
        .unwrap();
        fs::write(
            path("main.c"),
            "#include <stdio.h>\nint cuInit(unsigned); int cublasCreate_v2(void *);\n\
             double cuSum(int, int, int, int, int, int, int, double, double);\n\
             int main(int n, char **v) { (void)v;\n\
             if (n > 1) printf(\"%d %d\", cuInit(0), cublasCreate_v2(0));\n\
             else for (int i = 0; i < 2; i++) printf(\"%.2f \", cuSum(1,2,3,4,5,6,7,0.5,0.25));\n\
             return 0; }\n",
        )
        .unwrap();
        let cc = |args: &[&str]| succeed(Command::new("cc").current_dir(dir.path()).args(args));
        fs::write(path("empty.c"), "").unwrap();
        for (library, source) in [("libcuda.so.1", "driver.c"), ("libcublas.so.13", "empty.c")] {
            cc(&["-shared", "-fPIC", "-o", library, source]).unwrap();
        }
        cc(&["-o", "main", "main.c", "functions.S", "libraries.c"]).unwrap();
        let run = |library_dir: &Path, args: &[&str]| {
            let mut command = Command::new(path("main"));
            command.env("RBEE_CUDA_LIB_DIR", library_dir).args(args);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        // 1 + 4 + 9 + 16 + 25 + 36 + 49 + 0.5 + 0.5
        assert_eq!(run(dir.path(), &[]), "141.00 141.00 ");
        // The libraries have no functions of these names.
        assert_eq!(run(dir.path(), &["errors"]), "100 1");
    }
}
