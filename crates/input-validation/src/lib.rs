//! Types for the names that users and peers send: ids, node names, devices and model
//! references. Parsing is the only way to create them, so that every value is valid. The
//! command line and the HTTP interfaces share them.

#![warn(missing_docs)]

/// Describes a type in OpenAPI as a string.
macro_rules! string_schema {
    ($name:ident, $example:literal) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .examples([$example])
                    .build()
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

mod device;
mod errors;
mod ids;
mod model_ref;

pub use device::{Backend, DeviceId};
pub use ids::{Generation, JobId, NodeName, RequestId, WorkerId};
pub use model_ref::ModelRef;
