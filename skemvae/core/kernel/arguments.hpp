// What the Python side of the kernel shares: buffers, tables, and the level that a call is for.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstring>
#include <memory>
#include <new>

#include "kernel.hpp"

namespace skemvae {

// A buffer that is released with its scope.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() {
    if (view_.obj) PyBuffer_Release(&view_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // A contiguous array of ``size`` numbers, of float64 (format d), float32 (f) or int32 (i).
  bool take(PyObject* object, const char* name, Py_ssize_t size, char format = 'd',
            bool writable = false) {
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &view_, flags)) return false;
    if (is_format(format) && view_.len == size * view_.itemsize) return true;
    PyErr_Format(PyExc_ValueError, "%s must be an array of %zd numbers of type %s.", name, size,
                 format == 'd' ? "float64" : format == 'f' ? "float32" : "int32");
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
    if (!view_.format || view_.format[1]) return false;
    const char own = view_.format[0];
    return own == format || (format == 'i' && own == 'l' && sizeof(long) == sizeof(std::int32_t));
  }
  double* numbers() const { return static_cast<double*>(view_.buf); }
  const Py_buffer& view() const { return view_; }

 private:
  Py_buffer view_{};
};

// Memory of so many numbers for each of some threads, aligned for vectors; ``ok()`` is false where there is none.
class Memory {
 public:
  Memory(int n_threads, std::ptrdiff_t size)
      : each_((size + LINE - 1) / LINE * LINE), held_(new (std::nothrow) double[n_threads * each_ + LINE]) {
    void* address = held_.get();
    std::size_t space = (n_threads * each_ + LINE) * sizeof(double);
    if (address) first_ = static_cast<double*>(std::align(ALIGNMENT, sizeof(double), address, space));
  }
  bool ok() const { return first_; }
  double* of(int thread) const { return first_ + thread * each_; }

 private:
  static constexpr std::ptrdiff_t LINE = ALIGNMENT / sizeof(double);
  std::ptrdiff_t each_;
  std::unique_ptr<double[]> held_;
  double* first_ = nullptr;
};

inline const Level* find_level(const char* name) {
  for (const Level* const* level = levels(); *level; ++level)
    if (!std::strcmp((*level)->name, name)) return *level;
  PyErr_Format(PyExc_ValueError, "level='%s' is none that this processor has.", name);
  return nullptr;
}

inline bool is_tile(int tile) {
  if (tile >= GRANULE && tile % GRANULE == 0) return true;
  PyErr_Format(PyExc_ValueError, "tile=%d must be a multiple of %d.", tile, GRANULE);
  return false;
}

inline Table table_of(const Buffer& rows, const Buffer& weight, const Buffer& origin, const Buffer& per_unit) {
  const Py_buffer& view = rows.view();
  return {static_cast<const char*>(view.buf), view.shape[0], view.strides[0], view.strides[1],
          int(view.shape[1]), rows.is_format('f'), weight.numbers(), origin.numbers(),
          per_unit.numbers()};
}

// Rows ``begin`` to ``end`` of a table.
inline Table part(Table table, std::ptrdiff_t begin, std::ptrdiff_t end) {
  table.data += begin * table.row_stride;
  if (table.weight) table.weight += begin;
  table.n_rows = end - begin;
  return table;
}

}  // namespace skemvae
