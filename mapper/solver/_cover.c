/* The inner loop of the dynamic program over ideals; mapper/solver/cover.py says what it computes, and does the same
   in numpy where this is not built. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* least[j, c] = min over pairs (i, j) and options o of from[i, c - k] + value[o, p], k the cores that stage p takes
   with option o at the given period. `from` is `least` itself (stages unlimited) or the layer before. */
EXPORT int mapper_cover(int64_t ideals, int64_t pairs, int64_t options, int64_t cores, int64_t group, double period,
                        int64_t most_replicas, double limit, const int64_t *begin, const int32_t *source,
                        const double *load, const double *value, const int32_t *size, const uint8_t *exclusive,
                        const double *from, double *least, int32_t *pair_of, int16_t *option_of)
{
    int64_t width = cores + 1;
    double *best = malloc((size_t)width * sizeof *best);
    int16_t *which = malloc((size_t)width * sizeof *which);
    if (!best || !which) {
        free(best);
        free(which);
        return 1;
    }
    for (int64_t j = 1; j < ideals; j++) {
        double *row = least + j * width;
        for (int64_t p = begin[j]; p < begin[j + 1]; p++) {
            const double *prior = from + source[p] * width;
            if (!(prior[cores] < INFINITY))
                continue;
            for (int64_t k = 0; k < width; k++)
                best[k] = INFINITY;
            for (int64_t o = 0; o < options; o++) {
                double t = load[o * pairs + p];
                if (!(t < INFINITY))
                    continue;
                double replicas = t <= period ? 1.0 : ceil(t / period * (1 - 1e-12));
                if (replicas > (double)most_replicas || replicas * size[o] > (double)cores)
                    continue;
                int64_t k = (int64_t)replicas * size[o];
                if (exclusive[o])
                    k = (k + group - 1) / group * group;
                double v = value[o * pairs + p];
                if (k <= cores && v < best[k]) {
                    best[k] = v;
                    which[k] = (int16_t)o;
                }
            }
            double floor = INFINITY;
            for (int64_t k = 0; k < width; k++) {
                double v = best[k];
                if (!(v < floor))
                    continue;
                floor = v;
                for (int64_t c = k; c < width; c++) {
                    double sum = prior[c - k] + v;
                    if (sum < row[c] && sum <= limit) {
                        row[c] = sum;
                        pair_of[j * width + c] = (int32_t)p;
                        option_of[j * width + c] = which[k];
                    }
                }
            }
        }
    }
    free(best);
    free(which);
    return 0;
}

/* What makes this file a module that setuptools can build; it is loaded with ctypes, not imported. */
EXPORT void *PyInit__cover(void) { return 0; }
