import os
import sys

import numpy
import pytest

from running import (
    IMPORTS, ORDERS, PRINTED, SPAWNS, TESTS, first_on_path, python, silent,
    write)
from wnorm.stack import hook

# the others run with what takes longer
FEW = [('theano', 'lasagne', 'wnorm', 'dnn'),
       ('dnn', 'wnorm', 'theano', 'lasagne')]
AFTERWARDS = """
import sys
assert 'wnorm.stack.remedies' in sys.modules
assert 'wnorm' not in getattr(sys.modules.get('pkg_resources'), '__name__', '')
"""


@pytest.mark.parametrize('order', [
    pytest.param(order, id='-'.join(order),
                 marks=() if order in FEW else pytest.mark.slow)
    for order in ORDERS])
def test_order_of_imports(order, tmp_path):
    code = '\n'.join(IMPORTS[name] for name in order) + AFTERWARDS
    assert silent(python('-c', code, cwd=tmp_path)) == ''


def test_script_and_spawned_child(tmp_path):
    write(tmp_path, {'script.py': SPAWNS})
    assert silent(python('script.py', cwd=tmp_path)) == PRINTED


def test_pytest(tmp_path):
    write(tmp_path, {'test_script.py': TESTS})
    out = silent(python('-m', 'pytest', '-q', '-p', 'no:cacheprovider',
                        cwd=tmp_path))
    assert '1 passed' in out


@pytest.mark.skipif(numpy.__version__ < '1.24',
                    reason='this NumPy has what Theano uses')
def test_switched_off(tmp_path):
    done = python('-c', 'import wnorm, theano', cwd=tmp_path, WNORM_STACK=0)
    assert done.returncode == 1
    assert "module 'numpy' has no attribute 'bool'" in done.stderr


def test_a_start_of_python_loads_next_to_nothing(tmp_path):
    modules = ['theano', 'lasagne', 'numpy', 'wnorm.stack.remedies',
               'wnorm.stack.preflight', 'importlib.metadata']
    code = ('import sys; print("wnorm.stack.hook" in sys.modules, '
            '[name for name in %r if name in sys.modules])' % modules)
    out = silent(python('-c', code, cwd=tmp_path,  # without coverage's hook
                        COVERAGE_PROCESS_START=None,
                        COVERAGE_PROCESS_CONFIG=None))
    assert out == 'True []\n'


def test_the_rest_of_the_package_loads_no_theano(tmp_path):
    code = ('import sys, wnorm, wnorm.__main__; print([name for name in '
            '("theano", "lasagne", "numpy") if name in sys.modules])')
    assert silent(python('-c', code, cwd=tmp_path)) == '[]\n'


def test_other_problems_stay_as_they_are(tmp_path):
    """A module of the same name that fails, or is missing, says so itself."""
    write(tmp_path, {'theano/__init__.py': 'raise OSError("no such luck")'})
    done = python('-c', 'import theano', cwd=tmp_path,
                  PYTHONPATH=first_on_path(tmp_path))
    assert done.stderr.endswith('OSError: no such luck\n')


@pytest.mark.parametrize('value, on', [
    (None, True), ('', True), ('1', True), ('yes', True), ('0', False),
    ('no', False), ('Off', False), ('FALSE', False)])
def test_enabled(monkeypatch, value, on):
    monkeypatch.delenv('WNORM_STACK', raising=False)
    if value is not None:
        monkeypatch.setenv('WNORM_STACK', value)
    assert hook.enabled() == on


def test_arm(monkeypatch):
    others = [finder for finder in sys.meta_path if finder is not hook.Finder]
    monkeypatch.delenv('WNORM_STACK', raising=False)
    monkeypatch.setattr(sys, 'meta_path', list(others))
    assert not hook.armed()
    hook.arm()
    assert hook.armed()
    hook.arm()
    assert sys.meta_path == [hook.Finder] + others
    monkeypatch.setattr(sys, 'meta_path', list(others))
    monkeypatch.setitem(os.environ, 'WNORM_STACK', '0')
    hook.arm()
    assert sys.meta_path == others


def test_other_modules_are_none_of_its_business():
    for name in ('json', 'theano.tensor', 'wnorm', 'lasagne.layers'):
        assert hook.Finder.find_spec(name) is None
