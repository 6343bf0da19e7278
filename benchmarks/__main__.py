"""Runs all benchmarks: `make bench`, or ``python benchmarks``.

    python benchmarks --quick

Writes their tables, the numbers behind them and a chart to a folder. With
--quick, a part of each: below two minutes, once the nets are in Theano's
cache of compiled code.
"""
import argparse
import os
import subprocess
import sys
import time

import chart
from harness import MISSED

FOLDER = os.path.dirname(os.path.abspath(__file__))

#: What is written: the program, and the environment it runs in.
PARTS = {
    'speed': ('speed.py', {}),
    'speed-stock': ('speed.py', {'WNORM_BLAS': '0'}),
    'sizes': ('sizes.py', {}),
    'optimizers': ('optimizers.py', {}),
    'pytorch': ('pytorch.py', {}),
    'folding': ('folding.py', {}),
    'initialization': ('initialization.py', {}),
    'memory': ('memory.py', {}),
    'compile_time': ('compile_time.py', {}),
    'blas': ('blas.py', {}),
    'mpi': ('mpi.py', {}),
}
QUICK = [part for part in PARTS if part not in ('blas', 'mpi')]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False)
    parser.add_argument('--quick', action='store_true',
                        help='a part of everything')
    parser.add_argument('--parts', nargs='+', choices=PARTS, metavar='PART',
                        help=' '.join(PARTS))
    parser.add_argument('--out', default='bench', help='folder to write')
    options, others = parser.parse_known_args()  # those, to all programs
    parts = options.parts or (QUICK if options.quick else list(PARTS))
    os.makedirs(options.out, exist_ok=True)

    began, texts, failed = time.time(), [], []
    for part in parts:
        program, environment = PARTS[part]
        stem = os.path.join(options.out, part)
        done = subprocess.run(
            [sys.executable, os.path.join(FOLDER, program), '--out', stem] +
            ['--quick'] * options.quick + others,
            env=dict(os.environ, **environment))
        if done.returncode:
            failed.append(part)
            continue
        with open(stem + '.md') as file:
            texts.append(file.read())
    text = '\n'.join(texts)
    with open(os.path.join(options.out, 'bench.md'), 'w') as file:
        file.write(text)
    if 'speed' in parts:
        chart.main(options.out)

    missed = [line for line in text.splitlines() if MISSED in line]
    print('%.0f s. %d rows miss a target%s\n%s' % (
        time.time() - began, len(missed), ':' if missed else '.',
        '\n'.join(missed)))
    print('bench.md and chart.png are in the folder ' +
          os.path.abspath(options.out))
    if failed:
        sys.exit('Failed: ' + ', '.join(failed))


if __name__ == '__main__':
    main()
