#include "description.h"

#include <fstream>
#include <map>

#include "failure.h"

namespace {

constexpr int64_t most = 1'000'000;

const std::map<std::string, at::ScalarType> dtypes = {
    {"bool", at::kBool},          {"uint8", at::kByte},           {"int8", at::kChar},
    {"int16", at::kShort},        {"int32", at::kInt},            {"int64", at::kLong},
    {"float16", at::kHalf},       {"bfloat16", at::kBFloat16},    {"float32", at::kFloat},
    {"float64", at::kDouble},     {"complex64", at::kComplexFloat}, {"complex128", at::kComplexDouble},
};

class Reader {
 public:
  explicit Reader(std::string path) : path_(std::move(path)), in_(path_) {
    if (!in_) throw Failure(bad_input, path_ + " cannot be read: name the folder of an export");
  }

  std::string word() {
    std::string found;
    if (!(in_ >> found)) refuse("cut off");
    return found;
  }

  void expect(const std::string& wanted) {
    const std::string found = word();
    if (found != wanted) refuse("'" + wanted + "' was expected, not '" + found + "'");
  }

  int64_t number(int64_t least, int64_t limit) {
    int64_t found = 0;
    if (!(in_ >> found)) refuse("a number was expected");
    if (found < least || found > limit) refuse("the number " + std::to_string(found) + " is out of range");
    return found;
  }

  int count(const std::string& wanted, int64_t least = 0) {
    expect(wanted);
    return static_cast<int>(number(least, most));
  }

  // `wanted`, how many there are, and so many numbers below `limit`.
  std::vector<int> numbers(const std::string& wanted, int64_t limit) {
    std::vector<int> found(count(wanted));
    for (int& one : found) one = static_cast<int>(number(0, limit - 1));
    return found;
  }

  std::vector<double> fractions(const std::string& wanted) {
    std::vector<double> found(count(wanted));
    for (double& one : found)
      if (!(in_ >> one) || one < 0) refuse("a tolerance was expected");
    return found;
  }

  [[noreturn]] void refuse(const std::string& why) { throw Failure(bad_input, path_ + ": " + why); }

 private:
  std::string path_;
  std::ifstream in_;
};

Type read_type(Reader& reader) {
  const auto found = dtypes.find(reader.word());
  if (found == dtypes.end()) reader.refuse("a dtype was expected");
  Type type{found->second, {}, {}};
  const int64_t dimensions = reader.number(0, 64);
  for (auto* sizes : {&type.shape, &type.strides})
    for (int64_t i = 0; i < dimensions; ++i) sizes->push_back(reader.number(0, int64_t{1} << 40));
  return type;
}

Stage read_stage(Reader& reader, int number, const std::string& suffix, int64_t tensors) {
  Stage stage;
  if (reader.count("computes") != 0) stage.file = "stages/" + std::to_string(number) + suffix;
  stage.inputs = reader.numbers("inputs", tensors);
  stage.outputs = reader.numbers("outputs", tensors);
  stage.drops = reader.numbers("drops", tensors);
  stage.slots = reader.count("slots", 1);
  stage.threads = reader.count("threads", 1);
  const int replicas = reader.count("replicas", 1);
  for (int i = 0; i < replicas; ++i) {
    stage.pus.push_back(reader.numbers("pus", most));
    if (stage.pus.back().empty()) reader.refuse("a worker without PUs");
  }
  return stage;
}

}  // namespace

Description read_description(const std::string& folder) {
  Reader reader(folder + "/pipeline.txt");
  Description found;
  reader.expect("mapper-pipeline-text/1");
  reader.expect("backend");
  const std::string backend = reader.word();
  found.compiled = backend == "inductor";
  if (!found.compiled && backend != "eager") reader.refuse("stages of the back end " + backend);
  found.window = reader.count("window", 1);
  const int tensors = reader.count("tensors");
  for (int i = 0; i < tensors; ++i) found.tensors.push_back(read_type(reader));
  found.inputs = reader.numbers("inputs", tensors);
  found.outputs = reader.numbers("outputs", tensors);
  found.constants = reader.numbers("constants", tensors);
  found.tolerances = reader.fractions("tolerances");
  if (found.tolerances.size() != found.outputs.size()) reader.refuse("a tolerance for each output was expected");
  const int stages = reader.count("stages", 1);
  for (int i = 0; i < stages; ++i)
    found.stages.push_back(read_stage(reader, i, found.compiled ? ".so" : ".pt", tensors));
  reader.expect("end");
  return found;
}
