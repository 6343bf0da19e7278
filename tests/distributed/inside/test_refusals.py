"""What does not fit is refused by all processes, and nothing has changed."""
import numpy as np
import pytest
import theano
import theano.tensor as T

from wnorm import distributed
from wnorm.distributed.peers import (
    NotFiniteError, OtherProcessError, UnequalError)

from .nets import (
    RULES, bits, data, dense, fresh, loss_of, means, params_of)

RANK, SIZE = distributed.rank(), distributed.size()
LAST = SIZE - 1

several = pytest.mark.skipif(SIZE == 1, reason='one process cannot differ')


def refused(kind, *words, blamed=LAST):
    """Expects an error, with these words, because of a process."""
    class Refused(object):
        def __enter__(self):
            self.raises = pytest.raises(kind)
            self.caught = self.raises.__enter__()

        def __exit__(self, *error):
            done = self.raises.__exit__(*error)
            for word in words:
                assert word in str(self.caught.value)
            if SIZE > 1:
                assert distributed.world().blamed == blamed
            return done
    return Refused()


# --- before the first step ---------------------------------------------------

@several
def test_number_of_parameters():
    net = fresh(dense)
    _, _, loss = loss_of(net)
    params = params_of(net)
    with refused(UnequalError, '6 parameters on rank 0, 5 on rank %d' % LAST):
        means(loss, params[:6 - (RANK == LAST)])


@several
@pytest.mark.parametrize('value, name', [
    (np.zeros(4), 'W'), (np.zeros(3, 'float32'), 'W'), (np.zeros(3), 'V')])
def test_parameters(value, name):
    params = [theano.shared(np.zeros(2), 'b'),
              theano.shared(*((value, name) if RANK == LAST else
                              (np.zeros(3), 'W')))]
    with refused(UnequalError, 'parameter 1 is W (3,) of float64 on rank 0, '
                 '%s %s of %s on rank %d' % (name, value.shape, value.dtype,
                                             LAST)):
        means(sum(T.sum(param) for param in params), params)


@several
def test_options():
    net = fresh(dense)
    x, y, loss = loss_of(net)
    is_last = RANK == LAST
    with refused(UnequalError, 'weight: None on rank 0, given on rank'):
        means(loss, params_of(net), weight=1 if is_last else None)
    with refused(UnequalError, 'compress: False on rank 0, True on rank'):
        means(loss, params_of(net), compress=is_last)
    with refused(UnequalError, 'inputs: 2 on rank 0, 3 on rank'):
        means(loss * T.mean(T.vector()) if is_last else loss, params_of(net))
    with refused(UnequalError, 'running averages: 0 on rank 0, 1 on rank'):
        running = theano.shared(0.)
        if is_last:
            running.default_update = loss
        means(loss + 0 * running, params_of(net))
    # and the next one works
    means(loss, params_of(net))


def wrong_arguments():
    net = fresh(dense)
    _, _, loss = loss_of(net)
    params = params_of(net)
    good = T.grad(loss, params)
    other = theano.shared(0.)
    return [
        (TypeError, 'shared variables', lambda: means(loss, [T.scalar()])),
        (TypeError, 'shared variables', lambda: means(loss, [3])),
        (ValueError, 'params is empty', lambda: means(loss, [])),
        (TypeError, 'expressions', lambda: means(.5, params)),
        (TypeError, 'expressions', lambda: means(tuple(good), params)),
        (TypeError, 'expressions', lambda: means([1.] + good[1:], params)),
        (TypeError, 'float type', lambda: means(
            [T.zeros_like(good[0], dtype='int64')] + good[1:], params)),
        (ValueError, '', lambda: means(good[1:], params)),
        (TypeError, '', lambda: means(T.sum(loss * np.ones(2), axis=(),
                                            keepdims=True), params)),
        (ValueError, '', lambda: means(loss, params + [other])),
        (TypeError, 'weight', lambda: means(loss, params, weight=T.vector())),
        (TypeError, 'weight', lambda: means(loss, params, weight=[1, 2])),
        (TypeError, 'weight', lambda: means(loss, params, weight='1')),
        (TypeError, 'weight', lambda: means(loss, params, weight=1j)),
        (ValueError, 'timeout', lambda: means(loss, params, timeout=0)),
        (ValueError, 'timeout', lambda: means(loss, params, timeout=None)),
        (ValueError, 'timeout', lambda: means(loss, params,
                                              timeout=float('nan'))),
    ]


