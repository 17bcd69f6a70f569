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
    int64_t *first = malloc((size_t)ideals * sizeof *first), *last = malloc((size_t)ideals * sizeof *last);
    if (!best || !which || !first || !last) {
        free(best);
        free(which);
        free(first);
        free(last);
        return 1;
    }
    for (int64_t j = 0; j < ideals; j++)
        first[j] = -1;
    for (int64_t j = 1; j < ideals; j++) {
        double *row = least + j * width;
        for (int64_t p = begin[j]; p < begin[j + 1]; p++) {
            const double *prior = from + source[p] * width;
            if (!(prior[cores] < INFINITY))
                continue;
            if (first[source[p]] < 0) {
                int64_t f = 0, l = width - 1;
                while (!(prior[f] < INFINITY)) f++;
                while (l > f && prior[l - 1] == prior[l]) l--;
                first[source[p]] = f;
                last[source[p]] = l;
            }
            int64_t start = first[source[p]], flat = last[source[p]], top = width - start, most = -1;
            for (int64_t k = 0; k < top; k++)
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
                if (k < top && v < best[k]) {
                    if (k > most) most = k;
                    best[k] = v;
                    which[k] = (int16_t)o;
                }
            }
            double floor = INFINITY;
            for (int64_t k = 0; k <= most; k++) {
                double v = best[k];
                if (!(v < floor))
                    continue;
                floor = v;
                for (int64_t c = k + start; c < width; c++) {
                    double sum = prior[c - k] + v;
                    if (c - k >= flat && !(sum < row[c]))
                        break; /* both stay as they are or fall */
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
    free(first);
    free(last);
    return 0;
}

/* What makes this file a module that setuptools can build; it is loaded with ctypes, not imported. */
EXPORT void *PyInit__cover(void) { return 0; }
