// What the spool's tests share: a directory that cleans up, an owner that remembers what it was
// told, operations made of lambdas, and a spool on virtual time that can be closed, killed and
// opened again.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/endian.h"
#include "spool/frame.h"
#include "spool/spool.h"
#include "tests/support/manual_executor.h"

namespace holdfast::spool {

// In memory where that is possible: what a real disk would add is waiting.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    namespace fs = std::filesystem;
    constexpr uint64_t kEnough = uint64_t{256} << 20;
    const fs::path memory = "/dev/shm";
    std::error_code error;
    const bool in_memory = fs::space(memory, error).available >= kEnough && !error &&
                           access(memory.c_str(), W_OK) == 0;
    std::string name =
        ((in_memory ? memory : fs::temp_directory_path()) / "holdfast-spool-XXXXXX").string();
    HF_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Flips a bit in every copy of that piece of a segment's checkpoint. Returns how many there were.
inline int DamagePiece(const std::string& segment_path, uint32_t index) {
  constexpr size_t kIndexAt = 16;
  constexpr size_t kHeaderBytes = 36;
  std::string bytes(std::filesystem::file_size(segment_path), '\0');
  std::ifstream(segment_path, std::ios::binary).read(bytes.data(), std::ssize(bytes));
  int copies = 0;
  for (size_t at = bytes.find("HFC1"); at != std::string::npos; at = bytes.find("HFC1", at + 1)) {
    if (base::LoadLittle<uint32_t>(&bytes[at + kIndexAt]) != index) continue;
    bytes[at + kHeaderBytes] ^= 4;
    ++copies;
  }
  std::ofstream(segment_path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
  return copies;
}

// Flips a bit in the bytes of each entry of at least 20 KB that has a frame of its own, and in
// nothing else: such frames are not covered whole by a checksum. Returns how many there were.
inline int DamageLargeEntries(const std::string& directory) {
  constexpr uint32_t kLargeBytes = 20'000;
  int entries = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    if (file.path().extension() != ".segment") continue;
    std::string bytes(file.file_size(), '\0');
    std::ifstream(file.path(), std::ios::binary).read(bytes.data(), std::ssize(bytes));
    for (size_t at = bytes.find("HFF1"); at != std::string::npos; at = bytes.find("HFF1", at + 1)) {
      const auto frame = FrameView::Parse(std::string_view(bytes).substr(at));
      if (!frame || frame->entry_count() != 1 || frame->info(0).bytes < kLargeBytes) continue;
      bytes[at + frame->bytes().size() - kLargeBytes / 2] ^= 1;
      ++entries;
    }
    std::ofstream(file.path(), std::ios::binary).write(bytes.data(), std::ssize(bytes));
  }
  return entries;
}

// Counts entries per stream both ways that an owner may: with Put in each operation ("count/"), and
// by Checkpoint and Replay ("seen/"). They must always agree.
class CountingOwner : public Owner {
 public:
  base::Result<void> Load(const StateView& state) override {
    ++loads;
    seen.clear();
    state.ForEach("seen/", [&](std::string_view key, std::string_view value) {
      seen[static_cast<uint32_t>(std::stoul(std::string(key.substr(5))))] =
          std::stoll(std::string(value));
    });
    return {};
  }
  void Replay(const EntryInfo& entry) override {
    ++replays;
    ++seen[entry.stream.value()];
  }
  void Checkpoint(Transaction& transaction) override {
    ++checkpoints;
    for (const auto& [stream, count] : seen)
      transaction.Put("seen/" + std::to_string(stream), std::to_string(count));
  }
  void OnDurable(std::span<const StreamId> streams) override {
    for (const StreamId stream : streams) durable.push_back(stream);
  }

  std::map<uint32_t, int64_t> seen;
  std::vector<StreamId> durable;
  int loads = 0;
  int replays = 0;
  int checkpoints = 0;
};

class LambdaOperation final : public Operation {
 public:
  using ApplyFunction = std::function<void(Transaction&)>;
  using DoneFunction = std::function<void(const base::Result<CommitNumber>&)>;
  LambdaOperation(size_t bytes, ApplyFunction apply, DoneFunction done)
      : bytes_(bytes), apply_(std::move(apply)), done_(std::move(done)) {}
  [[nodiscard]] size_t Bytes() const override { return bytes_; }
  void Apply(Transaction& transaction) override { apply_(transaction); }
  void Done(const base::Result<CommitNumber>& result) override {
    if (done_) done_(result);
  }

