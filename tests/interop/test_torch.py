"""Weights to PyTorch and back, with the real one where it is installed."""
import os
import re
import subprocess
import sys

import lasagne
import lasagne.layers
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.init import Normal
from lasagne.layers import (
    Conv2DLayer, ConcatLayer, DenseLayer, InputLayer, NINLayer, dnn, get_all_layers, get_all_param_values, get_all_params, get_output)
from lasagne.nonlinearities import rectify, tanh

import wnorm
import wnorm.nn
from layouts import HAS_GROUPS, HAS_LEADING_AXES
from running import in_c
from wnorm import Gain, normalize_param, weight_norm
from wnorm.interop.torch import load_state_dict, state_dict
from wnorm.mean_only import mean_only_batch_norm

EXAMPLE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))), 'examples', 'to_pytorch.py')


@pytest.fixture
def apis(torch):
    """PyTorch's two: pairs of weight_norm, argument of state_dict."""
    from torch.nn.utils.parametrizations import weight_norm

    def old(*args, **kwargs):
        with pytest.warns(FutureWarning):  # deprecated, but models use it
            return torch.nn.utils.weight_norm(*args, **kwargs)
    return [(old, False), (weight_norm, True)]


def rng():
    return np.random.RandomState(0)


def tolerance(floatX):
    return dict(float64=1e-10, float32=1e-5)[floatX]


# --- layers and modules ------------------------------------------------------

class Pair(object):
    """A layer, the module that it corresponds to, and the order of weights.

    layer : function of an input layer and keywords
    module : function of torch.nn
    weight : what becomes of W
    dim : the argument of PyTorch's weight_norm
    """
    def __init__(self, name, layer, module, input_shape, weight, dim=0,
                 missing=None):
        self.name = name
        self.make = layer
        self.module = module
        self.input_shape = input_shape
        self.weight = weight
        self.dim = dim
        self.missing = missing

    def layer(self, **kwargs):
        if self.missing:
            pytest.skip('the installed Lasagne lacks ' + self.missing)
        kind = T.TensorType(theano.config.floatX,
                            (False,) * len(self.input_shape))
        return self.make(InputLayer((None,) + self.input_shape[1:],
                                    kind('x')), **kwargs)

    def data(self):
        return rng().randn(*self.input_shape).astype(theano.config.floatX)


def flip(W):
    return W[(slice(None), slice(None)) + (slice(None, None, -1),) *
             (W.ndim - 2)]


def same(W):
    return W


def swap(W):
    return W.swapaxes(0, 1)


def pointwise(n):
    return lambda W: W.T.reshape(W.T.shape + (1,) * n)


def _layer(name, *args, **kwargs):
    """A layer of Lasagne's, and whether it is missing."""
    module = dnn if 'DNN' in name else lasagne.layers
    cls = getattr(module, name, None)
    return dict(layer=lambda l, **more: cls(l, *args, **dict(kwargs, **more)),
                missing=None if cls else name)


def _groups():
    pair = _layer('Conv2DLayer', 4, 2, num_groups=2)
    return pair if HAS_GROUPS else dict(pair, missing='num_groups')


def _leading():
    pair = _layer('DenseLayer', 4, num_leading_axes=2)
    return (pair if HAS_LEADING_AXES else
            dict(pair, missing='num_leading_axes'))


def _deconv(l, **kwargs):
    return wnorm.nn.Deconv2DLayer(l, (2, 4, 6, 8), (3, 5), **kwargs)


PAIRS = [
    Pair('dense', module=lambda nn: nn.Linear(5, 4), input_shape=(3, 5),
         weight=swap, **_layer('DenseLayer', 4)),
    Pair('dense on images', module=lambda nn: nn.Sequential(
        nn.Flatten(), nn.Linear(12, 4)), input_shape=(3, 2, 3, 2),
        weight=swap, **_layer('DenseLayer', 4)),
    Pair('dense on sequences', module=lambda nn: nn.Linear(5, 4),
         input_shape=(3, 6, 5), weight=swap, **_leading()),
    Pair('conv1d', module=lambda nn: nn.Conv1d(2, 4, 3, stride=2, padding=1),
         input_shape=(3, 2, 7), weight=flip,
         **_layer('Conv1DLayer', 4, 3, stride=2, pad=1)),
    Pair('conv2d', module=lambda nn: nn.Conv2d(2, 4, (3, 2)),
         input_shape=(2, 2, 5, 4), weight=flip,
         **_layer('Conv2DLayer', 4, (3, 2))),
    Pair('conv2d same', module=lambda nn: nn.Conv2d(4, 4, 3, padding=1),
         input_shape=(2, 4, 5, 4), weight=flip,
         **_layer('Conv2DLayer', 4, 3, pad='same')),
    Pair('conv2d grouped', module=lambda nn: nn.Conv2d(2, 4, 2, groups=2),
         input_shape=(2, 2, 4, 4), weight=flip, **_groups()),
    Pair('conv2d dnn', module=lambda nn: nn.Conv2d(2, 4, (2, 3), stride=2),
         input_shape=(2, 2, 6, 7), weight=same,
         **_layer('Conv2DDNNLayer', 4, (2, 3), stride=2)),
    Pair('conv2d dnn flipped', module=lambda nn: nn.Conv2d(2, 4, 2),
         input_shape=(2, 2, 4, 4), weight=flip,
         **_layer('Conv2DDNNLayer', 4, 2, flip_filters=True)),
    Pair('conv3d', module=lambda nn: nn.Conv3d(2, 4, 2),
         input_shape=(2, 2, 3, 3, 3), weight=flip,
         **_layer('Conv3DLayer', 4, 2)),
    Pair('conv3d unflipped', module=lambda nn: nn.Conv3d(2, 4, 2),
         input_shape=(2, 2, 3, 3, 3), weight=same,
         **_layer('Conv3DLayer', 4, 2, flip_filters=False)),
    Pair('conv3d dnn', module=lambda nn: nn.Conv3d(2, 4, 2),
         input_shape=(2, 2, 3, 3, 3), weight=same,
         **_layer('Conv3DDNNLayer', 4, 2)),
    Pair('transposed2d', dim=1, input_shape=(2, 3, 3, 4), weight=flip,
         module=lambda nn: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1),
         **_layer('TransposedConv2DLayer', 4, 3, stride=2, crop=1)),
    Pair('transposed2d flipped', dim=1, input_shape=(2, 4, 3, 4), weight=same,
         module=lambda nn: nn.ConvTranspose2d(4, 4, 3, stride=2),
         **_layer('TransposedConv2DLayer', 4, 3, stride=2,
                  flip_filters=True)),
    Pair('transposed3d', dim=1, input_shape=(2, 2, 3, 2, 2), weight=flip,
         module=lambda nn: nn.ConvTranspose3d(2, 4, 2),
         **_layer('TransposedConv3DLayer', 4, 2)),
    Pair('deconv of nn.py', _deconv, lambda nn: nn.ConvTranspose2d(
        3, 4, (3, 5), stride=2, padding=(1, 2), output_padding=1),
        (2, 3, 3, 4), flip, dim=1),
    Pair('dilated2d', module=lambda nn: nn.Conv2d(2, 4, 2, dilation=(2, 3)),
         input_shape=(2, 2, 5, 6), weight=swap,
         **_layer('DilatedConv2DLayer', 4, 2, dilation=(2, 3))),
    Pair('nin', module=lambda nn: nn.Conv2d(3, 4, 1),
         input_shape=(2, 3, 4, 3), weight=pointwise(2),
         **_layer('NINLayer', 4)),
    Pair('nin on sequences', module=lambda nn: nn.Conv1d(3, 4, 1),
         input_shape=(2, 3, 4), weight=pointwise(1), **_layer('NINLayer', 4)),
    Pair('nin on volumes', module=lambda nn: nn.Conv3d(3, 4, 1),
         input_shape=(2, 3, 2, 2, 3), weight=pointwise(3),
         **_layer('NINLayer', 4)),
]
every_pair = pytest.mark.parametrize('pair', PAIRS,
                                     ids=[pair.name for pair in PAIRS])


