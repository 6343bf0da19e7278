"""Layers with a normalized weight of their own, of improved-gan's flavour."""
import numpy as np
import theano.tensor as T
from lasagne.init import Constant, Normal
from lasagne.layers import Layer
from lasagne.nonlinearities import identity
from theano.compile import SharedVariable

from ..filters import Layout
from ..gains import Gain, check_param, draw_param
from ..layers import PerFilter, relu
from ..naming import describe
from ..parameters import (
    NormalizedParam, add_param, checked_record, has_W, records)
from .wrapping import layout


class _OwnWeight(PerFilter, Layer):
    """Shared by layers that make their W of parameters of their own."""

    @property
    def initializes_itself(self):
        """Whether it sets its parameters in the initializing pass."""
        return bool(records(self))  # until it is folded

    def _updatable(self):
        return {name: param for name, param in vars(self).items()
                if name in (self.gain_name, 'b') and
                isinstance(param, SharedVariable)}

    def _add(self, specs):
        """Create parameters: [(name, spec, shape, tags)], all or none.

        The first is no option.
        """
        if specs[0][1] is None:
            raise TypeError('%s: %s must be an initializer, an array, a '
                            'shared variable or an expression, got None'
                            % (describe(self), specs[0][0]))
        for name, spec, shape, _ in specs:
            check_param(self, name, spec, shape)
        drawn = [draw_param(self, name, spec, shape)
                 for name, spec, shape, _ in specs]
        for (name, _, shape, tags), spec in zip(specs, drawn):
            setattr(self, name, None if spec is None else add_param(
                self, spec, shape, name, **tags))

    def _normalize(self, layout, num_filters, gain):
        """Let W be the effective weight."""
        self.W = self.theta
        param = getattr(self, self.gain_name)
        record = NormalizedParam(self, 'W', layout, 0., num_filters,
                                 None if param is None else gain)
        record.aliases = ('theta', self.gain_name)
        record.put(param, self)
        self.remember()

    def _updates(self, *updates):
        """Of these (parameter, value) those that can be made."""
        return [(param, self._like(param, value)) for param, value in updates
                if isinstance(param, SharedVariable)]

    def _flat(self, input):
        """A batch of vectors, of one of anything."""
        return input.flatten(2) if input.ndim > 2 else input

    def _shifted(self, t):
        return t if self.b is None else t + self.align(self.b)

    def _num_inputs(self):
        if None in self.input_shape[1:]:
            raise ValueError('%s: the number of its inputs is not known, they '
                             'have shape %s' % (describe(self),
                                                self.input_shape))
        return int(np.prod(self.input_shape[1:]))


class DenseLayer(_OwnWeight):
    r"""
    wnorm.nn.DenseLayer(incoming, num_units, theta=lasagne.init.Normal(0.1),
    b=lasagne.init.Constant(0.), weight_scale=lasagne.init.Constant(1.),
    train_scale=False, nonlinearity=relu, **kwargs)

    A dense layer with weight normalization built in.

    .. math:: y = \phi(x W + b), \qquad W = s \frac{\theta}{||\theta||}

    where the norm is that of each column.

    Parameters
    ----------
    incoming : a :class:`lasagne.layers.Layer` instance or a tuple
        The layer feeding into this layer, or the expected input shape. All
        axes but the first are taken together.

    num_units : int
        The number of units.

    theta : Theano shared variable, expression, numpy array or callable
        Initial value, expression or initializer for the directions, of shape
        ``(num_inputs, num_units)``.

    b : Theano shared variable, expression, numpy array, callable or None
        The same for the biases, of shape ``(num_units,)``. None for none.

    weight_scale : the same
        The norms s, of shape ``(num_units,)``. None for columns of norm 1.

    train_scale : bool
        Whether `weight_scale` is trainable.

    nonlinearity : callable or None
        The nonlinearity that is applied to the layer activations.

    Attributes
    ----------
    init_updates : list of (shared variable, expression)
        The data-dependent initialization, set by a pass with ``init=True``:
        ``[(weight_scale, s / std), (b, -m / std)]`` with m and std the mean
        and the deviation of x W; a unit that is constant keeps its s.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of a wrong type or shape, or if the number of inputs
        is not known.

    Notes
    -----
    There is no constant in the norm; the W of a column of zeros is 0. All
    parameters are regularizable, in the order theta, weight_scale, b.
    :func:`wnorm.initialize` and :func:`wnorm.fold` know the layer; it is not
    to be wrapped again.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868.

    Examples
    --------
    >>> from lasagne.layers import InputLayer
    >>> from wnorm.nn import DenseLayer
    >>> l = DenseLayer(InputLayer((None, 20)), 5)
    >>> l.get_params(), l.get_params(trainable=True)
    ([theta, weight_scale, b], [theta, b])
    """
    gain_name = 'weight_scale'

    def __init__(self, incoming, num_units, theta=Normal(0.1), b=Constant(0.),
                 weight_scale=Constant(1.), train_scale=False,
                 nonlinearity=relu, **kwargs):
        super(DenseLayer, self).__init__(incoming, **kwargs)
        self.nonlinearity = identity if nonlinearity is None else nonlinearity
        self.num_units = num_units
        self.run_along(1, 2)
        self._add([
            ('theta', theta, (self._num_inputs(), num_units), {}),
            ('weight_scale', weight_scale, (num_units,),
             dict(trainable=train_scale)),
            ('b', b, (num_units,), {})])
        self._normalize(Layout(1), num_units, Gain())

    def get_output_shape_for(self, input_shape):
        return (input_shape[0], self.num_units)

    def get_output_for(self, input, init=False, deterministic=False,
                       **kwargs):
        t = T.dot(self._flat(input), self.W)
        return self.nonlinearity(
            self._initialized(t) if init and self.initializes_itself else
            self._shifted(t))

    def _initialized(self, t):
        """The pre-activation after ``init_updates``, which this sets."""
        mean, std, degenerate = self.moments(t)
        g, scale = self.weight_scale, T.ones_like(std)
        if isinstance(g, SharedVariable):
            scale = Gain().rescaling(std, degenerate, 1.)
        self.init_updates = self._updates(
            (g, None if g is None else g * scale), (self.b, -mean * scale))
        t = t * self.align(scale)
        if isinstance(self.b, SharedVariable):
            return t - self.align(mean * scale)
        return self._shifted(t)


