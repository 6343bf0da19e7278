"""normalize_param: any parameter of any layer."""
import copy
import pickle

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (DenseLayer, InputLayer, Layer, LSTMLayer,
                            RecurrentLayer, get_all_params,
                            get_all_param_values, get_output,
                            set_all_param_values)
from theano.gradient import verify_grad

import own_layers
import wnorm
from test_layers import dense, rng, state, tolerance
from wnorm import Gain, Layout, filters, normalize_param, weight_norm
from wnorm.parameters import EXPRESSIONS, all_records, records


class Attention(Layer):
    """A layer of several weights: (in, units) both, and a bias."""

    def __init__(self, incoming, units=3, **kwargs):
        super(Attention, self).__init__(incoming, **kwargs)
        shape = (self.input_shape[2], units)
        self.key, self.query = [self.add_param(
            Normal(.1), shape, name=name) for name in ('key', 'query')]
        self.b = self.add_param(Constant(.1), (units,), name='b')

    def get_output_for(self, input, **kwargs):
        scores = T.batched_dot(T.dot(input, self.query) + self.b, T.dot(
            input, self.key).dimshuffle(0, 2, 1))
        return T.batched_dot(scores, input)


class Positions(Layer):
    """A parameter of (3 filters, 2, 4 positions)."""

    def __init__(self, incoming, **kwargs):
        super(Positions, self).__init__(incoming, **kwargs)
        self.theta = self.add_param(Normal(.1), (3, 2, 4), name='theta')


def attention(**kwargs):
    return Attention(InputLayer((None, 4, 5), T.tensor3('x')), **kwargs)


def formula(V, g, axes, eps=1e-6):
    return g * V / np.sqrt(eps + np.sum(V ** 2, axis=axes, keepdims=True))


def numbers(params):
    """Random values for shared variables."""
    random = rng()
    for param in params:
        value = param.get_value()
        param.set_value(np.asarray(random.randn(*value.shape), value.dtype))


# --- W -----------------------------------------------------------------------

@pytest.mark.parametrize('axis', [1, -1, Layout(1), Layout(-1),
                                  np.int64(1)])
def test_weight(axis, floatX):
    layer = attention()
    V, before = layer.key, layer.key.get_value()
    assert normalize_param(layer, 'key', axis=axis) is layer
    # as it comes, the weight is what it was
    np.testing.assert_allclose(layer.key.eval(), before,
                               rtol=1e-6 if floatX == 'float32' else 1e-12)
    assert layer.key.dtype == layer.g_key.dtype == floatX
    numbers([V, layer.g_key])
    np.testing.assert_allclose(layer.key.eval(), formula(
        V.get_value().astype('float64'), layer.g_key.get_value(), 0),
        rtol=tolerance(floatX))


@pytest.mark.parametrize('axis, shape, axes', [
    (0, (5,), 1), (1, (3,), 0), (-2, (5,), 1)])
@pytest.mark.parametrize('eps', [0, 1e-6, .1])
def test_axis_and_eps(axis, shape, axes, eps):
    layer = normalize_param(attention(), 'key', axis=axis, eps=eps)
    V, g = layer.key_param, layer.g_key
    assert g.get_value().shape == shape
    numbers([V, g])
    np.testing.assert_allclose(layer.key.eval(), formula(
        V.get_value(), np.expand_dims(g.get_value(), axes), axes, eps))
    verify_grad(lambda v, gain: theano.clone(
        layer.key, replace={V: v, g: gain}), [V.get_value(), g.get_value()],
        rng=rng())


@pytest.mark.parametrize('layout, order', [
    (Layout(0, (2,)), (0, 1)), (Layout(0, (-1,)), (0, 1)),
    (Layout(2, (0,)), (1, 0)), (Layout(-1, (-3,)), (1, 0))])
