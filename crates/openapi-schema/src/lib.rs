//! Builders for parts of the OpenAPI documents that derive macros cannot describe: unions of
//! JSON types, server-sent events, error responses, and the bounds of integers.

#![warn(missing_docs)]

mod errors;
mod events;
mod integers;
mod schemas;
mod shared;

pub use errors::error_responses;
pub use events::{event, event_of_json, events};
pub use integers::IntegerBounds;
pub use schemas::{
    Field, SchemaRef, all_of, any, any_number, any_of, array, boolean, closed_object, date_time,
    described, integer, map, null, nullable, number, object, one_of_names, optional, pattern,
    reference, required, string, strings, text, unsigned,
};

pub use shared::SharedErrors;

// For the macros.
#[doc(hidden)]
pub use utoipa;

/// Defines types that stand for a schema in `#[schema(value_type = …)]`. Documentation comments
/// are the descriptions.
///
/// ```
/// openapi_schema::schema_types! {
///     /// A string or null.
///     MaybeString = openapi_schema::nullable(openapi_schema::text());
/// }
/// ```
#[macro_export]
macro_rules! schema_types {
    ($($(#[doc = $doc:literal])+ $name:ident = $schema:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {}

        impl $crate::utoipa::PartialSchema for $name {
            fn schema() -> $crate::SchemaRef {
                $crate::described($schema, &[$($doc),+])
            }
        }

        impl $crate::utoipa::ToSchema for $name {}
    )+};
}

/// Implements `ToSchema` for a type with a schema and a description. The schema can refer to the
/// listed types.
///
/// ```
/// /// The word `all` or a number.
/// enum Count {
///     All,
///     Number(u8),
/// }
///
/// openapi_schema::impl_schema! {
///     Count, uses [], "The word `all` or a number.",
///     openapi_schema::any_of([
///         openapi_schema::strings(["all"]),
///         openapi_schema::integer(0..=255),
///     ])
/// }
/// ```
#[macro_export]
macro_rules! impl_schema {
    ($type:ident, uses [$($used:ident),* $(,)?], $description:expr, $schema:expr) => {
        impl $crate::utoipa::PartialSchema for $type {
            fn schema() -> $crate::SchemaRef {
                $crate::described($schema, &[$description])
            }
        }

        impl $crate::utoipa::ToSchema for $type {
            fn schemas(schemas: &mut ::std::vec::Vec<(::std::string::String, $crate::SchemaRef)>) {
                $(
                    schemas.push((
                        <$used as $crate::utoipa::ToSchema>::name().into_owned(),
                        <$used as $crate::utoipa::PartialSchema>::schema(),
                    ));
                    <$used as $crate::utoipa::ToSchema>::schemas(schemas);
                )*
                let _ = schemas;
            }
        }
    };
}

/// Defines a type that stands for error responses in `#[utoipa::path(responses(…))]`: those with
/// these statuses and this body. A description replaces the general one of a status.
///
/// ```
/// # use utoipa::ToSchema;
/// #[derive(ToSchema)]
/// struct ErrorBody {
///     message: String,
/// }
///
/// openapi_schema::error_responses_type!(Guarded<ErrorBody>: 401, 403 "The host is not permitted");
/// ```
#[macro_export]
macro_rules! error_responses_type {
    ($name:ident<$body:ty>: $($status:literal $($description:literal)?),+ $(,)?) => {
        pub(crate) enum $name {}

        impl $crate::utoipa::IntoResponses for $name {
            fn responses() -> ::std::collections::BTreeMap<
                ::std::string::String,
                $crate::utoipa::openapi::RefOr<$crate::utoipa::openapi::Response>,
            > {
                $crate::error_responses::<$body>(&[
                    $(($status, [$($description)?].first().copied())),+
                ])
            }
        }
    };
}
