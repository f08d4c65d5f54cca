//! What every daemon does at its edge: state folders, tokens, guards, error answers, event
//! streams, processes it answers for, and logging. No decision of the product is made here.

#![warn(missing_docs)]

mod answer;
mod atomic_write;
mod blocking;
mod farewell;
mod guard;
mod lock;
mod log;
mod memory;
mod process;
mod serve;
mod sse;
mod token;

pub use answer::{Answer, Answer as ErrorResponse, JsonBody, PathArg, QueryArgs};
pub use atomic_write::{TEMPORARY_PREFIX, write_atomically};
pub use blocking::blocking;
pub use farewell::tell_failure;
pub use guard::{
    Admitted, bearer_token, finish, invalid_token, limit_requests, loopback_only, not_found,
    not_found_fallback, require_bearer, require_token,
};
pub use lock::FileLock;
pub use log::init_logging;
pub use memory::{Memory, oom_kills};
pub use process::{ProcessIdentity, Signal};
pub use serve::{bind, serve, termination};
pub use sse::{event_stream, line_stream};
pub use token::Token;
