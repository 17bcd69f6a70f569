/* All covers by ideals that no other beats in everything, from the last ideal back to the empty one;
   mapper/solver/covers/labels.py says what it decides, and does the same in Python where this is not built. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#define MOST 4

/* A partial cover of what lies behind an ideal: cores and stages left, what it used, and how it came about. */
typedef struct {
    double used[MOST];
    int32_t cores, stages;
    int32_t pair;
    int16_t option;
    int32_t before, next;
} Label;

/* `work` counts comparisons and labels, up to `most`. */
typedef struct {
    Label *items;
    int64_t count, room, work, most;
} Store;

static int32_t put(Store *store, const Label *label)
{
    if (store->count == store->room) {
        int64_t room = store->room ? 2 * store->room : 4096;
        Label *items = realloc(store->items, (size_t)room * sizeof *items);
        if (!items)
            return -1;
        store->items = items;
        store->room = room;
    }
    store->items[store->count] = *label;
    return (int32_t)store->count++;
}

static int beats(const Label *a, const Label *b, int64_t amounts)
{
    if (a->cores < b->cores || a->stages < b->stages)
        return 0;
    for (int64_t r = 0; r < amounts; r++)
        if (a->used[r] > b->used[r])
            return 0;
    return 1;
}

/* Links `label` into the list of its ideal unless one there beats it; unlinks those that it beats. */
static int link_label(Store *store, int32_t *head, const Label *label, int64_t amounts)
{
    int32_t *at = head;
    while (*at >= 0) {
        if (++store->work > store->most)
            return -2;
        Label *other = &store->items[*at];
        if (beats(other, label, amounts))
            return 0;
        if (beats(label, other, amounts))
            *at = other->next;
        else
            at = &other->next;
    }
    int64_t offset = -1;
    if (at != head)
        offset = (char *)at - (char *)store->items;
    int32_t index = put(store, label);
    if (index < 0)
        return index;
    store->items[index].next = -1;
    if (offset >= 0)
        at = (int32_t *)((char *)store->items + offset);
    *at = index;
    return 1;
}

/* Amounts count in units of their limits: a cover may use 1 of each. `rest[t]` (ideals, cores + 1) is the least weighted
   sum of amounts of a cover of each ideal with so many cores, `weight[t]` its weights. `taken` is the cores that an
   option takes for a pair, negative where it cannot be; `stages` is negative where any number will do. Returns the
   number of stages of a cover, written first stage first, 0 where there is none, -1 without memory, -2 where `most`
   comparisons did not decide. */
EXPORT int64_t mapper_labels(int64_t ideals, int64_t pairs, int64_t options, int64_t cores, int64_t stages,
                             int64_t amounts, int64_t tables, int64_t most, const int64_t *begin,
                             const int32_t *source, const int32_t *taken, const double *const *amount,
                             const double *limit, const double *rest, const double *weight, int32_t *pair_out,
                             int16_t *option_out)
{
    int64_t width = cores + 1, result = 0;
    const double within = 1 + 1e-9;
    Store store = {NULL, 0, 0, 0, most};
    int counted = stages >= 0, found = 0;
    int32_t *head = malloc((size_t)ideals * sizeof *head);
    if (!head)
        return -1;
    for (int64_t i = 0; i < ideals; i++)
        head[i] = -1;
    Label start = {{0}, (int32_t)cores, (int32_t)stages, -1, 0, -1, -1};
    result = link_label(&store, &head[ideals - 1], &start, amounts);
    for (int64_t j = ideals - 1; j > 0 && result >= 0 && !found; j--) {
        for (int32_t at = head[j]; at >= 0 && result >= 0 && !found; at = store.items[at].next) {
            if (store.items[at].stages == 0)
                continue;
            for (int64_t p = begin[j]; p < begin[j + 1] && result >= 0 && !found; p++) {
                int64_t i = source[p];
                for (int64_t o = 0; o < options; o++) {
                    int32_t k = taken[o * pairs + p];
                    Label label = store.items[at];
                    if (k < 0 || k > label.cores)
                        continue;
                    if (++store.work > most) {
                        result = -2;
                        break;
                    }
                    label.cores -= k;
                    label.stages -= counted;
                    int fits = 1;
                    for (int64_t r = 0; r < amounts && fits; r++) {
                        double used = amount[r][o * pairs + p];
                        label.used[r] += used == 0 ? 0 : used / limit[r];
                        fits = label.used[r] <= within;
                    }
                    for (int64_t t = 0; t < tables && fits; t++) {
                        double sum = rest[(t * ideals + i) * width + label.cores];
                        for (int64_t r = 0; r < amounts; r++)
                            sum += weight[t * amounts + r] * label.used[r];
                        fits = sum <= within;
                    }
                    if (!fits)
                        continue;
                    label.pair = (int32_t)p;
                    label.option = (int16_t)o;
                    label.before = at;
                    result = link_label(&store, &head[i], &label, amounts);
                    found = result == 1 && i == 0;
                    if (result < 0 || found)
                        break;
                }
            }
        }
    }
    if (result >= 0) {
        result = 0;
        int32_t last = head[0];
        for (int32_t at = last; at >= 0 && store.items[at].pair >= 0; at = store.items[at].before) {
            pair_out[result] = store.items[at].pair;
            option_out[result++] = store.items[at].option;
        }
    }
    free(head);
    free(store.items);
    return result;
}

/* What makes this file a module that setuptools can build; it is loaded with ctypes, not imported. */
EXPORT void *PyInit__labels(void) { return 0; }
