/* Streams, each a thread with a queue; events; and what every operation does when its turn comes. */
#include "emulator.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define NON_BLOCKING 1u

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

void merge(Clock *into, const Clock *from) {
    for (int i = 0; i < SLOTS; i++)
        if (from->at[i] > into->at[i])
            into->at[i] = from->at[i];
}

void host_learns(const Clock *clock) {
    merge(&emu.host, clock);
    settle_guards();
}

void wait_for(uint32_t slot, uint32_t seq) {
    while (emu.slots[slot].done < seq && !emu.sticky)
        pthread_cond_wait(&emu.changed, &emu.lock);
}

void wait_for_work(void) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 2;
    for (int slot = 0; slot < SLOTS; slot++)
        while (emu.slots[slot].done < emu.slots[slot].issued)
            if (pthread_cond_timedwait(&emu.changed, &emu.lock, &limit))
                return;
}

/* ---- execution ---- */

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

static const char *task_name(const Task *task) {
    static const char *const names[] = {"copy", "fill", "host function", "kernel", "record", "wait", "launch", "allocation",
                                        "free", "empty node"};
    return names[task->action];
}

static void *stream_thread(void *argument) {
    Stream *stream = argument;
    prctl(PR_SET_TIMERSLACK, 1000UL);
    pthread_mutex_lock(&emu.lock);
    for (;;) {
        while (!stream->head && !stream->closing)
            pthread_cond_wait(&stream->wake, &emu.lock);
        Op *op = stream->head;
        if (!op)
            break;
        if (!emu.sticky) {
            pthread_mutex_unlock(&emu.lock);
            nap(&stream->random);
            pthread_mutex_lock(&emu.lock);
        }
        Work work = {.slot = stream->slot, .seq = op->seq, .node = -1, .clock = &op->clock, .what = task_name(&op->task)};
        if (op->exec)
            launch(op->exec, op, stream);
        else
            perform(&op->task, &work);
        stream->head = op->next;
        if (!stream->head)
            stream->tail = &stream->head;
        emu.slots[stream->slot].done = op->seq;
        free(op);
        pthread_cond_broadcast(&emu.changed);
    }
    emu.slots[stream->slot].taken = false;
    pthread_cond_destroy(&stream->wake);
    free(stream);
    emu.threads--;
    pthread_cond_broadcast(&emu.changed);
    pthread_mutex_unlock(&emu.lock);
    return NULL;
}

/* ---- streams ---- */

Stream *make_stream(unsigned flags, int priority) {
    unsigned slot = emu.next_slot, tried = 0;
    while (emu.slots[slot % SLOTS].taken && tried++ < SLOTS)
        slot++;
    if (tried > SLOTS)
        return NULL;
    Stream *stream = new_object(STREAM, sizeof *stream);
    stream->slot = slot % SLOTS;
    emu.next_slot = (slot + 1) % SLOTS;
    emu.slots[stream->slot].taken = true;
    stream->flags = flags;
    stream->priority = priority;
    stream->tail = &stream->head;
    stream->issued = emu.slots[stream->slot].done; /* a slot never counts backwards */
    stream->random = emu.seed * 1000003 + stream->slot;
    pthread_cond_init(&stream->wake, NULL);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&stream->thread, &detached, stream_thread, stream);
    pthread_attr_destroy(&detached);
    if (failed) {
        emu.slots[stream->slot].taken = false;
        remove_object(STREAM, stream);
        free(stream);
        return NULL;
    }
    emu.threads++;
    return stream;
}

Stream *find_stream(uintptr_t handle) {
    if (handle > 2)
        return find_object(STREAM, handle);
    Stream **special = handle == 2 ? &emu.per_thread : &emu.legacy;
    if (!*special)
        *special = make_stream(0, 0);
    return *special;
}

