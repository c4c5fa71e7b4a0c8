/* Allocations: two mappings each, canaries, poison, races between accesses, and addresses that the host must not touch. */
#include "emulator.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define KEEP_FREED_BYTES ((size_t)16 << 20)
#define CANARY 0xc5

static const char *const memory_names[] = {"device memory", "pooled device memory", "pinned memory"};
static struct sigaction previous_handler;
static bool handler_installed;

static size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

/* NaN in every float format that matters, so that nothing computed from it looks like a result. */
static void poison(char *bytes, size_t size, uint8_t low) {
    for (size_t i = 0; i < size && i < 2; i++)
        bytes[i] = (char)(i ? 0xff : low);
    for (size_t done = 2; done < size; done *= 2)
        memcpy(bytes + done, bytes, done < size - done ? done : size - done);
}

static bool is_poison(const char *bytes, size_t size, uint8_t low) {
    bool begins = (!size || (uint8_t)bytes[0] == low) && (size < 2 || (uint8_t)bytes[1] == 0xff);
    return begins && (size <= 2 || !memcmp(bytes, bytes + 2, size - 2));
}

static bool is_canary(const uint8_t *bytes, size_t size) {
    return bytes[0] == CANARY && !memcmp(bytes, bytes + 1, size - 1);
}

static bool canary_intact(const Alloc *alloc) {
    size_t end = alloc->front + alloc->size;
    const uint8_t *whole = alloc->alias;
    return is_canary(whole, alloc->front) && is_canary(whole + end, alloc->mapped - end);
}

static void check_canary(Alloc *alloc) {
    if (alloc->reported || canary_intact(alloc))
        return;
    alloc->reported = true;
    violation("out of bounds: something wrote just before or after allocation %u (%s of %zu bytes)", alloc->id,
              memory_names[alloc->memory], alloc->size);
}

void check_canaries(void) {
    for (Alloc *alloc = emu.allocs; alloc; alloc = alloc->next)
        check_canary(alloc);
    for (Alloc *alloc = emu.freed; alloc; alloc = alloc->next)
        if (!alloc->reported && !is_poison(alloc->bytes, alloc->size, 0xfd)) {
            alloc->reported = true;
            violation("use after free: something wrote to allocation %u (%s of %zu bytes) after it was freed", alloc->id,
                      memory_names[alloc->memory], alloc->size);
        }
}

/* ---- addresses that the host must not touch ---- */

static Alloc *alloc_viewed_at(uintptr_t address) {
    for (int freed = 0; freed < 2; freed++)
        for (Alloc *alloc = freed ? emu.freed : emu.allocs; alloc; alloc = alloc->next)
            if (address >= (uintptr_t)alloc->view && address < (uintptr_t)alloc->view + alloc->mapped)
                return alloc;
    return NULL;
}

/* The host touched a device address, or pinned memory that a copy may be using: note it and let it go on. The faulting
 * thread runs the user's code, never ours, so it does not hold the lock. */
static void on_fault(int signal_number, siginfo_t *info, void *context) {
    pthread_mutex_lock(&emu.lock);
    Alloc *alloc = alloc_viewed_at((uintptr_t)info->si_addr);
    if (alloc) {
        mprotect(alloc->view, alloc->mapped, PROT_READ | PROT_WRITE);
        const char *how = !alloc->live                      ? "after it was freed"
                          : alloc->memory == PINNED_MEMORY ? "while a copy may be using it"
                                                           : "at its device address";
        violation("the host touched allocation %u (%s of %zu bytes) %s, at byte %ld", alloc->id, memory_names[alloc->memory],
                  alloc->size, how, (long)((uintptr_t)info->si_addr - alloc->begin));
    }
    pthread_mutex_unlock(&emu.lock);
    if (alloc)
        return;
    if (previous_handler.sa_flags & SA_SIGINFO)
        previous_handler.sa_sigaction(signal_number, info, context);
    else if (previous_handler.sa_handler != SIG_DFL && previous_handler.sa_handler != SIG_IGN)
        previous_handler.sa_handler(signal_number);
    else
        signal(SIGSEGV, SIG_DFL); /* the access repeats and ends the process */
}

static void install_handler(void) {
    if (handler_installed)
        return;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGSEGV, &action, &previous_handler);
    handler_installed = true;
}

/* ---- allocation ---- */

