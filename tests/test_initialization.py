"""initialize and init_updates."""
import warnings

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant
from lasagne.layers import (
    ConcatLayer, CustomRecurrentLayer, DenseLayer, DropoutLayer, ElemwiseSumLayer, InputLayer,
    Layer, NINLayer, NonlinearityLayer, dnn, get_all_layers, get_all_params,
    get_output)
from lasagne.nonlinearities import identity, rectify, tanh
from theano.sandbox.rng_mrg import MRG_RandomStreams

import wnorm
from layouts import every_layout
from wnorm import init_updates, initialize, weight_norm
from wnorm.layers import WeightNormLayer


def rng():
    return np.random.RandomState(0)


def batch(n=40, scale=1., **shape):
    import theano
    return (scale * rng().randn(n, 5)).astype(theano.config.floatX)


def net(*units, **kwargs):
    """Dense layers, all of them weight-normalized."""
    l = InputLayer((None, 5), T.matrix('x'), name='x')
    for i, n in enumerate(units or (4, 3)):
        l = weight_norm(DenseLayer(l, n, name='fc%d' % (i + 1)), **kwargs)
    return l


def deep_net():
    """Layers of many kinds, in a graph with two branches and two outputs."""
    l = InputLayer((None, 2, 6, 6), T.tensor4('x'))
    l = weight_norm(dnn.Conv2DDNNLayer(l, 4, 3, pad=1), init_stdv=.7)
    l = weight_norm(dnn.Conv2DDNNLayer(l, 3, 3, untie_biases=True),
                    train_g=True)
    left = weight_norm(NINLayer(l, 4, b=None, nonlinearity=tanh))
    right = weight_norm(wnorm.nn.Deconv2DLayer(
        l, (40, 4, 4, 4), (3, 3), stride=(1, 1)), eps=0.)
    l = ConcatLayer([left, right])
    l = weight_norm(dnn.Conv2DDNNLayer(l, 3, 1, num_groups=1)
                    if hasattr(lasagne.layers, 'TransposedConv2DLayer') else
                    dnn.Conv2DDNNLayer(l, 3, 1), init_stdv=np.array(
                        [1., 2., .5]))
    for units in (8, 7, 6, 5):
        l = weight_norm(DenseLayer(l, units))
    one = weight_norm(DenseLayer(l, 3, nonlinearity=identity))
    return [one, weight_norm(DenseLayer(l, 1, nonlinearity=None))]


def values(layers):
    return [p.get_value() for p in get_all_params(layers)]


def normalized(layers):
    return [l for l in get_all_layers(layers)
            if isinstance(l, WeightNormLayer)]


def preactivations(layers, X, **kwargs):
    """t + b of every weight-normalized layer."""
    wrapped = normalized(layers)
    nonlinearities = [l.nonlinearity for l in wrapped]
    for l in wrapped:
        l.nonlinearity = identity
    outs = []
    for l in wrapped:  # its own linear, those below as they are
        for other, nonlinearity in zip(wrapped, nonlinearities):
            other.nonlinearity = identity if other is l else nonlinearity
        outs.append(get_output(l, X, **kwargs).eval())
    for l, nonlinearity in zip(wrapped, nonlinearities):
        l.nonlinearity = nonlinearity
    return outs


# --- what it reaches -----------------------------------------------------------

def test_mean_0_and_the_deviation_asked_for(floatX):
    layers = deep_net()
    X = rng().randn(40, 2, 6, 6).astype(floatX)
    report = initialize(layers, X)
    close = 1e-5 if floatX == 'float64' else 1e-3
    for l, t in zip(normalized(layers), preactivations(layers, X)):
        np.testing.assert_allclose(t.mean(axis=l.axes_to_sum), 0, atol=close)
        np.testing.assert_allclose(t.std(axis=l.axes_to_sum), l.init_stdv *
                                   np.ones(t.shape[1]), atol=close)
    assert [row.layer for row in report] == normalized(layers)
    for row in report:
        np.testing.assert_allclose(row.mean_after, 0, atol=close)
        np.testing.assert_allclose(row.std_after, row.layer.init_stdv *
                                   np.ones_like(row.std_after), atol=close)
        assert not row.degenerate.any()


