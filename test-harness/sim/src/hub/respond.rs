//! How the hub responds to a request.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{Access, Content, Hosted, HubFile, Repository};
use crate::http::{Received, ServerRole, Service, Shared, decode, lock, redirect};

const PAGE_ENTRIES: usize = 1000;

impl Service for Content {
    fn respond(&self, request: &Received, shared: &Shared) -> Response {
        let hosted = lock(&self.0);
        match request.server {
            ServerRole::Storage => hosted.stored(request, shared),
            ServerRole::Front => hosted
                .front(request, shared)
                .unwrap_or_else(|refusal| refusal.respond()),
        }
    }
}

/// An error of the hub: a status, and the code and message of its headers.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

fn refusal(status: StatusCode, code: &'static str, message: &str) -> Refusal {
    Refusal {
        status,
        code,
        message: message.to_owned(),
    }
}

impl Refusal {
    fn respond(&self) -> Response {
        let body = Json(json!({"error": self.message}));
        let mut response = (self.status, body).into_response();
        if !self.code.is_empty() {
            set(&mut response, "x-error-code", self.code);
        }
        set(&mut response, "x-error-message", &self.message);
        response
    }
}

impl Hosted {
    fn front(&self, request: &Received, shared: &Shared) -> Result<Response, Refusal> {
        let not_found = || refusal(StatusCode::NOT_FOUND, "", "Sorry, we can't find that page.");
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["api", "models", owner, name] => {
                let (id, repository) = self.visible(request, owner, name)?;
                info(&id, repository, "main")
            }
            ["api", "models", owner, name, "revision", revision] => {
                let (id, repository) = self.visible(request, owner, name)?;
                info(&id, repository, &decode(revision))
            }
            ["api", "models", owner, name, "tree", revision] => {
                let (_, repository) = self.visible(request, owner, name)?;
                let (_, files) = repository.at(&decode(revision))?;
                let page = self.page_entries.unwrap_or(PAGE_ENTRIES);
                Ok(tree(request, files, page, &shared.front_url()))
            }
            [owner, name, "resolve", revision, ..] => {
                let (id, repository) = self.visible(request, owner, name)?;
                if !self.may_read(request, &id, repository) {
                    let status = match request.token() {
                        None => StatusCode::UNAUTHORIZED,
                        Some(_) => StatusCode::FORBIDDEN,
                    };
                    let message = format!("Access to model {id} is restricted.");
                    return Err(refusal(status, "GatedRepo", &message));
                }
                let path = decode(&parts[4..].join("/"));
                let (commit, files) = repository.at(&decode(revision))?;
                let file = files.get(&path).ok_or_else(|| {
                    refusal(StatusCode::NOT_FOUND, "EntryNotFound", "Entry not found")
                })?;
                Ok(resolve(request, shared, &id, commit, file))
            }
            _ => Err(not_found()),
        }
    }

    /// Returns a repository that the caller may know of, and its name in the right case.
    fn visible(
        &self,
        request: &Received,
        owner: &str,
        name: &str,
    ) -> Result<(String, &Repository), Refusal> {
        let token = request.token();
        if token.is_some_and(|token| !self.grants.contains_key(token)) {
            let message = "Invalid credentials in Authorization header";
            return Err(refusal(StatusCode::UNAUTHORIZED, "", message));
        }
        let wanted = format!("{owner}/{name}");
        let found = self.repositories.iter().find(|(id, repository)| {
            let is_known =
                repository.access != Some(Access::Private) || self.is_granted(request, id);
            is_known && id.eq_ignore_ascii_case(&wanted)
        });
        found
            .map(|(id, repository)| (id.clone(), repository))
            .ok_or_else(|| match token {
                None => refusal(
                    StatusCode::UNAUTHORIZED,
                    "RepoNotFound",
                    "Invalid username or password.",
                ),
                Some(_) => refusal(
                    StatusCode::NOT_FOUND,
                    "RepoNotFound",
                    "Repository not found",
                ),
            })
    }

    fn is_granted(&self, request: &Received, id: &str) -> bool {
        let grants = request.token().and_then(|token| self.grants.get(token));
        grants.is_some_and(|repositories| repositories.contains(id))
    }

    fn may_read(&self, request: &Received, id: &str, repository: &Repository) -> bool {
        repository.access.unwrap_or(Access::Public) == Access::Public
            || self.is_granted(request, id)
    }

    /// Responds to a request to the storage server.
    fn stored(&self, request: &Received, shared: &Shared) -> Response {
        if !shared.use_signature(request) {
            let body = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>";
            return (StatusCode::FORBIDDEN, body).into_response();
        }
        let hash = request.path.rsplit('/').next().unwrap_or_default();
        let files = self.repositories.values();
        let mut files = files.flat_map(|r| r.commits.values().flat_map(BTreeMap::values));
        match files.find(|file| file.sha256 == hash) {
            Some(file) => {
                let mut response = file.blob.respond(request.range.as_deref());
                set(&mut response, "etag", &format!("\"{hash}\""));
                response
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

impl Repository {
    /// Returns the commit of a revision, and its files.
    fn at(&self, revision: &str) -> Result<(&str, &BTreeMap<String, HubFile>), Refusal> {
        let commit = self.branches.get(revision).map_or(revision, String::as_str);
        let found = self.commits.get_key_value(commit);
        found
            .map(|(commit, files)| (commit.as_str(), files))
            .ok_or_else(|| {
                let message = format!("Invalid rev id: {revision}");
                refusal(StatusCode::NOT_FOUND, "RevisionNotFound", &message)
            })
    }
}

fn info(id: &str, repository: &Repository, revision: &str) -> Result<Response, Refusal> {
    let (commit, files) = repository.at(revision)?;
    let access = repository.access.unwrap_or(Access::Public);
    let siblings: Vec<Value> = files
        .keys()
        .map(|path| json!({"rfilename": path}))
        .collect();
    let gated = match access {
        Access::Gated => json!("manual"),
        _ => json!(false),
    };
    let body = json!({
        "_id": "sim", "id": id, "modelId": id, "sha": commit, "gated": gated,
        "private": access == Access::Private, "disabled": false, "tags": [], "siblings": siblings,
    });
    Ok(Json(body).into_response())
}

fn tree(request: &Received, files: &BTreeMap<String, HubFile>, page: usize, url: &str) -> Response {
    let mut entries: BTreeMap<String, Value> = BTreeMap::new();
    let mut folders = BTreeSet::new();
    for (path, file) in files {
        let ends = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        folders.extend(ends);
        let mut entry = json!({
            "type": "file", "oid": file.sha256[..40], "size": file.size, "path": path,
        });
        if file.is_large {
            entry["lfs"] = json!({"oid": file.sha256, "size": file.size, "pointerSize": 134});
        }
        entries.insert(path.clone(), entry);
    }
    for folder in folders {
        let oid = "0".repeat(40);
        let entry = json!({"type": "directory", "oid": oid, "size": 0, "path": folder});
        entries.insert(folder, entry);
    }
    if request.parameter("recursive").as_deref() != Some("true") {
        entries.retain(|path, _| !path.contains('/'));
    }
    let cursor = request.parameter("cursor").and_then(|c| c.parse().ok());
    let start: usize = cursor.unwrap_or(0);
    let all: Vec<Value> = entries.into_values().collect();
    let end = (start + page).min(all.len());
    let body: Vec<Value> = all.get(start..end).unwrap_or_default().to_vec();
    let mut response = Json(body).into_response();
    if end < all.len() {
        let next = format!("{url}{}?recursive=true&cursor={end}", request.path);
        set(&mut response, "link", &format!("<{next}>; rel=\"next\""));
    }
    response
}

fn resolve(
    request: &Received,
    shared: &Shared,
    id: &str,
    commit: &str,
    file: &HubFile,
) -> Response {
    let mut response = if file.is_large {
        let signed = shared.sign(&format!("/repos/{id}/{}", file.sha256));
        let mut response = redirect(StatusCode::FOUND, &signed);
        set(&mut response, "x-linked-size", &file.size.to_string());
        set(
            &mut response,
            "x-linked-etag",
            &format!("\"{}\"", file.sha256),
        );
        response
    } else {
        let mut response = file.blob.respond(request.range.as_deref());
        set(
            &mut response,
            "etag",
            &format!("\"{}\"", &file.sha256[..40]),
        );
        response
    };
    set(&mut response, "x-repo-commit", commit);
    response
        .headers_mut()
        .insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}
