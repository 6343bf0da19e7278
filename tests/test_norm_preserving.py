"""Norm-preserving initialization, without data."""
import warnings

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import (
    ConcatLayer, CustomRecurrentLayer, DenseLayer, DropoutLayer,
    ElemwiseMergeLayer, ElemwiseSumLayer, GRULayer, InputLayer, Layer,
    LSTMLayer, NINLayer, NonlinearityLayer, RecurrentLayer, dnn,
    get_all_layers, get_all_params, get_output)
from lasagne.nonlinearities import (
    LeakyRectify, identity, rectify, sigmoid, softmax, tanh,
    very_leaky_rectify)

import wnorm
import wnorm.nn
from layouts import CASES, every_layout
from own_layers import TransposedConvLayer
from wnorm import (
    Gain, WeightNormLayer, initialize_norm_preserving, normalize_param,
    weight_norm)


def rng():
    return np.random.RandomState(0)


def dense(incoming, units, nonlinearity=rectify, **options):
    return weight_norm(DenseLayer(incoming, units, nonlinearity=nonlinearity),
                       **options)


def nin(incoming, units, nonlinearity=rectify):
    return weight_norm(NINLayer(incoming, units, nonlinearity=nonlinearity))


def gains(net, **options):
    return [row.gain for row in initialize_norm_preserving(net, **options)]


def kinds(net):
    return [row.kind for row in initialize_norm_preserving(net)]


def everything(net):
    """All values, and what Lasagne's generator would draw next."""
    values = [param.get_value() for param in get_all_params(net)]
    return values + list(lasagne.random.get_rng().get_state()[1:3])


def is_refused(net, error, *words, **options):
    before = everything(net)
    with pytest.raises(error) as info:
        initialize_norm_preserving(net, **options)
    for word in words:
        assert word in str(info.value)
    for old, new in zip(before, everything(net)):
        np.testing.assert_array_equal(old, new)


def as_matrices(V, case):
    """(positions, filters, weights)"""
    axis = case.filter_axis
    rest = [i for i in range(V.ndim) if i != axis and i not in
            np.atleast_1d(case.norm_axes)]
    V = V.transpose(rest + [axis] + list(np.atleast_1d(case.norm_axes)))
    return V.reshape((int(np.prod(V.shape[:len(rest)])), V.shape[len(rest)],
                      -1))


# --- one layer ---------------------------------------------------------------

#: channels times extent: of what a unit sees, and of what sees a unit
FANS = {
    'dense': (5, 4), 'dense of one unit': (5, 1), 'dense on images': (18, 4),
    'dense, 2 leading axes': (4, 4), 'dense, -1 leading axes': (4, 4),
    'nin': (3, 4), 'nin on sequences': (3, 4), 'conv1d': (2 * 3, 4 * 3),
    'conv2d': (3 * 4, 4 * 4), 'conv2d plain': (2 * 9, 4 * 9),
    'conv2d 1x1': (3, 4), 'conv2d grouped': (2 * 4, 2 * 4),
    'conv3d': (2 * 8, 3 * 8), 'conv3d dnn': (2 * 8, 3 * 8),
    'transposed2d': (3 * 4, 4 * 4), 'transposed3d': (2 * 8, 3 * 8),
    'dilated2d': (3 * 4, 4 * 4), 'deconv of nn.py': (3 * 9, 4 * 9),
    'local': (2 * 9, 4 * 9), 'local channelwise': (9, 9), 'embedding': (6, 4)}


@every_layout
def test_layouts(case, floatX):
    plain = case.layer()
    l = weight_norm(plain, b=lasagne.init.Constant(3.), nonlinearity=rectify)
    row, = initialize_norm_preserving(l)
    assert row.layer is l and row.name == 'W' and row.kind == 'plain'
    assert (row.fan_in, row.fan_out) == FANS[case.name]
    # a deconvolution of stride 2: a weight in 4 meets an input
    gain = 8 if case.name == 'deconv of nn.py' else 2
    g = np.sqrt(gain * row.fan_in / row.fan_out)
    assert row.gain == gain and row.g == pytest.approx(g, rel=1e-12)
    assert l.g.get_value().dtype == plain.W_param.get_value().dtype == floatX
    np.testing.assert_allclose(l.g.get_value(), g, rtol=1e-6)
    assert (l.b.get_value() == 0).all()
    V = as_matrices(plain.W_param.get_value().astype('float64'), case)
    groups = getattr(plain, 'num_groups', 1)
    if case.name == 'local channelwise':  # each filter has its own input
        groups = V.shape[1]
    for position in V:
        for group in np.split(position, groups):
            product = (group.dot(group.T) if len(group) <= group.shape[1] else
                       group.T.dot(group))
            np.testing.assert_allclose(product, np.eye(len(product)),
                                       atol=1e-5)
    W = as_matrices(plain.W.eval(), case)
    np.testing.assert_allclose(np.linalg.norm(W, axis=2), g, rtol=1e-4)


