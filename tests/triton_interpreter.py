"""The Triton kernels on a CPU, by Triton's interpreter."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from wplus.models import ops

NAME = "wplus.models.kernels"


@contextmanager
def interpreted(**constants: int) -> Iterator[ModuleType]:
    """Let `ops` use the kernels on the CPU within the block; `constants` of the module may be replaced.

    Module and Triton are imported anew, for what Triton's decorator makes of a function is decided then.
    """
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if re.match(r"triton(?!\._C)", name)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        spec = importlib.util.find_spec(NAME)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, value in constants.items():
            patch.setattr(module, name, value)
        patch.setitem(sys.modules, NAME, module)
        patch.setattr(ops, "FUSED_ON", ("cpu",))
        yield module
    for name in [name for name in sys.modules if re.match(r"triton(?!\._C)", name)]:
        del sys.modules[name]
    sys.modules.update(before)
