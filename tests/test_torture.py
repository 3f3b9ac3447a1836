"""The short form of `make torture`: the first of its cases, which are of all kinds."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.torture import faults


@pytest.mark.real
@pytest.mark.skipif(faults.compiler() is None, reason="no C compiler: install gcc")
def test_commands_that_are_killed_or_meet_failing_disks_go_on(tmp_path):
    command = [sys.executable, "-m", "tests.torture", "--minutes", "0.9", "--mutants", "0", "--work", str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stdout
    assert int(re.search(r"(\d+) of \d+ cases", process.stdout.splitlines()[-1])[1]) >= 5
