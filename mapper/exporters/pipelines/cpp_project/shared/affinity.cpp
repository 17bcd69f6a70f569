#include "affinity.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "failure.h"

namespace {

constexpr int most_pus = 8192;

struct Mask {
  cpu_set_t parts[most_pus / CPU_SETSIZE];
};

const std::filesystem::path tasks = "/proc/self/task";

constexpr int most_listings = 1000;

// The threads of this process. A listing during which a thread ends may be cut off there: such a one is done again.
std::vector<pid_t> every_thread() {
  std::vector<pid_t> found;
  for (int listing = 0; listing < most_listings; ++listing) {
    const auto links = std::filesystem::hard_link_count(tasks);  // one for each thread, and the folder's own two
    found.clear();
    for (const auto& entry : std::filesystem::directory_iterator(tasks))
      found.push_back(std::stoi(entry.path().filename().string()));
    if (found.size() + 2 == links && std::filesystem::hard_link_count(tasks) == links) break;
  }
  return found;
}

}  // namespace

std::vector<int> pus_of(pid_t thread) {
  Mask mask;
  if (sched_getaffinity(thread, sizeof mask, mask.parts) != 0) return {};
  std::vector<int> found;
  for (int pu = 0; pu < most_pus; ++pu)
    if (CPU_ISSET_S(pu, sizeof mask, mask.parts)) found.push_back(pu);
  return found;
}

void pin(const std::vector<int>& pus) {
  Mask mask;
  CPU_ZERO_S(sizeof mask, mask.parts);
  for (int pu : pus)
    if (pu < most_pus) CPU_SET_S(pu, sizeof mask, mask.parts);
  const int error = pthread_setaffinity_np(pthread_self(), sizeof mask, mask.parts);
  if (error != 0)
    throw Failure(other_machine, "binding to PUs " + as_list(pus) + " was refused: " + std::strerror(error));
  std::vector<int> wanted = pus;
  std::sort(wanted.begin(), wanted.end());
  if (pus_of() != wanted)
    throw Failure(other_machine, "asked for PUs " + as_list(wanted) + ", bound to " + as_list(pus_of()));
}

void call_thread(const std::string& name) { pthread_setname_np(pthread_self(), name.c_str()); }

std::vector<pid_t> threads_called(const std::string& name) {
  std::vector<pid_t> found;
  for (pid_t thread : every_thread()) {
    std::string called;
    std::getline(std::ifstream(tasks / std::to_string(thread) / "comm"), called);
    if (called == name) found.push_back(thread);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string as_list(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(numbers[i]);
    if (last > i) text.append("-").append(std::to_string(numbers[last]));
    i = last + 1;
  }
  return text;
}
