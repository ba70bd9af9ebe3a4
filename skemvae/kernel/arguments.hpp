// What the Python side of the kernel shares: buffers, tables, and the level that a call is for.
#pragma once

#include "python.hpp"

#include <climits>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <utility>

#include "kernel.hpp"

namespace skemvae {

// More threads, runs, or rows of a tile are of no use to anyone.
constexpr Py_ssize_t MOST = 4096;

// Whether all sizes lie in a range; the error names the first that does not.
inline bool are_between(Py_ssize_t least, Py_ssize_t most,
                        std::initializer_list<std::pair<const char*, Py_ssize_t>> sizes) {
  for (const auto& [name, size] : sizes)
    if (size < least || size > most) {
      PyErr_Format(PyExc_ValueError, "%s=%zd must lie between %zd and %zd.", name, size, least, most);
      return false;
    }
  return true;
}

// Whether places among so many numbers are of type int, as the kernel has them in a tile, a matrix, and all means.
inline bool are_countable(std::initializer_list<std::pair<const char*, Count>> sizes) {
  for (const auto& [name, size] : sizes)
    if (!size.is_at_most(INT_MAX)) {
      PyErr_Format(PyExc_ValueError, "%s: more than %d numbers cannot be counted.", name, INT_MAX);
      return false;
    }
  return true;
}

// The same for k components of d features, with or without matrices.
inline bool are_countable(Count k, Count d, bool has_matrices) {
  return are_countable({{"k x d", k * (d + 2)}, {"d x d", has_matrices ? d * (d + 2) : d}});
}

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
  bool take(PyObject* object, const char* name, Count size, char format = 'd',
            bool writable = false) {
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &view_, flags)) return false;
    const Count bytes = size * view_.itemsize;
    if (is_format(format) && bytes.is_at_most(view_.len) && bytes.number() == view_.len) return true;
    PyErr_Format(PyExc_ValueError, "%s must be an array of %zd numbers of type %s.", name, size.number(),
                 format == 'd' ? "float64" : format == 'f' ? "float32" : "int32");
    return false;
  }

  // A table of float64 or float32, with any strides.
  bool take_table(PyObject* object) {
    if (PyObject_GetBuffer(object, &view_, PyBUF_STRIDED_RO | PyBUF_FORMAT)) return false;
    if (view_.ndim == 2 && (is_format('d') || is_format('f')) &&
        (Count(view_.shape[0]) * view_.shape[1] * view_.itemsize).is_at_most(Count::TOO_MANY - 1))
      return true;
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
  Memory(int n_threads, Count size) : each_(size.whole(LINE).number()) {
    const Count all = n_threads * Count(each_) + LINE, bytes = all * sizeof(double);
    if (!bytes.is_at_most(Count::TOO_MANY - 1)) return;
    held_.reset(new (std::nothrow) double[all.number()]);
    void* address = held_.get();
    std::size_t space = bytes.number();
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
  if (tile >= GRANULE && tile % GRANULE == 0 && tile <= MOST) return true;
  PyErr_Format(PyExc_ValueError, "tile=%d must be a multiple of %d, at most %zd.", tile, GRANULE, MOST);
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
