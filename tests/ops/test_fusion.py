"""What follows from a product joins it, in place of what it replaces."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, get_output
from theano.tensor.blas import Dot22, Dot22Scalar, Gemm

from wnorm.ops.epilogue import ProductEpilogue
from wnorm.ops.weight import NormalizedWeight
from . import nets
from .nets import NETS, Training, nodes, printed

# Theano's own product of scalars, in Python
pytestmark = pytest.mark.filterwarnings('ignore:`product` is deprecated')

#: How many matrices each changes for a matrix of parameters.
MATRICES = {'sgd': 1, 'momentum': 2, 'nesterov_momentum': 2, 'adagrad': 2,
            'rmsprop': 2, 'adadelta': 3, 'adam': 3}


def adam(net):
    return lasagne.updates.adam(net.cost, net.params, .01)


def epilogues(function):
    return nodes(function, ProductEpilogue)


def overwrites(function, node):
    """For each output that is an update, whether its own variable is lost."""
    fgraph = function.maker.fgraph
    inplace = dict(node.op.inplace)
    return [out in inplace and node.inputs[node.op.first + inplace[out]] is
            fgraph.inputs[fgraph.update_mapping[i]]
            for out, v in enumerate(node.outputs)
            for i, output in enumerate(fgraph.outputs) if output is v and
            i in fgraph.update_mapping]


def a_layer(rows=5, columns=4):
    """x, V, and the gradient of V."""
    rng = np.random.RandomState(3)
    x = T.matrix('x')
    V = theano.shared(rng.randn(rows, columns), 'V')
    g = theano.shared(rng.rand(1, columns) + .5, 'g',
                      broadcastable=(True, False))
    W = NormalizedWeight((0,), 1e-6)(V, g)
    return x, V, T.grad(T.sum(T.tanh(T.dot(x, W))), V)


def array(*shape):
    return np.random.RandomState(sum(shape)).randn(*shape)


def agree(inputs, outputs, updates=(), values=(), tolerance=1e-12):
    """The fused function: it does what the one without rewrites does."""
    updates = list(updates)
    before = [v.get_value() for v, _ in updates]
    results = []
    for mode in (nets.python('wnorm'), nets.python()):
        for (v, _), value in zip(updates, before):
            v.set_value(value)
        function = theano.function(inputs, outputs, updates=updates,
                                   mode=mode)
        results.append(function(*[value.copy() for value in values]) +
                       [v.get_value() for v, _ in updates])
    nets.same(results[1], results[0], tolerance)
    return function


# --- values ------------------------------------------------------------------

@pytest.mark.parametrize('rule', [nets.gradient_descent, adam])
@pytest.mark.parametrize('name', list(NETS))
def test_float64(name, rule):
    training = Training(NETS[name], rule, mode=nets.python())
    reference = Training(NETS[name], rule, nets.by_formula)
    # Adam divides by the root of a square of the gradient
    nets.check(training, reference, 1e-10 if rule is adam else 1e-12)
    nets.check(training, reference, 1e-8, 20, same_state=False)


@pytest.mark.parametrize('name', list(NETS))
def test_float32(name):
    training = Training(NETS[name], nets.gradient_descent, mode=nets.python(),
                        dtype='float32')
    reference = Training(NETS[name], nets.gradient_descent, nets.by_formula)
    nets.check(training, reference, 1e-5, 20, same_state=False)


# --- what is absorbed --------------------------------------------------------

@pytest.mark.parametrize('name', list(MATRICES))
def test_one_op_for_each_layer(name):
    f = Training(NETS['dense'], lambda net: getattr(lasagne.updates, name)(
        net.cost, net.params, learning_rate=.1), mode=nets.python()).function
    assert len(epilogues(f)) == 2
    for node in epilogues(f):
        assert node.op.products == 1
        assert len(node.outputs) == len(node.op.inplace) == MATRICES[name]
    # two products forward, one between the layers
    assert len(nodes(f, Dot22)) == 3 and not nodes(f, Dot22Scalar, Gemm)


@pytest.mark.parametrize('name', list(MATRICES))
def test_each_output_overwrites_its_own_variable(name):
    f = Training(NETS['dense'], lambda net: getattr(lasagne.updates, name)(
        net.cost, net.params, learning_rate=.1), mode=nets.python()).function
    for node in epilogues(f):
        assert overwrites(f, node) == [True] * MATRICES[name]


@pytest.mark.parametrize('name, products', [
    ('two applications', [2, 2]), ('recurrence', [3]), ('tied weight', [2]),
    ('shared direction', [2])])
def test_products_that_are_added(name, products):
    f = Training(NETS[name], nets.gradient_descent,
                 mode=nets.python()).function
    assert [node.op.products for node in epilogues(f)] == products


def test_many_products():
    x, V, _ = a_layer(5, 5)
    g = T.constant(np.ones((1, 5)))
    h, W = x, NormalizedWeight((0,), 1e-6)(V, g)
    for _ in range(20):
        h = T.tanh(T.dot(h, W) + x)
    cost = T.sum(h)
    f = agree([x], [cost], [(V, V - .1 * T.grad(cost, V))], [array(6, 5)])
    assert epilogues(f)


def test_the_norm_of_all_gradients():
    # it needs the products, and what is scaled by it can't join them
    def constrained(net):
        grads, norm = lasagne.updates.total_norm_constraint(
            T.grad(net.cost, net.params), .05, return_norm=True)
        return lasagne.updates.adam(grads, net.params, .01)

    training = Training(NETS['dense'], constrained, mode=nets.python())
    reference = Training(NETS['dense'], constrained, nets.by_formula)
    nets.check(training, reference, 1e-10)
    assert epilogues(training.function)


def test_gradient_is_an_output():
    x, V, d = a_layer()
    f = agree([x], [d], [(V, V - .1 * d)], [array(6, 5)])
    node, = epilogues(f)
    assert len(node.outputs) == 2 and not nodes(f, Dot22Scalar, Gemm)


def test_a_part_of_the_gradient_is_an_output():
    x, V, d = a_layer()
    f = agree([x], [d[0]], [(V, V - .1 * d)], [array(6, 5)])
    node, = epilogues(f)
    assert len(node.outputs) == 2


def test_updates_of_any_kind():
    x, V, d = a_layer()
    m, row, column = [theano.shared(array(*shape), broadcastable=[
        n == 1 for n in shape]) for shape in ((5, 4), (1, 4), (5, 1))]
    number = theano.shared(.3)
    new = T.switch(T.gt(d, 0), m * d, number - abs(d) * row) / (2 + T.cos(
        column)) + T.clip(d, -.1, .1) ** 2
    agree([x], [], [(V, V - new), (m, T.maximum(m, d)), (row, row * .9)],
          [array(6, 5)])


def test_elements_of_other_types_are_left_out():
    x, V, d = a_layer()
    mask = T.matrix('mask', dtype='int8')
    f = agree([x, mask], [T.isnan(d).sum()], [(V, V - d * mask)],
              [array(6, 5), np.arange(20, dtype='int8').reshape(5, 4) % 2])
    assert epilogues(f)


def test_a_factor_that_is_also_added():
    # V - d + V . M: V is a factor and an element
    x, V, d = a_layer(5, 5)
    M = theano.shared(array(5, 5))
    agree([x], [], [(V, V - .1 * d + T.dot(V, M))], [array(6, 5)])
    agree([x], [], [(V, V - .1 * d + T.dot(d, M) * .3)], [array(6, 5)])


@pytest.mark.parametrize('value', [0., -1.])
def test_what_is_not_finite(value):
    # as NumPy and C have it, not as Python has it
    x, V, d = a_layer()
    m = theano.shared(np.full((5, 4), value))
    inputs, outputs = [x], [d / (m * 0), abs(d) ** m, m ** .5 * d,
                            T.exp(abs(d) * 1e4), T.log(m * abs(d)), m / m]
    with np.errstate(all='ignore'):
        results = [theano.function(inputs, [V - o for o in outputs],
                                   mode=mode)(array(6, 5))
                   for mode in (nets.python('wnorm'), nets.python())]
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=1e-10)


def test_without_gradients():
    # there is no product
    x, V, _ = a_layer()
    f = theano.function([], [], updates=[(V, V * .99)], mode=nets.python())
    before = V.get_value()
    f()
    np.testing.assert_allclose(V.get_value(), before * .99, rtol=1e-14)
    assert not epilogues(f)


# --- what is left alone ------------------------------------------------------

def plain(weight):
    """Two layers without weight normalization."""
    layer = lasagne.layers.InputLayer((None, 5), T.matrix('x'))
    hidden = DenseLayer(layer, 4, nonlinearity=T.tanh)
    return nets.trained((layer, hidden, DenseLayer(hidden, 3,
                                                   nonlinearity=T.tanh)))


@pytest.mark.parametrize('rule', [nets.gradient_descent, adam])
def test_plain_layers(rule):
    graphs = [printed(Training(plain, rule, mode=mode).function)
              for mode in (nets.python(), nets.python('wnorm'))]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize('rule', [nets.gradient_descent, adam])
def test_plain_layers_too(rule):
    training = Training(plain, rule,
                        mode=nets.python().including('wnorm_everywhere'))
    assert len(epilogues(training.function)) == 2
    for node in epilogues(training.function):
        assert all(overwrites(training.function, node))
    reference = Training(plain, rule)
    nets.check(training, reference, 1e-10)


@pytest.mark.parametrize('name', ['weight in the cost', 'nin', 'convolution'])
@pytest.mark.parametrize('rule', [nets.gradient_descent, adam])
def test_weights_that_are_not_factored(name, rule):
    graphs = [printed(Training(NETS[name], rule, mode=mode).function)
              for mode in (nets.python(), nets.python('wnorm'))]
    assert graphs[0] == graphs[1]


def test_a_plain_layer_beside():
    # only the normalized one is fused
    def build(weight):
        layer = lasagne.layers.InputLayer((None, 5), T.matrix('x'))
        hidden = DenseLayer(layer, 4, nonlinearity=T.tanh)
        top = nets.wrap(DenseLayer(hidden, 3, nonlinearity=T.tanh), weight)
        return nets.trained((layer, hidden, top))

    f = Training(build, adam, mode=nets.python()).function
    node, = epilogues(f)
    assert any(v.owner is None and v.type == node.outputs[0].type
               for v in node.inputs[node.op.first:])


def test_inference():
    layers = nets.mlp(nets.by_op)
    f = theano.function([layers[0].input_var], get_output(layers[-1]),
                        mode=nets.python())
    assert not epilogues(f)


# --- in place ----------------------------------------------------------------

def test_not_in_place():
    f = Training(NETS['dense'], adam, mode=nets.python('inplace')).function
    assert [node.op.inplace for node in epilogues(f)] == [(), ()]


def test_inputs_are_kept():
    x, V, d = a_layer()
    v = T.matrix('v')
    f = theano.function([x, v], theano.clone(V - .1 * d, replace={V: v}),
                        mode=nets.python())
    node, = epilogues(f)
    assert node.op.inplace == ()
    value = array(5, 4)
    kept = value.copy()
    f(array(6, 5), value)
    np.testing.assert_array_equal(value, kept)


def test_an_input_that_may_be_lost():
    x, V, d = a_layer()
    v = T.matrix('v')
    f = theano.function([x, theano.In(v, mutable=True)], theano.clone(
        V - .1 * d, replace={V: v}), mode=nets.python())
    node, = epilogues(f)
    assert node.op.inplace == ((0, node.inputs.index(
        f.maker.fgraph.inputs[1]) - node.op.first),)


def test_a_variable_that_is_an_output_too():
    # what is returned is the value before
    x, V, d = a_layer()
    before = V.get_value()
    f = theano.function([x], [V, V * 2, V.T], updates=[(V, V - .1 * d)],
                        mode=nets.python())
    for got, want in zip(f(array(6, 5)), (before, before * 2, before.T)):
        np.testing.assert_array_equal(got, want)
    assert not np.array_equal(V.get_value(), before)


def test_a_variable_that_others_need():
    # before, after, and as the factor of another product
    x, V, d = a_layer(5, 5)
    U = theano.shared(array(5, 5))
    agree([x], [T.dot(V, x.T), T.sum(V)],
          [(V, V - .1 * d), (U, U - V * T.dot(x.T, x))], [array(6, 5)])


def test_outputs_are_kept():
    # of two products, one takes what the other returns
    x, V, d = a_layer()
    y, U, e = a_layer()
    returned = T.tanh(d)
    agree([x, y], [returned, U - .1 * e - returned], [(V, V - .1 * d)],
          [array(6, 5), array(3, 5)])


def test_variables_exchanged():
    x, V, d = a_layer()
    U = theano.shared(array(5, 4))
    agree([x], [], [(V, U - .1 * d), (U, V + d)], [array(6, 5)])


def test_a_variable_is_changed_in_its_memory():
    net = Training(NETS['dense'], nets.gradient_descent, mode=nets.python())
    matrices = [v for v in net.state if v.ndim == 2]
    memory = [v.get_value(borrow=True, return_internal_type=True)
              for v in matrices]
    net.step(0)
    for v, array_ in zip(matrices, memory):
        assert v.get_value(borrow=True, return_internal_type=True) is array_


def test_many_layers():
    # the same Op for equal layers: one module of C
    def build(weight):
        layers = [lasagne.layers.InputLayer((None, 4), T.matrix('x'))]
        for _ in range(4):
            layers.append(nets.wrap(DenseLayer(
                layers[-1], 4, nonlinearity=T.tanh), weight, train_g=True))
        return nets.trained(layers, T.mean(T.sqr(get_output(layers[-1]))),
                            shapes=[(6, 4)])

    f = Training(build, adam, mode=nets.python()).function
    assert len({node.op for node in epilogues(f)}) == 1
    assert len(epilogues(f)) == 4
