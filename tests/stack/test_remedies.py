import importlib.util
import logging
import os
import re
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import theano
import theano.tensor as T

from running import first_on_path, python, silent, write
from wnorm.stack import hook, remedies

IGNORED = 'ignore::DeprecationWarning'


@pytest.fixture
def applied(monkeypatch):
    """An empty list of what was remedied."""
    monkeypatch.setattr(remedies, 'applied', {})
    return remedies.applied


@pytest.fixture
def toolless(monkeypatch, tmp_path):
    """No compiler, and a user who told Theano nothing."""
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setenv('THEANORC', str(tmp_path / 'theanorc'))
    monkeypatch.delenv('THEANO_FLAGS', raising=False)
    return tmp_path


# --- finding modules ------------------------------------------------------

class Editable(object):
    """A finder as an editable install has it."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            return importlib.util.spec_from_file_location(
                name, str(self.folder / (name + '.py')))


class Old(object):
    """A finder that knows nothing of find_spec."""

    def find_module(self, name, path=None):
        raise AssertionError('asked')


def test_search_asks_all_finders(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'meta_path', [hook.Finder, Old()] + [
        finder for finder in sys.meta_path if finder is not hook.Finder])
    assert remedies._search('no_such_module', None) is None
    assert remedies._search('json', None).origin == (
        sys.modules['json'].__file__)
    assert remedies._search('theano', None).origin == theano.__file__
    sys.meta_path.append(Editable('no_such_module', tmp_path))
    assert remedies._search('no_such_module', None).origin == str(
        tmp_path / 'no_such_module.py')


def test_a_module_that_is_not_there():
    assert remedies._mended(None)('no_such_module', None) is None


def test_a_theano_that_is_not_there_needs_nothing(monkeypatch, applied):
    monkeypatch.setattr(sys, 'meta_path', [])
    monkeypatch.setattr(remedies, 'restore_numpy_names', None)
    assert remedies.before_import('theano') is None
    assert applied == {}


def test_a_theano_that_is_there_gets_all(monkeypatch, applied):
    called = []
    for name in ('warn_about_toolchain', 'restore_numpy_names',
                 'restore_scipy_names', 'describe_blas',
                 'skip_compiled_scan'):
        monkeypatch.setattr(
            remedies, name, lambda name=name: called.append(name))
    assert remedies.before_import('theano') is None  # where it always was
    assert len(called) == 5


# --- the toolchain --------------------------------------------------------

def test_a_missing_compiler_is_announced(toolless):
    with pytest.warns(RuntimeWarning) as caught:
        remedies.warn_about_toolchain()
    assert [str(warning.message) for warning in caught] == [
        'g++ is missing: install it (Debian, Ubuntu: apt-get install g++)']


@pytest.mark.parametrize('flags', [
    'cxx=', 'floatX=float32,cxx=/opt/bin/g++', ' cxx="g++-12"'])
def test_unless_the_user_has_named_another(toolless, monkeypatch, flags):
    monkeypatch.setenv('THEANO_FLAGS', flags)
    remedies.warn_about_toolchain()  # a warning would be an error


def test_or_has_done_so_in_theanorc(toolless):
    write(toolless, {'theanorc': '[global]\ncxx = /opt/bin/g++\n'})
    remedies.warn_about_toolchain()


def test_settings(toolless, monkeypatch):
    assert remedies.setting('cxx') is None
    write(toolless, {'theanorc': '[global]\ncxx = one\n', 'nonsense': 'a\n b'})
    assert remedies.setting('cxx') == 'one'
    monkeypatch.setenv('THEANORC', os.pathsep.join(
        str(toolless / name) for name in ('theanorc', 'nonsense')))
    assert remedies.setting('cxx') == 'one'
    monkeypatch.setenv('THEANO_FLAGS', 'gcc.cxxflags=-O3,cxx=two,cxx=three')
    assert remedies.setting('cxx') == 'three'  # Theano too takes the last
    assert remedies.setting('cxxflags') is None
    monkeypatch.setenv('THEANO_FLAGS', 'blas.ldflags="-a,-b",device=cpu')
    assert remedies.setting('blas.ldflags') == '-a,-b'
    monkeypatch.setenv('THEANO_FLAGS', 'device=cpu,cxx="two')
    assert remedies.setting('cxx') == 'one'


# --- NumPy ----------------------------------------------------------------

def test_numpy_names(monkeypatch, applied):
    mine = object()
    numpy = types.SimpleNamespace(bool=mine, float=mine, str=mine)
    monkeypatch.setitem(sys.modules, 'numpy', numpy)
    remedies.restore_numpy_names()
    assert (numpy.int, numpy.complex, numpy.object) == (int, complex, object)
    assert numpy.bool is numpy.float is numpy.str is mine
    assert list(applied) == ['numpy.int, numpy.complex, numpy.object']
    before = dict(applied)
    remedies.restore_numpy_names()
    assert applied == before


def test_numpys_own_warnings_about_these_names_are_not_shown(
        monkeypatch, applied):
    numpy = types.ModuleType('numpy')

    def announce(name):
        warnings.warn('the future of ' + name, FutureWarning)
        raise AttributeError(name)
    numpy.__getattr__ = announce
    monkeypatch.setitem(sys.modules, 'numpy', numpy)
    remedies.restore_numpy_names()  # a warning would be an error
    assert numpy.object is object
    with pytest.warns(FutureWarning):  # still announced
        hasattr(numpy, 'long')


def numpy_with_distutils(monkeypatch, **attributes):
    """Stands in for a NumPy with this in ``numpy.distutils.__config__``."""
    config = types.ModuleType('numpy.distutils.__config__')
    vars(config).update(attributes)
    distutils = types.ModuleType('numpy.distutils')
    distutils.__path__ = []
    distutils.__config__ = config
    numpy = types.ModuleType('numpy')
    numpy.__path__ = []
    numpy.distutils = distutils
    for module in (numpy, distutils, config):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return distutils


@pytest.fixture
def blas_log(monkeypatch):
    log = logging.getLogger('theano.tensor.blas')
    monkeypatch.setattr(log, 'filters', [])
    return log


def test_a_described_blas_is_left_alone(monkeypatch, applied, blas_log):
    distutils = numpy_with_distutils(monkeypatch, blas_opt_info='mine')
    remedies.describe_blas()
    assert distutils.__config__.blas_opt_info == 'mine'
    assert applied == {} and blas_log.filters == []


def test_a_blas_that_numpy_no_longer_describes(
        monkeypatch, applied, blas_log):
    """NumPy 1.23 to 1.25 from PyPI."""
    distutils = numpy_with_distutils(monkeypatch, blas_ilp64_opt_info='mine')
    remedies.describe_blas()
    assert distutils.__config__.blas_opt_info == {
        'libraries': ['openblas'], 'library_dirs': []}
    assert distutils.__config__.blas_ilp64_opt_info == 'mine'
    assert list(applied) == ['numpy.distutils.__config__.blas_opt_info']


def test_a_numpy_that_describes_nothing(monkeypatch, applied, blas_log):
    """NumPy 1.26 from PyPI."""
    distutils = numpy_with_distutils(monkeypatch)
    monkeypatch.setitem(sys.modules, 'numpy.distutils.__config__', None)
    remedies.describe_blas()
    assert distutils.__config__.blas_opt_info['libraries'] == ['openblas']
    assert list(applied) == ['numpy.distutils.__config__.blas_opt_info']
    (dropping,) = blas_log.filters
    assert not dropping(logging.makeLogRecord({
        'msg': 'Using NumPy C-API based implementation for BLAS functions.'}))
    assert dropping(logging.makeLogRecord({'msg': 'something else'}))


# --- the BLAS -------------------------------------------------------------

LINKS = 'import theano; print(theano.config.blas.ldflags)'


def test_theano_gets_numpys_blas(applied, monkeypatch):
    assert re.match(r'-L\S+ -lwnorm_openblas_\w+$',
                    theano.config.blas.ldflags)
    monkeypatch.setattr(remedies, 'no_adapter', None)
    remedies.adapt_blas()
    assert list(applied) == ['theano.config.blas.ldflags']
    assert remedies.no_adapter is None


def test_the_users_blas_wins(tmp_path):
    flags = os.environ['THEANO_FLAGS'] + ',blas.ldflags=-lm -lc'
    assert silent(python('-c', LINKS, cwd=tmp_path,
                         THEANO_FLAGS=flags)) == '-lm -lc\n'


def test_the_users_blas_in_theanorc_wins(tmp_path):
    write(tmp_path, {'theanorc': '[blas]\nldflags = -lm\n'})
    assert silent(python('-c', LINKS, cwd=tmp_path,
                         THEANORC=tmp_path / 'theanorc')) == '-lm\n'


def test_numpys_blas_is_switched_off(tmp_path):
    code = LINKS + """
