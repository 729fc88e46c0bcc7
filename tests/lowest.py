"""Run the tests with the lowest releases that pyproject.toml allows.

Command: ``python tests/lowest.py [folder]``

They are installed into `folder`, kept and used again; without one, into a folder that is removed
afterwards. A Python that these releases have wheels for is looked for on the path.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.10", "3.11", "3.12")
GIGABYTES = 12  # The oldest torch comes with CUDA: 6 installed, 3 while they are fetched.


def find_python():
    """The oldest suitable Python that starts, or None."""
    print_version = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for version in VERSIONS:
        for name in (sys.executable, f"python{version}"):
            if path := shutil.which(name):
                found = subprocess.run([path, "-c", print_version], capture_output=True, text=True)
                if found.stdout.strip() == version:
                    return path


def main(folder):
    python = find_python()
    if python is None:
        return f"no Python {', '.join(VERSIONS)} on the path: newer ones have no wheels"
    free = shutil.disk_usage(folder).free / 1e9
    if free < GIGABYTES:
        return f"{folder} has {free:.1f} GB free, and {GIGABYTES} are needed"
    subprocess.run([python, "-m", "venv", folder], check=True)
    python = str(Path(folder).resolve() / ("Scripts" if os.name == "nt" else "bin") / "python")
    options = ["-q", "--no-cache-dir", "--only-binary", ":all:", "-c", "tests/lowest.txt"]
    install = [python, "-m", "pip", "install", *options, "-e", ".[test]"]
    if subprocess.run(install, cwd=ROOT).returncode:
        return "they could not be installed here, see above"
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    subprocess.run(tests, check=True, cwd=ROOT)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        target = sys.argv[1] if len(sys.argv) > 1 else temporary
        os.makedirs(target, exist_ok=True)
        try:
            reason = main(target)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)
    if reason:
        print("The lowest releases are not tested:", reason)
