#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]
//! Measures the matrix products: `cargo run --release -p cpu-kernels --example kernels --
//! [TYPE|all] [THREADS] [ROWS] [COLUMNS] [MB_OF_WEIGHTS]`.

use std::time::Instant;

use cpu_kernels::{Isa, PackedMatrix, Product, Threads, WeightMemory, multiply};
use model_format::TensorType;

/// Returns the shortest time of a call in seconds; other processes may disturb some calls.
fn seconds(mut call: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    while begin.elapsed().as_secs_f64() < 1.0 {
        let begin = Instant::now();
        call();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, default: &str| {
        let value = arguments.get(index).cloned();
        value.unwrap_or_else(|| default.to_owned())
    };
    let selected = argument(0, "all");
    let threads = Threads::new(argument(1, "1").parse().unwrap()).unwrap();
    let rows: usize = argument(2, "2048").parse().unwrap();
    let columns: usize = argument(3, "2048").parse().unwrap();
    for &kind in TensorType::ALL {
        if selected != "all" && selected != kind.name() {
            continue;
        }
        let bytes = rows * columns / kind.block_size() as usize * kind.block_bytes() as usize;
        let data = vec![0x11; bytes];
        let memory = WeightMemory::default();
        let packed = PackedMatrix::new(kind, (rows, columns), &data, &memory, &threads);
        drop(packed.unwrap());
        let begin = Instant::now();
        // Several copies, so that no cache holds the weights.
        let copies = (argument(4, "256").parse::<usize>().unwrap() << 20) / bytes + 1;
        let matrices: Vec<PackedMatrix> = (0..copies)
            .map(|_| PackedMatrix::new(kind, (rows, columns), &data, &memory, &threads).unwrap())
            .collect();
        let pack = (bytes * copies) as f64 / begin.elapsed().as_secs_f64();
        println!("{}: packed {:.2} GB/s", kind.name(), pack / 1e9);
        for isa in Isa::available().filter(|&isa| isa > Isa::Plain) {
            print!("  {isa:?}:");
            for n in [1, 4, 8, 16] {
                let x = vec![0.7; n * columns];
                let mut out = vec![0.0; n * rows];
                let mut next = 0;
                let time = seconds(|| {
                    let matrix = &matrices[next % copies];
                    next += 1;
                    let out = &mut out;
                    multiply(isa, &threads, &x, &mut [Product { matrix, out }]).unwrap();
                });
                print!(" n={n} {:.1} GB/s", bytes as f64 / time / 1e9);
            }
            let n = 512;
            let x = vec![0.7; n * columns];
            let mut out = vec![0.0; n * rows];
            let matrix = &matrices[0];
            let time = seconds(|| {
                let out = &mut out;
                multiply(isa, &threads, &x, &mut [Product { matrix, out }]).unwrap();
            });
            println!(
                " n={n} {:.1} GMAC/s",
                (rows * columns * n) as f64 / time / 1e9
            );
        }
    }
}
