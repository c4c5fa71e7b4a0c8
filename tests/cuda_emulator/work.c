/* Copies, fills and functions: how they are enqueued, and what each does when its turn comes. */
#include "emulator.h"

#include <string.h>
#include <time.h>

/* ---- execution ---- */

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static void run_copy(const Task *task, const Work *work) {
    Alloc *to = NULL, *from = NULL;
    const void *src = open_bytes(task->src, task->bytes, false, work, &from);
    void *dst = src ? open_bytes(task->dst, task->bytes, true, work, &to) : NULL;
    if (dst) {
        pthread_mutex_unlock(&emu.lock);
        memmove(dst, src, task->bytes);
        pthread_mutex_lock(&emu.lock);
    } else {
        emu.sticky = ILLEGAL_ADDRESS;
    }
    close_bytes(from);
    close_bytes(to);
}

static void run_fill(const Task *task, const Work *work) {
    Alloc *to;
    char *dst = open_bytes(task->dst, task->bytes, true, work, &to);
    if (dst) {
        pthread_mutex_unlock(&emu.lock);
        for (size_t at = 0; at < task->bytes; at += (size_t)task->width)
            memcpy(dst + at, &task->value, (size_t)task->width);
        pthread_mutex_lock(&emu.lock);
    } else {
        emu.sticky = ILLEGAL_ADDRESS;
    }
    close_bytes(to);
}

/* A host function may tell the host that all before it is over; a kernel cannot. */
static void run_function(const Task *task, const Work *work) {
    if (task->action == CALL) {
        Clock known = *work->clock;
        known.at[work->slot] = work->seq - (work->node >= 0);
        host_learns(&known);
        if (work->node >= 0)
            settle_nodes(work);
    }
    pthread_mutex_unlock(&emu.lock);
    in_callback = task->action == CALL ? 1 : 2;
    current_work = work;
    task->fn(task->user);
    current_work = NULL;
    in_callback = 0;
    pthread_mutex_lock(&emu.lock);
}

static void run_record(const Task *task, const Work *work) {
    for (Object *object = emu.objects[EVENT]; object; object = object->next) {
        Event *event = (Event *)object;
        if (object->handle == task->handle && event->slot == work->slot && event->seq == work->seq)
            event->time_ms = now_ms();
    }
}

static void run_memory(const Task *task, const Work *work) {
    Alloc *alloc = alloc_at(task->dst, false);
    if (!alloc || alloc->begin != task->dst) {
        if (task->action == RELEASE)
            release(POOL_MEMORY, task->dst); /* says what is wrong */
        return;
    }
    alloc->born = true;
    Alloc *opened = NULL;
    if (!emu.sticky) /* counts as a write: nothing may go on beside it */
        open_bytes(alloc->begin, alloc->size, true, work, &opened);
    close_bytes(opened);
    if (task->action == RELEASE) {
        alloc->slot = work->slot;
        alloc->seq = work->seq;
        release_now(alloc);
    }
}

/* With the lock held; gives it up meanwhile. */
void perform(const Task *task, const Work *work) {
    CUresult failure = task->action == EMPTY || task->action == WAIT ? OK : scripted("operation");
    if (failure)
        emu.sticky = failure;
    if (emu.sticky && task->action != RELEASE)
        return;
    switch (task->action) {
    case COPY: run_copy(task, work); break;
    case FILL: run_fill(task, work); break;
    case CALL:
    case KERNEL: run_function(task, work); break;
    case RECORD: run_record(task, work); break;
    case WAIT: wait_for(task->slot, task->seq); break;
    case ALLOCATE:
    case RELEASE: run_memory(task, work); break;
    case LAUNCH:
    case EMPTY: break;
    }
}

const char *task_name(const Task *task) {
    static const char *const names[] = {"copy", "fill", "host function", "kernel", "record", "wait", "launch", "allocation",
                                        "free", "empty node"};
    return names[task->action];
}

