"""What is mended of Theano where it computes on a device.

Unlike the rest of this package it imports Theano; the start-up hook calls
:func:`register` while that is being imported.
"""
import theano
from theano import gof, scalar, tensor
from theano.tensor.opt import register_canonicalize


def register():
    """Mend what concerns the device in use.

    Returns
    -------
    dict
        What to why, for the doctor.
    """
    register_canonicalize(local_subtensor_of_cast)
    mended = {'theano.tensor.mean': (
        'sends the shape of what it averages to the GPU: its elements stay '
        'single numbers')}
    if theano.config.device.startswith('opencl'):
        for op in (scalar.Maximum, scalar.Minimum):
            name_nan_in_opencl(op)
        mended['theano.tensor.maximum, minimum'] = (
            'write nan("") into kernels, which OpenCL does not know, and '
            'crash: NAN')
    return mended


@gof.local_optimizer([tensor.Subtensor])
def local_subtensor_of_cast(node):
    """cast(v)[i] -> cast(v[i]) for a vector of integers, such as a shape.

    Theano does so only where one such element is used: the mean over two
    axes needs two, and the vector moves to the GPU.
    """
    cast = node.inputs[0].owner
    if (cast is None or not isinstance(cast.op, tensor.Elemwise) or
            not isinstance(cast.op.scalar_op, scalar.Cast) or
            cast.inputs[0].ndim != 1 or node.outputs[0].ndim != 0 or
            cast.inputs[0].dtype not in tensor.discrete_dtypes):
        return None
    return [cast.op(node.op(cast.inputs[0], *node.inputs[1:]))]


def name_nan_in_opencl(op):
    """Let a scalar operation write NAN, which C and OpenCL both know."""
    c_code = op.c_code

    def named(self, *arguments):
        return c_code(self, *arguments).replace('nan("")', 'NAN')

    op.c_code = named
