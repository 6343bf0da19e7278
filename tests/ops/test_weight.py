"""The Ops in graphs: types, shapes, derivatives, printing, pickling."""
import pickle

import numpy as np
import pytest
import theano
import theano.tensor as T
from theano.gradient import DisconnectedType, verify_grad

from wnorm.ops.weight import (
    FactoredGradient, NormalizedWeight, NormalizedWeightGrad, extent)
from . import cases
from .cases import CASES

BY_NAME = {case.name: case for case in CASES}
#: One of each form: derivatives do not depend on sizes.
FORMS = list({case.form: case for case in CASES}.values())

each_case = pytest.mark.parametrize('case', FORMS, ids=str)
each_eps = pytest.mark.parametrize('eps', [1e-6, 0.])


def variables(case, dtype='float64'):
    """V, g, dW."""
    full = T.TensorType(dtype, [False] * len(case.shape))
    gain = T.TensorType(dtype, [axis not in case.gain_axes
                                for axis in range(len(case.shape))])
    return full('V'), gain('g'), full('dW')


def arrays(case, seed):
    """Small ones: numerical derivatives take one call for each entry."""
    return case.arrays(np.random.RandomState(seed), most=3)


def flat(expressions):
    return T.concatenate([e.flatten() for e in expressions])


# --- building ----------------------------------------------------------------

def test_extent():
    # [outer][rows][filters][inner]
    assert extent(2, (0,)) == [[], [0], [1], []]
    assert extent(4, (1, 2, 3)) == [[], [], [0], [1, 2, 3]]
    assert extent(4, (0, 2, 3)) == [[], [0], [1], [2, 3]]
    assert extent(6, (1, 2, 3)) == [[0], [1, 2, 3], [4, 5], []]
    assert extent(4, (1, 3)) == [[0], [1], [2], [3]]
    assert extent(5, (0, 2, 4)) is None


def test_equal_ops():
    for Op in (NormalizedWeight, NormalizedWeightGrad):
        op = Op((0, 2), 0)
        assert op == Op([np.int64(2), 0], 0.)
        assert hash(op) == hash(Op((2, 0), 0.))
        assert op != Op((0, 2), 1e-6) and op != Op((0, 1), 0.)
        assert pickle.loads(pickle.dumps(op)) == op
    assert NormalizedWeight((0,), 0.) != NormalizedWeightGrad((0,), 0.)


def test_printed():
    V, g = T.matrix('V'), T.row('g')
    W = NormalizedWeight((0,), 1e-6)(V, g)
    dV, dg = T.grad(T.sum(W), [V, g])
    assert theano.printing.debugprint(W, file='str') == (
        "NormalizedWeight{axes=(0,), eps=1e-06} [id A] ''   \n"
        " |V [id B]\n"
        " |g [id C]\n")
    assert theano.printing.debugprint([dV, dg], file='str') == (
        "NormalizedWeightGrad{axes=(0,), eps=1e-06}.0 [id A] ''   \n"
        " |V [id B]\n"
        " |g [id C]\n"
        " |Elemwise{second} [id D] ''   \n"
        "   |NormalizedWeight{axes=(0,), eps=1e-06} [id E] ''   \n"
        "   | |V [id B]\n"
        "   | |g [id C]\n"
        "   |InplaceDimShuffle{x,x} [id F] ''   \n"
        "     |Elemwise{second,no_inplace} [id G] ''   \n"
        "       |Sum{acc_dtype=float64} [id H] ''   \n"
        "       | |NormalizedWeight{axes=(0,), eps=1e-06} [id E] ''   \n"
        "       |TensorConstant{1.0} [id I]\n"
        "NormalizedWeightGrad{axes=(0,), eps=1e-06}.1 [id A] ''   \n")


@pytest.mark.parametrize('eps', [-1e-6, float('nan'), float('inf')])
def test_eps_is_refused(eps):
    with pytest.raises(ValueError, match='eps must be a number, 0 or greater'):
        NormalizedWeight((0,), eps)


@pytest.mark.parametrize('axes, V, g, message', [
    ((0,), T.fmatrix(), T.drow(), 'one floating point type, got float32, '
     'float64'),
    ((0,), T.imatrix(), T.irow(), 'one floating point type, got int32'),
    ((0,), T.dmatrix(), T.dvector(), 'equal dimensions, got 2, 1'),
    ((0,), T.dmatrix(), T.dmatrix(), 'broadcastable along the summed axes'),
    ((2,), T.dmatrix(), T.drow(), 'has axes 0 to 1'),
    ((-1,), T.dmatrix(), T.dcol(), 'has axes 0 to 1'),
    ((0, 2, 4), T.dtensor5(), T.TensorType('float64', [True] * 5)(),
     'alternate too often')])
def test_inputs_are_refused(axes, V, g, message):
    for op, others in ((NormalizedWeight(axes, 0.), []),
                       (NormalizedWeightGrad(axes, 0.), [V])):
        with pytest.raises(TypeError, match=message):
            op(V, g, *others)


