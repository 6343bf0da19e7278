"""Recurrent layers, whose weights are normalized outside the loop."""
import copy
import pickle
from collections import OrderedDict

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (
    Conv2DLayer, CustomRecurrentLayer, DenseLayer, GRULayer, InputLayer,
    LSTMLayer, NonlinearityLayer, RecurrentLayer, get_all_layers,
    get_all_params, get_all_param_values, get_output, set_all_param_values)
from lasagne.nonlinearities import tanh
from theano.scan_module.scan_op import Scan
from theano.tensor.elemwise import CAReduce, Elemwise

import wnorm
from ops.nets import OPS, nodes, python
from test_layers import rng, state
from wnorm import Gain, weight_norm
from wnorm.ops.weight import FilterScale, NormalizedWeight
from wnorm.parameters import all_records, records

BATCH, STEPS, INPUTS, UNITS = 2, 3, 4, 3

#: Whether this is a later Lasagne than 0.1.
LATER = hasattr(lasagne.layers, 'TransposedConv2DLayer')

LSTM = ['W_%s_to_%s' % (source, gate)
        for gate in ('ingate', 'forgetgate', 'cell', 'outgate')
        for source in ('in', 'hid')]
GRU = ['W_%s_to_%s' % (source, gate)
       for gate in ('updategate', 'resetgate', 'hidden_update')
       for source in ('in', 'hid')]


# --- layers ------------------------------------------------------------------

def gates(cls):
    return lambda incoming, **kwargs: cls(incoming, UNITS, **kwargs)


def plain_rnn(incoming, **kwargs):
    return RecurrentLayer(incoming, UNITS, nonlinearity=tanh, name='rnn',
                          W_in_to_hid=Normal(.5), W_hid_to_hid=Normal(.5),
                          **kwargs)


def dense(below, units=UNITS, **kwargs):
    return DenseLayer(below, units, nonlinearity=tanh, W=Normal(.5), **kwargs)


def custom(incoming, **kwargs):
    return CustomRecurrentLayer(
        incoming, dense(InputLayer((None, INPUTS))),
        dense(InputLayer((None, UNITS)), b=None), nonlinearity=tanh, **kwargs)


def deep(incoming, **kwargs):
    """Several layers inside."""
    return CustomRecurrentLayer(
        incoming, dense(dense(InputLayer((None, INPUTS)), 5)),
        dense(dense(InputLayer((None, UNITS)))), nonlinearity=tanh,
        **kwargs)


def convolutional(incoming, **kwargs):
    first = Conv2DLayer(InputLayer((None,) + incoming.output_shape[2:]),
                        UNITS, 2, pad='full', nonlinearity=None, W=Normal(.5))
    shape = (None,) + first.output_shape[1:]
    return CustomRecurrentLayer(
        incoming, first, Conv2DLayer(InputLayer(shape), UNITS, 3, pad='same',
                                     nonlinearity=None, W=Normal(.5)),
        nonlinearity=tanh, **kwargs)


class Kind(object):
    """A recurrent layer; the names of its weights."""

    def __init__(self, make, names, shape=(INPUTS,), axes=0):
        self.make, self.names = make, names
        self.shape, self.axes = shape, axes

    def layer(self, masked=False, **kwargs):
        """A new layer, with biases other than 0; float32 or float64."""
        lasagne.random.set_rng(np.random.RandomState(5))
        incoming = InputLayer((BATCH, STEPS) + self.shape, T.TensorType(
            theano.config.floatX, (False,) * (2 + len(self.shape)))('x'))
        if masked:
            kwargs['mask_input'] = InputLayer((BATCH, STEPS), T.constant(
                np.array([[1, 1, 1], [1, 1, 0]], theano.config.floatX)))
        layer = self.make(incoming, **kwargs)
        random = rng()
        for param in get_all_params(layer):
            if param.name.split('.')[-1] in ('b', 'hid_init', 'cell_init'):
                value = param.get_value()
                param.set_value(random.uniform(
                    -.5, .5, value.shape).astype(value.dtype))
        return layer

    def weights(self, layer):
        """Where its weights are, by name: (layer, attribute)."""
        if not isinstance(layer, CustomRecurrentLayer):
            return OrderedDict((name, (layer, name)) for name in self.names)
        holders = [below for top in (
            layer.input_to_hidden, layer.hidden_to_hidden)
            for below in get_all_layers(top) if hasattr(below, 'W')]
        assert len(holders) == len(self.names)
        return OrderedDict((name, (holder, 'W'))
                           for name, holder in zip(self.names, holders))

    def norms(self, V):
        """||V||, with the dimensions of V."""
        return np.sqrt(1e-6 + np.sum(np.square(V.astype('float64')),
                                     axis=self.axes, keepdims=True))

    def data(self):
        return rng().randn(*(BATCH, STEPS) + self.shape).astype(
            theano.config.floatX)


