// The Python side: skemvae.kernel._kernel. Buffers in, sums out; the interpreter runs on during a pass.

#include "arguments.hpp"

#include <array>
#include <exception>
#include <vector>

#include "starts.hpp"
#include "threads.hpp"

namespace {

using namespace skemvae;

// What the functions differ in: the pass, and how many factors and sums it has.
struct Structure {
  Pass Level::* pass;
  char format;  // of means and factors
  Count (*n_factors)(Count k, Count d, Count q);
  Count (*n_sums)(Count k, Count d, Count q);
  bool has_matrices;
  bool has_directions = false;  // as many as the sums have room for
};

// The pass along ``n_runs`` runs of rows, each with sums of its own, which are then added in their
// order: so nothing depends on the number of threads.
double take_runs(const Pass& pass, const Table& table, const Components& components, int tile,
                 int n_runs, int n_threads, double* scratch, std::ptrdiff_t scratch_per_thread,
                 double* sums, std::ptrdiff_t n_sums) {
  double* sums_of_runs = scratch + n_threads * scratch_per_thread;
  double* evidence_of_runs = sums_of_runs + n_runs * n_sums;
  const std::ptrdiff_t equal = (table.n_rows + n_runs - 1) / n_runs;
  const std::ptrdiff_t length = (equal + GRANULE - 1) / GRANULE * GRANULE;
  in_parallel(n_runs, n_threads, [&](int thread, int run) {
    double* own = sums_of_runs + run * n_sums;
    std::fill(own, own + n_sums, 0.0);
    const std::ptrdiff_t begin = std::min(run * length, table.n_rows);
    evidence_of_runs[run] =
        pass.take(part(table, begin, std::min(begin + length, table.n_rows)), components, tile,
                  scratch + thread * scratch_per_thread, own);
  });
  constexpr std::ptrdiff_t worth_a_thread = 4096;
  const int n_parts = n_sums > worth_a_thread ? n_threads : 1;
  in_parallel(n_parts, n_threads, [&](int, int i) {
    const std::ptrdiff_t begin = n_sums * i / n_parts, end = n_sums * (i + 1) / n_parts;
    for (int run = 0; run < n_runs; ++run)
      for (std::ptrdiff_t j = begin; j < end; ++j) sums[j] += sums_of_runs[run * n_sums + j];
  });
  double evidence = 0;
  for (int run = 0; run < n_runs; ++run) evidence += evidence_of_runs[run];
  return evidence;
}

PyObject* take_pass(PyObject* arguments, const Structure& structure) {
  const char* name;
  int tile, n_runs, n_threads;
  PyObject *X, *weight, *origin, *per_unit, *log_normaliser, *means, *factors, *scratch, *sums;
  if (!PyArg_ParseTuple(arguments, "siiiOOOOOOOOO", &name, &tile, &n_runs, &n_threads, &X, &weight,
                        &origin, &per_unit, &log_normaliser, &means, &factors, &scratch, &sums))
    return nullptr;
  const Level* level = find_level(name);
  if (!level) return nullptr;
  if (!is_tile(tile)) return nullptr;
  if (!are_between(1, MOST, {{"n_runs", n_runs}, {"n_threads", n_threads}})) return nullptr;

  Buffer table_, weight_, origin_, per_unit_, log_normaliser_, means_, factors_, scratch_, sums_;
  if (!table_.take_table(X)) return nullptr;
  const Py_buffer& view = table_.view();
  const Py_ssize_t n = view.shape[0], d = view.shape[1], k = PyObject_Length(log_normaliser);
  if (k < 0) return nullptr;
  const Pass& pass = level->*structure.pass;
  Py_ssize_t q = 0;
  if (structure.has_directions && k > 0 && d > 0) {
    const Py_ssize_t all = PyObject_Length(sums);
    if (all < 0) return nullptr;
    q = (all / k - 1) / d - 2;
    if (!are_between(0, MOST, {{"the number of factors", q}})) return nullptr;
  }
  const Count n_sums = structure.n_sums(k, d, q), spare = ALIGNMENT / sizeof(double);
  const Count scratch_per_thread = pass.n_kept(k, d, q) * tile;
  const Count scratch_size = n_threads * scratch_per_thread + n_runs * (n_sums + 1) + spare;
  if (!are_countable(k, d, structure.has_matrices) || !are_countable({{"a tile", scratch_per_thread}}))
    return nullptr;
  if (!origin_.take(origin, "origin", d) || !per_unit_.take(per_unit, "per_unit", d) ||
      !log_normaliser_.take(log_normaliser, "log_normaliser", k) ||
      !means_.take(means, "means", Count(k) * d, structure.format) ||
      !factors_.take(factors, "factors", structure.n_factors(k, d, q), structure.format) ||
      !scratch_.take(scratch, "scratch", scratch_size, 'd', true) ||
      !sums_.take(sums, "sums", n_sums, 'd', true) ||
      (weight != Py_None && !weight_.take(weight, "weight", n)))
    return nullptr;

  const Table table = table_of(table_, weight_, origin_, per_unit_);
  const Components components{int(k), log_normaliser_.numbers(), means_.view().buf,
                              factors_.view().buf, nullptr, int(q)};
  void* aligned = scratch_.numbers();
  std::size_t space = scratch_.view().len;
  std::align(ALIGNMENT, space - ALIGNMENT, aligned, space);
  double evidence;
  Py_BEGIN_ALLOW_THREADS
  evidence = take_runs(pass, table, components, tile, n_runs, n_threads,
                       static_cast<double*>(aligned), scratch_per_thread.number(), sums_.numbers(),
                       n_sums.number());
  Py_END_ALLOW_THREADS
  return PyFloat_FromDouble(evidence);
}

// A pass over rows as steps of EM take it: along runs on several threads, or in one go.
struct Rows {
  const Pass& pass;
  const Table& table;
  int tile, n_runs, n_threads;
  double* scratch;
  std::ptrdiff_t scratch_per_thread, n_sums;

