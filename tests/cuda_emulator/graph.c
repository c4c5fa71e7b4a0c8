/* Capture, graphs, and their execution in a random order that respects the recorded dependencies and nothing else. */
#include "emulator.h"

#include <stdlib.h>
#include <string.h>

enum { GLOBAL_MODE, THREAD_LOCAL_MODE, RELAXED_MODE };
static _Thread_local int thread_mode = GLOBAL_MODE;

bool has_node(const Nodes *nodes, int index) { return nodes->bits[index / 64] >> (index % 64) & 1; }

static void add_node(Nodes *nodes, int index) { nodes->bits[index / 64] |= (uint64_t)1 << (index % 64); }

static void unite(Nodes *into, const Nodes *from) {
    for (int word = 0; word < MAX_NODES / 64; word++)
        into->bits[word] |= from->bits[word];
}

static bool contains(const Nodes *all, const Nodes *some) {
    for (int word = 0; word < MAX_NODES / 64; word++)
        if (some->bits[word] & ~all->bits[word])
            return false;
    return true;
}

/* ---- capture ---- */

Capture *find_capture(uint64_t id) {
    Capture *capture = emu.captures;
    while (capture && capture->id != id)
        capture = capture->next;
    return capture;
}

CUresult invalidate(Capture *capture, CUresult result) {
    capture->invalid = true;
    return result;
}

/* Calls that may touch the device behind the capture's back. The modes say whom a capture forbids them. */
CUresult unsafe_call(const char *what) {
    for (Capture *capture = emu.captures; capture; capture = capture->next) {
        bool own = pthread_equal(capture->thread, pthread_self());
        bool forbidden = capture->mode == GLOBAL_MODE || (capture->mode == THREAD_LOCAL_MODE && own);
        if (forbidden && thread_mode != RELAXED_MODE) {
            log_line("%s during capture", what);
            return invalidate(capture, CAPTURE_UNSUPPORTED);
        }
    }
    return OK;
}

CUresult cuThreadExchangeStreamCaptureMode(int *mode) {
    ENTER();
    if (!mode || *mode < GLOBAL_MODE || *mode > RELAXED_MODE)
        return leave(INVALID_VALUE);
    int before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return leave(OK);
}

/* The index of a new node. */
static int append_node(Graph *graph, const Task *task, const Nodes *deps) {
    Node *nodes = realloc(graph->nodes, (size_t)(graph->count + 1) * sizeof *nodes);
    graph->nodes = nodes;
    Node *node = &nodes[graph->count];
    *node = (Node){.task = *task, .deps = *deps, .before = *deps};
    for (int i = 0; i < graph->count; i++)
        if (has_node(deps, i))
            unite(&node->before, &nodes[i].before);
    return graph->count++;
}

CUresult capture_task(Stream *stream, const Task *task) {
    Capture *capture = stream->capture;
    Graph *graph = capture->graph;
    if (capture->invalid)
        return CAPTURE_INVALIDATED;
    bool known = task->action == COPY || task->action == FILL || task->action == CALL || task->action == KERNEL ||
                 task->action == EMPTY;
    if (!known || !graph || graph->count == MAX_NODES)
        return invalidate(capture, known ? OUT_OF_MEMORY : CAPTURE_UNSUPPORTED);
    int added = append_node(graph, task, &stream->deps);
    stream->deps = (Nodes){0};
    add_node(&stream->deps, added);
    return OK;
}

CUresult cuStreamBeginCapture(CUhandle handle, int mode) {
    ENTER();
    Stream *stream = find_stream(handle);
    if (!stream)
        return leave(INVALID_HANDLE);
    if (mode < GLOBAL_MODE || mode > RELAXED_MODE)
        return leave(INVALID_VALUE);
    if (stream == emu.legacy)
        return leave(CAPTURE_UNSUPPORTED);
    if (stream->capture)
        return leave(ILLEGAL_STATE);
    Capture *capture = calloc(1, sizeof *capture);
    capture->id = ++emu.next_capture;
    capture->mode = mode;
    capture->thread = pthread_self();
    capture->origin = stream;
    capture->graph = new_object(GRAPH, sizeof *capture->graph);
    capture->graph->capturing = capture->id;
    capture->next = emu.captures;
    emu.captures = capture;
    stream->capture = capture;
    stream->deps = (Nodes){0};
    return leave(OK);
}

