"""The Ops: the effective weight, its gradient, and what factoring needs.

In all of them V is of any number of dimensions, `axes` are those that the
norm sums, and the gain `g` has the dimensions of V: of size 1 along `axes`,
along the others of V's size or 1.
"""
import itertools
from collections import OrderedDict

import numpy as np
import theano
import theano.tensor as T
from theano.gof import Apply
from theano.gradient import DisconnectedType

from . import formula
from .compiled import CompiledOp

FLOATS = ('float16', 'float32', 'float64')


def extent(ndim, axes):
    """The axes of a weight as ``[outer][rows][filters][inner]``.

    Returns
    -------
    list of four lists, or None
        None if the summed axes and the others alternate more often.
    """
    runs = [(summed, list(run)) for summed, run in itertools.groupby(
        range(ndim), lambda axis: axis in axes)]
    groups = []
    for want in (True, False, True, False):  # inner, filters, rows, outer
        fits = runs and runs[-1][0] == want
        groups.insert(0, runs.pop()[1] if fits else [])
    return None if runs else groups


class _WeightOp(CompiledOp):
    """Shared by the Ops on a whole weight V and its gain g."""
    __props__ = ('axes', 'eps')
    _f16_ok = True  # the C code knows of it

    def __init__(self, axes, eps):
        self.axes = tuple(sorted(set(map(int, axes))))
        self.eps = float(eps)
        if not 0 <= self.eps < float('inf'):
            raise ValueError('eps must be a number, 0 or greater, got %r'
                             % eps)

    def __str__(self):
        return '%s{axes=%s, eps=%g}' % (
            type(self).__name__, self.axes, self.eps)

    def check(self, V, g, *others):
        """The inputs as variables, if they are what the Op takes."""
        inputs = V, g = [T.as_tensor_variable(v) for v in (V, g)]
        inputs += [T.as_tensor_variable(v) for v in others]
        for v in inputs:
            if v.dtype not in FLOATS or v.dtype != V.dtype:
                raise TypeError('%s takes one floating point type, got %s' % (
                    self, ', '.join(v.dtype for v in inputs)))
            if v.ndim != V.ndim:
                raise TypeError('%s takes inputs of equal dimensions, got %s'
                                % (self, ', '.join(str(v.ndim)
                                                   for v in inputs)))
        if not all(0 <= axis < V.ndim for axis in self.axes):
            raise TypeError('%s: a weight of %d dimensions has axes 0 to %d'
                            % (self, V.ndim, V.ndim - 1))
        if not all(g.broadcastable[axis] for axis in self.axes):
            raise TypeError('%s takes a gain that is broadcastable along the '
                            'summed axes, got %s' % (self, g.type))
        if extent(V.ndim, self.axes) is None:
            raise TypeError('%s: summed and other axes of a weight of %d '
                            'dimensions alternate too often, bring the summed '
                            'ones together' % (self, V.ndim))
        return inputs

    def kept(self, ndim):
        return [axis for axis in range(ndim) if axis not in self.axes]

    def own(self, g):
        """The axes along which the gain must have the weight's size."""
        return [axis for axis in range(g.ndim) if not g.broadcastable[axis]]

    def check_shapes(self, node, V, g):
        """What ``wnorm::fits`` does in C, for ``perform``."""
        for axis in self.own(node.inputs[1]):
            if g.shape[axis] != V.shape[axis]:
                raise ValueError(
                    'weight normalization: the weight has %d norms along axis '
                    '%d, the gain %d entries: it must have one for each, or '
                    'be broadcastable there' % (V.shape[axis], axis,
                                                g.shape[axis]))

    def inverse(self, V):
        """1 / ||V||, of zeros 0, in float64, for ``perform``."""
        V = V.astype('float64')
        # so that no square under- or overflows; the root of eps is one more
        # entry
        root = np.sqrt(self.eps)
        largest = np.max(abs(V), axis=self.axes, keepdims=True, initial=root)
        zero = largest == 0
        unit = np.where((largest > 0) & np.isfinite(largest), largest, 1)
        norm = np.sqrt((root / unit) ** 2 + np.sum(
            (V / unit) ** 2, axis=self.axes, keepdims=True))
        return np.where(zero, 0, 1 / unit / np.where(zero, 1, norm))

    # --- C ------------------------------------------------------------------

    def c_code(self, node, name, inputs, outputs, sub):
        V = node.inputs[0]
        half = V.dtype == 'float16'  # is computed in float32
        dtype = 'float32' if half else V.dtype
        kept, own = self.kept(V.ndim), self.own(node.inputs[1])
        sizes = [' * '.join(['(npy_intp)1'] + [
            'PyArray_DIM(%s, %d)' % (inputs[0], axis) for axis in group])
            for group in extent(V.ndim, self.axes)]
        values = dict(
            T='npy_' + dtype, type='NPY_' + dtype.upper(), ndim=V.ndim,
            kept=', '.join(map(str, kept)), nkept=len(kept),
            own=', '.join(map(str, own)), nown=len(own),
            sizes=', '.join(sizes), eps=repr(self.eps), fail=sub['fail'],
            V=inputs[0], g=inputs[1], body='%(body)s', rounded=''.join(
                '%s = wnorm::rounded(%s, NPY_FLOAT16);\nif (!%s) %s\n' % (
                    out, out, out, sub['fail']) for out in outputs if half))
        values.update(('in%d' % i, v) for i, v in enumerate(inputs))
        values.update(('out%d' % i, v) for i, v in enumerate(outputs))
        return (self.c_frame % values).replace(
            '%(body)s', self.c_body % values)

    #: Around ``c_body``: V in C order, the norms and the gains.
    c_frame = """
    {
        const int kept[] = {%(kept)s}, own[] = {%(own)s};
        PyArrayObject* V = NULL;
        try {
            if (!wnorm::fits(%(g)s, %(V)s, own, %(nown)s)) %(fail)s
            const wnorm::Owned g(wnorm::c_order(%(g)s, %(type)s));
            V = wnorm::c_order(%(V)s, %(type)s);
            if (!g.array || !V) { Py_XDECREF(V); %(fail)s }
            const wnorm::Extent e = {%(sizes)s};
            const %(T)s* v = (const %(T)s*)PyArray_DATA(V);
            const std::vector<double> inverse = wnorm::inverses(
                v, e, %(eps)s);
            const std::vector<double> scale = wnorm::scales<%(T)s>(
                inverse, g.array, V, kept, %(nkept)s);
            %(body)s
            Py_DECREF(V);
        } catch (const std::exception&) {  // of std::vector: no memory
            Py_XDECREF(V);
            PyErr_NoMemory();
            %(fail)s
        }
        %(rounded)s
    }
    """


