"""What the longer examples share: runs that an interruption does not hurt.

Everything that training reads and changes is in one file, checkpoint.npz:
parameters, the optimizer's state, random streams, the log. It is written
after each epoch, and when the program is interrupted, after the step at hand;
under another name, and renamed when complete. The same command continues
there, and ends with the same numbers as if nothing had happened.
"""
import csv
import hashlib
import json
import os
import signal
import sys
from collections import OrderedDict

import numpy as np

SIGNALS = [signal.SIGINT, signal.SIGTERM]


class Run(object):
    """Training by epochs, from the start or from where it was interrupted.

    Parameters
    ----------
    folder : str
        Where checkpoint.npz and log.csv are; it is created.

    settings : dict
        What the run depends on: numbers, strings, None. A checkpoint of other
        settings is refused.

    columns : list of str
        What an epoch is measured by, the header of log.csv.

    functions : list of Theano functions
        Their shared variables are the state, next to `random`.

    random : numpy.random.RandomState
        Decides the order of the data.

    again : bool
        Forget the run that `folder` holds.

    Attributes
    ----------
    fresh : bool
        Whether there was no checkpoint.

    rows : list of list of float
        One per epoch that is done.
    """
    def __init__(self, folder, settings, columns, functions, random,
                 again=False):
        os.makedirs(folder, exist_ok=True)
        if again:
            restart(folder)
        self.again = again
        self.path = os.path.join(folder, 'checkpoint.npz')
        self.log = os.path.join(folder, 'log.csv')
        self.settings = settings
        self.columns = columns
        self.random = random
        self.state = list(OrderedDict.fromkeys(
            shared for function in functions
            for shared in function.get_shared()))
        self.rows, self.step, self.totals = [], 0, 0.
        self.fresh = not os.path.exists(self.path)
        if not self.fresh:
            self._load()
        self._write_log()

    def train(self, epochs, plan, step, finish, title=''):
        """Train up to the epoch `epochs`.

        Parameters
        ----------
        plan : function of the epoch
            Draws the order of the data: a list of batches, as many each time.

        step : function of the epoch and a batch
            Trains, and returns an array of what it measured.

        finish : function of the epoch and the mean of these arrays
            Returns the epoch's row: one number per column.
        """
        with progress(title) as bar, Interruption() as interruption:
            while len(self.rows) < epochs:
                epoch = len(self.rows)
                begun = self.random.get_state()
                batches = plan(epoch)
                if not bar.total:
                    bar.total = epochs * len(batches)
                    bar.update(epoch * len(batches) + self.step)
                while self.step < len(batches):
                    self.totals = self.totals + np.asarray(
                        step(epoch, batches[self.step]), float)
                    self.step += 1
                    bar.update()
                    if interruption.signal:
                        self._save(begun)
                        self._leave(interruption, 'epoch %d, step %d of %d' % (
                            epoch + 1, self.step, len(batches)))
                self.finish_epoch(finish(epoch, self.totals / len(batches)),
                                  bar)
                if interruption.signal:
                    self._leave(interruption, 'epoch %d' % (epoch + 1))

    def finish_epoch(self, row, bar):
        """Keep an epoch that is done, and show its row."""
        row = [float(value) for value in row]
        self.rows.append(row)
        self.step, self.totals = 0, 0.
        self._save(self.random.get_state())
        self._write_log()
        bar.set_postfix(zip(self.columns, ['%.4g' % v for v in row]))

    def _leave(self, interruption, where):
        print('\ninterrupted after %s: all is in %s. The same command%s '
              'continues there' % (
                  where, self.path, ', without --restart,' if self.again else
                  ''), file=sys.stderr)
        sys.exit(128 + interruption.signal)

    def _save(self, random):
        """`random`: the state at the beginning of the present epoch."""
        arrays = {'state_%d' % number: shared.get_value()
                  for number, shared in enumerate(self.state)}
        write(self.path, lambda file: np.savez(
            file, settings=json.dumps(self.settings),
            rows=np.reshape(self.rows, (-1, len(self.columns))),
            step=self.step, totals=self.totals, random_keys=random[1],
            random_position=random[2:4], random_gauss=random[4], **arrays))

    def _load(self):
        try:
            with open(self.path, 'rb') as file:
                arrays = dict(np.load(file, allow_pickle=False))
            settings = json.loads(str(arrays.pop('settings')))
            rows = arrays.pop('rows')
            step, totals = int(arrays.pop('step')), arrays.pop('totals')
            random = ('MT19937', arrays.pop('random_keys')) + tuple(
                map(int, arrays.pop('random_position'))) + (
                    float(arrays.pop('random_gauss')),)
        except Exception as error:  # damaged files fail in many ways
            raise SystemExit(
                '%s is no checkpoint of this program, or damaged (%s: %s). '
                'Remove it, or give another --out'
                % (self.path, type(error).__name__, error))
        differing = [
            '%s is %r, there %r' % (
                name, self.settings.get(name), settings.get(name))
            for name in sorted(set(settings) | set(self.settings))
            if settings.get(name) != self.settings.get(name)]
        if differing:
            raise SystemExit(
                '%s is of a run with other settings: %s. Give these, another '
                '--out, or --restart' % (self.path, '; '.join(differing)))
        kinds = [(arrays[key].shape, arrays[key].dtype) for key in (
            'state_%d' % number for number in range(len(arrays)))
            if key in arrays]
        if kinds != [(value.shape, value.dtype) for value in (
                np.asarray(shared.get_value()) for shared in self.state)]:
            raise SystemExit(
                '%s is of another version of this program or of Lasagne. '
                'Give another --out, or --restart' % self.path)
        for number, shared in enumerate(self.state):
            shared.set_value(arrays['state_%d' % number])
        self.random.set_state(random)
        self.rows, self.step, self.totals = rows.tolist(), step, totals

    def _write_log(self):
        """The whole of it, each time: no row is missing or there twice."""
        lines = [['epoch'] + self.columns] + [
            ['%d' % epoch] + ['%.6g' % value for value in row]
            for epoch, row in enumerate(self.rows, 1)]
        write(self.log, lambda file: file.write(''.join(
            ','.join(line) + '\n' for line in lines).encode()))