def test_positions(layout, order):
    # a norm for each filter and position; with 'norm', a gain as well
    layer = Positions((None, 5))
    W = layer.theta.get_value()
    normalize_param(layer, 'theta', layout)
    V, g = layer.theta_param, layer.g_theta
    norms = np.sqrt(1e-6 + np.sum(W ** 2, axis=1))
    np.testing.assert_allclose(g.get_value(), norms.transpose(order))
    numbers([V, g])
    np.testing.assert_allclose(layer.theta.eval(), formula(
        V.get_value(), g.get_value().transpose(order)[:, None], 1))
    verify_grad(lambda v, gain: theano.clone(
        layer.theta, replace={V: v, g: gain}), [V.get_value(), g.get_value()],
        rng=rng())
    # else one per filter
    layer = normalize_param(Positions((None, 5)), 'theta', layout, g='exp')
    number = layer.theta_param.get_value().shape[layout.filter_axis]
    assert layer.s_theta.get_value().shape == (number,)


def test_vector():
    # each entry is a filter: its norm is its absolute value
    layer = normalize_param(attention(), 'b', axis=0, eps=0)
    np.testing.assert_allclose(layer.g_b.get_value(), [.1] * 3)
    numbers([layer.b_param])
    np.testing.assert_allclose(
        layer.b.eval(), .1 * np.sign(layer.b_param.get_value()))


@pytest.mark.parametrize('g, shape, exp', [
    ('norm', (3,), False), (Gain(), (3,), False), ('exp', (3,), True),
    (Gain(2., per='layer'), (), False), (Gain('norm', 3, True), (3,), True),
    (Gain(per=1), (1,), False), (np.arange(1., 4.), (3,), False),
    (theano.shared(np.arange(3.), name='mine'), (3,), False)])
def test_forms(g, shape, exp):
    layer = normalize_param(attention(), 'query', 1, g=g)
    kind = 's' if exp else 'g'
    param = getattr(layer, kind + '_query')
    assert param.name == ('mine' if isinstance(g, theano.Variable) else
                          kind + '_query')
    assert param.get_value().shape == shape
    assert (layer.g_query is param) == (not exp)
    numbers([layer.query_param, param])
    value = param.get_value()
    np.testing.assert_allclose(layer.query.eval(), formula(
        layer.query_param.get_value(), np.exp(value) if exp else value, 0))


def test_no_gain():
    layer = attention()
    before = layer.get_params()
    normalize_param(layer, 'query', 1, g=None)
    assert layer.g_query is None and layer.get_params() == before
    np.testing.assert_allclose(np.sum(layer.query.eval() ** 2, axis=0), 1,
                               rtol=1e-3)


def test_gain_of_zeros():
    layer = normalize_param(attention(), 'key', 1, g=Gain(0))
    assert (layer.key.eval() == 0).all()


# --- the layer ---------------------------------------------------------------

def test_parameters():
    layer = attention(name='att')
    V, tags = layer.query, set(layer.params[layer.query])
    normalize_param(layer, 'query', axis=1)
    assert layer.query_param is V and layer.params[V] == tags
    assert layer.params[layer.g_query] == set()
    assert not hasattr(layer, 's_query')
    normalize_param(layer, 'key', axis=1, train_g=True)
    assert layer.params[layer.g_key] == {'trainable'}
    assert [param.name for param in get_all_params(layer)] == [
        'att.key', 'att.query', 'att.b', 'att.g_query', 'att.g_key']
    assert [param.name for param in get_all_params(layer, trainable=True)] == [
        'att.key', 'att.query', 'att.b', 'att.g_key']
    assert layer.g_query not in get_all_params(layer, regularizable=True)


def test_records():
    layer = attention()
    assert not records(layer)
    normalize_param(layer, 'query', axis=1, eps=.5, g='exp')
    before = records(layer)
    normalize_param(layer, 'key', axis=-1)
    assert list(before) == ['query']  # is not changed
    query, key = all_records([layer])
    assert records(layer) == {'query': query, 'key': key}
    assert query.name == query.label == 'query' and query.eps == .5
    assert query.layer is query.owner is layer and query.num_filters == 3
    assert query.V is layer.query_param and query.W is layer.query
    assert query.g_param is layer.s_query and query.g is layer.g_query
    assert query.layout == Layout(1) and key.layout == Layout(-1)
    for record in (query, key):
        V = record.V.get_value()
        np.testing.assert_allclose(record.norms(), np.sqrt(
            record.eps + np.sum(V ** 2, axis=0)))


