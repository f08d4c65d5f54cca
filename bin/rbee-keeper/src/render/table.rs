use diagnostics::escape;
use serde::Serialize;

/// Returns the name of an enum value in JSON: `ready`.
pub(crate) fn wire_name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// Formats rows as columns, two spaces apart, without empty columns. Returns the line `empty`
/// if there are no rows.
pub(super) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    empty: &str,
) -> String {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(|cell| escape(&cell))).collect();
    if rows.is_empty() {
        return format!("{empty}\n");
    }
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        match cells.max().unwrap_or(0) {
            0 => 0,
            widest => widest.max(headings[column].len()),
        }
    });
    let line = |cells: [&str; N]| {
        let columns = cells
            .into_iter()
            .zip(widths)
            .filter(|(_, width)| *width > 0);
        let padded: Vec<String> = columns
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(headings);
    for row in &rows {
        text += &line(row.each_ref().map(String::as_str));
    }
    text
}
