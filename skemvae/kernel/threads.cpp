#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace skemvae {
namespace {

// To wake a thread takes longer than a pass over a small table, and the next pass is soon to come.
constexpr auto AWAKE = std::chrono::microseconds(500);
// How often to look whether the others are ready, before others may use the core.
constexpr int PATIENCE = 10'000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Pool {
 public:
  void run(int n, int n_threads, const std::function<void(int, int)>& work) {
    // One job at a time: who comes meanwhile works alone.
    std::unique_lock<std::mutex> only(job_, std::try_to_lock);
    if (!only.owns_lock() || n_threads <= 1 || n <= 1) {
      for (int i = 0; i < n; ++i) work(0, i);
      return;
    }
    hire(std::min(n, n_threads) - 1);
    work_ = &work;
    n_ = n;
    next_ = 0;
    places_ = std::min(n, n_threads) - 1;
    {
      std::lock_guard<std::mutex> lock(sleep_);
      ++jobs_;
    }
    wake_.notify_all();
    take(0);
    places_ = 0;  // who has not begun need not begin
    for (int i = 0; n_working_ != 0; ++i)
      if (i < PATIENCE)
        pause();
      else
        std::this_thread::yield();  // there may be fewer cores than threads
  }

 private:
  // Threads are never joined: they sleep until the process ends.
  void hire(int n) {
    try {
      for (; n_hired_ < n; ++n_hired_)
        std::thread([this, seen = jobs_.load()] { serve(seen); }).detach();
    } catch (const std::system_error&) {  // there are no more: the others do the work
    }
  }

  void serve(unsigned seen) {
    for (;;) {
      const auto tired = std::chrono::steady_clock::now() + AWAKE;
      while (jobs_ == seen && std::chrono::steady_clock::now() < tired)
        for (int i = 0; i < 64 && jobs_ == seen; ++i) pause();
      if (jobs_ == seen) {
        std::unique_lock<std::mutex> lock(sleep_);
        wake_.wait(lock, [&] { return jobs_ != seen; });
      }
      seen = jobs_;
      ++n_working_;  // before a place is taken, so that the job does not end in between
      const int place = places_--;
      if (place > 0) take(place);
      --n_working_;
    }
  }

  void take(int thread) {
    for (int i = next_++; i < n_; i = next_++) (*work_)(thread, i);
  }

  std::mutex job_, sleep_;
  std::condition_variable wake_;
  std::atomic<unsigned> jobs_{0};
  std::atomic<int> places_{0}, n_working_{0}, next_{0};
  const std::function<void(int, int)>* work_ = nullptr;
  int n_ = 0, n_hired_ = 0;
};

// Never deleted, since its threads are never joined.
Pool* pool = new Pool;

#if defined(__unix__) || defined(__APPLE__)
// A forked child has none of its parent's threads.
const int forgets = pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
#endif

}  // namespace

void in_parallel(int n, int n_threads, const std::function<void(int, int)>& work) {
  pool->run(n, n_threads, work);
}

}  // namespace skemvae
