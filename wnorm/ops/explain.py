"""What a compiled function does with its normalized weights."""
import theano
from theano.compile.function_module import Function
from theano.tensor.blas import Dot22, Dot22Scalar, Gemm
from theano.tensor.elemwise import DimShuffle, Elemwise
from theano.tensor.opt import Assert

from .epilogue import ProductEpilogue
from .factoring import key
from .lowering import on_device
from .weight import FilterScale, NormalizedWeight, NormalizedWeightGrad

__all__ = ['explain']

PRODUCTS = (theano.tensor.Dot, Dot22, Dot22Scalar, Gemm)


def explain(f):
    """
    wnorm.explain(f)

    Print, layer by layer, how a compiled function computes with its weights.

    Parameters
    ----------
    f : function
        What :func:`theano.function` returned.

    Raises
    ------
    TypeError
        If `f` is something else.

    Notes
    -----
    A weight is *factored* where it is used in products of matrices only:
    the function multiplies by V and scales the result, and W never exists.
    Otherwise it is *materialized*, once for all that use it, and the line
    says what that is. The gradient of a factored weight is *fused into the
    update* where what follows from it, such as Adam's moments, is computed
    with it, block by block.

    Examples
    --------
    >>> import theano, theano.tensor as T, wnorm
    >>> from lasagne.layers import InputLayer, DenseLayer, get_output
    >>> l = wnorm.weight_norm(DenseLayer(InputLayer((None, 20)), 50))
    >>> x = T.matrix()
    >>> wnorm.explain(theano.function([x], get_output(l, x),
    ...                               mode='FAST_RUN'))
    DenseLayer (None, 50): factored
    """
    if not isinstance(f, Function):
        raise TypeError('explain() takes a function that theano.function '
                        'compiled, got %r' % (f,))
    lines = findings(f.maker.fgraph)
    for name, words in lines:
        print('%s: %s' % (name, ', '.join(words)))
    if not lines:
        print('no normalized weight' + (
            ', or the device computes it by the formula' if on_device()
            else ''))


def findings(fgraph):
    """For each normalized weight its name, and what there is to say."""
    order = fgraph.toposort()
    position = {node: i for i, node in enumerate(order)}
    names, said, used = {}, {}, {}
    for node in order:
        if isinstance(node.op, (FilterScale, NormalizedWeight)):
            V, out = key(node.inputs[0])[0], node.outputs[0]
            names[V] = getattr(out.tag, 'layer', V.name or 'a weight')
            said.setdefault(V, []).append(
                'factored' if isinstance(node.op, FilterScale) else
                'materialized: ' + reason(out))
            used[V] = min([len(order)] + [
                position[client] for client, _ in users(out)
                if client != 'output'])
    for node in order:
        words = None
        if isinstance(node.op, NormalizedWeightGrad):
            inputs, words = node.inputs[:1], 'gradient in one pass'
        elif isinstance(node.op, ProductEpilogue):
            inputs, words = node.inputs[node.op.first:], (
                'gradient fused into the update' +
                (' (in place)' if node.op.inplace else ''))
        for V in {key(v)[0] for v in inputs} if words else ():
            if V in said and words not in said[V]:
                said[V].append(words)
    # layers in the order in which they are computed
    return [(names[V], said[V]) for V in sorted(said, key=used.get)]


def reason(W):
    """Why a weight is computed as a whole."""
    others = {name_of(client) for client, index in users(W)
              if client == 'output' or not isinstance(client.op, PRODUCTS) or
              isinstance(client.op, Gemm) and index == 0}
    if others:
        return 'used by ' + ' and '.join(sorted(others))
    return 'the rewrites are off (optimizer=%s, optimizer_excluding=%s)' % (
        theano.config.optimizer, theano.config.optimizer_excluding)


def users(variable):
    """What computes with a variable, however its dimensions are arranged and
    its shape checked first, as pairs (node, index) as in its ``clients``."""
    for client, index in variable.clients:
        if client != 'output' and index == 0 and isinstance(
                client.op, (Assert, DimShuffle)):
            for pair in users(client.outputs[0]):
                yield pair
        else:
            yield client, index


def name_of(client):
    if client == 'output':
        return 'an output of the function'
    if isinstance(client.op, (Elemwise, Gemm)):
        return 'an elementwise expression'
    return type(client.op).__name__
