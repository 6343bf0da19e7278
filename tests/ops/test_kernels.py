"""What the Ops compute: in C, and the same in Python."""
import gc
import os
import sys
import tracemalloc

import numpy as np
import pytest
import theano
import theano.tensor as T

from wnorm.ops.weight import NormalizedWeight, NormalizedWeightGrad
from . import cases
from .cases import CASES

TOLERANCE = {'float32': 1e-5, 'float64': 1e-12}
BY_NAME = {case.name: case for case in CASES}
FORMS = list({case.form: case for case in CASES})
#: Those computed with an eps, too: for each more there is more to compile.
WITH_EPS = [('dense', 1e-6), ('dense', 1e-30), ('convolution', 1e-6)]

each_case = pytest.mark.parametrize('case', CASES, ids=str)
each_eps = pytest.mark.parametrize(
    'case, eps', [(case, 0.) for case in CASES] +
    [(BY_NAME[name], eps) for name, eps in WITH_EPS], ids=str)


class Compiled(object):
    """The two Ops for all cases, in one module of C for a precision.

    Of each call one case is asked for; the weights of the others are empty.
    """

    def __init__(self, linker, dtype):
        self.dtype = dtype
        self.tolerance = TOLERANCE[dtype]
        variables = [
            [T.TensorType(dtype, broadcast)() for broadcast in (
                [False] * ndim,
                [axis not in gain_axes for axis in range(ndim)],
                [False] * ndim)] for ndim, axes, gain_axes in FORMS]
        self.pairs = [(form, 0.) for form in FORMS] + [
            (BY_NAME[name].form, eps) for name, eps in WITH_EPS]
        outputs = []
        for form, eps in self.pairs:
            V, g, dW = variables[FORMS.index(form)]
            outputs.append(NormalizedWeight(form[1], eps)(V, g))
            outputs += NormalizedWeightGrad(form[1], eps)(V, g, dW)
        self.function = theano.function(
            sum(variables, []), outputs,
            mode=theano.Mode(linker, optimizer=None))

    def __call__(self, case, eps, V, g, dW):
        """W, dV, dg."""
        values = []
        for ndim, axes, gain_axes in FORMS:
            empty = np.zeros([0] * ndim, self.dtype)
            gain = np.zeros([0 if axis in gain_axes else 1
                             for axis in range(ndim)], self.dtype)
            values += [empty, gain, empty]
        first = 3 * FORMS.index(case.form)
        values[first:first + 3] = V, g, dW
        at = 3 * self.pairs.index((case.form, eps))
        return self.function(*values)[at:at + 3]

    def check(self, case, eps, V, g, dW, size=1):
        """Against the formula, with V `size` times as large."""
        results = self(case, eps, V * size, g, dW)
        W, dV, dg = [np.asarray(result, 'float64') for result in results]
        for got, like in zip(results, (V, V, g)):
            assert got.dtype == self.dtype and got.shape == like.shape
        want_W = cases.weight(V, g, case.axes, eps)
        want_dV, want_dg = cases.gradient(V, g, dW, case.axes, eps)
        scale = abs(g * cases.inverse_norm(V, case.axes, eps))
        # what cancels in a gradient is of the size of dW
        error = self.tolerance * np.sqrt(np.sum(
            dW.astype('float64') ** 2, axis=case.axes, keepdims=True))
        np.testing.assert_allclose(W, want_W, rtol=self.tolerance)
        assert (abs(dV * size - want_dV) <= error * scale).all()
        assert (abs(dg - want_dg) <= np.sum(error)).all()


@pytest.fixture(scope='module', params=[
    ('py', 'float32'), ('py', 'float64'),
    pytest.param(('c', 'float32'), marks=pytest.mark.compiled),
    pytest.param(('c', 'float64'), marks=pytest.mark.compiled)],
    ids='-'.join)
def ops(request):
    return Compiled(*request.param)


@each_eps
def test_values(ops, case, eps):
    # gains are negative, too
    ops.check(case, eps, *case.arrays(np.random.RandomState(1), ops.dtype))


