"""WeightNormLayer and weight_norm."""
import copy
import pickle

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (
    ConcatLayer, DenseLayer, InputLayer, NINLayer, dnn, get_all_params,
    get_output)
from lasagne.nonlinearities import identity, rectify, tanh
from theano.gradient import verify_grad

import own_layers
import wnorm
from layouts import CASES, every_layout
from test_filters import Mine, Unknown  # noqa: F401 (a fixture)
from wnorm import WeightNormLayer, weight_norm
from wnorm.layers import relu

DENSE = CASES[0]


def rng():
    return np.random.RandomState(0)


def dense(units=4, **kwargs):
    return DenseLayer(InputLayer((None, 5), T.matrix('x')), units, **kwargs)


def untied(**kwargs):
    l = InputLayer((None, 2, 4, 4))
    return dnn.Conv2DDNNLayer(l, 3, 2, untie_biases=True, **kwargs)


def randomize(layer):
    """Other values than the initial ones, for all parameters."""
    random = rng()
    for param in get_all_params(layer):
        value = param.get_value()
        param.set_value(random.randn(*value.shape).astype(value.dtype))


def tolerance(dtype):
    return dict(float64=1e-10, float32=2e-5)[str(dtype)]


# --- the contract ------------------------------------------------------------

@every_layout
def test_weight(case, floatX):
    for options in ({}, {'g': None}, {'eps': 0.}):
        plain = case.layer()
        V = plain.W
        l = weight_norm(plain, **options)
        randomize(l)
        assert plain.W_param is V and plain.get_params()[0] is V
        g = None if l.g is None else l.g.get_value().astype('float64')
        W = plain.W.eval()
        assert W.dtype == floatX and l.eps == options.get('eps', 1e-6)
        np.testing.assert_allclose(
            W, case.W(V.get_value().astype('float64'), g, l.eps),
            rtol=tolerance(floatX))


@every_layout
def test_output(case, floatX):
    # that of the layer itself with the number W, the same b and nonlinearity
    l = weight_norm(case.layer())
    randomize(l)
    data = case.data(rng())
    x = l.input_layer.input_layer.input_var
    got = theano.function([x], get_output(l))(data)
    plain = case.layer(W=l.input_layer.W.eval(), b=l.b.get_value())
    expected = theano.function([plain.input_layer.input_var],
                               get_output(plain))(data)
    if case.name == 'embedding':  # has no bias of its own
        expected = expected + l.b.get_value()
    assert got.shape == expected.shape and got.dtype == floatX
    # None in an output shape stands for any size
    assert all(a in (None, b) for a, b in zip(l.output_shape, got.shape))
    np.testing.assert_allclose(got, expected, atol=tolerance(floatX))


@every_layout
def test_gradients(case):
    l = weight_norm(case.layer(), train_g=True)
    V, g, W = l.input_layer.W_param, l.g, l.input_layer.W
    random = rng()
    verify_grad(lambda v, gain: theano.clone(W, replace={V: v, g: gain}),
                [random.randn(*V.get_value().shape),
                 random.randn(*g.get_value().shape)], rng=random)


@every_layout
def test_parameters(case):
    plain = case.layer()
    names = [param.name for param in plain.get_params()]
    assert names in (['W', 'b'], ['W'])  # embeddings have no bias
    tags = plain.params[plain.W]
    l = weight_norm(plain)
    params = get_all_params(l)
    assert params == [plain.W_param, l.b, l.g]
    assert [param.name for param in params] == ['W', 'b', 'g']
    assert plain.params[plain.W_param] == tags
    assert l.params[l.b] == {'trainable'} and l.params[l.g] == set()
    assert get_all_params(l, trainable=True) == params[:2]
    assert get_all_params(l, regularizable=True) == params[:1]
    number = plain.W_param.get_value().shape[case.filter_axis]
    assert l.g.get_value().shape == l.b.get_value().shape == (number,)
    assert (l.g.get_value() == 1).all() and (l.b.get_value() == 0).all()


def test_train_g():
    l = weight_norm(dense(), train_g=True)
    assert l.params[l.g] == {'trainable'}
    assert get_all_params(l, trainable=True) == get_all_params(l)


def test_names():
    l = weight_norm(dense(name='inner'))
    assert [p.name for p in get_all_params(l)] == ['inner.W', 'b', 'g']
    l = weight_norm(dense(name='inner'), name='outer')
    assert [p.name for p in get_all_params(l)] == ['inner.W', 'outer.b',
                                                   'outer.g']