@every_layout
def test_every_layout(case, floatX):
    l = weight_norm(case.layer())
    X = case.data(rng())
    initialize(l, X)
    t, = preactivations(l, X)
    axes = case.sum_axes(t.ndim)
    close = 1e-5 if floatX == 'float64' else 1e-3
    np.testing.assert_allclose(t.mean(axis=axes), 0, atol=close)
    np.testing.assert_allclose(t.std(axis=axes), 1, atol=close)


def test_report_tells_before_and_after():
    l = net(4, 3)
    X = batch()
    before = preactivations(l, X)
    report = initialize(l, X)
    for row, t in zip(report, before):
        np.testing.assert_allclose(row.mean_before, t.mean(axis=0))
        np.testing.assert_allclose(row.std_before, t.std(axis=0))
    for row, t in zip(report, preactivations(l, X)):
        np.testing.assert_allclose(row.mean_after, t.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(row.std_after, t.std(axis=0))
    lines = str(report).splitlines()
    assert len(lines) == 3 and repr(report) == str(report)
    assert lines[0].split()[:2] == ['layer', 'filters']
    assert "DenseLayer 'fc1' (None, 4)" in lines[1]
    assert lines[2].split()[-1] == '0' and '1 .. 1' in lines[2]


def test_equals_the_updates_of_one_pass():
    X = batch()
    ours, theirs = net(), net()
    lasagne.layers.set_all_param_values(
        theirs, lasagne.layers.get_all_param_values(ours))
    initialize(ours, X)
    x = T.matrix()
    updates = init_updates(theirs, x)
    assert [str(p) for p, _ in updates] == ['b', 'g', 'b', 'g']
    theano.function([x], updates=updates)(X)
    for a, b in zip(values(ours), values(theirs)):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_updates_as_in_the_original_scripts():
    l = net()
    X = batch()
    x = l.input_layer.input_layer.input_layer.input_layer.input_var
    out = get_output(l, init=True)
    init = theano.function([x], out, updates=[
        u for layer in get_all_layers(l)
        for u in getattr(layer, 'init_updates', [])])
    first = init(X)
    np.testing.assert_allclose(get_output(l, X).eval(), first, atol=1e-10)
    assert wnorm.init_updates(l, x) and wnorm.init_updates([l], {
        get_all_layers(l)[0]: x}, deterministic=True)


def test_twice_in_a_row(floatX):
    layers = deep_net()
    X = rng().randn(40, 2, 6, 6).astype(floatX)
    initialize(layers, X)
    before = values(layers)
    initialize(layers, X)  # silent: warnings are errors here
    for a, b in zip(before, values(layers)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_only_b_and_g_change():
    l = net()
    V = [p.get_value() for p in get_all_params(l) if p.name.endswith('W')]
    initialize(l, batch())
    for a, p in zip(V, [p for p in get_all_params(l)
                        if p.name.endswith('W')]):
        np.testing.assert_array_equal(a, p.get_value())


def test_fixed_g_and_b():
    X = batch()
    g = theano.shared(np.ones(3)) * 2.
    l = net(4)
    l = weight_norm(DenseLayer(l, 3, name='fixed'), g=g)
    l = weight_norm(DenseLayer(l, 3), b=None, g=None)
    l = weight_norm(DenseLayer(l, 2))
    report = initialize(l, X)
    np.testing.assert_allclose(report[1].mean_after, 0, atol=1e-9)
    assert (abs(report[1].std_after - 1) > 1e-3).all()
    assert not np.allclose(report[2].mean_after, 0)
    np.testing.assert_allclose(report[3].std_after, 1)


# --- inputs ----------------------------------------------------------------------

def test_several_inputs(floatX):
    a, b = InputLayer((None, 5), name='a'), InputLayer((None, 3), name='b')
    l = ElemwiseSumLayer([weight_norm(DenseLayer(a, 4)),
                          weight_norm(DenseLayer(b, 4))])
    l = weight_norm(DenseLayer(l, 3))
    X, Y = batch(), rng().randn(40, 3)
    report = initialize(l, {a: X, b: Y})
    for row in report:
        np.testing.assert_allclose(row.std_after, 1, rtol=1e-3)
    with pytest.raises(ValueError, match="2 input layers.*'a'.*'b'"):
        initialize(l, X)
    with pytest.raises(ValueError, match="no data for InputLayer 'b'"):
        initialize(l, {a: X})
    with pytest.raises(ValueError, match='no input layer of the network'):
        initialize(l, {a: X, b: Y, 'c': Y})
    with pytest.raises(ValueError, match='names DenseLayer'):
        initialize(l, {a: X, b: Y, l.input_layer: Y})


def test_noise_as_input():
    # a generator: its input layer carries an expression
    noise = MRG_RandomStreams(1).normal((50, 5))
    l = weight_norm(DenseLayer(InputLayer((50, 5), noise), 4))
    l = weight_norm(DenseLayer(l, 3, nonlinearity=None))
    report = initialize(l)
    for row in report:
        np.testing.assert_allclose(row.std_after, 1)
    # with data, the expression is replaced
    X = batch(50)
    initialize(l, X)
    np.testing.assert_allclose(get_output(l, X).eval().std(axis=0), 1)


def test_expression_beside_data():
    a = InputLayer((None, 5), name='a')
    b = InputLayer((40, 3), theano.shared(rng().randn(40, 3)))
    l = weight_norm(DenseLayer(ConcatLayer([a, b]), 4))
    report = initialize(l, batch())
    np.testing.assert_allclose(report[0].std_after, 1)


def test_other_precision_of_the_batch(floatX):
    other = dict(float32='float64', float64='float32')[floatX]
    for X in (rng().randn(40, 5).astype(other), rng().randint(0, 9, (40, 5)),
              rng().rand(40, 5) > .5):
        report = initialize(net(3), X)
        np.testing.assert_allclose(report[0].std_after, 1, rtol=1e-4)


def test_integer_input():
    x = InputLayer((None, 3), T.imatrix())
    l = weight_norm(lasagne.layers.EmbeddingLayer(x, 6, 4))
    X = rng().randint(0, 6, (30, 3))
    np.testing.assert_allclose(initialize(l, X)[0].std_after, 1)
    initialize(l, X.astype('uint8'))
    for wrong in (X * 1., X + 2 ** 40):
        with pytest.raises((TypeError, ValueError), match='int32'):
            initialize(l, wrong)


# --- noise, batch normalization --------------------------------------------------

def test_deterministic():
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 4))
    l = weight_norm(DenseLayer(DropoutLayer(l), 3, nonlinearity=None))
    X = batch()
    initialize(l, X, deterministic=True)
    out = get_output(l, X, deterministic=True).eval()
    np.testing.assert_allclose(out.std(axis=0), 1)
    g = l.g.get_value()
    initialize(l, X)  # with dropout the deviation is another
    assert (abs(l.g.get_value() / g - 1) > .01).any()


