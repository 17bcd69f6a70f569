// What ends the program, with the exit codes of mapper.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

enum Code { done = 0, usage = 2, bad_input = 3, other_machine = 6, failed = 7, outputs_differ = 9 };

struct Failure : std::runtime_error {
  Failure(Code code, const std::string& what) : std::runtime_error(what), code(code) {}
  Code code;
};

// Calls `f`. What it throws ends the whole program with a message that says in `who` it was, from whichever thread.
void guarded(const std::string& who, const std::function<void()>& f);
