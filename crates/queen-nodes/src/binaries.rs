//! The worker binaries of one node: calls that its hive answers.

use diagnostics::Diagnostic;
use hive_contract::{
    InstallationQuery, InstalledBinary, InstalledBinaryList, JobAccepted, PackageDetails,
    PackageList, ProvisionRequest, RemovedBinaries, RollbackRequest,
};
use input_validation::{NodeName, PackageId, WorkerType};

use crate::Nodes;

impl Nodes {
    /// The worker binaries of a node, of one type or of all.
    pub async fn binaries(
        &self,
        node: Option<&NodeName>,
        of: Option<&WorkerType>,
    ) -> Result<InstalledBinaryList, Diagnostic> {
        let hive = self.hive(node).await?;
        Ok(match of {
            Some(worker_type) => hive.binary(worker_type).await?,
            None => hive.binaries().await?,
        })
    }

    /// The packages of the catalog of a node.
    pub async fn packages(&self, node: Option<&NodeName>) -> Result<PackageList, Diagnostic> {
        Ok(self.hive(node).await?.packages().await?)
    }

    /// A package of the catalog of a node, with its PKGBUILD.
    pub async fn package(
        &self,
        node: Option<&NodeName>,
        id: &PackageId,
    ) -> Result<PackageDetails, Diagnostic> {
        Ok(self.hive(node).await?.package(id).await?)
    }

    /// Starts to make a worker binary available on a node, or joins the job that does.
    pub async fn provision(
        &self,
        node: Option<&NodeName>,
        request: &ProvisionRequest,
    ) -> Result<JobAccepted, Diagnostic> {
        Ok(self.hive(node).await?.provision(request).await?)
    }

    /// Removes the versions of a worker binary from a node, or one of them.
    pub async fn remove_binary(
        &self,
        node: Option<&NodeName>,
        worker_type: &WorkerType,
        query: &InstallationQuery,
    ) -> Result<RemovedBinaries, Diagnostic> {
        let hive = self.hive(node).await?;
        let installation = query.installation.as_ref();
        Ok(hive.remove_binary(worker_type, installation).await?)
    }

    /// Lets new workers of a node run another installed version.
    pub async fn roll_back_binary(
        &self,
        node: Option<&NodeName>,
        worker_type: &WorkerType,
        request: &RollbackRequest,
    ) -> Result<InstalledBinary, Diagnostic> {
        let hive = self.hive(node).await?;
        Ok(hive.roll_back_binary(worker_type, request).await?)
    }
}