@pytest.mark.parametrize('seed', range(20))
def test_any_size(ops, seed):
    rng = np.random.RandomState(seed)
    case = CASES[seed % len(CASES)]
    shape = tuple(rng.randint(0, 40 if len(case.shape) < 3 else 8)
                  for _ in case.shape)
    V, dW = rng.randn(2, *shape).astype(ops.dtype)
    g = rng.randn(*case.gain_shape(shape)).astype(ops.dtype)
    with np.errstate(divide='ignore', invalid='ignore'):  # 0 rows
        ops.check(case, 0., V, g, dW)


@each_case
@pytest.mark.parametrize('empty', ['rows', 'filters'])
def test_empty(ops, case, empty):
    which = case.axes if empty == 'rows' else tuple(
        axis for axis in range(len(case.shape)) if axis not in case.axes)
    shape = tuple(0 if axis in which else n
                  for axis, n in enumerate(case.shape))
    V = np.zeros(shape, ops.dtype)
    g = np.ones(case.gain_shape(shape), ops.dtype)
    W, dV, dg = ops(case, 0., V, g, V)
    assert W.shape == dV.shape == shape and dg.shape == g.shape
    np.testing.assert_array_equal(dg, 0)


def strided(array, how):
    """The same numbers, laid out in another way."""
    if how == 'Fortran':
        return np.asfortranarray(array)
    if how == 'backwards':
        return array[(slice(None, None, -1),) * array.ndim].copy()[
            (slice(None, None, -1),) * array.ndim]
    wide = np.full([2 * n + 1 for n in array.shape], np.nan, array.dtype)
    view = wide[(slice(1, None, 2),) * array.ndim]
    view[...] = array
    return view


@each_case
@pytest.mark.parametrize('how', ['Fortran', 'backwards', 'every other'])
def test_strides(ops, case, how):
    arrays = case.arrays(np.random.RandomState(2), ops.dtype)
    before = [array.copy() for array in arrays]
    ops.check(case, 0., *[strided(array, how) for array in arrays])
    for array, copy in zip(arrays, before):
        np.testing.assert_array_equal(array, copy)


def test_repeated(ops):
    # one row, one gain in memory: strides of 0
    case = BY_NAME['dense']
    rng = np.random.RandomState(3)
    V = np.broadcast_to(rng.randn(1, 6).astype(ops.dtype), (75, 6))
    g = np.broadcast_to(np.array([[2]], ops.dtype), (1, 6))
    ops.check(case, 0., V, g, V[:, ::-1])


def test_other_byte_order(ops):
    V, g, dW = BY_NAME['dense'].arrays(np.random.RandomState(4), ops.dtype)
    ops.check(BY_NAME['dense'], 0., V.astype(V.dtype.newbyteorder()), g, dW)


@each_case
def test_zero_filter(ops, case):
    # no NaN from a row of zeros: https://github.com/pytorch/pytorch/issues/19126
    rng = np.random.RandomState(5)
    V, g, dW = case.arrays(rng, ops.dtype)
    index = tuple(slice(None) if axis in case.axes else 0
                  for axis in range(V.ndim))
    V[index] = 0
    W, dV, dg = ops(case, 0., V, g, dW)
    assert (W[index] == 0).all() and (dV[index] == 0).all()
    for values in (W, dV, dg):
        assert np.isfinite(values).all()
    # the others are as they would be alone
    V[index], dW[index] = 1, 0
    others = np.ones(V.shape, bool)
    others[index] = False
    want = cases.weight(V, g, case.axes, 0.)
    np.testing.assert_allclose(W[others], want[others], rtol=ops.tolerance)
    want = cases.gradient(V, g, dW, case.axes, 0.)
    np.testing.assert_allclose(dV[others], want[0][others],
                               rtol=ops.tolerance, atol=ops.tolerance)
    np.testing.assert_allclose(dg, want[1], rtol=ops.tolerance,
                               atol=ops.tolerance)