class MinibatchLayer(_OwnWeight):
    r"""
    wnorm.nn.MinibatchLayer(incoming, num_kernels, dim_per_kernel=5,
    theta=lasagne.init.Normal(0.05),
    log_weight_scale=lasagne.init.Constant(0.), b=lasagne.init.Constant(-1.),
    **kwargs)

    Minibatch discrimination: how close each example is to the others.

    .. math:: f_{ik} = \sum_{j \ne i} e^{-|a_{ik} - a_{jk}|_1}, \qquad
              a_{ik} = x_i W_k, \qquad W_{k, d} = e^{s_{k, d}}
              \frac{\theta_{k, d}}{||\theta_{k, d}||}

    The output is x with f + b appended to it.

    Parameters
    ----------
    incoming : a :class:`lasagne.layers.Layer` instance or a tuple
        The layer feeding into this layer, or the expected input shape. All
        axes but the first are taken together.

    num_kernels : int
        The number of kernels k, of features that are appended.

    dim_per_kernel : int
        The number of dimensions d in which distances are taken.

    theta : Theano shared variable, expression, numpy array or callable
        Initial value, expression or initializer for the directions, of shape
        ``(num_inputs, num_kernels, dim_per_kernel)``.

    log_weight_scale : the same, or None
        The logarithms s of the norms, of shape ``(num_kernels,
        dim_per_kernel)``. None for norms of 1.

    b : the same, or None
        The biases, of shape ``(num_kernels,)``. None for none.

    Attributes
    ----------
    init_updates : list of (shared variable, expression)
        The data-dependent initialization, set by a pass with ``init=True``:
        the distances are divided by half the mean distance of an example to
        its nearest other one, then b is minus the mean of f. A kernel in
        which all examples are the same keeps its s.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of a wrong type or shape, or if the number of inputs
        is not known.

    Notes
    -----
    In the discriminator of a generative adversarial network, before its last
    layers. An example's output depends on its batch, in testing as well.
    Distances take memory for batch size squared times ``num_kernels *
    dim_per_kernel`` numbers.

    References
    ----------
    .. [1] Salimans, Tim, et al. (2016): Improved Techniques for Training
           GANs. arXiv preprint arXiv:1606.03498, section 3.2.

    Examples
    --------
    >>> from lasagne.layers import InputLayer
    >>> from wnorm.nn import MinibatchLayer
    >>> l = MinibatchLayer(InputLayer((None, 20)), 10)
    >>> l.output_shape, l.get_params()
    ((None, 30), [theta, log_weight_scale, b])
    """
    gain_name = 'log_weight_scale'

    def __init__(self, incoming, num_kernels, dim_per_kernel=5,
                 theta=Normal(0.05), log_weight_scale=Constant(0.),
                 b=Constant(-1.), **kwargs):
        super(MinibatchLayer, self).__init__(incoming, **kwargs)
        self.num_kernels = num_kernels
        self.dim_per_kernel = dim_per_kernel
        self.run_along(1, 2)
        kernels = (num_kernels, dim_per_kernel)
        self._add([
            ('theta', theta, (self._num_inputs(),) + kernels, {}),
            ('log_weight_scale', log_weight_scale, kernels, {}),
            ('b', b, (num_kernels,), {})])
        self._normalize(Layout(1, position_axes=(2,)), num_kernels,
                        Gain(exp=True))

    def get_output_shape_for(self, input_shape):
        inputs = input_shape[1:]
        return (input_shape[0], None if None in inputs else
                int(np.prod(inputs)) + self.num_kernels)

    def get_output_for(self, input, init=False, **kwargs):
        input = self._flat(input)
        a = T.tensordot(input, self.W, [[1], [0]])
        distances = T.sum(abs(a.dimshuffle(0, 1, 2, 'x') -
                              a.dimshuffle('x', 1, 2, 0)), axis=2)
        f = (self._initialized(a, distances)
             if init and self.initializes_itself else
             self._shifted(self._closeness(distances)))
        return T.concatenate([input, f], axis=1)

    def _closeness(self, distances):
        """f, of distances (example, kernel, other example)."""
        n = distances.shape[0]
        others = 1 - T.eye(n, dtype=distances.dtype).dimshuffle(0, 'x', 1)
        return T.sum(others * T.exp(-distances), axis=2)

    def _initialized(self, a, distances):
        """f + b after ``init_updates``, which this sets."""
        s = self.log_weight_scale
        self.init_updates = []
        if isinstance(s, SharedVariable):
            unit = self._nearest(a, distances) / 2
            distances = distances / unit.dimshuffle('x', 0, 'x')
            self.init_updates += self._updates(
                (s, s - T.log(unit).dimshuffle(0, 'x')))
        f = self._closeness(distances)
        if not isinstance(self.b, SharedVariable):
            return self._shifted(f)
        mean = T.mean(f, axis=0)
        self.init_updates += self._updates((self.b, -mean))
        return f - self.align(mean)

    def _nearest(self, a, distances):
        """The mean distance to the nearest other example, per kernel.

        2 where there is none, or where all are the same up to rounding.
        """
        n = distances.shape[0]
        farthest = T.max(distances, axis=2, keepdims=True)
        nearest = T.mean(T.min(T.switch(
            T.eye(n).dimshuffle(0, 'x', 1), farthest, distances),
            axis=2), axis=0)
        rounding = 10 * np.finfo(a.dtype).eps * T.mean(
            T.sum(abs(a), axis=2), axis=0)
        return T.switch(T.gt(nearest, T.cast(rounding, a.dtype)), nearest,
                        np.asarray(2, a.dtype))


