r"""Weights to PyTorch and back: state_dict and load_state_dict.

What is translated are the weights; the PyTorch model is yours to write:

=====================================  =====================================
in Lasagne                             in PyTorch
=====================================  =====================================
DenseLayer                             nn.Linear
Conv1D-, Conv2D-, Conv3DLayer, the     nn.Conv1d, nn.Conv2d, nn.Conv3d
same with DNN or MM in their names
DilatedConv2DLayer                     nn.Conv2d(dilation=...)
TransposedConv2D-, -3DLayer,           nn.ConvTranspose2d, -3d
wnorm.nn.Deconv2DLayer
NINLayer                               nn.Conv1d, -2d, -3d of kernel size 1
=====================================  =====================================

``weight_norm`` is the function of that name of ``torch.nn.utils`` or of
``torch.nn.utils.parametrizations``; with ``dim=1`` for transposed
convolutions, so that each output channel has one norm as it has here.

This module can be imported without PyTorch.
"""
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Mapping

import numpy as np
from lasagne.layers import Layer
from lasagne.nonlinearities import identity
from theano.compile import SharedVariable

from ..forms import Form
from ..initialization import all_layers
from ..layers import WeightNormLayer
from ..naming import describe, table
from ..parameters import has_W, records, value_of, values_set

__all__ = ['Loaded', 'Report', 'load_state_dict', 'state_dict']

#: The entries of a module's weight: of the plain one; g and V of
#: torch.nn.utils.weight_norm; the same of its parametrizations.
PLAIN = ('weight',)
OLD = ('weight_g', 'weight_v')
NEW = ('parametrizations.weight.original0',
       'parametrizations.weight.original1')


# --- the layouts -----------------------------------------------------------

class _Rule(namedtuple('_Rule', 'swapped flipped pointwise')):
    """How the W of a class and PyTorch's weight correspond.

    swapped : bool
        Whether the first two axes are.
    flipped : function of a layer
        Whether its filters are.
    pointwise : bool
        Whether PyTorch has axes for a kernel of size 1.
    """
    __slots__ = ()


def _never(layer):
    return False


def _convolution(layer):
    # PyTorch computes correlations; Lasagne 0.1 knows convolutions only
    return getattr(layer, 'flip_filters', True)


def _transposed(layer):
    # the gradient of a convolution; PyTorch's is that of a correlation
    return not getattr(layer, 'flip_filters', False)


_CONVOLUTION = _Rule(False, _convolution, False)
_TRANSPOSED = _Rule(False, _transposed, False)
_RULES = {
    'DenseLayer': _Rule(True, _never, False),
    'NINLayer': _Rule(True, _never, True),
    'Conv1DLayer': _CONVOLUTION,
    'Conv2DLayer': _CONVOLUTION,
    'Conv2DDNNLayer': _CONVOLUTION,
    'Conv2DMMLayer': _CONVOLUTION,
    'Conv3DLayer': _CONVOLUTION,
    'Conv3DDNNLayer': _CONVOLUTION,
    'DilatedConv2DLayer': _Rule(True, _never, False),
    'TransposedConv2DLayer': _TRANSPOSED,
    'TransposedConv3DLayer': _TRANSPOSED,
    'Deconv2DLayer': _TRANSPOSED,     # of wnorm.nn
    'LocallyConnected2DLayer': None,  # a Conv2DLayer by class only
}


def _rule(layer):
    """That of the layer's class or of its nearest base; None for none."""
    for cls in type(layer).__mro__:
        if cls.__name__ in _RULES and cls.__module__.startswith(
                ('lasagne.layers.', 'wnorm.nn')):
            return _RULES[cls.__name__]


