use std::collections::BTreeSet;

use diagnostics::Diagnostic;
use pkgbuild::{Choice, Recipe, Script, Value, Variables};

use crate::{
    Phase,
    build::{Build, PKGBUILD},
    driver, errors,
    log::Log,
    sandbox::Access,
    steps,
    work_folder::WorkFolder,
};

/// Line of the output between the values and the functions.
const FUNCTIONS: &[u8] = b"functions\n";

/// Returns the values of the recipe: read from its text, or by bash in the sandbox where only
/// bash can tell them.
pub(crate) fn recipe(
    build: &Build<'_>,
    work: &WorkFolder,
    log: &mut Log<'_>,
) -> Result<Recipe, Diagnostic> {
    let request = build.request;
    let script = Script::parse(&request.text).map_err(|e| errors::recipe(&e))?;
    let mut preset = Variables::default();
    for (name, value) in steps::environment(request.machine) {
        preset.set(&name, Value::Text(value));
    }
    let (variables, functions) = match script.evaluate(&preset) {
        Ok(variables) => (variables, script.functions().clone()),
        Err(needs) => {
            if let Some(first) = needs.first() {
                log.message(&format!(
                    "bash evaluates the PKGBUILD in the sandbox: {}",
                    diagnostics::escape(&first.to_string())
                ));
            }
            by_bash(build, work, log)?
        }
    };
    let choice = Choice {
        machine: request.machine,
        package: request.package.clone(),
        allows_unverified: request.allows_unverified,
    };
    Recipe::new(&variables, &functions, &choice).map_err(|e| errors::recipe(&e))
}

fn by_bash(
    build: &Build<'_>,
    work: &WorkFolder,
    log: &mut Log<'_>,
) -> Result<(Variables, BTreeSet<String>), Diagnostic> {
    let access = Access {
        readable: vec![(work.dir("etc").join(PKGBUILD), steps::inside(PKGBUILD))],
        environment: steps::environment(build.request.machine),
        directory: "/build/home".into(),
        ..Access::default()
    };
    let path = steps::inside(PKGBUILD).display().to_string();
    let program = [
        "bash",
        "--noprofile",
        "--norc",
        "-c",
        driver::EVALUATE,
        "bash",
        &path,
    ];
    let output = build.run(Phase::Evaluate, work, &access, &program, true, log)?;
    let end = output
        .windows(FUNCTIONS.len())
        .rposition(|window| window == FUNCTIONS)
        .ok_or_else(|| errors::invalid("the PKGBUILD ends bash while it is evaluated"))?;
    let variables = Variables::from_declarations(&output[..end]).map_err(|e| errors::recipe(&e))?;
    let functions = String::from_utf8_lossy(&output[end + FUNCTIONS.len()..]);
    Ok((variables, functions.lines().map(str::to_owned).collect()))
}
