// A bounded queue of one producer and one consumer.
#pragma once

#include <atomic>
#include <bit>
#include <chrono>
#include <vector>

#include "replica.h"

// Both ends ask for a while, and then sleep until the other one has done something. Items are handed on by reference.
class Queue {
 public:
  explicit Queue(unsigned capacity) : capacity_(capacity), items_(std::bit_ceil(capacity)) {}

  // Puts `item` in, as soon as there is room.
  void push(Item* item, std::chrono::nanoseconds spin) {
    const unsigned n = pushed_.load(std::memory_order_relaxed);
    wait_while(popped_, n - capacity_, spin);
    items_[n & (items_.size() - 1)] = item;
    pushed_.store(n + 1, std::memory_order_release);
    pushed_.notify_one();
  }

  // Takes the oldest item out, as soon as there is one.
  Item* pop(std::chrono::nanoseconds spin) {
    const unsigned n = popped_.load(std::memory_order_relaxed);
    wait_while(pushed_, n, spin);
    Item* item = items_[n & (items_.size() - 1)];
    popped_.store(n + 1, std::memory_order_release);
    popped_.notify_one();
    return item;
  }

 private:
  using Counter = std::atomic<unsigned>;  // as wide as what the kernel waits for; it may wrap around

  static void wait_while(const Counter& counter, unsigned value, std::chrono::nanoseconds spin) {
    if (counter.load(std::memory_order_acquire) != value) return;
    if (spin.count() > 0) {
      const auto until = std::chrono::steady_clock::now() + spin;
      do {
        for (int i = 0; i < 32; ++i) {
          if (counter.load(std::memory_order_acquire) != value) return;
          relax();
        }
      } while (std::chrono::steady_clock::now() < until);
    }
    counter.wait(value, std::memory_order_acquire);
  }

  static void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  const unsigned capacity_;
  std::vector<Item*> items_;
  alignas(64) Counter pushed_{0};  // each end writes its own line
  alignas(64) Counter popped_{0};
};
