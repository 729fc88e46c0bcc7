"""Build the source archive and the wheel, and try what a user gets.

Command: ``python tests/release.py``

Both archives are checked by twine. The wheel is installed into an empty environment, in a folder
that is removed afterwards, and runs the demo there; nothing of this checkout is on its path.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command, **options):
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True, **options)


def main(folder):
    dist, home = folder / "dist", folder / "home"
    home.mkdir()
    run(sys.executable, "-m", "build", "--outdir", dist, ROOT, stdout=subprocess.DEVNULL)
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))
    [wheel] = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", folder / "venv")
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pins = ["--only-binary", ":all:", "-c", ROOT / "constraints.txt"]
    run(scripts / "python", "-m", "pip", "install", "-q", *pins, f"{wheel}[demo]", cwd=home)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run(scripts / "skstructcore", "demo", cwd=home, env=clean)
    pictures = sorted(path.name for path in (home / "demo-output").glob("*.png"))
    assert len(pictures) == 3, pictures


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        try:
            main(Path(temporary).resolve())
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error}")