from wnorm.stack import remedies
print(remedies.no_adapter)
assert 'theano.config.blas.ldflags' not in remedies.applied
"""
    links, why = silent(python('-c', code, cwd=tmp_path,
                               WNORM_BLAS='no')).splitlines()
    assert 'wnorm' not in links
    assert why == 'switched off by WNORM_BLAS=no'


BATCHED_DOT = """
import numpy as np
import theano
import theano.tensor as T
from wnorm.stack import remedies

assert theano.config.blas.ldflags == ''
assert remedies.no_adapter is None
assert 'theano.tensor.blas.BatchedDot' in remedies.applied
for dtype in 'float32', 'float64':
    x, y = [T.TensorType(dtype, (False,) * 3)() for _ in 'xy']
    rng = np.random.RandomState(0)
    a, b = rng.rand(2, 3, 4).astype(dtype), rng.rand(2, 4, 5).astype(dtype)
    product = theano.function([x, y], T.batched_dot(x, y), mode='FAST_RUN')
    assert type(product.maker.fgraph.outputs[0].owner.op).__name__ == (
        'BatchedDot')
    np.testing.assert_allclose(product(a, b), np.matmul(a, b), rtol=1e-5)
"""


def test_a_user_who_wants_no_blas(tmp_path):
    """And batched_dot, which calls one as no other operation does."""
    silent(python('-c', BATCHED_DOT, cwd=tmp_path, THEANO_FLAGS=os.environ[
        'THEANO_FLAGS'] + ',blas.ldflags='))


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_batched_dot_with_numpys_blas(dtype):
    x, y = [T.TensorType(dtype, (False,) * 3)() for _ in 'xy']
    rng = np.random.RandomState(0)
    a, b = rng.rand(2, 3, 4).astype(dtype), rng.rand(2, 4, 5).astype(dtype)
    product = theano.function([x, y], T.batched_dot(x, y), mode='FAST_RUN')
    np.testing.assert_allclose(product(a, b), np.matmul(a, b), rtol=1e-5)


def test_products_of_empty_matrices(floatX):
    x, y, same, z = T.matrices(4)
    function = theano.function([x, y, same, z], [
        T.dot(x, y), 2 * T.dot(y.T, x.T), 3 * z - T.dot(x, same),
    ], mode='FAST_RUN')
    assert {'Dot22', 'Dot22Scalar', 'Gemm'} <= {
        type(node.op).__name__ for node in function.maker.fgraph.toposort()}
    for rows, inner, columns in (
            (0, 4, 5), (3, 0, 5), (3, 4, 0), (0, 0, 5), (1, 0, 1), (3, 4, 5)):
        X, Y, Z = [np.arange(1., 1 + a * b).reshape(a, b).astype(floatX)
                   for a, b in ((rows, inner), (inner, columns),
                                (rows, columns))]
        product = np.float64(X).dot(Y)
        for result, expected in zip(function(X, Y, Y, Z), (
                product, 2 * product.T, 3 * Z - product)):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.slow
def test_an_op_without_parameters_is_compiled_once(tmp_path):
    program = (
        'import theano, theano.tensor as T\n'
        'from theano.gof.cmodule import GCC_compiler\n'
        'compile_str, calls = GCC_compiler.compile_str, []\n'
        'def count(*arguments, **options):\n'
        '    calls.append(arguments)\n'
        '    return compile_str(*arguments, **options)\n'
        'GCC_compiler.compile_str = staticmethod(count)\n'
        'x = T.matrix()\n'
        'f = theano.function([x], T.dot(x, x), mode="FAST_RUN")\n'
        'assert f.maker.fgraph.outputs[0].owner.op == T.blas.Dot22()\n'
        'print(len(calls))')
    flags = 'base_compiledir=%s' % tmp_path
    assert 1 <= int(silent(python(
        '-c', program, cwd=tmp_path, THEANO_FLAGS=flags)))
    assert 0 == int(silent(python(
        '-c', program, cwd=tmp_path, THEANO_FLAGS=flags)))


def test_a_sparse_product_leaves_its_input():
    from scipy.sparse import csc_matrix
    from theano import sparse
    assert 'theano.sparse.opt.local_usmm' in remedies.applied
    x, y, z = sparse.csc_matrix(), T.dmatrix(), T.dmatrix()
    random = np.random.RandomState(0)
    X = csc_matrix(random.rand(4, 5) * (random.rand(4, 5) < .5))
    Y, Z = random.rand(5, 3), random.rand(4, 3)
    before = Z.copy()
    np.testing.assert_allclose(
        theano.function([x, y, z], z - 2. * sparse.dot(x, y),
                        mode='FAST_RUN')(X, Y, Z),
        before - 2 * X.toarray().dot(Y))
    np.testing.assert_array_equal(Z, before)


@pytest.mark.parametrize('first, has_begun', [
    ('', False), ('from mpi4py import MPI', True)])
def test_theano_does_not_begin_mpi(tmp_path, first, has_begun):
    pytest.importorskip('mpi4py', reason="mpi4py is not installed: pip "
                        "install 'wnorm[mpi]'")
    code = first + '''
import sys
import theano.tensor.io
print(theano.tensor.io.mpi_enabled, 'mpi4py.MPI' in sys.modules,
      sys.modules.get('mpi4py', 'free') is not None)
from mpi4py import MPI
print(MPI.COMM_WORLD.size)
'''
    assert silent(python('-c', code, cwd=tmp_path)) == (
        '%s %s True\n1\n' % (has_begun, has_begun))


@pytest.mark.parametrize('mode', ['max', 'sum', 'average_inc_pad'])
def test_pooling_in_python(mode):
    assert 'theano.tensor.signal.pool' in remedies.applied
    from theano.tensor.signal.pool import pool_2d
    pad = (0, 0) if mode == 'sum' else (1, 0)

    def pooled(x):
        return pool_2d(x, (3, 2), ignore_border=True, stride=(2, 1), pad=pad,
                       mode=mode)
    random = np.random.RandomState(0)
    values = random.normal(size=(2, 3, 5, 4))
    padded = np.pad(values, [(0, 0), (0, 0), (pad[0],) * 2, (0, 0)],
                    constant_values=-np.inf if mode == 'max' else 0)
    x = T.tensor4()
    result = theano.function([x], pooled(x))(values)
    assert result.shape == (2, 3, 3 if pad[0] else 2, 3)
    for i, j in np.ndindex(result.shape[2:]):
        window = np.s_[:, :, 2 * i:2 * i + 3, j:j + 2]
        expected = (padded[window].max(axis=(2, 3)) if mode == 'max' else
                    padded[window].sum(axis=(2, 3)))
        if mode == 'average_inc_pad':
            expected /= 6
        np.testing.assert_allclose(result[:, :, i, j], expected)
    theano.gradient.verify_grad(pooled, [values], rng=random)
    if mode == 'max':
        direction = T.tensor4()
        along = theano.function([x, direction], T.Rop(
            pooled(x), x, direction))(values, values)
        np.testing.assert_allclose(along, result)  # linear along x itself


# --- SciPy ----------------------------------------------------------------

def scipy_signal(monkeypatch, **modules):
    """Stands in for a ``scipy.signal`` with these modules."""
    scipy = types.ModuleType('scipy')
    scipy.signal = types.ModuleType('scipy.signal')
    scipy.signal.__path__ = []
    vars(scipy.signal).update(modules)
    monkeypatch.setitem(sys.modules, 'scipy', scipy)
    monkeypatch.setitem(sys.modules, 'scipy.signal', scipy.signal)
    monkeypatch.delitem(sys.modules, 'scipy.signal.sigtools', raising=False)
    for name in ('_signaltools', '_sigtools', 'signaltools'):
        monkeypatch.setitem(sys.modules, 'scipy.signal.' + name,
                            modules.get(name))


def test_scipy_before_the_move_is_left_alone(monkeypatch, applied):
    scipy_signal(monkeypatch, signaltools=types.ModuleType('signaltools'))
    remedies.restore_scipy_names()
    assert applied == {}
    assert 'scipy.signal.sigtools' not in sys.modules


def test_scipy_names(monkeypatch, applied):
    new = types.SimpleNamespace(_valfrommode=1, _bvalfromboundary=2,
                                convolve=3)
    old = types.SimpleNamespace(convolve='mine')
    sigtools = types.ModuleType('scipy.signal._sigtools')
    scipy_signal(monkeypatch, _signaltools=new, signaltools=old,
                 _sigtools=sigtools)
    remedies.restore_scipy_names()
    assert vars(old) == dict(_valfrommode=1, _bvalfromboundary=2,
                             convolve='mine')
    assert sys.modules.pop('scipy.signal.sigtools') is sigtools
    assert list(applied) == [
        'scipy.signal.signaltools._valfrommode, '
        'scipy.signal.signaltools._bvalfromboundary, scipy.signal.sigtools']


def test_scipy_names_that_are_all_there(monkeypatch, applied):
    module = types.SimpleNamespace(_valfrommode=1, _bvalfromboundary=2,
                                   convolve=3)
    scipy_signal(monkeypatch, _signaltools=module, signaltools=module,
                 _sigtools=module)
    monkeypatch.setitem(sys.modules, 'scipy.signal.sigtools', module)
    remedies.restore_scipy_names()
    assert applied == {}


# --- scan -----------------------------------------------------------------

@pytest.mark.parametrize('version, skipped', [
    ((3, 8), False), ((3, 10), False), ((3, 11), True)])
def test_compiled_scan_is_skipped_where_it_cannot_be_compiled(
        monkeypatch, applied, version, skipped):
    name = 'theano.scan_module.scan_perform_ext'
    monkeypatch.setattr(sys, 'version_info', version)
    monkeypatch.delitem(sys.modules, name, raising=False)
    remedies.skip_compiled_scan()
    assert (name in sys.modules) == (name in applied) == skipped
    sys.modules.pop(name, None)
    monkeypatch.setitem(sys.modules, name, 'mine')
    applied.clear()
    remedies.skip_compiled_scan()
    assert sys.modules[name] == 'mine' and applied == {}


@pytest.mark.filterwarnings(IGNORED)  # Theano's, of an older Python
def test_scan_works():
    x = T.vector()
    sums, updates = theano.scan(lambda value, before: before + value,
                                sequences=x, outputs_info=T.zeros((), x.dtype))
    values = np.arange(1, 6, dtype=x.dtype)
    np.testing.assert_array_equal(
        theano.function([x], sums, updates=updates)(values),
        np.cumsum(values))


# --- theano.tensor.signal.downsample --------------------------------------

POOLS = {
    'max': np.max, 'sum': np.sum, 'average_exc_pad': np.mean,
    'average_inc_pad': lambda window: window.sum() / 6.,  # of windows (3, 2)
}


def pool(x, ds, ignore_border, st, padding, mode):
    """What ``max_pool_2d`` computes, window by window."""
    border = -np.inf if mode == 'max' else 0.
    padded = np.full((x.shape[0] + 2 * padding[0],
                      x.shape[1] + 2 * padding[1]), np.nan)
    padded[padding[0]:padding[0] + x.shape[0],
           padding[1]:padding[1] + x.shape[1]] = x
    rows = []
    for i in range(0, padded.shape[0], st[0]):
        row = []
        for j in range(0, padded.shape[1], st[1]):
            window = padded[i:i + ds[0], j:j + ds[1]]
            if ignore_border and window.shape != tuple(ds):
                continue
            if np.isnan(window).all():
                row.append(border)
            else:
                row.append(POOLS[mode](window[~np.isnan(window)]))
        if row:
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize('ignore_border, st, padding, mode', [
    (None, None, (0, 0), 'max'),
    (False, None, (0, 0), 'max'),
    (True, None, (0, 0), 'max'),
    (True, (1, 2), (2, 1), 'max'),
    (True, (2, 1), (1, 0), 'average_inc_pad'),
])
def test_max_pool_2d(ignore_border, st, padding, mode):
    from theano.tensor.signal import downsample
    x = T.matrix()
    values = np.random.RandomState(0).normal(size=(8, 7)).astype(x.dtype)
    keywords = {}
    if ignore_border is not None:
        keywords['ignore_border'] = ignore_border
    if st is not None:
        keywords.update(st=st, padding=padding, mode=mode)
    result = theano.function([x], downsample.max_pool_2d(
        x, (3, 2), **keywords))(values)
    np.testing.assert_allclose(result, pool(
        values, (3, 2), bool(ignore_border), st or (3, 2), padding, mode),
        rtol=1e-6)


def test_a_real_downsample_is_left_alone(tmp_path, applied):
    name = 'theano.tensor.signal.downsample'
    write(tmp_path, {'downsample.py': ''})
    assert remedies.before_import(name, [str(tmp_path)]) is None
    assert applied == {}
    (tmp_path / 'downsample.py').unlink()
    spec = remedies.before_import(name, [str(tmp_path)])
    assert spec.origin == os.path.join(
        os.path.dirname(remedies.__file__), 'downsample.py')
    assert list(applied) == [name]


# --- pkg_resources --------------------------------------------------------

@pytest.fixture
def without_pkg_resources(monkeypatch):
    """Takes away the module of setuptools, if it has one."""
    monkeypatch.delitem(sys.modules, 'pkg_resources', raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: (
        None if name == 'pkg_resources' else find(name)))


def load(folder, name, code):
    """Imports a module as the hook would import ``lasagne``."""
    write(folder, {name + '.py': code})
    spec = remedies._needs_pkg_resources(name, [str(folder)])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ASKS = """