BOTH = ['W_in_to_hid', 'W_hid_to_hid']
KINDS = {
    'lstm': Kind(gates(LSTMLayer), LSTM),
    'gru': Kind(gates(GRULayer), GRU),
    'rnn': Kind(plain_rnn, BOTH),
    'custom': Kind(custom, BOTH),
    'deep': Kind(deep, ['W_in_to_hid_1', 'W_in_to_hid_2', 'W_hid_to_hid_1',
                        'W_hid_to_hid_2']),
    'convolutional': Kind(convolutional, BOTH, (1, 2, 2), (1, 2, 3)),
}
every_kind = pytest.mark.parametrize('kind', list(KINDS.values()),
                                     ids=list(KINDS))


def symbol(layer):
    return get_all_layers(layer)[0].input_var


def output(layer, data):
    # with an initial state below it, that is a constant
    return theano.function([symbol(layer)], get_output(layer),
                           on_unused_input='ignore')(data)


def randomize(layer):
    """Other values for V and g."""
    random = rng()
    for record in all_records([layer]):
        for param in (record.V, record.g_param):
            value = param.get_value()
            param.set_value(np.asarray(random.uniform(
                .5, 1.5, value.shape) * random.choice([-1, 1], value.shape),
                value.dtype))


# --- W -----------------------------------------------------------------------

@every_kind
@pytest.mark.parametrize('exp', [False, True])
def test_weights(kind, exp):
    layer = kind.layer()
    before = {name: getattr(holder, attribute) for name, (
        holder, attribute) in kind.weights(layer).items()}
    g = Gain('norm', exp=True) if exp else 'norm'
    assert weight_norm(layer, g=g, train_g=True) is layer
    found = all_records([layer])
    assert [record.label for record in found] == (
        kind.names if isinstance(layer, CustomRecurrentLayer) else
        [record.name for record in found])
    assert {record.label for record in found} == set(kind.names)
    for record in found:
        holder, attribute = kind.weights(layer)[record.label]
        V = before[record.label].get_value()
        assert record.layer is record.owner is holder
        assert record.name == attribute and record.V is before[record.label]
        # the default leaves the weight as it was
        np.testing.assert_allclose(record.W.eval(), V, rtol=1e-12)
        np.testing.assert_allclose(record.g.eval(), kind.norms(V).ravel())
        # under its names, on the layer that holds it and on the outer one
        for where, name in ((holder, attribute), (layer, record.label)):
            assert getattr(where, name) is record.W
            assert getattr(where, name + '_param') is record.V
            assert getattr(where, 'g_' + name) is record.g
            if exp:
                assert getattr(where, 's_' + name) is record.g_param
        assert record.V in holder.params
        assert holder.params[record.g_param] == {'trainable'}
        assert record.g_param.name.split('.')[-1] == '%s_%s' % (
            's' if exp else 'g', record.label)
    randomize(layer)
    for record in found:
        V, g = record.V.get_value(), record.g_param.get_value()
        norms = kind.norms(V)
        g = np.exp(g) if exp else g
        np.testing.assert_allclose(
            record.W.eval(), g.reshape(norms.shape) * V / norms)


