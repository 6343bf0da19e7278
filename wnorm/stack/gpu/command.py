"""``python -m wnorm gpu -- PROGRAM``: runs a program on the GPU."""
import os
import shlex
import shutil
import sys

from . import survey
from .settings import environment

SUMMARY = 'run a program on the GPU, with all that Theano needs for it set'


def add_arguments(parser):
    add_kind(parser)
    parser.add_argument('--deterministic', action='store_true',
                        help='compute the same bits in every run')
    parser.add_argument('--print', action='store_true', dest='show',
                        help='print the settings as lines for a shell: '
                        'eval "$(python -m wnorm gpu --print)"')
    parser.add_argument('program', nargs='*', metavar='-- PROGRAM',
                        help='and its arguments, such as: python train.py')


def add_kind(parser):
    parser.add_argument('--opencl', action='store_const', dest='kind',
                        const='opencl', default='cuda',
                        help='an OpenCL device in place of an NVIDIA one; '
                        'with PoCL that is the CPU')


def run(arguments):
    """The command: does not return where the program can be started.

    Returns
    -------
    int
        The exit status: 1 where the device cannot be used.
    """
    if bool(arguments.program) == arguments.show:
        return fail('say which program: python -m wnorm gpu -- python '
                    'train.py; or ask for the settings: --print', 2)
    found = survey.look(arguments.kind)
    problems = [check for check in survey.rows(found)
                if check['status'] == 'problem']
    # without a GPU the rest does not matter
    for check in problems[:1] if problems and (
            problems[0]['name'] == 'GPU') else problems:
        fail('%(name)s: %(value)s\n    -> %(remedy)s' % check)
    if problems:
        return 1
    variables = environment(found, arguments.deterministic)
    if arguments.show:
        for name, value in variables.items():
            print('export %s=%s' % (name, shlex.quote(value)))
        return 0
    program = shutil.which(arguments.program[0], path=variables['PATH'])
    if program is None:
        return fail('%s is not found, or may not be executed'
                    % arguments.program[0], 127)
    sys.stdout.flush()
    os.execve(program, arguments.program, dict(os.environ, **variables))


def fail(text, status=1):
    print('wnorm gpu: ' + text, file=sys.stderr)
    return status
