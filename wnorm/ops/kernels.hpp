// The loops of weight normalization, over a weight in C order that is seen as
//
//     [outer][rows][filters][inner]
//
// with one norm for each (outer, filter), over rows and inner. A dense weight
// has rows and filters, a convolution's filters and inner, a local layer's
// outer, rows and (positions as) filters.
#ifndef WNORM_KERNELS_HPP
#define WNORM_KERNELS_HPP

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <vector>

// Compiled once, however many Ops of a graph call it.
#define WNORM_KERNEL static __attribute__((noinline))

namespace wnorm {

struct Extent {
  npy_intp outer, rows, filters, inner;
  npy_intp norms() const { return outer * filters; }
  npy_intp size() const { return norms() * rows * inner; }

  // Short inner axes are loops too short: they count as filters instead,
  // whose numbers are then needed so many times each.
  npy_intp repeats() const { return 0 < inner && inner < 64 ? inner : 1; }
};

// --- threads -----------------------------------------------------------------

}  // namespace wnorm

// OpenBLAS's threads wait for work in a loop: threads of one's own would share
// their processors with them. So they do this work too. The adapter in
// wnorm/stack/blas.cpp offers them; with another BLAS, one thread does all.
extern "C" {
#ifdef WNORM_THREADS
int openblas_get_num_threads();
void openblas_parallel(int n, void (*work)(void*), void* args, int stride);
#else
static int openblas_get_num_threads() { return 1; }
static void openblas_parallel(int, void (*)(void*), void*, int) {}
#endif
}

namespace wnorm {

const int MOST_THREADS = 64;

// What one thread takes, roughly, for a byte from memory, for a product and a
// sum; and what it must have to do to be worth the wait for it.
const double NS_PER_BYTE = .03, NS_PER_PRODUCT = .02, NS_WORTH_A_THREAD = 5e3;

// How many threads, for work of so many nanoseconds in so many parts.
static int thread_count(double nanoseconds, npy_intp parts) {
  const int most = std::min(openblas_get_num_threads(), MOST_THREADS);
  double count = std::min(nanoseconds / NS_WORTH_A_THREAD, (double)parts);
  return std::max(1, (int)std::min(count, (double)most));
}

// Calls use(first, last, thread) for `count` parts of 0 .. n.
template <typename Use>
static void parallel(npy_intp n, int count, const Use& use) {
  if (count == 1) return use(0, n, 0);
  struct Part {
    const Use* use;
    npy_intp first, last;
    int thread;
    static void run(void* part) {
      Part* p = (Part*)part;
      (*p->use)(p->first, p->last, p->thread);
    }
  } parts[MOST_THREADS];
  for (int i = 0; i < count; ++i) {
    parts[i].use = &use;
    parts[i].first = n * i / count;
    parts[i].last = n * (i + 1) / count;
    parts[i].thread = i;
  }
  openblas_parallel(count, Part::run, parts, sizeof(Part));
}

// --- sums --------------------------------------------------------------------

// Squares are added in the precision of the weight, a few dozen at a time, and
// these sums in double precision: as exact as all in double, as fast as none.
const npy_intp GROUP = 8;     // rows that are read together
const npy_intp CHUNK = 4;     // groups between two additions in double
const npy_intp LANES = 16;    // sums side by side along a contiguous filter
const npy_intp STRIP = 1024;  // elements between two additions in double
const npy_intp WIDE = 128;    // columns that are worth a loop over them

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
  const npy_intp columns = e.filters * e.inner;
  const double nanoseconds = e.size() * sizeof(T) * NS_PER_BYTE;
  if (e.inner >= 4 * LANES) {
    parallel(e.norms(), thread_count(nanoseconds, e.norms()),
             [&](npy_intp first, npy_intp last, int) {
      for (npy_intp norm = first; norm < last; ++norm) {
        npy_intp at = norm / e.filters * e.rows * columns +
                      norm % e.filters * e.inner;
        for (npy_intp i = 0; i < e.rows; ++i, at += columns)
          sum[norm] += contiguous_sum(a + at, b + at, e.inner);
      }
    });
    return sum;
  }
  // what is short along the inner axes is summed over the rows first, so many
  // rows of a narrow matrix as one row of a wider one
  const int count = thread_count(nanoseconds / std::max(e.outer, (npy_intp)1),
                                 e.rows);
  const npy_intp fold = std::max((npy_intp)1,
                                 WIDE / std::max(columns, (npy_intp)1));
  const npy_intp width = fold * columns;
  std::vector<T> part(count * width);
  std::vector<double> column(count * width);
  for (npy_intp o = 0; o < e.outer; ++o) {
    const T* p = a + o * e.rows * columns;
    const T* q = b + o * e.rows * columns;
    std::fill(column.begin(), column.end(), 0.);
    parallel(e.rows, count, [&](npy_intp first, npy_intp last, int thread) {
      const npy_intp folded = (last - first) / fold;
      const npy_intp rest = first + folded * fold;
      double* mine = column.data() + thread * width;
      T* scratch = part.data() + thread * width;
      add_columns(p + first * columns, q + first * columns, folded, width,
                  mine, scratch);
      add_columns(p + rest * columns, q + rest * columns, last - rest, columns,
                  mine, scratch);
    });
    for (npy_intp i = 1; i < count * fold; ++i)
      for (npy_intp j = 0; j < columns; ++j)
        column[j] += column[i * columns + j];
    for (npy_intp f = 0; f < e.filters; ++f)
      for (npy_intp k = 0; k < e.inner; ++k)
        sum[o * e.filters + f] += column[f * e.inner + k];
  }
  return sum;
}

