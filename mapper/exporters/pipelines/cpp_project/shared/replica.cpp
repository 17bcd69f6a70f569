#include "replica.h"

#include <ATen/ops/ones.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <mutex>

#include "affinity.h"
#include "failure.h"
#include "tensors.h"

namespace {

constexpr int64_t elements_a_thread = 1 << 17;  // enough for torch to share out an op

std::mutex setting_up;  // the number of threads is a global of torch, too

// How many threads compute what the calling one calls. A thread takes over at its first question what others have set
// last: so it asks before.
void compute_with(int threads) {
  at::get_num_threads();
  at::set_num_threads(threads);
}

}  // namespace

void compute_alone() {
  std::lock_guard lock(setting_up);
  compute_with(1);
}

Replica::Replica(const Description& description, const std::string& folder, int stage, int number)
    : stage(stage),
      number(number),
      description_(description),
      stage_(description.stages[stage]),
      path_(stage_.file.empty() ? "" : folder + "/" + stage_.file) {}

std::string Replica::thread_name() const {
  return ("stage " + std::to_string(stage) + "." + std::to_string(number)).substr(0, 15);
}

void Replica::finish() {
  for (pid_t thread : threads_called(thread_name())) team_.push_back(pus_of(thread));
}

std::string Replica::name() const {
  return "stage " + std::to_string(stage) + ", replica " + std::to_string(number);
}

void Replica::prepare() {
  pin(pus());
  {
    std::lock_guard lock(setting_up);
    compute_with(stage_.threads);
  }
  call_thread(thread_name());  // those that it starts inherit the name
  c10::InferenceMode guard;
  if (stage_.threads > 1) at::ones({stage_.threads * elements_a_thread}).add_(1);  // starts them
  if (!path_.empty()) compute_ = load_stage(path_, description_.compiled);
}

void Replica::compute(Item& item) {
  if (compute_) {
    c10::InferenceMode guard;
    std::vector<at::Tensor> given;
    for (int n : stage_.inputs) {
      const at::Tensor& tensor = item.tensors[n];
      given.push_back(description_.compiled ? laid_out(tensor, description_.tensors[n]) : tensor);
    }
    std::vector<at::Tensor> results = compute_(given);
    if (results.size() != stage_.outputs.size())
      throw Failure(failed, std::to_string(results.size()) + " results came out, " +
                                std::to_string(stage_.outputs.size()) + " were expected");
    for (size_t i = 0; i < results.size(); ++i) {
      const int n = stage_.outputs[i];
      if (results[i].sizes() != at::IntArrayRef(description_.tensors[n].shape))
        throw Failure(failed, "tensor " + std::to_string(n) + " came out with another shape");
      item.tensors[n] = std::move(results[i]);
    }
  }
  for (int n : stage_.drops) item.tensors[n].reset();
}
