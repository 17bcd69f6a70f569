/* What a machine's memory and lines take, timed where it happens; mapper/measure/probe.py says what for.

   Every function is called from a thread that is bound to its core already, makes the memory that it needs (so that
   it lies next to that core), and times itself in slices: a slice that somebody disturbs is one of many. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define KEEP(value) __asm__ volatile("" : : "r"(value) : "memory")

enum { OK = 0, NO_MEMORY = 1, LATE = 2 };

/* Times are those of CLOCK_MONOTONIC in seconds. What is done before `begin` warms up and does not count. */
typedef struct {
    double begin, end, slice;
    atomic_int *stop;  /* set from elsewhere: leave as soon as possible */
    double *samples;   /* seconds a unit, one for each slice */
    int64_t capacity, count;
    double last, units;
} Run;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int stopped(Run *run) { return atomic_load_explicit(run->stop, memory_order_relaxed) != 0; }

/* Notes that `units` more are done. Returns whether to go on. */
static int lap(Run *run, double units)
{
    double t = now();
    if (t < run->begin || run->last == 0.0) {
        run->last = t;
        run->units = 0.0;
        return !stopped(run);
    }
    run->units += units;
    int over = t >= run->end;
    if (t - run->last >= run->slice || (over && run->count == 0)) {
        if (run->count < run->capacity)
            run->samples[run->count++] = (t - run->last) / run->units;
        run->last = t;
        run->units = 0.0;
    }
    return !over && !stopped(run) && run->count < run->capacity;
}

/* The sum of `count` words, `passes` times over, eight vectors at a time. */
#define SUM(name, bytes, attribute)                                                                          \
    attribute static uint64_t name(const uint64_t *words, int64_t count, int64_t passes)                     \
    {                                                                                                        \
        typedef uint64_t vector __attribute__((vector_size(bytes), aligned(8), may_alias));                  \
        enum { LANES = (bytes) / 8 };                                                                        \
        vector a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0}, h = {0};                       \
        uint64_t rest = 0;                                                                                   \
        for (; passes > 0; passes--) {                                                                       \
            int64_t i = 0;                                                                                   \
            for (; i + 8 * LANES <= count; i += 8 * LANES) {                                                 \
                const vector *at = (const vector *)(words + i);                                              \
                a += at[0];                                                                                  \
                b += at[1];                                                                                  \
                c += at[2];                                                                                  \
                d += at[3];                                                                                  \
                e += at[4];                                                                                  \
                f += at[5];                                                                                  \
                g += at[6];                                                                                  \
                h += at[7];                                                                                  \
            }                                                                                                \
            for (; i < count; i++)                                                                           \
                rest += words[i];                                                                            \
            KEEP(words);                                                                                     \
        }                                                                                                    \
        a += b + c + d + e + f + g + h;                                                                      \
        for (int i = 0; i < LANES; i++)                                                                      \
            rest += a[i];                                                                                    \
        return rest;                                                                                         \
    }

SUM(sum_words, 16, )
#if defined(__x86_64__)
SUM(sum_words_avx2, 32, __attribute__((target("avx2"))))
SUM(sum_words_avx512, 64, __attribute__((target("avx512f"))))
#endif

/* The sum of `count` words, `passes` times over, with the widest loads that the core has. */
EXPORT uint64_t mapper_sum(const uint64_t *words, int64_t count, int64_t passes)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return sum_words_avx512(words, count, passes);
    if (__builtin_cpu_supports("avx2"))
        return sum_words_avx2(words, count, passes);
#endif
    return sum_words(words, count, passes);
}

static void *memory_of(int64_t bytes)
{
    void *memory = mmap(0, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? 0 : memory;
}

/* Reads `bytes` of memory over and over. A sample is seconds a byte. */
EXPORT int mapper_read(int64_t bytes, Run *run)
{
    const int64_t most = 1 << 17; /* words between two looks at the clock */
    int64_t count = bytes / 8;
    uint64_t *words = memory_of(bytes), sum = 0;
    if (!words)
        return NO_MEMORY;
    for (int64_t i = 0; i < count && ((i & 0xffff) || !stopped(run)); i++)
        words[i] = (uint64_t)i;
    int64_t chunk = count < most ? count : most, at = 0, passes = most / chunk;
    for (int more = !stopped(run); more;) {
        int64_t here = count - at < chunk ? count - at : chunk;
        sum += mapper_sum(words + at, here, passes);
        at = at + here < count ? at + here : 0;
        more = lap(run, 8.0 * (double)(here * passes));
    }
    KEEP(sum);
    munmap(words, (size_t)bytes);
    return OK;
}

static uint64_t drawn(uint64_t *state) /* xorshift64* */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717u;
}