@every_layout
def test_attributes(case):
    plain = case.layer(nonlinearity=tanh)
    l = weight_norm(plain, init_stdv=.5)
    ndim = len(plain.output_shape)
    axis = case.unit_axis % ndim
    assert l.axes_to_sum == case.sum_axes(ndim)
    assert l.dimshuffle_args == [0 if i == axis else 'x' for i in range(ndim)]
    assert l.init_stdv == .5
    assert l.nonlinearity is (identity if case.name == 'embedding' else tanh)
    assert getattr(plain, 'nonlinearity', identity) is identity
    assert getattr(plain, 'b', None) is None
    assert getattr(l, 'init_updates', []) == []
    assert not hasattr(l, 'init_updates')
    assert l.input_layer is plain and isinstance(l, WeightNormLayer)


def test_one_layer_is_added():
    l = weight_norm(dense())
    assert [type(layer) for layer in lasagne.layers.get_all_layers(l)] == [
        InputLayer, DenseLayer, WeightNormLayer]


def test_signature():
    random = rng()
    plain = dense(b=None, nonlinearity=None)
    b, g, W = random.randn(4), random.randn(4), random.randn(5, 4)
    l = WeightNormLayer(plain, b, g, W, True, 2., tanh)
    assert (l.b.get_value() == b).all() and (l.g.get_value() == g).all()
    assert (plain.W_param.get_value() == W).all()
    assert l.init_stdv == 2. and l.nonlinearity is tanh
    assert l.params[l.g] == {'trainable'}
    assert WeightNormLayer(dense(b=None)).nonlinearity is relu


def test_relu():
    # with the gradient of a maximum at 0, as in the original
    x = theano.shared(np.array([-1., 0., 2.]))
    assert relu(x).eval().tolist() == [0., 0., 2.]
    assert T.grad(relu(x).sum(), x).eval().tolist() == T.grad(
        T.maximum(x, 0).sum(), x).eval().tolist()


def test_weight_is_symbolic():
    plain = dense()
    l = weight_norm(plain, train_g=True)
    V, g = plain.W_param, l.g
    # Polyak averaging replaces parameters by their averages
    average = theano.shared(3 * V.get_value())
    np.testing.assert_allclose(
        theano.function([], plain.W, givens={V: average})(),
        DENSE.W(average.get_value(), g.get_value()))
    np.testing.assert_allclose(
        theano.function([], plain.W, givens={g: 5 * g})(),
        DENSE.W(V.get_value(), 5 * g.get_value()))
    # a penalty on W is one on V and g
    penalty = T.sum(T.sqr(plain.W))
    np.testing.assert_allclose(penalty.eval(), 4., rtol=1e-3)
    dV, dg = T.grad(penalty, [V, g])
    np.testing.assert_allclose(dg.eval(), 2., rtol=1e-3)
    assert abs(dV.eval()).max() < 1e-3


def test_training_equals_the_textbook_formula():
    # 20 steps of gradient descent, with the formula written out here
    random = rng()
    X, Y = random.randn(8, 5), random.randn(8, 3)
    V, W2 = random.randn(5, 4), random.randn(4, 3)
    l = weight_norm(dense(W=V.copy()), train_g=True)
    l = weight_norm(DenseLayer(l, 3, W=W2.copy(), nonlinearity=None))
    own = [theano.shared(value) for value in
           (V, np.zeros(4), np.ones(4), W2, np.zeros(3))]
    V, b, g, W2, b2 = own
    W = V * (g / T.sqrt(1e-6 + T.sum(T.sqr(V), axis=0)))
    W2 = W2 / T.sqrt(1e-6 + T.sum(T.sqr(W2), axis=0))
    output = T.dot(T.nnet.relu(T.dot(X, W) + b), W2) + b2
    for output, params in ((get_output(l, X),
                            get_all_params(l, trainable=True)),
                           (output, own)):
        cost = T.mean(T.sqr(output - Y))
        step = theano.function([], cost, updates=lasagne.updates.sgd(
            cost, params, .1))
        costs = [float(step()) for _ in range(20)]
    assert costs[-1] < .8 * costs[0]
    for ours, theirs in zip(get_all_params(l, trainable=True), own):
        np.testing.assert_allclose(ours.get_value(), theirs.get_value(),
                                   rtol=1e-10)


# --- g and b -----------------------------------------------------------------

def forms(shape):
    """A parameter in every form, each of the same value."""
    value = np.arange(1., 1 + np.prod(shape)).reshape(shape)
    return {'initializer': lambda shape: value,
            'array': value,
            'float32 array': value.astype('float32'),
            'shared variable': theano.shared(value),
            'expression': 2. * theano.shared(value / 2., name='half')}


