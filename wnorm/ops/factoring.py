"""The first rewrite: products with a weight become products with V.

Scaling the columns of a product costs less than scaling those of a matrix
with as many rows as the layer has inputs. Where a weight is used in products
of matrices only, it need not exist at all.
"""
from functools import reduce
from operator import add

import theano.tensor as T
from theano.gof import Optimizer, toolbox
from theano.gof.graph import ancestors
from theano.tensor.elemwise import DimShuffle, Elemwise, Sum
from theano.tensor.basic import Dot
from theano import scalar

from .weight import (FactoredGradient, FilterScale, NormalizedWeight,
                     NormalizedWeightGrad)


class Factoring(Optimizer):
    r"""
    Take the weight of a dense layer out of its products.

    Before, with W = NormalizedWeight(V, g)::

        t = dot(x, W)                        forward
        dx = dot(dt, W.T)                    gradient of the input
        dV, dg = NormalizedWeightGrad(V, g, dot(x.T, dt))
        db = sum(dt, axis=0)                 gradient of the bias

    After::

        scale, inverse = FilterScale(V, g)   g / ||V||, 1 / ||V||
        z = dot(x, V)
        t = z * scale
        ds, along, db = FactoredGradient(z, dt, scale)
                                             dt * scale, sums of z * dt, of dt
        dx = dot(ds, V.T)
        dg = along * inverse
        dV = dot(x.T, ds) - V * inverse * (scale * dg)

    W is left alone if anything but such products uses it: it is computed
    anyway then. So is NormalizedWeightGrad unless all of its dW is a sum of
    such products, which nothing else uses, with the products z there too.

    The same for the transpose, where filters are the rows of V.
    """

    def add_requirements(self, fgraph):
        fgraph.attach_feature(toolbox.ReplaceValidate())

    def apply(self, fgraph):
        for node in fgraph.toposort():
            if (isinstance(node.op, NormalizedWeight) and
                    node in fgraph.apply_nodes):
                factor(fgraph, node)


def factor(fgraph, node):
    """Take the weight that `node` computes out of its products, if it can."""
    V, g = node.inputs
    W = node.outputs[0]
    if (V.ndim != 2 or len(node.op.axes) != 1 or any(V.broadcastable) or
            V.dtype == 'float16'):
        return
    # seen so that filters are columns
    turned = node.op.axes == (1,)
    forward, backward, others = products(fgraph, W, turned)
    if others or not forward:
        return
    scale, inverse = FilterScale(node.op.axes, node.op.eps)(V, g)
    if hasattr(W.tag, 'layer'):
        scale.tag.layer = W.tag.layer
    column_V, row_scale = V, scale
    if turned:
        column_V, row_scale = transpose(V), transpose(scale)
    changes, z = [], {}
    for dot, x, is_transposed in forward:
        if key(x) not in z:
            z[key(x)] = T.dot(x, column_V)
        t = z[key(x)] * row_scale
        changes.append((dot.outputs[0], t.T if is_transposed else t))
    sums_of = {grad: weight_gradient(fgraph, grad, turned)
               for grad in gradients(fgraph, node)}
    # what is to come of FactoredGradient: where x depends on it, as in a
    # decoder of the same weight, it must not in turn depend on x
    late = {dot.outputs[0] for dot, dt, _ in backward}
    late.update(db for terms in sums_of.values() for x, dt, dot in terms or ()
                for db in column_sums(fgraph, dt))
    scaled = {}  # dt * scale
    for grad, terms in sums_of.items():
        if terms is None or any(key(x) not in z for x, dt, dot in terms):
            continue
        alongs, dots = [], []
        for x, dt, dot in terms:
            ds, sums, total = FactoredGradient()(z[key(x)], dt, row_scale)
            if late.isdisjoint(ancestors([x])):
                scaled[dt] = ds
                changes += [(db, total) for db in column_sums(fgraph, dt)]
            alongs.append(sums)
            a, b = dot.inputs
            dots.append(T.dot(transpose(ds), b) if turned else T.dot(a, ds))
        dg = inverse * reduce(add, alongs).dimshuffle(
            *((0, 'x') if turned else ('x', 0)))
        dV = reduce(add, dots) - V * inverse * (scale * dg)
        broadcast = [axis for axis in (0, 1) if g.broadcastable[axis] and
                     not inverse.broadcastable[axis]]
        if broadcast:
            dg = T.sum(dg, axis=broadcast, keepdims=True)
        changes += [(grad.outputs[0], dV),
                    (grad.outputs[1], T.patternbroadcast(dg, g.broadcastable))]
    for dot, dt, is_transposed in backward:
        dx = T.dot(scaled.get(dt, dt * row_scale), transpose(column_V))
        changes.append((dot.outputs[0], dx.T if is_transposed else dx))
    # what comes last first: the new products take what is then replaced
    position = {node: i for i, node in enumerate(fgraph.toposort())}
    changes.sort(key=lambda change: -position[change[0].owner])
    fgraph.replace_all_validate(changes, reason='wnorm_factoring')


