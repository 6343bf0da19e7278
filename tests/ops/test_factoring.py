"""What becomes of the products, and of the weights in them."""
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (DenseLayer, InputLayer, get_all_params,
                            get_output)
from theano.tensor.basic import Dot
from theano.tensor.elemwise import Sum

from layouts import HAS_LEADING_AXES
from wnorm import weight_norm
from wnorm.ops.weight import FilterScale, NormalizedWeight
from . import nets
from .nets import NETS, Training, counts, nodes, printed

# Theano's own product of scalars, in Python
pytestmark = pytest.mark.filterwarnings('ignore:`product` is deprecated')

#: The factoring alone.
FACTORED = ['wnorm_epilogue', 'wnorm_inplace', 'BlasOpt', 'fusion', 'inplace']

#: Nets whose weights need not exist: FilterScale, FactoredGradient.
WITHOUT_WEIGHTS = {
    'dense': (2, 2), 'fixed gain': (2, 2), 'no gain': (2, 2),
    'no bias': (2, 2), 'no eps': (2, 2), 'two applications': (2, 4),
    'two networks': (4, 6), 'row of input': (2, 2), 'one unit': (1, 1),
    'one input': (1, 1), 'tied direction': (2, 2), 'tied weight': (1, 2),
    'tied weight without nonlinearity': (1, 2), 'filters are rows': (2, 2),
    'recurrence': (1, 3), 'input of the gradient': (1, 1),
    'one gain for all': (1, 1), 'shared direction': (2, 2),
    'shared weight': (1, 2)}

#: Nets that need them all.
UNTOUCHED = ['weight in the cost', 'nin', 'convolution',
             'one unit by type']

each_net = pytest.mark.parametrize('name', list(NETS))


def mode():
    return nets.python(*FACTORED)


def matrices(*names):
    return [T.matrix(name) for name in names]


def a_weight(rows=5, columns=4):
    """V, g, W."""
    rng = np.random.RandomState(3)
    V = theano.shared(rng.randn(rows, columns), 'V')
    g = theano.shared(rng.rand(1, columns) + .5, 'g',
                      broadcastable=(True, False))
    return V, g, NormalizedWeight((0,), 1e-6)(V, g)


def array(*shape):
    return np.random.RandomState(sum(shape)).randn(*shape)


def agree(inputs, outputs, values, updates=(), tolerance=1e-12, **kwargs):
    """The factored function, which computes what the other one does."""
    functions = [theano.function(inputs, outputs, mode=m, **kwargs)
                 for m in (mode(), nets.python('wnorm'))]
    for got, want in zip(*[f(*values) for f in functions]):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    return functions[0]


# --- values ------------------------------------------------------------------

@each_net
def test_float64(name):
    training = Training(NETS[name], nets.gradient_descent, mode=mode())
    reference = Training(NETS[name], nets.gradient_descent, nets.by_formula)
    nets.check(training, reference, 1e-12)
    nets.check(training, reference, 1e-8, 20, same_state=False)


@each_net
def test_float32(name):
    training = Training(NETS[name], nets.gradients, mode=mode(),
                        dtype='float32')
    reference = Training(NETS[name], nets.gradients, nets.by_formula)
    nets.check(training, reference, 1e-5)


# --- which weights are factored ----------------------------------------------

@pytest.mark.parametrize('name', list(WITHOUT_WEIGHTS))
def test_no_weight(name):
    training = Training(NETS[name], nets.gradient_descent, mode=mode())
    scales, gradients = WITHOUT_WEIGHTS[name]
    assert counts(training.function) == {
        'FilterScale': scales, 'FactoredGradient': gradients}


@pytest.mark.parametrize('name', UNTOUCHED)
def test_untouched(name):
    # the graph is that without the rewrite
    with_it, without_it = [
        printed(Training(NETS[name], nets.gradient_descent,
                         mode=nets.python(*FACTORED + list(more))).function)
        for more in ((), ('wnorm',))]
    assert with_it == without_it and 'NormalizedWeightGrad' in with_it


