"""DenseLayer, MinibatchLayer and l2normalize."""
import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Normal
from lasagne.layers import DenseLayer, InputLayer, dnn, get_all_params
from lasagne.layers import get_output
from lasagne.nonlinearities import identity, tanh

import wnorm
from wnorm import nn
from wnorm.nn import weightnorm as paper

CLOSE = {'float32': dict(rtol=1e-4, atol=1e-5),
         'float64': dict(rtol=1e-9, atol=1e-11)}


def data(*shape):
    return np.random.RandomState(0).randn(*shape)


def inputs():
    return InputLayer((None, 5), T.matrix())


def randomize(net):
    random = np.random.RandomState(1)
    for param in get_all_params(net):
        param.set_value(random.uniform(.5, 2, param.get_value().shape).astype(
            param.dtype))


def initialized(l, x):
    """The output of the pass, which is that after the updates."""
    out = get_output(l, x, init=True)
    first = theano.function([], out, updates=l.init_updates)()
    np.testing.assert_allclose(get_output(l, x).eval(), first,
                               **CLOSE[theano.config.floatX])
    return first


# --- DenseLayer --------------------------------------------------------------

def test_dense(floatX):
    l = nn.DenseLayer(InputLayer((None, 2, 3)), 4, nonlinearity=tanh)
    randomize(l)
    x = data(8, 2, 3).astype(floatX)
    theta, s, b = [p.get_value() for p in l.get_params()]
    assert l.output_shape == (None, 4)
    t = x.reshape(8, 6).dot(theta / np.sqrt(np.sum(theta ** 2, axis=0)) * s)
    out = get_output(l, x).eval()
    assert out.dtype == floatX
    np.testing.assert_allclose(out, np.tanh(t + b), **CLOSE[floatX])
    first = initialized(l, x)
    m, std = t.mean(axis=0), t.std(axis=0)
    assert [p for p, _ in l.init_updates] == [l.weight_scale, l.b]
    np.testing.assert_allclose(first, np.tanh((t - m) / std), **CLOSE[floatX])
    np.testing.assert_allclose(l.weight_scale.get_value(), s / std,
                               **CLOSE[floatX])
    np.testing.assert_allclose(l.b.get_value(), -m / std, **CLOSE[floatX])


@pytest.mark.parametrize('nothing', [
    ['b'], ['weight_scale'], ['b', 'weight_scale']])
def test_dense_without(nothing):
    l = nn.DenseLayer(inputs(), 4, nonlinearity=None,
                      **{name: None for name in nothing})
    assert l.nonlinearity is identity
    assert not set(nothing) & {p.name for p in l.get_params()}
    first = initialized(l, data(8, 5))
    t = data(8, 5).dot(l.theta.get_value() / np.sqrt(np.sum(
        l.theta.get_value() ** 2, axis=0)))
    if 'weight_scale' not in nothing:
        t /= t.std(axis=0)
    if 'b' not in nothing:
        t -= t.mean(axis=0)
    np.testing.assert_allclose(first, t, atol=1e-10)


def test_dense_with_a_fixed_scale():
    scale = theano.shared(np.arange(1., 5.))
    l = nn.DenseLayer(inputs(), 4, weight_scale=2 * scale, b=scale + 1)
    assert scale in l.get_params()
    initialized(l, data(8, 5))
    assert l.init_updates == []


def test_constant_unit_of_dense():
    x = data(8, 5)
    x[:, 0] = .1
    l = nn.DenseLayer(inputs(), 4, theta=np.eye(5, 4))
    initialized(l, x)
    assert l.weight_scale.get_value()[0] == 1
    np.testing.assert_allclose(l.b.get_value()[0], -.1)


def test_column_of_zeros():
    l = nn.DenseLayer(inputs(), 4, theta=np.diag(np.arange(5.))[:, :4])
    cost = T.sum(l.W * T.constant(data(5, 4)))
    for values in [l.W] + T.grad(cost, [l.theta, l.weight_scale]):
        assert (values.eval()[..., 0] == 0).all()
        assert np.isfinite(values.eval()).all()


# --- MinibatchLayer ----------------------------------------------------------

def minibatch(x, theta, s, b, unit=1.):
    W = theta * np.exp(s) / np.sqrt(np.sum(theta ** 2, axis=0))
    a = np.tensordot(x, W, 1)
    n, kernels = len(x), theta.shape[1]
    distance = np.array([[[abs(a[i, k] - a[j, k]).sum() for j in range(n)]
                          for k in range(kernels)] for i in range(n)])
    f = np.zeros((n, kernels))
    for i in range(n):
        for j in range(n):
            if i != j:
                f[i] += np.exp(-distance[i, :, j] / unit)
    return distance, f + b