class _Module(object):
    """A layer and the PyTorch module that it corresponds to.

    Raises a ValueError if it corresponds to none.
    """
    def __init__(self, layer, wrappers, name):
        self.layer = layer
        self.name = name
        self.record = records(layer).get('W')
        self.rule = _rule(layer)
        if self.rule is None:
            self.fail('no PyTorch module is known for this class. Name it '
                      'None to leave it out')
        self.V = self.record.V if self.record else layer.W
        self.value = value_of(self.V, '%s: W' % describe(layer))

        if self.record and self.record.layout.position_axes:
            self.fail('it has a norm for each position, PyTorch has none')
        self._find_bias(wrappers)

    def _find_bias(self, wrappers):
        what = describe(self.layer)
        owners = [owner for owner in [self.layer] + wrappers
                  if getattr(owner, 'b', None) is not None]
        # of mean-only batch normalization
        means = [wrapper.mean for wrapper in wrappers
                 if getattr(wrapper, 'mean', None) is not None]
        if len(owners) > 1:
            self.fail('it has a bias, and so has its normalization: PyTorch '
                      'has one')
        self.b = self.b_value = self.mean = None
        if owners:
            self.b = owners[0].b
            self.b_value = value_of(self.b, what + ': b')
            if self.b.ndim > 1:
                self.fail('its biases are untied, PyTorch has one per filter')
        if means:
            self.mean = value_of(means[0], what + ': mean')
        if (means or owners not in ([], [self.layer])) and getattr(
                self.layer, 'nonlinearity', None) not in (None, identity):
            self.fail('there is a nonlinearity between its weight and its '
                      'bias, in PyTorch there is none')

    def fail(self, why):
        raise ValueError('%s: %s' % (describe(self.layer), why))

    def key(self, entry):
        return '%s.%s' % (self.name, entry) if self.name else entry

    def turn(self, W):
        """Swap axes and flip filters; twice changes nothing."""
        if self.rule.swapped:
            W = W.swapaxes(0, 1)
        if self.rule.flipped(self.layer):
            W = W[(Ellipsis,) + (slice(None, None, -1),) * (W.ndim - 2)]
        return W

    def to_torch(self, W):
        W = self.turn(W)
        if self.rule.pointwise:
            W = W.reshape(W.shape + (1,) * (len(self.layer.input_shape) - 2))
        return W

    def from_torch(self, weight):
        if self.rule.pointwise:
            weight = weight.reshape(weight.shape[:2])
        return self.turn(weight)

    @property
    def dim(self):
        """The argument of PyTorch's weight_norm."""
        axis = self.record.layout.filter_axis % self.value.ndim
        return 1 - axis if self.rule.swapped and axis < 2 else axis

    def g_shape(self, ndim):
        """The shape of PyTorch's g."""
        shape = [1] * ndim
        shape[self.dim] = self.record.num_filters
        return tuple(shape)


def _norms(V, axes):
    """||V||, in float64, relative to a size so that no square overflows."""
    V = V.astype('float64')
    size = np.max(abs(V), axis=axes, keepdims=True, initial=0)
    size = np.where(size > 0, size, 1)
    return size * np.sqrt(np.sum(np.square(V / size), axis=axes,
                                 keepdims=True))


def _divided(a, b, otherwise):
    """a / b, and `otherwise` where b is 0."""
    return np.where(b > 0, a / np.where(b > 0, b, 1), otherwise)


# --- which layer is which module -------------------------------------------

def _refuse(problems):
    if problems:
        raise ValueError('the network and PyTorch do not match:\n  %s'
                         % '\n  '.join(problems))


def _modules(layer_or_layers, names):
    """The :class:`_Module` of each named layer, in the network's order."""
    layers = all_layers(layer_or_layers)
    own = [layer for layer in layers if not isinstance(layer, WeightNormLayer)
           and (layer.get_params() or
                has_W(layer))]
    if isinstance(names, Mapping):
        named, problems = _by_layer(own, names)
    else:
        named, problems = _in_order(own, names)
    used = set()
    for layer in own:
        name = named.get(layer)
        if not (name is None or isinstance(name, str)):
            problems.append('%s: its name must be a string or None, got %r'
                            % (describe(layer), name))
        elif name in used:
            problems.append('%s: the name %r is taken by another layer'
                            % (describe(layer), name))
        elif name is not None:
            used.add(name)
    found = []
    for layer in own:
        if layer in named and named[layer] is None:
            continue
        wrappers = [wrapper for wrapper in layers
                    if isinstance(wrapper, WeightNormLayer)
                    and wrapper.input_layer is layer]
        try:
            found.append(_Module(layer, wrappers, named.get(layer)))
        except ValueError as error:
            problems.append(str(error))
    _refuse(problems)
    return found