@pytest.mark.parametrize('form', sorted(forms(1)))
@pytest.mark.parametrize('name', ['b', 'g'])
def test_forms(form, name):
    spec = forms((4,))[form]
    plain = dense(W=rng().randn(5, 4), nonlinearity=None)
    l = weight_norm(plain, train_g=True, **{name: spec})
    param = getattr(l, name)
    value = np.arange(1., 5.)
    np.testing.assert_array_equal(param.eval(), value)
    if isinstance(spec, theano.Variable):
        assert param is spec
    else:
        assert param.dtype == 'float64'
    V = plain.W_param.get_value()
    X = rng().randn(3, 5)
    np.testing.assert_allclose(
        get_output(l, X).eval(),
        X.dot(DENSE.W(V, value if name == 'g' else np.ones(4))) +
        (value if name == 'b' else 0))
    # an expression counts as the shared variables it consists of
    names = [p.name or form for p in get_all_params(l, trainable=True)]
    own = {'expression': 'half', 'shared variable': form}.get(form, name)
    if own == form and hasattr(lasagne.layers, 'TransposedConv2DLayer'):
        own = name  # later versions of Lasagne name what has no name
    assert names == (['W', own, 'g'] if name == 'b' else ['W', 'b', own])
    assert len(l.get_params(unwrap_shared=False)) == 2
    assert param in l.get_params(unwrap_shared=False)


def test_shared_expression_counts_once():
    s = theano.shared(np.zeros(4), name='s')
    l = weight_norm(dense(), b=s, g=T.exp(s))
    assert l.get_params() == [s]


@pytest.mark.parametrize('b', [None, Constant(2.)])
@pytest.mark.parametrize('g', [None, Constant(3.)])
@pytest.mark.parametrize('inner', [None, Constant(7.)])
def test_none(b, g, inner):
    plain = dense(b=inner, nonlinearity=None)
    l = weight_norm(plain, b=b, g=g)
    assert (l.b is None) == (b is None) and (l.g is None) == (g is None)
    assert [p.name for p in get_all_params(l)] == (
        ['W'] + ['b'] * (b is not None) + ['g'] * (g is not None))
    X = rng().randn(3, 5)
    W = DENSE.W(plain.W_param.get_value(), None)
    np.testing.assert_allclose(get_output(l, X).eval(), X.dot(W) * (
        1. if g is None else 3.) + (0. if b is None else 2.))


def test_new_bias_where_there_was_none():
    l = weight_norm(dense(b=None))
    assert l.b.get_value().tolist() == [0.] * 4


def test_values_of_the_old_bias_are_lost():
    assert (weight_norm(dense(b=Constant(3.))).b.get_value() == 0).all()


def test_shared_bias_of_two_layers():
    # only the wrapped one loses it
    b = theano.shared(np.ones(4))
    other = dense(b=b)
    weight_norm(dense(b=b))
    assert other.b is b and b in other.params


@pytest.mark.parametrize('make', [
    untied,
    lambda **kw: NINLayer(InputLayer((None, 2, 4, 3)), 3, untie_biases=True,
                          **kw),
    lambda **kw: own_layers.LocallyConnected2DLayer(
        InputLayer((None, 2, 3, 3)), 3, 1, untie_biases=True, **kw)])
def test_untied_bias(make):
    plain = make(nonlinearity=None)
    shape = plain.output_shape[1:]
    l = weight_norm(plain)
    assert l.b.get_value().shape == shape and l.g.get_value().shape == (3,)
    b = rng().randn(*shape)
    l2 = weight_norm(make(nonlinearity=None, W=plain.W_param), b=b)
    X = rng().randn(*(5,) + plain.input_shape[1:])
    np.testing.assert_allclose(get_output(l2, X).eval(),
                               get_output(l, X).eval() + b)


def test_untied_bias_given_as_an_expression():
    # which add_param of Lasagne 0.1 refuses
    plain = untied()
    plain.b = 2. * plain.b
    assert weight_norm(plain).b.get_value().shape == (3, 3, 3)


def test_fixed_batch_size():
    l = weight_norm(DenseLayer(InputLayer((6, 5)), 4))
    assert l.output_shape == (6, 4)
    assert get_output(l, np.ones((6, 5))).eval().shape == (6, 4)


# --- W -----------------------------------------------------------------------