@every_kind
def test_parameters(kind):
    plain = kind.layer()
    expected = [str(param) for param in get_all_params(plain)]
    layer = weight_norm(kind.layer())
    gains = [record.g_param for record in all_records([layer])]
    params = get_all_params(layer)
    assert set(gains) < set(params) and len(set(params)) == len(params)
    assert [str(param) for param in params if param not in gains] == expected
    assert not set(gains) & set(get_all_params(layer, trainable=True))
    assert not set(gains) & set(get_all_params(layer, regularizable=True))


@every_kind
def test_values_go_round(kind):
    layer, other = weight_norm(kind.layer()), weight_norm(kind.layer())
    randomize(layer)
    values = get_all_param_values(layer)
    expected = output(layer, kind.data())
    assert not np.allclose(output(other, kind.data()), expected)
    set_all_param_values(other, values)
    for got, want in zip(get_all_param_values(other), values):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(output(other, kind.data()), expected)


# --- the output stays --------------------------------------------------------

def check_output(kind, floatX='float64', **kwargs):
    layer = kind.layer(**kwargs)
    data = kind.data()
    before = output(layer, data)
    weight_norm(layer)
    function = theano.function([symbol(layer)], get_output(layer))
    after = function(data)
    assert after.shape == before.shape and after.dtype == floatX
    assert np.abs(before).max() > .01  # not because there is nothing
    np.testing.assert_allclose(after, before, rtol=0, atol=dict(
        float32=1e-6, float64=1e-12)[floatX])
    # and does change with g
    for record in all_records([layer]):
        record.g_param.set_value(2 * record.g_param.get_value())
    assert not np.allclose(function(data), before, atol=1e-4)


@every_kind
def test_output(kind, floatX):
    check_output(kind, floatX)


@pytest.mark.filterwarnings(  # by Lasagne 0.1, where it unrolls
    'ignore:stack.* interface is deprecated:DeprecationWarning')
@pytest.mark.parametrize('kwargs', [
    {'masked': True, 'learn_init': True}, {'unroll_scan': True},
    {'precompute_input': False, 'grad_clipping': 1., 'backwards': True},
    {'only_return_final': True}, {'hid_init': 'layer'}],
    ids=lambda kwargs: ', '.join(sorted(kwargs)))
@pytest.mark.parametrize('name', ['lstm', 'gru', 'rnn', 'deep'])
def test_output_with_options(name, kwargs):
    kwargs = dict(kwargs)
    if 'only_return_final' in kwargs and not LATER:
        pytest.skip('the installed Lasagne lacks only_return_final')
    if 'hid_init' in kwargs:
        value = 1. * theano.shared(np.full((BATCH, UNITS), .3))
        kwargs['hid_init'] = (  # of every sequence its own
            InputLayer((BATCH, UNITS), value) if LATER else value)
    check_output(KINDS[name], **kwargs)


def test_convolutional_with_options():
    check_output(KINDS['convolutional'], precompute_input=False,
                 backwards=True)


# --- gradients through time --------------------------------------------------

def cost_of(layer):
    """A cost without symmetries."""
    shape = (BATCH, STEPS) + layer.output_shape[2:]
    weights = np.linspace(-1, 2, np.prod(shape)).reshape(shape)
    return T.sum(T.sqr(get_output(layer) - .3) * weights)


def gradients(layer, variables, data):
    cost = cost_of(layer)
    return theano.function([symbol(layer)], [cost] + T.grad(
        cost, variables), on_unused_input='ignore')(data)


IN_THE_LOOP = {'precompute_input': False, 'backwards': True}


@pytest.mark.parametrize('name, kwargs', [(name, {}) for name in KINDS] + [
    ('lstm', {'masked': True}), ('gru', {'grad_clipping': .01}),
    ('rnn', IN_THE_LOOP), ('deep', IN_THE_LOOP), ('custom', {'masked': True}),
    ('convolutional', IN_THE_LOOP)])
