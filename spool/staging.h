// The Transaction that operations see: changes the state in memory and notes what goes into the
//   frame.
#pragma once

#include "spool/commit.h"
#include "spool/state.h"

namespace holdfast::spool {

class Staging final : public Transaction {
 public:
  Staging(State& state, Commit& commit)
      : state_(state), commit_(commit), opened_before_(state.streams().size()) {}

  // What the operation that is applied next may append, at most.
  void set_budget(size_t bytes) { budget_ = bytes; }

  StreamId OpenStream(std::string_view name) override;
  int64_t Append(const NewEntry& entry) override;
  [[nodiscard]] int64_t EndOffset(StreamId stream) const override;
  [[nodiscard]] int64_t StartOffset(StreamId stream) const override;
  void Trim(StreamId stream, int64_t offset) override;
  void Put(std::string_view key, std::string_view value) override;
  void Erase(std::string_view key) override;
  [[nodiscard]] std::optional<std::string_view> Get(std::string_view key) const override;
  [[nodiscard]] int64_t commit_time_ms() const override { return commit_.time_ms; }

 private:
  // A name that one frame has, and no checkpoint yet, goes into the next frame that uses the
  // stream, too: a frame that is damaged must not cost what others hold.
  void NameAgain(StreamId id, StreamState& stream);

  State& state_;
  Commit& commit_;
  const size_t opened_before_;  // Streams with numbers below it have their names from elsewhere.
  size_t budget_ = 0;
};

}  // namespace holdfast::spool