def convolution(filters, **options):
    return lambda l: dnn.Conv2DDNNLayer(l, filters, 3, b=None, **options)


def upsampling(l):
    return wnorm.nn.Deconv2DLayer(l, (None, 8, 18, 18), 3)


def grouped(l):
    if not hasattr(lasagne.layers, 'TransposedConv2DLayer'):
        pytest.skip('the installed Lasagne lacks num_groups')
    return dnn.Conv2DDNNLayer(l, 12, 3, num_groups=2)


@pytest.mark.parametrize('make', [
    convolution(12), convolution(4, stride=2), upsampling, grouped,
    lambda l: NINLayer(l, 3), lambda l: TransposedConvLayer(l, 5, 3)])
@pytest.mark.parametrize('phi', [rectify, LeakyRectify(.5), identity])
def test_norm_of_the_channels_at_one_position(make, phi):
    plain = make(InputLayer((None, 6, 9, 9)))
    plain.nonlinearity = phi
    l = weight_norm(plain)
    x = rng().randn(4, 6, 9, 9)
    y = get_output(l, T.constant(x))
    f = theano.function([], y)
    ratios = []
    for _ in range(15):
        initialize_norm_preserving(l)
        out = f()
        if isinstance(plain, (TransposedConvLayer,
                              wnorm.nn.Deconv2DLayer)):  # without borders
            out = out[:, :, 2:-2, 2:-2]
        ratios.append(np.mean(np.sum(out ** 2, 1)) /
                      np.mean(np.sum(x ** 2, 1)))
    assert abs(np.mean(ratios) - 1) < .1


def strange(x):
    raise TypeError('only for tests')


@pytest.mark.parametrize('phi, gain', [
    (rectify, 2), (wnorm.layers.relu, 2), (T.nnet.relu, 2),
    (lambda x: T.switch(x > 0, x, 0), 2), (None, 1), (identity, 1),
    (LeakyRectify(.1), 2 / 1.01), (wnorm.nn.lrelu, 2 / 1.04),
    (very_leaky_rectify, 2 / (1 + 1 / 9.)), (tanh, 1), (sigmoid, 1),
    (softmax, 1), (T.nnet.softplus, 1), (lambda x: 3 * x, 1 / 9.), (abs, 1),
    (lambda x: 0 * x, 1), (T.sqr, 1), (strange, 1)])
def test_nonlinearities(phi, gain, floatX):
    l = InputLayer((None, 6))
    assert gains(dense(l, 3, phi)) == [pytest.approx(gain, rel=1e-7)]
    # in a layer of its own, below others
    l = DropoutLayer(dense(l, 3, None))
    l = DropoutLayer(NonlinearityLayer(l, identity))
    l = dense(NonlinearityLayer(l, identity if phi is None else phi), 4, tanh)
    assert gains(l) == [pytest.approx(gain, rel=1e-7), 1]


class Slopes(Layer):
    """What Lasagne's ParametricRectifierLayer is."""

    def __init__(self, incoming):
        super(Slopes, self).__init__(incoming)
        self.alpha = self.add_param(lasagne.init.Constant(.25), (3,), 'alpha')


def test_what_follows():
    l = dense(InputLayer((None, 6)), 3, None)
    assert gains(Slopes(l)) == [pytest.approx(2 / (1 + 1 / 16.))]
    # all that follow, if they agree
    one, two = NonlinearityLayer(l, rectify), NonlinearityLayer(l, tanh)
    assert gains([one, NonlinearityLayer(l, rectify)]) == [2]
    assert gains([one, two]) == [1]
    assert gains([l, one]) == [2]
    # not beyond the next weight
    assert gains(NonlinearityLayer(DenseLayer(l, 3, nonlinearity=None),
                                   rectify)) == [1]
    # one of Lasagne's own, below the normalization
    l = DenseLayer(InputLayer((None, 6)), 3, nonlinearity=rectify, b=None)
    assert gains(WeightNormLayer(l, nonlinearity=None)) == [2]


