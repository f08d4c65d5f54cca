use std::fmt;

use diagnostics::{Code, Diagnostic, excerpt};

use crate::{Availability, Declaration, Gap, Needs};

/// What happens with the chosen engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is started.
    Start,
    /// It is provisioned from its package first; the user has agreed to it.
    Provision,
}

/// What was decided about an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It runs the model.
    Chosen,
    /// It could, but one that comes first was chosen.
    NotNeeded,
    /// It could, but the user has not agreed to its package.
    NotAgreed,
    /// It could, but the user named another one.
    NotNamed,
    /// It runs already, and the user did not name it.
    OnlyNamed,
    /// It cannot.
    Cannot(Vec<Gap>),
}

/// The engine that runs a model, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The engine.
    pub engine: &'a Declaration,
    /// What happens with it.
    pub step: Step,
    /// The verdict on each engine, in the order of their declarations.
    pub verdicts: Vec<(&'a str, Verdict)>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("it runs the model"),
            Self::NotNeeded => f.write_str("it could run the model, and another one comes first"),
            Self::NotAgreed => f.write_str("it could run the model after you agree to its package"),
            Self::NotNamed => f.write_str("it could run the model, and another one was named"),
            Self::OnlyNamed => f.write_str("it runs already, and is used only if it is named"),
            Self::Cannot(gaps) => write!(f, "it does not support {}", list(gaps)),
        }
    }
}

fn list(gaps: &[Gap]) -> String {
    let names: Vec<String> = gaps.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// The order in which engines are tried: built in, installed, agreed packages, other packages.
fn rank(engine: &Declaration) -> u8 {
    match engine.availability {
        Availability::BuiltIn => 0,
        Availability::Installed | Availability::Attached => 1,
        Availability::Package { agreed: true, .. } => 2,
        Availability::Package { agreed: false, .. } => 3,
    }
}

/// Chooses the engine that runs a model. `named` is the engine that the user named.
///
/// Errors: `UNSUPPORTED_MODEL` if no engine can, `UNSUPPORTED_QUANTIZATION` if only types of tensors
/// are missing, `BACKEND_UNAVAILABLE` if only the backend is; `PACKAGE_NOT_APPROVED` if a package
/// could and the user has not agreed to it; `NOT_FOUND` if the named engine does not exist. The
/// hint has the command that helps.
pub fn choose<'a>(
    needs: &Needs,
    engines: &'a [Declaration],
    named: Option<&str>,
) -> Result<Choice<'a>, Diagnostic> {
    let mut order: Vec<&Declaration> = engines.iter().collect();
    // The sort is stable: the order of the declarations decides within a rank.
    order.sort_by_key(|engine| rank(engine));
    if let Some(name) = named {
        order.retain(|engine| engine.name == name);
        if order.is_empty() {
            return Err(no_such_engine(name, engines));
        }
    } else {
        order.retain(|engine| engine.availability != Availability::Attached);
    }
    let able = order.iter().find(|engine| needs.gaps(engine).is_empty());
    let Some(engine) = able.copied() else {
        return Err(refused(needs, &order, engines));
    };
    let step = match &engine.availability {
        Availability::BuiltIn | Availability::Installed | Availability::Attached => Step::Start,
        Availability::Package { agreed: true, .. } => Step::Provision,
        Availability::Package { id, agreed: false } => {
            return Err(not_agreed(needs, engine, id, engines));
        }
    };
    let verdict = |other: &Declaration| {
        let gaps = needs.gaps(other);
        match &other.availability {
            _ if std::ptr::eq(other, engine) => Verdict::Chosen,
            _ if !gaps.is_empty() => Verdict::Cannot(gaps),
            _ if named.is_some() => Verdict::NotNamed,
            Availability::Attached => Verdict::OnlyNamed,
            Availability::Package { agreed: false, .. } => Verdict::NotAgreed,
            _ => Verdict::NotNeeded,
        }
    };
    Ok(Choice {
        engine,
        step,
        verdicts: engines
            .iter()
            .map(|engine| (engine.name.as_str(), verdict(engine)))
            .collect(),
    })
}

/// What helps if nothing that is known runs the model.
const NO_ENGINE: &str = "add an engine that does: describe one of the machine in the directory \
                         `engines` of the hive's home, or provision a package that `rbee-keeper \
                         worker-binary catalog` lists with `rbee-keeper worker-binary provision`; \
                         or use a model of another architecture or \
                         quantization";

fn no_such_engine(name: &str, engines: &[Declaration]) -> Diagnostic {
    let known: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
    Diagnostic::new(
        Code::NotFound,
        format!("no engine \"{}\" on this node", excerpt(name, 64)),
    )
    .hint(format!("use one of: {}", known.join(", ")))
}

/// Why the engines that come first cannot run the model.
fn reasons<'a>(needs: &Needs, engines: impl Iterator<Item = &'a Declaration>) -> String {
    let reasons: Vec<String> = engines
        .filter_map(|engine| {
            let gaps = needs.gaps(engine);
            let what = list(&gaps);
            (!gaps.is_empty()).then(|| format!("{} does not support {what}", engine.name))
        })
        .collect();
    reasons.join("; ")
}

fn not_agreed(
    needs: &Needs,
    engine: &Declaration,
    package: &str,
    engines: &[Declaration],
) -> Diagnostic {
    let first = engines.iter().filter(|other| rank(other) < rank(engine));
    let why = match reasons(needs, first) {
        why if why.is_empty() => "no engine is installed".to_owned(),
        why => why,
    };
    Diagnostic::new(
        Code::PackageNotApproved,
        format!("{why}; {} would run the model", engine.name),
    )
    .hint(format!(
        "read its package with `rbee-keeper worker-binary catalog {id}`, and agree to it once with \
         `rbee-keeper worker-binary provision {} --package {id} --approve`",
        engine.worker_type,
        id = excerpt(package, 64)
    ))
    .detail("engine", engine.name.as_str())
    .detail("package", package)
}

fn refused(needs: &Needs, tried: &[&Declaration], engines: &[Declaration]) -> Diagnostic {
    let gaps: Vec<Gap> = tried.iter().flat_map(|engine| needs.gaps(engine)).collect();
    let code = if gaps.is_empty() {
        Code::UnsupportedModel
    } else if gaps.iter().all(|gap| matches!(gap, Gap::TensorType(_))) {
        Code::UnsupportedQuantization
    } else if gaps.iter().all(|gap| matches!(gap, Gap::Backend(_))) {
        Code::BackendUnavailable
    } else {
        Code::UnsupportedModel
    };
    let message = match reasons(needs, tried.iter().copied()) {
        why if why.is_empty() => "no engine is installed on this node".to_owned(),
        why => format!("no engine runs the model: {why}"),
    };
    // Another one than the named engine may.
    let other = engines.iter().find(|engine| needs.gaps(engine).is_empty());
    let hint = match other {
        Some(Declaration {
            name,
            availability: Availability::Attached,
            ..
        }) => format!("use the engine {name} with `--engine {name}`"),
        Some(engine) => format!("use the engine {}, or leave out its name", engine.name),
        None => NO_ENGINE.to_owned(),
    };
    let missing: Vec<String> = gaps.iter().map(ToString::to_string).collect();
    Diagnostic::new(code, message)
        .hint(hint)
        .detail("missing", missing)
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