// What the gradients of a factored layer share (see FactoredGradient): strip
// by strip, whose sums stay in the nearest cache.
template <typename T>
static void factored_gradient(const T* __restrict__ z, const T* __restrict__ dt,
                              const T* __restrict__ scale, npy_intp rows,
                              npy_intp columns, T* __restrict__ scaled,
                              T* __restrict__ along, T* __restrict__ total) {
  const npy_intp WIDTH = 256;
  for (npy_intp first = 0; first < columns; first += WIDTH) {
    const npy_intp n = std::min(WIDTH, columns - first);
    const T* __restrict__ s = scale + first;
    double wide_along[WIDTH] = {0}, wide_total[WIDTH] = {0};
    for (npy_intp i = 0; i < rows;) {
      T part_along[WIDTH] = {0}, part_total[WIDTH] = {0};
      for (npy_intp end = std::min(rows, i + GROUP * CHUNK); i < end; ++i) {
        const T* __restrict__ p = z + i * columns + first;
        const T* __restrict__ q = dt + i * columns + first;
        T* __restrict__ out = scaled + i * columns + first;
        for (npy_intp j = 0; j < n; ++j) {
          part_along[j] += p[j] * q[j];
          part_total[j] += q[j];
          out[j] = q[j] * s[j];
        }
      }
      for (npy_intp j = 0; j < n; ++j) {
        wide_along[j] += part_along[j];
        wide_total[j] += part_total[j];
      }
    }
    for (npy_intp j = 0; j < n; ++j) {
      along[first + j] = wide_along[j];
      total[first + j] = wide_total[j];
    }
  }
}

// --- norms -------------------------------------------------------------------

// Visits the index of each element of one norm.
template <typename Visit>
static void each_of(Extent e, npy_intp norm, Visit visit) {
  npy_intp o = norm / e.filters, f = norm % e.filters;
  for (npy_intp i = 0; i < e.rows; ++i)
    for (npy_intp k = 0; k < e.inner; ++k)
      visit(((o * e.rows + i) * e.filters + f) * e.inner + k);
}

// 1 / sqrt(eps + sum of squares) for each norm, of zeros 0.
//
// Exact where squares under- or overflow: there the filter, with the root of
// eps as one more entry, is divided by its largest entry first.
template <typename T>
WNORM_KERNEL std::vector<double> inverses(const T* V, Extent e, double eps) {
  std::vector<double> inverse = sums(V, V, e);
  // above it no square that counts was lost
  const double lo = std::sqrt((double)std::numeric_limits<T>::min());
  const double root = std::sqrt(eps);
  for (npy_intp n = 0; n < e.norms(); ++n) {
    const double square = eps + inverse[n];
    // NaN is NaN: a net that diverged shall not be slow as well
    if ((square > lo && std::isfinite(square)) || std::isnan(square)) {
      inverse[n] = 1 / std::sqrt(square);
      continue;
    }
    double largest = root;
    each_of(e, n, [&](npy_intp at) {
      largest = std::max(largest, std::fabs((double)V[at]));
    });
    if (largest == 0 || std::isinf(largest)) {
      inverse[n] = 0;
      continue;
    }
    double sum = (root / largest) * (root / largest);
    each_of(e, n, [&](npy_intp at) {
      sum += (V[at] / largest) * (V[at] / largest);
    });
    inverse[n] = 1 / largest / std::sqrt(sum);
  }
  return inverse;
}

