//! `cargo xtask worker-catalog`.
#![allow(clippy::print_stdout, reason = "a command line tool for developers")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use catalog_writer::Parameters;
use clap::Parser;

/// Write the catalog of packages of workers as static files, and sign it
#[derive(Parser)]
#[command(bin_name = "cargo xtask worker-catalog")]
struct Args {
    /// Directory of the packages
    #[arg(long, value_name = "DIR", default_value = "packages")]
    packages: PathBuf,
    /// Directory to write to
    #[arg(long, value_name = "DIR", default_value = "target/worker-catalog")]
    out: PathBuf,
    /// File with the secret key of the catalog, of minisign and without a password. Without it,
    /// the catalog is not signed, and no hive reads it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Create a key in this file, which must not exist, and sign with it
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    new_key: Option<PathBuf>,
    /// Number that increases with every release [default: seconds since 1970]
    #[arg(long, value_name = "NUMBER")]
    sequence: Option<u64>,
    /// Git repository of rbee's own workers, `https://…`. Without it, packages that build them
    /// are left out
    #[arg(long, value_name = "URL", requires = "commit")]
    repository: Option<String>,
    /// Commit of that repository
    #[arg(long, value_name = "SHA", requires = "repository")]
    commit: Option<String>,
    /// Value of another parameter of the recipes; packages whose parameters have no value are
    /// left out
    #[arg(long = "set", value_name = "NAME=VALUE")]
    values: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut parameters = Parameters::default();
    for (name, value) in [("REPOSITORY", &args.repository), ("COMMIT", &args.commit)] {
        if let Some(value) = value {
            parameters.set(name, value)?;
        }
    }
    for value in &args.values {
        parameters.set_from(value)?;
    }
    let key = match (&args.key, &args.new_key) {
        (Some(path), _) => Some(catalog_writer::read_key(path)?),
        (None, Some(path)) => {
            let (key, public) = catalog_writer::new_key()?;
            write_secret(path, &catalog_writer::to_file(&key)?)?;
            Some((key, public))
        }
        (None, None) => None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let sequence = args.sequence.unwrap_or(now);
    let lock = fs::read_to_string("Cargo.lock").context("Cargo.lock")?;
    let (sources, left_out) = catalog_writer::read(&args.packages, &parameters, &lock)?;
    let secret = key.as_ref().map(|(secret, _)| secret);
    catalog_writer::write(&sources, &args.out, sequence, secret)?;
    for source in &sources {
        println!("{} {}", source.package.id, source.package.version);
    }
    for without in left_out {
        let names = without.parameters.join(", ");
        println!("{} is left out: {names} not set", without.id);
    }
    println!("{} packages in {}", sources.len(), args.out.display());
    match key {
        Some((_, public)) => println!("public key: {public}"),
        None => println!("not signed: there is no `--key`"),
    }
    Ok(())
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    Ok(file.write_all(text.as_bytes())?)
}
