//! Names of worker binaries. They become names of directories and arguments of cargo.

use crate::name::name;

fn is_type(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_feature(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+/-".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

name!(
    /// Type of a worker, which is the name of its binary: `llm-cpu-worker-rbee`.
    WorkerType, "worker type", "1 to 64 characters of `a-z 0-9 -`, without `-` at the beginning",
    "^[a-z0-9][a-z0-9-]{0,63}$", is_type
);
name!(
    /// Package of a catalog: `llama-cpp-cpu`. It is the name of a directory.
    PackageId, "package", "1 to 64 characters of `a-z 0-9 -`, without `-` at the beginning",
    "^[a-z0-9][a-z0-9-]{0,63}$", is_type
);
name!(
    /// Name of an engine of a machine: `builtin`, `llama-cpp`.
    EngineName, "engine name", "1 to 64 characters of `a-z 0-9 -`, without `-` at the beginning",
    "^[a-z0-9][a-z0-9-]{0,63}$", is_type
);
name!(
    /// Version of a worker binary, as it prints it (`0.1.0`), or with the number of the
    /// installation (`0.1.0-2`).
    BinaryVersion, "version", "1 to 64 characters of `A-Z a-z 0-9 . _ + ~ -`, the first one a \
    letter or a digit",
    "^[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}$", is_version
);
name!(
    /// Feature of a cargo package.
    FeatureName, "feature", "1 to 64 characters of `A-Z a-z 0-9 _ + / -`, the first one a letter \
    or a digit",
    "^[A-Za-z0-9][A-Za-z0-9_+/-]{0,63}$", is_feature
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_an_option_or_leaves_its_directory() {
        for bad in [
            "",
            "-x",
            "..",
            ".",
            "a/b",
            "A b",
            "a\n",
            "$(x)",
            "--config=x",
        ] {
            assert!(bad.parse::<WorkerType>().is_err(), "{bad}");
            assert!(bad.parse::<PackageId>().is_err(), "{bad}");
            assert!(bad.parse::<BinaryVersion>().is_err(), "{bad}");
        }
        for bad in ["", "-F", "a b", "a,b", "a;b", "--all"] {
            assert!(bad.parse::<FeatureName>().is_err(), "{bad}");
        }
        for good in ["0.1.0", "0.1.0-2", "1.0.0-rc.1+g1234", "b6500"] {
            assert!(good.parse::<BinaryVersion>().is_ok(), "{good}");
        }
        assert!("llm-cuda-worker-rbee".parse::<WorkerType>().is_ok());
        assert!("candle-core/cuda".parse::<FeatureName>().is_ok());
    }
}
