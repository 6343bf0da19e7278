// Products of matrices and what follows from them, for ProductEpilogue. After
// kernels.hpp.
#ifndef WNORM_EPILOGUE_HPP
#define WNORM_EPILOGUE_HPP

namespace wnorm {

// --- arrays ------------------------------------------------------------------

// Makes *out the array itself, or a copy if it is not in C order.
static void overwrite(PyArrayObject** out, PyArrayObject* array) {
  Py_XDECREF(*out);
  if (PyArray_ISCARRAY(array)) {
    *out = array;
    Py_INCREF(array);
  } else {
    *out = (PyArrayObject*)PyArray_NewCopy(array, NPY_CORDER);
  }
}

// Holds a reference to an array, in C order or as it is.
class Held {
 public:
  Held() : array(NULL) {}
  ~Held() { Py_XDECREF(array); }
  // False on error.
  bool take(PyArrayObject* from, bool in_c_order) {
    if (in_c_order || !PyArray_ISBEHAVED_RO(from) ||
        PyArray_STRIDE(from, 0) % PyArray_ITEMSIZE(from) ||
        PyArray_STRIDE(from, 1) % PyArray_ITEMSIZE(from)) {
      array = PyArray_GETCONTIGUOUS(from);
    } else {
      array = from;
      Py_INCREF(array);
    }
    return array != NULL;
  }
  template <typename T>
  const T* data() const { return (const T*)PyArray_DATA(array); }
  npy_intp dim(int axis) const { return PyArray_DIM(array, axis); }
  // From one row or column to the next, in elements.
  npy_intp step(int axis) const {
    return PyArray_STRIDE(array, axis) / PyArray_ITEMSIZE(array);
  }

 private:
  Held(const Held&);
  Held& operator=(const Held&);
  PyArrayObject* array;
};

// --- a product and what follows, a few rows at a time -------------------------

// A group of rows of a product is summed up in registers, written to a strip
// in the nearest cache, and used there.
#if defined(__AVX512F__)
const int VECTOR_BYTES = 64, GROUP_ROWS = 8;
#elif defined(__AVX__)
const int VECTOR_BYTES = 32, GROUP_ROWS = 6;
#else
const int VECTOR_BYTES = 16, GROUP_ROWS = 6;
#endif
const int VECTORS = 2;               // side by side
const npy_intp STRIP_BYTES = 2048;   // of a row of the strip

template <typename T>
struct Panel {  // that many columns are summed up at a time
  static const npy_intp width = VECTORS * VECTOR_BYTES / sizeof(T);
  static const npy_intp strip = STRIP_BYTES / sizeof(T);
};

// A matrix B in panels of columns, each row by row, filled up with zeros.
template <typename T>
static void pack(const Held& b, std::vector<T>& packed) {
  const npy_intp width = Panel<T>::width, k = b.dim(0), n = b.dim(1);
  packed.assign((n + width - 1) / width * width * k, T(0));
  T* out = packed.data();
  for (npy_intp first = 0; first < n; first += width)
    for (npy_intp q = 0; q < k; ++q, out += width) {
      const T* row = b.data<T>() + q * b.step(0) + first * b.step(1);
      for (npy_intp j = 0; j < std::min(width, n - first); ++j)
        out[j] = row[j * b.step(1)];
    }
}

// out = A B for a group of rows of A, packed, and a panel of B.
template <typename T>
__attribute__((noinline)) static void multiply_panel(
    npy_intp k, const T* __restrict__ a, const T* __restrict__ b,
    T* __restrict__ out, npy_intp step) {
  typedef T vector __attribute__((vector_size(VECTOR_BYTES)));
  const int lanes = VECTOR_BYTES / sizeof(T);
  vector sum[GROUP_ROWS][VECTORS];
  for (int r = 0; r < GROUP_ROWS; ++r)
    for (int c = 0; c < VECTORS; ++c) sum[r][c] = vector{};
  for (npy_intp q = 0; q < k; ++q, b += VECTORS * lanes) {
    vector column[VECTORS];
    for (int c = 0; c < VECTORS; ++c)
      std::memcpy(&column[c], b + c * lanes, VECTOR_BYTES);
    for (int r = 0; r < GROUP_ROWS; ++r)
      for (int c = 0; c < VECTORS; ++c)
        sum[r][c] += a[q * GROUP_ROWS + r] * column[c];
  }
  for (int r = 0; r < GROUP_ROWS; ++r)
    for (int c = 0; c < VECTORS; ++c)
      std::memcpy(out + r * step + c * lanes, &sum[r][c], VECTOR_BYTES);
}

// For each group of rows of the product A B, or of several, calls
// use(strips, row, rows, column, columns): strips[i] + r * Panel<T>::strip is
// the part of row r of product i from `column` on.
template <typename T, int products, typename Use>
static void multiply(const Held* a, const Held* b, const Use& use) {
  const npy_intp rows = a[0].dim(0), columns = b[0].dim(1);
  const npy_intp strip = Panel<T>::strip, width = Panel<T>::width;
  std::vector<T> packed[products];
  double macs = 0;
  npy_intp k = 0;
  for (int i = 0; i < products; ++i) {
    pack<T>(b[i], packed[i]);
    macs += (double)rows * columns * a[i].dim(1);
    k = std::max(k, a[i].dim(1));
  }
  const npy_intp groups = (rows + GROUP_ROWS - 1) / GROUP_ROWS;
  const int count = thread_count(macs * NS_PER_PRODUCT, groups);
  const npy_intp room = GROUP_ROWS * (k + strip);
  std::vector<T> rooms(count * products * room);
  parallel(groups, count, [&](npy_intp first, npy_intp last, int thread) {
    T *left[products], *strips[products];
    for (int i = 0; i < products; ++i) {
      left[i] = rooms.data() + (thread * products + i) * room;
      strips[i] = left[i] + GROUP_ROWS * k;
    }
    for (npy_intp row = first * GROUP_ROWS;
         row < std::min(last * GROUP_ROWS, rows); row += GROUP_ROWS) {
      const npy_intp n = std::min((npy_intp)GROUP_ROWS, rows - row);
      for (int i = 0; i < products; ++i)
        for (npy_intp q = 0; q < a[i].dim(1); ++q)
          for (npy_intp r = 0; r < n; ++r)
            left[i][q * GROUP_ROWS + r] =
                a[i].template data<T>()[(row + r) * a[i].step(0) +
                                        q * a[i].step(1)];
      for (npy_intp column = 0; column < columns; column += strip) {
        const npy_intp m = std::min(strip, columns - column);
        for (int i = 0; i < products; ++i)
          for (npy_intp j = 0; j < m; j += width)
            multiply_panel<T>(a[i].dim(1), left[i],
                              packed[i].data() + (column + j) * a[i].dim(1),
                              strips[i] + j, strip);
        use(strips, row, n, column, m);
      }
    }
  });
}

}  // namespace wnorm
#endif