def test_gradients(name, kwargs):
    # those of the plain layer with the numbers W, and the chain rule
    kind = KINDS[name]
    layer = weight_norm(kind.layer(**kwargs), train_g=True)
    randomize(layer)
    found = all_records([layer])
    variables = [variable for record in found
                 for variable in (record.V, record.g_param)]
    others = [param for param in get_all_params(layer)
              if param not in variables]
    data = kind.data()
    got = gradients(layer, variables + others, data)

    plain = kind.layer(**kwargs)
    weights, expected, own = kind.weights(plain), [], []
    for record in found:
        W = getattr(*weights[record.label])
        W.set_value(record.W.eval())
        own.append(W)
    own_others = [param for param in get_all_params(plain)
                  if param not in own]
    assert len(own_others) == len(others)
    want = gradients(plain, own + own_others, data)
    for record, dW in zip(found, want[1:]):
        V, g = record.V.get_value(), record.g_param.get_value()
        norms = kind.norms(V)
        g = g.reshape(norms.shape)
        dg = np.sum(dW * V, axis=kind.axes, keepdims=True) / norms
        expected += [g / norms * (dW - dg * V / norms), dg.ravel()]
    expected = want[:1] + expected + want[1 + len(own):]
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    assert all(np.abs(gradient).max() > 1e-6 for gradient in got[:3])


# --- the loop ----------------------------------------------------------------

def is_sum_of_squares(node):
    def is_square(v):
        if v.owner is None or not isinstance(v.owner.op, Elemwise):
            return False
        scalar = v.owner.op.scalar_op
        return isinstance(scalar, (theano.scalar.Sqr, theano.scalar.Pow)) or (
            isinstance(scalar, theano.scalar.Mul) and
            len(v.owner.inputs) == 2 and len(set(v.owner.inputs)) == 1)
    return (isinstance(node.op, CAReduce) and
            isinstance(node.op.scalar_op, theano.scalar.Add) and
            is_square(node.inputs[0]))


def loops(function):
    """For each Scan: what of a normalization is in it."""
    return [[inner for inner in theano.gof.graph.io_toposort(
        node.op.inputs, node.op.outputs)
        if isinstance(inner.op, OPS) or is_sum_of_squares(inner)]
        for node in nodes(function, Scan)]


def check_loops(name, mode=None, **kwargs):
    """No norm in a loop, forth or back, and each weight's but once."""
    kind = KINDS[name]
    layer = weight_norm(kind.layer(**kwargs), train_g=True)
    cost = cost_of(layer)
    function = theano.function([symbol(layer)], [cost] + T.grad(
        cost, get_all_params(layer, trainable=True)), mode=mode)
    assert loops(function) == [[], []]
    assert len(nodes(function, NormalizedWeight, FilterScale)) == len(
        kind.names)


@pytest.mark.parametrize('precompute', [True, False])
@pytest.mark.parametrize('name', list(KINDS))
def test_the_norm_is_taken_once(name, precompute):
    check_loops(name, precompute_input=precompute)


@pytest.mark.parametrize('name, kwargs', [
    ('rnn', {}),
    pytest.param('rnn', {'precompute_input': False}, marks=pytest.mark.slow),
    pytest.param('gru', {}, marks=pytest.mark.slow),
    pytest.param('lstm', {'peepholes': False}, marks=pytest.mark.slow)])
def test_the_norm_is_taken_once_in_fast_run(name, kwargs):
    check_loops(name, python(), **kwargs)


def test_the_norm_in_the_loop_is_found():
    # by the tests above: of layers inside that are normalized on their own,
    # and of a formula
    layer = CustomRecurrentLayer(
        InputLayer((BATCH, STEPS, INPUTS), T.tensor3('x')),
        dense(InputLayer((None, INPUTS))),
        weight_norm(dense(InputLayer((None, UNITS)))))
    function = theano.function([symbol(layer)], get_output(layer))
    assert [type(node.op) for node in loops(function)[0]] == [
        NormalizedWeight]
    V = theano.shared(np.ones((3, 3)))
    W = V / T.sqrt(T.sum(T.sqr(V), axis=0))
    result, _ = theano.scan(lambda h: T.tanh(T.dot(h, W)),
                            outputs_info=[T.ones((2, 3))], n_steps=3)
    assert len(loops(theano.function([], result))[0]) == 1