static void append(Stream *stream, const Task *task, Exec *exec) {
    Op *op = calloc(1, sizeof *op);
    op->task = *task;
    op->exec = exec;
    op->seq = ++stream->issued;
    emu.slots[stream->slot].issued = op->seq;
    merge(&stream->clock, &emu.host);
    stream->clock.at[stream->slot] = op->seq;
    op->clock = stream->clock;
    *stream->tail = op;
    stream->tail = &op->next;
    guard_task(task, stream->slot, op->seq, -1);
    for (int i = 0; exec && i < exec->count; i++)
        guard_task(&exec->nodes[i].task, stream->slot, op->seq, i);
    pthread_cond_signal(&stream->wake);
}

static void follow(Stream *stream, const Stream *other) {
    Task wait = {.action = WAIT, .slot = other->slot, .seq = other->issued};
    merge(&stream->clock, &other->clock);
    append(stream, &wait, NULL);
}

/* The legacy stream waits for all blocking streams, and they wait for it. */
static void order_with_legacy(Stream *stream) {
    if (stream->flags & NON_BLOCKING || !emu.legacy)
        return;
    if (stream != emu.legacy) {
        if (emu.legacy->issued > stream->clock.at[emu.legacy->slot])
            follow(stream, emu.legacy);
        return;
    }
    for (Object *object = emu.objects[STREAM]; object; object = object->next) {
        Stream *other = (Stream *)object;
        if (other != stream && !(other->flags & NON_BLOCKING) && other->issued > stream->clock.at[other->slot])
            follow(stream, other);
    }
}

static Stream *capturing_blocking_stream(void) {
    for (Object *object = emu.objects[STREAM]; object; object = object->next)
        if (((Stream *)object)->capture && !(((Stream *)object)->flags & NON_BLOCKING))
            return (Stream *)object;
    return NULL;
}

CUresult submit(Stream *stream, const Task *task, Exec *exec) {
    if (!stream)
        return INVALID_HANDLE;
    if (stream->capture)
        return capture_task(stream, task);
    Stream *blocked = stream == emu.legacy ? capturing_blocking_stream() : NULL;
    if (blocked)
        return invalidate(blocked->capture, CAPTURE_IMPLICIT);
    order_with_legacy(stream);
    append(stream, task, exec);
    return OK;
}

CUresult synchronize_all(void) {
    if (emu.captures)
        return invalidate(emu.captures, CAPTURE_UNSUPPORTED);
    for (int slot = 0; slot < SLOTS; slot++)
        wait_for((uint32_t)slot, emu.slots[slot].issued);
    for (Object *object = emu.objects[STREAM]; object; object = object->next)
        merge(&emu.host, &((Stream *)object)->clock);
    for (int slot = 0; slot < SLOTS; slot++)
        emu.host.at[slot] = emu.slots[slot].done;
    settle_guards();
    return emu.sticky;
}

CUresult cuStreamCreateWithPriority(CUhandle *out, unsigned flags, int priority) {
    ENTER();
    Stream *stream = out && flags <= 1 ? make_stream(flags, priority) : NULL;
    if (stream)
        *out = stream->object.handle;
    return leave(stream ? OK : out && flags <= 1 ? OUT_OF_MEMORY : INVALID_VALUE);
}

CUresult cuStreamCreate(CUhandle *out, unsigned flags) { return cuStreamCreateWithPriority(out, flags, 0); }

/* Work on its way is finished first, as on a GPU. A forked stream of a capture may go; it must have been joined. */
CUresult cuStreamDestroy(CUhandle handle) {
    ENTER();
    Stream *stream = find_object(STREAM, handle);
    if (!stream || stream == emu.legacy || stream == emu.per_thread)
        return leave(INVALID_HANDLE);
    Capture *capture = stream->capture;
    if (capture && capture->origin == stream) {
        violation("stream destroyed while it is being captured");
        return leave(invalidate(capture, CAPTURE_UNSUPPORTED));
    }
    if (capture) {
        Nodes joined = capture->origin->deps;
        for (int i = 0; i < capture->graph->count; i++)
            for (int word = 0; has_node(&capture->origin->deps, i) && word < MAX_NODES / 64; word++)
                joined.bits[word] |= capture->graph->nodes[i].before.bits[word];
        for (int word = 0; word < MAX_NODES / 64; word++)
            capture->unjoined |= (stream->deps.bits[word] & ~joined.bits[word]) != 0;
    }
    remove_object(STREAM, stream);
    stream->closing = true;
    pthread_cond_signal(&stream->wake);
    return leave(OK);
}

