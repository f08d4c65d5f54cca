use std::fs;

use daemon_shell::ProcessIdentity;

/// The process that was started with exactly these arguments. The arguments of a worker contain
/// its id, generation and port, so at most one process has them.
pub(crate) fn find_by_argv(argv: &[String]) -> Option<ProcessIdentity> {
    // Each argument ends with a NUL in cmdline (proc(5)).
    let wanted: Vec<u8> = argv.iter().flat_map(|arg| arg.bytes().chain([0])).collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let cmdline = fs::read(entry.path().join("cmdline")).ok()?;
        (cmdline == wanted).then(|| ProcessIdentity::of(pid))?
    })
}
