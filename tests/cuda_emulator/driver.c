/* Initialisation, the device, contexts, memory as the API has it, and the table of entry points. */
#include "emulator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRIVER_VERSION 13000
#define CONTEXT ((CUhandle)0xc0de0000) /* the primary context of the one device */

static _Thread_local CUhandle contexts[16];
static _Thread_local int depth; /* of the stack of contexts; its top is contexts[depth] */

/* ---- initialisation and errors ---- */

EXPORT CUresult cuInit(unsigned flags) {
    pthread_mutex_lock(&emu.lock);
    emu.initialised = true;
    pthread_mutex_unlock(&emu.lock);
    ENTER();
    return leave(flags ? INVALID_VALUE : OK);
}

EXPORT CUresult cuDriverGetVersion(int *version) {
    CUresult bad = scripted(__func__);
    if (bad || !version)
        return bad ? bad : INVALID_VALUE;
    *version = DRIVER_VERSION;
    return OK;
}

static const struct {
    CUresult code;
    const char *name, *text;
} errors[] = {
    {OK, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"},
    {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
    {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a thread-local capture sequence from another thread"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static CUresult error_text(CUresult code, const char **out, bool name) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) {
            *out = name ? errors[i].name : errors[i].text;
            return OK;
        }
    *out = NULL;
    return INVALID_VALUE;
}

EXPORT CUresult cuGetErrorName(CUresult code, const char **out) { return error_text(code, out, true); }

EXPORT CUresult cuGetErrorString(CUresult code, const char **out) { return error_text(code, out, false); }

/* ---- the device ---- */

EXPORT CUresult cuDeviceGetCount(int *count) {
    ENTER();
    *count = 1;
    return leave(OK);
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER();
    *device = 0;
    return leave(ordinal ? INVALID_DEVICE : OK);
}

EXPORT CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    ENTER();
    snprintf(name, (size_t)length, "CUDA emulator (host memory)");
    return leave(device ? INVALID_DEVICE : OK);
}

EXPORT CUresult cuDeviceGetUuid(uint8_t uuid[16], CUdevice device) {
    ENTER();
    memset(uuid, 0xe5, 16);
    return leave(device ? INVALID_DEVICE : OK);
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    ENTER();
    *bytes = emu.limit_bytes;
    return leave(device ? INVALID_DEVICE : OK);
}

static int attribute(int number) {
    switch (number) {
    case 1: case 2: case 3: return 1024; /* threads per block */
    case 10: return 32;                  /* warp size */
    case 14: return 512;                 /* alignment of textures, and so of FFmpeg's rows */
    case 16: return 170;                 /* multiprocessors */
    case 40: return 2;                   /* copy engines */
    case 75: return (int)emu.capability / 10; /* compute capability */
    case 76: return (int)emu.capability % 10;
    case 15: case 19: case 31: case 41: case 78: case 99: case 115: return 1; /* overlap, mapped, concurrent, UVA,
                                                                                priorities, host register, pools */
    default: return 0;
    }
}

EXPORT CUresult cuDeviceGetAttribute(int *out, int number, CUdevice device) {
    ENTER();
    *out = attribute(number);
    return leave(device ? INVALID_DEVICE : OK);
}

/* ---- contexts ---- */

EXPORT CUresult cuDevicePrimaryCtxRetain(CUhandle *out, CUdevice device) {
    ENTER();
    if (device)
        return leave(INVALID_DEVICE);
    emu.retained++;
    *out = CONTEXT;
    return leave(OK);
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    ENTER();
    if (device || !emu.retained)
        return leave(INVALID_CONTEXT);
    emu.retained--;
    return leave(OK);
}

EXPORT CUresult cuCtxGetCurrent(CUhandle *out) {
    ENTER();
    *out = contexts[depth];
    return leave(OK);
}

CUresult cuCtxSetCurrent(CUhandle context) {
    ENTER();
    if (context && context != CONTEXT)
        return leave(INVALID_CONTEXT);
    contexts[depth] = context;
    return leave(OK);
}

CUresult cuCtxPushCurrent(CUhandle context) {
    ENTER();
    if (context != CONTEXT || depth == 15)
        return leave(INVALID_CONTEXT);
    contexts[++depth] = context;
    return leave(OK);
}

CUresult cuCtxPopCurrent(CUhandle *out) {
    ENTER();
    if (!contexts[depth])
        return leave(INVALID_CONTEXT);
    if (out)
        *out = contexts[depth];
    contexts[depth] = 0;
    depth -= depth > 0;
    return leave(OK);
}

EXPORT CUresult cuCtxGetDevice(CUdevice *out) {
    ENTER();
    *out = 0;
    return leave(contexts[depth] ? OK : INVALID_CONTEXT);
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    ENTER();
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return leave(contexts[depth] ? OK : INVALID_CONTEXT);
}

CUresult cuCtxSynchronize(void) {
    ENTER();
    return leave(synchronize_all());
}

/* ---- memory ---- */

CUresult cuMemGetInfo(size_t *available, size_t *total) {
    ENTER();
    *total = emu.limit_bytes;
    *available = emu.device_bytes < emu.limit_bytes ? emu.limit_bytes - emu.device_bytes : 0;
    return leave(contexts[depth] ? OK : INVALID_CONTEXT);
}

static CUresult allocate_now(Memory memory, size_t bytes, uintptr_t *out, const char *what) {
    CUresult result = contexts[depth] ? unsafe_call(what) : INVALID_CONTEXT;
    return result ? result : allocate(memory, bytes, 0, true, out);
}

static CUresult release_with(Memory memory, uintptr_t ptr, const char *what) {
    CUresult result = unsafe_call(what);
    return result || !ptr ? result : release(memory, ptr);
}

CUresult cuMemAlloc(uintptr_t *out, size_t bytes) {
    ENTER();
    return leave(allocate_now(DEVICE_MEMORY, bytes, out, __func__));
}

CUresult cuMemFree(CUdeviceptr ptr) {
    ENTER();
    return leave(release_with(DEVICE_MEMORY, ptr, __func__));
}

CUresult cuMemAllocHost(uintptr_t *out, size_t bytes) {
    ENTER();
    return leave(allocate_now(PINNED_MEMORY, bytes, out, __func__));
}

CUresult cuMemHostAlloc(uintptr_t *out, size_t bytes, unsigned flags) {
    ENTER();
    return leave(flags & ~7u ? INVALID_VALUE : allocate_now(PINNED_MEMORY, bytes, out, __func__));
}

CUresult cuMemFreeHost(uintptr_t ptr) {
    ENTER();
    return leave(release_with(PINNED_MEMORY, ptr, __func__));
}

static CUresult pointer_attribute(void *out, int number, uintptr_t ptr, const Alloc *alloc) {
    bool pinned = alloc && alloc->memory == PINNED_MEMORY;
    switch (number) {
    case 1: *(CUhandle *)out = CONTEXT; break;
    case 2: *(unsigned *)out = !alloc ? 0 : pinned ? 1 : 2; break;
    case 3: *(uintptr_t *)out = alloc ? ptr : 0; break;
    case 4: *(uintptr_t *)out = pinned ? ptr : 0; break;
    case 7: *(uint64_t *)out = alloc ? alloc->id : 0; break;
    case 8: *(unsigned *)out = 0; break;
    case 9: *(int *)out = alloc ? 0 : -2; break;
    case 11: *(uintptr_t *)out = alloc ? alloc->begin : 0; break;
    case 12: *(size_t *)out = alloc ? alloc->size : 0; break;
    case 13: *(bool *)out = alloc != NULL; break;
    case 17: *(uintptr_t *)out = alloc ? alloc->pool : 0; break;
    default: return NOT_SUPPORTED;
    }
    return OK;
}

static Alloc *exact(uintptr_t ptr) {
    Alloc *alloc = alloc_at(ptr, false);
    return alloc && ptr >= alloc->begin && ptr < alloc->begin + alloc->size ? alloc : NULL;
}

CUresult cuPointerGetAttribute(void *out, int number, CUdeviceptr ptr) {
    ENTER();
    Alloc *alloc = exact(ptr);
    return leave(alloc ? pointer_attribute(out, number, ptr, alloc) : INVALID_VALUE);
}

CUresult cuPointerGetAttributes(unsigned count, const int *numbers, void **out, CUdeviceptr ptr) {
    ENTER();
    CUresult result = OK;
    for (unsigned i = 0; i < count && !result; i++)
        result = pointer_attribute(out[i], numbers[i], ptr, exact(ptr));
    return leave(result);
}

/* ---- pools ---- */

static Pool *default_pool(void) {
    if (!emu.default_pool)
        emu.default_pool = new_object(POOL, sizeof *emu.default_pool);
    return emu.default_pool;
}

CUresult cuDeviceGetDefaultMemPool(CUhandle *out, CUdevice device) {
    ENTER();
    *out = default_pool()->object.handle;
    return leave(device ? INVALID_DEVICE : OK);
}

CUresult cuDeviceGetMemPool(CUhandle *out, CUdevice device) { return cuDeviceGetDefaultMemPool(out, device); }

typedef struct {
    int type, handle_types, location_type, location_id;
    void *security;
    size_t max_size;
    unsigned short usage;
} PoolProps;

CUresult cuMemPoolCreate(CUhandle *out, const PoolProps *props) {
    ENTER();
    if (!out || !props || props->location_type != 1 || props->location_id)
        return leave(props && props->location_type != 1 ? NOT_SUPPORTED : INVALID_VALUE);
    Pool *pool = new_object(POOL, sizeof *pool);
    *out = pool->object.handle;
    return leave(OK);
}

CUresult cuMemPoolDestroy(CUhandle handle) {
    ENTER();
    Pool *pool = find_object(POOL, handle);
    if (!pool || pool == emu.default_pool)
        return leave(INVALID_VALUE);
    trim_pool(pool, 0);
    remove_object(POOL, pool);
    free(pool);
    return leave(OK);
}

static size_t pool_bytes(uintptr_t handle) {
    size_t bytes = 0;
    for (Alloc *alloc = emu.allocs; alloc; alloc = alloc->next)
        bytes += alloc->pool == handle ? alloc->size : 0;
    return bytes;
}

CUresult cuMemPoolGetAttribute(CUhandle handle, int number, void *out) {
    ENTER();
    Pool *pool = find_object(POOL, handle);
    if (!pool || number < 1 || number > 8)
        return leave(INVALID_VALUE);
    if (number <= 3)
        *(int *)out = 1;
    else if (number == 4)
        *(uint64_t *)out = pool->threshold;
    else
        *(uint64_t *)out = number % 2 ? pool_bytes(handle) : pool->high;
    return leave(OK);
}

CUresult cuMemPoolSetAttribute(CUhandle handle, int number, void *value) {
    ENTER();
    Pool *pool = find_object(POOL, handle);
    if (pool && number == 4)
        pool->threshold = *(uint64_t *)value;
    return leave(pool ? OK : INVALID_VALUE);
}

CUresult cuMemPoolTrimTo(CUhandle handle, size_t bytes) {
    ENTER();
    Pool *pool = find_object(POOL, handle);
    if (pool)
        trim_pool(pool, bytes);
    return leave(pool ? OK : INVALID_VALUE);
}

CUresult cuMemPoolSetAccess(CUhandle handle, const void *map, size_t count) {
    ENTER();
    (void)map, (void)count;
    return leave(find_object(POOL, handle) ? OK : INVALID_VALUE);
}

/* The address is known at once, the memory is there when the stream has come to it. */
static CUresult allocate_later(uintptr_t *out, size_t bytes, Pool *pool, CUhandle handle) {
    Stream *stream = find_stream(handle);
    if (!stream || !pool)
        return INVALID_HANDLE;
    if (stream->capture) /* nodes that allocate are not emulated */
        return invalidate(stream->capture, CAPTURE_UNSUPPORTED);
    CUresult result = allocate(POOL_MEMORY, bytes, pool->object.handle, false, out);
    if (result)
        return result;
    size_t used = pool_bytes(pool->object.handle);
    pool->high = used > pool->high ? used : pool->high;
    Task task = {.action = ALLOCATE, .dst = *out};
    return submit(stream, &task, NULL);
}

CUresult cuMemAllocFromPoolAsync(uintptr_t *out, size_t bytes, CUhandle pool, CUhandle stream) {
    ENTER();
    return leave(allocate_later(out, bytes, find_object(POOL, pool), stream));
}

CUresult cuMemAllocAsync(uintptr_t *out, size_t bytes, CUhandle stream) {
    ENTER();
    return leave(allocate_later(out, bytes, default_pool(), stream));
}

CUresult cuMemFreeAsync(CUdeviceptr ptr, CUhandle handle) {
    ENTER();
    if (handle <= 2 && !contexts[depth]) /* a default stream is that of the current context */
        return leave(INVALID_CONTEXT);
    Stream *stream = find_stream(handle);
    Alloc *alloc = alloc_at(ptr, false);
    if (!stream)
        return leave(INVALID_HANDLE);
    if (!alloc || alloc->begin != ptr || alloc->memory == PINNED_MEMORY)
        return leave(release(POOL_MEMORY, ptr)); /* which says what is wrong */
    if (alloc->dying) {
        violation("double free of allocation %u: a stream is about to free it", alloc->id);
        return leave(INVALID_VALUE);
    }
    Task task = {.action = RELEASE, .dst = ptr};
    CUresult result = submit(stream, &task, NULL);
    alloc->dying = !result;
    return leave(result);
}

/* ---- entry points ---- */

EXPORT CUresult cuGetProcAddress(const char *name, void **out, int version, uint64_t flags);
EXPORT CUresult cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags, int *status);

