"""The short form of `make torture`: the first of its cases, which are of all kinds."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.torture import faults


@pytest.mark.real
@pytest.mark.skipif(faults.compiler() is None, reason="no C compiler: install gcc")
def test_commands_that_are_killed_or_meet_failing_disks_go_on(tmp_path):
    command = [sys.executable, "-m", "tests.torture", "--most", "8", "--mutants", "0", "--work", str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert process.returncode == 0, process.stdout
    assert "8 of 8 cases" in process.stdout.splitlines()[-1]
