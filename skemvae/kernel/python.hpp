// Python's stable interface, of 3.11 on: the only place that includes it.
#pragma once

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