def randomize(net):
    random = rng()
    for param in get_all_params(net):
        shape = param.get_value().shape
        param.set_value(np.asarray(random.randn(*shape), param.dtype))
    return net


def wrapped(pair, **kwargs):
    kwargs = dict(dict(train_g=True), **kwargs)
    return randomize(weight_norm(pair.layer(nonlinearity=None), **kwargs))


def in_torch(torch, pair, weight_norm=None, dim='as it should be'):
    """The module in the precision in force, and its name for the entries."""
    dtype = getattr(torch, theano.config.floatX)
    module = pair.module(torch.nn).to(dtype)
    inner, name = module, 'net'
    if isinstance(module, torch.nn.Sequential):
        inner, name = module[1], 'net.1'
    if weight_norm:
        weight_norm(inner, dim=pair.dim if dim == 'as it should be' else dim)
    return torch.nn.ModuleDict({'net': module}), name


def function(pair, net):
    """The outputs of the network, whatever its parameters are by then."""
    x = get_all_layers(net)[0].input_var
    compiled = theano.function([x], get_output(net))
    return lambda: compiled(pair.data())


def torch_outputs(torch, pair, model):
    return model['net'](torch.from_numpy(pair.data()))


def effective(V, g, eps, dim):
    """The textbook formula in NumPy."""
    axes = tuple(axis for axis in range(V.ndim) if axis != dim)
    shape = [1] * V.ndim
    shape[dim] = -1
    return np.reshape(g, shape) * V / np.sqrt(
        eps + np.sum(V ** 2, axis=axes, keepdims=True))


# --- to PyTorch --------------------------------------------------------------

@every_pair
def test_entries(pair):
    # without PyTorch: V as it is, g such that W is equal, for eps = 0
    l = wrapped(pair, eps=.5)
    V = pair.weight(l.input_layer.W_param.get_value())
    for new, keys in ((False, ['weight_g', 'weight_v']),
                      (True, ['parametrizations.weight.original0',
                              'parametrizations.weight.original1'])):
        state = state_dict(l, ['a.b'], parametrizations=new, arrays=True)
        assert list(state) == ['a.b.' + key for key in keys + ['bias']]
        g, v, b = state.values()
        assert (v == V).all() and (b == l.b.get_value()).all()
        assert g.shape == tuple(
            n if axis == pair.dim else 1 for axis, n in enumerate(V.shape))
        np.testing.assert_allclose(
            effective(v, g, 0, pair.dim),
            effective(V, l.g.get_value(), .5, pair.dim), rtol=1e-12)
    # nobody's memory but the caller's
    for value in state.values():
        value[...] = 0
    assert (pair.weight(l.input_layer.W_param.get_value()) == V).all()


@every_pair
def test_outputs_in_torch(pair, torch, apis, floatX):
    l = wrapped(pair)
    expected = function(pair, l)()
    size = max(1, abs(expected).max())
    for weight_norm, new in apis:
        model, name = in_torch(torch, pair, weight_norm)
        model.load_state_dict(state_dict(l, [name], parametrizations=new))
        got = torch_outputs(torch, pair, model).detach().numpy()
        assert got.dtype == floatX
        np.testing.assert_allclose(got / size, expected / size,
                                   atol=tolerance(floatX), rtol=0)


@every_pair
def test_plain_layers(pair, torch, floatX):
    l = randomize(pair.layer(nonlinearity=None))
    model, name = in_torch(torch, pair)
    state = state_dict(l, {l: name})
    assert sorted(state) == [name + '.bias', name + '.weight']
    assert (state[name + '.weight'].numpy() ==
            pair.weight(l.W.get_value())).all()
    model.load_state_dict(state)
    expected = function(pair, l)()
    size = max(1, abs(expected).max())
    np.testing.assert_allclose(
        torch_outputs(torch, pair, model).detach().numpy() / size,
        expected / size, atol=tolerance(floatX), rtol=0)