def test_minibatch(floatX):
    l = nn.MinibatchLayer(InputLayer((None, 2, 3)), 4, 2)
    randomize(l)
    x = data(5, 2, 3).astype(floatX)
    values = [p.get_value().astype('float64') for p in l.get_params()]
    flat = x.reshape(5, 6).astype('float64')
    distance, f = minibatch(flat, *values)
    out = get_output(l, x).eval()
    assert out.dtype == floatX and l.output_shape == (None, 10)
    np.testing.assert_allclose(out, np.hstack([flat, f]), **CLOSE[floatX])

    # half the mean distance to the nearest other example
    nearest = np.mean([np.delete(distance[i], i, axis=1).min(axis=1)
                       for i in range(5)], axis=0) / 2
    _, f = minibatch(flat, *values, unit=nearest)
    f -= values[2]
    first = initialized(l, x)
    assert [p for p, _ in l.init_updates] == [l.log_weight_scale, l.b]
    np.testing.assert_allclose(first, np.hstack([flat, f - f.mean(axis=0)]),
                               **CLOSE[floatX])
    np.testing.assert_allclose(l.b.get_value(), -f.mean(axis=0),
                               **CLOSE[floatX])
    np.testing.assert_allclose(
        l.log_weight_scale.get_value(),
        values[1] - np.log(nearest)[:, None], **CLOSE[floatX])


@pytest.mark.parametrize('x, f', [
    (data(1, 5), 0.), (np.tile(data(1, 5), (4, 1)), 3.)],
    ids=['one example', 'equal examples'])
def test_minibatch_without_distances(x, f):
    l = nn.MinibatchLayer(inputs(), 3, b=None)
    np.testing.assert_allclose(initialized(l, x)[:, 5:], f)
    assert np.all(l.log_weight_scale.get_value() == 0)


def test_minibatch_of_large_distances():
    # farther apart than the 1e6 by which the original told an example apart
    l = nn.MinibatchLayer(inputs(), 3)
    x = 1e8 * data(4, 5)
    initialized(l, x)
    scale = np.exp(l.log_weight_scale.get_value())
    assert np.all(scale < 1e-6) and np.all(scale > 1e-10)


def test_minibatch_without():
    l = nn.MinibatchLayer(inputs(), 3, log_weight_scale=None, b=None)
    assert get_all_params(l) == [l.theta]
    initialized(l, data(4, 5))
    assert l.init_updates == []
    l = nn.MinibatchLayer(inputs(), 3, log_weight_scale=None)
    initialized(l, data(4, 5))
    assert [p for p, _ in l.init_updates] == [l.b]


def test_gradient_of_minibatch():
    l = nn.MinibatchLayer(inputs(), 2, 2)

    def output(x, theta, s):
        return theano.clone(get_output(l, x), replace={
            l.theta: theta, l.log_weight_scale: s})
    theano.gradient.verify_grad(output, [
        data(4, 5), l.theta.get_value(), data(2, 2)],
        rng=np.random.RandomState(0))


# --- l2normalize -------------------------------------------------------------

@pytest.mark.parametrize('make, axes', [
    (lambda: DenseLayer(inputs(), 4), 0),
    (lambda: dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4)), 4, 2),
     (1, 2, 3)),
    (lambda: nn.Deconv2DLayer(InputLayer((2, 3, 3, 3)), (2, 4, 6, 6), 3),
     (0, 2, 3))])
def test_l2normalize(make, axes, floatX):
    layer = make()
    b, function = layer.b, layer.nonlinearity
    assert nn.l2normalize(layer) is layer
    randomize(layer)
    assert layer.b is b and layer.nonlinearity is function
    V, s = layer.W_param.get_value(), layer.W_scale.get_value()
    norm = np.sqrt(1e-6 + np.sum(V.astype('float64') ** 2, axis=axes,
                                 keepdims=True))
    W = layer.W.eval()
    assert W.dtype == floatX
    np.testing.assert_allclose(W, V / norm * s.reshape(
        norm.shape), rtol=1e-5 if floatX == 'float32' else 1e-12)
    assert layer.get_params()[0] is layer.W_param


# --- the library's own functions ---------------------------------------------

def network():
    l = nn.DenseLayer(inputs(), 6, name='fc')
    l = nn.MinibatchLayer(l, 3, 2)
    return nn.l2normalize(DenseLayer(l, 4, nonlinearity=tanh))


@pytest.mark.parametrize('copy', [False, True])
def test_fold(copy):
    net = network()
    randomize(net)
    before = get_output(net, data(6, 5)).eval()
    if copy:
        plain = wnorm.fold(net, copy=True)
        report = plain.fold_report
        np.testing.assert_array_equal(get_output(net, data(6, 5)).eval(),
                                      before)
        assert len(get_all_params(net)) == 9
    else:
        report, plain = wnorm.fold(net), net
        assert len(wnorm.fold(net).already) == 3
    assert len(report.folded) == 3 and not report.kept
    assert [p.name for p in get_all_params(plain)] == [
        'fc.theta', 'fc.b', 'theta', 'b', 'W', 'b']
    np.testing.assert_allclose(get_output(plain, data(6, 5)).eval(), before)
    # what is folded is not initialized
    np.testing.assert_allclose(get_output(plain, data(6, 5),
                                          init=True).eval(), before)


