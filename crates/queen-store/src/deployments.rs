use diagnostics::Diagnostic;
use input_validation::ModelRef;
use queen_contract::DeploymentSpec;
use rusqlite::types::Type;

use crate::Store;

impl Store {
    /// Returns the deployments, ordered by model.
    pub fn deployments(&self) -> Result<Vec<DeploymentSpec>, Diagnostic> {
        self.queen.read(|connection| {
            connection
                .prepare("SELECT wanted FROM deployments ORDER BY model")?
                .query_map([], |row| {
                    let wanted: String = row.get(0)?;
                    serde_json::from_str(&wanted).map_err(|error| {
                        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
                    })
                })?
                .collect()
        })
    }

    /// Stores deployments, each in place of that of the same model. With `only`, those of all other
    /// models are removed. All or nothing is changed.
    pub fn set_deployments(
        &mut self,
        wanted: &[DeploymentSpec],
        only: bool,
    ) -> Result<(), Diagnostic> {
        self.queen.write(|transaction| {
            if only {
                transaction.execute("DELETE FROM deployments", [])?;
            }
            for deployment in wanted {
                let json = serde_json::to_string(deployment)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                transaction.execute(
                    "INSERT OR REPLACE INTO deployments VALUES (?1, ?2)",
                    (deployment.model.to_string(), json),
                )?;
            }
            Ok(())
        })
    }

    /// Removes the deployment of a model. Returns false if there is none.
    pub fn remove_deployment(&mut self, model: &ModelRef) -> Result<bool, Diagnostic> {
        self.queen.write(|transaction| {
            let removed = transaction.execute(
                "DELETE FROM deployments WHERE model = ?1",
                [model.to_string()],
            )?;
            Ok(removed > 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use state_files::Home;

    use super::*;

    fn wanted(model: &str, min_workers: u32) -> DeploymentSpec {
        DeploymentSpec {
            min_workers,
            ..DeploymentSpec::of(model.parse().unwrap())
        }
    }

    #[test]
    fn deployments_survive_a_restart_and_are_replaced_by_model() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&Home::at(dir.path())).unwrap();
        let (a, b) = (wanted("mock:a=1", 1), wanted("mock:b=1", 2));
        open()
            .set_deployments(&[b.clone(), a.clone()], false)
            .unwrap();
        assert_eq!(open().deployments().unwrap(), [a.clone(), b.clone()]);
        let more = wanted("mock:a=1", 3);
        open()
            .set_deployments(std::slice::from_ref(&more), false)
            .unwrap();
        assert_eq!(open().deployments().unwrap(), [more, b.clone()]);
        open()
            .set_deployments(std::slice::from_ref(&b), true)
            .unwrap();
        assert_eq!(open().deployments().unwrap(), std::slice::from_ref(&b));
        assert!(open().remove_deployment(&b.model).unwrap());
        assert!(!open().remove_deployment(&b.model).unwrap());
    }
}
