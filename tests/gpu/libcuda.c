/* A driver that says what its GPUs are, by the environment variables FAKE_GPU_*, and can do nothing with them: all
 * other functions that vLLM's compiled libraries are linked to report that there is no device (CUDA_ERROR_NO_DEVICE).
 * A library that fails to load with "undefined symbol: cuX" needs cuX in this list. */
#include <stdio.h>
#include <stdlib.h>

enum { SUCCESS = 0, INVALID_VALUE = 1 };

/* Attributes of a device, by the numbers of the driver's interface. */
enum {
    WARP_SIZE = 10,
    REGISTERS_PER_BLOCK = 12,
    CLOCK_RATE = 13,
    PROCESSORS = 16,
    MEMORY_CLOCK_RATE = 36,
    MEMORY_BUS_WIDTH = 37,
    MAJOR = 75,
    MINOR = 76,
    SHARED_MEMORY = 97
};

static const char *variable(const char *name) {
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "%s is not set\n", name);
        abort();
    }
    return value;
}

int cuInit(unsigned int flags) { (void)flags; return SUCCESS; }

int cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}

int cuDeviceGetCount(int *count) {
    *count = atoi(variable("FAKE_GPU_COUNT"));
    return SUCCESS;
}

int cuDeviceGet(int *device, int index) {
    *device = index;
    return index < atoi(variable("FAKE_GPU_COUNT")) ? SUCCESS : INVALID_VALUE;
}

int cuDeviceGetName(char *text, int length, int device) {
    (void)device;
    snprintf(text, (size_t)length, "%s", variable("FAKE_GPU_NAME"));
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int major, minor;
    (void)device;
    if (sscanf(variable("FAKE_GPU_CAPABILITY"), "%d.%d", &major, &minor) != 2)
        return INVALID_VALUE;
    switch (attribute) {
    case MAJOR: *value = major; return SUCCESS;
    case MINOR: *value = minor; return SUCCESS;
    case PROCESSORS: *value = atoi(variable("FAKE_GPU_PROCESSORS")); return SUCCESS;
    case SHARED_MEMORY: *value = atoi(variable("FAKE_GPU_SHARED_MEMORY")); return SUCCESS;
    case WARP_SIZE: *value = 32; return SUCCESS;
    case REGISTERS_PER_BLOCK: *value = 65536; return SUCCESS;
    case CLOCK_RATE: case MEMORY_CLOCK_RATE: *value = 1500000; return SUCCESS;
    case MEMORY_BUS_WIDTH: *value = 5120; return SUCCESS;
    default: return INVALID_VALUE;
    }
}

static int text(const char **text) {
    *text = "no device, since this driver is a stand-in";
    return SUCCESS;
}

int cuGetErrorName(int error, const char **name) { (void)error; return text(name); }
int cuGetErrorString(int error, const char **message) { (void)error; return text(message); }

#define ABSENT(name) int name(void) { return 100; }

ABSENT(cuCtxGetCurrent)
ABSENT(cuCtxGetDevice)
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxSetCurrent)
ABSENT(cuCtxSetLimit)
ABSENT(cuDevicePrimaryCtxGetState)
ABSENT(cuDevicePrimaryCtxRetain)
ABSENT(cuFuncGetAttribute)
ABSENT(cuFuncSetAttribute)
ABSENT(cuFuncSetCacheConfig)
ABSENT(cuGetProcAddress_v2)
ABSENT(cuGetExportTable)
ABSENT(cuLaunchCooperativeKernel)
ABSENT(cuLaunchKernel)
ABSENT(cuLaunchKernelEx)
ABSENT(cuLinkAddData_v2)
ABSENT(cuLinkComplete)
ABSENT(cuLinkCreate_v2)
ABSENT(cuMemAddressFree)
ABSENT(cuMemAddressReserve)
ABSENT(cuMemCreate)
ABSENT(cuMemGetAllocationGranularity)
ABSENT(cuMemMap)
ABSENT(cuMemRelease)
ABSENT(cuMemSetAccess)
ABSENT(cuMemUnmap)
ABSENT(cuModuleGetFunction)
ABSENT(cuModuleLoad)
ABSENT(cuModuleLoadData)
ABSENT(cuModuleLoadDataEx)
ABSENT(cuModuleUnload)
ABSENT(cuOccupancyMaxActiveBlocksPerMultiprocessor)
ABSENT(cuOccupancyMaxActiveClusters)
ABSENT(cuPointerGetAttribute)
ABSENT(cuStreamSetAttribute)
ABSENT(cuTensorMapEncodeIm2col)
ABSENT(cuTensorMapEncodeTiled)
