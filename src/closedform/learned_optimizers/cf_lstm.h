/* One step of a recurrent learned optimizer for K vectors of N parameters: features in, updates out.
 *
 *     x = features, or ELU(W features + b);   LSTM layers;   update = scale * output, or scale * tanh(output)
 *
 * Defined before: CF_FEATURES; CF_WIDTH, units of the ELU layer, 0 for none; CF_HIDDEN; CF_LAYERS; CF_BOUNDED, 1 for
 * the tanh. Everything is feature-major, one row a unit. Parameters are taken CF_BLOCK at a time, and what is read once
 * a unit is copied side by side, so that it stays in the nearest cache whatever N is.
 *
 * A tile is one hidden unit on CF_TILE vectors: its four gates are summed up in registers and go on from there through
 * sigmoids and tanh without being stored. Exponentials are powers of two, the factor being part of the weights:
 * sigmoid(z) = 1/(1 + 2^y) with y = -z/log(2), tanh(z) = (1 - 2^y)/(1 + 2^y) with y = -2z/log(2), good to about 2e-7,
 * absolutely. NaN stays NaN.
 */

#include <stddef.h>
#ifdef __AVX512F__
#include <immintrin.h>
#define CF_LANES 16
#define CF_TILE 4
#elif defined(__AVX__)
#define CF_LANES 8
#define CF_TILE 2
#else
#define CF_LANES 4
#define CF_TILE 4
#endif
#define CF_BLOCK 128
#define CF_SPAN (CF_TILE * CF_LANES)
#define CF_FIRST (CF_WIDTH ? CF_WIDTH : CF_FEATURES)
#define CF_READ(layer) ((layer) ? CF_HIDDEN : CF_FIRST)
/* Rows of a layer's input, or of the features. */
#define CF_INPUTS ((CF_FIRST > CF_HIDDEN ? CF_FIRST : CF_HIDDEN) + CF_HIDDEN)
#define CF_LARGE 1e30f
#define CF_LOG2E 0x1.715476p0f
_Static_assert(CF_FEATURES <= CF_INPUTS && CF_BLOCK % CF_SPAN == 0, "features stand where a layer's input does");

typedef float cf_vec __attribute__((vector_size(4 * CF_LANES)));
typedef uint32_t cf_ints __attribute__((vector_size(4 * CF_LANES)));
typedef float cf_loose __attribute__((vector_size(4 * CF_LANES), aligned(4), may_alias));

typedef struct {
    int64_t stacked;        /* K */
    int64_t count;          /* N */
    const float *features[CF_FEATURES]; /* [K, N] each */
    const float *weights;   /* [K, parameters] or [parameters], as cf_block reads them */
    int64_t stride;         /* from one of the K to the next: parameters, or 0 */
    const float *hidden[CF_LAYERS], *cell[CF_LAYERS];   /* [K, CF_HIDDEN, N] each */
    float *new_hidden[CF_LAYERS], *new_cell[CF_LAYERS]; /* the same */
    float *update;          /* [K, N] */
    double scale;
    int64_t threads;
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel */
} cf_call;

typedef struct {
    const cf_call *call;
    int64_t next;
} cf_work;

CF_INLINE cf_vec cf_load(const float *p) { return *(const cf_loose *)p; }
CF_INLINE void cf_save(float *p, cf_vec x) { *(cf_loose *)p = x; }
CF_INLINE cf_vec cf_all(float x) { return x - (cf_vec){0}; }
/* Lane by lane; which is all ones or all zeros, as comparisons give. */
CF_INLINE cf_vec cf_pick(cf_ints which, cf_vec yes, cf_vec no) {
    return (cf_vec)((which & (cf_ints)yes) | (~which & (cf_ints)no));
}

/* 2^y, or that of a y so far out that it makes no difference to 1 + 2^y. The power of the fraction is a minimax
 * polynomial of degree 5 that is 1 at 0, good to 9e-8. */
CF_INLINE cf_vec cf_power(cf_vec y) {
#ifdef __AVX512F__
    cf_vec n = _mm512_roundscale_ps(y, 0);
#else
    y = cf_pick((cf_ints)(y < -40.0f), cf_all(-40.0f), y);
    y = cf_pick((cf_ints)(y > 40.0f), cf_all(40.0f), y);
    cf_vec n = (y + CF_MAGIC_F32) - CF_MAGIC_F32;
#endif
    cf_vec r = y - n;
    cf_vec p = cf_all(0x1.5bba14p-10f);
    p = p * r + 0x1.3cea88p-7f;
    p = p * r + 0x1.c6b752p-5f;
    p = p * r + 0x1.ebf9bcp-3f;
    p = p * r + 0x1.62e42ap-1f;
    p = p * r + 1.0f;
#ifdef __AVX512F__
    return _mm512_scalef_ps(p, n);
#else
    cf_ints bits = (cf_ints)(n + CF_MAGIC_F32);
    return p * (cf_vec)((bits + 127u) << 23);
#endif
}

