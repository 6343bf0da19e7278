"""Initialization from many batches: level by level, a pass over them each."""
import contextlib
import functools
from collections import OrderedDict

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import get_all_layers, get_output
from theano.sandbox.rng_mrg import mrg_uniform_base
from theano.tensor.raw_random import RandomFunction

from ..layers import WeightNormLayer
from ..naming import describe
from .data import Batches, number_of_examples
from .graph import (
    all_finite, attributes_kept, check_closed, check_finite, check_value,
    init_updates_of, run)
from .moments import Moments, symbolic_moments
from .network import inputs_of, levels_of, named
from .one import Plan


class Alone(object):
    """What processes that share their data do together; here, one."""
    rank, size = 0, 1

    def together(self, function):
        """Call `function`; if it fails in one process, all raise."""
        return function()

    @contextlib.contextmanager
    def limited(self, timeout):
        """Waiting for the others takes so many seconds at most."""
        yield

    def exchange(self, thing):
        """What each process gives, in the order of ranks."""
        return self.spread(self.gather(thing))

    def gather(self, thing):
        """The same, on process 0 only; None on the others."""
        return [thing]

    def spread(self, thing):
        """What process 0 gives."""
        return thing


def from_many(layers, wrapped, source, deterministic, peers=Alone()):
    """What one batch does at once, level by level.

    With several processes the statistics are those of all their batches:
    moments are merged on process 0, which decides about the new values.
    """
    exact = deterministic is None or bool(deterministic)
    levels = levels_of(layers)
    passes = max([levels[layer] for layer in wrapped] + [1])
    batches = peers.together(lambda: Batches(
        layers, source, passes, may_be_empty=peers.size > 1))
    measurement = _Measurement(layers, wrapped, levels, batches, exact)
    degenerate, scales, found, before = {}, {}, {}, None
    with _progress(batches, peers) as advance:
        for level in range(1, passes + 1):
            peers.together(lambda: measurement.run(level, advance))
            parts = peers.gather(measurement.found())
            inputs, merged = peers.spread(peers.together(
                lambda: _merged(parts) if peers.rank == 0 else None))
            merged = peers.together(
                lambda: measurement.known(inputs, merged))
            graph = measurement.graph
            if level == 1:
                before = peers.together(lambda: graph.before(merged))
            for layer in wrapped:
                if levels[layer] == level:
                    found[layer] = merged[layer]
                    degenerate[layer] = merged[layer][0].degenerate(
                        graph.dtypes[layer])
            scales.update(peers.together(
                lambda: graph.renew(level, found, degenerate)))
            graph.values = peers.spread(graph.values)
    after = peers.together(lambda: graph.after(found, scales))
    return Plan(graph.params, graph.values,
                [degenerate[layer] for layer in wrapped], before,
                lambda: after)


