//! The sandbox of bubblewrap (bwrap(1)).

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use diagnostics::Diagnostic;

use crate::{Limits, Settings, build_user, errors, tools};

/// Directories of the system that are links to `/usr` on most systems.
const SYSTEM: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What programs need of the rest of the system, and what contains no secrets.
const READABLE: [&str; 8] = [
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ssl/openssl.cnf",
    "/nix/store",
    "/opt/cuda",
    "/opt/rocm",
];
/// What git needs in addition to reach servers.
const NETWORK: [&str; 5] = [
    "/etc/nsswitch.conf",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
];
/// Sets limits that the kernel enforces, and runs its arguments. Where a limit is lower already,
/// it stays. These processes have a lower priority than workers and than what watches
/// them, and the kernel prefers them when memory runs out.
const LIMITED: &str = r#"umask 0022
echo 1000 2>/dev/null >/proc/self/oom_score_adj
ulimit -c 0 2>/dev/null
ulimit -u "$1" 2>/dev/null
ulimit -d "$2" 2>/dev/null
ulimit -f "$3" 2>/dev/null
shift 3
exec nice -n 10 "$@"
"#;

/// What one run in the sandbox may use besides the programs of the system.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// Whether it can use the network.
    pub(crate) network: bool,
    /// Directories that it can write, with their paths inside.
    pub(crate) writable: Vec<(PathBuf, PathBuf)>,
    /// Files and directories that it can read, with their paths inside.
    pub(crate) readable: Vec<(PathBuf, PathBuf)>,
    /// Additional environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
}

/// Returns the command that runs a program with nothing but this access. `work` is the folder of
/// the build.
pub(crate) fn command(
    settings: &Settings,
    work: &Path,
    access: &Access,
    program: &[&str],
) -> Command {
    let mut args = Args::default();
    args.words(&["--unshare-ipc", "--unshare-pid", "--unshare-uts"]);
    args.words(&["--unshare-cgroup-try", "--die-with-parent", "--new-session"]);
    if !access.network {
        args.words(&["--unshare-net"]);
    }
    args.words(&["--cap-drop", "ALL"]);
    let id = build_user::id().to_string();
    if build_user::differs() {
        // In the user namespace of root, the kernel would not limit its processes.
        args.words(&["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]);
    } else {
        args.words(&["--unshare-user", "--uid", &id, "--gid", &id]);
    }
    args.words(&["--hostname", "build", "--clearenv"]);
    system(&mut args, settings);
    if access.network {
        for path in NETWORK {
            args.bind("--ro-bind-try", Path::new(path), Path::new(path));
        }
        // It is often a link to a file that the sandbox does not have.
        if let Ok(path) = fs::canonicalize("/etc/resolv.conf") {
            args.bind("--ro-bind-try", &path, Path::new("/etc/resolv.conf"));
        }
    }
    for name in ["passwd", "group", "hosts"] {
        let inside = Path::new("/etc").join(name);
        args.bind("--ro-bind", &work.join("etc").join(name), &inside);
    }
    args.words(&["--proc", "/proc", "--dev", "/dev"]);
    // On disk, where its size is limited.
    args.bind("--bind", &work.join("tmp"), Path::new("/tmp"));
    args.bind("--bind", &work.join("tmp"), Path::new("/dev/shm"));
    args.bind("--bind", &work.join("home"), Path::new("/build/home"));
    for (outside, inside) in &access.writable {
        args.bind("--bind", outside, inside);
    }
    for (outside, inside) in &access.readable {
        args.bind("--ro-bind", outside, inside);
    }
    args.words(&["--remount-ro", "/dev", "--remount-ro", "/"]);
    for (name, value) in environment(settings) {
        args.words(&["--setenv", name, &value]);
    }
    if let Some(capability) = &settings.compute_capability {
        args.words(&["--setenv", "CUDA_COMPUTE_CAP"]);
        args.words(&[&capability.replace('.', "")]);
    }
    for (name, value) in &access.environment {
        args.words(&["--setenv", name, value]);
    }
    args.words(&["--chdir"]);
    args.path(&access.directory);
    let Limits {
        processes,
        memory,
        disk,
        ..
    } = &settings.limits;
    args.words(&["--"]);
    if build_user::differs() {
        args.words(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        args.words(&["--inh-caps=-all", "--no-new-privs"]);
    }
    args.words(&["/bin/bash", "--noprofile", "--norc", "-c", LIMITED, "bash"]);
    // The watch stops a build at its limit; the kernel's is a second one behind it.
    for limit in [processes * 2, memory >> 10, disk >> 10] {
        args.words(&[&limit.to_string()]);
    }
    args.words(program);

    let mut command = Command::new(tools::find(settings, "bwrap").unwrap_or("bwrap".into()));
    command.args(args.words).env_clear().stdin(Stdio::null());
    command
}

/// Checks that the sandbox works on this machine.
pub(crate) fn check(settings: &Settings, work: &Path) -> Result<(), Diagnostic> {
    let access = Access {
        directory: "/".into(),
        ..Access::default()
    };
    let mut command = command(settings, work, &access, &["/bin/bash", "-c", "true"]);
    match command.output() {
        Err(error) => Err(errors::no_sandbox(&error.to_string())),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(errors::no_sandbox(
            String::from_utf8_lossy(&output.stderr).trim(),
        )),
    }
}

fn system(args: &mut Args, settings: &Settings) {
    args.bind("--ro-bind", Path::new("/usr"), Path::new("/usr"));
    for path in SYSTEM.map(Path::new) {
        match fs::read_link(path) {
            Ok(target) => args.bind("--symlink", &target, path),
            Err(_) => args.bind("--ro-bind-try", path, path),
        }
    }
    for path in READABLE.map(Path::new) {
        args.bind("--ro-bind-try", path, path);
    }
    for path in &settings.toolchains {
        args.bind("--ro-bind", path, path);
    }
    let visible = |path: &Path| {
        let roots = ["/usr", "/opt/cuda", "/opt/rocm", "/nix/store"].map(Path::new);
        roots.iter().any(|root| path.starts_with(root))
            || settings
                .toolchains
                .iter()
                .any(|root| path.starts_with(root))
    };
    for path in settings
        .private
        .iter()
        .filter_map(|path| path.canonicalize().ok())
    {
        if visible(&path) {
            args.words(&["--tmpfs"]);
            args.path(&path);
        }
    }
}

fn environment(settings: &Settings) -> [(&'static str, String); 8] {
    [
        ("PATH", tools::path(settings)),
        ("HOME", "/build/home".to_owned()),
        ("USER", "builder".to_owned()),
        ("LOGNAME", "builder".to_owned()),
        ("SHELL", "/bin/bash".to_owned()),
        ("TERM", "dumb".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
    ]
}

#[derive(Default)]
struct Args {
    words: Vec<OsString>,
    /// Directories that were made as parents of others.
    directories: BTreeSet<PathBuf>,
}

impl Args {
    fn words(&mut self, words: &[&str]) {
        self.words.extend(words.iter().map(OsString::from));
    }

    fn path(&mut self, path: &Path) {
        self.words.push(path.into());
    }

    fn bind(&mut self, option: &str, outside: &Path, inside: &Path) {
        // Directories that bubblewrap makes by itself are closed to other users.
        let parents: Vec<&Path> = inside.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().skip(1) {
            if self.directories.insert(parent.to_owned()) {
                self.words(&["--dir"]);
                self.path(parent);
            }
        }
        self.words(&[option]);
        self.path(outside);
        self.path(inside);
    }
}
