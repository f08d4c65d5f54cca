//! Kernels are compiled for an instruction set by being inlined into a function that has it.
//! One that is not inlined, like a closure that two places call, gives the right numbers ten
//! times as slowly: it calls a function for each instruction. Looked for are those of x86-64.

use std::{collections::BTreeSet, fs};

use anyhow::{Result, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind,
    read::archive::ArchiveFile,
};

use crate::{cargo::library, tally::Tally};

/// Looks for calls of functions of single instructions in the library of the kernels.
pub fn run() -> Result<Tally> {
    let called = called_instructions(&fs::read(library("cpu_kernels")?)?)?;
    for name in &called {
        println!("kernels call {name}");
    }
    let ok = called.is_empty();
    println!("kernels inlined ... {}", if ok { "ok" } else { "FAILED" });
    Ok(Tally::one(ok))
}

fn called_instructions(library: &[u8]) -> Result<BTreeSet<String>> {
    let mut called = BTreeSet::new();
    let mut references = 0;
    for member in ArchiveFile::parse(library)?.members() {
        // Beside the objects there is what the compiler knows of the crate.
        let Ok(file) = object::File::parse(member?.data(library)?) else {
            continue;
        };
        let code = file.sections().filter(|s| s.kind() == SectionKind::Text);
        for (_, reference) in code.flat_map(|section| section.relocations()) {
            references += 1;
            if let RelocationTarget::Symbol(symbol) = reference.target()
                && let Ok(name) = file.symbol_by_index(symbol)?.name()
                && name.contains("core_arch")
                && ["_mm_", "_mm256_", "_mm512_"]
                    .iter()
                    .any(|of| name.contains(of))
            {
                called.insert(name.to_owned());
            }
        }
    }
    ensure!(references > 0, "the library of the kernels has no code");
    Ok(called)
}
