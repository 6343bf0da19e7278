"""A program for mpiexec in which something goes wrong.

``python faulty.py FAULT RANKS TIMEOUT``: the processes of these ranks have the
fault, most of them in step 20.
"""
import atexit
import os
import signal
import sys
import threading
import time

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, InputLayer, get_all_params, get_output

import wnorm
from wnorm import distributed, weight_norm
from wnorm.distributed import peers

fault, ranks, timeout = sys.argv[1], sys.argv[2], float(sys.argv[3])
if 'WNORM_TESTS_TIMEOUT' in os.environ:  # of what has no timeout of its own
    peers.TIMEOUT = float(os.environ['WNORM_TESTS_TIMEOUT'])
culprit = str(distributed.rank()) in ranks.split(',')
LAST = 40


def now():
    """It happens now: what tests measure the time from."""
    os.write(1, b'fault at %.3f\n' % time.time())


def keep_coverage():
    """Of what ends without a chance to write it."""
    try:
        from coverage import Coverage
    except ImportError:
        return
    world = distributed.world()
    abort = world.abort

    def save_and_abort(*args):
        if Coverage.current():
            Coverage.current().save()
        abort(*args)
    world.abort = save_and_abort


def me(number):
    return lambda: os.kill(os.getpid(), number)


def raise_error():
    raise KeyError('bad luck')


def no_memory():
    np.empty((2 ** 40, 2 ** 10))


def load():
    yield raise_error()


def thread():
    def fail():
        raise KeyError('bad luck')
    other = threading.Thread(target=fail)
    other.start()
    other.join()


def fork():
    child = os.fork()
    if not child:
        raise_error()
    os.waitpid(child, 0)


def closed():
    sys.stdout.close()
    os.close(2)
    raise_error()


def mute():
    sys.stdout.close()
    raise_error()


def full():
    distributed.world().log.file = os.open('/dev/full', os.O_WRONLY)


def shifty():
    sys.excepthook = lambda *about: None
    raise_error()


#: What a culprit does in step 20.
FAULTS = {
    'raise': raise_error,
    'mute': mute,
    'loader': lambda: next(load()),
    'memory': no_memory,
    'exit': lambda: sys.exit(3),
    'os._exit': lambda: os._exit(3),
    'interrupt': me(signal.SIGINT),
    'terminate': me(signal.SIGTERM),
    'kill': me(signal.SIGKILL),
    'stop': me(signal.SIGSTOP),
    'compute': lambda: time.sleep(60),
    'late': lambda: time.sleep(timeout + 1),
    'thread': thread,
    'fork': fork,
    'closed': closed,
    'full': full,
    'hook': shifty,
}


def network():
    x = T.matrix('x')
    net = InputLayer((None, 3), x)
    net = weight_norm(DenseLayer(net, 2, name='fc'), train_g=True)
    if fault == 'unequal' and culprit:
        net = DenseLayer(net, 2, name='too many')
    return x, net


def batches():
    yield np.ones((4, 3))
    if culprit:
        now()
        raise_error()


def main():
    keep_coverage()
    if fault in ('early', 'early exit') and culprit:
        now()
        raise_error() if fault == 'early' else sys.exit('no data')
    x, net = network()
    if fault != 'unequal':
        distributed.broadcast(net)
    if fault == 'initialize':
        distributed.initialize(net, batches())
    loss = T.mean(get_output(net))
    params = get_all_params(net, trainable=True)

    def compiled():
        if fault == 'unequal':
            now()
        grads = distributed.grads(
            loss, params, timeout=timeout,
            weight=None if fault == 'empty' else x.shape[0])
        return theano.function([x], updates=lasagne.updates.sgd(
            grads, params, .01))
    train = compiled()
    if fault == 'order':
        first, second = train, compiled()
    if fault == 'before' and culprit:
        now()
        me(signal.SIGKILL)()
    # compiling takes each process another time
    distributed.world().exchange('compiled')
    for step in range(1, LAST):
        x = np.ones((4, 3))
        if step == 20:
            if (culprit and fault not in ('save', 'none')) or fault in (
                    'order', 'all'):
                now()
            if fault == 'all':
                raise_error()
            if fault == 'waiting':
                if culprit:
                    threading.Timer(.5, me(signal.SIGKILL)).start()
                else:
                    time.sleep(20)
            if fault == 'nan' and culprit:
                x[1] = np.nan
            if fault == 'empty' and culprit:
                x = x[:0]
            if fault == 'order':
                train = first if culprit else second
            if fault == 'fewer' and culprit:
                return
            if fault == 'save' and distributed.rank() and culprit:
                now()
                raise_error()
            if fault in FAULTS and culprit:
                FAULTS[fault]()
        if fault == 'caught':
            try:
                if step == 20 and culprit:
                    raise_error()
                train(x)
            except KeyError:
                pass
        else:
            train(x)
        if fault == 'slow':
            os.write(1, b'step %d\n' % step)
            time.sleep(.1)
        if fault == 'save' and distributed.rank() == 0:
            os.write(1, b'saving %s\n' % net.b.get_value().tobytes().hex()
                     .encode())
            if step == 20 and culprit:
                # in the midst of it
                os.fsync = lambda file: me(signal.SIGKILL)()
                now()
            wnorm.save(net, 'net.npz')
    if fault == 'atexit' and culprit:
        now()
        atexit.register(raise_error)
    if fault == 'linger' and culprit:
        now()
        time.sleep(4)


main()
