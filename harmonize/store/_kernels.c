/* Numbers of many arrays into others, converted and scaled on the way, without Python's lock.

   kernels.py says what `convert` does and holds the reference in numpy, which tests/store/test_kernels.py compares with
   this. Nothing but the stable ABI of Python 3.11 is used. Compiled without contraction (hatch_build.py): a product and
   a sum are rounded each, as numpy does. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define MAX_AXES 8

#if defined(__GNUC__) && defined(__x86_64__) && defined(__gnu_linux__)
#define EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define EACH_PROCESSOR
#endif

typedef Py_ssize_t Size;
typedef float float32;
typedef double float64;
typedef void (*Row)(char *to, Size to_step, const char *from, Size from_step, Size n, double scale, double offset);

/* A row of n numbers. They may lie at any byte: memcpy is how C reads such a number, and costs nothing. Where they lie
   side by side they have a loop of their own, so that it becomes vector instructions. */
#define ROW(NAME, TYPE, REAL, VALUE)                                                                                   \
    EACH_PROCESSOR static void NAME(char *to, Size to_step, const char *from, Size from_step, Size n, double scale,    \
                                    double offset) {                                                                   \
        const REAL s = (REAL)scale, o = (REAL)offset;                                                                  \
        const Size size = sizeof(TYPE), out_size = sizeof(float);                                                      \
        TYPE stored;                                                                                                   \
        float value;                                                                                                   \
        (void)s, (void)o;                                                                                              \
        if (to_step == out_size && from_step == size) {                                                                \
            for (Size i = 0; i < n; i++) {                                                                             \
                memcpy(&stored, from + i * size, sizeof stored);                                                       \
                const REAL x = (REAL)stored;                                                                           \
                value = (float)(VALUE);                                                                                \
                memcpy(to + i * out_size, &value, sizeof value);                                                       \
            }                                                                                                          \
            return;                                                                                                    \
        }                                                                                                              \
        for (Size i = 0; i < n; i++) {                                                                                 \
            memcpy(&stored, from + i * from_step, sizeof stored);                                                      \
            const REAL x = (REAL)stored;                                                                               \
            value = (float)(VALUE);                                                                                    \
            memcpy(to + i * to_step, &value, sizeof value);                                                            \
        }                                                                                                              \
    }