@each_case
def test_types_and_shapes(case):
    V, g, dW = variables(case, 'float32')
    W = NormalizedWeight(case.axes, 0.)(V, g)
    dV, dg = NormalizedWeightGrad(case.axes, 0.)(V, g, dW)
    assert W.type == dV.type == V.type and dg.type == g.type
    # without computing anything
    mode = theano.compile.get_default_mode().including(
        'ShapeOpt', 'local_shape_to_shape_i')
    shapes = theano.function([V, g, dW], [W.shape, dV.shape, dg.shape],
                             on_unused_input='ignore', mode=mode)
    assert not any('NormalizedWeight' in str(node)
                   for node in shapes.maker.fgraph.apply_nodes)
    for got, shape in zip(shapes(*case.arrays(np.random, 'float32')),
                          (case.shape, case.shape, case.gain_shape())):
        assert tuple(got) == shape


def test_arrays_for_variables():
    W = NormalizedWeight((0,), 0.)(np.eye(2), np.array([[2., 3.]]))
    np.testing.assert_allclose(W.eval(), [[2, 0], [0, 3]])


# --- derivatives -------------------------------------------------------------

@each_case
@each_eps
def test_gradient(case, eps):
    V, g, dW = arrays(case, 1)
    verify_grad(lambda V, g: NormalizedWeight(case.axes, eps)(
        V, T.patternbroadcast(g, variables(case)[1].broadcastable)),
        [V, g], rng=np.random)


@each_case
@each_eps
@pytest.mark.parametrize('which', ['dV', 'dg', 'both'])
def test_gradient_of_the_gradient(case, eps, which):
    # also where the gradient of an output is disconnected
    def gradient(V, g, dW):
        both = NormalizedWeightGrad(case.axes, eps)(
            V, T.patternbroadcast(g, variables(case)[1].broadcastable), dW)
        return flat({'dV': both[:1], 'dg': both[1:], 'both': both}[which])

    verify_grad(gradient, arrays(case, 2), rng=np.random)


def test_gradient_of_the_gradient_knows_its_inputs_apart():
    # dW depends on V: that path is counted once, by the graph
    V, g, dW = variables(BY_NAME['dense'])

    def gradient(V, g):
        g = T.patternbroadcast(g, (True, False))
        cost = T.sum(T.sqr(NormalizedWeight((0,), 0.)(V, g) - 1.))
        return flat(T.grad(cost, [V, g]))

    verify_grad(gradient, arrays(BY_NAME['dense'], 3)[:2], rng=np.random)


@pytest.mark.parametrize('eps', [1e-6, 0.])
def test_gradient_of_the_gradient_of_zeros(eps, floatX):
    case = BY_NAME['dense']
    inputs = variables(case, floatX)
    cost = T.sum(flat(NormalizedWeightGrad(case.axes, eps)(*inputs)) ** 2)
    values = [v.astype(floatX) for v in arrays(case, 4)]
    values[0][:, 1] = 0
    for value in theano.function(inputs, T.grad(cost, inputs))(*values):
        assert np.isfinite(value).all()
        if eps == 0:
            np.testing.assert_array_equal(value[:, 1], 0)


@each_case
@each_eps
def test_r_operation(case, eps):
    # against the derivative along a direction, and the gradient's gradient
    inputs = list(variables(case))
    V, g, dW = arrays(case, 5)
    directions = arrays(case, 6)
    W = NormalizedWeight(case.axes, eps)(*inputs[:2])
    gradient = flat(NormalizedWeightGrad(case.axes, eps)(*inputs))
    for f, size, inputs, at in (
            (W.flatten(), V.size, inputs[:2], [V, g]),
            (gradient, V.size + g.size, inputs, [V, g, dW])):
        tangents = [v.type() for v in inputs]
        # by double backpropagation
        u = T.vector(dtype='float64')
        twice = T.Lop(flat(T.Lop(f, inputs, u)), u, flat(tangents))
        function = theano.function(
            inputs + tangents + [u], [f, T.Rop(f, inputs, tangents), twice],
            on_unused_input='ignore')

        def value(step):
            return function(*[v + step * d for v, d in zip(at, directions)] +
                            directions[:len(at)] + [np.ones(size)])

        f0, along, twice = value(0.)
        np.testing.assert_allclose(along, twice, rtol=1e-8, atol=1e-10)
        step = 1e-6
        np.testing.assert_allclose(
            along, (value(step)[0] - value(-step)[0]) / (2 * step),
            rtol=1e-5, atol=1e-6)


def test_r_operation_of_some_inputs():
    case = BY_NAME['dense']
    V, g, dW = variables(case)
    tangents = V.type(), g.type()
    W = NormalizedWeight(case.axes, 0.)(V, g)
    both, of_V, of_g = theano.function([V, g] + list(tangents), [
        T.Rop(W, [V, g], list(tangents)), T.Rop(W, V, tangents[0]),
        T.Rop(W, g, tangents[1])])(*arrays(case, 7)[:2] +
                                   arrays(case, 8)[:2])
    np.testing.assert_allclose(both, of_V + of_g, rtol=1e-12, atol=1e-12)
    for Op, inputs in ((NormalizedWeight, [V, g]),
                       (NormalizedWeightGrad, [V, g, dW])):
        assert set(Op((0,), 0.).R_op(inputs, [None] * len(inputs))) == {None}


