"""The second rewrite: what is computed from a product joins it in one Op."""
from collections import OrderedDict

import theano.tensor as T
from theano import scalar
from theano.compile.function_module import Supervisor
from theano.gof import InconsistencyError, Optimizer, toolbox
from theano.gof.destroyhandler import DestroyHandler
from theano.gof.utils import MethodNotDefined
from theano.tensor.blas import Dot22, Dot22Scalar, Gemm
from theano.tensor.elemwise import Elemwise

from .epilogue import ProductEpilogue
from .factoring import key
from .weight import FilterScale

#: Nodes that are, or contain, a product of their first matrices.
PRODUCTS = (Dot22, Dot22Scalar, Gemm)


class EpilogueFusion(Optimizer):
    """
    Compute what follows from a product while a block of it is in cache.

    Before::

        P = dot(A, B)                        the gradient of V, or a part
        m_new = 0.9 * m + 0.1 * (P - V * c)  momentum, Adam, the update ...
        V_new = V - rate * m_new

    After::

        m_new, V_new = ProductEpilogue(A, B, V, c, m, rate)

    The elementwise expressions that follow from a product are absorbed, as
    long as nothing that they take depends on the product in another way (as
    the norm of all gradients does), and what only they use. Products of
    equal factors are one (Adam's graph has the gradient twice), products
    added to one another are computed together.

    Parameters
    ----------
    everywhere : bool
        Also where none of the matrices is a factored weight's V.
    """

    def __init__(self, everywhere=False):
        self.everywhere = everywhere

    def add_requirements(self, fgraph):
        fgraph.attach_feature(toolbox.ReplaceValidate())

    def apply(self, fgraph):
        order = fgraph.toposort()
        weights = {key(node.inputs[0])[0] for node in order
                   if isinstance(node.op, FilterScale)}
        if not (weights or self.everywhere):
            return
        updates = {fgraph.outputs[i] for i in fgraph.update_mapping or ()}
        done = set()
        for node in order:
            if not is_product(node) or node in done:
                continue
            cluster = Cluster(fgraph, order, factors(node))
            done.update(cluster.nodes)
            if not cluster.is_worthwhile():
                continue
            outputs = cluster.outputs()
            if (any(v in updates for v in outputs) if self.everywhere else
                    any(key(v)[0] in weights for v in cluster.inputs())):
                fused = fuse(cluster, outputs)
                if fused is not None:
                    fgraph.replace_all_validate(
                        list(zip(outputs, fused)), reason='wnorm_epilogue')
                    order = fgraph.toposort()


def is_product(node):
    return (isinstance(node.op, PRODUCTS) and
            not getattr(node.op, 'inplace', False) and
            is_block(node.outputs[0]) and all(
                not any(v.broadcastable) for v in factors(node)))


def is_block(variable):
    """Whether it is a matrix that can be computed block by block."""
    return (variable.ndim == 2 and not any(variable.broadcastable) and
            variable.dtype in ('float32', 'float64'))


def factors(node):
    """The matrices whose product `node` is or contains."""
    if isinstance(node.op, Gemm):
        return node.inputs[2], node.inputs[3]
    return tuple(node.inputs[:2])


def operands(node):
    """What a node takes elementwise."""
    if isinstance(node.op, Gemm):
        z, alpha, x, y, beta = node.inputs
        return [z, alpha, beta]
    if isinstance(node.op, PRODUCTS):
        return node.inputs[2:]
    return node.inputs


class Cluster(object):
    """Nodes that one :class:`ProductEpilogue` can compute.

    Parameters
    ----------
    fgraph
    order : list of nodes
        In topological order.
    product : tuple of two variables
        The factors of the product that it grows from.
    """

    def __init__(self, fgraph, order, product):
        self.fgraph = fgraph
        self.nodes = set()
        self.products = [product]
        self._add_consumers(order, product)
        self._add_producers()
        # in the order of the graph: equal layers make equal Ops
        self.nodes = [node for node in order if node in self.nodes]
        self.products = list(dict.fromkeys(
            factors(node) for node in self.nodes if is_product(node)))

    def _add_consumers(self, order, product):
        inside, dependent = set(), set()
        for node in order:
            depends = any(v in dependent for v in node.inputs)
            follows = any(v in inside for v in operands(node))
            is_this = is_product(node) and factors(node) == product
            if not depends and (is_this or follows and absorbable(node)):
                # what a product multiplies must be there before
                if not (is_product(node) and
                        any(v in inside for v in factors(node))):
                    self.nodes.add(node)
                    inside.update(node.outputs)
                    continue
            if depends or any(v in inside for v in node.inputs):
                dependent.update(node.outputs)

    def _add_producers(self):
        """Add what nothing but this cluster uses."""
        queue = list(self.nodes)
        while queue:
            for variable in operands(queue.pop()):
                node = variable.owner
                if node is None or node in self.nodes or not (
                        absorbable(node) and self._is_inner(node)):
                    continue
                self.nodes.add(node)
                queue.append(node)

    def _is_inner(self, node):
        return all(client in self.nodes and any(v is node.outputs[0]
                                                for v in operands(client))
                   for client, _ in self.fgraph.clients(node.outputs[0]))

    def is_worthwhile(self):
        """Whether there is more than a product."""
        return any(not isinstance(node.op, (Dot22, Dot22Scalar))
                   for node in self.nodes)

    def inputs(self):
        """What the nodes take elementwise from outside, in order."""
        inside = {v for node in self.nodes for v in node.outputs}
        return list(dict.fromkeys(v for node in self.nodes
                                  for v in operands(node) if v not in inside))

    def outputs(self):
        """What is used outside."""
        return [node.outputs[0] for node in self.nodes if any(
            client not in self.nodes
            for client, _ in self.fgraph.clients(node.outputs[0]))]


