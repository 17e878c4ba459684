// What the agent's tests share: a record log on a real spool on virtual time, which can be killed
// and opened again, and producers that are answered at once.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/forward_state.h"
#include "agent/record_log.h"
#include "agent/transaction_state.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/log_limit.h"
#include "kafka/record_batch.h"
#include "kafka/record_batch_builder.h"
#include "kafka/record_reader.h"
#include "metrics/catalogue.h"
#include "spool/compaction.h"
#include "spool/offline.h"
#include "spool/spool.h"
#include "tests/support/manual_executor.h"

namespace holdfast::agent {

struct Batch {
  std::vector<std::string> values;
  kafka::Producer producer = {};
  int64_t timestamp = -1;  // -1: now.
};

class AgentFixture : public testing::Test {
 protected:
  AgentFixture() {
    base::ResetLogLimit();  // What others logged does not count.
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-agent-XXXXXX").string();
    HF_CHECK(mkdtemp(name.data()) != nullptr);
    directory_ = name;
    OpenSpool();
  }
  ~AgentFixture() override {
    spool_.reset();
    clock_.RunUntilIdle();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  void OpenSpool(uint64_t bytes_max = 0) {
    log_ = std::make_unique<RecordLog>(metrics_, [this](std::span<const spool::StreamId> streams) {
      if (on_durable_) on_durable_(streams);
    });
    waiting_bytes_ = std::make_unique<WaitingBytes>(waiting_bytes_max_);
    auto opened = spool::Spool::Open({.directory = directory_,
                                      .segment_bytes = 1 << 20,
                                      .bytes_max = bytes_max,
                                      .free_bytes_min = 0,
                                      .encryption_keys = encryption_keys_,
                                      .check_entry = kafka::CheckStored},
                                     *log_, writer_, background_);
    ASSERT_TRUE(opened) << opened.error().message;
    spool_ = *std::move(opened);
    log_->Bind(*spool_, writer_, *waiting_bytes_, sinks_);
    clock_.RunUntilIdle();
  }
  void ReopenSpool() {
    CloseSpool();
    log_.reset();
    OpenSpool();
  }

  void CloseSpool() {
    spool_.reset();
    clock_.RunUntilIdle();
  }
  // As `holdfast spool drop`, while the spool is closed.
  void DropByHand(const std::vector<spool::StreamId>& streams) {
    const auto view = spool::OfflineView::Open(directory_, encryption_keys_);
    ASSERT_TRUE(view) << view.error().message;
    std::map<spool::StreamId, uint64_t> bytes_of;
    for (const spool::StreamId stream : streams) bytes_of[stream] = 1000;
    const auto listed = ListByHand(bytes_of, (*view)->state(), clock_.wall_clock_ms());
    ASSERT_TRUE(listed) << listed.error().message;
    std::map<std::string, std::string> values = GiveUpWith(streams, (*view)->state());
    values.insert(listed->begin(), listed->end());
    ASSERT_TRUE(
        spool::DropBacklogs(directory_, encryption_keys_, streams, values, clock_.wall_clock_ms()));
  }
  // An empty one, which looks at what it has each time that it is read.
  void ReplaceByEncryptedSpool() {
    CloseSpool();
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      std::filesystem::remove(entry.path());
    }
    encryption_keys_ = *spool::KeyRing::Parse(std::vector<std::string>{std::string(64, 'a')});
    ReopenSpool();
  }
  // Flips a bit of the one large entry that the spool holds, whether it is open or closed: in the
  // middle of the most pages in a row that have something.
  void DamageLargest() {
    constexpr size_t kPage = 4096;
    const std::string nothing(kPage, '\0');
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      std::string bytes(entry.file_size(), '\0');
      std::ifstream(entry.path(), std::ios::binary).read(bytes.data(), std::ssize(bytes));
      size_t most = 0;
      size_t most_end = 0;
      for (size_t at = 0, row = 0; at < bytes.size(); at += kPage) {
        row = bytes.compare(at, kPage, nothing) == 0 ? 0 : row + 1;
        if (row > most) std::tie(most, most_end) = std::pair(row, at);
      }
      if (most < 50) continue;
      const size_t at = most_end - most * kPage / 2;
      std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(bytes[at] ^ 4));
    }
  }
  // Flips a bit in every copy of these bytes that the spool holds, which is closed.
  void Damage(const std::string& needle) {
    int copies = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      if (entry.path().extension() != ".segment") continue;
      std::string bytes(entry.file_size(), '\0');
      std::ifstream(entry.path(), std::ios::binary).read(bytes.data(), std::ssize(bytes));
      for (size_t at = bytes.find(needle); at != std::string::npos;
           at = bytes.find(needle, at + 1)) {
        bytes[at] ^= 4;
        ++copies;
      }
      std::ofstream(entry.path(), std::ios::binary).write(bytes.data(), std::ssize(bytes));
    }
    ASSERT_GT(copies, 0) << needle;
  }

  // Of all records of a stream of the spool; none if there is no such stream.
  std::vector<std::string> ValuesIn(const std::string& stream) {
    std::vector<std::string> values;
    const auto id = spool_->FindStream(stream);
    if (!id) return values;
    const spool::OffsetRange range = spool_->Range(*id);
    for (int64_t at = range.start; at < range.end;) {
      const auto lease = spool_->Read(*id, at, 1);
      EXPECT_TRUE(lease);
      const kafka::RecordBatchView batch(lease->entries().front().bytes);
      const auto records = kafka::UncompressedRecords::Of(batch);
      kafka::RecordReader reader(batch.header(), records->bytes());
      kafka::Record record;
      while (reader.Next(&record)) values.emplace_back(record.value.value_or(""));
      at = lease->entries().front().info.end_offset();
    }
    return values;
  }

  // One request with one batch; its answer.
  struct Answer {
    kafka::ErrorCode error = kafka::ErrorCode::kUnknownServerError;
    int64_t base_offset = -2;
    std::string message;
    bool waited = false;
  };
  std::string Build(const Batch& batch) {
    kafka::RecordBatchBuilder builder({.producer = batch.producer});
    for (const std::string& value : batch.values) {
      builder.Add({.timestamp = batch.timestamp < 0 ? clock_.wall_clock_ms() : batch.timestamp,
                   .value = value});
    }
    return std::move(builder).Build();
  }
  // As some clients compress by LZ4: blocks depend on each other, which Java cannot read. The CRC
  // is right.
  std::string BuildUnreadable(const std::vector<std::string>& values) {
    kafka::RecordBatchBuilder builder({.codec = kafka::Codec::kLz4});
    for (const std::string& value : values) {
      builder.Add({.timestamp = clock_.wall_clock_ms(), .value = value});
    }
    std::string batch = std::move(builder).Build();
    batch[kafka::kBatchHeaderSize + 4] &= ~0x20;
    const uint32_t crc = base::Crc32c(std::string_view(batch).substr(kafka::kBatchCrcBegin));
    base::StoreBig(batch.data() + kafka::kBatchCrcBegin - sizeof(crc), crc);
    return batch;
  }
  Answer ProduceBytes(const std::string& topic, int32_t partition, std::string batch) {
    Answer answer;
    auto request = std::make_unique<Request>(topic, "");
    request->Add(answer, partition, std::move(batch));
    log_->Append(std::move(request));
    clock_.RunUntilIdle();
    return answer;
  }
  Answer Produce(const std::string& topic, int32_t partition, const Batch& batch) {
    return ProduceBytes(topic, partition, Build(batch));
  }
  Answer Produce(const std::string& topic, int32_t partition, std::vector<std::string> values) {
    return Produce(topic, partition, Batch{.values = std::move(values)});
  }

  // One whose answer may be long in coming: then its error says kUnknownServerError so far.
  Answer& ProduceLater(const std::string& topic, int32_t partition, const Batch& batch,
                       const std::string& client = "",
                       base::Duration timeout = std::chrono::seconds(30)) {
    return *ProduceTogether(topic, {{partition, batch}}, client, timeout)[0];
  }
  // The same with batches for several partitions in one request.
  std::vector<Answer*> ProduceTogether(const std::string& topic,
                                       const std::vector<std::pair<int32_t, Batch>>& batches,
                                       const std::string& client = "",
                                       base::Duration timeout = std::chrono::seconds(30)) {
    std::vector<Answer*> answers = Submit(topic, batches, client, timeout);
    clock_.RunUntilIdle();
    return answers;
  }
  // Only submits it: the spool's writer has not seen it yet.
  std::vector<Answer*> Submit(const std::string& topic,
                              const std::vector<std::pair<int32_t, Batch>>& batches,
                              const std::string& client = "",
                              base::Duration timeout = std::chrono::seconds(30)) {
    auto request = std::make_unique<Request>(topic, client);
    request->timeout = timeout;
    std::vector<Answer*> answers;
    for (const auto& [partition, batch] : batches) {
      answers.push_back(&later_.emplace_back());
      request->Add(*answers.back(), partition, Build(batch));
    }
    SubmitRequest(std::move(request));
    return answers;
  }
  // One batch for the first partition of each topic, in one request.
  std::vector<Answer*> ProduceToTopics(
      const std::vector<std::pair<std::string_view, Batch>>& batches, const std::string& client) {
    auto request = std::make_unique<Request>("", client);
    request->timeout = std::chrono::seconds(30);
    std::vector<Answer*> answers;
    for (const auto& [topic, batch] : batches) {
      answers.push_back(&later_.emplace_back());
      request->Add(*answers.back(), 0, Build(batch));
      request->entries.back().topic = topic;
    }
    SubmitRequest(std::move(request));
    clock_.RunUntilIdle();
    return answers;
  }

  std::string directory_;
  spool::KeyRing encryption_keys_;
  test::ManualClock clock_;
  test::ManualExecutor writer_{clock_};
  test::ManualExecutor background_{clock_};
  metrics::Registry registry_;
  metrics::AgentMetrics metrics_{registry_};
  proxy::Acks listener_acks_ = proxy::Acks::kLocal;  // Of ProduceLater.
  RecordLog::DurableObserver on_durable_;
  size_t waiting_bytes_max_ = size_t{32} << 20;  // Of the next spool that is opened.
  std::unique_ptr<WaitingBytes> waiting_bytes_;
  RecordLog::Sinks sinks_;
  std::unique_ptr<RecordLog> log_;
  std::unique_ptr<spool::Spool> spool_;

 private:
  struct Request final : proxy::SinkRequest {
    Request(std::string name, std::string whose)
        : topic(std::move(name)), client_id(std::move(whose)) {
      client = client_id;
    }
    void Add(Answer& answer, int32_t partition, std::string batch) {
      answers.push_back(&answer);
      entries.push_back(
          {.topic = topic, .partition = partition, .batch = bytes.emplace_back(std::move(batch))});
    }
    void Complete(std::unique_ptr<SinkRequest> /*self*/) override {
      for (size_t at = 0; at < entries.size(); ++at) {
        answers[at]->error = entries[at].error;
        answers[at]->base_offset = entries[at].base_offset;
        answers[at]->message = entries[at].message;
      }
    }
    void OnWait() override {
      for (Answer* answer : answers) answer->waited = true;
    }
    std::string topic;
    std::string client_id;
    std::deque<std::string> bytes;
    std::vector<Answer*> answers;
  };

  void SubmitRequest(std::unique_ptr<Request> request) {
    request->acks = listener_acks_;
    log_->Append(std::move(request));
  }

  std::deque<Answer> later_;
};

}  // namespace holdfast::agent