def test_output_and_training(floatX):
    layer = attention()
    x = layer.input_layer.input_var
    X = rng().randn(2, 4, 5).astype(floatX)
    expected = theano.function([x], get_output(layer))(X)
    for name in ('key', 'query'):
        normalize_param(layer, name, 1, train_g=True)
    output = get_output(layer)
    np.testing.assert_allclose(
        theano.function([x], output)(X), expected,
        atol=1e-6 if floatX == 'float32' else 1e-12)
    cost = T.mean(T.sqr(output))
    params = get_all_params(layer, trainable=True)
    assert len(params) == 5
    old = get_all_param_values(layer)
    step = theano.function([x], cost, updates=lasagne.updates.sgd(
        cost, params, .01))
    costs = [step(X) for _ in range(5)]
    assert costs == sorted(costs, reverse=True)
    for before, after in zip(old, get_all_param_values(layer)):
        assert not np.allclose(before, after, rtol=1e-7)
    set_all_param_values(layer, old)
    np.testing.assert_allclose(step(X), costs[0])


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(filters, '_registered', {})
    wnorm.register(Attention, key=1, query=1)


def test_registered_class(registered):
    layer = normalize_param(attention(), 'key')
    assert layer.g_key.get_value().shape == (3,)
    # the argument wins
    layer = normalize_param(attention(), 'key', axis=0)
    assert layer.g_key.get_value().shape == (5,)


def test_weight_norm_of_a_registered_class(registered):
    layer = attention()
    assert weight_norm(layer, g='exp', train_g=True, eps=0.) is layer
    assert [record.name for record in all_records([layer])] == [
        'key', 'query']
    assert layer.get_params() == [
        layer.key_param, layer.query_param, layer.b, layer.s_key,
        layer.s_query]
    assert layer.params[layer.s_key] == {'trainable'}
    layer = weight_norm(attention(), params=['query'])
    assert list(records(layer)) == ['query']
    weight_norm(layer, params=['key'])
    assert list(records(layer)) == ['query', 'key']


def test_weight_norm_of_W_and_others(monkeypatch):
    # a layer of several weights, one of which is called W
    monkeypatch.setattr(filters, '_registered', {})
    wnorm.register(Attention, W=1, query=1)
    layer = attention()
    layer.W = layer.key
    assert weight_norm(layer) is layer
    assert list(records(layer)) == ['W', 'query']
    # one that is not there does not count
    layer = attention()
    layer.query, layer.W = None, layer.key
    layer.get_output_shape_for = lambda shape: shape[:2] + (3,)
    wnorm.register(Attention, W=Layout(1, output_axis=-1))
    assert weight_norm(layer).input_layer is layer


def test_W_of_a_layer_that_weight_norm_knows():
    layer = dense(b=Constant(2.), name='fc')
    W, nonlinearity = layer.W.get_value(), layer.nonlinearity
    normalize_param(layer)
    np.testing.assert_allclose(layer.W.eval(), W, rtol=1e-12)
    assert layer.nonlinearity is nonlinearity
    assert [param.name for param in layer.get_params()] == [
        'fc.W', 'fc.b', 'fc.g_W']
    local = own_layers.LocallyConnected2DLayer(
        InputLayer((None, 2, 3, 3)), 4, 3)
    normalize_param(local)
    assert local.g_W.get_value().shape == (4,) + local.output_shape[2:]
    lstm = normalize_param(LSTMLayer((None, 4, 5), 3), 'W_hid_to_cell')
    assert list(records(lstm)) == ['W_hid_to_cell']


@pytest.mark.parametrize('copier', [
    copy.deepcopy, lambda l: pickle.loads(pickle.dumps(l, -1))])
def test_copies(copier):
    layer = normalize_param(normalize_param(
        attention(), 'key', 1, g='exp'), 'query', 1)
    numbers(get_all_params(layer))
    twin = copier(layer)
    np.testing.assert_array_equal(twin.key.eval(), layer.key.eval())
    assert not set(get_all_params(twin)) & set(get_all_params(layer))
    assert records(twin)['key'].layer is twin
    assert records(twin)['key'].V is twin.key_param
    numbers(get_all_params(layer)[::-1])
    twin.s_key.set_value(twin.s_key.get_value() + 1)
    assert not np.allclose(twin.key.eval(), layer.key.eval())


# --- expressions -------------------------------------------------------------

