// The functions of a BLAS that Theano calls, with 32-bit integers, in terms of
// the OpenBLAS in NumPy's wheels: its integers have 64 bits, and its names end
// in 64_.
#include <cstdint>

namespace {

typedef std::int64_t wide;

// An integer argument, made wide while the call lasts.
struct Wide {
  wide value;
  Wide(const int* narrow) : value(*narrow) {}
  operator const wide*() const { return &value; }
};

}  // namespace

#define BLAS(s, T)                                                            \
  void s##gemm_64_(const char*, const char*, const wide*, const wide*,        \
                   const wide*, const T*, const T*, const wide*, const T*,    \
                   const wide*, const T*, T*, const wide*);                   \
  void s##gemv_64_(const char*, const wide*, const wide*, const T*, const T*, \
                   const wide*, const T*, const wide*, const T*, T*,          \
                   const wide*);                                              \
  void s##ger_64_(const wide*, const wide*, const T*, const T*, const wide*,  \
                  const T*, const wide*, T*, const wide*);                    \
  T s##dot_64_(const wide*, const T*, const wide*, const T*, const wide*);    \
  void s##axpy_64_(const wide*, const T*, const T*, const wide*, T*,          \
                   const wide*);                                              \
                                                                              \
  void s##gemm_(const char* ta, const char* tb, const int* m, const int* n,   \
                const int* k, const T* alpha, const T* a, const int* lda,     \
                const T* b, const int* ldb, const T* beta, T* c,              \
                const int* ldc) {                                             \
    s##gemm_64_(ta, tb, Wide(m), Wide(n), Wide(k), alpha, a, Wide(lda), b,    \
                Wide(ldb), beta, c, Wide(ldc));                               \
  }                                                                           \
  void s##gemv_(const char* t, const int* m, const int* n, const T* alpha,    \
                const T* a, const int* lda, const T* x, const int* incx,      \
                const T* beta, T* y, const int* incy) {                       \
    s##gemv_64_(t, Wide(m), Wide(n), alpha, a, Wide(lda), x, Wide(incx),      \
                beta, y, Wide(incy));                                         \
  }                                                                           \
  void s##ger_(const int* m, const int* n, const T* alpha, const T* x,        \
               const int* incx, const T* y, const int* incy, T* a,            \
               const int* lda) {                                              \
    s##ger_64_(Wide(m), Wide(n), alpha, x, Wide(incx), y, Wide(incy), a,      \
               Wide(lda));                                                    \
  }                                                                           \
  T s##dot_(const int* n, const T* x, const int* incx, const T* y,            \
            const int* incy) {                                                \
    return s##dot_64_(Wide(n), x, Wide(incx), y, Wide(incy));                 \
  }                                                                           \
  void s##axpy_(const int* n, const T* alpha, const T* x, const int* incx,    \
                T* y, const int* incy) {                                      \
    s##axpy_64_(Wide(n), alpha, x, Wide(incx), y, Wide(incy));                \
  }

extern "C" {

BLAS(s, float)
BLAS(d, double)

// Theano's convolution, where it runs on several threads of its own (openmp),
// has each of them call a BLAS of one thread.
void openblas_set_num_threads64_(int);
int openblas_get_num_threads64_();
void openblas_set_num_threads(int n) { openblas_set_num_threads64_(n); }
int openblas_get_num_threads() { return openblas_get_num_threads64_(); }

// Its threads, for other work: they wait in a loop, and threads of one's own
// would share their processors with them. Calls work(args), work(args +
// stride) ... n times, at most as often as there are threads.
int gotoblas_pthread(int, void*, void*, int);
void openblas_parallel(int n, void (*work)(void*), void* args, int stride) {
  gotoblas_pthread(n, (void*)work, args, stride);
}

}  // extern "C"
