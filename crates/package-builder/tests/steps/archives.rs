//! Archives, also those that no archiver would write.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use bdd::{World, table};
use cucumber::{gherkin::Step, given};

#[given(regex = r"^the archive (\S+) with$")]
fn archive(world: &mut World, name: String, step: &Step) {
    let members: Vec<(String, String)> = table(step)
        .iter()
        .map(|row| (world.fill(&row[0]), world.fill(&row[1])))
        .collect();
    let dir = world.dir().join("recipe");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join(&name);
    let extension = path.extension().unwrap().to_str().unwrap().to_owned();
    if extension == "zip" {
        return zip(&path, &members);
    }
    let mut tar: Vec<u8> = members
        .iter()
        .flat_map(|(path, content)| member(path, content))
        .collect();
    tar.extend([0; 1024]);
    match extension.as_str() {
        "tar" => fs::write(path, tar).unwrap(),
        "gz" => compress("gzip", &path, &tar),
        "xz" => compress("xz", &path, &tar),
        "bz2" => compress("bzip2", &path, &tar),
        "zst" => compress("zstd", &path, &tar),
        other => panic!("{other}"),
    }
}

#[given(regex = r"^the archive (\S+) of (\d+) zeros$")]
fn bomb(world: &mut World, name: String, size: u64) {
    let dir = world.dir().join("recipe");
    fs::create_dir_all(&dir).unwrap();
    let file = File::create(dir.join(name)).unwrap();
    let mut gzip = Command::new("gzip")
        .arg("-1")
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .unwrap();
    let mut zeros = io::repeat(0).take(size);
    io::copy(&mut zeros, gzip.stdin.as_mut().unwrap()).unwrap();
    assert!(gzip.wait().unwrap().success());
}

/// The content of a sequence of gzip files is that of all of them.
#[given(regex = r"^the archive (\S+) of (\d+) zeros, (\d+) times$")]
fn long_bomb(world: &mut World, name: String, size: u64, count: usize) {
    bomb(world, name.clone(), size);
    let path = world.dir().join("recipe").join(name);
    let once = fs::read(&path).unwrap();
    fs::write(&path, once.repeat(count)).unwrap();
}

#[given(regex = r"^the sparse file (\S+) of (\d+) bytes beside the recipe$")]
fn sparse(world: &mut World, name: String, size: u64) {
    let dir = world.dir().join("recipe");
    fs::create_dir_all(&dir).unwrap();
    File::create(dir.join(name)).unwrap().set_len(size).unwrap();
}

fn compress(program: &str, path: &Path, content: &[u8]) {
    let file = File::create(path).unwrap();
    let mut command = Command::new(program);
    let mut child = command
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
}

fn zip(path: &Path, members: &[(String, String)]) {
    const SCRIPT: &str = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as archive:
    for name, content in zip(sys.argv[2::2], sys.argv[3::2]):
        member = zipfile.ZipInfo(name)
        member.external_attr = 0o100644 << 16
        archive.writestr(member, content)";
    let members = members.iter().flat_map(|(name, content)| [name, content]);
    let mut python = Command::new("python3");
    let status = python
        .args(["-c", SCRIPT])
        .arg(path)
        .args(members)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A member of a tar archive (ustar): a file, `-> TARGET`, `=> TARGET`, or a device.
fn member(path: &str, content: &str) -> Vec<u8> {
    let (kind, link, data) = match content.split_once(' ') {
        Some(("->", target)) => (b'2', target, ""),
        Some(("=>", target)) => (b'1', target, ""),
        _ if content == "device" => (b'3', "", ""),
        _ => (b'0', "", content),
    };
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    assert!(path.len() < 100 && link.len() < 100, "{path} {link}");
    put(0, path);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", data.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    put(329, "0000001\0");
    put(337, "0000003\0");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut member = header.to_vec();
    member.extend(data.as_bytes());
    member.resize(member.len().next_multiple_of(512), 0);
    member
}