def test_default_W_keeps_V():
    value = rng().randn(5, 4)
    for kwargs in ({}, {'W': wnorm.layers.KEEP_W}):
        plain = dense(W=value.copy())
        weight_norm(plain, **kwargs)
        assert (plain.W_param.get_value() == value).all()


def test_W_is_not_ignored(floatX):
    # an equal initializer is not the default: it draws
    for W in (Normal(0.05), Constant(2.), np.full((5, 4), 2.)):
        plain = dense()
        V = plain.W
        before = V.get_value()
        weight_norm(plain, W=W)
        assert plain.W_param is V and V.get_value().dtype == floatX
        assert not (V.get_value() == before).any()


def test_order_of_the_draws():
    # b, g, V: the original's
    random = np.random.RandomState(3)
    expected = [random.normal(0., 1., size=shape)
                for shape in ((4,), (4,), (5, 4))]
    layer = dense()
    lasagne.random.set_rng(np.random.RandomState(3))
    l = weight_norm(layer, W=Normal(1.), g=Normal(1.), b=Normal(1.))
    for param, value in zip((l.b, l.g, layer.W_param), expected):
        np.testing.assert_array_equal(param.get_value(), value)


# --- nonlinearities ------------------------------------------------------------

def test_nonlinearity_can_be_replaced():
    plain = dense(nonlinearity=tanh)
    l = weight_norm(plain, nonlinearity=rectify)
    assert l.nonlinearity is rectify and plain.nonlinearity is identity
    assert weight_norm(dense(), nonlinearity=None).nonlinearity is identity


# --- tied weights ----------------------------------------------------------------

def test_two_layers_share_V():
    V = theano.shared(rng().randn(5, 4))
    one, two = dense(W=V), dense(W=V)
    l1, l2 = weight_norm(one), weight_norm(two, g=Constant(3.))
    assert one.W_param is two.W_param is V
    np.testing.assert_allclose(3 * one.W.eval(), two.W.eval())
    V.set_value(rng().randn(5, 4) + 1)
    np.testing.assert_allclose(two.W.eval(), DENSE.W(V.get_value(), 3.))
    assert get_all_params([l1, l2]).count(V) == 1


def test_wrapping_one_of_two_leaves_the_other():
    V = theano.shared(rng().randn(5, 4))
    one, two = dense(W=V), dense(W=V)
    weight_norm(one)
    assert two.W is V


def transpose_of(layer, W):
    """A layer whose weight is the transpose of the expression `W`."""
    decoder = DenseLayer(layer, 5, nonlinearity=None)
    del decoder.params[decoder.W]
    decoder.W = W.T
    return decoder


def test_weight_given_as_an_expression():
    encoder = dense()
    l = weight_norm(encoder)
    # tied to the direction of the encoder, with a g of its own
    decoder = weight_norm(transpose_of(l, encoder.W_param), g=Constant(2.))
    V = encoder.W_param.get_value()
    np.testing.assert_allclose(decoder.input_layer.W.eval(),
                               DENSE.W(V.T, 2.))
    # tied to its effective weight: normalized once more
    decoder = weight_norm(transpose_of(l, encoder.W), g=Constant(2.))
    np.testing.assert_allclose(
        decoder.input_layer.W.eval(),
        DENSE.W(DENSE.W(V, l.g.get_value()).T, 2.))
    with pytest.raises(ValueError, match='expression. Leave W out'):
        weight_norm(transpose_of(l, encoder.W), W=Normal(1.))


@pytest.mark.skipif(not hasattr(lasagne.layers, 'TransposedConv2DLayer'),
                    reason='the installed Lasagne lacks W=expression')
def test_weight_expression_through_lasagne():
    encoder = dense()
    decoder = DenseLayer(weight_norm(encoder), 5, W=encoder.W_param.T)
    l = weight_norm(decoder)
    assert decoder.params[decoder.W_param] and l.g.get_value().shape == (5,)


# --- the initializing pass ---------------------------------------------------------

def textbook(t, case, stdv=1.):
    """Moments and scale of the pre-activations, in NumPy."""
    axes = case.sum_axes(t.ndim)
    m, std = t.mean(axis=axes, keepdims=True), t.std(axis=axes, keepdims=True)
    return m, std, stdv / std


