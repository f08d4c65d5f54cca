use std::{fmt, str::FromStr};

use diagnostics::{Code, Diagnostic, excerpt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A string that passed a check; serde refuses anything else.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Diagnostic;
            fn from_str(text: &str) -> Result<Self, Diagnostic> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Diagnostic::new(
                        Code::InvalidRequest,
                        format!(concat!("not a ", $what, ": \"{}\""), excerpt(text, 80)),
                    )
                    .hint(concat!("a ", $what, " is ", $form)))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Diagnostic;
            fn try_from(text: String) -> Result<Self, Diagnostic> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_id(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

name!(
    /// A worker's name, unique in a queen's realm; also the name of its folder.
    WorkerId, "worker id", "1 to 64 of `A-Z a-z 0-9 _ -`", |t| is_id(t, 64)
);
name!(
    /// A request's name, given by the client or made by the queen.
    RequestId, "request id", "1 to 128 of `A-Z a-z 0-9 _ -`", |t| is_id(t, 128)
);
name!(
    /// A job's name.
    JobId, "job id", "1 to 64 of `A-Z a-z 0-9 _ -`", |t| is_id(t, 64)
);
name!(
    /// A node's name: one DNS label.
    NodeName, "node name", "1 to 63 of `a-z 0-9 -`, no `-` at either end",
    |t| (1..=63).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !t.starts_with('-')
        && !t.ends_with('-')
);

impl NodeName {
    /// Name of the machine that the queen runs on, as seen by the queen.
    pub fn local() -> Self {
        Self("local".into())
    }
}

/// How many times workers were spawned when this one was: a higher number supersedes a
/// lower one of the same worker id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Generation {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_worker_id_is_always_a_safe_file_name(text in ".{0,80}") {
            if let Ok(id) = text.parse::<WorkerId>() {
                prop_assert!(!id.as_str().contains(['/', '.', '\0']));
                prop_assert!(id.as_str().len() <= 64 && !id.as_str().is_empty());
            }
        }
    }

    #[test]
    fn names_that_must_be_refused() {
        for bad in ["", "../x", "a b", "a\n", "é", &"x".repeat(65)] {
            assert!(bad.parse::<WorkerId>().is_err(), "{bad}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
        let error = "\u{1b}[31m".parse::<WorkerId>().unwrap_err();
        assert!(!error.message.contains('\u{1b}'));
    }

    #[test]
    fn the_local_node_has_a_valid_name() {
        assert_eq!("local".parse(), Ok(NodeName::local()));
    }

    #[test]
    fn serde_refuses_what_parse_refuses() {
        assert!(serde_json::from_str::<WorkerId>("\"a/b\"").is_err());
        assert_eq!(
            serde_json::to_string(&"w-1".parse::<WorkerId>().unwrap()).unwrap(),
            "\"w-1\""
        );
    }
}
