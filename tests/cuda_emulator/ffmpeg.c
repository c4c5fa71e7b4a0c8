/* What FFmpeg asks this library for, by name: its loader wants more functions than it calls, in the versions of CUDA 3.
 *
 * `FORWARD` gives one of ours that name. `REFUSE` makes a name known; calling it is a violation. */
#include "emulator.h"

#define FORWARD(name, function, parameters, arguments)                                                                         \
    CUresult function parameters;                                                                                              \
    EXPORT CUresult name parameters;                                                                                           \
    EXPORT CUresult name parameters { return function arguments; }

#define COPY_PARAMETERS (CUdeviceptr dst, CUdeviceptr src, size_t bytes)
#define COPY_ASYNC_PARAMETERS (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUhandle stream)

FORWARD(cuMemAlloc_v2, cuMemAlloc, (uintptr_t * out, size_t bytes), (out, bytes))
FORWARD(cuMemFree_v2, cuMemFree, (CUdeviceptr ptr), (ptr))
FORWARD(cuMemcpy2DAsync_v2, cuMemcpy2DAsync, (const void *rows, CUhandle stream), (rows, stream))
FORWARD(cuMemcpyHtoD_v2, cuMemcpyHtoD, COPY_PARAMETERS, (dst, src, bytes))
FORWARD(cuMemcpyDtoH_v2, cuMemcpyDtoH, COPY_PARAMETERS, (dst, src, bytes))
FORWARD(cuMemcpyDtoD_v2, cuMemcpyDtoD, COPY_PARAMETERS, (dst, src, bytes))
FORWARD(cuMemcpyHtoDAsync_v2, cuMemcpyHtoDAsync, COPY_ASYNC_PARAMETERS, (dst, src, bytes, stream))
FORWARD(cuMemcpyDtoHAsync_v2, cuMemcpyDtoHAsync, COPY_ASYNC_PARAMETERS, (dst, src, bytes, stream))
FORWARD(cuMemcpyDtoDAsync_v2, cuMemcpyDtoDAsync, COPY_ASYNC_PARAMETERS, (dst, src, bytes, stream))
FORWARD(cuCtxPushCurrent_v2, cuCtxPushCurrent, (CUhandle context), (context))
FORWARD(cuCtxPopCurrent_v2, cuCtxPopCurrent, (CUhandle *out), (out))
FORWARD(cuStreamDestroy_v2, cuStreamDestroy, (CUhandle handle), (handle))
FORWARD(cuEventDestroy_v2, cuEventDestroy, (CUhandle handle), (handle))

CUresult cuCtxGetCurrent(CUhandle *out);

/* The flags of the primary context are 0, those of whoever does not set any. FFmpeg wants others. */
EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active);
EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    ENTER();
    *flags = 0;
    *active = emu.retained > 0;
    return leave(device ? INVALID_DEVICE : OK);
}

EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device);
EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    ENTER();
    *major = (int)emu.capability / 10;
    *minor = (int)emu.capability % 10;
    return leave(device ? INVALID_DEVICE : OK);
}

/* There is one context. Another one stands for it, and is destroyed by who made it only. */
static int created;

CUresult cuDevicePrimaryCtxRetain(CUhandle *out, CUdevice device);
CUresult cuDevicePrimaryCtxRelease(CUdevice device);
EXPORT CUresult cuCtxCreate_v2(CUhandle *out, unsigned flags, CUdevice device);
EXPORT CUresult cuCtxCreate_v2(CUhandle *out, unsigned flags, CUdevice device) {
    (void)flags;
    CUresult result = cuDevicePrimaryCtxRetain(out, device);
    if (!result)
        result = cuCtxPushCurrent(*out);
    created += !result;
    return result;
}

EXPORT CUresult cuCtxDestroy_v2(CUhandle context);
EXPORT CUresult cuCtxDestroy_v2(CUhandle context) {
    (void)context;
    if (created <= 0) {
        violation("a context was destroyed by who had not made it");
        return INVALID_CONTEXT;
    }
    created--;
    return cuDevicePrimaryCtxRelease(0);
}

#define REFUSE(name)                                                                                                           \
    EXPORT CUresult name(void);                                                                                                \
    EXPORT CUresult name(void) {                                                                                               \
        violation("%s is not emulated", #name);                                                                                \
        return NOT_SUPPORTED;                                                                                                  \
    }

REFUSE(cuCtxSetLimit)
REFUSE(cuMemAllocPitch_v2)
REFUSE(cuMemAllocManaged)
REFUSE(cuMemcpy2D_v2)
REFUSE(cuDevicePrimaryCtxSetFlags)
REFUSE(cuDevicePrimaryCtxReset)
REFUSE(cuStreamAddCallback)
REFUSE(cuLaunchKernel)
REFUSE(cuLinkCreate)
REFUSE(cuLinkAddData)
REFUSE(cuLinkComplete)
REFUSE(cuLinkDestroy)
REFUSE(cuModuleLoadData)
REFUSE(cuModuleUnload)
REFUSE(cuModuleGetFunction)
REFUSE(cuModuleGetGlobal)
REFUSE(cuTexObjectCreate)
REFUSE(cuTexObjectDestroy)
REFUSE(cuGLGetDevices_v2)
REFUSE(cuGraphicsGLRegisterImage)
REFUSE(cuGraphicsUnregisterResource)
REFUSE(cuGraphicsMapResources)
REFUSE(cuGraphicsUnmapResources)
REFUSE(cuGraphicsSubResourceGetMappedArray)
REFUSE(cuGraphicsResourceGetMappedPointer_v2)
REFUSE(cuArrayCreate_v2)
REFUSE(cuArray3DCreate_v2)
REFUSE(cuArrayDestroy)
REFUSE(cuEGLStreamProducerConnect)
REFUSE(cuEGLStreamProducerDisconnect)
REFUSE(cuEGLStreamConsumerDisconnect)
REFUSE(cuEGLStreamProducerPresentFrame)
REFUSE(cuEGLStreamProducerReturnFrame)
