"""What the tests here ask of functions that are compiled for a device."""
import theano
from theano.gpuarray.basic_ops import GpuFromHost, HostFromGpu
from theano.gpuarray.type import GpuArrayType

#: Compiles for the CPU, in Python, whatever the device.
CPU = theano.compile.mode.get_mode('FAST_COMPILE').excluding(
    'gpuarray_opt', 'constant_folding', 'topo_constant_folding', 'conv_gemm',
    'AbstractConvCheck', *['local_conv%s_cpu' % op for op in (
        '2d', '2d_gradweight', '2d_gradinputs',
        '3d', '3d_gradweight', '3d_gradinputs')])

#: The same in C, for what Python cannot do.
CPU_IN_C = theano.compile.mode.get_mode('FAST_RUN').excluding('gpuarray_opt')


def transfers(function):
    """What crosses between host and device inside a function.

    Returns
    -------
    list of (str, int)
        Operations and the number of dimensions of what they move: without
        the inputs given and the outputs asked for.
    """
    graph = function.maker.fgraph
    inner = []
    for node in graph.toposort():
        if isinstance(node.op, GpuFromHost):
            given = node.inputs[0] in graph.inputs
        elif isinstance(node.op, HostFromGpu):
            given = node.outputs[0] in graph.outputs and (
                len(graph.clients(node.outputs[0])) == 1
                if callable(getattr(graph, 'clients', None))
                else len(node.outputs[0].clients) == 1)
        else:
            continue
        if not given:
            inner.append((str(node.op), node.outputs[0].ndim))
    return inner


def on_the_host(function):
    """What is computed on the host, but for integers, such as shapes.

    Returns
    -------
    list of (str, int)
        Operations and the number of dimensions of what comes out.
    """
    found = []
    for node in function.maker.fgraph.toposort():
        variables = node.inputs + node.outputs
        if any(isinstance(variable.type, GpuArrayType)
               for variable in variables):
            continue
        found += [(str(node.op), variable.ndim) for variable in node.outputs
                  if 'float' in str(getattr(variable, 'dtype', ''))]
    return found


def stays_on_the_device(function):
    """Fails, with a list, where more than single numbers cross or compute."""
    for what in (transfers(function), on_the_host(function)):
        assert [entry for entry in what if entry[1] > 0] == [], what


def operations(function):
    return [type(node.op).__name__
            for node in function.maker.fgraph.apply_nodes]