/* One random cycle through all lines (Sattolo): the first word of each is the address of the next line.
   `order` has room for a number a line. `stop` may be null. */
EXPORT void mapper_cycle(char *memory, int64_t lines, int64_t line_bytes, uint64_t seed, uint32_t *order,
                         atomic_int *stop)
{
    uint64_t state = seed * 2 + 1;
    for (int64_t i = 0; i < lines; i++)
        order[i] = (uint32_t)i;
    for (int64_t i = lines - 1; i > 0; i--) {
        if (!(i & 0xffff) && stop && atomic_load(stop))
            return;
        int64_t j = (int64_t)((drawn(&state) >> 32) * (uint64_t)i >> 32);
        uint32_t held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
    for (int64_t i = 0; i < lines; i++) {
        if (!(i & 0xffff) && stop && atomic_load(stop))
            return;
        *(void **)(memory + i * line_bytes) = memory + (int64_t)order[i] * line_bytes;
    }
}

/* Follows a random cycle through `bytes` of memory. A sample is seconds a load. */
EXPORT int mapper_chase(int64_t bytes, int64_t line_bytes, uint64_t seed, Run *run)
{
    int64_t lines = bytes / line_bytes;
    char *memory = memory_of(bytes);
    uint32_t *order = malloc((size_t)lines * sizeof *order);
    if (!memory || !order) {
        if (memory)
            munmap(memory, (size_t)bytes);
        free(order);
        return NO_MEMORY;
    }
    mapper_cycle(memory, lines, line_bytes, seed, order, run->stop);
    free(order);
    void **at = (void **)memory;
    for (int more = !stopped(run); more;) {
        for (int i = 0; i < 512; i++) {
            at = *at; at = *at; at = *at; at = *at;
            at = *at; at = *at; at = *at; at = *at;
        }
        KEEP(at);
        more = lap(run, 4096.0);
    }
    munmap(memory, (size_t)bytes);
    return OK;
}

/* Waits until `line` is `wanted`: 0; or -1 where the other side has left, -2 where told to stop, -3 too late. */
static int await(_Atomic uint64_t *line, uint64_t wanted, Run *run)
{
    for (uint64_t spins = 1;; spins++) {
        uint64_t seen = atomic_load_explicit(line, memory_order_acquire);
        if (seen == wanted)
            return 0;
        if (seen == UINT64_MAX)
            return -1;
        if (spins % 4096 == 0) {
            if (stopped(run))
                return -2;
            if (now() > run->end + 1.0)
                return -3;
        }
    }
}

/* One side of a ping-pong on `line`, which is 0 to begin with: the even side (0) sends 1, 3, 5, ..., the odd one (1)
   answers each with the next number. A sample is seconds a message. `messages` is how many this side has sent. */
EXPORT int mapper_exchange(_Atomic uint64_t *line, int side, Run *run, int64_t *messages)
{
    uint64_t value = (uint64_t)side;
    int end = 0;
    *messages = 0;
    for (int more = 1; more && !end;) {
        for (int i = 0; i < 128 && !end; i++) {
            if (side == 1 && (end = await(line, value, run)))
                break;
            atomic_store_explicit(line, value + 1, memory_order_release);
            ++*messages;
            if (side == 0)
                end = await(line, value + 2, run);
            value += 2;
        }
        if (!end)
            more = side == 1 || lap(run, 256.0);
    }
    if (end != -1)
        atomic_store_explicit(line, UINT64_MAX, memory_order_release);
    return end == -3 ? LATE : OK;
}

/* What makes this file a module that setuptools can build; it is loaded with ctypes, not imported. */
EXPORT void *PyInit__probe(void) { return 0; }
