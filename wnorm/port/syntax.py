"""Python 2 to Python 3, by fissix."""
import ast
import contextlib
import functools
import re
import tempfile
import tokenize
from io import StringIO
from pathlib import Path

from .module import LOOK_UPS, DoesNotParse, Module, parse
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

#: What Python 3 cannot read.
SYNTAX = {'except', 'exec', 'ne', 'numliterals', 'paren', 'print', 'raise',
          'repr', 'throw', 'tuple_params'}

#: Methods and attributes that an object of Python 3 may have, too.
DOUBTFUL = {'dict', 'has_key', 'next'}

#: What is not written: nobody knows of what it is an attribute.
BY_HAND = {
    'funcattrs': '__name__, __code__, ..., if it is that of a function',
    'methodattrs': '__self__ or __func__, if it is that of a method',
}

#: What a program can provide for: names of built-ins, and others.
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


def shows_python_2(finding):
    """Whether what :func:`convert` found is not found in Python 3."""
    return finding.kind == WRITE and finding.what.split(': ')[0] not in {
        ALWAYS[name] for name in DOUBTFUL}


@functools.lru_cache(maxsize=None)
def _tool(print_function, syntax_alone=False):
    """fissix with the fixers, which takes a while to make."""
    names = SYNTAX if syntax_alone else set(ALWAYS).union(LISTS)
    if print_function:
        names = names - {'print'}
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
                _watch(fixer, text, lists, found, print_function)
            tree.future_features = load()._detect_future_features(text)
            tool.refactor_tree(tree, '<port>')
            return str(tree)
        except DoesNotParse:
            raise
        except Exception as error:  # too deep a tree, say: one file's fault
            raise DoesNotParse('the converter gives up (%s: %s)' % (
                type(error).__name__, error))
    parse(text)
    return text  # of a Python that is later than fissix


@functools.lru_cache(maxsize=1)
def _names(text, print_function):
    """The module with the syntax alone converted, for the names it has."""
    tool = _tool(print_function, True)
    tree = tool.driver.parse_string(text)
    tree.future_features = load()._detect_future_features(text)
    tool.refactor_tree(tree, '<port>')
    return Module(str(tree))


def _has_print_statement(tree):
    for leaf in tree.leaves():
        if leaf.value == 'print':
            after = leaf.next_sibling
            if after is None or str(after).strip() in ('', ';', '>>'):
                return True
    return False


def _watch(fixer, text, lists, found, print_function):
    """Makes a fixer say what it does, and leave alone what is provided for."""
    name = type(fixer).__module__.rsplit('fix_', 1)[1]

    def transform(node, results):
        module = functools.partial(_names, text, print_function)
        what = _reason(name, node, results, text, module, lists)
        remedy = what and _by_hand(name, node, results, text, module)
        if remedy:
            give_up(node, remedy)
        if remedy or what is None:
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
    if name == 'next':  # of a name of its own, see _by_hand
        fixer.warning = lambda node, reason: None


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


def _reason(name, node, results, text, module, lists):
    """Why a fixer that matches is to do its work, or None."""
    if name == 'dict' and not results['method'][0].value.startswith((
            'iter', 'view')):
        return A_LIST if lists and not _looked_through(node) else None
    if name in ('filter', 'map', 'zip') or name == 'xrange' and (
            results['name'].value == 'range'):
        own = 'range' if name == 'xrange' else name
        return A_LIST if lists and not _binds(module(), own) else None
    if name in LOOKED_UP and (_guarded(node) or _binds(
            module(), _about(name, results)) or (
                name == 'urllib' and
                re.search(r'urllib\.(request|parse|error)', text))):
        return None
    # methods of classes of the file itself: names.check speaks of them
    if name == 'has_key' and name in _defined(module()) or (
            name == 'dict' and
            results['method'][0].value in _defined(module())):
        return None
    # a class for both
    if name == 'nonzero' and '__bool__' in str(node) or name == 'next' and (
            'name' in results and '__next__' in str(node) or
            'head' in results and re.search(r'\.next\s*=[^=]', text)):
        return None
    return ALWAYS[name]


def _by_hand(name, node, results, text, module):
    """What somebody has to do, where a fixer may be wrong; or None."""
    if name == 'reload' and 'setdefaultencoding' in text and 'sys' in str(
            node):
        return 'take it out, with sys.setdefaultencoding'
    if name == 'next' and ('head' in results or 'base' in results and (
            _has_own_next(text))):
        return "next(...), if it is an iterator's"
    if name == 'dict' and results['method'][0].value in _defined(module()):
        return "list(...), if it is a dictionary's"
    return BY_HAND.get(name)


def _has_own_next(text):
    """Whether a file defines a ``next`` that keeps its name."""
    return re.search(r'^def\s+next\b|\bdef\s+next\s*\((?!\s*\w+\s*\))',
                     text, re.M) or (
        '__next__' in text and re.search(r'\bdef\s+next\b', text))


def _defined(module):
    """The names of functions and methods."""
    return {node.name for node in module.nodes
            if isinstance(node, ast.FunctionDef)}


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


def _about(name, results):
    """The name that a fixer of LOOKED_UP is about, or None."""
    if name == 'itertools' and 'it' not in results:
        return results['func'][0].value
    return {'imports': None, 'imports2': None, 'itertools_imports': None,
            'standarderror': 'StandardError'}.get(name, name)


def _binds(module, name):
    """Whether a module has a name of its own in the place of Python 2's.

    What it imports as that is Python 2's: ``import urllib2 as urllib``.
    """
    if name is None:
        return False
    return name in module.bound or not module.aliases.get(
        name, name).startswith((name, 'itertools.'))


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
