//! Text output about models on disk, as pure functions.

use diagnostics::{bytes, count, counted, escape};
use hive_contract::{
    AliasEntry, AliasRequest, FileState, PruneResponse, PullResponse, RemovedModel, UpdateResponse,
    VerifyResponse,
};
use queen_contract::ModelReport;

use super::{
    fit,
    table::{table, wire_name},
    text::sampling,
};

/// Formats the result of `rbee-keeper pull`.
pub(crate) fn pulled(pulled: &PullResponse) -> String {
    let model = &pulled.model;
    if pulled.fetched_bytes == 0 {
        return format!("{} is already on the node\n", model.model);
    }
    format!(
        "fetched {} ({}, {})\n",
        model.model,
        bytes(model.size_bytes),
        escape(&model.quantization)
    )
}

/// Formats the result of `rbee-keeper model show`.
pub(crate) fn report(report: &ModelReport) -> String {
    let details = &report.details;
    let model = &details.model;
    let also: Vec<String> = model.also.iter().map(ToString::to_string).collect();
    let mut facts = vec![
        ("model", model.model.to_string()),
        ("also", also.join(", ")),
        ("format", wire_name(&model.format)),
        ("architecture", model.architecture.clone()),
        ("parameters", count(model.parameters)),
        ("quantization", model.quantization.clone()),
        ("size", bytes(model.size_bytes)),
        ("context", format!("{} tokens", model.context_length)),
        ("sampling", sampling(&model.sampling)),
    ];
    if let Some(memory) = &details.memory {
        facts.push(("layers", memory.layers.to_string()));
        facts.push(("weights", bytes(memory.weight_bytes)));
        facts.push(("KV cache", fit::cache(memory)));
    }
    if let Some(files) = &model.files {
        facts.push(("path", files.path.clone()));
        facts.push(("revision", files.revision.clone().unwrap_or_default()));
        facts.push(("SHA-256", files.sha256.clone().unwrap_or_default()));
        facts.push(("added", files.added_at.to_string()));
        let used = files.last_used_at.map(|time| time.to_string());
        facts.push(("last used", used.unwrap_or_default()));
        facts.push(("problem", files.problem.clone().unwrap_or_default()));
    }
    if let Some(remote) = &details.remote {
        facts.push((
            "on the node",
            "no; `rbee-keeper pull` fetches it".to_owned(),
        ));
        facts.push(("revision", remote.revision.clone()));
        for file in &remote.files {
            let size = bytes(file.size_bytes);
            facts.push(("file", format!("{} ({size})", file.path)));
        }
        facts.push(("not fetched", remote.projectors.join(", ")));
    }
    facts.retain(|(_, value)| !value.is_empty());
    let lines = facts
        .into_iter()
        .map(|(name, value)| format!("{name:<14}{}\n", escape(&value)));
    lines.collect::<String>() + &fit::devices(&report.fit)
}

/// Formats the result of `rbee-keeper model remove`.
pub(crate) fn removed(removed: &RemovedModel) -> String {
    match removed.freed_bytes {
        0 => format!("forgot {}; its files stay on disk\n", removed.model),
        freed => format!("removed {} ({})\n", removed.model, bytes(freed)),
    }
}

/// Formats the result of `rbee-keeper model verify`.
pub(crate) fn verified(verified: &VerifyResponse) -> String {
    let rows = verified.files.iter().map(|file| {
        let reason = file.reason.clone().unwrap_or_default();
        [file.path.clone(), wire_name(&file.state), reason]
    });
    let intact = |file: &&hive_contract::VerifiedFile| file.state == FileState::Intact;
    format!(
        "{}{}: {} of {} intact\n",
        table(["FILE", "STATE", "REASON"], rows, "no files"),
        verified.model,
        verified.files.iter().filter(intact).count(),
        counted(verified.files.len(), "file"),
    )
}

/// Formats the result of `rbee-keeper model prune`.
pub(crate) fn pruned(pruned: &PruneResponse, dry_run: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let lines = pruned.removed.iter().map(|item| {
        let (name, size) = (escape(&item.name), bytes(item.size_bytes));
        format!("{verb} {name} ({size})\n")
    });
    let mut text = lines.collect::<Vec<_>>().concat();
    if pruned.removed.is_empty() {
        text += "nothing to remove\n";
    }
    text + &format!("kept {} of models\n", bytes(pruned.kept_bytes))
}

/// Formats the result of `rbee-keeper model update` that fetches nothing.
pub(crate) fn difference(update: &UpdateResponse) -> String {
    let current = escape(&update.current);
    if update.current == update.newest {
        return format!("{} is at the newest revision, {current}\n", update.model);
    }
    let mut text = format!(
        "{} is at {current}, and the newest revision is {}\n",
        update.model,
        escape(&update.newest)
    );
    let changed = update.changed.iter().map(|file| {
        let (path, size) = (escape(&file.path), bytes(file.size_bytes));
        format!("changed: {path} ({size})\n")
    });
    text.extend(changed);
    text + "`--apply` fetches it\n"
}

/// Formats the result of `rbee-keeper model alias`.
pub(crate) fn aliases(aliases: &[AliasEntry]) -> String {
    let rows = aliases.iter().map(|alias| {
        let origin = if alias.shipped { "rbee" } else { "set here" };
        [
            alias.name.to_string(),
            alias.model.to_string(),
            origin.to_owned(),
        ]
    });
    table(["ALIAS", "MODEL", "FROM"], rows, "no aliases")
}

/// Formats the result of `rbee-keeper model alias NAME`.
pub(crate) fn alias_changed(request: &AliasRequest) -> String {
    match &request.model {
        Some(model) => format!("{} stands for {model}\n", request.name),
        None => format!("removed the alias {}\n", request.name),
    }
}

/// Formats the result of `rbee-keeper model backup` and `restore`.
pub(crate) fn copied(verb: &str, path: &str) -> String {
    format!("{verb} {}\n", escape(path))
}