class RunningMean(Layer):
    """Keeps a running mean as Lasagne's BatchNormLayer does."""

    def __init__(self, incoming, **kwargs):
        super(RunningMean, self).__init__(incoming, **kwargs)
        self.mean = self.add_param(Constant(0.), (self.input_shape[1],),
                                   name='mean', trainable=False)

    def get_output_for(self, input, deterministic=False, **kwargs):
        mean = self.mean if deterministic else T.mean(input, axis=0)
        if not deterministic:
            running = theano.clone(self.mean, share_inputs=False)
            running.default_update = .9 * running + .1 * mean
            mean = mean + 0 * running
        return input - mean


@pytest.mark.parametrize('batch_norm', [
    RunningMean, getattr(lasagne.layers, 'batch_norm', RunningMean)])
def test_running_averages_stay(batch_norm):
    l = net(4)
    l = batch_norm(DenseLayer(l, 4, nonlinearity=None))
    l = weight_norm(DenseLayer(l, 3))
    names = ('mean', 'inv_std')
    averages = [p for p in get_all_params(l) if p.name.endswith(names)]
    before = [p.get_value() for p in averages]
    report = initialize(l, batch())
    np.testing.assert_allclose(report[-1].std_after, 1)
    assert averages
    for old, p in zip(before, averages):
        np.testing.assert_array_equal(p.get_value(), old)


