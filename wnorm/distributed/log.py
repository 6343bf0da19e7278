"""What each process was doing last, in files that outlive it.

A killed process says nothing, and mpiexec ends the others without naming it.
So each process has a file, ``rank-3.log``, in a folder that is the same for
all. Its first line, JSON, says who it is; then there are two lines a step,
when the process comes to the reduction and when it has its result; a last one
says how the process ended, if it could. The next start reads them.
"""
import json
import os
import re
import socket
import time
from contextlib import suppress

#: Bytes after which a file begins anew.
LIMIT = 1 << 20

NAME = re.compile(r'rank-(\d+)\.log$')

#: Lines of a step: its number, whether it is done, the time, its name.
STEP = re.compile(r'(\d+) ([01]) (\d+\.\d+) (.+)\n')

#: How processes say that they end: as they should; by an error of their own;
#: because they wait for another in vain, or another has told them to.
ENDED, FAILED, GAVE_UP, STOPPED = 'ended', 'failed', 'gave up', 'stopped'
END = re.compile('(%s)(:.*)?\n' % '|'.join((ENDED, FAILED, GAVE_UP, STOPPED)))

#: What /proc calls what a process does.
STATES = {'R': 'computing', 'S': 'sleeping', 'D': 'waiting for a disk',
          'T': 'stopped', 't': 'stopped by a debugger', 'Z': 'ended'}


class StepLog(object):
    """The file of this process."""

    def __init__(self, folder, run, rank, size):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.path = os.path.join(folder, 'rank-%d.log' % rank)
        self.head = json.dumps({
            'run': run, 'rank': rank, 'size': size, 'pid': os.getpid(),
            'host': socket.gethostname(), 'born': born(os.getpid())}) + '\n'
        self.file = None
        self._begin('')

    def _begin(self, line):
        """A new file, in place of the old one at once."""
        part = self.path + '.part'
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(file, (self.head + line).encode())
        os.replace(part, self.path)
        if self.file is not None:
            os.close(self.file)
        self.file, self.bytes = file, 0

    def step(self, count, done, where):
        """The process has come to its reduction no. `count`, or has its
        result; `where` is what that is called."""
        line = '%d %d %.3f %s\n' % (count, done, time.time(), where)
        self.bytes += len(line)
        if self.bytes > LIMIT:
            self._begin(line)
        else:
            os.write(self.file, line.encode())

    def end(self, how, why=''):
        line = ': '.join(filter(None, [how, ' '.join(why.split())]))
        os.write(self.file, (line + '\n').encode(errors='replace'))


class Last(object):
    """What a file says about a process."""

    def __init__(self, lines):
        about = json.loads(lines[0])
        self.run, self.born = float(about['run']), about['born']
        self.rank, self.size, self.pid = [
            int(about[name]) for name in ('rank', 'size', 'pid')]
        self.host = str(about['host'])
        #: how far it came, in words too, and when; how it ended, if it said so
        self.progress, self.where, self.time = (0, 1), 'no step', self.run
        self.end = self.why = ''
        for line in lines[1:]:
            step, end = STEP.fullmatch(line), END.fullmatch(line)
            if step:
                count, done, time_of, self.where = step.groups()
                self.progress = int(count), int(done)
                self.time = float(time_of)
            elif end:
                self.end, self.why = end.group(1), end.group(2) or ''

    def state(self):
        """What the process does now; None if it is on another machine, or no
        more."""
        stat = _stat(self.pid) if self.host == socket.gethostname() else None
        if stat and int(stat[19]) == self.born:
            return STATES.get(stat[0], 'alive')

    def __str__(self):
        return '%s, %s' % (self.where, time.strftime(
            '%Y-%m-%d %H:%M:%S', time.localtime(self.time)))


def born(pid):
    """When a process began: with its number, what tells it from others."""
    stat = _stat(pid)
    return stat and int(stat[19])


def _stat(pid):
    try:
        with open('/proc/%d/stat' % pid) as file:
            return file.read().rpartition(')')[2].split()
    except OSError:  # it is no more
        return None


def read(folder):
    """What the files in a folder say; those that are none are left out."""
    found = []
    for path in _paths(folder):
        try:
            with open(path, errors='replace') as file:
                # the last line may not have been written to its end
                found.append(Last([line for line in file
                                   if line.endswith('\n')]))
        except (OSError, ValueError, LookupError, TypeError):
            pass
    return found


def clean(folder, size):
    """Remove the files of a larger run than one of `size` processes."""
    for path in _paths(folder):
        if int(NAME.match(os.path.basename(path)).group(1)) >= size:
            os.remove(path)


def _paths(folder):
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # there is none, or not for us
        return []
    return [os.path.join(folder, name) for name in names if NAME.match(name)]


def report(lasts):
    """Who stopped first in the last run, in words; None if all ended well.

    `lasts` may be of several runs: the newest counts.
    """
    newest = max([last.run for last in lasts], default=None)
    run = sorted({last.rank: last for last in lasts
                  if last.run == newest}.values(), key=lambda last: last.rank)
    if all(last.end == ENDED for last in run):
        return None
    others = alive(run)
    if others:
        return ('another run writes its log to the same folder (process %d): '
                'give grads() one of its own, log=FOLDER' % others[0].pid)
    first = first_of(run)
    lines = ['the last run did not end well. First stopped %s%s%s' % (
        'one of ' * (len(first) > 1 and first[0].end != FAILED),
        ranks([last.rank for last in first]),
        ', ' + str(first[0]) if len(first) == 1 else '')]
    by_place = {}
    for last in run:
        by_place.setdefault(
            (last.progress, last.where, last.end + last.why), []).append(last)
    for (_, where, end), there in sorted(by_place.items()):
        lines.append('  %s%s: %s%s' % (
            ranks([last.rank for last in there]),
            ' (process %d on %s)' % (there[0].pid, there[0].host)
            if len(there) == 1 else '', where, end and ', ' + end))
    silent = set(range(run[0].size)).difference(last.rank for last in run)
    if silent:
        lines.append('  %s: no file' % ranks(silent))
    return '\n'.join(lines)


def alive(lasts):
    """Those whose processes still write."""
    return [last for last in lasts if not last.end and last.state()]


def take(folder):
    """What :func:`report` says, to a run that writes no files: the old ones
    are removed, unless somebody still writes them."""
    lasts = read(folder)
    if alive(lasts):
        return None
    message = report(lasts)
    with suppress(OSError):  # not ours
        clean(folder, 0)
    return message


def first_of(run):
    """Those of a run that stopped first, as far as one can tell.

    Who failed said so. Else those who were behind: the others waited for
    them. Of those, the ones that could not say that they end.
    """
    failed = [last for last in run if last.end == FAILED]
    if failed:
        return failed
    least = min(last.progress for last in run)
    behind = [last for last in run if last.progress == least]
    return [last for last in behind if not last.end] or behind


def ranks(numbers):
    """In words: ``rank 1``, ``ranks 0, 2 to 5``."""
    numbers = sorted(numbers)
    parts = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return 'rank%s %s' % ('s' * (len(numbers) > 1), ', '.join(
        str(first) if first == last else '%d%s%d' % (
            first, ', ' if last == first + 1 else ' to ', last)
        for first, last in parts))
