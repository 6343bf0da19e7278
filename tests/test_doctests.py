"""The examples in the docstrings and in the README."""
import doctest
import glob
import importlib
import os
import re
import subprocess
import sys

import pytest

import wnorm

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULES = ['wnorm.checkpoints', 'wnorm.distributed.gradients',
           'wnorm.distributed.initialization',
           'wnorm.distributed.sharding', 'wnorm.distributed.values',
           'wnorm.distributed.joining', 'wnorm.filters', 'wnorm.folding',
           'wnorm.gains', 'wnorm.initialization',
           'wnorm.initialization.moments', 'wnorm.inspection',
           'wnorm.layers', 'wnorm.mean_only', 'wnorm.naming',
           'wnorm.networks', 'wnorm.nn', 'wnorm.nn.functions',
           'wnorm.nn.normalized', 'wnorm.nn.optimizers',
           'wnorm.nn.unnormalized', 'wnorm.nn.weightnorm',
           'wnorm.nn.whitening', 'wnorm.norm_preserving',
           'wnorm.ops', 'wnorm.parameters', 'wnorm.recurrent', 'wnorm.report']


#: What is compiled in C, and what needs PyTorch: in tests/interop.
SLOW = ['wnorm.ops.explain']
ELSEWHERE = ['wnorm.interop.torch']


@pytest.mark.parametrize('name', MODULES + [
    pytest.param(name, marks=pytest.mark.slow) for name in SLOW])
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_no_docstring_is_left_out():
    found = set()
    for path in glob.glob(os.path.join(ROOT, 'wnorm', '**', '*.py'),
                          recursive=True):
        with open(path, encoding='utf-8') as f:
            if re.search('^ *>>> ', f.read(), re.M):
                name = os.path.relpath(path, ROOT)[:-len('.py')]
                found.add(re.sub('.__init__$', '', name).replace(os.sep, '.'))
    assert found <= set(MODULES + SLOW + ELSEWHERE)


@pytest.mark.parametrize('name', wnorm.__all__)
def test_public_names_have_an_example(name):
    assert '>>> ' in getattr(wnorm, name).__doc__


def readme():
    with open(os.path.join(ROOT, 'README.md'), encoding='utf-8') as f:
        return f.read()


def test_quickstart_is_the_readme_s():
    # examples/quickstart.py and the README show the same program
    with open(os.path.join(ROOT, 'examples', 'quickstart.py')) as f:
        program = f.read().split('"""\n', 1)[1].strip()
    blocks = re.findall(r'```python\n(.*?)```', readme(), re.S)
    assert program == blocks[0].strip()


def test_readme_runs(tmp_path):
    for block in re.findall(r'```python\n(.*?)```', readme(), re.S):
        run = subprocess.run([sys.executable, '-c', block],
                             cwd=str(tmp_path), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, universal_newlines=True)
        assert run.returncode == 0, run.stderr
    # the first prints the report
    assert 'deviation after' in subprocess.run(
        [sys.executable, os.path.join(ROOT, 'examples', 'quickstart.py')],
        check=True, cwd=str(tmp_path), stdout=subprocess.PIPE,
        universal_newlines=True).stdout
