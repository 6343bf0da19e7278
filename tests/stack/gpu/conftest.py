"""A machine of which the test says what there is."""
import os
import sys

import pytest

from wnorm.stack.gpu import libraries
from . import fake


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The only folder in which libraries are looked for; at first empty."""
    for name in ('LD_LIBRARY_PATH', 'CUDA_HOME', 'CUDA_PATH', 'CUDA_ROOT',
                 'CONDA_PREFIX', 'WNORM_CUDA', 'WNORM_GPU_RUNTIME',
                 'NVIDIA_TF32_OVERRIDE', 'PYTHONPATH'):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / 'machine'
    folder.mkdir()
    home = str(tmp_path / 'home')
    monkeypatch.setattr(libraries, 'home', lambda: home)
    monkeypatch.setattr(libraries, 'SYSTEM', [str(folder)])
    monkeypatch.setattr(libraries, 'SYSTEM_HEADERS', [])
    monkeypatch.setattr(libraries, 'from_other_pythons', lambda: [])
    monkeypatch.setattr(sys, 'path', [
        path for path in sys.path if not any(
            os.path.isdir(os.path.join(path, name))
            for name in ('nvidia', 'pygpu'))])
    monkeypatch.setenv('THEANO_FLAGS', 'base_compiledir=%s'
                       % (tmp_path / 'compiled'))
    monkeypatch.setenv('THEANORC', str(tmp_path / 'theanorc'))
    return folder


@pytest.fixture
def complete(machine, tmp_path, monkeypatch):
    """A machine with all that CUDA needs."""
    fake.pygpu(tmp_path / 'home')
    fake.library('driver', machine / 'libcuda.so.1', (12, 4))
    fake.wheels(machine)
    monkeypatch.setattr(sys, 'path', [str(machine)])
    return machine