@every_kind
def test_layers_inside_are_as_they_were(kind):
    # after each output: whoever asks them for their parameters gets these
    layer = weight_norm(kind.layer())
    before = get_all_params(layer)
    get_output(layer)
    with pytest.raises(Exception):
        layer.get_output_for([])
    assert get_all_params(layer) == before
    assert all('get_params' not in vars(record.layer)
               for record in all_records([layer]))


# --- which -------------------------------------------------------------------

@pytest.mark.parametrize('name, params', [
    ('lstm', ['W_hid_to_cell', 'W_in_to_outgate']), ('gru', GRU[2:3]),
    ('rnn', ['W_hid_to_hid']), ('deep', ('W_hid_to_hid_2', 'W_in_to_hid_1')),
    ('convolutional', ['W_in_to_hid'])])
def test_params(name, params):
    kind = KINDS[name]
    layer = kind.layer()
    data = kind.data()
    before = output(layer, data)
    weight_norm(layer, params=params)
    assert {record.label for record in all_records([layer])} == set(params)
    np.testing.assert_allclose(output(layer, data), before, atol=1e-12)
    # the others later on
    rest = [name for name in kind.names if name not in params]
    weight_norm(layer, params=rest, g='exp', eps=0)
    assert len(all_records([layer])) == len(kind.names)
    assert not np.allclose(output(layer, data), before, atol=1e-4)
    for name in kind.names:
        assert hasattr(layer, 's_' + name) == (name in rest)


def test_twice_named_once_normalized():
    layer = KINDS['rnn'].layer()
    V = layer.W_in_to_hid
    weight_norm(layer, params=['W_in_to_hid'] * 2)
    assert layer.W_in_to_hid_param is V and len(all_records([layer])) == 1


def test_one_net_for_input_and_state():
    # is normalized once
    inner = dense(InputLayer((None, UNITS)))
    layer = CustomRecurrentLayer(
        InputLayer((BATCH, STEPS, UNITS), T.tensor3('x')), inner, inner)
    data = rng().randn(BATCH, STEPS, UNITS)
    before = output(layer, data)
    weight_norm(layer)
    assert [record.label for record in all_records([layer])] == [
        'W_in_to_hid']
    np.testing.assert_allclose(output(layer, data), before, atol=1e-12)


def test_gain_of_one_matrix():
    g = np.arange(1., 1 + UNITS)
    layer = weight_norm(KINDS['lstm'].layer(), params=['W_hid_to_cell'], g=g)
    np.testing.assert_array_equal(layer.g_W_hid_to_cell.get_value(), g)


@pytest.mark.parametrize('g', [None, 'exp', Gain(2, 'layer'), Constant(3.)])
@pytest.mark.parametrize('name', ['gru', 'convolutional'])
def test_forms(name, g):
    kind = KINDS[name]
    layer = weight_norm(kind.layer(), g=g, eps=0.)
    value = {'exp': 1}.get(g) if isinstance(g, str) else {
        type(None): 1, Gain: 2, Constant: 3}[type(g)]
    for record in all_records([layer]):
        W = record.W.eval()
        np.testing.assert_allclose(np.sqrt(np.sum(
            W ** 2, axis=kind.axes)), value)


@pytest.mark.parametrize('copier', [
    copy.deepcopy, lambda l: pickle.loads(pickle.dumps(l, -1))],
    ids=['deepcopy', 'pickle'])
@pytest.mark.parametrize('name', ['gru', 'rnn'])
def test_copies(name, copier):
    kind = KINDS[name]
    layer = weight_norm(kind.layer())
    randomize(layer)
    twin = copier(layer)
    expected = output(layer, kind.data())
    np.testing.assert_array_equal(output(twin, kind.data()), expected)
    assert not set(get_all_params(twin)) & set(get_all_params(layer))
    for record in all_records([twin]):
        record.g_param.set_value(2 * record.g_param.get_value())
    assert not np.allclose(output(twin, kind.data()), expected)
    np.testing.assert_array_equal(output(layer, kind.data()), expected)


