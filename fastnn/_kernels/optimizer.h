/* What a step of each optimizer does to one element: the parameter p, its direction d and its state s[0], s[1], s[2].
   c[0], c[1], … are the scalars of optimizer.pyx. Included once for each type of `real`. */
#ifndef real
#include <math.h>
#include <stddef.h>

enum { SGD, ADAGRAD, ADADELTA, RMSPROP, ADAM, ADAMAX, NADAM, RADAM, RPROP, ASGD };
enum { MOST = 12 }; /* scalars */

#ifdef __GNUC__
#define OPT_INLINE static inline __attribute__((always_inline))
#else
#define OPT_INLINE static inline
#endif
#define RULE(name) OPT_INLINE real OF(name)(real p, real d, real *s, const real *c, int states)

#define real float
#define OF(name) name##_f32
#define ROOT sqrtf
#define COPYSIGN copysignf
#include "optimizer.h"
#undef real
#undef OF
#undef ROOT
#undef COPYSIGN
#define real double
#define OF(name) name##_f64
#define ROOT sqrt
#define COPYSIGN copysign
#include "optimizer.h"
#define opt_step(kind, ...) _Generic((kind), float *: opt_step_f32, default: opt_step_f64)(__VA_ARGS__)
#else

/* from a towards b; the end nearer to the result is the one to start from, as in torch.lerp */
OPT_INLINE real OF(lerp)(real a, real b, real w) {
    return w < (real)0.5 ? a + w * (b - a) : b - (1 - w) * (b - a);
}

OPT_INLINE real OF(sign)(real x) { return (x > 0) | (x < 0) ? COPYSIGN(1, x) : x; } /* of 0 and NaN, themselves */

OPT_INLINE real OF(larger)(real a, real b) { return (a < b) | (b != b) ? b : a; } /* or NaN */

RULE(sgd) {
    const real lr = c[0], momentum = c[1], damp = c[2], nesterov = c[3], first = c[4];
    if (states) s[0] = first ? d : momentum * s[0] + damp * d;
    return p - lr * (!states ? d : nesterov ? d + momentum * s[0] : s[0]);
}

RULE(adagrad) {
    s[0] = s[0] + d * d;
    return p - c[0] * (d / (ROOT(s[0]) + c[1]));
}

RULE(adadelta) {
    const real lr = c[0], rho = c[1], rest = c[2], eps = c[3];
    s[0] = rho * s[0] + rest * d * d;
    const real step = ROOT(s[1] + eps) / ROOT(s[0] + eps) * d;
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
    d = d / (ROOT(square) + eps);
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
    return keep * p - lr * (s[0] / (scale * ROOT(states & 4 ? s[2] : s[1]) + eps));
}

RULE(nadam) {
    const real lr = c[3], scale = c[4], eps = c[5], keep = c[6], lr_grad = c[7];
    OF(moments)(d, s, c);
    return keep * p - (lr_grad * d + lr * s[0]) / (scale * ROOT(s[1]) + eps);
}

RULE(radam) {
    const real lr = c[3], rectified = c[4], eps = c[5], keep = c[6];
    OF(moments)(d, s, c);
    return keep * p - lr * (rectified ? s[0] / (ROOT(s[1]) + eps) : s[0]);
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
    const real step = s[1] * (turn > 0 ? up : turn < 0 ? down : 1 + turn);
    s[1] = step < least ? least : step > most ? most : step;
    s[0] = turn < 0 ? 0 : d;
    return p - (turn < 0 ? 0 : way) * s[1];
}

RULE(asgd) {
    const real keep = c[0], eta = c[1], mu = c[2];
    p = keep * p - eta * d;
    s[0] = mu == 1 ? p : s[0] + (p - s[0]) * mu;
    return p;
}

typedef real (*OF(rule))(real p, real d, real *s, const real *c, int states);

/* Elements lo, …, lo + n - 1 of the arrays `data`: parameter, gradient, those of three states whose bits `states` has. */
OPT_INLINE void OF(loop)(OF(rule) rule, const int states, char *const *data, ptrdiff_t lo, ptrdiff_t n,
                         const double *scalars) {
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
        d = d + ((decays ? decay * p : none) + (thins ? l1 * OF(sign)(p) : none));
        const real y = rule(p, d, s, c, states);
        if (states & 1) a[i] = s[0];
        if (states & 2) b[i] = s[1];
        if (states & 4) z[i] = s[2];
        x[i] = y;
    }
}

#define LOOP(name, rule, states) case name * 8 + states: OF(loop)(OF(rule), states, data, lo, n, scalars); break;
static void OF(opt_step)(int rule, int states, char *const *data, ptrdiff_t lo, ptrdiff_t n, const double *scalars) {
    switch (rule * 8 + states) { /* a loop for each, else GCC vectorizes none */
        LOOP(SGD, sgd, 0) LOOP(SGD, sgd, 1) LOOP(ADAGRAD, adagrad, 1) LOOP(ADADELTA, adadelta, 3)
        LOOP(RMSPROP, rmsprop, 1) LOOP(RMSPROP, rmsprop, 3) LOOP(RMSPROP, rmsprop, 5) LOOP(RMSPROP, rmsprop, 7)
        LOOP(ADAM, adam, 3) LOOP(ADAM, adam, 7) LOOP(ADAMAX, adamax, 3) LOOP(NADAM, nadam, 3)
        LOOP(RADAM, radam, 3) LOOP(RPROP, rprop, 3) LOOP(ASGD, asgd, 1)
    }
}
#undef LOOP
#endif