def test_expression_for_the_parameter():
    layer = attention()
    V = layer.key
    layer.key = 2. * V
    normalize_param(layer, 'key', axis=1)
    np.testing.assert_allclose(layer.key.eval(), 2 * V.get_value(),
                               rtol=1e-12)
    layer.g_key.set_value(np.arange(3.))
    np.testing.assert_allclose(layer.key.eval(), formula(
        2 * V.get_value(), np.arange(3.), 0))
    assert V in layer.get_params()


@pytest.mark.parametrize('train_g', [False, True])
def test_expression_for_g(train_g):
    # which add_param of Lasagne 0.1 refuses
    s = theano.shared(np.ones(3), name='s')
    layer = attention()
    g = T.exp(s) + layer.b  # b is a parameter of the layer with its own tags
    tags = set(layer.params[layer.b])
    normalize_param(layer, 'key', axis=1, g=g, train_g=train_g)
    assert layer.g_key is g and records(layer)['key'].g_param is g
    assert set(layer.get_params()) == {
        layer.key_param, layer.query, layer.b, s}
    assert (s in layer.get_params(trainable=True)) == train_g
    assert s not in layer.get_params(regularizable=True)
    assert layer.params[layer.b] == tags
    np.testing.assert_allclose(layer.key.eval(), formula(
        layer.key_param.get_value(), np.exp(1) + layer.b.get_value(), 0))
    if EXPRESSIONS:
        assert g in layer.get_params(unwrap_shared=False)


def test_shared_by_two_layers():
    V, g = theano.shared(rng().randn(5, 3)), theano.shared(np.ones(3))
    one, two = attention(), attention()
    one.key = two.key = V
    normalize_param(one, 'key', 1, g=g)
    assert two.key is V
    normalize_param(two, 'key', 1, g=g)
    g.set_value(np.arange(3.))
    np.testing.assert_array_equal(one.key.eval(), two.key.eval())
    assert get_all_params([one, two]).count(g) == 1


def test_norms_are_relative_to_each_filter():
    V = np.ones((5, 4))
    V[:, 1] = 1e-200
    l = normalize_param(DenseLayer(InputLayer((None, 5)), 4, W=V), eps=0.)
    np.testing.assert_allclose(l.W.eval(), V)
    np.testing.assert_allclose(l.g_W.get_value(), np.sqrt(5) * V[0])


def test_attributes_that_would_be_overwritten():
    for name in ('W_param', 'g_W', 's_W'):
        l = DenseLayer(InputLayer((None, 5)), 4)
        setattr(l, name, 1)
        with pytest.raises(ValueError, match='DenseLayer.* ' + name):
            normalize_param(l, 'W')
        assert getattr(l, name) == 1 and l.get_params()[0] is l.W


# --- bad input: an error, and nothing has changed ----------------------------

def refused(error, match, layer, *args, **kwargs):
    function = kwargs.pop('function', normalize_param)
    before, values = state(layer)
    with pytest.raises(error, match=match) as info:
        function(layer, *args, **kwargs)
    assert "%s 'mine'" % type(layer).__name__ in str(info.value)
    after, new_values = state(layer)
    assert after == before
    for old, new in zip(values, new_values):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize('args, error, match', [
    (('keys', 1), ValueError, "no parameter 'keys'. It has b, key, query"),
    ((7, 1), ValueError, 'no parameter 7'),
    ((['key'], 1), ValueError, r"no parameter \['key'\]"),
    (('name', 1), ValueError, "no parameter 'name'"),
    (('key',), TypeError, r'register\(Attention, key=axis\)'),
    (('key', 2), ValueError, 'key has 2 dimensions, there is no axis 2'),
    (('key', -3), ValueError, 'key has 2 dimensions, there is no axis -3'),
    (('key', Layout(0, (2,))), ValueError, 'there is no axis 2'),
    (('key', Layout(0, (-2,))), ValueError, r'\(0, -2\) of key are not diff'),
    (('key', 1.), TypeError, 'an axis is an integer, got 1.0'),
    (('key', '1'), TypeError, "an axis is an integer, got '1'"),
    (('key', 1, 'nrom'), ValueError, "form of g 'nrom' is unknown"),
    (('key', 1, 2.), TypeError, r'Gain\(2.0\)'),
    (('key', 1, np.ones(5)), ValueError, r'\(5,\), must have \(3,\)'),
    (('key', 1, np.full(3, np.nan)), ValueError, 'NaN'),
    (('key', 1, lambda shape: np.full(3, np.nan)), ValueError, 'NaN'),
    (('key', 1, Gain(per=2)), ValueError, '3 filters cannot be divided'),
    (('key', 1, Gain(-1, exp=True)), ValueError, '0 or less'),
    (('key', 1, 'norm', False, -1.), ValueError, 'eps must be a number'),
    (('key', 1, 'norm', False, np.nan), ValueError, 'eps must be a number'),
    (('key', 1, 'norm', False, None), ValueError, 'eps must be a number'),
])
def test_refused(args, error, match):
    refused(error, match, attention(name='mine'), *args)


