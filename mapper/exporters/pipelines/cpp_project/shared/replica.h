// Items, and the workers that they go through.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "description.h"
#include "stage_file.h"

// An item on its way: those of the pipeline's tensors that it holds at the moment, by number.
struct Item {
  long number = 0;
  std::vector<at::Tensor> tensors;
};

// Lets the calling thread compute alone: threads that help it would run on workers' PUs.
void compute_alone();

// A worker: one replica of a stage, with its own PUs and threads. It lives in one thread, which calls `prepare` first and
// `finish` last.
class Replica {
 public:
  Replica(const Description& description, const std::string& folder, int stage, int number);

  // Binds the thread to the PUs and loads the stage: in this order, since the threads that the libraries start for it
  // inherit the binding.
  void prepare();

  // What the stage makes of `item`, which lets go of the tensors that nobody needs from here on.
  void compute(Item& item);

  // Looks which threads it has by now, and where they may run.
  void finish();

  std::string name() const;
  const std::vector<int>& pus() const { return stage_.pus[number]; }
  // The PUs of each of its threads, as the system says when it has finished.
  const std::vector<std::vector<int>>& team() const { return team_; }

  const int stage, number;

 private:
  std::string thread_name() const;

  const Description& description_;
  const Stage& stage_;
  const std::string path_;
  Compute compute_;
  std::vector<std::vector<int>> team_;
};
