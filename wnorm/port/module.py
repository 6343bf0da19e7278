"""A parsed module: where its parts are, and what its names stand for."""
import ast
import tokenize
import warnings
from io import StringIO

from .text import Edit

#: What a program catches that tries one name, then another.
LOOK_UPS = {'ImportError', 'ModuleNotFoundError', 'NameError',
            'AttributeError'}


class DoesNotParse(Exception):
    """Not Python 3, as `line` and the message say."""

    def __init__(self, message, line=None, tabs=False):
        super(DoesNotParse, self).__init__(message)
        self.line, self.tabs = line, tabs


def parse(text):
    """The syntax tree of a text, or the reason why it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # escapes, comparisons with is
            tree = ast.parse(text)
            compile(text, '<port>', 'exec', dont_inherit=True)
        return tree
    except SyntaxError as error:
        raise DoesNotParse(error.msg, error.lineno,
                           isinstance(error, TabError))
    except (ValueError, RecursionError, MemoryError) as error:
        raise DoesNotParse(str(error) or type(error).__name__)


class Module(object):
    """
    wnorm.port.module.Module(text)

    Attributes
    ----------
    text : str
    tree : ast.Module
    nodes : list of ast.AST
        All nodes of the tree.
    aliases : dict
        From a name that an import binds to the dotted path of the thing.
    bound : set of str
        The names that the module binds anywhere but by imports, those of
        methods left out.
    """

    def __init__(self, text):
        self.text, self.tree = text, parse(text)
        self.nodes = list(ast.walk(self.tree))
        self._starts = [0]
        for line in text.split('\n'):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._parents = {child: node for node in self.nodes
                         for child in ast.iter_child_nodes(node)}
        self.aliases, self.bound = {}, set()
        for node in self.nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for alias in node.names:
                    self.aliases.update([binding(node, alias)])
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                # a method is no name
                if not isinstance(self.parent(node), ast.ClassDef):
                    self.bound.add(node.name)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                self.bound.add(node.name)
            elif isinstance(node, ast.arg):
                self.bound.add(node.arg)
            elif isinstance(node, ast.Name) and (
                    not isinstance(node.ctx, ast.Load)):
                self.bound.add(node.id)

    def parent(self, node):
        return self._parents.get(node)

    def _offset(self, line, column):
        """Of a place that ast counts in bytes of UTF-8."""
        start = self._starts[line - 1]
        text = self.text[start:self._starts[line]]
        return start + len(text.encode('utf-8')[:column].decode('utf-8'))

    def span(self, node):
        """The first character of a node, and that after its last."""
        return (self._offset(node.lineno, node.col_offset),
                self._offset(node.end_lineno, node.end_col_offset))

    def source(self, node):
        start, end = self.span(node)
        return self.text[start:end]

    def replaced(self, node, new):
        """The edit that puts `new` in the place of a node."""
        return Edit(*self.span(node), new)

    def strings(self):
        """The first characters of string literals, and those after."""
        for token in tokenize.generate_tokens(StringIO(self.text).readline):
            if token.type == tokenize.STRING:
                yield tuple(self._starts[line - 1] + column
                            for line, column in (token.start, token.end))

    def without(self, statement):
        """The edit that takes a statement out, with its line."""
        start, end = self.span(statement)
        block = next(part for name in ('body', 'orelse', 'finalbody')
                     for part in [getattr(self.parent(statement), name, [])]
                     if statement in part)
        line = self.text.rfind('\n', 0, start) + 1
        after = self.text.find('\n', end) + 1 or len(self.text)
        rest = self.text[line:start] + self.text[end:after]
        if len(block) == 1 or rest.split('#')[0].strip():
            return Edit(start, end, 'pass')
        return Edit(line, after, '')

    def dotted(self, node):
        """The path of what an expression stands for, or None.

        ``np.random.rand`` is ``numpy.random.rand`` after
        ``import numpy as np``.
        """
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return base and base + '.' + node.attr
        return None

    def called(self, path):
        """What the module calls the module `path`, or None."""
        for name, target in self.aliases.items():
            if target == path:
                return name
        return None

    def guarded(self, node):
        """Whether the program itself provides for the lack of a name."""
        while node is not None:
            if isinstance(node, ast.Try) and any(
                    isinstance(part, ast.Name) and part.id in LOOK_UPS
                    for handler in node.handlers if handler.type
                    for part in ast.walk(handler.type)):
                return True
            if isinstance(node, (ast.If, ast.IfExp)) and any(
                    getattr(part, 'attr', getattr(part, 'id', None)) in (
                        'version_info', 'PY2', 'PY3')
                    for part in ast.walk(node.test)):
                return True
            node = self.parent(node)
        return False

    def scope(self, node):
        """The function or module that a node is in."""
        while True:
            node = self.parent(node)
            if isinstance(node, (ast.FunctionDef, ast.Module)):
                return node

    def docstrings(self):
        """The nodes of strings that nobody reads."""
        return {node.value for node in self.nodes
                if isinstance(node, ast.Expr)}


def binding(statement, alias):
    """The name that a part of an import binds, and to what."""
    if isinstance(statement, ast.Import):
        name = alias.asname or alias.name.split('.')[0]
        return name, alias.name if alias.asname else name
    return alias.asname or alias.name, '.'.join(
        filter(None, [statement.module, alias.name]))
