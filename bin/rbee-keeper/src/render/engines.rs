//! Text output about engines, as pure functions.

use hive_contract::{EngineEntry, EngineList};
use input_validation::Backend;

use super::table::{table, wire_name};

/// Formats the result of `rbee-keeper worker engines`.
pub(crate) fn list(list: &EngineList) -> String {
    let usable = list
        .engines
        .iter()
        .filter(|engine| engine.problem.is_none());
    let rows = usable.map(|engine| {
        let formats: Vec<String> = engine.formats.iter().map(wire_name).collect();
        let backends: Vec<String> = engine.backends.iter().map(Backend::to_string).collect();
        [
            engine.name.clone(),
            wire_name(&engine.source),
            engine.kind.clone().unwrap_or_default(),
            formats.join(","),
            backends.join(","),
            engine.place.clone().unwrap_or_default(),
        ]
    });
    let headings = ["ENGINE", "SOURCE", "KIND", "FORMATS", "BACKENDS", "PLACE"];
    let mut text = table(headings, rows, "no engines");
    for engine in &list.engines {
        text.push_str(&problem(engine).unwrap_or_default());
    }
    text
}

fn problem(engine: &EngineEntry) -> Option<String> {
    let problem = engine.problem.as_ref()?;
    let message = diagnostics::escape(&problem.message);
    let hint = problem.hint.as_deref().unwrap_or_default();
    Some(format!(
        "problem: {message}\n  hint: {}\n",
        diagnostics::escape(hint)
    ))
}

#[cfg(test)]
mod tests {
    use hive_contract::{EngineProblem, EngineSource, ModelFormat};

    use super::*;

    #[test]
    fn engines_are_listed_and_problems_follow() {
        let engine = |name: &str, problem| EngineEntry {
            name: name.into(),
            source: EngineSource::Configured,
            kind: Some("vllm".into()),
            place: Some("http://box:8000".into()),
            formats: vec![ModelFormat::Safetensors],
            backends: vec![Backend::Cpu, Backend::Cuda],
            problem,
        };
        let problem = EngineProblem {
            message: "no kind \u{1b}".into(),
            hint: Some("correct it".into()),
        };
        let list_of = EngineList {
            engines: vec![engine("big", None), engine("bad", Some(problem))],
        };
        assert_eq!(
            list(&list_of),
            "ENGINE  SOURCE      KIND  FORMATS      BACKENDS  PLACE\n\
             big     configured  vllm  safetensors  cpu,cuda  http://box:8000\n\
             problem: no kind \\u{1b}\n  hint: correct it\n"
        );
    }
}
