"""The manual: its code runs, its links lead somewhere, nothing is left out."""
import doctest
import glob
import importlib
import os
import re

import pytest

import wnorm
from wnorm.__main__ import COMMANDS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCS = os.path.join(ROOT, 'docs')
PAGES = sorted(os.path.relpath(path, DOCS)[:-len('.md')] for path in glob.glob(
    os.path.join(DOCS, '**', '*.md'), recursive=True))
#: What a block of code may be.
LANGUAGES = ['python', 'pycon', 'sh', 'text', '{toctree}', '{eval-rst}',
             '{command-help}', '{include}']
BLOCK = re.compile(r'^```(\S*).*?\n(.*?)^```', re.S | re.M)


def read(*path):
    with open(os.path.join(ROOT, *path), encoding='utf-8') as file:
        return file.read()


def page(name):
    return read('docs', name + '.md')


def blocks(text):
    """The line, language and code of each block."""
    return [(text.count('\n', 0, block.start(2)), block.group(1),
             block.group(2)) for block in BLOCK.finditer(text)]


def run(name, text):
    """Run all Python of a page, in order and in one namespace."""
    names = {'__name__': '__main__'}
    for line, language, code in blocks(text):
        if language == 'python':
            exec(compile('\n' * line + code, name, 'exec'), names)
        elif language == 'pycon':
            example = doctest.DocTestParser().get_doctest(
                code, names, '%s, line %d' % (name, line), name, line)
            runner = doctest.DocTestRunner(
                optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            failed, _ = runner.run(example, clear_globs=False)
            assert not failed
            names = example.globs


def has_code(name):
    return any(language in ('python', 'pycon')
               for _, language, _ in blocks(page(name)))


def with_marks(name):
    marks = []
    if 'from torch import' in page(name):
        marks.append(pytest.mark.torch)
    if "'FAST_RUN'" in page(name):  # is compiled in C
        marks.append(pytest.mark.slow)
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize('name', [
    with_marks(name) for name in PAGES if has_code(name)])
def test_code_of_the_pages_runs(name, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip('matplotlib')
    matplotlib.use('Agg')
    monkeypatch.chdir(tmp_path)
    run(os.path.join('docs', name + '.md'), page(name))


@pytest.mark.parametrize('code', [
    "```python\n1 / 0\n```\n", "```pycon\n>>> 1 + 1\n3\n```\n"])
def test_code_that_is_wrong_is_found(code, capsys):
    with pytest.raises((ZeroDivisionError, AssertionError)):
        run('page', code)


@pytest.mark.parametrize('name', PAGES + ['../README'])
def test_code_is_marked_as_what_it_is(name):
    text = page(name)
    assert [language for _, language, _ in blocks(text)
            if language not in LANGUAGES] == []
    # an indented block would be in no language, and not be run
    plain = BLOCK.sub('', text)
    assert re.findall(r'^\n {4,}\S.*', plain, re.M) == []


def test_pages_are_reached_from_the_index():
    reached, pages = set(), ['index']
    while pages:
        name = pages.pop()
        reached.add(name)
        folder = os.path.dirname(name)
        for _, language, code in blocks(page(name)):
            if language == '{toctree}':
                pages += [os.path.normpath(os.path.join(folder, entry))
                          for entry in code.split('\n')
                          if entry and not entry.startswith(':')]
    assert sorted(reached) == PAGES


def anchors(text):
    """What links may name in a page: its headings, as GitHub writes them."""
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-')
            for heading in re.findall(r'^#+ (.*)', BLOCK.sub('', text), re.M)}


@pytest.mark.parametrize('name', PAGES + [
    '../' + name for name in ('README', 'CHANGELOG', 'CONTRIBUTING')])
def test_links_lead_somewhere(name):
    text = page(name)
    for target in re.findall(r'\]\((?!http)([^)\s]+)', BLOCK.sub('', text)):
        path, _, anchor = target.partition('#')
        found = os.path.normpath(os.path.join(
            DOCS, os.path.dirname(name), path)) if path else (
            os.path.join(DOCS, name + '.md'))
        assert os.path.exists(found), target
        if anchor:
            assert anchor in anchors(read(found)), target


# --- the reference ------------------------------------------------------------

def documented():
    """The full names that the pages of the reference describe."""
    names = set()
    for name in PAGES:
        module = None
        for _, _, code in blocks(page(name)):
            for directive, entry in re.findall(
                    r'^\.\. (\w+):: (\S+)', code, re.M):
                if directive in ('module', 'currentmodule', 'automodule'):
                    module = entry
                elif directive in ('autofunction', 'autoclass', 'class'):
                    names.add(entry if entry.startswith('wnorm.') else
                              '%s.%s' % (module, entry))
    return names


@pytest.mark.parametrize('module', [
    'wnorm', 'wnorm.distributed', 'wnorm.nn', 'wnorm.nn.weightnorm',
    'wnorm.interop.torch'])
def test_public_names_are_in_the_reference(module):
    names = importlib.import_module(module).__all__
    assert {'%s.%s' % (module, name) for name in names} <= documented()


def test_the_reference_has_what_exists():
    for name in documented():
        module, _, attribute = name.rpartition('.')
        assert hasattr(importlib.import_module(module), attribute), name


def test_commands_are_in_the_reference():
    assert re.findall(r'{command-help} (\S+)', page('reference/commands')) == (
        sorted(COMMANDS))


def test_changelog_has_this_version():
    assert re.search(r'^## \[%s\]' % re.escape(wnorm.__version__),
                     read('CHANGELOG.md'), re.M)
