"""What FFCV compiles when it is imported is compiled once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher
from numba.typed import typeddict

from mixops.runtime.jit import kernel_folder
from pipelines.ffcv.dictionaries import keep_dictionaries

ROOT = Path(__file__).parents[3]
# importing FFCV makes such a dictionary, and so does who has no FFCV
CODE = """
from numba.typed import Dict, typeddict
from pipelines.ffcv.dictionaries import keep_dictionaries
keep_dictionaries()
made = Dict()
made["jpg"], made["raw"] = 0, 1
print(len(typeddict._setitem.stats.cache_hits), made["jpg"], made["raw"], "png" in made)
"""


def test_the_functions_of_dictionaries_are_kept_with_the_kernels() -> None:
    keep_dictionaries()
    functions = [function for function in vars(typeddict).values() if isinstance(function, Dispatcher)]
    assert len(functions) > 9
    assert all(Path(function._cache.cache_path).is_relative_to(Path(kernel_folder()) / "numba") for function in functions)


@pytest.mark.nightly
def test_another_process_does_not_compile_them_whatever_its_hashes(tmp_path: Path) -> None:
    for seed, hits in (("1", 0), ("2", 1)):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.split() == [str(hits), "0", "1", "False"]