@each_case
def test_hessian_times_vector(case):
    V, g, _ = variables(case)
    values = arrays(case, 9)
    directions = arrays(case, 10)
    cost = T.sum(T.exp(NormalizedWeight(case.axes, 1e-6)(V, g)) *
                 T.constant(values[2]))
    tangents = [V.type(), g.type()]
    gradient = T.grad(cost, [V, g])
    function = theano.function([V, g] + tangents, [flat(gradient), flat(
        T.Rop(gradient, [V, g], tangents))])

    def value(step):
        return function(*[v + step * d for v, d in zip(
            values[:2], directions)] + directions[:2])

    step = 1e-6
    np.testing.assert_allclose(
        value(0.)[1], (value(step)[0] - value(-step)[0]) / (2 * step),
        rtol=1e-5, atol=1e-6)


def test_a_disconnected_output_has_no_gradient():
    V, g, dW = variables(BY_NAME['dense'])
    dV, dg = NormalizedWeightGrad((0,), 0.)(V, g, dW)
    for d in NormalizedWeightGrad((0,), 0.).grad(
            [V, g, dW], [DisconnectedType()(), dg]):
        assert not isinstance(d.type, DisconnectedType)


# --- in functions ------------------------------------------------------------

def test_clone():
    case = BY_NAME['dense']
    V, g, dW = variables(case)
    other = T.matrix(dtype='float64')
    outputs = theano.clone(NormalizedWeightGrad(case.axes, 0.)(V, g, dW),
                           replace={V: 2 * other})
    values = case.arrays(np.random.RandomState(11))
    dV, dg = theano.function([other, g, dW], outputs)(*values)
    want = cases.gradient(2 * values[0], values[1], values[2], case.axes, 0.)
    np.testing.assert_allclose(dV, want[0], rtol=1e-10)
    np.testing.assert_allclose(dg, want[1], rtol=1e-10)


def test_pickled_function():
    case = BY_NAME['local']
    inputs = variables(case)
    function = theano.function(
        inputs, NormalizedWeightGrad(case.axes, 1e-6)(*inputs))
    again = pickle.loads(pickle.dumps(function))
    values = case.arrays(np.random.RandomState(12))
    for got, want in zip(again(*values), function(*values)):
        np.testing.assert_array_equal(got, want)


@pytest.mark.compiled
def test_memory_is_written_to_again():
    # that of the call before, if it fits
    case = BY_NAME['local, a gain for each position']
    V, g, dW = variables(case, 'float32')
    op = NormalizedWeightGrad(case.axes, 1e-6)
    function = theano.function(
        [V, g], op(V, g, NormalizedWeight(case.axes, 1e-6)(V, g)),
        mode=theano.Mode('c|py_nogc', optimizer=None))
    kept = []
    for most in (4, 4, 2, 4, 0, 4):
        V, g, _ = case.arrays(np.random.RandomState(most), 'float32', most)
        V[..., :1] *= most
        W = cases.weight(V, g, case.axes, 1e-6)
        kept.append((function(V, g), cases.gradient(V, g, W, case.axes,
                                                    1e-6)))
    for got, want in kept:
        for result, expected in zip(got, want):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.compiled
def test_debug_mode():
    # compares C with Python, with outputs of any layout to write to
    case = BY_NAME['local, a gain for each position']
    inputs = variables(case, 'float32')
    mode = theano.compile.DebugMode(
        optimizer=None, check_c_code=True, check_py_code=True,
        check_preallocated_output=['ALL'], stability_patience=1)
    function = theano.function(
        inputs, [NormalizedWeight(case.axes, 1e-6)(*inputs[:2])] +
        NormalizedWeightGrad(case.axes, 1e-6)(*inputs), mode=mode)
    values = case.arrays(np.random.RandomState(14), 'float32')
    np.testing.assert_allclose(function(*values)[0], cases.weight(
        *values[:2], axes=case.axes, eps=1e-6), rtol=1e-5)


def test_factored_gradient():
    rng = np.random.RandomState(0)
    z, dt, scale = rng.randn(5, 3), rng.randn(5, 3), rng.randn(1, 3)
    z_, dt_, scale_ = T.dmatrices(3)
    f = theano.function([z_, dt_, scale_], FactoredGradient()(
        z_, dt_, scale_), mode=theano.Mode('py', None))
    for got, wanted in zip(f(z, dt, scale), [
            dt * scale, (z * dt).sum(axis=0), dt.sum(axis=0)]):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    with pytest.raises(ValueError, match='FactoredGradient: shapes'):
        f(z, dt, scale[:, :2])
    with pytest.raises(TypeError, match='takes matrices of float32 or of'):
        FactoredGradient()(z_, T.fmatrix(), scale_)