def absorbable(node):
    if is_product(node):
        return True
    return (isinstance(node.op, Elemwise) and len(node.outputs) == 1 and
            is_block(node.outputs[0]) and all(
                v.dtype == node.outputs[0].dtype for v in node.inputs))


def fuse(cluster, outputs):
    """The outputs as those of one Op, or None if that cannot be."""
    arguments = Arguments()
    products = [arguments.add_product(a.dtype) for a, b in cluster.products]
    results = expressions(cluster, outputs, arguments,
                          dict(zip(cluster.products, products)))
    try:
        composite = scalar.Composite(arguments.scalars, results)
        composite.init_c_code()
    except MethodNotDefined:  # pragma: no cover (all that Theano has are in C)
        return None
    op = ProductEpilogue(composite, len(cluster.products))
    return op(*([v for product in cluster.products for v in product] +
                arguments.matrices), return_list=True)


class Arguments(object):
    """The arguments of a scalar function, and the matrices that they are of.
    """

    def __init__(self):
        self.scalars = []
        self.known = OrderedDict()

    def add(self, variable, dtype):
        """The scalar that stands for `variable`."""
        if variable not in self.known:
            self.known[variable] = self.add_product(dtype)
        return self.known[variable]

    def add_product(self, dtype):
        self.scalars.append(scalar.get_scalar_type(dtype)())
        return self.scalars[-1]

    @property
    def matrices(self):
        return [as_matrix(v) for v in self.known]


def as_matrix(variable):
    if variable.ndim:
        return variable
    if isinstance(variable, T.Constant):
        return T.constant(variable.data.reshape((1, 1)))
    return variable.dimshuffle('x', 'x')


def expressions(cluster, outputs, arguments, products):
    """The outputs for one entry, given `products` by their factors."""
    values = {}
    for node in cluster.nodes:
        given = [values[v] if v in values else arguments.add(v, v.dtype)
                 for v in operands(node)]
        if isinstance(node.op, Gemm):
            z, alpha, beta = given
            value = scalar.add(scalar.mul(alpha, products[factors(node)]),
                               scalar.mul(beta, z))
        elif isinstance(node.op, Dot22Scalar):
            value = scalar.mul(given[0], products[factors(node)])
        elif isinstance(node.op, Dot22):
            value = products[factors(node)]
        else:
            value = node.op.scalar_op(*given)
        values[node.outputs[0]] = value
    products = list(products.values())
    return [scalar.identity(values[v]) if values[v] in products else values[v]
            for v in outputs]


class InPlace(Optimizer):
    """
    Let a :class:`ProductEpilogue` overwrite what its outputs replace.

    Before::

        m_new, V_new = ProductEpilogue(A, B, V, m)      two new matrices

    After, with m and V updated by m_new and V_new::

        m_new, V_new = ProductEpilogue{inplace}(A, B, V, m)

    Of an output that updates a shared variable this variable is tried first.
    """

    def add_requirements(self, fgraph):
        fgraph.attach_feature(DestroyHandler())

    def apply(self, fgraph):
        for node in fgraph.toposort():
            if isinstance(node.op, ProductEpilogue):
                for out in range(len(node.outputs)):
                    node = overwrite(fgraph, node, out)


def overwrite(fgraph, node, out):
    """The node that computes output `out` in place, if it can; else `node`."""
    own = [fgraph.inputs[j] for i, j in (fgraph.update_mapping or {}).items()
           if fgraph.outputs[i] is node.outputs[out]]
    protected = set(fgraph.outputs)
    for feature in fgraph._features:
        if isinstance(feature, Supervisor):
            protected.update(feature.protected)
    candidates = [
        (v not in own, e) for e, v in enumerate(node.inputs[node.op.first:])
        if v.type == node.outputs[out].type and v not in protected and
        not isinstance(v, T.Constant) and not fgraph.has_destroyers([v]) and
        e not in dict(node.op.inplace).values()]
    for _, e in sorted(candidates):
        op = node.op.overwriting(out, e)
        outputs = op(*node.inputs, return_list=True)
        try:
            fgraph.replace_all_validate(list(zip(node.outputs, outputs)),
                                        reason='wnorm_inplace')
        except InconsistencyError:
            continue
        return outputs[0].owner
    return node
