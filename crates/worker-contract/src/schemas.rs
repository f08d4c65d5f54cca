//! Schemas of values whose Rust types say less than what is enforced.

use openapi_schema::{described, number, schema_types, string, unsigned};
use utoipa::openapi::{
    ArrayBuilder, RefOr,
    schema::{ArrayItems, Schema},
};

use crate::limits::{LOGIT_BIAS, MAX_STOP_SEQUENCE_BYTES};

schema_types! {
    /// Stop sequence of 1 to 1024 bytes.
    StopSequence = string(1..=MAX_STOP_SEQUENCE_BYTES);
}

/// Pair of a token id and the value to add to its logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitBias {}

impl utoipa::PartialSchema for LogitBias {
    fn schema() -> RefOr<Schema> {
        let pair = [unsigned(u32::MAX as usize), number(&LOGIT_BIAS)];
        let pair = pair.into_iter().filter_map(|schema| match schema {
            RefOr::T(schema) => Some(schema),
            RefOr::Ref(_) => None,
        });
        let pair = ArrayBuilder::new()
            .prefix_items(pair)
            .items(ArrayItems::False)
            .min_items(Some(2))
            .max_items(Some(2));
        described(
            pair.into(),
            &["Pair of a token id and the value to add to its logit, -100 to 100."],
        )
    }
}

impl utoipa::ToSchema for LogitBias {}
