// EM over rows, and the algebra of its components: what the levels of the processor share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace skemvae {

constexpr double FAR = 1e160;  // as in rows.py: a larger square overflows

// How many there are of something. What leaves the range of a number is ``TOO_MANY``, and stays it: no memory holds so
// many, so a size that a caller makes up is refused, and never wraps to one that fits.
class Count {
 public:
  static constexpr std::ptrdiff_t TOO_MANY = std::numeric_limits<std::ptrdiff_t>::max();

  constexpr Count(std::ptrdiff_t n) : n_(n < 0 ? TOO_MANY : n) {}

  constexpr std::ptrdiff_t number() const { return n_; }
  constexpr bool is_at_most(std::ptrdiff_t n) const { return n_ <= n; }
  // Rounded up to a multiple.
  constexpr Count whole(std::ptrdiff_t of) const { return (*this + (of - 1)) / of * of; }

  friend constexpr Count operator+(Count a, Count b) {
    std::ptrdiff_t n = 0;
    return __builtin_add_overflow(a.n_, b.n_, &n) ? TOO_MANY : n;
  }
  friend constexpr Count operator*(Count a, Count b) {
    std::ptrdiff_t n = 0;
    return __builtin_mul_overflow(a.n_, b.n_, &n) ? TOO_MANY : n;
  }
  friend constexpr Count operator/(Count a, std::ptrdiff_t b) { return a.n_ == TOO_MANY ? TOO_MANY : a.n_ / b; }
  friend constexpr bool operator<(Count a, Count b) { return a.n_ < b.n_; }

 private:
  std::ptrdiff_t n_;
};

// Rows in memory, and the frame z = (x - origin) * per_unit to read them in.
struct Table {
  const char* data;
  std::ptrdiff_t n_rows, row_stride, column_stride;  // strides in bytes
  int n_features;
  bool is_single;        // float32, otherwise float64
  const double* weight;  // (n_rows), or null
  const double *origin, *per_unit;
};

// Components of a mixture in the frame. What ``means`` and ``factors`` are the structures say. ``centres`` are what
// moments are taken about; null for the means. Other ones only ``dense`` and ``axes`` know. ``n_factors`` is 0 but for
// ``factor_analytic``.
struct Components {
  int n;
  const double* log_normaliser;
  const void *means, *factors;  // floats for ``dense_single``, else doubles
  const double* centres;
  int n_factors = 0;
};

// A size that is a type.
template <int N>
struct Size {
  constexpr int operator()() const { return N; }
};

// A pass for tiles of so many rows, which need ``n_kept`` numbers of scratch memory for each row.
struct Pass {
  double (*take)(const Table&, const Components&, int tile, double* scratch, double* sums);
  Count (*n_kept)(Count k, Count d, Count q);
};

// Parameters of k components: (k), (k x d), (k x d x d) or (k x d).
struct Parameters {
  double *weights, *means, *values;
};

// A climb: where it stands, what the E step there says, and where the M step leads.
struct Route {
  Parameters here, next;
  double *bound, *counts;  // a number, (k)
};

// How a climb ended: steps that are left to do, 0 unless the next one is out of the ordinary; and whether the M
// step at its end is known.
struct Arrival {
  int n_left;
  bool knows_next;
};

// A pass over all rows under given components: sets their sums, and returns the weighted sum of log p(x).
struct Sum {
  double (*take)(const void* rows, const Components&, double* sums);
  const void* rows;
};

// Up to ``n_iter`` steps of EM, or until less than ``tol`` remains to be gained.
struct Plan {
  int k, d, n_iter;
  double tol, total;    // the sum of the weights of the rows
  const double* noise;  // variances that regularise the features (d)
  bool is_shared;       // one covariance for all components, or one variance for all features
};

// Steps of EM (see steps.inc), and how many numbers of memory they need beside those of the pass.
struct Climb {
  Arrival (*take)(const Sum&, const Plan&, const Route&, double* memory);
  Count (*n_needed)(Count k, Count d, Count n_sums);
};

// How the rows of a table are divided among k centres: seeds are chosen by ``draws`` from [0, 1), (k x n_trials),
// unless that is null and centres are given; ``n_steps`` of Lloyd follow at most.
struct Division {
  int k, n_trials, n_steps, tile;
  const double* draws;
};

// Keys of rows, divisions and the M steps that they give (see starts.inc).
using Keys = void (*)(const Table&, const double* slope, double shift, double* keys, double* scratch);
using Divide = void (*)(const Table&, const Division&, double* centres, std::int32_t* labels, double* memory);
using DivideNeeds = Count (*)(const Division&, Count n, Count d);
struct Beginning {
  bool (*take)(const double* rows, const double* weight, const std::int32_t* labels, std::ptrdiff_t n,
               double few_rows, const Plan&, const Parameters& start, double* memory);
  Count (*n_needed)(Count k, Count d);
};

// Rows of a tile are a multiple of this; scratch memory begins at an address that is, too (in bytes).
constexpr int GRANULE = 32, ALIGNMENT = 64;

// Algebra of n matrices of size d x d (see factors.inc), in scratch memory for so many numbers.
using Factorise = double (*)(const double* matrices, int n, int d, double* factors,
                             double* inverses, double* scratch);
using Unwhiten = void (*)(const double* factors, const double* sums, int n, int d,
                          double* first_moments, double* second_moments, double* scratch);
using Relate = void (*)(const double* inverses, const double* factors, int n, int d,
                        double* coordinates, double* scratch);
using Restore = void (*)(const double* factors, const double* coordinates, int n, int d,
                         double* matrices, double* scratch);
using TwoLoops = void (*)(const double* moves, const double* bends, const double* curvatures,
                          int capacity, int first, int n, std::ptrdiff_t p, double* step,
                          double* amounts);
constexpr int WIDEST = 8;
constexpr Count algebra_scratch(Count d) { return WIDEST * (3 * d * d + d); }

// The same for one kind of processor.
struct Level {
  const char* name;
  Pass dense, dense_single, shared, axes, spherical, factor_analytic;
  Factorise factorise;
  Unwhiten unwhiten;
  Relate relate;
  Restore restore;
  TwoLoops two_loops;
  Climb climb_dense, climb_axes;
  Keys keys;
  Divide divide;
  DivideNeeds divide_needs;
  Beginning begin_dense, begin_axes;
};

// Those that this processor has, the fastest first; null ends them.
const Level* const* levels();

}  // namespace skemvae
