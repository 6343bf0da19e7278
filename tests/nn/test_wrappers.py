"""The wrappers of weight normalization, of both flavours."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import (
    Conv1DLayer, DenseLayer, EmbeddingLayer, InputLayer, NINLayer, dnn,
    get_all_layers, get_all_params, get_output)
from lasagne.nonlinearities import identity, tanh

import own_layers
import wnorm
from test_filters import Mine  # noqa: F401 (a fixture)
from wnorm import nn
from wnorm.nn import weightnorm as paper

WRAPPERS = [paper.weight_norm, paper.mean_only_bn, paper.no_norm]
wrappers = pytest.mark.parametrize('wrap', WRAPPERS)
normalizing = pytest.mark.parametrize('wrap', WRAPPERS[:2])


def data(*shape):
    return np.random.RandomState(0).randn(*shape)


def dense(**kwargs):
    return DenseLayer(InputLayer((None, 5), T.matrix()), 4, **kwargs)


def conv(**kwargs):
    return dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4), T.tensor4()), 3, 2,
                              **kwargs)


def randomize(net):
    random = np.random.RandomState(1)
    for param in get_all_params(net):
        param.set_value(random.uniform(.5, 2, param.get_value().shape).astype(
            param.dtype))


# --- layers of unknown classes -----------------------------------------------

@pytest.mark.parametrize('wrap', [nn.weight_norm, nn.l2normalize] + WRAPPERS)
@pytest.mark.parametrize('shape, axis', [((5, 3), 1), ((3, 5, 2, 2), 0)])
def test_unknown_class_follows_the_original(
        Mine, wrap, shape, axis):  # noqa: F811
    layer = Mine(InputLayer((None, 5)))
    layer.W = theano.shared(data(*shape))
    V = layer.W
    with pytest.warns(UserWarning) as record:
        l = wrap(layer)
    assert len(record) == 1 and record[0].filename == __file__
    assert 'wnorm.register(Mine, W=%d)' % axis in str(record[0].message)
    axes = tuple(i for i in range(len(shape)) if i != axis)
    if wrap is not nn.l2normalize:
        assert isinstance(l, wnorm.WeightNormLayer)
    if wrap is paper.no_norm:
        np.testing.assert_array_equal(layer.W.eval(), V.get_value())
    else:
        np.testing.assert_allclose(np.sum(layer.W.eval() ** 2, axis=axes), 1.,
                                   rtol=1e-3)


def test_unknown_class_is_refused_elsewhere(Mine):  # noqa: F811
    for refuse in (wnorm.weight_norm, nn.WeightNormLayer):
        with pytest.raises(TypeError, match='wnorm.register'):
            refuse(Mine(InputLayer((None, 5))))


@pytest.mark.parametrize('wrap', [nn.weight_norm, nn.l2normalize] + WRAPPERS)
def test_unknown_class_of_another_dimension(Mine, wrap):  # noqa: F811
    layer = Mine(InputLayer((None, 5)))
    layer.W = T.tensor3()
    with pytest.raises(TypeError, match='wnorm.register'):
        wrap(layer)


def test_known_class_does_not_warn():
    l = nn.weight_norm(dense(), train_g=True)
    assert [p.name for p in get_all_params(l, trainable=True)] == [
        'W', 'b', 'g']


# --- W -----------------------------------------------------------------------

@normalizing
def test_weight(wrap, floatX):
    for layer, axes in ((dense(), 0), (conv(), (1, 2, 3))):
        l = wrap(layer)
        randomize(l)
        V, g = layer.W_param.get_value(), l.g.get_value()
        norm = np.sqrt(np.sum(V.astype('float64') ** 2, axis=axes,
                              keepdims=True))
        W = layer.W.eval()
        assert W.dtype == floatX and l.g.get_value().dtype == floatX
        np.testing.assert_allclose(W, V * g.reshape(
            norm.shape) / norm, rtol=1e-6 if floatX == 'float32' else 1e-13)


@normalizing
def test_filter_of_zeros(wrap):
    l = wrap(dense(), W=np.diag(np.arange(5.))[:, :4])
    W, V = l.input_layer.W, l.input_layer.W_param
    cost = T.sum(W * T.constant(data(5, 4)))
    dV, dg = T.grad(cost, [V, l.g])
    for values in (W, dV, dg):
        assert (values.eval()[..., 0] == 0).all()
        assert np.isfinite(values.eval()).all()
    assert W.eval()[1, 1] == 1


def test_scaled_weight():
    # without normalization
    for layer, shape in ((dense(), (1, 4)), (conv(), (3, 1, 1, 1))):
        l = paper.no_norm(layer)
        randomize(l)
        V, g = layer.W_param.get_value(), l.g.get_value()
        np.testing.assert_allclose(layer.W.eval(), V * g.reshape(shape))
        assert layer.get_params()[0] is layer.W_param
        assert not hasattr(layer, 'normalized_params')
    l = paper.no_norm(dense(), g=wnorm.Gain(2., per='layer'))
    np.testing.assert_allclose(l.input_layer.W.eval(),
                               2 * l.input_layer.W_param.get_value())
    layer = dense()
    V = layer.W
    assert paper.no_norm(layer, g=None).g is None and layer.W is V


@normalizing
def test_weight_that_cannot_be_drawn(wrap):
    V = theano.shared(data(4, 5))
    layer = dense()
    layer.W = V.T
    wrap(layer)
    np.testing.assert_allclose(np.sum(layer.W.eval() ** 2, axis=0), 1)
    assert (V.get_value() == data(4, 5)).all()
    layer = dense()
    layer.W = V.T
    with pytest.raises(ValueError, match='Leave W out'):
        wrap(layer, W=Normal(.1))


# --- the layer ---------------------------------------------------------------

@wrappers
def test_output_and_initialization(wrap, floatX):
    for layer, axes in ((dense(nonlinearity=tanh), (0,)),
                        (conv(nonlinearity=nn.lrelu), (0, 2, 3))):
        l = wrap(layer)
        randomize(l)
        x = data(8, *layer.input_layer.output_shape[1:]).astype(floatX)
        t = get_output(layer, x).eval().astype('float64')
        plain = [1] * t.ndim
        plain[1] = -1
        g, b = [p.get_value().astype('float64') for p in (l.g, l.b)]
        m, std = t.mean(axis=axes), t.std(axis=axes)
        function = np.tanh if t.ndim == 2 else (
            lambda x: np.maximum(x, .2 * x))
        mean_only = wrap is paper.mean_only_bn
        shift = (b - m if mean_only else b).reshape(plain)
        close = dict(rtol=1e-3, atol=1e-4) if floatX == 'float32' else dict(
            rtol=1e-10, atol=1e-10)
        out = get_output(l, x).eval()
        assert out.dtype == floatX
        np.testing.assert_allclose(out, function(t + shift), **close)
        out = get_output(l, x, init=True)
        assert [p for p, _ in l.init_updates] == (
            [l.g] if mean_only else [l.b, l.g])
        first = theano.function([], out, updates=l.init_updates)()
        np.testing.assert_allclose(l.g.get_value(), g / std, **close)
        if mean_only:
            np.testing.assert_array_equal(l.b.get_value(), b.astype(floatX))
        else:
            np.testing.assert_allclose(l.b.get_value(), -m / std, **close)
        np.testing.assert_allclose(first, function(
            (t - m.reshape(plain)) / std.reshape(plain) +
            (b.reshape(plain) if mean_only else 0)), **close)
        np.testing.assert_allclose(get_output(l, x).eval(), first, **close)


@wrappers
@pytest.mark.parametrize('nothing', [['b'], ['g'], ['b', 'g']])
def test_without_b_or_g(wrap, nothing):
    l = wrap(dense(), **{name: None for name in nothing})
    assert all(getattr(l, name) is None for name in nothing)
    out = get_output(l, data(8, 5), init=True)
    first = theano.function([], out, updates=l.init_updates)()
    np.testing.assert_allclose(get_output(l, data(8, 5)).eval(), first,
                               atol=1e-10)


@wrappers
def test_constant_channel(wrap):
    x = data(8, 5)
    x[:, 0] = .1
    l = wrap(dense())
    l.input_layer.W_param.set_value(np.eye(5, 4))
    theano.function([], get_output(l, x, init=True),
                    updates=l.init_updates)()
    assert l.g.get_value()[0] == 1
    assert np.isfinite(get_output(l, x).eval()).all()


@wrappers
def test_defects_of_the_original(wrap):
    assert wrap(dense(b=None)).b.get_value().shape == (4,)
    assert wrap(dense(nonlinearity=None)).nonlinearity is identity
    layer = EmbeddingLayer(InputLayer((None, 2), T.imatrix()), 5, 3)
    assert wrap(layer).g.get_value().shape == (3,)
    conv3d = getattr(lasagne.layers, 'Conv3DLayer', own_layers.Conv3DLayer)
    for layer in (Conv1DLayer(InputLayer((None, 2, 6)), 4, 3),
                  conv3d(InputLayer((None, 2, 3, 3, 3)), 4, 2)):
        l = wrap(layer)
        randomize(l)
        V, g = layer.W_param.get_value(), l.g.get_value()
        expected = V * g.reshape((4,) + (1,) * (V.ndim - 1))
        if wrap is not paper.no_norm:
            expected /= np.sqrt(np.sum(V ** 2, axis=tuple(
                range(1, V.ndim)), keepdims=True))
        np.testing.assert_allclose(layer.W.eval(), expected)
    layer = own_layers.DenseLayer(InputLayer((None, 3, 5)), 4, 2)
    assert wrap(layer).axes_to_sum == (0, 1)
    l = wrap(conv(untie_biases=True))
    assert l.b.get_value().shape == (3, 3, 3)


@pytest.mark.parametrize('name, wrap', [
    ('DilatedConv2DLayer', paper.weight_norm),
    ('TransposedConv2DLayer', paper.weight_norm),
    ('TransposedConv2DLayer', paper.no_norm)])
def test_filters_on_axis_1(name, wrap):
    if not hasattr(lasagne.layers, name):
        pytest.skip('the installed Lasagne lacks %s' % name)
    layer = getattr(lasagne.layers, name)(InputLayer((2, 3, 5, 5)), 4, 2)
    l = wrap(layer)
    randomize(l)
    V, g = layer.W_param.get_value(), l.g.get_value()
    expected = V * g[:, None, None]
    if wrap is paper.weight_norm:
        expected /= np.sqrt(np.sum(V ** 2, axis=(0, 2, 3), keepdims=True))
    np.testing.assert_allclose(layer.W.eval(), expected)


def test_classes():
    for wrap, kind in zip(WRAPPERS, (
            paper.WeightNormLayer, paper.MeanOnlyBNLayer, paper.InitLayer)):
        l = wrap(dense(nonlinearity=None), b=Constant(2.), name='fc')
        assert type(l) is kind
        assert isinstance(l, paper.WeightNormLayer) == (
            wrap is paper.weight_norm)
        assert [p.name for p in l.get_params()][:2] == ['fc.b', 'fc.g']
        assert (l.b.get_value() == 2).all()
        assert repr(l) == ("%s(DenseLayer (None, 4), nonlinearity=linear, "
                           "name='fc')" % kind.__name__)


# --- mean-only batch normalization -------------------------------------------

def test_running_mean():
    l = paper.mean_only_bn(dense())
    randomize(l)
    assert l.avg_batch_mean is l.mean
    assert l.avg_batch_mean in l.get_params(trainable=False)
    x = l.input_layer.input_layer.input_var
    assert not hasattr(l, 'bn_updates')
    get_output(l, deterministic=True)
    assert not hasattr(l, 'bn_updates')
    out = get_output(l)
    assert [param for param, _ in l.bn_updates] == [l.mean]
    before = l.mean.get_value()
    silent = theano.function([x], out)
    step = theano.function([x], out, updates=l.bn_updates)
    t = data(8, 5).dot(l.input_layer.W.eval())
    silent(data(8, 5))
    np.testing.assert_array_equal(l.mean.get_value(), before)
    step(data(8, 5))
    np.testing.assert_allclose(l.mean.get_value(),
                               .9 * before + .1 * t.mean(axis=0))
    np.testing.assert_allclose(
        get_output(l, data(8, 5), deterministic=True).eval(),
        np.maximum(t - l.mean.get_value() + l.b.get_value(), 0))


def test_running_mean_of_the_initializing_pass():
    l = paper.mean_only_bn(dense())
    get_output(l, data(8, 5), init=True)
    (param, value), = l.bn_updates
    assert param is l.mean
    np.testing.assert_allclose(value.eval(), .1 * data(8, 5).dot(
        l.input_layer.W.eval()).mean(axis=0))


# --- the library's own functions ---------------------------------------------

def network(wrap):
    l = InputLayer((None, 2, 4, 4), T.tensor4())
    l = wrap(dnn.Conv2DDNNLayer(l, 3, 2, nonlinearity=nn.lrelu))
    l = wrap(NINLayer(l, 4))
    return wrap(DenseLayer(l, 3, nonlinearity=tanh, name='out'))


every = pytest.mark.parametrize('wrap', [nn.weight_norm] + WRAPPERS)


@every
@pytest.mark.parametrize('copy', [False, True])
def test_fold(wrap, copy):
    net = network(wrap)
    randomize(net)
    x = data(6, 2, 4, 4)
    before = get_output(net, x, deterministic=True).eval()
    if copy:
        plain = wnorm.fold(net, copy=True)
        np.testing.assert_array_equal(
            get_output(net, x, deterministic=True).eval(), before)
        report = plain.fold_report
        assert not any(isinstance(l, wnorm.WeightNormLayer)
                       for l in get_all_layers(plain))
    else:
        report, plain = wnorm.fold(net), net
        assert len(wnorm.fold(net).already) == 3
    assert [row.params for row in report.folded] == 3 * [('W', 'b')]
    assert not report.kept and not report.already
    assert [p.name for p in get_all_params(plain)] == [
        'W', 'b', 'W', 'b', 'out.W', 'out.b']
    np.testing.assert_allclose(
        get_output(plain, x, deterministic=True).eval(), before, rtol=1e-9)
    # and again
    again = wrap(get_all_layers(plain)[1])
    assert isinstance(again, wnorm.WeightNormLayer)


@every
@pytest.mark.parametrize('many', [False, True])
def test_initialize(wrap, many):
    net = network(wrap)
    x = data(40, 2, 4, 4)
    report = wnorm.initialize(net, [x[:30], x[30:]] if many else x)
    assert len(report) == 3 and not report.notes
    for row in report:
        np.testing.assert_allclose(row.std_after, 1)
        np.testing.assert_allclose(row.mean_after, 0, atol=1e-9)


def test_initialize_one_scale_for_a_layer():
    l = paper.no_norm(dense(), g=wnorm.Gain(per='layer'))
    report = wnorm.initialize(l, data(8, 5))
    assert 'one g for 4 filters' in report.notes[0]


@every
def test_save_and_load(wrap, tmp_path):
    net, other = network(wrap), network(wrap)
    randomize(net)
    path = str(tmp_path / 'net.npz')
    wnorm.save(net, path)
    wnorm.load(other, path)
    x = data(6, 2, 4, 4)
    np.testing.assert_array_equal(*[
        get_output(one, x, deterministic=True).eval()
        for one in (net, other)])


def test_names_in_a_checkpoint_without_norms(tmp_path):
    path = str(tmp_path / 'net.npz')
    wnorm.save(paper.no_norm(dense()), path)
    with np.load(path) as file:
        assert sorted(key.split('/')[-1] for key in file
                      if '/' in key) == ['W', 'b', 'g']


# --- bad input ---------------------------------------------------------------

def refused(wrap, layer, error, match, **kwargs):
    attributes, tags = dict(vars(layer)), list(layer.params.items())
    V = getattr(layer, 'W', None)
    value = V.get_value() if hasattr(V, 'get_value') else None
    random = lasagne.random.get_rng().get_state()[1].copy()
    with pytest.raises(error, match=match) as info:
        wrap(layer, **kwargs)
    assert type(layer).__name__ in str(info.value)
    assert vars(layer) == attributes and list(layer.params.items()) == tags
    if value is not None:
        assert (V.get_value() == value).all()
    assert (lasagne.random.get_rng().get_state()[1] == random).all()


@wrappers
def test_bad_arguments(wrap):
    refused(wrap, dense(), TypeError, "unknown keyword 'gg'. Did you mean",
            gg=1)
    for other in ('train_g', 'init_stdv', 'eps'):  # the other flavour's
        refused(wrap, dense(), TypeError, 'unknown keyword', **{other: 1.})
    refused(wrap, dense(), ValueError, 'g has shape', g=np.ones(3),
            b=Normal())
    refused(wrap, dense(), TypeError, 'nonlinearity must be',
            nonlinearity='tanh')
    refused(wrap, InputLayer((None, 5)), ValueError, 'has no weight W')
    refused(wrap, paper.BatchNormLayer(dense()), ValueError, (
        'one of its parameters, b, g, avg_batch_mean, avg_batch_var.*'
        r'wnorm.register\(BatchNormLayer, name=axis\)'))
    if wrap is paper.no_norm:
        refused(wrap, dense(), TypeError, "unknown keyword 'W'", W=Normal())
        refused(wrap, dense(), ValueError, "g cannot be 'norm'", g='norm')
    else:
        refused(wrap, dense(), ValueError, 'W has shape', W=np.ones((4, 5)))
    with pytest.raises(TypeError, match='takes a Lasagne layer'):
        wrap(3)


@wrappers
def test_wrapping_twice(wrap):
    l = wrap(dense())
    for again in WRAPPERS + [nn.weight_norm, wnorm.weight_norm]:
        for layer in (l, l.input_layer):
            refused(again, layer, ValueError, 'already')
