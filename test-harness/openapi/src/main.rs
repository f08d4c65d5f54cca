#![allow(clippy::print_stdout, reason = "a command line tool")]

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;

/// Generates the OpenAPI documents from the code
#[derive(Parser)]
struct Args {
    /// Directory of the documents
    directory: PathBuf,
    /// Only check that the documents are up to date
    #[arg(long)]
    check: bool,
}

fn main() -> Result<ExitCode, String> {
    let args = Args::parse();
    let mut outdated = false;
    for (name, text) in openapi_documents::documents()? {
        let path = args.directory.join(name);
        if args.check {
            if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
                println!("{} is outdated: run `cargo xtask openapi`", path.display());
                outdated = true;
            }
        } else {
            fs::create_dir_all(&args.directory)
                .and_then(|()| fs::write(&path, text))
                .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    Ok(if outdated {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
