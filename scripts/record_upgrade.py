"""Write what a release leaves in a database: `tests/data/paused-VERSION.sql`, for `tests/ways/test_upgrade.py`.

    .venv/bin/python scripts/record_upgrade.py 0.1.0 --commit 84a53d6    # with the code of that release
    .venv/bin/python scripts/record_upgrade.py 0.2.0                     # with the code as it is here

Do the second with each release, before its number is given away: later versions are held to it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--commit", help="of the release; else the code as it is here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        python = sys.executable if asked.commit is None else str(_released(asked.commit, Path(work)))
        database, path = str(Path(work) / "agent.db"), Path(work) / "path"
        path.mkdir()
        (path / "tests").symlink_to(ROOT / "tests")  # of today; the library is the release's
        code = "import sys; from tests.ways.upgrading import record; record(*sys.argv[1:])"
        run = [python, "-W", "ignore", "-c", code, database, asked.version]
        subprocess.run(run, check=True, cwd=work, env=os.environ | {"PYTHONPATH": str(path)})
        sys.path.insert(0, str(ROOT))
        from tests.ways.upgrading import dump

        target = ROOT / "tests" / "data" / f"paused-{asked.version}.sql"
        target.write_text(dump(database))
        print(f"{target}: {target.stat().st_size:,} bytes")


def _released(commit: str, work: Path) -> Path:
    """The Python of an environment with the code of that commit, and otherwise with what is installed here."""
    clone, venv = work / "clone", work / "venv"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "checkout", "--quiet", commit], check=True)
    uv = [str(Path(sys.executable).with_name("uv"))]
    installed = subprocess.run([*uv, "pip", "freeze", "--python", sys.executable], check=True, capture_output=True)
    kept = [
        line for line in installed.stdout.decode().splitlines() if "hitl" not in line and not line.startswith("-e ")
    ]
    (work / "installed.txt").write_text("\n".join(kept))
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    python = venv / "bin" / "python"
    install = [*uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps"]
    subprocess.run([*install, "-r", str(work / "installed.txt"), str(clone)], check=True)
    return python


if __name__ == "__main__":
    main()
