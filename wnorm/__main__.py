"""The commands of ``python -m wnorm``."""
import argparse
import sys

from . import port
from .stack import doctor
from .stack.gpu import command, prepare

#: Modules with the functions ``add_arguments(parser)`` and ``run(arguments)``
#: by the names of their commands.
COMMANDS = {'doctor': doctor, 'gpu': command,
            'gpu-setup': prepare, 'port': port}


def main(argv=None):
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m wnorm',
        description='Weight normalization for Lasagne.')
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    for name, module in sorted(COMMANDS.items()):
        summary = module.SUMMARY
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


if __name__ == '__main__':
    sys.exit(main())
