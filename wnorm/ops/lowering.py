"""On a device: the Ops as the operations that they stand for.

A GPU sums columns as fast as rows, and computes elementwise chains in one
kernel. So there the formula, on which Theano's own rewrites for devices work,
leaves nothing to gain, and nothing goes to the host.
"""
import theano
import theano.tensor as T
from theano.gof import local_optimizer

from . import formula
from .weight import (FactoredGradient, FilterScale, NormalizedWeight,
                     NormalizedWeightGrad)


OPS = [NormalizedWeight, NormalizedWeightGrad, FilterScale, FactoredGradient]


def on_device():
    """Whether this process computes on a device."""
    return theano.config.device != 'cpu' or (
        theano.config.init_gpu_device != '')


@local_optimizer(OPS)
def local_formula_on_device(node):
    """
    NormalizedWeight(V, g) -> V * (g / sqrt(eps + sum(V ** 2))), and so on.

    Where Theano computes on a device; elsewhere the graph stays as it is.
    """
    op = node.op
    if not isinstance(op, tuple(OPS)) or not on_device():
        return None
    if isinstance(op, NormalizedWeight):
        results = [formula.weight(*node.inputs, axes=op.axes, eps=op.eps)]
    elif isinstance(op, NormalizedWeightGrad):
        results = formula.gradient(*node.inputs, axes=op.axes, eps=op.eps)
    elif isinstance(op, FilterScale):
        V, g = node.inputs
        inverse = formula.inverse_norm(V, op.axes, op.eps)
        results = [g * inverse, inverse]
    else:
        z, dt, scale = node.inputs
        results = [dt * scale, T.sum(z * dt, axis=0), T.sum(dt, axis=0)]
    return [T.patternbroadcast(result, output.broadcastable)
            for result, output in zip(results, node.outputs)]
