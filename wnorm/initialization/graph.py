"""The initializing pass as a graph; running it, and checking what it gave."""
import contextlib
import re

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import get_all_layers

from ..naming import describe
from ..recurrent import outside_scan
from .data import is_free
from .network import by_themselves, inputs_of, named, wrapped_layers


def init_updates_of(layers, outputs):
    """Collect ``init_updates`` after an initializing pass over `layers`.

    One pass is exact only if no weight-normalized layer, and none below one,
    computes with a parameter that the pass changes elsewhere.
    """
    wrapped = wrapped_layers(layers)
    updates, owner = [], {}
    for layer in layers:
        for param, value in getattr(layer, 'init_updates', []):
            if param in owner:
                raise ValueError(
                    '%s and %s share %s: data-dependent initialization '
                    'cannot set it for both. Give each its own'
                    % (named(owner[param]), named(layer), param))
            owner[param] = layer
            updates.append((param, value))
    output = dict(zip(layers, outputs))
    # the g that the weights of a layer contain
    own_g = {layer.input_layer: layer.g_param for layer in wrapped}
    feeding = set(get_all_layers(wrapped + by_themselves(layers)))
    on_top = {layer.input_layer: layer for layer in wrapped
              if layer.g_param in owner}
    for layer in [layer for layer in layers if layer in feeding]:
        for below in inputs_of(layer):
            if on_top.get(below, layer) is not layer:
                raise ValueError(
                    '%s takes its input from %s below its weight '
                    'normalization, whose g the initialization changes in '
                    'the same pass. Let it take the WeightNormLayer, or set '
                    'g=None there' % (named(layer), describe(below)))
        blockers = [output[below] for below in inputs_of(layer)
                    if below in output]
        leaves = theano.gof.graph.inputs([output[layer]], blockers)
        g = own_g.get(layer)
        if g in owner and g not in leaves:
            raise ValueError(
                '%s does not compute with its W, so its g has no effect: let '
                'get_output_for take self.W, which is an expression since the '
                'layer was wrapped' % named(layer))
        for leaf in leaves:
            if (owner.get(leaf, layer) is not layer and
                    leaf is not g):
                raise ValueError(
                    '%s computes with %s of %s, which the initialization '
                    'changes in the same pass: it cannot do both at once. If '
                    'weights are tied, tie them to the direction parameter: '
                    'W_param in place of W. Else initialize the network that '
                    '%s belongs to first, and leave it out here'
                    % (named(layer), leaf, named(owner[leaf]), leaf))
    return updates


@contextlib.contextmanager
def attributes_kept(layers):
    """Layers keep expressions of their last pass: not of one in here."""
    attributes = [(layer, dict(vars(layer))) for layer in layers]
    outside_scan(layers)  # nets inside take no part
    try:
        yield
    finally:
        for layer, before in attributes:
            vars(layer).clear()
            vars(layer).update(before)


def check_closed(results, symbols):
    unknown = [leaf for leaf in theano.gof.graph.inputs(results)
               if is_free(leaf) and leaf not in symbols]
    if unknown:
        raise ValueError('the network depends on %s, for which there is no '
                         'data: give it a value or make it an input layer'
                         % ', '.join(map(str, unknown)))


def run(function, arrays, advice, before=(), **options):
    """The results of a compiled function of a batch's `arrays`.

    Raises
    ------
    MemoryError
        However host or device put it. It gives the `advice` what to use.
    """
    try:
        # what is not finite is found later
        with np.errstate(all='ignore'):
            return function(*(tuple(before) + tuple(arrays)), **options)
    except Exception as error:
        if not is_exhaustion(error):
            raise
        raise MemoryError(
            'no memory for initialization%s; nothing has been changed. '
            'Initialize with %s' % (
                ' with a batch of %d examples' % len(arrays[0])
                if arrays else '', advice))


def is_exhaustion(error):
    """Whether an error says that host or device ran out of memory.

    A device has no type of its own for that: of CUDA and OpenCL there is
    only the text.
    """
    return isinstance(error, MemoryError) or bool(re.search(
        r'out.of.(host.)?(memory|resources)|allocat\w*.fail|alloc_failed|'
        'could not allocate|invalid.buffer.size', str(error), re.IGNORECASE))


def check_finite(layers, finite):
    for layer, ok in zip(layers, finite):
        if not ok:
            raise ValueError(
                'the output of %s is empty or not finite; nothing has '
                'been changed. It is the first such layer: look at its '
                'parameters, and at the shape and scale of the batch'
                % named(layer))


def check_value(layers, param, value):
    if not np.isfinite(value).all():
        owner = next(named(layer) for layer in layers
                     if param in layer.params)
        raise ValueError(
            'the initial value of %s of %s is not finite; nothing has been '
            'changed. Its pre-activations are too small or too large for %s'
            % (param, owner, value.dtype))


def all_finite(output):
    if output.dtype not in theano.tensor.float_dtypes:
        return T.gt(output.size, 0)
    return T.gt(output.size, 0) & T.invert(
        T.any(T.isnan(output) | T.isinf(output)))