#: Powers of 2 that scale V, for each precision: the squares of the first and
#: last are 0 and infinity, those of the others lose digits.
SIZES = {'float32': [-100, -64, -60, 60, 64, 120],
         'float64': [-1000, -512, -505, 505, 512, 1010]}


@each_case
@pytest.mark.parametrize('size', range(6))
def test_any_magnitude(ops, case, size):
    # which only dV depends on
    size = np.asarray(2., ops.dtype) ** SIZES[ops.dtype][size]
    V, g, dW = case.arrays(np.random.RandomState(6), ops.dtype)
    ops.check(case, 0., V, g, dW, size=size)


@pytest.mark.parametrize('name, eps', WITH_EPS)
def test_zero_filter_with_eps(ops, name, eps):
    V, g, dW = BY_NAME[name].arrays(np.random.RandomState(5), ops.dtype)
    V[:, 0] = 0
    ops.check(BY_NAME[name], eps, V, g, dW)


@pytest.mark.parametrize('name, eps', WITH_EPS + [('dense', 0.),
                                                  ('convolution', 0.)])
def test_ill_scaled(ops, name, eps):
    # filters of very different size, and entries within them
    case = BY_NAME[name]
    rng = np.random.RandomState(7)
    V, g, dW = case.arrays(rng, ops.dtype)
    V = (V * 10. ** rng.uniform(-9, 9, V.shape) *
         10. ** rng.uniform(-6, 6, g.shape)).astype(ops.dtype)
    ops.check(case, eps, V, g, dW)


def test_more_than_the_precision_holds(ops):
    # W is of the size of g, though g / ||V|| is infinite in float32, or loses
    # digits
    if ops.dtype == 'float64':
        pytest.skip('the largest precision')
    case = BY_NAME['dense']
    V, g, dW = case.arrays(np.random.RandomState(8), ops.dtype)
    # subnormal, too
    ops.check(case, 0., V * np.float32(1e-38), g * np.float32(1e6),
              dW * np.float32(1e-20))
    ops.check(case, 0., V, g * np.float32(1e-8), dW * np.float32(1e20),
              size=np.float32(2) ** 120)


@pytest.mark.parametrize('name', ['dense', 'convolution'])
def test_products_overflow(ops, name):
    # those of dW and V, not the gradients
    V, g, dW = BY_NAME[name].arrays(np.random.RandomState(8), ops.dtype)
    big = np.asarray(2 ** 20, ops.dtype)
    ops.check(BY_NAME[name], 0., V, g, dW * big, size=np.asarray(
        2, ops.dtype) ** SIZES[ops.dtype][-1])


@pytest.mark.parametrize('name, shape', [
    ('dense', (1001, 403)), ('dense', (20011, 7)),
    ('convolution', (35, 2, 13, 501)), ('small convolution', (903, 67, 3, 3)),
    ('transposed convolution', (203, 103, 4, 4)),
    ('large transposed convolution', (203, 15, 9, 12)),
    ('local', (3, 20, 3, 3, 50, 50))], ids=str)
def test_several_threads(ops, name, shape):
    # where there is enough to do for them
    rng = np.random.RandomState(15)
    case = BY_NAME[name]
    V, dW = rng.randn(2, *shape).astype(ops.dtype)
    g = rng.randn(*case.gain_shape(shape)).astype(ops.dtype)
    ops.check(case, 0., V, g, dW)


