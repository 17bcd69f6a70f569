#include "stage_file.h"

#include <torch/csrc/inductor/aoti_runner/model_container_runner_cpu.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/serialization/import.h>

#include <filesystem>
#include <memory>

#include "failure.h"

namespace {

Compute load_library(const std::string& path) {
  auto runner = std::make_shared<torch::inductor::AOTIModelContainerRunnerCpu>(std::filesystem::absolute(path).string());
  return [runner](std::vector<at::Tensor>& given) { return runner->run(given); };
}

Compute load_script(const std::string& path) {
  // As traced, op by op: what torch would fuse and fold rounds differently. This is a setting of the calling thread.
  torch::jit::setGraphExecutorOptimize(false);
  auto module = std::make_shared<torch::jit::Module>(torch::jit::load(path, at::kCPU));
  module->eval();
  return [module](std::vector<at::Tensor>& given) {
    const c10::IValue result = module->forward({given.begin(), given.end()});
    std::vector<at::Tensor> found;
    for (const c10::IValue& one : result.toTupleRef().elements()) found.push_back(one.toTensor());
    return found;
  };
}

}  // namespace

Compute load_stage(const std::string& path, bool compiled) {
  if (!std::filesystem::is_regular_file(path)) throw Failure(bad_input, path + " is not there");
  try {
    return compiled ? load_library(path) : load_script(path);
  } catch (const c10::Error& error) {
    throw Failure(bad_input, path + " cannot be loaded: " + error.what_without_backtrace());
  }
}
