"""``import wnorm``: light, with its names on first use."""
import subprocess
import sys

import pytest

import wnorm


def test_public_names():
    assert wnorm.__all__ == [
        'Gain', 'Layout', 'MeanOnlyBatchNormLayer', 'WeightNormLayer',
        'explain', 'fold', 'init_updates', 'initialize',
        'initialize_norm_preserving', 'load', 'mean_only_batch_norm',
        'normalize_param', 'plot_gains', 'register', 'save', 'summary',
        'weight_norm', 'weight_norm_network']
    for name in wnorm.__all__:
        assert getattr(wnorm, name).__name__ == name
        assert name in dir(wnorm)
    names = {}
    exec('from wnorm import *', names)
    assert set(wnorm.__all__) <= set(names)


def test_modules():
    assert wnorm.filters.register is wnorm.register
    assert 'nn' in dir(wnorm)
    with pytest.raises(AttributeError, match="'wnorm' has no attribute 'x'"):
        wnorm.x
    with pytest.raises(ImportError):
        from wnorm import y  # noqa: F401


def test_import_loads_nothing():
    code = ('import wnorm, sys; assert wnorm.__version__; dir(wnorm); '
            'print([m for m in ("numpy", "theano", "lasagne", "importlib.util"'
            ', "inspect", "warnings") if m in sys.modules and '
            'm not in before])')
    code = 'import sys; before = set(sys.modules); ' + code
    out = subprocess.run([sys.executable, '-c', code], check=True,
                         stdout=subprocess.PIPE, universal_newlines=True)
    assert out.stdout.strip() == '[]'


def test_imports_no_optional_package():
    code = ('import sys, wnorm;'
            'wnorm.interop.torch, wnorm.nn, [getattr(wnorm, name) for name in wnorm.__all__];'
            'print([m for m in ("torch", "mpi4py", "matplotlib", "sklearn", '
            '"tqdm", "joblib") if m in sys.modules])')
    out = subprocess.run([sys.executable, '-c', code], check=True,
                         stdout=subprocess.PIPE, universal_newlines=True)
    assert out.stdout.strip() == '[]'
