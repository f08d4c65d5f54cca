/// Writes a number of bytes with a unit of 1024: `4.1 GiB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"], " ")
}

/// Writes a number with a unit of 1000: `7.2B`.
pub fn count(n: u64) -> String {
    scaled(n, 1000, ["", "K", "M", "B", "T"], "")
}

/// Writes a number of things: `1 file`, `2 files`.
pub fn counted(n: usize, thing: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{plural}")
}

fn scaled(value: u64, base: u64, units: [&str; 5], gap: &str) -> String {
    let mut scale = 1;
    for unit in units {
        if value / scale < base || unit == units[4] {
            let figure = value as f64 / scale as f64;
            let decimals = usize::from(scale > 1 && figure < 100.0);
            return format!("{figure:.decimals$}{gap}{unit}");
        }
        scale *= base;
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_a_unit() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (200 << 20, "200 MiB"),
            (4 << 30, "4.0 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(count(999), "999");
        assert_eq!(count(7_200_000_000), "7.2B");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(0, "file"), "0 files");
    }
}
