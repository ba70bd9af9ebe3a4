// Threads of the kernel's own: they wait awake for a while, because passes follow each other closely.
#pragma once

#include <functional>

namespace skemvae {

// Calls work(thread, i) for each i in [0, n), on at most n_threads threads, numbered from 0; the calling
// one is the first of them. Threads take the next i when they are ready. ``work`` must not throw.
void in_parallel(int n, int n_threads, const std::function<void(int thread, int i)>& work);

}  // namespace skemvae