# --- degenerate filters -------------------------------------------------------------

def test_degenerate_filters_are_named(floatX):
    V = np.eye(5, 4).astype(floatX)
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 4, W=V, name='fc'),
                    g=Constant(2.), nonlinearity=None)
    l = weight_norm(DenseLayer(l, 3))
    X = batch()
    X[:, 1], X[:, 3] = .1, 0.
    with pytest.warns(UserWarning, match=r"DenseLayer 'fc' \(None, 4\): "
                                         r"filters 1, 3 are constant"):
        report = initialize(l, X)
    assert report[0].degenerate.tolist() == [False, True, False, True]
    inner = get_all_layers(l)[2]
    assert (inner.g.get_value()[[1, 3]] == 2.).all()
    np.testing.assert_allclose(inner.b.get_value()[[1, 3]], [-.2, 0.],
                               rtol=1e-4)
    assert np.isfinite(np.concatenate([v.ravel() for v in values(l)])).all()
    np.testing.assert_allclose(report[1].std_after, 1, rtol=1e-3)
    assert str(report).splitlines()[1].split()[-1] == '2'


def test_batch_of_one():
    with pytest.warns(UserWarning, match='filters 0, 1, 2 are constant'):
        report = initialize(net(3), batch(1))
    np.testing.assert_allclose(report[0].mean_after, 0, atol=1e-12)


# --- values that would be lost ---------------------------------------------------------

def changes(how, l):
    if how == 'loaded':
        lasagne.layers.set_all_param_values(
            l, [v + 1 for v in lasagne.layers.get_all_param_values(l)])
    else:
        cost = T.mean(get_output(l, batch()))
        theano.function([], updates=lasagne.updates.sgd(
            cost, get_all_params(l, trainable=True), .1))()


@pytest.mark.parametrize('how', ['loaded', 'trained'])
@pytest.mark.parametrize('initialized', [False, True])
def test_warns_before_it_overwrites(how, initialized):
    # https://github.com/jik876/hifi-gan/issues/145
    l = net(4, 3)
    if initialized:
        initialize(l, batch())
    changes(how, l)
    with pytest.warns(UserWarning, match='overwrites b and g') as record:
        initialize(l, batch())
    assert "'fc1'" in str(record[0].message)
    assert record[0].filename == __file__
    initialize(l, batch())  # and not again


@pytest.mark.parametrize('b', [True, False])
def test_warns_before_it_overwrites_what_a_layer_computed(b):
    layer = DenseLayer(InputLayer((None, 5)), 3, name='fc1')
    l = weight_norm(layer, g='norm', **({} if b else {'b': None}))
    with pytest.warns(UserWarning, match="overwrites.*g='norm'.*'fc1'"):
        initialize(l, batch())
    initialize(l, batch())  # and not again


def test_a_layer_that_computes_without_its_W():
    class Stubborn(DenseLayer):
        def __init__(self, *args, **kwargs):
            super(Stubborn, self).__init__(*args, **kwargs)
            self.kept = self.W

        def get_output_for(self, input, **kwargs):
            return T.dot(input, self.kept)
    l = weight_norm(Stubborn(InputLayer((None, 5)), 3))
    for data in batch(), [batch()]:
        with pytest.raises(ValueError, match=(
                r'Stubborn \(None, 3\).* does not compute with its W')):
            initialize(l, data)
    assert not l.b.get_value().any()


