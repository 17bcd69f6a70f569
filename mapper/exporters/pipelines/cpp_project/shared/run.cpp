#include "run.h"

#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <set>

#include "affinity.h"
#include "failure.h"
#include "tensors.h"

namespace {

constexpr auto spin_before_sleep = std::chrono::microseconds(50);  // about what waking up a thread may take
constexpr int warm_up_besides = 4;

// Memory that is freed is kept: every item needs the same again, and the kernel would hand it out page by page.
void keep_memory() {
  if (!std::getenv("MALLOC_MMAP_MAX_")) mallopt(M_MMAP_MAX, 0);
  if (!std::getenv("MALLOC_TRIM_THRESHOLD_")) mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

void refuse_other_binding() {
  for (const char* name : {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"})
    if (std::getenv(name))
      throw Failure(usage, std::string(name) + " is set, which binds threads elsewhere: unset it");
}

void place_on(std::vector<Stage>& stages, const std::vector<int>& allowed, bool oversubscribe) {
  std::set<int> absent;
  for (Stage& stage : stages)
    for (auto& pus : stage.pus) {
      std::set<int> found;
      for (int pu : pus) {
        if (!std::binary_search(allowed.begin(), allowed.end(), pu)) absent.insert(pu);
        found.insert(oversubscribe ? allowed[pu % allowed.size()] : pu);
      }
      pus.assign(found.begin(), found.end());
    }
  if (!absent.empty() && !oversubscribe)
    throw Failure(other_machine, "this process may not use PUs " + as_list({absent.begin(), absent.end()}) +
                                     ", only " + as_list(allowed) + ": plan for this machine, or --oversubscribe");
}

long number_of(const std::string& name, const char* text, long least) {
  char* end = nullptr;
  const long found = text ? std::strtol(text, &end, 10) : 0;
  if (!text || *text == '\0' || *end != '\0' || found < least || found > 1'000'000'000)
    throw Failure(usage, name + " takes a number, at least " + std::to_string(least));
  return found;
}

void print_help(const std::map<std::string, std::string>& flags) {
  std::puts("pipeline [FOLDER] [--items N] [--warmup N] [--json] [--oversubscribe]\n\n"
            "Runs the sample item of the export in FOLDER [.] N times [100], after some to warm up, and compares all\n"
            "outputs. --oversubscribe wraps around the PUs that are there: results are right, times mean nothing.");
  for (const auto& [name, text] : flags) std::printf("%s: %s\n", name.c_str(), text.c_str());
}

}  // namespace

Options options_of(int argc, char** argv, const std::map<std::string, std::string>& flags) {
  Options found;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help" || word == "-h") {
      print_help(flags);
      std::exit(done);
    } else if (word == "--items") {
      found.items = number_of(word, argv[++i], 1);
    } else if (word == "--warmup") {
      found.warmup = number_of(word, argv[++i], 0);
    } else if (word == "--json") {
      found.json = true;
    } else if (word == "--oversubscribe") {
      found.oversubscribe = true;
    } else if (flags.count(word)) {
      found.flags[word] = true;
    } else if (word.rfind("--", 0) == 0) {
      throw Failure(usage, "no option is called " + word + "; --help lists them");
    } else {
      found.folder = word;
    }
  }
  return found;
}

Run::Run(const Options& options) : options(options) {
  refuse_other_binding();
  keep_memory();
  compute_alone();
  description = read_description(options.folder);
  warmup = options.warmup.value_or(description.window + warm_up_besides);
  settle();
  const auto read = [&](int n) {
    return read_tensor(options.folder + "/tensors/" + std::to_string(n) + ".bin", description.tensors[n]);
  };
  for (const auto* numbers : {&description.inputs, &description.constants})
    for (int n : *numbers) given_.emplace_back(n, read(n));
  for (int n : description.outputs) expected_.push_back(read(n));
  long workers = 0;
  for (size_t s = 0; s < description.stages.size(); ++s) {
    auto& made = replicas.emplace_back();
    for (int r = 0; r < description.stages[s].replicas(); ++r, ++workers)
      made.push_back(std::make_unique<Replica>(description, options.folder, static_cast<int>(s), r));
  }
  prepared.emplace(workers);
}

// Who runs where, and who may spin: only who has its PUs to itself, and only where there is one for who feeds, too.
void Run::settle() {
  const std::vector<int> allowed = pus_of();
  place_on(description.stages, allowed, options.oversubscribe);
  std::map<int, int> users;
  for (const Stage& stage : description.stages)
    for (const auto& pus : stage.pus)
      for (int pu : pus) ++users[pu];
  for (int pu : allowed)
    if (!users.count(pu)) seat.push_back(pu);
  const bool alone = std::all_of(users.begin(), users.end(), [](const auto& one) { return one.second == 1; });
  if (alone && !seat.empty()) spin = spin_before_sleep;
  if (seat.empty()) seat = allowed;
}

void Run::fill(Item& item, long number) const {
  item.number = number;
  item.tensors.assign(description.tensors.size(), at::Tensor());
  for (const auto& [n, tensor] : given_) item.tensors[n] = tensor;
}

void Run::take(const Item& item, Clock::time_point when) {
  if (item.number == warmup - 1) began_ = when;
  if (item.number == warmup + options.items - 1) ended_ = when;
  for (size_t i = 0; i < expected_.size(); ++i) {
    const Difference found = difference(item.tensors[description.outputs[i]], expected_[i]);
    identical_ = identical_ && found.identical;
    largest_ = std::max(largest_, found.relative);
    const double tolerance = description.tolerances[i];
    if (found.identical || (tolerance > 0 && found.relative <= tolerance) || !wrong_.empty()) continue;
    char text[200];
    std::snprintf(text, sizeof text, "output %zu of item %ld is not the sample's: %.2g relative, %.2g is allowed", i,
                  item.number, found.relative, tolerance);
    wrong_ = text;
  }
}

void Run::place(const std::string& what, const std::vector<int>& pus) {
  pin(pus);
  std::lock_guard lock(mutex_);
  others_.emplace_back(what, pus_of());
}

