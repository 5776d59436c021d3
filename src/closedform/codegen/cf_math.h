/* The rule language's operators for generated C: branch-free, so that a loop over them vectorises.
 *
 * Each cf_name(x) takes float or double. The float versions are polynomials and rational functions of their own (maximum
 * errors: docs/performance.md, tested in tests/lang/test_c_math.py); the double versions call the C library. NaN,
 * infinity, signed zero and denormals are treated as IEEE and torch treat them. The coefficients are minimax fits of the
 * stated function over the stated interval.
 *
 * Compile without -ffast-math: NaN must stay NaN, and the rounding by CF_MAGIC must not be folded away.
 */

#include <math.h>
#include <stdint.h>

#define CF_INLINE static inline __attribute__((always_inline))

/* Half an integer step at 2^23 and 2^52: adding it rounds to an integer, kept in the low bits. */
#define CF_MAGIC_F32 0x1.8p23f
#define CF_MAGIC_F64 0x1.8p52

CF_INLINE uint32_t cf_bits(float x) { uint32_t b; __builtin_memcpy(&b, &x, sizeof b); return b; }
CF_INLINE float cf_from_bits(uint32_t b) { float x; __builtin_memcpy(&x, &b, sizeof x); return x; }
CF_INLINE uint64_t cf_bits64(double x) { uint64_t b; __builtin_memcpy(&b, &x, sizeof b); return b; }
CF_INLINE double cf_from_bits64(uint64_t b) { double x; __builtin_memcpy(&x, &b, sizeof x); return x; }

/* ---------------------------------------------------------------------------------------------------- storage */

typedef uint16_t cf_bf16;

CF_INLINE float cf_load_bf16(cf_bf16 x) { return cf_from_bits((uint32_t)x << 16); }

/* Add noise below the last kept bit, then cut; NaN stays NaN. */
CF_INLINE cf_bf16 cf_cut_bf16(float x, uint32_t noise) {
    uint32_t b = cf_bits(x);
    return (cf_bf16)((x != x ? b | 0x400000u : b + noise) >> 16);
}
/* To nearest, ties to even. */
CF_INLINE cf_bf16 cf_store_bf16(float x) { return cf_cut_bf16(x, 0x7fffu + ((cf_bits(x) >> 16) & 1u)); }

/* Random bits from a counter: two rounds of multiply and xor-shift (C. Wellons 2018, lowbias32). */
CF_INLINE uint32_t cf_hash(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}
/* One 64-bit round (S. Vigna 2015, splitmix64): spreads a seed and a counter over a 32-bit key. */
CF_INLINE uint32_t cf_key(uint64_t seed, uint64_t counter) {
    uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z ^ (z >> 31));
}

/* ------------------------------------------------------------------------------------------------ plain, by type */

#define CF_PLAIN(T, S, ABS, SQRT)                                                                                    \
    CF_INLINE T cf_abs_##S(T x) { return ABS(x); }                                                                   \
    CF_INLINE T cf_sqrt_##S(T x) { return SQRT(x); }                                                                 \
    CF_INLINE T cf_sign_##S(T x) { return (T)(x > 0 ? 1 : 0) - (T)(x < 0 ? 1 : 0); }                                 \
    CF_INLINE T cf_square_##S(T x) { return x * x; }                                                                 \
    CF_INLINE T cf_cube_##S(T x) { return x * x * x; }                                                               \
    CF_INLINE T cf_relu_##S(T x) { return x < 0 ? 0 : x; }                                                           \
    CF_INLINE T cf_min_##S(T x, T y) { return (x < y) | (x != x) ? x : y; }                                          \
    CF_INLINE T cf_max_##S(T x, T y) { return (x > y) | (x != x) ? x : y; }                                          \
    CF_INLINE T cf_greater_##S(T x, T y) { return x > y ? 1 : 0; }                                                   \
    CF_INLINE T cf_where_##S(T c, T x, T y) { return c != 0 ? x : y; }                                               \
    CF_INLINE T cf_pow_half_##S(T x) { return x == -(T)INFINITY ? (T)INFINITY : SQRT(x); }

CF_PLAIN(float, f32, fabsf, sqrtf)
CF_PLAIN(double, f64, fabs, sqrt)

/* where, for a condition that all elements of a loop have in common: of it, compilers make a branch, and no vectors. */
CF_INLINE float cf_select_f32(float c, float x, float y) {
    const uint32_t mask = -(uint32_t)(c != 0);
    return cf_from_bits((cf_bits(x) & mask) | (cf_bits(y) & ~mask));
}
CF_INLINE double cf_select_f64(double c, double x, double y) {
    const uint64_t mask = -(uint64_t)(c != 0);
    return cf_from_bits64((cf_bits64(x) & mask) | (cf_bits64(y) & ~mask));
}

