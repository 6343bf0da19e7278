// The loops of weight normalization, over a weight in C order that is seen as
//
//     [outer][rows][filters][inner]
//
// with one norm for each (outer, filter), over rows and inner. A dense weight
// has rows and filters, a convolution's filters and inner, a local layer's
// outer, rows and (positions as) filters.
#ifndef WNORM_KERNELS_HPP
#define WNORM_KERNELS_HPP

#include <cmath>
#include <limits>
#include <vector>

namespace wnorm {

struct Extent {
  npy_intp outer, rows, filters, inner;
  npy_intp norms() const { return outer * filters; }
};

// --- sums --------------------------------------------------------------------

// Squares are added in the precision of the weight, a few dozen at a time, and
// these sums in double precision: as exact as all in double, as fast as none.
const npy_intp GROUP = 8;     // rows that are read together
const npy_intp CHUNK = 4;     // groups between two additions in double
const npy_intp LANES = 16;    // sums side by side along a contiguous filter
const npy_intp STRIP = 1024;  // elements between two additions in double

// sum[j] += the sum over `rows` rows of a[., j] b[., j]
template <typename T>
static void add_columns(const T* __restrict__ a, const T* __restrict__ b,
                        npy_intp rows, npy_intp columns,
                        double* __restrict__ sum, T* __restrict__ part) {
  npy_intp i = 0;
  while (i + GROUP <= rows) {
    for (npy_intp j = 0; j < columns; ++j) part[j] = 0;
    for (npy_intp c = 0; c < CHUNK && i + GROUP <= rows; ++c, i += GROUP) {
      const T* __restrict__ p = a + i * columns;
      const T* __restrict__ q = b + i * columns;
      const npy_intp n = columns;
      for (npy_intp j = 0; j < n; ++j)
        part[j] += ((p[j] * q[j] + p[j + n] * q[j + n]) +
                    (p[j + 2 * n] * q[j + 2 * n] +
                     p[j + 3 * n] * q[j + 3 * n])) +
                   ((p[j + 4 * n] * q[j + 4 * n] +
                     p[j + 5 * n] * q[j + 5 * n]) +
                    (p[j + 6 * n] * q[j + 6 * n] +
                     p[j + 7 * n] * q[j + 7 * n]));
    }
    for (npy_intp j = 0; j < columns; ++j) sum[j] += part[j];
  }
  for (; i < rows; ++i)
    for (npy_intp j = 0; j < columns; ++j)
      sum[j] += a[i * columns + j] * b[i * columns + j];
}

// The sum of a[i] b[i].
template <typename T>
static double contiguous_sum(const T* __restrict__ a, const T* __restrict__ b,
                             npy_intp n) {
  double sum = 0;
  npy_intp i = 0;
  while (i + LANES <= n) {
    T part[LANES] = {0};
    npy_intp end = n - i < STRIP ? n : i + STRIP;
    for (; i + LANES <= end; i += LANES)
      for (npy_intp lane = 0; lane < LANES; ++lane)
        part[lane] += a[i + lane] * b[i + lane];
    for (npy_intp lane = 0; lane < LANES; ++lane) sum += part[lane];
  }
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// One sum of a b for each norm.
template <typename T>
static std::vector<double> sums(const T* a, const T* b, Extent e) {
  std::vector<double> sum(e.norms(), 0.);
  std::vector<T> part(e.inner == 1 ? e.filters : 0);
  for (npy_intp o = 0; o < e.outer; ++o) {
    double* s = sum.data() + o * e.filters;
    npy_intp first = o * e.rows * e.filters * e.inner;
    if (e.inner == 1) {
      add_columns(a + first, b + first, e.rows, e.filters, s, part.data());
      continue;
    }
    for (npy_intp i = 0; i < e.rows; ++i)
      for (npy_intp f = 0; f < e.filters; ++f) {
        npy_intp at = first + (i * e.filters + f) * e.inner;
        s[f] += contiguous_sum(a + at, b + at, e.inner);
      }
  }
  return sum;
}

// --- norms -------------------------------------------------------------------

// Visits the elements of one norm.
template <typename T, typename Visit>
static void each_of(const T* V, Extent e, npy_intp norm, Visit visit) {
  npy_intp o = norm / e.filters, f = norm % e.filters;
  for (npy_intp i = 0; i < e.rows; ++i)
    for (npy_intp k = 0; k < e.inner; ++k)
      visit(V[((o * e.rows + i) * e.filters + f) * e.inner + k]);
}

// 1 / sqrt(eps + sum of squares), for each norm.
//
// With eps = 0 it is 0 for a filter of zeros, and exact where squares under-
// or overflow: there the filter is divided by its largest entry first.
template <typename T>
static std::vector<double> inverses(const T* V, Extent e, double eps) {
  std::vector<double> inverse = sums(V, V, e);
  // within these bounds no square that counts was lost
  const double lo = std::sqrt((double)std::numeric_limits<T>::min());
  const double hi = std::numeric_limits<T>::max() / 16;
  for (npy_intp n = 0; n < e.norms(); ++n) {
    double sum = inverse[n];
    if (eps > 0 || (sum > lo && sum < hi)) {
      // eps in the precision of the weight
      inverse[n] = 1 / std::sqrt((double)(T)eps + sum);
      continue;
    }
    double largest = 0;
    each_of(V, e, n, [&](T v) {
      double size = std::fabs((double)v);
      if (!(size <= largest)) largest = size;  // so NaN is kept
    });
    sum = 0;
    each_of(V, e, n, [&](T v) {
      sum += (v / largest) * (v / largest);
    });
    inverse[n] = largest == 0 ? 0 : 1 / largest / std::sqrt(sum);
  }
  return inverse;
}

// The gradient of the gain: the sum of dW V inverse, for each norm.
template <typename T>
static std::vector<double> alongs(const T* V, const T* dW, Extent e,
                                  const std::vector<double>& inverse) {
  std::vector<double> along = sums(V, dW, e);
  for (npy_intp n = 0; n < e.norms(); ++n) {
    if (std::isfinite(along[n]) && inverse[n] < 1e4) {
      along[n] *= inverse[n];
      continue;
    }
    // the products of the weight's precision under- or overflow
    double sum = 0;
    const T* w = V;
    each_of(V, e, n, [&](const T& v) {
      sum += v * inverse[n] * dW[&v - w];
    });
    along[n] = sum;
  }
  return along;
}

// --- weights and gradients ---------------------------------------------------

// out = V scale, one scale for each norm
template <typename T>
static void scaled(const T* __restrict__ V, const T* __restrict__ scale,
                   Extent e, T* __restrict__ out) {
  for (npy_intp o = 0; o < e.outer; ++o, scale += e.filters)
    for (npy_intp i = 0; i < e.rows; ++i) {
      npy_intp n = e.filters * e.inner;
      if (e.inner == 1)
        for (npy_intp f = 0; f < n; ++f) out[f] = V[f] * scale[f];
      else
        for (npy_intp f = 0; f < e.filters; ++f)
          for (npy_intp k = 0; k < e.inner; ++k)
            out[f * e.inner + k] = V[f * e.inner + k] * scale[f];
      V += n;
      out += n;
    }
}

// dV = scale dW - (V inverse) along, with along = scale times the gradient of
// the gain. V times inverse first: neither over- nor underflows.
template <typename T>
static void gradient(const T* __restrict__ V, const T* __restrict__ dW,
                     const T* __restrict__ scale, const T* __restrict__ inverse,
                     const T* __restrict__ along, Extent e,
                     T* __restrict__ dV) {
  for (npy_intp o = 0; o < e.outer; ++o) {
    for (npy_intp i = 0; i < e.rows; ++i) {
      npy_intp n = e.filters * e.inner;
      if (e.inner == 1)
        for (npy_intp f = 0; f < n; ++f)
          dV[f] = scale[f] * dW[f] - V[f] * inverse[f] * along[f];
      else
        for (npy_intp f = 0; f < e.filters; ++f)
          for (npy_intp k = 0; k < e.inner; ++k) {
            npy_intp at = f * e.inner + k;
            dV[at] = scale[f] * dW[at] - V[at] * inverse[f] * along[f];
          }
      V += n;
      dW += n;
      dV += n;
    }
    scale += e.filters;
    inverse += e.filters;
    along += e.filters;
  }
}

// --- arrays ------------------------------------------------------------------

// Walks a gain, which may be broadcast, along the kept axes of the weight.
class Gain {
 public:
  Gain(PyArrayObject* gain, PyArrayObject* V, const int* kept, int nkept) {
    for (int i = 0; i < nkept; ++i) {
      sizes.push_back(PyArray_DIM(V, kept[i]));
      steps.push_back(PyArray_DIM(gain, kept[i]) == 1
                      ? 0 : PyArray_STRIDE(gain, kept[i]));
    }
  }

  // Calls visit(norm, byte offset into the gain) for each norm.
  template <typename Visit>
  void each(Visit visit) const {
    npy_intp norms = 1;
    for (size_t i = 0; i < sizes.size(); ++i) norms *= sizes[i];
    for (npy_intp norm = 0; norm < norms; ++norm) {
      npy_intp left = norm, offset = 0;
      for (size_t i = sizes.size(); i-- > 0; left /= sizes[i])
        offset += left % sizes[i] * steps[i];
      visit(norm, offset);
    }
  }

 private:
  std::vector<npy_intp> sizes, steps;
};

// Whether `gain` can be broadcast to the norms of `V`; else an error is set.
static bool fits(PyArrayObject* gain, PyArrayObject* V, const int* kept,
                 int nkept) {
  std::vector<bool> is_kept(PyArray_NDIM(V), false);
  for (int i = 0; i < nkept; ++i) is_kept[kept[i]] = true;
  for (int i = 0; i < PyArray_NDIM(V); ++i) {
    npy_intp size = PyArray_DIM(gain, i);
    if (size == 1 || (is_kept[i] && size == PyArray_DIM(V, i))) continue;
    PyErr_Format(PyExc_ValueError,
                 "weight normalization: axis %d of the gain has %zd entries, "
                 "the weight has %zd norms there", i, (Py_ssize_t)size,
                 (Py_ssize_t)(is_kept[i] ? PyArray_DIM(V, i) : 1));
    return false;
  }
  return true;
}

// An output of the wanted shape in C order: `old` if it fits. NULL on error.
static PyArrayObject* output(PyArrayObject* old, int ndim, const npy_intp* dims,
                             int type) {
  if (old && PyArray_NDIM(old) == ndim && PyArray_TYPE(old) == type &&
      PyArray_ISCARRAY(old) &&
      PyArray_CompareLists(PyArray_DIMS(old), const_cast<npy_intp*>(dims),
                           ndim))
    return old;
  Py_XDECREF(old);
  return (PyArrayObject*)PyArray_SimpleNew(ndim, const_cast<npy_intp*>(dims),
                                           type);
}

}  // namespace wnorm
#endif
