#include "failure.h"

#include <c10/util/Exception.h>

#include <cstdio>
#include <cstdlib>

namespace {

[[noreturn]] void end(Code code, const std::string& who, const char* what) {
  std::fflush(stdout);
  std::fprintf(stderr, "pipeline: %s%s%s\n", who.c_str(), who.empty() ? "" : ": ", what);
  std::_Exit(code);  // at once: other threads may wait for what never comes
}

}  // namespace

void guarded(const std::string& who, const std::function<void()>& f) {
  try {
    f();
  } catch (const Failure& failure) {
    end(failure.code, who, failure.what());
  } catch (const c10::Error& error) {
    end(failed, who, error.what_without_backtrace());
  } catch (const std::exception& error) {
    end(failed, who, error.what());
  }
}
