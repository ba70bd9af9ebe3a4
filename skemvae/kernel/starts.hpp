// What the module has for starts of EM; see starts.cpp.
#pragma once

#include "python.hpp"

namespace skemvae {

PyObject* take_keys(PyObject* module, PyObject* arguments);
PyObject* divide(PyObject* module, PyObject* arguments);
PyObject* begin_dense(PyObject* module, PyObject* arguments);
PyObject* begin_axes(PyObject* module, PyObject* arguments);

}  // namespace skemvae
