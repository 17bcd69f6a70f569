/* The dynamic program over ideals in which borders between stages are near or far; mapper/solver/covers/near_cover.py says what
   it computes, and does the same in numpy where this is not built. */
#include "_pass.h"

/* Seconds that what surely crosses a far border adds to a stage with a part of a group, at either end, by pair; `weight`
   of them in a value. `size` cores share a group. */
typedef struct {
    const double *entering, *leaving;
    const uint8_t *part;
    double weight;
    int64_t size;
} Far;

#define ENTERING 1
#define LEAVING 2

/* The costs of a block of pairs where the ends in `which` are far. Of several replicas one may be far at one end and
   another at the other. */
static void evaluate_far(const Pass *in, const Far *far, int which, int64_t first, int64_t count, Costs *out)
{
    for (int64_t o = 0; o < in->options; o++) {
        for (int64_t b = 0; b < count; b++) {
            int64_t p = first + b, at = b * in->options + o;
            double load = in->load[o * in->pairs + p], v = in->value[o * in->pairs + p];
            double entering = which & ENTERING && far->part[o] ? far->entering[p] : 0;
            double leaving = which & LEAVING && far->part[o] ? far->leaving[p] : 0, rise = entering + leaving;
            int64_t least = 1;
            if ((load + rise) * (1 - 1e-12) > in->period) {
                rise = entering > leaving ? entering : leaving;
                least = 2;
            }
            out->cores[at] = (int32_t)cores_taken(in, o, load + rise, least);
            v += far->weight * rise;
            out->value[at] = in->unit == 1 || v == 0 ? v : v / in->unit;
        }
    }
}

static int usable(const Pass *in, const int32_t *taken)
{
    for (int64_t o = 0; o < in->options; o++)
        if (taken[o] >= 0)
            return 1;
    return 0;
}

/* Whether option o can follow `run` cores of its group. */
static int follows(const Pass *in, const Far *far, int64_t o, int64_t run)
{
    return run == 0 || (far->part[o] && !in->exclusive[o] && run + in->size[o] <= far->size);
}

/* Whether the state with `run` cores of ideal i has any cover, of any number of stages. */
static int reached(const Pass *in, int64_t i, int64_t run, const Room *room, const Layer *out)
{
    int64_t most = in->cores - room->left_cores[i];
    for (int64_t s = 0; s < in->layers; s++)
        if (out->least[((s * in->ideals + i) * in->states + run) * (in->cores + 1) + most] < INFINITY)
            return 1;
    return i == 0;
}

/* From the state with `run` cores of pair p's source to all states of ideal j. `costs`: by which ends are far. */
static void extend_run(const Pass *in, const Far *far, int64_t j, int64_t p, int64_t b, int64_t run, double limit,
                       const Costs *costs, int32_t *offered, Room *room, const Layer *out, const double *nothing)
{
    int64_t top = in->cores - room->left_cores[j] + 1;
    int entering = run == 0 && in->source[p] > 0 ? ENTERING : 0, last = j == in->ideals - 1;
    const Costs *end = costs + (entering | (last ? 0 : LEAVING)), *on = costs + entering;
    for (int64_t o = 0; o < in->options; o++)
        offered[o] = follows(in, far, o, run) ? end->cores[b * in->options + o] : -1;
    int64_t count = front(in, offered, end->value + b * in->options, top, room->best, room->which, room->cores,
                          room->value, room->option);
    for (int64_t x = 0; x < count; x++)
        room->option[x] = (int16_t)(room->option[x] + run * in->options);
    extend_layers(in, j, p, run, 0, count, limit, room, out, nothing);
    for (int64_t o = 0; o < in->options && !last; o++) {
        int64_t taken = on->cores[b * in->options + o], to = run + in->size[o];
        if (taken < 0 || taken >= top || !far->part[o] || in->exclusive[o] || to >= far->size)
            continue;
        room->cores[0] = (int32_t)taken;
        room->value[0] = on->value[b * in->options + o];
        room->option[0] = (int16_t)(o + run * in->options);
        extend_layers(in, j, p, run, to, 1, limit, room, out, nothing);
    }
}

/* As `mapper_cover`, with rows (layers, ideals, `size` states, cores + 1): state 0 where the border at the ideal is far,
   otherwise the cores of the run that goes on. An option comes with the state before: option + options * state. */
EXPORT int mapper_nearness(int64_t ideals, int64_t pairs, int64_t options, int64_t cores, int64_t group,
                           int64_t most_replicas, int64_t layers, int64_t counted, int64_t size, double period,
                           double limit, double unit, double weight, const int64_t *begin, const int32_t *source,
                           const double *load, const double *value, const int32_t *sizes,
                           const uint8_t *exclusive, const double *entering, const double *leaving, const uint8_t *part,
                           double *least, int32_t *pair_of, int16_t *option_of)
{
    Pass in = {ideals, pairs, options, cores, group, most_replicas, layers, counted, period, limit, unit,
               begin, source, load, value, sizes, exclusive, size};
    Far far = {entering, leaving, part, weight, size};
    Layer out = {least, pair_of, option_of};
    Room room = {0};
    Costs costs[4];
    double *nothing = calloc((size_t)cores + 1, sizeof *nothing);
    int32_t *offered = malloc((size_t)options * sizeof *offered);
    int failed = !nothing || !offered || !take_room(&in, &room);
    for (int x = 0; x < 4; x++) {
        costs[x].cores = malloc(BLOCK * (size_t)options * sizeof *costs[x].cores);
        costs[x].value = malloc(BLOCK * (size_t)options * sizeof *costs[x].value);
        failed = failed || !costs[x].cores || !costs[x].value;
    }
    if (!failed)
        what_is_left(&in, &room.costs, room.left_cores, room.left_value);
    for (int64_t j = 1; j < ideals && !failed; j++) {
        if (room.left_cores[0] > cores || room.left_cores[j] > cores)
            continue;
        double most = j == ideals - 1 ? limit : limit * (1 + 1e-9) - room.left_value[j];
        most = most < limit ? most : limit;
        for (int64_t p = begin[j]; p < begin[j + 1]; p += BLOCK) {
            int64_t count = smaller(BLOCK, begin[j + 1] - p);
            for (int x = 0; x < 4; x++)
                evaluate_far(&in, &far, x, p, count, costs + x);
            for (int64_t b = 0; b < count; b++) {
                int64_t i = source[p + b], states = i == 0 ? 1 : size;
                if (room.left_cores[i] > cores || !usable(&in, costs->cores + b * options))
                    continue;
                for (int64_t run = 0; run < states; run++)
                    if (reached(&in, i, run, &room, &out))
                        extend_run(&in, &far, j, p + b, b, run, most, costs, offered, &room, &out, nothing);
            }
        }
    }
    for (int x = 0; x < 4; x++) {
        free(costs[x].cores);
        free(costs[x].value);
    }
    free(offered);
    leave_room(&room);
    free(nothing);
    return failed;
}

/* What makes this file a module that setuptools can build; it is loaded with ctypes, not imported. */
EXPORT void *PyInit__nearness(void) { return 0; }
