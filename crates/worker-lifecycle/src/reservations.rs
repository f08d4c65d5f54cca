use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use daemon_shell::ProcessIdentity;
use hive_contract::Capabilities;
use input_validation::DeviceId;
use preflight_validation::WorkerMemory;

/// The memory that workers which are starting have not allocated yet. Two models that are loaded at
/// the same time would both fit into the same free memory otherwise.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    device: DeviceId,
    memory: WorkerMemory,
    process: Option<ProcessIdentity>,
}

/// Memory of a worker that is starting; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    table: Arc<Reservations>,
    number: u64,
}

impl Reservations {
    pub(crate) fn add(self: &Arc<Self>, device: DeviceId, memory: WorkerMemory) -> Reservation {
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        let entry = Entry {
            device,
            memory,
            process: None,
        };
        table.entries.insert(number, entry);
        drop(table);
        Reservation {
            table: Arc::clone(self),
            number,
        }
    }

    /// Returns the machine without the memory that is reserved. What a process has allocated in
    /// main memory is not free any more, and is not subtracted twice; how much of a GPU's memory
    /// it has is not known.
    pub(crate) fn without_reserved(&self, mut machine: Capabilities) -> Capabilities {
        for entry in self.table().entries.values() {
            let allocated = entry.process.and_then(|process| process.rss_bytes());
            let ram = entry.memory.ram_bytes;
            let reserved = ram.saturating_sub(allocated.unwrap_or(0));
            let available = &mut machine.ram.available_bytes;
            *available = available.saturating_sub(reserved);
            for device in &mut machine.devices {
                let reserved = match device.id {
                    DeviceId::Cpu(_) => reserved,
                    id if id == entry.device => entry.memory.gpu_bytes,
                    DeviceId::Gpu(_) => 0,
                };
                device.memory_free_bytes = device.memory_free_bytes.saturating_sub(reserved);
            }
        }
        machine
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Records the process that allocates the memory.
    pub(crate) fn started(&self, process: ProcessIdentity) {
        if let Some(entry) = self.table.table().entries.get_mut(&self.number) {
            entry.process = Some(process);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.table.table().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn machine() -> Capabilities {
        let device = |id: &str, backend: &str| {
            serde_json::json!({
                "id": id, "name": id, "backend": backend,
                "memory_total_bytes": 16 * GIB, "memory_free_bytes": 8 * GIB,
            })
        };
        serde_json::from_value(serde_json::json!({
            "hostname": "h", "worker_binaries": [],
            "devices": [device("CPU-0", "cpu"), device("GPU-0", "cuda"), device("GPU-1", "cuda")],
            "cpu": {"name": "c", "cores": 2, "features": []},
            "ram": {"total_bytes": 16 * GIB, "available_bytes": 8 * GIB},
            "disk": {"total_bytes": GIB, "free_bytes": GIB},
        }))
        .unwrap()
    }

    fn free(machine: &Capabilities) -> Vec<u64> {
        let devices = machine.devices.iter().map(|d| d.memory_free_bytes / GIB);
        [machine.ram.available_bytes / GIB]
            .into_iter()
            .chain(devices)
            .collect()
    }

    #[test]
    fn reserved_memory_is_not_free_until_the_reservation_ends() {
        let table = Arc::new(Reservations::default());
        let free_now = || free(&table.without_reserved(machine()));
        assert_eq!(free_now(), [8, 8, 8, 8]);
        let memory = |ram: u64, gpu: u64| WorkerMemory {
            ram_bytes: ram * GIB,
            gpu_bytes: gpu * GIB,
        };
        let on_cpu = table.add(DeviceId::Cpu(0), memory(3, 0));
        let on_gpu = table.add(DeviceId::Gpu(1), memory(1, 6));
        assert_eq!(free_now(), [4, 4, 8, 2]);
        drop(on_gpu);
        assert_eq!(free_now(), [5, 5, 8, 8]);
        // More than is free.
        let huge = table.add(DeviceId::Cpu(0), memory(100, 0));
        assert_eq!(free_now(), [0, 0, 8, 8]);
        drop((on_cpu, huge));
        assert_eq!(free_now(), [8, 8, 8, 8]);
    }

    #[test]
    fn what_the_process_has_allocated_is_not_reserved() {
        let table = Arc::new(Reservations::default());
        let own = ProcessIdentity::own();
        let allocated = own.rss_bytes().unwrap();
        let memory = WorkerMemory {
            ram_bytes: allocated,
            gpu_bytes: 0,
        };
        let reservation = table.add(DeviceId::Cpu(0), memory);
        let reserved =
            |table: &Reservations| 8 * GIB - table.without_reserved(machine()).ram.available_bytes;
        assert_eq!(reserved(&table), allocated);
        reservation.started(own);
        // It may have less or more by now.
        assert!(reserved(&table) < allocated / 2);
    }
}
