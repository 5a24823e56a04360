/* What a step of each optimizer does to one element: the parameter p, its direction d and its state s[0], s[1], s[2].
   An optimizer is a row of the table, a function that makes its scalars c[0], c[1], …, and a rule. Included once for
   each type of `real`. */
#ifndef real
#include <math.h>
#include <stddef.h>
#include <string.h>

/* Name; scalars; bits of the states that it needs, and of those that it may have; options; states; other numbers */
#define OPT_RULES(X) \
    X(sgd, sgd, 0, 1, "lr, momentum, dampening, nesterov", "the buffer or none", "; of steps, whether any suffices") \
    X(adagrad, adagrad, 1, 1, "lr, lr_decay, eps", "sum of squares", "") \
    X(adadelta, average, 3, 3, "lr, rho, eps", "averages of d² and of squared changes", "") \
    X(rmsprop, average, 1, 7, "lr, alpha, eps, momentum", "mean of d², if centered of d, with momentum a buffer", "") \
    X(adam, moments, 3, 7, ADAM, "averages of d and d², for amsgrad the largest of those", "") \
    X(adamax, moments, 3, 3, "lr, beta1, beta2, eps", "average of d, and norm", "") \
    X(nadam, nadam, 3, 3, ADAM ", momentum_decay", "averages of d and d²", ", product of all mu") \
    X(radam, radam, 3, 3, ADAM, "averages of d and d²", "") \
    X(rprop, given, 3, 3, "both etas, both step_sizes", "d before, step sizes", "") \
    X(asgd, asgd, 1, 1, "lr, lambd, alpha, t0", "average", ", eta, mu") \
    /* and what changes gradients */ X(scale, given, 0, 0, "", "", "") X(clamp, given, 0, 0, "", "", "")
