use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use diagnostics::Diagnostic;
use hive_contract::Device;
use hive_lifecycle::{CatalogOptions, Release, RemoteHive, RemoteHiveConfig, Source};
use input_validation::{Backend, DeviceId, HostKeyFingerprint, NodeName, RemoteDirectory};
use queen_contract::SshNode;
use queen_nodes::{Narrate, NodeFindings, NodeParts, NodeTarget};
use ssh_link::{
    GpuFound, LinkConfig, NodeProbe, SshLink, SshSession, SshSettings, accept_host_key, probe,
};
use state_files::Home;

use crate::Args;

/// Directory of rbee on nodes that name none.
const DEFAULT_DIRECTORY: &str = "~/.rbee";

/// The nodes that the queen reaches by SSH.
#[derive(Debug)]
pub(crate) struct SshNodes {
    settings: Arc<SshSettings>,
    home: Home,
    queen_url: String,
    release: Release,
    catalog: Option<CatalogOptions>,
    log: String,
    /// The hives that are open, with the specification of their node.
    open: Mutex<HashMap<NodeName, (SshNode, Weak<RemoteHive>)>>,
}

impl SshNodes {
    pub(crate) fn new(args: &Args, home: &Home, queen_url: &str) -> Result<Self, Diagnostic> {
        let program = args.hive_program()?;
        let directory = program.parent().map(std::path::Path::to_owned);
        Ok(Self {
            settings: Arc::new(SshSettings {
                config_file: args.ssh_config.clone(),
                ..SshSettings::new(home)?.with_silence(args.link_silence)
            }),
            home: home.clone(),
            queen_url: queen_url.to_owned(),
            release: Release::new(directory.unwrap_or_default()),
            catalog: args.catalog()?,
            log: args.log.to_string(),
            open: Mutex::default(),
        })
    }

    /// The private directory for sockets, whose path is short.
    pub(crate) fn sockets(&self) -> &Path {
        self.settings.runtime.path()
    }

    /// Connects to a node and finds out what it is.
    pub(crate) async fn test(
        &self,
        node: &SshNode,
        accepted: Option<&HostKeyFingerprint>,
        narrate: Narrate<'_>,
    ) -> Result<NodeFindings, Diagnostic> {
        if let Some(fingerprint) = accepted {
            accept_host_key(node, fingerprint, &self.settings).await?;
        }
        let session = SshSession::connect(node, &self.settings, narrate).await?;
        let found = probe(&session, &directory(node)?).await?;
        Ok(NodeFindings {
            devices: devices(&found),
            hive_version: found.hive_version,
        })
    }

    /// Opens a node: its link is kept up from now on.
    pub(crate) fn open(
        &self,
        target: NodeTarget<'_>,
        node: &SshNode,
    ) -> Result<NodeParts, Diagnostic> {
        let (link, hive) = self.create(target, node)?;
        let entry = (node.clone(), Arc::downgrade(&hive));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(target.name.clone(), entry);
        Ok(NodeParts { link, hive })
    }

    /// Returns the hive of a node, with a link of its own if the node is not open.
    pub(crate) fn hive(
        &self,
        target: NodeTarget<'_>,
        node: &SshNode,
    ) -> Result<Arc<RemoteHive>, Diagnostic> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.get(target.name).filter(|(spec, _)| spec == node);
        match found.and_then(|(_, hive)| hive.upgrade()) {
            Some(hive) => Ok(hive),
            None => Ok(self.create(target, node)?.1),
        }
    }

    /// Forgets a node that was removed, and removes the file with its port.
    pub(crate) fn forget(&self, node: &NodeName) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(node);
        let file = self.home.queen_port_on(node);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%node, %error, file = %file.display(), "cannot remove the file");
            }
            _ => {}
        }
    }

    fn create(
        &self,
        target: NodeTarget<'_>,
        node: &SshNode,
    ) -> Result<(Arc<SshLink>, Arc<RemoteHive>), Diagnostic> {
        let link = Arc::new(SshLink::start(LinkConfig {
            name: target.name.clone(),
            node: node.clone(),
            settings: Arc::clone(&self.settings),
            queen_url: self.queen_url.clone(),
            port_file: self.home.queen_port_on(target.name),
        })?);
        let hive = RemoteHive::new(RemoteHiveConfig {
            name: target.name.clone(),
            link: Arc::clone(&link),
            directory: directory(node)?,
            token: Arc::clone(target.token),
            release: self.release.clone(),
            source: source(node),
            worker_ports: None,
            catalog: self.catalog.clone(),
            log: self.log.clone(),
        });
        Ok((link, Arc::new(hive)))
    }
}

fn source(node: &SshNode) -> Option<Source> {
    let repository = node.repository.clone()?;
    Some(Source {
        repository,
        branch: node.branch.clone(),
    })
}

fn directory(node: &SshNode) -> Result<RemoteDirectory, Diagnostic> {
    match &node.directory {
        Some(directory) => Ok(directory.clone()),
        None => DEFAULT_DIRECTORY.parse(),
    }
}

/// The devices that are visible without a hive. What is free on a GPU is not known then.
fn devices(found: &NodeProbe) -> Vec<Device> {
    let mut devices = Vec::new();
    for gpu in &found.gpus {
        match gpu {
            GpuFound::Nvidia {
                index,
                name,
                memory_bytes,
            } => {
                let (id, bytes) = (DeviceId::Gpu(*index), *memory_bytes);
                devices.push(device(id, Backend::Cuda, name, bytes, bytes));
            }
            GpuFound::Metal { name } => {
                let total = found.ram_total_bytes.unwrap_or(0);
                let free = found.ram_available_bytes.unwrap_or(0);
                devices.push(device(DeviceId::Gpu(0), Backend::Metal, name, total, free));
            }
            // Workers for AMD's GPUs do not exist.
            GpuFound::Amd { .. } => {}
        }
    }
    if let (Some(total), Some(free)) = (found.ram_total_bytes, found.ram_available_bytes) {
        devices.push(device(DeviceId::Cpu(0), Backend::Cpu, "CPU", total, free));
    }
    devices
}

fn device(id: DeviceId, backend: Backend, name: &str, total: u64, free: u64) -> Device {
    Device {
        id,
        backend,
        name: name.to_owned(),
        memory_total_bytes: total,
        memory_free_bytes: free,
        driver: None,
        compute_capability: None,
        processes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_of_a_mac_is_a_device_with_the_memory_of_the_machine() {
        let found = NodeProbe {
            ram_total_bytes: Some(16 << 30),
            ram_available_bytes: Some(8 << 30),
            gpus: vec![GpuFound::Metal {
                name: "Apple M2".into(),
            }],
            ..NodeProbe::default()
        };
        let expected = [
            device(
                DeviceId::Gpu(0),
                Backend::Metal,
                "Apple M2",
                16 << 30,
                8 << 30,
            ),
            device(DeviceId::Cpu(0), Backend::Cpu, "CPU", 16 << 30, 8 << 30),
        ];
        assert_eq!(devices(&found), expected);
    }
}
