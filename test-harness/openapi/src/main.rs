//! Writes the OpenAPI documents, or checks that they are what the code says.
#![allow(
    clippy::print_stdout,
    reason = "a command line program of the project's own"
)]

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;

/// Writes the OpenAPI documents from the code.
#[derive(Parser)]
struct Args {
    /// Where they lie.
    folder: PathBuf,
    /// Only check that they are what the code says.
    #[arg(long)]
    check: bool,
}

fn main() -> Result<ExitCode, String> {
    let args = Args::parse();
    let mut drifted = false;
    for (name, text) in openapi_documents::documents()? {
        let path = args.folder.join(name);
        if args.check {
            if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
                println!(
                    "{} is not what the code says: run `cargo xtask openapi`",
                    path.display()
                );
                drifted = true;
            }
        } else {
            fs::create_dir_all(&args.folder).map_err(|e| e.to_string())?;
            fs::write(&path, text).map_err(|e| e.to_string())?;
            println!("wrote {}", path.display());
        }
    }
    Ok(if drifted {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
