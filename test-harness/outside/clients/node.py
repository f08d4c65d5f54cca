"""Runs the checks with clients in JavaScript on a new queen.

    RBEE_BIN_DIR=target/debug python node.py DIRECTORY

DIRECTORY contains the files of `node/` and their packages.
"""

import os
import subprocess
import sys
import tempfile

from harness import REFERENCE, Rbee

SCRIPTS = ["openai", "anthropic", "ollama", "vercel"]

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="rbee-client-") as home, Rbee(home) as rbee:
        environment = os.environ | {"RBEE_URL": rbee.url, "RBEE_REFERENCE": str(REFERENCE)}
        codes = [
            subprocess.run(["node", f"{name}.mjs"], cwd=sys.argv[1], env=environment, timeout=300).returncode
            for name in SCRIPTS
        ]
    sys.exit(max(codes))