/* Every stream that was brought in must have been waited for by the origin, directly or not. */
static bool all_joined(const Capture *capture) {
    Nodes reached = capture->origin->deps;
    for (int i = 0; i < capture->graph->count; i++)
        if (has_node(&capture->origin->deps, i))
            unite(&reached, &capture->graph->nodes[i].before);
    for (Object *object = emu.objects[STREAM]; object; object = object->next) {
        Stream *stream = (Stream *)object;
        if (stream->capture == capture && !contains(&reached, &stream->deps))
            return false;
    }
    return !capture->unjoined;
}

static void end_capture(Capture *capture) {
    for (Object *object = emu.objects[STREAM]; object; object = object->next)
        if (((Stream *)object)->capture == capture)
            ((Stream *)object)->capture = NULL;
    Capture **link = &emu.captures;
    while (*link != capture)
        link = &(*link)->next;
    *link = capture->next;
    free(capture);
}

CUresult cuStreamEndCapture(CUhandle handle, CUhandle *out) {
    ENTER();
    if (out)
        *out = 0;
    Stream *stream = find_stream(handle);
    if (!stream)
        return leave(INVALID_HANDLE);
    Capture *capture = stream->capture;
    if (!capture)
        return leave(ILLEGAL_STATE);
    if (capture->origin != stream)
        return leave(invalidate(capture, CAPTURE_UNMATCHED));
    if (capture->mode != RELAXED_MODE && !pthread_equal(capture->thread, pthread_self()))
        return leave(invalidate(capture, CAPTURE_WRONG_THREAD));
    CUresult result = capture->invalid ? CAPTURE_INVALIDATED : all_joined(capture) ? OK : CAPTURE_UNJOINED;
    Graph *graph = capture->graph;
    if (graph) {
        graph->capturing = 0;
        graph->orphan = result != OK;
        if (out && !result)
            *out = graph->object.handle;
    }
    end_capture(capture);
    return leave(result);
}

CUresult cuStreamIsCapturing(CUhandle handle, int *out) {
    ENTER();
    Stream *stream = find_stream(handle);
    if (stream && out)
        *out = stream->capture ? stream->capture->invalid ? 2 : 1 : 0;
    return leave(!stream ? INVALID_HANDLE : out ? OK : INVALID_VALUE);
}

CUresult cuStreamGetCaptureInfo(CUhandle handle, int *status, uint64_t *id, CUhandle *graph, const CUhandle **deps,
                                   const void **edges, size_t *count) {
    static _Thread_local CUhandle listed[MAX_NODES];
    static const uint64_t plain[MAX_NODES]; /* CUgraphEdgeData of ordinary edges */
    ENTER();
    Stream *stream = find_stream(handle);
    if (!stream || !status)
        return leave(stream ? INVALID_VALUE : INVALID_HANDLE);
    Capture *capture = stream->capture;
    *status = capture ? capture->invalid ? 2 : 1 : 0;
    bool active = capture && !capture->invalid && capture->graph;
    size_t found = 0;
    for (int i = 0; active && i < capture->graph->count; i++)
        if (has_node(&stream->deps, i))
            listed[found++] = capture->graph->object.handle << 16 | (unsigned)i;
    if (id)
        *id = active ? capture->id : 0;
    if (graph)
        *graph = active ? capture->graph->object.handle : 0;
    if (deps)
        *deps = listed;
    if (edges)
        *edges = plain;
    if (count)
        *count = found;
    return leave(OK);
}

/* As CUDA 11.3 to 12 have it under this name, which cuda-bindings 12.9 calls. */
static CUresult cuStreamGetCaptureInfo_v2(CUhandle handle, int *status, uint64_t *id, CUhandle *graph,
                                          const CUhandle **deps, size_t *count) {
    return cuStreamGetCaptureInfo(handle, status, id, graph, deps, NULL, count);
}

/* False if one of them is not a node of the graph. */
static bool read_nodes(const Graph *graph, const CUhandle *nodes, size_t count, Nodes *out) {
    for (size_t i = 0; i < count; i++) {
        if (nodes[i] >> 16 != graph->object.handle || (int)(nodes[i] & 0xffff) >= graph->count)
            return false;
        add_node(out, (int)(nodes[i] & 0xffff));
    }
    return true;
}