def _by_layer(own, names):
    """The dictionary `names`, and what is wrong with it."""
    named, problems = {}, []
    for key, name in names.items():
        layer = key.input_layer if isinstance(key, WeightNormLayer) else key
        if layer not in own:
            what = describe(key) if isinstance(key, Layer) else repr(key)
            problems.append('%s, for %r, is no layer of this network that has '
                            'parameters' % (what, name))
        elif named.setdefault(layer, name) != name:
            problems.append('%s: it is named %r and %r'
                            % (describe(layer), named[layer], name))
    problems += ['%s: no name for it' % describe(layer)
                 for layer in own if layer not in named]
    return named, problems


def _in_order(own, names):
    """The list `names` as a dictionary, and what is wrong with it."""
    if not isinstance(names, (list, tuple)):
        raise TypeError('names is a list of names or a dictionary from layer '
                        'to name, got %r' % names)
    names = list(names)
    named = dict(zip(own, names))
    if len(names) == len(own):
        return named, []
    return named, ['%d names for %d layers with parameters:'
                   % (len(names), len(own))] + [
        '%s: %r' % (describe(layer), named[layer]) if layer in named else
        '%s: no name for it' % describe(layer) for layer in own] + [
        'no layer for %r' % (name,) for name in names[len(own):]]


# --- to PyTorch ------------------------------------------------------------