@every_pair
@pytest.mark.parametrize('eps', [0., .3])
def test_gradients(pair, torch, apis, eps):
    # of V and g: equal with eps = 0, otherwise as the documentation says
    l = wrapped(pair, eps=eps)
    V, g, b = l.input_layer.W_param, l.g, l.b
    y = get_output(l)
    x, factor = get_all_layers(l)[0].input_var, y.type()
    gradients = theano.function([x, factor], T.grad(
        T.sum(factor * y), [V, g, b]))
    V, g = pair.weight(V.get_value()), g.get_value()
    n = np.sqrt(np.sum(V ** 2, axis=tuple(
        axis for axis in range(V.ndim) if axis != pair.dim), keepdims=True))
    r = np.sqrt(eps + n ** 2)
    for weight_norm, new in apis:
        model, name = in_torch(torch, pair, weight_norm)
        model.load_state_dict(state_dict(l, [name], parametrizations=new))
        y = torch_outputs(torch, pair, model)
        factor = rng().randn(*y.shape)
        (y * torch.from_numpy(factor)).sum().backward()
        grads = {key: value.grad.numpy()
                 for key, value in model.named_parameters()}
        dg_torch, dV_torch, db_torch = [
            grads['%s.%s' % (name, key)] for key in (
                ('parametrizations.weight.original0',
                 'parametrizations.weight.original1') if new else
                ('weight_g', 'weight_v')) + ('bias',)]
        dV, dg, db = gradients(pair.data(), factor)
        np.testing.assert_allclose(db, db_torch, rtol=1e-9)
        np.testing.assert_allclose(dg, (n / r * dg_torch).ravel(), rtol=1e-9)
        np.testing.assert_allclose(
            pair.weight(dV), dV_torch + eps * g.reshape(n.shape) /
            (n * r ** 3) * V * dg_torch, rtol=1e-8, atol=1e-10)
        if eps:  # the test can tell
            assert abs(dg - dg_torch.ravel()).max() > 1e-3
            assert abs(pair.weight(dV) - dV_torch).max() > 1e-6


FORMS = {
    'fixed': lambda: dict(train_g=False),
    'None': lambda: dict(g=None),
    'norm': lambda: dict(g='norm'),
    'exp': lambda: dict(g='exp'),
    'per layer': lambda: dict(g=Gain(2., per='layer')),
    'groups': lambda: dict(g=Gain(Normal(1.), per=2)),
    'groups, exp': lambda: dict(g=Gain(per=2, exp=True)),
    'expression': lambda: dict(g=T.sqr(theano.shared(
        np.array([.5, 1., 2., 3.])))),
    'without bias': lambda: dict(b=None),
    'bias an expression': lambda: dict(b=2. * theano.shared(np.arange(4.))),
}
every_form = pytest.mark.parametrize('form', sorted(FORMS))


def settable(form):
    return 'expression' not in form


@every_form
def test_forms_of_g(form):
    l = wrapped(PAIRS[0], eps=.1, **FORMS[form]())
    state = state_dict(l, ['fc'], arrays=True)
    np.testing.assert_allclose(
        effective(state['fc.weight_v'], state['fc.weight_g'], 0, 0),
        l.input_layer.W.eval().T, rtol=1e-12)
    assert state['fc.weight_g'].shape == (4, 1)
    assert ('fc.bias' in state) == (l.b is not None)
    if l.b is not None:
        np.testing.assert_array_equal(state['fc.bias'], l.b.eval())
    # and back, to where all is zero or one
    if settable(form):
        # with another eps the gains of a group differ
        eps = .3 if l.g is not None and l.gain.per == 'filter' else .1
        twin = weight_norm(PAIRS[0].layer(nonlinearity=None), eps=eps,
                           **FORMS[form]())
        load_state_dict(twin, state, ['fc'])
        np.testing.assert_allclose(twin.input_layer.W.eval(),
                                   l.input_layer.W.eval(), rtol=1e-12)
        np.testing.assert_array_equal(twin.input_layer.W_param.get_value(),
                                      l.input_layer.W_param.get_value())


def test_normalized_by_name():
    # which other axis the norm is taken over is seen in g's shape
    l = normalize_param(PAIRS[0].layer(), axis=0, g=Normal(1.))
    W, b = l.W.eval(), rng().randn(4)
    l.b.set_value(b)
    state = state_dict(l, ['fc'], arrays=True)
    assert state['fc.weight_g'].shape == (1, 5)
    np.testing.assert_allclose(effective(
        state['fc.weight_v'], state['fc.weight_g'], 0, 1), W.T, rtol=1e-12)
    assert (state['fc.bias'] == b).all()
    twin = normalize_param(PAIRS[0].layer(), axis=0)
    assert load_state_dict(twin, state, ['fc'])[0].how == 'V and g'
    np.testing.assert_allclose(twin.W.eval(), W, rtol=1e-12)


def test_tied_weights():
    # V is an expression: it goes over as the numbers that it has
    encoder = weight_norm(PAIRS[0].layer())
    decoder = DenseLayer(encoder, 5)
    decoder.params.pop(decoder.W)
    decoder.W = encoder.input_layer.W_param.T
    decoder = randomize(weight_norm(decoder))
    state = state_dict(decoder, ['up', 'down'], arrays=True)
    V = encoder.input_layer.W_param.get_value()
    assert (state['up.weight_v'] == V.T).all()
    assert (state['down.weight_v'] == V).all()
    before = get_all_param_values(decoder)
    with pytest.raises(ValueError) as info:
        load_state_dict(decoder, state, ['up', 'down'])
    assert problems(info) == ['DenseLayer (None, 5): W is an expression, it '
                              'cannot be set']
    assert unchanged(decoder, before)
    only = {key: value for key, value in state.items() if 'up' in key}
    load_state_dict(decoder, only, ['up', None])


