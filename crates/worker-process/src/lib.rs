//! What the processes of all workers have in common: the arguments of the contract, the files
//! with the tokens, the runtime for HTTP, and exit codes.

mod arguments;
mod errors;
mod process;

pub use arguments::WorkerArguments;
pub use process::{HTTP_THREADS, ServedModel, Variables, WorkerKind, exit, serve, serve_model};