@every_layout
def test_initializing_pass(case, floatX):
    l = weight_norm(case.layer(nonlinearity=tanh), init_stdv=.5)
    randomize(l)
    x = l.input_layer.input_layer.input_var
    data = case.data(rng())
    out = get_output(l, init=True)
    assert [param for param, _ in l.init_updates] == [l.b, l.g]
    plain = theano.function([x], get_output(l.input_layer))
    t = plain(data).astype('float64')
    b, g = l.b.get_value(), l.g.get_value()
    m, std, s = textbook(t, case, .5)
    got = theano.function([x], out, updates=l.init_updates)(data)
    expected = l.nonlinearity(T.as_tensor_variable((t - m) * s)).eval()
    close = dict(rtol=0, atol=1e3 * np.finfo(floatX).eps)
    np.testing.assert_allclose(got, expected, **close)
    np.testing.assert_allclose(l.g.get_value(), g * s.ravel(),
                               rtol=tolerance(floatX))
    np.testing.assert_allclose(l.b.get_value(), (-m * s).ravel(),
                               atol=tolerance(floatX) * 10)
    assert not (l.b.get_value() == b).any()
    # what the layer computes after the updates
    np.testing.assert_allclose(theano.function([x], get_output(l))(data),
                               expected, **close)


def test_initializing_pass_of_an_untied_bias():
    plain = untied(nonlinearity=None)
    l = weight_norm(plain)
    X = rng().randn(6, 2, 4, 4)
    t = get_output(plain, X).eval()
    m, s = t.mean(axis=(0, 2, 3)), 1 / t.std(axis=(0, 2, 3))
    out = get_output(l, X, init=True)
    got = theano.function([], out, updates=l.init_updates)()
    np.testing.assert_allclose(
        l.b.get_value(), np.broadcast_to((-m * s)[:, None, None], (3, 3, 3)))
    np.testing.assert_allclose(l.g.get_value(), s)
    np.testing.assert_allclose(got, get_output(l, X).eval(), atol=1e-12)


def test_updates_are_reassigned():
    l = weight_norm(dense())
    for _ in range(2):
        get_output(l, init=True)
        assert len(l.init_updates) == 2
    before = l.init_updates
    get_output(l)
    assert l.init_updates is before


def check_pass(l, X, fixed=(), slack=1):
    """The pass's output is the layer's after the updates, which it returns."""
    out = get_output(l, X, init=True)
    updates = l.init_updates
    assert not set(fixed) & {param for param, _ in updates}
    got = theano.function([], out, updates=updates)()
    np.testing.assert_allclose(got, get_output(l, X).eval(), rtol=0,
                               atol=slack * tolerance(got.dtype))
    return got, dict(updates)


@pytest.mark.parametrize('form', ['none', 'expression'])
def test_pass_with_a_fixed_b(form):
    b = None if form == 'none' else theano.shared(np.arange(4.)) * 1.
    plain = dense(nonlinearity=None)
    l = weight_norm(plain, b=b)
    X = rng().randn(20, 5) + 3.
    t = get_output(plain, X).eval()
    got, updates = check_pass(l, X, [b])
    s = 1 / t.std(axis=0)
    np.testing.assert_allclose(got, t * s + (0 if b is None else np.arange(4)))
    np.testing.assert_allclose(l.g.get_value(), s)
    assert list(updates) == [l.g]


