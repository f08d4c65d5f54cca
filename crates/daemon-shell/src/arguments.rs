use std::ffi::{OsStr, OsString};

use clap::{Command, builder::Resettable};

/// Returns the value of an environment variable.
type Environment = fn(&OsStr) -> Option<OsString>;

/// Leaves out environment variables that are set to nothing, as if they were not set.
#[must_use]
pub fn without_empty_variables(definition: Command, environment: Environment) -> Command {
    definition.mut_args(|arg| match arg.get_env().map(environment) {
        Some(Some(value)) if value.is_empty() => arg.env(Resettable::Reset),
        _ => arg,
    })
}

/// Parses the arguments and environment variables of this process. Exits with a message if they
/// are invalid, or if help is requested.
#[must_use]
pub fn parse_arguments<T: clap::Parser>(environment: Environment) -> T {
    let mut matches = without_empty_variables(T::command(), environment).get_matches();
    T::from_arg_matches_mut(&mut matches).unwrap_or_else(|e| e.format(&mut T::command()).exit())
}
