"""Products of matrices together with what is computed from them, in one Op.

The gradient of a dense weight is a product as large as the weight, which
momentum, Adam and the update then walk through one after the other. The Op
computes it block by block, and all that follows while a block is in cache.
"""
import warnings

import numpy as np
import theano.tensor as T
from theano.gof import Apply

from .compiled import CompiledOp, source


class ProductEpilogue(CompiledOp):
    r"""
    Elementwise expressions of products of matrices and of further matrices.

    With :math:`P_k = A_k B_k`, the outputs are those of `scalar_op` for each
    entry of :math:`P_1 \ldots P_K, E_1 \ldots E_n`. No product is ever there
    as a whole.

    Parameters
    ----------
    scalar_op : theano.scalar.Composite
        Of one floating point type.
    products : int
        The number of products.
    inplace : tuple of (int, int)
        Outputs that overwrite one of the E, by their numbers.

    Notes
    -----
    Inputs of the node: A and B of each product, then the E: matrices, rows,
    columns or single numbers, as their types say.
    """
    __props__ = ('scalar_op', 'products', 'inplace')
    support = CompiledOp.support + source('epilogue.hpp')

    def __init__(self, scalar_op, products=1, inplace=()):
        self.scalar_op = scalar_op
        self.products = products
        self.inplace = tuple(inplace)
        if inplace:
            self.destroy_map = {out: [self.first + e] for out, e in inplace}

    @property
    def first(self):
        """The number of inputs before the E."""
        return 2 * self.products

    def overwriting(self, out, e):
        """The same Op, with output `out` in place of the matrix E_e."""
        return ProductEpilogue(self.scalar_op, self.products,
                               self.inplace + ((out, e),))

    def __str__(self):
        return 'ProductEpilogue{%s%s}' % (
            self.scalar_op,
            ', inplace=%s' % (self.inplace,) if self.inplace else '')

    def make_node(self, *inputs):
        inputs = [T.as_tensor_variable(v) for v in inputs]
        dtype = inputs[0].dtype
        if dtype not in ('float32', 'float64') or not all(
                v.ndim == 2 and v.dtype == dtype for v in inputs):
            raise TypeError('%s takes matrices of float32 or of float64, got '
                            '%s' % (self, ', '.join(
                                str(v.type) for v in inputs)))
        output = T.TensorType(dtype, (False, False))
        return Apply(self, inputs, [output() for _ in range(
            self.scalar_op.nout)])

    def prepare_node(self, node, storage_map, compute_map, impl):
        if impl == 'py':
            self.scalar_op.init_py_impls()

    def perform(self, node, inputs, outputs):
        products = [np.dot(inputs[2 * i], inputs[2 * i + 1])
                    for i in range(self.products)]
        shape, dtype = products[0].shape, products[0].dtype
        given = products + inputs[self.first:]
        for value, variable in zip(inputs[self.first:],
                                   node.inputs[self.first:]):
            wanted = tuple(1 if one else n for one, n in zip(
                variable.broadcastable, shape))
            if value.shape != wanted:
                raise ValueError('%s: a matrix has shape %s, must have %s'
                                 % (self, value.shape, wanted))
        # entry by entry: NumPy's functions take up to 32 arguments
        with warnings.catch_warnings():  # Theano calls np.product
            warnings.simplefilter('ignore', DeprecationWarning)
            results = [self.scalar_op.impl(*entries) for entries in zip(*[
                np.broadcast_to(v, shape).ravel() for v in given])]
        values = np.reshape(np.array(results, dtype), shape + (len(outputs),))
        values = np.moveaxis(values, -1, 0)
        inplace = dict(self.inplace)
        for i, (value, storage) in enumerate(zip(values, outputs)):
            value = np.array(value, order='C')
            if i in inplace:
                target = inputs[self.first + inplace[i]]
                target[...] = value
                value = target
            storage[0] = value

    def infer_shape(self, node, shapes):
        return [(shapes[0][0], shapes[1][1])] * len(node.outputs)

    # --- C ------------------------------------------------------------------

    def c_code_cache_version(self):
        versions = (super(ProductEpilogue, self).c_code_cache_version(),
                    self.scalar_op.c_code_cache_version())
        return versions if all(versions) else ()

    def c_compile_args(self):
        # 1.0 would draw float32 into double precision
        return (super(ProductEpilogue, self).c_compile_args() +
                ['-fsingle-precision-constant'] * (
                    self.scalar_op.inputs[0].dtype == 'float32'))

    def c_support_code(self):
        return self.scalar_op.c_support_code() + '\n' + self.support

    def c_support_code_apply(self, node, name):
        """The loop over one row of a block.

        Only in a function of its own does the compiler trust ``restrict``.
        """
        T_ = 'npy_' + node.inputs[0].dtype
        inplace = {e: out for out, e in self.inplace}
        arguments, reads = [], []
        for k in range(self.products):
            arguments.append('const %s* __restrict__ p%d' % (T_, k))
            reads.append('p%d[j]' % k)
        for e, variable in enumerate(node.inputs[self.first:]):
            if e in inplace:  # one pointer: restrict allows no second
                reads.append('out%d[j]' % inplace[e])
            elif variable.broadcastable[1]:
                arguments.append('const %s e%d' % (T_, e))
                reads.append('e%d' % e)
            else:
                arguments.append('const %s* __restrict__ e%d' % (T_, e))
                reads.append('e%d[j]' % e)
        outputs = range(len(node.outputs))
        arguments += ['%s* __restrict__ out%d' % (T_, o) for o in outputs]
        code = self.scalar_op.c_code(
            None, name, ['x%d' % i for i in range(len(reads))],
            ['y%d' % o for o in outputs], dict(fail=''))
        return self.scalar_op.c_support_code_apply(node, name) + """
        __attribute__((noinline)) static void %s_row(npy_intp n, %s) {
            for (npy_intp j = 0; j < n; ++j) {
                %s
                %s
                %s
                %s
            }
        }
        """ % (name, ', '.join(arguments),
               ' '.join('const %s x%d = %s;' % (T_, i, read)
                        for i, read in enumerate(reads)),
               ' '.join('%s y%d;' % (T_, o) for o in outputs), code,
               ' '.join('out%d[j] = y%d;' % (o, o) for o in outputs))

    def c_code(self, node, name, inputs, outputs, sub):
        elementwise = node.inputs[self.first:]
        inplace = dict(self.inplace)
        code = ['const npy_intp rows = PyArray_DIM(%s, 0);' % inputs[0],
                'const npy_intp columns = PyArray_DIM(%s, 1);' % inputs[1],
                'npy_intp dims[2] = {rows, columns};',
                'bool fits = true;']
        # what is read
        code.append('wnorm::Held factors[%d];' % (2 * self.products))
        for i in range(self.products):
            code.append(
                'if (!factors[{a}].take({A}, false) || '
                '!factors[{b}].take({B}, false)) {fail} '
                'fits = fits && factors[{a}].dim(0) == rows && '
                'factors[{b}].dim(1) == columns && '
                'factors[{a}].dim(1) == factors[{b}].dim(0);'.format(
                    a=i, b=self.products + i, A=inputs[2 * i],
                    B=inputs[2 * i + 1], fail=sub['fail']))
        for e, variable in enumerate(elementwise):
            array = inputs[self.first + e]
            code.append('fits = fits && PyArray_DIM(%s, 0) == %s && '
                        'PyArray_DIM(%s, 1) == %s;' % (
                            array, '1' if variable.broadcastable[0] else
                            'rows', array,
                            '1' if variable.broadcastable[1] else 'columns'))
            if e not in inplace.values():
                code.append('wnorm::Held h%d; if (!h%d.take(%s, true)) %s' % (
                    e, e, array, sub['fail']))
        code.append("""
            if (!fits) {
                PyErr_SetString(PyExc_ValueError, "ProductEpilogue: the "
                                "shapes of the matrices do not fit");
                %s
            }""" % sub['fail'])
        # what is written
        for o, out in enumerate(outputs):
            if o in inplace:
                array = inputs[self.first + inplace[o]]
                code.append('wnorm::overwrite(&%s, %s);' % (out, array))
            else:
                code.append('{0} = wnorm::output({0}, 2, dims, NPY_{1});'
                            .format(out, node.outputs[o].dtype.upper()))
            code.append('if (!%s) %s' % (out, sub['fail']))
        return """
        try {
            %s
            %s
        } catch (const std::exception&) {  // of std::vector: no memory
            PyErr_NoMemory();
            %s
        }""" % ('\n'.join(code), self._loops(node, name, inputs, outputs),
               sub['fail'])

    def _loops(self, node, name, inputs, outputs):
        """The blocks, and the rows of each."""
        T_ = 'npy_' + node.inputs[0].dtype
        inplace = {e for _, e in self.inplace}
        arguments = ['strips[%d] + r * wnorm::Panel<%s>::strip' % (k, T_)
                     for k in range(self.products)]
        for e, variable in enumerate(node.inputs[self.first:]):
            if e not in inplace:
                one_row, one_column = variable.broadcastable
                at = ('' if one_row else ' + row + r' if one_column else
                      ' + (row + r) * columns')
                arguments.append('%s(h%d.data<%s>()%s)' % (
                    '*' if one_column else '', e, T_,
                    at + ('' if one_column else ' + column')))
        arguments += ['(%s*)PyArray_DATA(%s) + (row + r) * columns + column'
                      % (T_, out) for out in outputs]
        return """
        wnorm::multiply<%(T)s, %(products)d>(
            factors, factors + %(products)d,
            [&](%(T)s** strips, npy_intp row, npy_intp n, npy_intp column,
                npy_intp m) {
            for (npy_intp r = 0; r < n; ++r)
                %(name)s_row(m, %(arguments)s);
        });
        """ % dict(T=T_, name=name, arguments=', '.join(arguments),
                   products=self.products)
