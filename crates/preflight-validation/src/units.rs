/// Formats a size with one decimal: `5.3 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let unit = |shift: u32| bytes as f64 / (1_u64 << shift) as f64;
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{:.1} KiB", unit(10)),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", unit(20)),
        _ => format!("{:.1} GiB", unit(30)),
    }
}

/// Formats two sizes of which the first is too small for the second, so that they differ.
pub(crate) fn sizes(have: u64, need: u64) -> (String, String) {
    let rounded = (size(have), size(need));
    if rounded.0 == rounded.1 {
        return (format!("{have} bytes"), format!("{need} bytes"));
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_differ_look_different() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(size(5 << 20), "5.0 MiB");
        let (have, need) = sizes(5 << 30, (5 << 30) + 1);
        assert_eq!(
            (have.as_str(), need.as_str()),
            ("5368709120 bytes", "5368709121 bytes")
        );
        assert_eq!(
            sizes(1 << 30, 2 << 30),
            ("1.0 GiB".into(), "2.0 GiB".into())
        );
    }
}