/* flags: 0 adds to what the next captured node depends on, 1 replaces it. */
CUresult cuStreamUpdateCaptureDependencies(CUhandle handle, const CUhandle *nodes, const void *edges, size_t count,
                                           unsigned flags) {
    ENTER();
    (void)edges;
    Stream *stream = find_stream(handle);
    Capture *capture = stream ? stream->capture : NULL;
    if (!capture || capture->invalid || !capture->graph)
        return leave(!stream ? INVALID_HANDLE : capture ? CAPTURE_INVALIDATED : ILLEGAL_STATE);
    Nodes deps = {0};
    if (flags > 1 || !read_nodes(capture->graph, nodes, count, &deps))
        return leave(INVALID_VALUE);
    if (!flags)
        unite(&deps, &stream->deps);
    stream->deps = deps;
    return leave(OK);
}

/* As CUDA 11.3 to 12 have it under this name, which cuda-bindings 12.9 calls. */
static CUresult cuStreamUpdateCaptureDependencies_v1(CUhandle handle, const CUhandle *nodes, size_t count, unsigned flags) {
    return cuStreamUpdateCaptureDependencies(handle, nodes, NULL, count, flags);
}

/* ---- user objects: something that lives as long as the graphs that hold it ---- */

CUresult cuUserObjectCreate(CUhandle *out, void *ptr, CUhostFn destroy, unsigned count, unsigned flags) {
    ENTER();
    if (!out || !destroy || !count || flags != 1)
        return leave(INVALID_VALUE);
    UserObject *object = new_object(USER_OBJECT, sizeof *object);
    object->ptr = ptr;
    object->destroy = destroy;
    object->count = count;
    *out = object->object.handle;
    return leave(OK);
}

/* Gives up the lock while the owner's function runs. */
static void unreference(UserObject *object, long count) {
    object->count -= count;
    if (object->count > 0)
        return;
    remove_object(USER_OBJECT, object);
    pthread_mutex_unlock(&emu.lock);
    object->destroy(object->ptr);
    pthread_mutex_lock(&emu.lock);
    free(object);
}

CUresult cuUserObjectRelease(CUhandle handle, unsigned count) {
    ENTER();
    UserObject *object = find_object(USER_OBJECT, handle);
    if (object)
        unreference(object, count);
    return leave(object ? OK : INVALID_HANDLE);
}

static void hold(Held **list, UserObject *object, long count) {
    Held *held = malloc(sizeof *held);
    *held = (Held){.next = *list, .object = object, .count = count};
    *list = held;
}

static void hold_too(Held **list, const Held *others) {
    for (; others; others = others->next) {
        others->object->count += others->count;
        hold(list, others->object, others->count);
    }
}

static void let_go(Held *held) {
    while (held) {
        Held *next = held->next;
        unreference(held->object, held->count);
        free(held);
        held = next;
    }
}

CUresult cuGraphRetainUserObject(CUhandle graph_handle, CUhandle handle, unsigned count, unsigned flags) {
    ENTER();
    Graph *graph = find_object(GRAPH, graph_handle);
    UserObject *object = find_object(USER_OBJECT, handle);
    if (!graph || !object)
        return leave(INVALID_HANDLE);
    if (!(flags & 1)) /* not moved from the caller: one more */
        object->count += count;
    hold(&graph->held, object, count);
    return leave(OK);
}

CUresult cuGraphReleaseUserObject(CUhandle graph_handle, CUhandle handle, unsigned count) {
    ENTER();
    Graph *graph = find_object(GRAPH, graph_handle);
    if (!graph)
        return leave(INVALID_HANDLE);
    for (Held **link = &graph->held; *link; link = &(*link)->next) {
        Held *held = *link;
        if (held->object->object.handle != handle || held->count < count)
            continue;
        held->count -= count;
        UserObject *object = held->object;
        if (!held->count) {
            *link = held->next;
            free(held);
        }
        unreference(object, count);
        return leave(OK);
    }
    return leave(INVALID_VALUE);
}

/* ---- graphs ---- */

void drop_graph(Graph *graph) {
    remove_object(GRAPH, graph);
    let_go(graph->held);
    free(graph->nodes);
    free(graph);
}

