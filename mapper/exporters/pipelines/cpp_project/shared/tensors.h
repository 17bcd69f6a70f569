// Tensors from files, as they have to lie in memory, and compared with what they have to be.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "description.h"

// A new tensor of `type` with the elements in the file `path`, in their order. Throws Failure where that does not fit.
at::Tensor read_tensor(const std::string& path, const Type& type);

// `tensor` itself where its elements lie as `type` says, else a copy that does.
at::Tensor laid_out(const at::Tensor& tensor, const Type& type);

// How far a tensor is from what it has to be: `relative` to the largest magnitude of that, infinite where only one of
// them is a number. NaN equals NaN.
struct Difference {
  bool identical;
  double relative;
};

Difference difference(const at::Tensor& found, const at::Tensor& expected);
