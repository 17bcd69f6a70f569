// Stages as libtorch loads them.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

// Computes a stage: takes its inputs in order, gives its outputs in order.
using Compute = std::function<std::vector<at::Tensor>(std::vector<at::Tensor>&)>;

// The stage in the file `path`, a library of AOTInductor where it is `compiled`, else TorchScript.
Compute load_stage(const std::string& path, bool compiled);
