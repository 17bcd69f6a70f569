// Which PUs threads may use, and binding them.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

// The PUs that thread `thread` of this process (0: the calling one) may use, ascending.
std::vector<int> pus_of(pid_t thread = 0);

// Binds the calling thread, and threads that it starts from now on, to `pus`, and makes sure that it worked.
void pin(const std::vector<int>& pus);

// Names the calling thread, in up to 15 characters, for those who list threads.
void call_thread(const std::string& name);

// The threads of this process with this name, ascending.
std::vector<pid_t> threads_called(const std::string& name);

// `numbers` as Linux writes them, such as 0-3,8.
std::string as_list(const std::vector<int>& numbers);
