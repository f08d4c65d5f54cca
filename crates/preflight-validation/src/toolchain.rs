//! What a build needs on the machine.

use diagnostics::excerpt;

/// Oldest cargo that builds rbee.
const CARGO: &str = env!("CARGO_PKG_RUST_VERSION");
/// Longest version that is shown, in characters.
const MAX_VERSION_CHARS: usize = 60;

/// Reads the versions of the tools, as lines `tool=version`, and `rustup=1` if that is there.
/// Returns them as a list for users, or everything that is missing.
pub fn check_toolchain(printed: &str) -> Result<String, Vec<String>> {
    let value = |tool: &str| {
        let mut lines = printed.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| *key == tool).map(|(_, value)| value)
    };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for tool in ["git", "cargo", "cc"] {
        match value(tool) {
            None => missing.push(tool.to_owned()),
            // rustup fetches the toolchain that the repository names.
            Some(version) if tool == "cargo" && value("rustup").is_none() && is_old(version) => {
                let version = excerpt(version, MAX_VERSION_CHARS);
                missing.push(format!("cargo {CARGO} or newer (found: {version})"));
            }
            Some(version) => found.push(excerpt(version, MAX_VERSION_CHARS)),
        }
    }
    if missing.is_empty() {
        Ok(found.join(", "))
    } else {
        Err(missing)
    }
}

/// Whether `cargo 1.75.0 (1d8b05cdd 2023-11-20)` is too old. One that prints something else does
/// not work.
fn is_old(printed: &str) -> bool {
    let version = printed.split(' ').nth(1).and_then(numbers);
    version.is_none_or(|version| Some(version) < numbers(CARGO))
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_reported_at_once() {
        let all = |list: &[&str]| Err(list.iter().map(|&tool| tool.to_owned()).collect());
        assert_eq!(check_toolchain(""), all(&["git", "cargo", "cc"]));
        assert_eq!(
            check_toolchain("cargo=cargo 99.0.0 (x)"),
            all(&["git", "cc"])
        );
        let old = "git=git version 2.39.5\ncargo=cargo 1.75.0 (1d8b05cdd 2023-11-20)\n";
        let expected =
            format!("cargo {CARGO} or newer (found: cargo 1.75.0 (1d8b05cdd 2023-11-20))");
        assert_eq!(check_toolchain(old), all(&[&expected, "cc"]));
        let broken = "git=git version 2\ncc=cc\ncargo=error: \u{1b}no toolchain";
        let expected = format!(r"cargo {CARGO} or newer (found: error: \u{{1b}}no toolchain)");
        assert_eq!(check_toolchain(broken), all(&[&expected]));
    }

    #[test]
    fn a_complete_toolchain_is_named_with_its_versions() {
        let text = "git=git version 2.39.5\ncargo=cargo 99.1.0\ncc=cc (Debian 12) 12.2.0\n";
        let expected = "git version 2.39.5, cargo 99.1.0, cc (Debian 12) 12.2.0";
        assert_eq!(check_toolchain(text), Ok(expected.to_owned()));
        let rustup = text.replace("99.1.0", "1.0.0") + "rustup=1\n";
        assert!(
            check_toolchain(&rustup).is_ok(),
            "rustup fetches another one"
        );
    }
}
