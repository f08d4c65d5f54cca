//! Parse, don't validate: what a user or a peer may name, as types that can only hold
//! valid values. Used by command line and HTTP alike.

#![warn(missing_docs)]

/// Documents a type as what it is on the wire: a string.
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
mod ids;
mod model_ref;

pub use device::{Backend, DeviceId};
pub use ids::{Generation, JobId, NodeName, RequestId, WorkerId};
pub use model_ref::ModelRef;
