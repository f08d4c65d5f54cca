use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use hive_contract::Disk;
use preflight_validation::{Port, Program, QueenProbe};
use rustix::fs::Access;
use state_files::{DaemonRecord, Home};

use crate::{Launch, errors};

/// Name of the hive's binary, which the queen starts from its own directory.
const HIVE: &str = "rbee-hive";

/// Finds out whether a queen can run here: with `home`, `~/.rbee` if it is `None`, and `launch`.
pub async fn probe(home: Option<PathBuf>, launch: &Launch) -> QueenProbe {
    let opened = Home::open(home).and_then(|home| {
        check_writable(home.path())?;
        Ok(home)
    });
    let disk = opened.as_ref().ok().and_then(|home| disk(home.path()).ok());
    let programs = [launch.program.clone(), launch.program.with_file_name(HIVE)];
    let programs = programs.map(|path| Program {
        executable: is_executable(&path),
        path,
    });
    QueenProbe {
        disk,
        programs: programs.to_vec(),
        port: port(opened.as_ref().ok(), launch.port).await,
        home: opened.map(|home| home.path().to_owned()),
    }
}

fn check_writable(dir: &Path) -> Result<(), Diagnostic> {
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(dir, access).map_err(|e| errors::home_unusable(dir, &io::Error::from(e)))
}

fn disk(dir: &Path) -> io::Result<Disk> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(Disk {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

async fn port(home: Option<&Home>, port: u16) -> Port {
    let running = home.and_then(|home| DaemonRecord::read_alive(&home.queen_record()).ok()?);
    if let Some(queen) = running {
        return Port::Queen(queen.url);
    }
    if port == 0 {
        return Port::Any;
    }
    match daemon_shell::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Ok(_) => Port::Free(port),
        Err(error) => Port::Unusable(error),
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_keeps_a_queen_from_starting_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("queen-rbee");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let launch = Launch {
            program: program.clone(),
            port: taken.local_addr().unwrap().port(),
            hive_port: None,
            worker_ports: None,
        };
        // A file is where the home should be.
        let found = probe(Some(program.clone()), &launch).await;
        assert_eq!(found.home.unwrap_err().code, Code::StateUnusable);
        assert_eq!(found.disk, None);
        assert!(found.programs[0].executable && !found.programs[1].executable);
        assert_eq!(found.programs[1].path, dir.path().join(HIVE));
        let Port::Unusable(error) = found.port else {
            panic!("{:?}", found.port);
        };
        assert_eq!(error.code, Code::PortInUse);

        drop(taken);
        let home = dir.path().join("home");
        let found = probe(Some(home.clone()), &launch).await;
        assert_eq!(found.home, Ok(home));
        assert!(found.disk.unwrap().total_bytes > 0);
        assert_eq!(found.port, Port::Free(launch.port));
        let any = Launch { port: 0, ..launch };
        let found = probe(Some(dir.path().join("home")), &any).await;
        assert_eq!(found.port, Port::Any);
    }
}
