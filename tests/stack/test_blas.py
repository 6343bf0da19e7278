"""NumPy's BLAS for Theano: the adapter, and who gets it."""
import contextlib
import ctypes
import glob
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import theano
import theano.tensor as T

from running import python, silent, write
from wnorm.stack import blas

CXX = theano.config.cxx


@pytest.fixture(scope='module')
def library():
    return blas.of_numpys_wheel(blas.loaded())


@pytest.fixture(scope='module')
def adapted(tmp_path_factory, library):
    """The adapter, compiled anew."""
    folder = tmp_path_factory.mktemp('adapter')
    flags = blas.adapter(library, str(folder), CXX)
    (path,) = folder.iterdir()
    assert flags == '-L%s -l%s' % (folder, path.stem[len('lib'):])
    return ctypes.CDLL(str(path))


# --- values ---------------------------------------------------------------

class Caller(object):
    """Calls functions of Fortran's kind with numbers, texts and arrays."""

    def __init__(self, library, dtype):
        self.library = library
        self.prefix = {'float32': 's', 'float64': 'd'}[dtype]
        self.number = {'float32': ctypes.c_float,
                       'float64': ctypes.c_double}[dtype]

    def pointer(self, value):
        if isinstance(value, np.ndarray):
            return ctypes.c_void_p(value.ctypes.data)
        if isinstance(value, bytes):
            return ctypes.c_char_p(value)
        kind = ctypes.c_int if isinstance(value, int) else self.number
        return ctypes.byref(kind(value))

    def __call__(self, name, *arguments):
        function = self.library[self.prefix + name + '_']
        function.restype = self.number
        return function(*map(self.pointer, arguments))


@pytest.fixture(params=['float32', 'float64'])
def call(request, adapted):
    return Caller(adapted, request.param)


@pytest.fixture
def draw(call):
    """Random arrays, each inside a larger one, with gaps of NaN."""
    random = np.random.RandomState(0)

    def array(*shape):
        gaps = np.full([size + 3 for size in shape[:-1]] + [shape[-1]],
                       np.nan, call.number, order='F')
        inside = gaps[tuple(slice(size) for size in shape)]
        inside[...] = random.uniform(-1, 1, shape)
        return inside
    return array


def close(result, expected, dtype):
    np.testing.assert_allclose(
        result, expected, rtol=0,
        atol={'s': 1e-5, 'd': 1e-13}[dtype.prefix])


@pytest.mark.parametrize('ta', [b'N', b'T'])
@pytest.mark.parametrize('tb', [b'N', b'T'])
@pytest.mark.parametrize('beta', [0., 1., -.5])
def test_gemm(call, draw, ta, tb, beta):
    m, n, k = 5, 4, 3
    a = draw(*((m, k) if ta == b'N' else (k, m)))
    b = draw(*((k, n) if tb == b'N' else (n, k)))
    c = draw(m, n)
    if beta == 0:
        c[...] = np.nan  # what is there does not matter
    A, B = [np.float64(x if t == b'N' else x.T)
            for x, t in ((a, ta), (b, tb))]
    expected = 2 * A.dot(B) + (beta * np.float64(c) if beta else 0)
    call('gemm', ta, tb, m, n, k, 2., a, a.shape[0] + 3, b, b.shape[0] + 3,
         beta, c, m + 3)
    close(c, expected, call)


@pytest.mark.parametrize('trans', [b'N', b'T'])
@pytest.mark.parametrize('beta', [0., 1., -.5])
@pytest.mark.parametrize('step', [1, 2, -1])
def test_gemv(call, draw, trans, beta, step):
    m, n = 5, 3
    a = draw(m, n)
    A = np.float64(a if trans == b'N' else a.T)
    x, y = [draw(size * abs(step)) for size in A.shape[::-1]]
    if beta == 0:
        y[...] = np.nan
    expected = 2 * A.dot(x[::step]) + (
        beta * np.float64(y[::step]) if beta else 0)
    call('gemv', trans, m, n, 2., a, m + 3, x, step, beta, y, step)
    close(y[::step], expected, call)


@pytest.mark.parametrize('step', [1, 2, -1])
def test_ger(call, draw, step):
    m, n = 5, 3
    x, y, a = draw(m * abs(step)), draw(n * abs(step)), draw(m, n)
    expected = a + 2 * np.outer(np.float64(x[::step]), y[::step])
    call('ger', m, n, 2., x, step, y, step, a, m + 3)
    close(a, expected, call)


