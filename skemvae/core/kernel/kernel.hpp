// One pass of EM over rows: what the levels of the processor share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>

namespace skemvae {

constexpr double FAR = 1e160;  // as in rows.py: a larger square overflows

// Rows in memory, and the frame z = (x - origin) * per_unit to read them in.
struct Table {
  const char* data;
  std::ptrdiff_t n_rows, row_stride, column_stride;  // strides in bytes
  int n_features;
  bool is_single;        // float32, otherwise float64
  const double* weight;  // (n_rows), or null
  const double *origin, *per_unit;
};

// Components of a mixture in the frame. What ``means`` and ``factors`` are the structures say.
struct Components {
  int n;
  const double* log_normaliser;
  const void *means, *factors;  // floats for ``dense_single``, else doubles
};

// Aligned scratch memory.
template <class T>
class Memory {
 public:
  explicit Memory(std::ptrdiff_t size)
      : next_(static_cast<T*>(::operator new(size * sizeof(T), alignment()))), begin_(next_) {}
  ~Memory() { ::operator delete(begin_, alignment()); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  T* take(std::ptrdiff_t size) { return (next_ += size) - size; }

 private:
  static constexpr std::align_val_t alignment() { return std::align_val_t{64}; }
  T *next_, *begin_;
};

// A size that is a type.
template <int N>
struct Size {
  constexpr int operator()() const { return N; }
};

using Pass = double (*)(const Table&, const Components&, int tile, double* sums);

// The same pass for each structure, for one kind of processor.
struct Level {
  const char* name;
  int granule;  // the rows of a tile are a multiple of it
  Pass dense, dense_single, shared, axes, spherical;
};

// Those that this processor has, the fastest first; null ends them.
const Level* const* levels();

}  // namespace skemvae