static bool map_twice(Alloc *alloc) {
    int file = memfd_create("cuda-emulator", 0);
    if (file < 0)
        return false;
    char *reserved = MAP_FAILED;
    void *alias = MAP_FAILED;
    if (!ftruncate(file, (off_t)alloc->mapped)) {
        reserved = mmap(NULL, alloc->mapped + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        alias = mmap(NULL, alloc->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (reserved != MAP_FAILED && alias != MAP_FAILED)
        mmap(reserved + PAGE, alloc->mapped, alloc->memory == PINNED_MEMORY ? PROT_READ | PROT_WRITE : PROT_NONE,
             MAP_SHARED | MAP_FIXED, file, 0);
    close(file);
    if (reserved == MAP_FAILED || alias == MAP_FAILED)
        return false;
    alloc->view = reserved + PAGE;
    alloc->alias = alias;
    return true;
}

/* Its addresses stay reserved, so that a late use or a late free can never hit another allocation. */
static void forget(Alloc *alloc) {
    mmap(alloc->view, alloc->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    munmap(alloc->alias, alloc->mapped);
    while (alloc->accesses) {
        Access *access = alloc->accesses;
        alloc->accesses = access->next;
        free(access);
    }
    alloc->next = emu.forgotten;
    emu.forgotten = alloc;
}

CUresult allocate(Memory memory, size_t bytes, uintptr_t pool, bool born, uintptr_t *out) {
    if (!out || !bytes)
        return INVALID_VALUE;
    CUresult failure = scripted("allocation");
    if (failure)
        return failure;
    Pool *owner = pool ? find_object(POOL, pool) : NULL;
    size_t reused = owner && owner->kept < bytes ? owner->kept : owner ? bytes : 0, more = bytes - reused;
    if (memory != PINNED_MEMORY && (more > emu.limit_bytes || emu.device_bytes > emu.limit_bytes - more))
        return OUT_OF_MEMORY;
    install_handler();
    Alloc *alloc = calloc(1, sizeof *alloc);
    uint64_t random = emu.seed + emu.next_alloc;
    alloc->memory = memory;
    alloc->size = bytes;
    /* Device addresses are multiples of 256 and no more: code that relies on better alignment shall see that. */
    alloc->front = PAGE + (memory == PINNED_MEMORY ? 0 : 256 * (1 + next_random(&random) % 15));
    alloc->mapped = pages(alloc->front + bytes + 64);
    if (!map_twice(alloc)) {
        free(alloc);
        return OUT_OF_MEMORY;
    }
    alloc->begin = (uintptr_t)alloc->view + alloc->front;
    alloc->bytes = (char *)alloc->alias + alloc->front;
    alloc->pool = pool;
    alloc->id = ++emu.next_alloc;
    alloc->resets = emu.resets;
    alloc->live = true;
    alloc->born = born;
    memset(alloc->alias, CANARY, alloc->mapped);
    poison(alloc->bytes, bytes, 0xfe);
    alloc->next = emu.allocs;
    emu.allocs = alloc;
    if (owner)
        owner->kept -= reused;
    if (memory != PINNED_MEMORY)
        emu.device_bytes += more;
    *out = alloc->begin;
    return OK;
}

Alloc *alloc_at(uintptr_t ptr, bool freed) {
    for (Alloc *alloc = freed ? emu.freed : emu.allocs; alloc; alloc = alloc->next)
        if (ptr >= alloc->begin - alloc->front && ptr < alloc->begin - alloc->front + alloc->mapped)
            return alloc;
    return NULL;
}

static void bury(void) {
    Alloc **link = &emu.freed;
    size_t kept = 0;
    while (*link) {
        Alloc *alloc = *link;
        kept += alloc->mapped;
        if (kept <= KEEP_FREED_BYTES || alloc->users || alloc->owed) {
            link = &alloc->next;
            continue;
        }
        if (!alloc->reported && !is_poison(alloc->bytes, alloc->size, 0xfd))
            violation("use after free: something wrote to allocation %u after it was freed", alloc->id);
        *link = alloc->next;
        forget(alloc);
    }
}

/* Gives back what the pool keeps beyond `bytes`. (A real one does so when something is waited for, if by its threshold.) */
void trim_pool(Pool *pool, uint64_t bytes) {
    if (pool->kept > bytes) {
        emu.device_bytes -= pool->kept - bytes;
        pool->kept = bytes;
    }
}

static void give_back(Alloc *alloc) {
    Pool *owner = alloc->pool ? find_object(POOL, alloc->pool) : NULL;
    alloc->owed = false;
    if (owner)
        owner->kept += alloc->size;
    if (alloc->memory != PINNED_MEMORY && !owner)
        emu.device_bytes -= alloc->size;
    if (owner)
        trim_pool(owner, owner->threshold);
}

/* What a stream freed takes up memory until the host has waited for that: whether the stream has come to it by then is
 * luck. */
void settle_releases(void) {
    for (Alloc *alloc = emu.freed; alloc; alloc = alloc->next)
        if (alloc->owed && emu.host.at[alloc->slot] >= alloc->seq)
            give_back(alloc);
}

void release_now(Alloc *alloc) {
    check_canary(alloc);
    Alloc **link = &emu.allocs;
    while (*link != alloc)
        link = &(*link)->next;
    *link = alloc->next;
    for (Guard **guard = &emu.guards; *guard;) {
        Guard *old = *guard;
        if (old->alloc != alloc) {
            guard = &old->next;
            continue;
        }
        if (!alloc->reported && !emu.sticky)
            violation("allocation %u (%s of %zu bytes) was freed while a copy may be using it", alloc->id,
                      memory_names[alloc->memory], alloc->size);
        alloc->reported = true;
        *guard = old->next;
        free(old);
    }
    alloc->owed = alloc->seq && !emu.sticky;
    if (!alloc->owed)
        give_back(alloc);
    alloc->live = false;
    poison(alloc->bytes, alloc->size, 0xfd);
    mprotect(alloc->view, alloc->mapped, PROT_NONE);
    alloc->next = emu.freed;
    emu.freed = alloc;
    bury();
}

CUresult release(Memory memory, uintptr_t ptr) {
    Alloc *alloc = alloc_at(ptr, false);
    if (!alloc || alloc->begin != ptr || (alloc->memory == PINNED_MEMORY) != (memory == PINNED_MEMORY)) {
        Alloc *freed = alloc ? NULL : alloc_at(ptr, true);
        if (!alloc && !freed)
            for (freed = emu.forgotten; freed && freed->begin != ptr;)
                freed = freed->next;
        if (freed && freed->resets != emu.resets)
            return INVALID_VALUE; /* garbage of an earlier test, which Python frees late */
        if (freed)
            violation("double free of allocation %u (%s of %zu bytes)", freed->id, memory_names[freed->memory], freed->size);
        else
            violation("free of %#lx, which is not the begin of an allocation of that kind", (unsigned long)ptr);
        return INVALID_VALUE;
    }
    release_now(alloc);
    return OK;
}

void forget_memory(void) {
    for (int freed = 0; freed < 2; freed++) {
        Alloc **list = freed ? &emu.freed : &emu.allocs;
        while (*list) {
            Alloc *alloc = *list;
            *list = alloc->next;
            forget(alloc);
        }
    }
    while (emu.guards) {
        Guard *guard = emu.guards;
        emu.guards = guard->next;
        free(guard);
    }
    emu.device_bytes = 0;
    emu.next_alloc = 0;
}

/* ---- accesses ---- */

/* OK if the range lies in one live allocation, or, where `pageable`, in none at all. */
CUresult check_range(uintptr_t ptr, size_t bytes, const char *what, bool pageable) {
    Alloc *alloc = alloc_at(ptr, false);
    if (alloc && ptr >= alloc->begin && bytes <= alloc->size && ptr - alloc->begin <= alloc->size - bytes) {
        check_canary(alloc);
        return OK;
    }
    if (alloc) {
        violation("out of bounds: %s of bytes %ld to %ld of allocation %u (%s of %zu bytes)", what, (long)(ptr - alloc->begin),
                  (long)(ptr - alloc->begin + bytes), alloc->id, memory_names[alloc->memory], alloc->size);
        return INVALID_VALUE;
    }
    Alloc *freed = alloc_at(ptr, true);
    if (freed) {
        violation("use after free: %s of allocation %u (%s of %zu bytes)", what, freed->id, memory_names[freed->memory],
                  freed->size);
        return INVALID_VALUE;
    }
    if (pageable)
        return OK;
    violation("%s of %zu bytes at %#lx, which is neither device nor pinned memory", what, bytes, (unsigned long)ptr);
    return INVALID_VALUE;
}

static bool happened_before(const Access *access, const Work *work) {
    if (access->slot == work->slot && access->seq == work->seq && access->node != work->node)
        return work->before && access->node >= 0 && has_node(work->before, access->node);
    return work->clock->at[access->slot] >= access->seq;
}

/* Two accesses of which one writes must be ordered by the program, not by luck. */
static void note_access(Alloc *alloc, size_t begin, size_t end, bool write, const Work *work) {
    Access **link = &alloc->accesses;
    Access *same = NULL;
    while (*link) {
        Access *access = *link;
        bool ordered = happened_before(access, work);
        if (access->begin < end && begin < access->end && (write || access->write) && !ordered && !alloc->reported) {
            alloc->reported = true;
            violation("race: %s %s bytes %zu to %zu of allocation %u (%s) without waiting for a %s that %s them", work->what,
                      write ? "writes" : "reads", begin, end, alloc->id, memory_names[alloc->memory], access->what,
                      access->write ? "writes" : "reads");
        }
        if (!same && access->slot == work->slot && access->node == work->node && access->begin == begin &&
            access->end == end && access->write == write)
            same = access;
        if (ordered && write && begin <= access->begin && access->end <= end && access != same) {
            *link = access->next; /* whoever is ordered after this write is ordered after that access */
            free(access);
            continue;
        }
        link = &access->next;
    }
    if (!same) {
        same = calloc(1, sizeof *same);
        same->next = alloc->accesses;
        alloc->accesses = same;
    }
    *same = (Access){.next = same->next, .begin = begin, .end = end, .slot = work->slot, .seq = work->seq,
                     .node = work->node, .write = write, .what = work->what};
}

/* Where the emulator finds these bytes, or NULL after a violation. Pageable host memory is found where it is. */
void *open_bytes(uintptr_t ptr, size_t bytes, bool write, const Work *work, Alloc **out) {
    *out = NULL;
    if (check_range(ptr, bytes, work ? work->what : "touch", work && work->pageable))
        return NULL;
    Alloc *alloc = alloc_at(ptr, false);
    if (!alloc)
        return (void *)ptr;
    if (!alloc->born)
        violation("%s of allocation %u (%s) before its stream allocated it", work ? work->what : "touch", alloc->id,
                  memory_names[alloc->memory]);
    size_t begin = ptr - alloc->begin;
    if (work)
        note_access(alloc, begin, begin + bytes, write, work);
    alloc->users++;
    *out = alloc;
    return alloc->bytes + begin;
}

void close_bytes(Alloc *alloc) {
    if (!alloc)
        return;
    alloc->users--;
    check_canary(alloc);
}

/* In a kernel or a host function: where these bytes may be read (and written) until it returns, or NULL after a violation.
 * Elsewhere: the same for a test that looks into device memory; nothing is checked but the range. */
EXPORT void *emu_touch(uintptr_t ptr, size_t bytes, int write) {
    pthread_mutex_lock(&emu.lock);
    Alloc *alloc;
    void *at = open_bytes(ptr, bytes, write, current_work, &alloc);
    if (alloc)
        alloc->users--;
    if (!at && current_work)
        emu.sticky = ILLEGAL_ADDRESS;
    pthread_mutex_unlock(&emu.lock);
    return at;
}

/* ---- pinned memory in use by copies ---- */

static int protection(const Alloc *alloc, size_t begin) {
    int result = PROT_READ | PROT_WRITE;
    for (Guard *guard = emu.guards; guard; guard = guard->next)
        if (guard->alloc == alloc && guard->begin <= begin && begin + PAGE <= guard->end)
            result &= guard->write ? PROT_NONE : PROT_READ;
    return result;
}

/* Only pages that lie in the range as a whole: the others may hold something that the host may touch. */
static void protect_pages(Alloc *alloc, size_t begin, size_t end) {
    size_t run = pages(begin);
    int now = 0;
    for (size_t at = run; at <= end; at += PAGE) {
        bool last = at + PAGE > end;
        int wanted = last ? -1 : protection(alloc, at);
        if (at > run && wanted != now) {
            mprotect((char *)alloc->begin + run, at - run, now);
            run = at;
        }
        now = wanted;
        if (last)
            break;
    }
}

static void guard_range(uintptr_t ptr, size_t bytes, bool write, uint32_t slot, uint32_t seq, int node) {
    Alloc *alloc = alloc_at(ptr, false);
    if (!alloc || alloc->memory != PINNED_MEMORY)
        return;
    Guard *guard = malloc(sizeof *guard);
    *guard = (Guard){.next = emu.guards, .alloc = alloc, .begin = ptr - alloc->begin, .end = ptr - alloc->begin + bytes,
                     .write = write, .slot = slot, .seq = seq, .node = node};
    emu.guards = guard;
    protect_pages(alloc, guard->begin, guard->end);
}

/* Until the host knows that the task is over, it must not write what the task reads, nor touch what it writes. */
void guard_task(const Task *task, uint32_t slot, uint32_t seq, int node) {
    if (task->action == COPY)
        guard_range(task->src, task->bytes, false, slot, seq, node);
    if (task->action == COPY || task->action == FILL)
        guard_range(task->dst, task->bytes, true, slot, seq, node);
}

static void settle(bool (*over)(const Guard *, const Work *), const Work *work) {
    for (Guard **link = &emu.guards; *link;) {
        Guard *guard = *link;
        if (!over(guard, work)) {
            link = &guard->next;
            continue;
        }
        *link = guard->next;
        protect_pages(guard->alloc, guard->begin, guard->end);
        free(guard);
    }
}

static bool host_knows(const Guard *guard, const Work *work) {
    (void)work;
    return emu.host.at[guard->slot] >= guard->seq;
}

static bool came_before(const Guard *guard, const Work *work) {
    return guard->slot == work->slot && guard->seq == work->seq && guard->node >= 0 && has_node(work->before, guard->node);
}

void settle_guards(void) { settle(host_knows, NULL); }

/* A host function in a graph tells the host only of the nodes before it. */
void settle_nodes(const Work *work) { settle(came_before, work); }
