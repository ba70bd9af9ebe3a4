// The Python side: skemvae.core._kernel. Buffers in, sums out; the interpreter runs on meanwhile.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstring>

#include "kernel.hpp"

namespace {

using namespace skemvae;

// A buffer that is released with its scope.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() {
    if (view_.obj) PyBuffer_Release(&view_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // An array of float64 of ``size`` numbers, contiguous; None stands for null where ``optional``.
  bool take(PyObject* object, const char* name, Py_ssize_t size, bool writable = false) {
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &view_, flags)) return false;
    if (is_format('d') && view_.len == size * Py_ssize_t(sizeof(double))) return true;
    PyErr_Format(PyExc_ValueError, "%s must be an array of %zd numbers of type float64.", name,
                 size);
    return false;
  }

  // A table of float64 or float32, with any strides.
  bool take_table(PyObject* object) {
    if (PyObject_GetBuffer(object, &view_, PyBUF_STRIDED_RO | PyBUF_FORMAT)) return false;
    if (view_.ndim == 2 && (is_format('d') || is_format('f'))) return true;
    PyErr_SetString(PyExc_ValueError, "X must be a table of float64 or float32.");
    return false;
  }

  bool is_format(char format) const {
    return view_.format && view_.format[0] == format && view_.format[1] == 0;
  }
  double* numbers() const { return static_cast<double*>(view_.buf); }
  const Py_buffer& view() const { return view_; }

 private:
  Py_buffer view_{};
};

const Level* find_level(const char* name) {
  for (const Level* const* level = levels(); *level; ++level)
    if (!std::strcmp((*level)->name, name)) return *level;
  PyErr_Format(PyExc_ValueError, "level='%s' is none that this processor has.", name);
  return nullptr;
}

// One pass with the structure that ``choose`` picks from a level.
PyObject* take_pass(PyObject* arguments, Pass Level::* structure, bool is_shared, bool is_dense) {
  const char* name;
  int tile;
  PyObject *X, *weight, *origin, *per_unit, *log_normaliser, *means, *factors, *sums;
  if (!PyArg_ParseTuple(arguments, "siOOOOOOOO", &name, &tile, &X, &weight, &origin, &per_unit,
                        &log_normaliser, &means, &factors, &sums))
    return nullptr;
  const Level* level = find_level(name);
  if (!level) return nullptr;

  Buffer table_, weight_, origin_, per_unit_, log_normaliser_, means_, factors_, sums_;
  if (!table_.take_table(X)) return nullptr;
  const Py_buffer& view = table_.view();
  const Py_ssize_t n = view.shape[0], d = view.shape[1], k = PyObject_Length(log_normaliser);
  if (k < 0) return nullptr;
  const Py_ssize_t n_factors = is_shared ? d * d : is_dense ? k * d * d : k * d;
  const Py_ssize_t n_sums =
      is_shared ? k * (1 + d) + d * d : is_dense ? k * (1 + d + d * d) : k * (1 + 2 * d);
  if (!origin_.take(origin, "origin", d) || !per_unit_.take(per_unit, "per_unit", d) ||
      !log_normaliser_.take(log_normaliser, "log_normaliser", k) ||
      !means_.take(means, "means", k * d) || !factors_.take(factors, "factors", n_factors) ||
      !sums_.take(sums, "sums", n_sums, true) ||
      (weight != Py_None && !weight_.take(weight, "weight", n)))
    return nullptr;

  const Table table{static_cast<const char*>(view.buf), n, view.strides[0], view.strides[1],
                    int(d), table_.is_format('f'), weight_.numbers(), origin_.numbers(),
                    per_unit_.numbers()};
  const Components components{int(k), log_normaliser_.numbers(), means_.numbers(),
                              factors_.numbers()};
  const int granules = (std::max(tile, 1) + level->granule - 1) / level->granule;
  double evidence = 0;
  bool has_memory = true;
  Py_BEGIN_ALLOW_THREADS
  try {
    evidence = (level->*structure)(table, components, granules * level->granule, sums_.numbers());
  } catch (const std::bad_alloc&) {
    has_memory = false;
  }
  Py_END_ALLOW_THREADS
  return has_memory ? PyFloat_FromDouble(evidence) : PyErr_NoMemory();
}

PyObject* dense(PyObject*, PyObject* arguments) {
  return take_pass(arguments, &Level::dense, false, true);
}

PyObject* shared(PyObject*, PyObject* arguments) {
  return take_pass(arguments, &Level::shared, true, true);
}

PyObject* axes(PyObject*, PyObject* arguments) {
  return take_pass(arguments, &Level::axes, false, false);
}

PyObject* level_names(PyObject*, PyObject*) {
  PyObject* names = PyList_New(0);
  for (const Level* const* level = levels(); names && *level; ++level) {
    PyObject* name = PyUnicode_FromString((*level)->name);
    if (!name || PyList_Append(names, name)) Py_CLEAR(names);
    Py_XDECREF(name);
  }
  return names;
}

PyMethodDef methods[] = {
    {"dense", dense, METH_VARARGS, "A pass under covariances of their own."},
    {"shared", shared, METH_VARARGS, "A pass under one covariance for all."},
    {"axes", axes, METH_VARARGS, "A pass under variances of each feature."},
    {"levels", level_names, METH_NOARGS, "What this processor has, the fastest first."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef_Slot slots[] = {{0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernel", "One pass of EM over rows.",
                          0, methods, slots, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__kernel() { return PyModuleDef_Init(&definition); }