/* ---- entry points ---- */

CUresult cuLaunchHostFunc(CUhandle stream, CUhostFn fn, void *user) {
    ENTER();
    Task task = {.action = CALL, .fn = fn, .user = user};
    return leave(fn ? submit(find_stream(stream), &task, NULL) : INVALID_VALUE);
}

/* What stands in for the launch of a kernel: like a host function, but the host learns nothing from it. */
EXPORT CUresult emu_launch(CUhandle stream, CUhostFn fn, void *user) {
    ENTER();
    Task task = {.action = KERNEL, .fn = fn, .user = user};
    return leave(fn ? submit(find_stream(stream), &task, NULL) : INVALID_VALUE);
}

static CUresult copy(CUhandle handle, uintptr_t dst, uintptr_t src, size_t bytes) {
    Stream *stream = find_stream(handle);
    if (!stream)
        return INVALID_HANDLE;
    if (!bytes)
        return OK;
    CUresult result = check_range(src, bytes, "copy from", emu.pageable);
    if (!result)
        result = check_range(dst, bytes, "copy to", emu.pageable);
    bool pageable = emu.pageable && (!alloc_at(src, false) || !alloc_at(dst, false));
    Task task = {.action = COPY, .dst = dst, .src = src, .bytes = bytes, .pageable = pageable};
    if (!result && pageable && stream->capture)
        result = invalidate(stream->capture, CAPTURE_UNSUPPORTED);
    if (!result)
        result = submit(stream, &task, NULL);
    if (result || !pageable)
        return result;
    Clock clock = stream->clock;
    wait_for(stream->slot, stream->issued);
    host_learns(&clock);
    return emu.sticky;
}

#define COPY_ASYNC(name)                                                                                                       \
    EXPORT CUresult name(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUhandle stream) {                                           \
        ENTER();                                                                                                               \
        return leave(copy(stream, dst, src, bytes));                                                                           \
    }
COPY_ASYNC(cuMemcpyAsync)
COPY_ASYNC(cuMemcpyHtoDAsync)
COPY_ASYNC(cuMemcpyDtoHAsync)
COPY_ASYNC(cuMemcpyDtoDAsync)

/* CUDA_MEMCPY2D, of which only copies between addresses are known: row by row. */
typedef struct {
    size_t src_x, src_y;
    unsigned src_type;
    const void *src_host;
    uintptr_t src_device, src_array;
    size_t src_pitch, dst_x, dst_y;
    unsigned dst_type;
    void *dst_host;
    uintptr_t dst_device, dst_array;
    size_t dst_pitch, width, height;
} Copy2D;

enum { ON_HOST = 1, ON_DEVICE = 2 };

CUresult cuMemcpy2DAsync(const Copy2D *rows, CUhandle stream) {
    ENTER();
    if (!rows || rows->src_type - ON_HOST > 1 || rows->dst_type - ON_HOST > 1 || rows->src_x || rows->src_y || rows->dst_x ||
        rows->dst_y || rows->src_pitch < rows->width || rows->dst_pitch < rows->width)
        return leave(INVALID_VALUE);
    uintptr_t src = rows->src_type == ON_HOST ? (uintptr_t)rows->src_host : rows->src_device;
    uintptr_t dst = rows->dst_type == ON_HOST ? (uintptr_t)rows->dst_host : rows->dst_device;
    CUresult result = OK;
    for (size_t row = 0; row < rows->height && !result; row++)
        result = copy(stream, dst + row * rows->dst_pitch, src + row * rows->src_pitch, rows->width);
    return leave(result);
}

