"""weight_norm_network."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (
    ConcatLayer, CustomRecurrentLayer, DenseLayer, ElemwiseSumLayer, GRULayer,
    InputLayer, LSTMLayer, Layer, NonlinearityLayer, RecurrentLayer,
    ReshapeLayer, dnn, get_all_layers, get_all_params, get_output)
from lasagne.nonlinearities import identity, rectify, tanh

from wnorm import Gain, WeightNormLayer, initialize, weight_norm
from wnorm.networks import weight_norm_network
from wnorm.nn.weightnorm import InitLayer, no_norm
from wnorm.parameters import all_records, records, with_inner_layers


def rng():
    return np.random.RandomState(0)


def randomize(net):
    """Other values than the initial ones, biases included."""
    random = rng()
    for param in get_all_params(net):
        value = param.get_value()
        param.set_value(.5 * random.randn(*value.shape).astype(value.dtype))


def evaluate(net, *data):
    """The outputs, given one array per input layer."""
    outputs = net if isinstance(net, list) else [net]
    inputs = [layer.input_var for layer in get_all_layers(outputs)
              if isinstance(layer, InputLayer)]
    return theano.function(inputs, get_output(outputs))(*data)


def residual():
    """Convolutions, a sum, a concatenation, recurrence; three outputs."""
    x = InputLayer((None, 2, 4, 4), T.tensor4('x'))
    first = dnn.Conv2DDNNLayer(x, 3, 3, pad=1, name='first')
    l = dnn.Conv2DDNNLayer(first, 3, 3, pad=1, b=None, name='second')
    total = ElemwiseSumLayer([first, l])
    left = dnn.Conv2DDNNLayer(total, 2, 1, nonlinearity=tanh,
                              untie_biases=True)
    l = ConcatLayer([left, total, first])
    steps = ReshapeLayer(l, ([0], 8, -1))
    l = LSTMLayer(steps, 3)
    hidden = DenseLayer(ConcatLayer([l, RecurrentLayer(steps, 2)], axis=2), 5,
                        name='hidden')
    return [DenseLayer(hidden, 3, nonlinearity=None), hidden, left]


def image():
    return rng().randn(6, 2, 4, 4).astype(theano.config.floatX)


def dense(*units):
    l = InputLayer((None, 4), T.matrix('x'))
    for number, n in enumerate(units or (5, 3), 1):
        l = DenseLayer(l, n, name='fc%d' % number)
    return l


def snapshot(net):
    """All that must not change when an error is raised."""
    outputs = net if isinstance(net, list) else [net]
    state = []
    for layer in with_inner_layers(get_all_layers(outputs)):
        state.append((layer, {
            name: id(value) for name, value in vars(layer).items()}))
        state.append(list(getattr(layer, 'input_layers', [])))
        state.append([(param, set(tags), param.get_value().tolist())
                      for param, tags in layer.params.items()])
    return state, [str(part) for part in lasagne.random.get_rng().get_state()]


# --- the function stays what it was ----------------------------------------

@pytest.mark.parametrize('g', ['norm', Gain('norm', exp=True)])
def test_outputs_of_a_residual_net_are_unchanged(floatX, g):
    net = residual()
    randomize(net)
    before = evaluate(net, image())
    wrapped = weight_norm_network(net, g=g, train_g=True)
    assert [type(layer) for layer in wrapped] == [WeightNormLayer] * 3
    assert [layer.input_layer for layer in wrapped] == net
    for old, new in zip(before, evaluate(wrapped, image())):
        assert new.dtype == floatX
        # relative to the largest
        np.testing.assert_allclose(new, old, rtol=0, atol=abs(old).max() *
                                   dict(float32=1e-6, float64=1e-12)[floatX])
    # 5 layers, 8 matrices of the LSTM, 2 of the RecurrentLayer
    assert len(all_records(get_all_layers(wrapped))) == 15
    trainable = get_all_params(wrapped, trainable=True)
    assert all(record.g_param in trainable
               for record in all_records(get_all_layers(wrapped)))


def test_every_consumer_takes_the_wrapper():
    net = residual()
    before = get_all_layers(net)
    wrapped = weight_norm_network(net)
    after = get_all_layers(wrapped)
    wrappers = [l for l in after if isinstance(l, WeightNormLayer)]
    inner = [l.input_layer for l in wrappers]
    assert [l for l in after if l not in wrappers] == before
    assert [type(l) for l in inner] == [
        type(l) for l in before if type(l) in (DenseLayer,
                                               dnn.Conv2DDNNLayer)]
    for layer in before:
        for below in getattr(layer, 'input_layers',
                             [getattr(layer, 'input_layer', None)]):
            assert below not in inner
    for layer in inner:
        assert layer.b is None and layer.nonlinearity is identity


# Lasagne master hands `init` to the nets inside a RecurrentLayer, and warns
@pytest.mark.filterwarnings('ignore:get_output.. was called with unused')
def test_initialize_works_afterwards():
    net = weight_norm_network(residual(), train_g=True)
    initialize(net, image())
    for layer in get_all_layers(net):
        if isinstance(layer, WeightNormLayer):
            layer.nonlinearity = identity
            t = evaluate(layer, image())[0]
            layer.nonlinearity = tanh if layer is net[2] else rectify
            axes = layer.axes_to_sum
            np.testing.assert_allclose(t.mean(axis=axes), 0, atol=1e-10)
            np.testing.assert_allclose(t.std(axis=axes), 1, rtol=1e-6)


def test_options():
    net = weight_norm_network(
        dense(5, 3), W=Constant(2.), b=Constant(1.), g=Gain(3., per='layer'),
        train_g=True, init_stdv=.5, eps=0.)
    below = net.input_layer.input_layer
    for layer, sizes in (net, (5, 3)), (below, (4, 5)):
        V = layer.input_layer.W_param.get_value()
        assert V.shape == sizes and (V == 2).all()
        assert (layer.b.get_value() == 1).all()
        assert layer.g.get_value() == 3 and layer.train_g
        assert layer.init_stdv == .5 and layer.eps == 0.
        assert layer.nonlinearity is rectify


def test_as_it_comes():
    # that of weight_norm: g = 1, b = 0 for layers, 'norm' for matrices
    l = LSTMLayer(InputLayer((None, 3, 4), T.tensor3('x')), 2)
    net = DenseLayer(l, 5, b=Constant(7.), name='out')
    wrapped = weight_norm_network(net)
    assert (wrapped.b.get_value() == 0).all()
    assert (wrapped.g.get_value() == 1).all()
    V = l.W_in_to_cell_param.get_value()
    np.testing.assert_allclose(l.g_W_in_to_cell.get_value(),
                               np.sqrt(1e-6 + (V ** 2).sum(axis=0)))


def test_recurrent_layers_take_what_applies():
    l = GRULayer(InputLayer((None, 3, 4), T.tensor3('x')), 2)
    net = weight_norm_network(DenseLayer(l, 5), g=None, eps=0.,
                              b=Constant(1.), W=Normal(1.), init_stdv=2.)
    V = l.W_in_to_updategate_param.get_value()
    np.testing.assert_allclose(l.W_in_to_updategate.eval(),
                               V / np.sqrt((V ** 2).sum(axis=0)))
    assert net.init_stdv == 2. and net.g is None
    # only a recurrent layer: it is the output still
    assert weight_norm_network(GRULayer(l, 3)).input_layers == [l]


def test_a_list_gives_a_list():
    l = dense(5)
    net = NonlinearityLayer(l)
    wrapped = weight_norm_network((net, l, net))
    assert wrapped == [net, net.input_layer, net]
    assert isinstance(net.input_layer, WeightNormLayer)


# --- which layers ------------------------------------------------------------

def test_where():
    net = dense(5, 4, 3)
    asked = []

    def where(layer):
        asked.append(layer.name)
        return layer.name != 'fc2'

    wrapped = weight_norm_network(net, where)
    assert asked == ['fc1', 'fc2', 'fc3']
    kinds = [type(l) for l in get_all_layers(wrapped)]
    assert kinds == [InputLayer, DenseLayer, WeightNormLayer, DenseLayer,
                     DenseLayer, WeightNormLayer]
    wrapped = weight_norm_network(wrapped)  # the rest
    kinds = [type(l) for l in get_all_layers(wrapped)]
    assert kinds == [InputLayer] + 3 * [DenseLayer, WeightNormLayer]


def test_what_is_normalized_already_is_left_out():
    l = weight_norm(dense(5), train_g=True, g=Gain(2.))
    lstm = weight_norm(LSTMLayer(ReshapeLayer(l, ([0], 5, 1)), 2),
                       params=['W_in_to_cell'])
    kept = [l.g, lstm.g_W_in_to_cell]
    net = weight_norm_network(DenseLayer(lstm, 3), g=None)
    found = [type(layer) for layer in get_all_layers(net)]
    assert found.count(WeightNormLayer) == 2
    assert [l.g, lstm.g_W_in_to_cell] == kept
    assert len(records(lstm)) == 8
    assert [name for name in records(lstm)
            if records(lstm)[name].g is not None] == ['W_in_to_cell']


def test_what_has_a_gain_without_norms_is_left_out():
    l = no_norm(dense(5))
    net = weight_norm_network(DenseLayer(l, 3))
    found = [type(layer) for layer in get_all_layers(net)]
    assert found.count(InitLayer) == found.count(WeightNormLayer) == 1


def test_twice():
    net = weight_norm_network(dense())
    before = snapshot(net)
    with pytest.raises(ValueError, match=(
            r"up to WeightNormLayer \(None, 3\): all layers that could be, 2 "
            'of them, are weight-normalized already')):
        weight_norm_network(net)
    assert snapshot(net) == before


class Unknown(Layer):
    def __init__(self, incoming, **kwargs):
        super(Unknown, self).__init__(incoming, **kwargs)
        self.W = self.add_param(Normal(), (self.input_shape[1],), name='W')

    def get_output_for(self, input, **kwargs):
        return input * self.W


def test_unknown_classes_are_left_out():
    l = Unknown(dense(5), name='mine')
    net = weight_norm_network(DenseLayer(l, 3))
    assert not records(l) and isinstance(l.input_layer, WeightNormLayer)
    assert l.input_layer.input_layer.W_param in get_all_params(net)


# --- graphs that are more than a chain --------------------------------------

def test_layers_that_share_V():
    x = InputLayer((None, 4), T.matrix('x'))
    one, other = DenseLayer(x, 4), DenseLayer(x, 4)
    other.params[one.W] = other.params.pop(other.W)
    V = other.W = one.W
    net = [ElemwiseSumLayer([one, other])]
    randomize(net)
    data = rng().randn(3, 4)
    before = evaluate(net, data)
    wrapped = weight_norm_network(net, g='norm')
    np.testing.assert_allclose(evaluate(wrapped, data), before, atol=1e-12)
    assert one.W_param is other.W_param is V
    a, b = net[0].input_layers
    assert a.g is not b.g
    a.g.set_value(2 * a.g.get_value())
    np.testing.assert_allclose(one.W.eval(), 2 * other.W.eval())


def autoencoder():
    """The decoder's weight is the transpose of the encoder's."""
    encoder = dense(3)
    decoder = DenseLayer(encoder, 4, name='decoder')
    decoder.params[encoder.W] = decoder.params.pop(decoder.W)
    decoder.W = encoder.W.T
    return encoder, decoder


def test_transposed_weights():
    encoder, decoder = autoencoder()
    randomize(decoder)
    data, V = rng().randn(3, 4), encoder.W
    before = evaluate(decoder, data)
    net = weight_norm_network(decoder, g='norm')
    np.testing.assert_allclose(evaluate(net, data), before, atol=1e-12)
    # each is normalized over its own filters, of the one V
    V.set_value(rng().randn(4, 3))
    for layer, value, g in (
            (encoder, V.get_value(), net.input_layer.input_layer.g),
            (decoder, V.get_value().T, net.g)):
        np.testing.assert_allclose(layer.W.eval(), g.get_value() * value /
                                   np.sqrt(1e-6 + (value ** 2).sum(axis=0)))


def test_masks_and_initial_states():
    x = InputLayer((4, 3, 2), T.tensor3('x'))
    start = DenseLayer(InputLayer((4, 5), T.matrix('s')), 2)
    mask = InputLayer((4, 3), T.matrix('mask'))
    try:
        layers = [LSTMLayer(x, 2, hid_init=start, cell_init=start,
                            mask_input=mask),
                  GRULayer(x, 2, hid_init=start),
                  RecurrentLayer(x, 2, hid_init=start, mask_input=mask)]
    except Exception:
        pytest.skip('the installed Lasagne lacks layers as initial states')
    net = ConcatLayer(layers, axis=2)
    randomize(net)
    random = rng()
    data = {x: random.randn(4, 3, 2), start.input_layer: random.randn(4, 5),
            mask: (random.rand(4, 3) < .7).astype('float64')}

    def output():
        return get_output(net, data).eval()

    before = output()
    assert weight_norm_network(net, g='norm') is net
    np.testing.assert_allclose(output(), before, atol=1e-12)
    for layer in layers:
        assert layer.hid_init in layer.input_layers
        assert layer.hid_init.input_layer is start
    assert layers[0].cell_init is layers[0].hid_init
    assert layers[0].input_layers[1] is mask


def test_mask_of_a_layer():
    # a mask that is computed by a layer which is wrapped
    x = InputLayer((None, 3, 2), T.tensor3('x'))
    mask = DenseLayer(x, 3, nonlinearity=lasagne.nonlinearities.sigmoid)
    l = LSTMLayer(x, 2, mask_input=mask)
    randomize(l)
    data = rng().randn(4, 3, 2)
    before = evaluate(l, data)
    assert weight_norm_network(l, g='norm') is l
    assert l.input_layers[1].input_layer is mask
    np.testing.assert_allclose(evaluate(l, data), before, atol=1e-12)


def test_inverse_layers():
    if not hasattr(lasagne.layers, 'InverseLayer'):
        pytest.skip('the installed Lasagne lacks InverseLayer')
    l = dense(5, 3)
    first, second = l.input_layer, l
    for layer in (second, first):
        l = lasagne.layers.InverseLayer(l, layer)
    randomize(l)
    data = rng().randn(3, 4)
    before = evaluate(l, data)
    assert weight_norm_network(l, g='norm') is l
    np.testing.assert_allclose(evaluate(l, data), before, atol=1e-12)
    assert l.input_layers[1].input_layer is first


def test_batch_normalized_layers():
    if not hasattr(lasagne.layers, 'batch_norm'):
        pytest.skip('the installed Lasagne lacks batch_norm')
    l = lasagne.layers.batch_norm(dense(5))
    net = DenseLayer(l, 3)
    randomize(net)
    data = rng().randn(6, 4)
    before = evaluate(net, data)
    wrapped = weight_norm_network(net, g='norm')
    np.testing.assert_allclose(evaluate(wrapped, data), before, atol=1e-12)
    assert [type(layer).__name__ for layer in get_all_layers(wrapped)] == [
        'InputLayer', 'DenseLayer', 'WeightNormLayer', 'BatchNormLayer',
        'NonlinearityLayer', 'DenseLayer', 'WeightNormLayer']


def test_nets_inside_recurrent_layers_belong_to_these():
    # here to two of them
    x = InputLayer((None, 3, 4), T.tensor3('x'))
    to_hid = DenseLayer(InputLayer((None, 4)), 2)
    hid = DenseLayer(InputLayer((None, 2)), 2, name='hid')
    both = [CustomRecurrentLayer(x, to_hid, hid, backwards=backwards)
            for backwards in (False, True)]
    net = ConcatLayer(both, axis=2)
    randomize(net)
    data = rng().randn(4, 3, 4)
    before = evaluate(net, data)
    assert weight_norm_network(net, g='norm', train_g=True) is net
    assert len(records(to_hid)) == len(records(hid)) == 1
    assert both[0].hidden_to_hidden is hid and hid.b is not None
    np.testing.assert_allclose(evaluate(net, data), before, atol=1e-12)
    hid.g_W.set_value(np.ones(2))  # both go by it
    changed = evaluate(net, data)[0]
    assert (abs(changed - before[0]).max(axis=(0, 1)) > 1e-3).all()


# --- all or nothing ----------------------------------------------------------

def fails_at(number, error=ValueError('from the initializer')):
    """An initializer that fails when it is called for the `number`-th time."""
    calls = []

    def init(shape):
        calls.append(shape)
        if len(calls) == number:
            raise error
        return Normal()(shape)
    return init


@pytest.mark.parametrize('options, error, message', [
    (dict(g='nrm'), ValueError, "fc1' .*the form of g 'nrm' is unknown"),
    (dict(g=Gain(per=3)), ValueError,
     r"fc1' \(None, 5\): 5 filters cannot be divided into 3 groups"),
    (dict(g=Gain(per=5)), ValueError,
     r"fc2' \(None, 3\): 3 filters cannot be divided into 5 groups"),
    (dict(b=np.zeros(5)), ValueError, r"fc2' .*: b has shape \(5,\), must"),
    (dict(init_stdv=[1.] * 5), ValueError, "fc2' .*init_stdv has shape"),
    (dict(init_stdv=0), ValueError, 'init_stdv must be positive'),
    (dict(eps=-1), ValueError, 'eps must be a number'),
    (dict(W=np.ones((4, 5))), ValueError, r"fc2' .*W has shape \(4, 5\)"),
    (dict(W=fails_at(2)), ValueError, 'from the initializer'),
    (dict(g=fails_at(2), W=Normal()), ValueError, 'from the initializer'),
    (dict(b=fails_at(2, KeyboardInterrupt()), W=Normal()),
     KeyboardInterrupt, None),
    (dict(g=theano.shared(np.ones(5))), ValueError,
     'one g cannot serve the 2 weights of this network'),
    (dict(g=Gain(T.ones(5))), ValueError, 'one g cannot serve'),
    (dict(b=theano.shared(np.ones(5))), ValueError,
     'one b cannot serve the 2 weights'),
    (dict(trian_g=True), TypeError, "unknown keyword 'trian_g'. Did you mean "
     "'train_g'"),
    (dict(params=['W']), TypeError,
     "unknown keyword 'params'. Known: where, b, g"),
    (dict(nonlinearity=tanh), TypeError,
     'nonlinearity is not one for all layers: each has its own'),
    (dict(name='x'), TypeError, 'name is not one for all layers'),
    (dict(where=[1]), TypeError, 'where must be a function of a layer'),
    (dict(where=lambda layer: False), ValueError,
     'nothing to normalize .*: where returned False for all 2 that could be'),
    (dict(where=lambda layer: layer.nam), AttributeError, 'nam'),
])
def test_nothing_changes_on_an_error(options, error, message):
    net = dense(5, 3)
    before = snapshot(net)
    with pytest.raises(error, match=message):
        weight_norm_network(net, **options)
    assert snapshot(net) == before


def test_nothing_changes_on_an_error_after_recurrent_layers():
    x = InputLayer((None, 3, 4), T.tensor3('x'))
    l = ConcatLayer([LSTMLayer(x, 2), RecurrentLayer(x, 2)], axis=2)
    net = DenseLayer(DenseLayer(l, 5, name='fc'), 5, name='out')
    before = snapshot(net)
    with pytest.raises(ValueError, match='from the initializer'):
        weight_norm_network(net, g='norm', W=fails_at(2))
    assert snapshot(net) == before
    data = rng().randn(2, 3, 4)
    expected = evaluate(net, data)
    with pytest.raises(ValueError, match='LSTMLayer.*one g cannot serve 8'):
        weight_norm_network(net, g=np.ones(2))
    assert snapshot(net) == before
    # and a second attempt succeeds
    net = weight_norm_network(net, g='norm')
    np.testing.assert_allclose(evaluate(net, data), expected, atol=1e-12)


def test_one_g_for_one_layer():
    g = theano.shared(np.full(3, 2.))
    net = weight_norm_network(dense(5, 3), lambda l: l.name == 'fc2', g=g)
    assert net.g is g


def test_W_of_layers_that_share_V():
    net = autoencoder()[1]
    before = snapshot(net)
    with pytest.raises(ValueError, match=(
            "W would be set twice: DenseLayer 'fc1' .* and DenseLayer "
            "'decoder' .* share it. Leave W out")):
        weight_norm_network(net, W=Normal())
    assert snapshot(net) == before


@pytest.mark.parametrize('net', [[], None, 'net', [3], [dense(), None]])
def test_no_network(net):
    with pytest.raises((TypeError, ValueError),
                       match='a network is a layer or a list of output'):
        weight_norm_network(net)


def test_no_layer_of_a_known_class():
    x = InputLayer((None, 4), T.matrix('x'))
    with pytest.raises(ValueError, match=(
            r'nothing to normalize in the network up to NonlinearityLayer '
            r'\(None, 4\): no layer is of a class with a known filter axis.'
            '$')):
        weight_norm_network(NonlinearityLayer(x))
    net = Unknown(x, name='mine')
    with pytest.raises(ValueError, match=(
            r"Tell it once, for Unknown 'mine' \(None, 4\): "
            r'wnorm.register\(Unknown, W=axis\)')):
        weight_norm_network(net)
