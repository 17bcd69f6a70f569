// The pipeline with a thread for each worker, and a queue between each two of them that hand items on.
#include <thread>

#include "affinity.h"
#include "failure.h"
#include "queue.h"
#include "run.h"

namespace {

// The queues to a stage, or from the last one to who collects: `at(p, c)` is that from producer p to consumer c.
class Crossing {
 public:
  Crossing(int producers, int consumers, int capacity) : producers_(producers), consumers_(consumers) {
    for (int i = 0; i < producers * consumers; ++i) queues_.push_back(std::make_unique<Queue>(capacity));
  }

  // The queue that item `number` takes.
  Queue& of(long number) { return *queues_[(number % producers_) * consumers_ + number % consumers_]; }

 private:
  const int producers_, consumers_;
  std::vector<std::unique_ptr<Queue>> queues_;
};

// A worker's life: every so many items one of its own, in order.
void work(Run& run, Replica& replica, Crossing& from, Crossing& to) {
  replica.prepare();
  run.prepared->count_down();
  const int step = run.description.stages[replica.stage].replicas();
  for (long n = replica.number; n < run.total(); n += step) {
    Item* item = from.of(n).pop(run.spin);
    replica.compute(*item);
    to.of(n).push(item, run.spin);
  }
  replica.finish();
}

// Keeps the pipeline full, and takes the items out in order.
void feed_and_collect(Run& run, Crossing& in, Crossing& out) {
  run.place("feeds and collects", run.seat);
  const long window = run.in_flight();
  std::vector<Item> items(window + 1);  // one more, to hand in before what came out is looked at
  run.prepared->wait();
  run.begin();
  for (long n = 0; n < window; ++n) {
    run.fill(items[n], n);
    in.of(n).push(&items[n], run.spin);
  }
  Item* spare = &items[window];
  for (long n = 0; n < run.total(); ++n) {
    Item* item = out.of(n).pop(run.spin);
    const auto now = Clock::now();
    if (const long next = n + window; next < run.total()) {
      run.fill(*spare, next);
      in.of(next).push(spare, run.spin);
    }
    run.take(*item, now);
    spare = item;
  }
}

Code pipeline(const Options& options) {
  Run run(options);
  const auto& stages = run.description.stages;
  std::vector<std::unique_ptr<Crossing>> crossings;
  int producers = 1;
  for (const Stage& stage : stages) {
    const int capacity = crossings.empty() ? run.in_flight() : stage.slots;  // who feeds must never wait for room
    crossings.push_back(std::make_unique<Crossing>(producers, stage.replicas(), capacity));
    producers = stage.replicas();
  }
  crossings.push_back(std::make_unique<Crossing>(producers, 1, stages.back().slots));
  std::vector<std::thread> threads;
  for (const auto& stage : run.replicas)
    for (const auto& replica : stage)
      threads.emplace_back([&run, &replica = *replica, &from = *crossings[replica->stage],
                            &to = *crossings[replica->stage + 1]] {
        guarded(replica.name(), [&] { work(run, replica, from, to); });
      });
  feed_and_collect(run, *crossings.front(), *crossings.back());
  for (auto& thread : threads) thread.join();
  return run.report();
}

}  // namespace

int main(int argc, char** argv) {
  Code code = failed;
  guarded("", [&] { code = pipeline(options_of(argc, argv, {})); });
  return code;
}
