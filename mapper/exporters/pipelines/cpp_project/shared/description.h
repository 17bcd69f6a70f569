// The pipeline as pipeline.txt describes it: words that are fixed, and numbers.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <vector>

// What a tensor is, and where in memory its elements lie; both in elements.
struct Type {
  at::ScalarType dtype;
  std::vector<int64_t> shape, strides;
};

// A stage: the numbers of the tensors that it takes and gives, and of those that nobody reads after it; how many items
// may wait between two workers; how many threads each worker has, and the PUs of each. Without `file` it only hands on.
struct Stage {
  std::string file;
  std::vector<int> inputs, outputs, drops;
  int slots, threads;
  std::vector<std::vector<int>> pus;

  int replicas() const { return static_cast<int>(pus.size()); }
};

struct Description {
  bool compiled;  // stages are libraries of AOTInductor, else TorchScript
  int window;     // how many items in flight keep it busy
  std::vector<Type> tensors;
  std::vector<int> inputs, outputs, constants;
  std::vector<double> tolerances;  // of each output, relative to the largest magnitude; 0: bits must be equal
  std::vector<Stage> stages;
};

// Reads pipeline.txt in `folder`. Throws Failure where it is not there, or not what it has to be.
Description read_description(const std::string& folder);
