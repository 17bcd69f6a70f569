// The pipeline in FastFlow: a node for each stage, an ordered farm where there are replicas, each on the PUs that the
// plan gives it. FastFlow's own mapping (thread n to PU n) is off.
#include <ff/ff.hpp>

#include <algorithm>
#include <set>

#include "affinity.h"
#include "failure.h"
#include "run.h"

namespace {

// Hands the items in.
struct Feeder : ff::ff_node_t<Item> {
  explicit Feeder(Run& run) : run(run) {}

  int svc_init() override {
    guarded("feeder", [&] {
      run.place("feeder", run.seat);
      run.prepared->wait();
      run.begin();
    });
    return 0;
  }

  Item* svc(Item*) override {
    for (long n = 0; n < run.total(); ++n) {
      auto* item = new Item;
      run.fill(*item, n);
      ff_send_out(item);
    }
    return EOS;
  }

  Run& run;
};

// A worker.
struct Worker : ff::ff_node_t<Item> {
  Worker(Run& run, Replica& replica) : run(run), replica(replica) {}

  int svc_init() override {
    guarded(replica.name(), [&] {
      replica.prepare();
      run.prepared->count_down();
    });
    return 0;
  }

  Item* svc(Item* item) override {
    guarded(replica.name(), [&] { replica.compute(*item); });
    return item;
  }

  void svc_end() override {
    guarded(replica.name(), [&] { replica.finish(); });
  }

  Run& run;
  Replica& replica;
};

// What hands items out to the workers of a farm, or takes them from these: on the PUs of the farm.
struct Relay : ff::ff_node_t<Item> {
  Relay(Run& run, std::string what, std::vector<int> pus) : run(run), what(std::move(what)), pus(std::move(pus)) {}

  int svc_init() override {
    guarded(what, [&] { run.place(what, pus); });
    return 0;
  }

  Item* svc(Item* item) override { return item; }

  Run& run;
  const std::string what;
  const std::vector<int> pus;
};

// Takes the items out.
struct Collector : ff::ff_node_t<Item> {
  explicit Collector(Run& run) : run(run) {}

  int svc_init() override {
    guarded("collector", [&] {
      run.place("collector", run.seat);
      compute_alone();
    });
    return 0;
  }

  Item* svc(Item* item) override {
    guarded("collector", [&] { run.take(*item, Clock::now()); });
    delete item;
    return GO_ON;
  }

  Run& run;
};

// A farm of the replicas of a stage: item n goes to replica n mod r, and they leave in the order in which they came.
struct Farm {
  Farm(Run& run, int stage, int capacity, bool bounded)
      : emitter(run, "emitter of stage " + std::to_string(stage), pus_of_stage(run, stage)),
        collector(run, "collector of stage " + std::to_string(stage), pus_of_stage(run, stage)),
        farm(workers(run, stage)) {
    farm.add_emitter(emitter);
    farm.add_collector(collector);
    farm.setInputQueueLength(capacity, bounded);
    farm.setOutputQueueLength(capacity, bounded);
  }

  static std::vector<int> pus_of_stage(const Run& run, int stage) {
    std::set<int> found;
    for (const auto& pus : run.description.stages[stage].pus) found.insert(pus.begin(), pus.end());
    return {found.begin(), found.end()};
  }

  static std::vector<std::unique_ptr<ff::ff_node>> workers(Run& run, int stage) {
    std::vector<std::unique_ptr<ff::ff_node>> found;
    for (const auto& replica : run.replicas[stage]) found.push_back(std::make_unique<Worker>(run, *replica));
    return found;
  }

  Relay emitter, collector;
  ff::ff_OFarm<Item> farm;
};

Code pipeline(Options options) {
  Run run(options);
  const bool bounded = !options.flags["--unbounded"];
  int capacity = 1;  // all queues of a pipeline of FastFlow are of one size
  for (const Stage& stage : run.description.stages) capacity = std::max(capacity, stage.slots);
  Feeder feeder(run);
  Collector collector(run);
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::unique_ptr<Farm>> farms;
  ff::ff_pipeline pipe(false, capacity, capacity, bounded);
  pipe.add_stage(&feeder);
  for (const auto& replicas : run.replicas) {
    if (replicas.size() == 1) {
      workers.push_back(std::make_unique<Worker>(run, *replicas[0]));
      pipe.add_stage(workers.back().get());
    } else {
      farms.push_back(std::make_unique<Farm>(run, replicas[0]->stage, capacity, bounded));
      pipe.add_stage(&farms.back()->farm);
    }
  }
  pipe.add_stage(&collector);
  pipe.no_mapping();
  pipe.blocking_mode(!options.flags["--spin"]);
  if (pipe.run_and_wait_end() < 0) throw Failure(failed, "FastFlow could not run the pipeline");
  return run.report();
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, std::string> flags = {
      {"--spin", "FastFlow's nodes ask for items all the time, on the workers' PUs, instead of sleeping"},
      {"--unbounded", "queues of any length, instead of as many slots as the plan has"},
  };
  Code code = failed;
  guarded("", [&] { code = pipeline(options_of(argc, argv, flags)); });
  return code;
}
