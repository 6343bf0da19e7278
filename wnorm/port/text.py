"""What was found in a text, and how the text changes."""
import difflib
from collections import namedtuple

#: ``--write`` mends it; somebody has to; it depends.
WRITE, HAND, CAUTION = 'write', 'by hand', 'caution'

#: One thing on one line: its kind, what it is, what to do.
Finding = namedtuple('Finding', 'line kind what remedy')

#: The characters from `start` to `end` become `new`.
Edit = namedtuple('Edit', 'start end new')


def apply(text, edits):
    """The text after edits, none of which overlap."""
    for edit in sorted(set(edits), reverse=True):
        text = text[:edit.start] + edit.new + text[edit.end:]
    return text


def line_origins(before, after):
    """Where each line of a changed text comes from.

    Returns
    -------
    list of int
        For line i of `after`, counted from 1, the line of `before`. Entry 0
        is unused.
    """
    origins = [0]
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(
            None, before.split('\n'), after.split('\n'),
            autojunk=False).get_opcodes():
        for k in range(j_end - j):
            origins.append(min(i + k, max(i, i_end - 1)) + 1)
    return origins


def shorten(text, length=50):
    """Code on one line, its end left out if it is long."""
    text = ' '.join(text.split())
    return text if len(text) <= length else text[:length - 3] + '...'


def ranges(numbers):
    """'3, 5-7' for [3, 5, 6, 7]."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ', '.join('%d' % first if first == last else '%d-%d' % (
        first, last) for first, last in runs)
