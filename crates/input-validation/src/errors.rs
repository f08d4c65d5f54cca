use std::fmt::Display;

use diagnostics::{Code, Diagnostic, excerpt};

/// `text` is not a valid `kind`; `form` describes the valid form.
pub(crate) fn invalid_name(kind: &str, form: &str, text: &str) -> Diagnostic {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    Diagnostic::new(
        Code::InvalidRequest,
        format!("not {article} {kind}: \"{}\"", excerpt(text, 80)),
    )
    .hint(format!("{article} {kind} is {form}"))
}

pub(crate) fn invalid_backend(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidBackend,
        format!("not a backend: \"{}\"", excerpt(text, 40)),
    )
    .hint("use `cpu`, `cuda` or `metal`")
}

pub(crate) fn invalid_device(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidDevice,
        format!("not a device: \"{}\"", excerpt(text, 40)),
    )
    .hint("use `CPU-0`, or `GPU-` and the index of the GPU")
}

pub(crate) fn invalid_model_ref(text: &str) -> Diagnostic {
    let hint = if text.starts_with("file:") {
        "write `file:` and an absolute path without `..`, such as `file:/models/model.gguf`"
    } else {
        "use `hf:org/repo`, `hf:org/repo:file.gguf`, `ollama:name:tag`, `builtin:haiku` or \
         `file:/absolute/path/model.gguf`"
    };
    Diagnostic::new(
        Code::InvalidModelRef,
        format!("not a model reference: \"{}\"", excerpt(text, 120)),
    )
    .hint(hint)
}

pub(crate) fn invalid_model_address(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelRef,
        format!("not the address of a model: \"{}\"", excerpt(text, 120)),
    )
    .hint(
        "use the address of a repository, or of a file in it, such as `hf.co/org/repo:Q4_K_M`; \
         the reference of a repository is `hf:org/repo`",
    )
}

pub(crate) fn invalid_model_alias(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelRef,
        format!("not a name of a model: \"{}\"", excerpt(text, 120)),
    )
    .hint("use letters, digits, `-`, `_`, `.` and `/`, and a tag if needed: `smollm2:tuned`")
}

pub(crate) fn invalid_mac_address(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("not a MAC address: \"{}\"", excerpt(text, 40)),
    )
    .hint(
        "write the address of one network card, such as `52:54:00:12:34:56`; on the machine, \
         `ip link` shows it after `link/ether`",
    )
}

pub(crate) fn invalid_wake_address(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!(
            "not an address for magic packets: \"{}\"",
            excerpt(text, 40)
        ),
    )
    .hint(
        "write the broadcast address of the machine's IPv4 network, and a port if it is not 9: \
         `192.0.2.255` or `192.0.2.255:7`",
    )
}

pub(crate) fn invalid_port_range(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("not a port range: \"{}\"", excerpt(text, 40)),
    )
    .hint("write `8081-8999` (1024 and above), or `0` for any free port")
}

pub(crate) fn not_a_size(text: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("invalid size: \"{}\"", excerpt(text, 40)),
    )
    .hint("use a whole number and a unit, for example 50G or 800M")
}

pub(crate) fn not_a_whole_number(text: &str, min: impl Display, max: impl Display) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("invalid number: \"{}\"", excerpt(text, 40)),
    )
    .hint(format!("use a whole number from {min} to {max}"))
}