static CUresult stream_status(CUhandle handle, bool block, const char *what) {
    Stream *stream = find_stream(handle);
    if (!stream)
        return INVALID_HANDLE;
    if (stream->capture)
        return invalidate(stream->capture, CAPTURE_UNSUPPORTED);
    CUresult unsafe = unsafe_call(what);
    if (unsafe)
        return unsafe;
    order_with_legacy(stream);
    uint32_t slot = stream->slot, seq = stream->issued;
    Clock clock = stream->clock;
    if (block)
        wait_for(slot, seq);
    if (emu.sticky)
        return emu.sticky;
    if (emu.slots[slot].done < seq)
        return NOT_READY;
    host_learns(&clock);
    return OK;
}

CUresult cuStreamSynchronize(CUhandle handle) {
    ENTER();
    return leave(stream_status(handle, true, __func__));
}

CUresult cuStreamQuery(CUhandle handle) {
    ENTER();
    return leave(stream_status(handle, false, __func__));
}

#define STREAM_GETTER(name, type, expression)                                                                                  \
    CUresult name(CUhandle handle, type *out) {                                                                                \
        CUresult bad = enter(__func__);                                                                                        \
        if (bad)                                                                                                               \
            return bad;                                                                                                        \
        Stream *stream = find_stream(handle);                                                                                  \
        if (stream && out)                                                                                                     \
            *out = expression;                                                                                                 \
        return leave(!stream ? INVALID_HANDLE : out ? OK : INVALID_VALUE);                                                     \
    }
STREAM_GETTER(cuStreamGetFlags, unsigned, stream->flags)
STREAM_GETTER(cuStreamGetPriority, int, stream->priority)
STREAM_GETTER(cuStreamGetCtx, CUhandle, 0xc0de0000)

/* ---- events ---- */

CUresult cuEventCreate(CUhandle *out, unsigned flags) {
    ENTER();
    if (!out || flags & ~7u || (flags & 6) == 4)
        return leave(INVALID_VALUE);
    Event *event = new_object(EVENT, sizeof *event);
    event->flags = flags;
    *out = event->object.handle;
    return leave(OK);
}

CUresult cuEventDestroy(CUhandle handle) {
    ENTER();
    Event *event = find_object(EVENT, handle);
    if (!event)
        return leave(INVALID_HANDLE);
    remove_object(EVENT, event);
    free(event);
    return leave(OK);
}

CUresult cuEventRecord(CUhandle handle, CUhandle stream_handle) {
    ENTER();
    Event *event = find_object(EVENT, handle);
    Stream *stream = find_stream(stream_handle);
    if (!event || !stream)
        return leave(INVALID_HANDLE);
    if (stream->capture) {
        if (stream->capture->invalid)
            return leave(CAPTURE_INVALIDATED);
        event->recorded = true;
        event->capture = stream->capture->id;
        event->deps = stream->deps;
        return leave(OK);
    }
    Task task = {.action = RECORD, .handle = handle};
    CUresult result = submit(stream, &task, NULL);
    if (!result) {
        event->recorded = true;
        event->capture = 0;
        event->slot = stream->slot;
        event->seq = stream->issued;
        event->clock = stream->clock;
        event->time_ms = 0;
    }
    return leave(result);
}