import pkg_resources
version = pkg_resources.get_distribution('numpy').version
try:
    pkg_resources.get_distribution('no such distribution')
except pkg_resources.DistributionNotFound as error:
    problem = str(error)
"""


def test_pkg_resources_for_one_module_alone(
        tmp_path, without_pkg_resources, applied):
    module = load(tmp_path, 'asks', ASKS)
    assert module.version == np.__version__
    assert 'no such distribution' in module.problem
    assert list(applied) == ['pkg_resources']
    assert 'pkg_resources' not in sys.modules
    # nothing else about the module is special
    assert module.__loader__ is module.__spec__.loader
    assert module.__loader__.get_source('asks') == ASKS


def test_pkg_resources_after_a_failing_import(tmp_path, without_pkg_resources):
    with pytest.raises(ZeroDivisionError):
        load(tmp_path, 'fails', 'import pkg_resources; 1 / 0')
    assert 'pkg_resources' not in sys.modules


def test_an_existing_pkg_resources_is_used(monkeypatch, applied):
    # one that a user has made, too, which importlib cannot tell
    monkeypatch.setitem(sys.modules, 'pkg_resources',
                        types.ModuleType('pkg_resources'))
    assert remedies.before_import('lasagne') is None
    assert applied == {}


def test_an_existing_pkg_resources_is_used_in_a_fresh_python(tmp_path):
    code = """
