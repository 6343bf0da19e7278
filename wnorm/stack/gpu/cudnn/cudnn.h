/* cuDNN's header, with the calls that Theano 1.0.5 makes and cuDNN 8 and 9
 * no longer have. It stands before the real one on the search path.
 *
 * cuDNN 5 to 7 are what Theano was written for: nothing is replaced.
 */
#ifndef WNORM_CUDNN_H
#define WNORM_CUDNN_H

#include_next <cudnn.h>

#if CUDNN_MAJOR >= 8

/* --- No TF32 -------------------------------------------------------------
 *
 * Up to cuDNN 7, CUDNN_DEFAULT_MATH computes float32 in float32. Since cuDNN 8
 * it lets cards from Ampere on round the factors to TF32's 10 bits;
 * CUDNN_FMA_MATH does not. (cudnnMathType_t)
 *
 * A convolution starts with CUDNN_DEFAULT_MATH, and Theano searches for the
 * fastest algorithm before it sets anything: so it is set at once.
 * (cudnnSetConvolutionNdDescriptor, cudnnSetConvolutionMathType)
 */
#define CUDNN_DEFAULT_MATH CUDNN_FMA_MATH

static inline cudnnStatus_t wnormSetConvolutionNdDescriptor(
    cudnnConvolutionDescriptor_t convolution, int dimensions, const int *pad,
    const int *stride, const int *dilation, cudnnConvolutionMode_t mode,
    cudnnDataType_t type) {
  cudnnStatus_t status = cudnnSetConvolutionNdDescriptor(
      convolution, dimensions, pad, stride, dilation, mode, type);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  return cudnnSetConvolutionMathType(convolution, CUDNN_FMA_MATH);
}
#define cudnnSetConvolutionNdDescriptor wnormSetConvolutionNdDescriptor

/* --- One number for "not supported" ---------------------------------------
 *
 * cuDNN 9 has reasons for it, 3001 to 3999, beside CUDNN_STATUS_NOT_SUPPORTED,
 * 3000. Theano compares with that one number, and then takes an algorithm that
 * always works. In cuDNN 8 it is 9, and there is nothing to fold.
 * (cudnnStatus_t; cudnnGetConvolution...WorkspaceSize)
 */
static inline cudnnStatus_t wnormFold(cudnnStatus_t status) {
  return 3000 <= (int)status && (int)status < 4000
      ? CUDNN_STATUS_NOT_SUPPORTED : status;
}
#define cudnnGetConvolutionForwardWorkspaceSize(...) \
  wnormFold(cudnnGetConvolutionForwardWorkspaceSize(__VA_ARGS__))
#define cudnnGetConvolutionBackwardFilterWorkspaceSize(...) \
  wnormFold(cudnnGetConvolutionBackwardFilterWorkspaceSize(__VA_ARGS__))
#define cudnnGetConvolutionBackwardDataWorkspaceSize(...) \
  wnormFold(cudnnGetConvolutionBackwardDataWorkspaceSize(__VA_ARGS__))

/* --- Choosing an algorithm -------------------------------------------------
 *
 * Theano asks for the one that is expected to be the fastest within a
 * workspace limit. (cudnnGetConvolutionForwardAlgorithm of cuDNN 7, with
 * cudnnConvolutionFwdPreference_t, and the same for BackwardFilter and
 * BackwardData.) What is left are the calls ..._v7, which rank all of them:
 * the first that works, within the limit, is the same. Of the preferences
 * Theano uses one.
 */
enum {
  CUDNN_CONVOLUTION_FWD_SPECIFY_WORKSPACE_LIMIT = 2,
  CUDNN_CONVOLUTION_BWD_FILTER_SPECIFY_WORKSPACE_LIMIT = 2,
  CUDNN_CONVOLUTION_BWD_DATA_SPECIFY_WORKSPACE_LIMIT = 2
};

/* `ranking` is the call that ranks; a, b and c the descriptors of what goes
 * in and out; `Ranked` the type of its answers. */
template <typename Ranked, typename Ranking, typename A, typename B,
          typename C, typename Algorithm>
static inline cudnnStatus_t wnormChoose(
    Ranking ranking, cudnnHandle_t handle, A a, B b,
    cudnnConvolutionDescriptor_t convolution, C c, size_t limit,
    Algorithm *algorithm) {
  Ranked ranked[16]; /* more than there are algorithms */
  int count = 0;
  cudnnStatus_t status = ranking(handle, a, b, convolution, c, 16, &count,
                                 ranked);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  for (int i = 0; i < count; i++)
    if (ranked[i].status == CUDNN_STATUS_SUCCESS && ranked[i].memory <= limit) {
      *algorithm = ranked[i].algo;
      return CUDNN_STATUS_SUCCESS;
    }
  return CUDNN_STATUS_NOT_SUPPORTED;
}
#define cudnnGetConvolutionForwardAlgorithm(handle, x, w, convolution, y, \
                                            preference, limit, algorithm) \
  wnormChoose<cudnnConvolutionFwdAlgoPerf_t>(                             \
      cudnnGetConvolutionForwardAlgorithm_v7, handle, x, w, convolution, y, \
      limit, algorithm)
#define cudnnGetConvolutionBackwardFilterAlgorithm(                       \
    handle, x, dy, convolution, dw, preference, limit, algorithm)         \
  wnormChoose<cudnnConvolutionBwdFilterAlgoPerf_t>(                       \
      cudnnGetConvolutionBackwardFilterAlgorithm_v7, handle, x, dy,       \
      convolution, dw, limit, algorithm)
#define cudnnGetConvolutionBackwardDataAlgorithm(                         \
    handle, w, dy, convolution, dx, preference, limit, algorithm)         \
  wnormChoose<cudnnConvolutionBwdDataAlgoPerf_t>(                         \
      cudnnGetConvolutionBackwardDataAlgorithm_v7, handle, w, dy,         \
      convolution, dx, limit, algorithm)

/* --- Recurrent networks ----------------------------------------------------
 *
 * cuDNN 8 has cudnnSetRNNDescriptor, as it was in cuDNN 7, under the name
 * cudnnSetRNNDescriptor_v6. cuDNN 9 has other calls altogether
 * (cudnnRNNForward, cudnnSetRNNDescriptor_v8 ...): Theano's own, when they are
 * used, end in its error for an operation that cuDNN does not support.
 */
#if CUDNN_MAJOR == 8
#define cudnnSetRNNDescriptor cudnnSetRNNDescriptor_v6
#else
template <typename... Anything>
static inline cudnnStatus_t wnormNotSupported(Anything...) {
  return CUDNN_STATUS_NOT_SUPPORTED;
}
#define CUDNN_RNN_ALGO_STANDARD 0
#define cudnnSetRNNDescriptor wnormNotSupported
#define cudnnGetRNNParamsSize wnormNotSupported
#define cudnnGetRNNWorkspaceSize wnormNotSupported
#define cudnnGetRNNTrainingReserveSize wnormNotSupported
#define cudnnGetRNNLinLayerMatrixParams wnormNotSupported
#define cudnnGetRNNLinLayerBiasParams wnormNotSupported
#define cudnnRNNForwardTraining wnormNotSupported
#define cudnnRNNBackwardData wnormNotSupported
#define cudnnRNNBackwardWeights wnormNotSupported
#endif

#endif /* CUDNN_MAJOR >= 8 */
#endif
