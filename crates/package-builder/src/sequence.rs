use std::{fs, time::Instant};

use diagnostics::{Diagnostic, excerpt};

use crate::{
    Approval, BuiltPackage, Phase,
    build::{Build, PKGBUILD},
    build_user, errors, evaluate, fetch,
    log::Log,
    sandbox, stage, steps, tools, verify,
    work_folder::WorkFolder,
};

/// Characters of a text of the recipe.
const EXCERPT: usize = 500;

/// Runs all phases of a build.
pub(crate) fn run(build: &Build<'_>) -> Result<BuiltPackage, Diagnostic> {
    let started = Instant::now();
    let request = build.request;
    let needed = Approval::of(&request.text);
    if request.approval != Some(needed) {
        return Err(errors::not_approved(needed));
    }
    let missing = tools::missing_for_any(build.settings);
    if !missing.is_empty() {
        return Err(errors::missing(&missing));
    }
    let work = WorkFolder::create(&request.work)?;
    work.write(PKGBUILD, &request.text)?;
    let copy = work.dir("start").join(PKGBUILD);
    fs::write(&copy, &request.text)
        .and_then(|()| build_user::give(&copy))
        .map_err(|e| errors::storage("write", &copy, &e))?;
    sandbox::check(build.settings, work.path())?;

    let mut log = Log::create(&request.log, build.listener)?;
    build.begin(Phase::Evaluate, &mut log)?;
    let recipe = evaluate::recipe(build, &work, &mut log)?;
    let missing = tools::missing(build.settings, &recipe);
    if !missing.is_empty() {
        return Err(errors::missing(&missing));
    }
    build.begin(Phase::Fetch, &mut log)?;
    fetch::fetch(build, &recipe, &work, &mut log)?;
    build.begin(Phase::Verify, &mut log)?;
    for source in recipe
        .sources
        .iter()
        .filter(|source| source.source.is_file())
    {
        let path = work.dir("src").join(&source.source.name);
        verify::verify(&path, source, build.cancel)?;
    }
    build.begin(Phase::Extract, &mut log)?;
    steps::extract(build, &recipe, &work, &mut log)?;
    let version = steps::run(build, &recipe, &work, &mut log)?;
    build.begin(Phase::List, &mut log)?;
    let files = stage::list(&work.dir("pkg"), build.cancel)?;
    build.check_cancelled()?;
    Ok(BuiltPackage {
        name: recipe.name.clone(),
        version,
        description: excerpt(&recipe.description, EXCERPT),
        depends: recipe
            .depends
            .iter()
            .map(|text| excerpt(text, EXCERPT))
            .collect(),
        root: work.keep_package()?,
        files,
        log: request.log.clone(),
        duration: started.elapsed(),
    })
}