@pytest.mark.parametrize('eps', [1e-6, 1e-30])
def test_entries_beside_eps(ops, eps):
    # from those that are nothing beside it to those beside which it is nothing
    V = np.array([[0, 1e-35, 1e-20, 1e-15, 1e-3, 1, 1e18, 1e30]], ops.dtype)
    ops.check(BY_NAME['dense'], eps, V, np.ones_like(V), np.ones_like(V))


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('eps', [1e-6, 0.])
@pytest.mark.parametrize('which', ['V', 'g', 'dW'])
def test_not_finite(ops, bad, eps, which):
    # it is seen where the formula has it, and nowhere else
    case = BY_NAME['dense']
    arrays = dict(zip(['V', 'g', 'dW'], case.arrays(
        np.random.RandomState(9), ops.dtype)))
    arrays[which][0, 2] = bad
    with np.errstate(invalid='ignore'):
        want = (cases.weight(arrays['V'], arrays['g'], case.axes, eps),
                ) + cases.gradient(arrays['V'], arrays['g'], arrays['dW'],
                                   case.axes, eps)
    for got, expected in zip(ops(case, eps, **arrays), want):
        if which != 'V' or got.shape == want[0].shape:
            np.testing.assert_array_equal(np.isfinite(got),
                                          np.isfinite(expected))
        sane = np.isfinite(got) & np.isfinite(expected)
        np.testing.assert_allclose(got[sane], expected[sane],
                                   rtol=ops.tolerance, atol=ops.tolerance)


#: The last shape is that of the gain, or of the weight's gradient.
WRONG = [('g', (1, 5)), ('g', (1, 1)), ('g', (1, 0)), ('dW', (75, 5)),
         ('dW', (74, 6)), ('dW', (1, 6))]


def test_wrong_shapes_are_refused(ops):
    # also where NumPy would broadcast them
    # https://github.com/pytorch/pytorch/issues/81195
    case = BY_NAME['dense']
    good = dict(zip(['V', 'g', 'dW'], case.arrays(
        np.random.RandomState(10), ops.dtype)))
    good['V'] = strided(good['V'], 'every other')  # is copied
    bad = [(name, np.ones(shape, ops.dtype)) for name, shape in WRONG]

    def refused():
        for name, array in bad:
            message = ('the weight has 6 norms along axis 1, the gain %d '
                       'entries' % array.shape[1] if name == 'g' else
                       'the gradient of the weight has another shape')
            with pytest.raises(ValueError, match=message):
                ops(case, 0., **dict(good, **{name: array}))

    def references():
        return [sys.getrefcount(array) for array in list(good.values()) + [
            array for _, array in bad]]

    refused()  # the function keeps what it was given last
    gc.collect()
    expected = references()
    tracemalloc.start()
    try:
        refused()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            refused()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # a leak in any of the shapes would be 5 of V
    assert after - before < 4 * good['V'].nbytes
    assert references() == expected


@pytest.mark.parametrize('linker', [
    'py', pytest.param('c|py', marks=pytest.mark.compiled)])
def test_float16(linker, capfd):
    # accumulated in more: the squares of these entries are infinite
    case = BY_NAME['one gain for all']
    V, g, dW = case.arrays(np.random.RandomState(12), 'float16')
    V, dW = V * np.float16(1000), strided(dW, 'every other')
    inputs = [T.TensorType('float16', broadcast)() for broadcast in (
        (False, False), (True, True), (False, False))]
    function = theano.function(
        inputs, [NormalizedWeight(case.axes, 0.)(*inputs[:2])] +
        NormalizedWeightGrad(case.axes, 0.)(*inputs),
        mode=theano.Mode(linker, optimizer=None))
    assert capfd.readouterr().out == ''  # where Theano would do without C
    for got, want in zip(function(V, g, dW), (
            (cases.weight(V, g, case.axes, 0.),) +
            cases.gradient(V, g, dW, case.axes, 0.))):
        assert got.dtype == 'float16'
        # the error of one rounding
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=2. ** -24)
    with pytest.raises(ValueError, match='gradient of the weight'):
        function(V, g, dW[1:])


@pytest.mark.skipif('libasan' in os.environ.get('LD_PRELOAD', ''),
                    reason='AddressSanitizer ends the process instead')
def test_no_memory(ops):
    # an array of size 0, with so many norms that no memory holds them
    case = BY_NAME['one gain for all']
    V, g = np.zeros((0, 2 ** 50), ops.dtype), np.ones((1, 1), ops.dtype)
    with pytest.raises(MemoryError):
        ops(case, 0., V, g, V)
    ops.check(case, 0., *case.arrays(np.random.RandomState(11), ops.dtype))