/* Keeps what was loaded in a register: compilers would rather load it again for each gate, and loads are scarce. */
CF_INLINE cf_vec cf_held(cf_vec x) {
#ifdef __AVX__
    __asm__("" : "+v"(x));
#endif
    return x;
}
/* At most 40, far enough for (1 - 2^y)/(1 + 2^y) to be -1; NaN stays. */
CF_INLINE cf_vec cf_capped(cf_vec y) {
#ifdef __AVX512F__
    return _mm512_min_ps(_mm512_set1_ps(40.0f), y);
#else
    return y;
#endif
}

/* ------------------------------------------------------------------------------------------------------- layers */

/* Rows of the first layer's input from the features. weights: for each unit its own, then its bias. */
static const float *__attribute__((unused)) cf_elu(const float *weights, float in[][CF_BLOCK], float out[][CF_BLOCK]) {
    for (int unit = 0; unit < CF_WIDTH; unit++, weights += CF_FEATURES + 1)
        for (int i = 0; i < CF_BLOCK; i += CF_LANES) {
            cf_vec z = cf_all(weights[CF_FEATURES]);
            for (int row = 0; row < CF_FEATURES; row++) z += weights[row] * cf_load(in[row] + i);
            cf_vec below = cf_power(z * CF_LOG2E) - 1.0f;
            cf_save(out[unit] + i, cf_pick((cf_ints)(z > 0), z, below));
        }
    return weights;
}

/* Where rows are: of the old cell state, and of what is made of it; from one unit's to the next it is `apart`. */
typedef struct {
    const float *cell;
    float *new_cell, *new_hidden;
    int64_t apart;
} cf_rows;

/* One unit on CF_SPAN parameters. weights: for each input its four gates' (write, keep, candidate, read), then their
 * biases. The new hidden state also goes to `shown`. */
CF_INLINE void cf_tile(const float *weights, int inputs, const float (*x)[CF_BLOCK], const cf_rows *rows, int64_t at,
                       float *shown) {
    cf_vec gate[4][CF_TILE];
    for (int k = 0; k < 4; k++)
        for (int v = 0; v < CF_TILE; v++) gate[k][v] = cf_all(weights[4 * inputs + k]);
    for (int row = 0; row < inputs; row++) {
        cf_vec in[CF_TILE];
        for (int v = 0; v < CF_TILE; v++) in[v] = cf_held(cf_load(x[row] + v * CF_LANES));
        for (int k = 0; k < 4; k++)
            for (int v = 0; v < CF_TILE; v++) gate[k][v] += weights[4 * row + k] * in[v];
    }
    for (int v = 0; v < CF_TILE; v++) {
        const int64_t place = at + v * CF_LANES;
        cf_vec write = cf_power(gate[0][v]), keep = cf_power(gate[1][v]);
        cf_vec candidate = cf_power(cf_capped(gate[2][v])), read = cf_power(gate[3][v]);
        cf_vec kept = cf_load(rows->cell + place) / (1.0f + keep);
        cf_vec memory = kept + (1.0f - candidate) / ((1.0f + write) * (1.0f + candidate));
        cf_vec e = cf_power(cf_capped(memory * (-2.0f * CF_LOG2E)));
        cf_vec hidden = (1.0f - e) / ((1.0f + read) * (1.0f + e));
        cf_save(rows->new_cell + place, memory);
        cf_save(rows->new_hidden + place, hidden);
        cf_save(shown + v * CF_LANES, hidden);
    }
}

/* One layer: x holds its input and, after that, its old hidden state. */
CF_INLINE const float *cf_layer(const float *weights, int inputs, const float (*x)[CF_BLOCK], const cf_rows *rows,
                                float (*shown)[CF_BLOCK]) {
    for (int unit = 0; unit < CF_HIDDEN; unit++, weights += 4 * (inputs + 1))
        for (int i = 0; i < CF_BLOCK; i += CF_SPAN)
            cf_tile(weights, inputs, (const float (*)[CF_BLOCK])(x[0] + i), rows, unit * rows->apart + i,
                    shown[unit] + i);
    return weights;
}

static void cf_output(const float *weights, const float (*hidden)[CF_BLOCK], float scale, float *update) {
    for (int i = 0; i < CF_BLOCK; i++) {
        float sum = weights[CF_HIDDEN];
        for (int unit = 0; unit < CF_HIDDEN; unit++) sum += weights[unit] * hidden[unit][i];
        update[i] = scale * (CF_BOUNDED ? cf_tanh_f32(sum) : sum);
    }
}