def state_dict(layer_or_layers, names, parametrizations=False, arrays=False):
    r"""
    wnorm.interop.torch.state_dict(layer_or_layers, names,
    parametrizations=False, arrays=False)

    The weights of a network as a PyTorch model takes them.

    V goes over unchanged but for the order of its entries, and g such that
    the effective weights are equal, for PyTorch knows no :math:`\epsilon`:

    .. math:: g_{torch} = g \frac{||V||}{\sqrt{\epsilon + ||V||^2}}

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network.

    names : list of str, or dict
        The names of the PyTorch modules, such as ``'features.0'``: for each
        layer that has parameters, in the order of
        :func:`lasagne.layers.get_all_layers` and counting a weight-normalized
        layer once; or by layer, where the :class:`wnorm.WeightNormLayer` and
        the layer below it are the same. None leaves a layer out. An empty
        string stands for a model that is but this module.

    parametrizations : bool
        False for the entries of ``torch.nn.utils.weight_norm``: ``weight_g``,
        ``weight_v``. True for those of its successor in
        ``torch.nn.utils.parametrizations``: ``parametrizations.weight.
        original0`` and ``original1``.

    arrays : bool
        With True the entries are numpy arrays, and PyTorch is not needed: for
        :func:`numpy.savez`, where the two run on different machines.

    Returns
    -------
    OrderedDict
        From entry to tensor: g and V of each weight-normalized layer, the
        ``weight`` of each other one, and ``bias`` where there is one. g, in
        all its forms, has one number per filter and the shape that PyTorch
        gives it.

    Raises
    ------
    ValueError
        If `names` and the layers do not match, or if there is no counterpart
        for a layer: recurrent and locally connected layers, embeddings,
        untied biases, unknown classes. Lists all of them.

    TypeError
        If `names` is a string, or `layer_or_layers` is no network.

    ImportError
        If PyTorch is not installed.

    Warns
    -----
    UserWarning
        If the squares of a filter of V are all 0, or overflow: PyTorch would
        divide by that. A filter of zeros is written as V = 1 and g = 0, with
        the same W; others as a multiple of V.

    Notes
    -----
    After training, when the model is to go on in PyTorch. The modules are
    those that the module :mod:`wnorm.interop.torch` lists, with the same
    strides, padding and groups, wrapped by PyTorch's weight_norm: transposed
    convolutions with ``dim=1``, the others with its default. In front of a
    dense layer, PyTorch's ``Flatten`` orders images as Lasagne does.

    Outputs are equal up to rounding. With ``eps=0.`` so are the gradients of
    V and of g. With another :math:`\epsilon`, and n for ||V|| and r for
    :math:`\sqrt{\epsilon + n^2}`,

    .. math:: dg = \frac{n}{r} dg_{torch}, \qquad
              dV = dV_{torch} + \epsilon \frac{g}{n r^3} V dg_{torch}

    where PyTorch's own dV is orthogonal to V: relative differences of the
    order of :math:`\epsilon / ||V||^2`.

    Mean-only batch normalization goes over as it is with
    ``deterministic=True``: the running mean is subtracted from the bias.

    See Also
    --------
    load_state_dict : The reverse.

    References
    ----------
    .. [1] Salimans, Tim, and Diederik P. Kingma (2016):
           Weight Normalization: A Simple Reparameterization to Accelerate
           Training of Deep Neural Networks. arXiv preprint arXiv:1602.07868.

    Examples
    --------
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import weight_norm
    >>> from wnorm.interop.torch import state_dict
    >>> l = weight_norm(DenseLayer(InputLayer((None, 20)), 50), train_g=True)
    >>> l = DenseLayer(l, 10)
    >>> for entry, value in state_dict(l, ['0', '2'], arrays=True).items():
    ...     print(entry, value.shape)
    0.weight_g (50, 1)
    0.weight_v (50, 20)
    0.bias (50,)
    2.weight (10, 50)
    2.bias (10,)

    With PyTorch, ``Sequential(weight_norm(Linear(20, 50)), ReLU(),
    Linear(50, 10)).load_state_dict(state_dict(l, ['0', '2']))``.
    """
    state, problems = OrderedDict(), []
    for module in _modules(layer_or_layers, names):
        try:
            with np.errstate(all='ignore'):
                written = _written(module, NEW if parametrizations else OLD)
            for entry, value in written:
                if not np.isfinite(value).all():
                    module.fail('its %s contains NaN or infinity' % entry)
                state[module.key(entry)] = value
        except ValueError as error:  # an expression without a value
            problems.append(str(error))
    _refuse(problems)
    # copies: the caller may write into them
    state = OrderedDict((key, np.array(value, order='C'))
                        for key, value in state.items())
    return state if arrays else _tensors(state)


def _tensors(state):
    try:
        import torch
    except ImportError:
        raise ImportError("PyTorch is not installed: pip install "
                          "'wnorm[torch]'. With arrays=True it is not needed")
    return OrderedDict(  # pragma: no cover (needs the extra)
        (key, torch.from_numpy(value)) for key, value in state.items())


def _written(module, form):
    """The entries of one module, in order."""
    weight = module.to_torch(module.value)
    values = [weight]
    if module.record:
        g = _gains(module.record).reshape(module.g_shape(weight.ndim))
        values = _without_eps(module, g, weight)
    written = list(zip(form if module.record else PLAIN, values))
    if module.b is not None or module.mean is not None:
        bias = 0 if module.b is None else module.b_value
        written.append(('bias', bias if module.mean is None else
                        bias - module.mean))
    return written


def _gains(record):
    """g in float64, one per filter."""
    form = Form.of(record)
    g = None if form.param is None else value_of(
        record.g_param, '%s: g' % describe(record.layer))
    return form.gains(g, (record.num_filters,))