def transpose(matrix):
    """The transpose, of a transpose the matrix itself."""
    return matrix.owner.inputs[0] if is_transpose(matrix.owner) else matrix.T


def is_transpose(node):
    return (node is not None and isinstance(node.op, DimShuffle) and
            node.op.new_order == (1, 0))


def key(x):
    """What identifies a matrix, though its transpose is written anew."""
    return (x.owner.inputs[0], True) if is_transpose(x.owner) else (x, False)


def is_product(node, dtype):
    return (node is not None and isinstance(node.op, Dot) and
            all(v.ndim == 2 and v.dtype == dtype for v in node.inputs))


def products(fgraph, W, turned):
    """Who uses the weight.

    Returns
    -------
    forward : list of (node, x, is_transposed)
        ``dot(x, W)``, in which filters are columns, or its transpose, as
        Theano may write it: ``dot(W.T, x.T)``.
    backward : list of (node, dt, is_transposed)
        ``dot(dt, W.T)``, or its transpose.
    others : list
        All else.
    """
    forward, backward, others = [], [], []
    for matrix, is_turned in as_is_and_transposed(fgraph, W):
        for client, index in fgraph.clients(matrix):
            if client == 'output':
                others.append(client)
            elif is_product(client, W.dtype) and (
                    key(client.inputs[1 - index])[0] is not W):
                other = client.inputs[1 - index]
                is_transposed = index == 0
                kind = (backward if is_turned ^ turned ^ is_transposed else
                        forward)
                kind.append((client, transpose(other) if is_transposed else
                             other, is_transposed))
            elif not (is_transpose(client) and matrix is W):
                others.append(client)
    return forward, backward, others


def as_is_and_transposed(fgraph, W):
    yield W, False
    for client, _ in fgraph.clients(W):
        if client != 'output' and is_transpose(client):
            yield client.outputs[0], True


def gradients(fgraph, node):
    """The nodes that compute the gradients which belong to `node`."""
    V, g = node.inputs
    same = NormalizedWeightGrad(node.op.axes, node.op.eps)
    return [client for client, index in fgraph.clients(V)
            if client != 'output' and index == 0 and client.op == same and
            client.inputs[1] is g]


def weight_gradient(fgraph, grad, turned):
    """The products of which the gradient of a weight is the sum.

    Returns
    -------
    list of (x, dt, node), or None
        None if it has other terms, or other uses.
    """
    dW = grad.inputs[2]
    terms = []
    for term in summands(fgraph, dW):
        if not is_product(term.owner, dW.dtype) or used_by(fgraph, term) != 1:
            return None
        a, b = term.owner.inputs
        x, dt = (b, transpose(a)) if turned else (transpose(a), b)
        terms.append((x, dt, term.owner))
    return terms


def summands(fgraph, variable):
    """What is added up to `variable`, sums that nothing else uses undone."""
    node = variable.owner
    if (node is not None and isinstance(node.op, Elemwise) and
            isinstance(node.op.scalar_op, scalar.Add) and
            used_by(fgraph, variable) == 1):
        return [term for v in node.inputs for term in summands(fgraph, v)]
    return [variable]


def used_by(fgraph, variable):
    return len(fgraph.clients(variable))


def column_sums(fgraph, matrix):
    """The variables that are the sums of the columns of `matrix`."""
    if matrix not in fgraph.variables:  # a transpose, written anew
        return []
    return [client.outputs[0] for client, _ in fgraph.clients(matrix)
            if client != 'output' and isinstance(client.op, Sum) and
            client.op.axis == (0,) and
            client.outputs[0].dtype == matrix.dtype]