/* ------------------------------------------------------------------------------------------------------- double */

CF_INLINE double cf_pow_f64(double x, double y) { return pow(x, y); }
CF_INLINE double cf_spow_f64(double x, double y) { return cf_sign_f64(x) * pow(fabs(x), y); }
CF_INLINE double cf_slog_f64(double x) { return log(fabs(x) + 1e-8); }
CF_INLINE double cf_exp_f64(double x) { return exp(x); }
CF_INLINE double cf_log_f64(double x) { return log(x); }
CF_INLINE double cf_tanh_f64(double x) { return tanh(x); }
CF_INLINE double cf_sinh_f64(double x) { return sinh(x); }
CF_INLINE double cf_asinh_f64(double x) { return asinh(x); }
CF_INLINE double cf_erf_f64(double x) { return erf(x); }
CF_INLINE double cf_erfc_f64(double x) { return erfc(x); }

/* -------------------------------------------------------------------------------------------------------- float */

/* Clamps go over the bits: a comparison of floats would cost a mask and a blend, integers have a minimum of their own.
 * The magnitude of x, at most limit (>= 0); NaN becomes limit, so that cf_finish has to bring it back. */
CF_INLINE float cf_magnitude(float x, float limit) {
    uint32_t a = cf_bits(x) & 0x7fffffffu, l = cf_bits(limit);
    return cf_from_bits(a < l ? a : l);
}
/* y >= 0, at most 1: a rounding must not lead past it. */
CF_INLINE float cf_at_most_one(float y) {
    uint32_t a = cf_bits(y), l = cf_bits(1.0f);
    return cf_from_bits(a < l ? a : l);
}
/* y with the sign of x (y >= 0), or NaN if x is. */
CF_INLINE float cf_finish(float y, float x) { return x == x ? copysignf(y, x) : x; }

/* 2^n for an integer n in [-126, 127], given the bits of CF_MAGIC_F32 + n. */
CF_INLINE float cf_two_to(uint32_t magic_bits) { return cf_from_bits((magic_bits + 127u) << 23); }

/* 2^shift e^x: x = n ln 2 + r, |r| <= ln(2)/2, e^r by a polynomial of degree 6; the power in two factors, so that
 * denormal results are rounded and not lost. Outside [-105, 105] the result is 0 or infinity anyway. */