def test_directions():
    net = dense(dense(InputLayer((None, 6)), 40), 5)
    layers = [l.input_layer for l in get_all_layers(net)
              if isinstance(l, WeightNormLayer)]
    V = [l.W_param.get_value() for l in layers]
    initialize_norm_preserving(net, V='keep')
    for l, old in zip(layers, V):
        np.testing.assert_array_equal(l.W_param.get_value(), old)
    initialize_norm_preserving(net, V='normal')
    one, two = [l.W_param.get_value() for l in layers]
    np.testing.assert_allclose([np.std(one), np.std(two)],
                               [6 ** -.5, 40 ** -.5], rtol=.2)
    assert abs(np.corrcoef(one)).max() > 1e-3  # of its columns
    # the same numbers from the same seed
    lasagne.random.set_rng(rng())
    initialize_norm_preserving(net)
    first = one, two = [l.W_param.get_value() for l in layers]
    np.testing.assert_allclose(one.dot(one.T), np.eye(6), atol=1e-12)
    np.testing.assert_allclose(two.T.dot(two), np.eye(5), atol=1e-12)
    lasagne.random.set_rng(rng())
    initialize_norm_preserving(net)
    for l, old in zip(layers, first):
        np.testing.assert_array_equal(l.W_param.get_value(), old)


def test_directions_have_no_mean():
    # the decomposition's own signs make the diagonal negative
    l = dense(InputLayer((None, 50)), 50)
    traces = []
    for _ in range(40):
        initialize_norm_preserving(l)
        traces.append(np.trace(l.input_layer.W_param.get_value()))
    assert abs(np.mean(traces)) < .7 and .5 < np.std(traces) < 2


def tied(incoming, units, W):
    """A layer whose weight is an expression, which Lasagne 0.1 refuses."""
    l = DenseLayer(incoming, units, nonlinearity=None)
    del l.params[l.W]
    l.W = W
    return l


def test_tied_weights():
    encoder = dense(InputLayer((None, 6)), 4, b=None)
    V = encoder.input_layer.W_param
    decoder = weight_norm(tied(encoder, 6, V.T), b=T.constant(np.ones(6)))
    again = weight_norm(DenseLayer(decoder, 4, W=V), g=Gain('norm'))
    with pytest.warns(UserWarning, match="g='norm'"):
        rows = initialize_norm_preserving(again)
    assert [(row.fan_in, row.fan_out) for row in rows] == [
        (6, 4), (4, 6), (6, 4)]
    np.testing.assert_allclose(V.get_value().T.dot(V.get_value()), np.eye(4),
                               atol=1e-12)
    for l, g in ((encoder, 3 ** .5), (decoder, (2 / 3.) ** .5),
                 (again, 3 ** .5)):
        np.testing.assert_allclose(l.g.get_value(), g, rtol=1e-12)


@pytest.mark.parametrize('g, shape', [
    (Gain(), (6,)), ('exp', (6,)), (Gain('norm', exp=True), (6,)),
    (Gain(per='layer'), ()), (Gain(per=3), (3,)),
    (Gain(per='layer', exp=True), ())])
def test_forms_of_g(g, shape, floatX):
    l = dense(InputLayer((None, 15)), 6, g=g, train_g=True)
    l.remember()  # no warning: nothing is lost here
    initialize_norm_preserving(l)
    assert l.g_param.get_value().shape == shape
    assert l.g_param.get_value().dtype == floatX
    np.testing.assert_allclose(l.g.eval(), 5 ** .5, rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(l.input_layer.W.eval(), axis=0), 5 ** .5, rtol=1e-5)


def test_gains():
    l = one = dense(InputLayer((None, 8)), 8)
    l = two = dense(l, 2)
    l = three = dense(l, 2)
    np.testing.assert_array_equal(
        gains(l, gains={one: 3, two.input_layer: .5}), [3, .5, 2])
    assert (one.g.get_value() == 3 ** .5).all()
    assert (two.g.get_value() == 2 ** .5).all()
    three.b.set_value(np.ones(2))
    V = three.input_layer.W_param.get_value()
    assert gains(l, gains={three: None}) == [2, 2]
    assert (three.b.get_value() == 1).all()
    np.testing.assert_array_equal(three.input_layer.W_param.get_value(), V)


