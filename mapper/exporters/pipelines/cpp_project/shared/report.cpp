#include <algorithm>
#include <cstdio>
#include <limits>

#include "affinity.h"
#include "run.h"

namespace {

// `parts` as a list of JSON.
std::string as_json(const std::vector<std::string>& parts) {
  std::string text = "[";
  for (const std::string& part : parts) {
    if (text.size() > 1) text += ", ";
    text += part;
  }
  return text + "]";
}

std::string as_json(const std::vector<int>& numbers) {
  std::vector<std::string> parts;
  for (int one : numbers) parts.push_back(std::to_string(one));
  return as_json(parts);
}

std::string as_json(double number) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", number);
  return number <= std::numeric_limits<double>::max() ? text : "null";
}

std::string as_json(const Replica& replica) {
  std::vector<std::string> team;
  std::vector<int> pus;
  for (const auto& own : replica.team()) {
    team.push_back(as_json(own));
    pus.insert(pus.end(), own.begin(), own.end());
  }
  std::sort(pus.begin(), pus.end());
  pus.erase(std::unique(pus.begin(), pus.end()), pus.end());
  return "{\"stage\": " + std::to_string(replica.stage) + ", \"replica\": " + std::to_string(replica.number) +
         ", \"pus\": " + as_json(pus) + ", \"threads\": " + std::to_string(replica.team().size()) +
         ", \"thread_pus\": " + as_json(team) + "}";
}

std::string as_line(const Replica& replica) {
  std::string line = "  " + replica.name() + ": " + std::to_string(replica.team().size()) + " thread(s), PUs";
  for (const auto& pus : replica.team()) line.append(" ").append(as_list(pus)).append(";");
  line.back() = '\n';
  return line;
}

}  // namespace

void Run::print_json(double seconds, double rate) const {
  std::vector<std::string> workers, others;
  for (const auto& stage : replicas)
    for (const auto& replica : stage) workers.push_back(as_json(*replica));
  for (const auto& [what, pus] : others_) others.push_back("{\"what\": \"" + what + "\", \"pus\": " + as_json(pus) + "}");
  std::printf("{\"items\": %ld, \"seconds\": %s, \"throughput_per_s\": %s, \"outputs\": %s, \"within_tolerance\": %s, "
              "\"workers\": %s, \"others\": %s}\n",
              options.items, as_json(seconds).c_str(), as_json(rate).c_str(),
              identical_ ? "\"identical\"" : as_json(largest_).c_str(), wrong_.empty() ? "true" : "false",
              as_json(workers).c_str(), as_json(others).c_str());
}

void Run::print_text(double rate) const {
  std::printf("%.4g items/s: %ld items after %ld to warm up\n", rate, options.items, warmup);
  std::puts(!wrong_.empty() ? "Outputs differ."
            : identical_    ? "Outputs are those of the sample, bit by bit."
                            : "Outputs are those of the sample, within the tolerance.");
  for (const auto& stage : replicas)
    for (const auto& replica : stage) std::fputs(as_line(*replica).c_str(), stdout);
  for (const auto& [what, pus] : others_) std::printf("  %s: PUs %s\n", what.c_str(), as_list(pus).c_str());
}

Code Run::report() const {
  const double seconds = std::chrono::duration<double>(ended_ - began_).count();
  const double rate = seconds > 0 ? static_cast<double>(options.items) / seconds : 0;
  options.json ? print_json(seconds, rate) : print_text(rate);
  std::fflush(stdout);
  if (!wrong_.empty()) std::fprintf(stderr, "pipeline: %s\n", wrong_.c_str());
  return wrong_.empty() ? done : outputs_differ;
}