CUresult cuGraphDestroy(CUhandle handle) {
    ENTER();
    Graph *graph = find_object(GRAPH, handle);
    if (!graph)
        return leave(INVALID_HANDLE);
    Capture *capture = graph->capturing ? find_capture(graph->capturing) : NULL;
    if (capture) {
        violation("graph destroyed while its capture goes on");
        capture->graph = NULL;
        invalidate(capture, OK);
    }
    drop_graph(graph);
    return leave(OK);
}

CUresult cuGraphGetNodes(CUhandle handle, CUhandle *nodes, size_t *count) {
    ENTER();
    Graph *graph = find_object(GRAPH, handle);
    if (!graph || !count)
        return leave(graph ? INVALID_VALUE : INVALID_HANDLE);
    for (size_t i = 0; nodes && i < *count; i++)
        nodes[i] = i < (size_t)graph->count ? handle << 16 | i : 0;
    if (!nodes || *count > (size_t)graph->count)
        *count = (size_t)graph->count;
    return leave(OK);
}

CUresult cuGraphNodeGetType(CUhandle node, int *type) {
    static const int types[] = {[COPY] = 1, [FILL] = 2, [CALL] = 3, [KERNEL] = 0, [EMPTY] = 5};
    ENTER();
    Graph *graph = find_object(GRAPH, node >> 16);
    if (!graph || !type || (int)(node & 0xffff) >= graph->count)
        return leave(INVALID_VALUE);
    *type = types[graph->nodes[node & 0xffff].task.action];
    return leave(OK);
}

/* A copy of each node of the child, and after them an empty node, which stands for the child. */
CUresult cuGraphAddChildGraphNode(CUhandle *out, CUhandle handle, const CUhandle *nodes, size_t count, CUhandle child_handle) {
    ENTER();
    Graph *graph = find_object(GRAPH, handle), *child = find_object(GRAPH, child_handle);
    if (!graph || !child)
        return leave(INVALID_HANDLE);
    Nodes first = {0}, all = {0};
    if (!out || child->capturing || child->orphan || !read_nodes(graph, nodes, count, &first))
        return leave(INVALID_VALUE);
    int offset = graph->count;
    if (offset + child->count >= MAX_NODES)
        return leave(OUT_OF_MEMORY);
    for (int i = 0; i < child->count; i++) {
        Nodes deps = first; /* of every node: none can come before the first */
        for (int before = 0; before < i; before++)
            if (has_node(&child->nodes[i].deps, before))
                add_node(&deps, offset + before);
        add_node(&all, append_node(graph, &child->nodes[i].task, &deps));
    }
    Task end = {.action = EMPTY};
    *out = handle << 16 | (unsigned)append_node(graph, &end, child->count ? &all : &first);
    hold_too(&graph->held, child->held);
    return leave(OK);
}

static CUresult instantiate(CUhandle *out, CUhandle handle) {
    Graph *graph = find_object(GRAPH, handle);
    if (!graph || !out)
        return graph ? INVALID_VALUE : INVALID_HANDLE;
    if (graph->capturing || graph->orphan)
        return INVALID_VALUE;
    Exec *exec = new_object(EXEC, sizeof *exec);
    exec->refs = 1;
    exec->count = graph->count;
    size_t bytes = (size_t)graph->count * sizeof *exec->nodes;
    exec->nodes = malloc(bytes ? bytes : 1);
    if (bytes)
        memcpy(exec->nodes, graph->nodes, bytes);
    hold_too(&exec->held, graph->held);
    *out = exec->object.handle;
    return OK;
}

CUresult cuGraphInstantiateWithFlags(CUhandle *out, CUhandle graph, uint64_t flags) {
    ENTER();
    (void)flags;
    return leave(instantiate(out, graph));
}

typedef struct {
    uint64_t flags;
    CUhandle upload_stream, error_node;
    int result;
} InstantiateParams;

CUresult cuGraphInstantiateWithParams(CUhandle *out, CUhandle graph, InstantiateParams *params) {
    ENTER();
    CUresult result = params ? instantiate(out, graph) : INVALID_VALUE;
    if (params) {
        params->error_node = 0;
        params->result = result ? 1 : 0;
    }
    return leave(result);
}

void drop_exec(Exec *exec) {
    if (--exec->refs)
        return;
    let_go(exec->held);
    free(exec->nodes);
    free(exec);
}

