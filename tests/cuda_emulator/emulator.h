/* A CUDA driver on host memory, for tests: types and functions that its files share.
 *
 * One lock guards all state (`emu.lock`). It is never held while memory is copied, while a delay runs, or while a host
 * function is called. Handles are numbers that are never used twice, so a stale handle is always recognised.
 */
#pragma once

#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define SLOTS 128      /* streams that order is tracked for at one time */
#define MAX_NODES 1024 /* nodes of one graph */

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef uintptr_t CUhandle; /* any opaque handle of the API: same size, same registers */
typedef void (*CUhostFn)(void *);

enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    ILLEGAL_STATE = 401,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    NOT_PERMITTED = 800,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_MERGE = 902,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
    CAPTURE_WRONG_THREAD = 908,
};

/* How far each stream had come: what happened before something. */
typedef struct {
    uint32_t at[SLOTS];
} Clock;

typedef struct {
    uint64_t bits[MAX_NODES / 64];
} Nodes;

typedef enum { STREAM, EVENT, GRAPH, EXEC, POOL, USER_OBJECT, KINDS } Kind;

typedef struct Object {
    struct Object *next;
    uintptr_t handle;
} Object;

typedef enum { DEVICE_MEMORY, POOL_MEMORY, PINNED_MEMORY } Memory;

/* The work that made an access, and what came before it. */
typedef struct {
    uint32_t slot, seq;
    int node; /* of a graph, or -1 */
    const Clock *clock;
    const Nodes *before; /* nodes of the same launch that came before */
    bool pageable; /* may use ordinary host memory */
    const char *what;
} Work;

typedef struct Access {
    struct Access *next;
    size_t begin, end;
    uint32_t slot, seq;
    int node;
    bool write;
    const char *what;
} Access;

/* One allocation is mapped twice: the user's addresses, which nobody may read or write where that would be a mistake,
 * and `bytes`, through which the emulator works. Canaries fill the mapping on both sides of it. */
typedef struct Alloc {
    struct Alloc *next;
    uintptr_t begin;
    size_t size;
    char *bytes;
    void *view, *alias; /* the two mappings; the view has a guard page on both sides */
    size_t mapped;      /* of the alias */
    size_t front;       /* bytes of canary before `begin` */
    Memory memory;
    uintptr_t pool;
    unsigned id, resets; /* resets: when it was made */
    bool live, born; /* born: the stream has come to the allocation */
    bool dying;      /* on its way to be freed */
    uint32_t slot, seq; /* of the work that freed it, where that was a stream's */
    bool owed;          /* freed by a stream, and the host does not know it yet */
    bool reported;
    int users; /* work that is touching it now */
    Access *accesses;
} Alloc;

typedef enum { COPY, FILL, CALL, KERNEL, RECORD, WAIT, LAUNCH, ALLOCATE, RELEASE, EMPTY } Action;

typedef struct {
    Action action;
    uintptr_t dst, src;
    size_t bytes;
    uint32_t value; /* FILL: pattern of `width` bytes */
    int width;
    bool pageable; /* COPY: from or to ordinary host memory */
    CUhostFn fn;
    void *user;
    uintptr_t handle; /* RECORD: the event; LAUNCH: the exec */
    uint32_t slot, seq; /* WAIT: until this slot has come to this number */
} Task;

typedef struct Op {
    struct Op *next;
    Task task;
    uint32_t seq;
    Clock clock;
    struct Exec *exec;
} Op;

typedef struct Capture {
    uint64_t id;
    int mode; /* 0 global, 1 thread local, 2 relaxed */
    pthread_t thread;
    struct Stream *origin;
    struct Graph *graph;
    bool invalid, unjoined;
    struct Capture *next;
} Capture;

typedef struct Stream {
    Object object;
    uint32_t slot, issued;
    unsigned flags;
    int priority;
    bool closing;
    uint64_t random;
    Op *head, **tail;
    Clock clock;
    Capture *capture;
    Nodes deps; /* of the next captured node */
    pthread_cond_t wake;
    pthread_t thread;
} Stream;

typedef struct {
    Object object;
    unsigned flags;
    bool recorded;
    uint32_t slot, seq;
    Clock clock;
    uint64_t capture; /* id of the capture that it was last recorded in, or 0 */
    Nodes deps;
    double time_ms;
} Event;

typedef struct {
    Task task;
    Nodes deps, before;
} Node;

typedef struct UserObject {
    Object object;
    void *ptr;
    CUhostFn destroy;
    long count;
} UserObject;

typedef struct Held {
    struct Held *next;
    UserObject *object;
    long count;
} Held;

typedef struct Graph {
    Object object;
    Node *nodes;
    int count;
    Held *held;
    uint64_t capturing;
    bool orphan; /* of a capture that failed: nobody has to destroy it */
} Graph;

