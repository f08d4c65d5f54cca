//! The edge of every daemon: HTTP serving, guards, error responses, event streams, tokens,
//! processes and logging. No product decision is made here.

#![warn(missing_docs)]

mod arguments;
mod atomic_write;
mod blocking;
mod connection;
mod daemon;
mod error_response;
mod errors;
mod extract;
mod fatal;
mod guard;
mod http1;
mod lock;
mod log;
mod memory;
mod new_file;
mod process;
mod serve;
mod sse;
mod tls;
mod token;
mod upgrade;

pub use arguments::{parse_arguments, without_empty_variables};
pub use atomic_write::{TEMPORARY_PREFIX, write_atomically};
pub use blocking::blocking;
pub use connection::Encryption;
pub use daemon::{own_binary, run_daemon};
pub use error_response::ErrorResponse;
pub use errors::{invalid_token, no_route, origin_not_admitted};
pub use extract::{JsonBody, PathArg, QueryArgs};
pub use fatal::report_fatal;
pub use guard::{
    Admitted, bearer_token, finish, limit_requests, loopback_only, require_bearer, require_token,
};
pub use lock::FileLock;
pub use log::{LogFilter, init_logging};
pub use memory::{Memory, oom_kills};
pub use process::{ProcessIdentity, Signal};
pub use serve::{bind, local_address, local_socket, local_url, serve, serve_with_tls, termination};
pub use sse::{event_stream, event_stream_kept_alive, line_stream};
pub use tls::tls_identity;
pub use token::{Token, TokenHash};
pub use upgrade::{Upgrade, UpgradedConnection};
