"""The Op of products and what follows: in Python and in C, against NumPy."""
import hashlib
import os
import pickle

import numpy as np
import pytest
import theano
import theano.tensor as T
from theano import scalar
from theano.gof import Optimizer
from theano.gof.destroyhandler import DestroyHandler
from theano.gof.toolbox import ReplaceValidate

import running
from wnorm.ops.epilogue import ProductEpilogue

# Theano's own product of scalars, in Python
pytestmark = pytest.mark.filterwarnings('ignore:`product` is deprecated')

TOLERANCE = {'float32': 1e-5, 'float64': 1e-12}

#: Bytes of a row of a product that are computed before the next row is, as
#: in epilogue.hpp.
STRIP_BYTES = 2048

#: rows, columns, and what is summed up in each product: what is left over
#: from groups of rows, panels and strips of columns; what is empty.
SIZES = [(37, 71, 13), (1, 1, 1), (6, 1, 5), (1, 40, 2), (17, 3, 1),
         (0, 4, 3), (5, 0, 3), (5, 4, 0), (0, 0, 0),
         (7, STRIP_BYTES // 4 + 3, 2)]

both = pytest.mark.parametrize('linker', [
    'py', pytest.param('c|py', marks=pytest.mark.compiled)])


def op(dtype, expression, arguments, products=1, inplace=()):
    scalars = [scalar.get_scalar_type(dtype)() for _ in range(arguments)]
    return ProductEpilogue(scalar.Composite(scalars, expression(*scalars)),
                           products, inplace)


class Overwrite(Optimizer):
    """Puts Ops that are in place, which users' graphs may not contain."""

    def __init__(self, inplace):
        self.inplace = inplace

    def add_requirements(self, fgraph):
        fgraph.attach_feature(ReplaceValidate())
        fgraph.attach_feature(DestroyHandler())

    def apply(self, fgraph):
        node, = fgraph.toposort()
        Op = node.op
        for out, e in self.inplace:
            Op = Op.overwriting(out, e)
        fgraph.replace_all_validate(list(zip(
            node.outputs, Op(*node.inputs, return_list=True))))


class Form(object):
    """An Op, its inputs, and what it computes.

    Parameters
    ----------
    expression : function
        Of the products and the E, that returns the outputs.
    broadcast : list of pairs of bool
        For each E.
    """

    def __init__(self, expression, broadcast, products=1, inplace=()):
        self.expression = expression
        self.broadcast = broadcast
        self.products = products
        self.inplace = inplace

    def function(self, dtype, linker):
        inputs = [T.matrix(dtype=dtype) for _ in range(2 * self.products)]
        elements = [T.TensorType(dtype, pair)() for pair in self.broadcast]
        Op = op(dtype, self.expression, self.products + len(elements),
                self.products)
        lost = [e for _, e in self.inplace]
        return theano.function(
            inputs + [theano.In(v, mutable=e in lost, borrow=e in lost)
                      for e, v in enumerate(elements)],
            Op(*inputs + elements, return_list=True),
            mode=theano.Mode(linker, optimizer=Overwrite(self.inplace)))

    def arrays(self, dtype, rows, columns, inner):
        rng = np.random.RandomState(rows + columns + inner)
        values = []
        for k in range(self.products):  # of unequal inner sizes
            n = inner + k if inner else 0
            values += [rng.randn(rows, n), rng.randn(n, columns)]
        values += [rng.randn(*[1 if one else n for one, n in zip(
            pair, (rows, columns))]) for pair in self.broadcast]
        return [value.astype(dtype) for value in values]

    def wanted(self, values):
        """The outputs, in float64."""
        values = [value.astype('float64') for value in values]
        first = 2 * self.products
        given = [np.dot(values[2 * k], values[2 * k + 1])
                 for k in range(self.products)] + values[first:]
        return [np.broadcast_to(result, given[0].shape)
                for result in self.expression(*given)]

    def check(self, function, dtype, values):
        want = self.wanted(values)
        results = function(*[value.copy('K') for value in values])
        self.same(results, want, dtype)
        return results

    @staticmethod
    def same(results, want, dtype):
        assert len(results) == len(want)
        for got, value in zip(results, want):
            assert got.dtype == dtype and got.shape == value.shape
            np.testing.assert_allclose(
                got, value, rtol=TOLERANCE[dtype],
                atol=TOLERANCE[dtype] * np.max(abs(value), initial=1))


MATRIX, ROW, COLUMN, NUMBER = ((False, False), (True, False), (False, True),
                               (True, True))
FORMS = {
    'elements of all forms': Form(
        lambda p, a, row, column, number: [
            p * row + a, (p - column) * number - p * p], [
                MATRIX, ROW, COLUMN, NUMBER]),
    'quotient': Form(lambda p, a: [p / a, a - p * a], [MATRIX]),
    'two products': Form(lambda p, q, a: [p * q + a, q - p, p * a], [MATRIX],
                         products=2),
    # each overwrites what the other needs
    'in place': Form(lambda p, q, a, b, row: [
        a * .5 + b + p, b * row - a * q], [MATRIX, MATRIX, ROW], products=2,
        inplace=((0, 1), (1, 0)))}
#: Compiled once for all tests of a form and a precision.
_functions = {}


def function(name, dtype, linker):
    key = name, dtype, linker
    if key not in _functions:
        _functions[key] = FORMS[name].function(dtype, linker)
    return _functions[key]


each_form = pytest.mark.parametrize('name', [
    'elements of all forms', 'two products', 'in place'])
each_dtype = pytest.mark.parametrize('dtype', ['float32', 'float64'])


# --- values ------------------------------------------------------------------

@both
@each_dtype
@each_form
def test_sizes(name, dtype, linker):
    form = FORMS[name]
    for size in SIZES:
        form.check(function(name, dtype, linker), dtype,
                   form.arrays(dtype, *size))


@both
@each_dtype
@each_form
@pytest.mark.parametrize('layout', [
    lambda a: np.asfortranarray(a),
    lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    lambda a: np.repeat(a, 2, 1)[:, ::2],
    lambda a: np.hstack([a, a])[:, :a.shape[1]]],
    ids=['transposed', 'strided', 'reversed', 'strided columns', 'a part'])
def test_any_memory(layout, name, dtype, linker):
    # factors, elements and what is overwritten
    form = FORMS[name]
    for size in ((9, 7, 5), (1, 5, 3), (5, 1, 3), (4, 5, 1)):
        values = form.arrays(dtype, *size)
        want = form.wanted(values)
        form.same(function(name, dtype, linker)(
            *[layout(value) for value in values]), want, dtype)


@both
@each_dtype
def test_in_place(dtype, linker):
    form = FORMS['in place']
    values = form.arrays(dtype, 9, 7, 5)
    want = form.wanted(values)
    a, b = values[4:6]
    results = function('in place', dtype, linker)(*values)
    form.same([b, a], want, dtype)
    form.same(results, want, dtype)


@both
def test_results_are_kept(linker):
    # from one call to the next, of other sizes or not
    form, kept = FORMS['two products'], []
    for size in ((5, 4, 3), (5, 4, 2), (4, 5, 3), (5, 4, 3)):
        values = form.arrays('float64', *size)
        kept.append((function('two products', 'float64', linker)(*values),
                     form.wanted(values)))
    for got, want in kept:
        form.same(got, want, 'float64')


THREADS = """
import sys
from ops.test_epilogue import large
sys.stdout.write(large())
"""


def large():
    """Of results that several threads compute, what tells them apart."""
    form = FORMS['two products']
    values = form.arrays('float32', 301, 530, 64)
    results = form.check(function('two products', 'float32', 'c|py'),
                         'float32', values)
    return hashlib.sha1(b''.join(r.tobytes() for r in results)).hexdigest()


@pytest.mark.compiled
def test_threads(tmp_path):
    # they share what is computed, not how
    path = tmp_path / 'one.py'
    path.write_text(THREADS)
    for threads in (None, 1):
        done = running.python(
            path, cwd=tmp_path, OPENBLAS_NUM_THREADS=threads,
            OMP_NUM_THREADS=threads, PYTHONPATH=running.first_on_path(
                os.path.dirname(running.__file__)))
        assert running.silent(done) == large()


@pytest.mark.parametrize('value', [0., -1., np.inf, np.nan])
@both
@np.errstate(all='ignore')
def test_not_finite(value, linker):
    form = FORMS['quotient']
    values = form.arrays('float64', 5, 4, 3)
    values[2][:] = value
    form.same(function('quotient', 'float64', linker)(*values),
              form.wanted(values), 'float64')


# --- refused -----------------------------------------------------------------

def shape(*changes):
    """The shapes of the inputs 'in place', with some changed."""
    shapes = [(5, 3), (3, 4), (5, 2), (2, 4), (5, 4), (5, 4), (1, 4)]
    for at, changed in changes:
        shapes[at] = changed
    return shapes


@both
@pytest.mark.parametrize('shapes', [
    shape((0, (5, 2))), shape((1, (3, 5))), shape((2, (4, 2))),
    shape((3, (2, 5))), shape((3, (3, 4))), shape((4, (4, 5))),
    shape((5, (5, 5))), shape((5, (1, 4))), shape((5, (0, 4))),
    shape((6, (1, 5)))], ids=str)
def test_shapes_are_refused(shapes, linker):
    # and nothing has been overwritten
    values = [np.random.RandomState(n).randn(*s)
              for n, s in enumerate(shapes)]
    kept = [value.copy() for value in values]
    f = function('in place', 'float64', linker)
    with pytest.raises(ValueError):
        f(*values)
    for value, before in zip(values, kept):
        np.testing.assert_array_equal(value, before)
    # it works again
    form = FORMS['in place']
    form.check(f, 'float64', form.arrays('float64', 9, 7, 5))


@pytest.mark.parametrize('inputs', [
    [T.imatrix(), T.imatrix(), T.imatrix()],
    [T.fmatrix(), T.dmatrix(), T.dmatrix()],
    [T.dmatrix(), T.dmatrix(), T.fmatrix()],
    [T.dmatrix(), T.dvector(), T.dmatrix()],
    [T.matrix(dtype='float16')] * 3], ids=str)
def test_types_are_refused(inputs):
    with pytest.raises(TypeError, match='matrices of float32 or of float64'):
        op('float64', lambda p, a: [p + a], 2)(*inputs)


# --- as an Op ----------------------------------------------------------------

def test_equal_ops():
    def make(factor=2, **kwargs):
        return op('float64', lambda p, a: [p + a * a if factor == 2 else
                                           p + a], 2, **kwargs)

    assert make() == make() and hash(make()) == hash(make())
    assert make() != make(3) and make() != make(inplace=((0, 0),))
    assert make().overwriting(0, 0) == make(inplace=((0, 0),))
    assert make().overwriting(0, 0).destroy_map == {0: [2]}
    assert pickle.loads(pickle.dumps(make())) == make()


def test_printed():
    Op = op('float64', lambda p, a: [p + a], 2)
    assert str(Op) == 'ProductEpilogue{Composite{(i0 + i1)}}'
    assert str(Op.overwriting(0, 0)) == (
        'ProductEpilogue{Composite{(i0 + i1)}, inplace=((0, 0),)}')


def test_shape_without_computing():
    Op = op('float64', lambda p, a: [p + a, p * a], 2)
    inputs = [T.dmatrix() for _ in range(3)]
    mode = theano.compile.get_default_mode().including(
        'ShapeOpt', 'local_shape_to_shape_i')
    f = theano.function(inputs, [v.shape for v in Op(*inputs)], mode=mode,
                        on_unused_input='ignore')
    assert not any(isinstance(node.op, ProductEpilogue)
                   for node in f.maker.fgraph.apply_nodes)
    for got in f(np.zeros((5, 3)), np.zeros((3, 4)), np.zeros((5, 4))):
        assert tuple(got) == (5, 4)
