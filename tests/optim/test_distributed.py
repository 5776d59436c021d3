"""Two processes train as one does: DDP, FSDP2, checkpoints taken up by another number of processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import finish

if not torch.distributed.is_available():
    pytest.skip("this build of torch has no torch.distributed", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("distributed")]
SCRIPT = Path(__file__).parent / "distributed_checks.py"
CHECKS = (
    "ddp ddp-lamb zero noise fsdp fsdp-eager fsdp-capturable fsdp-lags fsdp-lamb rows columns copies "
    "whole-states flat-states save-2 resume-2-on-1 save-1 resume-1-on-2"
).split()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What each process found."""
    folder = tmp_path_factory.mktemp("distributed")
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, SCRIPT, str(rank), str(folder)], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    finish(processes, timeout=120)
    return [json.loads((Path(folder) / f"result-{rank}.json").read_text()) for rank in range(2)]


def test_all_were_made(results: list[dict[str, object]]) -> None:
    assert list(results[0]) == CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_as_one_process(name: str, results: list[dict[str, object]]) -> None:
    for found in (result[name] for result in results if name in result):
        assert isinstance(found, float), found
        assert found <= (0 if name == "noise" else 1e-10)