@pytest.mark.parametrize('number', range(17))
def test_wrong_arguments(number):
    kind, word, call = wrong_arguments()[number]
    with refused(kind, word, blamed=distributed.world().blamed if SIZE > 1
                 else 0):
        call()
    if SIZE > 1:  # one process only
        net = fresh(dense)
        with refused((kind, OtherProcessError), word,
                     'rank %d: ' % LAST if RANK != LAST else '',
                     blamed=LAST):
            if RANK == LAST:
                distributed.world().blamed = LAST
                call()
            else:
                means(loss_of(net)[2], params_of(net))


# --- in a step ---------------------------------------------------------------

def trained(weight=None, **options):
    """A network and a function that trains it; the weight is an input."""
    net = fresh(dense)
    distributed.broadcast(net)
    x, y, loss = loss_of(net)
    scale = T.dscalar()  # of the gradient of b in the second layer
    params = params_of(net)
    grads = T.grad(loss, params)
    grads[4] = grads[4] * scale
    state = RULES['momentum'](means(
        grads, params, weight=weight, **options), params)
    return net, list(state), theano.function(
        [x, y, scale] + ([] if weight is None else [weight]), updates=state)


def values(variables):
    return [variable.get_value().tobytes() for variable in variables]


@several
def test_parameters_with_other_values():
    net, state, train = trained()
    param = params_of(net)[3]
    param.set_value(param.get_value() + 1e-9 * (RANK == LAST))
    before = values(state)
    with refused(UnequalError, 'rank %d, step 1' % LAST, 'fc2.W of DenseLayer',
                 'has other values than on rank 0', 'broadcast(net)'):
        train(*(data(net, 4, 1)[0] + (1.,)))
    assert values(state) == before


@several
def test_not_finite_in_half_precision():
    net, state, train = trained(compress=True)
    before = values(state)
    x, y = data(net, 4, 1)[0]
    with refused(NotFiniteError, 'rank %d, step 1' % LAST, 'is NaN'):
        train(x, y, np.nan if RANK == LAST else 1.)
    assert values(state) == before


@several
def test_batches_of_different_length():
    net, state, train = trained()
    before = values(state)
    x, y = data(net, 4 + SIZE, 1)[0]
    n = 4 - (RANK == LAST)
    with refused(UnequalError, 'batches that weigh the same differ: x has '
                 'length 4 on rank 0, 3 on rank %d' % LAST,
                 'weight=x.shape[0]', 'step 1'):
        train(x[:n], y[:n], 1.)
    assert values(state) == before
    train(x[:4], y[:4], 1.)  # the next step is one again
    assert values(state) != before
    assert len(set(map(tuple, bits(net)))) == 1


@several
@pytest.mark.parametrize('bad', [-1., float('nan'), float('inf')])
def test_weights(bad):
    net, state, train = trained(T.dscalar())
    before = values(state)
    batch, = data(net, 4, 1)
    with refused(UnequalError, 'the weight of a process must be'):
        train(*batch, 1., bad if RANK == LAST else 1.)
    with refused(UnequalError, 'all processes have weight 0', 'step 2',
                 blamed=0):
        train(*batch, 1., 0.)
    assert values(state) == before
    train(*batch, 1., 1.)


@several
@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_not_finite(bad):
    net, state, train = trained()
    before = values(state)
    batch, = data(net, 4, 1)
    with refused(NotFiniteError, 'rank %d, step 1' % LAST,
                 'the gradient of b of weight-normalized DenseLayer '
                 "'fc2' (None, 3) is NaN or infinite"):
        train(*batch, bad if RANK == LAST else 1.)
    assert net.b in state and values(state) == before
    # unread, where there is no example
    net, state, train = trained(T.dscalar())
    train(*batch, bad if RANK == LAST else 1., float(RANK != LAST))
    assert all(np.isfinite(one.get_value()).all() for one in state)


@several
def test_shapes_of_gradients():
    param = theano.shared(np.zeros(3), 'a')
    x = T.dvector()
    function = theano.function([x], means([x], [param], weight=1))
    with refused(UnequalError, 'the gradient of a (3,) has shape (3,) on '
                 'rank 0, (4,) on rank %d' % LAST):
        function(np.zeros(3 + (RANK == LAST)))
    assert function(np.full(3, float(RANK)))[0][0] == np.mean(range(SIZE))