def test_data_dependent_initialization_leaves_it():
    kind = KINDS['lstm']
    layer = weight_norm(kind.layer(), g='exp')
    before = get_all_param_values(layer)
    top = weight_norm(DenseLayer(layer, 4))
    wnorm.initialize(top, kind.data())
    for old, new in zip(before, get_all_param_values(layer)):
        np.testing.assert_array_equal(old, new)


# --- bad input: an error, and nothing has changed ----------------------------

def everything(layer):
    inside = []
    if isinstance(layer, CustomRecurrentLayer):
        inside = get_all_layers([layer.input_to_hidden,
                                 layer.hidden_to_hidden])
    return [state(one)[0] for one in [layer] + inside]


def refused(error, match, layer, **kwargs):
    before, values = everything(layer), get_all_param_values(layer)
    with pytest.raises(error, match=match) as info:
        weight_norm(layer, **kwargs)
    assert everything(layer) == before
    for old, new in zip(values, get_all_param_values(layer)):
        np.testing.assert_array_equal(old, new)
    return str(info.value)


@pytest.mark.parametrize('name', ['lstm', 'deep'])
@pytest.mark.parametrize('kwargs, error, match', [
    ({'b': Constant(0.)}, TypeError, "unknown keyword 'b'. Known: g, "
     "train_g, eps, params"),
    ({'nonlinearity': tanh}, TypeError, "unknown keyword 'nonlinearity'"),
    ({'init_stdv': 2.}, TypeError, "unknown keyword 'init_stdv'"),
    ({'W': Constant(1.)}, TypeError, "unknown keyword 'W'"),
    ({'pramas': ['W']}, TypeError, "'pramas'. Did you mean 'params'"),
    ({'params': []}, ValueError, 'params is empty'),
    ({'params': 'W_in_to_hid'}, TypeError, 'params is a list of names'),
    ({'params': None, 'g': np.ones(UNITS)}, ValueError,
     r'one g cannot serve \d matrices: give an initializer, or name one'),
    ({'g': theano.shared(np.ones(UNITS))}, ValueError, 'one g cannot serve'),
    ({'g': 'nrom'}, ValueError, "form of g 'nrom' is unknown"),
    ({'g': 2.}, TypeError, r'Gain\(2.0\)'),
    ({'g': Gain(per=2)}, ValueError, 'cannot be divided into 2 groups'),
    ({'g': Gain(-1, exp=True)}, ValueError, '0 or less'),
    ({'g': lambda shape: np.full(shape, np.nan)}, ValueError, 'NaN'),
    ({'eps': -1.}, ValueError, 'eps must be a number'),
])
def test_refused(name, kwargs, error, match):
    layer = KINDS[name].layer()
    message = refused(error, match, layer, **kwargs)
    assert message.startswith(type(layer).__name__)


@every_kind
def test_unknown_name(kind):
    name = kind.names[0]
    layer = kind.layer()
    message = refused(
        ValueError, r"no matrix '%sx'. Did you mean '%s'\? It has .*%s" % (
            name, name, kind.names[-1]), layer,
        params=[kind.names[1], name + 'x'])
    assert type(layer).__name__ in message


@every_kind
def test_twice(kind):
    layer = weight_norm(kind.layer())
    refused(ValueError, 'weight-normalized already', layer)
    layer = weight_norm(kind.layer(), params=kind.names[-1:])
    refused(ValueError, 'weight-normalized already', layer)
    assert len(all_records([layer])) == 1


@every_kind
def test_all_or_nothing(kind):
    # what is wrong with the last leaves the first
    layer = kind.layer()
    W = getattr(*kind.weights(layer)[kind.names[-1]])
    W.set_value(np.full_like(W.get_value(), np.nan))
    refused(ValueError, 'contains NaN', layer)
    assert not records(layer)


def test_nothing_to_normalize():
    layer = CustomRecurrentLayer(
        InputLayer((BATCH, STEPS, UNITS)), *[
            NonlinearityLayer(InputLayer((None, UNITS))) for _ in range(2)])
    refused(ValueError, 'has no weight to normalize', layer)