def test_mean_only_batch_norm():
    for options in ({}, {'weight_norm': False}, {'b': None}):
        l = randomize(mean_only_batch_norm(
            PAIRS[0].layer(nonlinearity=None), **options))
        state = state_dict(l, {l: 'fc'}, arrays=True)
        expected = get_output(l, PAIRS[0].data(), deterministic=True).eval()
        V = state.get('fc.weight_v', state.get('fc.weight'))
        g = (state['fc.weight_g'] if 'fc.weight_g' in state else
             np.sqrt((V ** 2).sum(axis=1)))
        np.testing.assert_allclose(
            PAIRS[0].data().dot(effective(V, g, 0, 0).T) + state['fc.bias'],
            expected, rtol=1e-10)
        if 'b' not in options:
            mean = l.mean.get_value()
            l.b.set_value(0 * mean)
            load_state_dict(l, state, ['fc'])
            np.testing.assert_allclose(get_output(
                l, PAIRS[0].data(), deterministic=True).eval(), expected)
            assert (l.mean.get_value() == mean).all()


def unusual(factor):
    """One filter of zeros, or of numbers whose squares float32 cannot hold."""
    l = DenseLayer(InputLayer((None, 5)), 4, nonlinearity=None,
                   W=rng().randn(5, 4).astype('float32'))
    V = l.W.get_value()
    V[:, 2] *= np.float32(factor)
    l.W.set_value(V)
    l = weight_norm(l, eps=0.)
    V = V.astype('float64')
    size = np.sqrt((V ** 2).sum(axis=0))
    return l, (V / np.where(size > 0, size, 1)).T


every_factor = pytest.mark.parametrize('factor', [0, 1e-25, 1e25])
warned = (r'DenseLayer \(None, 4\): V of filters 2 would have a norm of 0 or '
          'infinity')


@every_factor
def test_filters_that_torch_cannot_normalize(factor):
    l, W = unusual(factor)
    V = l.input_layer.W_param.get_value()
    with pytest.warns(UserWarning, match=warned):
        state = state_dict(l, [''], arrays=True)
    v, g = state['weight_v'], state['weight_g']
    assert v.dtype == g.dtype == 'float32'
    others = [0, 1, 3]
    assert (v[others] == V.T[others]).all()
    # in float32, and naively
    np.testing.assert_allclose(
        g * v / np.sqrt(np.sum(v * v, axis=1, keepdims=True)), W, atol=1e-6)


@every_factor
def test_filters_that_torch_could_not_normalize(factor, torch, apis):
    l, W = unusual(factor)
    for weight_norm, new in apis:
        with pytest.warns(UserWarning, match=warned):
            state = state_dict(l, ['0'], parametrizations=new)
        model = torch.nn.Sequential(weight_norm(torch.nn.Linear(5, 4)))
        model.load_state_dict(state)
        out = model(torch.eye(5)).detach().numpy().T
        np.testing.assert_allclose(out, W, atol=1e-6)


# --- from PyTorch ------------------------------------------------------------

@every_pair
def test_outputs_from_torch(pair, torch, apis, floatX):
    torch.manual_seed(0)
    nets = [wrapped(pair, eps=.1), wrapped(pair, g='norm', eps=0.),
            randomize(pair.layer(nonlinearity=None))]
    functions = [function(pair, net) for net in nets]
    for weight_norm, _ in apis:
        model, name = in_torch(torch, pair, weight_norm)
        expected = torch_outputs(torch, pair, model).detach().numpy()
        for net, how, outputs in zip(nets, [
                'V and g', 'V and g', 'W = g V / ||V||'], functions):
            report = load_state_dict(net, model.state_dict(), [name])
            assert report[0].how == how
            got = outputs()
            assert got.dtype == floatX
            np.testing.assert_allclose(got, expected, atol=tolerance(floatX),
                                       rtol=0)


@every_pair
def test_plain_modules(pair, torch, floatX):
    torch.manual_seed(0)
    model, name = in_torch(torch, pair)
    expected = torch_outputs(torch, pair, model).detach().numpy()
    for net, how in (
            (pair.layer(nonlinearity=None), 'weight'),
            (wrapped(pair), 'weight as V, g = sqrt(eps + ||V||^2)')):
        report = load_state_dict(net, model.state_dict(), [name])
        assert report[0].name == name and report[0].how == how
        np.testing.assert_allclose(function(pair, net)(), expected,
                                   atol=tolerance(floatX), rtol=0)


@every_pair
def test_other_axes(pair, torch, apis):
    # the default of transposed convolutions is dim=0
    torch.manual_seed(0)
    l = wrapped(pair, eps=.1)
    outputs = function(pair, l)
    for weight_norm, _ in apis:
        for dim in {0, 1, None} - {pair.dim}:
            model, name = in_torch(torch, pair, weight_norm, dim)
            for value in model.state_dict().values():  # not as it starts
                value *= 1 + .3 * torch.rand(value.shape)
            expected = torch_outputs(torch, pair, model).detach().numpy()
            report = load_state_dict(l, model.state_dict(), {l: name})
            V = pair.weight(l.input_layer.W_param.get_value())
            if dim is not None and V.shape[dim] == 1:
                dim = None  # it is the same
            assert ('W = g V / ||V|| of dim=%s as V, g = sqrt(eps + ||V||^2)'
                    % dim in str(report))
            np.testing.assert_allclose(outputs(), expected, atol=1e-10)
            np.testing.assert_allclose(l.g.get_value(), np.sqrt(.1 + np.sum(
                V ** 2, axis=tuple(i for i in range(V.ndim)
                                   if i != pair.dim))))


def test_as_many_channels_in_as_out():
    # g's shape still tells dim=0 from dim=1
    l = weight_norm(wnorm.nn.Deconv2DLayer(
        InputLayer((2, 3, 4, 4)), (2, 3, 8, 8), (3, 3)), eps=0.)
    V, g = rng().randn(3, 3, 3, 3), rng().rand(3) + 1
    for dim, shape in enumerate([(3, 1, 1, 1), (1, 3, 1, 1)]):
        report = load_state_dict(
            l, {'weight_v': V, 'weight_g': g.reshape(shape),
                'bias': np.zeros(3)}, [''])
        np.testing.assert_allclose(flip(l.input_layer.W.eval()),
                                   effective(V, g, 0, dim))
        assert ('dim=0' in report[0].how) == (dim == 0)


