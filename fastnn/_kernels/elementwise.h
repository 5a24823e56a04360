/* Loops of arithmetic. */
#pragma once
#include <stddef.h>

#if defined(__GNUC__)
#define EW_LOOP _Pragma("GCC ivdep") for (ptrdiff_t i = 0; i < n; i++) /* z may be x or y, element for element */
#else
#define EW_LOOP for (ptrdiff_t i = 0; i < n; i++)
#endif

enum { ADD, SUB, MUL, DIV };

#define EW_OP(kind, op)                                                                                                   \
    case kind:                                                                                                            \
        if (fixed == 0) EW_LOOP z[i] = x[i] op y[i];                                                                      \
        else if (fixed == 1) EW_LOOP z[i] = x0 op y[i];                                                                   \
        else EW_LOOP z[i] = x[i] op y0;                                                                                   \
        break;

/* z = x op y; operand number `fixed` (1: x, 2: y) is one number */
#define EW_APPLY(sfx, real)                                                                                               \
    static void ew_apply_##sfx(int op, int fixed, const real *x, const real *y, real *z, ptrdiff_t n) {                   \
        const real x0 = *x, y0 = *y;                                                                                      \
        switch (op) { EW_OP(ADD, +) EW_OP(SUB, -) EW_OP(MUL, *) EW_OP(DIV, /) }                                           \
    }
EW_APPLY(f32, float)
EW_APPLY(f64, double)
#define ew_apply(op, fixed, x, ...) _Generic((x), float *: ew_apply_f32, default: ew_apply_f64)(op, fixed, x, __VA_ARGS__)