// The gradient of the gain: the sum of dW V inverse, for each norm.
template <typename T>
WNORM_KERNEL std::vector<double> alongs(const T* V, const T* dW, Extent e,
                                        const std::vector<double>& inverse) {
  std::vector<double> along = sums(V, dW, e);
  for (npy_intp n = 0; n < e.norms(); ++n) {
    if (std::isfinite(along[n]) && inverse[n] < 1e10) {
      along[n] *= inverse[n];
      continue;
    }
    // the products of the weight's precision under- or overflow
    along[n] = 0;
    each_of(e, n, [&](npy_intp at) {
      along[n] += V[at] * inverse[n] * dW[at];
    });
  }
  return along;
}

// --- weights and gradients ---------------------------------------------------

// Whether T holds all of these to its precision.
template <typename T>
static bool holds(const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const double size = std::fabs(values[i]);
    if (size > std::numeric_limits<T>::max() ||
        (size > 0 && size < std::numeric_limits<T>::min()))
      return false;
  }
  return true;
}

template <typename S>
static std::vector<S> repeated(const std::vector<double>& values,
                               npy_intp times) {
  if (times == 1) return std::vector<S>(values.begin(), values.end());
  std::vector<S> all(values.size() * times);
  for (size_t i = 0; i < values.size(); ++i)
    std::fill_n(all.begin() + i * times, times, (S)values[i]);
  return all;
}

// Calls use(part, element, norm) for parts of the weight, and where they begin.
template <typename Use>
static void parts(Extent e, double nanoseconds, const Use& use) {
  if (e.size() == 0) return;
  npy_intp Extent::*const split = e.outer > 1 ? &Extent::outer
                                : e.rows > 1 ? &Extent::rows
                                : &Extent::filters;
  const npy_intp n = e.*split;
  // rows share their norms
  const npy_intp norms = split == &Extent::rows ? 0 : e.norms() / n;
  parallel(n, thread_count(nanoseconds, n),
           [&](npy_intp first, npy_intp last, int) {
    Extent part = e;
    part.*split = last - first;
    use(part, e.size() / n * first, norms * first);
  });
}

