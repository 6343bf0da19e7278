// A stand-in for NVIDIA's driver and for cuBLAS, on a machine without a GPU.
//
// Memory is the host's, a launch does nothing: values mean nothing. But what
// libgpuarray has compiled by the real NVRTC arrives here, and is written to
// the folder WNORM_PTX. WNORM_CAPABILITY, such as 90, is what it says it is.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN(name) int name() { return 0; }

static char something;  // what handles point to
static int number(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}

extern "C" {
// --- what it is
PLAIN(cuInit)
int cuDriverGetVersion(int *value) { *value = 12090; return 0; }
int cuDeviceGetCount(int *value) { *value = 1; return 0; }
int cuDeviceGet(int *device, int) { *device = 0; return 0; }
int cuDeviceGetName(char *name, int size, int) {
  strncpy(name, "no GPU", size);
  return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int) {
  *bytes = (size_t)1 << 30;
  return 0;
}
int cuDeviceGetPCIBusId(char *id, int size, int) {
  strncpy(id, "0000:00:00.0", size);
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
  int capability = number("WNORM_CAPABILITY", 90);
  switch (attribute) {
    case 75: *value = capability / 10; break;
    case 76: *value = capability % 10; break;
    case 10: *value = 32; break;  // threads in a warp
    case 1: *value = 1024; break;  // threads in a block
    case 41: *value = 1; break;  // unified addressing
    default: *value = 65535;
  }
  return 0;
}
int cuGetErrorName(int, const char **text) { *text = "ERROR"; return 0; }
int cuGetErrorString(int, const char **text) { *text = "error"; return 0; }

// --- contexts, streams, events
int cuDevicePrimaryCtxGetState(int, unsigned *flags, int *active) {
  *flags = *active = 0;
  return 0;
}
PLAIN(cuDevicePrimaryCtxSetFlags)
PLAIN(cuDevicePrimaryCtxSetFlags_v2)
PLAIN(cuDevicePrimaryCtxRelease)
PLAIN(cuDevicePrimaryCtxRelease_v2)
int cuDevicePrimaryCtxRetain(void **context, int) {
  *context = &something;
  return 0;
}
int cuCtxGetDevice(int *device) { *device = 0; return 0; }
PLAIN(cuCtxPushCurrent_v2)
PLAIN(cuCtxPopCurrent_v2)
int cuStreamCreate(void **stream, unsigned) { *stream = &something; return 0; }
PLAIN(cuStreamWaitEvent)
PLAIN(cuStreamSynchronize)
PLAIN(cuStreamDestroy_v2)
int cuEventCreate(void **event, unsigned) { *event = &something; return 0; }
PLAIN(cuEventRecord)
PLAIN(cuEventSynchronize)
PLAIN(cuEventDestroy_v2)

// --- kernels
int cuLinkCreate_v2(unsigned, void *, void **, void **state) {
  *state = &something;
  return 0;
}
int cuLinkCreate(unsigned, void *, void **, void **state) {
  *state = &something;
  return 0;
}
static int keep(const void *data, size_t size) {
  static int count;
  char path[4096];
  const char *folder = getenv("WNORM_PTX");
  if (!folder) return 0;
  snprintf(path, sizeof(path), "%s/%d.ptx", folder, count++);
  FILE *file = fopen(path, "w");
  fwrite(data, 1, strnlen((const char *)data, size), file);
  return fclose(file);
}
int cuLinkAddData(void *, int, void *data, size_t size, const char *, unsigned,
                  void *, void **) { return keep(data, size); }
int cuLinkAddData_v2(void *, int, void *data, size_t size, const char *,
                     unsigned, void *, void **) { return keep(data, size); }
int cuLinkComplete(void *, void **cubin, size_t *size) {
  *cubin = &something;
  *size = 1;
  return 0;
}
PLAIN(cuLinkDestroy)
int cuModuleLoadData(void **module, const void *) {
  *module = &something;
  return 0;
}
int cuModuleLoadDataEx(void **module, const void *, unsigned, void *,
                       void **) {
  *module = &something;
  return 0;
}
PLAIN(cuModuleUnload)
int cuModuleGetFunction(void **function, void *, const char *) {
  *function = &something;
  return 0;
}
int cuFuncGetAttribute(int *value, int, void *) { *value = 256; return 0; }
PLAIN(cuLaunchKernel)

// --- memory
int cuMemGetInfo_v2(size_t *free, size_t *total) {
  *free = *total = (size_t)1 << 30;
  return 0;
}
int cuMemAlloc_v2(void **data, size_t size) {
  *data = calloc(1, size);
  return *data ? 0 : 2;
}
int cuMemFree_v2(void *data) { free(data); return 0; }
int cuMemAllocHost_v2(void **data, size_t size) {
  return cuMemAlloc_v2(data, size);
}
int cuMemFreeHost(void *data) { free(data); return 0; }
static int copy(void *to, const void *from, size_t size) {
  memcpy(to, from, size);
  return 0;
}
int cuMemcpyHtoD_v2(void *to, const void *from, size_t size) {
  return copy(to, from, size);
}
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *) {
  return copy(to, from, size);
}
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *) {
  return copy(to, from, size);
}
int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t size, void *) {
  return copy(to, from, size);
}
PLAIN(cuMemcpyPeerAsync)
int cuMemsetD8Async(void *to, unsigned char value, size_t size, void *) {
  memset(to, value, size);
  return 0;
}
PLAIN(cuIpcGetMemHandle)
PLAIN(cuIpcOpenMemHandle)
PLAIN(cuIpcCloseMemHandle)

// --- cuBLAS
int cublasGetProperty(int part, int *value) {
  *value = part == 0 ? 12 : 9 * (part == 1);
  return 0;
}
int cublasCreate_v2(void **handle) { *handle = &something; return 0; }
PLAIN(cublasDestroy_v2)
PLAIN(cublasSetStream_v2)
PLAIN(cublasSetPointerMode_v2)
PLAIN(cublasGetPointerMode_v2)
PLAIN(cublasSetAtomicsMode)
PLAIN(cublasSdot_v2)
PLAIN(cublasDdot_v2)
PLAIN(cublasSgemm_v2)
PLAIN(cublasDgemm_v2)
PLAIN(cublasSgemv_v2)
PLAIN(cublasDgemv_v2)
PLAIN(cublasSger_v2)
PLAIN(cublasDger_v2)
PLAIN(cublasSgemmBatched)
PLAIN(cublasDgemmBatched)

// --- the little of cuDNN that asks for a GPU before anything is compiled
int cudnnCreate(void **handle) { *handle = &something; return 0; }
PLAIN(cudnnDestroy)
PLAIN(cudnnSetStream)
}
