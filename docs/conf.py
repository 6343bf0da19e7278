"""Builds the manual: ``make docs``, or ``sphinx-build docs build/docs``."""
import os
import subprocess
import sys

from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import wnorm  # noqa: E402

project = 'wnorm'
version = release = wnorm.__version__
copyright = 'the authors of wnorm'

extensions = ['myst_parser', 'numpydoc', 'sphinx.ext.autodoc',
              'sphinx.ext.mathjax']
html_theme = 'furo'
html_title = 'wnorm %s' % release
html_show_copyright = False

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3

numpydoc_show_class_members = False
autodoc_member_order = 'bysource'

nitpicky = True
# What others document. Their pages are not fetched, so that the manual can be
# built without network.
nitpick_ignore_regex = [
    (r'py:.*', r'(lasagne|theano|numpy|torch|matplotlib)\..*'),
]


class CommandHelp(Directive):
    """What ``python -m wnorm COMMAND --help`` prints."""
    required_arguments = 1

    def run(self):
        text = subprocess.run(
            [sys.executable, '-m', 'wnorm', self.arguments[0], '--help'],
            stdout=subprocess.PIPE, check=True, universal_newlines=True,
            cwd=ROOT, env=dict(os.environ, COLUMNS='79')).stdout
        return [nodes.literal_block(text, text, language='text')]


def setup(app):
    app.add_directive('command-help', CommandHelp)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
