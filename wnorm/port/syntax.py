"""Python 2 to Python 3, by fissix."""
import contextlib
import functools
import re
import tempfile
import tokenize
from io import StringIO
from pathlib import Path

from .module import LOOK_UPS, DoesNotParse, parse
from .text import HAND, WRITE, Finding, shorten

#: What is mended wherever it is found, by the names of fissix' fixers.
ALWAYS = {
    'apply': 'apply()',
    'basestring': 'basestring',
    'dict': 'a method that dictionaries lost',
    'except': 'except with a comma',
    'exec': 'exec statement',
    'execfile': 'execfile()',
    'exitfunc': 'sys.exitfunc',
    'funcattrs': 'attribute of a function',
    'getcwdu': 'os.getcwdu',
    'has_key': 'has_key()',
    'imports': 'a module that has another name',
    'imports2': 'a module that has another name',
    'intern': 'intern()',
    'itertools': 'a function that itertools lost',
    'itertools_imports': 'a function that itertools lost',
    'long': 'long',
    'metaclass': '__metaclass__',
    'methodattrs': 'attribute of a method',
    'ne': '<>',
    'next': 'next()',
    'nonzero': '__nonzero__',
    'numliterals': 'a number of Python 2',
    'operator': 'a function that operator lost',
    'paren': 'a list without parentheses',
    'print': 'print statement',
    'raise': 'raise with a comma',
    'raw_input': 'raw_input()',
    'reduce': 'reduce()',
    'reload': 'reload()',
    'renames': 'a name that has changed',
    'repr': 'backquotes',
    'standarderror': 'StandardError',
    'sys_exc': 'sys.exc_*',
    'throw': 'throw with a comma',
    'tuple_params': 'a parameter that is a tuple',
    'types': 'a type that types lost',
    'urllib': 'urllib of Python 2',
    'xrange': 'xrange',
    'xreadlines': 'xreadlines()',
}

#: Of which Python 2 makes a list, and Python 3 does not. That is right in
#: both: it is mended where other things show that a file is Python 2.
LISTS = ('dict', 'filter', 'map', 'xrange', 'zip')

A_LIST = 'a list in Python 2'

#: Names that a program can provide for, and does where it has them bound.
LOOKED_UP = {'apply', 'basestring', 'execfile', 'imports', 'imports2',
             'intern', 'itertools', 'itertools_imports', 'long', 'raw_input',
             'reduce', 'reload', 'standarderror', 'types', 'urllib', 'xrange'}


class NoConverter(Exception):
    """fissix is not installed."""


def load():
    """fissix, which is an extra.

    It keeps its grammar in a file, here in one that is gone afterwards.
    """
    try:
        import fissix
    except ImportError:
        raise NoConverter(
            'The conversion of Python 2 is done by fissix, which is not '
            "installed: pip install 'wnorm[port]'")
    usual = fissix.CACHE_DIR
    with tempfile.TemporaryDirectory() as folder:
        fissix.CACHE_DIR = Path(folder)
        try:
            from fissix import refactor
        finally:
            fissix.CACHE_DIR = usual
    return refactor


def convert(text, lists=False):
    """
    wnorm.port.syntax.convert(text, lists=False)

    Python 2 made Python 3.

    Parameters
    ----------
    text : str
        A module in either of the two.

    lists : bool
        Whether it is Python 2 for sure, where ``zip(x, y)`` is a list.

    Returns
    -------
    str, list of Finding
        The module in Python 3; what was changed, on the lines of `text`.

    Raises
    ------
    DoesNotParse
        If it is neither.
    """
    found = []
    try:
        converted = _refactored(text, lists, found)
        parse(converted)
    except DoesNotParse as problem:
        if not problem.tabs:
            raise
        found = [Finding(
            problem.line, WRITE, 'tabs and spaces mixed',
            'spaces, a tab up to the next column that 8 divides')]
        converted = _refactored(_with_spaces(text), lists, found)
        parse(converted)
    return converted, found


@functools.lru_cache(maxsize=None)
def _tool(print_function):
    """fissix with the fixers, which takes a while to make."""
    names = set(ALWAYS).union(LISTS)
    if print_function:
        names.remove('print')
    return load().RefactoringTool(
        ['fissix.fixes.fix_' + name for name in sorted(names)],
        {'print_function': print_function})


def _refactored(text, lists, found):
    """The converted text; what was done is added to `found`."""
    if text and not text.endswith('\n'):
        return _refactored(text + '\n', lists, found)[:-1]
    for print_function in (True, False):
        tool = _tool(print_function)
        try:
            tree = tool.driver.parse_string(text)
        except Exception:  # whatever fissix has for what is no Python
            continue
        try:
            if print_function and _has_print_statement(tree):
                continue
            for fixer in tool.pre_order + tool.post_order:
                _watch(fixer, text, lists, found)
            tree.future_features = load()._detect_future_features(text)
            tool.refactor_tree(tree, '<port>')
            return str(tree)
        except Exception as error:  # too deep a tree, say: one file's fault
            raise DoesNotParse('the converter gives up (%s: %s)' % (
                type(error).__name__, error))
    parse(text)
    return text  # of a Python that is later than fissix