def test_other_starting_values_are_no_change():
    initialize(net(3, g=Constant(3.), b=Constant(1.)), batch())


# --- bad input: an error, and nothing has changed ---------------------------------------

def refused(error, match, network, *args, **kwargs):
    before = values(network) if isinstance(network, Layer) else []
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.raises(error, match=match) as info:
            initialize(network, *args, **kwargs)
    for a, b in zip(before, values(network) if before else []):
        np.testing.assert_array_equal(a, b)
    return str(info.value)


def test_bad_batches():
    l = net()
    X = batch()
    refused(ValueError, "no data for InputLayer 'x'", l)
    refused(ValueError, r"InputLayer 'x' \(None, 5\) is empty", l, X[:0])
    for wrong in (X[:, :4], X[0], X[:, :, None], np.float64(1.)):
        refused(ValueError, r'has shape .*must have \(None, 5\)', l, wrong)
    for wrong in (X.astype(complex), X.astype(object), X.astype(str), 'abc'):
        refused(TypeError, 'has dtype .* must be float64', l, wrong)
    for bad in (np.nan, np.inf):
        wrong = X.copy()
        wrong[3, 2] = bad
        refused(ValueError, "for InputLayer 'x'.* contains NaN", l, wrong)
    for wrong in ([X.tolist()], X.tolist(), (X.tolist(),)):  # many batches
        refused(TypeError, 'batch 1: .*got a list', l, wrong)
    x = get_all_layers(l)[0]
    for wrong in ([X], X.tolist(), T.matrix()):
        refused(TypeError, 'must be an array', l, {x: wrong})
    refused(TypeError, 'must be an array', l, T.matrix())


def test_batch_that_the_precision_cannot_hold():
    theano.config.floatX = 'float32'
    try:
        refused(ValueError, 'float32 cannot hold', net(),
                np.full((4, 5), 1e300))
    finally:
        theano.config.floatX = 'float64'


def test_fixed_batch_size():
    l = weight_norm(DenseLayer(InputLayer((6, 5)), 3))
    refused(ValueError, r'must have \(6, 5\)', l, batch(7))
    initialize(l, batch(6))


@pytest.mark.parametrize('call', [initialize, init_updates])
def test_bad_networks(call):
    X = batch()
    plain = DenseLayer(InputLayer((None, 5)), 3, name='fc')
    for args, error, match in [
            (([], X), ValueError, 'empty list'),
            (((), X), ValueError, 'empty list'),
            (([net(), 'x'], X), TypeError, "a list with 'x'"),
            (([net(), None], X), TypeError, 'a list with None'),
            ((None, X), TypeError, 'a layer or a list'),
            ((X, net()), TypeError, 'a layer or a list'),
            (('net', X), TypeError, 'a layer or a list'),
            ((plain, X), ValueError, "weight_norm first .*'fc'"),
            ((weight_norm(DenseLayer((None, 5), 3)), X), ValueError,
             'stands on a shape')]:
        with warnings.catch_warnings():
            # later versions of Lasagne: nobody has used init=True
            warnings.filterwarnings('ignore', 'get_output.. was called with')
            with pytest.raises(error, match=match):
                call(*args)


def test_not_finite():
    l = net(4, 3)
    l = NonlinearityLayer(l, T.log, name='log')
    l = weight_norm(DenseLayer(l, 2))
    refused(ValueError, "output of NonlinearityLayer 'log'", l, batch())
    # of a parameter
    l = net(4, 3, 2)
    V = get_all_params(l)[3]
    broken = V.get_value()
    broken[0, 0] = np.nan
    V.set_value(broken)
    refused(ValueError, r"output of DenseLayer 'fc2' \(None, 3\)", l, batch())


def test_too_large_for_the_precision():
    theano.config.floatX = 'float32'
    try:
        l = net(3, init_stdv=1e38)
        refused(ValueError, "output of .*'fc1'.* not finite", l,
                batch(scale=.1))
        # activations within range, the gain that they ask for beyond it
        l = net(3, g=Constant(1e20), eps=0.)
        refused(ValueError, "initial value of g of .*'fc1'.* is not finite",
                l, batch(scale=1e-39))
    finally:
        theano.config.floatX = 'float64'