/* On the legacy stream; the host waits for it, and may use any host memory. */
static CUresult copy_now(uintptr_t dst, uintptr_t src, size_t bytes) {
    if (emu.captures)
        return invalidate(emu.captures, capturing_blocking_stream() ? CAPTURE_IMPLICIT : CAPTURE_UNSUPPORTED);
    CUresult result = check_range(src, bytes, "copy from", true);
    if (!result)
        result = check_range(dst, bytes, "copy to", true);
    Stream *stream = find_stream(0);
    if (result || !bytes || !stream)
        return result;
    order_with_legacy(stream);
    uint32_t seq = stream->issued;
    wait_for(stream->slot, seq);
    if (emu.sticky)
        return emu.sticky;
    Task task = {.action = COPY, .dst = dst, .src = src, .bytes = bytes};
    Clock clock = stream->clock;
    merge(&clock, &emu.host);
    host_learns(&clock);
    Work work = {.slot = stream->slot, .seq = seq, .node = -1, .clock = &clock, .pageable = true,
                 .what = "synchronous copy"};
    run_copy(&task, &work);
    return emu.sticky;
}

#define COPY_NOW(name)                                                                                                         \
    EXPORT CUresult name(CUdeviceptr dst, CUdeviceptr src, size_t bytes) {                                                            \
        ENTER();                                                                                                               \
        return leave(copy_now(dst, src, bytes));                                                                               \
    }
COPY_NOW(cuMemcpy)
COPY_NOW(cuMemcpyHtoD)
COPY_NOW(cuMemcpyDtoH)
COPY_NOW(cuMemcpyDtoD)

static CUresult fill(CUhandle handle, uintptr_t dst, uint32_t value, int width, size_t count, const char *what) {
    Stream *stream = find_stream(handle);
    if (!stream)
        return INVALID_HANDLE;
    if (dst % (unsigned)width)
        return INVALID_VALUE;
    if (!count)
        return OK;
    CUresult result = check_range(dst, count * (size_t)width, what, false);
    Task task = {.action = FILL, .dst = dst, .bytes = count * (size_t)width, .value = value, .width = width};
    return result ? result : submit(stream, &task, NULL);
}

#define FILL_ASYNC(name, type)                                                                                                 \
    EXPORT CUresult name(CUdeviceptr dst, type value, size_t count, CUhandle stream) {                                                \
        ENTER();                                                                                                               \
        return leave(fill(stream, dst, value, sizeof(type), count, "fill"));                                                   \
    }
FILL_ASYNC(cuMemsetD8Async, unsigned char)
FILL_ASYNC(cuMemsetD16Async, unsigned short)
FILL_ASYNC(cuMemsetD32Async, unsigned)

/* Without a stream, a fill is on the legacy stream and, as on a GPU, not waited for. */
#define FILL_NOW(name, type)                                                                                                   \
    CUresult name(CUdeviceptr dst, type value, size_t count) {                                                                 \
        ENTER();                                                                                                               \
        if (emu.captures)                                                                                                      \
            return leave(invalidate(emu.captures, CAPTURE_UNSUPPORTED));                                                       \
        return leave(fill(0, dst, value, sizeof(type), count, "fill"));                                                        \
    }
FILL_NOW(cuMemsetD8, unsigned char)
FILL_NOW(cuMemsetD16, unsigned short)
FILL_NOW(cuMemsetD32, unsigned)

const Entry work_entries[] = {
    ENTRY(cuLaunchHostFunc), ENTRY(cuMemcpy), ENTRY(cuMemcpyHtoD), ENTRY(cuMemcpyDtoH), ENTRY(cuMemcpyDtoD),
    ENTRY(cuMemcpyAsync), ENTRY(cuMemcpyHtoDAsync), ENTRY(cuMemcpyDtoHAsync), ENTRY(cuMemcpyDtoDAsync),
    ENTRY(cuMemcpy2DAsync),
    ENTRY(cuMemsetD8), ENTRY(cuMemsetD16), ENTRY(cuMemsetD32), ENTRY(cuMemsetD8Async), ENTRY(cuMemsetD16Async),
    ENTRY(cuMemsetD32Async),
    {NULL, 0, NULL},
};