class NormalizedWeight(_WeightOp):
    r"""
    The effective weight :math:`W = g V / \sqrt{\epsilon + \sum V^2}`.

    One pass for the norms, one for the product.

    Parameters
    ----------
    axes : tuple of int
        The axes that the norm sums.
    eps : float
    """

    def make_node(self, V, g):
        V, g = self.check(V, g)
        return Apply(self, [V, g], [V.type()])

    @np.errstate(over='ignore', invalid='ignore')  # as in C
    def perform(self, node, inputs, outputs):
        V, g = inputs
        self.check_shapes(node, V, g)
        outputs[0][0] = np.asarray(V * (g * self.inverse(V)), V.dtype)

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def grad(self, inputs, output_gradients):
        V, g = inputs
        return NormalizedWeightGrad(self.axes, self.eps)(
            V, g, output_gradients[0])

    def R_op(self, inputs, eval_points):
        V, g = inputs
        dV, dg = eval_points
        terms = []
        if dV is not None:  # the Jacobian is symmetric
            terms += NormalizedWeightGrad(self.axes, self.eps)(V, g, dV)[:1]
        if dg is not None:  # W is linear in g
            terms.append(self(V, dg))
        return [sum(terms[1:], terms[0]) if terms else None]

    c_body = """
            %(out0)s = wnorm::output(%(out0)s, %(ndim)s, PyArray_DIMS(V),
                                     %(type)s);
            if (!%(out0)s) { Py_DECREF(V); %(fail)s }
            wnorm::scaled(v, scale, e, (%(T)s*)PyArray_DATA(%(out0)s));
    """


