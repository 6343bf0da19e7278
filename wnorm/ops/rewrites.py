"""Registers the rewrites with Theano, at their places in its sequence.

``optimizer_excluding=wnorm`` switches them off, ``optimizer_including=
wnorm_everywhere`` lets the epilogue work for plain layers too.
"""
from theano.compile import optdb
from theano.gof.opt import in2out

from .factoring import Factoring
from .fusion import EpilogueFusion, InPlace
from .lowering import local_formula_on_device

# after scan has taken what it can out of its loop (1.61), before products
# become calls of BLAS (1.7)
optdb.register('wnorm_factoring', Factoring(), 1.66, 'fast_run', 'wnorm')
# not by the tag: without it, weights would go to the host and back
optdb.register('wnorm_formula_on_device', in2out(local_formula_on_device),
               1.67, 'fast_run', 'fast_compile')
# after products went to a device (48.5), before Theano's own fusion (49)
optdb.register('wnorm_epilogue', EpilogueFusion(), 48.9, 'fast_run', 'wnorm')
optdb.register('wnorm_epilogue_of_all', EpilogueFusion(everywhere=True), 48.91,
               'wnorm_everywhere')
# before elementwise operations take the shared variables (75)
optdb.register('wnorm_inplace', InPlace(), 70.1, 'fast_run', 'inplace',
               'wnorm', 'wnorm_everywhere')