@pytest.mark.parametrize('step', [1, 2, -1])
def test_dot_and_axpy(call, draw, step):
    x, y = draw(7 * abs(step)), draw(7)
    close(call('dot', 7, x, step, y, 1),
          np.float64(x[::step]).dot(y), call)
    expected = y + 2 * np.float64(x[::step])
    call('axpy', 7, 2., x, step, y, 1)
    close(y, expected, call)


def test_threads(adapted):
    before = adapted.openblas_get_num_threads()
    assert before >= 1
    try:
        adapted.openblas_set_num_threads(1)
        assert adapted.openblas_get_num_threads() == 1
    finally:
        adapted.openblas_set_num_threads(before)


def test_other_work_for_the_threads(adapted):
    """As wnorm.ops has it done."""
    kind = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_int))
    count = adapted.openblas_get_num_threads()
    parts = (ctypes.c_int * count)(*range(count))

    def work(part):
        part[0] += 10
    adapted.openblas_parallel(
        count, kind(work), parts, ctypes.sizeof(ctypes.c_int))
    assert list(parts) == list(range(10, 10 + count))


def test_whatever_theano_calls_is_there(adapted):
    """What Theano declares, and names anywhere else, Python or C."""
    from theano.tensor.blas_headers import (
        blas_header_text, openblas_threads_text)
    declared = set(re.findall(
        r'\b(\w+)\(', blas_header_text() + openblas_threads_text()))
    named = set()
    folder = os.path.dirname(theano.__file__)
    for kind in ('py', 'c', 'h'):
        for path in glob.glob(os.path.join(folder, '**', '*.' + kind),
                              recursive=True):
            if 'tests' not in path and 'blas_headers' not in path:
                with open(path, encoding='utf-8') as file:
                    named.update(re.findall(r'\w+', file.read()))
    called = declared & named
    assert {'sgemm_', 'dgemv_', 'dger_', 'ddot_', 'saxpy_',
            'openblas_set_num_threads'} <= called
    assert [name for name in sorted(called)
            if not hasattr(adapted, name)] == []


# --- through Theano -------------------------------------------------------

def shared(shape, dtype):
    """Values in a shared variable."""
    values = np.random.RandomState(sum(shape)).uniform(-1, 1, shape)
    return theano.shared(values.astype(dtype))


def names(function):
    """Of a function's operations."""
    return {type(node.op).__name__
            for node in function.maker.fgraph.toposort()}


def test_operations(floatX):
    """On transposed matrices and on vectors with gaps."""
    a, b, c, v = [shared(shape, floatX) for shape in (
        (4, 6), (5, 4), (6, 5), (10,))]
    A, B, C, V = [np.float64(x.get_value()) for x in (a, b, c, v)]
    function = theano.function([], [
        c + T.dot(a.T, b.T),
        v[:6] + 2 * T.dot(a.T, v[::3]),
        c + 3 * T.outer(v[:6], v[::-2]),
    ], mode='FAST_RUN')
    assert {'Gemm', 'CGemv', 'CGer'} <= names(function)
    for result, expected in zip(function(), [
            C + A.T.dot(B.T),
            V[:6] + 2 * A.T.dot(V[::3]),
            C + 3 * np.outer(V[:6], V[::-2])]):
        np.testing.assert_allclose(
            result, expected, rtol=1e-5 if floatX == 'float32' else 1e-12)


def test_convolution_on_threads_of_its_own(adapted):
    from theano.tensor.nnet.corr import CorrMM
    images, filters = shared((3, 2, 5, 4), 'float64'), shared(
        (6, 2, 3, 3), 'float64')
    threads = adapted.openblas_get_num_threads()
    function = theano.function([], CorrMM(openmp=True)(images, filters),
                               mode='FAST_RUN')
    (op,) = [node.op for node in function.maker.fgraph.toposort()]
    assert (op.openmp, op.blas_type) == (True, 'openblas')
    X, W = images.get_value(), filters.get_value()
    np.testing.assert_allclose(function(), sum(
        np.einsum('bchw,fc->bfhw', X[:, :, i:i + 3, j:j + 2], W[:, :, i, j])
        for i in range(3) for j in range(3)))
    assert adapted.openblas_get_num_threads() == threads


