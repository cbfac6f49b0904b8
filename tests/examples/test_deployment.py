"""The examples of a deployment, as far as a machine without docker and root can tell.

Their commands have the options that they name, systemd finds nothing wrong with the units, and no
secret stands where others can read it.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from queued_runner.cli.serve import serve
from queued_runner.store.url import parse_store
from simple_worker.cli import main as work
from tests.commands import PATIENCE, ROOT

UNITS = sorted((ROOT / "examples" / "systemd").glob("*.service"))
COMPOSE = ROOT / "examples" / "compose" / "compose.yaml"
COMMANDS = {"remote-runner": serve, "simple-worker": work}


def options_of(line: str) -> dict[str, str]:
    """The options of one of our commands with their values; each has to be one that there is."""
    program, *words = shlex.split(line)
    command = COMMANDS[Path(program).name]
    known = {name: option for option in command.params for name in option.opts}
    given, rest = {}, iter(words)
    for name in rest:
        option = known[name]
        assert isinstance(option, click.Option)
        given[name] = "" if option.is_flag else next(rest)
    return given


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_has_options_that_there_are(unit: Path) -> None:
    (start,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    folder = f"%S/{'duplex-runner' if unit.name == 'remote-runner.service' else 'duplex-worker'}"
    options = options_of(start.removeprefix("ExecStart="))
    assert folder in (options.get("--data-dir"), options.get("--state-dir"))
    assert f"StateDirectory={folder.removeprefix('%S/')}" in unit.read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    there = tmp_path / unit.name
    commands = Path(sys.executable).parent
    there.write_text(unit.read_text().replace("/opt/duplex-runner/bin", str(commands)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", there],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_containers_fit_together() -> None:
    yaml = pytest.importorskip("yaml")
    whole = yaml.safe_load(COMPOSE.read_text())
    services = whole["services"]
    ports, stores = [], set()
    for name in ("server-1", "server-2"):
        options = options_of(services[name]["command"])
        ports += [options["--port"], options["--http-port"]]
        stores.add(options["--store"])
        assert options["--data-dir"] == services[name]["environment"]["DUPLEX_RUNNER_DATA_DIR"]
        assert "output:/output" in services[name]["volumes"]
    assert len(set(ports)) == 4
    (store,) = stores
    assert parse_store(store).is_shared
    assert not parse_store(store).has_password
    servers = options_of(services["worker"]["command"])["--server"]
    assert servers == f"127.0.0.1:{ports[0]},127.0.0.1:{ports[2]}"
    for service in services.values():
        for secret in service.get("secrets", []):
            assert secret in whole["secrets"]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in whole["volumes"] or source == "../.."
        for other in service.get("depends_on", {}):
            assert other in services
