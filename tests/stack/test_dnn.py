"""The layers that stand in for ``lasagne.layers.dnn``, against NumPy loops."""
import copy
import inspect
import pickle
import warnings

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import dnn

# The master branch of Lasagne, where 0.1 has two dimensions only
MASTER = hasattr(lasagne.layers.conv, 'BaseConvLayer')

TOLERANCE = dict(float32=1e-5, float64=1e-12)


def offered(name):
    if not hasattr(dnn, name):
        pytest.skip('the installed Lasagne lacks ' + name[:-len('DNNLayer')])
    return getattr(dnn, name)


def draw(shape, dtype='float64', seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype(dtype)


def compute(layer, x, **kwargs):
    """The layer's output, whose shape and dtype are what they are said to be.
    """
    input = T.TensorType(x.dtype, (False,) * x.ndim)('x')
    result = theano.function(
        [input], layer.get_output_for(input, **kwargs))(x)
    assert result.shape == layer.get_output_shape_for(x.shape)
    assert result.dtype == x.dtype
    return result


def windows(x, size, stride, pad, value):
    """For each place of the output: its index and the part of x under it."""
    edges = [(0, 0), (0, 0)] + [(p, p) for p in pad]
    x = np.pad(x, edges, 'constant', constant_values=value)
    counts = [(length - k) // step + 1
              for length, k, step in zip(x.shape[2:], size, stride)]
    for place in np.ndindex(*counts):
        here = tuple(slice(i * step, i * step + k)
                     for i, step, k in zip(place, stride, size))
        yield place, x[(slice(None), slice(None)) + here]


def assemble(parts):
    """One array of the values for each place."""
    parts = dict(parts)
    first = next(iter(parts.values()))
    result = np.empty(first.shape + tuple(np.max(list(parts), axis=0) + 1))
    for place, value in parts.items():
        result[(slice(None), slice(None)) + place] = value
    return result


def correlation(x, W, stride, pad):
    axes = tuple(range(1, x.ndim))
    return assemble((place, np.tensordot(window, W, (axes, axes)))
                    for place, window
                    in windows(x, W.shape[2:], stride, pad, 0.))


def flipped(W):
    return W[(slice(None), slice(None)) + (slice(None, None, -1),)
             * (W.ndim - 2)]


def pooling(x, size, stride, pad, mode):
    reduce, value = dict(max=(np.max, -np.inf), average_inc_pad=(np.mean, 0.),
                         average_exc_pad=(np.nanmean, np.nan))[mode]
    axes = tuple(range(2, x.ndim))
    return assemble((place, reduce(window, axis=axes)) for place, window
                    in windows(x, size, stride, pad, value))


# --- the module -----------------------------------------------------------

def test_names():
    names = {'Conv2DDNNLayer', 'Pool2DDNNLayer', 'MaxPool2DDNNLayer'}
    if MASTER:
        names |= {'Conv3DDNNLayer', 'Pool3DDNNLayer', 'MaxPool3DDNNLayer',
                  'SpatialPyramidPoolingDNNLayer', 'BatchNormDNNLayer',
                  'batch_norm_dnn'}
    assert set(dnn.__all__) == names
    for name in names:
        assert getattr(dnn, name).__module__ == 'lasagne.layers.dnn'
        assert getattr(dnn, name).__doc__


def test_names_it_only_imports():
    # copies of nn.py take as_tuple from here
    assert dnn.as_tuple(3, 2) == (3, 3)
    assert dnn.conv_output_length(5, 3, 1, 0) == 3
    assert dnn.pool_output_length(5, 2, 2, 0, True) == 2
    assert issubclass(dnn.Conv2DDNNLayer, dnn.Layer)


CONVOLUTION = ('incoming num_filters filter_size stride pad untie_biases W b '
               'nonlinearity flip_filters')


@pytest.mark.parametrize('name, arguments', [
    ('Conv2DDNNLayer', CONVOLUTION + (' num_groups' if MASTER else '')),
    ('Conv3DDNNLayer', CONVOLUTION + ' num_groups'),
    ('Pool2DDNNLayer', 'incoming pool_size stride pad ignore_border mode'),
    ('Pool3DDNNLayer', 'incoming pool_size stride pad ignore_border mode'),
    ('MaxPool2DDNNLayer', 'incoming pool_size stride pad ignore_border'),
    ('MaxPool3DDNNLayer', 'incoming pool_size stride pad ignore_border'),
    ('SpatialPyramidPoolingDNNLayer', 'incoming pool_dims mode'),
    ('BatchNormDNNLayer',
     'incoming axes epsilon alpha beta gamma mean inv_std'),
])
def test_order_of_arguments(name, arguments):
    signature = inspect.signature(offered(name))
    assert list(signature.parameters) == arguments.split() + ['kwargs']


def test_no_subclass_of_the_layer_without_dnn():
    assert not issubclass(dnn.Conv2DDNNLayer, lasagne.layers.Conv2DLayer)
    assert not issubclass(dnn.Pool2DDNNLayer, lasagne.layers.Pool2DLayer)


def test_no_warning():
    x = T.tensor4()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        layer = lasagne.layers.InputLayer((None, 2, 5, 5))
        layer = dnn.Conv2DDNNLayer(layer, 3, 3)
        layer = dnn.MaxPool2DDNNLayer(layer, 2)
        lasagne.layers.get_output(layer, x)


# --- convolution ----------------------------------------------------------

@pytest.mark.parametrize('stride', [1, (2, 1), 2], ids=str)
@pytest.mark.parametrize('pad, padded', [
    (0, (0, 0)), (2, (2, 2)), ((0, 1), (0, 1)), ('valid', (0, 0)),
    ('same', (1, 2)), ('full', (2, 4))], ids=str)
def test_convolution(floatX, pad, padded, stride):
    x = draw((2, 3, 6, 7), floatX)
    layer = dnn.Conv2DDNNLayer(x.shape, 4, (3, 5), stride, pad,
                               b=draw((4,), floatX), nonlinearity=None)
    W = layer.W.get_value()
    assert W.shape == (4, 3, 3, 5) and W.dtype == floatX
    expected = correlation(x, W, dnn.as_tuple(stride, 2), padded)
    expected += layer.b.get_value()[:, None, None]
    np.testing.assert_allclose(compute(layer, x), expected,
                               atol=TOLERANCE[floatX] * 10)


@pytest.mark.parametrize('flip', [False, True])
def test_flipped_filters(floatX, flip):
    x = draw((2, 3, 5, 6), floatX)
    layer = dnn.Conv2DDNNLayer(x.shape, 2, (2, 3), flip_filters=flip, b=None,
                               nonlinearity=None)
    W = layer.W.get_value()
    expected = correlation(x, flipped(W) if flip else W, (1, 1), (0, 0))
    np.testing.assert_allclose(compute(layer, x), expected,
                               atol=TOLERANCE[floatX] * 10)


def test_attributes():
    layer = dnn.Conv2DDNNLayer((None, 3, 8, 8), 5, 3, stride=2, pad=1)
    assert layer.num_filters == 5
    assert layer.filter_size == (3, 3)
    assert layer.stride == (2, 2)
    assert layer.pad == (1, 1)
    assert layer.flip_filters is False
    assert layer.untie_biases is False
    assert layer.nonlinearity is lasagne.nonlinearities.rectify
    assert layer.get_W_shape() == (5, 3, 3, 3)
    assert layer.get_params() == [layer.W, layer.b]
    assert layer.get_params(regularizable=True) == [layer.W]
    assert layer.W.name == 'W' and layer.b.name == 'b'
    assert layer.output_shape == (None, 5, 4, 4)
    pads = [dnn.Conv2DDNNLayer((None, 3, 8, 8), 5, 3, pad=pad).pad
            for pad in ('valid', 'full', 'same')]
    assert pads == [(0, 0), 'full', 'same' if MASTER else (1, 1)]


def test_unknown_lengths():
    layer = dnn.Conv2DDNNLayer((None, 3, None, 8), 5, 3, pad='full')
    assert layer.output_shape == (None, 5, None, 10)


def test_same_with_an_even_filter_size():
    if MASTER:
        with pytest.raises(NotImplementedError):  # Lasagne's own refusal
            dnn.Conv2DDNNLayer((1, 1, 5, 5), 1, 2, pad='same')
    else:
        layer = dnn.Conv2DDNNLayer((1, 1, 5, 5), 1, 2, pad='same')
        assert layer.output_shape == (1, 1, 4, 4)


def test_nonlinearity(floatX):
    x = draw((2, 3, 4, 4), floatX)
    layer = dnn.Conv2DDNNLayer(x.shape, 2, 3)
    expected = correlation(x, layer.W.get_value(), (1, 1), (0, 0))
    assert (expected < 0).any()
    np.testing.assert_allclose(compute(layer, x), np.maximum(expected, 0),
                               atol=TOLERANCE[floatX] * 10)


def test_untied_biases(floatX):
    x = draw((2, 3, 5, 6), floatX)
    layer = dnn.Conv2DDNNLayer(
        x.shape, 2, 3, stride=(2, 1), untie_biases=True,
        b=draw((2, 2, 4), floatX), nonlinearity=None)
    expected = correlation(x, layer.W.get_value(), (2, 1), (0, 0))
    expected += layer.b.get_value()
    np.testing.assert_allclose(compute(layer, x), expected,
                               atol=TOLERANCE[floatX] * 10)


def test_no_biases():
    layer = dnn.Conv2DDNNLayer((None, 3, 5, 6), 2, 3, b=None)
    assert layer.b is None
    assert layer.get_params() == [layer.W]


def test_input_of_another_size():
    # as with cuDNN: the given shape is for the shapes of the layers above
    layer = dnn.Conv2DDNNLayer((10, 3, 9, 9), 2, 3, b=None, nonlinearity=None)
    x = draw((2, 3, 5, 6))
    np.testing.assert_allclose(
        compute(layer, x), correlation(x, layer.W.get_value(), (1, 1), (0, 0)))


def test_symbolic_W(floatX):
    x = draw((2, 3, 5, 6), floatX)
    layer = dnn.Conv2DDNNLayer(x.shape, 2, 3, b=None, nonlinearity=None)
    V, layer.W = layer.W, layer.W * 2
    result = compute(layer, x)
    np.testing.assert_allclose(
        result, 2 * correlation(x, V.get_value(), (1, 1), (0, 0)),
        atol=TOLERANCE[floatX] * 10)
    gradient = T.grad(layer.get_output_for(T.constant(x)).sum(), V).eval()
    assert gradient.dtype == floatX
    expected = np.array([[[2 * x[:, i, r:r + 3, c:c + 4].sum()
                           for c in range(3)] for r in range(3)]
                         for i in range(3)])
    np.testing.assert_allclose(gradient, [expected, expected],
                               atol=TOLERANCE[floatX] * 100)


def test_num_groups(floatX):
    if not MASTER:
        pytest.skip('the installed Lasagne has no num_groups')
    x = draw((2, 4, 5, 6), floatX)
    layer = dnn.Conv2DDNNLayer(x.shape, 6, 3, pad=1, num_groups=2, b=None,
                               nonlinearity=None)
    W = layer.W.get_value()
    assert W.shape == (6, 2, 3, 3)
    expected = np.concatenate([
        correlation(x[:, :2], W[:3], (1, 1), (1, 1)),
        correlation(x[:, 2:], W[3:], (1, 1), (1, 1))], axis=1)
    np.testing.assert_allclose(compute(layer, x), expected,
                               atol=TOLERANCE[floatX] * 10)


@pytest.mark.parametrize('pad', ['same', 'full', 1])
@pytest.mark.parametrize('flip', [False, True])
def test_gradient(pad, flip):
    layer = dnn.Conv2DDNNLayer((1, 2, 3, 4), 2, 3, (2, 1), pad,
                               flip_filters=flip, nonlinearity=None)

    def output(x, W, b):
        layer.W, layer.b = W, b
        return layer.get_output_for(x)

    theano.gradient.verify_grad(
        output, [draw((1, 2, 3, 4)), draw((2, 2, 3, 3), seed=1), draw((2,))],
        rng=np.random.RandomState(0))


@pytest.mark.parametrize('duplicate', [
    copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=['deepcopy', 'pickle'])
def test_duplicates(duplicate):
    x = draw((2, 3, 5, 5))
    layer = dnn.Conv2DDNNLayer(x.shape, 2, 3)
    other = duplicate(layer)
    assert type(other) is dnn.Conv2DDNNLayer
    np.testing.assert_array_equal(compute(other, x), compute(layer, x))
    other.W.set_value(other.W.get_value() * 2)
    np.testing.assert_allclose(compute(other, x), compute(layer, x) * 2)

    pool = duplicate(dnn.MaxPool2DDNNLayer(layer, 2))
    assert type(pool) is dnn.MaxPool2DDNNLayer
    assert type(pool.input_layer) is dnn.Conv2DDNNLayer
    assert pool.output_shape == (2, 2, 1, 1)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('pad, padded', [
    (1, (1, 1, 1)), ('same', (0, 1, 0)), ('full', (0, 2, 0))], ids=str)
def test_convolution_3d(pad, padded, flip):
    layer_class = offered('Conv3DDNNLayer')
    x = draw((2, 2, 3, 4, 5))
    layer = layer_class(x.shape, 3, (1, 3, 1), (1, 2, 1), pad,
                        flip_filters=flip, nonlinearity=None)
    W = layer.W.get_value()
    expected = correlation(x, flipped(W) if flip else W, (1, 2, 1), padded)
    np.testing.assert_allclose(compute(layer, x), expected, atol=1e-12)


# --- pooling --------------------------------------------------------------

@pytest.mark.parametrize('mode', ['max', 'average_inc_pad',
                                  'average_exc_pad'])
@pytest.mark.parametrize('size, stride, pad', [
    (2, None, 0), ((3, 2), (2, 1), (1, 0)), (3, 2, 1)], ids=str)
def test_pooling(floatX, size, stride, pad, mode):
    x = draw((2, 3, 6, 7), floatX)
    layer = dnn.Pool2DDNNLayer(x.shape, size, stride, pad, mode=mode)
    assert layer.pool_size == dnn.as_tuple(size, 2)
    assert layer.stride == dnn.as_tuple(stride or size, 2)
    assert layer.pad == dnn.as_tuple(pad, 2)
    assert layer.mode == mode
    expected = pooling(x, layer.pool_size, layer.stride, layer.pad, mode)
    np.testing.assert_allclose(compute(layer, x), expected,
                               atol=TOLERANCE[floatX])


def test_max_pooling():
    x = draw((2, 3, 6, 7))
    layer = dnn.MaxPool2DDNNLayer(x.shape, 3, 2, 1)
    assert layer.mode == 'max'
    np.testing.assert_array_equal(
        compute(layer, x), pooling(x, (3, 3), (2, 2), (1, 1), 'max'))
    with pytest.raises(TypeError):
        dnn.MaxPool2DDNNLayer(x.shape, 3, mode='average_inc_pad')


def test_pooling_of_unknown_lengths():
    layer = dnn.Pool2DDNNLayer((None, 3, 6, None), 2)
    assert layer.output_shape == (None, 3, 3, None)


@pytest.mark.parametrize('mode', ['max', 'average_inc_pad',
                                  'average_exc_pad'])
def test_pooling_3d(mode):
    layer_class = offered('Pool3DDNNLayer')
    x = draw((2, 2, 4, 5, 6))
    layer = layer_class(x.shape, (2, 3, 2), 2, (0, 1, 0), mode=mode)
    expected = pooling(x, (2, 3, 2), (2, 2, 2), (0, 1, 0), mode)
    np.testing.assert_allclose(compute(layer, x), expected,
                               atol=1e-12)
    if mode == 'max':
        layer = dnn.MaxPool3DDNNLayer(x.shape, (2, 3, 2), 2, (0, 1, 0))
        np.testing.assert_array_equal(compute(layer, x), expected)


@pytest.mark.parametrize('name, shape', [
    ('Pool2DDNNLayer', (1, 1, 4, 4)), ('MaxPool2DDNNLayer', (1, 1, 4, 4)),
    ('Pool3DDNNLayer', (1, 1, 4, 4, 4)),
    ('MaxPool3DDNNLayer', (1, 1, 4, 4, 4))])
def test_refusals_of_pooling(name, shape):
    layer_class = offered(name)
    with pytest.raises(
            NotImplementedError,  # Lasagne's own refusal: cuDNN cannot do it
            match='ignore_border=False'):
        layer_class(shape, 2, ignore_border=False)
    with pytest.raises(ValueError, match='%d input dim' % len(shape)):
        layer_class(shape + (4,), 2)


@pytest.mark.parametrize('shape', [(2, 3, 8, 4), (2, 3, None, None)], ids=str)
@pytest.mark.parametrize('mode', ['max', 'average_inc_pad'])
def test_spatial_pyramid_pooling(shape, mode):
    layer_class = offered('SpatialPyramidPoolingDNNLayer')
    x = draw((2, 3, 8, 4))
    layer = layer_class(shape, [4, 2, 1], mode)
    expected = [pooling(x, size, size, (0, 0), mode).reshape(2, 3, -1)
                for size in ((2, 1), (4, 2), (8, 4))]
    assert layer.output_shape == (2, 3, 21)
    np.testing.assert_allclose(compute(layer, x),
                               np.concatenate(expected, axis=2), atol=1e-12)


def test_refusal_of_spatial_pyramid_pooling():
    layer_class = offered('SpatialPyramidPoolingDNNLayer')
    with pytest.raises(ValueError, match='4 input dim'):
        layer_class((1, 1, 4))


# --- batch normalization --------------------------------------------------

@pytest.mark.parametrize('axes', ['auto', 0, (0, 2, 3)], ids=str)
def test_batch_normalization(axes):
    layer_class = offered('BatchNormDNNLayer')
    x = draw((5, 3, 2, 2))
    layer = layer_class(x.shape, axes, gamma=lasagne.init.Constant(2))
    over = (0,) if axes == 0 else (0, 2, 3)
    mean = x.mean(over, keepdims=True)
    expected = 2 * (x - mean) / np.sqrt(x.var(over, keepdims=True) + 1e-4)
    np.testing.assert_allclose(compute(layer, x), expected, atol=1e-12)
    # the averages take in a tenth of this batch's
    np.testing.assert_allclose(layer.mean.get_value(),
                               0.1 * np.squeeze(mean, over), atol=1e-12)
    layer.mean.set_value(np.squeeze(mean, over))
    layer.inv_std.set_value(layer.inv_std.get_value() * 0 + 3)
    np.testing.assert_allclose(compute(layer, x, deterministic=True),
                               2 * (x - mean) * 3, atol=1e-12)


def test_refusal_of_batch_normalization():
    layer_class = offered('BatchNormDNNLayer')
    with pytest.raises(ValueError, match=r'\(1, 2\)'):
        layer_class((5, 3, 2, 2), axes=(1, 2))


@pytest.mark.parametrize('name, given, names', [
    (None, {}, (None, None)), ('below', {}, ('below_bn', 'below_bn_nonlin')),
    ('below', dict(name='bn'), ('bn', 'bn_nonlin'))], ids=str)
def test_batch_norm_dnn(name, given, names):
    offered('BatchNormDNNLayer')
    layer = dnn.Conv2DDNNLayer((5, 3, 4, 4), 2, 3, name=name)
    top = dnn.batch_norm_dnn(layer, epsilon=1e-3, **given)
    assert type(top) is lasagne.layers.NonlinearityLayer
    assert top.nonlinearity is lasagne.nonlinearities.rectify
    normalized = top.input_layer
    assert type(normalized) is dnn.BatchNormDNNLayer
    assert normalized.epsilon == 1e-3
    assert (normalized.name, top.name) == names
    assert normalized.input_layer is layer
    assert layer.b is None and layer.get_params() == [layer.W]
    assert layer.nonlinearity is lasagne.nonlinearities.identity


def test_batch_norm_dnn_of_a_layer_without_nonlinearity():
    offered('BatchNormDNNLayer')
    below = lasagne.layers.InputLayer((5, 3))
    layer = dnn.batch_norm_dnn(below)
    assert type(layer) is dnn.BatchNormDNNLayer
    assert layer.input_layer is below
