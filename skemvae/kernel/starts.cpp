// The Python side of what starts are made of: several of them in one call, each on a thread.

#include "starts.hpp"

#include <vector>

#include "arguments.hpp"
#include "threads.hpp"

namespace skemvae {
namespace {

// The M steps that divisions of a table give: takes the level, how many threads there are, divisions and components, whether these
// share their covariance, how many rows soften it, the rows (n x d), their weights, the labels of each division, the
// noise; and sets weights, means and covariances. Returns a list: whether each of them is ordinary.
PyObject* begin(PyObject* arguments, Beginning Level::* beginning, bool is_dense) {
  const char* name;
  int n_threads, n_starts, k, is_shared;
  double few_rows;
  PyObject *X, *weight, *labels, *noise, *weights, *means, *values;
  if (!PyArg_ParseTuple(arguments, "siiipdOOOOOOO", &name, &n_threads, &n_starts, &k, &is_shared, &few_rows, &X,
                        &weight, &labels, &noise, &weights, &means, &values))
    return nullptr;
  const Level* level = find_level(name);
  if (!level || !are_between(1, MOST, {{"n_threads", n_threads}}) ||
      !are_between(1, INT_MAX, {{"n_starts", n_starts}, {"k", k}}))
    return nullptr;
  const Py_ssize_t n = PyObject_Length(weight), d = n < 0 ? -1 : PyObject_Length(noise);
  if (d < 0) return nullptr;
  const Count n_factors = k * Count(d) * (is_dense ? d : 1), all = n_starts * Count(k);
  const Py_ssize_t size = n_factors.number();
  if (!are_countable(k, d, is_dense)) return nullptr;
  Buffer rows_, weight_, labels_, noise_, weights_, means_, values_;
  if (!rows_.take(X, "X", Count(n) * d) || !weight_.take(weight, "weight", n) ||
      !labels_.take(labels, "labels", n_starts * Count(n), 'i') || !noise_.take(noise, "noise", d) ||
      !weights_.take(weights, "weights", all, 'd', true) || !means_.take(means, "means", all * d, 'd', true) ||
      !values_.take(values, "values", n_starts * n_factors, 'd', true))
    return nullptr;
  const auto* label = static_cast<const std::int32_t*>(labels_.view().buf);
  for (Py_ssize_t i = 0; i < n_starts * n; ++i)
    if (label[i] < 0 || label[i] >= k)
      return PyErr_Format(PyExc_ValueError, "labels must be in [0, %d), but one is %d.", k, int(label[i]));

  const Plan plan{k, int(d), 0, 0.0, 0.0, noise_.numbers(), bool(is_shared)};
  const Beginning& each = level->*beginning;
  n_threads = std::min(n_threads, n_starts);
  const Memory memory(n_threads, each.n_needed(k, d));
  if (!memory.ok()) return PyErr_NoMemory();
  std::vector<char> is_ordinary(n_starts);
  Py_BEGIN_ALLOW_THREADS
  in_parallel(n_starts, n_threads, [&](int thread, int i) {
    const Parameters start{weights_.numbers() + i * Py_ssize_t(k), means_.numbers() + i * k * d, values_.numbers() + i * size};
    is_ordinary[i] = each.take(rows_.numbers(), weight_.numbers(), label + i * n, n, few_rows, plan, start,
                               memory.of(thread));
  });
  Py_END_ALLOW_THREADS

  PyObject* answers = PyList_New(n_starts);
  for (Py_ssize_t i = 0; answers && i < n_starts; ++i)
    if (PyList_SetItem(answers, i, PyBool_FromLong(is_ordinary[i]))) Py_CLEAR(answers);
  return answers;
}

}  // namespace

// Keys in [0, 1) of the rows of a table: takes the level, how many threads there are, the table, its weights, origin and unit, the
// slope and shift of the projection that keys are made of; and sets the keys.
PyObject* take_keys(PyObject*, PyObject* arguments) {
  const char* name;
  int n_threads;
  double shift;
  PyObject *X, *weight, *origin, *per_unit, *slope, *keys;
  if (!PyArg_ParseTuple(arguments, "siOOOOOdO", &name, &n_threads, &X, &weight, &origin, &per_unit, &slope, &shift,
                        &keys))
    return nullptr;
  const Level* level = find_level(name);
  if (!level) return nullptr;
  if (!are_between(1, MOST, {{"n_threads", n_threads}})) return nullptr;
  Buffer table_, weight_, origin_, per_unit_, slope_, keys_;
  if (!table_.take_table(X)) return nullptr;
  const Py_ssize_t n = table_.view().shape[0], d = table_.view().shape[1];
  if (!origin_.take(origin, "origin", d) || !per_unit_.take(per_unit, "per_unit", d) ||
      !slope_.take(slope, "slope", d) || !keys_.take(keys, "keys", n, 'd', true) ||
      (weight != Py_None && !weight_.take(weight, "weight", n)))
    return nullptr;
  constexpr Py_ssize_t numbers = 16384;  // some microseconds
  const Py_ssize_t share = (numbers / std::max<Py_ssize_t>(d, 1) / GRANULE + 1) * GRANULE;
  const Count n_shares = n / share + 1;
  if (!are_countable({{"a tile", GRANULE * (Count(d) + 1)}, {"X", n_shares}})) return nullptr;
  const Memory memory(n_threads, GRANULE * (Count(d) + 1));
  if (!memory.ok()) return PyErr_NoMemory();
  const Table table = table_of(table_, weight_, origin_, per_unit_);
  Py_BEGIN_ALLOW_THREADS
  in_parallel(int(n_shares.number()), n_threads, [&](int thread, int i) {
    const Py_ssize_t first = i * share;
    level->keys(part(table, first, std::min(first + share, n)), slope_.numbers(), shift, keys_.numbers() + first,
                memory.of(thread));
  });
  Py_END_ALLOW_THREADS
  Py_RETURN_NONE;
}

// Divisions of rows: takes the level, the rows of a tile, how many threads there are, divisions, centres, features,
// trials for a seed (0 where centres are given) and steps of Lloyd, the rows (n x d), their weights, the draws of the
// trials; and sets centres and labels.
PyObject* divide(PyObject*, PyObject* arguments) {
  const char* name;
  int tile, n_threads, n_divisions, k, d, n_trials, n_steps;
  PyObject *X, *weight, *draws, *centres, *labels;
  if (!PyArg_ParseTuple(arguments, "siiiiiiiOOOOO", &name, &tile, &n_threads, &n_divisions, &k, &d, &n_trials,
                        &n_steps, &X, &weight, &draws, &centres, &labels))
    return nullptr;
  const Level* level = find_level(name);
  if (!level || !is_tile(tile) || !are_between(1, MOST, {{"n_threads", n_threads}}) ||
      !are_between(0, INT_MAX, {{"n_trials", n_trials}, {"n_steps", n_steps}}) ||
      !are_between(1, INT_MAX, {{"n_divisions", n_divisions}, {"k", k}, {"d", d}}))
    return nullptr;
  const Py_ssize_t n = PyObject_Length(X);
  if (n < 0 || !are_between(1, Count::TOO_MANY, {{"the number of rows", n}}) || !are_countable(k, d, false) ||
      !are_countable(n_trials, d, false) ||
      !are_countable({{"k x n_trials", k * Count(n_trials)}, {"a tile", tile * (2 * Count(d) + n_trials + 2)}}))
    return nullptr;
  const Count all = n_divisions * Count(k);
  Buffer rows_, weight_, draws_, centres_, labels_;
  if (!weight_.take(weight, "weight", n) || !rows_.take(X, "X", Count(n) * d) ||
      !centres_.take(centres, "centres", all * d, 'd', true) ||
      !labels_.take(labels, "labels", n_divisions * Count(n), 'i', true) ||
      (n_trials && !draws_.take(draws, "draws", all * n_trials)))
    return nullptr;
  const std::vector<double> zeros(d, 0.0), ones(d, 1.0);
  const Table table{static_cast<const char*>(rows_.view().buf), n, Py_ssize_t(sizeof(double)) * d, sizeof(double), d,
                    false, weight_.numbers(), zeros.data(), ones.data()};
  const Division plan{k, n_trials, n_steps, tile, nullptr};
  const auto of = [&](Py_ssize_t i) {
    Division own = plan;
    if (n_trials) own.draws = draws_.numbers() + i * k * n_trials;
    return own;
  };
  n_threads = std::min(n_threads, n_divisions);
  const Memory memory(n_threads, level->divide_needs(of(0), n, d));
  if (!memory.ok()) return PyErr_NoMemory();
  Py_BEGIN_ALLOW_THREADS
  in_parallel(n_divisions, n_threads, [&](int thread, int i) {
    level->divide(table, of(i), centres_.numbers() + i * Py_ssize_t(k) * d,
                  static_cast<std::int32_t*>(labels_.view().buf) + i * n, memory.of(thread));
  });
  Py_END_ALLOW_THREADS
  Py_RETURN_NONE;
}

PyObject* begin_dense(PyObject*, PyObject* arguments) { return begin(arguments, &Level::begin_dense, true); }

PyObject* begin_axes(PyObject*, PyObject* arguments) { return begin(arguments, &Level::begin_axes, false); }

}  // namespace skemvae
