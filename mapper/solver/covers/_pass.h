/* What the passes of the dynamic program over ideals share (_cover.c, _nearness.c). */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Pairs at a time: the loads of an option lie side by side. */
#define BLOCK 32

/* One pass: arrays of options times pairs, and what stages may take. `limit` bounds the sum of value / unit. Each ideal
   has a row for each of so many `states`. */
typedef struct {
    int64_t ideals, pairs, options, cores, group, most_replicas, layers, counted;
    double period, limit, unit;
    const int64_t *begin;
    const int32_t *source;
    const double *load, *value;
    const int32_t *size;
    const uint8_t *exclusive;
    int64_t states;
} Pass;

/* What `BLOCK` pairs cost with each option: cores (negative where it cannot be) and value. */
typedef struct {
    int32_t *cores;
    double *value;
} Costs;

/* Cores that ceil(load / period) replicas take, or `replicas` if those are more; negative where they may not be. */
static inline int64_t cores_taken(const Pass *in, int64_t o, double load, int64_t replicas)
{
    if (!(load < INFINITY) || replicas > in->most_replicas)
        return -1;
    if (load > in->period) {
        double wanted = load / in->period * (1 - 1e-12);
        if (!(wanted <= (double)in->most_replicas && wanted <= (double)in->cores))
            return -1;
        int64_t least = (int64_t)wanted;
        least += (double)least < wanted;
        replicas = least > replicas ? least : replicas;
    }
    int64_t k = replicas * in->size[o];
    if (k > in->cores)
        return -1;
    return in->exclusive[o] ? (k + in->group - 1) / in->group * in->group : k;
}