def test_filters_of_zeros():
    # W = 0 where PyTorch has NaN
    V, g = rng().randn(4, 5), np.array([1., 2., -3., 4.])
    V[1] = 0
    W = effective(V, g, 1e-300, 0)
    for net in (wrapped(PAIRS[0]), wrapped(PAIRS[0], eps=0.),
                PAIRS[0].layer()):
        load_state_dict(net, {'weight_v': V, 'weight_g': g[:, None],
                              'bias': np.zeros(4)}, [''])
        inner = getattr(net, 'input_layer', net)
        inner = inner if hasattr(inner, 'W') else net
        np.testing.assert_allclose(inner.W.eval().T, W, atol=1e-12)
    l = wrapped(PAIRS[0], eps=0., g='exp')
    load_state_dict(l, {'weight': V, 'bias': np.zeros(4)}, [''])
    np.testing.assert_allclose(l.input_layer.W.eval().T, V, atol=1e-12)


def test_precisions(torch):
    # a model in half precision, parameters with gradients, another floatX
    l = wrapped(PAIRS[0])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        weight = torch.randn(4, 5).to(dtype).requires_grad_()
        load_state_dict(l, {'weight': weight, 'bias': torch.zeros(4)}, [''])
        assert l.input_layer.W_param.get_value().dtype == 'float64'
        np.testing.assert_allclose(l.input_layer.W.eval().T,
                                   weight.detach().double().numpy())
    # None in float64 from float32: norms of 1 up to the rounding of those
    l = wrapped(PAIRS[0], g=None)
    state = {key: value.astype('float32') for key, value in state_dict(
        l, ['fc'], arrays=True).items()}
    W = l.input_layer.W.eval()
    randomize(l).input_layer.W_param.set_value(rng().rand(5, 4))
    load_state_dict(l, state, ['fc'])
    np.testing.assert_allclose(l.input_layer.W.eval(), W, atol=1e-6)


def test_the_report():
    net = DenseLayer(weight_norm(DenseLayer(
        InputLayer((None, 5)), 4, name='hidden')), 3)
    state = state_dict(net, ['0', '2'], arrays=True)
    report = load_state_dict(net, state, ['0', '2'])
    layer = net.input_layer.input_layer
    assert list(report) == [(layer, '0', 'V and g'), (net, '2', 'weight')]
    assert report[0].layer is layer and report[1].name == '2'
    lines = str(report).splitlines()
    assert repr(report) == str(report)
    assert [re.split(r'\s{2,}', line) for line in lines] == [
        ['layer', 'module', 'loaded'],
        ["DenseLayer 'hidden' (None, 4)", '0', 'V and g'],
        ['DenseLayer (None, 3)', '2', 'weight']]


def test_initialize_knows_that_values_were_loaded():
    l = weight_norm(PAIRS[0].layer())
    load_state_dict(l, {'weight': rng().randn(4, 5), 'bias': np.ones(4)}, [''])
    with pytest.warns(UserWarning, match='DenseLayer'):
        wnorm.initialize(l, PAIRS[0].data())


# --- a whole network ---------------------------------------------------------

def network(**kwargs):
    l = InputLayer((None, 1, 8, 8), T.tensor4('x'))
    l = weight_norm(dnn.Conv2DDNNLayer(l, 3, 3), train_g=True, **kwargs)
    l = weight_norm(Conv2DLayer(l, 4, 3, stride=2, nonlinearity=tanh),
                    **kwargs)
    l = NINLayer(l, 5, nonlinearity=rectify)
    return randomize(weight_norm(DenseLayer(l, 3, nonlinearity=None),
                                 **kwargs))


NAMES = ['conv.0', 'conv.2', 'mix', 'fc']


def torch_network(torch, weight_norm):
    nn = torch.nn

    class Network(nn.Module):
        def __init__(self):
            super(Network, self).__init__()
            self.conv = nn.Sequential(
                weight_norm(nn.Conv2d(1, 3, 3)), nn.ReLU(),
                weight_norm(nn.Conv2d(3, 4, 3, stride=2)), nn.Tanh())
            self.mix = nn.Conv2d(4, 5, 1)
            self.fc = weight_norm(nn.Linear(20, 3))

        def forward(self, x):
            x = torch.relu(self.mix(self.conv(x)))
            return self.fc(x.flatten(1))

    return Network()


def test_network(torch, apis, floatX, tmp_path):
    X = rng().randn(6, 1, 8, 8).astype(floatX)
    net, twin = network(), network(eps=.2)
    expected = get_output(net, X).eval()
    size = max(1, abs(expected).max())
    for weight_norm, new in apis:
        model = torch_network(torch, weight_norm).to(getattr(torch, floatX))
        # strict: no entry too many or missing
        model.load_state_dict(state_dict(net, NAMES, parametrizations=new))
        np.testing.assert_allclose(
            model(torch.from_numpy(X)).detach().numpy() / size,
            expected / size, atol=tolerance(floatX), rtol=0)
        # by file, and back
        torch.save(model.state_dict(), str(tmp_path / 'model.pt'))
        randomize(twin)
        load_state_dict([twin], torch.load(str(tmp_path / 'model.pt')), NAMES)
    np.testing.assert_allclose(get_output(twin, X).eval() / size,
                               expected / size, atol=tolerance(floatX),
                               rtol=0)


def test_names_by_layer():
    net = network()
    expected = state_dict(net, NAMES, arrays=True)
    layers = [l for l in get_all_layers(net) if hasattr(l, 'W')]
    tops = [l for l in get_all_layers(net)
            if isinstance(l, wnorm.WeightNormLayer) or l is layers[2]]
    for keys in (layers, tops):  # the wrapped ones, or what wraps them
        state = state_dict(net, dict(zip(keys, NAMES)), arrays=True)
        assert list(state) == list(expected)
    # a layer may be named both ways
    both = dict(zip(layers, NAMES))
    both[tops[0]] = NAMES[0]
    assert list(state_dict(net, both, arrays=True)) == list(expected)


