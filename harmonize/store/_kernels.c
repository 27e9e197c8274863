/* The loops that all samples go through, without Python's lock.

   kernels.py says what `convert` and `moments` do and holds their references in numpy, which tests/store/test_kernels.py
   compares with these. Nothing but the stable ABI of Python 3.11 is used. Compiled without contraction (hatch_build.py): a product and
   a sum are rounded each, as numpy does. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
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
/* The two innermost axes of an array: their sizes, and their steps in the target and in the source. */
typedef struct {
    Size rows, n, to_rows, to_step, from_rows, from_step;
} Plane;
typedef void (*Fill)(char *to, const char *from, const Plane *plane, double scale, double offset);

/* A row of n numbers. They may lie at any byte: memcpy is how C reads such a number, and costs nothing. */
#define ROW(TYPE, REAL, VALUE, TO_STEP, FROM_STEP)                                                                     \
    for (Size i = 0; i < n; i++) {                                                                                     \
        TYPE stored;                                                                                                   \
        memcpy(&stored, from + i * (FROM_STEP), sizeof stored);                                                        \
        const REAL x = (REAL)stored;                                                                                   \
        const float value = (float)(VALUE);                                                                            \
        memcpy(to + i * (TO_STEP), &value, sizeof value);                                                              \
    }

/* Rows of numbers. The steps of those that lie side by side are known here, so that they become vector instructions. */
#define FILL(NAME, TYPE, REAL, VALUE)                                                                                  \
    EACH_PROCESSOR static void NAME(char *to, const char *from, const Plane *plane, double scale, double offset) {     \
        const REAL s = (REAL)scale, o = (REAL)offset;                                                                  \
        const Size size = sizeof(TYPE), out_size = sizeof(float), n = plane->n;                                        \
        const Size to_step = plane->to_step, from_step = plane->from_step;                                             \
        (void)s, (void)o;                                                                                              \
        for (Size row = 0; row < plane->rows; row++, to += plane->to_rows, from += plane->from_rows) {                 \
            if (to_step == out_size && from_step == size)                                                              \
                ROW(TYPE, REAL, VALUE, out_size, size)                                                                 \
            else                                                                                                       \
                ROW(TYPE, REAL, VALUE, to_step, from_step)                                                             \
        }                                                                                                              \
    }

