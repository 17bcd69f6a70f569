// A run: what was asked for, the workers, the sample item, and what comes out.
#pragma once

#include <chrono>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "description.h"
#include "failure.h"
#include "replica.h"

using Clock = std::chrono::steady_clock;

// What the command line says. `flags` are those that only one of the programs knows, by name.
struct Options {
  std::string folder = ".";
  long items = 100;
  std::optional<long> warmup;
  bool json = false, oversubscribe = false;
  std::map<std::string, bool> flags;
};

// Reads the command line; `flags` has the program's own flags with what each means. Throws Failure; ends for --help.
Options options_of(int argc, char** argv, const std::map<std::string, std::string>& flags);

class Run {
 public:
  // Reads what is in the folder. To be called before anything of torch is. Throws Failure.
  explicit Run(const Options& options);

  // How many items are on their way at a time: as many as the plan says, and one for each first worker, so that it need
  // not wait for who feeds.
  int in_flight() const { return description.window + description.stages.front().replicas(); }

  // How many items go through: those to warm up with, those that are measured, and some behind them, so that the last
  // measured ones meet full stages.
  long total() const { return warmup + options.items + in_flight(); }

  // Makes `item` the sample item with this number: its inputs and constants, by reference.
  void fill(Item& item, long number) const;

  // Starts the clock where nothing warms up. To be called right before the first item goes in.
  void begin() { began_ = Clock::now(); }

  // Compares the outputs of `item`, which came out at `when`. One thread calls it, in the order of the items.
  void take(const Item& item, Clock::time_point when);

  // Binds the calling thread, which feeds, collects or hands on as `what` says, to `pus`, and notes what it then has.
  void place(const std::string& what, const std::vector<int>& pus);

  // Prints what was found; the exit code.
  Code report() const;

  const Options options;
  Description description;
  long warmup;
  std::vector<int> seat;               // PUs for who feeds and collects: those that no worker has; all where none is left
  std::chrono::nanoseconds spin{0};    // how long workers ask before they sleep
  std::vector<std::vector<std::unique_ptr<Replica>>> replicas;  // by stage
  std::optional<std::latch> prepared;  // until all of them are

 private:
  void settle();
  void print_json(double seconds, double rate) const;
  void print_text(double rate) const;

  std::vector<std::pair<int, at::Tensor>> given_;
  std::vector<at::Tensor> expected_;
  Clock::time_point began_, ended_;
  bool identical_ = true;
  double largest_ = 0;
  std::string wrong_;
  std::mutex mutex_;
  std::vector<std::pair<std::string, std::vector<int>>> others_;
};