def test_free_variable():
    l = NonlinearityLayer(net(), lambda x: x * T.scalar('temperature'))
    refused(ValueError, 'depends on temperature', l, batch())


def test_nonlinearity_below():
    l = WeightNormLayer(DenseLayer(InputLayer((None, 5)), 3,
                                   nonlinearity=rectify, name='fc'))
    refused(ValueError, "'fc'.* has a nonlinearity below", l, batch())
    with pytest.raises(ValueError, match='has a nonlinearity below'):
        init_updates(l, T.matrix())


def test_nothing_to_convolve():
    # images smaller than the filters: an output without entries
    l = weight_norm(dnn.Conv2DDNNLayer(InputLayer((None, 1, None, None)),
                                       2, 3, name='conv'))
    message = refused(ValueError, 'is empty or not finite', l,
                      rng().randn(4, 1, 2, 2))
    assert "'conv'" in message


@pytest.mark.parametrize('warning', ['overwrites b and g', 'are constant'])
def test_warning_as_an_error_changes_nothing(warning):
    l = net(4, 3)
    X = batch()
    if 'constant' in warning:
        X[:] = 1.
    else:
        changes('loaded', l)
    refused(UserWarning, warning, l, X)


def test_leaves_no_expressions_behind():
    l = net(4)
    initialize(l, batch())
    assert not hasattr(l, 'init_updates')
    out = get_output(l, init=True)
    mine = l.init_updates
    initialize(l, batch())
    assert l.init_updates is mine and out.owner
    with pytest.raises(ValueError):
        initialize(NonlinearityLayer(l, T.log), batch())
    assert l.init_updates is mine


@pytest.mark.parametrize('scale', [1e-25, 1e20])
def test_any_scale_of_the_batch(scale):
    # whose squares are 0 or infinity in float32
    theano.config.floatX = 'float32'
    try:
        report = initialize(net(4, 3), batch(scale=scale))
        for row in report:
            np.testing.assert_allclose(row.std_after, 1, rtol=1e-3)
            assert not row.degenerate.any()
    finally:
        theano.config.floatX = 'float64'


def test_other_types_of_g_and_b(floatX):
    # a shared variable of another precision
    other = dict(float32='float64', float64='float32')[floatX]
    g, b = [theano.shared(np.ones(4, other)) for _ in 'gb']
    l = weight_norm(DenseLayer(InputLayer((None, 5), T.matrix('x')), 4),
                    g=g, b=b)
    assert get_output(l).dtype == l.input_layer.W.dtype == floatX
    report = initialize(l, batch())
    np.testing.assert_allclose(report[0].std_after, 1, rtol=1e-4)
    assert g.dtype == b.dtype == other


def test_input_in_the_middle_of_the_network():
    l = net(4, 3, 2)
    middle = get_all_layers(l)[2]  # the first weight-normalized layer
    top = [layer for layer in normalized(l) if layer is not middle]
    updates = init_updates(l, {middle: T.matrix()})
    assert [p for p, _ in updates] == sum([[n.b, n.g] for n in top], [])


def test_layers_that_are_given_take_no_part():
    # nor does what an earlier pass has left there
    l = net(4, 3)
    hidden, x = get_all_layers(l)[2], T.matrix()
    get_output(l, x, init=True)
    updates = init_updates(l, {hidden: x})
    assert [param for param, _ in updates] == [l.b, l.g]


def test_an_input_below_the_normalization():
    # is not what it will be: its g changes in the same pass
    below = DenseLayer(InputLayer((None, 5), T.matrix()), 4, name='below')
    wrapped = weight_norm(below)
    for top in (DenseLayer(below, 3), ConcatLayer([wrapped, below])):
        if isinstance(top, ConcatLayer):
            top = DenseLayer(top, 3)
        refused(ValueError, "DenseLayer 'below'.* below its weight",
                [wrapped, weight_norm(top)], batch())
    wrapped = weight_norm(DenseLayer(below.input_layer, 4, W=below.W_param),
                          g=None)
    top = weight_norm(DenseLayer(wrapped.input_layer, 3))
    initialize([wrapped, top], batch())
    np.testing.assert_allclose(preactivations(top, batch())[0].std(axis=0), 1)