 private:
  size_t bytes_;
  ApplyFunction apply_;
  DoneFunction done_;
};

// A spool on one thread and virtual time.
class TestSpool {
 public:
  explicit TestSpool(std::string directory) { options.directory = std::move(directory); }
  ~TestSpool() { Close(); }

  base::Result<void> Open() {
    HF_ASSIGN_OR_RETURN(spool, Spool::Open(options, owner, writer, background));
    clock.RunUntilIdle();
    return {};
  }
  void Close() {
    spool.reset();
    clock.RunUntilIdle();
  }
  void Reopen() {
    Close();
    const auto opened = Open();
    ASSERT_TRUE(opened) << opened.error().message;
  }

  bool Submit(size_t bytes, LambdaOperation::ApplyFunction apply,
              LambdaOperation::DoneFunction done = {}) {
    std::unique_ptr<Operation> operation =
        std::make_unique<LambdaOperation>(bytes, std::move(apply), std::move(done));
    return spool->Submit(operation);
  }
  // Appends one entry to the stream of that name, as the owner above expects. False if not taken.
  bool Append(std::string name, std::string bytes, LambdaOperation::DoneFunction done = {},
              uint32_t record_count = 1, int64_t max_timestamp_ms = -1) {
    auto kept = std::make_shared<std::string>(std::move(bytes));  // Until Done.
    const size_t size = kept->size();
    return Submit(
        size,
        [this, name = std::move(name), kept, record_count,
         max_timestamp_ms](Transaction& transaction) {
          const StreamId stream = transaction.OpenStream(name);
          transaction.Append({.stream = stream,
                              .bytes = *kept,
                              .record_count = record_count,
                              .max_timestamp_ms = max_timestamp_ms});
          ++owner.seen[stream.value()];
          const std::string key = "count/" + std::to_string(stream.value());
          const auto before = transaction.Get(key);
          transaction.Put(key, std::to_string(before ? std::stoll(std::string(*before)) + 1 : 1));
        },
        [kept, done = std::move(done)](const base::Result<CommitNumber>& result) {
          if (done) done(result);
        });
  }
  // Appends and waits; false if it was refused.
  bool AppendNow(const std::string& name, std::string bytes, uint32_t record_count = 1,
                 int64_t max_timestamp_ms = -1) {
    bool stored = false;
    if (!Append(
            name, std::move(bytes), [&](const auto& result) { stored = result.has_value(); },
            record_count, max_timestamp_ms))
      return false;
    clock.RunUntilIdle();
    return stored;
  }
  bool TrimNow(const std::string& name, int64_t offset) {
    bool stored = false;
    (void)Submit(
        0,
        [&](Transaction& transaction) { transaction.Trim(transaction.OpenStream(name), offset); },
        [&](const auto& result) { stored = result.has_value(); });
    clock.RunUntilIdle();
    return stored;
  }

  // All entries of the stream from its start on.
  std::vector<std::string> ReadAll(const std::string& name) {
    std::vector<std::string> entries;
    const std::optional<StreamId> stream = spool->FindStream(name);
    if (!stream) return entries;
    int64_t from = spool->Range(*stream).start;
    for (;;) {
      auto lease = spool->Read(*stream, from, 1 << 20);
      if (!lease) {
        ADD_FAILURE() << lease.error().message;
        return entries;
      }
      if (lease->empty()) return entries;
      for (const EntryView& entry : lease->entries()) {
        EXPECT_EQ(entry.info.stream, *stream);
        entries.emplace_back(entry.bytes);
        from = entry.info.end_offset();
      }
    }
  }
  // What state says of a key, as the next operation sees it.
  std::optional<std::string> Get(const std::string& key) {
    std::optional<std::string> value;
    (void)Submit(0, [&](Transaction& transaction) {
      if (const auto found = transaction.Get(key)) value = std::string(*found);
    });
    clock.RunUntilIdle();
    return value;
  }

  Options options{.segment_bytes = 1 << 20, .free_bytes_min = 0};
  CountingOwner owner;
  test::ManualClock clock;
  test::ManualExecutor writer{clock};
  test::ManualExecutor background{clock};
  std::unique_ptr<Spool> spool;
};

}  // namespace holdfast::spool
