"""The C code as it is written, whether or not a compiled module is there."""
import pytest
import theano
import theano.tensor as T

from wnorm.ops.weight import (
    FactoredGradient, FilterScale, NormalizedWeight, NormalizedWeightGrad)
from .cases import CASES
from .test_epilogue import FORMS


def source(function):
    """The C code of a function, and how it is compiled."""
    linker = theano.gof.CLinker().accept(function.maker.fgraph)
    return '\n'.join(linker.support_code() + [linker.code_gen()]), (
        linker.compile_args() + linker.libraries() + linker.lib_dirs() +
        linker.headers())


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('name', list(FORMS))
def test_epilogue(name, dtype):
    code, how = source(FORMS[name].function(dtype, 'py'))
    assert 'wnorm::multiply<npy_%s, %d>' % (
        dtype, FORMS[name].products) in code
    # what multiplies a float32 must not be a double
    assert ('-fsingle-precision-constant' in how) == (dtype == 'float32')
    # a module serves all layers of the same form
    assert source(FORMS[name].function(dtype, 'py')) == (code, how)


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64'])
@pytest.mark.parametrize('case', CASES, ids=str)
def test_weight(case, dtype):
    full = T.TensorType(dtype, [False] * len(case.shape))
    V, dW, g = full(), full(), T.TensorType(dtype, [
        axis not in case.gain_axes for axis in range(len(case.shape))])()
    f = theano.function(
        [V, g, dW], [NormalizedWeight(case.axes, 0.)(V, g)] +
        NormalizedWeightGrad(case.axes, 0.)(V, g, dW) +
        FilterScale(case.axes, 0.)(V, g), mode=theano.Mode('py', None))
    code, how = source(f)
    kind = 'float32' if dtype == 'float16' else dtype
    assert code.count('(npy_%s*)PyArray_DATA' % kind) >= 3
    assert 'wnorm::inverses' in code and '-ffp-contract=fast' in how


def test_factored_gradient():
    inputs = T.fmatrices(3)
    f = theano.function(inputs, FactoredGradient()(*inputs),
                        mode=theano.Mode('py', None))
    assert 'wnorm::factored_gradient' in source(f)[0]
