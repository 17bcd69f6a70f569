/* The inner loops of the dynamic program over ideals; mapper/solver/covers/cover.py says what they compute, and does the same
   in numpy where this is not built. */
#include "_pass.h"

/* least[s, j, c] = min over pairs (i, j) and options o of least[s - 1, i, c - k] + value[o, p] / unit, k the cores that
   stage p takes with option o at the given period: with s + 1 stages where they are `counted`, otherwise the one layer
   is for any number. Of ideal j only what can become part of a whole cover within cores and limit is computed. Returns
   1 without memory. */
EXPORT int mapper_cover(int64_t ideals, int64_t pairs, int64_t options, int64_t cores, int64_t group,
                        int64_t most_replicas, int64_t layers, int64_t counted, double period, double limit,
                        double unit, const int64_t *begin, const int32_t *source, const double *load,
                        const double *value, const int32_t *size, const uint8_t *exclusive, double *least,
                        int32_t *pair_of, int16_t *option_of)
{
    Pass in = {ideals, pairs, options, cores, group, most_replicas, layers, counted, period, limit, unit,
               begin, source, load, value, size, exclusive, 1};
    Layer out = {least, pair_of, option_of};
    Room room = {0};
    double *nothing = calloc((size_t)cores + 1, sizeof *nothing);
    int failed = !nothing || !take_room(&in, &room);
    if (!failed)
        what_is_left(&in, &room.costs, room.left_cores, room.left_value);
    for (int64_t j = 1; j < ideals && !failed; j++) {
        if (room.left_cores[0] > cores || room.left_cores[j] > cores)
            continue;
        double most = j == ideals - 1 ? limit : limit * (1 + 1e-9) - room.left_value[j];
        for (int64_t p = begin[j]; p < begin[j + 1]; p += BLOCK) {
            int64_t count = smaller(BLOCK, begin[j + 1] - p);
            evaluate(&in, p, count, &room.costs);
            for (int64_t b = 0; b < count; b++) {
                int64_t top = cores - room.left_cores[j] + 1;
                if (room.left_cores[source[p + b]] > cores)
                    continue;
                int64_t of = front(&in, room.costs.cores + b * options, room.costs.value + b * options, top, room.best,
                                   room.which, room.cores, room.value, room.option);
                extend_layers(&in, j, p + b, 0, 0, of, most < limit ? most : limit, &room, &out, nothing);
            }
        }
    }
    leave_room(&room);
    free(nothing);
    return failed;
}

/* The fewest cores of a cover of each ideal, and of such covers the least value; (layers, ideals), in the same order of
   preference as `mapper_cover`. `fewest` comes in as cores + 1 and `least` as infinite; where stages are not counted,
   both as 0 for the empty ideal. */
EXPORT int mapper_fewest(int64_t ideals, int64_t pairs, int64_t options, int64_t cores, int64_t group,
                         int64_t most_replicas, int64_t layers, int64_t counted, double period, double limit,
                         double unit, const int64_t *begin, const int32_t *source, const double *load,
                         const double *value, const int32_t *size, const uint8_t *exclusive, int32_t *fewest,
                         double *least, int32_t *pair_of, int16_t *option_of)
{
    Pass in = {ideals, pairs, options, cores, group, most_replicas, layers, counted, period, limit, unit,
               begin, source, load, value, size, exclusive, 1};
    Costs costs = {malloc(BLOCK * (size_t)options * sizeof *costs.cores),
                   malloc(BLOCK * (size_t)options * sizeof *costs.value)};
    int failed = !costs.cores || !costs.value;
    for (int64_t j = 1; j < ideals && !failed; j++) {
        for (int64_t p = begin[j]; p < begin[j + 1]; p += BLOCK) {
            int64_t count = smaller(BLOCK, begin[j + 1] - p);
            evaluate(&in, p, count, &costs);
            for (int64_t b = 0; b < count; b++) {
                const int32_t *taken = costs.cores + b * options;
                const double *v = costs.value + b * options;
                int64_t i = source[p + b], best = -1;
                for (int64_t o = 0; o < options; o++)
                    if (taken[o] >= 0 && v[o] < INFINITY &&
                        (best < 0 || taken[o] < taken[best] || (taken[o] == taken[best] && v[o] < v[best])))
                        best = o;
                for (int64_t s = 0; s < layers && best >= 0; s++) {
                    int64_t from = (counted ? s - 1 : 0) * ideals + i, to = s * ideals + j;
                    if (counted && (s == 0) != (i == 0))
                        continue;
                    int64_t k = taken[best] + (counted && s == 0 ? 0 : fewest[from]);
                    double sum = v[best] + (counted && s == 0 ? 0 : least[from]);
                    if (k > cores || !(k < fewest[to] || (k == fewest[to] && sum < least[to])))
                        continue;
                    fewest[to] = (int32_t)k;
                    least[to] = sum;
                    pair_of[to] = (int32_t)(p + b);
                    option_of[to] = (int16_t)best;
                }
            }
        }
    }
    free(costs.cores);
    free(costs.value);
    return failed;
}

/* What makes this file a module that setuptools can build; it is loaded with ctypes, not imported. */
EXPORT void *PyInit__cover(void) { return 0; }