def test_initialize():
    net = network()
    values = [p.get_value() for p in get_all_params(net)]
    report = wnorm.initialize(net, data(20, 5))
    assert len(report) == 0
    assert [note.split(' has ')[1][:20] for note in report.notes] == [
        'an initialization of', 'an initialization of',
        'no weight normalizat']
    changed = [p.name for p, value in zip(get_all_params(net), values)
               if not np.array_equal(p.get_value(), value)]
    assert changed == ['fc.weight_scale', 'fc.b', 'log_weight_scale', 'b']
    fc = lasagne.layers.get_all_layers(net)[1]
    t = np.maximum(0, (data(20, 5).dot(fc.W.eval()) + fc.b.get_value()))
    np.testing.assert_allclose(get_output(fc, data(20, 5)).eval(), t)
    np.testing.assert_allclose((data(20, 5).dot(fc.W.eval())).std(axis=0), 1)
    fc.b.set_value(np.ones(6))
    with pytest.warns(UserWarning, match="overwrites.*DenseLayer 'fc'"):
        wnorm.initialize(net, data(20, 5))


def test_initialize_among_others():
    l = wnorm.weight_norm(DenseLayer(inputs(), 6))
    l = nn.DenseLayer(l, 4, name='fc')
    l = wnorm.weight_norm(DenseLayer(l, 3, nonlinearity=None))
    report = wnorm.initialize(l, data(20, 5))
    assert len(report) == 2 and "'fc'" in report.notes[0]
    for row in report:
        np.testing.assert_allclose(row.std_after, 1)
    with pytest.raises(ValueError, match="'fc'.*takes one batch"):
        wnorm.initialize(l, [data(20, 5), data(20, 5)])
    with pytest.raises(ValueError, match="'fc'.*takes one batch"):
        wnorm.initialize(network(), [data(20, 5)])


def test_save_and_load(tmp_path):
    net, other = network(), network()
    randomize(net)
    path = str(tmp_path / 'net.npz')
    wnorm.save(net, path)
    wnorm.load(other, path)
    np.testing.assert_array_equal(*[get_output(one, data(6, 5)).eval()
                                    for one in (net, other)])


def test_summary(capsys):
    wnorm.summary(network())
    assert 'MinibatchLayer' in capsys.readouterr().out


# --- bad input ---------------------------------------------------------------

@pytest.mark.parametrize('kind, options, match', [
    (nn.DenseLayer, dict(theta=np.ones((4, 5))), 'theta has shape'),
    (nn.DenseLayer, dict(weight_scale=np.ones(3)), 'weight_scale has shape'),
    (nn.DenseLayer, dict(b=0.), 'b must be'),
    (nn.DenseLayer, dict(theta=None), 'theta must be'),
    (nn.MinibatchLayer, dict(log_weight_scale=np.ones(4)),
     'log_weight_scale has shape')])
def test_bad_parameters(kind, options, match):
    random = lasagne.random.get_rng().get_state()[1].copy()
    with pytest.raises((TypeError, ValueError), match=match) as info:
        kind(inputs(), 4, name='mine', **options)
    assert "%s 'mine'" % kind.__name__ in str(info.value)
    assert (lasagne.random.get_rng().get_state()[1] == random).all()


@pytest.mark.parametrize('kind', [nn.DenseLayer, nn.MinibatchLayer])
def test_unknown_number_of_inputs(kind):
    with pytest.raises(ValueError, match='number of its inputs'):
        kind(InputLayer((5, None, 3)), 4)
    assert nn.MinibatchLayer(inputs(), 4).get_output_shape_for(
        (5, None)) == (5, None)


def test_theta_is_no_layer_s_W():
    l = nn.DenseLayer(inputs(), 4)
    for wrap in (nn.weight_norm, wnorm.weight_norm, nn.l2normalize):
        with pytest.raises(ValueError, match='DenseLayer.*already'):
            wrap(l)


def test_l2normalize_of_what_it_cannot_be():
    for layer, match in [
            (inputs(), 'no parameter'),
            (nn.l2normalize(DenseLayer(inputs(), 4)), 'already'),
            (nn.weight_norm(DenseLayer(inputs(), 4)).input_layer, 'already'),
            (paper.no_norm(DenseLayer(inputs(), 4)).input_layer,
             'W_param')]:
        before = dict(vars(layer)), dict(layer.params)
        with pytest.raises(ValueError, match=match):
            nn.l2normalize(layer)
        assert (dict(vars(layer)), dict(layer.params)) == before
    with pytest.raises(TypeError, match='Lasagne layer'):
        nn.l2normalize(3)


def test_theta_that_is_drawn():
    l = nn.DenseLayer(inputs(), 4, theta=Normal(.3), b=Normal(1.))
    assert l.theta.get_value().std() > .1 and l.b.get_value().std() > .1
