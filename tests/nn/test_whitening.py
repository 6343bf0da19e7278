"""ZCA against its formula."""
import numpy as np
import pytest
import theano
import theano.tensor as T

from wnorm.nn.weightnorm import ZCA


def images(floatX='float64', n=50):
    random = np.random.RandomState(0)
    return (random.randn(n, 12).dot(random.randn(12, 12)) + 3).astype(
        floatX).reshape(n, 3, 2, 2)


def matrix(x, power, regularization):
    x = x.astype('float64').reshape(len(x), -1)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    return (vectors * (values + regularization) ** power).dot(vectors.T)


@pytest.mark.parametrize('regularization', [1e-5, .1])
def test_whitening(regularization, floatX):
    x, other = images(floatX), images(floatX, 7)[::-1] + np.float32(.5)
    whitener = ZCA(regularization, x)
    mean = x.astype('float64').mean(axis=0).ravel()
    close = (dict(rtol=2e-2, atol=1e-3) if floatX == 'float32' else
             dict(rtol=1e-7, atol=1e-9))
    expected = (other.reshape(7, 12) - mean).dot(
        matrix(x, -.5, regularization)).reshape(other.shape)
    symbol = T.TensorType(floatX, (False,) * 4)()
    for out in (whitener.apply(other),
                whitener.apply(symbol).eval({symbol: other}),
                whitener.apply(theano.shared(other)).eval()):
        assert out.dtype == floatX and out.shape == other.shape
        np.testing.assert_allclose(out, expected, **close)
    expected = (other.reshape(7, 12).dot(
        matrix(x, .5, regularization)) + mean).reshape(other.shape)
    for out in (whitener.invert(other),
                whitener.invert(symbol).eval({symbol: other})):
        assert out.dtype == floatX
        np.testing.assert_allclose(out, expected, **close)
    np.testing.assert_allclose(
        whitener.invert(whitener.apply(other)), other, rtol=1e-2)


def test_data_of_other_types_stays_as_it_is():
    x = np.random.RandomState(0).randint(0, 256, (50, 6)).astype('uint8')
    before = x.copy()
    whitener = ZCA()
    whitener.fit(x)
    assert (x == before).all()
    np.testing.assert_allclose(np.cov(whitener.apply(x).T, bias=True),
                               np.eye(6), atol=1e-6)
    assert np.isfinite(whitener.apply(x.tolist())).all()


def test_no_data():
    with pytest.raises(ValueError, match='no data yet: call fit'):
        ZCA().apply(images())
    for nothing in (np.zeros((0, 5)), np.array(1.)):
        with pytest.raises(ValueError, match='examples'):
            ZCA(x=nothing)