#: A program: what Theano links; what else is loaded; a product, and another
#: in a process that it forks.
PROGRAM = """
import os, numpy, theano
from wnorm.stack import blas, remedies

print(theano.config.blas.ldflags)
print(remedies.no_adapter)
print(*blas.loaded(), sep=', ')
x = theano.shared(numpy.eye(200, dtype='float32'))
product = theano.function([], [x + 2 * theano.dot(x, x)], mode='FAST_RUN')
assert (product()[0] == 3 * numpy.eye(200)).all()
print(*blas.loaded(), sep=', ')
child = os.fork()
if child == 0:
    assert (product()[0] == 3 * numpy.eye(200)).all()
    os._exit(9)
assert os.waitpid(child, 0)[1] >> 8 == 9
"""


def test_no_second_blas_is_loaded(tmp_path, library):
    flags, refusal, before, after, _ = silent(python(
        '-c', PROGRAM, cwd=tmp_path)).split('\n')
    folder, name = re.match(r'-L(\S+) -l(wnorm_openblas_\w+)$',
                            flags).groups()
    assert refusal == 'None'
    assert before.split(', ') == after.split(', ') == sorted([
        library, os.path.join(folder, 'lib%s.so' % name)])


# --- which library --------------------------------------------------------

MAPS = """\
7f0-7f1 r--p 00000000 fe:00 1  /v/numpy.libs/libopenblas64_p-r0.so
7f0-7f1 r-xp 00000000 fe:00 1  /v/numpy.libs/libopenblas64_p-r0.so
7f1-7f2 r--p 00000000 fe:00 1  /v/numpy.libs/libgfortran.so.5
7f2-7f3 rw-p 00000000 00:00 0
7f3-7f4 r--p 00000000 fe:00 1  /v/scipy.libs/libscipy_openblas.so
7f4-7f5 r--p 00000000 fe:00 1  /v/scipy/linalg/_fblas.cpython-311.so
7f5-7f6 rw-p 00000000 00:00 0  [heap]
7f7-7f8 r--p 00000000 fe:00 1  /opt/my blas/libmkl_rt.so.2
"""


def test_loaded(tmp_path):
    write(tmp_path, {'maps': MAPS, 'empty': ''})
    assert blas.loaded(str(tmp_path / 'maps')) == [
        '/opt/my blas/libmkl_rt.so.2', '/v/numpy.libs/libopenblas64_p-r0.so']
    assert blas.loaded(str(tmp_path / 'empty')) == []
    assert blas.loaded(str(tmp_path / 'none')) == []  # but for Linux


def test_the_library_of_a_wheel(library):
    assert os.path.dirname(library) == os.path.join(
        os.path.dirname(os.path.dirname(np.__file__)), 'numpy.libs')


@pytest.mark.parametrize('paths, named', [
    ([], 'not known'),
    (['/usr/lib/openblas/libblas.so.3'], '/usr/lib/openblas/libblas.so.3'),
    (['/c/lib/libmkl_core.so', '/c/lib/libmkl_rt.so'],
     '/c/lib/libmkl_core.so or /c/lib/libmkl_rt.so')])
def test_another_numpy(paths, named):
    """Debian's, or conda's."""
    with pytest.raises(blas.NoAdapter) as caught:
        blas.of_numpys_wheel(paths)
    assert str(caught.value) == (
        "NumPy's BLAS is %s, not the OpenBLAS of the wheels on PyPI" % named)
    assert 'apt-get install libopenblas-dev' in caught.value.remedy


@pytest.mark.parametrize('value, wanted', [
    (None, True), ('1', True), ('', True), ('0', False), ('Off', False)])
def test_switch(monkeypatch, value, wanted):
    monkeypatch.delenv('WNORM_BLAS', raising=False)
    if value is not None:
        monkeypatch.setenv('WNORM_BLAS', value)
    with contextlib.ExitStack() as stack:
        if not wanted:
            stack.enter_context(pytest.raises(
                blas.NoAdapter, match='switched off by WNORM_BLAS=' + value))
        blas.require_enabled()


# --- compiling ------------------------------------------------------------

def test_one_for_each_library(tmp_path, library):
    """A folder is shared by all who use Theano."""
    other = (tmp_path / 'with a space' / 'numpy.libs' /
             os.path.basename(library))
    other.parent.mkdir(parents=True)
    other.symlink_to(library)
    folder = tmp_path / 'folder'
    folder.mkdir()
    flags = {blas.adapter(path, str(folder), CXX)
             for path in (library, str(other))}
    assert len(flags) == len(list(folder.iterdir())) == 2