template <typename T, typename S>
static void multiply(const T* __restrict__ V, const S* __restrict__ scale,
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

template <typename S, typename T>
static void scaled_by(const T* V, const std::vector<double>& all_scale,
                      npy_intp repeats, Extent e, T* out) {
  const std::vector<S> scale = repeated<S>(all_scale, repeats);
  parts(e, 2 * e.size() * sizeof(T) * NS_PER_BYTE,
        [&](Extent part, npy_intp at, npy_intp norm) {
    multiply(V + at, scale.data() + norm, part, out + at);
  });
}

// out = V scale, one scale for each norm
template <typename T>
WNORM_KERNEL void scaled(const T* V, const std::vector<double>& scale, Extent e,
                         T* out) {
  const npy_intp n = e.repeats();
  const Extent joined = {e.outer, e.rows, e.filters * n, e.inner / n};
  if (holds<T>(scale))
    scaled_by<T>(V, scale, n, joined, out);
  else
    scaled_by<double>(V, scale, n, joined, out);
}

// V times inverse first: neither over- nor underflows.
template <typename T, typename S>
static void project(const T* __restrict__ V, const T* __restrict__ dW,
                    const S* __restrict__ scale, const S* __restrict__ inverse,
                    const S* __restrict__ along, Extent e,
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

template <typename S, typename T>
static void projected(const T* V, const T* dW,
                      const std::vector<double>& all_scale,
                      const std::vector<double>& all_inverse,
                      const std::vector<double>& all_along, npy_intp repeats,
                      Extent e, T* dV) {
  const std::vector<S> scale = repeated<S>(all_scale, repeats);
  const std::vector<S> inverse = repeated<S>(all_inverse, repeats);
  const std::vector<S> along = repeated<S>(all_along, repeats);
  parts(e, 3 * e.size() * sizeof(T) * NS_PER_BYTE,
        [&](Extent part, npy_intp at, npy_intp norm) {
    project(V + at, dW + at, scale.data() + norm, inverse.data() + norm,
            along.data() + norm, part, dV + at);
  });
}

// dV = scale (dW - V inverse along), with along the gradient of the gain
template <typename T>
WNORM_KERNEL void gradient(const T* V, const T* dW,
                           const std::vector<double>& scale,
                           const std::vector<double>& inverse,
                           std::vector<double> along, Extent e, T* dV) {
  for (npy_intp n = 0; n < e.norms(); ++n) along[n] *= scale[n];
  const npy_intp n = e.repeats();
  const Extent joined = {e.outer, e.rows, e.filters * n, e.inner / n};
  if (holds<T>(scale) && holds<T>(inverse) && holds<T>(along))
    projected<T>(V, dW, scale, inverse, along, n, joined, dV);
  else
    projected<double>(V, dW, scale, inverse, along, n, joined, dV);
}

// --- arrays ------------------------------------------------------------------

// A reference that is given back at the end of the scope.
struct Owned {
  explicit Owned(PyArrayObject* array) : array(array) {}
  ~Owned() { Py_XDECREF(array); }
  PyArrayObject* const array;

 private:
  Owned(const Owned&);
};

// In C order and of this type, whatever else it may be: a new reference, NULL
// on error.
static PyArrayObject* c_order(PyArrayObject* array, int type) {
  return (PyArrayObject*)PyArray_FROM_OTF((PyObject*)array, type,
                                          NPY_ARRAY_IN_ARRAY);
}

// As a type of less precision, in place of what is given. NULL on error.
static PyArrayObject* rounded(PyArrayObject* array, int type) {
  const Owned wide(array);
  return (PyArrayObject*)PyArray_FROM_OTF(
      (PyObject*)array, type, NPY_ARRAY_CARRAY | NPY_ARRAY_FORCECAST);
}

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
    npy_intp norms = 1, offset = 0;
    for (size_t i = 0; i < sizes.size(); ++i) norms *= sizes[i];
    std::vector<npy_intp> index(sizes.size(), 0);
    for (npy_intp norm = 0; norm < norms; ++norm) {
      visit(norm, offset);
      for (size_t i = sizes.size(); i-- > 0;) {
        offset += steps[i];
        if (++index[i] < sizes[i]) break;
        offset -= steps[i] * sizes[i];
        index[i] = 0;
      }
    }
  }

 private:
  std::vector<npy_intp> sizes, steps;
};

// The inverse norms times the gain, for each norm.
template <typename T>
WNORM_KERNEL std::vector<double> scales(const std::vector<double>& inverse,
                                        PyArrayObject* g, PyArrayObject* V,
                                        const int* kept, int nkept) {
  std::vector<double> scale(inverse);
  Gain(g, V, kept, nkept).each([&](npy_intp norm, npy_intp offset) {
    scale[norm] *= *(const T*)(PyArray_BYTES(g) + offset);
  });
  return scale;
}

// The gradient of a gain, given that for each norm: where the gain is
// broadcast, a sum.
template <typename T>
WNORM_KERNEL void add_up(const std::vector<double>& along, PyArrayObject* V,
                         const int* kept, int nkept, PyArrayObject* dg) {
  std::vector<double> sum(PyArray_SIZE(dg), 0.);
  Gain(dg, V, kept, nkept).each([&](npy_intp norm, npy_intp offset) {
    sum[offset / sizeof(T)] += along[norm];
  });
  std::copy(sum.begin(), sum.end(), (T*)PyArray_DATA(dg));
}

// Whether the gain has the weight's size along these axes; else an error is
// set.
static bool fits(PyArrayObject* gain, PyArrayObject* V, const int* axes,
                 int naxes) {
  for (int i = 0; i < naxes; ++i) {
    Py_ssize_t entries = PyArray_DIM(gain, axes[i]);
    Py_ssize_t norms = PyArray_DIM(V, axes[i]);
    if (entries == norms) continue;
    PyErr_Format(PyExc_ValueError,
                 "weight normalization: the weight has %zd norms along axis "
                 "%d, the gain %zd entries: it must have one for each, or be "
                 "broadcastable there", norms, axes[i], entries);
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