/* In a capture, waiting for an event of the same capture makes an edge, and brings the stream into the capture. */
static CUresult captured_wait(Stream *stream, const Event *event) {
    Capture *capture = find_capture(event->capture);
    if (event->capture && !capture)
        return CAPTURED_EVENT;
    if (!capture)
        return invalidate(stream->capture, CAPTURE_ISOLATION);
    if (capture->invalid)
        return CAPTURE_INVALIDATED;
    if (stream->capture && stream->capture != capture) {
        invalidate(stream->capture, CAPTURE_MERGE);
        return invalidate(capture, CAPTURE_MERGE);
    }
    if (stream == emu.legacy)
        return invalidate(capture, CAPTURE_IMPLICIT);
    if (!stream->capture)
        stream->deps = (Nodes){0};
    stream->capture = capture;
    for (int word = 0; word < MAX_NODES / 64; word++)
        stream->deps.bits[word] |= event->deps.bits[word];
    return OK;
}

CUresult cuStreamWaitEvent(CUhandle stream_handle, CUhandle handle, unsigned flags) {
    ENTER();
    Event *event = find_object(EVENT, handle);
    Stream *stream = find_stream(stream_handle);
    if (!event || !stream)
        return leave(INVALID_HANDLE);
    if (flags)
        return leave(NOT_SUPPORTED);
    if (stream->capture || event->capture)
        return leave(captured_wait(stream, event));
    if (!event->recorded)
        return leave(OK);
    Task task = {.action = WAIT, .slot = event->slot, .seq = event->seq};
    merge(&stream->clock, &event->clock);
    return leave(submit(stream, &task, NULL));
}

static CUresult event_status(CUhandle handle, bool block, const char *what) {
    Event *event = find_object(EVENT, handle);
    if (!event)
        return INVALID_HANDLE;
    if (event->capture) {
        Capture *capture = find_capture(event->capture);
        return capture ? invalidate(capture, CAPTURED_EVENT) : CAPTURED_EVENT;
    }
    CUresult unsafe = unsafe_call(what);
    if (unsafe || !event->recorded)
        return unsafe;
    uint32_t slot = event->slot, seq = event->seq;
    Clock clock = event->clock;
    if (block)
        wait_for(slot, seq);
    if (emu.sticky)
        return emu.sticky;
    if (emu.slots[slot].done < seq)
        return NOT_READY;
    host_learns(&clock);
    return OK;
}

CUresult cuEventSynchronize(CUhandle handle) {
    ENTER();
    return leave(event_status(handle, true, __func__));
}

CUresult cuEventQuery(CUhandle handle) {
    ENTER();
    return leave(event_status(handle, false, __func__));
}

CUresult cuEventElapsedTime(float *out, CUhandle start_handle, CUhandle end_handle) {
    ENTER();
    Event *start = find_object(EVENT, start_handle), *end = find_object(EVENT, end_handle);
    if (!start || !end || !start->recorded || !end->recorded || (start->flags | end->flags) & 2)
        return leave(INVALID_HANDLE);
    if (emu.slots[start->slot].done < start->seq || emu.slots[end->slot].done < end->seq)
        return leave(NOT_READY);
    *out = (float)(end->time_ms - start->time_ms);
    return leave(OK);
}

/* ---- work ---- */

CUresult cuLaunchHostFunc(CUhandle stream, CUhostFn fn, void *user) {
    CUresult bad = enter(__func__);
    Task task = {.action = CALL, .fn = fn, .user = user};
    return bad ? bad : leave(fn ? submit(find_stream(stream), &task, NULL) : INVALID_VALUE);
}

/* What stands in for the launch of a kernel: like a host function, but the host learns nothing from it. */
EXPORT CUresult emu_launch(CUhandle stream, CUhostFn fn, void *user) {
    CUresult bad = enter(__func__);
    Task task = {.action = KERNEL, .fn = fn, .user = user};
    return bad ? bad : leave(fn ? submit(find_stream(stream), &task, NULL) : INVALID_VALUE);
}

