use anyhow::Result;

use crate::cargo::{cargo, root, succeed};

/// Writes or checks the documents in `openapi/`.
pub fn run(check: bool) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "openapi-documents", "--"]);
    command.arg(root().join("openapi"));
    if check {
        command.arg("--check");
    }
    succeed(&mut command)
}