@each_net
def test_not_twice(name):
    # a weight is there as a whole or not at all
    f = Training(NETS[name], nets.gradient_descent, mode=mode()).function
    whole, scaled = [{node.inputs[0] for node in nodes(f, op)}
                     for op in (NormalizedWeight, FilterScale)]
    assert not whole & scaled


@pytest.mark.parametrize('square', [lambda W: T.dot(W, W.T),
                                    lambda W: T.dot(W.T, W)])
def test_product_with_itself(square):
    # nothing would be left out
    x, = matrices('x')
    V, g, W = a_weight()
    cost = T.sum(T.tanh(T.dot(x, W))) + T.sum(T.sin(square(W)))
    f = agree([x], [cost] + T.grad(cost, [V, g]), [array(6, 5)])
    assert counts(f) == {'NormalizedWeight': 1, 'NormalizedWeightGrad': 1}


def test_products():
    # two forward, two gradients, one between the layers; no sum over rows
    # for the gradients of the biases
    f = Training(NETS['dense'], nets.gradient_descent, mode=mode()).function
    assert len(nodes(f, Dot)) == 5
    assert not [node for node in nodes(f, Sum) if node.op.axis == (0,)]


def test_inference():
    layers = nets.mlp(nets.by_op)
    f = theano.function([layers[0].input_var], get_output(layers[-1]),
                        mode=mode())
    assert counts(f) == {'FilterScale': 2}
    assert len(nodes(f, Dot)) == 2


def test_fixed_direction():
    # the gradient of the gain alone needs no product
    x, = matrices('x')
    V, g, W = a_weight()
    f = agree([x], [T.grad(T.sum(T.tanh(T.dot(x, W))), g)], [array(6, 5)])
    assert counts(f) == {'FilterScale': 1, 'FactoredGradient': 1}
    assert len(nodes(f, Dot)) == 1


def test_leading_axes():
    # the dense layer on the last of three axes, as one product of matrices
    # or as tensordot has it
    layer = InputLayer((2, 3, 5), T.tensor3('x'))
    if not HAS_LEADING_AXES:
        pytest.skip('the installed Lasagne lacks num_leading_axes')
    top = weight_norm(DenseLayer(layer, 4, num_leading_axes=2), train_g=True)
    cost = T.mean(T.sqr(get_output(top) - .3))
    agree([layer.input_var], [cost] + T.grad(cost, get_all_params(
        top, trainable=True)), [array(2, 3, 5)])


def test_vector():
    # of a vector, the product is left alone
    x = T.vector('x')
    V, g, W = a_weight()
    cost = T.sum(T.tanh(T.dot(x, W)))
    f = agree([x], [cost] + T.grad(cost, [V, g]), [array(5)])
    assert counts(f) == {'NormalizedWeight': 1, 'NormalizedWeightGrad': 1}


def test_other_precision():
    x = T.matrix('x', dtype='float32')
    V, g, W = a_weight()
    cost = T.sum(T.tanh(T.dot(x, W)))
    agree([x], [cost] + T.grad(cost, [V, g]),
          [array(6, 5).astype('float32')], tolerance=1e-6)


# --- other uses of a weight, and of its gradient -----------------------------

def test_weight_is_an_output():
    x, = matrices('x')
    V, g, W = a_weight()
    cost = T.sum(T.tanh(T.dot(x, W)))
    f = agree([x], [cost, W] + T.grad(cost, [V, g]), [array(6, 5)])
    assert counts(f) == {'NormalizedWeight': 1, 'NormalizedWeightGrad': 1}