@pytest.mark.parametrize('form', ['none', 'expression'])
def test_pass_with_a_fixed_g(form):
    g = None if form == 'none' else theano.shared(np.arange(1., 5.)) * 1.
    plain = dense(nonlinearity=None)
    l = weight_norm(plain, g=g)
    X = rng().randn(20, 5)
    t = get_output(plain, X).eval()
    got, updates = check_pass(l, X, [g])
    np.testing.assert_allclose(got, t - t.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(l.b.get_value(), -t.mean(axis=0))
    assert list(updates) == [l.b]


def test_pass_with_b_and_g_None():
    l = weight_norm(dense(nonlinearity=None), b=None, g=None)
    X = rng().randn(20, 5)
    got, updates = check_pass(l, X)
    assert updates == {}
    np.testing.assert_allclose(got, get_output(l.input_layer, X).eval())


@pytest.mark.parametrize('b', [None, Constant(1.)])
@pytest.mark.parametrize('make', [dense, untied])
def test_pass_above_a_bias_that_stayed(make, b):
    # WeightNormLayer itself leaves the bias below where it is
    plain = make(b=Normal(2.), nonlinearity=None)
    l = WeightNormLayer(plain, b=b, nonlinearity=None)
    X = rng().randn(*(20,) + plain.input_shape[1:])
    got, _ = check_pass(l, X)
    if b is not None:
        axes = l.axes_to_sum
        np.testing.assert_allclose(got.mean(axis=axes), 0., atol=1e-12)
        np.testing.assert_allclose(got.std(axis=axes), 1.)


def test_init_stdv_per_filter():
    stdv = np.array([.5, 1., 2., 3.])
    l = weight_norm(dense(nonlinearity=None), init_stdv=stdv)
    got, _ = check_pass(l, rng().randn(20, 5))
    np.testing.assert_allclose(got.std(axis=0), stdv)


def test_pass_without_leading_axes():
    # one output vector: every unit is constant
    l = own_layers.DenseLayer(InputLayer((2, 3)), 4, 0, nonlinearity=None)
    l = weight_norm(l)
    assert l.axes_to_sum == () and l.dimshuffle_args == [0]
    got, _ = check_pass(l, rng().randn(2, 3))
    np.testing.assert_allclose(got, 0., atol=1e-12)
    assert (l.g.get_value() == 1).all()


@pytest.mark.parametrize('value', [0., .1, 1 / 3., 1e-20, 12345.678])
def test_degenerate_channel(value, floatX):
    # a constant that floating point does not represent exactly: its mean is
    # not quite itself, its deviation not quite 0
    n = 37
    X = rng().randn(n, 5).astype(floatX)
    X[:, 0] = value
    V = np.eye(5, 4).astype(floatX)
    l = weight_norm(dense(W=V, nonlinearity=None), g=Constant(3.), eps=0.)
    got, _ = check_pass(l, X)
    # g unchanged, b = -m
    assert l.g.get_value()[0] == 3. and (l.g.get_value()[1:] != 3.).all()
    np.testing.assert_allclose(l.b.get_value()[0], -3 * X[0, 0],
                               rtol=1e-5)
    np.testing.assert_allclose(got[:, 0], 0., atol=1e-4 * value)
    np.testing.assert_allclose(got[:, 1:].std(axis=0), 1., rtol=1e-4)


def test_small_deviation_is_not_degenerate(floatX):
    X = (1. + 1e-2 * rng().randn(50, 5)).astype(floatX)
    l = weight_norm(dense(nonlinearity=None))
    # rounding grows as the mean does relative to the deviation
    got, _ = check_pass(l, X, slack=100)
    np.testing.assert_allclose(got.std(axis=0), 1., rtol=1e-3)


# --- copies --------------------------------------------------------------------------

@pytest.mark.parametrize('copier', [
    copy.deepcopy, lambda l: pickle.loads(pickle.dumps(l, -1))])
def test_copies(copier):
    # https://github.com/pytorch/pytorch/issues/28594
    l = weight_norm(dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4)), 3, 2))
    l = weight_norm(DenseLayer(l, 4, nonlinearity=tanh), train_g=True,
                    g=T.exp(theano.shared(np.zeros(4))))
    X = rng().randn(5, 2, 4, 4)
    wnorm.initialize(l, X)
    twin = copier(l)
    expected = get_output(l, X).eval()
    np.testing.assert_array_equal(get_output(twin, X).eval(), expected)
    params = get_all_params(twin)
    assert not set(params) & set(get_all_params(l))
    assert [str(p) for p in params] == [str(p) for p in get_all_params(l)]
    # V and g of the copy are what its W is made of
    inner = twin.input_layer
    assert inner.get_params()[0] is inner.W_param
    for param in params:
        param.set_value(2 * param.get_value())
    assert not np.allclose(get_output(twin, X).eval(), expected)
    np.testing.assert_array_equal(get_output(l, X).eval(), expected)


# --- repr ----------------------------------------------------------------------------

def test_repr():
    assert repr(weight_norm(dense(name='fc', nonlinearity=None))) == (
        "WeightNormLayer(DenseLayer 'fc' (None, 4), nonlinearity=linear)")
    l = WeightNormLayer(dense(), b=None, g=None, train_g=True, init_stdv=.5,
                        eps=0, name='wn')
    assert repr(l) == ("WeightNormLayer(DenseLayer (None, 4), b=None, g=None, "
                       "train_g=True, init_stdv=0.5, eps=0.0, name='wn')")


# --- bad input: an error that names the layer, and nothing has changed -----------------

def state(layer):
    attributes = dict(vars(layer))
    attributes['params'] = [(p, set(tags)) for p, tags in layer.params.items()]
    values = [p.get_value() for p in layer.params]
    return attributes, values


