"""Compares what a device computes with NumPy's float64.

:func:`run` starts this file as a program of its own, in the environment of
:mod:`.settings`; that prints one finding as a JSON object.
"""
import json
import os
import signal
import subprocess
import sys
import time

from wnorm.stack.rows import problem, row

NAME = 'GPU test'

#: The largest error in float32, relative to the largest value. Sums of a few
#: hundred products come out within 1e-6; TF32's, which rounds the factors to
#: 10 bits, are off by 1e-4 or more.
TOLERANCE = 2e-5

MARK = 'wnorm gpu check: '


def run(variables, time_limit):
    """The finding on the device of an environment.

    Parameters
    ----------
    variables : dict
        What to set in the environment.
    time_limit : float
        Seconds that it may take; the first time it compiles.

    Returns
    -------
    row
    """
    with subprocess.Popen(
            [sys.executable, '-m', __name__], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=dict(os.environ, **variables),
            start_new_session=True) as child:
        try:
            output, errors = child.communicate(timeout=time_limit)
            ending = 'ended with status %d' % child.returncode
        except subprocess.TimeoutExpired:
            end(child)
            output, errors = child.communicate()
            ending = 'took longer than %g seconds' % time_limit
        except BaseException:
            end(child)
            raise
    for line in output.decode(errors='replace').splitlines():
        if line.startswith(MARK):
            return json.loads(line[len(MARK):])
    said = ' '.join(errors.decode(errors='replace').split())[-600:]
    return problem(NAME, 'it %s%s' % (
        ending, said and ', after Theano said: ' + said),
        'see what Theano says; if nothing else helps, empty its compile '
        'folder')


def end(child):
    """Kill a process and the compilers that it has started."""
    os.killpg(child.pid, signal.SIGKILL)


# --- the program ----------------------------------------------------------

def main():
    print(MARK + json.dumps(finding()))


def finding():
    start = time.time()
    import theano
    from theano import gpuarray
    if not gpuarray.pygpu_activated:
        # the parent shows what Theano said of it
        sys.exit('Theano computes on the CPU, although it was told device=%s'
                 % theano.config.device)
    device = '%s (%s)' % (theano.config.device, gpuarray.get_context(
        None).devname.strip())
    expected, results, ops = computed()
    errors = {what: relative_error(results[what], expected[what])
              for what in expected}
    wrong = ['%s by %.1g' % (what, error) for what, error in errors.items()
             if not error <= TOLERANCE]
    if wrong:
        return problem(NAME, '%s computes wrong, relative to the largest '
                       'value: %s' % (device, ', '.join(wrong)),
                       'errors of about 1e-4 are those of TF32: leave '
                       'NVIDIA_TF32_OVERRIDE at 0; else update the driver, '
                       "and empty Theano's compile folder")
    value = '%s: %s are right within %.1g (%.0f s)' % (
        device, ', '.join(expected), max(errors.values()),
        time.time() - start)
    cudnn = any(op.startswith('GpuDnnConv') for op in ops)
    if theano.config.device.startswith('cuda') and not cudnn and (
            theano.config.dnn.enabled != 'False'):
        return row(NAME, value + ', but convolutions do not go through cuDNN',
                   'warning', 'see what Theano says: %s'
                   % gpuarray.dnn.dnn_available.msg)
    return row(NAME, value + ', convolutions through cuDNN' * cudnn)


def relative_error(result, expected):
    import numpy
    return float(numpy.abs(numpy.asarray(result, 'float64') -
                           expected).max() / numpy.abs(expected).max())


def computed():
    """What is expected, what Theano computes, and by which operations."""
    import numpy
    import theano
    import theano.tensor as T
    rng = numpy.random.RandomState(1)
    images, filters, costs, a, b = [
        rng.uniform(-1, 1, shape).astype('float32') for shape in (
            (4, 16, 11, 9), (8, 16, 3, 3), (4, 8, 9, 7), (70, 300),
            (300, 50))]
    x, w, c, p, q = [T.TensorType('float32', (False,) * value.ndim)()
                     for value in (images, filters, costs, a, b)]
    convolution = T.nnet.conv2d(x, w, filter_flip=False)
    by_filters, by_images = T.grad((convolution * c).sum(), [w, x])
    function = theano.function([x, w, c, p, q], [
        convolution, by_filters, by_images, T.sqrt(T.sqr(w).sum((1, 2, 3))),
        T.dot(p, q)], mode='FAST_RUN')
    expected = [numpy.zeros(shape) for shape in (
        costs.shape, filters.shape, images.shape)]
    for i in range(3):
        for j in range(3):
            there = (slice(None), slice(None), slice(i, i + 9),
                     slice(j, j + 7))
            here = (slice(None), slice(None), i, j)
            window = images[there].astype('float64')
            expected[0] += numpy.einsum('bchw,fc->bfhw', window,
                                        filters[here])
            expected[1][here] = numpy.einsum('bchw,bfhw->fc', window, costs)
            expected[2][there] += numpy.einsum(
                'bfhw,fc->bchw', costs.astype('float64'), filters[here])
    expected += [
        numpy.sqrt((filters.astype('float64') ** 2).sum((1, 2, 3))),
        a.astype('float64').dot(b)]
    names = ['a convolution', 'its gradient by the filters',
             'its gradient by the images', 'a reduction', 'a gemm']
    return (dict(zip(names, expected)),
            dict(zip(names, function(images, filters, costs, a, b))),
            [type(node.op).__name__ for node in function.maker.fgraph.
             apply_nodes])


if __name__ == '__main__':
    main()
