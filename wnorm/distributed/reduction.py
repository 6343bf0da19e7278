"""The Op that averages over the processes, the order of several, and what
becomes of running averages."""
import theano
import theano.tensor as T
from theano.compile import optdb
from theano.gof import Apply, Op
from theano.gof.opt import Optimizer


class MeanOverProcesses(Op):
    """Values and their weight -> the weighted means over all processes.

    One Op for all values of a step, so that however Theano orders a graph,
    the processes send the same message.

    Inputs: what has to come before, the weight, the lengths of the data, the
    values. Outputs: what may come after, the means.

    Parameters
    ----------
    call : Call
        What the processes have agreed upon; does the work.
    """
    __props__ = ('call',)

    def __init__(self, call):
        self.call = call

    def __str__(self):
        return 'MeanOverProcesses{%d}' % self.call.number

    def make_node(self, before, weight, lengths, *values):
        return Apply(self, [before, weight, lengths] + list(values),
                     [before.type()] + [value.type() for value in values])

    def perform(self, node, inputs, outputs):
        if not hasattr(node, 'fgraph'):  # a test value, of no function
            for storage, value in zip(outputs, inputs[:1] + inputs[3:]):
                storage[0] = value.copy()
            return
        check_mode(node)
        for storage in outputs:  # of the call before: its memory is free
            storage[0] = None
        outputs[0][0] = inputs[0].copy()
        means = self.call.mean(inputs[1], inputs[2], inputs[3:])
        for storage, mean in zip(outputs[1:], means):
            storage[0] = mean

    def infer_shape(self, node, shapes):
        return [shapes[0]] + shapes[3:]

    def do_constant_folding(self, node):
        return False


class RunningAverage(Op):
    """The new value of a running average, as this process has it.

    In a function that averages it together with gradients, the mean takes its
    place; a function of the loss alone, such as one that measures, goes
    without other processes.
    """
    __props__ = ()
    view_map = {0: [0]}

    def make_node(self, value):
        return Apply(self, [value], [value.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0]


def mean(call, weight, lengths, values):
    """The means over all processes, symbolically."""
    return MeanOverProcesses(call)(
        T.constant(0, dtype='int8'), weight, lengths, *values)[1:]


def is_mean(node):
    return node is not None and isinstance(node.op, MeanOverProcesses)


def is_running_average(node):
    return node is not None and isinstance(node.op, RunningAverage)


def local(value):
    """The new value of a running average without the mark that it is one."""
    return value.owner.inputs[0] if is_running_average(value.owner) else value


def in_order(fgraph):
    """The nodes in the order in which all processes are to run them: that of
    the calls that made them, as far as they do not need one another."""
    nodes = list(filter(is_mean, fgraph.toposort()))
    depth = {}  # how many come one after another, up to and including it
    for node in nodes:
        depth[node] = 1 + max([0] + [
            depth[variable.owner] for variable in
            theano.gof.graph.ancestors(node.inputs)
            if is_mean(variable.owner)])
    return sorted(nodes, key=lambda node: (depth[node], node.op.call.number))


class Means(Optimizer):
    """Lets each mean of a function wait for the one before it, and puts means
    in the place of running averages.

    Otherwise two processes could run two means in different orders, and wait
    for each other.
    """
    def add_requirements(self, fgraph):
        fgraph.attach_feature(theano.gof.toolbox.ReplaceValidate())

    def apply(self, fgraph):
        nodes = in_order(fgraph)
        for before, node in zip(nodes, nodes[1:]):
            fgraph.change_input(node, 0, before.outputs[0],
                                reason='means_in_order')
        for node in filter(is_running_average, fgraph.toposort()):
            value = node.inputs[0]
            found = [after for mean in nodes for before, after in zip(
                mean.inputs[3:], mean.outputs[1:]) if before is value]
            fgraph.replace(node.outputs[0], (found + [value])[0],
                           reason='mean_of_running_average')


def check_mode(node):
    """Refuse a function that was compiled without :class:`Means`."""
    if not hasattr(node.tag, 'is_complete'):
        nodes = in_order(node.fgraph)
        node.tag.is_complete = all(
            after.inputs[0] is before.outputs[0]
            for before, after in zip(nodes, nodes[1:])) and not any(
                map(is_running_average, node.fgraph.apply_nodes))
    if not node.tag.is_complete:
        raise RuntimeError(
            'this function averages over the processes, and its mode leaves '
            'out what several means or running averages need for that: their '
            'order, so that processes do not wait for one another forever. '
            'Compile it in mode FAST_RUN or FAST_COMPILE')


# first of all, while what belongs to which call is as it was written
optdb.register('wnorm_means', Means(), 0.01, 'fast_run',
               'fast_compile', 'merge')