def refused(error, match, layer=None, wrapper=weight_norm, **kwargs):
    layer = dense(name='fc') if layer is None else layer
    before, values = state(layer)
    with pytest.raises(error, match=match) as info:
        wrapper(layer, **kwargs)
    assert type(layer).__name__ in str(info.value)
    if layer.name:
        assert repr(layer.name) in str(info.value)
    after, new_values = state(layer)
    assert after == before
    for old, new in zip(values, new_values):
        np.testing.assert_array_equal(old, new)


both = pytest.mark.parametrize('wrapper', [weight_norm, WeightNormLayer])


@both
def test_wrapping_twice(wrapper):
    l = weight_norm(dense(name='fc'))
    refused(ValueError, 'already', l, wrapper)
    refused(ValueError, 'already', l.input_layer, wrapper)


@both
def test_layer_without_W(wrapper):
    refused(ValueError, 'no weight W', InputLayer((None, 5), name='x'),
            wrapper)
    refused(ValueError, 'no weight W', ConcatLayer(
        [InputLayer((None, 3)), InputLayer((None, 5))]), wrapper)


@both
def test_folded(wrapper):
    l = weight_norm(dense(name='fc'))
    wnorm.fold(l)
    refused(ValueError, 'wrap the layer below', l, wrapper)


@both
def test_refused_before_random_numbers_are_drawn(wrapper):
    layers = [dense(W=Constant(1.), b=None, nonlinearity=None),
              dense(W=np.full((5, 4), np.nan), b=None, nonlinearity=None)]
    state = lasagne.random.get_rng().get_state()[1].copy()
    for layer, options in zip(layers, (
            dict(g=Normal(.1), W=np.zeros((1, 1))),
            dict(b=Normal(.1), g='norm'))):
        refused(ValueError, 'W ', layer, wrapper, **options)
        assert (lasagne.random.get_rng().get_state()[1] == state).all()


@both
def test_values_that_floatX_cannot_hold(wrapper, floatX):
    if floatX == 'float32':
        refused(ValueError, 'infinity in float32', wrapper=wrapper,
                b=np.full(4, 1e39))
        refused(ValueError, 'infinity in float32', wrapper=wrapper,
                W=np.full((5, 4), 1e39))


@both
def test_initializer_that_returns_an_initializer(wrapper):
    refused(TypeError, 'W must be', wrapper=wrapper, W=lambda shape: Constant)


@both
def test_no_layer(wrapper):
    for thing in (None, (None, 5), [dense()], T.matrix()):
        with pytest.raises(TypeError, match='takes a Lasagne layer'):
            wrapper(thing)


@both
def test_unknown_class(wrapper):
    refused(TypeError, r'wnorm.register\(Unknown, W=axis\)',
            Unknown(InputLayer((None, 5)), name='mine'), wrapper)


@pytest.mark.parametrize('name', ['b', 'g'])
@both
def test_wrong_shape(wrapper, name):
    # https://github.com/pytorch/pytorch/issues/81195
    for spec in (np.ones(3), np.ones((4, 1)), theano.shared(np.ones(5)),
                 lambda shape: np.ones(2), T.matrix(), T.scalar(),
                 np.ones(()), T.as_tensor_variable(np.ones(3)),
                 T.TensorType('float64', (True,))()):
        refused(ValueError, '%s has shape .* must have' % name,
                wrapper=wrapper, **{name: spec})
    for spec in (1., [1., 1., 1., 1.], lambda shape: 1.,
                 theano.gof.generic()):
        refused(TypeError, '%s must be an initializer' % name,
                wrapper=wrapper, **{name: spec})
    for spec in (lambda shape: None, lambda shape: Constant(1.)):
        refused(TypeError, 'initializer of %s returned' % name,
                wrapper=wrapper, **{name: spec})


@pytest.mark.parametrize('name', ['b', 'g'])
@both
def test_wrong_values(wrapper, name):
    for spec in (theano.shared(np.ones(4, 'int64')), np.ones(4, complex),
                 np.array(list('abcd')), T.ivector()):
        refused(TypeError, '%s has dtype' % name, wrapper=wrapper,
                **{name: spec})
    refused(ValueError, '%s contains NaN' % name, wrapper=wrapper,
            **{name: np.array([1., np.nan, 1., 1.])})
    refused(ValueError, 'W contains NaN', wrapper=wrapper,
            W=np.full((5, 4), np.inf))
    refused(TypeError, 'nonlinearity must be', wrapper=wrapper,
            layer=dense(nonlinearity=None), nonlinearity=3)