typedef struct Exec {
    Object object;
    Node *nodes;
    int count;
    Held *held;
    int refs; /* the handle, and each launch on its way */
    uint32_t slot, seq; /* of the last launch */
    Clock clock;
} Exec;

typedef struct {
    Object object;
    uint64_t threshold;
    size_t used, high;
    size_t kept; /* freed, and not given back: up to `threshold` bytes, for the pool's next allocation */
} Pool;

typedef struct Guard {
    struct Guard *next;
    Alloc *alloc;
    size_t begin, end;
    bool write;
    uint32_t slot, seq;
    int node;
} Guard;

extern struct Emulator {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* some stream came further, or a thread ended */
    bool initialised, drained;
    uint64_t seed;
    unsigned delay_us;
    uintptr_t next_handle, old_handles; /* those up to the latter are from before the last reset */
    unsigned resets;
    Object *objects[KINDS];
    Capture *captures;
    uint64_t next_capture;
    int threads, retained;
    CUresult sticky;
    struct {
        uint32_t issued, done;
        bool taken;
    } slots[SLOTS];
    unsigned next_slot;
    Clock host; /* what the host knows to be finished */
    Alloc *allocs, *freed, *forgotten;
    size_t freed_bytes;
    unsigned next_alloc;
    size_t device_bytes, limit_bytes;
    bool pageable;       /* asynchronous copies may use ordinary host memory; then the host waits for them */
    unsigned capability; /* 120 for compute capability 12.0 */
    Guard *guards;
    Stream *legacy, *per_thread;
    Pool *default_pool;
} emu;

/* core.c */
CUresult enter(const char *function);   /* counts, fails as scripted; holds the lock if it returns OK */
CUresult leave(CUresult result);        /* gives the lock back */
#define ENTER()                                                                                                                \
    do {                                                                                                                       \
        CUresult refused = enter(__func__);                                                                                    \
        if (refused)                                                                                                           \
            return refused;                                                                                                    \
    } while (0)
CUresult scripted(const char *function); /* counts a call and says how it shall fail */
void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *new_object(Kind kind, size_t bytes);
void *find_object(Kind kind, uintptr_t handle);
void remove_object(Kind kind, void *object);
uint64_t next_random(uint64_t *state);
void nap(uint64_t *random, unsigned delay_us); /* without the lock */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern _Thread_local int in_callback; /* 1 in a host function, 2 in a kernel */
extern _Thread_local const Work *current_work;

/* memory.c */
void trim_pool(Pool *pool, uint64_t bytes);
CUresult allocate(Memory memory, size_t bytes, uintptr_t pool, bool born, uintptr_t *out);
CUresult release(Memory memory, uintptr_t ptr);
void release_now(Alloc *alloc);
Alloc *alloc_at(uintptr_t ptr, bool freed);
CUresult check_range(uintptr_t ptr, size_t bytes, const char *what, bool pageable);
void *open_bytes(uintptr_t ptr, size_t bytes, bool write, const Work *work, Alloc **alloc);
void close_bytes(Alloc *alloc);
void guard_task(const Task *task, uint32_t slot, uint32_t seq, int node);
void settle_guards(void);
void settle_releases(void);
void settle_nodes(const Work *work);
void check_canaries(void);
void forget_memory(void);
void wait_for_work(void);

/* work.c */
void perform(const Task *task, const Work *work);
const char *task_name(const Task *task);

/* stream.c */
Stream *find_stream(uintptr_t handle);
CUresult submit(Stream *stream, const Task *task, Exec *exec);
void order_with_legacy(Stream *stream);
Stream *capturing_blocking_stream(void);
void wait_for(uint32_t slot, uint32_t seq);
void host_learns(const Clock *clock);
void merge(Clock *into, const Clock *from);
CUresult synchronize_all(void);
Stream *make_stream(unsigned flags, int priority);

/* graph.c */
CUresult capture_task(Stream *stream, const Task *task);
CUresult unsafe_call(const char *what); /* CAPTURE_UNSUPPORTED where the mode of a running capture forbids such a call */
CUresult invalidate(Capture *capture, CUresult result);
Capture *find_capture(uint64_t id);
void launch(Exec *exec, const Op *op, Stream *stream);
void drop_exec(Exec *exec);
void drop_graph(Graph *graph);
bool has_node(const Nodes *nodes, int index);

/* The entry points of a file, ended by NULL. Where a name has several, the newest that the caller knows is meant. */
typedef struct {
    const char *name;
    int since;
    void (*function)(void);
} Entry;
#define ENTRY(name) {#name, 0, (void (*)(void))name}
#define ENTRY_SINCE(name, version, function) {#name, version, (void (*)(void))function}
extern const Entry driver_entries[], stream_entries[], work_entries[], graph_entries[];