def test_layers_that_are_left_out():
    net = network()
    state = state_dict(net, ['a', None, None, 'b'], arrays=True)
    assert {key.split('.')[0] for key in state} == {'a', 'b'}
    before = get_all_param_values(net)
    randomized = [value + 1 for value in before]
    lasagne.layers.set_all_param_values(net, randomized)
    report = load_state_dict(net, state, ['a', None, None, 'b'])
    assert [row.name for row in report] == ['a', 'b']
    after = get_all_param_values(net)
    for i, (old, other, new) in enumerate(zip(before, randomized, after)):
        if 3 <= i < 8:
            assert (new == other).all()
        else:
            np.testing.assert_allclose(new, old)


def test_layers_without_a_counterpart_can_be_left_out():
    l = lasagne.layers.LSTMLayer(InputLayer((None, 3, 5)), 4)
    net = DenseLayer(l, 2)
    assert list(state_dict(net, {l: None, net: 'fc'}, arrays=True)) == [
        'fc.weight', 'fc.bias']


# --- bad input: nothing has changed ------------------------------------------

def problems(info):
    lines = str(info.value).splitlines()
    assert lines[0] == 'the network and PyTorch do not match:'
    assert all(line.startswith('  ') for line in lines[1:])
    return [line[2:] for line in lines[1:]]


def unchanged(net, before):
    return all((a == b).all() and a.dtype == b.dtype for a, b in zip(
        get_all_param_values(net), before))


def refused(net, names, state=None):
    """What both directions say of these names."""
    before = get_all_param_values(net)
    with pytest.raises(ValueError) as info:
        state_dict(net, names, arrays=True)
    found = problems(info)
    with pytest.raises(ValueError) as info:
        load_state_dict(net, {} if state is None else state, names)
    assert problems(info) == found and unchanged(net, before)
    return found


def test_too_few_names():
    assert refused(network(), ['conv', 'mix']) == [
        '2 names for 4 layers with parameters:',
        "Conv2DDNNLayer (None, 3, 6, 6): 'conv'",
        "Conv2DLayer (None, 4, 2, 2): 'mix'",
        'NINLayer (None, 5, 2, 2): no name for it',
        'DenseLayer (None, 3): no name for it']


def test_too_many_names():
    assert refused(network(), NAMES + ['x', 'y'])[-2:] == [
        "no layer for 'x'", "no layer for 'y'"]


def test_names_that_do_not_match():
    net = network()
    other = DenseLayer(InputLayer((None, 3)), 2)
    conv = net.input_layer.input_layer.input_layer
    assert isinstance(conv, wnorm.WeightNormLayer)
    found = refused(net, {net: 'fc', other: 'other', 'mix': 'NINLayer',
                          conv: 'a', conv.input_layer: 'b'})
    assert found == [
        "DenseLayer (None, 2), for 'other', is no layer of this network that "
        'has parameters',
        "'mix', for 'NINLayer', is no layer of this network that has "
        'parameters',
        "Conv2DLayer (None, 4, 2, 2): it is named 'a' and 'b'",
        'Conv2DDNNLayer (None, 3, 6, 6): no name for it',
        'NINLayer (None, 5, 2, 2): no name for it']


def test_names_used_twice_or_no_names():
    assert refused(network(), ['a', 'b', 'a', 4]) == [
        "NINLayer (None, 5, 2, 2): the name 'a' is taken by another layer",
        'DenseLayer (None, 3): its name must be a string or None, got 4']


def test_names_that_are_a_string():
    for call in (lambda: state_dict(network(), 'fc'),
                 lambda: load_state_dict(network(), {}, 'fc')):
        with pytest.raises(TypeError, match='a list of names or a dict'):
            call()


def test_not_a_network():
    with pytest.raises(TypeError, match='a network is a layer'):
        state_dict('net', ['fc'])


@pytest.mark.parametrize('state', [None, 'model.pt', [('weight', 1)]])
def test_not_a_state(state):
    with pytest.raises(TypeError, match='state must be a dictionary'):
        load_state_dict(network(), state, NAMES)


class Own(DenseLayer):
    pass


class Mine(lasagne.layers.Layer):
    def __init__(self, incoming, **kwargs):
        super(Mine, self).__init__(incoming, **kwargs)
        self.W = self.add_param(Normal(1.), (5, 4), name='W')


def test_layers_without_a_counterpart():
    sequence = InputLayer((None, 5, 5))
    without = 'no PyTorch module is known for this class. Name it None to ' \
              'leave it out'
    lstm = lasagne.layers.LSTMLayer(sequence, 4, name='lstm')
    embedding = lasagne.layers.EmbeddingLayer(
        InputLayer((None,), T.ivector('i')), 9, 4)
    mine = Mine(InputLayer((None, 5)))
    assert refused([lstm, embedding, mine], ['a', 'b', 'c']) == [
        "LSTMLayer 'lstm' (None, 5, 4): " + without,
        'EmbeddingLayer (None, 4): ' + without,
        'Mine %s: %s' % (mine.output_shape, without)]
    weight_norm(lstm)
    assert len(refused(lstm, ['a'])) == 1
    recurrent = lasagne.layers.RecurrentLayer(sequence, 4)
    assert refused(recurrent, ['a']) == [
        'RecurrentLayer (None, 5, 4): ' + without]


def test_subclasses_are_known():
    l = Own(InputLayer((None, 5)), 4)
    assert state_dict(l, ['fc'], arrays=True)['fc.weight'].shape == (4, 5)


def test_locally_connected():
    if not hasattr(lasagne.layers, 'LocallyConnected2DLayer'):
        pytest.skip('the installed Lasagne lacks LocallyConnected2DLayer')
    l = lasagne.layers.LocallyConnected2DLayer(
        InputLayer((None, 2, 3, 3)), 3, 3, pad='same')
    assert 'no PyTorch module' in refused(l, ['a'])[0]
    assert 'no PyTorch module' in refused(weight_norm(l), ['a'])[0]