const Entry driver_entries[] = {
    ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuGetErrorName), ENTRY(cuGetErrorString),
    ENTRY_SINCE(cuGetProcAddress, 0, cuGetProcAddress), ENTRY_SINCE(cuGetProcAddress, 12000, cuGetProcAddress_v2),
    ENTRY(cuDeviceGetCount), ENTRY(cuDeviceGet), ENTRY(cuDeviceGetName), ENTRY(cuDeviceGetUuid),
    ENTRY(cuDeviceTotalMem), ENTRY(cuDeviceGetAttribute), ENTRY(cuDevicePrimaryCtxRetain),
    ENTRY(cuDevicePrimaryCtxRelease), ENTRY(cuCtxGetCurrent), ENTRY(cuCtxSetCurrent), ENTRY(cuCtxPushCurrent),
    ENTRY(cuCtxPopCurrent), ENTRY(cuCtxGetDevice), ENTRY(cuCtxGetStreamPriorityRange), ENTRY(cuCtxSynchronize),
    ENTRY(cuMemGetInfo), ENTRY(cuMemAlloc), ENTRY(cuMemFree), ENTRY(cuMemAllocHost), ENTRY(cuMemHostAlloc),
    ENTRY(cuMemFreeHost), ENTRY(cuPointerGetAttribute), ENTRY(cuPointerGetAttributes),
    ENTRY(cuDeviceGetDefaultMemPool), ENTRY(cuDeviceGetMemPool), ENTRY(cuMemPoolCreate), ENTRY(cuMemPoolDestroy),
    ENTRY(cuMemPoolGetAttribute), ENTRY(cuMemPoolSetAttribute), ENTRY(cuMemPoolSetAccess), ENTRY(cuMemPoolTrimTo),
    ENTRY(cuMemAllocFromPoolAsync), ENTRY(cuMemAllocAsync), ENTRY(cuMemFreeAsync),
    {NULL, 0, NULL},
};

static const Entry *find_entry(const char *name, int version) {
    const Entry *const tables[] = {driver_entries, stream_entries, work_entries, graph_entries};
    const Entry *best = NULL;
    for (int table = 0; table < 4; table++)
        for (const Entry *entry = tables[table]; entry->name; entry++)
            if (!strcmp(entry->name, name) && entry->since <= version && (!best || entry->since > best->since))
                best = entry;
    return best;
}

EXPORT CUresult cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags, int *status) {
    const Entry *entry = find_entry(name, version);
    (void)flags;
    *out = entry ? (void *)entry->function : NULL;
    if (status)
        *status = entry ? 0 : 1;
    if (!entry)
        log_line("no entry point %s for %d", name, version);
    return entry ? OK : NOT_FOUND;
}

EXPORT CUresult cuGetProcAddress(const char *name, void **out, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, out, version, flags, NULL);
}
