"""The Ops: the effective weight, its gradient, and what factoring needs.

In all of them V is of any number of dimensions, `axes` are those that the
norm sums, and the gain `g` has the dimensions of V: of size 1 along `axes`,
along the others of V's size or 1.
"""
import itertools
import os
from collections import OrderedDict

import numpy as np
import theano
import theano.tensor as T
from theano.gof import Apply, Op
from theano.gradient import DisconnectedType

from . import formula

FLOATS = ('float16', 'float32', 'float64')

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                       'kernels.hpp')) as _file:
    KERNELS = _file.read()


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


class _WeightOp(Op):
    """Shared by the Ops on a whole weight V and its gain g."""
    __props__ = ('axes', 'eps')

    def __init__(self, axes, eps):
        self.axes = tuple(axes)
        self.eps = float(eps)

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
        for axis in self.axes:
            if not 0 <= axis < V.ndim or not g.broadcastable[axis]:
                raise TypeError('%s takes a gain that is broadcastable along '
                                'the summed axes, got %s' % (self, g.type))
        if extent(V.ndim, self.axes) is None:
            raise TypeError('%s: the axes alternate too often' % self)
        return inputs

    def kept(self, ndim):
        return [axis for axis in range(ndim) if axis not in self.axes]

    def inverse(self, V):
        """1 / ||V||, in float64, for ``perform``."""
        V = V.astype('float64')
        if self.eps:
            eps = float(np.asarray(self.eps, V.dtype))
            return 1 / np.sqrt(eps + np.sum(V ** 2, axis=self.axes,
                                            keepdims=True))
        largest = np.max(abs(V), axis=self.axes, keepdims=True, initial=0)
        zero = largest == 0
        safe = np.where(zero, 1, largest)
        norm = np.sqrt(np.sum((V / safe) ** 2, axis=self.axes, keepdims=True))
        return np.where(zero, 0, 1 / safe / np.where(zero, 1, norm))

    # --- C ------------------------------------------------------------------

    def c_code_cache_version(self):
        return (1,)

    def c_headers(self):
        return ['<cmath>', '<limits>', '<vector>']

    def c_support_code(self):
        return KERNELS

    def c_compile_args(self):
        # a product and a sum may be one instruction
        return ['-ffp-contract=fast']

    def c_code(self, node, name, inputs, outputs, sub):
        V = node.inputs[0]
        if V.dtype == 'float16':
            raise theano.gof.utils.MethodNotDefined('c_code for float16')
        kept = self.kept(V.ndim)
        sizes = [' * '.join(['(npy_intp)1'] + [
            'PyArray_DIM(%s, %d)' % (inputs[0], axis) for axis in group])
            for group in extent(V.ndim, self.axes)]
        values = dict(
            T='npy_' + V.dtype, type='NPY_' + V.dtype.upper(), ndim=V.ndim,
            kept=', '.join(map(str, kept)), nkept=len(kept),
            sizes=', '.join(sizes), eps=repr(self.eps), fail=sub['fail'],
            V=inputs[0], g=inputs[1], body='%(body)s')
        values.update(('in%d' % i, v) for i, v in enumerate(inputs))
        values.update(('out%d' % i, v) for i, v in enumerate(outputs))
        return (self.c_frame % values).replace(
            '%(body)s', self.c_body % values)

    #: Around ``c_body``: V in C order, the norms and the gains.
    c_frame = """
    {
        const int kept[] = {%(kept)s};
        PyArrayObject* V = NULL;
        if (!wnorm::fits(%(g)s, %(V)s, kept, %(nkept)s)) %(fail)s
        V = PyArray_GETCONTIGUOUS(%(V)s);
        if (!V) %(fail)s
        {
            const wnorm::Extent e = {%(sizes)s};
            const wnorm::Gain gain(%(g)s, %(V)s, kept, %(nkept)s);
            const %(T)s* v = (const %(T)s*)PyArray_DATA(V);
            std::vector<double> inverse = wnorm::inverses(v, e, %(eps)s);
            std::vector<%(T)s> scale(e.norms());
            gain.each([&](npy_intp norm, npy_intp offset) {
                scale[norm] = inverse[norm] * *(const %(T)s*)(
                    PyArray_BYTES(%(g)s) + offset);
            });
            %(body)s
        }
        Py_DECREF(V);
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

    def perform(self, node, inputs, outputs):
        V, g = inputs
        outputs[0][0] = np.asarray(V * (g * self.inverse(V)), V.dtype)

    def infer_shape(self, node, shapes):
        return [shapes[0]]

    def grad(self, inputs, output_gradients):
        V, g = inputs
        return NormalizedWeightGrad(self.axes, self.eps)(
            V, g, output_gradients[0])

    def R_op(self, inputs, eval_points):
        V, g = inputs
        return [_rop([formula.weight(V, g, self.axes, self.eps)], inputs,
                     eval_points)[0]]

    c_body = """
            %(out0)s = wnorm::output(%(out0)s, %(ndim)s, PyArray_DIMS(V),
                                     %(type)s);
            if (!%(out0)s) { Py_DECREF(V); %(fail)s }
            wnorm::scaled(v, scale.data(), e, (%(T)s*)PyArray_DATA(%(out0)s));
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

    def perform(self, node, inputs, outputs):
        V, g, dW = inputs
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
            PyArrayObject* dW = NULL;
            if (!PyArray_CompareLists(PyArray_DIMS(V), PyArray_DIMS(%(in2)s),
                                      %(ndim)s))
                PyErr_SetString(PyExc_ValueError, "weight normalization: the "
                                "gradient of the weight has another shape "
                                "than the weight");
            else
                dW = PyArray_GETCONTIGUOUS(%(in2)s);
            if (!dW) { Py_DECREF(V); %(fail)s }
            %(out0)s = wnorm::output(%(out0)s, %(ndim)s, PyArray_DIMS(V),
                                     %(type)s);
            %(out1)s = wnorm::output(%(out1)s, %(ndim)s,
                                     PyArray_DIMS(%(g)s), %(type)s);
            if (!%(out0)s || !%(out1)s) {
                Py_DECREF(V); Py_DECREF(dW); %(fail)s
            }
            const %(T)s* dw = (const %(T)s*)PyArray_DATA(dW);
            %(T)s* dg = (%(T)s*)PyArray_DATA(%(out1)s);
            std::vector<double> along = wnorm::alongs(v, dw, e, inverse);
            {
                // where g is broadcast, its gradient is a sum
                std::vector<double> total(PyArray_SIZE(%(out1)s), 0.);
                const wnorm::Gain place(%(out1)s, V, kept, %(nkept)s);
                place.each([&](npy_intp norm, npy_intp offset) {
                    total[offset / sizeof(%(T)s)] += along[norm];
                });
                for (size_t i = 0; i < total.size(); ++i) dg[i] = total[i];
            }
            std::vector<%(T)s> inv(inverse.begin(), inverse.end());
            std::vector<%(T)s> c(e.norms());
            for (npy_intp n = 0; n < e.norms(); ++n)
                c[n] = scale[n] * along[n];
            wnorm::gradient(v, dw, scale.data(), inv.data(), c.data(), e,
                            (%(T)s*)PyArray_DATA(%(out0)s));
            Py_DECREF(dW);
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


