// A BLAS with 32-bit integers, in terms of one with 64-bit integers.
//
// NumPy's wheels bring an OpenBLAS whose integers have 64 bits and whose names
// end in 64_, such as sgemm_64_. What Theano calls is defined here.
#include <cstdint>

typedef std::int64_t wide;

#define BLAS(s, T)                                                            \
  extern "C" {                                                                \
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
  void s##scal_64_(const wide*, const T*, T*, const wide*);                   \
  void s##copy_64_(const wide*, const T*, const wide*, T*, const wide*);      \
                                                                              \
  void s##gemm_(const char* ta, const char* tb, const int* m, const int* n,   \
                const int* k, const T* alpha, const T* a, const int* lda,     \
                const T* b, const int* ldb, const T* beta, T* c,              \
                const int* ldc) {                                             \
    wide M = *m, N = *n, K = *k, A = *lda, B = *ldb, C = *ldc;                \
    s##gemm_64_(ta, tb, &M, &N, &K, alpha, a, &A, b, &B, beta, c, &C);        \
  }                                                                           \
  void s##gemv_(const char* t, const int* m, const int* n, const T* alpha,    \
                const T* a, const int* lda, const T* x, const int* incx,      \
                const T* beta, T* y, const int* incy) {                       \
    wide M = *m, N = *n, A = *lda, X = *incx, Y = *incy;                      \
    s##gemv_64_(t, &M, &N, alpha, a, &A, x, &X, beta, y, &Y);                 \
  }                                                                           \
  void s##ger_(const int* m, const int* n, const T* alpha, const T* x,        \
               const int* incx, const T* y, const int* incy, T* a,            \
               const int* lda) {                                              \
    wide M = *m, N = *n, X = *incx, Y = *incy, A = *lda;                      \
    s##ger_64_(&M, &N, alpha, x, &X, y, &Y, a, &A);                           \
  }                                                                           \
  T s##dot_(const int* n, const T* x, const int* incx, const T* y,            \
            const int* incy) {                                                \
    wide N = *n, X = *incx, Y = *incy;                                        \
    return s##dot_64_(&N, x, &X, y, &Y);                                      \
  }                                                                           \
  void s##axpy_(const int* n, const T* alpha, const T* x, const int* incx,    \
                T* y, const int* incy) {                                      \
    wide N = *n, X = *incx, Y = *incy;                                        \
    s##axpy_64_(&N, alpha, x, &X, y, &Y);                                     \
  }                                                                           \
  void s##scal_(const int* n, const T* alpha, T* x, const int* incx) {        \
    wide N = *n, X = *incx;                                                   \
    s##scal_64_(&N, alpha, x, &X);                                            \
  }                                                                           \
  void s##copy_(const int* n, const T* x, const int* incx, T* y,              \
                const int* incy) {                                            \
    wide N = *n, X = *incx, Y = *incy;                                        \
    s##copy_64_(&N, x, &X, y, &Y);                                            \
  }                                                                           \
  }

BLAS(s, float)
BLAS(d, double)