import lasagne, sys
from wnorm.stack import remedies
assert 'pkg_resources' not in remedies.applied
import pkg_resources
assert pkg_resources.mine
"""
    write(tmp_path, {'pkg_resources.py': """
mine = True
class DistributionNotFound(Exception):
    pass
class get_distribution:
    def __init__(self, name):
        self.version = 'mine of ' + name
"""})
    silent(python('-c', code, cwd=tmp_path,
                  PYTHONPATH=first_on_path(tmp_path)))


def test_a_lasagne_that_is_not_there(without_pkg_resources, applied):
    assert remedies._needs_pkg_resources('no_such_module', None) is None
    assert applied == {}


# --- numpy.linspace in lasagne.layers.special -----------------------------

def test_linspace_of_a_float_for_one_module_alone(tmp_path, applied):
    write(tmp_path, {'special.py': 'import numpy as np\n'})
    spec = remedies._special('special', [str(tmp_path)])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert list(applied) == ['special']
    assert module.np.linspace(-1, 1, np.sqrt(9)).tolist() == [-1., 0., 1.]
    assert module.np.linspace(0, 1, 2, endpoint=False).tolist() == [0., .5]
    assert module.np.sqrt is np.sqrt
    with pytest.raises(TypeError):
        np.linspace(-1, 1, np.sqrt(9))


def test_a_numpy_that_takes_floats_is_left_alone(
        tmp_path, monkeypatch, applied):
    write(tmp_path, {'special.py': ''})
    monkeypatch.setattr(np, 'linspace', lambda *arguments: None)
    assert remedies._special('special', [str(tmp_path)]).loader is not None
    assert remedies._special('no_such_module', None) is None
    assert applied == {}


def test_a_lasagne_without_the_module(applied):
    assert remedies._special('no_such_module', None) is None
    assert applied == {}


def test_transformer_with_control_points():
    import lasagne.layers
    if not hasattr(lasagne.layers, 'TPSTransformerLayer'):
        pytest.skip('the installed Lasagne lacks TPSTransformerLayer')
    l = lasagne.layers.InputLayer((2, 1, 5, 5))
    where = lasagne.layers.DenseLayer(l, 32)
    l = lasagne.layers.TPSTransformerLayer(l, where, control_points=16)
    X = np.random.RandomState(0).rand(2, 1, 5, 5)
    # as it is made, it leaves the picture where it is
    where.W.set_value(0 * where.W.get_value())
    np.testing.assert_allclose(
        theano.function([], lasagne.layers.get_output(l, X),
                        mode='FAST_RUN')(), X, atol=1e-6)


# --- lasagne.layers.dnn ---------------------------------------------------

@pytest.mark.parametrize('activated, present, usable', [
    (True, True, True), (True, False, False), (False, True, False)])
@pytest.mark.filterwarnings(IGNORED)
def test_lasagnes_own_dnn(monkeypatch, activated, present, usable, applied):
    import lasagne.layers
    from theano import gpuarray
    # as in Lasagne master
    monkeypatch.setattr(lasagne.layers.conv, 'BaseConvLayer', object,
                        raising=False)
    monkeypatch.setattr(gpuarray, 'pygpu_activated', activated)
    monkeypatch.setattr(gpuarray.dnn, 'dnn_present', lambda: present)
    assert remedies.dnn_usable() == usable
    spec = remedies.before_import('lasagne.layers.dnn',
                                  lasagne.layers.__path__)
    assert (spec is None) == usable
    assert ('lasagne.layers.dnn' in applied) != usable


def test_lasagne_01_has_no_usable_dnn(monkeypatch):
    import lasagne.layers
    monkeypatch.delattr(lasagne.layers.conv, 'BaseConvLayer', raising=False)
    assert remedies.dnn_usable() is False


# --- what is shown --------------------------------------------------------

def test_warnings_of_the_remedies_are_not_shown_but_others_are(tmp_path):
    code = """