def _has_print_statement(tree):
    for leaf in tree.leaves():
        if leaf.value == 'print':
            after = leaf.next_sibling
            if after is None or str(after).strip() in ('', ';', '>>'):
                return True
    return False


def _watch(fixer, text, lists, found):
    """Makes a fixer say what it does, and leave alone what is provided for."""
    name = type(fixer).__module__.rsplit('fix_', 1)[1]

    def transform(node, results):
        what = _reason(name, node, results, text, lists)
        if what is None:
            return None
        line, around = _line(node), node.parent or node
        before = [_code(node), _code(around)]
        new = type(fixer).transform(fixer, node, results)
        after = [_code(node if new is None else new), _code(around)]
        # some change the node, some put another in its place themselves
        pair = next((pair for pair in zip(before, after)
                     if pair[0] != pair[1]), None)
        if pair is None and name == 'reduce':
            pair = before[0], 'from functools import reduce'
        if pair is not None:
            later, old, changed = _first_difference(*pair)
            found.append(Finding(line + later, WRITE, '%s: %s' % (
                what, shorten(old)), shorten(changed)))
        return new

    def give_up(node, reason=None):
        found.append(Finding(_line(node), HAND, '%s: %s' % (
            ALWAYS.get(name, A_LIST), shorten(_code(node))),
            reason or 'rewrite it'))

    fixer.transform = transform
    fixer.cannot_convert = fixer.warning = give_up


def _code(node):
    """The source of a node, without what stands before it."""
    return str(node)[len(node.prefix):].rstrip()


def _first_difference(before, after):
    """Of two texts: the number of the first line that differs, and both."""
    before, after = before.split('\n'), after.split('\n')
    number = next((i for i, pair in enumerate(zip(before, after))
                   if pair[0] != pair[1]), 0)
    return number, before[number], after[number]


def _line(node):
    """The line of a node of fissix' tree, new ones that of what is around."""
    line = 0
    while node is not None and not line:
        line = next((leaf.lineno for leaf in node.leaves() if leaf.lineno), 0)
        node = node.parent
    return line or 1


def _reason(name, node, results, text, lists):
    """Why a fixer that matches is to do its work, or None."""
    if name == 'dict' and not results['method'][0].value.startswith((
            'iter', 'view')):
        return A_LIST if lists and not _looked_through(node) else None
    if name in ('filter', 'map', 'zip') or name == 'xrange' and (
            results['name'].value == 'range'):
        own = 'range' if name == 'xrange' else name
        return A_LIST if lists and not _binds(own, text) else None
    if name in LOOKED_UP and (_binds(name, text) or _guarded(node) or (
            name == 'urllib' and
            re.search(r'urllib\.(request|parse|error)', text))):
        return None
    return ALWAYS[name]


def _looked_through(node):
    """Whether ``d.keys()`` is used as its view can be.

    In a loop that does not touch the dictionary, after in, and for its
    length.
    """
    around = node.parent
    heads = [str(child).strip() for child in around.children]
    if heads[0] == 'for' and around.children[3] is node:
        owner = str(node).strip().rsplit('.', 1)[0]
        return not re.search(r'(?<![\w.])%s\b' % re.escape(owner),
                             ''.join(heads[4:]))
    return 'in' in heads[:-1] or (
        heads[0] == '(' and str(around.parent).strip().startswith('len('))


def _binds(name, text):
    """Whether a module has a name of its own in the place of a built-in."""
    return re.search(
        r'^[ \t]*(from[ \t]+[\w.]+[ \t]+import[ \t][^#\n]*\b{0}\b|'
        r'{0}[ \t]*=[^=]|def[ \t]+{0}\b)'.format(name), text, re.M)


def _guarded(node):
    """As :meth:`.module.Module.guarded`, in fissix' tree."""
    while node.parent is not None:
        node = node.parent
        heads = [str(child) for child in node.children]
        if heads[0].strip() == 'try' and any(
                head.lstrip().startswith('except') and
                LOOK_UPS.intersection(re.findall(r'\w+', head))
                for head in heads):
            return True
        if heads[0].strip() == 'if' and re.search(
                r'\b(version_info|PY2|PY3)\b', heads[1]):
            return True
    return False


def _with_spaces(text):
    """Tabs at the starts of lines as Python 2 reads them."""
    inside = set()
    with contextlib.suppress(tokenize.TokenError, IndentationError):
        for token in tokenize.generate_tokens(StringIO(text).readline):
            if token.type == tokenize.STRING:
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
    return '\n'.join(
        line if number in inside else
        re.sub(r'^[ \t\f]+', lambda blank: blank.group().expandtabs(8), line)
        for number, line in enumerate(text.split('\n'), 1))
