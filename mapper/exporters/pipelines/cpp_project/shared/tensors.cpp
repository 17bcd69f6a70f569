#include "tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "failure.h"

namespace {

// Whether `strides` place elements where `wanted` does: dimensions with one element may have any.
bool lies_so(at::IntArrayRef shape, at::IntArrayRef strides, at::IntArrayRef wanted) {
  for (size_t i = 0; i < shape.size(); ++i)
    if (shape[i] > 1 && strides[i] != wanted[i]) return false;
  return true;
}

}  // namespace

at::Tensor read_tensor(const std::string& path, const Type& type) {
  at::Tensor tensor = at::empty(type.shape, type.dtype);
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) throw Failure(bad_input, path + " cannot be read: " + error.message());
  if (size != tensor.nbytes())
    throw Failure(bad_input, path + " has " + std::to_string(size) + " bytes, " + std::to_string(tensor.nbytes()) +
                                 " were expected");
  std::ifstream in(path, std::ios::binary);
  if (size != 0 && !in.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(size)))
    throw Failure(bad_input, path + " cannot be read");
  return laid_out(tensor, type);
}

at::Tensor laid_out(const at::Tensor& tensor, const Type& type) {
  if (tensor.numel() == 0 || lies_so(tensor.sizes(), tensor.strides(), type.strides)) return tensor;
  std::vector<int64_t> distinct = type.shape;  // elements that are one in memory are written once
  for (size_t i = 0; i < distinct.size(); ++i)
    if (type.strides[i] == 0) distinct[i] = 1;
  at::Tensor given = tensor;
  for (size_t i = 0; i < distinct.size(); ++i) given = given.narrow(static_cast<int64_t>(i), 0, distinct[i]);
  at::Tensor made = at::empty_strided(distinct, type.strides, tensor.options());
  made.copy_(given);
  return made.as_strided(type.shape, type.strides);
}

Difference difference(const at::Tensor& found, const at::Tensor& expected) {
  const double infinite = std::numeric_limits<double>::infinity();
  if (found.sizes() != expected.sizes() || found.scalar_type() != expected.scalar_type()) return {false, infinite};
  const at::Tensor a = found.contiguous(), b = expected.contiguous();
  if (a.numel() == 0 || std::memcmp(a.data_ptr(), b.data_ptr(), a.nbytes()) == 0) return {true, 0};
  const auto wide = b.is_complex() ? at::kComplexDouble : at::kDouble;
  const at::Tensor x = a.to(wide), y = b.to(wide);
  const at::Tensor same = x.eq(y).logical_or(x.isnan().logical_and(y.isnan()));
  const at::Tensor gap = x.sub(y).abs().masked_fill(same, 0.0).nan_to_num(infinite, infinite);
  const at::Tensor size = y.abs().masked_fill(y.isfinite().logical_not(), 0.0);
  const double largest = gap.max().item<double>(), scale = size.max().item<double>();
  return {false, scale > 0 ? largest / scale : largest > 0 ? infinite : 0};
}
