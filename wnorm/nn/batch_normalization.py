"""Batch normalization of both flavours."""
import theano
import theano.tensor as T
from lasagne.init import Constant
from lasagne.layers import Layer
from lasagne.nonlinearities import identity

from .. import filters
from ..gains import check_param, draw_param
from ..layers import (
    KEEP_W, PerFilter, WeightNormLayer, check_keywords, check_nonlinearity,
    check_W, count_filters, draw, strip)
from ..naming import describe
from ..parameters import add_param, has_W


class BatchNormLayer(PerFilter, Layer):
    """What both flavours share; they differ in defaults and tags."""

    #: Whether penalties take g.
    regularize_g = False

    options = ['b', 'g', 'nonlinearity', 'name']

    def __init__(self, incoming, b, g, drawn, nonlinearity, **kwargs):
        check_keywords(incoming, kwargs, ['name'], self.options)
        super(BatchNormLayer, self).__init__(incoming, **kwargs)
        check_nonlinearity(incoming, nonlinearity)
        axis, k = features(incoming, self.input_shape)
        check_param(incoming, 'b', b, (k,))
        check_param(incoming, 'g', g, (k,))
        if drawn is not KEEP_W:
            if not has_W(incoming):
                raise ValueError('%s has no weight W to draw. Leave W out'
                                 % describe(incoming))
            check_W(incoming, drawn)
        # only now may initializers draw random numbers, W's last
        b = draw_param(incoming, 'b', b, (k,))
        g = draw_param(incoming, 'g', g, (k,))
        new_W = None if drawn is KEEP_W else draw(incoming, drawn)

        self.nonlinearity = identity if nonlinearity is None else nonlinearity
        self.run_along(axis, len(self.input_shape))
        # create parameters, in this order
        self.b = self.g = None
        if b is not None:
            self.b = add_param(self, b, (k,), 'b', regularizable=False)
        if g is not None:
            self.g = add_param(self, g, (k,), 'g',
                               regularizable=self.regularize_g)
        self.avg_batch_mean, self.avg_batch_var = [
            self.add_param(Constant(value), (k,), name, trainable=False,
                           regularizable=False)
            for name, value in [('avg_batch_mean', 0.), ('avg_batch_var', 1.)]]
        if new_W is not None:
            incoming.W.set_value(new_W)

    def get_output_for(self, input, deterministic=False, **kwargs):
        mean, var = self.avg_batch_mean, self.avg_batch_var
        if not deterministic:
            mean = T.mean(input, axis=self.axes_to_sum)
        centered = input - self.align(mean)
        if not deterministic:
            var = T.mean(T.sqr(centered), axis=self.axes_to_sum)
            self._update(mean, var, input.shape[0])
            # for wnorm.distributed, which finds them in the graph of a loss
            centered.tag.bn_updates = self.bn_updates
        activation = centered / self.align(T.sqrt(1e-6 + var))
        if self.g is not None:
            activation = activation * self.align(self.g)
        if self.b is not None:
            activation = activation + self.align(self.b)
        return self.nonlinearity(activation)

    def _update(self, mean, var, n):
        """Set `bn_updates`, of a batch of `n` examples."""
        # the variance of one example is 0, not 0 / 0
        unbiased = T.cast(0.1 * n / T.maximum(n - 1., 1.),
                          theano.config.floatX) * var
        self.bn_updates = [
            (average, self._like(average, 0.9 * average + new))
            for average, new in [(self.avg_batch_mean, 0.1 * mean),
                                 (self.avg_batch_var, unbiased)]]


def features(incoming, shape):
    """The axis of the features of a layer's output, and their number."""
    if not isinstance(incoming, Layer):
        layout = None
    elif isinstance(incoming, WeightNormLayer):
        layout = filters.Layout(
            0, output_axis=incoming.dimshuffle_args.index(0))
    else:
        layout = ([filters.find(incoming, name)
                   for name in filters.names(incoming)] + [None])[0]
    axis = 1 if layout is None else layout.output_axis
    if not -len(shape) <= axis < len(shape):
        raise ValueError('%s: its output has no axis %d for features'
                         % (describe(incoming), axis))
    k = shape[axis]
    if k is None and has_W(incoming) and layout is not None:
        k = count_filters(incoming, incoming.W, layout)
    if k is None:
        raise ValueError('%s: the number of its features, on axis %d of its '
                         'output, is not known' % (describe(incoming), axis))
    return axis % len(shape), k


def wrap(wrapper, layer, kwargs):
    """Put `wrapper`, a :class:`BatchNormLayer` class, on top of `layer`."""
    if not isinstance(layer, Layer):
        raise TypeError('batch normalization takes a Lasagne layer, got %r'
                        % (layer,))
    options = dict(dict(nonlinearity=getattr(layer, 'nonlinearity', None)),
                   **kwargs)
    wrapped = wrapper(layer, **options)
    strip(layer)
    return wrapped
