//! The columns that say how a node is reached.

use std::str::FromStr;

use diagnostics::Diagnostic;
use input_validation::{
    BranchName, CertificateFingerprint, NodeUrl, RemoteDirectory, RepositoryUrl, SshUser,
};
use queen_contract::{DirectNode, NodeSpec, SshNode};
use rusqlite::{Row, types::Type};

#[derive(Debug, Default)]
pub(crate) struct SpecColumns<'a> {
    pub(crate) link: &'static str,
    pub(crate) ssh_host: Option<&'a str>,
    pub(crate) ssh_port: Option<u16>,
    pub(crate) ssh_user: Option<&'a str>,
    pub(crate) ssh_key_file: Option<&'a str>,
    pub(crate) directory: Option<&'a str>,
    pub(crate) repository: Option<&'a str>,
    pub(crate) branch: Option<&'a str>,
    pub(crate) url: Option<&'a str>,
    pub(crate) queen_url: Option<&'a str>,
    pub(crate) certificate: Option<&'a str>,
    pub(crate) allow_unencrypted: bool,
}

impl<'a> SpecColumns<'a> {
    pub(crate) fn of(spec: &'a NodeSpec) -> Self {
        match spec {
            NodeSpec::Local => Self {
                link: "local",
                ..Self::default()
            },
            NodeSpec::Ssh(node) => Self {
                link: "ssh",
                ssh_host: Some(node.host.as_str()),
                ssh_port: node.port,
                ssh_user: node.user.as_ref().map(SshUser::as_str),
                ssh_key_file: node.key_file.as_deref(),
                directory: node.directory.as_ref().map(RemoteDirectory::as_str),
                repository: node.repository.as_ref().map(RepositoryUrl::as_str),
                branch: node.branch.as_ref().map(BranchName::as_str),
                ..Self::default()
            },
            NodeSpec::Direct(node) => Self {
                link: "direct",
                url: Some(node.url.as_str()),
                queen_url: node.queen_url.as_ref().map(NodeUrl::as_str),
                certificate: node
                    .certificate
                    .as_ref()
                    .map(CertificateFingerprint::as_str),
                allow_unencrypted: node.allow_unencrypted,
                ..Self::default()
            },
            NodeSpec::Joined => Self {
                link: "joined",
                ..Self::default()
            },
        }
    }
}

pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<NodeSpec> {
    Ok(match row.get::<_, String>("link")?.as_str() {
        "ssh" => NodeSpec::Ssh(SshNode {
            host: required(row, "ssh_host")?,
            port: row.get("ssh_port")?,
            user: optional(row, "ssh_user")?,
            key_file: row.get("ssh_key_file")?,
            directory: optional(row, "directory")?,
            repository: optional(row, "repository")?,
            branch: optional(row, "branch")?,
        }),
        "direct" => NodeSpec::Direct(DirectNode {
            url: required(row, "url")?,
            queen_url: optional(row, "queen_url")?,
            certificate: optional(row, "certificate")?,
            allow_unencrypted: row.get("allow_unencrypted")?,
        }),
        "joined" => NodeSpec::Joined,
        _ => NodeSpec::Local,
    })
}

fn required<T: FromStr<Err = Diagnostic>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    parse(row, column, &row.get::<_, String>(column)?)
}

fn optional<T: FromStr<Err = Diagnostic>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| parse(row, column, &text)).transpose()
}

fn parse<T: FromStr<Err = Diagnostic>>(
    row: &Row<'_>,
    column: &str,
    text: &str,
) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    text.parse().map_err(|error: Diagnostic| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    })
}