CF_INLINE float cf_exp_scaled(float x, float shift) {
    float c = copysignf(cf_magnitude(x, 105.0f), x);
    float n = (c * 0x1.715476p0f + CF_MAGIC_F32) - CF_MAGIC_F32;
    float r = (c - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    float p = 0x1.6a2434p-10f;
    p = p * r + 0x1.1239e2p-7f;
    p = p * r + 0x1.5558f2p-5f;
    p = p * r + 0x1.555492p-3f;
    p = p * r + 0x1.fffffcp-2f;
    float e = p * (r * r) + r + 1.0f;
    n += shift;
    float half = (n * 0.5f + CF_MAGIC_F32) - CF_MAGIC_F32;
    e = e * cf_two_to(cf_bits(half + CF_MAGIC_F32)) * cf_two_to(cf_bits((n - half) + CF_MAGIC_F32));
    return x == x ? e : x;
}
CF_INLINE float cf_exp_f32(float x) { return cf_exp_scaled(x, 0.0f); }

/* x = 2^n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f - f^2/2 + f^3 P(f). Denormals are scaled up. */
CF_INLINE float cf_log_f32(float x) {
    int tiny = x < 0x1p-126f;
    uint32_t b = cf_bits(tiny ? x * 0x1p23f : x) - 0x3f3504f3u; /* bits of sqrt(1/2) */
    float n = (float)((int32_t)b >> 23) - (tiny ? 23.0f : 0.0f);
    float f = cf_from_bits((b & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
    float p = -0x1.38b45ep-4f;
    p = p * f + 0x1.056f9cp-3f;
    p = p * f - 0x1.0d8ecep-3f;
    p = p * f + 0x1.22d812p-3f;
    p = p * f - 0x1.547126p-3f;
    p = p * f + 0x1.99a014p-3f;
    p = p * f - 0x1.00022ap-2f;
    p = p * f + 0x1.555554p-2f;
    float s = f * f;
    float y = n * 0x1.62e4p-1f + (f + (s * (f * p - 0.5f) + n * 0x1.7f7d1cp-20f));
    y = x < INFINITY ? y : x;
    y = x < 0 ? NAN : y;
    return x == 0 ? -INFINITY : y;
}
CF_INLINE float cf_slog_f32(float x) { return cf_log_f32(fabsf(x) + 1e-8f); }

/* x P(x^2)/Q(x^2), fitted on [0, 9.02]; tanh rounds to 1 beyond. */
CF_INLINE float cf_tanh_f32(float x) {
    float c = cf_magnitude(x, 9.02f);
    float s = c * c;
    float p = 0x1.cbe18ep-27f;
    float q = 7.79025356e-07f;
    p = p * s + 2.06358309e-05f;
    q = q * s + 0.000328851835f;
    p = p * s + 0.0034974583f;
    q = q * s + 0.0258843638f;
    p = p * s + 0.133826882f;
    q = q * s + 0.467160076f;
    p = p * s + 1.0f;
    q = q * s + 1.0f;
    return cf_finish(cf_at_most_one(c * p / q), x);
}

/* |x| < 1: x + x^3 P(x^2); beyond: (e^|x| - e^-|x|)/2, from e^|x|/2, which overflows only where sinh does. */
CF_INLINE float cf_sinh_f32(float x) {
    float a = fabsf(x), s = x * x;
    float p = 0x1.7a15b6p-19f;
    p = p * s + 0x1.9ffe92p-13f;
    p = p * s + 0x1.111134p-7f;
    p = p * s + 0x1.555556p-3f;
    float e = cf_exp_scaled(a, -1.0f);
    return a < 1.0f ? x + x * s * p : copysignf(e - 0.25f / e, x);
}

/* log(1 + y) with y = |x| + x^2/(1 + sqrt(1 + x^2)), and what rounding 1 + y lost; log(2 |x|) for large |x|. */
CF_INLINE float cf_asinh_f32(float x) {
    float a = fabsf(x);
    float s = a * a;
    float y = a + s / (1.0f + sqrtf(1.0f + s));
    int large = a > 0x1p30f;
    float u = large ? a : 1.0f + y;
    float lost = large ? 0x1.62e43p-1f : (y - (u - 1.0f)) / u;
    return copysignf(cf_log_f32(u) + lost, x);
}

/* x P(x^2)/Q(x^2), fitted on [0, 3.92]; erf rounds to 1 beyond. */
CF_INLINE float cf_erf_f32(float x) {
    float c = cf_magnitude(x, 3.92f);
    float s = c * c;
    float p = 2.0500795e-06f;
    float q = 3.80917008e-05f;
    p = p * s + 0.000284884009f;
    q = q * s + 0.00116254843f;
    p = p * s + 0.00376566942f;
    q = q * s + 0.0149693228f;
    p = p * s + 0.0527488887f;
    q = q * s + 0.114109613f;
    p = p * s + 0.190407678f;
    q = q * s + 0.502077162f;
    p = p * s + 1.12837911f;
    q = q * s + 1.0f;
    return cf_finish(cf_at_most_one(c * p / q), x);
}

/* a = |x|: e^(-a^2) erfcx(a), with erfcx a polynomial in u = 3/(3 + a) on [0, 10.5], and a^2 in two parts. */
CF_INLINE float cf_erfc_f32(float x) {
    float a = cf_magnitude(x, 10.5f);
    float u = 3.0f / (3.0f + a);
    float p = 0x1.d630e0p-5f;
    p = p * u - 0x1.352d02p-2f;
    p = p * u + 0x1.1f211cp-1f;
    p = p * u - 0x1.e9da6ap-2f;
    p = p * u + 0x1.c15f4ep-2f;
    p = p * u - 0x1.8eefb6p-6f;
    p = p * u + 0x1.9d3b2cp-3f;
    p = p * u + 0x1.596dbep-3f;
    p = p * u + 0x1.837646p-3f;
    p = p * u + 0x1.80fd12p-3f;
    p = p * u + 0x1.473f22p-19f;
    float square = a * a;
    float high = cf_from_bits(cf_bits(a) & 0xfffff000u); /* 12 bits: its square is exact */
    float low = (high * high - square) + (a - high) * (a + high);
    float y = cf_exp_scaled(-square, 0.0f) * (p - p * low);
    y = x < 0 ? 2.0f - y : y;
    return x == x ? y : x;
}

/* |x|^y in double, from which it is rounded once: log2 of the mantissa by the atanh series, 2^r by degree 7. */
CF_INLINE float cf_power_of_abs(float x, float y) {
    double a = fabsf(x), l;
    uint64_t b = cf_bits64(a) - 0x3fe6a09e667f3bcdu; /* bits of sqrt(1/2) */
    double n = cf_from_bits64(((uint64_t)((int64_t)b >> 52) + 1024u) | 0x4330000000000000u) - (0x1p52 + 1024.0);
    double m = cf_from_bits64((b & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu);
    double f = (m - 1.0) / (m + 1.0), s = f * f;
    l = 0x1.232e93f027863p-2;
    l = l * s + 0x1.477744395c034p-2;
    l = l * s + 0x1.a61b08ea2e019p-2;
    l = l * s + 0x1.2776c14057b67p-1;
    l = l * s + 0x1.ec709dc6d5f06p-1;
    l = n + f * (l * s + 0x1.71547652b808fp+1);
    l = a < (double)INFINITY ? l : a;
    l = a == 0 ? -(double)INFINITY : l;
    double z = l * (double)y;
    z = z > 160.0 ? 160.0 : z;
    z = z < -160.0 ? -160.0 : z;
    double k = z + CF_MAGIC_F64;
    double r = z - (k - CF_MAGIC_F64);
    double p = 0x1.fde5cd170ae73p-17;
    p = p * r + 0x1.445ca6ac25bf4p-13;
    p = p * r + 0x1.5d8a8682aea7ep-10;
    p = p * r + 0x1.3b29f37575634p-7;
    p = p * r + 0x1.c6b08abf990e9p-5;
    p = p * r + 0x1.ebfbe077ae0b0p-3;
    p = p * r + 0x1.62e42ff0e2142p-1;
    p = p * r + 1.0;
    float result = (float)(p * cf_from_bits64((cf_bits64(k) + 1023u) << 52));
    return (y == 0) | (fabsf(x) == 1.0f) ? 1.0f : result;
}
CF_INLINE float cf_pow_f32(float x, float y) {
    float result = cf_power_of_abs(x, y);
    int whole = rintf(y) == y;
    int odd = whole & (rintf(y * 0.5f) != y * 0.5f);
    result = odd ? copysignf(result, x) : result;
    result = (x < 0) & (x > -INFINITY) & !whole ? NAN : result;
    return (x != x) | (y != y) ? ((y == 0) | (x == 1.0f) ? 1.0f : x + y) : result;
}
CF_INLINE float cf_spow_f32(float x, float y) {
    float power = cf_power_of_abs(x, y);
    power = (x != x) | (y != y) ? ((y == 0) | (fabsf(x) == 1.0f) ? 1.0f : x + y) : power;
    return cf_sign_f32(x) * power;
}

/* --------------------------------------------------------------------------------------------------- by argument */

#define CF_CHOOSE(name, x) _Generic((x), float: cf_##name##_f32, default: cf_##name##_f64)
#define cf_abs(x) CF_CHOOSE(abs, x)(x)
#define cf_sqrt(x) CF_CHOOSE(sqrt, x)(x)
#define cf_sign(x) CF_CHOOSE(sign, x)(x)
#define cf_square(x) CF_CHOOSE(square, x)(x)
#define cf_cube(x) CF_CHOOSE(cube, x)(x)
#define cf_relu(x) CF_CHOOSE(relu, x)(x)
#define cf_min(x, y) CF_CHOOSE(min, x)(x, y)
#define cf_max(x, y) CF_CHOOSE(max, x)(x, y)
#define cf_greater(x, y) CF_CHOOSE(greater, x)(x, y)
#define cf_where(c, x, y) CF_CHOOSE(where, x)(c, x, y)
#define cf_select(c, x, y) CF_CHOOSE(select, x)(c, x, y)
#define cf_pow(x, y) CF_CHOOSE(pow, x)(x, y)
#define cf_pow_half(x) CF_CHOOSE(pow_half, x)(x)
#define cf_spow(x, y) CF_CHOOSE(spow, x)(x, y)
#define cf_slog(x) CF_CHOOSE(slog, x)(x)
#define cf_exp(x) CF_CHOOSE(exp, x)(x)
#define cf_log(x) CF_CHOOSE(log, x)(x)
#define cf_tanh(x) CF_CHOOSE(tanh, x)(x)
#define cf_sinh(x) CF_CHOOSE(sinh, x)(x)
#define cf_asinh(x) CF_CHOOSE(asinh, x)(x)
#define cf_erf(x) CF_CHOOSE(erf, x)(x)
#define cf_erfc(x) CF_CHOOSE(erfc, x)(x)
