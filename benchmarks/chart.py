"""The chart: each net's time over that of the plain net.

    python benchmarks/chart.py bench

Draws what speed.py has written to that folder: on the BLAS that wnorm gives
Theano, and on stock Theano.
"""
import json
import os
import sys

import harness
import matplotlib
import numpy as np

matplotlib.use('Agg')  # no display needed
import matplotlib.pyplot as plt  # noqa: E402

COLORS = {'formula': 'tab:gray', 'wnorm': 'tab:blue',
          'same epilogue': 'tab:orange'}
LABELS = {'same epilogue': 'plain with the same epilogue'}


def panel(axes, records):
    """Bars of one pass, from 1 to the medians; quartiles as lines on them."""
    sides = [side for side in COLORS if side in records[0]['times']]
    width = .8 / max(1, len(sides))
    for i, side in enumerate(sides):
        low, middle, high = np.transpose([
            harness.ratio(record['times'], side) for record in records])
        places = np.arange(len(records)) + (i - (len(sides) - 1) / 2) * width
        axes.bar(places, middle - 1, width, bottom=1, color=COLORS[side],
                 label=LABELS.get(side, side))
        axes.vlines(places, low, high, color='black', linewidth=1)
        for place, value, top in zip(places, middle, np.maximum(1, high)):
            axes.annotate('%.2f' % value, (place, top), (0, 3), ha='center',
                          va='bottom', rotation=90, fontsize=7,
                          textcoords='offset points')
    axes.axhline(1, color='black', linewidth=.8)
    axes.set_yscale('log')
    axes.margins(y=.25)
    ticks = [.1, .2, .5, 1, 2, 5, 10, 20]
    axes.set_yticks(ticks)
    axes.set_yticklabels(map(str, ticks))
    axes.minorticks_off()
    axes.set_xticks(np.arange(len(records)))
    axes.set_xticklabels([record['net'].replace(' b', '\nb')
                          for record in records], fontsize=8)


def draw(tables, path):
    """`tables` are the records of speed.py by title."""
    passes = list(dict.fromkeys(record['pass'] for records in tables.values()
                                for record in records))
    figure, grid = plt.subplots(
        len(tables), len(passes), squeeze=False, sharey='row',
        figsize=(6 * len(passes), 4 * len(tables)))
    for (title, records), line in zip(tables.items(), grid):
        line[0].set_ylabel('time / plain net\n(%s)' % title)
        for what, axes in zip(passes, line):
            panel(axes, [r for r in records if r['pass'] == what])
            axes.set_title(what)
    grid[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(folder):
    tables = {}
    for name in 'speed.json', 'speed-stock.json':
        if os.path.exists(os.path.join(folder, name)):
            with open(os.path.join(folder, name)) as file:
                tables.update(json.load(file))
    draw(tables, os.path.join(folder, 'chart.png'))


if __name__ == '__main__':
    main(*sys.argv[1:])