def script(path, text):
    """What can be run in place of a compiler."""
    write(path.parent, {path.name: '#!/bin/sh\n' + text})
    path.chmod(0o700)
    return str(path)


def test_what_is_there_is_not_compiled_again(tmp_path, library):
    folder = tmp_path / 'folder'
    folder.mkdir()
    flags = blas.adapter(library, str(folder), CXX)
    assert blas.adapter(library, str(folder), 'no compiler') == flags


def test_processes_that_compile_at_once(tmp_path, library):
    # each has begun before the first has ended
    slow = script(tmp_path / 'slow', """\
touch begun.$$
while [ $(ls begun.* | wc -l) -lt 3 ]; do sleep .01; done
exec %s "$@"
""" % CXX)
    (tmp_path / 'folder').mkdir()
    code = ('from wnorm.stack import blas; import numpy; '
            'print(blas.adapter(*%r))')
    children = [subprocess.Popen(
        [sys.executable, '-c', code % ((library, str(tmp_path / 'folder'),
                                        slow),)],
        cwd=str(tmp_path), stdout=subprocess.PIPE, universal_newlines=True)
        for _ in range(3)]
    printed = {child.communicate(timeout=100)[0] for child in children}
    assert [child.returncode for child in children] == [0, 0, 0]
    (name,) = os.listdir(str(tmp_path / 'folder'))
    assert printed == {'-L%s -l%s\n' % (
        tmp_path / 'folder', name[len('lib'):-len('.so')])}


def refused(library, folder, compiler):
    """The reason and the remedy. Nothing is left behind."""
    before = os.path.isdir(str(folder)) and os.listdir(str(folder))
    with pytest.raises(blas.NoAdapter) as caught:
        blas.adapter(library, str(folder), compiler)
    if before is not False:
        assert os.listdir(str(folder)) == before
    return str(caught.value), caught.value.remedy


def test_no_compiler(tmp_path, library):
    why, remedy = refused(library, tmp_path, '')
    assert why == 'Theano has no compiler for an adapter'
    assert remedy.startswith('see that g++ is there')
    why, _ = refused(library, tmp_path, '/no/g++')
    assert why.startswith("an adapter to NumPy's BLAS cannot be had: ")
    assert "No such file or directory: '/no/g++'" in why


def test_a_compiler_that_fails(tmp_path, library):
    compiler = script(tmp_path / 'compiler', 'echo no luck; exit 1')
    (tmp_path / 'folder').mkdir()
    assert refused(library, tmp_path / 'folder', compiler) == (
        "an adapter to NumPy's BLAS cannot be compiled: no luck",
        'see that %s can link a shared library; or %s' % (
            compiler, blas.INSTALL))


@pytest.mark.parametrize('mark', [' ', ',', ':'])
def test_a_folder_that_theano_cannot_be_told(tmp_path, library, mark):
    folder = tmp_path / ('one%sother' % mark)
    folder.mkdir()
    why, remedy = refused(library, folder, CXX)
    assert str(folder) in why
    assert remedy.endswith('THEANO_FLAGS=base_compiledir=FOLDER')


def test_no_folder(tmp_path, library):
    why, _ = refused(library, tmp_path / 'none', CXX)
    assert 'No such file or directory' in why


def test_a_library_without_the_functions(tmp_path):
    """Such as that of NumPy 2, where they are called scipy_sgemm_64_."""
    other = str(tmp_path / 'libopenblas.so')
    subprocess.check_call([CXX, '-shared', '-o', other, '-x', 'c++',
                           os.devnull])
    (tmp_path / 'folder').mkdir()
    with pytest.raises(blas.NoAdapter, match=r'undefined symbol: \w+_64_'):
        blas.adapter(other, str(tmp_path / 'folder'), CXX)


def test_an_adapter_that_is_broken(tmp_path, library):
    """By a full disk, say: it is compiled again."""
    good, bad = tmp_path / 'good', tmp_path / 'bad'
    good.mkdir()
    bad.mkdir()
    blas.adapter(library, str(good), CXX)
    (path,) = good.iterdir()
    write(bad, {path.name: 'rubbish'})
    blas.adapter(library, str(bad), CXX)
    (path,) = bad.iterdir()
    ctypes.CDLL(str(path)).sgemm_
