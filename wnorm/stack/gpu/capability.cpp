// A libcuda.so for cards that libgpuarray does not know.
//
// libgpuarray names the architecture for which it has kernels compiled by two
// digits: it would cut compute_100 to compute_10, which no compiler knows.
// This library stands before the driver's, whose functions are found through
// it, and says 9.0 of every later card. What is compiled for 9.0 is PTX, which
// the driver translates for the card that it really is.
//
// Linked with the driver's libcuda.so.1, see settings.py.
#include <dlfcn.h>

extern "C" int cuDeviceGetAttribute(int *value, int attribute, int device) {
  enum { MAJOR = 75, MINOR = 76 };  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_
  typedef int (*function)(int *, int, int);
  static const function ask = (function)dlsym(
      dlopen("libcuda.so.1", RTLD_LAZY), "cuDeviceGetAttribute");
  int major, status = ask(value, attribute, device);
  if (status || (attribute != MAJOR && attribute != MINOR)) return status;
  status = ask(&major, MAJOR, device);
  if (!status && major > 9) *value = attribute == MAJOR ? 9 : 0;
  return status;
}
