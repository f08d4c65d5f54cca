//! Checks that the kernels call no function for a single instruction.
//!
//! A kernel is compiled for an instruction set by being inlined into a function with that target
//! feature. If it is not inlined (a closure with two callers, for example), its results are right
//! but it is ten times slower, because it calls a function for each instruction. The check knows
//! the instructions of x86-64.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Result, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind,
    read::archive::ArchiveFile,
};

use crate::tally::Tally;

/// Searches the library of the kernels for calls of functions of single instructions.
pub fn run(library: &Path) -> Result<Tally> {
    let called = called_instructions(&fs::read(library)?)?;
    for name in &called {
        println!("kernels call {name}");
    }
    Ok(Tally::one("kernels inlined", called.is_empty()))
}

fn called_instructions(library: &[u8]) -> Result<BTreeSet<String>> {
    let mut called = BTreeSet::new();
    let mut references = 0;
    for member in ArchiveFile::parse(library)?.members() {
        // The archive contains the compiler's metadata as well.
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
