//! Types for what users and peers send: ids, node names, devices, model references, hardware
//! addresses and port ranges. Parsing is the only way to create them, so that every value is valid. The
//! command line and the HTTP interfaces share them.

#![warn(missing_docs)]

/// Describes a type in OpenAPI as a string that matches a pattern.
macro_rules! string_schema {
    ($name:ident, $pattern:expr, $example:literal, $description:literal) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some($description))
                    .pattern(Some($pattern))
                    .examples([$example])
                    .build()
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

mod address;
mod aliases;
mod binaries;
mod certificate;
mod device;
mod errors;
mod git;
mod ids;
mod model_alias;
mod model_ref;
mod name;
mod node_url;
mod option;
#[cfg(test)]
mod pattern_tests;
mod port_range;
mod ssh;
mod wake;

pub use aliases::shipped_aliases;
pub use binaries::{BinaryVersion, EngineName, FeatureName, PackageId, WorkerType};
pub use certificate::CertificateFingerprint;
pub use device::{Backend, DeviceId};
pub use git::{BranchName, RepositoryUrl};
pub use ids::{Generation, JobId, NodeName, RequestId, WorkerId};
pub use model_alias::ModelAlias;
pub use model_ref::ModelRef;
pub use node_url::NodeUrl;
pub use option::{byte_count, option_value, whole_number};
pub use port_range::PortRange;
pub use ssh::{HostKeyFingerprint, RemoteDirectory, SshHost, SshUser};
pub use wake::{MacAddress, WakeAddress};
