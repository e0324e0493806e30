"""A real JupyterLab on a real port, in a folder of its own."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest

SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, Path]]:
    """The address of JupyterLab, and the folder that it shows."""
    home = tmp_path_factory.mktemp("jupyter")
    folder = home / "notebooks"
    folder.mkdir()
    overrides = home / "config" / "labconfig"
    overrides.mkdir(parents=True)
    (overrides / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "run",
        "IPYTHONDIR": "ipython",
    }
    where = {name: str(home / part) for name, part in folders.items()}
    where |= {"PYTHONPATH": str(Path(__file__).parents[2]), "HITL_REVIEWER": "alice"}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}",
        f"--port={port}", "--ServerApp.port_retries=0", "--ServerApp.terminals_enabled=False", "--log-level=ERROR",
        "--IdentityProvider.token=", "--LabApp.news_url=",
    ]  # fmt: skip
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **where}, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _await(f"{address}/api", server)
        yield address, folder
    finally:
        server.terminate()
        server.wait(10)


def _await(url: str, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError("JupyterLab did not start")