def test_refused_before_anything_is_drawn():
    random = np.random.RandomState(1)
    lasagne.random.set_rng(random)
    layer = dense()
    before = random.get_state()[1].tolist(), random.get_state()[2]
    shared = theano.shared(np.ones(4))
    for kwargs in (dict(W=Normal(1.), init_stdv=-1), dict(b=Normal(1.), eps=-1),
                   dict(b=Normal(1.), g=np.ones(3)),
                   dict(b=shared, g=np.ones(3), W=Normal(1.))):
        refused(ValueError, 'DenseLayer', layer, **kwargs)
    assert (random.get_state()[1].tolist(), random.get_state()[2]) == before
    assert shared.name is None

@both
def test_wrong_W(wrapper):
    refused(ValueError, 'W has shape', wrapper=wrapper, W=np.ones((4, 5)))
    for W in (None, 1., theano.shared(np.ones((5, 4)))):
        refused(TypeError, 'W must be an initializer', wrapper=wrapper, W=W)


@both
def test_wrong_init_stdv(wrapper):
    for value in (0, 0., -1., float('nan'), float('inf'),
                  np.array([1., 1., 0., 1.])):
        refused(ValueError, 'init_stdv must be positive', wrapper=wrapper,
                init_stdv=value)
    refused(ValueError, 'init_stdv has shape', wrapper=wrapper,
            init_stdv=np.ones(3))
    # lists of different lengths
    refused(TypeError, 'init_stdv must be', wrapper=wrapper,
            init_stdv=[[1.], [2., 3.]])
    for value in ('one', '2', None, T.scalar(), True, 1j):
        refused(TypeError, 'init_stdv must be a number', wrapper=wrapper,
                init_stdv=value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theano.config, 'floatX', 'float32')
        for value in (1e-50, 1e50):  # 0 and infinity in float32
            refused(ValueError, 'init_stdv must be positive', wrapper=wrapper,
                    init_stdv=value)


@both
def test_wrong_eps(wrapper):
    for value in (-1e-6, float('nan'), float('inf'), None, 'small'):
        refused(ValueError, 'eps', wrapper=wrapper, eps=value)


@both
def test_unknown_keyword(wrapper):
    refused(TypeError, 'unknown keyword', wrapper=wrapper, colour=1)
    refused(TypeError, 'unknown keyword', wrapper=wrapper, incomin=1)
    refused(TypeError, "'train_G'. Did you mean 'train_g'", wrapper=wrapper,
            train_G=True)


class Odd(Unknown):
    """Its units are not what its W says."""
    filter_axis = 0
    shape = (None, None)

    def get_output_shape_for(self, input_shape):
        return self.shape


@both
def test_number_of_units_not_known(wrapper):
    layer = Odd(InputLayer((None, 5)), name='odd')
    layer.W = 2. * layer.W
    refused(ValueError, 'number of units is not known', layer, wrapper)
    layer.num_units = 3
    assert wrapper(layer).g.get_value().shape == (3,)


@both
def test_number_of_units_differs(wrapper):
    # a subclass with another layout is caught
    class Transposed(DenseLayer):
        def __init__(self, incoming, num_units, **kwargs):
            super(Transposed, self).__init__(incoming, num_units, **kwargs)
            self.W = theano.shared(np.ones((num_units, self.input_shape[1])))
    refused(ValueError, '5 filters on axis 1, but the layer has 4 units',
            Transposed(InputLayer((None, 5)), 4), wrapper)
    layer = Odd(InputLayer((None, 5)), name='odd')
    layer.shape = (None, 7)
    refused(ValueError, '3 filters on axis 0, but the layer has 7 units',
            layer, wrapper)
    layer.shape = (None, None)
    assert wrapper(layer).g.get_value().shape == (3,)


@both
def test_filters_elsewhere_in_the_output(wrapper):
    layer = Odd(InputLayer((None, 5)), name='odd')
    layer.num_units, layer.shape = 3, (None, 7, 3)
    refused(ValueError, r'3 filters, but 7 entries on axis 1 of the output.*'
            r'Layout\(0, output_axis=axis\)', layer, wrapper)
    layer.shape = (None,)
    refused(ValueError, 'the output has no axis 1', layer, wrapper)


def test_scalar_bias_of_the_layer():
    # is not an untied one
    for b in (theano.shared(0.), 0.):
        layer = dense(nonlinearity=None)
        layer.b = b
        l = weight_norm(layer)
        assert l.b.get_value().shape == (4,)


@both
def test_axis_out_of_range(wrapper, Mine):  # noqa: F811
    Mine.filter_axis = 2
    refused(ValueError, 'W has 2 dimensions, there is no axis 2',
            Mine(InputLayer((None, 5))), wrapper)
