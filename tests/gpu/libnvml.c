/* NVIDIA's management library for a GPU that only exists in the environment variables FAKE_GPU_*.
 * vLLM and PyTorch ask it how many devices there are and what they are. */
#include <stdio.h>
#include <stdlib.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2 };

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2;

static const char *variable(const char *name) {
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "%s is not set\n", name);
        abort();
    }
    return value;
}

static unsigned long long number(const char *name) { return strtoull(variable(name), NULL, 10); }

int nvmlInit(void) { return SUCCESS; }
int nvmlInit_v2(void) { return SUCCESS; }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int result) { return result == SUCCESS ? "Success" : "Invalid argument"; }

int nvmlSystemGetDriverVersion(char *text, unsigned int length) {
    snprintf(text, length, "%s", "580.95.05");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = (unsigned int)number("FAKE_GPU_COUNT");
    return SUCCESS;
}

/* A handle is the device's index and one, since no handle is NULL. */
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index >= number("FAKE_GPU_COUNT"))
        return INVALID_ARGUMENT;
    *device = (void *)(size_t)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetIndex(void *device, unsigned int *index) {
    *index = (unsigned int)(size_t)device - 1;
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *text, unsigned int length) {
    (void)device;
    snprintf(text, length, "%s", variable("FAKE_GPU_NAME"));
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned int length) {
    snprintf(text, length, "GPU-00000000-0000-0000-0000-%012zu", (size_t)device);
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    (void)device;
    return sscanf(variable("FAKE_GPU_CAPABILITY"), "%d.%d", major, minor) == 2 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *found) {
    (void)device;
    found->total = found->free = number("FAKE_GPU_MEMORY");
    found->used = 0;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *found) {
    (void)device;
    found->total = found->free = number("FAKE_GPU_MEMORY");
    found->used = found->reserved = 0;
    return SUCCESS;
}

/* All devices of a node reach each other. */
int nvmlDeviceGetP2PStatus(void *one, void *other, int index, int *status) {
    (void)one, (void)other, (void)index;
    *status = 0;
    return SUCCESS;
}