def test_normalized_layers_inside_a_recurrent_one():
    # stay as they are
    def inner(n):
        return weight_norm(DenseLayer(InputLayer((None, n)), 3))

    l = CustomRecurrentLayer(InputLayer((None, 4, 5), T.tensor3()), inner(5),
                             inner(3))
    before = values(l)
    top = weight_norm(DenseLayer(l, 2, nonlinearity=None))
    X = rng().randn(20, 4, 5).astype(theano.config.floatX)
    report = initialize(top, X)
    out = get_output(top, X).eval()
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(out.std(axis=0), 1)
    for old, new in zip(before, values(l)):
        np.testing.assert_array_equal(old, new)
    note, = report.notes
    assert 'CustomRecurrentLayer' in note and 'W of DenseLayer' in note
    assert not hasattr(l.input_to_hidden, 'init_updates')
    assert 'get_output_for' not in vars(l)


@pytest.mark.slow
def test_in_c(monkeypatch, floatX):
    # optimized and compiled, as users run it
    monkeypatch.setattr(theano.compile.mode, 'instantiated_default_mode',
                        theano.compile.mode.FAST_RUN)
    l = InputLayer((None, 2, 5, 5), T.tensor4('x'))
    l = weight_norm(dnn.Conv2DDNNLayer(l, 3, 3), train_g=True, eps=0.)
    l = weight_norm(DenseLayer(l, 4, nonlinearity=None))
    X = rng().randn(30, 2, 5, 5).astype(floatX)
    g = get_all_layers(l)[2].g
    g.set_value(np.array([1., 0., 1.], floatX))  # a constant filter
    get_all_layers(l)[2].remember()
    with pytest.warns(UserWarning, match='filters 1 are constant'):
        report = initialize(l, X)
    np.testing.assert_allclose(report[1].std_after, 1, rtol=1e-4)
    np.testing.assert_allclose(report[1].mean_after, 0, atol=1e-4)
    cost = T.mean(T.sqr(get_output(l, X)))
    grads = T.grad(cost, get_all_params(l, trainable=True))
    got = theano.function([], grads)()
    monkeypatch.undo()
    for d, expected in zip(got, theano.function([], grads)()):
        np.testing.assert_allclose(d, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', ['b', 'g'])
def test_shared_between_two_layers(name):
    shared = theano.shared(np.ones(5), name=name)
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 5), **{name: shared})
    l = weight_norm(DenseLayer(l, 5), **{name: shared})
    message = refused(ValueError, 'share %s' % name, l, batch())
    assert message.count('DenseLayer') == 2
    with pytest.raises(ValueError, match='share %s' % name):
        init_updates(l, T.matrix())


def tied(weight):
    """An autoencoder whose decoder has the transpose of `weight`(encoder)."""
    encoder = DenseLayer(InputLayer((None, 5)), 4, name='encoder')
    l = weight_norm(encoder)
    decoder = DenseLayer(l, 5, name='decoder')
    del decoder.params[decoder.W]
    decoder.W = weight(encoder).T
    return decoder


def test_tied_to_the_direction():
    l = weight_norm(tied(lambda encoder: encoder.W_param))
    report = initialize(l, batch())
    for row in report:
        np.testing.assert_allclose(row.std_after, 1)


def test_tied_to_the_effective_weight():
    # that weight changes with the g of the encoder, in the same pass
    l = tied(lambda encoder: encoder.W)
    report = initialize(l, batch())  # nothing to initialize above it
    np.testing.assert_allclose(report[0].std_after, 1)
    for top in (weight_norm(tied(lambda encoder: encoder.W)),
                weight_norm(DenseLayer(tied(lambda encoder: encoder.W), 2))):
        message = refused(ValueError, 'W_param in place of W', top, batch())
        assert "'decoder'" in message and "'encoder'" in message