class NormalizedWeightGrad(_WeightOp):
    r"""
    The gradients of V and g, given that of the effective weight.

    .. math:: dg = \sum dW \frac{V}{||V||}, \qquad
              dV = \frac{g}{||V||} \left( dW - \frac{V}{||V||} dg \right)

    Parameters
    ----------
    axes : tuple of int
        The axes that the norm sums.
    eps : float
    """

    def make_node(self, V, g, dW):
        V, g, dW = self.check(V, g, dW)
        return Apply(self, [V, g, dW], [V.type(), g.type()])

    @np.errstate(over='ignore', invalid='ignore')  # as in C
    def perform(self, node, inputs, outputs):
        V, g, dW = inputs
        self.check_shapes(node, V, g)
        if dW.shape != V.shape:
            raise ValueError('weight normalization: the gradient of the '
                             'weight has another shape than the weight')
        inverse = self.inverse(V)
        direction = V * inverse
        along = np.sum(dW.astype('float64') * direction, axis=self.axes,
                       keepdims=True)
        outputs[0][0] = np.asarray(
            g * inverse * dW - direction * (g * inverse * along), V.dtype)
        broadcast = tuple(axis for axis in range(V.ndim)
                          if g.shape[axis] == 1)
        outputs[1][0] = np.asarray(
            np.sum(along, axis=broadcast, keepdims=True), g.dtype)

    def infer_shape(self, node, shapes):
        return [shapes[0], shapes[1]]

    def grad(self, inputs, output_gradients):
        # Of fresh variables, then put in place: dW depends on V, and what V
        # contributes through it is not the gradient of this Op.
        given = list(inputs) + [
            v.zeros_like() if isinstance(d.type, DisconnectedType) else d
            for v, d in zip(inputs, output_gradients)]
        fresh = [v.type() for v in given]
        return theano.clone(
            formula.second_gradient(*fresh, axes=self.axes, eps=self.eps),
            replace=OrderedDict(zip(fresh, given)))

    def R_op(self, inputs, eval_points):
        return _rop(formula.gradient(*inputs, axes=self.axes, eps=self.eps),
                    inputs, eval_points)

    c_body = """
            if (!PyArray_CompareLists(PyArray_DIMS(V), PyArray_DIMS(%(in2)s),
                                      %(ndim)s)) {
                PyErr_SetString(PyExc_ValueError, "weight normalization: the "
                                "gradient of the weight has another shape "
                                "than the weight");
                Py_DECREF(V); %(fail)s
            }
            const wnorm::Owned dW(wnorm::c_order(%(in2)s, %(type)s));
            if (!dW.array) { Py_DECREF(V); %(fail)s }
            %(out0)s = wnorm::output(%(out0)s, %(ndim)s, PyArray_DIMS(V),
                                     %(type)s);
            %(out1)s = wnorm::output(%(out1)s, %(ndim)s,
                                     PyArray_DIMS(%(g)s), %(type)s);
            if (!%(out0)s || !%(out1)s) { Py_DECREF(V); %(fail)s }
            const %(T)s* dw = (const %(T)s*)PyArray_DATA(dW.array);
            const std::vector<double> along = wnorm::alongs(v, dw, e, inverse);
            wnorm::add_up<%(T)s>(along, V, kept, %(nkept)s, %(out1)s);
            wnorm::gradient(v, dw, scale, inverse, along, e,
                            (%(T)s*)PyArray_DATA(%(out0)s));
    """


class FilterScale(_WeightOp):
    r"""
    The scales :math:`g / \sqrt{\epsilon + \sum V^2}` and the inverse norms.

    Both have the dimensions of V, of size 1 along the summed axes. One pass.

    Parameters
    ----------
    axes : tuple of int
        The axes that the norm sums.
    eps : float
    """

    def make_node(self, V, g):
        V, g = self.check(V, g)
        kept = T.TensorType(V.dtype, [
            axis in self.axes or one
            for axis, one in enumerate(V.broadcastable)])
        return Apply(self, [V, g], [kept(), kept()])

    def perform(self, node, inputs, outputs):
        V, g = inputs
        inverse = self.inverse(V)
        outputs[0][0] = np.asarray(g * inverse, V.dtype)
        outputs[1][0] = np.asarray(inverse, V.dtype)

    def infer_shape(self, node, shapes):
        one = T.constant(1, dtype='int64')
        return [tuple(one if axis in self.axes else n
                      for axis, n in enumerate(shapes[0]))] * 2

    c_body = """
            npy_intp dims[%(ndim)s];
            for (int i = 0; i < %(ndim)s; ++i) dims[i] = 1;
            for (int i = 0; i < %(nkept)s; ++i)
                dims[kept[i]] = PyArray_DIM(V, kept[i]);
            %(out0)s = wnorm::output(%(out0)s, %(ndim)s, dims, %(type)s);
            %(out1)s = wnorm::output(%(out1)s, %(ndim)s, dims, %(type)s);
            if (!%(out0)s || !%(out1)s) { Py_DECREF(V); %(fail)s }
            for (npy_intp n = 0; n < e.norms(); ++n) {
                ((%(T)s*)PyArray_DATA(%(out0)s))[n] = scale[n];
                ((%(T)s*)PyArray_DATA(%(out1)s))[n] = inverse[n];
            }
    """