/* A launch on its way is finished; the exec goes with it. */
CUresult cuGraphExecDestroy(CUhandle handle) {
    ENTER();
    Exec *exec = find_object(EXEC, handle);
    if (!exec)
        return leave(INVALID_HANDLE);
    remove_object(EXEC, exec);
    drop_exec(exec);
    return leave(OK);
}

CUresult cuGraphUpload(CUhandle handle, CUhandle stream_handle) {
    ENTER();
    Task task = {.action = EMPTY};
    bool known = find_object(EXEC, handle);
    return leave(known ? submit(find_stream(stream_handle), &task, NULL) : INVALID_HANDLE);
}

/* A launch comes after earlier work of its stream and after earlier launches of the same exec. */
CUresult cuGraphLaunch(CUhandle handle, CUhandle stream_handle) {
    ENTER();
    Exec *exec = find_object(EXEC, handle);
    Stream *stream = find_stream(stream_handle);
    if (!exec || !stream)
        return leave(INVALID_HANDLE);
    if (stream->capture)
        return leave(invalidate(stream->capture, CAPTURE_UNSUPPORTED)); /* it can be a child node */
    if (exec->seq && exec->slot != stream->slot) {
        Task wait = {.action = WAIT, .slot = exec->slot, .seq = exec->seq};
        merge(&stream->clock, &exec->clock);
        submit(stream, &wait, NULL);
    }
    Task task = {.action = LAUNCH, .handle = handle};
    exec->refs++;
    CUresult result = submit(stream, &task, exec);
    if (result) {
        drop_exec(exec);
        return leave(result);
    }
    exec->slot = stream->slot;
    exec->seq = stream->issued;
    exec->clock = stream->clock;
    return leave(OK);
}

static const char *node_name(const Task *task) {
    static const char *const names[] = {[COPY] = "copy node", [FILL] = "fill node", [CALL] = "host node",
                                        [KERNEL] = "kernel node", [EMPTY] = "empty node"};
    return names[task->action];
}

void launch(Exec *exec, const Op *op, Stream *stream) {
    Nodes done = {0};
    for (int left = exec->count; left && !emu.sticky; left--) {
        int ready[MAX_NODES], count = 0;
        for (int i = 0; i < exec->count; i++)
            if (!has_node(&done, i) && contains(&done, &exec->nodes[i].deps))
                ready[count++] = i;
        int index = ready[next_random(&stream->random) % (unsigned)count];
        unsigned delay_us = emu.delay_us;
        pthread_mutex_unlock(&emu.lock);
        nap(&stream->random, delay_us);
        pthread_mutex_lock(&emu.lock);
        const Node *node = &exec->nodes[index];
        Work work = {.slot = stream->slot, .seq = op->seq, .node = index, .clock = &op->clock, .before = &node->before,
                     .what = node_name(&node->task)};
        perform(&node->task, &work);
        add_node(&done, index);
    }
    drop_exec(exec);
}

const Entry graph_entries[] = {
    ENTRY(cuStreamBeginCapture), ENTRY(cuStreamEndCapture), ENTRY(cuStreamIsCapturing),
    ENTRY(cuThreadExchangeStreamCaptureMode), ENTRY_SINCE(cuStreamGetCaptureInfo, 12030, cuStreamGetCaptureInfo),
    ENTRY_SINCE(cuStreamGetCaptureInfo, 11030, cuStreamGetCaptureInfo_v2),
    ENTRY_SINCE(cuStreamUpdateCaptureDependencies, 12030, cuStreamUpdateCaptureDependencies),
    ENTRY_SINCE(cuStreamUpdateCaptureDependencies, 11030, cuStreamUpdateCaptureDependencies_v1),
    ENTRY(cuGraphAddChildGraphNode),
    ENTRY(cuUserObjectCreate), ENTRY(cuUserObjectRelease), ENTRY(cuGraphRetainUserObject),
    ENTRY(cuGraphReleaseUserObject), ENTRY(cuGraphDestroy), ENTRY(cuGraphGetNodes), ENTRY(cuGraphNodeGetType),
    ENTRY(cuGraphInstantiateWithFlags), ENTRY(cuGraphInstantiateWithParams), ENTRY(cuGraphExecDestroy), ENTRY(cuGraphUpload),
    ENTRY(cuGraphLaunch),
    {NULL, 0, NULL},
};