static CUresult copy(CUhandle handle, uintptr_t dst, uintptr_t src, size_t bytes) {
    Stream *stream = find_stream(handle);
    if (!stream)
        return INVALID_HANDLE;
    if (!bytes)
        return OK;
    CUresult result = check_range(src, bytes, "copy from", false);
    if (!result)
        result = check_range(dst, bytes, "copy to", false);
    Task task = {.action = COPY, .dst = dst, .src = src, .bytes = bytes};
    return result ? result : submit(stream, &task, NULL);
}

#define COPY_ASYNC(name)                                                                                                       \
    CUresult name(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUhandle stream) {                                           \
        CUresult bad = enter(__func__);                                                                                        \
        return bad ? bad : leave(copy(stream, dst, src, bytes));                                                               \
    }
COPY_ASYNC(cuMemcpyAsync)
COPY_ASYNC(cuMemcpyHtoDAsync)
COPY_ASYNC(cuMemcpyDtoHAsync)
COPY_ASYNC(cuMemcpyDtoDAsync)

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
    CUresult name(CUdeviceptr dst, CUdeviceptr src, size_t bytes) {                                                            \
        CUresult bad = enter(__func__);                                                                                        \
        return bad ? bad : leave(copy_now(dst, src, bytes));                                                                   \
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
    CUresult name(CUdeviceptr dst, type value, size_t count, CUhandle stream) {                                                \
        CUresult bad = enter(__func__);                                                                                        \
        return bad ? bad : leave(fill(stream, dst, value, sizeof(type), count, "fill"));                                       \
    }
FILL_ASYNC(cuMemsetD8Async, unsigned char)
FILL_ASYNC(cuMemsetD16Async, unsigned short)
FILL_ASYNC(cuMemsetD32Async, unsigned)

/* Without a stream, a fill is on the legacy stream and, as on a GPU, not waited for. */
#define FILL_NOW(name, type)                                                                                                   \
    CUresult name(CUdeviceptr dst, type value, size_t count) {                                                                 \
        CUresult bad = enter(__func__);                                                                                        \
        if (!bad && emu.captures)                                                                                              \
            return leave(invalidate(emu.captures, CAPTURE_UNSUPPORTED));                                                       \
        return bad ? bad : leave(fill(0, dst, value, sizeof(type), count, "fill"));                                            \
    }
FILL_NOW(cuMemsetD8, unsigned char)
FILL_NOW(cuMemsetD16, unsigned short)
FILL_NOW(cuMemsetD32, unsigned)

const Entry stream_entries[] = {
    ENTRY(cuStreamCreate), ENTRY(cuStreamCreateWithPriority), ENTRY(cuStreamDestroy), ENTRY(cuStreamSynchronize),
    ENTRY(cuStreamQuery), ENTRY(cuStreamWaitEvent), ENTRY(cuEventCreate), ENTRY(cuEventDestroy), ENTRY(cuEventRecord),
    ENTRY(cuEventSynchronize), ENTRY(cuEventQuery), ENTRY(cuEventElapsedTime), ENTRY(cuLaunchHostFunc),
    ENTRY(cuStreamGetFlags), ENTRY(cuStreamGetPriority), ENTRY(cuStreamGetCtx), ENTRY(cuMemcpy), ENTRY(cuMemcpyHtoD),
    ENTRY(cuMemcpyDtoH), ENTRY(cuMemcpyDtoD), ENTRY(cuMemcpyAsync), ENTRY(cuMemcpyHtoDAsync),
    ENTRY(cuMemcpyDtoHAsync), ENTRY(cuMemcpyDtoDAsync), ENTRY(cuMemsetD8), ENTRY(cuMemsetD16), ENTRY(cuMemsetD32),
    ENTRY(cuMemsetD8Async), ENTRY(cuMemsetD16Async), ENTRY(cuMemsetD32Async),
    {NULL, 0, NULL},
};