class FactoredGradient(CompiledOp):
    """What the gradients of a factored layer share: one pass over z and dt.

    Of z = dot(x, V), the gradient dt of t = z * scale, and the scales, a row:
    dt * scale, the sums over the rows of z * dt, and those of dt. Theano's
    own sum over rows walks down each column in turn.
    """
    __props__ = ()

    def make_node(self, z, dt, scale):
        inputs = [T.as_tensor_variable(v) for v in (z, dt, scale)]
        if not all(v.ndim == 2 and v.dtype == inputs[0].dtype and
                   v.dtype in ('float32', 'float64') for v in inputs):
            raise TypeError('%s takes matrices of float32 or of float64, got '
                            '%s' % (self, ', '.join(
                                str(v.type) for v in inputs)))
        sums = T.TensorType(inputs[0].dtype, (False,))
        return Apply(self, inputs, [inputs[1].type(), sums(), sums()])

    def perform(self, node, inputs, outputs):
        z, dt, scale = inputs
        if z.shape != dt.shape or scale.shape != (1, dt.shape[1]):
            raise ValueError('%s: shapes %s, %s and %s' % (
                self, z.shape, dt.shape, scale.shape))
        wide = dt.astype('float64')
        outputs[0][0] = dt * scale
        outputs[1][0] = np.asarray(np.sum(z * wide, axis=0), z.dtype)
        outputs[2][0] = np.asarray(np.sum(wide, axis=0), z.dtype)

    def infer_shape(self, node, shapes):
        return [shapes[1], (shapes[1][1],), (shapes[1][1],)]

    def c_code(self, node, name, inputs, outputs, sub):
        dtype = node.inputs[0].dtype
        return """
        {
            PyArrayObject *z = NULL, *dt = NULL, *scale = NULL;
            npy_intp* dims = PyArray_DIMS(%(dt)s);
            if (!PyArray_CompareLists(PyArray_DIMS(%(z)s), dims, 2) ||
                PyArray_DIM(%(scale)s, 0) != 1 ||
                PyArray_DIM(%(scale)s, 1) != dims[1]) {
                PyErr_SetString(PyExc_ValueError, "FactoredGradient: the "
                                "shapes do not fit");
                %(fail)s
            }
            %(scaled)s = wnorm::output(%(scaled)s, 2, dims, %(type)s);
            %(along)s = wnorm::output(%(along)s, 1, dims + 1, %(type)s);
            %(total)s = wnorm::output(%(total)s, 1, dims + 1, %(type)s);
            if (!%(scaled)s || !%(along)s || !%(total)s) %(fail)s
            z = PyArray_GETCONTIGUOUS(%(z)s);
            dt = PyArray_GETCONTIGUOUS(%(dt)s);
            scale = PyArray_GETCONTIGUOUS(%(scale)s);
            if (z && dt && scale)
                wnorm::factored_gradient(
                    (const %(T)s*)PyArray_DATA(z),
                    (const %(T)s*)PyArray_DATA(dt),
                    (const %(T)s*)PyArray_DATA(scale), dims[0], dims[1],
                    (%(T)s*)PyArray_DATA(%(scaled)s),
                    (%(T)s*)PyArray_DATA(%(along)s),
                    (%(T)s*)PyArray_DATA(%(total)s));
            bool done = z && dt && scale;
            Py_XDECREF(z);
            Py_XDECREF(dt);
            Py_XDECREF(scale);
            if (!done) %(fail)s
        }
        """ % dict(z=inputs[0], dt=inputs[1], scale=inputs[2],
                   scaled=outputs[0], along=outputs[1], total=outputs[2],
                   fail=sub['fail'], T='npy_' + dtype,
                   type='NPY_' + dtype.upper())


def _rop(outputs, inputs, eval_points):
    """R-operation; where all eval points are None, so is the result."""
    pairs = [(v, e) for v, e in zip(inputs, eval_points) if e is not None]
    if not pairs:
        return [None] * len(outputs)
    return T.Rop(outputs, *map(list, zip(*pairs)))