def test_not_a_layer():
    for what in (None, 'layer', [attention()], Attention):
        with pytest.raises(TypeError, match='takes a Lasagne layer, got'):
            normalize_param(what, 'key', 1)


def test_twice():
    layer = normalize_param(attention(name='mine'), 'key', 1)
    refused(ValueError, 'key is weight-normalized already', layer, 'key', 1)
    layer = normalize_param(dense(name='mine'))
    refused(ValueError, 'already', layer)
    refused(ValueError, 'already', layer, function=weight_norm)
    layer = weight_norm(dense(name='mine')).input_layer
    refused(ValueError, 'W is weight-normalized already', layer)


def test_no_parameters():
    refused(ValueError, "no parameter 'W'. It has none",
            own_layers.Layer((None, 5), name='mine'))


def test_of_integers():
    layer = attention(name='mine')
    layer.key = theano.shared(np.ones((5, 3), int))
    refused(TypeError, 'key has dtype int64, must be floating point', layer,
            'key', 1)
    layer = dense(name='mine')
    layer.W = theano.shared(np.ones((5, 4), int))
    refused(TypeError, 'W has dtype int64', layer, function=weight_norm)


def test_of_NaN():
    layer = attention(name='mine')
    layer.key.set_value(np.full((5, 3), np.nan))
    refused(ValueError, 'key contains NaN or infinity', layer, 'key', 1)


def test_without_a_value():
    layer = attention(name='mine')
    layer.key = layer.key * T.scalar('z')
    refused(ValueError, 'key depends on z, so it has no value', layer, 'key',
            1)


def test_of_a_layer_inside():
    # is computed with there
    layer = RecurrentLayer(InputLayer((None, 4, 5)), 3, name='mine')
    refused(ValueError, r"weight_norm\(layer, params=\['W_in_to_hid'\]\)",
            layer, 'W_in_to_hid', 1)
    weight_norm(layer, params=['W_in_to_hid'])
    assert [record.layer for record in all_records([layer])] == [
        layer.input_to_hidden]
    refused(ValueError, 'inside: weight_norm', layer, 'W_in_to_hid', 1)


@pytest.mark.parametrize('kwargs, error, match', [
    ({'b': None}, TypeError, "unknown keyword 'b'. Known: g, train_g, eps, "
     'params'),
    ({'param': ['key']}, TypeError, "Did you mean 'params'"),
    ({'params': []}, ValueError, 'params is empty'),
    ({'params': 'key'}, TypeError, r"list of names, such as \['key'\], got "
     "'key'"),
    ({'params': 7}, TypeError, 'list of names'),
    ({'params': [7]}, TypeError, 'list of names'),
    ({'params': ['kye']}, ValueError, "no matrix 'kye'. Did you mean 'key'. "
     'It has key, query'),
    ({'g': np.ones(3)}, ValueError, 'one g cannot serve 2 matrices'),
    ({'g': theano.shared(np.ones(3))}, ValueError, 'one g cannot serve 2'),
    ({'g': 'exp', 'eps': -1}, ValueError, 'eps'),
])
def test_weight_norm_refuses(registered, kwargs, error, match):
    refused(error, match, attention(name='mine'), function=weight_norm,
            **kwargs)


def test_all_or_nothing(registered):
    # what is wrong with the second leaves the first
    layer = attention(name='mine')
    layer.query.set_value(np.full((5, 3), np.inf))
    refused(ValueError, 'query contains NaN or infinity', layer,
            function=weight_norm)
    layer = normalize_param(attention(name='mine'), 'query')
    refused(ValueError, 'query is weight-normalized already', layer,
            function=weight_norm)
