/* State, call log, scripted failures, violations, and the control interface of the tests. */
#include "emulator.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_VIOLATIONS 256
#define MAX_FUNCTIONS 512
#define MAX_SCRIPTS 64

struct Emulator emu = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
    .delay_us = 50,
    .next_handle = 0x5e000000,
    .limit_bytes = (size_t)8 << 30,
    .capability = 120,
};
_Thread_local int in_callback;
_Thread_local const Work *current_work;

/* Apart from `emu.lock`, because they are used with and without it, and by the handler of SIGSEGV. */
static pthread_mutex_t notes = PTHREAD_MUTEX_INITIALIZER;
static char violations[MAX_VIOLATIONS][256];
static int violation_count;
static struct {
    const char *name;
    long calls;
} functions[MAX_FUNCTIONS];
static int function_count;
static struct {
    char name[48];
    long nth;
    CUresult code;
} scripts[MAX_SCRIPTS];
static int script_count;

void violation(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&notes);
    if (violation_count < MAX_VIOLATIONS)
        vsnprintf(violations[violation_count], sizeof violations[0], format, arguments);
    violation_count++;
    pthread_mutex_unlock(&notes);
    va_end(arguments);
}

void log_line(const char *format, ...) {
    if (!getenv("CUDA_EMULATOR_LOG"))
        return;
    va_list arguments;
    va_start(arguments, format);
    fputs("cuda emulator: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Mostly short, often none, now and then eight times as long: streams overtake each other both ways. */
void nap(uint64_t *random, unsigned delay_us) {
    uint64_t draw = next_random(random);
    unsigned limit = delay_us;
    if (!limit || draw % 4 == 0)
        return;
    uint64_t us = (draw >> 8) % (limit + 1) * (draw % 16 == 1 ? 8 : 1);
    struct timespec time = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    nanosleep(&time, NULL);
}

/* ---- objects ---- */

void *new_object(Kind kind, size_t bytes) {
    Object *object = calloc(1, bytes);
    object->handle = emu.next_handle += 16;
    object->next = emu.objects[kind];
    emu.objects[kind] = object;
    return object;
}

void *find_object(Kind kind, uintptr_t handle) {
    for (Object *object = emu.objects[kind]; object; object = object->next)
        if (object->handle == handle)
            return object;
    static const char *const names[] = {"stream", "event", "graph", "graph exec", "memory pool", "user object"};
    if (handle > 0x5e000000 && handle <= emu.old_handles)
        return NULL; /* garbage of an earlier test, which Python destroys late */
    bool once = handle > emu.old_handles && handle <= emu.next_handle;
    violation("%s %#lx %s", names[kind], (unsigned long)handle, once ? "was destroyed before this use" : "does not exist");
    return NULL;
}

void remove_object(Kind kind, void *object) {
    Object **link = &emu.objects[kind];
    while (*link && *link != object)
        link = &(*link)->next;
    if (*link)
        *link = (*link)->next;
}

/* ---- calls ---- */

CUresult scripted(const char *function) {
    CUresult result = OK;
    pthread_mutex_lock(&notes);
    int index = 0;
    while (index < function_count && strcmp(functions[index].name, function))
        index++;
    if (index == function_count && function_count < MAX_FUNCTIONS)
        functions[function_count++].name = function;
    if (index < function_count)
        functions[index].calls++;
    for (int i = 0; i < script_count; i++)
        if (!strcmp(scripts[i].name, function) && scripts[i].nth > 0 && --scripts[i].nth == 0)
            result = scripts[i].code;
    pthread_mutex_unlock(&notes);
    return result;
}

static bool is_sticky(CUresult code) { return code >= 700 && code < 720 && code != 704 && code != 705; }

static bool releases(const char *function) {
    return strstr(function, "Destroy") || strstr(function, "Free") || !strcmp(function, "cuStreamEndCapture");
}

/* These only look at the thread, or at what never changes. */
static bool asks(const char *function) {
    bool context = !strncmp(function, "cuCtx", 5) && strcmp(function, "cuCtxSynchronize");
    return context || !strncmp(function, "cuDevice", 8);
}

/* A failed device lets nothing be done. What releases something still does so here, and still returns the error, so that
 * whoever cleans up after an error leaks nothing. */
static _Thread_local bool after_failure;

CUresult enter(const char *function) {
    if (in_callback == 1) {
        violation("%s called from a host function", function);
        return NOT_PERMITTED;
    }
    /* A kernel's stand-in may be Python, whose garbage collector destroys whatever it finds, wherever it runs. */
    if (in_callback == 2 && !releases(function)) {
        violation("%s called from a kernel", function);
        return NOT_PERMITTED;
    }
    CUresult result = scripted(function);
    pthread_mutex_lock(&emu.lock);
    if (is_sticky(result))
        emu.sticky = result;
    if (!result && !emu.initialised)
        result = NOT_INITIALIZED;
    after_failure = !result && emu.sticky && releases(function);
    if (!result && !after_failure && !asks(function))
        result = emu.sticky;
    if (result) {
        log_line("%s: %d", function, result);
        pthread_mutex_unlock(&emu.lock);
    }
    return result;
}

CUresult leave(CUresult result) {
    if (after_failure)
        result = emu.sticky;
    pthread_mutex_unlock(&emu.lock);
    return result;
}

/* ---- control ---- */

#define SETTER(name, type, field)                                                                                              \
    EXPORT void name(type value) {                                                                                             \
        pthread_mutex_lock(&emu.lock);                                                                                         \
        emu.field = value;                                                                                                     \
        pthread_mutex_unlock(&emu.lock);                                                                                       \
    }
SETTER(emu_seed, uint64_t, seed)
SETTER(emu_set_delay_us, unsigned, delay_us)
SETTER(emu_limit_bytes, size_t, limit_bytes)
SETTER(emu_set_capability, unsigned, capability)
SETTER(emu_allow_pageable, int, pageable)

/* The nth call of `name` from now returns `code`; an error of 700..719 stays until `emu_reset`. `name` may also be
 * "allocation" (any kind), or "operation" (anything that a stream or a graph executes; its code then always stays). */
EXPORT int emu_fail(const char *name, long nth, CUresult code) {
    pthread_mutex_lock(&notes);
    int index = 0;
    while (index < script_count && scripts[index].nth > 0)
        index++;
    if (index < MAX_SCRIPTS && nth > 0) {
        snprintf(scripts[index].name, sizeof scripts[index].name, "%s", name);
        scripts[index].nth = nth;
        scripts[index].code = code;
        if (index == script_count)
            script_count++;
    }
    pthread_mutex_unlock(&notes);
    return index < MAX_SCRIPTS && nth > 0 ? 0 : -1;
}

/* The device fails now, as after a kernel that crashed. */
EXPORT void emu_break(CUresult code) {
    pthread_mutex_lock(&emu.lock);
    if (!emu.sticky)
        emu.sticky = code;
    pthread_cond_broadcast(&emu.changed);
    pthread_mutex_unlock(&emu.lock);
}

EXPORT long emu_call_count(const char *name) {
    long calls = 0;
    pthread_mutex_lock(&notes);
    for (int i = 0; i < function_count; i++)
        if (!strcmp(functions[i].name, name))
            calls = functions[i].calls;
    pthread_mutex_unlock(&notes);
    return calls;
}

/* The name of function `index` of the log, or NULL after the last. */
EXPORT const char *emu_function(int index) {
    pthread_mutex_lock(&notes);
    const char *name = index >= 0 && index < function_count ? functions[index].name : NULL;
    pthread_mutex_unlock(&notes);
    return name;
}

EXPORT void emu_forget_calls(void) {
    pthread_mutex_lock(&notes);
    for (int i = 0; i < function_count; i++)
        functions[i].calls = 0;
    pthread_mutex_unlock(&notes);
}

/* What is alive: contexts, streams, events, graphs, execs, pools, user objects; device, pooled and pinned allocations, then
 * the bytes of these three. What a stream frees counts until the host has waited for that: if it has not, nobody can say
 * that it is free. */
EXPORT void emu_counts(uint64_t out[13]) {
    memset(out, 0, 13 * sizeof *out);
    pthread_mutex_lock(&emu.lock);
    if (emu.sticky)
        wait_for_work(); /* nobody else can, then */
    out[0] = (uint64_t)emu.retained;
    for (int kind = 0; kind < KINDS; kind++)
        for (Object *object = emu.objects[kind]; object; object = object->next)
            out[1 + kind] += !(kind == GRAPH && ((Graph *)object)->orphan);
    out[1 + STREAM] -= (emu.legacy != NULL) + (emu.per_thread != NULL);
    out[1 + POOL] -= emu.default_pool != NULL;
    for (int freed = 0; freed < 2; freed++)
        for (Alloc *alloc = freed ? emu.freed : emu.allocs; alloc; alloc = alloc->next) {
            if (freed && (emu.sticky || emu.host.at[alloc->slot] >= alloc->seq))
                continue;
            out[7 + alloc->memory]++;
            out[10 + alloc->memory] += alloc->size;
        }
    pthread_mutex_unlock(&emu.lock);
}

/* Looks at all canaries and all freed memory; the number of violations so far. */
EXPORT int emu_check(void) {
    pthread_mutex_lock(&emu.lock);
    check_canaries();
    pthread_mutex_unlock(&emu.lock);
    pthread_mutex_lock(&notes);
    int count = violation_count;
    pthread_mutex_unlock(&notes);
    return count;
}

EXPORT const char *emu_violation(int index) {
    return index >= 0 && index < violation_count && index < MAX_VIOLATIONS ? violations[index] : NULL;
}

static void end_streams(void) {
    for (Object *object = emu.objects[STREAM]; object; object = object->next) {
        ((Stream *)object)->closing = true;
        pthread_cond_signal(&((Stream *)object)->wake);
    }
    while (emu.threads)
        pthread_cond_wait(&emu.changed, &emu.lock);
    emu.objects[STREAM] = NULL; /* each thread freed its own */
    emu.legacy = emu.per_thread = NULL;
}

static void drop_objects(void) {
    while (emu.objects[EXEC]) {
        Exec *exec = (Exec *)emu.objects[EXEC];
        remove_object(EXEC, exec);
        drop_exec(exec);
    }
    while (emu.objects[GRAPH])
        drop_graph((Graph *)emu.objects[GRAPH]);
    if (emu.default_pool) /* stays: whoever has asked for it once keeps its handle */
        remove_object(POOL, emu.default_pool);
    for (int kind = 0; kind < KINDS; kind++)
        while (emu.objects[kind]) {
            Object *object = emu.objects[kind];
            emu.objects[kind] = object->next;
            free(object);
        }
    while (emu.captures) {
        Capture *capture = emu.captures;
        emu.captures = capture->next;
        free(capture);
    }
    if (emu.default_pool) {
        Pool *pool = emu.default_pool;
        *pool = (Pool){.object = {.handle = pool->object.handle}, .threshold = pool->threshold};
        emu.objects[POOL] = &pool->object;
    }
}

/* Finish all work, drop everything that is alive, forget failures, calls and violations. */
EXPORT void emu_reset(void) {
    pthread_mutex_lock(&notes);
    script_count = 0;
    pthread_mutex_unlock(&notes);
    pthread_mutex_lock(&emu.lock);
    end_streams();
    drop_objects();
    forget_memory();
    memset(emu.slots, 0, sizeof emu.slots);
    memset(&emu.host, 0, sizeof emu.host);
    emu.next_slot = 0;
    emu.sticky = OK;
    emu.retained = 0;
    emu.resets++;
    emu.old_handles = emu.next_handle;
    emu.limit_bytes = (size_t)8 << 30;
    emu.capability = 120;
    emu.pageable = false;
    pthread_mutex_unlock(&emu.lock);
    pthread_mutex_lock(&notes);
    violation_count = 0;
    for (int i = 0; i < function_count; i++)
        functions[i].calls = 0;
    pthread_mutex_unlock(&notes);
}