def _without_eps(module, g, V):
    """PyTorch's g and V of the same effective weight."""
    axes = tuple(axis for axis in range(V.ndim) if axis != module.dim)
    norm = _norms(V, axes)
    g = _divided(g * norm, np.hypot(norm, np.sqrt(module.record.eps)), 0)
    limits = np.finfo(V.dtype)  # of what can be squared without loss
    unfit = ((norm < np.sqrt(limits.tiny) / limits.eps) |
             (norm > np.sqrt(limits.max) * limits.eps))
    if unfit.any():
        warnings.warn(
            '%s: V of filters %s would have a norm of 0 or infinity in '
            'PyTorch: written as V = 1, g = 0 where it is all 0, else as a '
            'multiple of V' % (describe(module.layer), ', '.join(
                map(str, np.flatnonzero(unfit)))), stacklevel=4)
        size = np.max(abs(V), axis=axes, keepdims=True)
        V = np.where(unfit, np.where(size > 0, V / np.where(
            size > 0, size, 1), 1), V)
    return g.astype(V.dtype), V


# --- from PyTorch ----------------------------------------------------------

class Loaded(namedtuple('Loaded', 'layer name how')):
    """What was loaded into one layer.

    Attributes
    ----------
    layer : :class:`lasagne.layers.Layer`
    name : str
        The name of the PyTorch module.
    how : str
        What it gave, and what was made of that.
    """
    __slots__ = ()


class Report(tuple):
    """One :class:`Loaded` per layer, in order; prints as a table."""

    def __str__(self):
        rows = [('layer', 'module', 'loaded')]
        rows += [(describe(row.layer), row.name, row.how) for row in self]
        return table(rows)

    __repr__ = __str__


def load_state_dict(layer_or_layers, state, names):
    r"""
    wnorm.interop.torch.load_state_dict(layer_or_layers, state, names)

    Load the weights of a PyTorch model into a network.

    The reverse of :func:`state_dict`:

    .. math:: g = g_{torch} \frac{\sqrt{\epsilon + ||V||^2}}{||V||}

    Parameters
    ----------
    layer_or_layers : :class:`lasagne.layers.Layer` or list
        The output layer or layers of the network; their parameters are set.

    state : dict
        What the PyTorch model's ``state_dict()`` returned, or some of it:
        from entry to tensor or numpy array.

    names : list of str, or dict
        As for :func:`state_dict`.

    Returns
    -------
    Report
        One row per layer: the layer, the name of the module, and how it was
        loaded; prints as a table.

    Raises
    ------
    ValueError
        If `names` and the layers do not match, as in :func:`state_dict`; if
        an entry is missing, left over, of a wrong shape, or not finite; if
        the layer's form of g cannot hold the gains: g=None other ones than 1,
        one g for several filters different ones, g = exp(s) negative ones; or
        if a parameter to set is an expression. Lists all of it, and nothing
        has changed.

    TypeError
        If `state` is no dictionary, `names` is a string, or `layer_or_layers`
        is no network.

    Notes
    -----
    Both of PyTorch's APIs of weight normalization are understood, whichever
    the model has. Besides:

    * a plain ``weight`` into a weight-normalized layer: V is the weight, and
      :math:`g = \sqrt{\epsilon + ||V||^2}`;
    * a weight-normalized module into a plain layer: W = g V / ||V||;
    * a norm over other axes, which the shape of g tells: W = g V / ||V||
      becomes V, and :math:`g = \sqrt{\epsilon + ||W||^2}`. Such are
      transposed convolutions that were wrapped with PyTorch's default,
      ``dim=0``, one norm per input channel.

    In each case the effective weights are equal. With mean-only batch
    normalization, b is the bias plus the running mean, which stays as it is.

    See Also
    --------
    state_dict : The reverse, with the layers and modules that correspond.

    Examples
    --------
    >>> import numpy as np
    >>> from lasagne.layers import InputLayer, DenseLayer
    >>> from wnorm import weight_norm
    >>> from wnorm.interop.torch import load_state_dict
    >>> l = weight_norm(DenseLayer(InputLayer((None, 20)), 5))
    >>> load_state_dict(l, {'fc.weight': np.random.randn(5, 20),
    ...                     'fc.bias': np.zeros(5)}, ['fc'])
    layer                 module  loaded
    DenseLayer (None, 5)  fc      weight as V, g = sqrt(eps + ||V||^2)
    """
    if not isinstance(state, Mapping):
        raise TypeError('state must be a dictionary from entry to array, such '
                        "as a PyTorch model's .state_dict(), got a %s"
                        % type(state).__name__)
    reader = _Reader(state)
    report = Report(Loaded(module.layer, module.name, reader.read(module))
                    for module in _modules(layer_or_layers, names))
    _refuse(reader.problems + [
        '%s is left over: no layer takes it' % (key,)
        for key in state if key not in reader.taken])
    with values_set(reader.values):
        return report