import logging, warnings
import theano, lasagne
from lasagne.layers import dnn
logging.getLogger('theano.tensor.blas').warning('one of Theano')
warnings.warn('one of the user', DeprecationWarning)
"""
    done = python('-W', 'always', '-c', code, cwd=tmp_path)
    assert done.returncode == 0
    assert 'one of Theano' in done.stderr
    assert 'one of the user' in done.stderr
    for text in ('numpy.distutils', 'NumPy C-API', 'np.bool', 'np.object',
                 'scipy', 'pkg_resources', 'wnorm'):
        assert text not in done.stderr, done.stderr


def test_the_look_at_the_toolchain_starts_no_process(monkeypatch):
    monkeypatch.setattr(subprocess, 'Popen', None)
    remedies.warn_about_toolchain()


# --- on a device ----------------------------------------------------------

def test_rewrites_wait_for_a_device(monkeypatch, tmp_path):
    """They change the graphs of a CPU in nothing."""
    code = ('import sys, theano; '
            'print("wnorm.stack.gpu.rewrites" in sys.modules)')
    assert silent(python('-c', code, cwd=tmp_path,
                         THEANO_FLAGS='device=cpu')) == 'False\n'
    # a device that is not there: Theano says so, and goes on
    done = python('-c', code, cwd=tmp_path, THEANO_FLAGS='device=opencl9:9')
    assert (done.returncode, done.stdout) == (0, 'True\n'), done.stderr


def test_elements_of_a_shape():
    from theano import tensor as T
    from wnorm.stack.gpu import rewrites
    v = T.lvector()
    cast = T.cast(v, 'float32')
    (element,) = rewrites.local_subtensor_of_cast.transform(
        cast[1].owner)
    assert element.owner.op == cast.owner.op and element.ndim == 0
    assert element.eval({v: [3, 4]}) == 4
    for other in (cast[1:], T.cast(T.lmatrix(), 'float32')[1], v[1],
                  T.cast(T.dvector(), 'float32')[1]):
        assert not rewrites.local_subtensor_of_cast.transform(other.owner)


def test_nan_in_opencl():
    from theano import scalar
    from wnorm.stack.gpu import rewrites

    class Maximum(scalar.Maximum):
        pass

    x, y = scalar.float32('x'), scalar.float32('y')
    node = Maximum(scalar.upcast_out).make_node(x, y)
    given = (node, 'name', ('x', 'y'), ('z',), {})
    before = node.op.c_code(*given)
    rewrites.name_nan_in_opencl(Maximum)
    assert 'nan("")' in before
    assert node.op.c_code(*given) == before.replace('nan("")', 'NAN')