@pytest.mark.parametrize('also', ['V', 'nothing else'])
def test_gradient_of_the_weight(also):
    # dW = x.T dt is asked for: computed once, as it is
    x, = matrices('x')
    V, g, W = a_weight()
    cost = T.sum(T.tanh(T.dot(x, W)))
    f = agree([x], [cost] + T.grad(cost, [W] + [V, g] * (also == 'V')),
              [array(6, 5)])
    assert counts(f) == dict({'FilterScale': 1}, **(
        {'NormalizedWeightGrad': 1} if also == 'V' else {}))
    assert len(nodes(f, Dot)) == 2


def test_gradient_of_another_kind():
    # to that of the products something is added
    x, y = matrices('x', 'y')
    V, g, W = a_weight()
    t = T.dot(x, W)
    f = agree([x, y], [T.sum(t)] + T.grad(None, [V, g], known_grads={
        W: T.dot(x.T, T.tanh(t)) + y}), [array(6, 5), array(5, 4)])
    assert counts(f) == {'FilterScale': 1, 'NormalizedWeightGrad': 1}


def test_gradient_of_a_product_that_is_not_there():
    x, y, dt = matrices('x', 'y', 'dt')
    V, g, W = a_weight()
    f = agree([x, y, dt], [T.sum(T.dot(x, W))] + T.grad(
        None, [V, g], known_grads={W: T.dot(y.T, dt)}),
        [array(6, 5), array(3, 5), array(3, 4)])
    assert counts(f) == {'FilterScale': 1, 'NormalizedWeightGrad': 1}


def test_gradient_of_any_product_that_is_there():
    # dt need not be the gradient of that product
    x, dt = matrices('x', 'dt')
    V, g, W = a_weight()
    f = agree([x, dt], [T.sum(T.dot(x, W))] + T.grad(
        None, [V, g], known_grads={W: T.dot(x.T, dt)}),
        [array(6, 5), array(6, 4)])
    assert counts(f) == {'FilterScale': 1, 'FactoredGradient': 1}


def test_an_input_that_depends_on_the_sum_of_the_gradient():
    # that sum can't come of a pass that takes the product with that input
    x, c, M = matrices('x', 'c', 'M')
    V, g, W = a_weight()
    product = T.dot(x + T.dot(T.sum(c, axis=0), M), W)
    f = agree([x, c, M], [product, T.sum(c, axis=0)] + T.grad(
        T.sum(product * c), [V, g]), [array(6, 5), array(6, 4), array(4, 5)])
    assert counts(f) == {'FilterScale': 1, 'FactoredGradient': 1}
    assert [node for node in nodes(f, Sum) if node.op.axis == (0,)]


def test_second_gradient():
    x, = matrices('x')
    V, g, W = a_weight()
    first = T.grad(T.sum(T.tanh(T.dot(x, W))), [V, g])
    cost = sum(T.sum(T.sqr(d)) for d in first)
    agree([x], [cost] + T.grad(cost, [V, g, x]), [array(6, 5)],
          tolerance=1e-10)


def test_zero_filter():
    x, = matrices('x')
    V = theano.shared(np.array([[3., 0.], [4., 0.]]))
    g = theano.shared(np.array([[2., 2.]]), broadcastable=(True, False))
    t = T.dot(x, NormalizedWeight((0,), 0.)(V, g))
    f = theano.function([x], [t] + T.grad(T.sum(t[:, 0] + 3 * t[:, 1]),
                                          [V, g]), mode=mode())
    assert counts(f) == {'FilterScale': 1, 'FactoredGradient': 1}
    t, dV, dg = f(np.array([[1., 2.], [3., -1.]]))
    # x . (3, 4) / 5, and its derivatives; all is 0 for the other filter
    np.testing.assert_allclose(t, [[22 / 5., 0], [2., 0]])
    np.testing.assert_allclose(dg, [[16 / 5., 0]], rtol=1e-14)
    # 2 / 5 (dW - v (v . dW)), v = (.6, .8), dW = (4, 1)
    np.testing.assert_allclose(dV, [[.4 * (4 - .6 * 3.2), 0],
                                    [.4 * (1 - .8 * 3.2), 0]], rtol=1e-14)