#define ROWS(TYPE)                                                                                                     \
    ROW(TYPE##_plain, TYPE, float, x)                                                                                  \
    ROW(TYPE##_single, TYPE, float, x *s)                                                                              \
    ROW(TYPE##_single_moved, TYPE, float, x *s + o)                                                                    \
    ROW(TYPE##_double, TYPE, double, x *s)                                                                             \
    ROW(TYPE##_double_moved, TYPE, double, x *s + o)

ROWS(int8_t)
ROWS(uint8_t)
ROWS(int16_t)
ROWS(uint16_t)
ROWS(int32_t)
ROWS(uint32_t)
ROWS(int64_t)
ROWS(uint64_t)
ROWS(float32)
ROWS(float64)

enum { PLAIN, SINGLE, SINGLE_MOVED, DOUBLE, DOUBLE_MOVED, KINDS };
#define ENTRY(CODE, TYPE)                                                                                              \
    { CODE, sizeof(TYPE), {TYPE##_plain, TYPE##_single, TYPE##_single_moved, TYPE##_double, TYPE##_double_moved} }

/* What a buffer's format and the size of its numbers say; how long a C long is differs between systems. */
static const struct {
    char code;
    Size size;
    Row rows[KINDS];
} TYPES[] = {
    ENTRY('b', int8_t),  ENTRY('B', uint8_t), ENTRY('h', int16_t),  ENTRY('H', uint16_t), ENTRY('i', int32_t),
    ENTRY('l', int32_t), ENTRY('l', int64_t), ENTRY('q', int64_t),  ENTRY('I', uint32_t), ENTRY('L', uint32_t),
    ENTRY('L', uint64_t), ENTRY('Q', uint64_t), ENTRY('f', float32), ENTRY('d', float64),
};

/* A target and its source; axes from the outermost to the innermost. */
typedef struct {
    Py_buffer to, from;
    Row row;
    Size shape[MAX_AXES], to_steps[MAX_AXES], from_steps[MAX_AXES];
} Pair;

/* scale and offset: a row for each pair, of one number or of one for each index of the pair's first axis. */
typedef struct {
    Py_buffer scale, offset;
    char code; /* 0: neither */
    int moved;
    Size each;
} Terms;

/* The character of a buffer's type; 0 for types of several, and for numbers whose bytes lie in another order. */
static char code_of(const Py_buffer *view) {
    const uint16_t one = 1;
    const char ours = *(const char *)&one ? '<' : '>', *format = view->format;
    if (format == NULL)
        return 'B';
    if (*format == '@' || *format == '=' || *format == ours)
        format++;
    return format[0] != '\0' && format[1] == '\0' ? format[0] : '\0';
}

static int refuse(PyObject *kind, const char *why) {
    PyErr_SetString(kind, why);
    return -1;
}

static int open_terms(Terms *terms, PyObject *scale, PyObject *offset, Size pairs) {
    terms->each = 1;
    if (scale == Py_None)
        return offset == Py_None ? 0 : refuse(PyExc_ValueError, "an offset needs a scale");
    if (PyObject_GetBuffer(scale, &terms->scale, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return -1;
    terms->code = code_of(&terms->scale);
    if (terms->code != 'f' && terms->code != 'd')
        return refuse(PyExc_TypeError, "scale is float32 or float64");
    if (terms->scale.ndim != 2 || terms->scale.shape[0] != pairs)
        return refuse(PyExc_ValueError, "scale has a row for each pair");
    terms->each = terms->scale.shape[1];
    if (offset == Py_None)
        return 0;
    if (PyObject_GetBuffer(offset, &terms->offset, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return -1;
    terms->moved = 1;
    if (code_of(&terms->offset) != terms->code)
        return refuse(PyExc_TypeError, "offset has the type of scale");
    if (terms->offset.ndim != 2 || terms->offset.shape[0] != pairs || terms->offset.shape[1] != terms->each)
        return refuse(PyExc_ValueError, "offset has the shape of scale");
    return 0;
}

static Size magnitude(Size step) { return step < 0 ? -step : step; }

static void swap(Size *numbers, int i) {
    const Size kept = numbers[i];
    numbers[i] = numbers[i - 1], numbers[i - 1] = kept;
}

static int open_pair(Pair *pair, PyObject *target, PyObject *source, const Terms *terms) {
    Py_buffer *to = &pair->to, *from = &pair->from;
    if (PyObject_GetBuffer(target, to, PyBUF_RECORDS) < 0 || PyObject_GetBuffer(source, from, PyBUF_RECORDS_RO) < 0)
        return -1;
    if (code_of(to) != 'f')
        return refuse(PyExc_TypeError, "targets are float32");
    const int axes = to->ndim, kind = (terms->code == 0 ? PLAIN : terms->code == 'f' ? SINGLE : DOUBLE) + terms->moved;
    if (axes < 1 || axes > MAX_AXES || from->ndim != axes)
        return refuse(PyExc_ValueError, "a source has the axes of its target, one to eight");
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (TYPES[i].code == code_of(from) && TYPES[i].size == from->itemsize)
            pair->row = TYPES[i].rows[kind];
    if (pair->row == NULL)
        return refuse(PyExc_TypeError, "a source is of no type that is known");
    for (int i = 0; i < axes; i++) {
        if (to->shape[i] != from->shape[i])
            return refuse(PyExc_ValueError, "a source has the shape of its target");
        pair->shape[i] = to->shape[i], pair->to_steps[i] = to->strides[i], pair->from_steps[i] = from->strides[i];
    }
    if (terms->each != 1 && terms->each != to->shape[0])
        return refuse(PyExc_ValueError, "scale has one number a pair, or one for each index of the first axis");
    /* Innermost is what lies side by side in the target; the first axis stays where each index has its own scale. */
    const int first = terms->each != 1;
    for (int i = first + 1; i < axes; i++)
        for (int j = i; j > first && magnitude(pair->to_steps[j]) > magnitude(pair->to_steps[j - 1]); j--)
            swap(pair->shape, j), swap(pair->to_steps, j), swap(pair->from_steps, j);
    return 0;
}

static double term(const Py_buffer *terms, char code, Size i) {
    return code == 'f' ? (double)((const float *)terms->buf)[i] : ((const double *)terms->buf)[i];
}

static void fill(const Pair *pair, int axis, char *to, const char *from, double scale, double offset) {
    const int axes = pair->to.ndim;
    if (axis >= axes - 1) { /* beyond the last one: a single number */
        const Size n = axis < axes ? pair->shape[axis] : 1;
        pair->row(to, pair->to_steps[axes - 1], from, pair->from_steps[axes - 1], n, scale, offset);
        return;
    }
    for (Size i = 0; i < pair->shape[axis]; i++)
        fill(pair, axis + 1, to + i * pair->to_steps[axis], from + i * pair->from_steps[axis], scale, offset);
}

static void fill_all(const Pair *pairs, Size n, const Terms *terms) {
    const Size each = terms->each;
    for (Size i = 0; i < n * each; i++) {
        const Pair *pair = pairs + i / each;
        const Size k = i % each; /* 0 where all of a pair has one scale */
        const double scale = terms->code ? term(&terms->scale, terms->code, i) : 1.0;
        const double offset = terms->moved ? term(&terms->offset, terms->code, i) : 0.0;
        char *to = (char *)pair->to.buf + k * pair->to_steps[0];
        fill(pair, each != 1, to, (const char *)pair->from.buf + k * pair->from_steps[0], scale, offset);
    }
}

static void release(Py_buffer *view) {
    if (view->obj != NULL)
        PyBuffer_Release(view);
}

static PyObject *convert(PyObject *module, PyObject *args) {
    PyObject *targets, *sources, *scale, *offset, *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!OO", &PyList_Type, &targets, &PyList_Type, &sources, &scale, &offset))
        return NULL;
    const Size n = PyList_Size(targets);
    if (PyList_Size(sources) != n) {
        refuse(PyExc_ValueError, "there are as many sources as targets");
        return NULL;
    }
    Terms terms = {0};
    Size opened = 0;
    Pair *pairs = PyMem_Calloc((size_t)n + 1, sizeof(Pair));
    if (pairs == NULL)
        return PyErr_NoMemory();
    int whole = open_terms(&terms, scale, offset, n) == 0;
    while (whole && opened < n) {
        whole = open_pair(pairs + opened, PyList_GetItem(targets, opened), PyList_GetItem(sources, opened), &terms) == 0;
        opened++;
    }
    if (whole) {
        Py_BEGIN_ALLOW_THREADS
        fill_all(pairs, n, &terms);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    for (Size i = 0; i < opened; i++)
        release(&pairs[i].to), release(&pairs[i].from);
    release(&terms.scale), release(&terms.offset);
    PyMem_Free(pairs);
    return result;
}

static PyMethodDef METHODS[] = {
    {"convert", convert, METH_VARARGS, "convert(targets, sources, scale, offset): see harmonize.store.kernels."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernels", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&MODULE); }
