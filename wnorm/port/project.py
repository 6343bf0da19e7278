"""A folder of old code: what is found in each file, and what becomes of it."""
import ast
import os
from collections import namedtuple

from . import checks, dropin, names, syntax
from .files import File, Unreadable, under
from .module import DoesNotParse, Module
from .text import HAND, WRITE, Finding, apply, line_origins

#: What a mended text may show that was hidden before, at most so often.
_ROUNDS = 5


#: On a line: the dotted path of a module, and what is used of it, if not
#: the module itself.
Use = namedtuple('Use', 'line path name')


class Ported(object):
    """
    wnorm.port.project.Ported(file)

    A file on its way.

    Attributes
    ----------
    file : :class:`wnorm.port.files.File`
    text : str
        What becomes of its text.
    found : list of Finding
        On the lines of the file as it is.
    is_python_2 : bool
        Whether something shows that it is.
    uses : list of Use
        What it uses from others, on these lines too.
    defines : set of str or None
        Where it is a copied nn.py: the names to be had from it.
    """

    def __init__(self, file):
        self.file, self.text, self.found = file, file.text, []
        self.uses, self.defines, self.is_python_2 = [], None, False
        if file.is_python:
            self.text, self.found = syntax.convert(file.text)
            self.is_python_2 = self._is_python_2(Module(self.text))
            if self.is_python_2:
                self.text, self.found = syntax.convert(file.text, lists=True)
            self.uses = self._here(_uses(Module(self.text)))

    @property
    def changed(self):
        return self.text != self.file.text

    def is_called(self, path):
        """Whether a dotted path may be this file."""
        return path and (os.sep + self.file.name).endswith(
            os.sep + path.replace('.', os.sep) + '.py')

    def _here(self, things):
        """Findings or uses in the text as it has become, on its old lines."""
        origins = line_origins(self.file.text, self.text)
        return [one._replace(line=origins[min(one.line, len(origins) - 1)])
                for one in things]

    def add(self, found):
        """Findings on the lines of the text as it has become."""
        self.found += self._here(found)

    def take(self, text, found):
        """A new text, with what was found on the lines of the last one."""
        self.add(found)
        self.text = text

    def mend(self, needed):
        """All that is to be done once the file is Python 3."""
        if not self.file.is_python:
            found, edits = checks.settings(self.file.name, self.text)
            return self.take(apply(self.text, edits), found)
        module = Module(self.text)
        if dropin.is_copy(module):
            self.take(*dropin.replace(module, needed))
            module = Module(self.text)
            self.defines = dropin.names(module)
        if self.is_python_2:
            self.add(checks.possible_divisions(module))
            rows = self.file.text.split('\n')
            self.found += [
                one for one in self._here(checks.evaluated_input(module))
                if 'raw_input' not in rows[one.line - 1]]
        for _ in range(_ROUNDS):
            found, edits = self._check(module)
            if not edits:
                break
            self.take(apply(self.text, edits), [
                one for one in found if one.kind == WRITE])
            module = Module(self.text)
        self.add(found)

    def _is_python_2(self, module):
        return (any(map(syntax.shows_python_2, self.found)) or
                names.uses_built_ins(module) or checks.uses_lists(module))

    def _check(self, module):
        found, edits = checks.divisions(module, self.is_python_2)
        for check in (names.check, checks.devices, checks.pickles,
                      checks.calls, checks.saved_objects, checks.options,
                      checks.paths):
            more, changes = check(module)
            found += more
            edits += changes
        return found, edits

    def report(self):
        """What was found, in the order of the lines, each once."""
        return sorted(set(self.found))


def port(folder):
    """
    wnorm.port.project.port(folder)

    Reads a folder, and changes nothing.

    Parameters
    ----------
    folder : str
        Path of a folder, or of one file.

    Returns
    -------
    list of Ported, list of (str, str)
        The files; names of those that were skipped, with the reason.
    """
    if os.path.isdir(folder):
        found, skipped = under(folder)
    else:
        found, skipped = [(folder, os.path.basename(folder))], []
    files = []
    for path, name in found:
        try:
            files.append(Ported(File(path, name)))
        except Unreadable as error:
            skipped.append((name, str(error)))
        except DoesNotParse as error:
            skipped.append((name, 'neither Python 2 nor Python 3%s: %s' % (
                ', line %d' % error.line if error.line else '', error)))
    for one in list(files):
        try:
            one.mend({use.name for other in files for use in other.uses
                      if other is not one and one.is_called(use.path)})
        except DoesNotParse as error:
            files.remove(one)
            skipped.append((one.file.name, 'left as it is, for what it would '
                            'become does not parse: %s' % error))
    for one in files:
        one.found += _unavailable(one, files)
        if one.file.is_python and os.path.exists(os.path.join(
                os.path.dirname(one.file.path), '__init__.py')):
            one.found += _implicit(one, files)
    return files, skipped


def _uses(module):
    """What a module uses from others."""
    uses = []
    for node in module.nodes:
        if isinstance(node, ast.Import) and not module.guarded(node):
            uses += [Use(node.lineno, alias.name, None)
                     for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            uses += [Use(node.lineno, node.module or '', alias.name)
                     for alias in node.names]
        elif isinstance(node, ast.Attribute):
            path = module.dotted(node.value)
            if path:
                uses.append(Use(node.lineno, path, node.attr))
    return uses


def _unavailable(one, files):
    """Findings about names that a file takes from an nn.py that lacks them."""
    copies = [other for other in files if other.defines is not None]
    alone = not any(other.is_called('nn') for other in files)
    for use in one.uses:
        homes = [other.defines for other in copies
                 if other.is_called(use.path)]
        if use.path in dropin.DEFINES:
            homes = [set(dropin.DEFINES[use.path]) | {'weightnorm'}]
        if use.path == 'nn' and use.name is None and alone:
            yield Finding(use.line, HAND, 'nn: there is no nn.py', _flavour({
                other.name for other in one.uses if other.path == 'nn'}))
        elif homes and use.name not in (None, '*') and not (
                use.name.startswith('__')) and not any(
                    use.name in home for home in homes):
            others = ['%s.%s' % (path, use.name)
                      for path in sorted(dropin.DEFINES)
                      if use.name in dropin.DEFINES[path]]
            yield Finding(use.line, HAND, '%s.%s: not there' % use[1:],
                          ' or '.join(others) or 'define it')


def _implicit(one, files):
    """Findings about imports of modules beside a file of a package."""
    folder = os.path.dirname(one.file.path)
    beside = {os.path.basename(other.file.path)[:-3] for other in files
              if os.path.dirname(other.file.path) == folder and
              other is not one}
    for line, path, name in one.uses:
        if path in beside and name is None:
            yield Finding(line, HAND, '%s: in a package, Python 3 does not '
                          'look beside the file' % path, (
                              'from . import %s, unless it is run as a script'
                              % path))


def _flavour(names):
    """The import that stands for an nn.py of which these names are used."""
    names = {name for name in names if name}
    imports = [statement for path, statement in (
        ('wnorm.nn', 'from wnorm import nn'),
        ('wnorm.nn.weightnorm', 'from wnorm.nn import weightnorm as nn'))
        if names <= set(dropin.DEFINES[path])]
    return ' or '.join(imports) or 'no file of wnorm has all of ' + (
        ', '.join(sorted(names)))
