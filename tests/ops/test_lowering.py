"""What a device computes in place of the Ops, here on the CPU."""
import numpy as np
import pytest
import theano
import theano.tensor as T

import wnorm
from wnorm.ops import lowering, normalized
from wnorm.ops.factoring import Factoring


def functions(outputs, inputs, factored):
    """Compiled in Python: as the graph is, and rewritten for a device."""
    modes = [theano.Mode(linker='py', optimizer=None)]
    rewrites = [theano.gof.MergeOptimizer(), theano.gof.opt.in2out(
        lowering.local_formula_on_device)]
    if factored:
        rewrites.insert(1, Factoring())
    modes.append(theano.Mode(
        linker='py', optimizer=theano.gof.SeqOptimizer(rewrites)))
    return [theano.function(inputs, outputs, mode=mode, accept_inplace=True)
            for mode in modes]


def has_ops(function):
    return any(isinstance(node.op, tuple(lowering.OPS))
               for node in function.maker.fgraph.apply_nodes)


@pytest.mark.parametrize('eps', [1e-6, 0.])
@pytest.mark.parametrize('factored', [False, True])
def test_values(monkeypatch, eps, factored):
    monkeypatch.setattr(lowering, 'on_device', lambda: True)
    rng = np.random.RandomState(0)
    V, g, x = T.dmatrix(), T.dvector(), T.dmatrix()
    t = T.dot(x, normalized(V, g, wnorm.Layout(1), eps))
    b = T.dvector()
    outputs = T.grad(T.sum(T.sqr(t + b)), [V, g, b, x]) + [t]
    plain, lowered = functions(outputs, [V, g, b, x], factored)
    assert has_ops(plain) and not has_ops(lowered)
    values = [rng.randn(*shape) for shape in [(4, 3), (3,), (3,), (5, 4)]]
    for got, wanted in zip(lowered(*values), plain(*values)):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_nothing_changes_on_the_cpu():
    V = T.dmatrix()
    W = normalized(V, None, wnorm.Layout(1))
    assert all(has_ops(f) for f in functions([W], [V], False))