#define ADAM "lr, beta1, beta2, eps, decoupled decay"
#define OPT_NAME(name, ...) OPT_##name,
#define OPT_ROW(name, scalars, needs, may, options, states, numbers) \
    {#name "_step", "Options: " options "; states: " states "; numbers: steps" numbers ".", \
     scalars##_scalars, needs, may},

enum { OPT_RULES(OPT_NAME) OPT_STEPS = OPT_scale };
enum { MOST = 12 }; /* scalars */
typedef struct {
    const char *name, *about;
    void (*scalars)(const double *o, double *n, double *c); /* of options and the parameter's numbers, which move on */
    int needs, may;
} OptRule;

#define SCALARS(name) static void name##_scalars(const double *o, double *n, double *c)
#define SET(...) memcpy(c, (const double[]){__VA_ARGS__}, sizeof((const double[]){__VA_ARGS__}))

SCALARS(given) { n[0] += 1; memcpy(c, o, 6 * sizeof *o); }
SCALARS(sgd) { SET(o[0], o[1], 1 - o[2], o[3], n[0] == 0); }
SCALARS(adagrad) { n[0] += 1; SET(o[0] / (1 + (n[0] - 1) * o[1]), o[2]); }
SCALARS(average) { n[0] += 1; SET(o[0], o[1], 1 - o[1], o[2], o[3]); }
SCALARS(moments) {
    n[0] += 1;
    const double mean = 1 - pow(o[1], n[0]), square = 1 - pow(o[2], n[0]);
    SET(1 - o[1], o[2], 1 - o[2], o[0] / mean, 1 / sqrt(square), o[3], 1 - o[0] * o[4]);
}
SCALARS(nadam) {
    moments_scalars(o, n, c);
    const double mu = o[1] * (1 - 0.5 * pow(0.96, n[0] * o[5]));
    const double after = o[1] * (1 - 0.5 * pow(0.96, (n[0] + 1) * o[5]));
    n[1] = (float)n[1] * (float)mu; /* as PyTorch keeps it */
    c[3] = o[0] * after / (1 - n[1] * after);
    c[7] = o[0] * (1 - mu) / (1 - n[1]);
}
SCALARS(radam) {
    moments_scalars(o, n, c);
    const double power = pow(o[2], n[0]), limit = 2 / (1 - o[2]) - 1, rho = limit - 2 * n[0] * power / (1 - power);
    c[4] = rho > 5;
    if (rho > 5) c[3] *= sqrt((1 - power) * (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho));
}
SCALARS(asgd) {
    SET(1 - o[1] * n[1], n[1], n[2]);
    n[0] += 1;
    n[1] = o[0] / pow(1 + o[1] * o[0] * n[0], o[2]);
    n[2] = 1 / fmax(1, n[0] - o[3]);
}
static const OptRule opt_rules[] = {OPT_RULES(OPT_ROW)};

#ifdef __GNUC__
#define OPT_INLINE static inline __attribute__((always_inline))
#else
#define OPT_INLINE static inline
#endif
#define RULE(name) OPT_INLINE real OF(name)(real p, real d, real *s, const real *c, int states)

#define real float
#define OF(name) name##_f32
#define MATH(name) name##f
#include "optimizer.h"
#undef real
#undef OF
#undef MATH
#define real double
#define OF(name) name##_f64
#define MATH(name) name
#include "optimizer.h"
#define opt_step(kind, ...) _Generic((kind), float *: opt_step_f32, default: opt_step_f64)(__VA_ARGS__)
#else

/* from a towards b; the end nearer to the result is the one to start from, as in torch.lerp */
OPT_INLINE real OF(lerp)(real a, real b, real w) {
    return w < (real)0.5 ? a + w * (b - a) : b - (1 - w) * (b - a);
}

OPT_INLINE real OF(sign)(real x) { return (x > 0) | (x < 0) ? MATH(copysign)(1, x) : x; } /* of 0 and NaN, themselves */

OPT_INLINE real OF(larger)(real a, real b) { return (a < b) | (b != b) ? b : a; } /* or NaN */

RULE(sgd) {
    const real lr = c[0], momentum = c[1], damp = c[2], nesterov = c[3], first = c[4];
    if (states) s[0] = first ? d : momentum * s[0] + damp * d;
    return p - lr * (!states ? d : nesterov ? d + momentum * s[0] : s[0]);
}

RULE(adagrad) {
    s[0] = s[0] + d * d;
    return p - c[0] * (d / (MATH(sqrt)(s[0]) + c[1]));
}

RULE(adadelta) {
    const real lr = c[0], rho = c[1], rest = c[2], eps = c[3];
    s[0] = rho * s[0] + rest * d * d;
    const real step = MATH(sqrt)(s[1] + eps) / MATH(sqrt)(s[0] + eps) * d;
    s[1] = rho * s[1] + rest * step * step;
    return p - lr * step;
}

RULE(rmsprop) {
    const real lr = c[0], alpha = c[1], rest = c[2], eps = c[3], momentum = c[4];
    real square = s[0] = alpha * s[0] + rest * d * d;
    if (states & 2) { /* centred: the variance, which rounding may make negative */
        s[1] = OF(lerp)(s[1], d, rest);
        square = square - s[1] * s[1];
        square = square < 0 ? 0 : square;
    }
    d = d / (MATH(sqrt)(square) + eps);
    if (states & 4) d = s[2] = momentum * s[2] + d;
    return p - lr * d;
}

OPT_INLINE void OF(moments)(real d, real *s, const real *c) {
    s[0] = OF(lerp)(s[0], d, c[0]);
    s[1] = c[1] * s[1] + c[2] * d * d;
}

RULE(adam) {
    const real lr = c[3], scale = c[4], eps = c[5], keep = c[6];
    OF(moments)(d, s, c);
    if (states & 4) s[2] = OF(larger)(s[2], s[1]);
    return keep * p - lr * (s[0] / (scale * MATH(sqrt)(states & 4 ? s[2] : s[1]) + eps));
}

RULE(nadam) {
    const real lr = c[3], scale = c[4], eps = c[5], keep = c[6], lr_grad = c[7];
    OF(moments)(d, s, c);
    return keep * p - (lr_grad * d + lr * s[0]) / (scale * MATH(sqrt)(s[1]) + eps);
}

RULE(radam) {
    const real lr = c[3], rectified = c[4], eps = c[5], keep = c[6];
    OF(moments)(d, s, c);
    return keep * p - lr * (rectified ? s[0] / (MATH(sqrt)(s[1]) + eps) : s[0]);
}

RULE(adamax) {
    const real lr = c[3], beta2 = c[1], eps = c[5], size = d < 0 ? -d : d;
    s[0] = OF(lerp)(s[0], d, c[0]);
    s[1] = OF(larger)(beta2 * s[1], size + eps);
    return p - lr * (s[0] / s[1]);
}

RULE(rprop) {
    const real down = c[0], up = c[1], least = c[2], most = c[3];
    const real way = OF(sign)(d), turn = way * OF(sign)(s[0]);
    real factor = 1 + turn; /* 1 or NaN, where neither of the following holds */
    factor = turn > 0 ? up : factor;
    factor = turn < 0 ? down : factor;
    const real size = s[1] * factor, large = least > size ? least : size; /* max and min that keep NaN */
    s[1] = most < large ? most : large;
    s[0] = turn < 0 ? 0 : d;
    return p - (turn < 0 ? 0 : way) * s[1];
}

RULE(asgd) {
    const real keep = c[0], eta = c[1], mu = c[2];
    p = keep * p - eta * d;
    s[0] = mu == 1 ? p : s[0] + (p - s[0]) * mu;
    return p;
}

RULE(scale) { return p * c[0]; }
RULE(clamp) { return p > c[0] ? c[0] : p < -c[0] ? -c[0] : p; }

typedef real (*OF(rule))(real p, real d, real *s, const real *c, int states);

/* Elements lo, …, lo + n - 1 of the arrays `data`: parameter, gradient, those of three states whose bits are given. */
OPT_INLINE void OF(loop)(OF(rule) rule, const int states, const int penalized, char *const *data, ptrdiff_t lo,
                         ptrdiff_t n, const double *scalars) {
    real *x = (real *)data[0] + lo, *a = states & 1 ? (real *)data[2] + lo : x;
    real *b = states & 2 ? (real *)data[3] + lo : x, *z = states & 4 ? (real *)data[4] + lo : x;
    const real *g = (const real *)data[1] + lo;
    const real scale = (real)scalars[0], decay = (real)scalars[1], l1 = (real)scalars[2];
    const real none = (real)-0.0; /* which changes no number, not even the sign of 0 */
    const int decays = decay != 0, thins = l1 != 0;
    real c[MOST];
    for (int i = 0; i < MOST - 3; i++) c[i] = (real)scalars[i + 3];
    _Pragma("GCC ivdep") /* arrays may be the same, not overlap */
    for (ptrdiff_t i = 0; i < n; i++) {
        const real p = x[i];
        real s[3] = {states & 1 ? a[i] : 0, states & 2 ? b[i] : 0, states & 4 ? z[i] : 0};
        real d = scale * g[i];
        if (penalized) d = d + ((decays ? decay * p : none) + (thins ? l1 * OF(sign)(p) : none));
        const real y = rule(p, d, s, c, states);
        if (states & 1) a[i] = s[0];
        if (states & 2) b[i] = s[1];
        if (states & 4) z[i] = s[2];
        x[i] = y;
    }
}

/* A loop for each case, else GCC vectorizes none. Penalties, even of 0, would cost up to half as much as a step. */
#define LOOP(name, mask, penalized) OF(loop)(OF(name), mask, penalized, data, lo, n, scalars)
#define RUN(name, mask) if (states == (mask)) { penalized ? LOOP(name, mask, 1) : LOOP(name, mask, 0); return; }
#define CASE(name, scalars, needs, may, ...) \
    case OPT_##name: RUN(name, needs) RUN(name, (needs | 2) & may) RUN(name, (needs | 4) & may) RUN(name, may) break;
static void OF(opt_step)(int rule, int states, char *const *data, ptrdiff_t lo, ptrdiff_t n, const double *scalars) {
    const int penalized = scalars[1] != 0 || scalars[2] != 0;
    switch (rule) { OPT_RULES(CASE) }
}
#undef LOOP
#undef RUN
#undef CASE
#endif