def test_one_network_on_the_output_of_another():
    generator = net(4)
    l = weight_norm(DenseLayer(InputLayer((None, 4), get_output(
        generator, batch()), name='fake'), 3))
    message = refused(ValueError, 'first, and leave it out', [generator, l],
                      batch())
    assert "'fake'" in message and "'fc1'" in message
    initialize(generator, batch())
    initialize(l)


def test_g_made_of_b():
    # b changes in the pass that computes with g
    s = theano.shared(np.zeros(4), name='s')
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 4, name='fc'),
                    b=s, g=T.exp(s))
    refused(ValueError, "'fc'.* computes with s", l, batch())
    inner = net(4)
    l = weight_norm(DenseLayer(inner, 4), b=2. * inner.b)
    refused(ValueError, 'computes with b', l, batch())


@pytest.mark.parametrize('fault', [MemoryError, KeyboardInterrupt])
def test_nothing_has_changed_after_a_fault(monkeypatch, fault):
    # in the middle of writing the new values
    l = net(4, 3)
    before = values(l)
    compiled = []

    def failing(*args, **kwargs):
        function = theano.compile.function(*args, **kwargs)

        def call(*arrays):
            compiled.append(function)
            if len(compiled) == 2:
                assert not np.array_equal(values(l)[1], before[1])
                raise fault
            return function(*arrays)
        return call
    monkeypatch.setattr(theano, 'function', failing)
    with pytest.raises(fault):
        initialize(l, batch())
    for a, b in zip(before, values(l)):
        np.testing.assert_array_equal(a, b)
    assert not any(layer.changed() for layer in normalized(l))


# --- memory ---------------------------------------------------------------

class Huge(lasagne.layers.Layer):
    """Computes something for which no memory suffices."""

    def get_output_for(self, input, **kwargs):
        return input + T.max(T.zeros((10 ** 9, 10 ** 9)) + input[0, 0])


def test_memory_is_exhausted():
    l = Huge(InputLayer((None, 5), T.matrix()))
    l = weight_norm(DenseLayer(l, 3))
    before = [param.get_value() for param in (l.b, l.g, l.input_layer.W_param)]
    with pytest.raises(MemoryError) as caught:
        initialize(l, np.ones((40, 5), theano.config.floatX))
    assert str(caught.value) == (
        'no memory for initialization with a batch of 40 examples; nothing '
        'has been changed. Initialize with fewer examples: some hundred do')
    for param, value in zip((l.b, l.g, l.input_layer.W_param), before):
        np.testing.assert_array_equal(param.get_value(), value)


def test_memory_is_exhausted_without_a_batch():
    l = Huge(InputLayer((4, 5), T.ones((4, 5))))
    with pytest.raises(MemoryError, match='for initialization; nothing'):
        initialize(weight_norm(DenseLayer(l, 3)))


class Wrong(lasagne.layers.Layer):
    def get_output_for(self, input, **kwargs):
        return T.dot(input, np.ones((4, 5), input.dtype))


def test_other_errors_are_not_about_memory():
    l = weight_norm(DenseLayer(Wrong(InputLayer((None, 5), T.matrix())), 3))
    with pytest.raises(ValueError):
        initialize(l, np.ones((3, 5), theano.config.floatX))


@pytest.mark.parametrize('text', [
    'cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory',
    'clCreateBuffer: Memory object allocation failure',
    'clEnqueueNDRangeKernel: Out of resources', 'Invalid buffer size',
    'CUDNN_STATUS_ALLOC_FAILED', 'Could not allocate working memory'])
def test_what_devices_say_of_memory(text):
    from wnorm.initialization.graph import is_exhaustion
    assert is_exhaustion(RuntimeError(text))
    assert not is_exhaustion(ValueError('shapes differ'))