/* The costs of the pairs from `first` on, `count` of them. */
static void evaluate(const Pass *in, int64_t first, int64_t count, Costs *out)
{
    for (int64_t o = 0; o < in->options; o++) {
        const double *load = in->load + o * in->pairs + first, *value = in->value + o * in->pairs + first;
        for (int64_t b = 0; b < count; b++) {
            double v = value[b];
            out->cores[b * in->options + o] = (int32_t)cores_taken(in, o, load[b], 1);
            out->value[b * in->options + o] = in->unit == 1 || v == 0 ? v : v / in->unit;
        }
    }
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* For every ideal the fewest cores, and the least value with any cores, of covering what lies behind it; cores + 1
   where it cannot be covered. */
static void what_is_left(const Pass *in, Costs *costs, int64_t *cores, double *value)
{
    for (int64_t i = 0; i < in->ideals; i++) {
        cores[i] = in->cores + 1;
        value[i] = INFINITY;
    }
    cores[in->ideals - 1] = 0;
    value[in->ideals - 1] = 0;
    for (int64_t j = in->ideals - 1; j > 0; j--) {
        if (cores[j] > in->cores)
            continue;
        for (int64_t p = in->begin[j]; p < in->begin[j + 1]; p += BLOCK) {
            int64_t count = smaller(BLOCK, in->begin[j + 1] - p);
            evaluate(in, p, count, costs);
            for (int64_t b = 0; b < count; b++) {
                const int32_t *taken = costs->cores + b * in->options;
                const double *v = costs->value + b * in->options;
                int64_t fewest = in->cores + 1;
                double least = INFINITY;
                for (int64_t o = 0; o < in->options; o++) {
                    if (taken[o] < 0)
                        continue;
                    if (taken[o] < fewest)
                        fewest = taken[o];
                    if (v[o] < least)
                        least = v[o];
                }
                int32_t i = in->source[p + b];
                if (cores[j] + fewest < cores[i])
                    cores[i] = cores[j] + fewest;
                if (value[j] + least < value[i])
                    value[i] = value[j] + least;
            }
        }
    }
}

/* Of one pair's options those that no other beats in cores and value, by ascending cores; how many. `best` and `which`
   are for each number of cores up to `top`; `best` is infinite before and after. */
static int64_t front(const Pass *in, const int32_t *taken, const double *value, int64_t top, double *best,
                     int16_t *which, int32_t *cores_out, double *value_out, int16_t *option_out)
{
    int64_t most = -1, count = 0;
    for (int64_t o = 0; o < in->options; o++) {
        int32_t k = taken[o];
        if (k >= 0 && k < top && value[o] < best[k]) {
            if (k > most)
                most = k;
            best[k] = value[o];
            which[k] = (int16_t)o;
        }
    }
    double floor = INFINITY;
    for (int64_t k = 0; k <= most; k++) {
        if (best[k] < floor) {
            floor = best[k];
            cores_out[count] = (int32_t)k;
            value_out[count] = floor;
            option_out[count++] = which[k];
        }
        best[k] = INFINITY;
    }
    return count;
}

typedef struct {
    double *least;
    int32_t *pair;
    int16_t *option;
} Layer;

/* What one pass needs besides its result. */
typedef struct {
    Costs costs;
    int64_t *left_cores, *first, *last;
    double *left_value, *best, *value;
    int16_t *which, *option;
    int32_t *cores;
} Room;

/* row[c] = min(row[c], prior[c - k] + v) over the options of `room`, for c up to `high`. `prior` is infinite below
   `start`, falls, and does not change from `flat` on; `row` falls too, so that nothing is better behind the first place
   where the least sum is not. */
static void extend(const Layer *row, const double *prior, int64_t start, int64_t flat, int64_t high, double limit,
                   int64_t count, const Room *room, int32_t pair)
{
    for (int64_t x = 0; x < count; x++) {
        double v = room->value[x], least = prior[flat] + v;
        int64_t k = room->cores[x], from = start;
        if (!(least <= limit))
            continue;
        if (!(prior[from] + v <= limit)) { /* where it begins to be within the limit */
            int64_t over = from, to = flat;
            while (to - over > 1) {
                int64_t middle = (over + to) / 2;
                if (prior[middle] + v <= limit)
                    to = middle;
                else
                    over = middle;
            }
            from = to;
        }
        for (int64_t c = k + from; c <= high; c++) {
            if (!(least < row->least[c]))
                break;
            double sum = prior[c - k] + v;
            if (sum < row->least[c]) {
                row->least[c] = sum;
                row->pair[c] = pair;
                row->option[c] = room->option[x];
            }
        }
    }
}

/* Where the row of ideal i (of a layer) begins to be finite and where it stops to fall, up to `high`. */
static void span(const double *prior, int64_t high, int64_t *first, int64_t *last)
{
    int64_t f = 0, l = high;
    while (f <= high && !(prior[f] < INFINITY))
        f++;
    while (l > f && prior[l - 1] == prior[l])
        l--;
    *first = f;
    *last = l;
}

/* All layers of state `to` of ideal j from state `from` of one pair's source, `room` holding what can be between. */
static void extend_layers(const Pass *in, int64_t j, int64_t p, int64_t from, int64_t to, int64_t count, double limit,
                          Room *room, const Layer *out, const double *nothing)
{
    int64_t width = in->cores + 1, i = in->source[p], high = in->cores - room->left_cores[i];
    int64_t highest = in->cores - room->left_cores[j];
    for (int64_t s = 0; s < in->layers; s++) {
        if (in->counted && (s == 0) != (i == 0))
            continue; /* the first stage, and no other, begins at the empty ideal */
        const double *prior = nothing;
        if (!in->counted || s > 0)
            prior = out->least + (((in->counted ? s - 1 : 0) * in->ideals + i) * in->states + from) * width;
        int64_t behind = (s * in->ideals + i) * in->states + from;
        int64_t *first = room->first + behind, *last = room->last + behind;
        if (*first < 0)
            span(prior, high, first, last);
        if (*first > high)
            continue;
        int64_t at = ((s * in->ideals + j) * in->states + to) * width;
        Layer row = {out->least + at, out->pair + at, out->option + at};
        extend(&row, prior, *first, *last, highest, limit, count, room, (int32_t)p);
    }
}

static int take_room(const Pass *in, Room *room)
{
    size_t options = (size_t)in->options, ideals = (size_t)in->ideals, width = (size_t)in->cores + 1;
    size_t most = options < width ? options : width, rows = (size_t)in->layers * ideals * (size_t)in->states;
    room->costs.cores = malloc(BLOCK * options * sizeof *room->costs.cores);
    room->costs.value = malloc(BLOCK * options * sizeof *room->costs.value);
    room->left_cores = malloc(ideals * sizeof *room->left_cores);
    room->left_value = malloc(ideals * sizeof *room->left_value);
    room->first = malloc(rows * sizeof *room->first);
    room->last = malloc(rows * sizeof *room->last);
    room->best = malloc(width * sizeof *room->best);
    room->which = malloc(width * sizeof *room->which);
    room->value = malloc(most * sizeof *room->value);
    room->option = malloc(most * sizeof *room->option);
    room->cores = malloc(most * sizeof *room->cores);
    if (!(room->costs.cores && room->costs.value && room->left_cores && room->left_value && room->first && room->last &&
          room->best && room->which && room->value && room->option && room->cores))
        return 0;
    for (size_t x = 0; x < rows; x++)
        room->first[x] = -1;
    for (size_t k = 0; k < width; k++)
        room->best[k] = INFINITY;
    return 1;
}

static void leave_room(Room *room)
{
    void *all[] = {room->costs.cores, room->costs.value, room->left_cores, room->left_value, room->first, room->last,
                   room->best, room->which, room->value, room->option, room->cores};
    for (size_t x = 0; x < sizeof all / sizeof *all; x++)
        free(all[x]);
}
