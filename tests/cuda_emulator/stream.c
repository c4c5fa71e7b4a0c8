/* Streams, each a thread with a queue; their order; and events. */
#include "emulator.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define NON_BLOCKING 1u

void merge(Clock *into, const Clock *from) {
    for (int i = 0; i < SLOTS; i++)
        if (from->at[i] > into->at[i])
            into->at[i] = from->at[i];
}

void host_learns(const Clock *clock) {
    merge(&emu.host, clock);
    settle_guards();
    settle_releases();
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
            unsigned delay_us = emu.delay_us;
            pthread_mutex_unlock(&emu.lock);
            nap(&stream->random, delay_us);
            pthread_mutex_lock(&emu.lock);
        }
        Work work = {.slot = stream->slot, .seq = op->seq, .node = -1, .clock = &op->clock, .what = task_name(&op->task)};
        work.pageable = op->task.action == COPY && op->task.pageable;
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
void order_with_legacy(Stream *stream) {
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

Stream *capturing_blocking_stream(void) {
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
    settle_releases();
    return emu.sticky;
}

CUresult cuStreamCreateWithPriority(CUhandle *out, unsigned flags, int priority) {
    ENTER();
    Stream *stream = out && flags <= 1 ? make_stream(flags, priority) : NULL;
    if (stream)
        *out = stream->object.handle;
    return leave(stream ? OK : out && flags <= 1 ? OUT_OF_MEMORY : INVALID_VALUE);
}

EXPORT CUresult cuStreamCreate(CUhandle *out, unsigned flags) { return cuStreamCreateWithPriority(out, flags, 0); }

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

EXPORT CUresult cuStreamSynchronize(CUhandle handle) {
    ENTER();
    return leave(stream_status(handle, true, __func__));
}

EXPORT CUresult cuStreamQuery(CUhandle handle) {
    ENTER();
    return leave(stream_status(handle, false, __func__));
}

#define STREAM_GETTER(name, type, expression)                                                                                  \
    CUresult name(CUhandle handle, type *out) {                                                                                \
        ENTER();                                                                                                               \
        Stream *stream = find_stream(handle);                                                                                  \
        if (stream && out)                                                                                                     \
            *out = expression;                                                                                                 \
        return leave(!stream ? INVALID_HANDLE : out ? OK : INVALID_VALUE);                                                     \
    }
STREAM_GETTER(cuStreamGetFlags, unsigned, stream->flags)
STREAM_GETTER(cuStreamGetPriority, int, stream->priority)
STREAM_GETTER(cuStreamGetCtx, CUhandle, 0xc0de0000)

/* ---- events ---- */

EXPORT CUresult cuEventCreate(CUhandle *out, unsigned flags) {
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

EXPORT CUresult cuEventRecord(CUhandle handle, CUhandle stream_handle) {
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

EXPORT CUresult cuStreamWaitEvent(CUhandle stream_handle, CUhandle handle, unsigned flags) {
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

EXPORT CUresult cuEventSynchronize(CUhandle handle) {
    ENTER();
    return leave(event_status(handle, true, __func__));
}

EXPORT CUresult cuEventQuery(CUhandle handle) {
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

const Entry stream_entries[] = {
    ENTRY(cuStreamCreate), ENTRY(cuStreamCreateWithPriority), ENTRY(cuStreamDestroy), ENTRY(cuStreamSynchronize),
    ENTRY(cuStreamQuery), ENTRY(cuStreamWaitEvent), ENTRY(cuEventCreate), ENTRY(cuEventDestroy), ENTRY(cuEventRecord),
    ENTRY(cuEventSynchronize), ENTRY(cuEventQuery), ENTRY(cuEventElapsedTime), ENTRY(cuStreamGetFlags),
    ENTRY(cuStreamGetPriority), ENTRY(cuStreamGetCtx),
    {NULL, 0, NULL},
};
