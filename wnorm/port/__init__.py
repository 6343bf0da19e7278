"""``python -m wnorm port``: what keeps old code from running, and a remedy.

Reads text only: neither Theano nor Lasagne is imported.
"""
import difflib
import os
import sys

from . import files, project, syntax
from ..stack.doctor import show
from .text import CAUTION, HAND, WRITE, ranges

SUMMARY = 'say what keeps code of 2016 from running today, and mend it'


def add_arguments(parser):
    parser.add_argument('folder', metavar='DIR',
                        help='the folder of the code, or one file')
    parser.add_argument('--write', action='store_true',
                        help='change the files: shows the changes, and asks')
    parser.add_argument('--yes', action='store_true',
                        help='with --write: do not ask')


def run(arguments):
    """The command: prints what is found, and changes files if told to.

    Returns
    -------
    int
        The exit status: 0 where nothing is left to be done, 1 where
        something is, 2 where it could not start.
    """
    folder = arguments.folder
    if not os.path.exists(folder):
        return _refuse('%s: there is no such folder' % folder)
    try:
        syntax.load()
    except syntax.NoConverter as error:
        return _refuse(str(error))
    try:
        ported, skipped = project.port(folder)
        show(report(ported, skipped))
        left = bool(skipped) or any(one.report() for one in ported)
        changed = [one for one in ported if one.changed]
        if arguments.write and changed:
            show(''.join(map(difference, changed)))
            if arguments.yes or _agreed(len(changed)):
                for one in changed:
                    one.file.check()
                for one in changed:
                    one.file.replace(one.text)
                show('%s written.' % _number(len(changed), 'file'))
                left = bool(skipped) or any(
                    found.kind != WRITE for one in ported
                    for found in one.report())
            else:
                show('Nothing written.')
        elif arguments.write:
            show('Nothing to write.')
    except (OSError, files.Changed) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return 130
    return 1 if left else 0


def _refuse(message):
    print('python -m wnorm port: ' + message, file=sys.stderr)
    return 2


def _agreed(number):
    try:
        return input('Write %s? [y/N] ' % _number(
            number, 'file')).strip().lower() in ('y', 'yes')
    except EOFError:  # nobody is there
        return False


def _number(number, noun):
    return '%d %s%s' % (number, noun, '' if number == 1 else 's')


#: Of which a file can be full.
_MANY = set(syntax.ALWAYS.values()) | {syntax.A_LIST}


def report(ported, skipped):
    """
    wnorm.port.report(ported, skipped)

    What was found, file by file, line by line.

    Parameters
    ----------
    ported, skipped
        As :func:`wnorm.port.project.port` returns them.

    Returns
    -------
    str
    """
    lines, counts = [], dict.fromkeys((WRITE, HAND, CAUTION), 0)
    for one in ported:
        found = one.report()
        for finding in found:
            counts[finding.kind] += 1
        if found:
            lines += [one.file.name] + list(map(_row, _grouped(found))) + ['']
    for name, reason in skipped:
        lines.append('%s: skipped: %s' % (name, reason))
    if skipped:
        lines.append('')
    lines.append('%s read, %s with something to do: %d by --write, %d by '
                 'hand, %s.' % (
                     _number(len(ported), 'file'), sum(
                         bool(one.report()) for one in ported), counts[WRITE],
                     counts[HAND], _number(counts[CAUTION], 'caution')))
    return '\n'.join(lines)


def _grouped(found):
    """Findings, and lists of those of one kind of which there are many."""
    groups = {}
    for finding in found:
        category, colon, _ = finding.what.partition(': ')
        many = category in _MANY
        groups.setdefault((category, finding.kind) if many else finding,
                          []).append(finding)
    return groups.values()


def _row(group):
    """A line of the report."""
    line, kind, what, remedy = group[0]
    row = '%6d  %-7s  %s  ->  %s' % (line, kind, what, remedy)
    others = sorted({finding.line for finding in group[1:]})
    return row + ('; so on line%s %s' % (
        's' if len(others) > 1 else '', ranges(others)) if others else '')


def difference(one):
    """The unified diff of one file."""
    return ''.join(
        line if line.endswith('\n') else line + '\n\\ no newline at the end\n'
        for line in difflib.unified_diff(
            one.file.text.splitlines(True), one.text.splitlines(True),
            one.file.name, one.file.name + ' (new)'))