/* ------------------------------------------------------------------------------------------------------- blocks */

/* Rows of a block, from where they lie N apart to side by side, and back. What is past the end is 0. */
CF_INLINE void cf_fetch(float *to, const float *from, int64_t count) {
    if (count == CF_BLOCK) {
        __builtin_memcpy(to, from, sizeof(float) * CF_BLOCK);
    } else {
        __builtin_memset(to, 0, sizeof(float) * CF_BLOCK);
        __builtin_memcpy(to, from, sizeof(float) * (size_t)count);
    }
}
CF_INLINE void cf_put(float *to, const float *from, int64_t count) {
    __builtin_memcpy(to, from, sizeof(float) * (size_t)(count == CF_BLOCK ? CF_BLOCK : count));
}

/* A feature; infinities, at which gates are open or closed anyway, become large: they must not cancel to NaN. */
CF_INLINE void cf_feature(float *to, const float *from, int64_t count) {
    cf_fetch(to, from, count);
    for (int i = 0; i < CF_BLOCK; i += CF_LANES) {
        cf_vec x = cf_load(to + i);
        x = cf_pick((cf_ints)(x > CF_LARGE), cf_all(CF_LARGE), x);
        cf_save(to + i, cf_pick((cf_ints)(x < -CF_LARGE), cf_all(-CF_LARGE), x));
    }
}

/* Asks for the rows of the next block. */
CF_INLINE void cf_expect(const float *hidden, const float *cell) {
    for (int i = CF_BLOCK; i < 2 * CF_BLOCK; i += 16) {
        __builtin_prefetch(hidden + i, 0, 2);
        __builtin_prefetch(cell + i, 0, 2);
    }
}

static void cf_block(const cf_call *c, int64_t which, int64_t begin, int64_t count) {
    float x[2][CF_INPUTS][CF_BLOCK] __attribute__((aligned(64)));
    float rest[3][CF_HIDDEN][CF_BLOCK] __attribute__((aligned(64)));
    const float *weights = c->weights + which * c->stride;
    const int64_t flat = which * c->count + begin;
    for (int row = 0; row < CF_FEATURES; row++) cf_feature(x[CF_WIDTH != 0][row], c->features[row] + flat, count);
#if CF_WIDTH
    weights = cf_elu(weights, x[1], x[0]);
#endif
    for (int layer = 0; layer < CF_LAYERS; layer++) {
        const int64_t first = which * CF_HIDDEN * c->count + begin;
        const float *hidden = c->hidden[layer] + first;
        cf_rows rows = {c->cell[layer] + first, c->new_cell[layer] + first, c->new_hidden[layer] + first, c->count};
        for (int unit = 0; unit < CF_HIDDEN; unit++) {
            cf_fetch(x[layer % 2][CF_READ(layer) + unit], hidden + unit * c->count, count);
            if (count < CF_BLOCK) cf_fetch(rest[0][unit], rows.cell + unit * c->count, count);
            else if (begin + 2 * CF_BLOCK <= c->count) cf_expect(hidden + unit * c->count, rows.cell + unit * c->count);
        }
        if (count < CF_BLOCK) rows = (cf_rows){rest[0][0], rest[1][0], rest[2][0], CF_BLOCK};
        weights = cf_layer(weights, CF_READ(layer) + CF_HIDDEN, (const float (*)[CF_BLOCK])x[layer % 2], &rows,
                           x[(layer + 1) % 2]);
        if (count < CF_BLOCK)
            for (int unit = 0; unit < CF_HIDDEN; unit++) {
                cf_put(c->new_cell[layer] + first + unit * c->count, rest[1][unit], count);
                cf_put(c->new_hidden[layer] + first + unit * c->count, rest[2][unit], count);
            }
    }
    float update[CF_BLOCK];
    cf_output(weights, (const float (*)[CF_BLOCK])x[CF_LAYERS % 2], (float)c->scale, update);
    cf_put(c->update + flat, update, count);
}

static void cf_take_blocks(void *data) {
    cf_work *work = data;
    const cf_call *c = work->call;
    const int64_t blocks = (c->count + CF_BLOCK - 1) / CF_BLOCK, all = blocks * c->stacked;
    int64_t block;
    while ((block = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < all) {
        const int64_t begin = block % blocks * CF_BLOCK, rest = c->count - begin;
        cf_block(c, block / blocks, begin, rest < CF_BLOCK ? rest : CF_BLOCK);
    }
}

int cf_lstm(const cf_call *c) {
    cf_work work = {c, 0};
    if (c->threads > 1 && c->parallel)
        c->parallel(cf_take_blocks, &work, (unsigned)c->threads, 0);
    else
        cf_take_blocks(&work);
    return 0;
}
