// What people call the streams of a spool: <topic>/<partition>. An agent's streams have such names;
// a broker's are called by their topic's id, and its topics say which name that is.
//
// Threads: any; constant after it is made.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "spool/spool.h"
#include "spool/state.h"

namespace holdfast::cli {

class StreamNames {
 public:
  explicit StreamNames(const spool::State& state);

  [[nodiscard]] const std::string& Of(spool::StreamId stream) const {
    return names_[stream.value()];
  }
  // kNotFound, with the names that look like it.
  [[nodiscard]] base::Result<spool::StreamId> Find(std::string_view name) const;
  // By name, partitions in the order of their numbers.
  [[nodiscard]] std::vector<spool::StreamId> Sorted() const;

 private:
  [[nodiscard]] std::string Similar(std::string_view name) const;

  std::vector<std::string> names_;
  std::unordered_map<std::string, spool::StreamId> by_name_;
};

}  // namespace holdfast::cli