def test_untied_biases():
    l = dnn.Conv2DDNNLayer(InputLayer((None, 2, 4, 4)), 3, 2,
                           untie_biases=True)
    expected = ['Conv2DDNNLayer (None, 3, 3, 3): its biases are untied, '
                'PyTorch has one per filter']
    assert refused(l, ['a']) == expected
    assert refused(weight_norm(l), ['a']) == expected


def test_norms_by_position():
    l = normalize_param(PAIRS[3].layer(name='c'), axis=wnorm.Layout(
        0, position_axes=(2,)))
    assert refused(l, ['a']) == [
        "Conv1DLayer 'c' (None, 4, 4): it has a norm for each position, "
        'PyTorch has none']


def test_two_biases():
    l = wnorm.WeightNormLayer(PAIRS[0].layer(nonlinearity=None))
    assert refused(l, ['a']) == [
        'DenseLayer (None, 4): it has a bias, and so has its normalization: '
        'PyTorch has one']


def test_nonlinearity_below_the_bias():
    l = wnorm.WeightNormLayer(PAIRS[0].layer(b=None))
    assert 'a nonlinearity between' in refused(l, ['a'])[0]
    # where there is no bias above, it does no harm
    l = wnorm.WeightNormLayer(PAIRS[0].layer(), b=None)
    assert 'a.bias' in state_dict(l, ['a'], arrays=True)


def test_values_that_are_not_known():
    l = PAIRS[0].layer(nonlinearity=None)
    s = T.vector('s')
    l = weight_norm(l, g=s)
    with pytest.raises(ValueError) as info:
        state_dict(l, ['a'], arrays=True)
    assert problems(info) == ['DenseLayer (None, 4): g depends on s, so it '
                              'has no value of its own']
    l = weight_norm(PAIRS[0].layer(), b=s)
    assert refused(l, ['a']) == ['DenseLayer (None, 4): b depends on s, so it '
                                 'has no value of its own']


@pytest.mark.parametrize('param, entry', [
    (0, 'weight_v'), (1, 'bias'), (2, 'weight_g')])
def test_values_that_are_not_finite(param, entry):
    l = wrapped(PAIRS[0])
    param = get_all_params(l)[param]
    value = param.get_value()
    value[0] = np.inf
    param.set_value(value)
    with pytest.raises(ValueError) as info:
        state_dict(l, ['a'], arrays=True)
    assert problems(info) == ['DenseLayer (None, 4): its %s contains NaN or '
                              'infinity' % entry]


def load_refused(net, state, names=('fc',)):
    before = get_all_param_values(net)
    with pytest.raises(ValueError) as info:
        load_state_dict(net, state, names)
    assert unchanged(net, before)
    return problems(info)


def test_all_that_does_not_fit_is_listed():
    net = network()
    state = state_dict(net, NAMES, arrays=True)
    del state['conv.0.bias'], state['conv.2.weight_g']
    del state['mix.weight'], state['mix.bias']
    state['fc.weight_v'] = np.zeros((3, 19))
    state['fc.bias'] = np.array([1., 2., np.nan])
    state['out.weight'] = np.zeros(3)
    assert load_refused(net, state, NAMES) == [
        'conv.0.bias is missing, for Conv2DDNNLayer (None, 3, 6, 6)',
        'conv.2.weight_g is missing, for Conv2DLayer (None, 4, 2, 2)',
        'mix.bias is missing, for NINLayer (None, 5, 2, 2)',
        'mix.weight, or its g and V, is missing, for NINLayer (None, 5, 2, 2)',
        'fc.bias must be finite floating-point numbers, for DenseLayer '
        '(None, 3)',
        'fc.weight_v has shape (3, 19), DenseLayer (None, 3) needs (3, 20)',
        'out.weight is left over: no layer takes it']


def test_nothing_of_a_layer():
    assert load_refused(wrapped(PAIRS[0]), {}) == [
        'fc.bias is missing, for DenseLayer (None, 4)',
        'fc.weight, or its g and V, is missing, for DenseLayer (None, 4)']


GOOD = {'fc.weight_g': np.ones((4, 1)), 'fc.weight_v': np.ones((4, 5)),
        'fc.bias': np.zeros(4)}


@pytest.mark.parametrize('shape', [(4,), (3, 1), (4, 5), (1, 4), (4, 1, 1)])
def test_g_of_a_wrong_shape(shape):
    for net in (wrapped(PAIRS[0]), PAIRS[0].layer()):
        assert load_refused(net, dict(GOOD, **{
            'fc.weight_g': np.ones(shape)})) == [
            'fc.weight_g has shape %s, DenseLayer (None, 4) needs (4, 1)'
            % (shape,)]


@pytest.mark.parametrize('entry, shape, needed', [
    ('fc.bias', (5,), (4,)), ('fc.bias', (4, 1), (4,)),
    ('fc.weight_v', (5, 4), (4, 5))])
def test_wrong_shapes(entry, shape, needed):
    assert load_refused(wrapped(PAIRS[0]), dict(GOOD, **{
        entry: np.ones(shape)})) == [
        '%s has shape %s, DenseLayer (None, 4) needs %s'
        % (entry, shape, needed)]


@pytest.mark.parametrize('value', [
    np.full(4, np.inf), np.array(['a'] * 4), np.array([1j] * 4),
    np.arange(4)])
def test_no_numbers(value):
    assert load_refused(wrapped(PAIRS[0]), dict(GOOD, **{
        'fc.bias': value})) == ['fc.bias must be finite floating-point '
                                'numbers, for DenseLayer (None, 4)']


def test_values_that_float32_cannot_hold():
    l = weight_norm(DenseLayer(InputLayer((None, 5)), 4,
                               W=np.ones((5, 4), 'float32')))
    assert load_refused(l, dict(GOOD, **{
        'fc.weight_v': np.full((4, 5), 1e200)})) == [
        'DenseLayer (None, 4): W has values that float32 cannot hold']


def test_a_bias_for_a_layer_without():
    assert load_refused(wrapped(PAIRS[0], b=None), GOOD) == [
        'fc.bias is left over: DenseLayer (None, 4) has no b']


