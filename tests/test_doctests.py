"""The examples in the docstrings, and in the README and the manual."""
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
MODULES = ['wnorm.checkpoints', 'wnorm.filters', 'wnorm.folding',
           'wnorm.gains', 'wnorm.initialization',
           'wnorm.initialization.moments', 'wnorm.inspection',
           'wnorm.layers', 'wnorm.mean_only', 'wnorm.naming',
           'wnorm.networks', 'wnorm.nn', 'wnorm.norm_preserving',
           'wnorm.ops', 'wnorm.parameters', 'wnorm.recurrent', 'wnorm.report']


@pytest.mark.parametrize('name', MODULES)
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


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


def test_readme_lists_the_public_names():
    reference = readme().split('## Reference')[1].split('\n## ')[0]
    rows = re.findall(r'^\| (.*?) \|', reference, re.M)
    names = re.findall(r'`wnorm\.(\w+)', ' '.join(rows))
    assert sorted(names) == sorted(wnorm.__all__ + ['interop'])


def test_links_of_the_documents_lead_somewhere():
    documents = [os.path.join(ROOT, 'README.md')] + glob.glob(
        os.path.join(ROOT, 'docs', '*.md'))
    for document in documents:
        with open(document, encoding='utf-8') as f:
            for target in re.findall(r'\]\((?!http|#)([^)#]+)', f.read()):
                assert os.path.exists(os.path.join(
                    os.path.dirname(document), target)), (document, target)