# --- residual networks -------------------------------------------------------

def block(l, units, project=False, phi=None, entry=False, make=dense):
    shortcut = make(l, units, None) if project else l
    if entry:
        l = NonlinearityLayer(l, rectify)
    l = make(make(l, units // 2), units, phi)
    return ElemwiseSumLayer([shortcut, l])


def test_stages():
    # a stem; 4 blocks; 3 blocks of another width; 1 of another
    l = dense(InputLayer((None, 6)), 8, None)
    for _ in range(4):
        l = block(l, 8)
    for i in range(3):
        l = block(l, 12, project=i == 0)
    l = dense(block(DropoutLayer(l), 16, project=True), 3, softmax)
    end = 'last in branch'
    assert kinds(l) == (['plain'] + ['plain', end] * 4 +
                        ['shortcut', 'plain', end] + ['plain', end] * 2 +
                        ['shortcut', 'plain', end, 'plain'])
    np.testing.assert_allclose(gains(l), (
        [1] + [2, 1 / 4.] * 4 + [1, 2, 1 / 3.] + [2, 1 / 3.] * 2 +
        [1, 2, 1, 1]), rtol=1e-12)
    row = initialize_norm_preserving(l)[2]
    assert (row.fan_in, row.fan_out) == (4, 8)
    assert row.g == pytest.approx((1 / 4. * 4 / 8) ** .5, rel=1e-12)


def test_other_blocks():
    x = InputLayer((None, 6))
    # nonlinearities before a branch, and after the sum
    l = dense(x, 8, None)
    for _ in range(5):
        l = NonlinearityLayer(block(l, 8, entry=True), rectify)
    assert gains(l) == [1] + [2, 1 / 5.] * 5
    # a branch that ends in a rectifier, which adds up; tanh does not
    for phi, gain in ((rectify, 2 / 9.), (tanh, 1 / 3.), (sigmoid, 1 / 9.)):
        l = x
        for _ in range(3):
            l = block(l, 6, phi=phi)
        np.testing.assert_allclose(gains(l), [2, gain] * 3, rtol=1e-12)
    # without weights in the shortcut, but with another shape: a new stage
    l = block(block(x, 6), 6)
    l = ElemwiseSumLayer([lasagne.layers.PadLayer(
        l, [2], batch_ndim=1), dense(dense(l, 4), 10, None)])
    l = block(l, 10)
    np.testing.assert_allclose(gains(l), [2, 1 / 2.] * 4)
    # two branches to a block, one of them weighted; T.add by another name
    l = dense(x, 6, None)
    l = ElemwiseSumLayer([dense(dense(l, 5), 6, None), l,
                          dense(dense(l, 5), 6, None)], coeffs=[.5, 1, 1])
    assert gains(l) == [1, 2, 2, 2, .5]
    l = ElemwiseMergeLayer([x, dense(dense(x, 4), 6, None)], T.add)
    assert kinds(l) == ['plain', 'last in branch']
    l = ElemwiseMergeLayer([x, dense(dense(x, 4), 6, None)], T.mul)
    assert kinds(l) == ['plain', 'plain']
    # a branch of zero weight
    l = ElemwiseSumLayer([x, dense(x, 6, None)], coeffs=[1, 0])
    assert gains(l) == [1]


def test_branches_that_end_otherwise():
    x = InputLayer((None, 6))
    two = ConcatLayer([dense(x, 3, None), dense(x, 3, None)])
    assert kinds(ElemwiseSumLayer([x, two])) == ['plain', 'plain']
    l = DenseLayer(dense(x, 3), 6)
    assert kinds(ElemwiseSumLayer([x, l])) == ['plain']


def test_sums_without_shortcut():
    x = InputLayer((None, 6))
    for l in (ElemwiseSumLayer([dense(x, 4, None), dense(x, 4, None)]),
              ElemwiseSumLayer([dense(x, 4, None), dense(
                  InputLayer((None, 5)), 4, None)])):
        assert kinds(l) == ['branch of a sum'] * 2
        assert gains(l) == [.5, .5]
        assert gains(NonlinearityLayer(l, rectify)) == [1, 1]
    l = ElemwiseSumLayer([dense(x, 4, None), dense(x, 4, None)],
                         coeffs=[.5, 1])
    assert gains(l) == [2, .5]


# --- recurrent layers --------------------------------------------------------

@pytest.mark.parametrize('make', [LSTMLayer, GRULayer, RecurrentLayer])
def test_recurrent(make):
    l = weight_norm(make(InputLayer((None, 7, 12)), 3))
    rows = initialize_norm_preserving(l)
    assert len(rows) == {LSTMLayer: 8, GRULayer: 6, RecurrentLayer: 2}[make]
    for row in rows:
        V = getattr(l, row.name + '_param').get_value()
        g = getattr(l, 'g_' + row.name).get_value()
        assert row.gain == 1 and row.fan_out == 3
        np.testing.assert_allclose(V.T.dot(V), np.eye(3), atol=1e-12)
        if row.name.startswith('W_in'):
            assert row.kind == 'input-to-hidden' and row.fan_in == 12
            assert (g == 2).all()
        else:
            assert row.kind == 'hidden-to-hidden' and row.fan_in == 3
            assert (g == 1).all()
    assert set(gains(l, gains={l: 4})) == {4}


def test_forget_gate_keeps_its_bias():
    l = weight_norm(LSTMLayer(InputLayer((None, 7, 12)), 3))
    l.b_forgetgate.set_value(np.ones(3))
    initialize_norm_preserving(l)
    assert (l.b_forgetgate.get_value() == 1).all()


def test_state_keeps_its_norm():
    l = RecurrentLayer(InputLayer((None, 50, 4)), 16, nonlinearity=None,
                       W_in_to_hid=lasagne.init.Constant(0.),
                       hid_init=lasagne.init.Normal(1.))
    l = weight_norm(l, params=['W_hid_to_hid'])
    initialize_norm_preserving(l)
    states = get_output(l, T.constant(np.zeros((1, 50, 4)))).eval()
    np.testing.assert_allclose(
        np.linalg.norm(states[0], axis=1),
        np.linalg.norm(l.hid_init.get_value()), rtol=1e-4)


def test_custom_recurrent():
    inside = dense(InputLayer((None, 12)), 5)
    inside = DenseLayer(inside, 3, nonlinearity=None)
    hidden = DenseLayer(DenseLayer(InputLayer((None, 3)), 3), 3,
                        nonlinearity=None)
    l = CustomRecurrentLayer(InputLayer((None, 7, 12)), inside, hidden)
    l = weight_norm(l, params=['W_hid_to_hid_1', 'W_hid_to_hid_2'])
    rows = initialize_norm_preserving(l)
    assert [row.name for row in rows] == ['W', 'W_hid_to_hid_1',
                                          'W_hid_to_hid_2']
    assert [row.kind for row in rows] == [
        'input-to-hidden', 'hidden-to-hidden', 'hidden-to-hidden']
    assert [row.gain for row in rows] == [2, 2, 1]
    np.testing.assert_allclose(l.g_W_hid_to_hid_1.get_value(), 2 ** .5)
    np.testing.assert_allclose(l.g_W_hid_to_hid_2.get_value(), 1)


def test_normalized_parameters():
    l = DenseLayer(InputLayer((None, 8)), 4)
    l.b.set_value(np.ones(4))
    l = normalize_param(l, 'W')
    l = normalize_param(DenseLayer(l, 9, nonlinearity=None), 'W')
    l.theta = l.add_param(np.ones((3, 5)), (3, 5), name='theta')
    l = normalize_param(l, 'theta', axis=1)
    rows = initialize_norm_preserving(l)
    assert [(row.name, row.gain) for row in rows] == [
        ('W', 2), ('W', 1), ('theta', 1)]
    np.testing.assert_allclose(l.g_theta.get_value(), (3 / 5.) ** .5)
    assert (l.input_layer.b.get_value() == 1).all()


# --- deep networks -----------------------------------------------------------

def norms(values):
    return np.sqrt(np.mean(np.sum(np.square(values), axis=1)))


def norms_at(outputs):
    return T.stack([T.sqrt(T.mean(T.sum(T.sqr(output), axis=1)))
                    for output in outputs])


def compiled(inputs, outputs):
    """A function of many layers, which to optimize takes long."""
    return theano.function(inputs, outputs, mode=theano.Mode('py', None))


def test_a_net_that_was_folded_and_normalized_again():
    # the identities that fold leaves are not in the way
    l = DenseLayer(InputLayer((None, 8)), 8, nonlinearity=None)
    for _ in range(3):
        branch = DenseLayer(DenseLayer(l, 8), 8, nonlinearity=None)
        l = ElemwiseSumLayer([l, branch])
    net = wnorm.weight_norm_network(l)
    expected = [row[2:] for row in initialize_norm_preserving(net)]
    assert [row[0] for row in expected].count('last in branch') == 3
    wnorm.fold(net)
    net = wnorm.weight_norm_network(net)
    assert [row[2:] for row in initialize_norm_preserving(net)] == expected


@pytest.mark.slow
def test_200_layers(floatX):
    l = InputLayer((None, 128), T.matrix())
    x, layers = l.input_var, []
    for _ in range(200):
        l = weight_norm(DenseLayer(l, 128, W=lasagne.init.Normal()))
        layers.append(l)
    f = compiled([x], norms_at(get_output(layers)))
    data = rng().randn(10, 128).astype(floatX)
    with np.errstate(under='ignore'):
        default = f(data) / norms(data)
    assert default[19] < 1e-2 and default[199] < 1e-20  # g = 1: vanishes
    # other draws end between 0.04 and 2: the mean of the squares is 1
    lasagne.random.set_rng(np.random.RandomState(3))
    initialize_norm_preserving(l)
    ratios = f(data) / norms(data)
    assert ratios.dtype == floatX and ratios.shape == (200,)
    assert ratios.min() > 1 / 2. and ratios.max() < 2


@pytest.mark.slow
def test_200_layers_with_shortcuts():
    l = InputLayer((None, 64), T.matrix())
    x = l.input_var
    l = dense(l, 32, None)
    layers = []
    for _ in range(100):
        l = block(l, 32, make=dense)
        layers.append(l)
    outputs = get_output(layers)
    cotangent = T.matrix()
    f = compiled([x, cotangent], [
        norms_at(outputs), T.grad(None, x, known_grads={
            outputs[-1]: cotangent})])
    data, unit = rng().randn(10, 64), np.ones((10, 32)) / 32 ** .5
    ratios, gradient = f(data, unit)
    ratios = ratios / norms(data)
    with_g_1 = ratios[-1], norms(gradient)
    assert with_g_1[0] > 1e4 and with_g_1[1] > 1e4  # explodes
    initialize_norm_preserving(l)
    ratios, gradient = f(data, unit)
    ratios = ratios / norms(data)
    # (1 + 1 / B)^B < e of the squares
    assert .5 < ratios.min() and ratios.max() < 3
    # sqrt(64 / 32) in the stem, the backward factor of its widths
    assert 1 / 3. < norms(gradient) / 2 ** .5 < 3


def test_widths_that_change():
    l = InputLayer((None, 120), T.matrix())
    x, layers, random = l.input_var, [], rng()
    for _ in range(30):
        l = dense(l, random.randint(60, 180))
        layers.append(l)
    initialize_norm_preserving(l)
    f = compiled([x], norms_at(get_output(layers)))
    data = random.randn(20, 120)
    ratios = f(data) / norms(data)
    assert 1 / 2. < ratios.min() and ratios.max() < 2


def test_convolutions():
    l = InputLayer((None, 3, 24, 24), T.tensor4())
    x = l.input_var
    for filters in (32, 48, 32, 48, 32, 48, 32, 48, 64):
        l = weight_norm(dnn.Conv2DDNNLayer(l, filters, 3))
    data = rng().randn(2, 3, 24, 24)
    f = theano.function([x], get_output(l))
    default = norms(f(data))
    initialize_norm_preserving(l)
    ratio = norms(f(data)[:, :, 2, 2]) / norms(data[:, :, 11, 11])
    assert 1 / 2. < ratio < 2 and default > 0


# --- together with the rest --------------------------------------------------

def test_initialize_knows():
    net = dense(dense(InputLayer((None, 6), T.matrix()), 5), 4, None)
    initialize_norm_preserving(net)
    wnorm.initialize(net, rng().randn(50, 6))  # a warning is an error
    initialize_norm_preserving(net)
    net.g.set_value(3 * np.ones(4))
    with pytest.warns(UserWarning, match=r'DenseLayer \(None, 4\)$'):
        initialize_norm_preserving(net)
    np.testing.assert_allclose(net.g.get_value(), (5 / 4.) ** .5)
    net.g.set_value(3 * np.ones(4))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        is_refused(net, UserWarning, 'overwrites b and g')


def test_report():
    l = dense(InputLayer((None, 6)), 3)
    l = weight_norm(GRULayer(lasagne.layers.ReshapeLayer(l, (-1, 1, 3)), 2),
                    params=['W_in_to_updategate'])
    lines = str(initialize_norm_preserving(l)).split('\n')
    assert lines[0].split('  ')[0] == 'layer' and len(lines) == 3
    assert lines[1].split() == ['DenseLayer', '(None,', '3)', 'plain', '6',
                                '3', '2', '2']
    assert '2).W_in_to_updategate  input-to-hidden' in lines[2]


# --- what is refused ---------------------------------------------------------

def test_no_network():
    l = DenseLayer(InputLayer((None, 6)), 3, name='plain')
    is_refused(l, ValueError, 'no layer', "DenseLayer 'plain' (None, 3)")
    for net in (None, 3, [], [l, 3]):
        with pytest.raises((TypeError, ValueError), match='a network is'):
            initialize_norm_preserving(net)


def test_unknown_directions():
    l = dense(InputLayer((None, 6)), 3)
    is_refused(l, ValueError, "'orthogonal', 'normal', 'keep'",
               "Did you mean 'orthogonal'?", V='ortogonal')
    is_refused(l, ValueError, 'got 3', V=3)


def test_g_that_cannot_be_set():
    x = InputLayer((None, 6))
    one = dense(x, 3, g=None)
    two = dense(one, 3, g=T.constant(np.ones(3)))
    three = dense(two, 3)
    is_refused(three, ValueError, 'DenseLayer (None, 3) is None and should be '
               '2', 'is an expression and should be 1.414', 'gains={layer: ')
    assert gains(three, gains={one: None, two: None}) == [2]
    # nothing to set
    assert gains(dense(x, 6, None, g=None)) == [1]
    l = weight_norm(RecurrentLayer(InputLayer((None, 5, 4)), 3), g=None)
    is_refused(l, ValueError, '.W_in_to_hid is None and should be 1.155')


def test_shared_g():
    g = theano.shared(np.ones(6))
    x = InputLayer((None, 6))
    one = dense(x, 6, g=g)
    two = dense(one, 6, g=g)
    assert gains(two) == [2, 2]
    three = dense(two, 6, None, g=g)
    is_refused(three, ValueError, 'share', 'gains={layer: None}')
    assert gains(three, gains={three: 2}) == [2, 2, 2]
    np.testing.assert_allclose(g.get_value(), 2 ** .5)


def test_gains_that_do_not_fit():
    l = dense(InputLayer((None, 6)), 3)
    is_refused(l, TypeError, 'dictionary', 'list', gains=[2])
    for gain in (0, -1, True, 'relu', float('nan'), float('inf')):
        is_refused(l, ValueError, 'DenseLayer (None, 3)', repr(gain),
                   gains={l.input_layer: gain})
    is_refused(l, ValueError, 'InputLayer (None, 6)',
               gains={get_all_layers(l)[0]: 2})
    other = dense(InputLayer((None, 6)), 4)
    is_refused(l, ValueError, 'WeightNormLayer (None, 4)', gains={other: 2})
    is_refused(l, ValueError, "'W'", gains={'W': 2})


def test_v_without_a_value():
    l = dense(weight_norm(tied(InputLayer((None, 6)), 3, T.matrix('W'))), 2)
    is_refused(l, ValueError, 'DenseLayer (None, 3) depends on W')
    assert gains(l, gains={l.input_layer.input_layer: None}) == [2]


class Interrupted(np.random.RandomState):
    """A generator that is interrupted when it draws the second time."""
    left = 1

    def normal(self, *args, **kwargs):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super(Interrupted, self).normal(*args, **kwargs)


def test_interrupted(monkeypatch):
    net = dense(dense(InputLayer((None, 6)), 5), 4)
    lasagne.random.set_rng(Interrupted(3))
    is_refused(net, KeyboardInterrupt)
    lasagne.random.set_rng(rng())

    def interrupted(value):
        monkeypatch.undo()
        raise KeyboardInterrupt

    for param in get_all_params(net):
        monkeypatch.setattr(param, 'set_value', interrupted)
        is_refused(net, KeyboardInterrupt)
    assert initialize_norm_preserving(net)[0].gain == 2


def test_all_layouts_have_a_fan():
    assert sorted(FANS) == sorted(case.name for case in CASES)