class ColumnDot(Op):
    """The sums over the rows of the elementwise product of two matrices.

    Theano's own sum over rows walks down each column in turn.
    """
    __props__ = ()

    def make_node(self, a, b):
        a, b = T.as_tensor_variable(a), T.as_tensor_variable(b)
        if not (a.ndim == b.ndim == 2 and a.dtype == b.dtype and
                a.dtype in FLOATS):
            raise TypeError('ColumnDot takes two matrices of one floating '
                            'point type, got %s, %s' % (a.type, b.type))
        return Apply(self, [a, b], [T.TensorType(a.dtype, (False,))()])

    def perform(self, node, inputs, outputs):
        a, b = inputs
        if a.shape != b.shape:
            raise ValueError('ColumnDot: shapes %s and %s' % (
                a.shape, b.shape))
        outputs[0][0] = np.asarray(np.sum(
            a.astype('float64') * b, axis=0), a.dtype)

    def infer_shape(self, node, shapes):
        return [(shapes[0][1],)]

    c_code_cache_version = _WeightOp.c_code_cache_version
    c_headers = _WeightOp.c_headers
    c_support_code = _WeightOp.c_support_code
    c_compile_args = _WeightOp.c_compile_args

    def c_code(self, node, name, inputs, outputs, sub):
        dtype = node.inputs[0].dtype
        if dtype == 'float16':
            raise theano.gof.utils.MethodNotDefined('c_code for float16')
        return """
        {
            PyArrayObject *a = NULL, *b = NULL;
            if (!PyArray_CompareLists(PyArray_DIMS(%(a)s), PyArray_DIMS(%(b)s),
                                      2)) {
                PyErr_SetString(PyExc_ValueError, "ColumnDot: the matrices "
                                "have different shapes");
                %(fail)s
            }
            npy_intp n = PyArray_DIM(%(a)s, 1);
            %(out)s = wnorm::output(%(out)s, 1, &n, %(type)s);
            if (!%(out)s) %(fail)s
            a = PyArray_GETCONTIGUOUS(%(a)s);
            b = PyArray_GETCONTIGUOUS(%(b)s);
            if (!a || !b) { Py_XDECREF(a); Py_XDECREF(b); %(fail)s }
            const wnorm::Extent e = {1, PyArray_DIM(a, 0), n, 1};
            std::vector<double> sum = wnorm::sums(
                (const %(T)s*)PyArray_DATA(a), (const %(T)s*)PyArray_DATA(b),
                e);
            for (npy_intp i = 0; i < n; ++i)
                ((%(T)s*)PyArray_DATA(%(out)s))[i] = sum[i];
            Py_DECREF(a);
            Py_DECREF(b);
        }
        """ % dict(a=inputs[0], b=inputs[1], out=outputs[0], fail=sub['fail'],
                   T='npy_' + dtype, type='NPY_' + dtype.upper())


def _rop(outputs, inputs, eval_points):
    """R-operation; where all eval points are None, so is the result."""
    pairs = [(v, e) for v, e in zip(inputs, eval_points) if e is not None]
    if not pairs:
        return [None] * len(outputs)
    return T.Rop(outputs, *map(list, zip(*pairs)))