  static double along_runs(const void* rows, const Components& components, double* sums) {
    const Rows& own = *static_cast<const Rows*>(rows);
    std::fill(sums, sums + own.n_sums, 0.0);
    return take_runs(own.pass, own.table, components, own.tile, own.n_runs, own.n_threads, own.scratch,
                     own.scratch_per_thread, sums, own.n_sums);
  }

  static double in_one_go(const void* rows, const Components& components, double* sums) {
    const Rows& own = *static_cast<const Rows*>(rows);
    std::fill(sums, sums + own.n_sums, 0.0);
    return own.pass.take(own.table, components, own.tile, own.scratch, sums);
  }
};

// Steps of EM along several routes. Of ``weights``, ``means`` and ``values`` each route has those where it
// stands, and then those where the M step leads. One route has all threads, several have one each. Returns a list: how
// many steps are left to do on each route, and whether its next place is known.
PyObject* take_climbs(PyObject* arguments, const Structure& structure, Climb Level::* climb) {
  const char* name;
  int tile, n_runs, n_threads, n_iter, is_shared;
  double total, tol;
  PyObject *X, *weight, *origin, *per_unit, *noise, *weights, *means, *values, *bounds, *counts;
  if (!PyArg_ParseTuple(arguments, "siiiidpdOOOOOOOOOO", &name, &tile, &n_runs, &n_threads, &n_iter, &tol,
                        &is_shared, &total, &X, &weight, &origin, &per_unit, &noise, &weights, &means,
                        &values, &bounds, &counts))
    return nullptr;
  const Level* level = find_level(name);
  if (!level || !is_tile(tile)) return nullptr;
  const Py_ssize_t n_routes = PyObject_Length(bounds), all = PyObject_Length(counts);
  if (n_routes < 0 || all < 0) return nullptr;
  if (!are_between(1, MOST, {{"n_runs", n_runs}, {"n_threads", n_threads}}) ||
      !are_between(0, INT_MAX, {{"n_iter", n_iter}}) || !are_between(1, INT_MAX, {{"the number of bounds", n_routes}}))
    return nullptr;
  if (all % n_routes)
    return PyErr_Format(PyExc_ValueError, "%zd counts are none for each of %zd bounds.", all, n_routes);
  Buffer table_, weight_, origin_, per_unit_, noise_, weights_, means_, values_, bounds_, counts_;
  if (!table_.take_table(X)) return nullptr;
  const Py_ssize_t n = table_.view().shape[0], d = table_.view().shape[1], k = all / n_routes;
  const Count n_sums = structure.n_sums(k, d, 0), n_factors = structure.n_factors(k, d, 0);
  const Py_ssize_t size = n_factors.number();
  const Pass& pass = level->*structure.pass;
  const Count for_pass = pass.n_kept(k, d, 0) * tile;
  if (!are_countable(k, d, structure.has_matrices) || !are_countable({{"a tile", for_pass}})) return nullptr;
  if (!origin_.take(origin, "origin", d) || !per_unit_.take(per_unit, "per_unit", d) ||
      !noise_.take(noise, "noise", d) || !weights_.take(weights, "weights", 2 * Count(all), 'd', true) ||
      !means_.take(means, "means", 2 * Count(all) * d, 'd', true) ||
      !values_.take(values, "values", 2 * Count(n_routes) * n_factors, 'd', true) ||
      !bounds_.take(bounds, "bounds", n_routes, 'd', true) ||
      !counts_.take(counts, "counts", all, 'd', true) ||
      (weight != Py_None && !weight_.take(weight, "weight", n)))
    return nullptr;
  const Table table = table_of(table_, weight_, origin_, per_unit_);
  const Plan plan{int(k), int(d), n_iter, tol, total, noise_.numbers(), bool(is_shared)};
  const Climb& each = level->*climb;

  // Each begins at an address that suits a vector.
  constexpr Py_ssize_t line = ALIGNMENT / sizeof(double);
  const Count for_steps = each.n_needed(k, d, n_sums).whole(line);
  const Count for_runs = n_routes == 1 ? (n_runs * (n_sums + 1)).whole(line) : 0;
  const Count for_passes = n_threads * for_pass + for_runs;
  const Memory held(1, for_passes + (n_routes == 1 ? 1 : n_threads) * for_steps);
  if (!held.ok()) return PyErr_NoMemory();
  double* memory = held.of(0);
  double* memory_of_steps = memory + for_passes.number();

  std::vector<Arrival> arrived(n_routes);
  const auto place = [&](Py_ssize_t i) {
    return Parameters{weights_.numbers() + i * k, means_.numbers() + i * k * d, values_.numbers() + i * size};
  };
  const auto go = [&](int thread, int i) {
    const bool is_alone = n_routes == 1;
    const Rows rows{pass, table, tile, n_runs, n_threads, memory + thread * for_pass.number(), for_pass.number(),
                    n_sums.number()};
    const Route route{place(2 * i), place(2 * i + 1), bounds_.numbers() + i, counts_.numbers() + i * k};
    arrived[i] = each.take({is_alone ? Rows::along_runs : Rows::in_one_go, &rows}, plan, route,
                           memory_of_steps + thread * for_steps.number());
  };
  Py_BEGIN_ALLOW_THREADS
  if (n_routes == 1)
    go(0, 0);
  else
    in_parallel(int(n_routes), n_threads, go);
  Py_END_ALLOW_THREADS

  PyObject* arrivals = PyList_New(n_routes);
  for (Py_ssize_t i = 0; arrivals && i < n_routes; ++i) {
    PyObject* arrival =
        Py_BuildValue("iO", arrived[i].n_left, arrived[i].knows_next ? Py_True : Py_False);
    if (!arrival || PyList_SetItem(arrivals, i, arrival)) Py_CLEAR(arrivals);
  }
  return arrivals;
}

// Memory of a thread, for small matrices and amounts; null with an error set where there is none.
double* own_memory(Count size) {
  thread_local std::vector<double> memory;
  const std::size_t needed = (size + ALIGNMENT / sizeof(double)).number();
  try {
    if (memory.size() < needed) memory.resize(needed);
  } catch (const std::exception&) {
    PyErr_NoMemory();
    return nullptr;
  }
  void* aligned = memory.data();
  std::size_t space = needed * sizeof(double);
  return static_cast<double*>(std::align(ALIGNMENT, space - ALIGNMENT, aligned, space));
}

// An array that a function takes.
struct Argument {
  const char* name;
  Count size;
};

// Algebra of k matrices of size d x d: takes the level, k, d, and the arrays that ``expected(k, d)`` names,
// of which the first ``n_read`` are read and the others written. Returns what ``call`` returns.
template <std::size_t N, class Call>
PyObject* take_algebra(PyObject* arguments,
                       std::array<Argument, N> (*expected)(Count k, Count d),
                       std::size_t n_read, Call call) {
  const char* name;
  int k, d;
  PyObject* objects[4];
  if (!PyArg_ParseTuple(arguments, N == 3 ? "siiOOO" : "siiOOOO", &name, &k, &d, &objects[0],
                        &objects[1], &objects[2], &objects[3]))
    return nullptr;
  const Level* level = find_level(name);
  if (!level) return nullptr;
  if (!are_between(0, INT_MAX, {{"k", k}, {"d", d}}) || !are_countable(k, d, true)) return nullptr;
  Buffer buffers[N];
  double* arrays[N];
  const auto argument = expected(k, d);
  for (std::size_t i = 0; i < N; ++i) {
    if (!buffers[i].take(objects[i], argument[i].name, argument[i].size, 'd', i >= n_read))
      return nullptr;
    arrays[i] = buffers[i].numbers();
  }
  double* memory = own_memory(algebra_scratch(d));
  return memory ? call(*level, arrays, k, d, memory) : nullptr;
}

PyObject* factorise(PyObject*, PyObject* arguments) {
  return take_algebra<3>(
      arguments,
      [](Count k, Count d) {
        return std::array<Argument, 3>{
            {{"matrices", k * d * d}, {"factors", k * d * d}, {"inverses", k * d * d}}};
      },
      1, [](const Level& level, double** a, int k, int d, double* memory) {
        return PyFloat_FromDouble(level.factorise(a[0], k, d, a[1], a[2], memory));
      });
}

PyObject* unwhiten(PyObject*, PyObject* arguments) {
  return take_algebra<4>(
      arguments,
      [](Count k, Count d) {
        return std::array<Argument, 4>{{{"factors", k * d * d},
                                        {"sums", k * (1 + d + d * d)},
                                        {"first", k * d},
                                        {"second", k * d * d}}};
      },
      2, [](const Level& level, double** a, int k, int d, double* memory) {
        level.unwhiten(a[0], a[1], k, d, a[2], a[3], memory);
        Py_RETURN_NONE;
      });
}

PyObject* relate(PyObject*, PyObject* arguments) {
  return take_algebra<3>(
      arguments,
      [](Count k, Count d) {
        return std::array<Argument, 3>{
            {{"inverses", k * d * d}, {"factors", k * d * d}, {"coordinates", k * d * (d + 1) / 2}}};
      },
      2, [](const Level& level, double** a, int k, int d, double* memory) {
        level.relate(a[0], a[1], k, d, a[2], memory);
        Py_RETURN_NONE;
      });
}

PyObject* restore(PyObject*, PyObject* arguments) {
  return take_algebra<3>(
      arguments,
      [](Count k, Count d) {
        return std::array<Argument, 3>{
            {{"factors", k * d * d}, {"coordinates", k * d * (d + 1) / 2}, {"matrices", k * d * d}}};
      },
      2, [](const Level& level, double** a, int k, int d, double* memory) {
        level.restore(a[0], a[1], k, d, a[2], memory);
        Py_RETURN_NONE;
      });
}

PyObject* two_loops(PyObject*, PyObject* arguments) {
  const char* name;
  int first, n;
  PyObject *moves, *bends, *curvatures, *step;
  if (!PyArg_ParseTuple(arguments, "siiOOOO", &name, &first, &n, &moves, &bends, &curvatures, &step))
    return nullptr;
  const Level* level = find_level(name);
  const Py_ssize_t capacity = level ? PyObject_Length(curvatures) : -1;
  const Py_ssize_t p = capacity < 0 ? -1 : PyObject_Length(step);
  if (p < 0) return nullptr;
  Buffer moves_, bends_, curvatures_, step_;
  if (!are_between(0, MOST, {{"the number of curvatures", capacity}})) return nullptr;
  const Count all = Count(capacity) * p;
  if (!moves_.take(moves, "moves", all) || !bends_.take(bends, "bends", all) ||
      !curvatures_.take(curvatures, "curvatures", capacity) ||
      !step_.take(step, "step", p, 'd', true))
    return nullptr;
  if (n < 0 || n > capacity || first < 0 || (first && first >= capacity))
    return PyErr_Format(PyExc_ValueError, "There are no n=%d pairs from place first=%d on.", n, first);
  double* amounts = own_memory(n);
  if (!amounts) return nullptr;
  level->two_loops(moves_.numbers(), bends_.numbers(), curvatures_.numbers(), int(capacity), first, n,
                   p, step_.numbers(), amounts);
  Py_RETURN_NONE;
}

Count matrices(Count k, Count d, Count) { return k * d * d; }
Count matrix(Count, Count d, Count) { return d * d; }
Count diagonals(Count k, Count d, Count) { return k * d; }
Count sums_of_matrices(Count k, Count d, Count) { return k * (1 + d + d * d); }
Count sums_of_matrix(Count k, Count d, Count) { return k * (1 + d) + d * d; }
Count scalars(Count k, Count, Count) { return k; }
Count sums_of_diagonals(Count k, Count d, Count) { return k * (1 + 2 * d); }
Count sums_of_scalars(Count k, Count d, Count) { return k * (2 + d); }
Count directions(Count k, Count d, Count q) { return k * (q + 1) * d; }
Count sums_of_directions(Count k, Count d, Count q) { return k * (1 + 2 * d + d * q); }

const Structure dense_structure{&Level::dense, 'd', matrices, sums_of_matrices, true};
const Structure axes_structure{&Level::axes, 'd', diagonals, sums_of_diagonals, false};

PyObject* dense(PyObject*, PyObject* arguments) { return take_pass(arguments, dense_structure); }

PyObject* dense_single(PyObject*, PyObject* arguments) {
  return take_pass(arguments, {&Level::dense_single, 'f', matrices, sums_of_matrices, true});
}

PyObject* shared(PyObject*, PyObject* arguments) {
  return take_pass(arguments, {&Level::shared, 'd', matrix, sums_of_matrix, true});
}

PyObject* axes(PyObject*, PyObject* arguments) { return take_pass(arguments, axes_structure); }

PyObject* spherical(PyObject*, PyObject* arguments) {
  return take_pass(arguments, {&Level::spherical, 'd', scalars, sums_of_scalars, false});
}

PyObject* factor_analytic(PyObject*, PyObject* arguments) {
  return take_pass(arguments, {&Level::factor_analytic, 'd', directions, sums_of_directions, false, true});
}

PyObject* climb_dense(PyObject*, PyObject* arguments) {
  return take_climbs(arguments, dense_structure, &Level::climb_dense);
}

PyObject* climb_axes(PyObject*, PyObject* arguments) {
  return take_climbs(arguments, axes_structure, &Level::climb_axes);
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
    {"dense_single", dense_single, METH_VARARGS, "The same in float32, added up in float64."},
    {"shared", shared, METH_VARARGS, "A pass under one covariance for all."},
    {"axes", axes, METH_VARARGS, "A pass under variances of each feature."},
    {"spherical", spherical, METH_VARARGS, "A pass under one variance for each component."},
    {"factor_analytic", factor_analytic, METH_VARARGS, "A pass under loadings and variances."},
    {"climb_dense", climb_dense, METH_VARARGS, "Steps of EM on several routes, with covariance matrices."},
    {"climb_axes", climb_axes, METH_VARARGS, "The same with variances."},
    {"keys", take_keys, METH_VARARGS, "Keys that choose rows."},
    {"divide", divide, METH_VARARGS, "Rows divided among centres, by Lloyd's steps."},
    {"begin_dense", begin_dense, METH_VARARGS, "The M step of a division, with covariance matrices."},
    {"begin_axes", begin_axes, METH_VARARGS, "The same with variances."},
    {"factorise", factorise, METH_VARARGS, "Cholesky factors of small matrices, and inverses."},
    {"unwhiten", unwhiten, METH_VARARGS, "Moments of rows from those of whitened ones."},
    {"relate", relate, METH_VARARGS, "Coordinates of lower factors near others."},
    {"restore", restore, METH_VARARGS, "Matrices from the coordinates of their factors."},
    {"two_loops", two_loops, METH_VARARGS, "A step of limited-memory BFGS."},
    {"levels", level_names, METH_NOARGS, "What this processor has, the fastest first."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef_Slot slots[] = {{0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernel", "Passes of EM over rows, and the algebra between them.",
                          0, methods, slots, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__kernel() { return PyModuleDef_Init(&definition); }
