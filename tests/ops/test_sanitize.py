"""The sanitizers find what is planted for them in the C code of the Ops.

``make test-sanitize`` runs this, and then under them all that is marked
``compiled``.
"""
import pytest

from running import python, silent
from . import sanitize

#: The gradient of W with one line of the C code replaced.
PROGRAM = """
import numpy as np
import theano
from wnorm.ops.weight import NormalizedWeightGrad

line, planted = %r
assert NormalizedWeightGrad.support.count(line) == 1
NormalizedWeightGrad.support = NormalizedWeightGrad.support.replace(
    line, planted)
NormalizedWeightGrad.c_code_cache_version = lambda self: ()
V = theano.tensor.fmatrix()
g = theano.tensor.frow()
f = theano.function([V, g], NormalizedWeightGrad((0,), 0.)(V, g, V),
                    mode=theano.Mode('c', optimizer=None))
print(f(np.ones((300, 200), 'float32'), np.ones((1, 200), 'float32'))[1].sum())
"""
LINE = '  std::copy(sum.begin(), sum.end(), (T*)PyArray_DATA(dg));\n'


@pytest.mark.slow
@pytest.mark.parametrize('planted, report', [
    (LINE, None),
    # one entry too far
    (LINE.replace('DATA(dg)', 'DATA(dg) + 1'), 'heap-buffer-overflow'),
    ('  std::copy(&sum.front(), &sum.front() + sum.size() + 1, '
     '(T*)PyArray_DATA(dg));\n', 'heap-buffer-overflow'),
    (LINE + '  Py_DECREF(dg);\n', 'heap-use-after-free'),
    (LINE + '  volatile npy_int32 most = 2147483647; most += 1;\n',
     'signed integer overflow'),
], ids=['as it is', 'write', 'read', 'freed', 'undefined'])
def test_found(planted, report, tmp_path, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / 'sanitize'
    done = python('-c', PROGRAM % ((LINE, planted),), cwd=tmp_path,
                  **sanitize.environment(str(folder)))
    if report is None:
        assert float(silent(done)) == pytest.approx(200 * 300 ** .5)
    else:
        assert (done.returncode, report in done.stderr) == (99, True), (
            done.stderr)