def restart(folder):
    """Forget the run in `folder`."""
    for name in 'checkpoint.npz', 'log.csv', 'net.npz':
        path = os.path.join(folder, name)
        if os.path.exists(path):
            os.remove(path)


class Interruption(object):
    """From the first Ctrl-C on, `signal` is set; a second ends at once."""
    signal = None

    def __enter__(self):
        self.before = {number: signal.signal(number, self._note)
                       for number in SIGNALS}
        return self

    def _note(self, number, frame):
        self.signal = number
        for again in SIGNALS:
            signal.signal(again, signal.SIG_DFL)
        # not through sys.stderr, which this may have interrupted
        os.write(2, b'\nsaving after this step; once more ends at once\n')

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)


def write(path, fill):
    """Let `fill` write a file: the new one is there, whole, or the old one."""
    part = path + '.part'
    with open(part, 'wb') as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_log(path):
    """``{column: list of float}``"""
    with open(path, newline='') as file:
        header, *rows = csv.reader(file)
    return {name: [float(row[place]) for row in rows]
            for place, name in enumerate(header)}


def check_md5(path, expected, data=None):
    """Refuse a file, or its content `data`, that is not the official one."""
    digest = hashlib.md5()
    if data is not None:
        digest.update(data)
    else:
        with open(path, 'rb') as file:
            for block in iter(lambda: file.read(1 << 20), b''):
                digest.update(block)
    if digest.hexdigest() != expected:
        raise SystemExit(
            '%s has MD5 %s, the official file has %s: damaged, incomplete or '
            'another file. Download it again'
            % (path, digest.hexdigest(), expected))


def digits():
    """scikit-learn's digits, (n, 8, 8) from 0 to 1: images and labels for
    training, and for testing."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise SystemExit("scikit-learn is missing: pip install "
                         "'wnorm[examples]', or give --data")
    images, labels = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        images.reshape(-1, 8, 8) / 16., labels.astype('int32'), test_size=.25,
        random_state=0, stratify=labels)
    return X, y, X_test, y_test


def pyplot():
    """matplotlib's, or None, with a word about it."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is missing (pip install "
              "'wnorm[examples]')", file=sys.stderr)
        return None
    matplotlib.use('Agg')  # no display needed
    import matplotlib.pyplot as plt
    return plt


def draw_curves(axes, logs, column, label):
    """`column` of some logs, ``{name: {column: values}}``, over epochs."""
    for name, log in logs.items():
        axes.plot(log['epoch'], log[column], label=name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel('epoch')
    axes.set_ylabel(label)
    axes.grid(alpha=.3)
    axes.legend()


def draw_runs(out, names, picture, columns, title, **kwargs):
    """The learning curves of the runs in folder `out` that have begun.

    `columns` are two, (name, label); `kwargs` for the subplots.
    """
    plt = pyplot()
    if plt is None:
        return
    paths = [(name, os.path.join(out, name, 'log.csv')) for name in names]
    logs = {name: read_log(path) for name, path in paths
            if os.path.exists(path)}
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), **kwargs)
    for ax, (column, label) in zip(axes, columns):
        draw_curves(ax, logs, column, label)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(os.path.join(out, picture), dpi=80)
    plt.close(figure)


class NoBar(object):
    """In place of tqdm's."""
    total = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, steps=1):
        pass

    def set_postfix(self, items):
        pass


def progress(title):
    """A progress bar on stderr, if tqdm is there."""
    try:
        from tqdm import tqdm
    except ImportError:
        print("no progress bar: tqdm is missing (pip install "
              "'wnorm[examples]')", file=sys.stderr)
        return NoBar()
    return tqdm(desc=title, unit='step')


def common_arguments(parser, out):
    """What all programs can be told."""
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--out', default=out, help='folder for results')
    parser.add_argument('--restart', action='store_true',
                        help='begin again, even if there is a checkpoint')


def positive(text):
    """For argparse: 1, 2, 3, ..."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def interruptible(main):
    """Call `main`; Ctrl-C where nothing can be lost is no traceback."""
    try:
        main()
    except KeyboardInterrupt:
        print('\ninterrupted', file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
