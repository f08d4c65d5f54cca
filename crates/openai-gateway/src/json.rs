use serde::Serialize;

/// Appends `value` as JSON.
pub(crate) fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Serializing plain data into memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}
