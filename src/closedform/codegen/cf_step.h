/* The frame of a generated step: what the caller passes, how chunks are spread over threads, and how passes follow
 * each other. Generated code stands where the marker is; it defines cf_uniforms and cf_passes.
 *
 * A chunk is CF_CHUNK elements of one tensor, or its rest; `first` numbers them through. Threads take chunks from a
 * counter. Sums are kept a chunk and added in order, so that results do not depend on the number of threads.
 */

typedef struct {
    int64_t tensors;
    const int64_t *sizes;  /* [tensors] elements */
    const int64_t *first;  /* [tensors + 1] number of the tensor's first chunk; the last is the number of chunks */
    void *const *params;   /* [tensors] */
    void *const *grads;    /* [tensors] */
    void *const *memory;   /* [tensors][CF_SLOTS] rings one after the other, each from lag 1 to its depth; work buffers */
    double *scalars;       /* [tensors][CF_SCALARS] work space */
    double *sums;          /* [chunks][CF_SUMS] work space */
    const double *shapes;  /* [tensors][4] numel, ndim, fan_in, fan_out, if the program reads one of them */
    const double *constants; /* those that are not baked in */
    double t, total;       /* this step, and the number of all */
    double lr, weight_decay;
    double sign;           /* of the gradient: -1 maximises */
    uint64_t seed;         /* of stochastic rounding; another one every step */
    int64_t stage;         /* from 0: a step with matrix operators is several calls */
    int64_t threads;
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel */
} cf_call;

typedef void cf_pass(const cf_call *c, const double *u, int64_t tensor, int64_t chunk, int64_t begin, int64_t count);
typedef void cf_scalar(const cf_call *c, const double *u, int64_t tensor);

typedef struct {
    const cf_call *call;
    const double *uniform;
    cf_pass *pass;
    int64_t next;
} cf_work;

CF_INLINE void *cf_slot(const cf_call *c, int64_t tensor, int64_t slot) { return c->memory[tensor * CF_SLOTS + slot]; }

static double __attribute__((unused)) cf_total(const cf_call *c, int64_t tensor, int64_t place) {
    double total = 0;
    for (int64_t chunk = c->first[tensor]; chunk < c->first[tensor + 1]; chunk++) total += c->sums[chunk * CF_SUMS + place];
    return total;
}

static void cf_take_chunks(void *data) {
    cf_work *work = data;
    const cf_call *c = work->call;
    const int64_t chunks = c->first[c->tensors];
    int64_t tensor = 0, chunk;
    while ((chunk = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < chunks) {
        while (c->first[tensor + 1] <= chunk) tensor++;
        const int64_t begin = (chunk - c->first[tensor]) * CF_CHUNK;
        const int64_t rest = c->sizes[tensor] - begin;
        work->pass(c, work->uniform, tensor, chunk, begin, rest < CF_CHUNK ? rest : CF_CHUNK);
    }
}

static void cf_run(const cf_call *c, const double *u, cf_pass *pass) {
    cf_work work = {c, u, pass, 0};
    if (c->threads > 1 && c->parallel)
        c->parallel(cf_take_chunks, &work, (unsigned)c->threads, 0);
    else
        cf_take_chunks(&work);
}

static void __attribute__((unused)) cf_each(const cf_call *c, const double *u, cf_scalar *scalar) {
    for (int64_t tensor = 0; tensor < c->tensors; tensor++) scalar(c, u, tensor);
}

/* GENERATED */

int cf_step(const cf_call *c) {
    double u[CF_UNIFORMS];
    if (c->tensors == 0) return 0;
    cf_uniforms(c, u);
    cf_passes(c, u);
    return 0;
}