class _Reader(object):
    """Reads the entries of one module after the other.

    Attributes
    ----------
    taken : set
        The entries that modules have taken.
    problems : list of str
        What is wrong.
    values : OrderedDict
        From parameter to its new value.
    """
    def __init__(self, state):
        self.state = state
        self.taken = set()
        self.problems = []
        self.values = OrderedDict()

    def read(self, module):
        """Returns how it was done."""
        self.module = module
        self.what = describe(module.layer)
        self.eps = np.finfo(module.value.dtype).eps  # or of what is coarser
        self.read_bias()
        forms = [form for form in (NEW, OLD, PLAIN)
                 if any(module.key(entry) in self.state for entry in form)]
        if not forms:
            self.problems.append('%s, or its g and V, is missing, for %s'
                                 % (module.key('weight'), self.what))
            return
        form = forms[0]
        arrays = [self.take(entry) for entry in form]
        shape = module.to_torch(module.value).shape
        if any(array is None for array in arrays) or not self.has_shape(
                form[-1], arrays[-1], shape):
            return
        if form is PLAIN:
            return self.put_weight(arrays[0], 'weight')
        return self.put_g_and_V(form[0], *arrays)

    def take(self, entry):
        """The array of that entry, or None if there is a problem with it."""
        key = self.module.key(entry)
        if key not in self.state:
            self.problems.append('%s is missing, for %s' % (key, self.what))
            return
        self.taken.add(key)
        array = _as_array(self.state[key])
        if array.dtype.kind != 'f' or not np.isfinite(array).all():
            self.problems.append('%s must be finite floating-point numbers, '
                                 'for %s' % (key, self.what))
            return
        self.eps = max(self.eps, np.finfo(array.dtype).eps)
        return array

    def has_shape(self, entry, array, shape):
        if array.shape == shape:
            return True
        self.problems.append('%s has shape %s, %s needs %s' % (
            self.module.key(entry), array.shape, self.what, shape))

    def read_bias(self):
        module = self.module
        if module.b is None:
            if module.key('bias') in self.state:
                self.taken.add(module.key('bias'))
                self.problems.append('%s is left over: %s has no b' % (
                    module.key('bias'), self.what))
            return
        bias = self.take('bias')
        if bias is not None and self.has_shape('bias', bias,
                                               module.b_value.shape):
            self.put('b', module.b, bias if module.mean is None else
                     bias + module.mean)

    def put(self, name, param, value):
        """Note the new value of a parameter, if it can be set."""
        if not isinstance(param, SharedVariable):
            self.problems.append('%s: %s is an expression, it cannot be set'
                                 % (self.what, name))
            return
        with np.errstate(over='ignore'):
            value = np.array(value, param.dtype, order='C')
        if not np.isfinite(value).all():
            self.problems.append('%s: %s has values that %s cannot hold'
                                 % (self.what, name, param.dtype))
        known = self.values.setdefault(param, value)
        if not np.array_equal(known, value):
            self.problems.append('%s: %s is shared with another layer, for '
                                 'which there are other values'
                                 % (self.what, name))

    def put_weight(self, weight, how):
        """The effective weight, as it is or as V with g = 'norm'."""
        module, record = self.module, self.module.record
        W = module.from_torch(weight)
        if record and not (record.gain and record.gain.per == 'filter'):
            return self.put_shared(W, how)
        self.put('W', module.V, W)
        if not record:
            return how
        self.put_g(np.hypot(self.norms(weight), np.sqrt(record.eps)))
        return how + ' as V, g = sqrt(eps + ||V||^2)'

    def put_shared(self, W, how):
        """The same where several filters have one g, or all have g = 1."""
        record, gain = self.module.record, self.module.record.gain
        form = Form.of(record)
        try:
            V, g = form.split(W, () if gain is None else gain.shape(
                record.num_filters), 32 * self.eps)
        except ValueError as error:
            self.problems.append('%s: %s cannot hold %s, one per filter can'
                                 % (self.what, form.gain, error))
            return
        self.put('W', self.module.V, V)
        if gain is not None:
            self.put(gain.name, record.g_param, g)
        return how + ' as %s, %s' % (
            'V' if np.array_equal(V, W) else
            'c V, with a c for each filter', form.gain)

    def put_g_and_V(self, entry, g, V):
        module, record = self.module, self.module.record
        if record and g.shape == module.g_shape(V.ndim):
            norm, gains = self.norms(V), g.ravel().astype('float64')
            gains = _divided(gains * np.hypot(norm, np.sqrt(record.eps)),
                             norm, gains)
            if self.holds(gains):
                self.put('W', module.V, module.from_torch(V))
                self.put_g(gains)
                return 'V and g'
        # a norm over all axes but one, or over all
        kept = [axis for axis, size in enumerate(g.shape) if size != 1]
        if g.ndim and (g.ndim != V.ndim or len(kept) > 1 or any(
                g.shape[axis] != V.shape[axis] for axis in kept)):
            self.has_shape(entry, g, module.g_shape(V.ndim) if record else (
                V.shape[:1] + (1,) * (V.ndim - 1)))
            return
        norm = _norms(V, tuple(axis for axis in range(V.ndim)
                               if axis not in kept))
        return self.put_weight(
            _divided(g * V.astype('float64'), norm, 0),
            'W = g V / ||V||' + ('' if not record else
                                 ' of dim=%s' % (kept[0] if kept else None)))

    def norms(self, V):
        return _norms(V, tuple(axis for axis in range(V.ndim)
                               if axis != self.module.dim)).ravel()

    def shared(self, g):
        """The gains as rows, one for all filters that share one."""
        gain = self.module.record.gain
        return g.reshape((
            1 if gain is None or gain.per == 'layer' else
            len(g) if gain.per == 'filter' else gain.per, -1))

    def holds(self, g):
        """Whether filters that share a gain have the same here."""
        rows = self.shared(g)
        values = (rows.mean(axis=1)[:, None] if self.module.record.gain else
                  np.ones((1, 1)))
        return (abs(rows - values) <= 32 * self.eps * abs(rows)).all()

    def put_g(self, g):
        """The gains, one per filter, into the layer's form of g."""
        record, gain = self.module.record, self.module.record.gain
        if gain is None:
            return
        values = self.shared(g).mean(axis=1)
        if gain.exp:
            if (values < 0).any():
                self.problems.append(
                    '%s: g = exp(s) cannot hold negative gains: those of '
                    'filters %s' % (self.what, ', '.join(
                        map(str, np.flatnonzero(g < 0)))))
                return
            values = np.log(np.maximum(values, np.finfo('float32').tiny))
        self.put(gain.name, record.g_param,
                 values.reshape(gain.shape(record.num_filters)))


def _as_array(value):
    """The numpy array of a tensor, which may be on a device."""
    if hasattr(value, 'detach'):  # pragma: no cover (needs the extra)
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == 'torch.bfloat16'
                 else value).numpy()
    return np.asarray(value)