#define FILLS(TYPE)                                                                                                    \
    FILL(TYPE##_plain, TYPE, float, x)                                                                                 \
    FILL(TYPE##_single, TYPE, float, x *s)                                                                             \
    FILL(TYPE##_single_moved, TYPE, float, x *s + o)                                                                   \
    FILL(TYPE##_double, TYPE, double, x *s)                                                                            \
    FILL(TYPE##_double_moved, TYPE, double, x *s + o)

FILLS(int8_t)
FILLS(uint8_t)
FILLS(int16_t)
FILLS(uint16_t)
FILLS(int32_t)
FILLS(uint32_t)
FILLS(int64_t)
FILLS(uint64_t)
FILLS(float32)
FILLS(float64)

enum { PLAIN, SINGLE, SINGLE_MOVED, DOUBLE, DOUBLE_MOVED, KINDS };
#define ENTRY(CODE, TYPE)                                                                                              \
    { CODE, sizeof(TYPE), {TYPE##_plain, TYPE##_single, TYPE##_single_moved, TYPE##_double, TYPE##_double_moved} }

/* What a buffer's format and the size of its numbers say; how long a C long is differs between systems. */
static const struct {
    char code;
    Size size;
    Fill fills[KINDS];
} TYPES[] = {
    ENTRY('b', int8_t),  ENTRY('B', uint8_t), ENTRY('h', int16_t),  ENTRY('H', uint16_t), ENTRY('i', int32_t),
    ENTRY('l', int32_t), ENTRY('l', int64_t), ENTRY('q', int64_t),  ENTRY('I', uint32_t), ENTRY('L', uint32_t),
    ENTRY('L', uint64_t), ENTRY('Q', uint64_t), ENTRY('f', float32), ENTRY('d', float64),
};

/* A target and its source; axes from the outermost to the innermost. */
typedef struct {
    Py_buffer to, from;
    Fill fill;
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
            pair->fill = TYPES[i].fills[kind];
    if (pair->fill == NULL)
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

/* All that lies behind the first `axis` axes. */
static void fill(const Pair *pair, int axis, char *to, const char *from, double scale, double offset) {
    const int left = pair->to.ndim - axis, last = pair->to.ndim - 1;
    if (left <= 2) {
        const Plane plane = {
            .rows = left == 2 ? pair->shape[last - 1] : 1,
            .n = left >= 1 ? pair->shape[last] : 1,
            .to_rows = left == 2 ? pair->to_steps[last - 1] : 0,
            .to_step = pair->to_steps[last],
            .from_rows = left == 2 ? pair->from_steps[last - 1] : 0,
            .from_step = pair->from_steps[last],
        };
        pair->fill(to, from, &plane, scale, offset);
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

/* A stretch of whole numbers of up to 16 bits: its extremes, its sum and its sum of squares, exact. Sums of 8,192 are
   held in 32 bits, which are twice as many at a time. */
#define MOMENTS(NAME, TYPE)                                                                                            \
    EACH_PROCESSOR static void NAME(const char *from, Size n, double *low, double *high, int64_t *sum,                 \
                                    int64_t *squares) {                                                                \
        int32_t least = INT32_MAX, most = INT32_MIN;                                                                   \
        for (Size begin = 0; begin < n; begin += 8192) {                                                               \
            const Size end = n - begin < 8192 ? n : begin + 8192;                                                      \
            int32_t total = 0;                                                                                         \
            int64_t square = 0;                                                                                        \
            for (Size i = begin; i < end; i++) {                                                                       \
                TYPE stored;                                                                                           \
                memcpy(&stored, from + i * (Size)sizeof stored, sizeof stored);                                        \
                const int32_t x = stored;                                                                              \
                least = x < least ? x : least;                                                                         \
                most = x > most ? x : most;                                                                            \
                total += x;                                                                                            \
                square += (uint32_t)x * (uint32_t)x;                                                                   \
            }                                                                                                          \
            *sum += total, *squares += square;                                                                         \
        }                                                                                                              \
        *low = least < *low ? least : *low;                                                                            \
        *high = most > *high ? most : *high;                                                                           \
    }

MOMENTS(int8_moments, int8_t)
MOMENTS(uint8_moments, uint8_t)
MOMENTS(int16_moments, int16_t)
MOMENTS(uint16_moments, uint16_t)

typedef void (*Moments)(const char *from, Size n, double *low, double *high, int64_t *sum, int64_t *squares);

static void sum_up(const Py_buffer *from, Moments one, double *out) {
    const Size channels = from->shape[0], windows = from->shape[1], n = from->shape[2];
    for (Size c = 0; c < channels; c++) {
        double low = INFINITY, high = -INFINITY;
        int64_t sum = 0, squares = 0;
        for (Size w = 0; w < windows; w++)
            one((const char *)from->buf + c * from->strides[0] + w * from->strides[1], n, &low, &high, &sum, &squares);
        out[c] = low, out[channels + c] = high;
        out[2 * channels + c] = (double)sum, out[3 * channels + c] = (double)squares;
    }
}

static PyObject *moments(PyObject *module, PyObject *args) {
    PyObject *samples, *found, *result = NULL;
    Py_buffer from = {0}, out = {0};
    Moments one = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &samples, &found) || PyObject_GetBuffer(samples, &from, PyBUF_RECORDS_RO) < 0)
        return NULL;
    if (PyObject_GetBuffer(found, &out, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE | PyBUF_FORMAT) < 0) {
        PyBuffer_Release(&from);
        return NULL;
    }
    switch (code_of(&from)) {
    case 'b': one = int8_moments; break;
    case 'B': one = uint8_moments; break;
    case 'h': one = int16_moments; break;
    case 'H': one = uint16_moments; break;
    }
    if (one == NULL || code_of(&out) != 'd')
        refuse(PyExc_TypeError, "samples are whole numbers of up to 16 bits, and what is found float64");
    else if (from.ndim != 3 || (from.shape[2] > 1 && from.strides[2] != from.itemsize) || out.ndim != 2 ||
             out.shape[0] != 4 || out.shape[1] != from.shape[0])
        refuse(PyExc_ValueError, "samples are (channel, window, time), side by side in time, and what is found (4, channel)");
    else if (from.len / from.itemsize > INT32_MAX)
        refuse(PyExc_ValueError, "so many squares may be more than a sum can hold");
    else {
        Py_BEGIN_ALLOW_THREADS
        sum_up(&from, one, out.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&from), PyBuffer_Release(&out);
    return result;
}

/* blosc_cbuffer_validate and blosc_decompress_ctx of c-blosc 1. */
typedef int (*Validate)(const void *from, size_t size, size_t *decoded);
typedef int (*Decompress)(const void *from, void *to, size_t room, int threads);

/* A chunk, and where it goes. */
typedef struct {
    Py_buffer to, from;
} Chunk;

static Size decode_all(const Chunk *chunks, Size n, Validate validate, Decompress decompress) {
    for (Size i = 0; i < n; i++) {
        const Chunk *one = chunks + i;
        const size_t room = (size_t)one->to.len;
        size_t size = 0;
        if (validate(one->from.buf, (size_t)one->from.len, &size) < 0 || size != room ||
            decompress(one->from.buf, one->to.buf, room, 1) != (int)room)
            return i;
    }
    return n;
}

static PyObject *decode(PyObject *module, PyObject *args) {
    PyObject *targets, *sources, *result = NULL;
    unsigned long long validate, decompress;
    (void)module;
    if (!PyArg_ParseTuple(args, "KKO!O!", &validate, &decompress, &PyList_Type, &targets, &PyList_Type, &sources))
        return NULL;
    const Size n = PyList_Size(targets);
    if (PyList_Size(sources) != n) {
        refuse(PyExc_ValueError, "there are as many sources as targets");
        return NULL;
    }
    Size done = 0, opened = 0;
    Chunk *chunks = PyMem_Calloc((size_t)n + 1, sizeof(Chunk));
    if (chunks == NULL)
        return PyErr_NoMemory();
    int whole = 1;
    while (whole && opened < n) {
        Chunk *one = chunks + opened;
        whole = PyObject_GetBuffer(PyList_GetItem(targets, opened), &one->to, PyBUF_CONTIG) == 0 &&
                PyObject_GetBuffer(PyList_GetItem(sources, opened), &one->from, PyBUF_SIMPLE) == 0;
        opened++;
    }
    if (whole) {
        Py_BEGIN_ALLOW_THREADS
        done = decode_all(chunks, n, (Validate)(uintptr_t)validate, (Decompress)(uintptr_t)decompress);
        Py_END_ALLOW_THREADS
        result = PyLong_FromSsize_t(done);
    }
    for (Size i = 0; i < opened; i++)
        release(&chunks[i].to), release(&chunks[i].from);
    PyMem_Free(chunks);
    return result;
}

static PyMethodDef METHODS[] = {
    {"decode", decode, METH_VARARGS, "decode(validate, decompress, targets, sources): see harmonize.store.kernels."},
    {"moments", moments, METH_VARARGS, "moments(samples, found): see harmonize.store.kernels."},
    {"convert", convert, METH_VARARGS, "convert(targets, sources, scale, offset): see harmonize.store.kernels."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernels", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&MODULE); }