@pytest.mark.parametrize('size', [1e-15, 1e15])
def test_large_and_small(size):
    # squares of these have no place in float32
    rng = np.random.RandomState(0)
    V = theano.shared((size * rng.randn(5, 4)).astype('float32'))
    g = theano.shared(np.ones((1, 4), 'float32'), broadcastable=(True, False))
    x = T.matrix('x', dtype='float32')
    cost = T.sum(T.tanh(T.dot(x, NormalizedWeight((0,), 0.)(V, g))))
    value = rng.randn(6, 5).astype('float32')
    results = [theano.function([x], [cost] + T.grad(cost, [V, g]),
                               mode=m)(value)
               for m in (mode(), nets.python('wnorm'))]
    nets.same(results[0], results[1], 1e-5)


def test_no_rows():
    x, = matrices('x')
    V, g, W = a_weight()
    cost = T.sum(T.tanh(T.dot(x, W)))
    agree([x], [cost] + T.grad(cost, [V, g]), [np.zeros((0, 5))])


def test_shapes_need_no_product():
    x, = matrices('x')
    V, g, W = a_weight()
    t = T.dot(x, W)
    f = agree([x], [t.shape] + [d.shape for d in T.grad(
        T.sum(T.tanh(t)), [V, g])], [array(6, 5)])
    assert counts(f) == {} and not nodes(f, Dot)


# --- what users do to graphs -------------------------------------------------

def test_givens():
    x, y = matrices('x', 'y')
    V, g, W = a_weight()
    average = theano.shared(array(5, 4) + 1)
    cost = T.sum(T.tanh(T.dot(x, W)))
    outputs = [cost] + T.grad(cost, [V, g])
    for givens in ({V: average}, {V: T.tanh(average) * 2, g: abs(g) + 1},
                   {V: y}, {W: y}):
        f = agree([x] + [y] * any(v is y for v in givens.values()), outputs,
                  [array(6, 5)] + [array(5, 4)] * any(
                      v is y for v in givens.values()), givens=givens)
        assert ('FilterScale' in counts(f)) == (W not in givens)


def test_clone():
    x, y = matrices('x', 'y')
    V, g, W = a_weight()
    cost = T.sum(T.tanh(T.dot(x, W)))
    outputs = theano.clone([cost] + T.grad(cost, [V, g]),
                           replace={V: y * 2}, share_inputs=True)
    f = agree([x, y], outputs, [array(6, 5), array(5, 4)])
    assert counts(f) == {'FilterScale': 1, 'FactoredGradient': 1}


def test_constant_direction():
    x, = matrices('x')
    V, g, W = a_weight()
    W = NormalizedWeight((0,), 1e-6)(T.constant(V.get_value()), g)
    cost = T.sum(T.tanh(T.dot(x, W)))
    agree([x], [cost, T.grad(cost, g)], [array(6, 5)])


@pytest.mark.filterwarnings('ignore::DeprecationWarning:theano')
def test_scan():
    # out of the loop goes the scale, in it stays a product
    xs = T.tensor3('xs')
    V, g, W = a_weight(4, 4)
    h, _ = theano.scan(lambda x, h, W: T.tanh(T.dot(h, W) + x), sequences=xs,
                       outputs_info=T.zeros_like(xs[0]), non_sequences=W)
    cost = T.mean(T.sqr(h[-1] - .5))
    agree([xs], [cost] + T.grad(cost, [V, g]), [array(5, 3, 4)])


def test_test_values():
    # that of a weight is none of its scale
    x, = matrices('x')
    V, g, W = a_weight()
    W.tag.test_value = np.zeros((5, 4))
    f = theano.function([x], T.dot(x, W), mode=mode())
    scale, = nodes(f, FilterScale)
    assert not hasattr(scale.outputs[0].tag, 'test_value')
