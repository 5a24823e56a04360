/* Includes the file TYPED once for each dtype, with its REAL, and NAME(x) for x_f32 or x_f64. */
#define REAL float
#define NAME(name) name##_f32
#include TYPED
#undef REAL
#undef NAME
#define REAL double
#define NAME(name) name##_f64
#include TYPED
#undef REAL
#undef NAME
#undef TYPED
#ifndef BY_TYPE /* the function for the type of a pointer */
#define BY_TYPE(pointer, name) _Generic((pointer), float *: name##_f32, const float *: name##_f32, default: name##_f64)
#endif