def test_both_kinds_of_entries():
    assert load_refused(wrapped(PAIRS[0]), dict(GOOD, **{
        'fc.weight': np.ones((4, 5))})) == [
        'fc.weight is left over: no layer takes it']


@pytest.mark.parametrize('form, message', [
    (dict(g=None), 'g=None cannot hold norms from 1 to 4'),
    (dict(g=Gain(per='layer')),
     'g, one per layer cannot hold norms from 1 to 4'),
    (dict(g=Gain(per=2)),
     'g, one per group, 2 groups cannot hold norms from 1 to 4'),
])
def test_gains_that_the_form_cannot_hold(form, message):
    g = np.array([[1.], [4.], [2.], [3.]])
    assert load_refused(wrapped(PAIRS[0], eps=0., **form), dict(GOOD, **{
        'fc.weight_g': g})) == [
        'DenseLayer (None, 4): %s, one per filter can' % message]


@pytest.mark.parametrize('form, size', [
    (dict(g=None), 1.), (dict(g=Gain(per='layer')), 3.),
    (dict(g=Gain(per=2, exp=True)), 3.)])
@pytest.mark.parametrize('normalized', [True, False])
def test_filters_of_one_norm(form, size, normalized):
    # which eps takes something away from
    l = wrapped(PAIRS[0], **form)
    V = rng().randn(4, 5)
    W = size * V / np.sqrt(np.sum(V ** 2, axis=1, keepdims=True))
    state = {'fc.bias': np.zeros(4)}
    state.update({'fc.weight_g': size * np.ones((4, 1)), 'fc.weight_v': V}
                 if normalized else {'fc.weight': W})
    load_state_dict(l, state, ['fc'])
    np.testing.assert_allclose(l.input_layer.W.eval(), W.T, rtol=1e-12)


def test_module_without_torch_s_own():
    assert wnorm.interop.torch.state_dict is state_dict
    with pytest.raises(AttributeError, match='wnorm.interop.*jax'):
        wnorm.interop.jax


def test_gains_that_are_negative():
    g = np.array([[1.], [-4.], [2.], [-3.]])
    assert load_refused(wrapped(PAIRS[0], g='exp'), dict(GOOD, **{
        'fc.weight_g': g})) == [
        'DenseLayer (None, 4): g = exp(s) cannot hold negative gains: those '
        'of filters 1, 3']
    l = wrapped(PAIRS[0], eps=0.)  # elsewhere they are gains like others
    load_state_dict(l, dict(GOOD, **{'fc.weight_g': g}), ['fc'])
    np.testing.assert_allclose(l.g.get_value(), g.ravel())


def test_expressions_cannot_be_set():
    for form, name in (('expression', 'g'), ('bias an expression', 'b')):
        assert load_refused(wrapped(PAIRS[0], **FORMS[form]()), GOOD) == [
            'DenseLayer (None, 4): %s is an expression, it cannot be set'
            % name]


def test_two_values_for_one_parameter():
    l = InputLayer((None, 5))
    a = weight_norm(DenseLayer(l, 4))
    b = weight_norm(DenseLayer(l, 4, W=a.input_layer.W_param), g=a.g)
    net = ConcatLayer([a, b])
    state = state_dict(net, ['a', 'b'], arrays=True)
    load_state_dict(net, state, ['a', 'b'])
    state['b.weight_v'] = 2 * state['b.weight_v']
    found = load_refused(net, state, ['a', 'b'])
    assert found[0] == ('DenseLayer (None, 4): W is shared with another '
                        'layer, for which there are other values')


def test_an_interruption(monkeypatch):
    net = network()
    before = get_all_param_values(net)
    state = {key: value + 1 for key, value in state_dict(
        net, NAMES, arrays=True).items()}
    last = get_all_params(net)[-2]
    set_value, calls = last.set_value, []

    def interrupted(value):
        calls.append(value)
        if len(calls) == 1:
            raise KeyboardInterrupt
        set_value(value)

    monkeypatch.setattr(last, 'set_value', interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_state_dict(net, state, NAMES)
    assert calls and unchanged(net, before)


# --- without PyTorch ---------------------------------------------------------

def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    net = network()
    with pytest.raises(ImportError, match=r"pip install 'wnorm\[torch\]'"):
        state_dict(net, NAMES)
    load_state_dict(net, state_dict(net, NAMES, arrays=True), NAMES)


def test_torch_is_not_imported():
    run = subprocess.run(
        [sys.executable, '-c', 'import sys, wnorm.interop.torch\n'
         'assert "torch" not in sys.modules'],
        stderr=subprocess.PIPE, universal_newlines=True)
    assert run.returncode == 0, run.stderr


def test_docstrings():
    import doctest
    import wnorm.interop.torch as module
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


# --- the example -------------------------------------------------------------

def run_example(*arguments, **environment):
    return subprocess.run(
        [sys.executable, EXAMPLE] + list(arguments), universal_newlines=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=dict(os.environ, THEANO_FLAGS=in_c(), **environment))


@pytest.mark.slow
def test_example(torch):
    pytest.importorskip('sklearn')
    run = run_example('--epochs', '2')
    assert run.returncode == 0, run.stderr
    found = re.search(r'equal predictions: (\d+) of (\d+)', run.stdout)
    assert found.group(1) == found.group(2) == '450'
    difference = re.search(r'difference of outputs: (\S+),', run.stdout)
    assert float(difference.group(1)) < 1e-5
    errors = re.findall(r'error (\d+\.\d) %', run.stdout)
    assert len(set(errors[-2:])) == 1 and float(errors[-1]) < 20


def test_example_without_torch(tmp_path):
    # a module of that name that cannot be imported
    (tmp_path / 'torch.py').write_text('raise ImportError')
    run = run_example(PYTHONPATH=os.pathsep.join(
        [str(tmp_path)] + os.environ.get('PYTHONPATH', '').split(os.pathsep)))
    assert run.returncode == 1 and run.stdout == ''
    assert run.stderr.strip() == ("this example needs PyTorch: pip install "
                                  "'wnorm[torch,examples]'")