def l2normalize(layer, train_scale=True):
    r"""
    wnorm.nn.l2normalize(layer, train_scale=True)

    Normalize the weight of a layer, and leave the rest of it alone.

    .. math:: W = s \frac{V}{\sqrt{10^{-6} + \sum V^2}}

    Parameters
    ----------
    layer : a :class:`lasagne.layers.Layer` instance
        The layer; it is modified, and keeps its bias and nonlinearity.

    train_scale : bool
        Whether s is trainable.

    Returns
    -------
    `layer`
        With one more parameter, ``W_scale``, of shape ``(num_filters,)``: s,
        which starts at 1 and is not regularizable. ``W`` is the expression.

    Raises
    ------
    TypeError, ValueError
        As :func:`wnorm.normalize_param`; then nothing has changed.

    Warns
    -----
    UserWarning
        As :func:`weight_norm`, for a class that is not known.

    Notes
    -----
    For output layers. :func:`wnorm.initialize` leaves it as it is, as the
    initializing pass always did.

    See Also
    --------
    wnorm.normalize_param : The same for any parameter, with any gain.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm.nn import l2normalize
    >>> l = l2normalize(DenseLayer(InputLayer((None, 20)), 5))
    >>> l.get_params()
    [W, b, W_scale]
    """
    # otherwise it is refused for that
    fits = has_W(layer) and not records(layer)
    record = checked_record(layer, 'W', layout(layer) if fits else None,
                            Constant(1.), 1e-6)
    record.aliases = ('W_scale',)
    layer.W_scale = layer.g_W = add_param(
        layer, record.draw(), (record.num_filters,), 'W_scale',
        trainable=train_scale, regularizable=False)
    record.put(layer.W_scale, layer)
    return layer
