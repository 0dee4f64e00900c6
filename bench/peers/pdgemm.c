/* ScaLAPACK in memory, no files: pdgemm N BLOCK REPS, one process per column of the grid.
 *
 * Each process fills its own part of A and B with random numbers; pdgemm multiplies REPS times, each timed between two
 * barriers; Freivalds' test by pdgemv gives the residual of the last product. Prints one line of JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DESC = 9 };

void Cblacs_pinfo(int *rank, int *processes);
void Cblacs_get(int context, int what, int *value);
void Cblacs_gridinit(int *context, const char *order, int rows, int cols);
void Cblacs_gridinfo(int context, int *rows, int *cols, int *row, int *col);
void Cblacs_barrier(int context, const char *scope);
void Cblacs_gridexit(int context);
void Cblacs_exit(int keep_mpi);
int numroc_(const int *n, const int *block, const int *at, const int *first, const int *processes);
void descinit_(int *desc, const int *m, const int *n, const int *mb, const int *nb, const int *first_row,
               const int *first_col, const int *context, const int *ld, int *info);
void pdgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const double *alpha,
             const double *a, const int *ia, const int *ja, const int *da, const double *b, const int *ib,
             const int *jb, const int *db, const double *beta, double *c, const int *ic, const int *jc,
             const int *dc);
void pdgemv_(const char *ta, const int *m, const int *n, const double *alpha, const double *a, const int *ia,
             const int *ja, const int *da, const double *x, const int *ix, const int *jx, const int *dx,
             const int *incx, const double *beta, double *y, const int *iy, const int *jy, const int *dy,
             const int *incy);
void pdnrm2_(const int *n, double *norm, const double *x, const int *ix, const int *jx, const int *dx,
             const int *incx);

static const int zero_i = 0, one_i = 1;
static const double zero = 0, one = 1, minus_one = -1;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double *reals(size_t count) {
    double *values = calloc(count ? count : 1, sizeof *values);
    if (!values) {
        fprintf(stderr, "pdgemm: out of memory\n");
        exit(1);
    }
    return values;
}

static void fill(double *values, size_t count) {
    for (size_t i = 0; i < count; i++) values[i] = drand48() - 0.5;
}

/* y = alpha M v + beta y, for vectors spread over the rows of the grid's first column. */
static void times(int n, const double *m, const int *desc, const double *v, double beta, double *y, const int *vector) {
    pdgemv_("N", &n, &n, &one, m, &one_i, &one_i, desc, v, &one_i, &one_i, vector, &one_i, &beta, y, &one_i, &one_i,
            vector, &one_i);
}

static double norm(int n, const double *v, const int *vector) {
    double value = 0;
    pdnrm2_(&n, &value, v, &one_i, &one_i, vector, &one_i);
    return value;
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: pdgemm N BLOCK REPS\n"), 2;
    int n = atoi(argv[1]), block = atoi(argv[2]), reps = atoi(argv[3]);
    int rank, processes, context, grid_rows = 1, grid_cols, row, col, info;
    Cblacs_pinfo(&rank, &processes);
    Cblacs_get(-1, 0, &context);
    Cblacs_gridinit(&context, "Row", 1, processes);
    Cblacs_gridinfo(context, &grid_rows, &grid_cols, &row, &col);

    int my_rows = numroc_(&n, &block, &row, &zero_i, &grid_rows);
    int my_cols = numroc_(&n, &block, &col, &zero_i, &grid_cols);
    int ld = my_rows > 1 ? my_rows : 1, matrix[DESC], vector[DESC];
    descinit_(matrix, &n, &n, &block, &block, &zero_i, &zero_i, &context, &ld, &info);
    descinit_(vector, &n, &one_i, &block, &block, &zero_i, &zero_i, &context, &ld, &info);

    size_t mine = (size_t)my_rows * my_cols;
    double *a = reals(mine), *b = reals(mine), *c = reals(mine);
    double *x = reals(my_rows), *bx = reals(my_rows), *abx = reals(my_rows);
    srand48(rank + 1);
    fill(a, mine);
    fill(b, mine);
    if (col == 0) fill(x, my_rows);

    if (rank == 0) printf("{\"n\": %d, \"block\": %d, \"processes\": %d, \"seconds\": [", n, block, processes);
    for (int rep = 0; rep < reps; rep++) {
        Cblacs_barrier(context, "All");
        double started = now();
        pdgemm_("N", "N", &n, &n, &n, &one, a, &one_i, &one_i, matrix, b, &one_i, &one_i, matrix, &zero, c, &one_i,
                &one_i, matrix);
        Cblacs_barrier(context, "All");
        if (rank == 0) printf("%s%.6f", rep ? ", " : "", now() - started);
    }

    times(n, b, matrix, x, zero, bx, vector);
    times(n, a, matrix, bx, zero, abx, vector);
    double want = norm(n, abx, vector);
    times(n, c, matrix, x, minus_one, abx, vector);
    double residual = norm(n, abx, vector) / want;
    if (rank == 0) printf("], \"residual\": %.3e}\n", residual);
    Cblacs_gridexit(context);
    Cblacs_exit(0);
    return 0;
}