@contextlib.contextmanager
def _progress(batches, peers):
    """A function to call after each batch: a bar, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda: None
        return
    # on a terminal only; of several processes none has one, as mpiexec
    # stands between
    with tqdm(desc='initialize', unit='batch', total=batches.total(),
              disable=peers.rank > 0 if peers.size > 1 else None) as bar:
        yield bar.update


class _Measurement(object):
    """The passes over this process's batches.

    Attributes
    ----------
    graph : _Graph
        Made when the first batch says what there is data for.
    """
    graph = None

    def __init__(self, layers, wrapped, levels, batches, exact):
        self.layers = layers
        self.wrapped = wrapped
        self.levels = levels
        self.batches = batches
        self.exact = exact

    def run(self, level, advance):
        """Measure a level: sets `merged`, the moments by layer."""
        self.batches.start()
        self.merged, is_checked = {}, not self.exact or level > 1
        while True:
            data = self.batches.next()
            if data is None:
                return
            if self.graph is None:
                self._make(list(data))
            with self.batches.numbered():
                self.graph.measure(level, list(data.values()), self.merged)
                mixture = None
                if not is_checked and number_of_examples(data) > 1:
                    mixture, is_checked = _Mixture(data), True
                del data  # before the next one is fetched
                if mixture is not None:
                    self.graph.check_independence(mixture)
            advance()

    def _make(self, inputs):
        self.inputs = inputs
        self.graph = _Graph(self.layers, self.wrapped, self.levels, inputs,
                            self.exact)

    def found(self):
        """Which inputs there is data for, and the moments by layer, as they
        are sent to other processes; None without data."""
        return (
            [self.layers.index(layer) for layer in self.inputs],
            [self.merged.get(layer) for layer in self.wrapped]
        ) if self.merged else None

    def known(self, inputs, merged):
        """The moments by layer, of those of all processes."""
        if self.graph is None:
            self._make([self.layers[place] for place in inputs])
        merged = {layer: moments for layer, moments in zip(
            self.wrapped, merged) if moments is not None}
        for layer, moments in merged.items():
            self.graph.filters[layer] = len(moments[0].mean)
        return merged


def _merged(parts):
    """Those that processes have found, merged in their order."""
    parts = [part for part in parts if part is not None]
    if not parts:
        raise ValueError('there are no batches, in no process')
    for inputs, _ in parts:
        if inputs != parts[0][0]:
            raise ValueError('the batches of the processes are not for the '
                             'same input layers')
    return parts[0][0], [
        # in a pass, of its level only
        [functools.reduce(Moments.merge, of_processes)
         for of_processes in zip(*moments)] if moments[0] else None
        for moments in zip(*[moments for _, moments in parts])]


class _Graph(object):
    """A network's statistics and initial values, compiled.

    New values are kept here, in `values`: the network computes with them in
    place of its `params`, which stay as they are.
    """
    def __init__(self, layers, wrapped, levels, inputs, exact):
        self.layers = layers
        self.wrapped = wrapped
        self.levels = levels
        self.exact = exact
        self.filters = {}
        self.symbols = [layer.input_var.type() for layer in inputs]
        # what the statistics depend on
        feeding = set(get_all_layers([layer.input_layer for layer in wrapped]))
        self.needed = [layer for layer in layers if layer in feeding]
        given = dict(zip(inputs, self.symbols))
        with attributes_kept(layers):
            updates = self._renewed(init_updates_of(layers, get_output(
                layers, given, init=True, deterministic=exact)))
            self.output = dict(zip(self.needed, get_output(
                self.needed, given, deterministic=exact)))
            if exact:
                self._check_noise(given)
            measured = self._measured()
        self._compile(measured, updates)

    def _renewed(self, updates):
        """Symbolic initial values; sets `params`, which they are for."""
        for layer in self.layers:
            if (getattr(layer, 'init_updates', []) and
                    not isinstance(layer, WeightNormLayer)):
                raise ValueError(
                    '%s has a data-dependent initialization of its own, which '
                    'takes one batch: give an array in place of many batches'
                    % describe(layer))
        self.statistics = [
            [T.dvector(), T.dvector(), T.TensorType('bool', (False,))()]
            for _ in self.wrapped]
        self.renewed, self.offsets, self.scales = [], [], []
        for layer, statistics in zip(self.wrapped, self.statistics):
            scale, updates = layer.initial_values(*statistics)
            updates = updates + layer.statistics_updates(
                statistics[0], scale)
            self.renewed += [(layer, param, value)
                             for param, value in updates]
            self.scales.append(scale)
            # the part of the pre-activation that t has none in
            zero = layer.align(T.zeros_like(statistics[0]))
            self.offsets.append(T.mean(_shifted(
                layer, zero, self.exact), axis=layer.axes_to_sum))
        self.params = [param for _, param, _ in self.renewed]
        for number, (layer, param, _) in enumerate(self.renewed):
            if param in self.params[:number]:
                raise ValueError(
                    '%s shares %s with another layer: data-dependent '
                    'initialization cannot set it for both. Give each its own'
                    % (named(layer), param))
        self.values = [param.get_value() for param in self.params]
        return [value for _, _, value in self.renewed]

    def _measured(self):
        """{layer: the expressions whose moments are wanted, t the first}"""
        measured = OrderedDict()
        self.dtypes = {}
        for layer in self.wrapped:
            t = self.output[layer.input_layer]
            self.dtypes[layer] = t.dtype
            below = getattr(layer.input_layer, 'b', None)
            t = t.astype('float64')
            if below is not None:
                t = t - layer.align(below)
            measured[layer] = [t]
            if not _is_plain(layer):
                # pre-activation, its offset, and what is scaled
                whole, offset = [
                    T.zeros_like(t) + _shifted(layer, x, self.exact)
                    for x in (t, T.zeros_like(t))]
                measured[layer] += [whole, offset, whole - offset]
        return measured

    def _compile(self, measured, updates):
        finite = [all_finite(self.output[layer]) for layer in self.needed]
        results, self.where = list(finite), {}
        for layer, expressions in measured.items():
            moments = [symbolic_moments(layer, x) for x in expressions]
            self.where[layer] = range(len(results),
                                      len(results) + 3 * len(moments))
            results += sum(moments, [])
        check_closed(results, self.symbols)
        symbols = [param.type() for param in self.params]
        givens = list(zip(self.params, symbols))
        # Running averages stay as they are; but noise is drawn anew for each
        # batch.
        noise = [(leaf, leaf.default_update)
                 for leaf in theano.gof.graph.inputs(results)
                 if _draws(getattr(leaf, 'default_update', None))]
        options = dict(givens=givens, no_default_updates=True,
                       on_unused_input='ignore')
        self._measure = theano.function(symbols + self.symbols, results,
                                        updates=noise, **options)
        self._renew = theano.function(
            symbols + sum(self.statistics, []),
            self.scales + updates + self.offsets, **options)
        # whether it can compute some results only
        self.is_partial = not noise and isinstance(
            self._measure.fn, getattr(theano.gof.vm, 'CVM', ()))

    def measure(self, level, arrays, merged):
        """Merge the moments of a batch into `merged`.

        In the first pass those of all layers, for the report. A layer's
        output must be finite as soon as all below are initialized.
        """
        layers = [layer for layer in self.wrapped
                  if level in (1, self.levels[layer])]
        checked = [number for number, layer in enumerate(self.needed)
                   if self.levels[layer] == level - 1]
        wanted = checked + [number for layer in layers
                            for number in self.where[layer]]
        results = run(self._measure, arrays, 'smaller batches', self.values,
                      **(dict(output_subset=wanted) if self.is_partial
                         else {}))
        if not self.is_partial:
            results = [results[number] for number in wanted]
        results = iter([np.asarray(result) for result in results])
        check_finite([self.needed[number] for number in checked],
                     [next(results) for _ in checked])
        with np.errstate(all='ignore'):  # layers above may be anything yet
            for layer in layers:
                found = [Moments(*[next(results) for _ in range(3)])
                         for _ in self.where[layer][::3]]
                merged[layer] = [
                    old.merge(new) for old, new in zip(
                        merged[layer], found)] if layer in merged else found

    def renew(self, level, found, degenerate):
        """Initialize the layers of a level; return what t is scaled by."""
        scales, values, _ = self._renewal(found, degenerate)
        for number, (layer, param, _) in enumerate(self.renewed):
            if self.levels[layer] == level:
                check_value(self.layers, param, values[number])
                self.values[number] = values[number]
        return {layer: scale for layer, scale in zip(self.wrapped, scales)
                if self.levels[layer] == level}

    def _renewal(self, found=(), degenerate=()):
        statistics = []
        for layer, (mean, _, _) in zip(self.wrapped, self.statistics):
            if layer in found:
                t = found[layer][0]
                statistics += [t.mean, t.std, degenerate[layer]]
            else:
                n = self.filters[layer]
                statistics += [np.zeros(n), np.ones(n), np.zeros(n, bool)]
        with np.errstate(all='ignore'):  # what is not finite is found later
            results = [np.asarray(result) for result in self._renew(
                *(self.values + statistics))]
        n = len(self.wrapped)
        return results[:n], results[n:-n], results[-n:]

    def before(self, merged):
        """Mean and deviation of each pre-activation as it is."""
        with np.errstate(all='ignore'):
            return [(merged[layer][1].mean, merged[layer][1].std)
                    if not _is_plain(layer) else
                    (merged[layer][0].mean + offset, merged[layer][0].std)
                    for layer, offset in zip(self.wrapped,
                                             self._renewal()[2])]

    def after(self, found, scales):
        """The same with the new values, by the formula."""
        rows = []
        for layer, offset in zip(self.wrapped, self._renewal()[2]):
            scale, moments = scales[layer], found[layer]
            std = scale * moments[-1].std
            if not (_is_plain(layer) or layer.b in self.params):
                # the offset varies over positions, and with t perhaps
                _, whole, fixed, scaled = [m.std ** 2 for m in moments]
                std = np.sqrt(np.maximum(0, std ** 2 + fixed + scale * (
                    whole - fixed - scaled)))
            rows.append((scale * moments[-1].mean + offset, std))
        return rows

    # whether examples are independent of noise and of one another

    def _check_noise(self, given):
        for layer in self.needed:
            blockers = [self.output[below] for below in inputs_of(layer)
                        if below in self.output] + list(given.values())
            if _draws(self.output[layer], blockers):
                raise ValueError(
                    'the output of %s is random, with deterministic=True '
                    'too, so that statistics over many batches are not '
                    'exact. With deterministic=False they are taken all the '
                    'same' % named(layer))

    def check_independence(self, mixture):
        """Refuse layers in which an example sees the others of its batch.

        One batch of the first examples only and one of the others only,
        against a mixture of the two and its complement: sums over outputs
        agree, of any function of them, on whatever axis the examples are. By
        functions that are not linear, and on outputs brought to mean 0 and
        deviation 1.
        """
        outputs = [self.output[layer] for layer in self.needed]
        center, spread = T.dvectors(2)
        signatures = theano.function(
            [center, spread] + self.symbols,
            [_signature(output, center[number], spread[number])
             for number, output in enumerate(outputs)],
            no_default_updates=True, on_unused_input='ignore')

        def sums(mask, *scaling):
            return np.array(run(signatures, mixture.arrays(mask),
                                'smaller batches', scaling))

        mask = mixture.mask
        zeros = np.zeros(len(outputs))
        _, _, _, size, center, spread = sums(mask, zeros, zeros + 1).T
        spread[~(np.isfinite(spread) & (spread > 0))] = 1
        pure, mixed = [sums(one, center, spread)[:, :3] +
                       sums(~one, center, spread)[:, :3]
                       for one in (mask | True, mask)]
        rounding = max(np.finfo(dtype).eps for dtype in [
            output.dtype for output in outputs
            if output.dtype in theano.tensor.float_dtypes] + ['float64'])
        tolerance = 1e3 * rounding * size * (1 + abs(center) / spread)
        for layer, differs in zip(self.needed, np.any(
                abs(pure - mixed) > tolerance[:, None], axis=1)):
            if differs:
                raise ValueError(
                    'the output of %s for an example depends on the other '
                    'examples of its batch, with deterministic=True too, so '
                    'that statistics over many batches are not exact. With '
                    'deterministic=False they are taken all the same'
                    % named(layer))


def _is_plain(layer):
    """Whether a layer adds the same to all pre-activations of a filter."""
    return (type(layer).preactivation is WeightNormLayer.preactivation and
            all(getattr(bias, 'ndim', 1) == 1 for bias in (
                layer.b, getattr(layer.input_layer, 'b', None))))


def _shifted(layer, t, deterministic):
    """The pre-activation, of what is bias-free."""
    below = getattr(layer.input_layer, 'b', None)
    if below is not None:
        t = t + layer.align(below)
    return layer.preactivation(t, deterministic=deterministic)


def _draws(expression, blockers=()):
    """Whether `expression` contains random numbers, up to the `blockers`."""
    if expression is None:
        return False
    blockers = set(blockers)
    for variable in theano.gof.graph.ancestors([expression], blockers):
        if variable.owner is None or variable in blockers:
            continue
        op = variable.owner.op
        if isinstance(op, (RandomFunction, mrg_uniform_base)) or (
                type(op).__name__ == 'GpuDnnDropoutOp'):
            return True
        # loops, and other graphs inside
        inner = getattr(op, 'local_outputs', getattr(op, 'outputs', ()))
        if isinstance(inner, (list, tuple)) and any(map(_draws, inner)):
            return True
    return False


def _signature(output, center, spread):
    """Sums over all of `output`, scaled; its size, mean and deviation."""
    output = output.astype('float64')
    finite = T.invert(T.isnan(output) | T.isinf(output))
    number = T.sum(finite, dtype='float64')
    z = T.switch(finite, (output - center) / spread, 0.)
    mean = T.sum(z) / T.maximum(number, 1)
    std = T.sqrt(T.sum(T.switch(finite, T.sqr(z - mean), 0.)) /
                 T.maximum(number, 1))
    return T.stack([T.sum(T.sin(z + 1)), T.sum(T.sin(3 * z + 2)), number,
                    T.cast(output.size, 'float64'), mean, std])


class _Mixture(object):
    """Batches of the length of a batch, mixed from a few of its examples."""

    def __init__(self, data):
        self.n = n = number_of_examples(data)
        few = min(n // 2, 4)  # of each half
        self.parts = [
            (array[:few].copy(), array[n // 2:n // 2 + few].copy())
            if array.ndim and len(array) == n else (array, None)
            for array in data.values()]
        self.mask = np.random.RandomState(0).rand(n) < .5
        self.mask[[0, -1]] = True, False

    def arrays(self, mask):
        """Examples of the first half where `mask`, of the second elsewhere."""
        mixed = []
        for first, second in self.parts:
            if second is not None:
                place = np.arange(self.n) % len(first)
                first = first[place]
                first[~mask] = second[place[~mask]]
            mixed.append(first)
        return mixed
