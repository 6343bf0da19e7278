"""What initialization did: one row per layer, to print and to draw."""
from collections import namedtuple

import numpy as np

from .naming import describe, table

__all__ = ['LayerReport', 'Report']


class LayerReport(namedtuple('LayerReport', [
        'layer', 'mean_before', 'std_before', 'mean_after', 'std_after',
        'degenerate'])):
    """What initialization did to one layer.

    Attributes
    ----------
    layer : :class:`wnorm.WeightNormLayer`

    mean_before, std_before, mean_after, std_after : numpy array
        Mean and deviation of the pre-activations on the data, per filter.

    degenerate : numpy array of bool
        The filters whose pre-activation is constant on the data: their gain
        was left as it was.
    """
    __slots__ = ()


class Report(tuple):
    """One :class:`LayerReport` per layer, in order; prints as a table.

    Attributes
    ----------
    notes : list of str
        What the numbers do not tell, a sentence each: layers that were left
        as they are, deviations that hold on average only. Printed below the
        table.
    """

    _HEAD = ('layer', 'filters', 'mean before', 'deviation before',
             'mean after', 'deviation after', 'degenerate')

    def __new__(cls, rows=(), notes=()):
        report = super(Report, cls).__new__(cls, rows)
        report.notes = list(notes)
        return report

    @staticmethod
    def _range(values, decimals=None):
        if decimals is not None:  # a mean of 0 is reached up to rounding only
            values = np.round(values, decimals) + 0.
        return '%.3g .. %.3g' % (np.min(values), np.max(values))

    def _table(self):
        rows = [self._HEAD]
        for row in self:
            rows.append((describe(row.layer.input_layer),
                         str(len(row.degenerate)),
                         self._range(row.mean_before, 6),
                         self._range(row.std_before),
                         self._range(row.mean_after, 6),
                         self._range(row.std_after),
                         str(int(np.sum(row.degenerate)))))
        return [table(rows)]

    def __str__(self):
        return '\n'.join((self._table() if self else []) + self.notes)

    __repr__ = __str__

    def plot(self, ax=None):
        """
        Report.plot(ax=None)

        Draw the deviations of all filters before and after, layer by layer.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a figure of its own if left out.

        Returns
        -------
        matplotlib Axes
            ``ax.figure.savefig(...)`` writes it to a file; no display is
            needed.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the report has no rows.

        Notes
        -----
        A dot per filter, those before above those after. The deviations are
        on a logarithmic axis: degenerate filters are left out, and so are
        deviations that are 0 or not finite.

        Examples
        --------
        >>> import numpy as np, wnorm
        >>> from lasagne.layers import InputLayer, DenseLayer
        >>> l = wnorm.weight_norm(DenseLayer(InputLayer((None, 20)), 5))
        >>> report = wnorm.initialize(l, np.random.rand(100, 20))
        >>> report.plot().get_xscale()
        'log'
        """
        if not self:
            raise ValueError('there is nothing to draw: the report has no '
                             'rows')
        if ax is None:
            ax = new_axes((8, 1.5 + .5 * len(self)))
        elif not hasattr(ax, 'plot'):
            raise TypeError('ax must be the axes of a figure of matplotlib, '
                            'got %r' % (ax,))
        for offset, color, label in ((-.18, 'C0', 'before'),
                                     (.18, 'C1', 'after')):
            x, y = [], []
            for place, row in enumerate(self):
                std = np.asarray(getattr(row, 'std_' + label))
                # side by side, so that equal ones can be told apart
                shift = np.linspace(-.12, .12, len(std) + 2)[1:-1]
                drawn = np.isfinite(std) & (std > 0) & ~row.degenerate
                x.extend(std[drawn])
                y.extend((place + offset + shift)[drawn])
            ax.plot(x, y, '.', color=color, alpha=.6, label=label)
        ax.set_xscale('log')
        ax.set_xlabel('deviation of the pre-activations, per filter')
        ax.set_yticks(range(len(self)))
        ax.set_yticklabels([describe(row.layer.input_layer) for row in self])
        ax.set_ylim(len(self) - .5, -.5)  # the input is on top
        ax.legend()
        return ax


def new_axes(size):
    """The axes of a new figure, which no window belongs to."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install "
                          "'wnorm[examples]' (%s)" % error)
    return Figure(figsize=size, constrained_layout=True).subplots()
