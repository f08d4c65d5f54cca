/// Defines a type of strings that pass `$check`. Deserialization refuses others.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $form:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, pattern = $pattern)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = diagnostics::Diagnostic;
            fn from_str(text: &str) -> Result<Self, diagnostics::Diagnostic> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err($crate::errors::invalid_name($kind, $form, text))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = diagnostics::Diagnostic;
            fn try_from(text: String) -> Result<Self, diagnostics::Diagnostic> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use name;
