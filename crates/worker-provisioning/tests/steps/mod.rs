mod builds;
mod callers;
mod package;
mod package_catalog;
mod releases;
mod repository;
mod server;
mod silent;

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
