"""Initialization from one batch: all layers in one function."""
from collections import namedtuple

import numpy as np
import theano
from lasagne.layers import get_output

from .data import checked_batch
from .graph import (
    all_finite, attributes_kept, check_closed, check_finite, check_value,
    init_updates_of, run)

#: What is to be written, and what the report says. `after` is a function.
Plan = namedtuple('Plan', 'params values degenerate before after')


def from_one(layers, wrapped, batch, deterministic):
    data = checked_batch(layers, batch)
    step, params = _compile(layers, wrapped, list(data), bool(deterministic))
    before, degenerate, values = step(*data.values())
    return Plan(params, values, degenerate, before,
                lambda: step(*data.values())[0])


def _compile(layers, wrapped, inputs, deterministic):
    """The function that computes all that :func:`initialize` needs to know.

    Returns
    -------
    step : callable
        From one array per layer of `inputs` to the moments of the network as
        it is, the degenerate filters and the new values of `params`. Raises
        ValueError if any activation of the initializing pass is not finite.

    params : list of shared variables
    """
    symbols = [layer.input_var.type() for layer in inputs]
    given = dict(zip(inputs, symbols))
    with attributes_kept(layers):
        moments = []
        for layer, t in zip(wrapped, get_output(
                [layer.input_layer for layer in wrapped], given,
                deterministic=deterministic)):
            moments += layer.moments(layer.preactivation(
                t, deterministic=deterministic))[:2]
        outputs = get_output(layers, given, init=True,
                             deterministic=deterministic)
        updates = init_updates_of(layers, outputs)
    output = dict(zip(layers, outputs))
    finite = [all_finite(output[layer]) for layer in layers]
    degenerate = [layer.moments(output[layer.input_layer])[2]
                  for layer in wrapped]
    groups = [finite, moments, degenerate, [value for _, value in updates]]
    results = sum(groups, [])
    check_closed(results, symbols)
    # no default updates: running averages stay as they are
    function = theano.function(symbols, results, no_default_updates=True,
                               on_unused_input='ignore')

    def step(*arrays):
        results = iter(run(function, arrays,
                           'fewer examples: some hundred do'))
        finite, moments, degenerate, values = [
            [np.asarray(next(results)) for _ in group] for group in groups]
        check_finite(layers, finite)
        for (param, _), value in zip(updates, values):
            check_value(layers, param, value)
        return list(zip(moments[::2], moments[1::2])), degenerate, values

    return step, [param for param, _ in updates]
