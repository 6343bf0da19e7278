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
import time

#: Bytes after which a file begins anew.
LIMIT = 1 << 20

NAME = re.compile(r'rank-(\d+)\.log$')


class StepLog(object):
    """The file of this process."""

    def __init__(self, folder, about):
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, 'rank-%d.log' % about['rank'])
        self.head = json.dumps(about) + '\n'
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

    def end(self, reason):
        os.write(self.file, (' '.join(reason.split()) + '\n').encode())


class Last(object):
    """What a file says about a process."""

    def __init__(self, lines):
        about = json.loads(lines[0])
        self.run, self.rank = about['run'], about['rank']
        self.process = 'process %d on %s' % (about['pid'], about['host'])
        #: how far it came, in words too; how it ended, if it said so
        self.progress, self.where, self.end = (0, 1), 'no step', None
        for line in lines[1:]:
            words = line.split()
            if words[0].isdigit():
                self.progress = int(words[0]), int(words[1])
                self.where = ' '.join(words[3:])
            else:
                self.end = line.strip()

    def __str__(self):
        return 'rank %d (%s): %s%s' % (
            self.rank, self.process, self.where,
            ', ' + self.end if self.end else '')


def read(folder):
    """What the files in a folder say; those that are none are left out."""
    found = []
    for path in _paths(folder):
        try:
            with open(path) as file:
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
    if not os.path.isdir(folder):
        return []
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if NAME.match(name)]


def report(lasts):
    """Who stopped first in the last run, in words; None if all ended well.

    `lasts` may be of several runs: the newest counts.
    """
    if not lasts:
        return None
    newest = max(last.run for last in lasts)
    unfinished = {last.rank: last for last in lasts
                  if last.run == newest and last.end != 'ended'}
    if not unfinished:
        return None
    # behind those that wait for it
    least = min(last.progress for last in unfinished.values())
    first = [last for last in unfinished.values() if last.progress == least]
    # who ended it knew why
    first = [last for last in first if (last.end or '').startswith(
        'failed')] or first
    return 'the last run did not end well. First stopped %s\n%s' % (
        ' or '.join('rank %d, %s' % (last.rank, last.where)
                    for last in sorted(first, key=lambda last: last.rank)),
        '\n'.join('  %s' % unfinished[rank] for rank in sorted(unfinished)))
